//! The inbox in a PostgreSQL database, shared by several members: those of a `$share` group, or of sharded topics.
//!
//! The handle is the same [`Inbox`](super::Inbox); behind it a thread of this module takes the place of the SQLite writer.
//! Nothing that is shared is in memory: every turn is one transaction of look-ups and changes by index, so any member may
//! die at any point, and any number of them may work at once.
//!
//! - A message is stored once: [`intake`](self::intake) looks for its key, [`schema`](self::schema) says why that holds over
//!   buckets of keys and members. Whoever comes second with a key that is not committed yet waits for the first.
//! - A message is handed out to one member at a time: [`work`](self::work), a row in `lease` with a unique number and lane,
//!   and a fence that settles only this claim.
//! - An effect commits with the `done` mark: [`effect`](self::effect).
//!
//! When a turn fails, nobody is answered, and nothing is accepted until there is a connection again. What was in
//! handlers' hands stays there: their leases are in the database.

mod counts;
mod desk;
mod effect;
mod intake;
pub(super) mod letters;
mod schema;
mod visit;
pub(super) mod window;
mod work;

use super::arrival::{Accepted, Arrival, Delivery, Lease, Outcome, SettleError};
use super::engine::{Claim, Command, Envelope, Handed, Reply};
use super::{Availability, Settings, Statistics};
use crate::store::StoreError;
use crate::store::fail::crash_point;
use crate::store::postgres::{Problem, Url};
use crate::store::sqlite::Notice;
use desk::{Desk, Error};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, watch};

const BATCH_MESSAGES_MAX: usize = 1_024;
const BATCH_BYTES_MAX: usize = 256 << 10;
const REOPEN_DELAY_MS: u64 = 100;
const REOPEN_DELAY_MS_MAX: u64 = 5_000;
/// Claims that may wait for work; further ones are refused.
const PARKED_MAX: usize = 4_096;
/// A turn that takes longer has lost its server.
const TURN_TIME_MAX: Duration = Duration::from_secs(30);

/// The member's thread's own.
pub(super) struct Engine {
    pub(super) settings: Arc<Settings>,
    pub(super) url: Url,
    pub(super) member: String,
    pub(super) commands: Receiver<Envelope>,
    pub(super) availability: watch::Sender<Availability>,
    pub(super) parked: VecDeque<Claim>,
    /// What is in handlers' hands: number and fence.
    pub(super) held: FxHashMap<u64, u64>,
}

/// Why the loop ended.
enum End {
    Closed(Option<Reply<()>>),
    Failed(StoreError),
}

/// What is done in one turn. Whoever asked is kept until the turn has committed, or it is known why it did not.
#[derive(Default)]
struct Turn {
    steps: Vec<Step>,
    settling: Vec<Settling>,
    given_back: Vec<Lease>,
    statistics: Vec<Reply<Statistics>>,
    counted: Statistics,
    claims: Vec<(Claim, Vec<Delivery>)>,
    permits: Vec<OwnedSemaphorePermit>,
    closing: Option<Reply<()>>,
}

/// What is done in the order in which it was asked for; neighbours of a kind in one statement.
enum Step {
    Accept { arrivals: Vec<Arrival>, replies: Vec<(usize, Reply<Vec<Accepted>>)>, accepted: Vec<Accepted> },
    Release { packet_ids: Vec<u16>, reply: Reply<Vec<bool>>, known: Vec<bool> },
    SessionLost { reply: Reply<u64>, dropped: u64 },
    Exchanges { reply: Reply<(u32, Vec<u16>)>, open: (u32, Vec<u16>) },
}

struct Settling {
    settlements: Vec<(Lease, Outcome)>,
    leases: Vec<Lease>,
    reply: Reply<Vec<Result<(), SettleError>>>,
    answers: Vec<Result<(), SettleError>>,
}

