//! The live view of a run: everything in it is taken from the events that its history is made of, as they are recorded.

mod plots;
mod tables;

use crate::exit::{self, Failure};
use crate::live::{self, Access, Figure, Hub, State, TokenArgs, Tone, View};
use crate::report::words::{self, count, counted, duration, share, visible};
use mqtally_harness::http::{self, Request};
use mqtally_harness::recorder::Recorder;
use mqtally_harness::run::{Plan, RunEvent};
use mqtally_history::checker::Checker;
use mqtally_history::event::{Event, EventKind, Header};
use mqtally_history::packet::Packet;
use mqtally_history::report::{Finding, Promise, Report, Verdict};
use mqtally_history::timeline::Timeline;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

const TITLE: &str = "mqtally test";
/// Between two views.
const INTERVAL: Duration = Duration::from_millis(500);
/// Troubles, and findings, that are shown.
const LINES_MAX: usize = 50;

/// A page that is served for as long as the program runs.
pub(super) struct Live {
    hub: Arc<Hub>,
    /// The view of the run that was judged last.
    judged: Arc<Mutex<Option<View>>>,
}

impl Live {
    /// Serves it at once, so that it can be opened before the first message.
    pub(super) async fn serve(address: SocketAddr, token: &TokenArgs) -> Result<Self, Failure> {
        let (bound, listener) = live::listen(address, "--live").await?;
        let access = Access::new(bound, token)?;
        exit::complain(&format!("mqtally: live view on {}", access.url(bound)));
        let state =
            State { word: "starting".into(), sentence: "The broker is started.".into(), ..State::default() };
        let hub = Hub::new(access, &View { title: TITLE.to_owned(), state, ..View::default() });
        let answering = Arc::clone(&hub);
        tokio::spawn(http::serve(listener, move |request: Request| {
            let hub = Arc::clone(&answering);
            async move { hub.answer(request, async |_| live::not_found("/, /events and /view.json")).await }
        }));
        Ok(Self { hub, judged: Arc::default() })
    }

    /// Follows a run, which is this one of so many.
    pub(super) fn follow(&self, plan: &Plan, header: &Header, recorder: &Recorder, which: [u32; 2]) -> Run {
        let seen = Arc::new(Mutex::new(Seen::new(plan, header, which)));
        let watching = Arc::clone(&seen);
        recorder.watch(move |event| lock(&watching).observe(event));
        let (hub, shown) = (Arc::clone(&self.hub), Arc::clone(&seen));
        let ticking = tokio::spawn(async move {
            let mut every = tokio::time::interval(INTERVAL);
            loop {
                every.tick().await;
                let view = lock(&shown).tick(hub.is_watched());
                view.iter().for_each(|view| hub.show(view));
            }
        });
        Run { hub: Arc::clone(&self.hub), judged: Arc::clone(&self.judged), seen, ticking }
    }

    /// The last run was judged, or failed: nothing changes any more.
    pub(super) async fn end(&self, ended: Result<(), &Failure>) {
        let mut view = lock(&self.judged).take().unwrap_or_default();
        if let Err(failure) = ended {
            let word = words::verdict(Verdict::Unknown).to_owned();
            view.title = TITLE.to_owned();
            view.state = State { word, sentence: failure.to_string(), tone: Tone::Unknown };
        }
        let over = "The run is over, and nothing changes any more. --html FILE keeps a report.";
        view.over = Some(over.to_owned());
        self.hub.end(&view).await;
    }
}

/// A run that is followed until it is dropped.
pub(super) struct Run {
    hub: Arc<Hub>,
    judged: Arc<Mutex<Option<View>>>,
    seen: Arc<Mutex<Seen>>,
    ticking: JoinHandle<()>,
}

impl Run {
    pub(super) fn tell(&self, event: &RunEvent) {
        lock(&self.seen).tell(event);
    }

