//! PUBACK, PUBREC, PUBREL and PUBCOMP share one shape.

use super::judge::{DecodeError, EncodeError, Judge};
use super::kind::Kind;
use super::reason::{check_reason, read_reason_and_properties, write_reason_and_properties};
use super::wire::{Reader, Sink};
use super::{Properties, ReasonCode, Version, check_packet_id};

/// The body of PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The packet id that is acknowledged or released.
    pub packet_id: u16,
    /// 5.0 reason code; success in 3.1.1.
    pub reason: ReasonCode,
    /// 5.0 properties.
    pub properties: Properties,
}

impl Ack {
    /// A successful acknowledgement of `packet_id`, without properties.
    pub fn success(packet_id: u16) -> Self {
        Self::with_reason(packet_id, ReasonCode::SUCCESS)
    }

    /// An acknowledgement of `packet_id` with `reason`, without properties.
    pub fn with_reason(packet_id: u16, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: Properties::default() }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let packet_id = reader.u16("the packet id")?;
        let (reason, properties) = read_reason_and_properties(reader)?;
        Ok(Self { packet_id, reason, properties })
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.u16(self.packet_id);
        write_reason_and_properties(self.reason, &self.properties, version, sink)
    }

    /// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
    pub(super) fn check(&self, kind: Kind, judge: &mut Judge) -> Result<(), DecodeError> {
        check_packet_id(self.packet_id, kind, judge)?;
        check_reason(self.reason, kind, judge)?;
        self.properties.check(kind.into(), judge)
    }
}
