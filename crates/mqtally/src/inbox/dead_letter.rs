//! Messages that were given up: kept, listed, edited, replayed, purged.
//!
//! [`DeadLetters`] works on the store's file from any process, also while a consumer runs. It never moves a message into the
//! inbox itself: a replay is asked for in the dead letter's row, and the consumer takes it in its own transaction, now or when it
//! starts. The replay has a new place in the inbox and the next replay epoch, so neither its own dedup key nor a receiver's
//! done mark stops it.

use super::key;
use super::record::{COLUMNS, Record, decode_properties};
use super::state::State;
use crate::store::StoreError;
use crate::store::fail::crash_point;
use crate::store::sqlite;
use bytes::Bytes;
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Qos};
use mqtally_proto::topic;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub(super) const SCHEMA: &str = "
    CREATE TABLE dead(
        seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, received_ms INTEGER NOT NULL, qos INTEGER NOT NULL,
        retain INTEGER NOT NULL, replay INTEGER NOT NULL, lane INTEGER, key TEXT, topic TEXT NOT NULL,
        props BLOB NOT NULL, payload BLOB NOT NULL, died_ms INTEGER NOT NULL, attempts INTEGER NOT NULL,
        reason TEXT NOT NULL, errors TEXT NOT NULL, edited INTEGER NOT NULL DEFAULT 0,
        replay_asked INTEGER NOT NULL DEFAULT 0);
    CREATE INDEX dead_asked ON dead(seq) WHERE replay_asked = 1;
    CREATE TABLE dead_count(id INTEGER PRIMARY KEY CHECK (id = 1), n INTEGER NOT NULL);
    INSERT INTO dead_count VALUES (1, 0);
    CREATE TRIGGER dead_added AFTER INSERT ON dead BEGIN UPDATE dead_count SET n = n + 1; END;
    CREATE TRIGGER dead_removed AFTER DELETE ON dead BEGIN UPDATE dead_count SET n = n - 1; END;";

/// Errors kept of one message: the first and the last ones.
const ERRORS_MAX: usize = 16;
const ERROR_BYTES_MAX: usize = 1_024;
/// Dead letters that one page looks at, so that its transaction is short.
const SCANNED_ROWS_MAX: usize = 10_000;
/// Payload that one page holds, but for what its last letter has beyond it.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// Replays that the consumer takes in one transaction.
const REPLAYS_MAX: usize = 256;

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Its attempts were used up.
    Exhausted,
    /// The handler said so.
    Handler,
    /// Its key was known with another body.
    Conflict,
    /// Its row in the store was damaged.
    Damaged,
}

/// One failure of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorNote {
    /// Wall clock, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What the handler said.
    pub error: String,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number in the inbox.
    pub sequence: u64,
    /// Wall clock when it was given up.
    pub died_at: Time,
    /// Attempts that were made.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: Reason,
    /// What failed, oldest first.
    pub errors: Vec<ErrorNote>,
    /// Whether its payload was edited.
    pub edited: bool,
    /// Whether a replay was asked for and not taken yet.
    pub replay_asked: bool,
    /// The message; absent when the row's checksum does not hold.
    pub message: Option<DeadMessage>,
}

/// The message of a [`DeadLetter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadMessage {
    /// Topic name.
    pub topic: String,
    /// Quality of service with which it arrived.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// The application's 5.0 properties.
    pub properties: Properties,
    /// Application payload.
    pub payload: Bytes,
    /// Text of its dedup key.
    pub key: Option<String>,
    /// Which replay it was; 0 for the original.
    pub replay: u32,
    /// Wall clock at reception.
    pub received_at: Time,
}

/// Which dead letters; all where nothing is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Topic filter. A damaged message has no topic and passes none.
    pub filter: Option<String>,
    /// Why they were given up.
    pub reason: Option<Reason>,
    /// Given up before this, by the wall clock.
    pub died_before: Option<Time>,
}

/// Some dead letters in the order in which they arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// What was selected.
    pub letters: Vec<DeadLetter>,
    /// Where the next page begins; absent when this was the last.
    pub next: Option<u64>,
}

/// The dead letters of a store.
#[derive(Debug)]
pub struct DeadLetters(Place);

#[derive(Debug)]
enum Place {
    File(FileLetters),
    #[cfg(feature = "postgres")]
    Shared(Box<super::postgres::letters::Letters>),
}

