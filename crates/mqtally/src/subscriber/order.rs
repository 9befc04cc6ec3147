//! Which messages are handled in order, one at a time.

use crate::inbox::Lane;
use crate::inbox::key::JSON_BYTES_MAX;

/// What messages are kept in order by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Order {
    /// Those of one topic.
    #[default]
    Topic,
    /// None: any number at once, in any order.
    None,
    /// Those with an equal JSON value at this pointer (RFC 6901); those without one by their topic.
    JsonPointer(String),
}

impl Order {
    /// The lane of a message.
    pub(super) fn lane(&self, topic: &str, payload: &[u8]) -> Option<Lane> {
        match self {
            Self::Topic => Some(Lane::of(topic)),
            Self::None => None,
            Self::JsonPointer(pointer) => {
                Some(by_pointer(pointer, payload).unwrap_or_else(|| Lane::of(topic)))
            }
        }
    }
}

fn by_pointer(pointer: &str, payload: &[u8]) -> Option<Lane> {
    (payload.len() <= JSON_BYTES_MAX).then_some(())?;
    let value: serde_json::Value = serde_json::from_slice(payload).ok()?;
    Some(Lane::of(value.pointer(pointer)?.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_share_a_lane_and_a_message_without_one_has_its_topics() {
        let order = Order::JsonPointer("/device".into());
        let lane = |topic, payload: &str| order.lane(topic, payload.as_bytes());
        assert_eq!(lane("a", r#"{"device":7}"#), lane("b", r#"{"device":7,"x":1}"#));
        assert_ne!(lane("a", r#"{"device":7}"#), lane("a", r#"{"device":8}"#));
        assert_eq!(lane("a", "no JSON"), Order::Topic.lane("a", b""));
        assert_eq!(Order::None.lane("a", b""), None);
    }
}
