//! The JSON envelope that names a message where MQTT 3.1.1 has no place for it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A message with its name and sender in the payload.
///
/// The packet id cannot name a message: it is used again as soon as the handshake is over. The envelope can, and a
/// receiver tells a repeated message from a new one by it (see [`dedup`](crate::dedup)).
///
/// ```
/// use mqtally::message::{Envelope, MessageId};
/// let envelope = Envelope::new(MessageId::Number(7), "gate-3", "temperature", 1, 1_753_900_000.25, "21.5".into());
/// let payload = envelope.to_json();
/// assert_eq!(
///     payload,
///     r#"{"message_id":7,"content":"21.5","message_type":"temperature","qos":1,"timestamp":1753900000.25,"sender":"gate-3"}"#
/// );
/// assert_eq!(Envelope::from_json(payload.as_bytes())?, envelope);
/// # Ok::<(), mqtally::message::EnvelopeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Name of the message, unique for its sender.
    pub message_id: MessageId,
    /// What the message says.
    pub content: Value,
    /// What kind of message it is, in the application's words.
    pub message_type: String,
    /// QoS that it was published at.
    pub qos: u8,
    /// When it was made: seconds since the Unix epoch.
    pub timestamp: f64,
    /// Who made it. A `message_id` means nothing without it.
    pub sender: String,
    /// Members that other senders add; kept as they are.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The name of a message for its sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MessageId {
    /// A counter's value.
    Number(u64),
    /// Any other name, such as a UUID.
    Text(String),
}

/// Why a payload is not an envelope.
#[derive(Debug, thiserror::Error)]
#[error(
    "the payload is not a message envelope: {0}; it has to be a JSON object with message_id, content, message_type, qos, timestamp and sender"
)]
pub struct EnvelopeError(#[from] serde_json::Error);

impl Envelope {
    /// An envelope without extra members; `timestamp` in seconds since the Unix epoch.
    pub fn new(
        message_id: MessageId,
        sender: impl Into<String>,
        message_type: impl Into<String>,
        qos: u8,
        timestamp: f64,
        content: Value,
    ) -> Self {
        let (sender, message_type) = (sender.into(), message_type.into());
        Self { message_id, content, message_type, qos, timestamp, sender, extra: Map::new() }
    }

    /// The payload. A timestamp that is no finite number becomes `null`, which no envelope may have.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain values under string keys can always be written")
    }

    /// Reads a payload.
    pub fn from_json(payload: &[u8]) -> Result<Self, EnvelopeError> {
        Ok(serde_json::from_slice(payload)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_are_not_known_are_kept() {
        let payload = r#"{"message_id":"a-1","content":{"open":true},"message_type":"door","qos":2,"timestamp":1.5,"sender":"gate","site":"north"}"#;
        let envelope = Envelope::from_json(payload.as_bytes()).unwrap();
        assert_eq!(envelope.message_id, MessageId::Text("a-1".to_owned()));
        assert_eq!(envelope.extra["site"], "north");
        assert_eq!(envelope.to_json(), payload);
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for payload in ["", "[]", r#"{"message_id":1}"#, "21.5"] {
            assert!(Envelope::from_json(payload.as_bytes()).is_err(), "{payload}");
        }
    }
}
