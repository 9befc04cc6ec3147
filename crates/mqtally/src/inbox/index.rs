//! The dedup ids in memory: per time bucket a table of (32-bit tag, 32-bit offset). Pure.
//!
//! A tag hit is a candidate only; the caller confirms it by reading the id on disk, so answers are exact. Ids are
//! spread by SHA-256, so the tag itself is the place in the table, and a table grows by walking it in order.

use super::key::KeyId;
use mqtally_proto::Time;
use std::collections::VecDeque;

/// Slots are refilled when more than 4 of 5 are taken, and then grow by half: 10 to 15 bytes an id.
const LOAD: (usize, usize) = (4, 5);
const SLOTS_MIN: usize = 64;
/// Offsets in a bucket, minus the one that means "empty".
const OFFSETS_MAX: u64 = u32::MAX as u64 - 1;

/// The index over all live buckets.
#[derive(Debug, Default)]
pub(crate) struct Index {
    buckets: VecDeque<Bucket>,
}

/// Ids that expire together: those from `first` up to the next bucket's.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) first: u64,
    pub(crate) from: Time,
    table: Table,
}

impl Index {
    /// The newest bucket.
    pub(crate) fn newest(&self) -> Option<&Bucket> {
        self.buckets.back()
    }

    /// The oldest bucket, when there is a newer one: its ids end where that begins.
    pub(crate) fn oldest_closed(&self) -> Option<(&Bucket, &Bucket)> {
        Some((self.buckets.front()?, self.buckets.get(1)?))
    }

    /// Begins a bucket.
    pub(crate) fn open_bucket(&mut self, first: u64, from: Time) {
        self.buckets.push_back(Bucket { first, from, table: Table::default() });
    }

    /// Forgets the oldest bucket.
    pub(crate) fn drop_oldest(&mut self) {
        self.buckets.pop_front();
    }

    /// Adds the id at `position`, which must not be below its bucket. Positions come in ascending order.
    pub(crate) fn insert(&mut self, id: &KeyId, position: u64) {
        let bucket = self.buckets.iter_mut().rev().find(|bucket| bucket.first <= position);
        if let Some(bucket) = bucket {
            let offset = (position - bucket.first).min(OFFSETS_MAX);
            bucket.table.insert(tag(id), offset as u32);
        }
    }

    /// Positions whose ids may equal `id`, newest bucket first.
    pub(crate) fn candidates<'a>(&'a self, id: &KeyId) -> impl Iterator<Item = u64> + 'a {
        let tag = tag(id);
        let in_bucket = move |bucket: &'a Bucket| {
            bucket.table.offsets(tag).map(move |offset| bucket.first + u64::from(offset))
        };
        self.buckets.iter().rev().flat_map(in_bucket)
    }

    /// Whether the newest bucket can take `more` ids.
    pub(crate) fn has_room(&self, next: u64, more: u64) -> bool {
        self.newest().is_some_and(|bucket| next - bucket.first + more < OFFSETS_MAX)
    }

    /// Ids in all buckets.
    pub(crate) fn len(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.table.len as u64).sum()
    }

    /// Memory that the tables take.
    pub(crate) fn bytes(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.table.slots.len() as u64 * 8).sum()
    }
}

fn tag(id: &KeyId) -> u32 {
    u32::from_be_bytes([id[0], id[1], id[2], id[3]])
}

/// Open addressing with linear probing. A slot is tag and offset + 1; 0 is empty.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<u64>,
    len: usize,
}

impl Table {
    fn insert(&mut self, tag: u32, offset: u32) {
        if (self.len + 1) * LOAD.1 > self.slots.len() * LOAD.0 {
            self.grow();
        }
        self.len += 1;
        place(&mut self.slots, u64::from(tag) << 32 | (u64::from(offset) + 1));
    }

    fn grow(&mut self) {
        let mut larger = vec![0; (self.slots.len() + self.slots.len() / 2).max(SLOTS_MIN)];
        for slot in self.slots.iter().filter(|slot| **slot != 0) {
            place(&mut larger, *slot);
        }
        self.slots = larger;
    }

    fn offsets(&self, tag: u32) -> impl Iterator<Item = u32> + '_ {
        let start = home(tag, self.slots.len());
        let probes = self.slots[start..].iter().chain(&self.slots[..start]).take_while(|slot| **slot != 0);
        probes.filter(move |slot| (**slot >> 32) as u32 == tag).map(|slot| (*slot as u32) - 1)
    }
}

fn home(tag: u32, slots: usize) -> usize {
    ((u64::from(tag) * slots as u64) >> 32) as usize
}

fn place(slots: &mut [u64], slot: u64) {
    let mut at = home((slot >> 32) as u32, slots.len());
    while slots[at] != 0 {
        at = if at + 1 == slots.len() { 0 } else { at + 1 };
    }
    slots[at] = slot;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> KeyId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&super::super::key::hash_64(&n.to_le_bytes()).to_le_bytes());
        id
    }

    #[test]
    fn every_id_is_found_across_buckets_within_15_bytes_each() {
        let mut index = Index::default();
        for n in 0..50_000 {
            if n % 9_000 == 0 {
                index.open_bucket(n, Time::from_ms(n));
            }
            index.insert(&id(n), n);
        }
        assert!((0..50_000).all(|n| index.candidates(&id(n)).any(|found| found == n)));
        let strangers = (50_000..100_000).filter(|n| index.candidates(&id(*n)).next().is_some()).count();
        assert!(strangers < 20, "{strangers} false tag hits");
        assert!(index.bytes() <= 15 * index.len(), "{} bytes an id", index.bytes() / index.len());
    }

    #[test]
    fn equal_tags_are_all_candidates_even_around_the_end_of_the_table() {
        let mut index = Index::default();
        index.open_bucket(10, Time::default());
        for position in 10..40 {
            index.insert(&[0xff; 16], position);
        }
        index.insert(&[0; 16], 40);
        assert_eq!(index.candidates(&[0xff; 16]).count(), 30);
        assert_eq!(index.candidates(&[0; 16]).collect::<Vec<_>>(), [40]);
    }

    #[test]
    fn a_dropped_bucket_is_forgotten_whole() {
        let mut index = Index::default();
        index.open_bucket(0, Time::default());
        index.insert(&id(0), 0);
        index.open_bucket(1, Time::from_ms(5));
        index.insert(&id(1), 1);
        index.drop_oldest();
        assert_eq!((index.candidates(&id(0)).count(), index.candidates(&id(1)).count()), (0, 1));
        assert!(index.oldest_closed().is_none());
    }
}
