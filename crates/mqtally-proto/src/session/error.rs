//! Why something cannot be done, by act.

use crate::packet::{EncodeError, Packet, ReasonCode};
use crate::topic::TopicError;

/// The server broke the protocol, or fell silent: the connection has to be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} ({reason})")]
pub struct ProtocolError {
    /// What a 5.0 client says in its DISCONNECT.
    pub reason: ReasonCode,
    /// What happened, in words.
    pub detail: String,
}

impl ProtocolError {
    pub(super) fn new(reason: ReasonCode, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    pub(super) fn before_connack(packet: &Packet) -> Self {
        Self::new(ReasonCode::PROTOCOL_ERROR, format!("the server sent {} before its CONNACK", name(packet)))
    }

    pub(super) fn not_for_clients(packet: &Packet) -> Self {
        Self::new(ReasonCode::PROTOCOL_ERROR, format!("the server sent {}, which it must not", name(packet)))
    }

    pub(super) fn unexpected_session(clean: bool) -> Self {
        let why = if clean { "a clean start was asked for" } else { "this client has none" };
        Self::new(ReasonCode::PROTOCOL_ERROR, format!("the server says it resumes a session, but {why}"))
    }

    pub(super) fn wrong_answer(packet_id: u16, answer: &str) -> Self {
        let detail = format!(
            "the server answered packet id {packet_id} with {answer}, which does not fit its handshake"
        );
        Self::new(ReasonCode::PROTOCOL_ERROR, detail)
    }
}

/// Why a message is not accepted for sending. Nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// As many as allowed are in flight; try again after a completion.
    #[error("the in-flight window is full; try again after the next completion")]
    WindowFull,
    /// The packet is larger than the server takes.
    #[error("the packet would be {size} bytes and the server takes {max}; send a smaller payload")]
    TooLarge {
        /// Bytes of the whole packet.
        size: usize,
        /// Bytes that the server takes.
        max: usize,
    },
    /// The server announced a lower maximum QoS.
    #[error("the server supports QoS {max} at most; publish at that level")]
    QosNotSupported {
        /// Highest QoS that the server takes.
        max: u8,
    },
    /// The server announced that it keeps no retained messages.
    #[error("the server does not support retained messages; publish without the retain flag")]
    RetainNotSupported,
    /// Not a topic name.
    #[error("not a topic name to publish to: {0}")]
    InvalidTopic(#[from] TopicError),
    /// A topic alias on a message that may have to be sent again on another connection.
    #[error("a topic alias belongs to one connection; publish with the topic instead")]
    TopicAlias,
    /// The packet cannot be written at all.
    #[error("the message cannot be written: {0}")]
    Unencodable(#[from] EncodeError),
}

impl PublishError {
    /// The reason code that says the same.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::WindowFull => ReasonCode::RECEIVE_MAXIMUM_EXCEEDED,
            Self::TooLarge { .. } => ReasonCode::PACKET_TOO_LARGE,
            Self::QosNotSupported { .. } => ReasonCode::QOS_NOT_SUPPORTED,
            Self::RetainNotSupported => ReasonCode::RETAIN_NOT_SUPPORTED,
            Self::InvalidTopic(_) => ReasonCode::TOPIC_NAME_INVALID,
            Self::TopicAlias => ReasonCode::TOPIC_ALIAS_INVALID,
            Self::Unencodable(_) => ReasonCode::MALFORMED_PACKET,
        }
    }
}

/// Why a SUBSCRIBE or UNSUBSCRIBE is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no accepted connection.
    #[error("not connected; subscribe and unsubscribe after the server has accepted the connection")]
    NotConnected,
    /// Every packet id is in use.
    #[error("every packet id is in use; wait for answers first")]
    TooMany,
}

fn name(packet: &Packet) -> &'static str {
    match packet {
        Packet::Connect(_) => "CONNECT",
        Packet::Connack(_) => "CONNACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::Puback(_) => "PUBACK",
        Packet::Pubrec(_) => "PUBREC",
        Packet::Pubrel(_) => "PUBREL",
        Packet::Pubcomp(_) => "PUBCOMP",
        Packet::Subscribe(_) => "SUBSCRIBE",
        Packet::Suback(_) => "SUBACK",
        Packet::Unsubscribe(_) => "UNSUBSCRIBE",
        Packet::Unsuback(_) => "UNSUBACK",
        Packet::Pingreq => "PINGREQ",
        Packet::Pingresp => "PINGRESP",
        Packet::Disconnect(_) => "DISCONNECT",
        Packet::Auth(_) => "AUTH",
    }
}
