//! The tables of a shared inbox: made, recognised, and their buckets of dedup keys turned over.
//!
//! Keys stand in partitions by time, which are dropped whole when they expire. A unique index of a partitioned table reaches
//! no further than one partition, so two things keep a key unique over all of them: an arrival looks for its key in all
//! buckets, and a new bucket begins only while no arrival is in an open transaction ([`LOCK_ARRIVALS`] against
//! [`LOCK_BUCKETS`]). So whatever another member has not committed yet is in the same bucket, where the index makes the second one
//! wait for the first.

use super::desk::{Desk, Error};
use crate::store::StoreError;
use crate::store::postgres::{LOCK_TABLES, Problem, Url, quote};
use tokio_postgres::Client;

/// What this program writes, and the only one that it reads.
const VERSION: i32 = 2;
/// Buckets that a window is divided into.
const BUCKETS: u64 = 8;

/// Taken by every transaction with arrivals; `$1` is the schema's number.
pub(super) const LOCK_ARRIVALS: &str = "SELECT pg_advisory_xact_lock_shared($1, 0)";
/// Taken by whoever begins a bucket.
const LOCK_BUCKETS: &str = "SELECT pg_advisory_xact_lock($1, 0)";

/// `inbox_now()` is the store's own time in milliseconds: it follows the server's clock, but never backward, and over a gap in
/// which no member was there to note it, by no more than ten minutes. `clock` is noted once a second. A function in plain SQL that
/// reads a table is planned anew by each statement that calls it, which took longer than all else of a small claim.
const TABLES: &str = "
    CREATE TABLE meta(kind text NOT NULL, version int NOT NULL, made_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE clock(
        now_ms bigint NOT NULL, wall_ms bigint NOT NULL, bucket int NOT NULL, bucket_ends_ms bigint NOT NULL);
    CREATE FUNCTION wall_ms() RETURNS bigint LANGUAGE sql VOLATILE
        AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint $$;
    CREATE FUNCTION inbox_now() RETURNS bigint LANGUAGE plpgsql VOLATILE
        AS $$ BEGIN RETURN (SELECT now_ms + least(greatest(wall_ms() - wall_ms, 0), 600000) FROM clock); END $$;
    CREATE SEQUENCE seq;
    CREATE SEQUENCE fence;
    CREATE TABLE member(
        client_id text PRIMARY KEY, id int NOT NULL UNIQUE GENERATED ALWAYS AS IDENTITY,
        session int NOT NULL DEFAULT 1, window_ms bigint NOT NULL, seen_ms bigint NOT NULL, scope text, COUNTS);
    CREATE TABLE copies(
        member int NOT NULL, topic text NOT NULL, redelivered bigint NOT NULL, published_again bigint NOT NULL,
        replayed_again bigint NOT NULL, PRIMARY KEY (member, topic));
    CREATE TABLE bucket(number int PRIMARY KEY, ended_ms bigint, keys_before bigint NOT NULL);
    CREATE TABLE ids(
        bucket int NOT NULL, id uuid NOT NULL, body bigint NOT NULL, PRIMARY KEY (id, bucket))
        PARTITION BY LIST (bucket);
    CREATE TABLE ids_other(
        bucket int NOT NULL, id uuid NOT NULL, body bigint NOT NULL, PRIMARY KEY (id, body, bucket))
        PARTITION BY LIST (bucket);
    CREATE TABLE inbox(
        seq bigint PRIMARY KEY, channel smallint NOT NULL, lane bigint NOT NULL, received_ms bigint NOT NULL,
        qos smallint NOT NULL, retain boolean NOT NULL, replay bigint NOT NULL, key text, topic text NOT NULL,
        props bytea NOT NULL, payload bytea NOT NULL) WITH (QUEUE);
    CREATE INDEX inbox_heads ON inbox(channel, lane, seq);
    CREATE TABLE lease(
        seq bigint PRIMARY KEY, lane bigint NOT NULL UNIQUE, fence bigint NOT NULL, attempt int NOT NULL,
        expires_ms bigint NOT NULL, member int NOT NULL) WITH (QUEUE);
    CREATE TABLE retry(
        seq bigint PRIMARY KEY, due_ms bigint NOT NULL, attempts int NOT NULL, errors text NOT NULL) WITH (QUEUE);
    CREATE TABLE dead(
        seq bigint PRIMARY KEY, lane bigint NOT NULL, received_ms bigint NOT NULL, qos smallint NOT NULL,
        retain boolean NOT NULL, replay bigint NOT NULL, key text, topic text NOT NULL, props bytea NOT NULL,
        payload bytea NOT NULL, died_ms bigint NOT NULL, attempts int NOT NULL, reason text NOT NULL,
        errors text NOT NULL, edited boolean NOT NULL DEFAULT false, replay_asked boolean NOT NULL DEFAULT false);
    CREATE INDEX dead_asked ON dead(seq) WHERE replay_asked;
    CREATE TABLE qos2_in(member int NOT NULL, packet_id int NOT NULL, PRIMARY KEY (member, packet_id));
    INSERT INTO meta VALUES ('inbox', VERSION_NUMBER);
    INSERT INTO clock VALUES (wall_ms(), wall_ms(), 0, 0);";

/// Rows come and go: without this, dead ones are only cleared when they are a fifth of the largest size that the table had.
const QUEUE: &str = "autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, \
                     autovacuum_vacuum_insert_threshold = -1";

/// The session's settings. Every statement is a look-up by an index; the planner's statistics of tables that fill and
/// drain within seconds would tell it otherwise.
const SESSION: &str = "
    SET lock_timeout = '20s'; SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = warning;
    SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; SET jit = off;";

/// Makes the inbox's tables where there are none.
pub(super) async fn make(client: &Client, url: &Url) -> Result<(), StoreError> {
    let failed = |error: tokio_postgres::Error| StoreError::from_postgres(url, &error);
    if is_there(client, url).await? {
        return Ok(());
    }
    let schema = quote(url.schema());
    client.batch_execute(&format!("BEGIN; {LOCK_TABLES}")).await.map_err(failed)?;
    // Another member may have been quicker.
    if !is_there(client, url).await? {
        let sql = "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident($1))::oid";
        let others: i64 = client.query_one(sql, &[&url.schema()]).await.map_err(failed)?.get(0);
        if others > 0 {
            return Err(StoreError::postgres(url, Problem::Foreign(url.schema().to_owned())));
        }
        let exists = "SELECT to_regnamespace(quote_ident($1)) IS NOT NULL";
        if !client.query_one(exists, &[&url.schema()]).await.map_err(failed)?.get::<_, bool>(0) {
            client.batch_execute(&format!("CREATE SCHEMA {schema}")).await.map_err(failed)?;
        }
        let tables = format!("SET LOCAL search_path TO {schema}; {}", tables());
        client.batch_execute(&tables).await.map_err(failed)?;
    }
    client.batch_execute("COMMIT").await.map_err(failed)
}

fn tables() -> String {
    let counts: Vec<_> =
        super::counts::NAMES.iter().map(|name| format!("{name} bigint NOT NULL DEFAULT 0")).collect();
    TABLES
        .replace("COUNTS", &counts.join(", "))
        .replace("QUEUE", QUEUE)
        .replace("VERSION_NUMBER", &VERSION.to_string())
}

/// Whether the schema holds an inbox that this program understands.
async fn is_there(client: &Client, url: &Url) -> Result<bool, StoreError> {
    let failed = |error: tokio_postgres::Error| StoreError::from_postgres(url, &error);
    let table = format!("{}.meta", quote(url.schema()));
    let found: bool =
        client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await.map_err(failed)?.get(0);
    if !found {
        return Ok(false);
    }
    let foreign = || StoreError::postgres(url, Problem::Foreign(url.schema().to_owned()));
    let row = client.query_one(&format!("SELECT kind, version FROM {table}"), &[]).await;
    let row = row
        .map_err(|error| if error.code().is_some_and(is_about_names) { foreign() } else { failed(error) })?;
    match (row.get::<_, String>(0).as_str(), row.get(1)) {
        ("inbox", found) if found > VERSION => {
            Err(StoreError::postgres(url, Problem::Newer { found, supported: VERSION }))
        }
        ("inbox", found) if found < VERSION => {
            Err(StoreError::postgres(url, Problem::OlderFormat { found, expected: VERSION }))
        }
        ("inbox", _) => Ok(true),
        _ => Err(foreign()),
    }
}

fn is_about_names(code: &tokio_postgres::error::SqlState) -> bool {
    // Syntax error or access rule violation, but not: permission denied.
    code.code().starts_with("42") && code.code() != "42501"
}

/// Opens an inbox that is there, without becoming a member.
pub(super) async fn visit(client: &Client, url: &Url) -> Result<(), StoreError> {
    match is_there(client, url).await? {
        true => settle_in(client, url).await,
        false => Err(StoreError::postgres(url, Problem::Missing(url.schema().to_owned()))),
    }
}

/// Sets the session up, so that names are those of the inbox first.
pub(super) async fn settle_in(client: &Client, url: &Url) -> Result<(), StoreError> {
    let failed = |error: tokio_postgres::Error| StoreError::from_postgres(url, &error);
    client.batch_execute(SESSION).await.map_err(failed)?;
    let sql =
        "SELECT set_config('search_path', quote_ident($1) || ', ' || current_setting('search_path'), false)";
    client.query_one(sql, &[&url.schema()]).await.map_err(failed).map(drop)
}

impl Desk {
    /// Notes the time, and begins a new bucket where that is due. Its own transactions.
    pub(super) async fn turn_clock(&mut self) -> Result<(), Error> {
        let sql = "UPDATE clock SET now_ms = inbox_now(), wall_ms = wall_ms()
                   WHERE (wall_ms + 1000 <= wall_ms() OR wall_ms > wall_ms())
                   AND ctid = (SELECT ctid FROM clock FOR UPDATE SKIP LOCKED)";
        self.execute(sql, &[]).await?;
        self.execute("UPDATE member SET seen_ms = inbox_now() WHERE id = $1", &[&self.member]).await?;
        let due = "SELECT bucket_ends_ms <= inbox_now() FROM clock";
        if self.one(due, &[]).await?.get(0) {
            self.batch("BEGIN").await?;
            self.begin_bucket().await?;
            self.batch("COMMIT").await?;
        }
        Ok(())
    }

    async fn begin_bucket(&mut self) -> Result<(), Error> {
        self.one(LOCK_BUCKETS, &[&self.schema_number]).await?;
        let row = self.one("SELECT bucket_ends_ms <= inbox_now(), bucket + 1 FROM clock", &[]).await?;
        let (still_due, next): (bool, i32) = (row.get(0), row.get(1));
        if !still_due {
            return Ok(());
        }
        self.execute("UPDATE bucket SET ended_ms = inbox_now() WHERE ended_ms IS NULL", &[]).await?;
        self.drop_expired().await?;
        let sql =
            "INSERT INTO bucket(number, keys_before) SELECT $1, coalesce(sum(keys), 0)::bigint FROM member";
        self.execute(sql, &[&next]).await?;
        let width_ms = i64::try_from((self.settings.window_ms / BUCKETS).max(1)).unwrap_or(i64::MAX / 2);
        let sql = "UPDATE clock SET bucket = $1, bucket_ends_ms = inbox_now() + $2";
        self.execute(sql, &[&next, &width_ms]).await?;
        let schema = quote(&self.schema);
        self.batch(&format!(
            "CREATE TABLE {schema}.ids_{next} PARTITION OF {schema}.ids FOR VALUES IN ({next});
             CREATE TABLE {schema}.ids_other_{next} PARTITION OF {schema}.ids_other FOR VALUES IN ({next})"
        ))
        .await
    }

    /// Members may ask for different windows; the longest counts, of those that were here within their own.
    async fn drop_expired(&mut self) -> Result<(), Error> {
        let sql = "DELETE FROM bucket WHERE ended_ms <= inbox_now() - (
                       SELECT max(window_ms) FROM member WHERE seen_ms >= inbox_now() - window_ms)
                   RETURNING number";
        let schema = quote(&self.schema);
        for row in self.query(sql, &[]).await? {
            let number: i32 = row.get(0);
            self.batch(&format!("DROP TABLE {schema}.ids_{number}, {schema}.ids_other_{number}")).await?;
        }
        Ok(())
    }
}
