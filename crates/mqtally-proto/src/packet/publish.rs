//! PUBLISH.

use super::judge::{DecodeError, EncodeError, Judge, Sender};
use super::kind::Kind;
use super::wire::{Reader, Sink};
use super::{Properties, Property, Qos, ReasonCode, Version, check_packet_id};
use crate::topic;
use bytes::Bytes;
use bytestring::ByteString;

/// PUBLISH: an application message on one hop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publish {
    /// Whether this may be a copy of an earlier attempt on this hop.
    pub dup: bool,
    /// Quality of service on this hop.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// Topic name; empty in 5.0 where a topic alias stands for it.
    pub topic: ByteString,
    /// Packet id, present exactly when `qos` is above 0. A lenient reading may show the unlawful 0.
    pub packet_id: Option<u16>,
    /// 5.0 properties.
    pub properties: Properties,
    /// Application payload.
    pub payload: Bytes,
}

impl Publish {
    /// The low half of the first byte: DUP, QoS, RETAIN.
    pub(super) fn flags(&self) -> u8 {
        u8::from(self.dup) << 3 | self.qos.as_u8() << 1 | u8::from(self.retain)
    }

    #[inline]
    pub(super) fn read(first: u8, reader: &mut Reader) -> Result<Self, DecodeError> {
        let Some(qos) = Qos::from_u8(first >> 1 & 0b11) else {
            return Err(DecodeError::malformed("PUBLISH has QoS 3 [MQTT-3.3.1-4]"));
        };
        let topic = reader.text("the topic name")?;
        let packet_id = if qos == Qos::AtMostOnce { None } else { Some(reader.u16("the packet id")?) };
        let properties = Properties::read(reader)?;
        let (dup, retain) = (first & 0b1000 != 0, first & 1 != 0);
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload: reader.rest() })
    }

    #[inline]
    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.text(&self.topic, "the topic name")?;
        if let Some(packet_id) = self.packet_id {
            sink.u16(packet_id);
        }
        self.properties.write(version, sink)?;
        sink.put(&self.payload);
        Ok(())
    }

    #[inline]
    pub(super) fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        self.check_packet_id(judge)?;
        if self.dup && self.qos == Qos::AtMostOnce {
            judge.malformed("PUBLISH at QoS 0 has DUP set [MQTT-3.3.1-2]")?;
        }
        self.properties.check(Kind::Publish.into(), judge)?;
        self.check_topic(judge)?;
        self.check_subscription_identifiers(judge)
    }

    fn check_packet_id(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        match (self.qos, self.packet_id) {
            (Qos::AtMostOnce, None) => Ok(()),
            (Qos::AtMostOnce, Some(_)) => judge.malformed("PUBLISH at QoS 0 has a packet id [MQTT-2.2.1-2]"),
            (_, Some(packet_id)) => check_packet_id(packet_id, Kind::Publish, judge),
            (_, None) => judge.malformed("PUBLISH above QoS 0 has no packet id [MQTT-2.2.1-4]"),
        }
    }

    /// [MQTT-3.3.2-1] [MQTT-3.3.2-2]; in 5.0 a topic alias may stand for the name (3.3.2.1).
    fn check_topic(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        if !self.topic.is_empty() {
            return match topic::refuse_wildcards(&self.topic) {
                Ok(()) => Ok(()),
                Err(error) => judge.fault(ReasonCode::TOPIC_NAME_INVALID, format!("the topic name {error}")),
            };
        }
        match judge.version {
            Version::V3_1_1 => judge.malformed("the topic name is empty (3.1.1: [MQTT-4.7.3-1])"),
            Version::V5_0 if self.properties.topic_alias().is_some() => Ok(()),
            Version::V5_0 => {
                judge.protocol_error("the topic name is empty and there is no topic alias (3.3.2.1)")
            }
        }
    }

    /// A client must not send subscription identifiers [MQTT-3.3.4-6].
    fn check_subscription_identifiers(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        let carries = |property: &Property| matches!(property, Property::SubscriptionIdentifier(_));
        if judge.sender == Sender::Client && self.properties.0.iter().any(carries) {
            judge.protocol_error("PUBLISH from a client has a subscription identifier [MQTT-3.3.4-6]")?;
        }
        Ok(())
    }
}
