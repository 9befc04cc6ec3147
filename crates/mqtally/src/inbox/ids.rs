//! Dedup ids on disk, in arrival order, and the index over them.
//!
//! A row of `ids` packs up to 160 ids with their bodies' hashes and a checksum into one page of the database. The last
//! row is filled up before another is begun: SQLite logs whole pages, so that costs no more than a short row.
//! Positions are dense, so a missing row is seen at opening.

use super::index::Index;
use super::key::{Key, KeyId};
use super::record::crc_of;
use crate::store::StoreError;
use crate::store::fail::crash_point;
use mqtally_proto::Time;
use rusqlite::{Connection, OptionalExtension, Transaction};
use rustc_hash::FxHashSet;
use std::ops::Range;
use std::path::Path;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE bucket(first_id INTEGER PRIMARY KEY, from_ms INTEGER NOT NULL, crc INTEGER NOT NULL);
    CREATE TABLE ids(first_id INTEGER PRIMARY KEY, packed BLOB NOT NULL);";

/// Buckets in a retention window; an expired one is dropped whole.
const BUCKETS: u64 = 8;
const ID_BYTES: usize = 16;
const ENTRY_BYTES: usize = ID_BYTES + 8;
const ROW_ENTRIES: usize = 160;
const CRC_BYTES: usize = 4;
/// Rows that one tick deletes at most: 20,480 ids.
const PURGED_ROWS_MAX: u32 = 128;

/// What is known about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Never,
    SameBody,
    OtherBody,
}

/// All ids of the retention window.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    index: Index,
    window_ms: u64,
    next: u64,
    /// Entries of the last row, and its first position.
    tail: Vec<u8>,
    tail_first: u64,
    /// Ids of the open transaction; they enter the index with its commit.
    fresh: Vec<KeyId>,
    fresh_keys: FxHashSet<KeyId>,
    fresh_bodies: FxHashSet<(KeyId, u64)>,
    live_from: u64,
    /// Whether rows below `live_from` may be left.
    purging: bool,
}

/// The width of a bucket; also what a time between two openings counts at most, so no key expires early by it.
pub(crate) fn bucket_ms(window_ms: u64) -> u64 {
    (window_ms / BUCKETS).max(1)
}

impl Ids {
    /// Reads all live ids: positions `live_from` up to `next`. What cannot be read is an error, or with `accept_loss`
    /// is given up. Also says how many that were.
    pub(crate) fn load(
        connection: &Connection,
        path: &Path,
        (live_from, next): (u64, u64),
        window_ms: u64,
        accept_loss: bool,
    ) -> Result<(Self, u64), StoreError> {
        let failed = |error| StoreError::from_sqlite(path, error);
        let mut ids = Self { window_ms, next, live_from, tail_first: next, purging: true, ..Self::default() };
        let gaps = ids.load_rows(connection).map_err(failed)?;
        let lost = gaps.iter().map(|gap| gap.end - gap.start).sum();
        if lost > 0 && !accept_loss {
            let what = format!("{lost} dedup keys cannot be read, their duplicates would pass");
            return Err(StoreError::Damaged { path: path.to_owned(), what });
        }
        give_up(connection, &gaps).map_err(failed)?;
        Ok((ids, lost))
    }

    /// Fills the index and returns the ranges of positions that could not be read.
    fn load_rows(&mut self, connection: &Connection) -> rusqlite::Result<Vec<Range<u64>>> {
        let mut buckets = load_buckets(connection, self.live_from)?.into_iter().peekable();
        let (mut expected, mut gaps) = (self.live_from, Vec::new());
        let mut statement =
            connection.prepare("SELECT first_id, packed FROM ids WHERE first_id >= ?1 ORDER BY first_id")?;
        let mut rows = statement.query([expected])?;
        while let Some(row) = rows.next()? {
            let first: u64 = row.get(0)?;
            let entries = row.get_ref(1)?.as_blob().ok().and_then(|packed| unpack(first, packed));
            let Some(entries) = entries.filter(|_| first >= expected && first < self.next) else { continue };
            while let Some((bucket, from)) = buckets.next_if(|(bucket, _)| *bucket <= first) {
                self.index.open_bucket(bucket, from);
            }
            gaps.push(expected..first);
            expected = first + (entries.len() / ENTRY_BYTES) as u64;
            for (position, entry) in (first..).zip(entries.chunks_exact(ENTRY_BYTES)) {
                self.index.insert(&id_of(entry), position);
            }
            (self.tail_first, self.tail) = (first, entries.to_vec());
        }
        buckets.for_each(|(first, from)| self.index.open_bucket(first, from));
        gaps.push(expected..self.next.max(expected));
        if expected < self.next || self.tail_is_closed() {
            self.begin_row();
        }
        gaps.retain(|gap| !gap.is_empty());
        Ok(gaps)
    }

