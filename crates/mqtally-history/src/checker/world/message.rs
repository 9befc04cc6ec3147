//! What publishers did: streams and the state of each message.

use super::paged::Paged;
use super::{ClientIx, GroupIx, Moment, Place};
use crate::marker::{Marker, MessageId, Purpose};
use crate::packet::{Publish, PublishProperties, Version};
use std::sync::Arc;

/// A publisher's topic at one QoS.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) publisher: u32,
    pub(crate) number: u16,
    pub(crate) topic: Arc<str>,
    pub(crate) qos: u8,
    pub(crate) version: Version,
    pub(crate) group: GroupIx,
    /// The client that sent its first message.
    pub(crate) client: ClientIx,
    pub(crate) messages: Paged<Message>,
    /// The latest first sending among messages with a PUBREC.
    pub(crate) pubrec_up_to: Place,
    /// Its group is over and its messages are forgotten.
    pub(crate) over: bool,
    /// Its messages below are judged and forgotten.
    pub(crate) retired: u64,
    /// Its sentinels that are not retired, by ascending sequence.
    pub(crate) sentinels: Vec<u64>,
}

impl Stream {
    /// Whether the message with this sequence was judged and forgotten.
    pub(crate) fn is_forgotten(&self, sequence: u64) -> bool {
        self.over || sequence < self.retired
    }

    /// The id of its message with this sequence.
    pub(crate) fn id(&self, sequence: u64) -> MessageId {
        MessageId { publisher: self.publisher, stream: self.number, sequence }
    }
}

/// The publisher's side of a message (guarantees, section 1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// No byte of it was sent.
    #[default]
    NeverSent,
    /// Sent, and no final acknowledgement; QoS 0 stays here.
    Indeterminate,
    /// QoS 2: PUBREC received, PUBCOMP not.
    Owned,
    /// Finally acknowledged.
    Complete,
    /// Refused with a reason of 0x80 or more.
    Refused,
}

/// One message as its publisher sent it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Message {
    pub(crate) first_sent_ns: u64,
    pub(crate) first_sent: Place,
    /// When the final acknowledgement came; 0 where none did.
    pub(crate) acked: Place,
    pub(crate) ack_us: u32,
    /// How long before the first byte it was meant to be sent, where a timetable says so.
    pub(crate) waited_us: u32,
    /// From the first byte sent to the first copy at any session; 0 where none came.
    pub(crate) first_copy_us: u32,
    payload_crc: u32,
    payload_len: u32,
    properties: u32,
    /// The publisher's lineage when it was first sent.
    pub(crate) lineage: u32,
    /// Packets that carried it, from 1.
    pub(crate) sends: u8,
    /// Times it was submitted, not counting what its session sent again, from 1.
    pub(crate) submissions: u8,
    attempt: u16,
    pub(crate) state: State,
    pub(crate) purpose: Option<Purpose>,
    pub(crate) retain: bool,
    expiry: Option<u32>,
    /// Its place among others at the broker is not known.
    pub(crate) unordered: bool,
    /// The broker may have taken it for the repetition of another, so that its acknowledgement says nothing of it.
    pub(crate) shadowed: bool,
}

impl Message {
    /// Notes a PUBLISH that carries it. `resent` tells a repetition within the session from a new submission.
    pub(crate) fn sent(
        &mut self,
        now: Moment,
        publish: &Publish,
        marker: &Marker,
        lineage: u32,
        resent: bool,
    ) {
        if self.state == State::NeverSent {
            self.first_sent = now.place;
            self.first_sent_ns = now.at_ns;
            self.lineage = lineage;
            self.state = State::Indeterminate;
        }
        self.sends = self.sends.saturating_add(1);
        if !resent {
            self.submissions = self.submissions.saturating_add(1);
        }
        self.attempt = marker.attempt;
        self.payload_crc = publish.payload_crc;
        self.payload_len = publish.payload_len;
        self.properties = fingerprint(publish.properties.as_deref());
        self.purpose = Some(marker.purpose);
        self.retain |= publish.retain;
        self.expiry = self.expiry.or(publish.message_expiry);
    }

    /// Notes when it was meant to be sent; its first byte is sent now.
    pub(crate) fn was_due(&mut self, due_ns: u64) {
        self.waited_us = micros(self.first_sent_ns.saturating_sub(due_ns));
    }

    /// Notes its final acknowledgement.
    pub(crate) fn acknowledged(&mut self, now: Moment) {
        if self.acked == 0 {
            self.acked = now.place;
            self.ack_us = micros(now.at_ns.saturating_sub(self.first_sent_ns));
        }
        if !self.shadowed {
            self.state = State::Complete;
        }
    }

    /// Notes that a copy reached a session.
    pub(crate) fn arrived(&mut self, now: Moment) {
        if self.first_copy_us == 0 {
            self.first_copy_us = micros(now.at_ns.saturating_sub(self.first_sent_ns)).max(1);
        }
    }

    /// Whether `copy` has the payload that was sent; a copy of an earlier attempt cannot be compared.
    pub(crate) fn same_payload(&self, copy: &Publish, marker: &Marker) -> bool {
        marker.attempt != self.attempt
            || (self.payload_crc == copy.payload_crc && self.payload_len == copy.payload_len)
    }

    /// Whether `copy` has the properties that were sent. What a broker adds where there was nothing is its business.
    pub(crate) fn same_properties(&self, copy: &Publish, marker: &Marker) -> bool {
        marker.attempt != self.attempt
            || self.properties == 0
            || self.properties == fingerprint(copy.properties.as_deref())
    }

    /// Its expiry interval, seconds.
    pub(crate) fn expiry(&self) -> Option<u32> {
        self.expiry
    }

    /// When the final acknowledgement came.
    pub(crate) fn acked_ns(&self) -> Option<u64> {
        (self.acked > 0).then(|| self.first_sent_ns + u64::from(self.ack_us) * 1000)
    }

    pub(crate) fn is_load(&self) -> bool {
        self.purpose == Some(Purpose::Load)
    }

    /// Bytes of its payload.
    pub(crate) fn payload_len(&self) -> u32 {
        self.payload_len
    }
}

/// Nanoseconds as microseconds, up to an hour.
fn micros(ns: u64) -> u32 {
    u32::try_from(ns / 1000).unwrap_or(u32::MAX)
}

/// A checksum over the properties that must arrive unaltered; 0 where there are none.
fn fingerprint(properties: Option<&PublishProperties>) -> u32 {
    let Some(it) = properties else { return 0 };
    if *it == PublishProperties::default() {
        return 0;
    }
    let mut hasher = crc32fast::Hasher::new();
    let mut field = |present: bool, bytes: &[u8]| {
        hasher.update(&[u8::from(present)]);
        hasher.update(&(bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    let optional = |bytes: Option<&[u8]>| (bytes.is_some(), bytes.unwrap_or_default().to_vec());
    let indicator = it.payload_format_indicator.map(|indicator| [indicator]);
    let texts = [
        optional(indicator.as_ref().map(<[u8; 1]>::as_slice)),
        optional(it.content_type.as_deref().map(str::as_bytes)),
        optional(it.response_topic.as_deref().map(str::as_bytes)),
        optional(it.correlation_data.as_deref()),
    ];
    for (present, bytes) in &texts {
        field(*present, bytes);
    }
    for (name, value) in &it.user_properties {
        field(true, name.as_bytes());
        field(true, value.as_bytes());
    }
    hasher.finalize().max(1)
}
