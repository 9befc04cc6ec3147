//! The inbox: the durable heart of a reliable subscriber. Store, acknowledge, then handle.
//!
//! - [`Inbox`]: a handle on the writer. **Start here.**
//! - [`Arrival`] → [`Accepted`]: a message that was read, and what it was. PUBACK and PUBREC go out after that.
//! - [`Delivery`] → [`Outcome`]: a message in a handler's hands, and what the handler decided.
//! - [`key`]: what makes two messages the same message.
//! - [`dead_letter`]: messages that were given up; also from another process.
//! - [`Window`]: which keys arrived and what is unsettled, from another process.
//!
//! What it claims: a message that was [accepted](Inbox::submit) is handed out until it is settled, over any number of
//! deaths of the process; inside the retention window each dedup key has one *committed* effect when the effect is
//! [in the inbox's transaction](Outcome::DoneWith). An effect elsewhere runs at least once, always with the same key.
//!
//! ```
//! use mqtally::inbox::{Arrival, Inbox, Outcome, Settings, Verdict, key::Keys, key::View};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let (inbox, notices) = Inbox::open(&directory.path().join("inbox.db"), Settings::default())?;
//! assert!(notices.is_empty());
//! let mut arrival = Arrival { topic: "a/b".into(), payload: r#"{"mqtally_id":"7"}"#.into(), ..Arrival::default() };
//! let keys = Keys::new("consumer");
//! arrival.key = keys.key_of(View {
//!     topic: &arrival.topic, properties: &arrival.properties, payload: &arrival.payload, received_at: arrival.received_at,
//! });
//! let first = inbox.accept(arrival.clone()).await?;
//! assert_eq!(first.verdict, Verdict::New);
//! assert!(matches!(inbox.accept(arrival).await?.verdict, Verdict::Duplicate(_)));
//!
//! for delivery in inbox.claim(0, 16).await? {
//!     inbox.settle(delivery.lease(), Outcome::Done).await??;
//! }
//! inbox.close().await;
//! # Ok(())
//! # }
//! ```

mod arrival;
mod backlog;
mod consumer;
mod copies;
pub mod dead_letter;
mod engine;
mod exchanges;
mod fresh;
mod ids;
mod index;
pub mod key;
mod pack;
#[cfg(feature = "postgres")]
mod postgres;
mod record;
mod retry;
mod schedule;
mod state;
mod statement;
mod statistics;
mod tally;
mod window;
mod work;

pub use arrival::{
    Accepted, Arrival, Cause, ConflictPolicy, Delivery, Effect, Exchange, InboxError, Lane, Lease, Outcome,
    SettleError, Verdict,
};
pub use consumer::Consumer;
pub use copies::Copies;
pub use engine::Availability;
pub use retry::RetryPolicy;
pub use schedule::Channel;
pub use statement::{Statement, Value};
pub use statistics::Statistics;
pub use window::{Unsettled, Window};

use crate::store::StoreError;
use crate::store::clock::{SystemTimeSource, TimeSource};
use crate::store::sqlite::{self, Layout, Notice, Store};
use engine::{Claim, Command, Engine, Envelope, Reply, Turn};
use state::State;
use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// The inbox's format.
pub(crate) const LAYOUT: Layout =
    Layout { kind: "inbox", version: 3, cache_bytes: 8 << 20, schema: state::schema };

/// How long dedup keys are kept where nothing else is said.
pub(crate) const WINDOW_MS: u64 = 7 * 24 * 3_600_000;

/// What the queue before the writer holds at most, in KiB; a message counts as at least one.
const QUEUE_KIB_MAX: usize = 16 << 10;

/// How an inbox behaves.
pub struct Settings {
    /// How to open the store.
    pub store: sqlite::Options,
    /// How long dedup keys are kept, by the store's own clock; up to an eighth longer.
    pub window_ms: u64,
    /// In whose name dedup keys are made; kept in the store, for whoever compares it with an outbox.
    pub consumer: Option<Consumer>,
    /// What happens to a message whose key is known with another body.
    pub conflict: ConflictPolicy,
    /// How failures are tried again.
    pub retry: RetryPolicy,
    /// How long a handler may hold a message before it is handed out again.
    pub lease_ms: u64,
    /// Messages that are looked at ahead of the handlers; a lane that is this far behind stalls the others.
    pub lookahead_max: usize,
    /// Which handlers take a topic.
    pub channel_of: Box<dyn Fn(&str) -> Channel + Send + Sync>,
    /// How soon a replay from another process is noticed.
    pub poll_ms: u64,
    /// Clocks.
    pub time: Box<dyn TimeSource + Sync>,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            store: sqlite::Options::default(),
            window_ms: WINDOW_MS,
            consumer: None,
            conflict: ConflictPolicy::default(),
            retry: RetryPolicy::default(),
            lease_ms: 60_000,
            lookahead_max: 65_536,
            channel_of: Box::new(|_| 0),
            poll_ms: 250,
            time: Box::new(SystemTimeSource::default()),
            seed: 0,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("store", &self.store)
            .field("window_ms", &self.window_ms)
            .field("conflict", &self.conflict)
            .field("retry", &self.retry)
            .field("lease_ms", &self.lease_ms)
            .field("lookahead_max", &self.lookahead_max)
            .finish_non_exhaustive()
    }
}

