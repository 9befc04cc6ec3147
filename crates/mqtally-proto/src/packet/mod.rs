//! One packet model for MQTT 3.1.1 and 5.0.
//!
//! - [`Packet`]: any of the 15 control packets. Fields that only 5.0 has are empty in 3.1.1.
//! - [`Version`], [`Qos`], [`ReasonCode`], [`Properties`]: what packets are made of.
//! - [`encode`]: packet to bytes. [`Decoder`]: bytes to packets, strictly, as an endpoint must.
//! - [`observe`]: bytes to packets leniently, for a proxy or a judge: what is unlawful is reported, not refused.

mod ack;
mod codec;
mod connack;
mod connect;
mod disconnect;
mod judge;
mod kind;
mod properties;
mod property;
mod publish;
mod reason;
mod subscribe;
mod wire;

pub use ack::Ack;
pub use codec::{Decoder, Observed, encode, observe};
pub use connack::Connack;
pub use connect::{Connect, Will};
pub use disconnect::{Auth, Disconnect};
pub use judge::{DecodeError, EncodeError};
pub use properties::Properties;
pub use property::Property;
pub use publish::Publish;
pub use reason::ReasonCode;
pub use subscribe::{RetainHandling, Suback, Subscribe, Subscription, Unsuback, Unsubscribe};

use judge::Judge;
use kind::Kind;
use wire::{Reader, Sink};

/// The largest packet that the format can express, in bytes: a fixed header and 268,435,455 bytes behind it.
pub const PACKET_SIZE_MAX: u32 = 268_435_460;

/// The version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1.1 (protocol level 4).
    V3_1_1,
    /// MQTT 5.0 (protocol level 5).
    V5_0,
}

impl Version {
    /// The version with this protocol level; `None` for a level other than 4 and 5.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            4 => Some(Self::V3_1_1),
            5 => Some(Self::V5_0),
            _ => None,
        }
    }

    /// The protocol level, as CONNECT carries it.
    pub const fn level(self) -> u8 {
        match self {
            Self::V3_1_1 => 4,
            Self::V5_0 => 5,
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V3_1_1 => "3.1.1",
            Self::V5_0 => "5.0",
        })
    }
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

    /// The level as a number.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }
}

impl std::fmt::Display for Qos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "QoS {}", self.as_u8())
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

impl Packet {
    /// The packet type's name as the specification writes it, such as `PUBLISH`.
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// The packet id, for a packet that has one.
    pub fn packet_id(&self) -> Option<u16> {
        match self {
            Self::Publish(publish) => publish.packet_id,
            Self::Puback(ack) | Self::Pubrec(ack) | Self::Pubrel(ack) | Self::Pubcomp(ack) => {
                Some(ack.packet_id)
            }
            Self::Subscribe(subscribe) => Some(subscribe.packet_id),
            Self::Suback(suback) => Some(suback.packet_id),
            Self::Unsubscribe(unsubscribe) => Some(unsubscribe.packet_id),
            Self::Unsuback(unsuback) => Some(unsuback.packet_id),
            Self::Connect(_)
            | Self::Connack(_)
            | Self::Pingreq
            | Self::Pingresp
            | Self::Disconnect(_)
            | Self::Auth(_) => None,
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Connect(_) => Kind::Connect,
            Self::Connack(_) => Kind::Connack,
            Self::Publish(_) => Kind::Publish,
            Self::Puback(_) => Kind::Puback,
            Self::Pubrec(_) => Kind::Pubrec,
            Self::Pubrel(_) => Kind::Pubrel,
            Self::Pubcomp(_) => Kind::Pubcomp,
            Self::Subscribe(_) => Kind::Subscribe,
            Self::Suback(_) => Kind::Suback,
            Self::Unsubscribe(_) => Kind::Unsubscribe,
            Self::Unsuback(_) => Kind::Unsuback,
            Self::Pingreq => Kind::Pingreq,
            Self::Pingresp => Kind::Pingresp,
            Self::Disconnect(_) => Kind::Disconnect,
            Self::Auth(_) => Kind::Auth,
        }
    }

