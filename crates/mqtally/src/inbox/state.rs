//! The inbox behind its writer: what is in memory, loaded from the store, and changed with each transaction.
//!
//! After a failed transaction all of it is thrown away and loaded again, so nothing here has to be undone.

use super::Settings;
use super::arrival::{Accepted, Arrival, Cause, ConflictPolicy, Exchange, Verdict};
use super::dead_letter::{self, Reason};
use super::ids::{self, Ids, Seen};
use super::key::{Key, body_hash};
use super::record::{Record, crc_of};
use super::schedule::Schedule;
use super::statistics::Statistics;
use super::tally::Tally;
use crate::store::StoreError;
use crate::store::clock::{Saved, StoreClock};
use crate::store::fail::crash_point;
use crate::store::sqlite::{Notice, Store};
use mqtally_proto::Time;
use mqtally_proto::packet::Qos;
use rusqlite::{Connection, Transaction};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// The inbox's tables, but for those of `ids`, `tally` and the dead letters.
const SCHEMA: &str = "
    CREATE TABLE inbox(
        seq INTEGER PRIMARY KEY, crc INTEGER NOT NULL, received_ms INTEGER NOT NULL, qos INTEGER NOT NULL,
        retain INTEGER NOT NULL, replay INTEGER NOT NULL, lane INTEGER, key TEXT, topic TEXT NOT NULL,
        props BLOB NOT NULL, payload BLOB NOT NULL);
    CREATE TABLE retry(
        seq INTEGER PRIMARY KEY, due_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, errors TEXT NOT NULL,
        crc INTEGER NOT NULL);
    CREATE TABLE claim(fence INTEGER PRIMARY KEY, held BLOB NOT NULL);
    CREATE TABLE qos2_in(packet_id INTEGER PRIMARY KEY, session INTEGER NOT NULL, crc INTEGER NOT NULL);";

const CONFLICT_ERROR: &str = "its key is known with another body";

const INSERT: &str = "
    INSERT INTO inbox(seq, crc, received_ms, qos, retain, replay, lane, key, topic, props, payload)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";

pub(crate) fn schema() -> String {
    [SCHEMA, ids::SCHEMA, dead_letter::SCHEMA, &super::tally::schema()].concat()
}

/// Everything in memory.
pub(crate) struct State {
    pub(super) settings: Arc<Settings>,
    pub(super) tally: Tally,
    pub(super) ids: Ids,
    pub(super) schedule: Schedule,
    pub(super) exchanges: FxHashSet<u16>,
    /// The next number that the schedule has not seen.
    pub(super) cursor: u64,
    /// Open claims: how many of their messages are still held.
    pub(super) claims: FxHashMap<u64, usize>,
    pub(super) claimed: u64,
    /// Messages done in the open transaction.
    pub(super) done: Vec<u64>,
    pub(super) random: fastrand::Rng,
    clock: StoreClock,
    /// Whether the open transaction has anything to commit.
    pub(super) dirty: bool,
    tally_sql: String,
}

impl State {
    /// Reads the store, checks that nothing is missing, and takes back what the last process held.
    pub(crate) fn load(
        store: &mut Store,
        settings: &Arc<Settings>,
    ) -> Result<(Self, Vec<Notice>), StoreError> {
        let path = store.path().to_owned();
        let failed = |error| StoreError::from_sqlite(&path, error);
        let accept_loss = store.options().accept_loss;
        let Some(tally) = Tally::load(store.connection()).map_err(failed)? else {
            return Err(StoreError::Damaged { path, what: "the row of its counters".into() });
        };
        let live = (tally.live_from, tally.next_id);
        let (ids, lost) = Ids::load(store.connection(), &path, live, settings.window_ms, accept_loss)?;
        let mut state = Self::new(settings, tally, ids);
        let mut missing = state.count(store.connection()).map_err(failed)?;
        missing.extend((lost > 0).then(|| format!("{lost} dedup keys")));
        if let Some(what) = missing.first().filter(|_| !accept_loss) {
            return Err(StoreError::Damaged { path, what: what.clone() });
        }
        state.recover(store).map_err(failed)?;
        Ok((state, missing.into_iter().map(|what| Notice(format!("went on without {what}"))).collect()))
    }

