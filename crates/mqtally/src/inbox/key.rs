//! Dedup keys: what makes two messages the same message. Pure.
//!
//! A key comes from the first rule that yields one. A rule that yields none is no error: the message has no key then,
//! and is processed each time it arrives, which is the safe direction.
//!
//! The publisher of this crate marks its messages with the 5.0 user property [`ID_PROPERTY`], or in a JSON object with
//! the member [`ID_MEMBER`] where 3.1.1 has no properties. [`Rule::Own`] understands both and needs no configuration.

use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Property};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// User property that carries the message id of this crate's publisher.
pub const ID_PROPERTY: &str = "mqtally-id";
/// Member of a JSON payload that carries it where there are no properties.
pub const ID_MEMBER: &str = "mqtally_id";
/// User property that carries the replay epoch of a message that was replayed through a broker: a decimal number from 1.
pub const REPLAY_PROPERTY: &str = "mqtally-replay";
/// Larger payloads are not searched for JSON members.
pub const JSON_BYTES_MAX: usize = 4 << 20;
/// Longer key texts are replaced by their hash.
const TEXT_BYTES_MAX: usize = 512;
/// A content hash's window is divided into this many slots; copies are dropped within one to 1¼ windows.
const CONTENT_SLOTS: u64 = 4;

/// Identity of a message in the inbox: 128 bits of SHA-256 over its scope and its key.
pub type KeyId = [u8; 16];

/// A dedup key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// What is compared.
    pub id: KeyId,
    /// What is shown, and given to handlers as idempotency key.
    pub text: String,
    /// Other identities that count as this one: the earlier slots of a content hash.
    pub also: Vec<KeyId>,
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The id of this crate's publisher.
    Own,
    /// A 5.0 user property of this name; the first where it stands more than once.
    UserProperty(String),
    /// CloudEvents: user properties `source` and `id` (binary mode), else members of the JSON payload.
    CloudEvents,
    /// JSON pointers (RFC 6901) into the payload; all must lead to a string, an integer or a boolean.
    JsonPointers(Vec<String>),
    /// The 5.0 correlation data.
    CorrelationData,
    /// Topic and payload, within a window. Equal readings of a sensor are legitimate: use it for topics where they are not.
    Content {
        /// Copies within this time are one message.
        window_ms: u64,
    },
}

/// How far a key reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Within a topic: equal keys on two topics are two messages.
    #[default]
    Topic,
    /// Across all topics of the consumer.
    Consumer,
}

/// The rules of one consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Name of the consumer; part of every key.
    pub consumer: String,
    /// How far keys reach.
    pub scope: Scope,
    /// Tried in order; the first that yields a key wins.
    pub rules: Vec<Rule>,
}

/// What a key is taken from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// 5.0 properties; empty in 3.1.1.
    pub properties: &'a Properties,
    /// Payload.
    pub payload: &'a [u8],
    /// When it was received; only a content hash looks at it.
    pub received_at: Time,
}

impl Keys {
    /// Keys of this crate's own publisher, within a topic.
    pub fn new(consumer: impl Into<String>) -> Self {
        Self { consumer: consumer.into(), scope: Scope::Topic, rules: vec![Rule::Own] }
    }

    /// The key of a message, when it has one.
    pub fn key_of(&self, view: View<'_>) -> Option<Key> {
        self.rules.iter().find_map(|rule| self.by(rule, view))
    }

    fn by(&self, rule: &Rule, view: View<'_>) -> Option<Key> {
        let replay = replay_epoch(view.properties);
        if let Rule::Content { window_ms } = rule {
            return Some(self.content_key(view, *window_ms, replay));
        }
        let parts = match rule {
            Rule::Own => own(view)?,
            Rule::UserProperty(name) => vec![user_property(view.properties, name)?.to_owned()],
            Rule::CloudEvents => cloud_event(view)?,
            Rule::JsonPointers(pointers) => by_pointers(view.payload, pointers)?,
            Rule::CorrelationData => vec![hex(correlation_data(view.properties)?)],
            Rule::Content { .. } => return None,
        };
        let text = text_of(parts)?;
        Some(Key {
            id: self.identity(view.topic, rule.tag(), text.as_bytes(), replay),
            text,
            also: Vec::new(),
        })
    }

    fn content_key(&self, view: View<'_>, window_ms: u64, replay: u32) -> Key {
        let slot = view.received_at.as_ms() / (window_ms / CONTENT_SLOTS).max(1);
        let body = Sha256::digest(view.payload);
        let in_slot = |slot: u64| {
            let bytes = [body.as_slice(), view.topic.as_bytes(), &slot.to_le_bytes()].concat();
            self.identity(view.topic, b'h', &bytes, replay)
        };
        let also = (1..=CONTENT_SLOTS).filter_map(|back| slot.checked_sub(back)).map(in_slot).collect();
        let id = in_slot(slot);
        Key { id, text: format!("sha256:{}", hex(&id)), also }
    }

