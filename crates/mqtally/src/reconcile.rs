//! Compares a publisher's outbox with a subscriber's inbox: what became of each message, per topic.
//!
//! A PUBACK says that the broker has a message, never that a subscriber has it. Only both ends together say that. They
//! are compared by message id, while both may be at work: the inbox's [`Window`] is attached before [`reconcile`] reads
//! the outbox, so whatever has arrived is known to have been published.
//!
//! What was acknowledged and has not arrived may still be on its way. It is **lost** only where a later message
//! of its topic and QoS, acknowledged after it, did arrive: a broker delivers these in order \[MQTT-4.6.0-5\]. Where the
//! inbox has let go of expired keys, an earlier one must be there too, or the message may have arrived and expired:
//! it is then outside the retention window. A message of QoS 0 is never lost: nobody promised anything.
//!
//! Not covered: neither file says since when the subscription exists, so what was published before it counts as lost;
//! and a dead letter that was purged counts as processed. Duplicates are told apart by topic, not by publisher.

use crate::inbox::key::{ID_PROPERTY, KeyId, Keys, View};
use crate::inbox::{Consumer, Copies, Unsettled, Window};
use crate::outbox::{self, Published, Standing, Uuid};
use crate::store::StoreError;
use bytestring::ByteString;
use mqtally_proto::packet::{Properties, Property, Qos};
use mqtally_proto::{Time, topic};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::path::Path;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciliation {
    /// Per topic that was published to.
    pub topics: BTreeMap<ByteString, Counts>,
    /// Arrivals that the inbox dropped because their key was known: over all topics and publishers, since it was made. More than
    /// [those of the topics](Counts::duplicated) where other publishers have topics of their own, or a filter was given.
    pub duplicated: Copies,
    /// Keys in the inbox that the outbox does not know: other publishers' messages, and those it has forgotten.
    pub unexpected: u64,
    /// Messages that the outbox accepted and no longer remembers; on any topic.
    pub forgotten: u64,
    /// When the oldest message was published that waits in the outbox, or is in flight from it; on any topic.
    pub oldest_unsent: Option<Time>,
}

/// What became of the messages of one topic, as far as the outbox remembers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Accepted by the outbox.
    pub published: u64,
    /// Finally acknowledged by the broker.
    pub acknowledged: u64,
    /// Sent at QoS 0, which nobody acknowledges.
    pub sent: u64,
    /// Given up by the publisher.
    pub failed: u64,
    /// Waiting in the outbox, or in flight from it.
    pub unsent: u64,
    /// Arrived at the inbox.
    pub delivered: u64,
    /// Arrived, and done with.
    pub processed: u64,
    /// Arrived, and not yet done with.
    pub waiting: u64,
    /// Arrived, and given up by the subscriber.
    pub dead: u64,
    /// Arrivals on this topic that the inbox dropped because their key was known, whoever had published them, since the inbox was
    /// made.
    pub duplicated: Copies,
    /// Acknowledged, and never arrived: a later message did.
    pub lost: u64,
    /// Acknowledged, and not arrived so far.
    pub not_yet_arrived: u64,
    /// Acknowledged, and so old that the inbox may have forgotten it.
    pub outside_window: u64,
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Whatever was acknowledged has arrived.
    Complete,
    /// Something acknowledged has not arrived, and may yet, or may have and been forgotten.
    Undecided,
    /// Something acknowledged never arrived.
    Lost,
}

/// What became of a message at the subscriber's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arrival {
    /// It is not in the inbox's window.
    #[default]
    Absent,
    /// It arrived and is done with.
    Processed,
    /// It arrived and waits, is in a handler's hands, or is to be tried again.
    Waiting,
    /// It arrived and was given up.
    Dead,
}

/// One message at both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Topic name.
    pub topic: ByteString,
    /// Quality of service at which it was published.
    pub qos: Qos,
    /// Its place in the order of publishing.
    pub seq: u64,
    /// At the publisher's end.
    pub standing: Standing,
    /// At the subscriber's end.
    pub arrival: Arrival,
}

