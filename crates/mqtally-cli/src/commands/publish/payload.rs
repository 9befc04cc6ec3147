//! A message around a payload.

use mqtally::inbox::key::ID_MEMBER;
use mqtally::message::{Envelope, MessageId};
use mqtally::publisher::{Message, Uuid};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// What all messages have in common.
pub(super) struct Payload {
    /// The message, but for its payload.
    pub(super) message: Message,
    /// Shown in the table.
    pub(super) message_type: String,
    pub(super) wrapping: Option<Wrapping>,
    /// Whether what is published is JSON already.
    pub(super) json: bool,
}

/// The envelope, where there is one.
pub(super) struct Wrapping {
    pub(super) sender: String,
    pub(super) message_type: String,
    /// Whether the envelope has to carry the id where our own subscriber looks for it, because MQTT cannot.
    pub(super) names_itself: bool,
}

impl Payload {
    /// The message `id` around `content`; what is wrong with the content otherwise.
    pub(super) fn message(&self, id: Uuid, content: Vec<u8>) -> Result<Message, String> {
        let payload = match &self.wrapping {
            None => content,
            Some(wrapping) => wrapping.wrap(id, self.value(content)?, self.message.qos as u8).into_bytes(),
        };
        Ok(Message { payload: payload.into(), ..self.message.clone() })
    }

    fn value(&self, content: Vec<u8>) -> Result<Value, String> {
        if self.json {
            return serde_json::from_slice(&content).map_err(|error| format!("not JSON ({error})"));
        }
        let text = String::from_utf8(content);
        text.map(Value::String).map_err(|_| "not UTF-8 text, which an envelope needs".to_owned())
    }
}

impl Wrapping {
    fn wrap(&self, id: Uuid, content: Value, qos: u8) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let name = MessageId::Text(id.to_string());
        let mut envelope = Envelope::new(name, &*self.sender, &*self.message_type, qos, now, content);
        if self.names_itself {
            envelope.extra.insert(ID_MEMBER.to_owned(), Value::String(id.to_string()));
        }
        envelope.to_json()
    }
}
