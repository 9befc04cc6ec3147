//! The thread that writes: collect, commit, tell.

use super::held::{self, Finder, Leaving};
use super::pack::{PACK_BYTES, PACK_MESSAGES_MAX, Record, pack};
use super::settled::{self, Settled as Remembered};
use super::tables::{self, Flight, Tally};
use super::{
    Accepted, Command, Failure, Fate, Found, Message, Report, Restored, Settled, StoreError, Stored, Totals,
    Uuid,
};
use crate::client::{Step, Steps};
use crate::store::clock::{SystemTimeSource, TimeSource};
use crate::store::fail::crash_point;
use crate::store::sqlite::{Ended, Lock, Notice, Options, Store, Waiting};
use mqtally_proto::Time;
use mqtally_proto::inflight::Stage;
use rusqlite::Transaction;
use rustc_hash::FxHashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::{mpsc as tokio_mpsc, oneshot};

/// What one transaction takes in.
const BATCH_MESSAGES: usize = PACK_MESSAGES_MAX;
const BATCH_BYTES: u64 = PACK_BYTES;
/// What is kept of the room in which packs are put together, for the next one.
const PACKED_BYTES_KEPT: usize = 2 * PACK_BYTES as usize;
/// How long settled messages stay in an idle outbox, and how soon an idle outbox sees that a sync failed.
const TICK: Duration = Duration::from_secs(1);
/// Pause between two attempts to write to a store that refuses.
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

pub(super) struct Writer<T> {
    /// Absent while it has to be opened again.
    store: Option<Store>,
    path: PathBuf,
    options: Options,
    lock: Arc<Lock>,
    session_of: String,
    /// The epoch when this process opened the outbox: the server's n-th session since is that much later.
    epoch_base: u64,
    state: State,
    settled: Vec<Settled>,
    commands: mpsc::Receiver<Command<T>>,
    reports: tokio_mpsc::UnboundedSender<Report<T>>,
    abandoned: Arc<AtomicBool>,
    troubled: bool,
    /// Number of the commit that failed, so that it is known again if it did not.
    attempted: Option<u64>,
    /// What waits for commits that could not be synced.
    unsynced: Vec<(u64, Waiting)>,
    /// Where packs are put together.
    packed: Vec<u8>,
    clock: SystemTimeSource,
}

/// What the store holds, as far as it is kept in memory. Changed with the open transaction; read again after one that
/// failed.
#[derive(Debug)]
struct State {
    tally: Tally,
    /// Messages in flight in the current session, and who has a packet id.
    flights: FxHashMap<u64, (u16, Stage)>,
    holders: FxHashMap<u16, u64>,
}

/// One transaction's work.
struct Batch<T> {
    accepted: Vec<Accepted<T>>,
    /// What was accepted, and its bytes.
    messages: usize,
    bytes: u64,
    steps: Vec<Step>,
    began: Option<u64>,
    settled: Vec<Settled>,
    waiting: Vec<oneshot::Sender<()>>,
    /// Questions, answered after the commit.
    loads: Vec<(u64, usize)>,
}

