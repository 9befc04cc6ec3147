//! What an application needs of its messages, beyond what MQTT promises: declared in a history before the first of
//! them is sent, and judged by the family N of the catalogue.

use serde::Serialize;
use std::sync::Arc;

/// What an application needs of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Any message may be lost, as long as some arrive.
    MayLose,
    /// Every message reaches every application that subscribes to it, whatever happens meanwhile.
    MustArrive,
    /// No application acts on a message twice.
    MustNotHappenTwice,
    /// Whoever looks sees the newest message.
    NewestOnly,
}

impl Need {
    /// Every need, in the order of its promise.
    pub const ALL: [Self; 4] = [Self::MayLose, Self::MustArrive, Self::MustNotHappenTwice, Self::NewestOnly];

    /// The word for it in a scenario file.
    pub fn word(self) -> &'static str {
        match self {
            Self::MayLose => "may-lose",
            Self::MustArrive => "must-arrive",
            Self::MustNotHappenTwice => "must-not-happen-twice",
            Self::NewestOnly => "newest-only",
        }
    }
}

/// A stream of a scenario: what one kind of device publishes, who is to receive it, and what is needed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declaration {
    /// Its name.
    pub stream: Arc<str>,
    /// QoS that it is published at.
    pub qos: u8,
    /// What is needed.
    pub needs: Vec<Need>,
    /// The publisher number of its first device; the others follow, and each has one stream, with the number 0.
    pub publisher: u32,
    /// Devices.
    pub devices: u32,
    /// Messages that each device is to send.
    pub messages: u32,
    /// Nanoseconds of the run between two messages of a device.
    pub every_ns: u64,
    /// By how much each message moves something at its receivers (a valve by a step); none where it moves nothing.
    pub step: Option<i64>,
    /// The subscribing applications.
    pub receivers: Vec<Receiver>,
}

/// An application that subscribes to a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receiver {
    /// Its client id.
    pub client: Arc<str>,
    /// What it subscribes for.
    pub kind: ReceiverKind,
    /// It recognises a message that it has seen.
    pub dedup: bool,
}

/// What an application subscribes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReceiverKind {
    /// To act on every message.
    Steady,
    /// It comes when the last message has been sent, to see the newest.
    Late,
}

/// One thing to change, found before anything was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// How serious it is.
    pub weight: Weight,
    /// The stream.
    pub stream: Arc<str>,
    /// The subscriber, when it is about one.
    pub subscriber: Option<Arc<str>>,
    /// The need that it is about.
    pub need: Need,
    /// Why the need cannot be met, in a sentence without a full stop.
    pub why: Arc<str>,
    /// What to change, as it would stand in the file.
    pub change: Arc<str>,
}

/// How serious an advice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// It costs more than is needed.
    Hint,
    /// A need cannot be met.
    Unmet,
}
