//! What a run comes to. Serialised as it stands, it is the JSON report `mqtally.report/1`.

use crate::event::{BrokerKind, Side};
use crate::need::{Need, Weight};
use crate::profile::{Measured, Profile};
use serde::Serialize;

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Always `mqtally.report/1`; fields are added, never renamed.
    pub schema: &'static str,
    /// The verdict over everything.
    pub verdict: Verdict,
    /// Why the verdict is unknown, when it is; empty otherwise.
    pub unknown_because: Vec<String>,
    /// Seed of the run.
    pub seed: u64,
    /// Which broker was judged.
    pub broker: Broker,
    /// What the broker was seen to keep before the run; absent where nobody looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_measured: Option<Measured>,
    /// Programs under test, when there are any.
    pub subjects: Vec<Subject>,
    /// Every message, counted once.
    pub tally: Tally,
    /// Why what `tally.excused` counts is excused.
    pub excuses: Vec<Excuse>,
    /// Every promise of the catalogue that this version judges.
    pub promises: Vec<Promise>,
    /// What was found, most severe first.
    pub findings: Vec<Finding>,
    /// What scenarios need, and whether it was met; how fast they were played; and what the advisor says to them.
    #[serde(flatten)]
    pub needs: Needs,
    /// Each stream.
    pub streams: Vec<Stream>,
    /// Messages that carry a label: the lesson's table.
    pub messages: Vec<Message>,
    /// Statistics that subscribing applications reported.
    pub applications: Vec<Application>,
    /// Faults injected on purpose.
    pub faults: Vec<Fault>,
    /// Sessions, by client.
    pub sessions: Vec<Session>,
    /// Parts of the run.
    pub groups: Vec<Group>,
    /// From the first event to the last.
    pub elapsed_ms: u64,
}

/// What scenarios came to. Empty in a run that plays none.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Needs {
    /// Each need of each stream.
    pub needs: Vec<NeedMet>,
    /// What to change so that needs can be met, found before the run.
    pub advice: Vec<Advised>,
    /// How fast each stream was to be sent, and was.
    pub rates: Vec<Rate>,
}

/// A need of a stream on one version, and whether it was met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NeedMet {
    /// Scenario.
    pub scenario: String,
    /// `3.1.1` or `5`.
    pub protocol: &'static str,
    /// Stream.
    pub stream: String,
    /// What is needed.
    pub need: Need,
    /// The promise that stands for it, such as `N2`.
    pub promise: &'static str,
    /// QoS that the stream is published at.
    pub qos: u8,
    /// Messages that its devices took on.
    pub messages: u64,
    /// How often it was put to the test.
    pub obligations: u64,
    /// How often it was not met.
    pub violations: u64,
    /// Whether it was met.
    pub verdict: Verdict,
    /// What happened, in a sentence without a full stop.
    pub why: String,
}

/// Something to change in a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advised {
    /// Scenario.
    pub scenario: String,
    /// Stream.
    pub stream: String,
    /// Subscriber, when it is about one.
    pub subscriber: Option<String>,
    /// The need that it is about.
    pub need: Need,
    /// How serious it is.
    pub weight: Weight,
    /// Why the need cannot be met, or costs too much.
    pub why: String,
    /// What to change.
    pub change: String,
    /// What really happened: whether the need was met all the same.
    pub happened: String,
}

/// How fast a stream was to be sent on one version, and was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rate {
    /// Scenario.
    pub scenario: String,
    /// `3.1.1` or `5`.
    pub protocol: &'static str,
    /// Stream.
    pub stream: String,
    /// Messages that its devices were to take on.
    pub planned: u64,
    /// Messages that they took on.
    pub taken: u64,
    /// Messages that they sent.
    pub sent: u64,
    /// Messages a second of the run, all devices together, as planned.
    pub planned_per_s: f64,
    /// As it was.
    pub achieved_per_s: f64,
    /// The longest time between when a message was due and its first byte.
    pub behind_ms_max: u64,
    /// At least 95 % of what was planned.
    pub met: bool,
}

/// The words of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was put to the test and held.
    Kept,
    /// Nothing in the run put it to the test.
    NotExercised,
    /// Something odd that no normative statement forbids.
    Warn,
    /// It could not be decided.
    Unknown,
    /// It did not hold.
    Broken,
}

/// How much a broken promise matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Severity {
    /// Data: lost, duplicated at QoS 2, reordered, invented, corrupt.
    S1,
    /// Session or flow state is wrong, which can cause S1.
    S2,
    /// A flag or book-keeping is wrong.
    S3,
    /// Something takes for ever.
    S4,
}

/// The broker that was judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broker {
    /// Where it came from.
    pub kind: BrokerKind,
    /// Its name, without credentials.
    pub name: String,
    /// Versions that were spoken: `3.1.1`, `5`.
    pub protocols: Vec<&'static str>,
    /// The durability it is held to.
    pub profile: Profile,
    /// Whether its clients logged in without a user name; some brokers promise those less.
    pub anonymous: bool,
}

/// A program under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// What it is to the broker.
    pub side: Side,
    /// The command that starts it, as it was given.
    pub command: String,
    /// Versions that it spoke: `3.1.1`, `5`.
    pub protocols: Vec<&'static str>,
    /// Client ids that it came with, at most the first 100.
    pub client_ids: Vec<String>,
    /// Ends of its process.
    pub ends: u64,
    /// Messages that it said it received, processed, recognised or published.
    pub reports: u64,
}