impl Engine {
    /// Starts the thread; returns when it has joined the inbox, or could not. Answers whether this member had taken anything
    /// before, and what a person should know.
    pub(super) fn start(self) -> Result<(bool, Vec<Notice>), StoreError> {
        let url = self.url.clone();
        let failed = |error: io::Error| {
            StoreError::postgres(&url, Problem::Failed(format!("its thread cannot start: {error}")))
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (opened, outcome) = mpsc::sync_channel(1);
        let body = move || match runtime.block_on(self.open()) {
            Ok((desk, notices)) => {
                drop(opened.send(Ok((desk.joined_before, notices))));
                self.run(&runtime, desk);
            }
            Err(error) => drop(opened.send(Err(error))),
        };
        std::thread::Builder::new().name("mqtally-inbox".into()).spawn(body).map_err(failed)?;
        outcome.recv().unwrap_or_else(|_| Err(failed(io::ErrorKind::Other.into())))
    }

    async fn open(&self) -> Result<(Desk, Vec<Notice>), StoreError> {
        let (mut desk, notices) = Desk::open(&self.url, &self.member, &self.settings).await?;
        let ended = async {
            desk.begin(true, 0).await?;
            desk.end_own_leases().await?;
            desk.commit().await
        };
        ended.await.map_err(|error| error.into_store_error(&self.url))?;
        Ok((desk, notices))
    }

    /// Runs until the inbox is closed or nobody holds it any more.
    fn run(mut self, runtime: &Runtime, mut desk: Desk) {
        loop {
            match self.serve(runtime, &mut desk) {
                End::Closed(reply) => return self.close(runtime, desk, reply),
                End::Failed(error) => {
                    drop(desk);
                    let Some(again) = self.recover(runtime, &error.to_string()) else { return };
                    desk = again;
                }
            }
        }
    }

    fn close(self, runtime: &Runtime, mut desk: Desk, reply: Option<Reply<()>>) {
        let ended = async {
            desk.begin(true, 0).await?;
            desk.end_own_leases().await?;
            desk.commit().await
        };
        // Without this they expire, or the next run ends them.
        drop(runtime.block_on(async { tokio::time::timeout(TURN_TIME_MAX / 6, ended).await }));
        self.availability.send_replace(Availability::Closed);
        if let Some(reply) = reply {
            let _ = reply.send(());
        }
    }

    fn serve(&mut self, runtime: &Runtime, desk: &mut Desk) -> End {
        let poll = Duration::from_millis(self.settings.poll_ms.max(1));
        let (mut looked, mut again) = (None::<Instant>, false);
        loop {
            let Ok(mut turn) = self.next_turn(if again { Duration::ZERO } else { poll }) else {
                return End::Closed(None);
            };
            let look = again || looked.is_none_or(|at| at.elapsed() >= poll);
            if look {
                looked = Some(Instant::now());
            }
            let outcome = runtime.block_on(async {
                tokio::time::timeout(TURN_TIME_MAX, turn.run(desk, &mut self.parked, look)).await
            });
            match outcome {
                Ok(Ok(more)) => again = more,
                failed => return End::Failed(self.fail(&turn, failed.map_or(None, Result::err))),
            }
            let closing = turn.closing.take();
            self.answer(turn);
            if closing.is_some() {
                return End::Closed(closing);
            }
        }
    }

    /// Waits for a command, then takes what else is there.
    fn next_turn(&mut self, poll: Duration) -> Result<Turn, RecvTimeoutError> {
        let mut turn = Turn::default();
        let mut next = match self.commands.recv_timeout(poll) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(closed) => return Err(closed),
        };
        let (mut messages, mut bytes) = (0, 0);
        while let Some(Envelope { command, permit }) = next {
            let (more, size) = command.size();
            (messages, bytes) = (messages + more, bytes + size);
            turn.permits.extend(permit);
            self.add(&mut turn, command);
            let full = messages >= BATCH_MESSAGES_MAX || bytes >= BATCH_BYTES_MAX || turn.closing.is_some();
            next = if full { None } else { self.commands.try_recv().ok() };
        }
        Ok(turn)
    }

    fn add(&mut self, turn: &mut Turn, command: Command) {
        match command {
            Command::Accept(arrivals, reply) => turn.accept(arrivals, reply),
            Command::Release(packet_ids, reply) => {
                turn.steps.push(Step::Release { packet_ids, reply, known: Vec::new() });
            }
            Command::SessionLost(reply) => turn.steps.push(Step::SessionLost { reply, dropped: 0 }),
            Command::Exchanges(reply) => turn.steps.push(Step::Exchanges { reply, open: (0, Vec::new()) }),
            Command::Settle(settlements, reply) => {
                let leases = settlements.iter().map(|(lease, _)| *lease).collect();
                turn.settling.push(Settling { settlements, leases, reply, answers: Vec::new() });
            }
            Command::Claim(claim) if self.parked.len() < PARKED_MAX => self.parked.push_back(claim),
            Command::Claim(_) => {}
            Command::GiveBack(leases) => {
                leases.iter().for_each(|lease| self.let_go(*lease));
                turn.given_back.extend(leases);
            }
            Command::Statistics(reply) => turn.statistics.push(reply),
            Command::Close(reply) => turn.closing = Some(reply),
        }
    }

