//! The reliable publisher: every message that it accepted is delivered to the broker.
//!
//! [`Publisher::publish`] returns when the message is safe: in the [outbox](crate::outbox), on disk. From then on it is
//! sent until the broker has finally acknowledged or refused it, over lost connections, lost sessions and the death of
//! the process. The [`Receipt`] that comes back can be awaited for the proof, or dropped.
//!
//! ```no_run
//! use mqtally::publisher::Publisher;
//! use mqtally_proto::packet::Qos;
//! use std::time::Duration;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let publisher = Publisher::builder("mqtt://localhost".parse()?).store("outbox.db").start()?;
//! let receipt = publisher.publish("alerts/door", "open", Qos::AtLeastOnce).await?; // safe from here on
//! let proof = receipt.await?; // the broker owns it
//! println!("{} acknowledged after {:?}", proof.id, proof.acknowledged_after);
//! publisher.close(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```
//!
//! What is promised:
//!
//! - Nothing that was accepted is forgotten. A session that the broker has lost is sent again as new, under the same
//!   message ids; a message that the broker refuses is kept as failed, with the reason, and not tried again for ever.
//! - At QoS 2 no message is published twice while the broker keeps the session, even over the death of the process.
//!   Every other second copy carries the [id](Uuid) of the first, as the 5.0 user property
//!   [`mqtally-id`](crate::inbox::key::ID_PROPERTY), so that a receiver can drop it. 3.1.1 has no place for it: use an
//!   [envelope](crate::message::Envelope).
//! - Per topic, messages go in the order of `publish`.
//!
//! **Without a store** the same holds while the process lives, and nothing after it: what was accepted and not
//! acknowledged dies with the process, and so do the packet ids of QoS 2.

mod backoff;
mod builder;
mod capacity;
mod lineup;
mod outgoing;
mod receipt;
mod suspect;
mod task;

pub use crate::outbox::{Failure, Message, Notice, StoreError, Uuid};
pub use backoff::Backoff;
pub use builder::{Builder, OnFull, StartError};
pub use receipt::{Acknowledged, DeliveryError, Receipt};

use crate::outbox::{Accepted, Command};
use bytes::Bytes;
use bytestring::ByteString;
use capacity::{Capacity, Room};
use mqtally_proto::Time;
use mqtally_proto::packet::{Qos, ReasonCode};
use mqtally_proto::topic::{self, TopicError};
use receipt::Tickets;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use task::Input;
use tokio::sync::{mpsc, oneshot, watch};

/// A handle on a publisher; clones share it. When the last one is dropped the publisher ends as with
/// [`close`](Publisher::close) without patience.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    sink: Sink,
    inputs: mpsc::UnboundedSender<Input>,
    capacity: Arc<Capacity>,
    on_full: OnFull,
    status: watch::Receiver<Status>,
    closed: AtomicBool,
    earlier: u64,
    notices: Vec<Notice>,
    random: Mutex<fastrand::Rng>,
}

/// Where an accepted message goes.
enum Sink {
    Outbox(std::sync::mpsc::Sender<Command<Tickets>>),
    Memory,
}

/// How a publisher fares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Whether there is a connection.
    pub link: Link,
    /// Attempts to connect so far.
    pub attempts: u64,
    /// Messages acknowledged in this life of the process. Does not wake those who wait for a change.
    pub acknowledged: u64,
    /// Messages given up in this life of the process.
    pub failed: u64,
    /// Messages in the outbox that were given up, in this life and before.
    pub failed_kept: u64,
    /// How often the broker had lost the session while messages were in flight.
    pub sessions_lost: u64,
    /// Messages that were sent again as new.
    pub resent: u64,
    /// Why the outbox cannot be written at the moment; it is tried again.
    pub trouble: Option<String>,
    /// Number of the message that the broker may be ending connections for: several in a row ended while it was the first without
    /// an answer. It is tried on; [`FailedMessages::give_up`](crate::outbox::FailedMessages::give_up) sets it aside.
    pub suspect: Option<u64>,
}

/// Whether there is a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Link {
    /// The first attempt is on.
    #[default]
    Connecting,
    /// The broker has accepted the connection.
    Online {
        /// Whether it had kept the session.
        session_present: bool,
    },
    /// There is none; the next attempt comes by itself.
    Offline {
        /// What happened.
        why: String,
        /// What the broker said, where it said anything.
        reason: Option<ReasonCode>,
    },
}

/// Why a message was not accepted. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Not a topic name.
    #[error("not a topic name to publish to: {0}")]
    InvalidTopic(#[from] TopicError),
    /// The payload cannot be written as JSON.
    #[error("the payload cannot be written as JSON: {0}")]
    Payload(#[from] serde_json::Error),
    /// More than there can ever be room for.
    #[error(
        "the publisher is full and waiting cannot help; deal with the failed messages in the outbox, or raise its limits"
    )]
    TooMuch,
    /// No room at the moment.
    #[error("the publisher is full; try again when the broker has acknowledged something")]
    Full,
    /// The outbox cannot be written at the moment.
    #[error("the message cannot be stored: {0}")]
    Store(String),
    /// The publisher was closed.
    #[error("the publisher was closed")]
    Closed,
}

impl Publisher {
    /// A publisher to the broker at `endpoint`, to be set up.
    pub fn builder(endpoint: crate::endpoint::Endpoint) -> Builder {
        Builder::new(endpoint)
    }

    /// Publishes, and returns when the message is safe: in the outbox, or in memory where there is none.
    ///
    /// Dropped before it is ready, it has accepted the message wholly or not at all; ready means that it has.
    pub async fn publish(
        &self,
        topic: impl Into<ByteString>,
        payload: impl Into<Bytes>,
        qos: Qos,
    ) -> Result<Receipt, PublishError> {
        self.publish_message(Message::new(topic, payload, qos)).await
    }