    /// Shows the verdict.
    pub(super) fn judged(&self, report: &Report) {
        self.ticking.abort();
        let view = lock(&self.seen).judged(report);
        self.hub.show(&view);
        *lock(&self.judged) = Some(view);
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.ticking.abort();
    }
}

/// What was seen of a run.
struct Seen {
    facts: Vec<(&'static str, String)>,
    checker: Checker,
    timeline: Timeline,
    published: u64,
    delivered: u64,
    /// With DUP, by us and by the broker.
    sent_again: u64,
    received_again: u64,
    /// At the last tick, and what both counters were.
    last: (Instant, [u64; 2]),
    rates: [f64; 2],
    parts: Vec<PartSeen>,
    troubles: Vec<String>,
}

struct PartSeen {
    name: String,
    version: String,
    word: &'static str,
    tone: Tone,
    note: String,
}

impl PartSeen {
    fn turn(&mut self, word: &'static str, tone: Tone, note: &str) {
        (self.word, self.tone, self.note) = (word, tone, note.to_owned());
    }
}

impl Seen {
    fn new(plan: &Plan, header: &Header, [index, of]: [u32; 2]) -> Self {
        let mut facts = vec![
            ("broker", visible(&exit::redact(&header.broker_name))),
            ("profile", format!("{:?}", header.profile).to_lowercase()),
            ("seed", header.seed.to_string()),
        ];
        if of > 1 {
            facts.push(("run", format!("{} of {}", index + 1, of)));
        }
        let waiting =
            |(part, version): (mqtally_harness::run::Part, mqtally_proto::packet::Version)| PartSeen {
                name: part.name().to_owned(),
                version: version.to_string(),
                word: "waiting",
                tone: Tone::NotExercised,
                note: String::new(),
            };
        Self {
            facts,
            checker: Checker::new(header),
            timeline: Timeline::default(),
            published: 0,
            delivered: 0,
            sent_again: 0,
            received_again: 0,
            last: (Instant::now(), [0; 2]),
            rates: [0.0; 2],
            parts: plan.parts().map(waiting).collect(),
            troubles: Vec::new(),
        }
    }

    fn observe(&mut self, event: &Event) {
        self.checker.observe(event);
        self.timeline.observe(event);
        let (all, again) = match &event.kind {
            EventKind::Sent(_, Packet::Publish(publish)) => {
                (&mut self.published, publish.dup.then_some(&mut self.sent_again))
            }
            EventKind::Received(_, Packet::Publish(publish)) => {
                (&mut self.delivered, publish.dup.then_some(&mut self.received_again))
            }
            _ => return,
        };
        *all += 1;
        again.into_iter().for_each(|again| *again += 1);
    }

    fn tell(&mut self, event: &RunEvent) {
        match event {
            RunEvent::GroupStarted { group, version } => {
                self.part(group, &version.to_string(), "running", Tone::Unknown, "");
            }
            RunEvent::GroupEnded { group, version, drained: true } => {
                self.part(group, &version.to_string(), "done", Tone::Kept, "everything awaited has arrived");
            }
            RunEvent::GroupEnded { group, version, drained: false } => {
                self.part(
                    group,
                    &version.to_string(),
                    "not drained",
                    Tone::Broken,
                    "something awaited is missing",
                );
            }
            RunEvent::GroupSkipped { group, reason } => {
                for part in self.parts.iter_mut().filter(|part| part.name == **group) {
                    part.turn("left out", Tone::NotExercised, reason);
                }
            }
            RunEvent::Trouble { stage, version, reason } => {
                self.trouble(format!("{stage} on MQTT {version}: {reason}"));
            }
            RunEvent::VersionSkipped { version, reason } => {
                self.trouble(format!("MQTT {version}: left out, {reason}"));
            }
            RunEvent::StageSkipped { stage, version, reason } => {
                self.trouble(format!("{stage} on MQTT {version}: left out, {reason}"));
            }
            RunEvent::Progress { .. } => {}
        }
    }

