//! Claims, outcomes, retries: from the inbox to a handler and out of the inbox.

use super::arrival::{Delivery, Effect, Lane, Lease, Outcome, SettleError};
use super::dead_letter::{self, ErrorNote, Reason};
use super::record::{Record, crc_of, decode_properties};
use super::schedule::Channel;
use super::state::State;
use super::{damage, expect_rows};
use crate::store::fail::crash_point;
use bytes::Bytes;
use mqtally_proto::Time;
use rusqlite::{OptionalExtension, Transaction};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A claim hands out no more bytes of payload than this, and at least one message.
const CLAIM_BYTES_MAX: usize = 4 << 20;

impl State {
    /// Leases up to `max` ready messages of `channel`.
    pub(crate) fn claim(
        &mut self,
        transaction: &Transaction<'_>,
        channel: Channel,
        max: usize,
    ) -> rusqlite::Result<Vec<Delivery>> {
        self.backlog.write(transaction, self.cursor)?;
        let taken = self.take(transaction, channel, max)?;
        let rows = self.read(transaction, &taken)?;
        let taken = &taken[..rows.len()];
        let (fence, expires) = (self.next_fence(), self.now().plus_ms(self.settings.lease_ms));
        let mut deliveries = Vec::with_capacity(rows.len());
        for (sequence, record) in taken.iter().copied().zip(rows) {
            match record {
                Some(record) => {
                    let attempt = self.schedule.lease(sequence, fence, expires);
                    deliveries.push(delivery(sequence, attempt, fence, record));
                }
                None => self.set_aside(transaction, sequence)?,
            }
        }
        self.note_claim(transaction, fence, &deliveries)?;
        Ok(deliveries)
    }

    fn next_fence(&mut self) -> u64 {
        self.claimed += 1;
        self.tally.opened << 32 | self.claimed
    }

    /// Ready messages in order, looking at the disk where memory has too few.
    fn take(
        &mut self,
        transaction: &Transaction<'_>,
        channel: Channel,
        max: usize,
    ) -> rusqlite::Result<Vec<u64>> {
        let mut taken = Vec::new();
        loop {
            taken.extend(std::iter::from_fn(|| self.schedule.take(channel)).take(max - taken.len()));
            if taken.len() == max || !self.fill(transaction)? {
                return Ok(taken);
            }
        }
    }

    /// Shows the schedule the next row on disk; says whether there was any.
    fn fill(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
        let room = self.schedule.room();
        if self.cursor == self.tally.next_seq || room == 0 {
            return Ok(false);
        }
        let Some((unsettled, end)) = self.backlog.next_row(transaction, self.cursor)? else {
            self.cursor = self.tally.next_seq;
            return Ok(false);
        };
        for sequence in unsettled.iter().take(room) {
            if !self.schedule.contains(*sequence) {
                let (lane, channel) = self.way_of(transaction, *sequence)?;
                self.schedule.add(*sequence, lane, channel);
            }
        }
        self.cursor = unsettled.get(room).copied().unwrap_or(end);
        Ok(true)
    }

    /// The lane and the channel of a message. A damaged one has no lane: it is not going to be handled.
    fn way_of(
        &mut self,
        transaction: &Transaction<'_>,
        sequence: u64,
    ) -> rusqlite::Result<(Option<Lane>, Channel)> {
        let message = self.backlog.message(transaction, sequence)?.ok();
        let topic = message.as_ref().map_or("", |record| &record.topic);
        let channel = (self.settings.channel_of)(topic);
        Ok((message.and_then(|record| record.lane), channel))
    }

    /// Reads the messages with these numbers; one that is not what was written is `None`.
    /// Where they grow too many bytes it stops, and gives the rest back.
    fn read(
        &mut self,
        transaction: &Transaction<'_>,
        sequences: &[u64],
    ) -> rusqlite::Result<Vec<Option<Record>>> {
        let (mut records, mut bytes) = (Vec::with_capacity(sequences.len()), 0);
        for sequence in sequences {
            if bytes > CLAIM_BYTES_MAX {
                break;
            }
            let record = match self.fresh.take(*sequence) {
                None => self.backlog.message(transaction, *sequence)?.ok(),
                arrived => arrived,
            };
            bytes += record.as_ref().map_or(0, |record| record.payload.len());
            records.push(record);
        }
        sequences[records.len()..].iter().for_each(|sequence| self.schedule.put_back(*sequence));
        Ok(records)
    }

