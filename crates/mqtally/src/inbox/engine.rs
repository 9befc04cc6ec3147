//! The writer: one thread, one connection, one transaction after another.
//!
//! Each turn waits for one thing, drains what else has come (up to 1,024 messages or 256 KiB), applies it in order in one
//! transaction, and commits. Its answers wait for the disk, in order, in the store's own thread ([`Store::release`]): the next
//! turn is worked on while this one is synced, and no timer delays what anybody outside waits for.
//!
//! When a turn or a sync fails, nobody is answered, and nothing is accepted until the store has been opened and checked again.

use super::Settings;
use super::arrival::{Accepted, Arrival, Delivery, Lease, Outcome, SettleError};
use super::schedule::Channel;
use super::state::State;
use super::statistics::Statistics;
use crate::store::StoreError;
use crate::store::fail::crash_point;
use crate::store::sqlite::{Ended, Lock, Options, Store};
use rusqlite::Transaction;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

const BATCH_MESSAGES_MAX: usize = 1_024;
const BATCH_BYTES_MAX: usize = 256 << 10;
const REOPEN_DELAY_MS: u64 = 100;
const REOPEN_DELAY_MS_MAX: u64 = 5_000;
/// How long after one message another is likely, and how long marks wait for it.
const ARRIVING: Duration = Duration::from_millis(1);
const COMPANY_WAIT: Duration = Duration::from_micros(150);
/// Claims that may wait for work; further ones are refused.
const PARKED_MAX: usize = 4_096;

/// Whether messages can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// They can.
    Available,
    /// The store cannot be written; it is opened again and again. Stop reading, keep the connection alive.
    Unavailable(Arc<str>),
    /// The inbox was closed.
    Closed,
}

pub(super) type Reply<T> = oneshot::Sender<T>;

/// What is asked of the writer.
pub(super) enum Command {
    Accept(Vec<Arrival>, Reply<Vec<Accepted>>),
    Settle(Vec<(Lease, Outcome)>, Reply<Vec<Result<(), SettleError>>>),
    Claim(Claim),
    GiveBack(Vec<Lease>),
    Release(Vec<u16>, Reply<Vec<bool>>),
    SessionLost(Reply<u64>),
    Exchanges(Reply<(u32, Vec<u16>)>),
    Statistics(Reply<Statistics>),
    Close(Reply<()>),
}

/// A worker that waits for messages.
pub(super) struct Claim {
    pub(super) channel: Channel,
    pub(super) max: usize,
    pub(super) reply: Reply<Handed>,
    /// Where deliveries go back to that arrive when the worker has stopped waiting.
    pub(super) back: Sender<Envelope>,
}

/// Deliveries on their way to a worker; dropped on the way, they are handed out again.
pub(super) struct Handed {
    pub(super) deliveries: Vec<Delivery>,
    pub(super) back: Sender<Envelope>,
}

impl Handed {
    /// They have arrived.
    pub(super) fn take(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if !self.deliveries.is_empty() {
            let leases = self.deliveries.iter().map(Delivery::lease).collect();
            // Without a writer there is no lease either.
            let _ = self.back.send(Envelope { command: Command::GiveBack(leases), permit: None });
        }
    }
}

/// A command and its share of the queue, which it frees when it was answered.
pub(super) struct Envelope {
    pub(super) command: Command,
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// The writer thread's own.
pub(super) struct Engine {
    pub(super) settings: Arc<Settings>,
    pub(super) path: PathBuf,
    pub(super) commands: Receiver<Envelope>,
    pub(super) availability: watch::Sender<Availability>,
    pub(super) parked: VecDeque<Claim>,
    pub(super) turn: Turn,
    /// When something that has to be synced was committed last.
    pub(super) arrived: Option<Instant>,
}

/// What one turn has to do. It outlives a turn that fails, so that whoever finds himself unanswered already sees why.
#[derive(Default)]
pub(super) struct Turn {
    batch: VecDeque<Envelope>,
    owed: Owed,
    failed: Option<Answer>,
}

/// What waits for a turn's commit.
#[derive(Default)]
struct Owed {
    permits: Vec<OwnedSemaphorePermit>,
    answers: Vec<Answer>,
    claims: Vec<(Claim, Vec<Delivery>)>,
}

/// Why the loop ended.
enum End {
    Closed(Option<Reply<()>>),
    /// A turn failed; without an error, those before it do not reach the disk.
    Failed(Option<StoreError>),
}

/// An answer that waits for the commit.
type Answer = Box<dyn FnOnce() + Send>;

impl Engine {
    /// Runs until the inbox is closed or nobody holds it any more.
    pub(super) fn run(mut self, mut store: Store, mut state: State) {
        loop {
            match self.serve(&mut store, &mut state) {
                End::Closed(reply) => return self.close(store, reply),
                End::Failed(error) => {
                    drop(state);
                    let Some(reopened) = self.recover(store, error) else { return };
                    (store, state) = reopened;
                }
            }
        }
    }

