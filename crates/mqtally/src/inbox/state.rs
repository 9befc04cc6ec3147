//! The inbox behind its writer: what is in memory, loaded from the store, and changed with each transaction.
//!
//! After a failed transaction all of it is thrown away and loaded again, so nothing here has to be undone.

use super::Settings;
use super::arrival::{Accepted, Arrival, Cause, ConflictPolicy, Exchange, Verdict};
use super::backlog::{self, Backlog, Survey};
use super::consumer;
use super::copies::{self, CopiesByTopic};
use super::dead_letter::{self, ErrorNote, Reason};
use super::exchanges::{self, Exchanges};
use super::fresh::Fresh;
use super::ids::{self, Ids, Seen};
use super::key::{Key, body_hash};
use super::record::Record;
use super::schedule::Schedule;
use super::statistics::Statistics;
use super::tally::Tally;
use crate::store::StoreError;
use crate::store::clock::{Saved, StoreClock};
use crate::store::fail::crash_point;
use crate::store::sqlite::{Notice, Store};
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::packet::Qos;
use rusqlite::{Connection, Transaction};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// The inbox's tables, but for those of its parts.
const SCHEMA: &str = "
    CREATE TABLE retry(
        seq INTEGER PRIMARY KEY, due_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, errors TEXT NOT NULL,
        crc INTEGER NOT NULL);
    CREATE TABLE claim(fence INTEGER PRIMARY KEY, held BLOB NOT NULL, crc INTEGER NOT NULL);";

const CONFLICT_ERROR: &str = "its key is known with another body";

pub(crate) fn schema() -> String {
    let tally = super::tally::schema();
    let parts = [backlog::SCHEMA, SCHEMA, exchanges::SCHEMA, ids::SCHEMA, dead_letter::SCHEMA];
    parts.into_iter().chain([copies::SCHEMA, consumer::SCHEMA, &tally]).collect()
}

