//! What a run sets out to do.

use crate::workload;
use mqtally_history::event::Requirement;
use mqtally_proto::packet::Version;
use std::time::Duration;

/// A part of the run with its own clients and streams, done once for each version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Each QoS does what it says: the lesson's three streams, then bulk streams through several windows.
    Qos,
    /// A session outlives its connections, and ends when it should.
    Session,
    /// Lawful duplicates are recognised, new messages are not taken for duplicates.
    Duplicates,
    /// kill -9 of the broker in the middle of traffic, and everything acknowledged is there afterwards.
    Restart,
}

impl Group {
    /// Every group, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Qos, Self::Session, Self::Duplicates, Self::Restart];

    /// The name that people type and read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Qos => "qos",
            Self::Session => "session",
            Self::Duplicates => "duplicates",
            Self::Restart => "restart",
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
            Self::Duplicates => {
                "lost acknowledgements, repeated messages, a restarted publisher; statistics checked"
            }
            Self::Restart => {
                "kill -9 of the broker mid-traffic; everything acknowledged has to be there afterwards"
            }
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

/// What a run sets out to do. The same plan with the same seed makes the same choices.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The run's number: it keeps what this run publishes apart from what an earlier one left at the broker.
    pub run: u32,
    /// Every random choice descends from it.
    pub seed: u64,
    /// What to run, in order.
    pub groups: Vec<Group>,
    /// On which versions, in order, each group in turn.
    pub versions: Vec<Version>,
    /// Messages of each bulk stream, or a fitting number for each.
    pub messages: Option<u32>,
    /// In-flight window of every bulk publisher, instead of 1, 10, 50 and 200.
    pub in_flight: Option<u16>,
    /// Payload of every bulk message, bytes (at least the 32 of its marker), instead of random sizes.
    pub payload_bytes: Option<usize>,
    /// Give up on a drain when nothing at all has arrived for so long.
    pub drain_limit: Duration,
    /// Give up on an awaited packet after so long.
    pub answer_limit: Duration,
    unplugged: Vec<&'static str>,
}

impl Plan {
    /// Every group over both versions.
    pub fn new(run: u32, seed: u64) -> Self {
        Self {
            run,
            seed,
            groups: Group::ALL.to_vec(),
            versions: vec![Version::V3_1_1, Version::V5_0],
            messages: None,
            in_flight: None,
            payload_bytes: None,
            drain_limit: Duration::from_secs(10),
            answer_limit: Duration::from_secs(5),
            unplugged: Vec::new(),
        }
    }

    /// The same plan without the stage `name` (such as `session/release`), still owing what it would have exercised:
    /// the verdict has to say that something is missing. An unknown name changes nothing.
    #[must_use]
    pub fn without_stage(mut self, name: &str) -> Self {
        self.unplugged.extend(workload::STAGES.iter().map(|stage| stage.name).filter(|stage| *stage == name));
        self
    }

    /// The promises that this plan has to exercise, for the history's header.
    ///
    /// `survives_kill` says that the broker is killed and held to what it acknowledged before; where either is not so,
    /// a kill excuses whatever it takes, and nothing can be required of it.
    pub fn required(&self, survives_kill: bool) -> Vec<Requirement> {
        let groups = self.groups.iter().copied().filter(|group| survives_kill || !group.needs_restart());
        let pairs = groups.flat_map(|group| self.versions.iter().map(move |version| (group, *version)));
        let mut required: Vec<Requirement> = Vec::new();
        for (group, version) in pairs {
            for promise in workload::exercises(group, version) {
                let requirement =
                    Requirement { promise: promise.to_owned(), version: crate::convert::version(version) };
                if !required.contains(&requirement) {
                    required.push(requirement);
                }
            }
        }
        required
    }

    /// The stages of `group` on `version` that are plugged in.
    pub(crate) fn stages(
        &self,
        group: Group,
        version: Version,
    ) -> impl Iterator<Item = &'static workload::Stage> {
        workload::STAGES
            .iter()
            .filter(move |stage| stage.group == group && stage.runs_on(version))
            .filter(|stage| !self.unplugged.contains(&stage.name))
    }
}

/// What a run tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// A group begins.
    GroupStarted {
        /// Which.
        group: Group,
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
        /// Name of the stage.
        stage: &'static str,
        /// On which version.
        version: Version,
        /// Why.
        reason: String,
    },
    /// A group is over.
    GroupEnded {
        /// Which.
        group: Group,
        /// On which version.
        version: Version,
        /// Whether everything awaited has arrived.
        drained: bool,
    },
    /// A group is left out.
    GroupSkipped {
        /// Which.
        group: Group,
        /// Why.
        reason: String,
    },
}
