//! What the broker keeps on disk: its durable state in one SQLite database.
//!
//! - [`Store::open`] takes the database of a directory for this process alone, checks it and loads it.
//! - [`Store::apply`] collects [`Change`]s, [`Store::commit`] makes all of them durable in one transaction.
//! - [`Store::close`] moves everything into the main file.
//!
//! After an error from [`Store::commit`] nothing is known about what reached the disk: the store has to be dropped
//! and opened again, and nothing of that batch may be acknowledged.

mod error;
mod load;
mod pending;
mod properties;
mod rows;
mod watermark;
mod write;

pub use error::{StoreError, StoreErrorKind};

use mqtally_proto::Time;
use mqtally_proto::broker::{Change, Stored};
use pending::Pending;
use rows::Flows;
use rusqlite::Connection;
use std::fs::File;
use std::path::{Path, PathBuf};
use watermark::Watermark;

/// The version of the format that this program writes.
const FORMAT: u32 = 1;
/// Marks a SQLite file as ours (`PRAGMA application_id`): "mqtb".
const APPLICATION_ID: u32 = 0x6D71_7462;
const DATABASE_FILE: &str = "broker.sqlite";
const WATERMARK_FILE: &str = "broker.watermark";
/// Pages in the log before they are moved into the main file: 16 MiB at 4 KiB a page.
const CHECKPOINT_PAGES: u32 = 4_000;

const SCHEMA: &str = "
CREATE TABLE meta(
    id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER NOT NULL, commits INTEGER NOT NULL, time_ms INTEGER NOT NULL);
CREATE TABLE session(id INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE subscription(
    session INTEGER NOT NULL, filter TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (session, filter)) WITHOUT ROWID;
CREATE TABLE delivery(
    session INTEGER NOT NULL, sequence INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (session, sequence)) WITHOUT ROWID;
CREATE TABLE flow(session INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE message(id INTEGER PRIMARY KEY, topic TEXT NOT NULL, payload BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE retained(topic TEXT PRIMARY KEY, payload BLOB NOT NULL, body BLOB NOT NULL);
";

/// How far a commit has to reach before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// To the disk: what was acknowledged survives a power failure.
    Full,
    /// To the operating system: what was acknowledged survives kill -9, and a power failure may undo or damage it.
    Off,
}

/// The broker's durable state, open for this process alone.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    connection: Connection,
    pending: Pending,
    waiting_since: Option<Time>,
    flows: Flows,
    commits: u64,
    time: Time,
    watermark: Option<Watermark>,
}

impl Store {
    /// Opens the store in `directory`, both created when absent, and loads what it holds.
    ///
    /// # Errors
    /// [`StoreErrorKind::Locked`] when a broker has it open already, [`StoreErrorKind::Newer`] when a later program
    /// wrote it, [`StoreErrorKind::Damaged`] and [`StoreErrorKind::Behind`] when it does not hold what was acknowledged.
    pub fn open(directory: &Path, sync: Sync) -> Result<(Self, Stored), StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| StoreError::io("create", directory, source))?;
        let file = directory.join(DATABASE_FILE);
        let connection = connect(&file, sync)?;
        let loaded = load::load(&connection, &file)?;
        // A new file survives a power failure only when its directory entry does.
        File::open(directory)
            .and_then(|entries| entries.sync_all())
            .map_err(|source| StoreError::io("sync", directory, source))?;
        let watermark_file = directory.join(WATERMARK_FILE);
        let watermark = match sync {
            Sync::Full => Some(Watermark::open(&watermark_file, loaded.commits)?),
            Sync::Off => Watermark::remove(&watermark_file)?,
        };
        let store = Self {
            directory: directory.to_owned(),
            connection,
            pending: Pending::default(),
            waiting_since: None,
            flows: loaded.flows,
            commits: loaded.commits,
            time: loaded.time,
            watermark,
        };
        Ok((store, loaded.stored))
    }

    /// The time of the last commit; the clock must not go behind it.
    pub fn time(&self) -> Time {
        self.time
    }

    /// Takes a change for the next commit. What a later change of the same batch undoes is never written.
    pub fn apply(&mut self, now: Time, change: Change) {
        self.waiting_since.get_or_insert(now);
        self.pending.apply(change, &mut self.flows);
    }

    /// When the oldest change was applied that is not committed; `None` when all are.
    pub fn waiting_since(&self) -> Option<Time> {
        self.waiting_since
    }

    /// Makes everything applied since the last commit durable; nothing to write costs nothing.
    ///
    /// Returns whether there was something to write.
    ///
    /// # Errors
    /// The disk's or SQLite's. The store must then be dropped, and what was applied must not be acknowledged.
    pub fn commit(&mut self, now: Time) -> Result<bool, StoreError> {
        self.waiting_since = None;
        if self.pending.is_empty() {
            self.pending.clear();
            return Ok(false);
        }
        self.commits += 1;
        self.time = now;
        write::write(&self.connection, &mut self.pending, &self.flows, self.commits, now)
            .map_err(|source| StoreError::sqlite("write to", &self.directory.join(DATABASE_FILE), source))?;
        if let Some(watermark) = &mut self.watermark {
            watermark.advance(self.commits)?;
        }
        Ok(true)
    }

    /// Moves the log into the main file and closes it.
    ///
    /// # Errors
    /// The disk's or SQLite's; what was committed stays in the log and is found at the next start.
    pub fn close(self) -> Result<(), StoreError> {
        let file = self.directory.join(DATABASE_FILE);
        self.connection
            .pragma_update(None, "wal_checkpoint", "TRUNCATE")
            .and_then(|()| self.connection.close().map_err(|(_, source)| source))
            .map_err(|source| StoreError::sqlite("close", &file, source))
    }
}

fn connect(file: &Path, sync: Sync) -> Result<Connection, StoreError> {
    let connection = Connection::open(file).map_err(|source| StoreError::sqlite("open", file, source))?;
    set_up(&connection, sync).map_err(|source| StoreError::sqlite("open", file, source))?;
    check_format(&connection, file)?;
    Ok(connection)
}

fn set_up(connection: &Connection, sync: Sync) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(32);
    connection.busy_timeout(std::time::Duration::ZERO)?;
    // Exclusive before WAL: no shared-memory file, and a second opener is turned away.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = match sync {
        Sync::Full => "FULL",
        Sync::Off => "OFF",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    // A write transaction, so that the lock is held from here on.
    connection.execute_batch("BEGIN IMMEDIATE; COMMIT")
}

fn check_format(connection: &Connection, file: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::sqlite("read", file, source);
    let tables: u32 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if tables == 0 {
        return create(connection).map_err(|source| StoreError::sqlite("create", file, source));
    }
    let id: u32 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    if id != APPLICATION_ID {
        return Err(StoreError::new(file, StoreErrorKind::Foreign));
    }
    let found: u32 = connection.query_row("SELECT format FROM meta", [], |row| row.get(0)).map_err(failed)?;
    if found != FORMAT {
        return Err(StoreError::new(file, StoreErrorKind::Newer { found, known: FORMAT }));
    }
    Ok(())
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.execute("INSERT INTO meta VALUES (1, ?1, 0, 0)", [FORMAT])?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()
}