    fn let_go(&mut self, lease: Lease) {
        if self.held.get(&lease.sequence) == Some(&lease.fence) {
            self.held.remove(&lease.sequence);
        }
    }

    /// The turn is committed: hands out what was claimed, and answers. Nobody may wait any more; what was done stays done.
    fn answer(&mut self, turn: Turn) {
        for (claim, deliveries) in turn.claims {
            crash_point!(6);
            self.held.extend(deliveries.iter().map(|delivery| (delivery.sequence, delivery.fence)));
            drop(claim.reply.send(Handed { deliveries, back: claim.back }));
        }
        for Settling { leases, reply, answers, .. } in turn.settling {
            let ended = leases
                .iter()
                .zip(&answers)
                .filter(|(_, answer)| !matches!(answer, Err(SettleError::Effect(_))));
            ended.for_each(|(lease, _)| self.let_go(*lease));
            drop(reply.send(answers));
        }
        turn.steps.into_iter().for_each(Step::answer);
        for reply in turn.statistics {
            let _ = reply.send(turn.counted);
        }
        crash_point!(8);
    }

    /// The turn is lost: says why, and only then lets those go who wait for it.
    fn fail(&mut self, turn: &Turn, error: Option<Error>) -> StoreError {
        let error = match error {
            Some(error) => error.into_store_error(&self.url),
            None => StoreError::postgres(
                &self.url,
                Problem::Failed(format!("the server has not answered for {TURN_TIME_MAX:?}")),
            ),
        };
        self.availability.send_replace(Availability::Unavailable(error.to_string().into()));
        // Whoever settles and gets no answer does not settle again.
        turn.settling.iter().flat_map(|settling| &settling.leases).for_each(|lease| self.let_go(*lease));
        self.parked.clear();
        error
    }

    /// Connects again until that works; meanwhile whoever asks is turned away. `None` when closed.
    fn recover(&mut self, runtime: &Runtime, reason: &str) -> Option<Desk> {
        let mut reason = reason.to_owned();
        let mut delay_ms = REOPEN_DELAY_MS;
        loop {
            self.availability.send_replace(Availability::Unavailable(reason.as_str().into()));
            if let Some(closing) = self.turn_away_for(Duration::from_millis(delay_ms)) {
                self.availability.send_replace(Availability::Closed);
                if let Some(reply) = closing {
                    let _ = reply.send(());
                }
                return None;
            }
            match runtime.block_on(self.reopen()) {
                Ok(desk) => {
                    self.availability.send_replace(Availability::Available);
                    return Some(desk);
                }
                Err(error) => reason = error.to_string(),
            }
            delay_ms = (delay_ms * 2).min(REOPEN_DELAY_MS_MAX);
        }
    }

    /// Handlers go on with what they hold; the rest is handed out again.
    async fn reopen(&self) -> Result<Desk, StoreError> {
        let held: Vec<_> =
            self.held.iter().map(|(sequence, fence)| Lease { sequence: *sequence, fence: *fence }).collect();
        let reopened = async {
            let (mut desk, _) = Desk::open(&self.url, &self.member, &self.settings).await?;
            desk.give_back_all_but(&held).await.map_err(|error| error.into_store_error(&self.url))?;
            Ok(desk)
        };
        let too_late = StoreError::postgres(&self.url, Problem::Unreachable("it does not answer".into()));
        tokio::time::timeout(TURN_TIME_MAX, reopened).await.unwrap_or(Err(too_late))
    }

    /// Drops what is asked, unanswered, for this long. `Some` when the inbox was closed.
    fn turn_away_for(&mut self, time: Duration) -> Option<Option<Reply<()>>> {
        let until = Instant::now() + time;
        loop {
            match self.commands.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Envelope { command: Command::Close(reply), .. }) => return Some(Some(reply)),
                Ok(Envelope { command: Command::Settle(settlements, _), .. }) => {
                    settlements.iter().for_each(|(lease, _)| self.let_go(*lease));
                }
                Ok(Envelope { command: Command::GiveBack(leases), .. }) => {
                    leases.iter().for_each(|lease| self.let_go(*lease));
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => return Some(None),
            }
        }
    }
}

