//! Claims, outcomes, retries, dead letters: from the shared inbox to a handler and out of it.

use super::counts::{self, Counts};
use super::desk::{Desk, Error, expect_rows};
use crate::inbox::arrival::{Delivery, Lease, Outcome, SettleError};
use crate::inbox::dead_letter::{ErrorNote, Reason};
use crate::inbox::record::decode_properties;
use crate::inbox::statement::Statement;
use crate::inbox::{Channel, Statistics};
use bytes::Bytes;
use mqtally_proto::Time;
use mqtally_proto::packet::Qos;
use rustc_hash::{FxHashMap, FxHashSet};
use std::time::Duration;
use tokio_postgres::Row;

/// Locks messages of the channel `$1` that are the first of their lanes, from lane `$2` on, up to `$3`. Passes over lanes in
/// which one is leased or waits for its retry, and over rows that another member is just taking. `head` walks from lane to
/// lane by the index, only as far as is asked for. `$4` are the other channels, in which the lane may have an earlier message.
const LOCK_HEADS: &str = "
    WITH RECURSIVE head AS (
        (SELECT lane, seq FROM inbox WHERE channel = $1 AND lane >= $2 ORDER BY lane, seq LIMIT 1)
        UNION ALL
        SELECT n.lane, n.seq FROM head h CROSS JOIN LATERAL (
            SELECT i.lane, i.seq FROM inbox i WHERE i.channel = $1 AND i.lane > h.lane
            ORDER BY i.lane, i.seq LIMIT 1) n
    )
    SELECT i.seq FROM head h JOIN inbox i ON i.seq = h.seq
    WHERE NOT EXISTS (SELECT FROM lease l WHERE l.lane = h.lane)
    AND NOT EXISTS (SELECT FROM retry r WHERE r.seq = h.seq AND r.due_ms > (SELECT inbox_now()))
    AND NOT EXISTS (SELECT FROM inbox e WHERE e.channel = ANY($4) AND e.lane = h.lane AND e.seq < h.seq)
    LIMIT $3 FOR UPDATE OF i SKIP LOCKED";

/// Leases those of the locked messages `$1` that are still free, as a look after the locking shows: another member may
/// have taken one and be done with it since the lock's statement began, and a wait for that member, who waits for our lock,
/// would never end. No more payload than `$3` bytes, but at least one message. Should two members see different first
/// messages of a lane, the lease's unique index lets one of them pass; in order of the lanes, so that they cannot both wait.
const CLAIM: &str = "
    WITH free AS (
        SELECT i.seq, i.lane, sum(octet_length(i.payload)) OVER (ORDER BY i.seq) - octet_length(i.payload) AS before
        FROM inbox i WHERE i.seq = ANY($1)
        AND NOT EXISTS (SELECT FROM lease l WHERE l.lane = i.lane)
        AND NOT EXISTS (SELECT FROM retry r WHERE r.seq = i.seq AND r.due_ms > (SELECT inbox_now()))
    ), leased AS (
        INSERT INTO lease(seq, lane, fence, attempt, expires_ms, member)
        SELECT f.seq, f.lane, (SELECT nextval('fence')), coalesce(r.attempts, 0) + 1, (SELECT inbox_now()) + $4, $2
        FROM free f LEFT JOIN retry r ON r.seq = f.seq WHERE f.before <= $3 ORDER BY f.lane
        ON CONFLICT DO NOTHING RETURNING seq, fence, attempt
    )
    SELECT i.seq, l.fence, l.attempt, i.received_ms, i.qos, i.retain, i.replay, i.key, i.topic, i.props, i.payload,
           i.lane
    FROM leased l JOIN inbox i ON i.seq = l.seq ORDER BY i.seq";