    fn close(self, store: Store, reply: Option<Reply<()>>) {
        let ended = store.end();
        self.availability.send_replace(Availability::Closed);
        drop(ended);
        if let Some(reply) = reply {
            let _ = reply.send(());
        }
    }

    fn serve(&mut self, store: &mut Store, state: &mut State) -> End {
        let mut looked = Look::default();
        loop {
            if self.next_batch(state).is_err() {
                return End::Closed(None);
            }
            self.keep_step(store);
            if store.has_failed() {
                return End::Failed(None);
            }
            let closing = take_close(&mut self.turn.batch);
            if let Err(error) = self.turn(store, state, &mut looked) {
                return End::Failed(Some(error));
            }
            if closing.is_some() {
                return End::Closed(closing);
            }
        }
    }

    /// Waits for a command or the next change by time, then takes what else is there.
    fn next_batch(&mut self, state: &State) -> Result<(), RecvTimeoutError> {
        let poll_ms = self.settings.poll_ms.max(1);
        let wait_ms = state.next_change_ms().unwrap_or(poll_ms).clamp(1, poll_ms);
        let first = match self.commands.recv_timeout(Duration::from_millis(wait_ms)) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(closed) => return Err(closed),
        };
        self.turn.batch.push_back(first);
        self.gather();
        Ok(())
    }

    /// Takes what is there, as much as one transaction is to hold.
    fn gather(&mut self) {
        let batch = &mut self.turn.batch;
        let (mut messages, mut bytes) = (0, 0);
        for (more, size) in batch.iter().map(|envelope| envelope.command.size()) {
            (messages, bytes) = (messages + more, bytes + size);
        }
        let is_close = |envelope: &Envelope| matches!(envelope.command, Command::Close(_));
        while messages < BATCH_MESSAGES_MAX && bytes < BATCH_BYTES_MAX && !batch.back().is_some_and(is_close)
        {
            let Ok(envelope) = self.commands.try_recv() else { return };
            let (more, size) = envelope.command.size();
            (messages, bytes) = (messages + more, bytes + size);
            batch.push_back(envelope);
        }
    }

    /// One turn ahead of the disk with what has to be on it, and none with marks alone, which gather meanwhile.
    fn keep_step(&mut self, store: &Store) {
        if !self.must_be_synced() {
            store.wait(0);
            self.gather();
            self.wait_for_company();
        }
        store.wait(1);
        self.gather();
    }

