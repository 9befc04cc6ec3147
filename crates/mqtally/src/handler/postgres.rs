//! `postgres://USER@HOST/DATABASE?table=NAME`: a row for each message.
//!
//! Where the URL names the inbox's own database, as the same user on the same host, the row is written in the inbox's
//! transaction: message done and row there, or neither. In another database the row and a mark with the message's
//! [`identity`](super::identity) in the table `mqtally_done` beside it commit together, so that a message that comes again has no
//! second row. Marks may be deleted once no retry can come. One batch is one transaction.
//!
//! The table is looked for where the user's `search_path` says, or in `schema=`, and made where it is absent, as
//! `(seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text, topic text, qos integer, payload bytea, received_at
//! timestamptz)`; of one that is there the columns of these names are filled (`seq` only where it is no primary key). They may
//! have any type that can be written as a text; a payload that is no UTF-8 needs a `bytea`. Columns are looked up once, when
//! the handler starts. A row that conflicts with a unique index of the table is left out.
//!
//! A server that is away or fails is a retry; a row that the table cannot take is a dead letter. In the inbox's transaction
//! the settling itself tells of a failure.

use super::batch::{Batcher, Sink};
use super::{OpenError, Options, dead, record, retry};
use crate::inbox::{Delivery, Outcome, Statement, Value};
use crate::store::StoreError;
use crate::store::postgres::{self, Url, quote, said};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Transaction};

/// Names of columns that are filled.
const COLUMNS: [&str; 6] = ["seq", "key", "topic", "qos", "payload", "received_at"];
/// The table of marks.
pub(super) const MARKS: &str = "mqtally_done";

pub(super) enum Postgres {
    /// In the inbox's own database.
    Inside(Table),
    /// In another one.
    Beside(Batcher),
}

/// A table as it was found.
#[derive(Debug, Clone)]
pub(super) struct Table {
    columns: Vec<Column>,
    /// The row, from its values.
    insert: Arc<str>,
    /// The row, from its values and its identity, if that is not marked.
    insert_marked: Arc<str>,
}

#[derive(Debug, Clone)]
struct Column {
    what: &'static str,
    kind: String,
}

impl Postgres {
    pub(super) fn open(url: &Url, options: &Options) -> Result<Self, OpenError> {
        let failed = |why: String| OpenError::Server { url: url.to_string(), why };
        let inside = options.shared_store.as_ref().filter(|store| store.is_same_database(url));
        if inside.is_some_and(|store| url.given_schema() == Some(store.schema())) {
            return Err(failed("the schema is the inbox's own; use another for the table".into()));
        }
        // The caller may belong to a runtime, which must not wait for another.
        let prepared = std::thread::scope(|scope| {
            let prepared = scope.spawn(|| {
                let runtime = new_runtime()?;
                runtime.block_on(Table::prepare(url, inside.is_none()))
            });
            prepared.join().unwrap_or_else(|_| Err("it cannot be looked at".into()))
        });
        let table = prepared.map_err(failed)?;
        if inside.is_some() {
            return Ok(Self::Inside(table));
        }
        if let Some(observer) = options.observer.as_ref().filter(|_| url.is_exposed()) {
            observer.tell(&format!("{url}: {}", postgres::EXPOSED));
        }
        let database = Database {
            url: url.clone(),
            table,
            time_max: options.time_max,
            runtime: new_runtime().map_err(failed)?,
            open: None,
        };
        let started = Batcher::start("postgres", database, options.time_max);
        started.map(Self::Beside).map_err(|error| failed(format!("its writer cannot start: {error}")))
    }

    pub(super) fn time_max(&self) -> Duration {
        match self {
            Self::Inside(_) => Duration::ZERO,
            Self::Beside(batcher) => batcher.time_max(),
        }
    }

