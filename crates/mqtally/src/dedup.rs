//! Telling a repeated message from a new one, within a window in memory.
//!
//! A message is known by its **dedup key**: its topic, and what stands at some places of its JSON payload. The same
//! key with the same payload is a duplicate. The same key with *another* payload is a conflict: most often a
//! publisher whose counter began at 1 again, so that dropping it would lose a new message.
//!
//! ```
//! use mqtally::dedup::{Arrival, Settings, Window};
//! use mqtally_proto::Time;
//! let (mut window, now) = (Window::new(Settings::default()), Time::from_ms(0));
//! let (one, restarted) = (br#"{"sender":"s","message_id":1}"#, br#"{"sender":"s","message_id":1,"content":2}"#);
//! assert_eq!(window.arrive(now, "alerts/door", one), Arrival::New);
//! assert_eq!(window.arrive(now, "alerts/door", one), Arrival::Duplicate);
//! assert_eq!(window.arrive(now, "alerts/door", restarted), Arrival::Conflict);
//! assert_eq!(window.arrive(now, "alerts/gate", one), Arrival::New);
//! assert_eq!(window.arrive(now, "alerts/door", b"21.5"), Arrival::Unkeyed);
//! ```

use mqtally_proto::Time;
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// How messages are known, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// JSON pointers (RFC 6901) into the payload; a payload that lacks one of them has no key.
    pub pointers: Vec<String>,
    /// Whether equal names under different topics are different messages.
    pub scoped_by_topic: bool,
    /// Messages remembered at most; above it the oldest is forgotten.
    pub messages_max: usize,
    /// How long a message is remembered, milliseconds since its first arrival.
    pub age_ms_max: u64,
    /// What to do with a conflict.
    pub on_conflict: OnConflict,
}

impl Default for Settings {
    /// `/sender` and `/message_id` under their topic; 100,000 messages, ten minutes; conflicts are processed.
    fn default() -> Self {
        Self {
            pointers: vec!["/sender".to_owned(), "/message_id".to_owned()],
            scoped_by_topic: true,
            messages_max: 100_000,
            age_ms_max: 600_000,
            on_conflict: OnConflict::Process,
        }
    }
}

/// What to do with a message whose key is known and whose payload is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OnConflict {
    /// Take it as new: its publisher's counter began again.
    #[default]
    Process,
    /// Take it as a duplicate. It is still counted as a conflict.
    Drop,
}

/// What an arriving message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arrival {
    /// Its key is not remembered.
    New,
    /// Its key and payload are.
    Duplicate,
    /// Its key is, with another payload.
    Conflict,
    /// It has no key, so that nothing can be said.
    Unkeyed,
}

/// The messages of the recent past.
#[derive(Debug)]
pub struct Window {
    settings: Settings,
    /// Payloads seen under each key; nearly always one.
    known: FxHashMap<Arc<str>, Vec<Fingerprint>>,
    /// In the order of arrival, which is the order of forgetting.
    arrivals: VecDeque<(Time, Arc<str>, Fingerprint)>,
}

/// Stands for a payload: two different ones of equal length share it once in 2^64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    length: usize,
    hash: u64,
}

impl Window {
    /// An empty window.
    pub fn new(settings: Settings) -> Self {
        Self { settings, known: FxHashMap::default(), arrivals: VecDeque::new() }
    }

    /// Takes note of a message that arrives, and says what it is. `now` never goes backward.
    pub fn arrive(&mut self, now: Time, topic: &str, payload: &[u8]) -> Arrival {
        self.forget_older_than(now);
        let Some(key) = self.key(topic, payload) else { return Arrival::Unkeyed };
        let fingerprint = Fingerprint::of(payload);
        let arrival = match self.known.get(key.as_str()) {
            None => Arrival::New,
            Some(payloads) if payloads.contains(&fingerprint) => return Arrival::Duplicate,
            Some(_) => Arrival::Conflict,
        };
        self.remember(now, key.into(), fingerprint);
        arrival
    }

    /// Whether a message that came as `arrival` goes to the application.
    pub fn admits(&self, arrival: Arrival) -> bool {
        match arrival {
            Arrival::New | Arrival::Unkeyed => true,
            Arrival::Duplicate => false,
            Arrival::Conflict => self.settings.on_conflict == OnConflict::Process,
        }
    }

    /// Messages remembered.
    pub fn len(&self) -> usize {
        self.arrivals.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// JSON as it is written here has no bare line feed, so values cannot run together into another key.
    fn key(&self, topic: &str, payload: &[u8]) -> Option<String> {
        let payload: Value = serde_json::from_slice(payload).ok()?;
        let mut key = String::from(if self.settings.scoped_by_topic { topic } else { "" });
        for pointer in &self.settings.pointers {
            write!(key, "\n{}", payload.pointer(pointer)?).ok()?;
        }
        Some(key)
    }

    fn remember(&mut self, now: Time, key: Arc<str>, fingerprint: Fingerprint) {
        self.known.entry(Arc::clone(&key)).or_default().push(fingerprint);
        self.arrivals.push_back((now, key, fingerprint));
        if self.arrivals.len() > self.settings.messages_max {
            self.forget_oldest();
        }
    }

    fn forget_older_than(&mut self, now: Time) {
        let age_ms_max = self.settings.age_ms_max;
        while self.arrivals.front().is_some_and(|(arrived, ..)| now.ms_since(*arrived) >= age_ms_max) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((_, key, fingerprint)) = self.arrivals.pop_front() else { return };
        if let Some(payloads) = self.known.get_mut(&key) {
            payloads.retain(|payload| *payload != fingerprint);
            if payloads.is_empty() {
                self.known.remove(&key);
            }
        }
    }
}

impl Fingerprint {
    fn of(payload: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        payload.hash(&mut hasher);
        Self { length: payload.len(), hash: hasher.finish() }
    }
}

/// What became of the messages that arrived.
///
/// ```
/// use mqtally::dedup::{Arrival, Statistics};
/// let mut statistics = Statistics::default();
/// [Arrival::New, Arrival::Duplicate, Arrival::New, Arrival::Conflict].map(|arrival| statistics.count(arrival));
/// assert_eq!((statistics.received, statistics.duplicates, statistics.conflicts), (4, 1, 1));
/// assert_eq!(statistics.percent(statistics.duplicates), 25.0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Arrivals, of whatever kind.
    pub received: u64,
    /// Arrivals that were [`Arrival::Duplicate`].
    pub duplicates: u64,
    /// Arrivals that were [`Arrival::Conflict`].
    pub conflicts: u64,
    /// Messages that the application failed on; counted by whoever runs it.
    pub errors: u64,
    /// Messages that the application dealt with; counted by whoever runs it.
    pub processed: u64,
}

