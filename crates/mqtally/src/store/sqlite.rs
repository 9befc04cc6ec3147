//! A store in one SQLite file.
//!
//! A write-ahead log with one writer, which syncs it beside the next transaction: nothing that waits for a commit is
//! [let go of](Store::release) before that is on disk. [`Store::open`] takes the file for this process; [`attach`] opens it beside
//! its owner, for administration in short transactions. Nothing is changed in a file that is not ours.

use super::StoreError;
use super::fail::crash_point;
use super::mark::{Mark, Reading};
pub use super::syncer::{Ended, Waiting};
use super::syncer::{LOOK_INTERVAL, Syncer};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// `application_id` in the file's header: "mqty".
const APPLICATION_ID: i32 = 0x6d71_7479;
/// How long one side waits for the other's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Pages between two checkpoints: 16 MiB of WAL.
const CHECKPOINT_PAGES: u32 = 4_096;

/// What a kind of store consists of.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// What the file holds: `inbox`, `outbox`.
    pub kind: &'static str,
    /// Format version: what this program writes, and the only one that it reads.
    pub version: i32,
    /// Bytes of pages that are kept in memory.
    pub cache_bytes: u32,
    /// Tables of an empty store. One of them is `tally`, whose only row has the column `commits`.
    pub schema: fn() -> String,
}

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Bytes that the database may grow to; the disk's limit when absent.
    pub bytes_max: Option<u64>,
    /// Go on with a store that is older than its watermark or lost it, or whose rows are damaged: what is lost is lost.
    pub accept_loss: bool,
    /// Write errors to come.
    #[cfg(feature = "failpoints")]
    pub faults: Option<Arc<super::fail::Faults>>,
}

/// Something that was found and repaired at opening; to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice(pub String);

/// Ownership of a store's file; ends when dropped, or with the process.
#[derive(Debug)]
pub struct Lock {
    #[expect(dead_code, reason = "held for the operating system's lock on it")]
    file: File,
}

/// An open store: this process's alone, but for [`attach`]ed administration.
#[derive(Debug)]
pub struct Store {
    /// Dropped first: the file is ours until the last commit is on disk.
    syncer: Syncer,
    connection: Connection,
    path: PathBuf,
    id: [u8; 16],
    lock: Arc<Lock>,
    options: Options,
}

impl Store {
    /// Opens the store at `path`, or makes it where nothing is there, and takes it for this process.
    /// Also returns what was repaired.
    pub fn open(path: &Path, layout: &Layout, options: &Options) -> Result<(Self, Vec<Notice>), StoreError> {
        let lock = Arc::new(Lock::take(path)?);
        Self::open_locked(path, layout, options, lock)
    }

    /// Opens again after a failure, without letting go of the file. A loss is not accepted here.
    pub fn reopen(
        path: &Path,
        layout: &Layout,
        options: &Options,
        lock: Arc<Lock>,
    ) -> Result<(Self, Vec<Notice>), StoreError> {
        Self::open_locked(path, layout, &Options { accept_loss: false, ..options.clone() }, lock)
    }

    fn open_locked(
        path: &Path,
        layout: &Layout,
        options: &Options,
        lock: Arc<Lock>,
    ) -> Result<(Self, Vec<Notice>), StoreError> {
        let reading = Mark::read(path)?;
        let connection = connect(path, layout, options, reading)?;
        let failed = |error| StoreError::from_sqlite(path, error);
        let id = store_id(&connection).map_err(failed)?;
        let commits: u64 =
            connection.query_row("SELECT commits FROM tally", [], |row| row.get(0)).map_err(failed)?;
        let notices = judge(path, reading, id, commits, options.accept_loss)?;
        let mark = Mark::open(path, id, commits)?;
        #[cfg(feature = "failpoints")]
        let syncer = Syncer::start(path, mark, options.faults.clone())?;
        #[cfg(not(feature = "failpoints"))]
        let syncer = Syncer::start(path, mark, ())?;
        let (path, options) = (path.to_owned(), options.clone());
        Ok((Self { syncer, connection, path, id, lock, options }, notices))
    }

    /// The database. Writing goes through [`begin`](Self::begin).
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// This store's own id: random, made with it.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Ownership of the file, to be carried over a [`reopen`](Self::reopen).
    pub fn lock(&self) -> Arc<Lock> {
        Arc::clone(&self.lock)
    }

