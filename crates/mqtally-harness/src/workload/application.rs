//! A subscribing application: it recognises duplicates, fails on some messages, and keeps the lesson's statistics.

use super::peer::Handler;
use super::{Scene, Trouble};
use bytestring::ByteString;
use mqtally::dedup::{Arrival, Settings, Statistics, Window};
use mqtally_history::event::{Counters, EventKind, Outcome};
use mqtally_history::marker::{Identity, MessageId, Purpose};
use mqtally_proto::Time;
use mqtally_proto::packet::Publish;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::watch;
use tokio::time::timeout;

/// The application of one subscriber. What it decides about each delivery is recorded.
#[derive(Clone)]
pub(crate) struct Application {
    client: Arc<str>,
    scene: Scene,
    state: Arc<Mutex<State>>,
    handled: Arc<watch::Sender<FxHashSet<MessageId>>>,
}

/// What an application is like.
#[derive(Debug, Default)]
pub(crate) struct Manner {
    /// How it recognises what it has seen; none when it does not.
    pub(crate) dedup: Option<Settings>,
    /// By topic, the member of a payload by which it moves something.
    pub(crate) steps: FxHashMap<ByteString, String>,
}

struct State {
    started: Instant,
    window: Option<Window>,
    statistics: Statistics,
    steps: FxHashMap<ByteString, String>,
    /// Where what it moves stands, by publisher and stream.
    positions: BTreeMap<(u32, u16), i64>,
    /// Messages that its handler cannot process.
    failing: FxHashSet<MessageId>,
}

impl Application {
    pub(crate) fn new(scene: &Scene, client: &Arc<str>) -> Self {
        Self::with(scene, client, Manner { dedup: Some(Settings::default()), ..Manner::default() })
    }

    pub(crate) fn with(scene: &Scene, client: &Arc<str>, manner: Manner) -> Self {
        let state = State {
            started: Instant::now(),
            window: manner.dedup.map(Window::new),
            statistics: Statistics::default(),
            steps: manner.steps,
            positions: BTreeMap::new(),
            failing: FxHashSet::default(),
        };
        Self {
            client: client.clone(),
            scene: scene.clone(),
            state: Arc::new(Mutex::new(state)),
            handled: Arc::new(watch::Sender::default()),
        }
    }

    /// What its client does with each message.
    pub(crate) fn handler(&self) -> Handler {
        let application = self.clone();
        Box::new(move |publish| application.handle(&publish))
    }

    /// From now on processing this message fails.
    pub(crate) fn fail_on(&self, message: MessageId) {
        self.state().failing.insert(message);
    }

    /// Waits until the application itself, not only its client, has dealt with `message`.
    pub(crate) async fn until_handled(&self, message: MessageId) -> Result<(), Trouble> {
        let mut handled = self.handled.subscribe();
        let limit = self.scene.plan.drain_limit;
        let waited = timeout(limit, handled.wait_for(|handled| handled.contains(&message))).await;
        let client = self.client.to_string();
        waited.map(drop).map_err(|_| Trouble::Silent { client, awaited: "handler", seconds: limit.as_secs() })
    }

    /// Reports its statistics.
    pub(crate) fn report(&self) {
        let Statistics { received, duplicates, conflicts, errors, processed } = self.state().statistics;
        let counters = Counters { received, duplicates, conflicts, errors, processed };
        self.scene.recorder.record(EventKind::Statistics { client: self.client.clone(), counters });
    }

    /// Reads where everything that it moves stands.
    pub(crate) fn read_positions(&self) {
        let positions = self.state().positions.clone();
        for ((publisher, stream), value) in positions {
            let client = self.client.clone();
            self.scene.recorder.record(EventKind::Position { client, publisher, stream, value });
        }
    }

    fn handle(&self, publish: &Publish) {
        let Identity::Ours(marker) = Identity::of(self.scene.plan.run, &publish.payload) else { return };
        let message = marker.message;
        // A sentinel is the run's own, and an application has nothing to recognise it by: a second copy is no message.
        let known = marker.purpose == Purpose::Sentinel && self.handled.borrow().contains(&message);
        if !known {
            let outcome = self.state().settle(publish, message);
            self.scene.recorder.record(EventKind::Settled { client: self.client.clone(), message, outcome });
        }
        self.handled.send_modify(|handled| {
            handled.insert(message);
        });
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn settle(&mut self, publish: &Publish, message: MessageId) -> Outcome {
        let now = Time::from_ms(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        let arrive = |window: &mut Window| window.arrive(now, &publish.topic, &publish.payload);
        let arrival = self.window.as_mut().map_or(Arrival::Unkeyed, arrive);
        self.statistics.count(arrival);
        if self.window.as_ref().is_some_and(|window| !window.admits(arrival)) {
            return Outcome::Duplicate;
        }
        if self.failing.contains(&message) {
            self.statistics.errors += 1;
            return Outcome::Failed;
        }
        self.statistics.processed += 1;
        self.act(publish, message);
        if arrival == Arrival::Conflict { Outcome::Conflict } else { Outcome::Processed }
    }

    /// Moves what this message is to move, by as much as it says.
    fn act(&mut self, publish: &Publish, message: MessageId) {
        let Some(member) = self.steps.get(&publish.topic) else { return };
        let payload = serde_json::from_slice::<serde_json::Value>(&publish.payload).unwrap_or_default();
        if let Some(step) = payload.get(member).and_then(serde_json::Value::as_i64) {
            let position = self.positions.entry((message.publisher, message.stream)).or_default();
            *position = position.saturating_add(step);
        }
    }
}