/// Ends leases whose messages are done, and answers with those that were held.
const DONE: &str = "
    WITH held AS (
        DELETE FROM lease l USING unnest($1::bigint[], $2::bigint[]) AS s(seq, fence)
        WHERE l.seq = s.seq AND l.fence = s.fence RETURNING l.seq
    ), gone AS (
        DELETE FROM inbox i USING held h WHERE i.seq = h.seq
    ), forgotten AS (
        DELETE FROM retry r USING held h WHERE r.seq = h.seq
    )
    SELECT seq FROM held";

/// Leases that are held, with what failed before; nobody else can end them until the transaction does.
const HELD: &str = "
    SELECT l.seq, l.attempt, r.errors
    FROM unnest($1::bigint[], $2::bigint[]) AS s(seq, fence)
    JOIN lease l ON l.seq = s.seq AND l.fence = s.fence LEFT JOIN retry r ON r.seq = l.seq
    ORDER BY l.seq FOR UPDATE OF l";
const EXPIRED: &str = "
    SELECT l.seq, l.attempt, r.errors FROM lease l LEFT JOIN retry r ON r.seq = l.seq
    WHERE l.expires_ms <= (SELECT inbox_now()) ORDER BY l.seq LIMIT 256 FOR UPDATE OF l SKIP LOCKED";
const OWN: &str = "
    SELECT l.seq, l.attempt, r.errors FROM lease l LEFT JOIN retry r ON r.seq = l.seq
    WHERE l.member = $1 ORDER BY l.seq FOR UPDATE OF l";

const LET_GO: &str = "DELETE FROM lease WHERE seq = ANY($1)";
const RETRY: &str = "
    INSERT INTO retry(seq, due_ms, attempts, errors)
    SELECT a.seq, (SELECT inbox_now()) + a.delay, a.attempts, a.errors
    FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[]) AS a(seq, delay, attempts, errors)
    ON CONFLICT (seq) DO UPDATE
    SET due_ms = excluded.due_ms, attempts = excluded.attempts, errors = excluded.errors";
const BURY: &str = "
    WITH gone AS (
        DELETE FROM inbox i
        USING unnest($1::bigint[], $2::int[], $3::text[], $4::text[]) AS d(seq, attempts, reason, errors)
        WHERE i.seq = d.seq RETURNING i.*, d.attempts, d.reason, d.errors
    ), forgotten AS (
        DELETE FROM retry WHERE seq = ANY($1)
    )
    INSERT INTO dead(seq, lane, received_ms, qos, retain, replay, key, topic, props, payload,
                     died_ms, attempts, reason, errors)
    SELECT seq, lane, received_ms, qos, retain, replay, key, topic, props, payload, $5, attempts, reason, errors
    FROM gone";

const REPLAY: &str = "
    WITH back AS (
        DELETE FROM dead d USING unnest($1::bigint[], $2::smallint[]) AS a(seq, channel)
        WHERE d.seq = a.seq RETURNING d.*, a.channel
    )
    INSERT INTO inbox(channel, seq, lane, received_ms, qos, retain, replay, key, topic, props, payload)
    SELECT channel, nextval('seq'), lane, received_ms, qos, retain, replay + 1, key, topic, props, payload
    FROM back ORDER BY seq";

/// A claim hands out no more bytes of payload than this, and at least one message.
const CLAIM_BYTES_MAX: i64 = 4 << 20;
const EXPIRED_ERROR: &str = "its lease expired";
const DIED_ERROR: &str = "the process ended while it was handled";

/// An attempt that did not succeed.
struct Failure {
    sequence: i64,
    attempts: i32,
    /// The chain of errors before.
    earlier: Option<String>,
    error: String,
    after: Option<Duration>,
    /// The handler says that trying again is no use.
    hopeless: bool,
}

impl Desk {
    /// Leases up to `max` ready messages of `channel`.
    pub(super) async fn claim(&mut self, channel: Channel, max: usize) -> Result<Vec<Delivery>, Error> {
        self.channels.insert(channel);
        let start = self.cursors.get(&channel).copied().unwrap_or(i64::MIN);
        let (mut deliveries, mut last) = self.claim_from(channel, start, max).await?;
        if deliveries.is_empty() && start > i64::MIN {
            (deliveries, last) = self.claim_from(channel, i64::MIN, max).await?;
        }
        self.cursors.insert(channel, last.map_or(i64::MIN, |lane| lane.saturating_add(1)));
        Ok(deliveries)
    }