    /// Begins a transaction. Its commit survives the death of the process; the disk has it when what is
    /// [released](Self::release) behind it is let go of.
    pub fn begin(&mut self) -> rusqlite::Result<Writing<'_>> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(Writing {
            transaction,
            #[cfg(feature = "failpoints")]
            faults: self.options.faults.as_deref(),
        })
    }

    /// Lets go of `waiting` when all that was handed over before it was let go of and, if `durable`, commit number `commit`
    /// is on disk and noted in the watermark. Does not wait for that.
    pub fn release(&self, commit: u64, durable: bool, waiting: Waiting) {
        self.syncer.release(commit, durable, waiting);
    }

    /// Waits until commit number `commit` is on disk.
    pub fn sync(&self, commit: u64) -> Result<(), StoreError> {
        let (done, synced) = std::sync::mpsc::channel();
        self.release(commit, true, Box::new(move || _ = done.send(())));
        while let Err(error) = synced.recv_timeout(LOOK_INTERVAL) {
            if error == RecvTimeoutError::Disconnected || self.has_failed() {
                let source = std::io::Error::other("the log could not be synced");
                return Err(StoreError::from_io(&self.path, "sync the log", source));
            }
        }
        Ok(())
    }

    /// Waits until at most `most` commits wait for the disk, or none gets there any more: a writer that runs ahead of the disk
    /// makes more and smaller transactions.
    pub fn wait(&self, most: usize) {
        self.syncer.wait(most);
    }

    /// How often the log was synced since the store was opened.
    pub fn syncs(&self) -> u64 {
        self.syncer.syncs()
    }

    /// Whether commits do not reach the disk any more; [`end`](Self::end) says why.
    pub fn has_failed(&self) -> bool {
        self.syncer.has_failed()
    }

    /// Waits until all is let go of that can be, and closes the file.
    pub fn end(mut self) -> Ended {
        self.syncer.end()
    }

    /// Writes everything that is in the log to its place, synced: for a log that could not be synced, and that the system
    /// may take for clean since.
    pub fn settle_log(&self) -> Result<(), StoreError> {
        let failed = |error| StoreError::from_sqlite(&self.path, error);
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: bool = self.connection.query_row(sql, [], |row| row.get(0)).map_err(failed)?;
        let source = || std::io::Error::other("another process reads it; end that");
        if busy { Err(StoreError::from_io(&self.path, "empty the log", source())) } else { Ok(()) }
    }

    /// A number that changes when another process has written to the store.
    pub fn data_version(&self) -> rusqlite::Result<i64> {
        self.connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    /// The options that the store was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

/// An open transaction of a store; dropped, it is rolled back.
#[derive(Debug)]
pub struct Writing<'a> {
    transaction: Transaction<'a>,
    #[cfg(feature = "failpoints")]
    faults: Option<&'a super::fail::Faults>,
}

impl Writing<'_> {
    /// Ends it: all of it is there, or with an error nothing.
    pub fn commit(self) -> rusqlite::Result<()> {
        #[cfg(feature = "failpoints")]
        if let Some(faults) = self.faults {
            faults.take_commit()?;
        }
        self.transaction.commit()
    }

    /// Ends it without a trace.
    pub fn rollback(self) -> rusqlite::Result<()> {
        self.transaction.rollback()
    }
}