/// A handle on the inbox; clones share one writer, which ends with the last of them.
///
/// All of it is cancellation-safe: what was queued is done, whether or not anybody waits for the answer, and a claim that
/// nobody waits for leases nothing.
#[derive(Debug, Clone)]
pub struct Inbox {
    commands: mpsc::Sender<Envelope>,
    queue: Arc<Semaphore>,
    availability: watch::Receiver<Availability>,
    joined_before: Option<bool>,
}

/// Arrivals in the queue; they become durable whether or not this is awaited.
#[derive(Debug)]
pub struct Submitted {
    answer: oneshot::Receiver<Vec<Accepted>>,
    availability: watch::Receiver<Availability>,
}

impl Inbox {
    /// Opens the inbox at `path`, or makes it. Also returns what was repaired. Blocks for as long as the dedup keys take to
    /// read: about a second for each ten million.
    pub fn open(path: &Path, settings: Settings) -> Result<(Self, Vec<Notice>), StoreError> {
        let settings = Arc::new(settings);
        let (mut store, mut notices) = Store::open(path, &LAYOUT, &settings.store)?;
        let (state, more) = State::load(&mut store, &settings)?;
        notices.extend(more);
        let (commands, receiver) = mpsc::channel();
        let (sender, availability) = watch::channel(Availability::Available);
        let engine = Engine {
            settings,
            path: path.to_owned(),
            commands: receiver,
            availability: sender,
            parked: VecDeque::new(),
            turn: Turn::default(),
            arrived: None,
        };
        std::thread::Builder::new()
            .name("mqtally-inbox".into())
            .spawn(move || engine.run(store, state))
            .map_err(|source| StoreError::Io { path: path.to_owned(), act: "start the writer", source })?;
        let queue = Arc::new(Semaphore::new(QUEUE_KIB_MAX));
        Ok((Self { commands, queue, availability, joined_before: None }, notices))
    }

    /// Joins the inbox at `url` as `member`, or makes it. The member is one process at a time; QoS 2 packet ids and the session's
    /// number are its own, everything else is shared with the other members. [`Settings::store`] means nothing here.
    /// Blocks until it is connected. Also returns what a person should know.
    #[cfg(feature = "postgres")]
    pub fn open_shared(
        url: &crate::store::postgres::Url,
        member: &str,
        settings: Settings,
    ) -> Result<(Self, Vec<Notice>), StoreError> {
        let (commands, receiver) = mpsc::channel();
        let (sender, availability) = watch::channel(Availability::Available);
        let engine = postgres::Engine {
            settings: Arc::new(settings),
            url: url.clone(),
            member: member.to_owned(),
            commands: receiver,
            availability: sender,
            parked: VecDeque::new(),
            held: rustc_hash::FxHashMap::default(),
        };
        let (joined_before, notices) = engine.start()?;
        let queue = Arc::new(Semaphore::new(QUEUE_KIB_MAX));
        Ok((Self { commands, queue, availability, joined_before: Some(joined_before) }, notices))
    }

    /// Queues arrivals, in the order of the calls. Waits while the queue is full.
    pub async fn submit(&self, arrivals: Vec<Arrival>) -> Result<Submitted, InboxError> {
        let kib = arrivals.iter().map(|arrival| 1 + (arrival.payload.len() >> 10)).sum();
        let (reply, answer) = oneshot::channel();
        self.queue(kib, Command::Accept(arrivals, reply)).await?;
        Ok(Submitted { answer, availability: self.availability.clone() })
    }

    /// Stores one arrival; resolves when it is durable. Then it may be acknowledged.
    pub async fn accept(&self, arrival: Arrival) -> Result<Accepted, InboxError> {
        let accepted = self.submit(vec![arrival]).await?.durable().await?;
        accepted.first().copied().ok_or(InboxError::Closed)
    }

    /// Leases up to `max` messages of `channel`, in order; waits until there is one.
    /// Those of one lane come one at a time, each after the one before it was settled.
    pub async fn claim(&self, channel: Channel, max: usize) -> Result<Vec<Delivery>, InboxError> {
        let back = self.commands.clone();
        let handed =
            self.ask(0, |reply| Command::Claim(Claim { channel, max: max.max(1), reply, back })).await?;
        Ok(handed.take())
    }

