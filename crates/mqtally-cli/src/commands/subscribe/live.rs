//! The live view of a running subscriber, beside `/metrics`; dead letters are replayed from it.

use crate::live::{
    Access, Column, Curve, Figure, Hub, Pace, Plot, Row, State, Table, Tone, View, Window, not_found,
};
use crate::metrics;
use crate::report::words::{count, duration, milliseconds, share, visible};
use mqtally::handler::rfc_3339;
use mqtally::inbox::Statistics;
use mqtally::inbox::dead_letter::{DeadLetter, DeadLetters, Page, Selection};
use mqtally::store::StoreError;
use mqtally::subscriber::{Monitor, Notice, Pause, Settled, Status};
use mqtally_harness::http::{self, Answer, Request};
use mqtally_proto::Time;
use serde::Deserialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Between two views.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one waits for figures; what was known last is shown then.
const FIGURES_TIME_MAX: Duration = Duration::from_millis(500);
/// Dead letters that are shown.
const LETTERS_MAX: usize = 50;
/// Notices that are shown.
const NOTICES_MAX: usize = 20;
/// Characters of a payload or an error.
const SHOWN_MAX: usize = 120;

/// What the subscriber tells while it runs.
#[derive(Debug, Default)]
pub(super) struct Heard {
    notices: Mutex<VecDeque<(Time, String)>>,
    latencies: Mutex<Latencies>,
}

#[derive(Debug, Default)]
struct Latencies {
    /// From a message's arrival until it is done or dead.
    whole: Window,
    /// Of one attempt of its handler.
    handler: Window,
}

impl Latencies {
    fn tick(&mut self) {
        self.whole.tick();
        self.handler.tick();
    }
}

impl Heard {
    pub(super) fn note(&self, notice: &Notice) {
        if matches!(notice, Notice::Paused(pause) if pause.is_brief()) || matches!(notice, Notice::Resumed) {
            return;
        }
        let mut notices = lock(&self.notices);
        if notices.len() == NOTICES_MAX {
            notices.pop_back();
        }
        notices.push_front((now(), notice.to_string()));
    }

    pub(super) fn settled(&self, settled: &Settled) {
        let mut latencies = lock(&self.latencies);
        latencies.handler.record(settled.handled);
        if settled.ends {
            let ms = now().as_ms().saturating_sub(settled.received_at.as_ms());
            latencies.whole.record(Duration::from_millis(ms));
        }
    }
}

/// Opens the store's dead letters.
pub(super) type Attach = Box<dyn Fn() -> Result<DeadLetters, StoreError> + Send + Sync>;

/// A live view that is served.
pub(super) struct Live {
    hub: Arc<Hub>,
    desk: Arc<tokio::sync::Mutex<Desk>>,
    ticking: JoinHandle<()>,
}

