//! From the source through the publisher to the summary.

use super::progress::Progress;
use super::source::Line;
use super::{super::test::interrupted, Job};
use crate::report::receipts::{Row, Standing, Summary};
use mqtally::client::hopeless;
use mqtally::publisher::{
    Acknowledged, DeliveryError, Link, Message, PublishError, Publisher, Receipt, Status, Uuid,
};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Messages that become safe together at most.
const BATCH_MAX: usize = 256;
/// Receipts that may be open before new messages wait for old ones; without that a fast source fills the memory.
const OPEN_MAX: usize = 100_000;
/// How often progress is shown.
const TICK: Duration = Duration::from_millis(100);
/// As long as anybody waits.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Publishes until the source and everything that was accepted are at their end, or somebody wants it to end. Says
/// whether that was the user.
pub(super) async fn run(publisher: Publisher, job: Job, progress: Progress) -> (Summary, bool) {
    let mut sender = Sender::new(&publisher, job, progress);
    for notice in publisher.notices() {
        sender.progress.notice(&format!("mqtally: {}", notice.0));
    }
    let end = tokio::select! {
        biased;
        () = interrupted() => End::Interrupted,
        () = sleep(sender.job.timeout) => End::Timeout,
        end = sender.play() => end,
    };
    sender.finish(end).await
}

/// Why nothing more is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Settled,
    Refused,
    Timeout,
    Interrupted,
}

struct Sender<'a> {
    publisher: &'a Publisher,
    job: Job,
    progress: Progress,
    status: watch::Receiver<Status>,
    open: VecDeque<Receipt>,
    summary: Summary,
    started: Instant,
    source_ended: bool,
    /// The broker has refused us, and would again.
    refused: bool,
}

impl<'a> Sender<'a> {
    fn new(publisher: &'a Publisher, job: Job, progress: Progress) -> Self {
        let summary =
            Summary::new(&job.payload.message, &job.payload.message_type, job.store.as_deref(), job.earlier);
        let (status, started) = (publisher.status(), Instant::now());
        Self {
            publisher,
            job,
            progress,
            status,
            open: VecDeque::new(),
            summary,
            started,
            source_ended: false,
            refused: false,
        }
    }

    async fn play(&mut self) -> End {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            if self.refused {
                return End::Refused;
            }
            if self.source_ended && self.open.is_empty() && self.earlier_settled() {
                return End::Settled;
            }
            let limit = self.overdue();
            let room = !self.source_ended && self.open.len() < OPEN_MAX;
            tokio::select! {
                biased;
                _ = self.status.changed() => self.changed(),
                _ = tick.tick() => self.progress.tell(self.summary.accepted, &self.status.borrow()),
                Some((id, answer)) = answered(&mut self.open) => self.take(id, answer),
                lines = self.job.source.next(limit), if room => self.publish(lines).await,
            }
        }
    }

    fn changed(&mut self) {
        let status = self.status.borrow_and_update().clone();
        let keeps = match &self.job.store {
            Some(store) => format!("messages are kept in {}", store.display()),
            None => "messages wait in memory".to_owned(),
        };
        let what_to_do = match status.link {
            Link::Offline { reason: Some(reason), .. } => hopeless(reason),
            _ => None,
        };
        self.refused |= what_to_do.is_some();
        let next = format!("{keeps}, {}", what_to_do.unwrap_or("trying again"));
        self.progress.changed(&status, &next, self.job.store.as_deref());
    }

    /// Waits for something without turning a deaf ear to how the publisher fares.
    async fn meanwhile<T>(&mut self, wait: impl Future<Output = T>) -> T {
        tokio::pin!(wait);
        loop {
            tokio::select! {
                done = &mut wait => return done,
                Ok(()) = self.status.changed() => self.changed(),
            }
        }
    }

    async fn publish(&mut self, lines: Vec<Line>) {
        self.source_ended = lines.is_empty();
        let mut messages = Vec::with_capacity(lines.len());
        for Line { number, content } in lines {
            let id = self.publisher.next_id();
            match content.and_then(|content| self.job.payload.message(id, content)) {
                Ok(message) => messages.push((id, message)),
                Err(why) => self.leave_out(number, &why),
            }
        }
        if !messages.is_empty() {
            self.meanwhile(tokio::time::sleep_until(self.due().into())).await;
            self.accept(messages).await;
        }
    }

    async fn accept(&mut self, messages: Vec<(Uuid, Message)>) {
        let count = messages.len() as u64;
        match self.meanwhile(self.publisher.publish_all(messages)).await {
            Ok(receipts) => {
                self.summary.accepted += count;
                self.open.extend(receipts);
            }
            Err(error) => {
                self.source_ended |= matches!(error, PublishError::Closed | PublishError::TooMuch);
                (0..count).for_each(|_| self.leave_out(0, &error.to_string()));
            }
        }
    }

    /// When the next message may be published.
    fn due(&self) -> Instant {
        let seconds = self.job.rate.map_or(0.0, |rate| self.summary.accepted as f64 / f64::from(rate));
        self.started + Duration::from_secs_f64(seconds)
    }

    /// How many messages may be published together: those that are due, and the next one.
    fn overdue(&self) -> usize {
        let Some(rate) = self.job.rate else { return BATCH_MAX };
        let due = self.started.elapsed().as_secs_f64() * f64::from(rate);
        ((due as u64).saturating_sub(self.summary.accepted) as usize).clamp(1, BATCH_MAX)
    }

    fn leave_out(&mut self, number: u64, why: &str) {
        self.summary.invalid += 1;
        let place = if number > 0 { format!("line {number}: ") } else { String::new() };
        self.progress.notice(&format!("mqtally: {place}{why}; left out"));
    }

    fn take(&mut self, id: Uuid, answer: Result<Acknowledged, DeliveryError>) {
        let row = match answer {
            Ok(proof) => Row { id, standing: Standing::Acknowledged(proof.acknowledged_after) },
            Err(DeliveryError::Failed { failure, .. }) => Row { id, standing: Standing::Failed(failure) },
            Err(DeliveryError::Unsettled { .. }) => Row { id, standing: Standing::Left },
        };
        self.summary.add(row);
    }

    /// Whether the messages of earlier starts have come to their end; nobody has receipts for them.
    fn earlier_settled(&self) -> bool {
        let status = self.status.borrow();
        let settled = status.acknowledged + status.failed;
        settled >= self.job.earlier + self.summary.acknowledged + self.summary.failed
    }

    async fn finish(mut self, end: End) -> (Summary, bool) {
        let patience = if end == End::Settled { FOREVER } else { Duration::ZERO };
        self.publisher.close(patience).await;
        while let Some((id, answer)) = answered(&mut self.open).await {
            self.take(id, answer);
        }
        let status = self.status.borrow().clone();
        self.progress.end();
        self.summary.end(self.started.elapsed(), &status, !self.source_ended);
        (self.summary, end == End::Interrupted)
    }
}

/// The answer to the oldest open message; `None` when there is none. Cancel-safe. The others' times are in their
/// answers, so it does not matter that they are looked at later.
async fn answered(open: &mut VecDeque<Receipt>) -> Option<(Uuid, Result<Acknowledged, DeliveryError>)> {
    let receipt = open.front_mut()?;
    let (id, answer) = (receipt.id(), receipt.await);
    open.pop_front();
    Some((id, answer))
}

async fn sleep(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}
