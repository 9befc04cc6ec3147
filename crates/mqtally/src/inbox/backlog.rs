//! The unsettled messages: rows on disk, and what memory knows of those that are being worked on.
//!
//! A row holds messages that arrived together and never changes. What of it is settled stands in `settled`, a bit a
//! message; when all of it is, both go. So a batch that is handled soon costs one insertion and one deletion.
//! Marks are gathered in memory and written once a transaction.

use super::pack::{MESSAGES_MAX, Pack, Packed, crc as marks_crc};
use super::record::Record;
use super::{damage, expect_rows};
use crate::store::fail::crash_point;
use bytes::Bytes;
use mqtally_proto::Time;
use rusqlite::{Connection, OptionalExtension, Row, Transaction};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) const SCHEMA: &str = "
    CREATE TABLE inbox(
        first_seq INTEGER PRIMARY KEY, messages INTEGER NOT NULL, received_ms INTEGER NOT NULL, packed BLOB NOT NULL);
    CREATE TABLE settled(first_seq INTEGER PRIMARY KEY, bits BLOB NOT NULL, crc INTEGER NOT NULL);";

/// Rows kept in memory, so that what has just arrived is not read back; at least one.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// The rows that are being filled or worked on. All others are on disk only.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pack: Pack,
    /// When the first message of `pack` arrived.
    received_at: Time,
    rows: BTreeMap<u64, Known>,
    /// Rows whose marks differ from those on disk.
    touched: BTreeSet<u64>,
    /// Rows with bytes in memory, the oldest first; some may be gone.
    kept: VecDeque<u64>,
    kept_bytes: usize,
}

/// A row that has messages in the schedule.
#[derive(Debug)]
struct Known {
    marks: Marks,
    /// Whether there is a row of `settled` for it.
    written: bool,
    packed: Option<Packed>,
}

/// Which messages of a row are settled.
#[derive(Debug, Clone)]
struct Marks {
    count: usize,
    left: usize,
    bits: Vec<u8>,
}

impl Backlog {
    /// Puts a message behind all others.
    pub(super) fn append(
        &mut self,
        transaction: &Transaction<'_>,
        sequence: u64,
        record: &Record,
        cursor: u64,
    ) -> rusqlite::Result<()> {
        if !self.pack.takes(sequence) {
            self.write(transaction, cursor)?;
        }
        if self.pack.count() == 0 {
            self.received_at = record.received_at;
        }
        self.pack.push(sequence, record);
        Ok(())
    }

    /// Writes the row that is being filled. It stays known where the schedule, which has seen all below `cursor`, has
    /// messages of it.
    pub(super) fn write(&mut self, transaction: &Transaction<'_>, cursor: u64) -> rusqlite::Result<()> {
        if self.pack.count() == 0 {
            return Ok(());
        }
        let first = self.pack.first();
        let packed = self.pack.seal();
        let sql = "INSERT INTO inbox(first_seq, messages, received_ms, packed) VALUES (?1, ?2, ?3, ?4)";
        let values = (first, packed.count(), self.received_at.as_ms(), &packed.bytes()[..]);
        transaction.prepare_cached(sql)?.execute(values)?;
        crash_point!(2);
        if cursor > first {
            let marks = Marks::none(packed.count());
            self.rows.insert(first, Known { marks, written: false, packed: None });
            self.keep(first, packed);
        }
        Ok(())
    }

    /// The unsettled messages from `from` on of the first row that has any number from there on, and where that row ends.
    pub(super) fn next_row(
        &mut self,
        connection: &Connection,
        from: u64,
    ) -> rusqlite::Result<Option<(Vec<u64>, u64)>> {
        let first = match self.rows.range(..=from).next_back() {
            Some((first, known)) if from < first + known.marks.count as u64 => Some(*first),
            _ => {
                let sql = format!("{SELECT} WHERE inbox.first_seq >= ?1 ORDER BY inbox.first_seq LIMIT 1");
                self.learn(connection, &sql, from)?
            }
        };
        Ok(first.and_then(|first| {
            let marks = &self.rows.get(&first)?.marks;
            let end = first + marks.count as u64;
            let unsettled = (first.max(from)..end).filter(|at| !marks.is_settled((at - first) as usize));
            Some((unsettled.collect(), end))
        }))
    }

    /// Whether the message is there and unsettled.
    pub(super) fn contains(&mut self, connection: &Connection, sequence: u64) -> rusqlite::Result<bool> {
        let sql = format!("{SELECT} WHERE inbox.first_seq <= ?1 ORDER BY inbox.first_seq DESC LIMIT 1");
        if self.row_of(sequence).is_none() {
            self.learn(connection, &sql, sequence)?;
        }
        let found = self.row_of(sequence).and_then(|first| Some((first, self.rows.get(&first)?)));
        Ok(found.is_some_and(|(first, known)| !known.marks.is_settled((sequence - first) as usize)))
    }

