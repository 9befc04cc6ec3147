//! One member's connection and what it knows: all of it is thrown away and made again after a failure.

use super::counts::{self, Counts};
use super::schema;
use crate::inbox::copies::{Copies, CopiesByTopic};
use crate::inbox::{Channel, Settings};
use crate::store::StoreError;
use crate::store::postgres::{self, Problem, Url, said};
use crate::store::sqlite::Notice;
use rustc_hash::{FxHashMap, FxHashSet};
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

/// Statements that are kept parsed; a handler may bring its own.
const STATEMENTS_MAX: usize = 256;
/// Where a number is not needed it is left out.
const NUMBERS: &str = "SELECT nextval('seq') FROM generate_series(1, $1::int)";
/// How long the server may take to notice that the process is dead that was this member.
const HANDOVER_TIME_MAX: Duration = Duration::from_secs(5);

pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Why a turn failed.
#[derive(Debug)]
pub(super) enum Error {
    /// The server, or the way to it.
    Database(tokio_postgres::Error),
    /// A row that must be there is not.
    Missing(&'static str),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl Error {
    pub(super) fn into_store_error(self, url: &Url) -> StoreError {
        match self {
            Self::Database(error) => StoreError::from_postgres(url, &error),
            Self::Missing(what) => {
                let what = format!("{what} is not there any more; somebody else changed the inbox's tables");
                StoreError::postgres(url, Problem::Failed(what))
            }
        }
    }
}

/// A member at work.
pub(super) struct Desk {
    client: Client,
    statements: RefCell<FxHashMap<Box<str>, Statement>>,
    pub(super) settings: Arc<Settings>,
    pub(super) schema: String,
    /// First half of the inbox's advisory locks.
    pub(super) schema_number: i32,
    pub(super) member: i32,
    pub(super) session: i32,
    /// Whether this member had taken anything before it joined.
    pub(super) joined_before: bool,
    /// QoS 2 packet ids of this member that wait for PUBREL.
    pub(super) exchanges: FxHashSet<u16>,
    pub(super) counts: Counts,
    /// Numbers for the transaction's arrivals.
    pub(super) numbers: VecDeque<i64>,
    /// Duplicates that this member dropped.
    pub(super) copies: CopiesByTopic,
    /// Channels that were seen; a lane may reach over several.
    pub(super) channels: BTreeSet<Channel>,
    /// By channel: the lane at which the next claim begins to look, so that every lane has its turn.
    pub(super) cursors: FxHashMap<Channel, i64>,
    pub(super) random: fastrand::Rng,
}

impl Desk {
    /// Connects as `member`, and makes the inbox where there is none. Also returns what a person should know.
    pub(super) async fn open(
        url: &Url,
        member: &str,
        settings: &Arc<Settings>,
    ) -> Result<(Self, Vec<Notice>), StoreError> {
        let client = postgres::connect(url).await?;
        schema::make(&client, url).await?;
        schema::settle_in(&client, url).await?;
        let mut desk = Self {
            client,
            statements: RefCell::default(),
            settings: Arc::clone(settings),
            schema: url.schema().to_owned(),
            schema_number: 0,
            member: 0,
            session: 0,
            joined_before: false,
            exchanges: FxHashSet::default(),
            counts: Counts::default(),
            numbers: VecDeque::new(),
            copies: CopiesByTopic::default(),
            channels: BTreeSet::new(),
            cursors: FxHashMap::default(),
            random: fastrand::Rng::with_seed(settings.seed),
        };
        let joined = desk.join(member).await.map_err(|error| error.into_store_error(url))?;
        if !joined {
            return Err(StoreError::postgres(url, Problem::InUse(member.to_owned())));
        }
        let mut notices = desk.prepare_work().await.map_err(|error| error.into_store_error(url))?;
        notices.extend(url.is_exposed().then(|| Notice(postgres::EXPOSED.into())));
        Ok((desk, notices))
    }