/// Everything in memory.
pub(crate) struct State {
    pub(super) settings: Arc<Settings>,
    pub(super) tally: Tally,
    pub(super) ids: Ids,
    pub(super) schedule: Schedule,
    pub(super) backlog: Backlog,
    pub(super) fresh: Fresh,
    exchanges: Exchanges,
    copies: CopiesByTopic,
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
    /// Syncs of the log before the store was opened.
    synced_before: u64,
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
        let (exchanges, damaged) = Exchanges::load(store.connection()).map_err(failed)?;
        let copies = CopiesByTopic::load(store.connection()).map_err(failed)?;
        let nameless = consumer::read_all(store.connection()).map_err(failed)?.iter().any(Option::is_none);
        let mut state = Self { copies, ..Self::new(settings, tally, ids, exchanges) };
        let survey = Survey::take(store.connection(), tally.next_seq).map_err(failed)?;
        let mut missing = survey.damage();
        missing.extend((damaged > 0).then(|| format!("{damaged} pages of QoS 2 packet ids")));
        missing.extend(state.count(store.connection(), survey.unsettled).map_err(failed)?);
        missing.extend((lost > 0).then(|| format!("{lost} dedup keys")));
        missing.extend(nameless.then(|| "a consumer's name".to_owned()));
        if let Some(what) = missing.first().filter(|_| !accept_loss) {
            return Err(StoreError::Damaged { path, what: what.clone() });
        }
        survey.give_up(store.connection()).map_err(failed)?;
        state.recover(store).map_err(failed)?;
        store.sync(state.commits())?;
        Ok((state, missing.into_iter().map(|what| Notice(format!("went on without {what}"))).collect()))
    }

    fn new(settings: &Arc<Settings>, tally: Tally, ids: Ids, exchanges: Exchanges) -> Self {
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
            backlog: Backlog::default(),
            fresh: Fresh::default(),
            exchanges,
            copies: CopiesByTopic::default(),
            cursor: 0,
            claims: FxHashMap::default(),
            claimed: 0,
            done: Vec::new(),
            random: fastrand::Rng::with_seed(settings.seed ^ tally.opened),
            clock,
            dirty: false,
            synced_before: tally.synced,
            tally_sql: Tally::save_sql(),
        }
    }

    /// Compares what was found with the counters; corrects the counters and says what is missing.
    fn count(&mut self, connection: &Connection, unsettled: u64) -> rusqlite::Result<Vec<String>> {
        let retries = connection.query_row("SELECT count(*) FROM retry", [], |row| row.get(0))?;
        let counters = [
            (unsettled, &mut self.tally.unsettled, "unsettled messages"),
            (retries, &mut self.tally.retrying, "retries"),
            (self.exchanges.len(), &mut self.tally.exchanges, "QoS 2 exchanges"),
            (self.copies.total(), &mut self.tally.copied, "duplicates by topic"),
        ];
        let mut missing = Vec::new();
        for (found, counted, what) in counters.into_iter().filter(|(found, counted, _)| found != *counted) {
            missing.push(format!("{what}: {found} of {counted} are there"));
            *counted = found;
        }
        missing.extend(dead_letter::count_differs(connection)?);
        Ok(missing)
    }

    fn recover(&mut self, store: &mut Store) -> rusqlite::Result<()> {
        let accept_loss = store.options().accept_loss;
        let transaction = store.begin()?;
        self.tally.opened += 1;
        self.end_lost_claims(&transaction)?;
        self.load_waiting(&transaction)?;
        if accept_loss {
            dead_letter::correct_count(&transaction)?;
            self.copies.rewrite(&transaction)?;
            consumer::forget(&transaction)?;
        }
        if let Some(consumer) = &self.settings.consumer {
            consumer.note(&transaction, self.settings.window_ms, self.tally.opened)?;
        }
        self.finish(&transaction, 0)?;
        transaction.commit()
    }

    /// The store's own time.
    pub(crate) fn now(&self) -> Time {
        self.clock.now(&*self.settings.time)
    }

    /// The number of the last commit.
    pub(crate) fn commits(&self) -> u64 {
        self.tally.commits
    }

    /// The last step before a commit: writes what was gathered. `syncs` of the log were made since the store was opened.
    pub(crate) fn finish(&mut self, transaction: &Transaction<'_>, syncs: u64) -> rusqlite::Result<()> {
        self.backlog.write(transaction, self.cursor)?;
        self.backlog.write_marks(transaction)?;
        self.exchanges.write(transaction)?;
        self.copies.write(transaction)?;
        self.ids.flush(transaction)?;
        let live = self.ids.live();
        self.tally.commits += 1;
        self.tally.synced = self.synced_before + syncs;
        (self.tally.live_from, self.tally.next_id) = (live.start, live.end);
        self.tally.exchanges = self.exchanges.len();
        self.tally.clock_ms = self.now().as_ms();
        self.tally.wall_ms = self.settings.time.wall().as_ms();
        self.tally.save(transaction, &self.tally_sql)
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
        arrivals.into_iter().map(|arrival| self.accept_one(transaction, arrival, now)).collect()
    }

    fn accept_one(
        &mut self,
        transaction: &Transaction<'_>,
        arrival: Arrival,
        now: Time,
    ) -> rusqlite::Result<Accepted> {
        self.tally.received += 1;
        if self.exchange_is_open(&arrival) {
            self.count_copy(&arrival.topic, Cause::Redelivery);
            return Ok(Accepted { sequence: None, verdict: Verdict::ExchangeOpen });
        }
        let verdict = match &arrival.key {
            None => Verdict::New,
            Some(key) => self.judge(transaction, key, &arrival, now)?,
        };
        let sequence = match verdict {
            Verdict::New | Verdict::Conflict(ConflictPolicy::Process) => {
                Some(self.append(transaction, Record::from(arrival))?)
            }
            Verdict::Conflict(ConflictPolicy::DeadLetter) => {
                self.refuse(transaction, &Record::from(arrival))?;
                None
            }
            Verdict::Conflict(ConflictPolicy::Drop) | Verdict::Duplicate(_) | Verdict::ExchangeOpen => None,
        };
        Ok(Accepted { sequence, verdict })
    }

    /// Remembers the packet id of a QoS 2 arrival; says whether it was remembered before.
    fn exchange_is_open(&mut self, arrival: &Arrival) -> bool {
        let Some(Exchange { session, packet_id }) = arrival.exchange else { return false };
        // What was read before the session was lost is still a message; its packet id means nothing any more.
        if arrival.qos != Qos::ExactlyOnce || u64::from(session) != self.tally.session {
            return false;
        }
        !self.exchanges.insert(packet_id)
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
            let cause = Cause::of(arrival);
            self.count_copy(&arrival.topic, cause);
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

    fn count_copy(&mut self, topic: &ByteString, cause: Cause) {
        self.tally.copied += u64::from(self.copies.count(topic, cause));
        match cause {
            Cause::Redelivery => self.tally.redelivered += 1,
            Cause::PublishedAgain => self.tally.published_again += 1,
            Cause::Replay => self.tally.replayed_again += 1,
        }
    }

    /// Puts a message at the end of the inbox, and into the schedule where that has caught up.
    pub(super) fn append(&mut self, transaction: &Transaction<'_>, record: Record) -> rusqlite::Result<u64> {
        let sequence = self.next_sequence();
        self.backlog.append(transaction, sequence, &record, self.cursor)?;
        self.tally.unsettled += 1;
        if self.cursor == sequence && self.schedule.room() > 0 {
            self.schedule.add(sequence, record.lane, (self.settings.channel_of)(&record.topic));
            self.fresh.push(sequence, record);
            self.cursor += 1;
        }
        Ok(sequence)
    }

    /// A conflict that nobody is to handle: a dead letter at once.
    fn refuse(&mut self, transaction: &Transaction<'_>, record: &Record) -> rusqlite::Result<()> {
        let sequence = self.next_sequence();
        self.cursor += u64::from(self.cursor == sequence);
        self.tally.dead_lettered += 1;
        let wall = self.settings.time.wall();
        let errors = ErrorNote::chain(None, wall, CONFLICT_ERROR);
        dead_letter::insert(transaction, sequence, Ok(record), (wall, 0, Reason::Conflict), &errors)
    }

    fn next_sequence(&mut self) -> u64 {
        self.tally.next_seq += 1;
        self.tally.next_seq - 1
    }

    /// PUBREL came: forgets the packet id. Returns whether it was known.
    pub(crate) fn release(&mut self, packet_id: u16) -> bool {
        let known = self.exchanges.remove(packet_id);
        self.dirty |= known;
        known
    }

    /// The broker lost the session: drops its packet ids, which it will use anew. Returns how many.
    pub(crate) fn session_lost(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
        (self.dirty, self.tally.session) = (true, self.tally.session + 1);
        self.tally.session_losses += 1;
        let dropped = self.exchanges.clear(transaction)?;
        crash_point!(13);
        Ok(dropped)
    }

    /// The session's number and its packet ids.
    pub(crate) fn open_exchanges(&self) -> (u32, Vec<u16>) {
        (u32::try_from(self.tally.session).unwrap_or(u32::MAX), self.exchanges.packet_ids())
    }

    /// How long until time alone changes something.
    pub(crate) fn next_change_ms(&self) -> Option<u64> {
        self.schedule.next_change().map(|at| at.ms_since(self.now()))
    }

    /// What is counted, and what is in the store.
    pub(crate) fn statistics(&self, connection: &Connection) -> rusqlite::Result<Statistics> {
        let dead = dead_letter::count(connection)?;
        let [oldest, oldest_dead] = [backlog::oldest(connection)?, dead_letter::oldest(connection)?];
        let age = |at: Time| self.settings.time.wall().ms_since(at);
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
            exchanges: self.exchanges.len(),
            oldest_unsettled_ms: oldest.map(age),
            oldest_dead_ms: oldest_dead.map(age),
        })
    }
}