    fn identity(&self, topic: &str, tag: u8, text: &[u8], replay: u32) -> KeyId {
        let scope = if self.scope == Scope::Topic { topic } else { "" };
        let mut hash = Sha256::new();
        for part in [self.consumer.as_bytes(), scope.as_bytes(), &[tag], &replay.to_le_bytes(), text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        truncated(hash.finalize().as_slice())
    }
}

impl Rule {
    /// Keys from different places are different keys, even where their texts are equal.
    fn tag(&self) -> u8 {
        match self {
            Self::Own => b'o',
            Self::UserProperty(_) => b'u',
            Self::CloudEvents => b'c',
            Self::JsonPointers(_) => b'j',
            Self::CorrelationData => b'd',
            Self::Content { .. } => b'h',
        }
    }
}

/// Which replay of its message this is: 0 for the original, and for anything that is not a number.
pub fn replay_epoch(properties: &Properties) -> u32 {
    user_property(properties, REPLAY_PROPERTY).and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// 64 bits of SHA-256 over a payload: tells two bodies under one key apart.
pub(crate) fn body_hash(payload: &[u8]) -> u64 {
    hash_64(payload)
}

/// 64 bits of SHA-256.
pub(crate) fn hash_64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(truncated(Sha256::digest(bytes).as_slice()))
}

fn truncated<const N: usize>(digest: &[u8]) -> [u8; N] {
    std::array::from_fn(|at| digest[at])
}

fn own(view: View<'_>) -> Option<Vec<String>> {
    if let Some(id) = user_property(view.properties, ID_PROPERTY) {
        return Some(vec![id.to_owned()]);
    }
    // Most payloads have no such member, and looking for its name is cheaper than parsing them.
    let searched = view.payload.len() <= JSON_BYTES_MAX;
    (searched && contains(view.payload, ID_MEMBER.as_bytes())).then_some(())?;
    let value = json(view.payload)?;
    Some(vec![scalar(value.get(ID_MEMBER)?)?])
}

fn cloud_event(view: View<'_>) -> Option<Vec<String>> {
    let property = |name| user_property(view.properties, name).map(str::to_owned);
    if let (Some(source), Some(id)) = (property("source"), property("id")) {
        return Some(vec![source, id]);
    }
    let value = json(view.payload)?;
    value.get("specversion")?;
    Some(vec![scalar(value.get("source")?)?, scalar(value.get("id")?)?])
}

fn by_pointers(payload: &[u8], pointers: &[String]) -> Option<Vec<String>> {
    let value = json(payload)?;
    pointers.iter().map(|pointer| scalar(value.pointer(pointer)?)).collect()
}

fn json(payload: &[u8]) -> Option<Value> {
    (payload.len() <= JSON_BYTES_MAX).then_some(())?;
    serde_json::from_slice(payload).ok()
}

/// Texts, integers and booleans identify. Other numbers do not: large ones would be rounded together.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(_) | Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn user_property<'a>(properties: &'a Properties, wanted: &str) -> Option<&'a str> {
    properties.0.iter().find_map(|property| match property {
        Property::UserProperty(name, value) if &**name == wanted => Some(&**value),
        _ => None,
    })
}

fn correlation_data(properties: &Properties) -> Option<&[u8]> {
    properties.0.iter().find_map(|property| match property {
        Property::CorrelationData(data) if !data.is_empty() => Some(&data[..]),
        _ => None,
    })
}

