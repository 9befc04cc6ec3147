//! From the inbox to a handler, and its outcome back.
//!
//! One dispatcher a channel. It claims as many deliveries as its handler may work on, runs each on a task of its own,
//! and settles whatever is ready in one transaction while the others go on.

use super::builder::Config;
use super::notice::{Settled, SettledObserver};
use crate::handler::Handler;
use crate::inbox::{
    Availability, Channel, Delivery, Inbox, InboxError, Lease, Outcome, RetryPolicy, SettleError,
};
use mqtally_proto::Time;
use rustc_hash::FxHashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

/// Bytes of payload in hand above which nothing more is claimed. One claim may bring a little more, or one huge message.
const HANDED_BYTES_MAX: usize = 32 << 20;
/// Deliveries that one claim asks for.
const CLAIM_MAX: usize = 256;

type Claiming = Pin<Box<dyn Future<Output = Vec<Delivery>> + Send>>;
type Settling = Pin<Box<dyn Future<Output = Result<Vec<Result<(), SettleError>>, InboxError>> + Send>>;

/// How far a run has come.
#[derive(Debug)]
pub(super) struct Progress {
    settled: AtomicU64,
    target: Option<u64>,
    /// Deliveries that may still be handed out.
    quota: Option<Semaphore>,
    changed: Notify,
}

impl Progress {
    /// One dispatcher hands out no more than the target. Several do not share a quota: one that waits for work would keep
    /// the others from theirs.
    pub(super) fn new(target: Option<u64>, dispatchers: usize) -> Arc<Self> {
        let permits = |target| usize::try_from(target).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let quota = target.filter(|_| dispatchers == 1).map(|target| Semaphore::new(permits(target)));
        Arc::new(Self { settled: AtomicU64::new(0), target, quota, changed: Notify::new() })
    }

    pub(super) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// Waits until the target is reached; for ever where there is none.
    pub(super) async fn reached(&self) {
        loop {
            let changed = self.changed.notified();
            if self.target.is_some_and(|target| self.settled() >= target) {
                return;
            }
            changed.await;
        }
    }

    /// How many of `room` deliveries may be handed out; at least one, waiting for it.
    async fn take(&self, room: usize) -> usize {
        let Some(quota) = &self.quota else { return room };
        let Ok(first) = quota.acquire().await else { return 0 };
        first.forget();
        1 + (1..room).take_while(|_| quota.try_acquire().map(SemaphorePermit::forget).is_ok()).count()
    }

    fn give_back(&self, deliveries: usize) {
        if let Some(quota) = &self.quota {
            quota.add_permits(deliveries);
        }
    }