    fn new(settings: &Arc<Settings>, tally: Tally, ids: Ids) -> Self {
        let saved = Saved { clock: Time::from_ms(tally.clock_ms), wall: Time::from_ms(tally.wall_ms) };
        let clock = match tally.commits {
            0 => StoreClock::start(&*settings.time),
            _ => StoreClock::resume(saved, &*settings.time, ids::bucket_ms(settings.window_ms)),
        };
        Self {
            settings: Arc::clone(settings),
            tally,
            ids,
            schedule: Schedule::new(settings.lookahead_max),
            exchanges: FxHashSet::default(),
            cursor: 0,
            claims: FxHashMap::default(),
            claimed: 0,
            done: Vec::new(),
            random: fastrand::Rng::with_seed(settings.seed ^ tally.opened),
            clock,
            dirty: false,
            tally_sql: Tally::save_sql(),
        }
    }

    /// Compares the tables with their counters; corrects the counters and says what is missing.
    fn count(&mut self, connection: &Connection) -> rusqlite::Result<Vec<String>> {
        let mut missing = Vec::new();
        let tables = [
            ("inbox", &mut self.tally.unsettled, "unsettled messages"),
            ("retry", &mut self.tally.retrying, "retries"),
            ("qos2_in", &mut self.tally.exchanges, "QoS 2 exchanges"),
        ];
        for (table, counted, what) in tables {
            let found: u64 =
                connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
            if found != *counted {
                missing.push(format!("{what}: {found} of {counted} are there"));
                *counted = found;
            }
        }
        missing.extend(dead_letter::count_differs(connection)?);
        Ok(missing)
    }

    fn recover(&mut self, store: &mut Store) -> rusqlite::Result<()> {
        let accept_loss = store.options().accept_loss;
        let transaction = store.begin(true)?;
        self.tally.opened += 1;
        self.load_exchanges(&transaction, accept_loss)?;
        self.end_lost_claims(&transaction)?;
        self.load_waiting(&transaction)?;
        if accept_loss {
            dead_letter::correct_count(&transaction)?;
        }
        self.finish(&transaction)?;
        transaction.commit()
    }

    fn load_exchanges(&mut self, transaction: &Transaction<'_>, accept_loss: bool) -> rusqlite::Result<()> {
        let mut statement = transaction.prepare("SELECT packet_id, session, crc FROM qos2_in")?;
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        for row in rows {
            let (packet_id, session, crc): (u16, u64, u32) = row?;
            if crc == crc_of(&[u64::from(packet_id), session]) {
                self.exchanges.insert(packet_id);
            } else if !accept_loss {
                return Err(super::damage("a QoS 2 packet id"));
            }
        }
        Ok(())
    }

    /// The store's own time.
    pub(crate) fn now(&self) -> Time {
        self.clock.now(&*self.settings.time)
    }

    /// The last step before a commit: writes what was gathered. Returns the number of the commit.
    pub(crate) fn finish(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
        self.ids.flush(transaction)?;
        let live = self.ids.live();
        self.tally.commits += 1;
        (self.tally.live_from, self.tally.next_id) = (live.start, live.end);
        self.tally.clock_ms = self.now().as_ms();
        self.tally.wall_ms = self.settings.time.wall().as_ms();
        self.tally.save(transaction, &self.tally_sql)?;
        Ok(self.tally.commits)
    }

    /// The transaction was committed.
    pub(crate) fn committed(&mut self) {
        self.ids.committed();
        self.dirty = false;
    }