impl Turn {
    fn accept(&mut self, more: Vec<Arrival>, reply: Reply<Vec<Accepted>>) {
        let reply = (more.len(), reply);
        match self.steps.last_mut() {
            Some(Step::Accept { arrivals, replies, .. }) => {
                arrivals.extend(more);
                replies.push(reply);
            }
            _ => self.steps.push(Step::Accept { arrivals: more, replies: vec![reply], accepted: Vec::new() }),
        }
    }

    /// One transaction: what was asked for in order, then what time and others have changed, then claims. Answers whether time
    /// and others have changed more than one transaction takes.
    async fn run(
        &mut self,
        desk: &mut Desk,
        parked: &mut VecDeque<Claim>,
        look: bool,
    ) -> Result<bool, Error> {
        crash_point!(1);
        if look {
            desk.turn_clock().await?;
        }
        parked.retain(|claim| !claim.reply.is_closed());
        let works = !self.steps.is_empty() || !self.settling.is_empty() || !self.given_back.is_empty();
        if !works && !look && parked.is_empty() {
            return self.count(desk).await.map(|()| false);
        }
        desk.begin(self.must_be_synced(), self.arrivals()).await?;
        for step in &mut self.steps {
            step.run(desk).await?;
        }
        crash_point!(2);
        for settling in &mut self.settling {
            settling.answers = desk.settle(std::mem::take(&mut settling.settlements)).await?;
        }
        crash_point!(7);
        if !self.given_back.is_empty() {
            desk.give_back(&self.given_back).await?;
        }
        let more = look && desk.tick().await?;
        self.serve_claims(desk, parked).await?;
        crash_point!(3);
        desk.commit().await?;
        crash_point!(4);
        self.count(desk).await?;
        crash_point!(5);
        Ok(more)
    }

    async fn count(&mut self, desk: &mut Desk) -> Result<(), Error> {
        if !self.statistics.is_empty() {
            self.counted = desk.statistics().await?;
        }
        Ok(())
    }

    /// Serves the workers that wait, the longest-waiting first.
    async fn serve_claims(&mut self, desk: &mut Desk, parked: &mut VecDeque<Claim>) -> Result<(), Error> {
        for _ in 0..parked.len() {
            let Some(claim) = parked.front() else { break };
            let deliveries = desk.claim(claim.channel, claim.max).await?;
            match parked.pop_front() {
                Some(claim) if deliveries.is_empty() => parked.push_back(claim),
                claim => self.claims.extend(claim.map(|claim| (claim, deliveries))),
            }
        }
        Ok(())
    }

    fn arrivals(&self) -> usize {
        let of = |step: &Step| if let Step::Accept { arrivals, .. } = step { arrivals.len() } else { 0 };
        self.steps.iter().map(of).sum()
    }

    /// Whether somebody outside will rely on the answer.
    fn must_be_synced(&self) -> bool {
        let marks = |outcome: &Outcome| matches!(outcome, Outcome::Done);
        self.steps.iter().any(|step| !matches!(step, Step::Exchanges { .. }))
            || self
                .settling
                .iter()
                .flat_map(|settling| &settling.settlements)
                .any(|(_, outcome)| !marks(outcome))
    }
}

impl Step {
    async fn run(&mut self, desk: &mut Desk) -> Result<(), Error> {
        match self {
            Self::Accept { arrivals, accepted, .. } => *accepted = desk.accept(arrivals).await?,
            Self::Release { packet_ids, known, .. } => *known = desk.release(packet_ids).await?,
            Self::SessionLost { dropped, .. } => *dropped = desk.session_lost().await?,
            Self::Exchanges { open, .. } => *open = desk.open_exchanges(),
        }
        Ok(())
    }

    fn answer(self) {
        match self {
            Self::Accept { replies, accepted, .. } => {
                let mut accepted = accepted.into_iter();
                for (count, reply) in replies {
                    drop(reply.send(accepted.by_ref().take(count).collect()));
                }
            }
            Self::Release { reply, known, .. } => drop(reply.send(known)),
            Self::SessionLost { reply, dropped } => drop(reply.send(dropped)),
            Self::Exchanges { reply, open } => drop(reply.send(open)),
        }
    }
}