    fn count(&self, settled: u64) {
        self.settled.fetch_add(settled, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

/// The dispatcher of one channel.
pub(super) struct Dispatcher {
    inbox: Inbox,
    channel: Channel,
    handler: Arc<Handler>,
    progress: Arc<Progress>,
    retry: RetryPolicy,
    limit: usize,
    time_max: Duration,
    grace: Duration,
    observer: Option<SettledObserver>,
    running: JoinSet<Outcome>,
    started: FxHashMap<Id, Held>,
    decided: Vec<(Held, Outcome)>,
    settling: Option<(Vec<(Held, bool)>, Settling)>,
    claiming: Option<Claiming>,
    /// Of all that is running, decided or being settled.
    bytes: usize,
}

/// A delivery in our hands.
#[derive(Debug, Clone, Copy)]
struct Held {
    lease: Lease,
    attempt: u32,
    /// Of its payload; an effect keeps it until it is settled.
    bytes: usize,
    received_at: Time,
    started: Instant,
    /// Once its handler has decided.
    handled: Duration,
}

impl Dispatcher {
    pub(super) fn new(
        config: &Config,
        inbox: Inbox,
        channel: Channel,
        handler: Arc<Handler>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            limit: config.concurrency.min(handler.concurrency_max()).max(1),
            inbox,
            channel,
            handler,
            progress,
            retry: config.retry,
            time_max: config.time_max,
            grace: config.grace,
            observer: config.settled_observer.clone(),
            running: JoinSet::new(),
            started: FxHashMap::default(),
            decided: Vec::new(),
            settling: None,
            claiming: None,
            bytes: 0,
        }
    }

    /// Works until it is told to stop; then claims nothing more, and gives what runs the grace to finish. Returns how many
    /// deliveries did not.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) -> usize {
        let mut deadline = None;
        loop {
            self.settle_decided();
            if deadline.is_none() {
                self.claim_more();
            } else if self.in_hand() == 0 {
                return 0;
            }
            tokio::select! {
                biased;
                () = told_to_stop(&mut stopped), if deadline.is_none() => {
                    deadline = Some(Instant::now() + self.grace);
                    self.claiming = None;
                }
                () = at(deadline) => return self.in_hand(),
                settled = polled(self.settling.as_mut().map(|(_, settling)| settling)) => self.settled(settled),
                Some(ended) = self.running.join_next_with_id(), if !self.running.is_empty() => self.ended(ended),
                claimed = polled(self.claiming.as_mut()) => self.claimed(claimed),
            }
        }
    }

    fn in_hand(&self) -> usize {
        let settling = self.settling.as_ref().map_or(0, |(held, _)| held.len());
        self.running.len() + self.decided.len() + settling
    }

    fn claim_more(&mut self) {
        let room = self.limit.saturating_sub(self.in_hand()).min(CLAIM_MAX);
        if self.claiming.is_none() && room > 0 && self.bytes < HANDED_BYTES_MAX {
            let (inbox, channel, progress) = (self.inbox.clone(), self.channel, Arc::clone(&self.progress));
            self.claiming = Some(Box::pin(async move {
                let wanted = progress.take(room).await;
                let claimed = claim(&inbox, channel, wanted).await;
                progress.give_back(wanted - claimed.len());
                claimed
            }));
        }
    }

    fn claimed(&mut self, deliveries: Vec<Delivery>) {
        self.claiming = None;
        deliveries.into_iter().for_each(|delivery| self.start(delivery));
    }

    fn start(&mut self, delivery: Delivery) {
        let bytes = delivery.payload.len();
        let held = Held {
            lease: delivery.lease(),
            attempt: delivery.attempt,
            bytes,
            received_at: delivery.received_at,
            started: Instant::now(),
            handled: Duration::ZERO,
        };
        self.bytes += bytes;
        let (handler, time_max) = (Arc::clone(&self.handler), self.time_max);
        let task = self.running.spawn(async move {
            let handled = tokio::time::timeout(time_max, handler.handle(&delivery)).await;
            handled.unwrap_or_else(|_| failed(format!("the handler did not finish within {time_max:?}")))
        });
        self.started.insert(task.id(), held);
    }

    fn ended(&mut self, first: Result<(Id, Outcome), JoinError>) {
        let mut next = Some(first);
        while let Some(ended) = next {
            let (id, outcome) = match ended {
                Ok(ended) => ended,
                Err(error) => (error.id(), failed("the handler panicked".to_owned())),
            };
            self.decided.extend(self.started.remove(&id).map(|held| (held.decided(), outcome)));
            next = self.running.try_join_next_with_id();
        }
    }

    fn settle_decided(&mut self) {
        if self.settling.is_some() || self.decided.is_empty() {
            return;
        }
        let (mut held, mut settlements) = (Vec::new(), Vec::new());
        for (one, outcome) in self.decided.drain(..) {
            held.push((one, self.retry.ends_with(&outcome, one.attempt)));
            settlements.push((one.lease, outcome));
        }
        let inbox = self.inbox.clone();
        self.settling = Some((held, Box::pin(async move { inbox.settle_all(settlements).await })));
    }

    fn settled(&mut self, answers: Result<Vec<Result<(), SettleError>>, InboxError>) {
        let Some((held, _)) = self.settling.take() else { return };
        self.bytes -= held.iter().map(|(held, _)| held.bytes).sum::<usize>();
        let Ok(answers) = answers else {
            // The store failed: what became of these is in it, and what is not settled is handed out again.
            return self.progress.give_back(held.len());
        };
        let mut count = 0;
        for ((held, ends), answer) in held.into_iter().zip(answers) {
            if answer.is_ok() {
                self.tell(&held, ends);
            }
            match answer {
                Ok(()) if ends => count += 1,
                Ok(()) | Err(SettleError::Fenced) => self.progress.give_back(1),
                Err(SettleError::Effect(error)) => {
                    self.decided.push((Held { bytes: 0, ..held }, failed(error)));
                }
            }
        }
        self.progress.count(count);
    }

    fn tell(&self, held: &Held, ends: bool) {
        let Held { received_at, handled, .. } = *held;
        if let Some(observer) = &self.observer {
            observer(&Settled { received_at, handled, ends });
        }
    }
}

impl Held {
    fn decided(self) -> Self {
        Self { handled: self.started.elapsed(), ..self }
    }
}

impl RetryPolicy {
    /// Whether the message is done or dead after this attempt.
    fn ends_with(&self, outcome: &Outcome, attempt: u32) -> bool {
        match outcome {
            Outcome::Done
            | Outcome::DoneWith(_)
            | Outcome::DoneWithStatements(_)
            | Outcome::DeadLetter { .. } => true,
            Outcome::Retry { .. } => self.is_exhausted(attempt),
        }
    }
}

/// Waits for deliveries, also over times in which the store cannot be written.
async fn claim(inbox: &Inbox, channel: Channel, max: usize) -> Vec<Delivery> {
    let mut availability = inbox.availability();
    loop {
        if let Ok(deliveries) = inbox.claim(channel, max).await {
            return deliveries;
        }
        let available = availability.wait_for(|now| *now == Availability::Available).await.is_ok();
        if !available {
            // Closed: nothing more will come.
            return std::future::pending().await;
        }
    }
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // Whoever could tell is gone: that is also an end.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

fn failed(error: String) -> Outcome {
    Outcome::Retry { after: None, error }
}

async fn polled<T>(future: Option<&mut Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