    /// The message of a known row; where it is not what was written, the bytes that were found.
    pub(super) fn message(
        &mut self,
        connection: &Connection,
        sequence: u64,
    ) -> rusqlite::Result<Result<Record, Bytes>> {
        let first = self.row_of(sequence).ok_or_else(|| damage("an unsettled message"))?;
        if self.rows.get(&first).is_some_and(|known| known.packed.is_none()) {
            let packed = self.read(connection, first)?;
            self.keep(first, packed);
        }
        let packed = self.rows.get(&first).and_then(|known| known.packed.as_ref());
        packed.map(|packed| packed.message(sequence)).ok_or_else(|| damage("an unsettled message"))
    }

    /// Marks messages of known rows, in ascending order, as settled.
    pub(super) fn settle(&mut self, sequences: &[u64]) -> rusqlite::Result<()> {
        let mut rest = sequences;
        while let Some(sequence) = rest.first() {
            let row = self.rows.range_mut(..=*sequence).next_back();
            let (first, known) = row.ok_or_else(|| damage("an unsettled message"))?;
            let end = first + known.marks.count as u64;
            let (of_row, others) = rest.split_at(rest.partition_point(|sequence| *sequence < end));
            let settled =
                of_row.iter().filter(|sequence| known.marks.settle((*sequence - first) as usize)).count();
            expect_rows(settled, of_row.len().max(1), "an unsettled message")?;
            self.touched.insert(*first);
            rest = others;
        }
        Ok(())
    }

    /// Writes the marks that have changed, and deletes the rows of which nothing is left.
    pub(super) fn write_marks(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for first in std::mem::take(&mut self.touched) {
            match self.rows.get_mut(&first) {
                Some(known) if known.marks.left > 0 => {
                    known.written = true;
                    known.marks.write(transaction, first)?;
                }
                Some(_) => self.delete(transaction, first)?,
                None => {}
            }
        }
        Ok(())
    }

    fn delete(&mut self, transaction: &Transaction<'_>, first: u64) -> rusqlite::Result<()> {
        let Some(known) = self.rows.remove(&first) else { return Ok(()) };
        self.kept_bytes -= known.packed.map_or(0, |packed| packed.bytes().len());
        let deleted =
            transaction.prepare_cached("DELETE FROM inbox WHERE first_seq = ?1")?.execute([first])?;
        expect_rows(deleted, 1, "unsettled messages")?;
        if known.written {
            let sql = "DELETE FROM settled WHERE first_seq = ?1";
            expect_rows(transaction.prepare_cached(sql)?.execute([first])?, 1, "marks of settled messages")?;
        }
        Ok(())
    }

    /// The known row that holds this number.
    fn row_of(&self, sequence: u64) -> Option<u64> {
        let (first, known) = self.rows.range(..=sequence).next_back()?;
        (sequence - first < known.marks.count as u64).then_some(*first)
    }

    /// Makes the row that `sql` finds known.
    fn learn(&mut self, connection: &Connection, sql: &str, number: u64) -> rusqlite::Result<Option<u64>> {
        let mut statement = connection.prepare_cached(sql)?;
        let Some(found) = statement.query_row([number], read_marks).optional()? else { return Ok(None) };
        let marks = found.marks.ok_or_else(|| damage("marks of settled messages"))?;
        let known = Known { marks, written: found.written, packed: None };
        self.rows.entry(found.first).or_insert(known);
        Ok(Some(found.first))
    }

    fn read(&self, connection: &Connection, first: u64) -> rusqlite::Result<Packed> {
        let sql = "SELECT messages, packed FROM inbox WHERE first_seq = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let read = |row: &Row<'_>| {
            Ok(Packed::read(first, row.get(0)?, Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?)))
        };
        statement.query_row([first], read).optional()?.ok_or_else(|| damage("a batch of messages"))
    }

    fn keep(&mut self, first: u64, packed: Packed) {
        let Some(known) = self.rows.get_mut(&first) else { return };
        self.kept_bytes += packed.bytes().len();
        known.packed = Some(packed);
        self.kept.push_back(first);
        while self.kept.front().is_some_and(|oldest| !self.is_kept(*oldest))
            || (self.kept_bytes > KEPT_BYTES_MAX && self.kept.len() > 1)
        {
            let oldest = self.kept.pop_front();
            let dropped = oldest.and_then(|oldest| self.rows.get_mut(&oldest)?.packed.take());
            self.kept_bytes -= dropped.map_or(0, |packed| packed.bytes().len());
        }
    }

    fn is_kept(&self, first: u64) -> bool {
        self.rows.get(&first).is_some_and(|known| known.packed.is_some())
    }
}

impl Marks {
    fn none(count: usize) -> Self {
        Self { count, left: count, bits: vec![0; count.div_ceil(8)] }
    }

    /// Marks as they are on disk, if they are what was written.
    fn of(count: usize, first: u64, bits: &[u8], crc: u32) -> Option<Self> {
        let settled = bits.iter().map(|byte| byte.count_ones() as usize).sum();
        let whole = bits.len() == count.div_ceil(8) && marks_crc(first, bits) == crc;
        whole
            .then_some(())
            .and_then(|()| Some(Self { count, left: count.checked_sub(settled)?, bits: bits.to_vec() }))
    }

