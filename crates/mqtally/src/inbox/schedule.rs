//! Who may be handed out next: order in lanes, leases, retries. Pure and bounded; the rows stay on disk.
//!
//! It sees the inbox through a window of at most `entries_max` messages. A message that may run is *ready*; one that was
//! handed out is *leased*; one that failed is *waiting*; one behind another of its lane is *queued*. A lane that is a whole window
//! behind stalls the others: that is the price of the bound.

use super::arrival::Lane;
use mqtally_proto::Time;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Which group of handlers takes a message.
pub type Channel = u8;

/// The window.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    entries_max: usize,
    entries: FxHashMap<u64, Entry>,
    lanes: FxHashMap<Lane, VecDeque<u64>>,
    ready: BTreeMap<Channel, BTreeSet<u64>>,
    waiting: BTreeSet<(Time, u64)>,
    expiries: VecDeque<(Time, u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    lane: Option<Lane>,
    channel: Channel,
    attempts: u32,
    /// The claim that holds it.
    fence: Option<u64>,
}

impl Schedule {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries_max, ..Self::default() }
    }

    /// How many more messages the window takes.
    pub(crate) fn room(&self) -> usize {
        self.entries_max.saturating_sub(self.entries.len())
    }

    pub(crate) fn contains(&self, sequence: u64) -> bool {
        self.entries.contains_key(&sequence)
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    pub(crate) fn leased(&self) -> u64 {
        self.expiries.iter().filter(|(_, sequence, fence)| self.holds(*sequence, *fence)).count() as u64
    }

    /// Adds a message behind the others of its lane.
    pub(crate) fn add(&mut self, sequence: u64, lane: Option<Lane>, channel: Channel) {
        self.entries.insert(sequence, Entry { lane, channel, attempts: 0, fence: None });
        if self.joins_as_head(sequence, lane) {
            self.ready.entry(channel).or_default().insert(sequence);
        }
    }

    /// Adds a message that failed before; it waits until `due`. The waiting are added before all others.
    pub(crate) fn add_waiting(
        &mut self,
        sequence: u64,
        lane: Option<Lane>,
        channel: Channel,
        attempts: u32,
        due: Time,
    ) {
        self.entries.insert(sequence, Entry { lane, channel, attempts, fence: None });
        if self.joins_as_head(sequence, lane) {
            self.waiting.insert((due, sequence));
        }
    }

    fn joins_as_head(&mut self, sequence: u64, lane: Option<Lane>) -> bool {
        let Some(lane) = lane else { return true };
        let queue = self.lanes.entry(lane).or_default();
        queue.push_back(sequence);
        queue.len() == 1
    }

    /// The next ready message of `channel`, not yet leased.
    pub(crate) fn take(&mut self, channel: Channel) -> Option<u64> {
        self.ready.get_mut(&channel)?.pop_first()
    }

    /// Takes back a [`take`](Self::take).
    pub(crate) fn put_back(&mut self, sequence: u64) {
        if let Some(entry) = self.entries.get(&sequence) {
            self.ready.entry(entry.channel).or_default().insert(sequence);
        }
    }

    /// Leases a message that was [taken](Self::take); returns the number of this attempt.
    pub(crate) fn lease(&mut self, sequence: u64, fence: u64, expires: Time) -> u32 {
        let Some(entry) = self.entries.get_mut(&sequence) else { return 0 };
        entry.attempts += 1;
        entry.fence = Some(fence);
        self.expiries.push_back((expires, sequence, fence));
        entry.attempts
    }

    /// Whether the claim `fence` still holds the message.
    pub(crate) fn holds(&self, sequence: u64, fence: u64) -> bool {
        self.entries.get(&sequence).is_some_and(|entry| entry.fence == Some(fence))
    }

    /// Attempts so far.
    pub(crate) fn attempts(&self, sequence: u64) -> u32 {
        self.entries.get(&sequence).map_or(0, |entry| entry.attempts)
    }

    /// A leased message left the inbox; the next of its lane is ready.
    pub(crate) fn remove(&mut self, sequence: u64) {
        let Some(entry) = self.entries.remove(&sequence) else { return };
        let Some(lane) = entry.lane else { return };
        let Some(queue) = self.lanes.get_mut(&lane) else { return };
        queue.pop_front();
        match queue.front() {
            Some(next) => {
                let channel = self.entries.get(next).map_or(entry.channel, |next| next.channel);
                self.ready.entry(channel).or_default().insert(*next);
            }
            None => {
                self.lanes.remove(&lane);
            }
        }
    }

    /// A leased message failed and waits until `due`; its lane waits with it.
    pub(crate) fn wait(&mut self, sequence: u64, due: Time) {
        if let Some(entry) = self.entries.get_mut(&sequence) {
            entry.fence = None;
            self.waiting.insert((due, sequence));
        }
    }

    /// A lease was given back unused: the attempt does not count.
    pub(crate) fn give_back(&mut self, sequence: u64, fence: u64) {
        if let Some(entry) = self.entries.get_mut(&sequence).filter(|entry| entry.fence == Some(fence)) {
            entry.fence = None;
            entry.attempts = entry.attempts.saturating_sub(1);
            self.put_back(sequence);
        }
    }

    /// Makes the waiting whose time has come ready.
    pub(crate) fn wake(&mut self, now: Time) {
        while let Some((due, sequence)) = self.waiting.first().copied()
            && due <= now
        {
            self.waiting.pop_first();
            if let Some(entry) = self.entries.get(&sequence) {
                self.ready.entry(entry.channel).or_default().insert(sequence);
            }
        }
    }

    /// A lease whose time is up, if there is one; it is still held.
    pub(crate) fn expired(&mut self, now: Time) -> Option<(u64, u64)> {
        while let Some((expires, sequence, fence)) = self.expiries.front().copied() {
            if self.holds(sequence, fence) {
                return (expires <= now).then_some((sequence, fence));
            }
            self.expiries.pop_front();
        }
        None
    }

    /// When something changes by itself: a lease expires or a retry is due.
    pub(crate) fn next_change(&self) -> Option<Time> {
        let due = self.waiting.first().map(|(due, _)| *due);
        let expiry = self.expiries.front().map(|(expires, ..)| *expires);
        due.into_iter().chain(expiry).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Time = Time::from_ms;

    fn drain(schedule: &mut Schedule, channel: Channel) -> Vec<u64> {
        std::iter::from_fn(|| schedule.take(channel)).collect()
    }

    #[test]
    fn a_lane_hands_out_one_at_a_time_and_others_pass_it() {
        let mut s = Schedule::new(10);
        let (a, b) = (Some(Lane::of("a")), Some(Lane::of("b")));
        for (sequence, lane) in [(1, a), (2, a), (3, b), (4, None), (5, None)] {
            s.add(sequence, lane, 0);
        }
        assert_eq!(drain(&mut s, 0), [1, 3, 4, 5]);
        s.lease(1, 9, T(5));
        s.wait(1, T(50));
        assert!(drain(&mut s, 0).is_empty());
        s.wake(T(49));
        assert!(drain(&mut s, 0).is_empty());
        s.wake(T(50));
        assert_eq!(drain(&mut s, 0), [1]);
        s.remove(1);
        assert_eq!(drain(&mut s, 0), [2]);
    }

    #[test]
    fn channels_are_apart() {
        let mut s = Schedule::new(10);
        s.add(1, None, 0);
        s.add(2, None, 7);
        assert_eq!((drain(&mut s, 7), drain(&mut s, 7), drain(&mut s, 0)), (vec![2], vec![], vec![1]));
    }

    #[test]
    fn an_expired_lease_no_longer_holds_and_its_attempt_counts() {
        let mut s = Schedule::new(10);
        s.add(1, None, 0);
        s.take(0);
        assert_eq!(s.lease(1, 9, T(5)), 1);
        assert_eq!(s.next_change(), Some(T(5)));
        assert_eq!((s.expired(T(4)), s.expired(T(5))), (None, Some((1, 9))));
        s.wait(1, T(5));
        assert!(!s.holds(1, 9));
        assert_eq!(s.expired(T(100)), None);
        s.wake(T(5));
        assert_eq!(s.take(0), Some(1));
        assert_eq!(s.lease(1, 10, T(20)), 2);
        s.give_back(1, 9);
        assert_eq!(s.take(0), None, "it is not this claim's any more");
        s.give_back(1, 10);
        assert_eq!((s.take(0), s.lease(1, 11, T(30))), (Some(1), 2));
    }
}
