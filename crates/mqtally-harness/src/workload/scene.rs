//! What a stage works with: names, numbers and clients of its own.

use super::peer::Peer;
use super::{Probe, Source, Stage, Trouble};
use crate::nemesis::Strike;
use crate::process::BrokerUnderTest;
use crate::recorder::Recorder;
use crate::run::{Feature, Plan};
use crate::scenario::Scenario;
use mqtally::endpoint::Endpoint;
use mqtally_history::event::EventKind;
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::{Qos, Version};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Publishers that one stage may have.
const PUBLISHERS_MAX: u32 = 1_000;
/// Publishers that one scenario may have; their numbers are behind those of all stages.
const DEVICES_MAX: u32 = 10_000;
const DEVICES_FROM: u32 = 1_000_000;

/// How long a client's session is meant to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// Discard an earlier session.
    pub(crate) clean_start: bool,
    /// Seconds after the connection ends; above 0 means "until further notice" in 3.1.1.
    pub(crate) expiry_s: u32,
}

impl Lifetime {
    /// One connection.
    pub(crate) const CLEAN: Self = Self { clean_start: true, expiry_s: 0 };
    /// Longer than the run.
    pub(crate) const DURABLE: Self = Self::lasting(3_600);

    /// Resumed or begun, and kept for `expiry_s` seconds.
    pub(crate) const fn lasting(expiry_s: u32) -> Self {
        Self { clean_start: false, expiry_s }
    }
}

/// A stage's surroundings. Clones are the same scene.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) plan: Arc<Plan>,
    pub(crate) version: Version,
    pub(crate) recorder: Recorder,
    pub(crate) broker: Arc<tokio::sync::Mutex<BrokerUnderTest>>,
    endpoint: Endpoint,
    /// Name of the stage, or of the scenario.
    name: Arc<str>,
    scenario: Option<Arc<Scenario>>,
    publishers: Arc<AtomicU32>,
    /// Clients whose sessions outlive their connections, and topics with a retained message: to be cleaned up.
    left_behind: Arc<Mutex<LeftBehind>>,
}

/// What a stage leaves at the broker.
#[derive(Default)]
pub(crate) struct LeftBehind {
    /// Clients that stay connected until the group is over: what a clean session is owed ends with its connection.
    pub(crate) connected: Vec<Arc<Peer>>,
    pub(crate) sessions: Vec<Arc<str>>,
    /// Client ids of programs under test whose sessions are to be ended, and that do not come back by themselves.
    pub(crate) strangers: Vec<Arc<str>>,
    /// With the client that clears it: one that the group has seen, so that clearing it is not a part of its own.
    pub(crate) retained: Vec<(Arc<str>, String)>,
}

impl LeftBehind {
    /// The clients with a session that are not connected.
    fn away(&self) -> Vec<Arc<str>> {
        let is_away = |name: &&Arc<str>| self.connected.iter().all(|peer| peer.name != **name);
        self.sessions.iter().filter(is_away).cloned().collect()
    }
}

impl Scene {
    pub(crate) fn new(
        plan: &Arc<Plan>,
        version: Version,
        recorder: &Recorder,
        broker: &Arc<tokio::sync::Mutex<BrokerUnderTest>>,
        endpoint: &Endpoint,
        stage: &'static Stage,
    ) -> Self {
        // Numbers hang on the stage's place in the table, not on which stage asks first.
        let stages = u32::try_from(super::STAGES.len()).unwrap_or(u32::MAX);
        let place = super::STAGES.iter().position(|other| std::ptr::eq(other, stage)).unwrap_or_default();
        let place =
            u32::try_from(place).unwrap_or_default() + if version == Version::V5_0 { stages } else { 0 };
        Self {
            plan: plan.clone(),
            version,
            recorder: recorder.clone(),
            broker: broker.clone(),
            endpoint: endpoint.clone(),
            name: stage.name.into(),
            scenario: None,
            publishers: Arc::new(AtomicU32::new(place * PUBLISHERS_MAX)),
            left_behind: Arc::default(),
        }
    }

