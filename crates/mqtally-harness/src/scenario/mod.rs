//! A scenario: devices and their streams, subscribers, faults, and what each stream *needs*.
//!
//! MQTT's promises are those of the broker. A scenario adds those of the application: which messages may be lost, which
//! may not, what must not happen twice. [`Scenario::parse`] reads a file and says where it is wrong;
//! [`advise`](advice::advise) finds needs that the chosen QoS, session, expiry or queue cannot meet, before anything is
//! sent; the run then shows what really happened.
//!
//! ```
//! use mqtally_harness::scenario::{Scenario, advice::advise};
//!
//! let text = r#"
//!     name = "pump"
//!     duration = "10s"
//!     [[streams]]
//!     name = "alarm"
//!     topic = "pump/alarm"
//!     qos = 0
//!     every = "1s"
//!     needs = ["must-arrive"]
//!     [[subscribers]]
//!     name = "control-room"
//!     filters = ["pump/+@1"]
//! "#;
//! let scenario = Scenario::parse(text).unwrap();
//! assert!(advise(&scenario)[0].change.contains("qos = 1"));
//! ```

pub mod advice;
mod builtin;
mod place;
mod read;
mod span;
mod timetable;

pub use builtin::{BUILT_IN, built_in};
pub use read::ScenarioError;
pub use span::Span;
pub use timetable::Turn;

use mqtally_history::need;
use mqtally_history::profile::Profile;
use mqtally_proto::packet::Qos;
use mqtally_proto::topic;
use schemars::JsonSchema;
use serde::Deserialize;

/// Where a payload has what an application recognises a message by, as a JSON pointer.
pub(crate) const IDENTITY: &str = "/message_id";

/// A scenario file.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "mqtally scenario")]
pub struct Scenario {
    /// What reports call it: letters, digits and hyphens.
    pub name: String,
    /// What it is about, in a line.
    #[serde(default)]
    pub about: String,
    /// How long it lasts, in the scenario's own time.
    pub duration: Span,
    /// Seconds of the scenario in one second of the run.
    #[serde(default = "one")]
    #[schemars(range(min = 0.01, max = 10_000.0))]
    pub speed: f64,
    /// The broker it is meant for; the advice rests on this.
    #[serde(default)]
    pub broker: Broker,
    /// What the devices publish.
    #[schemars(length(min = 1))]
    pub streams: Vec<Stream>,
    /// Who receives it.
    #[serde(default)]
    pub subscribers: Vec<Subscriber>,
    /// What goes wrong, and when.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// What the broker is expected to do.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Broker {
    /// What survives its end: volatile, graceful, durable or power-safe.
    #[serde(default, deserialize_with = "read::profile")]
    #[schemars(with = "Option<ProfileName>")]
    pub profile: Option<Profile>,
    /// Messages that it keeps for a session that is away, when that has a limit.
    #[serde(default)]
    pub queue_max: Option<u64>,
}

/// The words for a broker's durability.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "the schema alone needs it")]
enum ProfileName {
    Volatile,
    Graceful,
    Durable,
    PowerSafe,
}

/// What one kind of device publishes.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stream {
    /// What faults and reports call it.
    pub name: String,
    /// Topic; `{device}` stands for the device's number, from 1.
    pub topic: String,
    /// Devices that publish it, each with a client of its own.
    #[serde(default = "one_device")]
    #[schemars(range(min = 1, max = 1_000))]
    pub devices: u32,
    /// QoS that they publish at.
    #[serde(default)]
    #[schemars(range(max = 2))]
    pub qos: u8,
    /// Time between two messages of a device.
    pub every: Span,
    /// Messages of a device; as many as fit into the duration when left out.
    #[serde(default)]
    pub count: Option<u32>,
    /// When the first is sent.
    #[serde(default)]
    pub from: Span,
    /// Publish as retained messages.
    #[serde(default)]
    pub retained: bool,
    /// Message expiry interval (MQTT 5 alone has it); never when left out.
    #[serde(default)]
    pub expiry: Option<Span>,
    /// Payload; `{number}` and `{device}` are filled in. A JSON object gets the message's identity as a further member.
    #[serde(default = "payload")]
    pub payload: String,
    /// The member of the payload by which each message moves something at its subscribers, such as a valve: a whole
    /// number, the same in every message. Where it stands at the end shows how often messages were acted on.
    #[serde(default)]
    pub step: Option<String>,
    /// What the application needs of it.
    #[serde(default)]
    pub needs: Vec<Need>,
}