impl DeadLetters {
    /// Opens the dead letters of the inbox at `path`.
    pub fn attach(path: &Path) -> Result<Self, StoreError> {
        let connection = sqlite::attach(path, &super::LAYOUT)?;
        Ok(Self(Place::File(FileLetters { connection, path: path.to_owned() })))
    }

    /// Opens the dead letters of the shared inbox at `url`.
    #[cfg(feature = "postgres")]
    pub fn attach_shared(url: &crate::store::postgres::Url) -> Result<Self, StoreError> {
        super::postgres::letters::Letters::attach(url).map(|letters| Self(Place::Shared(Box::new(letters))))
    }

    /// Up to `limit` dead letters from number `from` on, and no more than 16 MiB of payload and one letter; page on with
    /// [`Page::next`].
    pub fn list(&self, selection: &Selection, from: u64, limit: usize) -> Result<Page, StoreError> {
        match &self.0 {
            Place::File(letters) => letters.list(selection, from, limit),
            #[cfg(feature = "postgres")]
            Place::Shared(letters) => letters.list(selection, from, limit),
        }
    }

    /// The dead letter with this number.
    pub fn show(&self, sequence: u64) -> Result<Option<DeadLetter>, StoreError> {
        match &self.0 {
            Place::File(letters) => letters.show(sequence),
            #[cfg(feature = "postgres")]
            Place::Shared(letters) => letters.show(sequence),
        }
    }

    /// Replaces the payload. Returns whether there is such a dead letter, and it is not damaged.
    pub fn edit(&mut self, sequence: u64, payload: &[u8]) -> Result<bool, StoreError> {
        match &mut self.0 {
            Place::File(letters) => letters.edit(sequence, payload),
            #[cfg(feature = "postgres")]
            Place::Shared(letters) => letters.edit(sequence, payload),
        }
    }

    /// Asks for the replay of these, and returns those that will be; damaged and unknown ones will not. A `dry_run` asks for
    /// nothing. How many at a time is the caller's choice.
    pub fn replay(&mut self, sequences: &[u64], dry_run: bool) -> Result<Vec<u64>, StoreError> {
        match &mut self.0 {
            Place::File(letters) => letters.replay(sequences, dry_run),
            #[cfg(feature = "postgres")]
            Place::Shared(letters) => letters.replay(sequences, dry_run),
        }
    }

    /// Deletes these for good. Returns how many there were.
    pub fn purge(&mut self, sequences: &[u64]) -> Result<usize, StoreError> {
        match &mut self.0 {
            Place::File(letters) => letters.purge(sequences),
            #[cfg(feature = "postgres")]
            Place::Shared(letters) => letters.purge(sequences),
        }
    }
}

/// Those of a SQLite file.
#[derive(Debug)]
struct FileLetters {
    connection: Connection,
    path: PathBuf,
}

impl FileLetters {
    fn list(&self, selection: &Selection, from: u64, limit: usize) -> Result<Page, StoreError> {
        self.page(selection, from, limit).map_err(|error| self.failed(error))
    }

