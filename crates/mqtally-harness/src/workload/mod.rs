//! What a run does to a broker: the stages of each group.
//!
//! [`STAGES`] is the table of all of them with what each exercises. A stage is a function of its [`Scene`], with clients,
//! topics and random choices of its own. The stages of a group run in turn, so that what is found stands near the fault
//! that caused it; only those that mostly wait run beside the others.
//!
//! Workloads judge nothing. They make things happen and wait, with a bound, until they have happened; whether a
//! promise was kept the history tells.

mod application;
mod duplicates;
mod faults;
mod filters;
mod options;
mod peer;
mod probe;
mod publisher;
mod qos;
mod restart;
mod retained;
pub(crate) mod scenario;
mod scene;
mod session;
mod source;
mod subject;
mod subscriber;
mod trouble;
mod wills;

pub(crate) use probe::Probe;
pub(crate) use publisher::Publisher;
pub(crate) use scene::Scene;
pub(crate) use source::{Outgoing, Source};
pub(crate) use trouble::Trouble;

use crate::nemesis::{Draw, Faults, Kind, Strike};
use crate::run::{Feature, Group, Plan};
use mqtally_history::profile::Profile;
use mqtally_proto::packet::Version;
use std::pin::Pin;

/// What a stage comes to.
pub(crate) type Played = Pin<Box<dyn Future<Output = Result<(), Trouble>> + Send>>;

/// A part of a group.
pub(crate) struct Stage {
    /// Its name: the group's, a slash, its own.
    pub(crate) name: &'static str,
    /// None where it plays a scenario.
    group: Option<Group>,
    /// Promises that it puts to the test on every version it runs on.
    exercises: &'static [&'static str],
    /// Only 5.0 has what it tests.
    only_v5: bool,
    /// What it is about, and a broker may be without.
    needs: Option<Feature>,
    /// It mostly waits, so that it runs beside the others.
    pub(crate) beside: bool,
    pub(crate) play: fn(Scene) -> Played,
}

impl Stage {
    const fn new(
        name: &'static str,
        group: Option<Group>,
        exercises: &'static [&'static str],
        play: fn(Scene) -> Played,
    ) -> Self {
        Self { name, group, exercises, only_v5: false, needs: None, beside: false, play }
    }

    /// The stage that plays a scenario.
    const fn new_scenario(name: &'static str, play: fn(Scene) -> Played) -> Self {
        Self { name, group: None, exercises: &[], only_v5: false, needs: None, beside: false, play }
    }

    const fn only_v5(mut self) -> Self {
        self.only_v5 = true;
        self
    }

    const fn needs(mut self, feature: Feature) -> Self {
        self.needs = Some(feature);
        self
    }

    const fn beside(mut self) -> Self {
        self.beside = true;
        self
    }

    /// What a run of this plan lacks for it.
    pub(crate) fn lacks(&self, plan: &Plan) -> Option<Feature> {
        let needs = self.needs.into_iter().chain(self.fault().map(|kind| kind.needs));
        // Whatever stops or kills the broker strikes through the proxy, too.
        let needs = needs.chain(self.fault().map(|_| Feature::PlainTcp));
        needs.into_iter().find(|feature| !plan.has(*feature))
    }

    /// Its name without its group's.
    pub(crate) fn own_name(&self) -> &'static str {
        self.name.split_once('/').map_or(self.name, |(_, own)| own)
    }

    /// The kind of fault that it is about, in the group of faults.
    fn fault(&self) -> Option<&'static Kind> {
        if self.group == Some(Group::Faults) { Kind::from_name(self.own_name()) } else { None }
    }

    /// Whether there is something to play where these faults are wanted.
    pub(crate) fn is_played(&self, faults: &Faults) -> bool {
        self.fault().is_none_or(|kind| faults.has(kind))
    }

    /// The weakest profile under which what it does excuses nothing.
    pub(crate) fn survived_by(&self) -> Profile {
        self.fault().map_or(Profile::Volatile, |kind| kind.survived_by)
    }

    /// What strikes in it.
    pub(crate) fn strikes(&self, plan: &Plan, version: Version) -> Vec<Strike> {
        let is_v5 = version == Version::V5_0;
        let mut draw = Draw {
            random: self.random(plan, version, "strikes"),
            has_qos_2: plan.offer().has(Feature::ExactlyOnce),
            receive_maximum: plan.offer().receive_maximum().filter(|_| is_v5),
            is_v5,
        };
        self.fault().map(|kind| plan.faults.strikes(kind, &mut draw)).unwrap_or_default()
    }

    /// Random choices for one purpose.
    fn random(&self, plan: &Plan, version: Version, purpose: &str) -> fastrand::Rng {
        scene::derived(plan.seed, &format!("{}/{version:?}/{purpose}", self.name))
    }

    /// The promises that it puts to the test in a run of this plan.
    pub(crate) fn exercises(&self, plan: &Plan) -> impl Iterator<Item = &'static str> {
        let played = self.lacks(plan).is_none();
        let promises = self.exercises.iter().copied().filter(move |_| played);
        promises.filter(|promise| {
            ONLY_WITH.iter().all(|(feature, of)| plan.has(*feature) || !of.contains(promise))
        })
    }
}