impl<T: Send + 'static> Writer<T> {
    /// Reads what the outbox holds, and forgets what was in flight in sessions that are over.
    pub(super) fn start(
        mut store: Store,
        notices: Vec<Notice>,
        session_of: String,
        commands: mpsc::Receiver<Command<T>>,
        reports: tokio_mpsc::UnboundedSender<Report<T>>,
        abandoned: Arc<AtomicBool>,
    ) -> Result<(Self, Found), StoreError> {
        let path = store.path().to_owned();
        let failed = |error| StoreError::from_sqlite(&path, error);
        let tally = Tally::load(store.connection()).map_err(failed)?;
        let resumes = tally.session_epoch > 0 && tally.session_of == session_of;
        let epoch_kept = if resumes { tally.session_epoch } else { 0 };
        forget_other_sessions(&mut store, epoch_kept).map_err(failed)?;
        let state = State::load(&store).map_err(failed)?;
        let restored = restore(&store, epoch_kept).map_err(failed)?;
        let found = Found { totals: state.tally.totals(), notices, restored: Vec::new(), resumes };
        let mut writer = Self {
            path: path.clone(),
            options: store.options().clone(),
            lock: store.lock(),
            store: Some(store),
            session_of,
            epoch_base: state.tally.session_epoch,
            state,
            settled: Vec::new(),
            commands,
            reports,
            abandoned,
            troubled: false,
            attempted: None,
            unsynced: Vec::new(),
            packed: Vec::new(),
            clock: SystemTimeSource::default(),
        };
        let restored = writer.give_up_damaged(restored);
        Ok((writer, Found { restored, ..found }))
    }

    pub(super) fn run(mut self) {
        loop {
            let mut batch = Batch::new();
            let open = match self.commands.recv_timeout(TICK) {
                Ok(command) => self.collect(command, &mut batch),
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => false,
            };
            let idle = batch.is_empty();
            batch.settled.append(&mut self.settled);
            let must_commit = batch.must_commit() || self.store.as_ref().is_none_or(Store::has_failed);
            if must_commit || ((idle || !open) && !batch.settled.is_empty()) {
                if !self.commit(&mut batch) {
                    return;
                }
            } else {
                self.settled = std::mem::take(&mut batch.settled);
            }
            self.answer(batch);
            if !open {
                self.end();
                return;
            }
        }
    }

    /// Until all is on disk, or it was given up.
    fn end(&mut self) {
        while let Some(Ended { error: Some(error), waiting }) = self.store.take().map(Store::end) {
            self.trouble(&error);
            self.unsynced.extend(waiting);
            if !self.commit(&mut Batch::new()) {
                return;
            }
        }
    }

    /// Takes what waits, as much as one transaction is to hold; false when it was told to stop.
    fn collect(&mut self, command: Command<T>, batch: &mut Batch<T>) -> bool {
        if let Some(store) = &self.store {
            // Further ahead of the disk, it would make more and smaller transactions.
            store.wait(1);
        }
        let mut next = Some(command);
        while let Some(command) = next {
            if !batch.take(command) {
                return false;
            }
            next = if batch.is_full() { None } else { self.commands.try_recv().ok() };
        }
        true
    }

    /// Until it has succeeded; false when it was given up. Whoever waits for the disk is told when the batch is there.
    fn commit(&mut self, batch: &mut Batch<T>) -> bool {
        let mut pauses = RETRY_AFTER[0];
        loop {
            match self.try_commit(batch) {
                Ok(()) => break,
                Err(error) => self.trouble(&error),
            }
            if self.abandoned.load(Ordering::Acquire) {
                return false;
            }
            std::thread::sleep(pauses);
            pauses = (pauses * 2).min(RETRY_AFTER[1]);
        }
        if std::mem::take(&mut self.troubled) {
            let _ = self.reports.send(Report::Trouble(None));
        }
        self.tell(batch);
        true
    }

    /// One transaction. After a failure the store is opened again and looked at before anything else: an error does
    /// not say that nothing was written.
    fn try_commit(&mut self, batch: &Batch<T>) -> Result<(), StoreError> {
        if let Some(store) = self.store.take_if(|store| store.has_failed()) {
            let Ended { error, waiting } = store.end();
            self.unsynced.extend(waiting);
            error.map_or(Ok(()), Err)?;
        }
        if self.store.is_none() {
            self.reopen()?;
        }
        if self.attempted.take() == Some(self.state.tally.commits) {
            return Ok(());
        }
        crash_point!(21);
        let commit = self.state.tally.commits + 1;
        self.write(batch, commit).inspect_err(|_| {
            self.unsynced.extend(self.store.take().map(Store::end).unwrap_or_default().waiting);
            self.attempted = Some(commit);
        })
    }

    fn write(&mut self, batch: &Batch<T>, commit: u64) -> Result<(), StoreError> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let path = &self.path;
        let failed = |error| StoreError::from_sqlite(path, error);
        let transaction = store.begin().map_err(failed)?;
        let (state, wall) = (&mut self.state, self.clock.wall());
        let change = Change {
            transaction: &transaction,
            state,
            wall,
            packed: &mut self.packed,
            finder: Finder::default(),
            leaving: Leaving::default(),
            remembered: Vec::new(),
        };
        change.apply(batch, self.epoch_base, &self.session_of).map_err(failed)?;
        self.packed.clear();
        self.packed.shrink_to(PACKED_BYTES_KEPT);
        self.state.tally.commits = commit;
        self.state.tally.save(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        crash_point!(24);
        Ok(())
    }

    /// What waits for commits that are there after all is let go of; what is not there was never promised.
    fn reopen(&mut self) -> Result<(), StoreError> {
        let (store, _) = Store::reopen(&self.path, &tables::LAYOUT, &self.options, Arc::clone(&self.lock))?;
        if !self.unsynced.is_empty() {
            store.settle_log()?;
        }
        self.state = State::load(&store).map_err(|error| StoreError::from_sqlite(&self.path, error))?;
        let commits = self.state.tally.commits;
        for (commit, waiting) in self.unsynced.drain(..).filter(|(commit, _)| *commit <= commits) {
            store.release(commit, true, waiting);
        }
        self.store = Some(store);
        Ok(())
    }

    fn trouble(&mut self, error: &StoreError) {
        self.troubled = true;
        let _ = self.reports.send(Report::Trouble(Some(error.to_string())));
    }

    /// The commit stands: lets go of everybody who waits for it when the disk has it.
    fn tell(&self, batch: &mut Batch<T>) {
        let durable = batch.must_sync();
        let (accepted, waiting) = (std::mem::take(&mut batch.accepted), std::mem::take(&mut batch.waiting));
        let first = self.state.tally.next_seq - batch.messages as u64;
        let reports = self.reports.clone();
        self.after_commit(durable, move || {
            crash_point!(25);
            if !accepted.is_empty() {
                let _ = reports.send(Report::Stored { first, accepted });
            }
            for waiting in waiting {
                let _ = waiting.send(());
            }
            crash_point!(26);
        });
    }

    /// Does `what` behind all that waits for the disk.
    fn after_commit(&self, durable: bool, what: impl FnOnce() + Send + 'static) {
        if let Some(store) = &self.store {
            store.release(self.state.tally.commits, durable, Box::new(what));
        }
    }

    fn answer(&mut self, batch: Batch<T>) {
        for (after, limit) in batch.loads {
            let loaded = match self.load(after, limit) {
                Ok(rows) => {
                    let end = rows.len() < limit;
                    Report::Loaded { rows, end }
                }
                Err(error) => {
                    self.trouble(&error);
                    Report::Loaded { rows: Vec::new(), end: false }
                }
            };
            self.report(loaded);
        }
    }

    /// Reports in the order of the commits.
    fn report(&self, report: Report<T>) {
        let reports = self.reports.clone();
        let send = move || drop(reports.send(report));
        match &self.store {
            Some(store) => store.release(self.state.tally.commits, false, Box::new(send)),
            None => send(),
        }
    }

    fn load(&mut self, after: u64, limit: usize) -> Result<Vec<(u64, Option<Stored>)>, StoreError> {
        if self.store.is_none() {
            self.reopen()?;
        }
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        held::each(store.connection(), after, |record| {
            if !self.state.flights.contains_key(&record.seq) {
                rows.push((record.seq, record.stored()));
            }
            rows.len() < limit
        })
        .map_err(|error| StoreError::from_sqlite(&self.path, error))?;
        Ok(rows)
    }

    /// A message that was in flight and cannot be read is kept as failed.
    fn give_up_damaged(&mut self, restored: Vec<(Flight, Option<Stored>)>) -> Vec<Restored> {
        let mut whole = Vec::new();
        for (Flight { seq, packet_id, stage }, stored) in restored {
            match stored {
                Some(stored) => whole.push(Restored { stored, packet_id, stage }),
                None => self.settled.push(Settled::damaged(seq)),
            }
        }
        whole
    }
}

