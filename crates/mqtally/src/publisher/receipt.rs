//! What a publisher gets back for a message: at first that it is safe, then that the broker owns it.

use crate::outbox::{Failure, Uuid};
use mqtally_proto::packet::{Qos, ReasonCode};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// The promise that a stored message is delivered; awaited, the proof. Dropped, it changes nothing.
#[derive(Debug)]
pub struct Receipt {
    id: Uuid,
    answer: oneshot::Receiver<Result<Acknowledged, DeliveryError>>,
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

/// Cancel-safe: a receipt can be awaited by reference, again and again, until it is ready.
impl Future for Receipt {
    type Output = Result<Acknowledged, DeliveryError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        Poll::Ready(answer.unwrap_or(Err(DeliveryError::Unsettled { id: self.id })))
    }
}

/// The other end of a receipt, and the times so far.
#[derive(Debug)]
pub(crate) struct Ticket {
    answer: oneshot::Sender<Result<Acknowledged, DeliveryError>>,
    published: Instant,
    stored_after: Duration,
}

/// A receipt and its ticket, for a message that is published now.
pub(crate) fn issue(id: Uuid, published: Instant) -> (Receipt, Ticket) {
    let (answer, answered) = oneshot::channel();
    (Receipt { id, answer: answered }, Ticket { answer, published, stored_after: Duration::ZERO })
}

impl Ticket {
    pub(crate) fn stored(&mut self, now: Instant) {
        self.stored_after = now.saturating_duration_since(self.published);
    }

    pub(crate) fn acknowledge(self, id: Uuid, qos: Qos, reason: ReasonCode, now: Instant) {
        let acknowledged_after = now.saturating_duration_since(self.published);
        let Self { answer, stored_after, .. } = self;
        let _ = answer.send(Ok(Acknowledged { id, qos, reason, stored_after, acknowledged_after }));
    }

    pub(crate) fn fail(self, id: Uuid, failure: Failure) {
        let _ = self.answer.send(Err(DeliveryError::Failed { id, failure }));
    }
}
