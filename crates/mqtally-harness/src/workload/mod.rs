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
mod options;
mod peer;
mod probe;
mod publisher;
mod qos;
mod restart;
mod scene;
mod session;
mod source;
mod subscriber;
mod trouble;

pub(crate) use probe::Probe;
pub(crate) use publisher::Publisher;
pub(crate) use scene::Scene;
pub(crate) use source::{Outgoing, Source};
pub(crate) use trouble::Trouble;

use crate::run::Group;
use mqtally_proto::packet::Version;
use std::pin::Pin;

/// What a stage comes to.
pub(crate) type Played = Pin<Box<dyn Future<Output = Result<(), Trouble>> + Send>>;

/// A part of a group.
pub(crate) struct Stage {
    /// Its name: the group's, a slash, its own.
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    /// Promises that it puts to the test on every version it runs on.
    exercises: &'static [&'static str],
    /// Only 5.0 has what it tests.
    only_v5: bool,
    /// It mostly waits, so that it runs beside the others.
    pub(crate) beside: bool,
    pub(crate) play: fn(Scene) -> Played,
}

impl Stage {
    const fn new(
        name: &'static str,
        group: Group,
        exercises: &'static [&'static str],
        play: fn(Scene) -> Played,
    ) -> Self {
        Self { name, group, exercises, only_v5: false, beside: false, play }
    }

    const fn only_v5(mut self) -> Self {
        self.only_v5 = true;
        self
    }

    const fn beside(mut self) -> Self {
        self.beside = true;
        self
    }

    pub(crate) fn runs_on(&self, version: Version) -> bool {
        !self.only_v5 || version == Version::V5_0
    }
}

/// Every stage of every group.
pub(crate) static STAGES: [Stage; 17] = [
    Stage::new("qos/lesson", Group::Qos, &["D1", "D2", "D3", "D6", "D9", "Q1"], |scene| {
        Box::pin(qos::lesson(scene))
    }),
    Stage::new(
        "qos/bulk",
        Group::Qos,
        &["D1", "D2", "D3", "D4", "D5", "D6", "D8", "D9", "O1", "Q1"],
        |scene| Box::pin(qos::bulk(scene)),
    ),
    Stage::new("qos/filters", Group::Qos, &["Q2", "D10"], |scene| Box::pin(options::filters(scene))),
    Stage::new("qos/receive-maximum", Group::Qos, &["F1", "F2"], |scene| {
        Box::pin(options::receive_maximum(scene))
    })
    .only_v5(),
    Stage::new("qos/no-local", Group::Qos, &["V2"], |scene| Box::pin(options::no_local(scene))).only_v5(),
    Stage::new("session/lesson", Group::Session, &["D1", "S2", "S6"], |scene| {
        Box::pin(session::away::lesson(scene))
    }),
    Stage::new("session/away", Group::Session, &["D1", "D2", "O1", "S2", "S5", "S6"], |scene| {
        Box::pin(session::away::away(scene))
    }),
    Stage::new("session/clean-start", Group::Session, &["S1", "D11"], |scene| {
        Box::pin(session::ending::clean_start(scene))
    }),
    Stage::new("session/expiry", Group::Session, &["S7", "S8"], |scene| {
        Box::pin(session::ending::expiry(scene))
    })
    .only_v5()
    .beside(),
    Stage::new("session/refused", Group::Session, &["S3"], |scene| Box::pin(session::ending::refused(scene))),
    Stage::new("session/unacknowledged", Group::Session, &["R1", "R4", "R5"], |scene| {
        Box::pin(session::resumption::unacknowledged(scene))
    }),
    Stage::new("session/unreleased", Group::Session, &["R2", "R3"], |scene| {
        Box::pin(session::resumption::unreleased(scene))
    }),
    Stage::new("session/publisher", Group::Session, &["D3", "R9"], |scene| {
        Box::pin(session::resumption::publisher(scene))
    }),
    Stage::new("session/takeover", Group::Session, &["S9"], |scene| {
        Box::pin(session::resumption::takeover(scene))
    }),
    Stage::new("duplicates/lost-acknowledgement", Group::Duplicates, &["D1", "A1"], |scene| {
        Box::pin(duplicates::lost_acknowledgement(scene))
    }),
    Stage::new("duplicates/restarted-publisher", Group::Duplicates, &["D1", "A1", "A2"], |scene| {
        Box::pin(duplicates::restarted_publisher(scene))
    }),
    Stage::new("restart/kill", Group::Restart, &["D1", "D2", "D3", "S2"], |scene| {
        Box::pin(restart::kill(scene))
    }),
];

/// The promises that a group has to put to the test on `version`, whether its stages are plugged in or not.
pub(crate) fn exercises(group: Group, version: Version) -> impl Iterator<Item = &'static str> {
    let stages = STAGES.iter().filter(move |stage| stage.group == group && stage.runs_on(version));
    stages.flat_map(|stage| stage.exercises.iter().copied())
}
