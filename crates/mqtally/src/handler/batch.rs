//! One thread that writes whatever is queued in one go: the cost of a sync is shared by all who wait for it.

use super::record::Line;
use super::{BATCHED_MAX, retry};
use crate::inbox::{Delivery, Outcome};
use std::io::{self, Write};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A batch takes no more deliveries once it has this many bytes of payload.
const BYTES_MAX: usize = 4 << 20;

/// Lines are gathered up to this many bytes before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// Writes lines, as few writes as may be, and never a long one whole.
pub(super) fn write_lines(to: &mut impl Write, lines: impl Iterator<Item = Line>) -> io::Result<()> {
    let mut gathered = Vec::new();
    for piece in lines.flatten() {
        gathered.extend_from_slice(&piece);
        if gathered.len() >= WRITE_BYTES {
            to.write_all(&gathered)?;
            gathered.clear();
        }
    }
    to.write_all(&gathered)
}

/// Where batches go. Blocks.
pub(super) trait Sink: Send + 'static {
    /// Writes them all, in order, and says what became of each; one answer for each delivery.
    fn write(&mut self, batch: &[Delivery]) -> Vec<Outcome>;
}

/// A handle on the thread, which ends with the last handle.
#[derive(Debug, Clone)]
pub(super) struct Batcher {
    queue: mpsc::Sender<Job>,
    time_max: Duration,
}

#[derive(Debug)]
struct Job {
    delivery: Delivery,
    reply: oneshot::Sender<Outcome>,
}

impl Batcher {
    pub(super) fn start(name: &str, sink: impl Sink, time_max: Duration) -> io::Result<Self> {
        let (queue, jobs) = mpsc::channel(BATCHED_MAX);
        std::thread::Builder::new().name(format!("mqtally-{name}")).spawn(move || run(jobs, sink))?;
        Ok(Self { queue, time_max })
    }

    pub(super) fn time_max(&self) -> Duration {
        self.time_max
    }

    /// Resolves when the batch with this delivery is written. Whoever stops waiting before that takes it out of the queue.
    pub(super) async fn handle(&self, delivery: &Delivery) -> Outcome {
        let written = async {
            let (reply, answer) = oneshot::channel();
            self.queue.send(Job { delivery: delivery.clone(), reply }).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(self.time_max, written).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => retry("its writer has ended"),
            Err(_) => retry(format!("not written within {:?}", self.time_max)),
        }
    }
}

fn run(mut jobs: mpsc::Receiver<Job>, mut sink: impl Sink) {
    while let Some(first) = jobs.blocking_recv() {
        let (mut deliveries, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(Job { delivery, reply }) = next {
            if !reply.is_closed() {
                bytes += delivery.payload.len();
                deliveries.push(delivery);
                replies.push(reply);
            }
            let full = deliveries.len() == BATCHED_MAX || bytes >= BYTES_MAX;
            next = if full { None } else { jobs.try_recv().ok() };
        }
        if deliveries.is_empty() {
            continue;
        }
        for (reply, outcome) in replies.into_iter().zip(sink.write(&deliveries)) {
            // Whoever has stopped waiting gets the message again.
            let _ = reply.send(outcome);
        }
    }
}