/// Who it is, as names and values.
pub(super) type Facts = Vec<(&'static str, String)>;

impl Live {
    pub(super) fn serve(
        listener: TcpListener,
        access: Access,
        monitor: Monitor,
        (heard, facts, attach): (Arc<Heard>, Facts, Attach),
    ) -> Self {
        let letters = Arc::new(Letters { attach, attached: Mutex::new(None) });
        let desk = Desk::new(monitor.clone(), heard, facts, Arc::clone(&letters));
        let hub = Hub::new(access, &desk.view(None));
        let desk = Arc::new(tokio::sync::Mutex::new(desk));
        let (shown, seen) = (Arc::clone(&hub), Arc::clone(&desk));
        let ticking = tokio::spawn(async move {
            let mut every = tokio::time::interval(INTERVAL);
            loop {
                every.tick().await;
                let mut desk = seen.lock().await;
                desk.tick(shown.is_watched()).await;
                shown.show(&desk.view(None));
            }
        });
        let answering = Arc::clone(&hub);
        tokio::spawn(http::serve(listener, move |request: Request| {
            let (hub, monitor, letters) = (Arc::clone(&answering), monitor.clone(), Arc::clone(&letters));
            async move {
                match metrics::answer(&request, &monitor).await {
                    Some(answer) => answer,
                    None => hub.answer(request, |request| act(request, letters)).await,
                }
            }
        }));
        Self { hub, desk, ticking }
    }

    /// Shows how it ended to those who watch.
    pub(super) async fn end(&self, ended: Result<Option<Statistics>, String>) {
        self.ticking.abort();
        let mut desk = self.desk.lock().await;
        let why = match ended {
            Ok(statistics) => {
                desk.statistics = statistics.unwrap_or(desk.statistics);
                "it was stopped in order, or has settled the number of messages that it was asked to"
                    .to_owned()
            }
            Err(error) => error,
        };
        self.hub.end(&desk.view(Some(why))).await;
    }
}

/// Beyond looking there is one thing to do.
async fn act(request: Request, letters: Arc<Letters>) -> Answer {
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/replay") => replay(&request.body, letters).await,
        (_, "/replay") => Answer::wrong_method("POST"),
        _ => not_found("/, /events, /view.json, /replay, /metrics, /healthz and /readyz"),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    number: u64,
}

async fn replay(body: &str, letters: Arc<Letters>) -> Answer {
    let Ok(Wish { number }) = serde_json::from_str(body) else {
        return Answer::new("400 Bad Request", "send {\"number\": N}, with the number of a dead letter\n");
    };
    // Numbers are SQLite's integers: there is none beyond them.
    let numbers: Vec<u64> = i64::try_from(number).ok().map(|_| number).into_iter().collect();
    let asked = tokio::task::spawn_blocking(move || letters.with(|it| it.replay(&numbers, false))).await;
    match asked {
        Ok(Ok(asked)) if asked == [number] => {
            Answer::new("200 OK", format!("Dead letter {number} is replayed.\n"))
        }
        Ok(Ok(_)) => {
            Answer::new("404 Not Found", format!("There is no dead letter {number}, or it is damaged.\n"))
        }
        Ok(Err(error)) => Answer::new("503 Service Unavailable", format!("{error}\n")),
        Err(_) => Answer::new("500 Internal Server Error", "the replay failed\n"),
    }
}

/// The store's dead letters, on a connection of their own that is opened when somebody wants to see them.
struct Letters {
    attach: Attach,
    attached: Mutex<Option<DeadLetters>>,
}

impl Letters {
    /// Blocks. After an error they are opened anew.
    fn with<T>(&self, act: impl FnOnce(&mut DeadLetters) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut attached = lock(&self.attached);
        let mut letters = match attached.take() {
            Some(letters) => letters,
            None => (self.attach)()?,
        };
        let done = act(&mut letters)?;
        *attached = Some(letters);
        Ok(done)
    }

    fn first(&self) -> Result<Page, StoreError> {
        self.with(|letters| letters.list(&Selection::default(), 0, LETTERS_MAX))
    }
}

/// Gathers what is to be shown.
struct Desk {
    monitor: Monitor,
    heard: Arc<Heard>,
    facts: Facts,
    letters: Arc<Letters>,
    began: Instant,
    last: Instant,
    status: Status,
    statistics: Statistics,
    received: Pace,
    processed: Pace,
    /// What the store said last; an error as a sentence.
    listed: Result<Page, String>,
    listing: Option<JoinHandle<Result<Page, StoreError>>>,
}

impl Desk {
    fn new(monitor: Monitor, heard: Arc<Heard>, facts: Facts, letters: Arc<Letters>) -> Self {
        let now = Instant::now();
        Self {
            status: monitor.status(),
            monitor,
            heard,
            facts,
            letters,
            began: now,
            last: now,
            statistics: Statistics::default(),
            received: Pace::default(),
            processed: Pace::default(),
            listed: Ok(Page::default()),
            listing: None,
        }
    }

    async fn tick(&mut self, is_watched: bool) {
        self.status = self.monitor.status();
        let since = self.last.elapsed();
        match tokio::time::timeout(FIGURES_TIME_MAX, self.monitor.statistics()).await {
            Ok(Ok(statistics)) => {
                self.statistics = statistics;
                self.last = Instant::now();
                self.received.tick(statistics.received, since);
                self.processed.tick(statistics.processed, since);
            }
            // The store cannot be written, or has much to do.
            _ => {
                self.received.skip();
                self.processed.skip();
            }
        }
        lock(&self.heard.latencies).tick();
        self.list(is_watched).await;
    }

    /// Takes what was listed, and has it listed again: the store may take its time.
    async fn list(&mut self, is_watched: bool) {
        if let Some(listing) = self.listing.take_if(|listing| listing.is_finished()) {
            let listed = listing.await.unwrap_or_else(|_| Ok(Page::default()));
            self.listed = listed.map_err(|error| error.to_string());
        }
        if is_watched && self.listing.is_none() {
            let letters = Arc::clone(&self.letters);
            self.listing = Some(tokio::task::spawn_blocking(move || letters.first()));
        }
    }

    fn view(&self, over: Option<String>) -> View {
        let latencies = lock(&self.heard.latencies);
        let notices: Vec<_> = lock(&self.heard.notices).iter().cloned().collect();
        let mut facts = self.facts.clone();
        facts.push((
            "running for",
            duration(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)),
        ));
        let statistics = &self.statistics;
        View {
            title: format!("mqtally sub · {}", self.facts.first().map_or("", |(_, name)| name)),
            state: state(&self.status, over.is_some()),
            over: over.map(|why| format!("Nothing changes any more: {why}.")),
            facts,
            figures: figures(statistics, [self.received.now(), self.processed.now()], &latencies),
            plots: plots([&self.received, &self.processed], &latencies),
            tables: vec![dead_letters(&self.listed, statistics.dead), events(&notices)],
        }
    }
}