    /// Whether the last row belongs to an older bucket or is full.
    fn tail_is_closed(&self) -> bool {
        let newest = self.index.newest().map_or(0, |bucket| bucket.first);
        self.tail_first < newest || self.tail.len() >= ROW_ENTRIES * ENTRY_BYTES
    }

    /// Positions that are live.
    pub(crate) fn live(&self) -> Range<u64> {
        self.live_from..self.next
    }

    pub(crate) fn len(&self) -> u64 {
        self.index.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    /// What is known about `key` and the body that hashes to `body`.
    pub(crate) fn seen(&self, connection: &Connection, key: &Key, body: u64) -> rusqlite::Result<Seen> {
        let mut seen = Seen::Never;
        for id in std::iter::once(&key.id).chain(&key.also) {
            if self.fresh_bodies.contains(&(*id, body)) {
                return Ok(Seen::SameBody);
            }
            if self.fresh_keys.contains(id) {
                seen = Seen::OtherBody;
            }
            for position in self.index.candidates(id) {
                let (found, found_body) = read(connection, position)?;
                if found == *id && found_body == body {
                    return Ok(Seen::SameBody);
                }
                if found == *id {
                    seen = Seen::OtherBody;
                }
            }
        }
        Ok(seen)
    }

    /// Adds an id to the open transaction.
    pub(crate) fn add(
        &mut self,
        transaction: &Transaction<'_>,
        id: KeyId,
        body: u64,
        now: Time,
    ) -> rusqlite::Result<()> {
        if !self.index.has_room(self.next, 1) || self.newest_is_over(now) {
            self.open_bucket(transaction, now)?;
        }
        self.tail.extend_from_slice(&id);
        self.tail.extend_from_slice(&body.to_le_bytes());
        self.fresh.push(id);
        self.fresh_keys.insert(id);
        self.fresh_bodies.insert((id, body));
        self.next += 1;
        if self.tail.len() >= ROW_ENTRIES * ENTRY_BYTES {
            self.write_tail(transaction)?;
            self.begin_row();
        }
        Ok(())
    }

    /// Writes what [`add`](Self::add) left unwritten; the last step before the commit.
    pub(crate) fn flush(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.fresh.is_empty() || self.tail.is_empty() { Ok(()) } else { self.write_tail(transaction) }
    }

    /// The transaction was committed: its ids enter the index.
    pub(crate) fn committed(&mut self) {
        let first = self.next - self.fresh.len() as u64;
        for (position, id) in (first..).zip(self.fresh.drain(..)) {
            self.index.insert(&id, position);
        }
        self.fresh_keys.clear();
        self.fresh_bodies.clear();
    }

    /// Begins and drops buckets as time passes, and deletes a bounded number of expired rows.
    /// Returns whether it wrote.
    pub(crate) fn tick(&mut self, transaction: &Transaction<'_>, now: Time) -> rusqlite::Result<bool> {
        let holds_ids = self.index.newest().is_some_and(|bucket| bucket.first < self.next);
        let opened = holds_ids && self.newest_is_over(now);
        if opened {
            self.open_bucket(transaction, now)?;
        }
        while let Some((_, next)) = self.index.oldest_closed()
            && next.from.plus_ms(self.window_ms) <= now
        {
            (self.live_from, self.purging) = (next.first, true);
            self.index.drop_oldest();
        }
        Ok(self.purge(transaction)? || opened)
    }

    fn purge(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
        if !self.purging {
            return Ok(false);
        }
        let below = self.live_from;
        transaction.prepare_cached("DELETE FROM bucket WHERE first_id < ?1")?.execute([below])?;
        let sql = "DELETE FROM ids WHERE first_id IN (SELECT first_id FROM ids WHERE first_id < ?1 LIMIT ?2)";
        let deleted = transaction.prepare_cached(sql)?.execute((below, PURGED_ROWS_MAX))?;
        if deleted > 0 {
            crash_point!(11);
        }
        self.purging = deleted == PURGED_ROWS_MAX as usize;
        Ok(true)
    }

    fn newest_is_over(&self, now: Time) -> bool {
        self.index.newest().is_none_or(|bucket| bucket.from.plus_ms(bucket_ms(self.window_ms)) <= now)
    }

    fn open_bucket(&mut self, transaction: &Transaction<'_>, now: Time) -> rusqlite::Result<()> {
        self.flush(transaction)?;
        self.begin_row();
        let values = [self.next, now.as_ms()];
        let sql = "INSERT OR REPLACE INTO bucket(first_id, from_ms, crc) VALUES (?1, ?2, ?3)";
        transaction.prepare_cached(sql)?.execute((values[0], values[1], crc_of(&values)))?;
        self.index.open_bucket(self.next, now);
        Ok(())
    }

    fn begin_row(&mut self) {
        self.tail.clear();
        self.tail_first = self.next;
    }

    fn write_tail(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        write_row(transaction, self.tail_first, &self.tail)
    }
}

/// Gives `each` the ids at `live` positions, in the order of arrival. Returns how many could not be read.
pub(super) fn each_live(
    connection: &Connection,
    live: Range<u64>,
    mut each: impl FnMut(KeyId),
) -> rusqlite::Result<u64> {
    let sql = "SELECT first_id, packed FROM ids WHERE first_id >= ?1 AND first_id < ?2 ORDER BY first_id";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query((live.start, live.end))?;
    let mut read = 0;
    while let Some(row) = rows.next()? {
        let first = row.get(0)?;
        let entries = row.get_ref(1)?.as_blob().ok().and_then(|packed| unpack(first, packed));
        let entries = entries.unwrap_or_default().chunks_exact(ENTRY_BYTES);
        read += entries.len() as u64;
        entries.for_each(|entry| each(id_of(entry)));
    }
    Ok((live.end - live.start).saturating_sub(read))
}

fn write_row(connection: &Connection, first: u64, entries: &[u8]) -> rusqlite::Result<()> {
    let packed = [entries, &checksum(first, entries).to_le_bytes()].concat();
    let sql = "INSERT OR REPLACE INTO ids(first_id, packed) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute((first, packed)).map(|_| ())
}

/// The buckets from `live_from` on. One that cannot be read joins the one before it: its ids then live longer, never
/// shorter.
fn load_buckets(connection: &Connection, live_from: u64) -> rusqlite::Result<Vec<(u64, Time)>> {
    let sql = "SELECT first_id, from_ms, crc FROM bucket WHERE first_id >= ?1 ORDER BY first_id";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([live_from], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let rows: Vec<(u64, u64, u32)> = rows.collect::<Result<_, _>>()?;
    let good = rows.into_iter().filter(|(first, from, crc)| crc_of(&[*first, *from]) == *crc);
    let mut buckets: Vec<_> = good.map(|(first, from, _)| (first, Time::from_ms(from))).collect();
    if let Some((first, from)) = buckets.first().copied()
        && first > live_from
    {
        buckets.insert(0, (live_from, from));
    }
    Ok(buckets)
}

/// Fills ranges of lost positions with ids that nothing has.
fn give_up(connection: &Connection, gaps: &[Range<u64>]) -> rusqlite::Result<()> {
    for gap in gaps {
        for first in gap.clone().step_by(ROW_ENTRIES) {
            let count = (gap.end - first).min(ROW_ENTRIES as u64) as usize;
            write_row(connection, first, &vec![0; count * ENTRY_BYTES])?;
        }
    }
    Ok(())
}

/// The id and body hash at `position`; damage is an error, because a wrong answer here drops a message or repeats one.
fn read(connection: &Connection, position: u64) -> rusqlite::Result<(KeyId, u64)> {
    let sql = "SELECT first_id, packed FROM ids WHERE first_id <= ?1 ORDER BY first_id DESC LIMIT 1";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement
        .query_row([position], |row| {
            let first: u64 = row.get(0)?;
            let entries = row.get_ref(1)?.as_blob().ok().and_then(|packed| unpack(first, packed));
            let at = (position - first) as usize * ENTRY_BYTES;
            Ok(entries.and_then(|entries| entries.get(at..at + ENTRY_BYTES)).map(|e| (id_of(e), body_of(e))))
        })
        .optional()?;
    found.flatten().ok_or_else(|| super::damage("a row of dedup keys"))
}

fn unpack(first: u64, packed: &[u8]) -> Option<&[u8]> {
    let (entries, crc) = packed.split_last_chunk::<CRC_BYTES>()?;
    let whole = !entries.is_empty() && entries.len() % ENTRY_BYTES == 0;
    (whole && checksum(first, entries) == u32::from_le_bytes(*crc)).then_some(entries)
}

fn checksum(first: u64, entries: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&first.to_le_bytes());
    crc.update(entries);
    crc.finalize()
}

fn id_of(entry: &[u8]) -> KeyId {
    std::array::from_fn(|at| entry[at])
}

fn body_of(entry: &[u8]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|at| entry[ID_BYTES + at]))
}