impl State {
    fn load(store: &Store) -> rusqlite::Result<Self> {
        let tally = Tally::load(store.connection())?;
        let flights = tables::flights(store.connection(), tally.session_epoch)?;
        Ok(Self {
            tally,
            flights: flights.iter().map(|flight| (flight.seq, (flight.packet_id, flight.stage))).collect(),
            holders: flights.iter().map(|flight| (flight.packet_id, flight.seq)).collect(),
        })
    }
}

impl Tally {
    pub(super) fn totals(&self) -> Totals {
        Totals { rows: self.rows, bytes: self.bytes, failed: self.failed }
    }
}

impl Settled {
    /// A message that cannot be read.
    pub(crate) fn damaged(seq: u64) -> Self {
        let failure = Failure { reason: None, detail: "its row in the outbox is damaged".into() };
        Self { seq, bytes: 0, fate: Fate::Failed(failure) }
    }
}

impl<T> Batch<T> {
    fn new() -> Self {
        Self {
            accepted: Vec::new(),
            messages: 0,
            bytes: 0,
            steps: Vec::new(),
            began: None,
            settled: Vec::new(),
            waiting: Vec::new(),
            loads: Vec::new(),
        }
    }

    /// False when it is the last command.
    fn take(&mut self, command: Command<T>) -> bool {
        match command {
            Command::Insert(accepted, durable) => {
                self.messages += accepted.messages.len();
                self.bytes += accepted.messages.iter().map(|(_, message)| message.size()).sum::<u64>();
                self.accepted.push(accepted);
                self.waiting.push(durable);
            }
            Command::Record(Steps { steps, recorded }) => {
                self.steps.extend(steps);
                self.waiting.push(recorded);
            }
            Command::Began(begun) => self.began = self.began.max(Some(begun)),
            Command::Settle(settled) => self.settled.extend(settled),
            Command::Load { after, limit } => self.loads.push((after, limit)),
            Command::Stop => return false,
        }
        true
    }