fn state(status: &Status, is_over: bool) -> State {
    let (word, sentence, tone) = match &status.paused {
        _ if is_over => ("stopped", "The subscriber has ended.".to_owned(), Tone::NotExercised),
        Some(pause) if !matches!(pause, Pause::Credit) => {
            ("not reading", format!("Nothing is read: {pause}."), Tone::Broken)
        }
        _ if !status.subscribed => {
            ("not subscribed", "The broker has not granted the subscriptions.".to_owned(), Tone::Unknown)
        }
        _ => ("subscribed", "Messages are taken.".to_owned(), Tone::Kept),
    };
    State { word: word.to_owned(), sentence, tone }
}

fn figures(s: &Statistics, [received, processed]: [Option<f64>; 2], latencies: &Latencies) -> Vec<Figure> {
    let rate = |now: Option<f64>| now.map_or_else(String::new, |rate| format!("{rate:.1} a second"));
    let duplicates = s.redelivered + s.published_again + s.replayed_again;
    let oldest = s.oldest_unsettled_ms.map_or_else(String::new, |ms| format!(", oldest {}", duration(ms)));
    vec![
        Figure::new("received", count(s.received), rate(received)),
        Figure::new("processed", count(s.processed), rate(processed)),
        Figure::new("in flight", count(s.unsettled), format!("{} in handlers{oldest}", count(s.leased))),
        Figure::new(
            "duplicates",
            count(duplicates),
            format!("{} of received", share(duplicates, s.received)),
        ),
        Figure::new("conflicts", count(s.conflicts), "known key, other body").wrong_if(s.conflicts > 0),
        Figure::new("retries", count(s.retries), format!("{} waiting", count(s.waiting))),
        Figure::new("failed attempts", count(s.failed), "of handlers"),
        Figure::new("dead letters", count(s.dead), format!("{} replayed", count(s.replayed)))
            .wrong_if(s.dead > 0),
        Figure::new("session losses", count(s.session_losses), "by the broker")
            .wrong_if(s.session_losses > 0),
        latency("arrival to done, p50", latencies.whole.overall_ms()),
        latency("handler, p50", latencies.handler.overall_ms()),
    ]
}

fn latency(name: &'static str, quantiles_ms: Option<[f64; 2]>) -> Figure {
    let shown = |ms: f64| format!("{} ms", milliseconds((ms * 1e3) as u64));
    match quantiles_ms {
        Some([p50, p99]) => Figure::new(name, shown(p50), format!("p99 {}", shown(p99))),
        None => Figure::new(name, "–", "nothing measured yet"),
    }
}

fn plots([received, processed]: [&Pace; 2], latencies: &Latencies) -> Vec<Plot> {
    // The window grows with what there is to see.
    let points = received.points().len().clamp(60, Pace::POINTS);
    let plot = |name, unit, is_logarithmic, curves| Plot {
        name,
        unit,
        is_logarithmic,
        curves,
        points,
        ends: [format!("{} ago", duration(points as u64 * 1_000)), "now".to_owned()],
        marks: Vec::new(),
        bands: Vec::new(),
    };
    let curve = |name, values| Curve { name, values };
    vec![
        plot(
            "Messages a second",
            "a second",
            false,
            vec![curve("received", received.points()), curve("processed", processed.points())],
        ),
        plot(
            "Milliseconds from arrival to done",
            "ms",
            true,
            vec![curve("p50", latencies.whole.points(0)), curve("p99", latencies.whole.points(1))],
        ),
    ]
}

fn dead_letters(listed: &Result<Page, String>, dead: u64) -> Table {
    let (letters, note) = match listed {
        Ok(page) if page.next.is_some() => (
            &page.letters[..],
            format!(
                "The first {} of {}; 'mqtally dead-letter' has them all.",
                page.letters.len(),
                count(dead)
            ),
        ),
        Ok(page) => (&page.letters[..], String::new()),
        Err(error) => (&[][..], error.clone()),
    };
    let empty = match listed {
        Ok(_) => "None.",
        Err(_) => "They cannot be read at present.",
    };
    Table {
        id: "dead-letters",
        name: "Dead letters",
        note,
        columns: vec![
            Column::Number("number"),
            Column::Action("replay"),
            Column::Code("topic"),
            Column::Code("payload"),
            Column::Text("reason"),
            Column::Number("attempts"),
            Column::Code("last error"),
            Column::Time("given up"),
        ],
        rows: letters.iter().map(row).collect(),
        empty,
    }
}