    /// While messages arrive, marks alone wait a moment for the next of them, to share its transaction.
    fn wait_for_company(&mut self) {
        if self.arrived.is_none_or(|at| at.elapsed() >= ARRIVING) {
            return;
        }
        let until = Instant::now() + COMPANY_WAIT;
        while self.turn.batch.back().is_some_and(|envelope| envelope.command.is_mark()) {
            match self.commands.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(envelope) => self.turn.batch.push_back(envelope),
                Err(_) => return,
            }
        }
    }

    fn must_be_synced(&self) -> bool {
        self.turn.batch.iter().any(|envelope| envelope.command.must_be_synced())
    }

    /// One transaction: everything of the batch in order, then what time and others have changed, then claims.
    fn turn(&mut self, store: &mut Store, state: &mut State, looked: &mut Look) -> Result<(), StoreError> {
        crash_point!(1);
        let path = store.path().to_owned();
        let failed = |error| StoreError::from_sqlite(&path, error);
        let durable = self.must_be_synced();
        let look = looked.is_due(store, Duration::from_millis(self.settings.poll_ms)).map_err(failed)?;
        let syncs = store.syncs();
        let transaction = store.begin().map_err(failed)?;
        while let Some(envelope) = self.turn.batch.pop_front() {
            self.turn.owed.permits.extend(envelope.permit);
            self.apply(&transaction, state, envelope.command).map_err(failed)?;
        }
        state.tick(&transaction).map_err(failed)?;
        if look {
            looked.again |= state.take_replays(&transaction).map_err(failed)? > 0;
        }
        self.serve_claims(&transaction, state).map_err(failed)?;
        if state.dirty {
            state.finish(&transaction, syncs).map_err(failed)?;
            crash_point!(3);
            transaction.commit().map_err(failed)?;
            crash_point!(4);
        } else {
            transaction.rollback().map_err(failed)?;
        }
        let durable = durable && state.dirty;
        if durable {
            self.arrived = Some(Instant::now());
        }
        state.committed();
        let owed = std::mem::take(&mut self.turn.owed);
        if durable || !owed.is_empty() {
            store.release(state.commits(), durable, Box::new(move || owed.answer()));
        }
        Ok(())
    }

    fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        state: &mut State,
        command: Command,
    ) -> rusqlite::Result<()> {
        match command {
            Command::Accept(arrivals, reply) => self.turn.owe(reply, state.accept(transaction, arrivals)),
            Command::Settle(settlements, reply) => {
                self.turn.owe(reply, state.settle(transaction, settlements))
            }
            Command::Claim(claim) if self.parked.len() < PARKED_MAX => {
                self.parked.push_back(claim);
                Ok(())
            }
            Command::Claim(_) => Ok(()),
            Command::GiveBack(leases) => state.give_back(transaction, &leases),
            Command::Release(packet_ids, reply) => {
                let known = packet_ids.into_iter().map(|packet_id| state.release(packet_id));
                self.turn.owe(reply, Ok(known.collect()))
            }
            Command::SessionLost(reply) => self.turn.owe(reply, state.session_lost(transaction)),
            Command::Exchanges(reply) => self.turn.owe(reply, Ok(state.open_exchanges())),
            Command::Statistics(reply) => self.turn.owe(reply, state.statistics(transaction)),
            Command::Close(reply) => self.turn.owe(reply, Ok(())),
        }
    }

    /// Serves the workers that wait, the longest-waiting first.
    fn serve_claims(&mut self, transaction: &Transaction<'_>, state: &mut State) -> rusqlite::Result<()> {
        for _ in 0..self.parked.len() {
            let Some(claim) = self.parked.front().filter(|claim| !claim.reply.is_closed()) else {
                self.parked.pop_front();
                continue;
            };
            let deliveries = state.claim(transaction, claim.channel, claim.max)?;
            let claim = self.parked.pop_front();
            match claim {
                Some(claim) if deliveries.is_empty() => self.parked.push_back(claim),
                claim => self.turn.owed.claims.extend(claim.map(|claim| (claim, deliveries))),
            }
        }
        Ok(())
    }

    /// Opens the store again until that works; meanwhile whoever asks is turned away. `None` when closed.
    fn recover(&mut self, store: Store, error: Option<StoreError>) -> Option<(Store, State)> {
        let (lock, options) = (store.lock(), store.options().clone());
        let Ended { error: unsynced, waiting } = store.end();
        let settle = unsynced.is_some();
        self.turn_away(&error.or(unsynced).map_or_else(String::new, |error| error.to_string()));
        drop(waiting);
        let mut delay_ms = REOPEN_DELAY_MS;
        loop {
            if let Some(closing) = self.turn_away_for(Duration::from_millis(delay_ms)) {
                self.availability.send_replace(Availability::Closed);
                if let Some(reply) = closing {
                    let _ = reply.send(());
                }
                return None;
            }
            match self.reopen(&options, &lock, settle) {
                Ok(reopened) => {
                    self.availability.send_replace(Availability::Available);
                    return Some(reopened);
                }
                Err(error) => self.turn_away(&error.to_string()),
            }
            delay_ms = (delay_ms * 2).min(REOPEN_DELAY_MS_MAX);
        }
    }

    fn reopen(
        &self,
        options: &Options,
        lock: &Arc<Lock>,
        settle: bool,
    ) -> Result<(Store, State), StoreError> {
        let (mut store, _) = Store::reopen(&self.path, &super::LAYOUT, options, Arc::clone(lock))?;
        if settle {
            store.settle_log()?;
        }
        let (state, _) = State::load(&mut store, &self.settings)?;
        Ok((store, state))
    }

    fn turn_away(&mut self, reason: &str) {
        self.availability.send_replace(Availability::Unavailable(reason.into()));
        self.turn = Turn::default();
        self.parked.clear();
    }

    /// Drops what is asked, unanswered, for this long. `Some` when the inbox was closed.
    fn turn_away_for(&self, time: Duration) -> Option<Option<Reply<()>>> {
        let until = Instant::now() + time;
        loop {
            match self.commands.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Envelope { command: Command::Close(reply), .. }) => return Some(Some(reply)),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => return Some(None),
            }
        }
    }
}