    /// As [`publish`](Self::publish), with a value that is sent as JSON.
    pub async fn publish_json(
        &self,
        topic: impl Into<ByteString>,
        value: &impl Serialize,
        qos: Qos,
    ) -> Result<Receipt, PublishError> {
        self.publish(topic, serde_json::to_vec(value)?, qos).await
    }

    /// As [`publish`](Self::publish), with everything that a message can have.
    pub async fn publish_message(&self, message: Message) -> Result<Receipt, PublishError> {
        let id = self.next_id();
        self.publish_as(id, message).await
    }

    /// As [`publish_message`](Self::publish_message), under an id from [`next_id`](Self::next_id) that the caller
    /// needed before, to write it into the payload.
    pub async fn publish_as(&self, id: Uuid, message: Message) -> Result<Receipt, PublishError> {
        let mut receipts = self.publish_all(vec![(id, message)]).await?;
        receipts.pop().ok_or(PublishError::Closed)
    }

    /// Publishes many messages, which become safe together: all of them or none.
    pub async fn publish_all(&self, messages: Vec<(Uuid, Message)>) -> Result<Vec<Receipt>, PublishError> {
        let published = Instant::now();
        let room = check(&messages)?;
        self.check_open()?;
        // Nobody would ever say that nothing is durable.
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        self.take_room(room).await?;
        let (receipts, durable) = self.hand_over(messages, published)?;
        match durable {
            Some(durable) => durable.await.map_err(|_| PublishError::Closed)?,
            None => tokio::task::coop::consume_budget().await,
        }
        Ok(receipts)
    }

    /// Publishes without waiting for anything: fire and forget. There is no receipt, and a crash at once may lose it.
    /// Fails with [`PublishError::Full`] where there is no room, whatever [`OnFull`] says.
    pub fn post(&self, message: Message) -> Result<Uuid, PublishError> {
        let messages = vec![(self.next_id(), message)];
        let (id, room) = (messages[0].0, check(&messages)?);
        self.check_open()?;
        if !self.shared.capacity.try_take(room) {
            return Err(PublishError::Full);
        }
        self.hand_over(messages, Instant::now())?;
        Ok(id)
    }

    /// A new message id.
    pub fn next_id(&self) -> Uuid {
        Uuid::new(wall_clock(), self.random().u128(..))
    }

    /// New message ids, for less than one call of [`next_id`](Self::next_id) for each.
    pub fn next_ids(&self, count: usize) -> Vec<Uuid> {
        let (now, mut random) = (wall_clock(), self.random());
        (0..count).map(|_| Uuid::new(now, random.u128(..))).collect()
    }

    fn random(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.shared.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the publisher fares, now and when it changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.clone()
    }

    /// Messages of earlier processes that waited in the outbox when it was opened.
    pub fn earlier(&self) -> u64 {
        self.shared.earlier
    }

    /// What was found and repaired in the outbox when it was opened; to be shown.
    pub fn notices(&self) -> &[Notice] {
        &self.shared.notices
    }

    /// Accepts nothing more, waits up to `patience` until everything is settled, says goodbye and lets go of the
    /// outbox. Returns how many messages were left unsettled, about; in an outbox they wait for the next start.
    pub async fn close(&self, patience: Duration) -> u64 {
        self.shared.closed.store(true, Ordering::Release);
        let (left, answer) = oneshot::channel();
        let deadline = tokio::time::Instant::now() + patience;
        if self.shared.inputs.send(Input::Close { deadline, left }).is_err() {
            return 0;
        }
        answer.await.unwrap_or(0)
    }

    fn check_open(&self) -> Result<(), PublishError> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(PublishError::Closed);
        }
        match (self.shared.on_full, &self.shared.status.borrow().trouble) {
            (OnFull::Fail, Some(trouble)) => Err(PublishError::Store(trouble.clone())),
            _ => Ok(()),
        }
    }

    async fn take_room(&self, room: Room) -> Result<(), PublishError> {
        let Shared { capacity, on_full, status, .. } = &*self.shared;
        if capacity.try_take(room) {
            return Ok(());
        }
        if !capacity.could_fit(room, status.borrow().failed_kept) {
            return Err(PublishError::TooMuch);
        }
        match on_full {
            OnFull::Fail => Err(PublishError::Full),
            OnFull::Wait => {
                capacity.take(room).await;
                Ok(())
            }
        }
    }

    /// From here on there is no way back.
    fn hand_over(
        &self,
        messages: Vec<(Uuid, Message)>,
        published: Instant,
    ) -> Result<(Vec<Receipt>, Option<oneshot::Receiver<()>>), PublishError> {
        let (receipts, tickets) = receipt::issue(messages.iter().map(|(id, _)| *id), published);
        let accepted = Accepted { created: wall_clock(), messages, tickets };
        let sent = match &self.shared.sink {
            Sink::Memory => self
                .shared
                .inputs
                .send(Input::Accepted(accepted))
                .map(|()| None)
                .map_err(|_| PublishError::Closed),
            Sink::Outbox(commands) => {
                let (durable, stored) = oneshot::channel();
                let insert = Command::Insert(accepted, durable);
                commands.send(insert).map(|()| Some(stored)).map_err(|_| PublishError::Closed)
            }
        };
        Ok((receipts, sent?))
    }
}

/// Whether the messages can be published at all, and the room that they take.
fn check(messages: &[(Uuid, Message)]) -> Result<Room, PublishError> {
    let mut room = Room { messages: messages.len() as u64, bytes: 0 };
    for (_, message) in messages {
        topic::validate_name(&message.topic)?;
        room.bytes += message.size();
    }
    Ok(room)
}

fn wall_clock() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_ms(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
