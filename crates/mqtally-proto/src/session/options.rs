//! What a session is asked for: CONNECT, and the limits of our own.

use crate::packet::{Connect, PACKET_SIZE_MAX, Properties, Property, Version, Will};
use bytes::Bytes;
use bytestring::ByteString;

/// How received messages are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Acknowledge {
    /// At hand-over. A message that the process has not dealt with when it dies is lost.
    #[default]
    Automatic,
    /// PUBACK and PUBREC wait for [`acknowledge`](super::Session::acknowledge); PUBCOMP follows PUBREL by itself.
    Manual,
    /// As `Manual`, and PUBCOMP waits for [`complete`](super::Session::complete).
    EveryStep,
}

/// How a session is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The version to speak.
    pub version: Version,
    /// Our name; empty lets the server assign one.
    pub client_id: ByteString,
    /// Ask the server to discard an earlier session.
    pub clean_start: bool,
    /// Seconds that the session outlives a connection; 0 ends it with the connection, `u32::MAX` never. 3.1.1 has no
    /// number for it: 0 asks for a clean session there, anything else for a lasting one.
    pub session_expiry_interval: u32,
    /// Keep-alive, seconds; 0 turns it off. A 5.0 server may impose another.
    pub keep_alive: u16,
    /// QoS 1 and 2 messages that we ask the server to have unacknowledged at most (5.0); above 0.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages of ours in flight at most, whatever the server allows; also the number of QoS 0 ones
    /// that may wait to be written.
    pub in_flight_max: u16,
    /// Topic aliases that the server may use (5.0).
    pub topic_alias_maximum: u16,
    /// Largest packet that we take, bytes; announced in 5.0.
    pub packet_size_max: u32,
    /// User name.
    pub username: Option<ByteString>,
    /// Password.
    pub password: Option<Bytes>,
    /// What the server publishes if a connection ends without DISCONNECT.
    pub will: Option<Will>,
    /// How received messages are acknowledged.
    pub acknowledge: Acknowledge,
    /// Whether our side of the session exists already, from an earlier life of the process. Where it does not, a 5.0
    /// server that says it resumes one is hung up on [5.0:MQTT-3.2.2-4].
    pub resume: bool,
    /// With `resume`: QoS 2 packet ids that were received in that life and that wait for their PUBREL. A PUBLISH with such
    /// an id and without DUP is another message, and is handed over.
    pub remembered: Vec<u16>,
}

impl Options {
    /// A clean session under `client_id` that ends with its connection, keep-alive 60 s, acknowledging by itself.
    pub fn new(version: Version, client_id: impl Into<ByteString>) -> Self {
        Self {
            version,
            client_id: client_id.into(),
            clean_start: true,
            session_expiry_interval: 0,
            keep_alive: 60,
            receive_maximum: 1_024,
            in_flight_max: 100,
            topic_alias_maximum: 0,
            packet_size_max: PACKET_SIZE_MAX,
            username: None,
            password: None,
            will: None,
            acknowledge: Acknowledge::Automatic,
            resume: false,
            remembered: Vec::new(),
        }
    }

    /// Whether the CONNECT asks the server to forget an earlier session.
    pub(super) fn asks_for_clean_session(&self) -> bool {
        self.clean_start || (self.version == Version::V3_1_1 && self.session_expiry_interval == 0)
    }

    pub(super) fn connect(&self, client_id: ByteString) -> Connect {
        Connect {
            version: self.version,
            clean_start: self.asks_for_clean_session(),
            keep_alive: self.keep_alive,
            client_id,
            will: self.will.clone(),
            username: self.username.clone(),
            password: self.password.clone(),
            properties: self.properties(),
        }
    }

    /// Only what differs from what absence means.
    fn properties(&self) -> Properties {
        let announced = [
            (
                self.session_expiry_interval != 0,
                Property::SessionExpiryInterval(self.session_expiry_interval),
            ),
            (self.receive_maximum != u16::MAX, Property::ReceiveMaximum(self.receive_maximum)),
            (self.packet_size_max < PACKET_SIZE_MAX, Property::MaximumPacketSize(self.packet_size_max)),
            (self.topic_alias_maximum != 0, Property::TopicAliasMaximum(self.topic_alias_maximum)),
        ];
        let announce = |(needed, property)| (self.version == Version::V5_0 && needed).then_some(property);
        Properties(announced.into_iter().filter_map(announce).collect())
    }
}