impl Reconciliation {
    /// The topics together.
    pub fn total(&self) -> Counts {
        self.topics.values().fold(Counts::default(), |mut total, counts| {
            total += *counts;
            total
        })
    }

    /// What it comes to.
    pub fn verdict(&self) -> Verdict {
        self.total().verdict()
    }
}

impl Counts {
    /// What these come to.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self { lost: 1.., .. } => Verdict::Lost,
            Self { not_yet_arrived: 0, outside_window: 0, .. } => Verdict::Complete,
            _ => Verdict::Undecided,
        }
    }

    fn count(&mut self, pair: &Pair, absent: Absent) {
        self.published += 1;
        match pair.standing {
            Standing::Unsent => self.unsent += 1,
            Standing::Failed => self.failed += 1,
            Standing::Settled { .. } if pair.qos == Qos::AtMostOnce => self.sent += 1,
            Standing::Settled { .. } => self.acknowledged += 1,
        }
        self.delivered += u64::from(pair.arrival != Arrival::Absent);
        match pair.arrival {
            Arrival::Processed => self.processed += 1,
            Arrival::Waiting => self.waiting += 1,
            Arrival::Dead => self.dead += 1,
            Arrival::Absent if pair.place().is_none() => {}
            Arrival::Absent => match absent {
                Absent::Lost => self.lost += 1,
                Absent::NotYetArrived => self.not_yet_arrived += 1,
                Absent::OutsideWindow => self.outside_window += 1,
            },
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.published += other.published;
        self.acknowledged += other.acknowledged;
        self.sent += other.sent;
        self.failed += other.failed;
        self.unsent += other.unsent;
        self.delivered += other.delivered;
        self.processed += other.processed;
        self.waiting += other.waiting;
        self.dead += other.dead;
        self.duplicated += other.duplicated;
        self.lost += other.lost;
        self.not_yet_arrived += other.not_yet_arrived;
        self.outside_window += other.outside_window;
    }
}

impl Pair {
    /// Its place among what was acknowledged; none where nothing was.
    fn place(&self) -> Option<u64> {
        match self.standing {
            Standing::Settled { place } if self.qos != Qos::AtMostOnce => Some(place),
            _ => None,
        }
    }
}

/// What it means that an acknowledged message is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    Lost,
    NotYetArrived,
    OutsideWindow,
}

/// Compares the outbox at this path with an inbox. `consumers` are those in whose names the inbox's keys were made, by default
/// [all that it knows](Window::consumers). Only topics that pass `filter` are counted, where there is one. Takes about 100 bytes of
/// memory for each message that the outbox holds or remembers, and 30 more for each further consumer.
pub fn reconcile(
    outbox: &Path,
    inbox: &Window,
    consumers: &[Consumer],
    filter: Option<&str>,
) -> Result<Reconciliation, StoreError> {
    let keys: Vec<_> = consumers.iter().map(Consumer::own_keys).collect();
    let (mut pairs, mut places) = (Vec::new(), FxHashMap::default());
    let mut oldest_unsent = None;
    let ledger = outbox::ledger(outbox, |published| {
        for key in keys_of(&keys, &published.topic, published.id) {
            places.insert(key, pairs.len());
        }
        if published.standing == Standing::Unsent {
            let made_at = published.id.made_at();
            oldest_unsent = Some(oldest_unsent.map_or(made_at, |oldest: Time| oldest.min(made_at)));
        }
        pairs.push(Pair::from(published));
    })?;
    let mut unexpected = 0;
    inbox.each_key(|key| match places.get(&key) {
        Some(place) => pairs[*place].arrival = Arrival::Processed,
        None => unexpected += 1,
    })?;
    inbox.each_unsettled(|Unsettled { topic, key, dead }| {
        let key = key.parse().ok().and_then(|id| keys_of(&keys, topic, id).next());
        if let Some(place) = key.and_then(|key| places.get(&key)) {
            pairs[*place].arrival = if dead { Arrival::Dead } else { Arrival::Waiting };
        }
    })?;
    pairs.retain(|pair| filter.is_none_or(|filter| topic::matches(filter, &pair.topic)));
    let mut topics = compare(pairs, inbox.has_purged());
    for (topic, counts) in &mut topics {
        counts.duplicated = inbox.copies_by_topic().get(topic).copied().unwrap_or_default();
    }
    let duplicated = inbox.copies_dropped();
    Ok(Reconciliation { topics, duplicated, unexpected, forgotten: ledger.forgotten, oldest_unsent })
}