    fn part(&mut self, name: &str, version: &str, word: &'static str, tone: Tone, note: &str) {
        let parts = self.parts.iter_mut().filter(|part| part.name == name && part.version == version);
        parts.for_each(|part| part.turn(word, tone, note));
    }

    fn trouble(&mut self, line: String) {
        if self.troubles.len() < LINES_MAX {
            self.troubles.push(line);
        }
    }

    /// The view of now, if somebody watches.
    fn tick(&mut self, is_watched: bool) -> Option<View> {
        let (at, before) = self.last;
        let now = [self.published, self.delivered];
        let seconds = at.elapsed().as_secs_f64().max(1e-3);
        self.rates = [0, 1].map(|it| (now[it] - before[it]) as f64 / seconds);
        self.last = (Instant::now(), now);
        is_watched.then(|| self.view(self.running(), &self.checker.so_far(), &[]))
    }

    fn judged(&self, report: &Report) -> View {
        let exercised = report.promises.iter().filter(|it| it.obligations > 0).count() as u64;
        let broken = report.promises.iter().filter(|it| it.verdict == Verdict::Broken).count() as u64;
        let because =
            report.unknown_because.iter().take(3).map(|it| format!(" Unknown because {}.", visible(it)));
        let state = State {
            word: words::verdict(report.verdict).to_owned(),
            sentence: format!(
                "{}, {} exercised, {} broken, in {}.{}",
                counted(report.tally.published, "message"),
                counted(exercised, "promise"),
                count(broken),
                duration(report.elapsed_ms),
                because.collect::<String>(),
            ),
            tone: report.verdict.into(),
        };
        self.view(state, &report.promises, &report.findings)
    }

    fn running(&self) -> State {
        let of = self.parts.len();
        let sentence = match self.parts.iter().position(|part| part.word == "running") {
            Some(at) => {
                let PartSeen { name, version, .. } = &self.parts[at];
                format!("{} on MQTT {version}, part {} of {of}.", visible(name), at + 1)
            }
            None if self.parts.iter().all(|part| part.word == "waiting") => {
                "The broker is started.".to_owned()
            }
            None => "What was recorded is judged.".to_owned(),
        };
        State { word: "running".to_owned(), sentence, tone: Tone::NotExercised }
    }

    fn view(&self, state: State, promises: &[Promise], findings: &[Finding]) -> View {
        let mut tables =
            vec![tables::findings(findings), tables::parts(&self.parts), tables::promises(promises)];
        tables.push(tables::faults(&self.timeline));
        tables.push(tables::troubles(&self.troubles));
        tables.retain(|table| !table.rows.is_empty() || !matches!(table.id, "findings" | "troubles"));
        let mut facts = self.facts.clone();
        facts.push(("running for", duration(self.timeline.elapsed_ns() / 1_000_000)));
        View {
            title: TITLE.to_owned(),
            state,
            over: None,
            facts,
            figures: self.figures(promises),
            plots: plots::plots(&self.timeline),
            tables,
        }
    }

    fn figures(&self, promises: &[Promise]) -> Vec<Figure> {
        let exercised = promises.iter().filter(|it| it.obligations > 0).count() as u64;
        let broken = promises.iter().filter(|it| it.verdict == Verdict::Broken).count() as u64;
        let faults = self.timeline.marks().len() as u64 + self.timeline.marks_left_out();
        let rate = |at: usize| format!("{} a second", count(self.rates[at] as u64));
        let again = |of: u64, all: u64| format!("{} with DUP", share(of, all));
        vec![
            Figure::new("published", count(self.published), rate(0)),
            Figure::new("delivered", count(self.delivered), rate(1)),
            Figure::new(
                "in flight",
                count(self.timeline.in_flight() as u64),
                format!("on {}", counted(self.timeline.connected() as u64, "connection")),
            ),
            Figure::new("duplicates", count(self.received_again), again(self.received_again, self.delivered)),
            Figure::new("retries", count(self.sent_again), again(self.sent_again, self.published)),
            plots::latency("acknowledged, p50", &self.timeline, |it| &it.acknowledged),
            plots::latency("arrived, p50", &self.timeline, |it| &it.arrived),
            Figure::new("faults", count(faults), "injected on purpose"),
            Figure::new(
                "exercised",
                count(exercised),
                format!("of {} promises", count(promises.len() as u64)),
            ),
            Figure::new("broken", count(broken), "promises").wrong_if(broken > 0),
        ]
    }
}

/// A panic elsewhere does not make what was seen wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtally_history::event::{BrokerEvent, ConnectionId, Role};
    use mqtally_history::packet::Version;