    fn is_settled(&self, at: usize) -> bool {
        self.bits.get(at / 8).is_none_or(|byte| byte & 1 << (at % 8) != 0)
    }

    /// Whether it was not settled before.
    fn settle(&mut self, at: usize) -> bool {
        if self.is_settled(at) {
            return false;
        }
        self.bits[at / 8] |= 1 << (at % 8);
        self.left -= 1;
        true
    }

    fn write(&self, transaction: &Transaction<'_>, first: u64) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO settled(first_seq, bits, crc) VALUES (?1, ?2, ?3)";
        let values = (first, &self.bits, marks_crc(first, &self.bits));
        transaction.prepare_cached(sql)?.execute(values).map(|_| ())
    }
}

const SELECT: &str = "
    SELECT inbox.first_seq, messages, bits, crc
    FROM inbox LEFT JOIN settled ON settled.first_seq = inbox.first_seq";

/// A row's numbers and marks.
struct Found {
    first: u64,
    /// Absent when they are damaged.
    marks: Option<Marks>,
    written: bool,
    count: usize,
}

fn read_marks(row: &Row<'_>) -> rusqlite::Result<Found> {
    let (first, count) = (row.get(0)?, row.get::<_, usize>(1)?.min(MESSAGES_MAX));
    let bits = row.get_ref(2)?.as_blob_or_null();
    let (written, marks) = match bits {
        Ok(None) => (false, Some(Marks::none(count))),
        Ok(Some(bits)) => (true, Marks::of(count, first, bits, row.get(3).unwrap_or_default())),
        Err(_) => (true, None),
    };
    Ok(Found { first, marks, written, count })
}

/// What is on disk, as far as it can be told without the messages themselves.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Unsettled messages.
    pub(super) unsettled: u64,
    /// Rows that overlap others or lie beyond the end.
    misplaced: Vec<u64>,
    /// Rows whose marks cannot be read, and marks without a row.
    unmarked: Vec<u64>,
}

impl Survey {
    /// Looks at all rows; numbers below `end` were given out.
    pub(super) fn take(connection: &Connection, end: u64) -> rusqlite::Result<Self> {
        let (mut survey, mut free) = (Self::default(), 0);
        let mut statement = connection.prepare(&format!("{SELECT} ORDER BY inbox.first_seq"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let found = read_marks(row)?;
            let range = found.first..found.first.saturating_add(found.count as u64);
            if range.is_empty() || range.start < free || range.end > end {
                survey.misplaced.push(found.first);
                continue;
            }
            free = range.end;
            survey.unsettled += found.marks.as_ref().map_or(found.count, |marks| marks.left) as u64;
            survey.unmarked.extend(found.marks.is_none().then_some(found.first));
        }
        let sql = "SELECT first_seq FROM settled WHERE first_seq NOT IN (SELECT first_seq FROM inbox)";
        let mut orphans = connection.prepare(sql)?;
        let orphans = orphans.query_map([], |row| row.get(0))?;
        survey.unmarked.extend(orphans.collect::<rusqlite::Result<Vec<u64>>>()?);
        Ok(survey)
    }

    /// What is damaged.
    pub(super) fn damage(&self) -> Vec<String> {
        let rows =
            (!self.misplaced.is_empty()).then(|| format!("{} batches of messages", self.misplaced.len()));
        let marks = (!self.unmarked.is_empty())
            .then(|| format!("the done marks of {} batches; these are handled again", self.unmarked.len()));
        rows.into_iter().chain(marks).collect()
    }

    /// Deletes what is damaged, after the loss was accepted.
    pub(super) fn give_up(&self, connection: &Connection) -> rusqlite::Result<()> {
        for first in &self.misplaced {
            connection.execute("DELETE FROM inbox WHERE first_seq = ?1", [first])?;
        }
        for first in self.misplaced.iter().chain(&self.unmarked) {
            connection.execute("DELETE FROM settled WHERE first_seq = ?1", [first])?;
        }
        Ok(())
    }
}

/// Gives `each` all unsettled messages that can be read.
pub(super) fn each_unsettled(connection: &Connection, mut each: impl FnMut(Record)) -> rusqlite::Result<()> {
    let sql = "SELECT inbox.first_seq, messages, bits, crc, packed
               FROM inbox LEFT JOIN settled ON settled.first_seq = inbox.first_seq";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let found = read_marks(row)?;
        let packed =
            Packed::read(found.first, found.count, Bytes::copy_from_slice(row.get_ref(4)?.as_blob()?));
        let marks = found.marks.unwrap_or_else(|| Marks::none(found.count));
        for at in (0..found.count).filter(|at| !marks.is_settled(*at)) {
            packed.message(found.first + at as u64).into_iter().for_each(&mut each);
        }
    }
    Ok(())
}

/// When the oldest row arrived.
pub(super) fn oldest(connection: &Connection) -> rusqlite::Result<Option<Time>> {
    let sql = "SELECT received_ms FROM inbox ORDER BY first_seq LIMIT 1";
    let found: Option<u64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(found.map(Time::from_ms))
}