    /// What was accepted, in order.
    fn messages(&self) -> impl Iterator<Item = (Uuid, Time, &Message)> + Clone {
        self.accepted.iter().flat_map(|Accepted { created, messages, .. }| {
            messages.iter().map(|(id, message)| (*id, *created, message))
        })
    }

    fn is_full(&self) -> bool {
        self.messages + self.steps.len() + self.settled.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES
    }

    fn is_empty(&self) -> bool {
        !self.must_commit() && self.settled.is_empty() && self.loads.is_empty()
    }

    /// Whether anybody waits for the disk, or a failure has to be kept.
    fn must_sync(&self) -> bool {
        !self.accepted.is_empty()
            || !self.steps.is_empty()
            || self.began.is_some()
            || self.settled.iter().any(|settled| matches!(settled.fate, Fate::Failed(_)))
    }

    /// Settled messages alone can wait, until there are many.
    fn must_commit(&self) -> bool {
        self.must_sync() || self.settled.len() >= BATCH_MESSAGES
    }
}

/// The open transaction, and the state as it will be after it.
struct Change<'a> {
    transaction: &'a Transaction<'a>,
    state: &'a mut State,
    wall: Time,
    packed: &'a mut Vec<u8>,
    finder: Finder,
    leaving: Leaving,
    /// What this transaction settles, in order.
    remembered: Vec<Remembered>,
}

