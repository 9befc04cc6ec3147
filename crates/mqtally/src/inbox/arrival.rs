//! What goes into the inbox and what comes out of it.

use super::key::Key;
use super::statement::Statement;
use bytes::Bytes;
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Qos};
use std::fmt;
use std::time::Duration;

/// A message that was read from the connection and is not acknowledged yet.
#[derive(Debug, Clone, Default)]
pub struct Arrival {
    /// Topic name, aliases resolved.
    pub topic: ByteString,
    /// Quality of service on this hop.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// DUP flag. It does not make a duplicate; it tells whose copy a duplicate is.
    pub dup: bool,
    /// Which replay of the message this is, see [`replay_epoch`](super::key::replay_epoch); 0 for the original.
    pub replay: u32,
    /// 5.0 properties; those that belong to the application are kept.
    pub properties: Properties,
    /// Application payload.
    pub payload: Bytes,
    /// Dedup key; without one the message is processed each time it arrives.
    pub key: Option<Key>,
    /// Messages of one lane are handled in order, one at a time; without one in any order.
    pub lane: Option<Lane>,
    /// QoS 2: the packet id to remember until PUBREL.
    pub exchange: Option<Exchange>,
    /// Wall clock at reception.
    pub received_at: Time,
}

/// A QoS 2 exchange: a packet id within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// The session that the connection resumed, from [`Inbox::session`](super::Inbox::session).
    pub session: u32,
    /// Packet id.
    pub packet_id: u16,
}

/// What messages are kept in order by. Two lanes may coincide (64 bits of a hash); that only adds order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane(pub(crate) u64);

impl Lane {
    /// The lane of an order key: the topic, a device, a customer.
    pub fn of(key: impl AsRef<[u8]>) -> Self {
        Self(super::key::hash_64(key.as_ref()))
    }
}

/// The answer to an [`Arrival`]: what it was. It is durable; the acknowledgement may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its number in the inbox, when it was stored to be processed.
    pub sequence: Option<u64>,
    /// What it was.
    pub verdict: Verdict,
}

/// What an arrival was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen before, or without a key.
    New,
    /// Seen before, with the same body.
    Duplicate(Cause),
    /// Seen before, with another body; the policy was applied.
    Conflict(ConflictPolicy),
    /// Its packet id is remembered: the exchange is still open, and PUBREC is all that it needs.
    ExchangeOpen,
}

/// Whose copy a duplicate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The broker's: DUP is set.
    Redelivery,
    /// The publisher's: it sent the message again.
    PublishedAgain,
    /// A replay's: it was replayed more than once.
    Replay,
}

impl Cause {
    /// Whose copy this is.
    pub(super) fn of(arrival: &Arrival) -> Self {
        match arrival {
            Arrival { dup: true, .. } => Self::Redelivery,
            Arrival { replay: 1.., .. } => Self::Replay,
            _ => Self::PublishedAgain,
        }
    }
}

/// What happens to a message whose key is known with another body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConflictPolicy {
    /// It is processed: a publisher restarted its counter.
    #[default]
    Process,
    /// It becomes a dead letter at once.
    DeadLetter,
    /// It is dropped, and counted.
    Drop,
}

/// One arrival given to a handler, under a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its number in the inbox.
    pub sequence: u64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Grows with every claim, over restarts too: a receiver can refuse a late writer with a smaller one.
    pub fence: u64,
    /// Topic name.
    pub topic: ByteString,
    /// Quality of service with which it arrived.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// The application's 5.0 properties.
    pub properties: Properties,
    /// Application payload.
    pub payload: Bytes,
    /// Text of its dedup key.
    pub key: Option<String>,
    /// Which replay this is; 0 for the original.
    pub replay: u32,
    /// Wall clock at reception.
    pub received_at: Time,
}

/// What the handler decided.
pub enum Outcome {
    /// Processed.
    Done,
    /// Processed, if this effect in the inbox's own database commits with it. It runs in the writer's transaction, so it
    /// must be short, and must not end the transaction. Where it fails, nothing of it remains and the lease goes on.
    DoneWith(Effect),
    /// The same, where the inbox is in a database server: these statements run in its transaction.
    DoneWithStatements(Vec<Statement>),
    /// Failed; try again after `after`, or after the policy's delay.
    Retry {
        /// A delay that the receiver asked for.
        after: Option<Duration>,
        /// Why.
        error: String,
    },
    /// Failed for good.
    DeadLetter {
        /// Why.
        error: String,
    },
}

/// An effect that commits together with the `done` mark.
pub type Effect = Box<dyn FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<()> + Send>;

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("Done"),
            Self::DoneWith(_) => f.write_str("DoneWith(…)"),
            Self::DoneWithStatements(statements) => {
                f.debug_tuple("DoneWithStatements").field(statements).finish()
            }
            Self::Retry { after, error } => {
                f.debug_struct("Retry").field("after", after).field("error", error).finish()
            }
            Self::DeadLetter { error } => f.debug_struct("DeadLetter").field("error", error).finish(),
        }
    }
}

/// The right to settle one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The delivery's number in the inbox.
    pub sequence: u64,
    /// The claim that it was handed out by.
    pub fence: u64,
}

impl Delivery {
    /// What settles this delivery.
    pub fn lease(&self) -> Lease {
        Lease { sequence: self.sequence, fence: self.fence }
    }
}

/// Why an outcome was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The lease expired or the store was reopened meanwhile; the message is handed out again.
    #[error("the lease has expired; the message is handed out again")]
    Fenced,
    /// The effect failed and was rolled back; the lease goes on.
    #[error("the effect in the inbox's transaction failed: {0}; settle again with a retry or a dead letter")]
    Effect(String),
}

/// Why the inbox cannot answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InboxError {
    /// The store cannot be written. Do not acknowledge, do not read on; wait until it is available again.
    #[error("the inbox cannot be written: {0}")]
    Unavailable(String),
    /// The inbox was closed.
    #[error("the inbox is closed")]
    Closed,
}
