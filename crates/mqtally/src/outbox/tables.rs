//! The outbox's tables, and each statement on them.
//!
//! A row of `outbox` never changes, so its checksum covers all of it. That a message is in flight or has failed stands
//! in a small row of its own, `flight` or `failed`; a message that has neither waits.

use super::row::{self, Message, Stored};
use super::settled::{self, Settled};
use super::{Failed, Failure, Published, Standing, Uuid};
use crate::store::sqlite::Layout;
use mqtally_proto::Time;
use mqtally_proto::inflight::Stage;
use mqtally_proto::packet::{Qos, ReasonCode};
use rusqlite::{Connection, Row, Transaction};

pub(super) const LAYOUT: Layout =
    Layout { kind: "outbox", version: 1, schema: || [SCHEMA, settled::SCHEMA].concat() };

const SCHEMA: &str = "
    CREATE TABLE outbox(
        seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, msg_id BLOB NOT NULL, created_ms INTEGER NOT NULL,
        qos INTEGER NOT NULL, retain INTEGER NOT NULL, topic TEXT NOT NULL, props BLOB NOT NULL,
        payload BLOB NOT NULL);
    CREATE TABLE flight(
        seq INTEGER PRIMARY KEY, packet_id INTEGER NOT NULL, session_epoch INTEGER NOT NULL,
        released INTEGER NOT NULL);
    CREATE TABLE failed(
        seq INTEGER PRIMARY KEY, failed_ms INTEGER NOT NULL, reason INTEGER, detail TEXT NOT NULL);
    CREATE TABLE tally(
        commits INTEGER NOT NULL, next_seq INTEGER NOT NULL, session_epoch INTEGER NOT NULL,
        session_of TEXT NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, failed INTEGER NOT NULL,
        settled INTEGER NOT NULL);
    INSERT INTO tally VALUES (0, 1, 0, '', 0, 0, 0, 0);";

/// The only row of `tally`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    /// Transactions since the outbox was made.
    pub(super) commits: u64,
    pub(super) next_seq: u64,
    /// Which of the server's sessions packet ids belong to; 0 before the first.
    pub(super) session_epoch: u64,
    /// Whose session that is, and where.
    pub(super) session_of: String,
    /// Rows of `outbox`, and the bytes of their messages.
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Rows of `failed`.
    pub(super) failed: u64,
    /// Ids that were ever put into `settled`.
    pub(super) settled: u64,
}

impl Tally {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        connection.query_row("SELECT * FROM tally", [], |row| {
            Ok(Self {
                commits: row.get(0)?,
                next_seq: row.get(1)?,
                session_epoch: row.get(2)?,
                session_of: row.get(3)?,
                rows: row.get(4)?,
                bytes: row.get(5)?,
                failed: row.get(6)?,
                settled: row.get(7)?,
            })
        })
    }

    pub(super) fn save(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let sql =
            "UPDATE tally SET commits = ?1, next_seq = ?2, session_epoch = ?3, session_of = ?4, rows = ?5,
            bytes = ?6, failed = ?7, settled = ?8";
        let Self { commits, next_seq, session_epoch, session_of, rows, bytes, failed, settled } = self;
        transaction.prepare_cached(sql)?.execute((
            commits,
            next_seq,
            session_epoch,
            session_of,
            rows,
            bytes,
            failed,
            settled,
        ))?;
        Ok(())
    }
}

/// A QoS 2 message on its way, as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) seq: u64,
    pub(super) packet_id: u16,
    pub(super) stage: Stage,
}

pub(super) fn insert(
    transaction: &Transaction<'_>,
    seq: u64,
    id: Uuid,
    created: Time,
    message: &Message,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO outbox(seq, crc, msg_id, created_ms, qos, retain, topic, props, payload)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    row::insert(&mut *transaction.prepare_cached(sql)?, seq, id, created, message)
}

/// Removes a message that is settled, as [`settled::take`] does; it is no longer in flight.
pub(super) fn remove(transaction: &Transaction<'_>, seq: u64) -> rusqlite::Result<Option<Option<Settled>>> {
    land(transaction, seq)?;
    settled::take(transaction, seq)
}

pub(super) fn fly(transaction: &Transaction<'_>, flight: Flight, session_epoch: u64) -> rusqlite::Result<()> {
    let sql =
        "INSERT OR REPLACE INTO flight(seq, packet_id, session_epoch, released) VALUES (?1, ?2, ?3, ?4)";
    let Flight { seq, packet_id, stage } = flight;
    transaction.prepare_cached(sql)?.execute((seq, packet_id, session_epoch, stage == Stage::Released))?;
    Ok(())
}

