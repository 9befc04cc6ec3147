//! The events of a run, in the one order in which its recorder wrote them.
//!
//! What a client sends is recorded before the write, what it receives after the parse. So "received a before sent b"
//! in this order means that a really happened before b, and no other comparison of places in it means anything.

use crate::marker::MessageId;
use crate::need::{Advice, Declaration};
use crate::packet::{Packet, Version};
use std::sync::Arc;

/// The recorder's number for a network connection; never used twice in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// What stands before the events: everything that judging needs and no event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Version of mqtally that wrote the history.
    pub program: String,
    /// The run's number, as its markers carry it.
    pub run: u32,
    /// The seed of every random choice.
    pub seed: u64,
    /// What kind of broker was judged.
    pub broker_kind: BrokerKind,
    /// Its name, with credentials taken out.
    pub broker_name: String,
    /// Profile that the broker is held to.
    pub profile: crate::profile::Profile,
    /// What it was seen to keep before the run, where that was measured.
    pub measured: Option<crate::profile::Measured>,
    /// What this run set out to exercise: it is unknown, not kept, where one of these was not.
    pub required: Vec<Requirement>,
}

impl Default for Header {
    /// The header of a run that declares nothing: an unnamed broker, held to the weakest profile.
    fn default() -> Self {
        Self {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            run: 0,
            seed: 0,
            broker_kind: BrokerKind::Url,
            broker_name: String::new(),
            profile: crate::profile::Profile::Volatile,
            measured: None,
            required: Vec::new(),
        }
    }
}

/// A promise that a run has to exercise on a version of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Promise id, such as `D3`.
    pub promise: String,
    /// On which version.
    pub version: Version,
}

/// Where the broker came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BrokerKind {
    /// Our own, as a child process.
    Embedded,
    /// Somebody's, by URL.
    Url,
    /// Somebody's, started by a command.
    Command,
}

/// One thing that the recorder saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since the run began, on a monotonic clock.
    pub at_ns: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A part of the run begins; later events belong to it. Shown in the report.
    GroupStarted {
        /// Group name, such as `session`.
        group: Arc<str>,
        /// Version its clients speak.
        version: Version,
    },
    /// The part is over; its streams have been drained, or not.
    GroupEnded {
        /// Group name.
        group: Arc<str>,
        /// Every sentinel arrived at every subscriber that it was owed to within the drain limit.
        drained: bool,
    },
    /// A transport is open; a CONNECT follows.
    Opened {
        /// Its number.
        connection: ConnectionId,
        /// The client it belongs to.
        client: Arc<str>,
        /// The version it will speak.
        version: Version,
        /// Whose client it is.
        role: Role,
    },
    /// A packet is about to be written to the broker.
    Sent(ConnectionId, Packet),
    /// A packet of the broker's was read.
    Received(ConnectionId, Packet),
    /// A frame was read that is unlawful, or lawful only in part; a packet that can be understood follows as its own event.
    Unlawful {
        /// Where.
        connection: ConnectionId,
        /// What is wrong with it.
        problem: String,
        /// The frame, or its first 256 bytes.
        bytes: Vec<u8>,
    },
    /// The transport is gone.
    Closed(ConnectionId, Closing),
    /// The client forgot its session (a crash without a store): its next connection begins a new lineage.
    StateWiped {
        /// Which client.
        client: Arc<str>,
    },
    /// The process of a client under test ended, and its store is there for the next one: its session goes on. Where nobody
    /// knows of its store, it is [`Self::StateWiped`].
    ProcessEnded {
        /// Which client.
        client: Arc<str>,
    },
    /// Something was done to the broker, or it did something.
    Broker(BrokerEvent),
    /// A fault was injected on purpose (cuts, kills); for the report's list.
    Fault {
        /// Kind, such as `cut-subscriber`.
        kind: Arc<str>,
        /// The client it struck, when one.
        client: Option<Arc<str>>,
    },
    /// A name for a message in the report's table (the lesson's "message type").
    Labelled {
        /// Which message.
        message: MessageId,
        /// Its message type.
        label: Arc<str>,
        /// The id its envelope shows to people.
        shown_id: u64,
    },
    /// The subscribing application decided about one delivery.
    Settled {
        /// The subscribing client.
        client: Arc<str>,
        /// Which message.
        message: MessageId,
        /// What it decided.
        outcome: Outcome,
    },
    /// A publishing program reported that it published a message.
    Claimed {
        /// The publishing client.
        client: Arc<str>,
        /// Which message.
        message: MessageId,
    },
    /// The subscribing application reported its statistics; they are compared with what it really received.
    Statistics {
        /// The subscribing client.
        client: Arc<str>,
        /// Its counters.
        counters: Counters,
    },
    /// A stream of a scenario, with what is needed of it; its messages follow.
    Declared(Box<Declaration>),
    /// Something to change in the scenario, found before it was played.
    Advised(Box<Advice>),
    /// A device took a message to publish it; from here on its application relies on it.
    Accepted {
        /// Which message.
        message: MessageId,
        /// Nanoseconds since it was meant to be sent: how far the device is behind its timetable.
        late_ns: u64,
    },
    /// Where what an application moves with each message of a stream stands: a valve, a lock.
    Position {
        /// The subscribing client.
        client: Arc<str>,
        /// The publisher whose messages move it.
        publisher: u32,
        /// And its stream.
        stream: u16,
        /// What was read.
        value: i64,
    },
    /// A program under test takes part, under this client id; said once for each id that it comes with.
    Subject {
        /// What it is to the broker.
        side: Side,
        /// The command that starts it, as it was given.
        command: Arc<str>,
        /// The client id of its CONNECT.
        client: Arc<str>,
    },
    /// Events were lost before they could be recorded: nothing is certain any more.
    Gap {
        /// How many.
        lost: u64,
    },
    /// The run was interrupted, or could not go on.
    Aborted {
        /// Why.
        reason: String,
    },
}

/// Whose client a connection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The run's own: what it received it has seen, and it is not judged.
    Own,
    /// Somebody's program behind the proxy: judged as the broker is. What was received for it may never have reached
    /// it; only what it sends later proves that.
    Subject,
}

/// What a program under test is to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// It receives messages.
    Subscriber,
    /// It sends them.
    Publisher,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closing {
    /// The broker closed it.
    ByBroker,
    /// We closed it in order (FIN).
    Fin,
    /// We reset it (RST); the peer may not have read our last bytes.
    Rst,
    /// It broke, or the peer vanished.
    Broken,
    /// We fell silent for good (a black hole): for the broker it is still open.
    Vanished,
}

/// What happened to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BrokerEvent {
    /// It is up and accepts connections.
    Started,
    /// We asked it to stop (SIGTERM).
    Terminated,
    /// We killed it (SIGKILL).
    Killed,
    /// It ended by itself.
    Exited,
    /// We paused it (SIGSTOP): it keeps its connections and answers nothing.
    Paused,
    /// It goes on (SIGCONT).
    Resumed,
    /// Its machine lost power: what was written and not synced may be gone.
    PowerLost,
}

/// What a subscribing application decided about a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Processed.
    Processed,
    /// Recognised as a duplicate and not processed again.
    Duplicate,
    /// Same key, other body: processed, and counted as a conflict.
    Conflict,
    /// Processing failed.
    Failed,
}

/// The lesson's four counters, and conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Deliveries given to the application.
    pub received: u64,
    /// Of these, recognised as duplicates.
    pub duplicates: u64,
    /// Of these, conflicts (processed too).
    pub conflicts: u64,
    /// Of these, failed.
    pub errors: u64,
    /// Of these, processed.
    pub processed: u64,
}