    /// Becomes the member. False where another process is it.
    async fn join(&mut self, member: &str) -> Result<bool, Error> {
        let sql = "SELECT oid::bigint FROM pg_namespace WHERE nspname = $1";
        let number: i64 = self.one(sql, &[&self.schema.clone()]).await?.get(0);
        // Object numbers have 32 bits and no sign; only that they differ matters here.
        self.schema_number = u32::try_from(number).unwrap_or_default().cast_signed();
        let window_ms = i64::try_from(self.settings.window_ms).unwrap_or(i64::MAX / 4);
        let scope = self.settings.consumer.as_ref().map(|consumer| consumer.scope.name());
        let sql = "INSERT INTO member(client_id, window_ms, scope, seen_ms) VALUES ($1, $2, $3, inbox_now())
                   ON CONFLICT (client_id) DO UPDATE SET window_ms = $2, scope = $3, seen_ms = inbox_now()
                   RETURNING id, session, received + session_losses > 0";
        let row = self.one(sql, &[&member, &window_ms, &scope]).await?;
        (self.member, self.session, self.joined_before) = (row.get(0), row.get(1), row.get(2));
        let deadline = tokio::time::Instant::now() + HANDOVER_TIME_MAX;
        loop {
            let sql = "SELECT pg_try_advisory_lock($1, $2)";
            if self.one(sql, &[&self.schema_number, &self.member]).await?.get(0) {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn prepare_work(&mut self) -> Result<Vec<Notice>, Error> {
        // Numbers that a crash of the server took back, because nothing waited for them, are not given out again.
        self.one("SELECT setval('fence', nextval('fence') + 1048576)", &[]).await?;
        let open = self.query("SELECT packet_id FROM qos2_in WHERE member = $1", &[&self.member]).await?;
        self.exchanges = open.iter().filter_map(|row| u16::try_from(row.get::<_, i32>(0)).ok()).collect();
        self.load_copies().await?;
        self.turn_clock().await?;
        self.route_again().await?;
        let risky =
            "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'";
        let warning = |row: &Row| {
            let name: &str = row.get(0);
            Notice(format!("the server runs with {name} = off: a power failure loses what was acknowledged"))
        };
        Ok(self.query(risky, &[]).await?.iter().map(warning).collect())
    }

    async fn load_copies(&mut self) -> Result<(), Error> {
        let sql = "SELECT topic, redelivered, published_again, replayed_again FROM copies WHERE member = $1";
        let number = |row: &Row, at: usize| row.get::<_, i64>(at).max(0).cast_unsigned();
        let copies = |row: &Row| Copies {
            redelivered: number(row, 1),
            published_again: number(row, 2),
            replayed_again: number(row, 3),
        };
        let rows = self.query(sql, &[&self.member]).await?;
        self.copies = rows.iter().map(|row| (row.get::<_, &str>(0).into(), copies(row))).collect();
        Ok(())
    }

    /// Writes the numbers of the topics of which copies were dropped in this transaction.
    async fn save_copies(&mut self) -> Result<(), Error> {
        let changed: Vec<_> = self.copies.take_changed().collect();
        if changed.is_empty() {
            return Ok(());
        }
        let column = |of: fn(&Copies) -> u64| -> Vec<i64> {
            changed.iter().map(|(_, copies)| of(copies).cast_signed()).collect()
        };
        let topics: Vec<&str> = changed.iter().map(|(topic, _)| &**topic).collect();
        let sql = "INSERT INTO copies(member, topic, redelivered, published_again, replayed_again)
                   SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
                   ON CONFLICT (member, topic) DO UPDATE SET redelivered = excluded.redelivered,
                   published_again = excluded.published_again, replayed_again = excluded.replayed_again";
        let values = [column(|c| c.redelivered), column(|c| c.published_again), column(|c| c.replayed_again)];
        self.execute(sql, &[&self.member, &topics, &values[0], &values[1], &values[2]]).await.map(drop)
    }

    /// Begins a transaction whose commit is synced to the disk when `durable`; see the SQLite inbox's writer. With `arrivals`
    /// no bucket begins before its end, and each has a number, which it may not need.
    pub(super) async fn begin(&mut self, durable: bool, arrivals: usize) -> Result<(), Error> {
        let lock = self.prepare(schema::LOCK_ARRIVALS).await?;
        let numbers = self.prepare(NUMBERS).await?;
        let begin = match durable {
            true => "BEGIN",
            false => "BEGIN; SET LOCAL synchronous_commit = off",
        };
        self.numbers.clear();
        if arrivals > 0 {
            let parameters: Parameters<'_> = &[&self.schema_number];
            let count = i32::try_from(arrivals).unwrap_or(i32::MAX);
            let count: Parameters<'_> = &[&count];
            let (begun, locked, numbered) = (
                self.client.batch_execute(begin),
                self.client.query(&lock, parameters),
                self.client.query(&numbers, count),
            );
            let ((), _, rows) = tokio::try_join!(begun, locked, numbered)?;
            self.numbers.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        } else {
            self.client.batch_execute(begin).await?;
        }
        Ok(())
    }

    /// Writes what was counted, and commits.
    pub(super) async fn commit(&mut self) -> Result<(), Error> {
        self.save_copies().await?;
        if self.counts == Counts::default() {
            return self.batch("COMMIT").await;
        }
        let add = self.prepare(&counts::add_sql()).await?;
        let values = std::mem::take(&mut self.counts).values();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.member];
        parameters.extend(values.iter().map(|value| value as &(dyn ToSql + Sync)));
        // Where the first fails, the second is a rollback.
        tokio::try_join!(self.client.execute(&add, &parameters), self.client.batch_execute("COMMIT"))?;
        Ok(())
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.borrow().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS_MAX {
            statements.clear();
        }
        statements.insert(sql.into(), statement.clone());
        Ok(statement)
    }

    pub(super) async fn query(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, Error> {
        let statement = self.prepare(sql).await?;
        Ok(self.client.query(&statement, parameters).await?)
    }

    pub(super) async fn one(&self, sql: &str, parameters: Parameters<'_>) -> Result<Row, Error> {
        let statement = self.prepare(sql).await?;
        Ok(self.client.query_one(&statement, parameters).await?)
    }

    pub(super) async fn execute(&self, sql: &str, parameters: Parameters<'_>) -> Result<u64, Error> {
        let statement = self.prepare(sql).await?;
        Ok(self.client.execute(&statement, parameters).await?)
    }

    /// Statements without parameters, unprepared.
    pub(super) async fn batch(&self, sql: &str) -> Result<(), Error> {
        Ok(self.client.batch_execute(sql).await?)
    }
}

/// For messages: an error without its type.
impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(error) => f.write_str(&said(error)),
            Self::Missing(what) => write!(f, "{what} is missing"),
        }
    }
}

pub(super) fn expect_rows(found: u64, expected: usize, what: &'static str) -> Result<(), Error> {
    if usize::try_from(found) == Ok(expected) { Ok(()) } else { Err(Error::Missing(what)) }
}