/// The message is no longer in flight.
pub(super) fn land(transaction: &Transaction<'_>, seq: u64) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM flight WHERE seq = ?1")?.execute([seq])?;
    Ok(())
}

/// Forgets what was in flight in other sessions: those messages wait again.
pub(super) fn land_others(transaction: &Transaction<'_>, session_epoch: u64) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM flight WHERE session_epoch <> ?1", [session_epoch])?;
    Ok(())
}

pub(super) fn flights(connection: &Connection, session_epoch: u64) -> rusqlite::Result<Vec<Flight>> {
    let sql = "SELECT seq, packet_id, released FROM flight WHERE session_epoch = ?1 ORDER BY seq";
    let mut statement = connection.prepare_cached(sql)?;
    let flights = statement.query_map([session_epoch], |row| {
        let stage = if row.get(2)? { Stage::Released } else { Stage::Published };
        Ok(Flight { seq: row.get(0)?, packet_id: row.get(1)?, stage })
    })?;
    flights.collect()
}

pub(super) fn fail(
    transaction: &Transaction<'_>,
    seq: u64,
    at: Time,
    failure: &Failure,
) -> rusqlite::Result<bool> {
    land(transaction, seq)?;
    let sql = "INSERT OR IGNORE INTO failed(seq, failed_ms, reason, detail) VALUES (?1, ?2, ?3, ?4)";
    let reason = failure.reason.map(|reason| reason.0);
    Ok(transaction.prepare_cached(sql)?.execute((seq, at.as_ms(), reason, &failure.detail))? > 0)
}

/// Waiting messages after `after`, in order, `limit` at most; those whose checksum does not hold come as a number.
pub(super) fn waiting(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<(u64, Option<Stored>)>> {
    let sql = format!(
        "SELECT {} FROM outbox o WHERE seq > ?1
             AND NOT EXISTS (SELECT 1 FROM failed f WHERE f.seq = o.seq)
             AND NOT EXISTS (SELECT 1 FROM flight f WHERE f.seq = o.seq)
         ORDER BY seq LIMIT ?2",
        row::COLUMNS
    );
    connection.prepare_cached(&sql)?.query_map((after, limit), row::read)?.collect()
}

pub(super) fn message(connection: &Connection, seq: u64) -> rusqlite::Result<Option<Stored>> {
    let sql = format!("SELECT {} FROM outbox WHERE seq = ?1", row::COLUMNS);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query_map([seq], row::read)?;
    Ok(rows.next().transpose()?.and_then(|(_, stored)| stored))
}

/// The messages that were given up, oldest first.
pub(super) fn failed(connection: &Connection, limit: usize) -> rusqlite::Result<Vec<Failed>> {
    let sql = format!(
        "SELECT {}, failed_ms, reason, detail FROM outbox JOIN failed USING (seq) ORDER BY seq LIMIT ?1",
        row::COLUMNS
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let failed = statement.query_map([limit], |row| {
        let (seq, stored) = row::read(row)?;
        let reason = row.get::<_, Option<u8>>(10)?.map(ReasonCode);
        let failure = Failure { reason, detail: row.get(11)? };
        Ok(Failed { seq, stored, failed_at: Time::from_ms(row.get(9)?), failure })
    })?;
    failed.collect()
}

/// The messages that are in the outbox, in the order of publishing. A row whose topic or id cannot be read is left out.
pub(super) fn each_held(connection: &Connection, each: &mut impl FnMut(Published)) -> rusqlite::Result<()> {
    let sql = "SELECT seq, msg_id, topic, qos, EXISTS (SELECT 1 FROM failed f WHERE f.seq = o.seq)
               FROM outbox o ORDER BY seq";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let standing = if row.get(4)? { Standing::Failed } else { Standing::Unsent };
        if let Ok(published) = published(row, standing) {
            each(published);
        }
    }
    Ok(())
}

fn published(row: &Row<'_>, standing: Standing) -> rusqlite::Result<Published> {
    Ok(Published {
        id: Uuid(row.get(1)?),
        seq: row.get(0)?,
        topic: row.get_ref(2)?.as_str()?.into(),
        qos: Qos::from_u8(row.get(3)?).unwrap_or_default(),
        standing,
    })
}
