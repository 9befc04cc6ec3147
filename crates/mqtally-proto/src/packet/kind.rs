//! The 15 packet types (2.1.2) and who may send them.

use super::Version;
use super::judge::{DecodeError, Judge, Sender};

/// The type of a control packet, as numbered in the fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Connect = 1,
    Connack,
    Publish,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Pingreq,
    Pingresp,
    Disconnect,
    Auth,
}

impl Kind {
    const ALL: [Self; 15] = [
        Self::Connect,
        Self::Connack,
        Self::Publish,
        Self::Puback,
        Self::Pubrec,
        Self::Pubrel,
        Self::Pubcomp,
        Self::Subscribe,
        Self::Suback,
        Self::Unsubscribe,
        Self::Unsuback,
        Self::Pingreq,
        Self::Pingresp,
        Self::Disconnect,
        Self::Auth,
    ];

    /// The type in the high half of a packet's first byte; type 0 is reserved.
    pub(super) fn from_first_byte(first: u8) -> Result<Self, DecodeError> {
        let index = usize::from(first >> 4).checked_sub(1);
        index
            .map(|index| Self::ALL[index])
            .ok_or_else(|| DecodeError::malformed("packet type 0 is reserved (2.1.2)"))
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::Connack => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Puback => "PUBACK",
            Self::Pubrec => "PUBREC",
            Self::Pubrel => "PUBREL",
            Self::Pubcomp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Suback => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Unsuback => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }

    /// The low half of the first byte, except for PUBLISH, where it carries DUP, QoS and RETAIN.
    pub(super) const fn flags(self) -> u8 {
        match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// Whether the flags, the version and the direction admit a packet of this type.
    #[inline]
    pub(super) fn check(self, first: u8, judge: &mut Judge) -> Result<(), DecodeError> {
        let flags = first & 0x0F;
        if self != Self::Publish && flags != self.flags() {
            judge.malformed(format!(
                "{} has flags {flags:04b}, not {:04b} [MQTT-2.1.3-1]",
                self.name(),
                self.flags()
            ))?;
        }
        if self == Self::Auth && judge.version == Version::V3_1_1 {
            return Err(DecodeError::malformed("packet type 15 is reserved in 3.1.1"));
        }
        if !self.may_come_from(judge.sender, judge.version) {
            judge.protocol_error(format!("{} came from the end that must not send it", self.name()))?;
        }
        Ok(())
    }

    fn may_come_from(self, sender: Sender, version: Version) -> bool {
        let client_only = match self {
            Self::Connect | Self::Subscribe | Self::Unsubscribe | Self::Pingreq => true,
            Self::Disconnect => version == Version::V3_1_1,
            _ => false,
        };
        let server_only = matches!(self, Self::Connack | Self::Suback | Self::Unsuback | Self::Pingresp);
        match sender {
            Sender::Client => !server_only,
            Sender::Server => !client_only,
            Sender::Unknown => true,
        }
    }
}