    pub(super) async fn handle(&self, delivery: &Delivery) -> Outcome {
        match self {
            Self::Inside(table) => {
                let statement = Statement { sql: Arc::clone(&table.insert), values: table.values(delivery) };
                Outcome::DoneWithStatements(vec![statement])
            }
            Self::Beside(batcher) => batcher.handle(delivery).await,
        }
    }
}

fn new_runtime() -> Result<Runtime, String> {
    let started = tokio::runtime::Builder::new_current_thread().enable_all().build();
    started.map_err(|error| format!("cannot start: {error}"))
}

impl Table {
    /// Makes what is absent, and looks at what is there.
    async fn prepare(url: &Url, marked: bool) -> Result<Self, String> {
        let mut client = postgres::connect(url).await.map_err(|error| why(&error))?;
        Self::look_up(&mut client, url, marked).await.map_err(|error| said(&error))?.ok_or_else(|| {
            format!("the table has none of the columns {}; name another table", COLUMNS.join(", "))
        })
    }

    async fn look_up(
        client: &mut Client,
        url: &Url,
        marked: bool,
    ) -> Result<Option<Self>, tokio_postgres::Error> {
        let client = client.transaction().await?;
        client.batch_execute(postgres::LOCK_TABLES).await?;
        let qualified = |table: &str| match url.given_schema() {
            Some(schema) => format!("{}.{}", quote(schema), quote(table)),
            None => quote(table),
        };
        let asked = qualified(url.table().unwrap_or_default());
        let there = client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&asked]).await?;
        if !there.get::<_, bool>(0) {
            let sql = format!(
                "CREATE TABLE {asked}(seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text,
                 topic text, qos integer, payload bytea, received_at timestamptz)"
            );
            client.batch_execute(&sql).await?;
        }
        let sql = "SELECT quote_ident(nspname), quote_ident(nspname) || '.' || quote_ident(relname)
                   FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = to_regclass($1)::oid";
        let row = client.query_one(sql, &[&asked]).await?;
        let (schema, table): (String, String) = (row.get(0), row.get(1));
        if marked {
            let sql = format!("CREATE TABLE IF NOT EXISTS {schema}.{MARKS}(id text PRIMARY KEY)");
            client.batch_execute(&sql).await?;
        }
        let columns = columns(&client, &asked).await?;
        client.commit().await?;
        Ok((!columns.is_empty()).then(|| Self::new(&schema, &table, columns)))
    }

    fn new(schema: &str, table: &str, columns: Vec<Column>) -> Self {
        let names: Vec<_> = columns.iter().map(|column| quote(column.what)).collect();
        let places: Vec<_> = (1..=columns.len()).map(|at| format!("${at}")).collect();
        let typed = |(column, place): (&Column, &String)| format!("{place}::{}", column.kind);
        let typed: Vec<_> = columns.iter().zip(&places).map(typed).collect();
        let (names, last) = (names.join(", "), columns.len() + 1);
        let insert =
            format!("INSERT INTO {table}({names}) VALUES ({}) ON CONFLICT DO NOTHING", places.join(", "));
        let insert_marked = format!(
            "WITH mark AS (INSERT INTO {schema}.{MARKS} VALUES (${last}) ON CONFLICT DO NOTHING RETURNING id)
             INSERT INTO {table}({names}) SELECT {} FROM mark ON CONFLICT DO NOTHING",
            typed.join(", ")
        );
        Self { columns, insert: insert.into(), insert_marked: insert_marked.into() }
    }

    fn values(&self, delivery: &Delivery) -> Vec<Value> {
        self.columns.iter().map(|column| column.value(delivery)).collect()
    }
}