/// Counts what became of messages, per topic. Pure. `has_purged` says that keys have expired in the inbox.
pub fn compare(mut pairs: Vec<Pair>, has_purged: bool) -> BTreeMap<ByteString, Counts> {
    let mut topics = BTreeMap::<ByteString, Counts>::new();
    pairs
        .sort_unstable_by(|a, b| (&a.topic, a.qos as u8, a.place()).cmp(&(&b.topic, b.qos as u8, b.place())));
    for stream in pairs.chunk_by(|a, b| a.topic == b.topic && a.qos == b.qos) {
        let counts = topics.entry(stream[0].topic.clone()).or_default();
        let latest = latest_after(stream);
        let mut earliest = u64::MAX;
        for (pair, latest) in stream.iter().zip(latest) {
            counts.count(pair, judge(earliest < pair.seq, latest > pair.seq, has_purged));
            if pair.is_evidence() {
                earliest = earliest.min(pair.seq);
            }
        }
    }
    topics
}

/// For each message, the last in the order of publishing that was acknowledged after it and arrived; 0 for none.
fn latest_after(stream: &[Pair]) -> Vec<u64> {
    let mut latest = vec![0; stream.len()];
    for at in (1..stream.len()).rev() {
        let here = if stream[at].is_evidence() { stream[at].seq } else { 0 };
        latest[at - 1] = latest[at].max(here);
    }
    latest
}

fn judge(earlier_arrived: bool, later_arrived: bool, has_purged: bool) -> Absent {
    match (earlier_arrived, later_arrived) {
        (false, _) if has_purged => Absent::OutsideWindow,
        (_, true) => Absent::Lost,
        (_, false) => Absent::NotYetArrived,
    }
}

impl Pair {
    /// Whether it shows how far the broker has come.
    fn is_evidence(&self) -> bool {
        self.place().is_some() && self.arrival != Arrival::Absent
    }
}

impl From<Published> for Pair {
    fn from(published: Published) -> Self {
        let Published { seq, topic, qos, standing, .. } = published;
        Self { topic, qos, seq, standing, arrival: Arrival::Absent }
    }
}

