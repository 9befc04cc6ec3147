//! A message, and one with its place and name.

use super::Uuid;
use bytes::Bytes;
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Qos};

/// A message to be published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Topic name: no wildcards.
    pub topic: ByteString,
    /// What is said.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// 5.0 properties that belong to the application; 3.1.1 has none and sends none.
    pub properties: Properties,
}

/// What a message counts in [`Totals::bytes`](super::Totals::bytes) beside its own bytes.
const OVERHEAD_BYTES: u64 = 64;

impl Message {
    /// A message without properties that is not retained.
    pub fn new(topic: impl Into<ByteString>, payload: impl Into<Bytes>, qos: Qos) -> Self {
        Self { topic: topic.into(), payload: payload.into(), qos, ..Self::default() }
    }

    /// Bytes that the message takes in an outbox, about.
    pub(crate) fn size(&self) -> u64 {
        OVERHEAD_BYTES + self.topic.len() as u64 + self.payload.len() as u64
    }
}

/// A message with its place and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Place in the order of publishing; never used twice in one outbox.
    pub seq: u64,
    /// Name.
    pub id: Uuid,
    /// When it was published.
    pub created: Time,
    /// The message itself.
    pub message: Message,
}