/// The columns of `table` that are filled.
async fn columns(client: &Transaction<'_>, table: &str) -> Result<Vec<Column>, tokio_postgres::Error> {
    let sql = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
               LEFT JOIN pg_index p ON p.indrelid = a.attrelid AND p.indisprimary AND a.attnum = ANY(p.indkey)
               WHERE a.attrelid = to_regclass($1)::oid AND a.attnum > 0 AND NOT a.attisdropped
               AND a.attgenerated = '' AND a.attidentity <> 'a' AND (a.attname <> 'seq' OR p.indrelid IS NULL)
               ORDER BY a.attnum";
    let rows = client.query(sql, &[&table]).await?;
    let column = |row: &tokio_postgres::Row| {
        let what = COLUMNS.into_iter().find(|known| *known == row.get::<_, &str>(0))?;
        Some(Column { what, kind: row.get(1) })
    };
    Ok(rows.iter().filter_map(column).collect())
}

impl Column {
    fn value(&self, delivery: &Delivery) -> Value {
        match self.what {
            "seq" => Value::Integer(delivery.sequence.cast_signed()),
            "key" => delivery.key.clone().map_or(Value::Null, Value::Text),
            "topic" => Value::Text(delivery.topic.to_string()),
            "qos" => Value::Integer(i64::from(delivery.qos as u8)),
            "received_at" => Value::Text(record::rfc_3339(delivery.received_at)),
            _ => Value::Bytes(delivery.payload.clone()),
        }
    }
}

/// A database of somebody else's.
struct Database {
    url: Url,
    table: Table,
    time_max: Duration,
    runtime: Runtime,
    /// Opened again after an error.
    open: Option<Client>,
}

/// Why a batch was not written.
enum Failed {
    /// It may be, later.
    Passing(String),
    /// A row of it cannot be taken.
    Row(String),
}

impl Sink for Database {
    /// All at once; where that fails each by itself, so that one bad row costs nobody else.
    fn write(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        let (Self { url, table, time_max, runtime, open }, time_up) =
            (&mut *self, "the server does not answer");
        let written = runtime.block_on(async {
            let commit = commit(url, table, open, batch);
            let late = Failed::Passing(time_up.to_owned());
            tokio::time::timeout(*time_max / 2, commit).await.unwrap_or(Err(late))
        });
        if written.is_err() {
            self.open = None;
        }
        match written {
            Ok(()) => batch.iter().map(|_| Outcome::Done).collect(),
            Err(Failed::Passing(why)) => batch.iter().map(|_| retry(why.clone())).collect(),
            Err(Failed::Row(why)) if batch.len() == 1 => vec![dead(why)],
            Err(Failed::Row(_)) => {
                batch.iter().flat_map(|one| self.write(std::slice::from_ref(one))).collect()
            }
        }
    }
}

async fn commit(
    url: &Url,
    table: &Table,
    open: &mut Option<Client>,
    batch: &[Delivery],
) -> Result<(), Failed> {
    let client = match open {
        Some(client) => client,
        None => open.insert(postgres::connect(url).await.map_err(|error| Failed::Passing(why(&error)))?),
    };
    insert_all(client, table, batch).await.map_err(|error| match is_about_a_row(&error) {
        true => Failed::Row(said(&error)),
        false => Failed::Passing(said(&error)),
    })
}

async fn insert_all(
    client: &mut Client,
    table: &Table,
    batch: &[Delivery],
) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    let statement = transaction.prepare(&table.insert_marked).await?;
    for delivery in batch {
        let (values, identity) = (table.values(delivery), record::identity(delivery));
        let parameters = values.iter().map(|value| value as &(dyn ToSql + Sync));
        let parameters: Vec<_> = parameters.chain([&identity as &(dyn ToSql + Sync)]).collect();
        transaction.execute(&statement, &parameters).await?;
    }
    transaction.commit().await
}

/// Whether the values are to blame: data exceptions, violated constraints, and what could not even be written.
fn is_about_a_row(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => code.code().starts_with("22") || code.code().starts_with("23"),
        None => {
            let source = std::error::Error::source(error);
            !error.is_closed() && source.is_some_and(|source| !source.is::<std::io::Error>())
        }
    }
}

/// Without the URL, which the caller names.
fn why(error: &StoreError) -> String {
    match error {
        StoreError::Postgres { problem, .. } => problem.to_string(),
        other => other.to_string(),
    }
}