impl Turn {
    /// Keeps what is to be answered after the commit. A failure keeps the asker waiting until it is known why.
    fn owe<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        value: rusqlite::Result<T>,
    ) -> rusqlite::Result<()> {
        match value {
            // Nobody may wait any more; what was done stays done.
            Ok(value) => self.owed.answers.push(Box::new(move || drop(reply.send(value)))),
            Err(error) => {
                self.failed = Some(Box::new(move || drop(reply)));
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Owed {
    fn is_empty(&self) -> bool {
        self.permits.is_empty() && self.answers.is_empty() && self.claims.is_empty()
    }

    /// Hands out what was claimed, and answers.
    fn answer(self) {
        crash_point!(5);
        for (claim, deliveries) in self.claims {
            crash_point!(6);
            drop(claim.reply.send(Handed { deliveries, back: claim.back }));
        }
        self.answers.into_iter().for_each(|answer| answer());
        drop(self.permits);
        crash_point!(8);
    }
}

impl Command {
    /// Messages and bytes, as the batch counts them.
    pub(super) fn size(&self) -> (usize, usize) {
        match self {
            Self::Accept(arrivals, _) => {
                (arrivals.len(), arrivals.iter().map(|a| a.payload.len() + a.topic.len()).sum())
            }
            Self::Settle(settlements, _) => (settlements.len(), 0),
            Self::Release(packet_ids, _) => (packet_ids.len(), 0),
            _ => (1, 0),
        }
    }

    /// Whether it can wait a moment without anybody outside noticing.
    fn is_mark(&self) -> bool {
        matches!(self, Self::Settle(..) | Self::Claim(_) | Self::GiveBack(_)) && !self.must_be_synced()
    }

    /// Whether somebody outside will rely on the answer. The others are marks that may be lost with the machine: a claim,
    /// and a `done` without which the handler runs again.
    fn must_be_synced(&self) -> bool {
        match self {
            Self::Accept(..) | Self::Release(..) | Self::SessionLost(_) => true,
            Self::Settle(settlements, _) => {
                !settlements.iter().all(|(_, outcome)| matches!(outcome, Outcome::Done))
            }
            Self::Claim(_)
            | Self::GiveBack(_)
            | Self::Exchanges(_)
            | Self::Statistics(_)
            | Self::Close(_) => false,
        }
    }
}

/// When to look for what other processes wrote.
#[derive(Default)]
struct Look {
    version: Option<i64>,
    at: Option<Instant>,
    /// There was more than one transaction takes.
    again: bool,
}

impl Look {
    fn is_due(&mut self, store: &Store, interval: Duration) -> rusqlite::Result<bool> {
        if !self.again && self.at.is_some_and(|at| at.elapsed() < interval) {
            return Ok(false);
        }
        let version = Some(store.data_version()?);
        let changed = std::mem::take(&mut self.again) || version != self.version;
        (self.version, self.at) = (version, Some(Instant::now()));
        Ok(changed)
    }
}

fn take_close(batch: &mut VecDeque<Envelope>) -> Option<Reply<()>> {
    match batch.pop_back() {
        Some(Envelope { command: Command::Close(reply), .. }) => Some(reply),
        other => {
            batch.extend(other);
            None
        }
    }
}