    fn seen(events: &[(u64, EventKind)]) -> Seen {
        let mut plan = Plan::new(1, 42);
        plan.groups = vec![mqtally_harness::run::Group::Qos];
        let header = Header { broker_name: "mqtt://ann:secret@host".into(), seed: 42, ..Header::default() };
        let mut seen = Seen::new(&plan, &header, [0, 1]);
        for (at_ms, kind) in events {
            seen.observe(&Event { at_ns: at_ms * 1_000_000, kind: kind.clone() });
        }
        seen
    }

    fn table<'a>(view: &'a View, id: &str) -> &'a crate::live::Table {
        view.tables.iter().find(|table| table.id == id).expect("the table")
    }

    #[test]
    fn a_run_that_begins() {
        let opened = EventKind::Opened {
            connection: ConnectionId(1),
            client: "c".into(),
            version: Version::V5_0,
            role: Role::Own,
        };
        let fault = |kind: &str| EventKind::Fault { kind: kind.into(), client: None };
        let mut seen = seen(&[
            (0, EventKind::Broker(BrokerEvent::Started)),
            (1, opened),
            (20, fault("cut-fin")),
            (30, EventKind::Broker(BrokerEvent::Killed)),
            (50, EventKind::Broker(BrokerEvent::Started)),
            (80, fault("cut-fin")),
        ]);
        seen.tell(&RunEvent::GroupStarted {
            group: "qos".into(),
            version: mqtally_proto::packet::Version::V5_0,
        });
        let view = seen.view(seen.running(), &seen.checker.so_far(), &[]);
        insta::assert_json_snapshot!(view);
    }

    #[test]
    fn a_password_is_not_on_the_page() {
        let view = seen(&[]).tick(true).expect("watched");
        assert_eq!(view.facts[0], ("broker", "mqtt://ann:***@host".to_owned()));
    }

    #[test]
    fn nobody_watches_and_nothing_is_made() {
        assert!(seen(&[]).tick(false).is_none());
    }

    #[test]
    fn a_part_tells_how_it_stands() {
        let mut seen = seen(&[]);
        let version = mqtally_proto::packet::Version::V3_1_1;
        seen.tell(&RunEvent::GroupStarted { group: "qos".into(), version });
        assert_eq!(seen.running().sentence, "qos on MQTT 3.1.1, part 1 of 2.");
        seen.tell(&RunEvent::GroupEnded { group: "qos".into(), version, drained: false });
        seen.tell(&RunEvent::GroupSkipped { group: "qos".into(), reason: "it cannot be killed".into() });
        let view = seen.view(seen.running(), &[], &[]);
        let words: Vec<&str> = table(&view, "parts").rows.iter().map(|row| row.cells[2].as_str()).collect();
        assert_eq!(words, ["left out", "left out"]);
        assert!(view.tables.iter().all(|table| table.id != "troubles"));
    }

    #[test]
    fn troubles_have_a_bound() {
        let mut seen = seen(&[]);
        for _ in 0..1_000 {
            seen.trouble("x".into());
        }
        assert_eq!(seen.troubles.len(), LINES_MAX);
    }
}