/// The stages of `group` on `version`, plugged in or not.
pub(crate) fn of(group: Group, version: Version) -> impl Iterator<Item = &'static Stage> {
    let runs = move |stage: &&Stage| !stage.only_v5 || version == Version::V5_0;
    STAGES.iter().filter(move |stage| stage.group == Some(group)).filter(runs)
}

/// Promises that only a broker with a feature can be required to be put to the test on: a keep-alive that it sets may be too
/// long to wait for, a session that it ends early has no time to show anything.
const ONLY_WITH: [(Feature, &[&str]); 3] = [
    (Feature::ExactlyOnce, &["D2", "D3", "D12", "R2", "R3", "R8", "R9", "F2", "Q5"]),
    (Feature::KeepAlive, &["S14"]),
    (Feature::SessionExpiry, &["E1", "E2", "S7", "S11"]),
];

macro_rules! stages {
    ($($name:literal in $group:ident exercises [$($promise:literal),*] plays $play:path $(, $option:ident $(($argument:expr))?)*;)*) => {
        /// Every stage of every group.
        pub(crate) static STAGES: &[Stage] = &[$(
            Stage::new($name, Some(Group::$group), &[$($promise),*], |scene| Box::pin($play(scene)))
                $(.$option($($argument)?))*
        ),*];
    };
}