    fn show(&self, sequence: u64) -> Result<Option<DeadLetter>, StoreError> {
        let sql = format!("SELECT {COLUMNS}, {OWN_COLUMNS} FROM dead WHERE seq = ?1");
        let found = self
            .connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_row([sequence], DeadLetter::read).optional());
        found.map_err(|error| self.failed(error))
    }

    fn edit(&mut self, sequence: u64, payload: &[u8]) -> Result<bool, StoreError> {
        self.in_transaction(|transaction| {
            let Some(mut record) = read_record(transaction, sequence)? else { return Ok(false) };
            record.payload = Bytes::copy_from_slice(payload);
            let sql = "UPDATE dead SET payload = ?2, crc = ?3, edited = 1 WHERE seq = ?1";
            transaction.execute(sql, (sequence, payload, record.crc(sequence))).map(|changed| changed == 1)
        })
    }

    fn replay(&mut self, sequences: &[u64], dry_run: bool) -> Result<Vec<u64>, StoreError> {
        self.in_transaction(|transaction| {
            let mut asked = Vec::new();
            for sequence in sequences {
                if read_record(transaction, *sequence)?.is_none() {
                    continue;
                }
                asked.push(*sequence);
                if !dry_run {
                    transaction.execute("UPDATE dead SET replay_asked = 1 WHERE seq = ?1", [sequence])?;
                }
            }
            Ok(asked)
        })
    }

    fn purge(&mut self, sequences: &[u64]) -> Result<usize, StoreError> {
        self.in_transaction(|transaction| {
            let mut statement = transaction.prepare("DELETE FROM dead WHERE seq = ?1")?;
            sequences.iter().try_fold(0, |purged, sequence| Ok(purged + statement.execute([sequence])?))
        })
    }

    fn page(&self, selection: &Selection, from: u64, limit: usize) -> rusqlite::Result<Page> {
        let sql = format!("SELECT {COLUMNS}, {OWN_COLUMNS} FROM dead WHERE seq >= ?1 ORDER BY seq LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query((from, SCANNED_ROWS_MAX + 1))?;
        let (mut page, mut scanned, mut bytes) = (Page::default(), 0, 0);
        while let Some(row) = rows.next()? {
            if page.letters.len() == limit || scanned == SCANNED_ROWS_MAX || bytes >= PAGE_BYTES_MAX {
                page.next = Some(row.get(0)?);
                break;
            }
            scanned += 1;
            let letter = Some(DeadLetter::read(row)?).filter(|letter| selection.takes(letter));
            bytes += letter.as_ref().map_or(0, DeadLetter::payload_bytes);
            page.letters.extend(letter);
        }
        Ok(page)
    }

    fn in_transaction<T>(
        &mut self,
        act: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let done = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).and_then(
            |transaction| {
                let value = act(&transaction)?;
                transaction.commit()?;
                Ok(value)
            },
        );
        done.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(&self.path, error)
    }
}

impl Selection {
    pub(super) fn takes(&self, letter: &DeadLetter) -> bool {
        let topic = letter.message.as_ref().map(|message| message.topic.as_str());
        self.reason.is_none_or(|reason| reason == letter.reason)
            && self.died_before.is_none_or(|before| letter.died_at < before)
            && self
                .filter
                .as_ref()
                .is_none_or(|filter| topic.is_some_and(|topic| topic::matches(filter, topic)))
    }
}

const OWN_COLUMNS: &str = "died_ms, attempts, reason, errors, edited, replay_asked";

impl DeadLetter {
    fn payload_bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.payload.len())
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let (sequence, record) = Record::read(row)?;
        let errors: String = row.get(14)?;
        Ok(Self {
            sequence,
            died_at: Time::from_ms(row.get(11)?),
            attempts: row.get(12)?,
            reason: Reason::named(&row.get::<_, String>(13)?),
            errors: serde_json::from_str(&errors).unwrap_or_default(),
            edited: row.get(15)?,
            replay_asked: row.get(16)?,
            message: record.map(DeadMessage::from),
        })
    }
}

impl From<Record> for DeadMessage {
    fn from(record: Record) -> Self {
        Self {
            topic: record.topic.to_string(),
            qos: record.qos,
            retain: record.retain,
            properties: decode_properties(&record.properties),
            payload: record.payload,
            key: record.key,
            replay: record.replay,
            received_at: record.received_at,
        }
    }
}

impl Reason {
    /// Its name in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Handler => "handler",
            Self::Conflict => "conflict",
            Self::Damaged => "damaged",
        }
    }

    pub(super) fn named(name: &str) -> Self {
        let all = [Self::Exhausted, Self::Handler, Self::Conflict];
        all.into_iter().find(|reason| reason.name() == name).unwrap_or(Self::Damaged)
    }
}

impl ErrorNote {
    /// `earlier`, a chain as it is stored, and one more; the first and the last ones are kept.
    pub(super) fn chain(earlier: Option<&str>, at: Time, error: &str) -> String {
        let mut notes: Vec<Self> =
            earlier.and_then(|chain| serde_json::from_str(chain).ok()).unwrap_or_default();
        if notes.len() >= ERRORS_MAX {
            notes.remove(1);
        }
        let end = error.floor_char_boundary(ERROR_BYTES_MAX);
        notes.push(Self { at_ms: at.as_ms(), error: error[..end].to_owned() });
        serde_json::to_string(&notes).unwrap_or_default()
    }
}

