//! The outbox's tables, and each statement on them.
//!
//! Messages lie in packs, see [`held`]. That one is in flight stands in a small row of its own; one that failed has left
//! its pack for a row of `failed`, so that it keeps no others there. What is in a pack and not in flight waits.

use super::pack::Record;
use super::{Failed, Failure, held, settled};
use crate::store::sqlite::Layout;
use mqtally_proto::Time;
use mqtally_proto::inflight::Stage;
use mqtally_proto::packet::ReasonCode;
use rusqlite::{Connection, Row, Transaction};

/// Packs are written and read in their order, and seldom twice: more pages in memory would only be more memory to touch.
const CACHE_BYTES: u32 = 2 << 20;

pub(super) const LAYOUT: Layout = Layout {
    kind: "outbox",
    version: 2,
    cache_bytes: CACHE_BYTES,
    schema: || [SCHEMA, held::SCHEMA, settled::SCHEMA].concat(),
};

const SCHEMA: &str = "
    CREATE TABLE flight(
        seq INTEGER PRIMARY KEY, packet_id INTEGER NOT NULL, session_epoch INTEGER NOT NULL,
        released INTEGER NOT NULL);
    CREATE TABLE failed(
        seq INTEGER PRIMARY KEY, failed_ms INTEGER NOT NULL, reason INTEGER, detail TEXT NOT NULL,
        crc INTEGER NOT NULL, record BLOB NOT NULL);
    CREATE TABLE tally(
        commits INTEGER NOT NULL, next_seq INTEGER NOT NULL, session_epoch INTEGER NOT NULL,
        session_of TEXT NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, failed INTEGER NOT NULL,
        settled INTEGER NOT NULL, retried INTEGER NOT NULL);
    INSERT INTO tally VALUES (0, 1, 0, '', 0, 0, 0, 0, 0);";

/// The only row of `tally`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    /// Transactions since the outbox was made.
    pub(super) commits: u64,
    pub(super) next_seq: u64,
    /// Which of the server's sessions packet ids belong to; 0 before the first.
    pub(super) session_epoch: u64,
    /// Whose session that is, and where; empty when its packet ids were forgotten.
    pub(super) session_of: String,
    /// Messages in packs and in `failed`, and their bytes.
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// Rows of `failed`.
    pub(super) failed: u64,
    /// Ids that were ever put into `settled`.
    pub(super) settled: u64,
    /// Failed messages that were put back under another number.
    pub(super) retried: u64,
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
                retried: row.get(8)?,
            })
        })
    }

    pub(super) fn save(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let sql =
            "UPDATE tally SET commits = ?1, next_seq = ?2, session_epoch = ?3, session_of = ?4, rows = ?5,
            bytes = ?6, failed = ?7, settled = ?8, retried = ?9";
        let Self { commits, next_seq, session_epoch, session_of, rows, bytes, failed, settled, retried } =
            self;
        transaction.prepare_cached(sql)?.execute((
            commits,
            next_seq,
            session_epoch,
            session_of,
            rows,
            bytes,
            failed,
            settled,
            retried,
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

/// The session is nobody's: what it remembers of packet ids is no longer known here, so it has to be begun anew.
pub(super) fn disown_session(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute("UPDATE tally SET session_of = ''", ())?;
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

/// Keeps a message as failed; its pack lets go of it.
pub(super) fn fail(
    transaction: &Transaction<'_>,
    record: Record<'_>,
    at: Time,
    failure: &Failure,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO failed(seq, failed_ms, reason, detail, crc, record)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (Record { seq, crc, body }, reason) = (record, failure.reason.map(|reason| reason.0));
    transaction.prepare_cached(sql)?.execute((seq, at.as_ms(), reason, &failure.detail, crc, body))?;
    Ok(())
}

/// The messages that were given up, from number `from` on, oldest first.
pub(super) fn failed(connection: &Connection, from: u64, limit: usize) -> rusqlite::Result<Vec<Failed>> {
    let sql = "SELECT seq, failed_ms, reason, detail, crc, record FROM failed WHERE seq >= ?1 ORDER BY seq LIMIT ?2";
    let limit = limit.min(u32::MAX as usize); // SQLite's numbers have a sign
    connection.prepare_cached(sql)?.query_map((from, limit), read_failed)?.collect()
}

fn read_failed(row: &Row<'_>) -> rusqlite::Result<Failed> {
    let body = row.get_ref(5)?.as_blob().unwrap_or_default();
    let record = Record { seq: row.get(0)?, crc: row.get(4)?, body };
    let failure = Failure { reason: row.get::<_, Option<u8>>(2)?.map(ReasonCode), detail: row.get(3)? };
    Ok(Failed { seq: record.seq, stored: record.stored(), failed_at: Time::from_ms(row.get(1)?), failure })
}

pub(super) fn forget_failed(transaction: &Transaction<'_>, seq: u64) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM failed WHERE seq = ?1")?.execute([seq])?;
    Ok(())
}
