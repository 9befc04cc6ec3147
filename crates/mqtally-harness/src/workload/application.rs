//! A subscribing application: it recognises duplicates, fails on some messages, and keeps the lesson's statistics.

use super::peer::Handler;
use super::{Scene, Trouble};
use mqtally::dedup::{Arrival, Settings, Statistics, Window};
use mqtally_history::event::{Counters, EventKind, Outcome};
use mqtally_history::marker::{Identity, MessageId};
use mqtally_proto::Time;
use mqtally_proto::packet::Publish;
use rustc_hash::FxHashSet;
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

struct State {
    started: Instant,
    window: Window,
    statistics: Statistics,
    /// Messages that its handler cannot process.
    failing: FxHashSet<MessageId>,
}

impl Application {
    pub(crate) fn new(scene: &Scene, client: &Arc<str>) -> Self {
        let state = State {
            started: Instant::now(),
            window: Window::new(Settings::default()),
            statistics: Statistics::default(),
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

    fn handle(&self, publish: &Publish) {
        let Identity::Ours(marker) = Identity::of(self.scene.plan.run, &publish.payload) else { return };
        let outcome = self.state().settle(publish, marker.message);
        let (client, message) = (self.client.clone(), marker.message);
        self.scene.recorder.record(EventKind::Settled { client, message, outcome });
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
        let arrival = self.window.arrive(now, &publish.topic, &publish.payload);
        self.statistics.count(arrival);
        if !self.window.admits(arrival) {
            return Outcome::Duplicate;
        }
        if self.failing.contains(&message) {
            self.statistics.errors += 1;
            return Outcome::Failed;
        }
        self.statistics.processed += 1;
        if arrival == Arrival::Conflict { Outcome::Conflict } else { Outcome::Processed }
    }
}