impl Change<'_> {
    /// Steps before settlements: what a step says of a message is older than its end.
    fn apply<T>(mut self, batch: &Batch<T>, epoch_base: u64, session_of: &str) -> rusqlite::Result<()> {
        self.insert(batch)?;
        for step in &batch.steps {
            self.begin_session(epoch_base + step.begun, session_of)?;
            self.step(*step)?;
        }
        if let Some(begun) = batch.began {
            self.begin_session(epoch_base + begun, session_of)?;
        }
        crash_point!(22);
        for settled in &batch.settled {
            self.settle(settled)?;
        }
        self.remember()?;
        self.leaving.write(self.transaction)?;
        crash_point!(23);
        Ok(())
    }

    fn insert<T>(&mut self, batch: &Batch<T>) -> rusqlite::Result<()> {
        let (tally, mut left) = (&mut self.state.tally, batch.messages());
        loop {
            let count = pack_length(left.clone().map(|(.., message)| message));
            if count == 0 {
                break;
            }
            pack(tally.next_seq, count, left.by_ref(), self.packed);
            held::append(self.transaction, tally.next_seq, count, self.packed)?;
            tally.next_seq += count as u64;
        }
        tally.rows += batch.messages as u64;
        tally.bytes += batch.bytes;
        Ok(())
    }

    /// Packet ids of an earlier session mean nothing from here on.
    fn begin_session(&mut self, epoch: u64, session_of: &str) -> rusqlite::Result<()> {
        let State { tally, flights, holders } = &mut *self.state;
        if epoch <= tally.session_epoch {
            return Ok(());
        }
        tally.session_epoch = epoch;
        session_of.clone_into(&mut tally.session_of);
        flights.clear();
        holders.clear();
        tables::land_others(self.transaction, epoch)
    }

    fn step(&mut self, step: Step) -> rusqlite::Result<()> {
        let Step { token: seq, packet_id, released, .. } = step;
        if let Some(former) = self.state.holders.insert(packet_id, seq).filter(|former| *former != seq) {
            self.overtaken(former)?;
        }
        let stage = if released { Stage::Released } else { Stage::Published };
        self.state.flights.insert(seq, (packet_id, stage));
        tables::fly(self.transaction, Flight { seq, packet_id, stage }, self.state.tally.session_epoch)
    }

    /// The packet id was given to another message, so this one's handshake is over: with PUBCOMP if it was released,
    /// otherwise refused. The settlement that says so is on its way here.
    fn overtaken(&mut self, seq: u64) -> rusqlite::Result<()> {
        tables::land(self.transaction, seq)?;
        let Some((_, Stage::Released)) = self.state.flights.remove(&seq) else { return Ok(()) };
        let stored = self.finder.stored(self.transaction, seq)?;
        if self.leaving.take(self.transaction, seq)? {
            let bytes = stored.as_ref().map_or(0, |stored| stored.message.size());
            self.count_out(bytes);
            self.remembered.extend(stored.map(|Stored { seq, id, message, .. }| Remembered {
                id,
                seq,
                topic: message.topic,
                qos: message.qos,
            }));
        }
        Ok(())
    }

    fn settle(&mut self, settled: &Settled) -> rusqlite::Result<()> {
        let Settled { seq, bytes, fate } = settled;
        if let Some((packet_id, _)) = self.state.flights.remove(seq) {
            self.state.holders.remove(&packet_id);
            tables::land(self.transaction, *seq)?;
        }
        if !self.leaving.take(self.transaction, *seq)? {
            return Ok(());
        }
        match fate {
            Fate::Delivered { id, topic, qos } => {
                self.count_out(*bytes);
                self.remembered.push(Remembered { id: *id, seq: *seq, topic: topic.clone(), qos: *qos });
            }
            Fate::Failed(failure) => {
                let record = self.finder.record(self.transaction, *seq)?;
                let record = record.unwrap_or(Record { seq: *seq, crc: 0, body: &[] });
                tables::fail(self.transaction, record, self.wall, failure)?;
                self.state.tally.failed += 1;
            }
        }
        Ok(())
    }

    fn count_out(&mut self, bytes: u64) {
        let tally = &mut self.state.tally;
        tally.rows = tally.rows.saturating_sub(1);
        tally.bytes = tally.bytes.saturating_sub(bytes);
    }

    fn remember(&mut self) -> rusqlite::Result<()> {
        if self.remembered.is_empty() {
            return Ok(());
        }
        let before = self.state.tally.settled;
        self.state.tally.settled += self.remembered.len() as u64;
        settled::append(self.transaction, before, self.wall, &self.remembered)
    }
}

/// How many of these, at least one where there is any, go into the next row.
fn pack_length<'a>(messages: impl Iterator<Item = &'a Message>) -> usize {
    let mut bytes = 0;
    let fits = |message: &&Message| {
        let room = bytes < PACK_BYTES;
        bytes += message.size();
        room
    };
    messages.take(PACK_MESSAGES_MAX).take_while(fits).count()
}

fn forget_other_sessions(store: &mut Store, epoch: u64) -> rusqlite::Result<()> {
    let transaction = store.begin()?;
    tables::land_others(&transaction, epoch)?;
    if epoch == 0 {
        tables::disown_session(&transaction)?;
    }
    crash_point!(27);
    transaction.commit()
}

fn restore(store: &Store, epoch: u64) -> rusqlite::Result<Vec<(Flight, Option<Stored>)>> {
    let flights = tables::flights(store.connection(), epoch)?;
    let mut finder = Finder::default();
    let restore = |flight: Flight| Ok((flight, finder.stored(store.connection(), flight.seq)?));
    flights.into_iter().map(restore).collect()
}