    /// Type and flags.
    fn first_byte(&self) -> u8 {
        let kind = self.kind();
        let flags = if let Self::Publish(publish) = self { publish.flags() } else { kind.flags() };
        (kind as u8) << 4 | flags
    }

    #[inline]
    fn read(kind: Kind, first: u8, reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match kind {
            Kind::Connect => Self::Connect(Box::new(Connect::read(reader)?)),
            Kind::Connack => Self::Connack(Connack::read(reader)?),
            Kind::Publish => Self::Publish(Publish::read(first, reader)?),
            Kind::Puback => Self::Puback(Ack::read(reader)?),
            Kind::Pubrec => Self::Pubrec(Ack::read(reader)?),
            Kind::Pubrel => Self::Pubrel(Ack::read(reader)?),
            Kind::Pubcomp => Self::Pubcomp(Ack::read(reader)?),
            Kind::Subscribe => Self::Subscribe(Subscribe::read(reader)?),
            Kind::Suback => Self::Suback(Suback::read(reader)?),
            Kind::Unsubscribe => Self::Unsubscribe(Unsubscribe::read(reader)?),
            Kind::Unsuback => Self::Unsuback(Unsuback::read(reader)?),
            Kind::Pingreq => Self::Pingreq,
            Kind::Pingresp => Self::Pingresp,
            Kind::Disconnect => Self::Disconnect(Disconnect::read(reader)?),
            Kind::Auth => Self::Auth(Auth::read(reader)?),
        })
    }

    /// Writes what follows the fixed header.
    #[inline]
    fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        match self {
            Self::Connect(connect) => connect.write(sink),
            Self::Connack(connack) => connack.write(version, sink),
            Self::Publish(publish) => publish.write(version, sink),
            Self::Puback(ack) | Self::Pubrec(ack) | Self::Pubrel(ack) | Self::Pubcomp(ack) => {
                ack.write(version, sink)
            }
            Self::Subscribe(subscribe) => subscribe.write(version, sink),
            Self::Suback(suback) => suback.write(version, sink),
            Self::Unsubscribe(unsubscribe) => unsubscribe.write(version, sink),
            Self::Unsuback(unsuback) => unsuback.write(version, sink),
            Self::Pingreq | Self::Pingresp => Ok(()),
            Self::Disconnect(disconnect) => disconnect.write(version, sink),
            Self::Auth(auth) => auth.write(version, sink),
        }
    }

    /// Whether what the packet says is lawful; its form was seen to while it was read.
    #[inline]
    fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        match self {
            Self::Connect(connect) => connect.check(judge),
            Self::Connack(connack) => connack.check(judge),
            Self::Publish(publish) => publish.check(judge),
            Self::Puback(ack) | Self::Pubrec(ack) | Self::Pubrel(ack) | Self::Pubcomp(ack) => {
                ack.check(self.kind(), judge)
            }
            Self::Subscribe(subscribe) => subscribe.check(judge),
            Self::Suback(suback) => suback.check(judge),
            Self::Unsubscribe(unsubscribe) => unsubscribe.check(judge),
            Self::Unsuback(unsuback) => unsuback.check(judge),
            Self::Pingreq | Self::Pingresp => Ok(()),
            Self::Disconnect(disconnect) => disconnect.check(judge),
            Self::Auth(auth) => auth.check(judge),
        }
    }
}

/// Packet ids are never 0 [MQTT-2.2.1-3] [MQTT-2.2.1-4] (3.1.1: [MQTT-2.3.1-1]).
fn check_packet_id(packet_id: u16, kind: Kind, judge: &mut Judge) -> Result<(), DecodeError> {
    if packet_id == 0 {
        judge.protocol_error(format!("{} has packet id 0 [MQTT-2.2.1-3]", kind.name()))?;
    }
    Ok(())
}
