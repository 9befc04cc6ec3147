//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK.

use super::judge::{DecodeError, EncodeError, Judge};
use super::kind::Kind;
use super::reason::check_reason;
use super::wire::{Reader, Sink};
use super::{Properties, Qos, ReasonCode, Version, check_packet_id};
use crate::topic::{self, Shared};
use bytestring::ByteString;

/// SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet id, answered by SUBACK.
    pub packet_id: u16,
    /// 5.0 properties, among them the subscription identifier.
    pub properties: Properties,
    /// What is subscribed to; at least one.
    pub filters: Vec<Subscription>,
}

/// One topic filter of a SUBSCRIBE and how to deliver what matches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Topic filter, possibly `$share/NAME/FILTER`.
    pub filter: ByteString,
    /// Highest QoS asked for.
    pub qos: Qos,
    /// 5.0: do not send back what this client published.
    pub no_local: bool,
    /// 5.0: keep the publisher's retain flag on forwarded messages.
    pub retain_as_published: bool,
    /// 5.0: whether retained messages are sent at subscribe.
    pub retain_handling: RetainHandling,
}

impl Subscription {
    /// A subscription at `qos` with the options that 3.1.1 implies.
    pub fn new(filter: impl Into<ByteString>, qos: Qos) -> Self {
        Self {
            filter: filter.into(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }
}

/// 5.0 retain handling option (3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// Send retained messages at subscribe.
    #[default]
    Send = 0,
    /// Send them only if the subscription is new.
    SendIfNew = 1,
    /// Never send them at subscribe.
    DoNotSend = 2,
}

/// SUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suback {
    /// Packet id of the SUBSCRIBE.
    pub packet_id: u16,
    /// 5.0 properties.
    pub properties: Properties,
    /// One code a filter, in the order of the SUBSCRIBE: the granted QoS, or a failure.
    pub reasons: Vec<ReasonCode>,
}

/// UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Packet id, answered by UNSUBACK.
    pub packet_id: u16,
    /// 5.0 properties.
    pub properties: Properties,
    /// The filters to end, as they were subscribed.
    pub filters: Vec<ByteString>,
}

/// UNSUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsuback {
    /// Packet id of the UNSUBSCRIBE.
    pub packet_id: u16,
    /// 5.0 properties.
    pub properties: Properties,
    /// One code a filter in 5.0; empty in 3.1.1.
    pub reasons: Vec<ReasonCode>,
}

impl RetainHandling {
    /// The option with this number; `None` above 2.
    pub const fn from_u8(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Send),
            1 => Some(Self::SendIfNew),
            2 => Some(Self::DoNotSend),
            _ => None,
        }
    }
}

impl Subscribe {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let packet_id = reader.u16("the packet id")?;
        let properties = Properties::read(reader)?;
        let mut filters = Vec::new();
        while !reader.is_at_end() {
            filters.push(Subscription::read(reader)?);
        }
        Ok(Self { packet_id, properties, filters })
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.u16(self.packet_id);
        self.properties.write(version, sink)?;
        self.filters.iter().try_for_each(|subscription| subscription.write(sink))
    }

    pub(super) fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        check_packet_id(self.packet_id, Kind::Subscribe, judge)?;
        self.properties.check(Kind::Subscribe.into(), judge)?;
        if self.filters.is_empty() {
            judge.protocol_error("SUBSCRIBE has no topic filter [MQTT-3.8.3-2] (3.1.1: [MQTT-3.8.3-3])")?;
        }
        self.filters.iter().try_for_each(|subscription| subscription.check(judge))
    }
}

impl Subscription {
    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let filter = reader.text("a topic filter")?;
        let options = reader.u8("the subscription options")?;
        let reserved = match reader.judge.version {
            Version::V3_1_1 => 0b1111_1100,
            Version::V5_0 => 0b1100_0000,
        };
        if options & reserved != 0 {
            let detail = format!("reserved subscription options are set: {options:08b} [MQTT-3.8.3-5]");
            reader.judge.malformed(detail)?;
        }
        Self::from_options(filter, options & !reserved)
    }

    fn from_options(filter: ByteString, options: u8) -> Result<Self, DecodeError> {
        let protocol_error = |detail: &str| DecodeError::new(ReasonCode::PROTOCOL_ERROR, detail);
        let qos = Qos::from_u8(options & 0b11).ok_or_else(|| {
            protocol_error("a subscription asks for QoS 3 (3.8.3.1; 3.1.1: [MQTT-3-8.3-4])")
        })?;
        let retain_handling = RetainHandling::from_u8(options >> 4)
            .ok_or_else(|| protocol_error("a subscription has retain handling 3 (3.8.3.1)"))?;
        let (no_local, retain_as_published) = (options & 0b100 != 0, options & 0b1000 != 0);
        Ok(Self { filter, qos, no_local, retain_as_published, retain_handling })
    }

    fn options(&self) -> u8 {
        self.qos.as_u8()
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }

    fn write(&self, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.text(&self.filter, "a topic filter")?;
        sink.u8(self.options());
        Ok(())
    }

    fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        check_filter(&self.filter, judge)?;
        match judge.version {
            Version::V3_1_1 if self.options() > 0b11 => {
                judge.malformed("a subscription has options that 3.1.1 has not (3.1.1: [MQTT-3-8.3-4])")
            }
            Version::V5_0 if self.no_local && Shared::parse(&self.filter).is_ok_and(|it| it.is_some()) => {
                judge.protocol_error("a shared subscription has No Local set [MQTT-3.8.3-4]")
            }
            _ => Ok(()),
        }
    }
}