/// One part stands for itself; several as a JSON array, so that no two lists look the same. Nothing is no key.
fn text_of(parts: Vec<String>) -> Option<String> {
    if parts.iter().all(String::is_empty) {
        return None;
    }
    let text = match <[String; 1]>::try_from(parts) {
        Ok([only]) => only,
        Err(parts) => serde_json::to_string(&parts).ok()?,
    };
    Some(if text.len() <= TEXT_BYTES_MAX { text } else { format!("sha256:{}", hex(&Sha256::digest(text))) })
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(pairs: &[(&str, &str)]) -> Properties {
        Properties(pairs.iter().map(|(k, v)| Property::UserProperty((*k).into(), (*v).into())).collect())
    }

    fn key(rule: Rule, properties: &Properties, payload: &[u8]) -> Option<Key> {
        let keys = Keys { rules: vec![rule], ..Keys::new("c") };
        keys.key_of(View { topic: "t", properties, payload, received_at: Time::from_ms(10_000) })
    }

    fn check(rule: Rule, properties: &[(&str, &str)], payload: &str, expect: Option<&str>) {
        let label = format!("{rule:?} {properties:?} {payload}");
        let found = key(rule, &user(properties), payload.as_bytes()).map(|key| key.text);
        assert_eq!(found.as_deref(), expect, "{label}");
    }

    fn pointers(of: &[&str]) -> Rule {
        Rule::JsonPointers(of.iter().map(|p| (*p).to_owned()).collect())
    }

    #[test]
    fn each_rule_finds_its_key_or_none() {
        check(Rule::Own, &[("mqtally-id", "a1")], "", Some("a1"));
        check(Rule::Own, &[], r#"{"mqtally_id":"b2"}"#, Some("b2"));
        check(Rule::Own, &[("mqtally-id", "a1")], r#"{"mqtally_id":"b2"}"#, Some("a1"));
        check(Rule::Own, &[], r#"{"message_id":"b2"}"#, None);
        check(Rule::Own, &[], r#"["mqtally_id"]"#, None);
        check(Rule::Own, &[], r#"mqtally_id is not JSON"#, None);
        check(Rule::UserProperty("k".into()), &[("x", "0"), ("k", "1"), ("k", "2")], "", Some("1"));
        check(Rule::UserProperty("k".into()), &[("k", "")], "", None);
        check(Rule::UserProperty("k".into()), &[], "k", None);
        check(Rule::CloudEvents, &[("source", "/s"), ("id", "7")], "x", Some(r#"["/s","7"]"#));
        check(
            Rule::CloudEvents,
            &[],
            r#"{"specversion":"1.0","source":"/s","id":"7"}"#,
            Some(r#"["/s","7"]"#),
        );
        check(Rule::CloudEvents, &[("id", "7")], r#"{"source":"/s","id":"7"}"#, None);
        check(
            pointers(&["/sender", "/message_id"]),
            &[],
            r#"{"sender":"p","message_id":12}"#,
            Some(r#"["p","12"]"#),
        );
        check(pointers(&["/a/0/b"]), &[], r#"{"a":[{"b":true}]}"#, Some("true"));
        check(pointers(&["/a~1b"]), &[], r#"{"a/b":"slash"}"#, Some("slash"));
        for miss in [
            r#"{"a":null}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{}}"#,
            r#"{"a":1.5}"#,
            r#"{"b":1}"#,
            "12",
            "{",
            "",
            "{\"a\":1} x",
        ] {
            check(pointers(&["/a"]), &[], miss, None);
        }
        check(pointers(&["/a"]), &[], r#"{"a":18446744073709551617}"#, None);
        check(pointers(&["/a", "/b"]), &[], r#"{"a":1}"#, None);
    }

    #[test]
    fn payloads_that_are_no_utf_8_or_too_deep_have_no_key() {
        let none = Properties::default();
        assert_eq!(key(pointers(&["/a"]), &none, b"{\"a\":\"\xff\"}"), None);
        assert_eq!(key(pointers(&["/a"]), &none, &[b'['; 100_000]), None);
        assert_eq!(key(pointers(&["/a"]), &none, &vec![b' '; JSON_BYTES_MAX + 1]), None);
    }

    #[test]
    fn a_long_key_is_shown_by_its_hash_and_stays_distinct() {
        let of = |text: &str| key(Rule::UserProperty("k".into()), &user(&[("k", text)]), b"").unwrap();
        let (a, b) = (of(&"a".repeat(60_000)), of(&"a".repeat(60_001)));
        assert!(a.text.len() < 100 && a.text.starts_with("sha256:"));
        assert_ne!(a.id, b.id);
    }

    #[test]
    fn correlation_data_may_be_any_bytes_but_not_empty() {
        let of = |data: &'static [u8]| {
            let properties = Properties(vec![Property::CorrelationData(bytes::Bytes::from_static(data))]);
            key(Rule::CorrelationData, &properties, b"").map(|key| key.text)
        };
        assert_eq!(of(b"\x00\xff").as_deref(), Some("00ff"));
        assert_eq!(of(b""), None);
    }

    #[test]
    fn scope_consumer_rule_and_replay_are_part_of_the_key() {
        let properties = user(&[("k", "1"), ("mqtally-id", "1")]);
        let view = View { topic: "t", properties: &properties, payload: b"", received_at: Time::default() };
        let by_topic = Keys { rules: vec![Rule::UserProperty("k".into())], ..Keys::new("c") };
        let by_consumer = Keys { scope: Scope::Consumer, ..by_topic.clone() };
        let id = |keys: &Keys, view| keys.key_of(view).unwrap().id;
        assert_ne!(id(&by_topic, view), id(&by_topic, View { topic: "u", ..view }));
        assert_eq!(id(&by_consumer, view), id(&by_consumer, View { topic: "u", ..view }));
        assert_ne!(id(&by_topic, view), id(&Keys { consumer: "d".into(), ..by_topic.clone() }, view));
        assert_ne!(id(&by_topic, view), id(&Keys::new("c"), view));
        let replayed = user(&[("k", "1"), (REPLAY_PROPERTY, "1")]);
        assert_ne!(id(&by_topic, view), id(&by_topic, View { properties: &replayed, ..view }));
    }

    #[test]
    fn content_is_the_same_within_its_window_and_not_long_after() {
        let keys = Keys { rules: vec![Rule::Content { window_ms: 1_000 }], ..Keys::new("c") };
        let none = Properties::default();
        let at = |ms, payload| {
            keys.key_of(View { topic: "t", properties: &none, payload, received_at: Time::from_ms(ms) })
                .unwrap()
        };
        let first = at(10_240, b"21.5").id;
        let same = |key: Key| key.id == first || key.also.contains(&first);
        assert!(same(at(10_240, b"21.5")) && same(at(11_240, b"21.5")));
        assert!(!same(at(11_500, b"21.5")) && !same(at(10_240, b"21.6")));
        assert!(at(0, b"x").also.is_empty());
    }
}