impl Statistics {
    /// Counts an arrival.
    pub fn count(&mut self, arrival: Arrival) {
        self.received += 1;
        self.duplicates += u64::from(arrival == Arrival::Duplicate);
        self.conflicts += u64::from(arrival == Arrival::Conflict);
    }

    /// `count` as a percentage of what was received; 0 when nothing was.
    pub fn percent(&self, count: u64) -> f64 {
        if self.received == 0 { 0.0 } else { count as f64 * 100.0 / self.received as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Time = Time::from_ms(1_000);

    fn payload(sender: &str, id: u64, content: u64) -> Vec<u8> {
        format!(r#"{{"sender":"{sender}","message_id":{id},"content":{content}}}"#).into_bytes()
    }

    fn window(messages_max: usize, age_ms_max: u64) -> Window {
        Window::new(Settings { messages_max, age_ms_max, ..Settings::default() })
    }

    /// A counter in every publisher process starts at 1 again: the new messages have old names and new bodies. To
    /// drop them as duplicates would be loss; to forget the old bodies would process late copies twice.
    #[test]
    fn a_restarted_publishers_messages_are_processed_and_copies_of_either_life_are_not() {
        let mut window = window(100, 1_000);
        for life in 0..2 {
            for id in 1..=3 {
                let arrival = window.arrive(T0, "t", &payload("s", id, life));
                assert_eq!(arrival, if life == 0 { Arrival::New } else { Arrival::Conflict });
                assert!(window.admits(arrival));
            }
        }
        for (life, id) in [(0, 1), (1, 1), (0, 3), (1, 2)] {
            assert_eq!(window.arrive(T0, "t", &payload("s", id, life)), Arrival::Duplicate);
        }
    }

    #[test]
    fn a_conflict_is_dropped_only_where_asked_for() {
        let dropping = Window::new(Settings { on_conflict: OnConflict::Drop, ..Settings::default() });
        assert!(!dropping.admits(Arrival::Conflict) && dropping.admits(Arrival::New));
    }

    #[test]
    fn a_name_means_nothing_without_its_sender_and_topic() {
        let mut window = window(100, 1_000);
        for (topic, sender) in [("t", "a"), ("t", "b"), ("u", "a")] {
            assert_eq!(window.arrive(T0, topic, &payload(sender, 1, 0)), Arrival::New, "{topic} {sender}");
        }
        let mut unscoped = Window::new(Settings { scoped_by_topic: false, ..Settings::default() });
        unscoped.arrive(T0, "t", &payload("a", 1, 0));
        assert_eq!(unscoped.arrive(T0, "u", &payload("a", 1, 0)), Arrival::Duplicate);
    }

    #[test]
    fn a_payload_without_a_name_is_never_a_duplicate() {
        let mut window = window(100, 1_000);
        for payload in [&b"21.5"[..], b"", b"{\"sender\":\"s\"}", b"\xFF"] {
            for _ in 0..2 {
                assert_eq!(window.arrive(T0, "t", payload), Arrival::Unkeyed);
            }
        }
        assert!(window.is_empty());
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let mut window = window(100, 1_000);
        window.arrive(T0, "t", &payload("s", 1, 0));
        assert_eq!(window.arrive(T0.plus_ms(999), "t", &payload("s", 1, 0)), Arrival::Duplicate);
        assert_eq!(window.arrive(T0.plus_ms(1_000), "t", &payload("s", 1, 0)), Arrival::New);
        assert_eq!(window.len(), 1);
    }

    #[test]
    fn what_is_too_many_is_forgotten_oldest_first() {
        let mut window = window(2, 1_000);
        for id in 1..=3 {
            window.arrive(T0, "t", &payload("s", id, 0));
        }
        assert_eq!((window.len(), window.known.len()), (2, 2));
        assert_eq!(window.arrive(T0, "t", &payload("s", 3, 0)), Arrival::Duplicate);
        assert_eq!(window.arrive(T0, "t", &payload("s", 1, 0)), Arrival::New);
    }

    #[test]
    fn values_do_not_run_together_into_one_key() {
        let mut window = window(100, 1_000);
        let payload = |sender: &str, id: &str| format!(r#"{{"sender":"{sender}","message_id":"{id}"}}"#);
        assert_eq!(window.arrive(T0, "t", payload(r"a\nb", "c").as_bytes()), Arrival::New);
        assert_eq!(window.arrive(T0, "t", payload("a", r"b\nc").as_bytes()), Arrival::New);
    }
}