/// The tally. Apart from `published`, `acknowledged` counts messages; the outcomes count message × session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Messages sent.
    pub published: u64,
    /// Messages whose final acknowledgement came.
    pub acknowledged: u64,
    /// First copies that arrived.
    pub delivered: u64,
    /// Owed, and proved missing by a sentinel.
    pub lost: u64,
    /// Second copies that break a promise.
    pub duplicated: u64,
    /// Streams' messages that arrived out of order (fewest moved).
    pub reordered: u64,
    /// Deliveries nobody sent.
    pub unexpected: u64,
    /// Deliveries whose payload or properties changed.
    pub corrupt: u64,
    /// Not acknowledged, and arrived.
    pub recovered: u64,
    /// Not acknowledged, and did not arrive (or QoS 0).
    pub unresolved: u64,
    /// Owed but for a reason that lifts the promise.
    pub excused: u64,
}

/// A reason that lifted a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Excuse {
    /// In words, such as `the session was ended by a clean start`.
    pub reason: &'static str,
    /// How many message × session it lifted.
    pub count: u64,
}

/// One promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// Id, such as `D3`.
    pub id: &'static str,
    /// In words.
    pub title: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Whether it was kept.
    pub verdict: Verdict,
    /// How often the run really put it to the test.
    pub obligations: u64,
    /// How often it was broken.
    pub violations: u64,
    /// Obligations by protocol version, `[3.1.1, 5]`.
    pub obligations_by_protocol: [u64; 2],
    /// Normative statements, each with its version.
    pub spec: Vec<&'static str>,
}

/// One finding: everything with the same cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which promise.
    pub promise: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// `broken`, `warn` or `unknown`.
    pub verdict: Verdict,
    /// `3.1.1` or `5`.
    pub protocol: &'static str,
    /// Part of the run.
    pub group: String,
    /// What happened, in a sentence.
    pub message: String,
    /// The fault under which it happened; empty when none.
    pub fault: String,
    /// How many times, this finding standing for all.
    pub count: u64,
    /// First and last event concerned, as numbers of events in the history.
    pub events: [u64; 2],
    /// The packets that prove it, one a line; [`Step::read`] takes a line apart.
    pub excerpt: Vec<String>,
}

/// A line of an excerpt, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step<'a> {
    /// Milliseconds since the run began, as printed.
    pub at_ms: &'a str,
    /// Client id.
    pub client: &'a str,
    /// Which way it went.
    pub direction: Direction,
    /// The packet, or what happened.
    pub text: &'a str,
}

/// Which way a line of an excerpt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the broker (`>`).
    ToBroker,
    /// From the broker to the client (`<`).
    ToClient,
    /// No packet (`|`).
    Nowhere,
}

impl<'a> Step<'a> {
    /// Takes `  1203.4 ms  sub-2  <  PUBLISH id=5 …` apart; none when the line is not of this form.
    pub fn read(line: &'a str) -> Option<Step<'a>> {
        let (at_ms, rest) = line.trim_start().split_once(" ms  ")?;
        let arrows =
            [("  >  ", Direction::ToBroker), ("  <  ", Direction::ToClient), ("  |  ", Direction::Nowhere)];
        let first = |(arrow, direction)| rest.find(arrow).map(|at| (at, direction));
        let (at, direction) = arrows.into_iter().filter_map(first).min_by_key(|(at, _)| *at)?;
        Some(Step { at_ms, client: &rest[..at], direction, text: rest[at..].get(5..)? })
    }
}

/// One stream: a publisher's topic at one QoS, in one part of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// Part of the run.
    pub group: String,
    /// `3.1.1` or `5`.
    pub protocol: &'static str,
    /// Topic.
    pub topic: String,
    /// QoS it was published at.
    pub qos: u8,
    /// Messages sent (sentinels and canaries not counted).
    pub published: u64,
    /// Finally acknowledged.
    pub acknowledged: u64,
    /// First copies received, summed over subscribers.
    pub delivered: u64,
    /// Further copies, lawful ones too.
    pub duplicates: u64,
    /// From the first byte sent to the final acknowledgement.
    pub ack_latency_us: Percentiles,
    /// From the first byte sent to the first copy received.
    pub end_to_end_us: Percentiles,
}

/// Percentiles in microseconds; zero where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// Largest.
    pub max: u64,
}

/// One labelled message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The id its envelope shows.
    pub message_id: u64,
    /// `3.1.1` or `5`.
    pub protocol: &'static str,
    /// Topic.
    pub topic: String,
    /// QoS.
    pub qos: u8,
    /// Message type.
    pub message_type: String,
    /// `confirmed`, `sent` (QoS 0), `pending` or `refused`.
    pub status: &'static str,
    /// Subscribers that received it.
    pub received_by: u64,
    /// Time to the final acknowledgement, when there is one.
    pub ack_latency_us: Option<u64>,
    /// Time to the first copy received, when there is one.
    pub end_to_end_us: Option<u64>,
}

/// What a subscribing application said of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Application {
    /// Its client id.
    pub client_id: String,
    /// `3.1.1` or `5`.
    pub protocol: &'static str,
    /// Deliveries given to it.
    pub received: u64,
    /// Recognised duplicates.
    pub duplicates: u64,
    /// Conflicts.
    pub conflicts: u64,
    /// Failures.
    pub errors: u64,
    /// Processed.
    pub processed: u64,
}

/// A kind of fault that was injected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Kind, such as `kill-broker`.
    pub kind: String,
    /// When first.
    pub at_ms: u64,
    /// How often.
    pub count: u64,
}

/// A client's sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Client id.
    pub client_id: String,
    /// Connections that resumed a session.
    pub resumed: u64,
    /// Session-present of each accepted connection, in order (at most the first 100).
    pub session_present: Vec<bool>,
}

/// A part of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Name.
    pub name: String,
    /// `3.1.1` or `5`.
    pub protocol: &'static str,
    /// Messages published in it.
    pub published: u64,
    /// Whether its streams were drained to their sentinels.
    pub drained: bool,
    /// How long it took.
    pub elapsed_ms: u64,
}
