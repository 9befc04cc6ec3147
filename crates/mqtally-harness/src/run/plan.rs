//! What a run sets out to do.

use super::{Feature, Offer};
use crate::nemesis::{Faults, Strike};
use crate::scenario::{Fault, Scenario};
use crate::subject::Subject;
use crate::workload;
use mqtally_history::event::{Requirement, Side};
use mqtally_history::profile::Profile;
use mqtally_proto::packet::Version;
use std::sync::Arc;
use std::time::Duration;

/// A part of the run with its own clients and streams, done once for each version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Each QoS does what it says: the lesson's three streams, then bulk streams through several windows.
    Qos,
    /// A session outlives its connections, and ends when it should.
    Session,
    /// Retained messages: the last one of a topic is there for who comes later.
    Retained,
    /// Wills: published when a client ends without leave, and not when it takes leave.
    Wills,
    /// What MQTT 5.0 lets clients ask for.
    Options,
    /// Lawful duplicates are recognised, new messages are not taken for duplicates.
    Duplicates,
    /// Faults in every phase of both handshakes, and everything settles afterwards.
    Faults,
    /// kill -9 of the broker in the middle of traffic, and everything acknowledged is there afterwards.
    Restart,
    /// A subscribing program under test: cuts in every phase, kills, a lost session.
    SubjectSub,
    /// A publishing program under test: the same.
    SubjectPub,
}

impl Group {
    /// Every group that judges a broker, in the order in which they run.
    pub const ALL: [Self; 8] = [
        Self::Qos,
        Self::Session,
        Self::Retained,
        Self::Wills,
        Self::Options,
        Self::Duplicates,
        Self::Faults,
        Self::Restart,
    ];

    /// The name that people type and read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qos => "qos",
            Self::Session => "session",
            Self::Retained => "retained",
            Self::Wills => "wills",
            Self::Options => "options",
            Self::Duplicates => "duplicates",
            Self::Faults => "faults",
            Self::Restart => "restart",
            Self::SubjectSub => "subject-sub",
            Self::SubjectPub => "subject-pub",
        }
    }

    /// What the program under test is that it is about, if it is about one.
    pub fn side(self) -> Option<Side> {
        match self {
            Self::SubjectSub => Some(Side::Subscriber),
            Self::SubjectPub => Some(Side::Publisher),
            _ => None,
        }
    }

    /// What it is for, in one line.
    pub fn about(self) -> &'static str {
        match self {
            Self::Qos => {
                "QoS 0, 1 and 2 side by side: the lesson's three streams, then bulk through several windows"
            }
            Self::Session => {
                "persistent sessions: away and back, in-flight resumption, clean start, expiry, takeover"
            }
            Self::Retained => {
                "retained messages: the last one for who comes later, cleared, expired, asked for or not"
            }
            Self::Wills => {
                "wills: cut, keep-alive, takeover and protocol error publish them, DISCONNECT does not; delay"
            }
            Self::Options => {
                "MQTT 5.0: quotas, No Local, numbered and shared subscriptions, expiry, sizes, aliases, refusals"
            }
            Self::Duplicates => {
                "lost acknowledgements, repeated messages, a restarted publisher; statistics checked"
            }
            Self::Faults => {
                "cuts in every phase of both handshakes, takeovers, silence, kills, pauses; windows below and above"
            }
            Self::Restart => {
                "kill -9 of the broker mid-traffic; everything acknowledged has to be there afterwards"
            }
            Self::SubjectSub => "your subscribing program: cut in every phase, killed, its session lost",
            Self::SubjectPub => "your publishing program: cut in every phase, killed, its session lost",
        }
    }

    /// Whether it kills and restarts the broker, so that it cannot run on one that is only reached by URL.
    pub fn needs_restart(self) -> bool {
        self == Self::Restart
    }

    /// The group of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }
}

/// A part of a run, done once for each version of the protocol.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Stages that are built in.
    Group(Group),
    /// A scenario.
    Scenario(Arc<Scenario>),
}

/// Parts, each with a version.
pub(super) type Parts = Vec<(Part, Version)>;

impl Part {
    /// The name that people read.
    pub fn name(&self) -> &str {
        match self {
            Self::Group(group) => group.name(),
            Self::Scenario(scenario) => &scenario.name,
        }
    }

    /// What the program under test is that it is about, if it is about one.
    fn side(&self) -> Option<Side> {
        match self {
            Self::Group(group) => group.side(),
            Self::Scenario(_) => None,
        }
    }

    /// Whether it makes no sense on a broker that cannot be killed and restarted.
    fn needs_restart(&self) -> bool {
        matches!(self, Self::Group(group) if group.needs_restart())
    }
}