stages! {
    "qos/lesson" in Qos exercises ["D1", "D2", "D3", "D6", "D9", "Q1"] plays qos::lesson;
    "qos/bulk" in Qos exercises ["D1", "D2", "D3", "D4", "D5", "D6", "D8", "D9", "O1", "Q1"] plays qos::bulk;
    "qos/filters" in Qos exercises ["Q2", "D10"] plays filters::filters;
    "qos/matching" in Qos exercises ["D1", "D9"] plays filters::matching;
    "qos/replaced" in Qos exercises ["Q4"] plays filters::replaced;
    "qos/unfinished" in Qos exercises ["Q5"] plays filters::unfinished, needs(Feature::ExactlyOnce);
    "qos/wildcards" in Qos exercises ["D9"] plays filters::wildcards;

    "session/lesson" in Session exercises ["D1", "S2", "S6"] plays session::away::lesson;
    "session/away" in Session exercises ["D1", "D2", "O1", "S2", "S5", "S6", "L2"] plays session::away::away;
    "session/clean-start" in Session exercises ["S1", "D11"] plays session::ending::clean_start;
    "session/expiry" in Session exercises ["S7", "S8"] plays session::ending::expiry, only_v5, beside;
    "session/override" in Session exercises ["S11"] plays session::ending::overridden, only_v5, beside;
    "session/refused" in Session exercises [] plays session::ending::refused;
    "session/unacknowledged" in Session exercises ["R1", "R4", "R5", "O3"]
        plays session::resumption::unacknowledged;
    "session/unreleased" in Session exercises ["R2", "R3"]
        plays session::resumption::unreleased, needs(Feature::ExactlyOnce);
    "session/patience" in Session exercises ["R11"] plays session::resumption::patience, beside;
    "session/publisher" in Session exercises ["D3", "R8", "R9"]
        plays session::resumption::publisher, needs(Feature::ExactlyOnce);
    "session/takeover" in Session exercises ["S9", "S10"] plays session::resumption::takeover;

    "retained/last" in Retained exercises ["T1", "T2", "T3", "T5", "T6", "T7"]
        plays retained::last, needs(Feature::Retain), beside;
    "retained/cleared" in Retained exercises ["T4"] plays retained::cleared, needs(Feature::Retain), beside;
    "retained/handling" in Retained exercises ["T8"]
        plays retained::handling, needs(Feature::Retain), only_v5, beside;
    "retained/expiry" in Retained exercises ["T9"]
        plays retained::expiry, needs(Feature::Retain), only_v5, beside;

    "wills/endings" in Wills exercises ["W1", "W2", "W3", "W5", "W6"] plays wills::endings;
    "wills/keep-alive" in Wills exercises ["W1", "S14", "L3"] plays wills::keep_alive, beside;
    "wills/delay" in Wills exercises ["W4"] plays wills::delay, only_v5, beside;

    "options/receive-maximum" in Options exercises ["F1", "F2"]
        plays options::quota::receive_maximum, needs(Feature::ExactlyOnce), only_v5;
    "options/used-up" in Options exercises ["F3", "F4", "F5"] plays options::quota::used_up, only_v5;
    "options/one-by-one" in Options exercises ["O4"] plays options::quota::one_by_one, only_v5;
    "options/no-local" in Options exercises ["V2"] plays options::subscribing::no_local, only_v5;
    "options/identifiers" in Options exercises ["V1"]
        plays options::subscribing::identifiers, needs(Feature::SubscriptionIdentifiers), only_v5;
    "options/shared" in Options exercises ["V4"]
        plays options::subscribing::shared, needs(Feature::SharedSubscriptions), only_v5;
    "options/unfinished-share" in Options exercises ["D12"]
        plays options::subscribing::unfinished_share, needs(Feature::SharedSubscriptions), only_v5;
    "options/expiry" in Options exercises ["E1", "E2"] plays options::messages::expiry, only_v5, beside;
    "options/packet-size" in Options exercises ["E3"] plays options::messages::packet_size, only_v5;
    "options/aliases" in Options exercises ["D1", "D9"]
        plays options::messages::aliases, needs(Feature::TopicAliases), only_v5;
    "options/refused" in Options exercises [] plays options::refusing::refused, only_v5;
    "options/declined" in Options exercises ["V5"] plays options::refusing::declined, only_v5;

    "duplicates/lost-acknowledgement" in Duplicates exercises ["D1", "A1"]
        plays duplicates::lost_acknowledgement;
    "duplicates/restarted-publisher" in Duplicates exercises ["D1", "A1", "A2"]
        plays duplicates::restarted_publisher;

    "faults/cut-publisher" in Faults exercises ["D1", "D2", "D3", "O1", "R6", "R8", "S2", "L2"] plays faults::play;
    "faults/cut-subscriber" in Faults exercises ["D1", "D2", "D3", "O1", "S2", "S5", "L2"] plays faults::play;
    "faults/aborted-connect" in Faults exercises ["D1", "D2", "D3", "O1", "S2", "S5", "L2"] plays faults::play;
    "faults/connect-storm" in Faults exercises ["D1", "D2", "D3", "O1", "S2", "S5", "L2"] plays faults::play;
    "faults/half-open" in Faults exercises ["D1", "D2", "D3", "O1", "S2", "S5", "L2"] plays faults::play;
    "faults/takeover" in Faults exercises ["D1", "D2", "D3", "O1", "S2", "S5", "L2"] plays faults::play;
    "faults/kill-client" in Faults exercises ["D1", "D2", "D3", "O1", "S1", "S2"] plays faults::play;
    "faults/kill-process" in Faults exercises ["D1", "D2", "D3", "O1", "A3"] plays subject::processes::killed;
    "faults/slow-consumer" in Faults exercises ["D1", "D2", "D3", "O1"] plays faults::play;
    "faults/segmentation" in Faults exercises ["D1", "D2", "D3", "D8", "O1"] plays faults::play;
    "faults/windows" in Faults exercises ["D1", "D2", "D3", "O1", "S2", "L2"] plays faults::play;
    "faults/pause-broker" in Faults exercises ["D1", "D2", "D3", "O1"] plays faults::play;
    "faults/terminate-broker" in Faults exercises ["D1", "D2", "D3", "O1", "S2", "S5"] plays faults::play;
    "faults/kill-broker" in Faults exercises ["D1", "D2", "D3", "O1", "S2", "S5"] plays faults::play;

    "restart/kill" in Restart exercises ["D1", "D2", "D3", "S2", "S5"] plays restart::kill;

    "subject-sub/rounds" in SubjectSub exercises [] plays subject::subscriber::rounds;
    "subject-pub/rounds" in SubjectPub exercises [] plays subject::publisher::rounds;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stage_exercises_is_in_the_catalogue() {
        for stage in STAGES {
            for promise in stage.exercises {
                assert!(mqtally_history::promise::find(promise).is_some(), "{}: {promise}", stage.name);
            }
        }
    }

    #[test]
    fn every_stage_has_a_name_of_its_own_that_begins_with_its_group() {
        for (at, stage) in STAGES.iter().enumerate() {
            let group = stage.group.expect("a group").name();
            assert!(stage.name.starts_with(&format!("{group}/")), "{}", stage.name);
            assert!(STAGES[..at].iter().all(|other| other.name != stage.name), "{}", stage.name);
        }
    }

    #[test]
    fn every_kind_of_fault_has_a_stage_and_every_stage_of_faults_its_kind() {
        let stages = STAGES.iter().filter(|stage| stage.group == Some(Group::Faults));
        let names: Vec<&str> = stages.map(Stage::own_name).collect();
        assert_eq!(names, crate::nemesis::KINDS.map(|kind| kind.name));
    }

    #[test]
    fn a_broker_without_qos_2_owes_nothing_of_it() {
        let plan = Plan::new(1, 1).adapted_to(crate::run::Offer::lacking(&[Feature::ExactlyOnce]));
        let owed = |name: &str| {
            let stage = STAGES.iter().find(|stage| stage.name == name).expect("no such stage");
            stage.exercises(&plan).collect::<Vec<_>>()
        };
        assert_eq!(owed("session/unreleased"), Vec::<&str>::new());
        assert_eq!(owed("session/away"), ["D1", "O1", "S2", "S5", "S6", "L2"]);
    }
}
