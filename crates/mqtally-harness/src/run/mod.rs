//! A run: groups of stages against one broker, recorded into one history.
//!
//! [`run`] plays what a [`Plan`] says and tells an observer what goes on ([`RunEvent`]). It decides nothing about
//! promises. Whatever goes wrong (a broker that falls silent, closes, dies) is recorded, so that the verdict over the
//! history is unknown rather than an error here; only a history that cannot be written is an error.

mod offer;
mod plan;

pub use offer::{Feature, Offer};
pub use plan::{Group, Part, Plan, Programs, RunEvent};

use crate::process::BrokerUnderTest;
use crate::recorder::Recorder;
use crate::workload::{self, Scene, Stage, Trouble};
use mqtally::endpoint::Endpoint;
use mqtally_history::event::{BrokerEvent, EventKind, Header};
use mqtally_history::journal::JournalError;
use mqtally_history::profile::Profile;
use mqtally_proto::packet::Version;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Between two [`RunEvent::Progress`].
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// A part is over when nothing has come for so long, or at the latest after so long.
const QUIET: Duration = Duration::from_millis(200);
const QUIET_LIMIT: Duration = Duration::from_secs(5);
/// How long a run that was cancelled may take to leave the broker as it was found.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(1);

/// How a run ended. What it found out is in the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Messages sent.
    pub sent: u64,
    /// Deliveries received.
    pub received: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// It was cancelled.
    pub interrupted: bool,
    /// Why it could not go on to its end, if it could not.
    pub aborted: Option<String>,
}

/// What stands before the history of a run of `plan` on `broker`, which is held to `profile`.
pub fn header(plan: &Plan, broker: &BrokerUnderTest, profile: Profile) -> Header {
    Header {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        run: plan.run,
        seed: plan.seed,
        broker_kind: broker.kind(),
        broker_name: broker.name(),
        profile,
        measured: None,
        required: plan.required(broker.can_restart(), profile),
    }
}

/// Plays `plan` on `broker`, stops a broker of ours at the end, and finishes the history.
///
/// When `cancel` is ready the run stops at once; what was recorded so far stays.
///
/// # Errors
/// The history could not be written.
pub async fn run(
    plan: Plan,
    broker: BrokerUnderTest,
    recorder: &Recorder,
    mut observe: impl FnMut(RunEvent),
    cancel: impl Future<Output = ()>,
) -> Result<Summary, JournalError> {
    let began = Instant::now();
    let mut play = Play::new(plan, broker, recorder);
    let (interrupted, aborted) = tokio::select! {
        biased;
        () = cancel => (true, Some("interrupted".to_owned())),
        aborted = play.groups(&mut observe) => (false, aborted),
    };
    if let Some(reason) = &aborted {
        recorder.record(EventKind::Aborted { reason: reason.clone() });
    }
    play.playing.shutdown().await;
    // Somebody else uses the broker, too; ours ends now in any case.
    if interrupted && !play.can_restart {
        let _ = timeout(CLEAN_UP_LIMIT, play.clean_up(&mut observe)).await;
    }
    recorder.until_all_closed(CLEAN_UP_LIMIT).await;
    // Whether it stops in order is no concern of a run that is over; it is killed with its handle in any case.
    let _ = play.broker.lock().await.terminate().await;
    recorder.finish()?;
    let (sent, received) = recorder.progress();
    Ok(Summary { sent, received, elapsed: began.elapsed(), interrupted, aborted })
}