    /// Writes down who holds what, so that an attempt that kills the process counts.
    fn note_claim(
        &mut self,
        transaction: &Transaction<'_>,
        fence: u64,
        deliveries: &[Delivery],
    ) -> rusqlite::Result<()> {
        if deliveries.is_empty() {
            return Ok(());
        }
        self.dirty = true;
        let follows = |a: &Delivery, b: &Delivery| a.sequence + 1 == b.sequence && a.attempt == b.attempt;
        let held: Vec<u8> = deliveries.chunk_by(follows).flat_map(Held::encode).collect();
        self.claims.insert(fence, deliveries.len());
        let sql = "INSERT INTO claim(fence, held, crc) VALUES (?1, ?2, ?3)";
        let crc = claim_crc(fence, &held);
        transaction.prepare_cached(sql)?.execute((fence, held, crc)).map(|_| ())
    }

    /// A claim that nobody took: its messages are ready again, and no attempt counts.
    pub(crate) fn give_back(
        &mut self,
        transaction: &Transaction<'_>,
        leases: &[Lease],
    ) -> rusqlite::Result<()> {
        self.dirty = true;
        for lease in leases {
            self.schedule.give_back(lease.sequence, lease.fence);
            self.let_go(transaction, lease.fence)?;
        }
        Ok(())
    }

    /// Takes what handlers decided, in order.
    pub(crate) fn settle(
        &mut self,
        transaction: &Transaction<'_>,
        settlements: Vec<(Lease, Outcome)>,
    ) -> rusqlite::Result<Vec<Result<(), SettleError>>> {
        let settled =
            settlements.into_iter().map(|(lease, outcome)| self.settle_one(transaction, lease, outcome));
        let settled = settled.collect::<rusqlite::Result<_>>()?;
        self.done.sort_unstable();
        self.backlog.settle(&self.done)?;
        self.tally.unsettled -= self.done.len() as u64;
        self.done.clear();
        Ok(settled)
    }

    fn settle_one(
        &mut self,
        transaction: &Transaction<'_>,
        lease: Lease,
        outcome: Outcome,
    ) -> rusqlite::Result<Result<(), SettleError>> {
        if !self.schedule.holds(lease.sequence, lease.fence) {
            return Ok(Err(SettleError::Fenced));
        }
        self.dirty = true;
        match outcome {
            Outcome::Done => self.done(transaction, lease)?,
            Outcome::DoneWith(effect) => {
                if let Err(error) = run_effect(transaction, effect)? {
                    return Ok(Err(SettleError::Effect(error)));
                }
                crash_point!(7);
                self.done(transaction, lease)?;
            }
            Outcome::DoneWithStatements(_) => {
                let why = "it is written for a database server, and the inbox is a SQLite file";
                return Ok(Err(SettleError::Effect(why.to_owned())));
            }
            Outcome::Retry { after, error } => self.fail(transaction, lease, after, &error)?,
            Outcome::DeadLetter { error } => {
                self.tally.failed += 1;
                self.give_up(transaction, lease, Reason::Handler, &error)?;
            }
        }
        Ok(Ok(()))
    }

    fn done(&mut self, transaction: &Transaction<'_>, lease: Lease) -> rusqlite::Result<()> {
        self.tally.processed += 1;
        if self.schedule.attempts(lease.sequence) > 1 {
            self.delete_retry(transaction, lease.sequence)?;
        }
        self.done.push(lease.sequence);
        self.schedule.remove(lease.sequence);
        self.let_go(transaction, lease.fence)
    }