/// Commands of a client with a store, which the fault `kill-process` starts, kills and starts again.
///
/// Words are cut as in a shell, but no shell runs. The programs run behind the fault proxy; these are filled in:
///
/// - `{broker}`: the URL of the broker, with the user name; the password stands in their environment as
///   `MQTALLY_PASSWORD`;
/// - `{topic}`: what to subscribe to, or to publish to;
/// - `{qos}`: the QoS to ask for or to publish at;
/// - `{protocol}`: `3.1.1` or `5`;
/// - `{client_id}`: always the same one;
/// - `{dir}`: the directory of its store, which outlives its processes, unless the fault takes it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// It subscribes, and prints the payload of each message in a line when that is processed.
    pub subscriber: String,
    /// It publishes, and every payload is another one.
    pub publisher: String,
}

/// What a run sets out to do. The same plan with the same seed makes the same choices.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The run's number: it keeps what this run publishes apart from what an earlier one left at the broker.
    pub run: u32,
    /// Every random choice descends from it.
    pub seed: u64,
    /// What to run, in order.
    pub groups: Vec<Group>,
    /// What to play after the groups, in order; no two of the same name.
    pub scenarios: Vec<Arc<Scenario>>,
    /// On which versions, in order, each group in turn.
    pub versions: Vec<Version>,
    /// Programs under test, at most one of each side; each is played by the group of its side.
    pub subjects: Vec<Subject>,
    /// Messages of each bulk stream, or a fitting number for each.
    pub messages: Option<u32>,
    /// In-flight window of every bulk publisher, instead of 1, 10, 50 and 200.
    pub in_flight: Option<u16>,
    /// Payload of every bulk message, bytes (at least the 32 of its marker), instead of random sizes.
    pub payload_bytes: Option<usize>,
    /// What the group `faults` plays.
    pub faults: Faults,
    /// Give up on a drain when nothing at all has arrived for so long.
    pub drain_limit: Duration,
    /// Give up on an awaited packet after so long.
    pub answer_limit: Duration,
    /// What the fault `kill-process` kills.
    pub programs: Option<Programs>,
    offer: Offer,
    unplugged: Vec<&'static str>,
    rounds_left_out: Vec<String>,
}

impl Plan {
    /// Every group over both versions.
    pub fn new(run: u32, seed: u64) -> Self {
        Self {
            run,
            seed,
            groups: Group::ALL.to_vec(),
            scenarios: Vec::new(),
            versions: vec![Version::V3_1_1, Version::V5_0],
            subjects: Vec::new(),
            messages: None,
            in_flight: None,
            payload_bytes: None,
            faults: Faults::default(),
            drain_limit: Duration::from_secs(10),
            answer_limit: Duration::from_secs(5),
            programs: None,
            offer: Offer::default(),
            unplugged: Vec::new(),
            rounds_left_out: Vec::new(),
        }
    }

    /// The same plan for a broker that offers no more than `offer`: what it lacks is neither played nor required.
    #[must_use]
    pub fn adapted_to(mut self, offer: Offer) -> Self {
        self.offer = offer;
        self
    }

    /// What the broker offers.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Groups that have something to play, then scenarios, each with a version, in order.
    pub fn parts(&self) -> impl Iterator<Item = (Part, Version)> {
        let groups = self.groups.iter().copied().map(Part::Group);
        let parts = groups.chain(self.scenarios_played().map(Part::Scenario));
        let pairs =
            parts.flat_map(|part| self.versions_of(&part).map(move |version| (part.clone(), version)));
        pairs.filter(|(part, version)| match part {
            Part::Group(group) => workload::of(*group, *version).any(|stage| stage.is_played(&self.faults)),
            Part::Scenario(_) => true,
        })
    }

    /// Whether there is what a stage needs.
    pub(crate) fn has(&self, feature: Feature) -> bool {
        match feature {
            Feature::Processes => self.programs.is_some(),
            _ => self.offer.has(feature),
        }
    }

    /// The scenarios with the faults that are played: none where none are wanted, and none of a broker that is not
    /// ours.
    pub fn scenarios_played(&self) -> impl Iterator<Item = Arc<Scenario>> {
        let ours = self.offer.has(Feature::Control);
        let keep = move |fault: &Fault| !self.faults.is_none() && (ours || !fault.kind.strikes_broker());
        self.scenarios.iter().map(move |scenario| Arc::new(scenario.with_faults(keep)))
    }

    /// Whether the scenario `name` would strike the broker.
    pub(super) fn would_strike_broker(&self, name: &str) -> bool {
        let mut scenarios = self.scenarios.iter().filter(|scenario| scenario.name == name);
        !self.faults.is_none()
            && scenarios.any(|scenario| scenario.faults.iter().any(|fault| fault.kind.strikes_broker()))
    }

    /// The parts that can be played on this broker, and those that cannot.
    pub(super) fn playable(&self, can_restart: bool) -> (Parts, Parts) {
        self.parts().partition(|(part, _)| can_restart || !part.needs_restart())
    }