/// What an application needs of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    /// Any message may be lost.
    MayLose,
    /// Every message reaches every subscriber, whatever happens meanwhile.
    MustArrive,
    /// No subscriber acts on a message twice.
    MustNotHappenTwice,
    /// Whoever looks sees the newest message; older ones are of no use.
    NewestOnly,
}

/// A subscribing application.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Subscriber {
    /// What faults and reports call it; it becomes a part of its client id.
    pub name: String,
    /// Topic filters, each with the QoS that it asks for behind an `@`; 0 when left out.
    #[schemars(length(min = 1))]
    pub filters: Vec<String>,
    /// Whether the broker keeps its session while it is away.
    #[serde(default)]
    pub session: Session,
    /// How long the broker keeps it; as long as it likes when left out.
    #[serde(default)]
    pub expiry: Option<Span>,
    /// Whether the application recognises a message that it has seen, by the `message_id` in its payload.
    #[serde(default)]
    pub dedup: bool,
}

/// How long a subscriber's session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Session {
    /// As long as its connection.
    #[default]
    Clean,
    /// While it is away, too.
    Persistent,
}

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fault {
    /// What it is.
    pub kind: FaultKind,
    /// The stream whose devices, or the subscriber whom it strikes; nobody in particular where it strikes the broker.
    #[serde(default)]
    pub of: Option<String>,
    /// When, first.
    pub at: Span,
    /// How long it lasts: until the client comes back, or the broker is started again.
    #[serde(default)]
    pub lasts: Span,
    /// When it strikes again, counted from the last time; once when left out.
    #[serde(default)]
    pub again_every: Option<Span>,
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// The connection of a device or subscriber is cut.
    Cut,
    /// A device or subscriber goes away in order and comes back.
    Leave,
    /// A device or subscriber stays connected and reads nothing for a while.
    Stall,
    /// kill -9 of the broker, and a start on the same data.
    KillBroker,
    /// SIGTERM to the broker, and a start on the same data.
    RestartBroker,
}

impl Scenario {
    /// Messages that the devices will have sent at the end.
    pub fn messages(&self) -> u64 {
        self.streams.iter().map(|stream| u64::from(stream.devices) * u64::from(self.count_of(stream))).sum()
    }

    /// The same with those of its faults that `keep` wants.
    #[must_use]
    pub fn with_faults(&self, keep: impl Fn(&Fault) -> bool) -> Scenario {
        Scenario { faults: self.faults.iter().filter(|fault| keep(fault)).cloned().collect(), ..self.clone() }
    }

    /// Messages of one device of `stream`.
    pub fn count_of(&self, stream: &Stream) -> u32 {
        let left = self.duration.as_secs_f64() - stream.from.as_secs_f64();
        let fitting = (left / stream.every.as_secs_f64()).ceil().max(0.0);
        // A number of messages that does not fit into 32 bits was refused when the file was read.
        let fitting = fitting.min(f64::from(u32::MAX)) as u32;
        stream.count.unwrap_or(fitting)
    }

    /// A time of the scenario as a time of the run.
    pub fn compressed(&self, span: Span) -> std::time::Duration {
        std::time::Duration::from_secs_f64(span.as_secs_f64() / self.speed)
    }

    /// The longest time that `subscriber` is away at a stretch, the broker's absence included.
    pub fn longest_absence(&self, subscriber: &Subscriber) -> Span {
        let away = self.faults.iter().filter(|fault| fault.takes_away(&subscriber.name));
        away.map(|fault| fault.lasts).max().unwrap_or_default()
    }

    /// Whether a fault takes `subscriber` from the broker, or the broker from it.
    pub fn takes_away(&self, subscriber: &Subscriber) -> bool {
        self.faults.iter().any(|fault| fault.takes_away(&subscriber.name))
    }

    /// Whether `subscriber` is away for most of the time.
    pub(crate) fn is_mostly_away(&self, subscriber: &Subscriber) -> bool {
        let away = self.faults.iter().filter(|fault| fault.takes_away(&subscriber.name));
        let away_ms = away.map(|fault| self.strikes(fault).saturating_mul(fault.lasts.as_ms())).sum::<u64>();
        away_ms > self.duration.as_ms() / 2
    }

