//! What a publisher gets back for a message: at first that it is safe, then that the broker owns it.

use crate::outbox::{Failure, Uuid};
use mqtally_proto::packet::{Qos, ReasonCode};
use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// The promise that a stored message is delivered; awaited, the proof. Dropped, it changes nothing.
#[derive(Debug)]
pub struct Receipt {
    id: Uuid,
    sheet: Arc<Sheet>,
    line: u32,
}

/// The broker has finally acknowledged the message.
///
/// At QoS 1 and 2 the broker owns it now; that a subscriber has it only comparing both ends can say. At QoS 0 there is
/// no acknowledgement: it was written to a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Name of the message.
    pub id: Uuid,
    /// Its quality of service.
    pub qos: Qos,
    /// The broker's answer, such as success or that nobody subscribes; success where it gives none.
    pub reason: ReasonCode,
    /// From the call of `publish` until the message was safe.
    pub stored_after: Duration,
    /// From the call of `publish` until the final acknowledgement.
    pub acknowledged_after: Duration,
}

/// Why a message was not acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryError {
    /// It was given up, and is kept as failed where there is an outbox.
    Failed {
        /// Name of the message.
        id: Uuid,
        /// The broker's reason, or why it cannot be sent.
        failure: Failure,
    },
    /// The publisher ended first. In an outbox the message waits for the next start; without one it is lost.
    Unsettled {
        /// Name of the message.
        id: Uuid,
    },
}

impl std::error::Error for DeliveryError {}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { id, failure } => write!(f, "message {id} was given up: {failure}"),
            Self::Unsettled { id } => {
                write!(f, "message {id} was not acknowledged before the publisher ended")
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Receipt {
    /// Name of the message, known before the broker has it.
    pub fn id(&self) -> Uuid {
        self.id
    }
}

/// Cancel-safe: a receipt can be awaited by reference, again and again; it goes on giving its answer.
impl Future for Receipt {
    type Output = Result<Acknowledged, DeliveryError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { id, sheet, line } = &*self;
        let id = *id;
        Poll::Ready(match &mut sheet.lines()[*line as usize] {
            waiting @ Line::Open => {
                *waiting = Line::Awaited(context.waker().clone());
                return Poll::Pending;
            }
            Line::Awaited(waker) => {
                waker.clone_from(context.waker());
                return Poll::Pending;
            }
            Line::Acknowledged { qos, reason, after } => Ok(Acknowledged {
                id,
                qos: *qos,
                reason: *reason,
                stored_after: sheet.stored_after(),
                acknowledged_after: *after,
            }),
            Line::Failed(failure) => Err(DeliveryError::Failed { id, failure: failure.clone() }),
            Line::Unsettled => Err(DeliveryError::Unsettled { id }),
        })
    }
}

/// What there is to say of messages that were published together: one allocation for all of them.
#[derive(Debug)]
struct Sheet {
    published: Instant,
    /// When they became durable.
    stored: OnceLock<Instant>,
    lines: Mutex<Box<[Line]>>,
}

#[derive(Debug)]
enum Line {
    Open,
    Awaited(Waker),
    Acknowledged { qos: Qos, reason: ReasonCode, after: Duration },
    Failed(Failure),
    Unsettled,
}

impl Sheet {
    fn lines(&self) -> MutexGuard<'_, Box<[Line]>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored_after(&self) -> Duration {
        self.stored.get().map_or(Duration::ZERO, |stored| stored.saturating_duration_since(self.published))
    }

    fn answer(&self, line: u32, answer: Line) {
        let former = std::mem::replace(&mut self.lines()[line as usize], answer);
        if let Line::Awaited(waker) = former {
            waker.wake();
        }
    }
}

/// The other end of a receipt. Dropped without an answer, it says that there will be none.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Absent once it was answered.
    sheet: Option<Arc<Sheet>>,
    line: u32,
}

/// Tickets of messages that were published together, in their order; those that are not taken are dropped.
#[derive(Debug)]
pub(crate) struct Tickets {
    sheet: Arc<Sheet>,
    lines: Range<u32>,
}

/// Receipts and their tickets, for messages that are published together, now.
pub(crate) fn issue(ids: impl ExactSizeIterator<Item = Uuid>, published: Instant) -> (Vec<Receipt>, Tickets) {
    let count = ids.len();
    let lines = Mutex::new((0..count).map(|_| Line::Open).collect());
    let sheet = Arc::new(Sheet { published, stored: OnceLock::new(), lines });
    let receipts = ids.zip(0..).map(|(id, line)| Receipt { id, sheet: Arc::clone(&sheet), line }).collect();
    (receipts, Tickets { sheet, lines: 0..count as u32 })
}

impl Tickets {
    /// All of them are durable since `now`.
    pub(crate) fn stored(&self, now: Instant) {
        self.sheet.stored.get_or_init(|| now);
    }
}

impl Iterator for Tickets {
    type Item = Ticket;

    fn next(&mut self) -> Option<Ticket> {
        self.lines.next().map(|line| Ticket { sheet: Some(Arc::clone(&self.sheet)), line })
    }
}

impl Drop for Tickets {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl Ticket {
    pub(crate) fn acknowledge(mut self, qos: Qos, reason: ReasonCode, now: Instant) {
        if let Some(sheet) = self.sheet.take() {
            let after = now.saturating_duration_since(sheet.published);
            sheet.answer(self.line, Line::Acknowledged { qos, reason, after });
        }
    }

    pub(crate) fn fail(mut self, failure: Failure) {
        if let Some(sheet) = self.sheet.take() {
            sheet.answer(self.line, Line::Failed(failure));
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(sheet) = self.sheet.take() {
            sheet.answer(self.line, Line::Unsettled);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn each_receipt_gets_its_own_answer_and_only_who_waits_is_woken() {
        let ids = [1, 2, 3].map(|n| Uuid([n; 16]));
        let (mut receipts, tickets) = issue(ids.into_iter(), Instant::now());
        let mut tickets: Vec<_> = tickets.collect();
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let mut poll = |at: usize| Pin::new(&mut receipts[at]).poll(&mut Context::from_waker(&waker));
        assert!(poll(1).is_pending() && poll(1).is_pending());
        let failure = Failure { reason: None, detail: "no".into() };
        tickets.pop().unwrap().fail(failure.clone());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0, "nobody waits for the third");
        tickets.pop().unwrap().acknowledge(Qos::AtLeastOnce, ReasonCode::SUCCESS, Instant::now());
        drop(tickets);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(matches!(poll(1), Poll::Ready(Ok(Acknowledged { id, .. })) if id == ids[1]));
        assert!(matches!(poll(1), Poll::Ready(Ok(_))), "and again");
        assert_eq!(poll(0), Poll::Ready(Err(DeliveryError::Unsettled { id: ids[0] })));
        assert_eq!(poll(2), Poll::Ready(Err(DeliveryError::Failed { id: ids[2], failure })));
    }

    #[test]
    fn tickets_that_nobody_takes_say_that_there_will_be_no_answer() {
        let ids = [1, 2].map(|n| Uuid([n; 16]));
        let (mut receipts, mut tickets) = issue(ids.into_iter(), Instant::now());
        let taken = tickets.next();
        drop(tickets);
        let mut poll = |at: usize| Pin::new(&mut receipts[at]).poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll(0).is_pending());
        assert_eq!(poll(1), Poll::Ready(Err(DeliveryError::Unsettled { id: ids[1] })));
        drop(taken);
        assert_eq!(poll(0), Poll::Ready(Err(DeliveryError::Unsettled { id: ids[0] })));
    }
}