/// The keys under which the subscriber may know the message with this id, one a consumer.
fn keys_of(keys: &[Keys], topic: &str, id: Uuid) -> impl Iterator<Item = KeyId> {
    let properties = Properties(vec![Property::UserProperty(ID_PROPERTY.into(), id.to_string().into())]);
    keys.iter().filter_map(move |keys| {
        let view = View { topic, properties: &properties, payload: b"", received_at: Time::default() };
        keys.key_of(view).map(|key| key.id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One topic at QoS 1, one letter a message in the order of publishing: acknowledged and `p`rocessed, `w`aiting,
    /// `d`ead or `-` absent; `u`nsent, `U`nsent but arrived, `f`ailed.
    fn history(text: &str) -> Vec<Pair> {
        (1..).zip(text.chars()).map(|(seq, letter)| pair(letter, seq, seq)).collect()
    }

    fn pair(letter: char, seq: u64, place: u64) -> Pair {
        let settled = Standing::Settled { place };
        let (standing, arrival) = match letter {
            'p' => (settled, Arrival::Processed),
            'w' => (settled, Arrival::Waiting),
            'd' => (settled, Arrival::Dead),
            '-' => (settled, Arrival::Absent),
            'u' => (Standing::Unsent, Arrival::Absent),
            'U' => (Standing::Unsent, Arrival::Processed),
            'f' => (Standing::Failed, Arrival::Absent),
            _ => unreachable!("{letter}"),
        };
        Pair { topic: "t".into(), qos: Qos::AtLeastOnce, seq, standing, arrival }
    }

    fn only(topics: &BTreeMap<ByteString, Counts>) -> Counts {
        assert!(topics.len() <= 1);
        topics.values().next().copied().unwrap_or_default()
    }

    /// Lost, not yet arrived, outside the window.
    fn check(text: &str, has_purged: bool, expect: [u64; 3], verdict: Verdict) {
        let counts = only(&compare(history(text), has_purged));
        let found = [counts.lost, counts.not_yet_arrived, counts.outside_window];
        assert_eq!((found, counts.verdict()), (expect, verdict), "{text}, purged: {has_purged}");
        assert_eq!(counts.published, text.len() as u64);
        assert_eq!(counts.published, counts.acknowledged + counts.failed + counts.unsent);
        assert_eq!(counts.delivered, counts.processed + counts.waiting + counts.dead);
    }

    #[test]
    fn what_was_acknowledged_and_arrived_is_complete() {
        for text in ["", "p", "pwd", "uf", "pU", "pfup"] {
            check(text, false, [0, 0, 0], Verdict::Complete);
            check(text, true, [0, 0, 0], Verdict::Complete);
        }
    }

    #[test]
    fn what_is_absent_is_lost_only_when_a_later_one_arrived() {
        check("-", false, [0, 1, 0], Verdict::Undecided);
        check("p--", false, [0, 2, 0], Verdict::Undecided);
        check("-p", false, [1, 0, 0], Verdict::Lost);
        check("p--w-", false, [2, 1, 0], Verdict::Lost);
        check("-d", false, [1, 0, 0], Verdict::Lost);
        check("-f", false, [0, 1, 0], Verdict::Undecided);
    }

    #[test]
    fn what_arrived_before_its_acknowledgement_proves_nothing() {
        check("-U", false, [0, 1, 0], Verdict::Undecided);
    }

    #[test]
    fn where_the_window_was_purged_an_earlier_one_must_be_there_too() {
        check("-", true, [0, 0, 1], Verdict::Undecided);
        check("--p", true, [0, 0, 2], Verdict::Undecided);
        check("-p-p-", true, [1, 1, 1], Verdict::Lost);
    }

    #[test]
    fn acknowledged_afterwards_and_published_afterwards_are_both_needed() {
        // Published first and acknowledged last, as after a lost session.
        let pairs = vec![pair('-', 1, 2), pair('p', 2, 1)];
        assert_eq!(only(&compare(pairs, false)).not_yet_arrived, 1);
        let pairs = vec![pair('p', 1, 2), pair('-', 2, 1)];
        assert_eq!(only(&compare(pairs, false)).not_yet_arrived, 1);
    }

    #[test]
    fn topics_and_qos_prove_nothing_about_one_another() {
        let other_topic = Pair { topic: "u".into(), ..pair('p', 2, 2) };
        let other_qos = Pair { qos: Qos::ExactlyOnce, ..pair('p', 2, 2) };
        for other in [other_topic, other_qos] {
            let topics = compare(vec![pair('-', 1, 1), other], false);
            let lost: u64 = topics.values().map(|counts| counts.lost).sum();
            assert_eq!((lost, topics["t"].not_yet_arrived), (0, 1));
        }
    }

    #[test]
    fn a_message_of_qos_0_is_sent_and_never_lost() {
        let at_qos_0 = |letter, seq| Pair { qos: Qos::AtMostOnce, ..pair(letter, seq, seq) };
        let counts = only(&compare(vec![at_qos_0('-', 1), at_qos_0('p', 2)], false));
        let expect = Counts { published: 2, sent: 2, delivered: 1, processed: 1, ..Counts::default() };
        assert_eq!(counts, expect);
    }
}