    /// Also answers with the last lane that was leased.
    async fn claim_from(
        &mut self,
        channel: Channel,
        lane: i64,
        max: usize,
    ) -> Result<(Vec<Delivery>, Option<i64>), Error> {
        let others: Vec<_> =
            self.channels.iter().filter(|other| **other != channel).map(|other| i16::from(*other)).collect();
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let heads = self.query(LOCK_HEADS, &[&i16::from(channel), &lane, &max, &others]).await?;
        if heads.is_empty() {
            return Ok((Vec::new(), None));
        }
        let heads: Vec<i64> = heads.iter().map(|row| row.get(0)).collect();
        let lease_ms = i64::try_from(self.settings.lease_ms).unwrap_or(i64::MAX / 4);
        let rows = self.query(CLAIM, &[&heads, &self.member, &CLAIM_BYTES_MAX, &lease_ms]).await?;
        Ok((rows.iter().map(delivery).collect(), rows.iter().map(|row| row.get(11)).max()))
    }

    /// A claim that nobody took: its messages are ready again, and no attempt counts.
    pub(super) async fn give_back(&mut self, leases: &[Lease]) -> Result<(), Error> {
        let (sequences, fences) = columns(leases);
        let sql = "DELETE FROM lease l USING unnest($1::bigint[], $2::bigint[]) AS s(seq, fence)
                   WHERE l.seq = s.seq AND l.fence = s.fence";
        self.execute(sql, &[&sequences, &fences]).await.map(drop)
    }