    /// An expiry of the scenario in seconds of the run, rounded up: MQTT counts no less.
    pub(crate) fn whole_seconds(&self, expiry: Span) -> u32 {
        let seconds = self.compressed(expiry).as_secs_f64().ceil().max(1.0);
        // Below the number that means "never".
        seconds.min(f64::from(u32::MAX - 1)) as u32
    }
}

impl Fault {
    fn takes_away(&self, name: &str) -> bool {
        let struck = self.kind != FaultKind::Stall && self.of.as_deref() == Some(name);
        struck || self.kind.strikes_broker()
    }
}

impl Stream {
    /// Topic of one of its devices.
    pub fn topic_of(&self, device: u32) -> String {
        self.topic.replace("{device}", &device.to_string())
    }

    /// A filter that matches the topics of all its devices.
    pub fn filter(&self) -> String {
        let levels = self.topic.split('/').map(|level| if level.contains("{device}") { "+" } else { level });
        levels.collect::<Vec<_>>().join("/")
    }

    /// Payload of a message, numbered from 1, of one of its devices.
    pub fn payload_of(&self, device: u32, number: u64) -> String {
        self.payload.replace("{number}", &number.to_string()).replace("{device}", &device.to_string())
    }

    /// By how much each message moves something; none where it moves nothing.
    pub(crate) fn step_size(&self) -> Option<i64> {
        let member = self.step.as_ref()?;
        let payload: serde_json::Value = serde_json::from_str(&self.payload_of(1, 1)).ok()?;
        payload.get(member)?.as_i64()
    }

    /// Whether one of its needs is `need`.
    pub fn has(&self, need: Need) -> bool {
        self.needs.contains(&need)
    }
}

impl Subscriber {
    /// Its filters with the QoS that each asks for.
    pub fn subscriptions(&self) -> impl Iterator<Item = (&str, Qos)> {
        self.filters.iter().map(|filter| read::subscription(filter).unwrap_or((filter, Qos::AtMostOnce)))
    }

    /// Whether it recognises a message of `stream` that it has seen.
    pub fn recognises(&self, stream: &Stream) -> bool {
        let payload = || serde_json::from_str::<serde_json::Value>(&stream.payload_of(1, 1));
        self.dedup && payload().is_ok_and(|payload| payload.pointer(IDENTITY).is_some())
    }

    /// The QoS at which it asks for what each device of `stream` publishes, the lowest of them; none when it does not.
    pub fn asks_for(&self, stream: &Stream) -> Option<Qos> {
        let devices = (1..=stream.devices).map(|device| self.asks_for_topic(&stream.topic_of(device)));
        devices.min().flatten()
    }

    /// The highest QoS at which it asks for this topic.
    fn asks_for_topic(&self, topic: &str) -> Option<Qos> {
        self.subscriptions().filter(|(filter, _)| topic::matches(filter, topic)).map(|(_, qos)| qos).max()
    }

    /// A device of `stream` that it asks for and one that it does not.
    fn asks_for_some(&self, stream: &Stream) -> Option<[u32; 2]> {
        let asks = |device: &u32| self.asks_for_topic(&stream.topic_of(*device)).is_some();
        let mut devices = 1..=stream.devices;
        Some([devices.clone().find(asks)?, devices.find(|device| !asks(device))?])
    }
}

impl From<Need> for need::Need {
    fn from(need: Need) -> Self {
        match need {
            Need::MayLose => Self::MayLose,
            Need::MustArrive => Self::MustArrive,
            Need::MustNotHappenTwice => Self::MustNotHappenTwice,
            Need::NewestOnly => Self::NewestOnly,
        }
    }
}

impl FaultKind {
    /// The word for it in a file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Leave => "leave",
            Self::Stall => "stall",
            Self::KillBroker => "kill-broker",
            Self::RestartBroker => "restart-broker",
        }
    }

    /// Whether it strikes the broker and not a client.
    pub fn strikes_broker(self) -> bool {
        matches!(self, Self::KillBroker | Self::RestartBroker)
    }
}

/// The JSON schema of a scenario file, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Scenario).to_value()
}

/// A QoS that was checked when the file was read.
pub(crate) fn qos(number: u8) -> Qos {
    match number {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

fn one() -> f64 {
    1.0
}

fn one_device() -> u32 {
    1
}

fn payload() -> String {
    r#"{"message_id": {number}}"#.to_owned()
}