/// A stage, what it is called, and what it came to.
type Ended = (&'static Stage, Arc<str>, Result<(), Trouble>);

/// Why a fault of the broker is left out.
const NOT_OURS: &str = "a broker given by URL cannot be killed; use --broker-cmd to judge restarts";

/// A run under way.
struct Play<'a> {
    plan: Arc<Plan>,
    endpoint: Endpoint,
    can_restart: bool,
    broker: Arc<Mutex<BrokerUnderTest>>,
    recorder: &'a Recorder,
    /// The group that is being played, with what it leaves behind.
    scenes: Vec<(&'static Stage, Scene)>,
    playing: JoinSet<Ended>,
}

impl<'a> Play<'a> {
    fn new(plan: Plan, broker: BrokerUnderTest, recorder: &'a Recorder) -> Self {
        let (endpoint, can_restart) = (broker.endpoint().clone(), broker.can_restart());
        let (plan, broker) = (Arc::new(plan), Arc::new(Mutex::new(broker)));
        Self { plan, endpoint, can_restart, broker, recorder, scenes: Vec::new(), playing: JoinSet::new() }
    }

    /// Every group on every version. Returns why it could not go on, if it could not.
    async fn groups(&mut self, observe: &mut impl FnMut(RunEvent)) -> Option<String> {
        let plan = self.plan.clone();
        self.recorder.broker(BrokerEvent::Started);
        for version in plan.versions.iter().copied().filter(|version| !plan.offer().speaks(*version)) {
            let reason = "the broker does not speak it".to_owned();
            observe(RunEvent::VersionSkipped { version, reason });
        }
        let (parts, vain) = plan.playable(self.can_restart);
        if let Some((part, _)) = vain.first() {
            observe(RunEvent::GroupSkipped { group: part.name().into(), reason: NOT_OURS.to_owned() });
        }
        for (part, version) in parts {
            if let Some(reason) = self.part(&part, version, observe).await {
                return Some(reason);
            }
        }
        None
    }

    async fn part(
        &mut self,
        part: &Part,
        version: Version,
        observe: &mut impl FnMut(RunEvent),
    ) -> Option<String> {
        let name: Arc<str> = part.name().into();
        observe(RunEvent::GroupStarted { group: name.clone(), version });
        self.scenes = self.scenes_of(part, version, observe);
        let started =
            EventKind::GroupStarted { group: name.clone(), version: crate::convert::version(version) };
        self.recorder.record(started);
        let drained = self.stages(version, observe).await && self.everybody_returns(observe).await;
        self.until_quiet().await;
        self.recorder.record(EventKind::GroupEnded { group: name.clone(), drained });
        observe(RunEvent::GroupEnded { group: name, version, drained });
        self.clean_up(observe).await;
        self.recorder.forget_arrivals();
        if drained { self.write_failed() } else { self.broker_gone().await.or_else(|| self.write_failed()) }
    }

    /// Waits until nothing comes any more: what a broker sends out of order, behind its sentinel, is late and not lost.
    async fn until_quiet(&self) {
        let deadline = Instant::now() + QUIET_LIMIT;
        let mut before = self.recorder.progress();
        while Instant::now() < deadline {
            sleep(QUIET).await;
            let now = self.recorder.progress();
            if now == before {
                break;
            }
            before = now;
        }
    }

    /// What there is to play of a part; what is left out is told.
    fn scenes_of(
        &self,
        part: &Part,
        version: Version,
        observe: &mut impl FnMut(RunEvent),
    ) -> Vec<(&'static Stage, Scene)> {
        let mut skip = |stage: &str, reason: String| {
            observe(RunEvent::StageSkipped { stage: stage.into(), version, reason });
        };
        match part {
            Part::Group(group) => {
                for (stage, lacking) in self.plan.left_out(*group, version) {
                    skip(stage.name, lacking.missing());
                }
                let stages = self.plan.stages(*group, version);
                stages.map(|stage| (stage, self.scene(stage, version))).collect()
            }
            Part::Scenario(scenario) => {
                if let Some(lacking) = workload::scenario::lacks(scenario, self.plan.offer()) {
                    skip(&scenario.name, lacking.missing());
                    return Vec::new();
                }
                if !self.can_restart && self.plan.would_strike_broker(&scenario.name) {
                    skip(&format!("{}, faults of the broker", scenario.name), NOT_OURS.to_owned());
                }
                let scene = self.scene(&workload::scenario::STAGE, version).playing(scenario);
                vec![(&workload::scenario::STAGE, scene)]
            }
        }
    }

    fn scene(&self, stage: &'static Stage, version: Version) -> Scene {
        Scene::new(&self.plan, version, self.recorder, &self.broker, &self.endpoint, stage)
    }

    /// Plays the stages in turn, and beside them those that mostly wait; whether all of them came to their end.
    async fn stages(&mut self, version: Version, observe: &mut impl FnMut(RunEvent)) -> bool {
        let (beside, in_turn): (Vec<_>, Vec<_>) = self.scenes.iter().partition(|(stage, _)| stage.beside);
        let mut in_turn = in_turn.into_iter();
        for (stage, scene) in beside.into_iter().chain(in_turn.next()) {
            play(&mut self.playing, stage, scene);
        }
        let mut ticks = interval(PROGRESS_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut drained = true;
        loop {
            tokio::select! {
                played = self.playing.join_next() => {
                    let Some(played) = played else { return drained };
                    // A panic is a fault of ours and must not look like one of the broker's.
                    let (stage, name, result) = played.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
                    if let Err(trouble) = result {
                        drained = false;
                        observe(troubled(&name, version, &trouble));
                    }
                    if !stage.beside && let Some((next, scene)) = in_turn.next() {
                        play(&mut self.playing, next, scene);
                    }
                },
                _ = ticks.tick() => {
                    let (sent, received) = self.recorder.progress();
                    observe(RunEvent::Progress { sent, received });
                }
            }
        }
    }

    /// Whether every client of the group that has a session finds its way back to it.
    async fn everybody_returns(&self, observe: &mut impl FnMut(RunEvent)) -> bool {
        let mut returned = true;
        for (_, scene) in &self.scenes {
            if let Err(trouble) = scene.everybody_returns().await {
                returned = false;
                observe(troubled(scene.name(), scene.version, &trouble));
            }
        }
        returned
    }

    /// Leaves the broker as it was found, as far as it still answers.
    async fn clean_up(&mut self, observe: &mut impl FnMut(RunEvent)) {
        for (_, scene) in std::mem::take(&mut self.scenes) {
            if let Err(trouble) = scene.clean_up().await {
                return observe(troubled(scene.name(), scene.version, &trouble));
            }
        }
    }

    /// Why going on is useless: nobody is there any more.
    async fn broker_gone(&self) -> Option<String> {
        let mut broker = self.broker.lock().await;
        if let Some(how) = broker.ended() {
            self.recorder.broker(BrokerEvent::Exited);
            return Some(format!("the broker ended by itself: {how}"));
        }
        broker.check().await.err().map(|error| error.to_string())
    }

    fn write_failed(&self) -> Option<String> {
        self.recorder.has_failed().then(|| "the history cannot be written".to_owned())
    }
}

fn play(playing: &mut JoinSet<Ended>, stage: &'static Stage, scene: &Scene) {
    let (name, played) = (scene.name().clone(), (stage.play)(scene.clone()));
    playing.spawn(async move { (stage, name, played.await) });
}

fn troubled(stage: &Arc<str>, version: Version, trouble: &Trouble) -> RunEvent {
    RunEvent::Trouble { stage: stage.clone(), version, reason: trouble.to_string() }
}