    /// After a broken connection: gives back whatever is leased to this member but is not in a handler's hands.
    pub(super) async fn give_back_all_but(&mut self, held: &[Lease]) -> Result<(), Error> {
        let (sequences, fences) = columns(held);
        let sql = "DELETE FROM lease WHERE member = $1 AND NOT EXISTS (
                       SELECT FROM unnest($2::bigint[], $3::bigint[]) AS h(seq, fence)
                       WHERE h.seq = lease.seq AND h.fence = lease.fence)";
        self.execute(sql, &[&self.member, &sequences, &fences]).await.map(drop)
    }

    /// Takes what handlers decided, in order.
    pub(super) async fn settle(
        &mut self,
        settlements: Vec<(Lease, Outcome)>,
    ) -> Result<Vec<Result<(), SettleError>>, Error> {
        let mut answers = vec![Err(SettleError::Fenced); settlements.len()];
        let (mut done, mut effects, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (lease, outcome)) in settlements.into_iter().enumerate() {
            match outcome {
                Outcome::Done => done.push((at, lease)),
                Outcome::DoneWithStatements(statements) => effects.push((at, lease, statements)),
                Outcome::DoneWith(_) => {
                    let why = "it is written for a SQLite file, and the inbox is in PostgreSQL";
                    answers[at] = Err(SettleError::Effect(why.to_owned()));
                }
                Outcome::Retry { after, error } => failures.push((at, lease, after, false, error)),
                Outcome::DeadLetter { error } => failures.push((at, lease, None, true, error)),
            }
        }
        self.apply(effects, &mut done, &mut answers).await?;
        for at in self.end(done).await? {
            answers[at] = Ok(());
        }
        for at in self.take_failures(failures).await? {
            answers[at] = Ok(());
        }
        Ok(answers)
    }

    /// Runs the effects of those leases that are held; where they succeed, they are done.
    async fn apply(
        &mut self,
        effects: Vec<(usize, Lease, Vec<Statement>)>,
        done: &mut Vec<(usize, Lease)>,
        answers: &mut [Result<(), SettleError>],
    ) -> Result<(), Error> {
        let leases: Vec<_> = effects.iter().map(|(_, lease, _)| *lease).collect();
        let mut held: FxHashSet<_> = self.held(&leases).await?.into_keys().collect();
        let (mut places, mut statements) = (Vec::new(), Vec::new());
        for (at, lease, effect) in effects {
            if held.remove(&lease.sequence) {
                places.push((at, lease));
                statements.push(effect);
            }
        }
        for (place, ran) in places.into_iter().zip(self.run_effects(&statements).await?) {
            match ran {
                Ok(()) => done.push(place),
                Err(error) => answers[place.0] = Err(SettleError::Effect(error)),
            }
        }
        Ok(())
    }

    /// Ends what is done; answers with the places of those that were held.
    async fn end(&mut self, done: Vec<(usize, Lease)>) -> Result<Vec<usize>, Error> {
        if done.is_empty() {
            return Ok(Vec::new());
        }
        let leases: Vec<_> = done.iter().map(|(_, lease)| *lease).collect();
        let (sequences, fences) = columns(&leases);
        let rows = self.query(DONE, &[&sequences, &fences]).await?;
        let mut held: FxHashSet<_> = rows.iter().map(|row| row.get::<_, i64>(0).cast_unsigned()).collect();
        let count = i64::try_from(held.len()).unwrap_or(i64::MAX);
        self.counts.processed += count;
        self.counts.removed += count;
        Ok(done.into_iter().filter(|(_, lease)| held.remove(&lease.sequence)).map(|(at, _)| at).collect())
    }

    async fn take_failures(
        &mut self,
        failures: Vec<(usize, Lease, Option<Duration>, bool, String)>,
    ) -> Result<Vec<usize>, Error> {
        let leases: Vec<_> = failures.iter().map(|(_, lease, ..)| *lease).collect();
        let mut held = self.held(&leases).await?;
        let (mut places, mut failed) = (Vec::new(), Vec::new());
        for (at, lease, after, hopeless, error) in failures {
            if let Some((attempts, earlier)) = held.remove(&lease.sequence) {
                places.push(at);
                let sequence = lease.sequence.cast_signed();
                failed.push(Failure { sequence, attempts, earlier, error, after, hopeless });
            }
        }
        self.fail(failed).await?;
        Ok(places)
    }

    /// Of these leases those that are held: attempts and earlier errors.
    async fn held(&mut self, leases: &[Lease]) -> Result<FxHashMap<u64, (i32, Option<String>)>, Error> {
        if leases.is_empty() {
            return Ok(FxHashMap::default());
        }
        let (sequences, fences) = columns(leases);
        let rows = self.query(HELD, &[&sequences, &fences]).await?;
        let held = rows.iter().map(|row| (row.get::<_, i64>(0).cast_unsigned(), (row.get(1), row.get(2))));
        Ok(held.collect())
    }

    /// Attempts failed: their messages wait for the next one, or are given up.
    async fn fail(&mut self, failures: Vec<Failure>) -> Result<(), Error> {
        if failures.is_empty() {
            return Ok(());
        }
        self.counts.failed += i64::try_from(failures.len()).unwrap_or(i64::MAX);
        let sequences: Vec<_> = failures.iter().map(|failure| failure.sequence).collect();
        let wall = self.settings.time.wall();
        let (mut again, mut over) = (Again::default(), Over::default());
        for failure in failures {
            let attempts = failure.attempts.cast_unsigned();
            let errors = ErrorNote::chain(failure.earlier.as_deref(), wall, &failure.error);
            if failure.hopeless || self.settings.retry.is_exhausted(attempts) {
                let reason = if failure.hopeless { Reason::Handler } else { Reason::Exhausted };
                over.push(failure.sequence, failure.attempts, reason, errors);
            } else {
                let delay =
                    failure.after.unwrap_or_else(|| self.settings.retry.delay(attempts, self.random.u32(..)));
                again.push(failure.sequence, failure.attempts, delay, errors);
            }
        }
        self.schedule(again).await?;
        self.bury(over, wall).await?;
        let gone = self.execute(LET_GO, &[&sequences]).await?;
        expect_rows(gone, sequences.len(), "a lease")
    }

    async fn schedule(&mut self, again: Again) -> Result<(), Error> {
        if again.sequences.is_empty() {
            return Ok(());
        }
        self.counts.retries += i64::try_from(again.sequences.len()).unwrap_or(i64::MAX);
        self.execute(RETRY, &[&again.sequences, &again.delays_ms, &again.attempts, &again.errors])
            .await
            .map(drop)
    }

    async fn bury(&mut self, over: Over, wall: Time) -> Result<(), Error> {
        if over.sequences.is_empty() {
            return Ok(());
        }
        let count = i64::try_from(over.sequences.len()).unwrap_or(i64::MAX);
        self.counts.dead_lettered += count;
        self.counts.removed += count;
        let died_ms = wall.as_ms().cast_signed();
        let buried = self
            .execute(BURY, &[&over.sequences, &over.attempts, &over.reasons, &over.errors, &died_ms])
            .await?;
        expect_rows(buried, over.sequences.len(), "an unsettled message")
    }

    /// What time and others change: leases expire, replays were asked for. Answers whether there may be more.
    pub(super) async fn tick(&mut self) -> Result<bool, Error> {
        let expired = self.query(EXPIRED, &[]).await?;
        self.fail(failures(&expired, EXPIRED_ERROR)).await?;
        Ok(self.take_replays().await? || expired.len() == 256)
    }

    /// What the last process held that was this member, or what this one holds when it ends: those attempts count.
    pub(super) async fn end_own_leases(&mut self) -> Result<(), Error> {
        let own = self.query(OWN, &[&self.member]).await?;
        self.fail(failures(&own, DIED_ERROR)).await
    }

    async fn take_replays(&mut self) -> Result<bool, Error> {
        let sql =
            "SELECT seq, topic FROM dead WHERE replay_asked ORDER BY seq LIMIT 256 FOR UPDATE SKIP LOCKED";
        let asked = self.query(sql, &[]).await?;
        if asked.is_empty() {
            return Ok(false);
        }
        let sequences: Vec<i64> = asked.iter().map(|row| row.get(0)).collect();
        let channels: Vec<_> =
            asked.iter().map(|row| i16::from((self.settings.channel_of)(row.get(1)))).collect();
        let count = i64::try_from(asked.len()).unwrap_or(i64::MAX);
        self.counts.replayed += count;
        self.counts.stored += count;
        let back = self.execute(REPLAY, &[&sequences, &channels]).await?;
        expect_rows(back, asked.len(), "a dead letter")?;
        Ok(asked.len() == 256)
    }

    /// Messages that were stored under other routes than this member's go where its own routes say.
    pub(super) async fn route_again(&mut self) -> Result<(), Error> {
        let stored = self.query("SELECT DISTINCT topic, channel FROM inbox", &[]).await?;
        for row in stored {
            let (topic, found): (String, i16) = (row.get(0), row.get(1));
            let channel = i16::from((self.settings.channel_of)(&topic));
            if channel != found {
                let sql = "UPDATE inbox SET channel = $1 WHERE topic = $2 AND channel = $3";
                self.execute(sql, &[&channel, &topic, &found]).await?;
            }
        }
        Ok(())
    }

    /// What is counted over all members, and what is in the store.
    pub(super) async fn statistics(&mut self) -> Result<Statistics, Error> {
        let sums = self.one(&counts::sum_sql(), &[]).await?;
        let c = Counts::from_values(std::array::from_fn(|at| sums.get(at)));
        let sql = "SELECT (SELECT count(*) FROM retry WHERE due_ms > (SELECT inbox_now())),
                          (SELECT count(*) FROM lease), (SELECT count(*) FROM qos2_in),
                          (SELECT received_ms FROM inbox ORDER BY seq LIMIT 1),
                          (SELECT keys_before FROM bucket ORDER BY number LIMIT 1),
                          (SELECT received_ms FROM dead ORDER BY seq LIMIT 1)";
        let row = self.one(sql, &[]).await?;
        let number = |at: usize| row.get::<_, i64>(at).max(0).cast_unsigned();
        let counted = |value: i64| value.max(0).cast_unsigned();
        let wall = self.settings.time.wall();
        let age = |at: usize| {
            let received: Option<i64> = row.get(at);
            received.map(|at| wall.ms_since(Time::from_ms(counted(at))))
        };
        Ok(Statistics {
            received: counted(c.received),
            redelivered: counted(c.redelivered),
            published_again: counted(c.published_again),
            replayed_again: counted(c.replayed_again),
            conflicts: counted(c.conflicts),
            retries: counted(c.retries),
            processed: counted(c.processed),
            failed: counted(c.failed),
            dead_lettered: counted(c.dead_lettered),
            damaged: 0,
            replayed: counted(c.replayed),
            session_losses: counted(c.session_losses),
            unsettled: counted(c.stored - c.removed),
            waiting: number(0),
            leased: number(1),
            dead: counted(c.dead_lettered - c.replayed - c.purged),
            keys: counted(c.keys - row.get::<_, i64>(4)),
            key_bytes: 0,
            exchanges: number(2),
            oldest_unsettled_ms: age(3),
            oldest_dead_ms: age(5),
        })
    }
}