    /// An attempt failed: the message waits for the next one, or is given up.
    fn fail(
        &mut self,
        transaction: &Transaction<'_>,
        lease: Lease,
        after: Option<Duration>,
        error: &str,
    ) -> rusqlite::Result<()> {
        let attempts = self.schedule.attempts(lease.sequence);
        self.tally.failed += 1;
        if self.settings.retry.is_exhausted(attempts) {
            return self.give_up(transaction, lease, Reason::Exhausted, error);
        }
        let delay = after.unwrap_or_else(|| self.settings.retry.delay(attempts, self.random.u32(..)));
        let due = self.now().plus_ms(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
        self.schedule_retry(transaction, lease.sequence, attempts, due, error)?;
        self.schedule.wait(lease.sequence, due);
        self.let_go(transaction, lease.fence)
    }

    fn schedule_retry(
        &mut self,
        transaction: &Transaction<'_>,
        sequence: u64,
        attempts: u32,
        due: Time,
        error: &str,
    ) -> rusqlite::Result<()> {
        let earlier = retry_errors(transaction, sequence)?;
        self.tally.retries += 1;
        self.tally.retrying += u64::from(earlier.is_none());
        let errors = ErrorNote::chain(earlier.as_deref(), self.settings.time.wall(), error);
        let due_ms = due.as_ms().min(i64::MAX as u64);
        let crc = retry_crc(sequence, due_ms, attempts, &errors);
        let sql =
            "INSERT OR REPLACE INTO retry(seq, due_ms, attempts, errors, crc) VALUES (?1, ?2, ?3, ?4, ?5)";
        transaction.prepare_cached(sql)?.execute((sequence, due_ms, attempts, errors, crc)).map(|_| ())
    }

    fn delete_retry(&mut self, transaction: &Transaction<'_>, sequence: u64) -> rusqlite::Result<()> {
        let deleted = transaction.prepare_cached("DELETE FROM retry WHERE seq = ?1")?.execute([sequence])?;
        self.tally.retrying -= 1;
        expect_rows(deleted, 1, "a retry")
    }

    fn give_up(
        &mut self,
        transaction: &Transaction<'_>,
        lease: Lease,
        reason: Reason,
        error: &str,
    ) -> rusqlite::Result<()> {
        let attempts = self.schedule.attempts(lease.sequence);
        self.bury(transaction, lease.sequence, attempts, reason, error)?;
        self.schedule.remove(lease.sequence);
        self.let_go(transaction, lease.fence)
    }

    /// A row that is not what was written is kept among the dead letters, as it was found.
    fn set_aside(&mut self, transaction: &Transaction<'_>, sequence: u64) -> rusqlite::Result<()> {
        self.dirty = true;
        self.tally.damaged += 1;
        let attempts = self.schedule.attempts(sequence);
        self.bury(transaction, sequence, attempts, Reason::Damaged, "its checksum does not hold")?;
        self.schedule.remove(sequence);
        Ok(())
    }

    /// Moves a message from the inbox to the dead letters.
    pub(super) fn bury(
        &mut self,
        transaction: &Transaction<'_>,
        sequence: u64,
        attempts: u32,
        reason: Reason,
        error: &str,
    ) -> rusqlite::Result<()> {
        let wall = self.settings.time.wall();
        let earlier = retry_errors(transaction, sequence)?;
        if earlier.is_some() {
            self.delete_retry(transaction, sequence)?;
        }
        let errors = ErrorNote::chain(earlier.as_deref(), wall, error);
        let message = self.backlog.message(transaction, sequence)?;
        let message = message.as_ref().map_err(Bytes::clone);
        dead_letter::insert(transaction, sequence, message, (wall, attempts, reason), &errors)?;
        self.backlog.settle(&[sequence])?;
        crash_point!(9);
        self.tally.unsettled -= 1;
        self.tally.dead_lettered += 1;
        Ok(())
    }

    /// One message of a claim was settled; the last one ends the claim.
    fn let_go(&mut self, transaction: &Transaction<'_>, fence: u64) -> rusqlite::Result<()> {
        if let Some(held) = self.claims.get_mut(&fence) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.claims.remove(&fence);
                transaction.prepare_cached("DELETE FROM claim WHERE fence = ?1")?.execute([fence])?;
            }
        }
        Ok(())
    }

    /// What time alone changes: leases expire, retries become due, keys expire, replays were asked for.
    pub(crate) fn tick(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let now = self.now();
        while let Some((sequence, fence)) = self.schedule.expired(now) {
            self.dirty = true;
            self.fail(transaction, Lease { sequence, fence }, Some(Duration::ZERO), "its lease expired")?;
        }
        self.schedule.wake(now);
        self.dirty |= self.ids.tick(transaction, now)?;
        Ok(())
    }

    /// What the last process held when it died: those attempts count.
    pub(super) fn end_lost_claims(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut held = BTreeMap::new();
        let mut statement = transaction.prepare("SELECT fence, held, crc FROM claim")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(1)?.as_blob().unwrap_or_default();
            if claim_crc(row.get(0)?, bytes) != row.get::<_, u32>(2).unwrap_or_default() {
                // Who held what is not known: those attempts do not count.
                self.tally.damaged += 1;
                continue;
            }
            for run in bytes.as_chunks().0.iter().map(Held::decode) {
                for sequence in run.first..run.first + u64::from(run.count) {
                    let last = held.entry(sequence).or_insert(0);
                    *last = run.attempt.max(*last);
                }
            }
        }
        for (sequence, attempt) in held {
            self.end_lost_attempt(transaction, sequence, attempt)?;
        }
        transaction.execute("DELETE FROM claim", []).map(|_| ())
    }

    fn end_lost_attempt(
        &mut self,
        transaction: &Transaction<'_>,
        sequence: u64,
        attempt: u32,
    ) -> rusqlite::Result<()> {
        const ERROR: &str = "the process ended while it was handled";
        let sql = "SELECT attempts FROM retry WHERE seq = ?1";
        let counted: Option<u32> =
            transaction.prepare_cached(sql)?.query_row([sequence], |row| row.get(0)).optional()?;
        if counted.unwrap_or(0) >= attempt || !self.backlog.contains(transaction, sequence)? {
            return Ok(());
        }
        self.tally.failed += 1;
        if self.settings.retry.is_exhausted(attempt) {
            return self.bury(transaction, sequence, attempt, Reason::Exhausted, ERROR);
        }
        self.schedule_retry(transaction, sequence, attempt, self.now(), ERROR)
    }

    /// Shows the schedule what waits. A retry whose row is damaged is tried at once: too early, never too late.
    pub(super) fn load_waiting(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let sql = "SELECT seq, due_ms, attempts, errors, crc FROM retry ORDER BY seq";
        let mut statement = transaction.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let sequence: u64 = row.get(0)?;
            if !self.backlog.contains(transaction, sequence)? {
                continue;
            }
            let (lane, channel) = self.way_of(transaction, sequence)?;
            let (due, attempts) = read_retry(row, sequence).unwrap_or_else(|| {
                self.tally.damaged += 1;
                (Time::default(), 1)
            });
            self.schedule.add_waiting(sequence, lane, channel, attempts, due);
        }
        Ok(())
    }
}