impl<'a> Deref for Writing<'a> {
    type Target = Transaction<'a>;

    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl Lock {
    /// Takes `path` for this process.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let directory = directory_of(path);
        if !directory.is_dir() {
            return Err(StoreError::NoDirectory { path: path.to_owned() });
        }
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(beside(path, ".lock"))
            .map_err(|error| StoreError::from_io(path, "take the lock", error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(StoreError::from_io(path, "take the lock", error)),
        }
    }
}

/// Opens an existing store beside its owner, for short transactions.
pub fn attach(path: &Path, layout: &Layout) -> Result<Connection, StoreError> {
    if !has_header(path)? {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let connection = open_file(path, OpenFlags::SQLITE_OPEN_READ_WRITE, layout)?;
    let prepared =
        prepare(&connection, layout).and_then(|()| connection.execute_batch("PRAGMA synchronous=FULL"));
    prepared.map_err(|error| StoreError::from_sqlite(path, error))?;
    Ok(connection)
}

/// `path` with `suffix` behind its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn connect(
    path: &Path,
    layout: &Layout,
    options: &Options,
    reading: Reading,
) -> Result<Connection, StoreError> {
    let failed = |error| StoreError::from_sqlite(path, error);
    #[cfg(feature = "failpoints")]
    if let Some(faults) = &options.faults {
        faults.take_open().map_err(failed)?;
    }
    let there = has_header(path)?;
    if !there
        && let Reading::At { commit, .. } = reading
        && commit > 0
        && !options.accept_loss
    {
        return Err(StoreError::Older { path: path.to_owned(), acknowledged: commit, found: 0 });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = open_file(path, flags, layout)?;
    prepare(&connection, layout).map_err(failed)?;
    if create(&connection, layout).map_err(failed)? {
        sync_directory(path)?;
        crash_point!(12);
    }
    limit(&connection, options.bytes_max).map_err(failed)?;
    Ok(connection)
}

/// Opens the file and reads what it is, before anything is changed in it.
fn open_file(path: &Path, flags: OpenFlags, layout: &Layout) -> Result<Connection, StoreError> {
    let failed = |error| StoreError::from_sqlite(path, error);
    let connection =
        Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if tables == 0 && flags.contains(OpenFlags::SQLITE_OPEN_CREATE) {
        return Ok(connection);
    }
    let application: i32 =
        connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed)?;
    if application != APPLICATION_ID {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    let kind: String =
        connection.query_row("SELECT v FROM meta WHERE k = 'kind'", [], |row| row.get(0)).map_err(failed)?;
    if kind != layout.kind {
        return Err(StoreError::OtherKind { path: path.to_owned(), found: kind, expected: layout.kind });
    }
    let found: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found > layout.version {
        return Err(StoreError::Newer { path: path.to_owned(), found, supported: layout.version });
    }
    if found < layout.version {
        return Err(StoreError::OlderFormat { path: path.to_owned(), found, expected: layout.version });
    }
    if !has_schema(&connection, layout).map_err(failed)? {
        return Err(damaged(path, "the definition of its tables"));
    }
    Ok(connection)
}

/// Whether the tables are defined as this program defines them; handlers may have added their own. One changed letter in a
/// definition can hide a column.
fn has_schema(connection: &Connection, layout: &Layout) -> rusqlite::Result<bool> {
    let expected = definitions(&defined(layout)?)?;
    let found = definitions(connection)?;
    Ok(expected.is_subset(&found))
}

fn definitions(connection: &Connection) -> rusqlite::Result<BTreeSet<(String, String, String)>> {
    let mut statement = connection.prepare("SELECT type, name, coalesce(sql, '') FROM sqlite_schema")?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
}

/// An empty store of this layout, in memory.
fn defined(layout: &Layout) -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    create(&connection, layout)?;
    Ok(connection)
}

fn prepare(connection: &Connection, layout: &Layout) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA journal_mode=WAL", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=OFF;")?;
    connection.execute_batch(&format!("PRAGMA cache_size=-{}", layout.cache_bytes / 1024))?;
    connection.query_row(&format!("PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}"), [], |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Makes an empty store where there is none, whole or not at all; says whether it did.
fn create(connection: &Connection, layout: &Layout) -> rusqlite::Result<bool> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 {
        return Ok(false);
    }
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(&(layout.schema)())?;
    transaction.execute_batch(&format!(
        "CREATE TABLE meta(k TEXT PRIMARY KEY, v) WITHOUT ROWID;
         INSERT INTO meta VALUES ('kind', '{}'), ('store_id', randomblob(16));
         PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={};",
        layout.kind, layout.version
    ))?;
    transaction.commit()?;
    Ok(true)
}

fn limit(connection: &Connection, bytes_max: Option<u64>) -> rusqlite::Result<()> {
    let Some(bytes_max) = bytes_max else { return Ok(()) };
    let page_bytes: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let pages = (bytes_max / page_bytes).max(1);
    connection.query_row(&format!("PRAGMA max_page_count={pages}"), [], |_| Ok(()))
}

fn store_id(connection: &Connection) -> rusqlite::Result<[u8; 16]> {
    let id =
        connection.query_row("SELECT v FROM meta WHERE k = 'store_id'", [], |row| row.get(0)).optional()?;
    Ok(id.unwrap_or_default())
}

/// Compares the store's end with what was acknowledged.
fn judge(
    path: &Path,
    reading: Reading,
    id: [u8; 16],
    commits: u64,
    accept_loss: bool,
) -> Result<Vec<Notice>, StoreError> {
    let refused = match reading {
        Reading::At { store, commit, whole } if store == id && commit <= commits => {
            let notice = Notice("one of the watermark's two slots was damaged; it was rewritten".into());
            return Ok(if whole { Vec::new() } else { vec![notice] });
        }
        Reading::Absent if commits == 0 => return Ok(Vec::new()),
        Reading::At { store, commit, .. } if store == id => {
            StoreError::Older { path: path.to_owned(), acknowledged: commit, found: commits }
        }
        Reading::At { .. } => damaged(path, "its watermark belongs to another store"),
        Reading::Absent => damaged(path, "its watermark is missing, so a loss could not be seen"),
        Reading::Damaged => damaged(path, "its watermark cannot be read, so a loss could not be seen"),
    };
    if accept_loss { Ok(vec![Notice(format!("went on in spite of: {refused}"))]) } else { Err(refused) }
}

fn damaged(path: &Path, what: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), what: what.into() }
}

/// Whether a SQLite file is there; an empty one counts as none.
fn has_header(path: &Path) -> Result<bool, StoreError> {
    const HEADER: &[u8; 16] = b"SQLite format 3\0";
    let mut found = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(HEADER.len() as u64).read_to_end(&mut found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => Err(error),
    }
    .map_err(|error| StoreError::from_io(path, "read the store", error))?;
    match found.as_slice() {
        [] => Ok(false),
        bytes if bytes == HEADER => Ok(true),
        _ => Err(StoreError::Foreign { path: path.to_owned() }),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a new file's name survive the machine.
fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let directory = directory_of(path);
    let synced = if cfg!(unix) { File::open(directory).and_then(|file| file.sync_all()) } else { Ok(()) };
    synced.map_err(|error| StoreError::from_io(directory, "sync the directory", error))
}