    /// The versions of a part that the broker speaks; a program under test speaks the one that it speaks.
    fn versions_of(&self, part: &Part) -> impl Iterator<Item = Version> + use<'_> {
        let spoken = |version: &Version| self.offer.speaks(*version);
        let side = part.side();
        let all = self.versions.iter().copied().filter(move |_| side.is_none());
        all.chain(side.and_then(|side| self.subject(side)).map(Subject::version)).filter(spoken)
    }

    /// The program under test of this side.
    pub(crate) fn subject(&self, side: Side) -> Option<&Subject> {
        self.subjects.iter().find(|subject| subject.side == side)
    }

    /// The same plan without the stage `name` (such as `session/release`), still owing what it would have exercised:
    /// the verdict has to say that something is missing. An unknown name changes nothing.
    #[must_use]
    pub fn without_stage(mut self, name: &str) -> Self {
        self.unplugged.extend(workload::STAGES.iter().map(|stage| stage.name).filter(|stage| *stage == name));
        self
    }

    /// The same plan without the rounds of this name that a program under test is put through, such as `taken-over`: what
    /// they alone find is not found. An unknown name changes nothing.
    #[must_use]
    pub fn without_rounds(mut self, name: &str) -> Self {
        self.rounds_left_out.push(name.to_owned());
        self
    }

    /// Whether a program under test is put through the rounds of this name.
    pub(crate) fn has_rounds(&self, name: &str) -> bool {
        self.rounds_left_out.iter().all(|left_out| left_out != name)
    }

    /// The promises that this plan has to exercise, for the history's header.
    ///
    /// `can_restart` says that the broker can be killed, and `profile` what it has to keep then: a kill that the profile
    /// does not cover excuses whatever it takes, and nothing can be required of it.
    pub fn required(&self, can_restart: bool, profile: Profile) -> Vec<Requirement> {
        let survives_kill = can_restart && profile >= Profile::Durable;
        let parts = self.parts().filter(|(part, _)| survives_kill || !part.needs_restart());
        let mut required: Vec<Requirement> = Vec::new();
        for (part, version) in parts {
            for promise in self.exercised(&part, version, profile) {
                let requirement =
                    Requirement { promise: promise.to_owned(), version: crate::convert::version(version) };
                if !required.contains(&requirement) {
                    required.push(requirement);
                }
            }
        }
        required
    }

    /// The promises that a part puts to the test.
    fn exercised(&self, part: &Part, version: Version, profile: Profile) -> Vec<&'static str> {
        match part {
            Part::Group(group) => {
                let stages = workload::of(*group, version)
                    .filter(|stage| stage.is_played(&self.faults) && stage.survived_by() <= profile);
                let of_stages = stages.flat_map(|stage| stage.exercises(self));
                let of_subject = group.side().and_then(|side| self.subject(side)).map(Subject::required);
                of_stages.chain(of_subject.into_iter().flatten()).collect()
            }
            Part::Scenario(scenario) => workload::scenario::exercises(scenario, &self.offer),
        }
    }

    /// The stages of `group` on `version` that are plugged in and that the broker has what it takes for.
    pub(crate) fn stages(
        &self,
        group: Group,
        version: Version,
    ) -> impl Iterator<Item = &'static workload::Stage> {
        workload::of(group, version)
            .filter(|stage| stage.lacks(self).is_none() && stage.is_played(&self.faults))
            .filter(|stage| !self.unplugged.contains(&stage.name))
    }

    /// What strikes in the group of faults on `version`, in order.
    pub fn strikes(&self, version: Version) -> Vec<Strike> {
        self.stages(Group::Faults, version).flat_map(|stage| stage.strikes(self, version)).collect()
    }

    /// The other stages that are plugged in, each with what the broker lacks for it.
    pub(crate) fn left_out(
        &self,
        group: Group,
        version: Version,
    ) -> impl Iterator<Item = (&'static workload::Stage, Feature)> {
        workload::of(group, version)
            .filter(|stage| !self.unplugged.contains(&stage.name) && stage.is_played(&self.faults))
            .filter_map(|stage| Some((stage, stage.lacks(self)?)))
    }
}

/// What a run tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// A group begins.
    GroupStarted {
        /// Its name; that of a scenario where it is one.
        group: Arc<str>,
        /// On which version.
        version: Version,
    },
    /// How far it is; about ten times a second, counted over the whole run.
    Progress {
        /// Messages sent.
        sent: u64,
        /// Deliveries received.
        received: u64,
    },
    /// A stage could not go on; its group is not drained.
    Trouble {
        /// Name of the stage, or of the scenario.
        stage: Arc<str>,
        /// On which version.
        version: Version,
        /// Why.
        reason: String,
    },
    /// A version is left out.
    VersionSkipped {
        /// Which.
        version: Version,
        /// Why.
        reason: String,
    },
    /// A stage is left out: what it exercises cannot be.
    StageSkipped {
        /// Name of the stage, or of the scenario.
        stage: Arc<str>,
        /// On which version.
        version: Version,
        /// Why.
        reason: String,
    },
    /// A group is over.
    GroupEnded {
        /// Its name.
        group: Arc<str>,
        /// On which version.
        version: Version,
        /// Whether everything awaited has arrived.
        drained: bool,
    },
    /// A group is left out.
    GroupSkipped {
        /// Its name.
        group: Arc<str>,
        /// Why.
        reason: String,
    },
}
