//! `sqlite:FILE?table=NAME`: a row for each message.
//!
//! Where FILE is the inbox's own, the row is written in the inbox's transaction: message done and row there, or neither.
//! In another database the row and a mark with the message's [`identity`](super::identity) in the table `mqtally_done`
//! commit together, so that a message that comes again has no second row. Marks may be deleted once no retry can come.
//! Rows and marks are synced before a message is done. One batch is one transaction.
//!
//! The table is made where it is absent, as
//! `(seq INTEGER PRIMARY KEY, key TEXT, topic TEXT, qos INTEGER, payload BLOB, received_at TEXT)`; of one that is there the
//! columns of these names are filled (`seq` only where it is no primary key: that one numbers itself). A payload is
//! stored as TEXT where it is UTF-8 and the column is not BLOB. A row that conflicts with a unique index of the
//! table is left out: whoever makes such an index wants that.
//!
//! A locked, full or failing database is a retry; a row that the table cannot take is a dead letter. In the inbox's
//! transaction the settling itself tells of a failure.

use super::batch::{Batcher, Sink};
use super::{OpenError, Options, SpecError, dead, record, retry};
use crate::inbox::{self, Delivery, Effect, Outcome};
use rusqlite::types::{ToSqlOutput, Value};
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names of columns that are filled.
const COLUMNS: [&str; 6] = ["seq", "key", "topic", "qos", "payload", "received_at"];
/// `application_id` of this crate's stores.
const STORE_ID: i32 = 0x6d71_7479;

pub(super) enum Sqlite {
    /// In the inbox's own file.
    Inside(Table),
    /// In another database.
    Beside(Batcher),
}

impl Sqlite {
    pub(super) fn open(path: &Path, table: &str, options: &Options) -> Result<Self, OpenError> {
        let table = Table { name: table.to_owned() };
        if options.store.as_deref().is_some_and(|store| same_file(store, path)) {
            if table.belongs_to_the_inbox() {
                let why = format!("the table {:?} is the inbox's own; use another name", table.name);
                return Err(OpenError::Database { path: path.to_owned(), why });
            }
            return Ok(Self::Inside(table));
        }
        let failed =
            |error: rusqlite::Error| OpenError::Database { path: path.to_owned(), why: explain(&error) };
        let mut database = Database { path: path.to_owned(), table, time_max: options.time_max, open: None };
        let connection = database.connect().map_err(failed)?;
        let id: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed)?;
        if id == STORE_ID {
            let why = "is a store of mqtally, but not this subscriber's inbox; name another file".to_owned();
            return Err(OpenError::Database { path: path.to_owned(), why });
        }
        let transaction = connection.unchecked_transaction().map_err(failed)?;
        database.table.prepare(&transaction).map_err(failed)?;
        prepare_marks(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        database.open = Some(connection);
        Batcher::start("sqlite", database, options.time_max)
            .map(Self::Beside)
            .map_err(|source| OpenError::Io { path: path.to_owned(), act: "start its writer", source })
    }

    pub(super) fn time_max(&self) -> Duration {
        match self {
            Self::Inside(_) => Duration::ZERO,
            Self::Beside(batcher) => batcher.time_max(),
        }
    }

    pub(super) async fn handle(&self, delivery: &Delivery) -> Outcome {
        match self {
            Self::Inside(table) => Outcome::DoneWith(table.effect(delivery.clone())),
            Self::Beside(batcher) => batcher.handle(delivery).await,
        }
    }
}

/// Whether a table can have this name.
pub(super) fn check_table(name: &str) -> Result<(), SpecError> {
    let refused = |why| Err(SpecError::Table(name.to_owned(), why));
    let lower = name.to_ascii_lowercase();
    if name.contains('\0') {
        refused("it contains U+0000")
    } else if lower.starts_with("sqlite_") {
        refused("SQLite keeps names with sqlite_ for itself")
    } else if lower == "mqtally_done" {
        refused("it holds the marks of messages that are done")
    } else {
        Ok(())
    }
}

#[derive(Debug, Clone)]
pub(super) struct Table {
    name: String,
}

impl Table {
    fn effect(&self, delivery: Delivery) -> Effect {
        let table = self.clone();
        Box::new(move |transaction| {
            table.prepare(transaction)?;
            table.insert(transaction, &delivery)
        })
    }

    fn belongs_to_the_inbox(&self) -> bool {
        let own = |name: &str| name.eq_ignore_ascii_case(&self.name);
        inbox::tables().iter().any(|name| own(name))
    }

    /// The name as SQL, whatever it holds.
    fn quoted(&self) -> String {
        quote(&self.name)
    }

    /// Makes the table where it is absent.
    fn prepare(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let there = transaction
            .prepare_cached(
                "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?1 COLLATE NOCASE",
            )?
            .exists([&self.name])?;
        if there {
            return Ok(());
        }
        let sql = format!(
            "CREATE TABLE {}(seq INTEGER PRIMARY KEY, key TEXT, topic TEXT, qos INTEGER, payload BLOB, received_at TEXT)",
            self.quoted()
        );
        transaction.execute_batch(&sql)
    }