fn row(letter: &DeadLetter) -> Row {
    let (topic, payload) = match &letter.message {
        Some(message) => (visible(&message.topic), shortened(&message.payload)),
        None => ("(damaged)".to_owned(), String::new()),
    };
    let error = letter.errors.last().map_or(String::new(), |note| shortened(note.error.as_bytes()));
    let can_be_replayed = letter.message.is_some();
    let wish = match (can_be_replayed, letter.replay_asked) {
        (false, _) => "",
        (true, false) => "Replay",
        (true, true) => "Asked for",
    };
    Row {
        key: letter.sequence.to_string(),
        cells: vec![
            letter.sequence.to_string(),
            wish.to_owned(),
            topic,
            payload,
            letter.reason.name().to_owned(),
            letter.attempts.to_string(),
            error,
            at(letter.died_at),
        ],
        tone: Tone::default(),
        replay: can_be_replayed.then_some(letter.sequence),
        is_asked: letter.replay_asked,
    }
}

fn events(notices: &[(Time, String)]) -> Table {
    let row = |(at, text): &(Time, String)| Row {
        key: format!("{} {text}", at.as_ms()),
        cells: vec![self::at(*at), visible(&crate::exit::redact(text))],
        ..Row::default()
    };
    Table {
        id: "notices",
        name: "What happened",
        note: "The latest first.".to_owned(),
        columns: vec![Column::Time("at"), Column::Text("what")],
        rows: notices.iter().map(row).collect(),
        empty: "Nothing yet.",
    }
}

/// To the second.
fn at(time: Time) -> String {
    let text = rfc_3339(time);
    format!("{} UTC", text[..text.len().min(19)].replace('T', " "))
}

fn shortened(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN_MAX)]);
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < bytes.len() {
        shown.push('…');
    }
    visible(&shown)
}

fn now() -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_ms(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// What is counted stays right where somebody panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtally::inbox::dead_letter::{DeadMessage, ErrorNote, Reason};

    fn letter(sequence: u64, topic: &str, payload: &'static [u8]) -> DeadLetter {
        let message = DeadMessage {
            topic: topic.to_owned(),
            qos: mqtally_proto::packet::Qos::AtLeastOnce,
            retain: false,
            properties: mqtally_proto::packet::Properties::default(),
            payload: payload.into(),
            key: None,
            replay: 0,
            received_at: Time::from_ms(0),
        };
        DeadLetter {
            sequence,
            died_at: Time::from_ms(1_800_000_000_123),
            attempts: 6,
            reason: Reason::Exhausted,
            errors: vec![ErrorNote { at_ms: 0, error: "status 503".into() }],
            edited: false,
            replay_asked: sequence == 2,
            message: Some(message),
        }
    }

    #[test]
    fn what_is_shown_of_dead_letters() {
        let damaged = DeadLetter { message: None, ..letter(3, "", b"") };
        let letters = vec![letter(1, "a/\u{202e}b", b"{\"x\":1}\n"), letter(2, "c", &[b'y'; 500]), damaged];
        let table = dead_letters(&Ok(Page { letters, next: Some(4) }), 9_000);
        insta::assert_json_snapshot!(table);
    }

    #[test]
    fn letters_that_cannot_be_read_are_not_none() {
        let table = dead_letters(&Err("the store is gone".into()), 3);
        assert_eq!((table.rows.len(), table.empty), (0, "They cannot be read at present."));
        assert_eq!(table.note, "the store is gone");
    }

    #[test]
    fn the_state_says_whether_messages_are_taken() {
        let word = |subscribed, paused, over| state(&Status { subscribed, paused }, over).word;
        assert_eq!(word(true, None, false), "subscribed");
        assert_eq!(word(true, Some(Pause::Credit), false), "subscribed");
        assert_eq!(word(true, Some(Pause::Backlog(9)), false), "not reading");
        assert_eq!(word(true, Some(Pause::Store("full".into())), false), "not reading");
        assert_eq!(word(false, None, false), "not subscribed");
        assert_eq!(word(true, None, true), "stopped");
    }

    #[test]
    fn figures_of_a_subscriber() {
        let statistics = Statistics {
            received: 31_204,
            redelivered: 4,
            published_again: 3,
            conflicts: 1,
            processed: 31_000,
            retries: 12,
            failed: 15,
            dead: 2,
            unsettled: 40,
            leased: 16,
            waiting: 8,
            oldest_unsettled_ms: Some(61_000),
            ..Statistics::default()
        };
        let mut latencies = Latencies::default();
        latencies.whole.record(Duration::from_millis(12));
        latencies.tick();
        insta::assert_json_snapshot!(figures(&statistics, [Some(102.34), None], &latencies));
    }
}