fn delivery(sequence: u64, attempt: u32, fence: u64, record: Record) -> Delivery {
    Delivery {
        sequence,
        attempt,
        fence,
        topic: record.topic,
        qos: record.qos,
        retain: record.retain,
        properties: decode_properties(&record.properties),
        payload: record.payload,
        key: record.key,
        replay: record.replay,
        received_at: record.received_at,
    }
}

/// Neighbours that one claim holds, at their n-th attempt.
struct Held {
    first: u64,
    count: u32,
    attempt: u32,
}

impl Held {
    fn encode(run: &[Delivery]) -> [u8; 16] {
        let (first, attempt) = run.first().map_or((0, 0), |delivery| (delivery.sequence, delivery.attempt));
        (u128::from(first) | (run.len() as u128) << 64 | u128::from(attempt) << 96).to_le_bytes()
    }

    fn decode(bytes: &[u8; 16]) -> Self {
        let fields = u128::from_le_bytes(*bytes);
        Self { first: fields as u64, count: (fields >> 64) as u32, attempt: (fields >> 96) as u32 }
    }
}

fn claim_crc(fence: u64, held: &[u8]) -> u32 {
    crc_of(&[fence, u64::from(crc32fast::hash(held))])
}

fn retry_errors(transaction: &Transaction<'_>, sequence: u64) -> rusqlite::Result<Option<String>> {
    transaction
        .prepare_cached("SELECT errors FROM retry WHERE seq = ?1")?
        .query_row([sequence], |row| row.get(0))
        .optional()
}

fn retry_crc(sequence: u64, due_ms: u64, attempts: u32, errors: &str) -> u32 {
    crc_of(&[sequence, due_ms, u64::from(attempts), u64::from(crc32fast::hash(errors.as_bytes()))])
}

fn read_retry(row: &rusqlite::Row<'_>, sequence: u64) -> Option<(Time, u32)> {
    let (due_ms, attempts, crc): (u64, u32, u32) = (row.get(1).ok()?, row.get(2).ok()?, row.get(4).ok()?);
    let errors = row.get_ref(3).ok()?.as_str().ok()?;
    (retry_crc(sequence, due_ms, attempts, errors) == crc).then(|| (Time::from_ms(due_ms), attempts))
}

/// Runs an effect so that nothing of it remains when it fails or panics. The outer error ends the transaction.
fn run_effect(transaction: &Transaction<'_>, effect: Effect) -> rusqlite::Result<Result<(), String>> {
    transaction.execute_batch("SAVEPOINT effect")?;
    let failure = match catch_unwind(AssertUnwindSafe(|| effect(transaction))) {
        Ok(Ok(())) if transaction.is_autocommit() => {
            return Err(damage("the transaction, which the effect ended"));
        }
        Ok(Ok(())) => return transaction.execute_batch("RELEASE effect").map(Ok),
        Ok(Err(error)) if ends_transaction(&error) => return Err(error),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it panicked".to_owned(),
    };
    transaction.execute_batch("ROLLBACK TO effect; RELEASE effect")?;
    Ok(Err(failure))
}

/// Errors of the disk, after which nothing of the transaction can be trusted.
fn ends_transaction(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, OutOfMemory, SystemIoFailure};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | DiskFull | OutOfMemory | SystemIoFailure))
}