    /// Stores `arrivals` in order and says what each was.
    pub(crate) fn accept(
        &mut self,
        transaction: &Transaction<'_>,
        arrivals: Vec<Arrival>,
    ) -> rusqlite::Result<Vec<Accepted>> {
        let now = self.now();
        self.dirty = true;
        let accepted: rusqlite::Result<Vec<_>> =
            arrivals.into_iter().map(|arrival| self.accept_one(transaction, arrival, now)).collect();
        crash_point!(2);
        accepted
    }

    fn accept_one(
        &mut self,
        transaction: &Transaction<'_>,
        arrival: Arrival,
        now: Time,
    ) -> rusqlite::Result<Accepted> {
        self.tally.received += 1;
        if self.exchange_is_open(transaction, &arrival)? {
            self.tally.redelivered += 1;
            return Ok(Accepted { sequence: None, verdict: Verdict::ExchangeOpen });
        }
        let verdict = match &arrival.key {
            None => Verdict::New,
            Some(key) => self.judge(transaction, key, &arrival, now)?,
        };
        let sequence = match verdict {
            Verdict::New | Verdict::Conflict(ConflictPolicy::Process) => {
                Some(self.append(transaction, &Record::from(arrival))?)
            }
            Verdict::Conflict(ConflictPolicy::DeadLetter) => {
                let sequence = self.insert(transaction, &Record::from(arrival))?;
                self.cursor += u64::from(self.cursor == sequence);
                self.bury(transaction, sequence, 0, Reason::Conflict, CONFLICT_ERROR)?;
                None
            }
            Verdict::Conflict(ConflictPolicy::Drop) | Verdict::Duplicate(_) | Verdict::ExchangeOpen => None,
        };
        Ok(Accepted { sequence, verdict })
    }

    /// Remembers the packet id of a QoS 2 arrival; says whether it was remembered before.
    fn exchange_is_open(
        &mut self,
        transaction: &Transaction<'_>,
        arrival: &Arrival,
    ) -> rusqlite::Result<bool> {
        let Some(Exchange { session, packet_id }) = arrival.exchange else { return Ok(false) };
        // What was read before the session was lost is still a message; its packet id means nothing any more.
        if arrival.qos != Qos::ExactlyOnce || u64::from(session) != self.tally.session {
            return Ok(false);
        }
        if !self.exchanges.insert(packet_id) {
            return Ok(true);
        }
        self.tally.exchanges += 1;
        let values = [u64::from(packet_id), self.tally.session];
        let sql = "INSERT INTO qos2_in(packet_id, session, crc) VALUES (?1, ?2, ?3)";
        transaction.prepare_cached(sql)?.execute((values[0], values[1], crc_of(&values)))?;
        Ok(false)
    }

    fn judge(
        &mut self,
        transaction: &Transaction<'_>,
        key: &Key,
        arrival: &Arrival,
        now: Time,
    ) -> rusqlite::Result<Verdict> {
        let body = body_hash(&arrival.payload);
        let seen = self.ids.seen(transaction, key, body)?;
        if seen == Seen::SameBody {
            let cause = cause_of(arrival);
            *self.duplicates(cause) += 1;
            return Ok(Verdict::Duplicate(cause));
        }
        // A conflicting body is remembered too, so that its own redelivery is a duplicate, not a second conflict.
        self.ids.add(transaction, key.id, body, now)?;
        if seen == Seen::Never {
            return Ok(Verdict::New);
        }
        self.tally.conflicts += 1;
        Ok(Verdict::Conflict(self.settings.conflict))
    }

    fn duplicates(&mut self, cause: Cause) -> &mut u64 {
        match cause {
            Cause::Redelivery => &mut self.tally.redelivered,
            Cause::PublishedAgain => &mut self.tally.published_again,
            Cause::Replay => &mut self.tally.replayed_again,
        }
    }

    /// Puts a message at the end of the inbox, and into the schedule where that has caught up.
    pub(super) fn append(&mut self, transaction: &Transaction<'_>, record: &Record) -> rusqlite::Result<u64> {
        let sequence = self.insert(transaction, record)?;
        if self.cursor == sequence && self.schedule.room() > 0 {
            self.schedule.add(sequence, record.lane, (self.settings.channel_of)(&record.topic));
            self.cursor += 1;
        }
        Ok(sequence)
    }