    fn insert(&self, transaction: &Transaction<'_>, delivery: &Delivery) -> rusqlite::Result<()> {
        let columns = self.columns(transaction)?;
        let names: Vec<_> = columns.iter().map(|column| quote(&column.name)).collect();
        let places = vec!["?"; columns.len()].join(", ");
        let sql = match columns.is_empty() {
            true => return Err(rusqlite::Error::InvalidColumnName(COLUMNS.join(", "))),
            false => format!(
                "INSERT INTO {}({}) VALUES ({places}) ON CONFLICT DO NOTHING",
                self.quoted(),
                names.join(", ")
            ),
        };
        let values = columns.iter().map(|column| column.value(delivery));
        transaction.prepare_cached(&sql)?.execute(rusqlite::params_from_iter(values)).map(|_| ())
    }

    /// The columns that are filled. Asked for each row, because the table may change under us; it is in memory.
    fn columns(&self, transaction: &Transaction<'_>) -> rusqlite::Result<Vec<Column>> {
        let mut statement = transaction.prepare_cached("SELECT name, type, pk FROM pragma_table_info(?1)")?;
        let mut rows = statement.query([&self.name])?;
        let mut columns = Vec::new();
        while let Some(row) = rows.next()? {
            let (name, kind, key): (String, String, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let at = COLUMNS.iter().position(|known| known.eq_ignore_ascii_case(&name));
            if let Some(at) = at.filter(|at| *at > 0 || key == 0) {
                columns.push(Column { name, what: COLUMNS[at], blob: kind.eq_ignore_ascii_case("BLOB") });
            }
        }
        Ok(columns)
    }
}

struct Column {
    name: String,
    what: &'static str,
    blob: bool,
}

impl Column {
    fn value<'a>(&self, delivery: &'a Delivery) -> ToSqlOutput<'a> {
        match self.what {
            "seq" => ToSqlOutput::Owned(Value::Integer(delivery.sequence.cast_signed())),
            "key" => delivery.key.as_deref().map_or(ToSqlOutput::Owned(Value::Null), ToSqlOutput::from),
            "topic" => ToSqlOutput::from(&*delivery.topic),
            "qos" => ToSqlOutput::Owned(Value::Integer(i64::from(delivery.qos as u8))),
            "received_at" => ToSqlOutput::Owned(Value::Text(record::rfc_3339(delivery.received_at))),
            _ => match std::str::from_utf8(&delivery.payload) {
                Ok(text) if !self.blob => ToSqlOutput::from(text),
                _ => ToSqlOutput::from(&delivery.payload[..]),
            },
        }
    }
}

/// A database of somebody else's.
struct Database {
    path: PathBuf,
    table: Table,
    time_max: Duration,
    /// Opened again after an error.
    open: Option<Connection>,
}

impl Sink for Database {
    /// All at once; where that fails each by itself, so that one bad row costs nobody else.
    fn write(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        match self.commit(batch) {
            Ok(()) => batch.iter().map(|_| Outcome::Done).collect(),
            Err(error) if batch.len() == 1 || is_passing(&error) => {
                batch.iter().map(|_| failure(&error)).collect()
            }
            Err(_) => batch.iter().flat_map(|one| self.write(std::slice::from_ref(one))).collect(),
        }
    }
}

impl Database {
    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(self.time_max / 2)?;
        connection.execute_batch("PRAGMA synchronous=FULL")?;
        Ok(connection)
    }

    fn commit(&mut self, batch: &[Delivery]) -> rusqlite::Result<()> {
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        self.table.prepare(&transaction)?;
        prepare_marks(&transaction)?;
        for delivery in batch {
            if mark(&transaction, &record::identity(delivery))? {
                self.table.insert(&transaction, delivery)?;
            }
        }
        transaction.commit()?;
        self.open = Some(connection);
        Ok(())
    }
}

fn prepare_marks(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch("CREATE TABLE IF NOT EXISTS mqtally_done(id TEXT PRIMARY KEY) WITHOUT ROWID")
}

/// Whether the message was not marked before.
fn mark(transaction: &Transaction<'_>, identity: &str) -> rusqlite::Result<bool> {
    let sql = "INSERT INTO mqtally_done(id) VALUES (?1) ON CONFLICT DO NOTHING";
    Ok(transaction.prepare_cached(sql)?.execute([identity])? == 1)
}

fn failure(error: &rusqlite::Error) -> Outcome {
    if is_passing(error) { retry(explain(error)) } else { dead(explain(error)) }
}

/// Whether the same row may be taken later.
fn is_passing(error: &rusqlite::Error) -> bool {
    let hopeless = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
    );
    !hopeless && !matches!(error, rusqlite::Error::InvalidColumnName(_))
}

fn explain(error: &rusqlite::Error) -> String {
    match (error, error.sqlite_error_code()) {
        (rusqlite::Error::InvalidColumnName(names), _) => {
            format!("the table has none of the columns {names}; name another table")
        }
        (_, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => {
            "somebody else has the database locked".to_owned()
        }
        (_, Some(ErrorCode::CannotOpen)) => "cannot be opened; check that its directory is there".to_owned(),
        (_, Some(ErrorCode::ReadOnly)) => "cannot be written; check its owner and mode".to_owned(),
        (_, Some(ErrorCode::NotADatabase)) => "is no SQLite database; name another file".to_owned(),
        _ => error.to_string(),
    }
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether two paths lead to one file, also before it is made.
fn same_file(a: &Path, b: &Path) -> bool {
    match (resolved(a), resolved(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn resolved(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().or_else(|| {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(parent.canonicalize().ok()?.join(path.file_name()?))
    })
}
