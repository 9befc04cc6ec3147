//! What messages are called: by the run, which numbers them, and by a program under test, which has words of its own.
//!
//! What a publisher under test sends carries no marker. A message of it is told by its topic, QoS and body: the first
//! PUBLISH with a body gives the message its name, and the same body again is the same message again where it has DUP
//! or comes on another connection. A body that is sent twice on one connection without DUP is one that the program
//! repeats, such as a reading that did not change; from then on it names nothing.

use mqtally_history::event::ConnectionId;
use mqtally_history::marker::{Identity, Marker, MessageId, Purpose};
use mqtally_history::packet::Publish;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bodies that are named, and words that are remembered; what comes later stays without a name.
const NAMED_MAX: usize = 100_000;
/// Bytes of a payload that can itself be the word for its message.
const WORD_BYTES_MAX: usize = 256;
/// Keys of a JSON payload whose value is the word for its message.
const WORD_KEYS: [&str; 2] = ["message_id", "id"];

/// What the messages of a run are called.
#[derive(Debug)]
pub(crate) struct Names {
    run: u32,
    /// A publisher under test takes part.
    naming: AtomicBool,
    named: Mutex<Named>,
}

#[derive(Debug, Default)]
struct Named {
    publisher: u32,
    streams: FxHashMap<(Arc<str>, u8), Stream>,
    bodies: FxHashMap<Body, Entry>,
    words: FxHashMap<String, MessageId>,
    /// Words of reports that came before any message that they could mean.
    early: FxHashSet<String>,
    /// A message came behind a report of it: the program reports before it sends.
    reports_early: bool,
}

#[derive(Debug)]
struct Stream {
    number: u16,
    next: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Body {
    topic: Arc<str>,
    qos: u8,
    len: u32,
    crc: u32,
}

#[derive(Debug)]
struct Entry {
    message: MessageId,
    connection: ConnectionId,
    repeated: bool,
    arrived: bool,
}

impl Names {
    pub(crate) fn new(run: u32) -> Self {
        Self { run, naming: AtomicBool::new(false), named: Mutex::default() }
    }

    /// From now on what carries no marker is a message of the publisher with this number.
    pub(crate) fn begin(&self, publisher: u32) {
        *self.lock() = Named { publisher, ..Named::default() };
        self.naming.store(true, Ordering::Release);
    }

    /// Nothing is named any more. What was named is still recognised: it may arrive when the program is gone.
    pub(crate) fn end(&self) {
        self.naming.store(false, Ordering::Release);
    }

    /// Gives a message that a publisher under test sends its name; also whether the program has claimed before that
    /// it published it.
    pub(crate) fn name(
        &self,
        it: &mut Publish,
        payload: &[u8],
        connection: ConnectionId,
    ) -> Option<MessageId> {
        if it.identity != Identity::Unmarked || !self.naming.load(Ordering::Acquire) {
            return None;
        }
        let mut named = self.lock();
        let message = named.message(it, connection)?;
        it.identity = self.identity(message, it.qos);
        let words = words_of(payload);
        let early = words.iter().any(|word| named.early.remove(word));
        named.reports_early |= early;
        if named.words.len() < NAMED_MAX {
            named.words.extend(words.into_iter().map(|word| (word, message)));
        }
        early.then_some(message)
    }

    /// Gives a message that arrives the name under which it was sent.
    pub(crate) fn recognise(&self, it: &mut Publish) {
        if it.identity != Identity::Unmarked {
            return;
        }
        let mut named = self.lock();
        let Some(entry) = named.bodies.get_mut(&Body::of(it)) else { return };
        if !entry.repeated || !entry.arrived {
            entry.arrived = true;
            it.identity = self.identity(entry.message, it.qos);
        }
    }

    /// From now on `word` means this message of ours.
    pub(crate) fn call(&self, word: String, message: MessageId) {
        let mut named = self.lock();
        if named.words.len() < NAMED_MAX {
            named.words.insert(word, message);
        }
    }

    /// The message that `word` means.
    pub(crate) fn find(&self, word: &str) -> Option<MessageId> {
        let named = self.lock();
        named.words.get(word).copied().or_else(|| marked(self.run, word))
    }

    /// A publisher under test claims what `word` means; none yet, where no message was seen that it could mean.
    pub(crate) fn claim(&self, word: &str) -> Option<MessageId> {
        let found = self.find(word);
        let mut named = self.lock();
        if found.is_none() && named.early.len() < NAMED_MAX {
            named.early.insert(word.to_owned());
        }
        found
    }

    /// Claims that no message was seen for, and that nothing explains: a program that is known to report before it sends
    /// and is killed in between never sends what it reported.
    pub(crate) fn unfounded_claims(&self) -> usize {
        let named = self.lock();
        if named.reports_early { 0 } else { named.early.len() }
    }

    fn identity(&self, message: MessageId, qos: u8) -> Identity {
        Identity::Ours(Marker { run: self.run, message, attempt: 0, qos, purpose: Purpose::Load })
    }

