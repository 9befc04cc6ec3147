//! Messages to publish, each with an identity of its own.

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use mqtally::message::{self, Envelope};
use mqtally_history::marker::{MARKER_LEN, Marker, MessageId, Purpose};
use mqtally_proto::packet::{Property, Publish, Qos};
use std::time::{SystemTime, UNIX_EPOCH};

/// Sender that the lesson's publisher names.
const SENDER: &str = "qos_publisher";

/// One stream: a publisher's topic at one QoS. Its messages are numbered from 0 without a gap.
#[derive(Debug)]
pub(crate) struct Source {
    run: u32,
    publisher: u32,
    stream: u16,
    topic: ByteString,
    qos: Qos,
    next: u64,
}

/// A message that has its identity and was not sent yet.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) id: MessageId,
    pub(crate) publish: Publish,
}

impl Outgoing {
    /// The same, to be retained.
    pub(crate) fn retained(mut self) -> Self {
        self.publish.retain = true;
        self
    }

    /// The same with one more property (5.0).
    pub(crate) fn with(mut self, property: Property) -> Self {
        self.publish.properties.push(property);
        self
    }
}

impl Source {
    pub(crate) fn new(run: u32, publisher: u32, stream: u16, topic: &str, qos: Qos) -> Self {
        Self { run, publisher, stream, topic: topic.into(), qos, next: 0 }
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn qos(&self) -> Qos {
        self.qos
    }

    /// A message of the load with `body` after its marker.
    pub(crate) fn load(&mut self, body: &[u8]) -> Outgoing {
        let marker = self.marker(Purpose::Load);
        self.outgoing(marker, binary(marker, body))
    }

    /// `count` small messages of the load.
    pub(crate) fn loads(&mut self, count: usize) -> Vec<Outgoing> {
        (0..count).map(|_| self.load(b"load")).collect()
    }

    /// Ends the stream, or this far of it: what was completed before and is missing when it arrives is lost.
    pub(crate) fn sentinel(&mut self) -> Outgoing {
        let marker = self.marker(Purpose::Sentinel);
        self.outgoing(marker, binary(marker, b"sentinel"))
    }

    /// A message of the load in the lesson's envelope.
    pub(crate) fn envelope(&mut self, message_id: u64, message_type: &str, content: &str) -> Outgoing {
        self.enveloped(Purpose::Load, message_id, message_type, content)
    }

    /// The same for what a message is for.
    pub(crate) fn enveloped(
        &mut self,
        purpose: Purpose,
        message_id: u64,
        message_type: &str,
        content: &str,
    ) -> Outgoing {
        let marker = self.marker(purpose);
        let number = message::MessageId::Number(message_id);
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut envelope =
            Envelope::new(number, SENDER, message_type, self.qos as u8, timestamp, content.into());
        envelope.extra.insert("mqtally".to_owned(), marker.to_hex().into());
        self.outgoing(marker, envelope.to_json().into())
    }

    /// A message of the load with this payload. A JSON object gets the marker as a further member; in front of
    /// anything else it stands itself.
    pub(crate) fn text(&mut self, payload: &str) -> Outgoing {
        let marker = self.marker(Purpose::Load);
        let payload = match payload.trim_start().strip_prefix('{') {
            Some(members) => {
                let comma = if members.trim_start().starts_with('}') { "" } else { ", " };
                format!("{{\"mqtally\": \"{}\"{comma}{members}", marker.to_hex()).into()
            }
            None => binary(marker, payload.as_bytes()),
        };
        self.outgoing(marker, payload)
    }

    fn marker(&mut self, purpose: Purpose) -> Marker {
        let message = MessageId { publisher: self.publisher, stream: self.stream, sequence: self.next };
        self.next += 1;
        Marker { run: self.run, message, attempt: 0, qos: self.qos as u8, purpose }
    }

    fn outgoing(&self, marker: Marker, payload: Bytes) -> Outgoing {
        let publish = Publish { qos: self.qos, topic: self.topic.clone(), payload, ..Publish::default() };
        Outgoing { id: marker.message, publish }
    }
}

fn binary(marker: Marker, body: &[u8]) -> Bytes {
    let mut payload = BytesMut::with_capacity(MARKER_LEN + body.len());
    payload.extend_from_slice(&marker.encode());
    payload.extend_from_slice(body);
    payload.freeze()
}