    /// The same, to play `scenario`, which is in the plan.
    pub(crate) fn playing(mut self, scenario: &Arc<Scenario>) -> Self {
        let place = self.plan.scenarios.iter().position(|other| other.name == scenario.name);
        let place =
            2 * u32::try_from(place.unwrap_or_default()).unwrap_or_default() + u32::from(self.is_v5());
        self.publishers = Arc::new(AtomicU32::new(DEVICES_FROM + place * DEVICES_MAX));
        // Its clients are many and all of them active: one answer may wait for those of the others.
        let mut patient = Plan::clone(&self.plan);
        patient.answer_limit = patient.answer_limit.max(patient.drain_limit);
        self.plan = Arc::new(patient);
        self.name = scenario.name.as_str().into();
        self.scenario = Some(scenario.clone());
        self
    }

    /// What it is to play, where that is a scenario.
    pub(crate) fn scenario(&self) -> Option<&Arc<Scenario>> {
        self.scenario.as_ref()
    }

    /// Name of the stage, or of the scenario.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn is_v5(&self) -> bool {
        self.version == Version::V5_0
    }

    pub(crate) fn has(&self, feature: Feature) -> bool {
        self.plan.offer().has(feature)
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The same scene for clients that reach the broker through what listens at `address`.
    pub(crate) fn through(&self, address: SocketAddr) -> Self {
        let endpoint = self.endpoint.reached_at(address.ip().to_string(), address.port());
        Self { endpoint, ..self.clone() }
    }

    /// The strikes of this stage.
    pub(crate) fn strikes(&self) -> Vec<Strike> {
        let stage = super::STAGES.iter().find(|stage| *stage.name == *self.name);
        stage.map(|stage| stage.strikes(&self.plan, self.version)).unwrap_or_default()
    }

    /// The stage's own name, without its group's.
    pub(crate) fn own_name(&self) -> &str {
        self.name.split_once('/').map_or(&*self.name, |(_, own)| own)
    }

    /// A client id: the run, the version, and who it is.
    pub(crate) fn client(&self, role: &str) -> Arc<str> {
        let version = if self.is_v5() { "v5" } else { "v3" };
        format!("{:08x}-{version}-{role}", self.plan.run).into()
    }

    /// A topic (or filter) of the lesson, below the run's own root.
    pub(crate) fn lesson_topic(&self, tail: &str) -> String {
        format!("mqtally/{:08x}/{tail}", self.plan.run)
    }

    /// A topic (or filter) of this stage.
    pub(crate) fn topic(&self, tail: &str) -> String {
        format!("mqtally/{:08x}/{}/{tail}", self.plan.run, self.name)
    }

    /// A number for a publishing process; a restarted one is a new one.
    pub(crate) fn publisher_number(&self) -> u32 {
        self.publishers.fetch_add(1, Ordering::Relaxed)
    }

    /// A stream of a publisher of its own, for a probe to publish.
    pub(crate) fn source(&self, topic: &str, qos: Qos) -> Source {
        Source::new(self.plan.run, self.publisher_number(), 0, topic, self.offered(qos))
    }

    /// `qos`, or the highest one below it that the broker takes [5.0:MQTT-3.2.2-11].
    pub(crate) fn offered(&self, qos: Qos) -> Qos {
        if self.has(Feature::ExactlyOnce) { qos } else { qos.min(Qos::AtLeastOnce) }
    }

    /// Random choices for one purpose. Neither the order in which stages ask nor what others draw changes them.
    pub(crate) fn random(&self, purpose: &str) -> fastrand::Rng {
        derived(self.plan.seed, &format!("{}/{:?}/{purpose}", self.name, self.version))
    }

    /// A durable client's connection: its session is resumed, or begun, and cleaned up after the group.
    pub(crate) async fn durable(&self, name: &Arc<str>) -> Result<Probe, Trouble> {
        self.leaves_session(name);
        Probe::open(self, name, Lifetime::DURABLE).await
    }

    /// A durable client returns. Where the broker has lost its session it subscribes again, as any client has to.
    pub(crate) async fn back(&self, name: &Arc<str>, filters: &[(&str, Qos)]) -> Result<Probe, Trouble> {
        let mut probe = self.durable(name).await?;
        if !probe.session_present() {
            probe.subscribe(filters).await?;
        }
        Ok(probe)
    }

    /// A name for a message in the report's table.
    pub(crate) fn label(&self, message: MessageId, label: &str, shown_id: u64) {
        self.recorder.record(EventKind::Labelled { message, label: label.into(), shown_id });
    }

    /// Waits until every message of `owed` has reached the client it is owed to.
    pub(crate) async fn drain(&self, owed: Vec<(Arc<str>, MessageId)>) -> Result<(), Trouble> {
        let drained = self.recorder.await_arrivals(owed, self.plan.drain_limit).await;
        drained.map_err(|missing| Trouble::Undrained {
            missing: missing.len(),
            client: missing[0].0.to_string(),
            sequence: missing[0].1.sequence,
        })
    }

    /// Keeps a client connected until the group is over.
    pub(crate) fn leaves_connected(&self, peer: Arc<Peer>) {
        self.left_behind().connected.push(peer);
    }

    /// Notes a session to be ended after the group.
    pub(crate) fn leaves_session(&self, name: &Arc<str>) {
        let mut left = self.left_behind();
        if !left.sessions.contains(name) {
            left.sessions.push(name.clone());
        }
    }

    /// Notes sessions of a program under test to be ended after the group.
    pub(crate) fn leaves_strangers(&self, names: Vec<Arc<str>>) {
        self.left_behind().strangers.extend(names);
    }

    /// Notes a retained message to be cleared after the group.
    pub(crate) fn leaves_retained(&self, client: &Arc<str>, topic: &str) {
        self.left_behind().retained.push((client.clone(), topic.to_owned()));
    }

    fn left_behind(&self) -> MutexGuard<'_, LeftBehind> {
        self.left_behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every client that is away and has a session returns, publishes and leaves again: nobody is shut out for good.
    pub(crate) async fn everybody_returns(&self) -> Result<(), Trouble> {
        let sessions = self.left_behind().away();
        for name in sessions {
            let mut probe = Probe::open(self, &name, Lifetime::DURABLE).await?;
            let topic = self.lesson_topic(&format!("returned/{name}"));
            probe.submit(&self.source(&topic, Qos::AtLeastOnce).load(b"returned").publish).await?;
            probe.disconnect().await?;
        }
        Ok(())
    }

    /// Ends the sessions and clears the retained messages that the stage leaves.
    pub(crate) async fn clean_up(&self) -> Result<(), Trouble> {
        let left = std::mem::take(&mut *self.left_behind());
        for peer in left.connected {
            peer.disconnect().await;
        }
        for name in left.sessions.into_iter().chain(left.strangers) {
            Probe::open(self, &name, Lifetime::CLEAN).await?.disconnect().await?;
        }
        for (name, topic) in left.retained {
            let mut probe = Probe::open(self, &name, Lifetime::CLEAN).await?;
            probe.clear_retained(&topic).await?;
            probe.disconnect().await?;
        }
        Ok(())
    }
}

/// A stream of random numbers of its own for each purpose, from one seed.
pub(super) fn derived(seed: u64, purpose: &str) -> fastrand::Rng {
    let spread = u64::from(crc32fast::hash(purpose.as_bytes())).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    fastrand::Rng::with_seed(seed ^ spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_choices_and_each_purpose_its_own() {
        let draw = |seed, purpose| derived(seed, purpose).u64(..);
        assert_eq!(draw(7, "qos/bulk"), draw(7, "qos/bulk"));
        assert_ne!(draw(7, "qos/bulk"), draw(8, "qos/bulk"));
        assert_ne!(draw(7, "qos/bulk"), draw(7, "restart/kill"));
    }
}