    fn lock(&self) -> MutexGuard<'_, Named> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Named {
    fn message(&mut self, it: &Publish, connection: ConnectionId) -> Option<MessageId> {
        let body = Body::of(it);
        if let Some(entry) = self.bodies.get_mut(&body) {
            entry.repeated |= entry.connection == connection && !it.dup;
            entry.connection = connection;
            return (!entry.repeated).then_some(entry.message);
        }
        if self.bodies.len() >= NAMED_MAX {
            return None;
        }
        let number = u16::try_from(self.streams.len()).ok()?;
        let stream = self.streams.entry((it.topic.clone(), it.qos)).or_insert(Stream { number, next: 0 });
        let message = MessageId { publisher: self.publisher, stream: stream.number, sequence: stream.next };
        stream.next += 1;
        self.bodies.insert(body, Entry { message, connection, repeated: false, arrived: false });
        Some(message)
    }
}

impl Body {
    fn of(it: &Publish) -> Self {
        Self { topic: it.topic.clone(), qos: it.qos, len: it.payload_len, crc: it.payload_crc }
    }
}

/// The words that a program can call a message by, given its payload.
fn words_of(payload: &[u8]) -> Vec<String> {
    let mut words = Vec::new();
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(payload) {
        words.extend(WORD_KEYS.iter().filter_map(|key| word_of(object.get(*key)?)));
    }
    if let (true, Ok(text)) = (payload.len() <= WORD_BYTES_MAX, std::str::from_utf8(payload)) {
        words.push(text.trim().to_owned());
    }
    words
}

/// A JSON value as a word.
pub(super) fn word_of(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.trim().to_owned()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        serde_json::Value::Object(object) => {
            let key = ["mqtally", "message_id", "id"].into_iter().find_map(|key| object.get(key))?;
            word_of(key)
        }
        _ => None,
    }
}

/// What a marker in hexadecimal says.
fn marked(run: u32, word: &str) -> Option<MessageId> {
    match Identity::of(run, format!(r#"{{"mqtally":"{word}"}}"#).as_bytes()) {
        Identity::Ours(marker) => Some(marker.message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(payload: &str, dup: bool) -> Publish {
        Publish {
            dup,
            qos: 1,
            retain: false,
            packet_id: 1,
            topic: "t".into(),
            identity: Identity::Unmarked,
            packet_len: 0,
            payload_len: payload.len() as u32,
            payload_crc: crc32fast::hash(payload.as_bytes()),
            properties: None,
            message_expiry: None,
            subscription_ids: Vec::new(),
            topic_alias: None,
        }
    }

    fn sequence(identity: &Identity) -> Option<u64> {
        match identity {
            Identity::Ours(marker) => Some(marker.message.sequence),
            _ => None,
        }
    }

    fn named(names: &Names, payload: &str, dup: bool, connection: u32) -> Option<u64> {
        let mut it = publish(payload, dup);
        names.name(&mut it, payload.as_bytes(), ConnectionId(connection));
        sequence(&it.identity)
    }

    fn begun() -> Names {
        let names = Names::new(7);
        names.begin(3);
        names
    }

    #[test]
    fn the_same_body_on_another_connection_or_with_dup_is_the_same_message() {
        let names = begun();
        assert_eq!(named(&names, "a", false, 1), Some(0));
        assert_eq!(named(&names, "b", false, 1), Some(1));
        assert_eq!(named(&names, "a", true, 1), Some(0));
        assert_eq!(named(&names, "a", false, 2), Some(0));
        let mut arrived = publish("b", false);
        names.recognise(&mut arrived);
        assert_eq!(sequence(&arrived.identity), Some(1));
    }

    #[test]
    fn a_body_that_is_repeated_names_nothing() {
        let names = begun();
        assert_eq!(named(&names, "21.5", false, 1), Some(0));
        assert_eq!(named(&names, "21.5", false, 1), None);
        assert_eq!(named(&names, "21.5", true, 2), None);
        let recognised = || {
            let mut arrived = publish("21.5", false);
            names.recognise(&mut arrived);
            sequence(&arrived.identity)
        };
        // The first was named when it was sent, and has to arrive under its name.
        assert_eq!((recognised(), recognised()), (Some(0), None));
    }

    #[test]
    fn what_arrives_when_the_program_is_gone_has_its_name_and_what_is_sent_then_gets_none() {
        let names = begun();
        assert_eq!(named(&names, "a", false, 1), Some(0));
        names.end();
        let mut arrived = publish("a", false);
        names.recognise(&mut arrived);
        assert_eq!(sequence(&arrived.identity), Some(0));
        assert_eq!(named(&names, "b", false, 2), None);
    }

    #[test]
    fn a_claim_before_the_message_is_told_when_the_message_comes() {
        let names = begun();
        assert_eq!(names.claim("17"), None);
        assert_eq!(names.unfounded_claims(), 1);
        let payload = r#"{"message_id":17,"content":"x"}"#;
        let mut it = publish(payload, false);
        let early = names.name(&mut it, payload.as_bytes(), ConnectionId(1));
        assert_eq!(early.map(|message| message.sequence), Some(0));
        assert_eq!((names.claim("17"), names.unfounded_claims()), (early, 0));
        assert_eq!(names.find(payload), early);
    }

    #[test]
    fn a_claim_without_a_message_is_explained_by_a_program_that_claims_before_it_sends_and_is_killed() {
        let names = begun();
        assert_eq!((names.claim("17"), names.claim("18")), (None, None));
        assert_eq!(names.unfounded_claims(), 2);
        assert_eq!(named(&names, "17", false, 1), Some(0));
        assert_eq!(names.unfounded_claims(), 0);
    }

    #[test]
    fn without_a_publisher_under_test_nothing_is_named() {
        let names = Names::new(7);
        assert_eq!(named(&names, "a", false, 1), None);
    }

    #[test]
    fn a_marker_is_a_word() {
        let message = MessageId { publisher: 1, stream: 2, sequence: 3 };
        let marker = Marker { run: 7, message, attempt: 0, qos: 1, purpose: Purpose::Load };
        assert_eq!(begun().find(&marker.to_hex()), Some(message));
        assert_eq!(Names::new(8).find(&marker.to_hex()), None);
    }
}