/// Messages to be tried again, by column.
#[derive(Default)]
struct Again {
    sequences: Vec<i64>,
    delays_ms: Vec<i64>,
    attempts: Vec<i32>,
    errors: Vec<String>,
}

impl Again {
    fn push(&mut self, sequence: i64, attempts: i32, delay: Duration, errors: String) {
        self.sequences.push(sequence);
        self.delays_ms.push(i64::try_from(delay.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4));
        self.attempts.push(attempts);
        self.errors.push(errors);
    }
}

/// Messages to be given up, by column.
#[derive(Default)]
struct Over {
    sequences: Vec<i64>,
    attempts: Vec<i32>,
    reasons: Vec<&'static str>,
    errors: Vec<String>,
}

impl Over {
    fn push(&mut self, sequence: i64, attempts: i32, reason: Reason, errors: String) {
        self.sequences.push(sequence);
        self.attempts.push(attempts);
        self.reasons.push(reason.name());
        self.errors.push(errors);
    }
}

/// Leases whose holder is gone, as failures that are tried again at once.
fn failures(rows: &[Row], error: &str) -> Vec<Failure> {
    let failure = |row: &Row| Failure {
        sequence: row.get(0),
        attempts: row.get(1),
        earlier: row.get(2),
        error: error.to_owned(),
        after: Some(Duration::ZERO),
        hopeless: false,
    };
    rows.iter().map(failure).collect()
}

fn columns(leases: &[Lease]) -> (Vec<i64>, Vec<i64>) {
    leases.iter().map(|lease| (lease.sequence.cast_signed(), lease.fence.cast_signed())).unzip()
}

fn delivery(row: &Row) -> Delivery {
    Delivery {
        sequence: row.get::<_, i64>(0).cast_unsigned(),
        fence: row.get::<_, i64>(1).cast_unsigned(),
        attempt: row.get::<_, i32>(2).cast_unsigned(),
        received_at: Time::from_ms(row.get::<_, i64>(3).max(0).cast_unsigned()),
        qos: qos(row.get(4)),
        retain: row.get(5),
        replay: u32::try_from(row.get::<_, i64>(6)).unwrap_or(u32::MAX),
        key: row.get(7),
        topic: row.get::<_, &str>(8).into(),
        properties: decode_properties(row.get(9)),
        payload: Bytes::copy_from_slice(row.get(10)),
    }
}

/// As it was stored; a number that is none can only have been written by hand.
pub(super) fn qos(number: i16) -> Qos {
    match number {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}