/// Puts a message among the dead letters; of a damaged one the bytes that were found.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    sequence: u64,
    message: Result<&Record, Bytes>,
    (died_at, attempts, reason): (Time, u32, Reason),
    errors: &str,
) -> rusqlite::Result<()> {
    let values = "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15";
    let sql = format!("INSERT INTO dead({COLUMNS}, died_ms, attempts, reason, errors) VALUES ({values})");
    let stand_in;
    let (record, crc) = match message {
        Ok(record) => (record, record.crc(sequence)),
        Err(found) => {
            stand_in = Record::damaged(found);
            (&stand_in, !stand_in.crc(sequence))
        }
    };
    let values = rusqlite::params![
        sequence,
        crc,
        record.received_at.as_ms(),
        record.qos as u8,
        record.retain,
        record.replay,
        record.lane.map(|lane| lane.0.cast_signed()),
        record.key.as_deref(),
        &*record.topic,
        &record.properties[..],
        &record.payload[..],
        died_at.as_ms(),
        attempts,
        reason.name(),
        errors,
    ];
    transaction.prepare_cached(&sql)?.execute(values).map(|_| ())
}

/// How many dead letters there are.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.prepare_cached("SELECT n FROM dead_count")?.query_row([], |row| row.get(0))
}

/// When the first of them was received.
pub(super) fn oldest(connection: &Connection) -> rusqlite::Result<Option<Time>> {
    let sql = "SELECT received_ms FROM dead ORDER BY seq LIMIT 1";
    let oldest = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(oldest.map(Time::from_ms))
}

/// What is missing, if the table and its counter differ; the counter is corrected.
pub(super) fn count_differs(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let counted = count(connection)?;
    let found: u64 = connection.query_row("SELECT count(*) FROM dead", [], |row| row.get(0))?;
    Ok((found != counted).then(|| format!("dead letters: {found} of {counted} are there")))
}

/// Makes the counter what was found, after a loss was accepted.
pub(super) fn correct_count(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute("UPDATE dead_count SET n = (SELECT count(*) FROM dead)", []).map(|_| ())
}

impl State {
    /// Moves the dead letters whose replay was asked for to the end of the inbox. Returns how many.
    pub(crate) fn take_replays(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<usize> {
        let sql = "SELECT seq FROM dead WHERE replay_asked = 1 ORDER BY seq LIMIT ?1";
        let mut statement = transaction.prepare_cached(sql)?;
        let asked = statement.query_map([REPLAYS_MAX], |row| row.get(0))?;
        let asked: Vec<u64> = asked.collect::<Result<_, _>>()?;
        for sequence in &asked {
            self.dirty = true;
            self.replay(transaction, *sequence)?;
        }
        Ok(asked.len())
    }

    fn replay(&mut self, transaction: &Transaction<'_>, sequence: u64) -> rusqlite::Result<()> {
        let Some(mut record) = read_record(transaction, sequence)? else {
            let sql = "UPDATE dead SET replay_asked = 0, reason = 'damaged' WHERE seq = ?1";
            return transaction.execute(sql, [sequence]).map(|_| ());
        };
        record.replay = record.replay.saturating_add(1);
        self.append(transaction, record)?;
        transaction.prepare_cached("DELETE FROM dead WHERE seq = ?1")?.execute([sequence])?;
        crash_point!(10);
        self.tally.replayed += 1;
        Ok(())
    }
}

fn read_record(transaction: &Transaction<'_>, sequence: u64) -> rusqlite::Result<Option<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM dead WHERE seq = ?1");
    let found = transaction.prepare_cached(&sql)?.query_row([sequence], Record::read).optional()?;
    Ok(found.and_then(|(_, record)| record))
}

impl DeadMessage {
    /// The user property that marks a replay of this message through a broker.
    pub fn replay_property(&self) -> (&'static str, String) {
        (key::REPLAY_PROPERTY, self.replay.saturating_add(1).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_chain_keeps_its_first_and_last_and_cuts_at_characters() {
        let mut chain = None;
        for n in 0..40 {
            chain = Some(ErrorNote::chain(
                chain.as_deref(),
                Time::from_ms(n),
                &format!("{n}{}", "é".repeat(2_000)),
            ));
        }
        let notes: Vec<ErrorNote> = serde_json::from_str(&chain.unwrap()).unwrap();
        assert_eq!((notes.len(), notes[0].at_ms, notes[1].at_ms, notes[15].at_ms), (16, 0, 25, 39));
        assert!(notes.iter().all(|note| note.error.len() <= ERROR_BYTES_MAX));
    }
}