    /// Settles one delivery. The outer error means that it is not known whether it was settled.
    pub async fn settle(
        &self,
        lease: Lease,
        outcome: Outcome,
    ) -> Result<Result<(), SettleError>, InboxError> {
        let mut settled = self.settle_all(vec![(lease, outcome)]).await?;
        settled.pop().ok_or(InboxError::Closed)
    }

    /// Settles deliveries in one transaction, in order.
    pub async fn settle_all(
        &self,
        settlements: Vec<(Lease, Outcome)>,
    ) -> Result<Vec<Result<(), SettleError>>, InboxError> {
        self.ask(settlements.len(), |reply| Command::Settle(settlements, reply)).await
    }

    /// PUBREL came: forgets the packet id, durably. PUBCOMP goes out after that, with reason 0x92 in 5.0 where the id was not
    /// known, which is what the answer says. Sent earlier, a crash would make a new message with this id a redelivery.
    pub async fn release(&self, packet_id: u16) -> Result<bool, InboxError> {
        self.release_all(vec![packet_id]).await.map(|known| known == [true])
    }

    /// [Releases](Self::release) several, in order, in one transaction.
    pub async fn release_all(&self, packet_ids: Vec<u16>) -> Result<Vec<bool>, InboxError> {
        self.ask(packet_ids.len(), |reply| Command::Release(packet_ids, reply)).await
    }

    /// The broker had lost the session: drops its packet ids. Messages and keys stay. Returns how many ids were dropped.
    pub async fn session_lost(&self) -> Result<u64, InboxError> {
        self.ask(1, Command::SessionLost).await
    }

    /// The current session's number, and its packet ids that wait for PUBREL, in ascending order.
    pub async fn session(&self) -> Result<(u32, Vec<u16>), InboxError> {
        self.ask(1, Command::Exchanges).await
    }

    /// What is counted, and what is in the store.
    pub async fn statistics(&self) -> Result<Statistics, InboxError> {
        self.ask(1, Command::Statistics).await
    }

    /// Whether messages can be taken, now and whenever that changes.
    pub fn availability(&self) -> watch::Receiver<Availability> {
        self.availability.clone()
    }

    /// Whether this member of a shared inbox had taken anything before it joined now. `None`: the inbox has one consumer, and its
    /// statistics tell.
    pub(crate) fn was_joined_before(&self) -> Option<bool> {
        self.joined_before
    }

    /// Finishes what is queued, makes the watermark durable and lets go of the store. What is leased is handed out again
    /// when the inbox is opened.
    pub async fn close(&self) {
        // An error says that it was closed before.
        let _ = self.ask(1, Command::Close).await;
    }

    async fn ask<T>(&self, kib: usize, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, InboxError> {
        let (reply, answer) = oneshot::channel();
        self.queue(kib, command(reply)).await?;
        answer.await.map_err(|_| unanswered(&self.availability))
    }

    async fn queue(&self, kib: usize, command: Command) -> Result<(), InboxError> {
        let permit = self.permit(kib).await?;
        self.commands.send(Envelope { command, permit }).map_err(|_| InboxError::Closed)
    }

    async fn permit(&self, kib: usize) -> Result<Option<OwnedSemaphorePermit>, InboxError> {
        let Some(kib) = u32::try_from(kib.min(QUEUE_KIB_MAX)).ok().filter(|kib| *kib > 0) else {
            return Ok(None);
        };
        let permit = Arc::clone(&self.queue).acquire_many_owned(kib).await;
        permit.map(Some).map_err(|_| InboxError::Closed)
    }
}

impl Submitted {
    /// Resolves when the arrivals are durable: what each was, in their order.
    pub async fn durable(self) -> Result<Vec<Accepted>, InboxError> {
        self.answer.await.map_err(|_| unanswered(&self.availability))
    }
}

/// Why a command was dropped without an answer.
fn unanswered(availability: &watch::Receiver<Availability>) -> InboxError {
    match &*availability.borrow() {
        Availability::Closed => InboxError::Closed,
        Availability::Unavailable(reason) => InboxError::Unavailable(reason.to_string()),
        Availability::Available => InboxError::Unavailable("the store failed, and was opened again".into()),
    }
}

/// Names of the store's own tables, which no handler may write to.
pub(crate) fn tables() -> Vec<String> {
    let schema = state::schema();
    let names = schema.split("CREATE TABLE ").skip(1).filter_map(|rest| rest.split('(').next());
    names.map(str::to_owned).chain(["meta".to_owned()]).collect()
}

/// An error of the store itself: `what` is not as it was written.
fn damage(what: &str) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(format!("{what} is missing or damaged")))
}

fn expect_rows(found: usize, expected: usize, what: &str) -> rusqlite::Result<()> {
    if found == expected { Ok(()) } else { Err(damage(what)) }
}
