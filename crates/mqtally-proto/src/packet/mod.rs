//! One packet model for MQTT 3.1.1 and 5.0.
//!
//! - [`Packet`]: any of the 15 control packets. Fields that only 5.0 has are empty in 3.1.1.
//! - [`Version`], [`Qos`], [`ReasonCode`], [`Properties`]: what packets are made of.
//! - [`encode`]: packet to bytes. [`Decoder`]: bytes to packets, strictly, as an endpoint must.
//! - [`observe`]: bytes to packets leniently, for a proxy or a judge: what is unlawful is reported, not refused.

mod ack;
mod codec;
mod connect;
mod properties;
mod publish;
mod reason;
mod subscribe;

pub use ack::Ack;
pub use codec::{DecodeError, Decoder, EncodeError, Observed, encode, observe};
pub use connect::{Auth, Connack, Connect, Disconnect, Will};
pub use properties::{Properties, Property};
pub use publish::Publish;
pub use reason::ReasonCode;
pub use subscribe::{RetainHandling, Suback, Subscribe, Subscription, Unsuback, Unsubscribe};

/// The version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1.1 (protocol level 4).
    V3_1_1,
    /// MQTT 5.0 (protocol level 5).
    V5_0,
}

/// Quality of service of a message on one hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0: at most once.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: at least once.
    AtLeastOnce = 1,
    /// QoS 2: exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    /// The level with this number; `None` above 2.
    pub const fn from_u8(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// Any MQTT control packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Client to server, first packet of a connection.
    Connect(Box<Connect>),
    /// Server to client, answer to CONNECT.
    Connack(Connack),
    /// An application message on one hop.
    Publish(Publish),
    /// QoS 1 acknowledgement.
    Puback(Ack),
    /// QoS 2, first answer: received.
    Pubrec(Ack),
    /// QoS 2, second request: release the packet id.
    Pubrel(Ack),
    /// QoS 2, last answer: complete.
    Pubcomp(Ack),
    /// Client to server: subscribe to filters.
    Subscribe(Subscribe),
    /// Server to client: one reason code a filter.
    Suback(Suback),
    /// Client to server: end subscriptions.
    Unsubscribe(Unsubscribe),
    /// Server to client: answer to UNSUBSCRIBE (3.1.1 carries no reason codes).
    Unsuback(Unsuback),
    /// Client to server: are you there?
    Pingreq,
    /// Server to client: yes.
    Pingresp,
    /// The connection ends in order (3.1.1: client to server only).
    Disconnect(Disconnect),
    /// Enhanced authentication (5.0 only).
    Auth(Auth),
}