impl Suback {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let packet_id = reader.u16("the packet id")?;
        let properties = Properties::read(reader)?;
        Ok(Self { packet_id, properties, reasons: read_reasons(reader) })
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.u16(self.packet_id);
        self.properties.write(version, sink)?;
        self.reasons.iter().for_each(|reason| sink.u8(reason.0));
        Ok(())
    }

    /// [MQTT-3.9.3-2] (3.1.1: [MQTT-3.9.3-2])
    pub(super) fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        check_packet_id(self.packet_id, Kind::Suback, judge)?;
        self.properties.check(Kind::Suback.into(), judge)?;
        check_reasons(&self.reasons, Kind::Suback, judge)
    }
}

impl Unsubscribe {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let packet_id = reader.u16("the packet id")?;
        let properties = Properties::read(reader)?;
        let mut filters = Vec::new();
        while !reader.is_at_end() {
            filters.push(reader.text("a topic filter")?);
        }
        Ok(Self { packet_id, properties, filters })
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.u16(self.packet_id);
        self.properties.write(version, sink)?;
        self.filters.iter().try_for_each(|filter| sink.text(filter, "a topic filter"))
    }

    pub(super) fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        check_packet_id(self.packet_id, Kind::Unsubscribe, judge)?;
        self.properties.check(Kind::Unsubscribe.into(), judge)?;
        if self.filters.is_empty() {
            judge.protocol_error("UNSUBSCRIBE has no topic filter [MQTT-3.10.3-2]")?;
        }
        self.filters.iter().try_for_each(|filter| check_filter(filter, judge))
    }
}

impl Unsuback {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let packet_id = reader.u16("the packet id")?;
        let properties = Properties::read(reader)?;
        let reasons = match reader.judge.version {
            Version::V3_1_1 => Vec::new(),
            Version::V5_0 => read_reasons(reader),
        };
        Ok(Self { packet_id, properties, reasons })
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.u16(self.packet_id);
        self.properties.write(version, sink)?;
        self.reasons.iter().for_each(|reason| sink.u8(reason.0));
        Ok(())
    }

    /// [MQTT-3.11.3-2]; 3.1.1 has no codes here.
    pub(super) fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        check_packet_id(self.packet_id, Kind::Unsuback, judge)?;
        self.properties.check(Kind::Unsuback.into(), judge)?;
        match judge.version {
            Version::V5_0 => check_reasons(&self.reasons, Kind::Unsuback, judge),
            Version::V3_1_1 if self.reasons.is_empty() => Ok(()),
            Version::V3_1_1 => judge.malformed("UNSUBACK has reason codes, which 3.1.1 has not"),
        }
    }
}

fn read_reasons(reader: &mut Reader) -> Vec<ReasonCode> {
    reader.rest().iter().copied().map(ReasonCode).collect()
}

/// An acknowledgement answers each filter, so it has at least one code [MQTT-3.9.3-1] [MQTT-3.11.3-1].
fn check_reasons(reasons: &[ReasonCode], kind: Kind, judge: &mut Judge) -> Result<(), DecodeError> {
    if reasons.is_empty() {
        judge.protocol_error(format!("{} has no reason code", kind.name()))?;
    }
    reasons.iter().try_for_each(|reason| check_reason(*reason, kind, judge))
}

/// [MQTT-3.8.3-1] [MQTT-4.7.1-1] [MQTT-4.7.1-2], and in 5.0 [MQTT-4.8.2-1] [MQTT-4.8.2-2].
fn check_filter(filter: &str, judge: &mut Judge) -> Result<(), DecodeError> {
    let verdict = match judge.version {
        Version::V3_1_1 => topic::validate_filter(filter),
        Version::V5_0 => topic::validate_filter(filter).and_then(|()| Shared::parse(filter).map(drop)),
    };
    match verdict {
        Ok(()) => Ok(()),
        Err(error) => {
            judge.fault(ReasonCode::TOPIC_FILTER_INVALID, format!("the topic filter {filter:?} {error}"))
        }
    }
}