    fn insert(&mut self, transaction: &Transaction<'_>, record: &Record) -> rusqlite::Result<u64> {
        let sequence = self.tally.next_seq;
        record.insert(&mut *transaction.prepare_cached(INSERT)?, sequence)?;
        self.tally.next_seq += 1;
        self.tally.unsettled += 1;
        Ok(sequence)
    }

    /// PUBREL came: forgets the packet id. Returns whether it was known.
    pub(crate) fn release(
        &mut self,
        transaction: &Transaction<'_>,
        packet_id: u16,
    ) -> rusqlite::Result<bool> {
        if !self.exchanges.remove(&packet_id) {
            return Ok(false);
        }
        (self.dirty, self.tally.exchanges) = (true, self.tally.exchanges - 1);
        let deleted =
            transaction.prepare_cached("DELETE FROM qos2_in WHERE packet_id = ?1")?.execute([packet_id])?;
        super::expect_rows(deleted, 1, "a QoS 2 packet id").map(|()| true)
    }

    /// The broker lost the session: drops its packet ids, which it will use anew. Returns how many.
    pub(crate) fn session_lost(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
        let dropped = std::mem::take(&mut self.tally.exchanges);
        (self.dirty, self.tally.session) = (true, self.tally.session + 1);
        self.tally.session_losses += 1;
        self.exchanges.clear();
        transaction.execute("DELETE FROM qos2_in", [])?;
        crash_point!(13);
        Ok(dropped)
    }

    /// The session's number and its packet ids.
    pub(crate) fn open_exchanges(&self) -> (u32, Vec<u16>) {
        let mut packet_ids: Vec<_> = self.exchanges.iter().copied().collect();
        packet_ids.sort_unstable();
        (u32::try_from(self.tally.session).unwrap_or(u32::MAX), packet_ids)
    }

    /// How long until time alone changes something.
    pub(crate) fn next_change_ms(&self) -> Option<u64> {
        self.schedule.next_change().map(|at| at.ms_since(self.now()))
    }

    /// What is counted, and what is in the store.
    pub(crate) fn statistics(&self, connection: &Connection) -> rusqlite::Result<Statistics> {
        let dead = dead_letter::count(connection)?;
        let oldest = oldest(connection)?;
        Ok(Statistics {
            received: self.tally.received,
            redelivered: self.tally.redelivered,
            published_again: self.tally.published_again,
            replayed_again: self.tally.replayed_again,
            conflicts: self.tally.conflicts,
            retries: self.tally.retries,
            processed: self.tally.processed,
            failed: self.tally.failed,
            dead_lettered: self.tally.dead_lettered,
            damaged: self.tally.damaged,
            replayed: self.tally.replayed,
            session_losses: self.tally.session_losses,
            unsettled: self.tally.unsettled,
            waiting: self.schedule.waiting(),
            leased: self.schedule.leased(),
            dead,
            keys: self.ids.len(),
            key_bytes: self.ids.bytes(),
            exchanges: self.tally.exchanges,
            oldest_unsettled_ms: oldest.map(|at| self.settings.time.wall().ms_since(at)),
        })
    }
}

fn oldest(connection: &Connection) -> rusqlite::Result<Option<Time>> {
    let mut statement = connection.prepare_cached("SELECT received_ms FROM inbox ORDER BY seq LIMIT 1")?;
    let mut rows = statement.query([])?;
    Ok(rows.next()?.map(|row| row.get(0)).transpose()?.map(Time::from_ms))
}

fn cause_of(arrival: &Arrival) -> Cause {
    match arrival {
        Arrival { dup: true, .. } => Cause::Redelivery,
        Arrival { replay: 1.., .. } => Cause::Replay,
        _ => Cause::PublishedAgain,
    }
}
