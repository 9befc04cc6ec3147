//! The publisher's loop: in this order, for ever, hand on what can go, wait for one thing, take it in.
//!
//! The session and its socket belong to the [`Client`]; this decides what it is given and what its answers mean.

use super::capacity::{Capacity, Room};
use super::lineup::{Flight, LOAD_MAX, Lineup, failure_of};
use super::outgoing::Outgoing;
use super::receipt::Tickets;
use super::suspect::Suspect;
use super::{Backoff, Link, Status, wall_clock};
use crate::client::{Client, ConnectError, Event, Events};
use crate::connection::Closed;
use crate::outbox::{Accepted, Command, Failure, Fate, Outbox, Report, Settled, Stored};
use mqtally_proto::packet::ReasonCode;
use mqtally_proto::session;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Taken at once of what waits, so that one kind of input does not keep the others out.
const EVENTS_MAX: usize = 256;
/// Grace for what is still to be written to the outbox and the socket when nothing more is waited for.
const GRACE: Duration = Duration::from_secs(2);
/// A connection that the broker ends sooner than this after accepting it ended early.
const EARLY: Duration = Duration::from_secs(5);
/// Early ends in a row that are no accident any more.
const EARLY_ENDS_MIN: u32 = 4;

/// What reaches the loop from the handles.
pub(super) enum Input {
    /// Without an outbox: accepted.
    Accepted(Accepted<Tickets>),
    /// Settle what there is until the deadline, then end and say how much is left.
    Close { deadline: Instant, left: oneshot::Sender<u64> },
}

type Connecting = Pin<Box<dyn Future<Output = Result<(), ConnectError>> + Send>>;

pub(super) struct Task {
    pub(super) client: Client,
    pub(super) events: Events,
    pub(super) inputs: mpsc::UnboundedReceiver<Input>,
    pub(super) reports: mpsc::UnboundedReceiver<Report<Tickets>>,
    pub(super) outbox: Option<Outbox<Tickets>>,
    pub(super) lineup: Lineup,
    pub(super) capacity: Arc<Capacity>,
    pub(super) status: watch::Sender<Status>,
    pub(super) outgoing: Outgoing,
    pub(super) backoff: Backoff,
    pub(super) subscribers_required: bool,
    /// The next connection only ends a 3.1.1 session that an earlier client may have left: 3.1.1 cannot begin a
    /// lasting session and discard another in one CONNECT.
    pub(super) cleansing: bool,
    pub(super) random: fastrand::Rng,
}

/// What changes while the loop runs.
struct Course {
    connecting: Option<Connecting>,
    online: bool,
    /// Connections that failed or ended soon, in a row.
    failures: u32,
    online_since: Option<Instant>,
    /// Connections in a row that ended early, whatever was acknowledged on them.
    early_ends: u32,
    retry_at: Option<Instant>,
    /// Whether the broker has answered anything on this connection.
    answered: bool,
    suspect: Suspect,
    /// Number of the next message where no outbox gives one.
    next_seq: u64,
    settled: Vec<Settled>,
    closing: Option<(Instant, oneshot::Sender<u64>)>,
}

/// The one thing that was waited for.
enum Woken {
    Input(Option<Input>),
    Report(Report<Tickets>),
    Events(usize),
    Connected(Result<(), ConnectError>),
    Retry,
    Deadline,
}

impl Task {
    pub(super) async fn run(mut self) {
        let mut course = Course::new();
        let mut events = Vec::new();
        self.connect(&mut course);
        loop {
            self.hand_on(&mut course);
            if course.closing.is_some() && self.lineup.is_empty() {
                break;
            }
            match self.wait(&mut course, &mut events).await {
                Woken::Input(None) | Woken::Deadline | Woken::Events(0) => break,
                Woken::Input(Some(input)) => self.take(input, &mut course),
                Woken::Report(report) => self.report(report, &mut course),
                Woken::Events(_) => self.events(&mut events, &mut course).await,
                Woken::Connected(Ok(())) => {}
                Woken::Connected(Err(error)) => self.refused(&error, &mut course),
                Woken::Retry => self.connect(&mut course),
            }
        }
        self.end(course).await;
    }

    async fn wait(&mut self, course: &mut Course, events: &mut Vec<Event>) -> Woken {
        let Course { connecting, retry_at, closing, .. } = course;
        let deadline = closing.as_ref().map(|(deadline, _)| *deadline);
        tokio::select! {
            biased;
            connected = until_ready(connecting.as_mut()) => {
                *connecting = None;
                Woken::Connected(connected)
            }
            taken = self.events.recv_many(events, EVENTS_MAX) => Woken::Events(taken),
            Some(report) = self.reports.recv() => Woken::Report(report),
            () = sleep_until(*retry_at) => Woken::Retry,
            () = sleep_until(deadline) => Woken::Deadline,
            input = self.inputs.recv() => Woken::Input(input),
        }
    }

    /// Settles what is settled, and gives the session what it has room for.
    fn hand_on(&mut self, course: &mut Course) {
        if !course.settled.is_empty() {
            let settled = std::mem::take(&mut course.settled);
            self.ask(Command::Settle(settled));
        }
        if let Some(after) = self.lineup.wants() {
            self.ask(Command::Load { after, limit: LOAD_MAX });
        }
        while course.online && self.publish(course) {}
    }

    /// As many as there is room for. Says whether one has failed, so that there may be room for more.
    fn publish(&mut self, course: &mut Course) -> bool {
        let Self { client, lineup, outgoing, .. } = self;
        let (now, mut expired) = (wall_clock(), Vec::new());
        let unsendable = client.publish_ready(|has_room| {
            while let Some(stored) = lineup.next(has_room) {
                let seq = stored.seq;
                match outgoing.publish(stored, now) {
                    Ok(publish) => return Some((seq, publish)),
                    Err(failure) => expired.push((seq, failure)),
                }
            }
            None
        });
        let mut failed = expired;
        if let Err((seq, error)) = unsendable {
            failed.push((seq, Failure { reason: Some(error.reason()), detail: error.to_string() }));
        }
        let any = !failed.is_empty();
        failed.into_iter().for_each(|(seq, failure)| self.give_up(seq, failure, course));
        any
    }

    fn take(&mut self, input: Input, course: &mut Course) {
        match input {
            Input::Accepted(accepted) => course.next_seq = self.line_up(course.next_seq, accepted),
            Input::Close { deadline, left } => course.closing = Some((deadline, left)),
        }
    }

    /// Messages numbered from `first` on; returns the next number.
    fn line_up(&mut self, first: u64, accepted: Accepted<Tickets>) -> u64 {
        let Accepted { created, messages, tickets } = accepted;
        let next = first + messages.len() as u64;
        for (seq, ((id, message), ticket)) in (first..).zip(messages.into_iter().zip(tickets)) {
            self.lineup.accept(Stored { seq, id, created, message }, ticket);
        }
        next
    }

    fn report(&mut self, report: Report<Tickets>, course: &mut Course) {
        match report {
            Report::Stored { first, accepted } => {
                let now = std::time::Instant::now();
                accepted.into_iter().fold(first, |first, accepted| {
                    accepted.tickets.stored(now);
                    self.line_up(first, accepted)
                });
            }
            Report::Loaded { rows, end } => self.loaded(rows, end, course),
            Report::Trouble(trouble) => self.status.send_modify(|status| status.trouble = trouble),
        }
    }

    fn loaded(&mut self, rows: Vec<(u64, Option<Stored>)>, end: bool, course: &mut Course) {
        let damaged: Vec<u64> =
            rows.iter().filter(|(_, stored)| stored.is_none()).map(|(seq, _)| *seq).collect();
        self.lineup.loaded(rows.into_iter().filter_map(|(_, stored)| stored), end);
        for seq in damaged {
            self.lineup.skip(seq);
            course.settled.push(Settled::damaged(seq));
            self.count_failed();
        }
    }

    async fn events(&mut self, events: &mut Vec<Event>, course: &mut Course) {
        let now = std::time::Instant::now();
        let mut freed = Room::default();
        for event in events.drain(..) {
            match event {
                Event::Session(session::Event::Completed { token, reason }) => {
                    course.failures = 0;
                    self.answered(course);
                    match failure_of(reason, self.subscribers_required) {
                        None => self.acknowledged(token, reason, now, course, &mut freed),
                        Some(failure) => self.give_up(token, failure, course),
                    }
                }
                Event::Session(session::Event::Connected { session_present, .. }) => {
                    self.connected(session_present, course).await;
                }
                Event::Session(session::Event::SessionLost { resent }) => {
                    self.status.send_modify(|status| {
                        status.sessions_lost += 1;
                        status.resent += resent as u64;
                    });
                }
                Event::Session(session::Event::Disconnected(disconnect)) => {
                    self.offline(
                        format!("the broker said goodbye: {}", disconnect.reason),
                        Some(disconnect.reason),
                    );
                }
                Event::Session(session::Event::Received { .. }) => self.answered(course),
                Event::Session(_) => {}
                Event::Closed { how, error } => {
                    self.suspect(&how, course);
                    course.online = false;
                    if course.connecting.is_none() {
                        let why = error.map_or_else(|| how.to_string(), |error| error.to_string());
                        self.lost(why, course);
                    }
                }
            }
        }
        if freed.messages > 0 {
            self.capacity.free(freed);
            self.status.send_if_modified(|status| {
                status.acknowledged += freed.messages;
                false
            });
        }
    }

    fn acknowledged(
        &mut self,
        seq: u64,
        reason: ReasonCode,
        now: std::time::Instant,
        course: &mut Course,
        freed: &mut Room,
    ) {
        let Some(Flight { id, topic, qos, bytes, ticket }) = self.lineup.land(seq) else { return };
        freed.messages += 1;
        freed.bytes += bytes;
        if self.outbox.is_some() {
            course.settled.push(Settled { seq, bytes, fate: Fate::Delivered { id, topic, qos } });
        }
        if let Some(ticket) = ticket {
            ticket.acknowledge(qos, reason, now);
        }
    }

    /// The message failed: it stays in the outbox as failed, where there is one.
    fn give_up(&mut self, seq: u64, failure: Failure, course: &mut Course) {
        let Some(Flight { bytes, ticket, .. }) = self.lineup.land(seq) else { return };
        match self.outbox {
            Some(_) => course.settled.push(Settled { seq, bytes, fate: Fate::Failed(failure.clone()) }),
            None => self.capacity.free(Room { messages: 1, bytes }),
        }
        if let Some(ticket) = ticket {
            ticket.fail(failure);
        }
        self.count_failed();
    }

    fn count_failed(&self) {
        let kept = u64::from(self.outbox.is_some());
        self.status.send_modify(|status| {
            status.failed += 1;
            status.failed_kept += kept;
        });
    }

    fn connect(&mut self, course: &mut Course) {
        course.retry_at = None;
        self.status.send_modify(|status| status.attempts += 1);
        let client = self.client.clone();
        course.connecting = Some(Box::pin(async move { client.connect().await.map(drop) }));
    }

    async fn connected(&mut self, session_present: bool, course: &mut Course) {
        self.client.set_clean_start(false);
        if std::mem::take(&mut self.cleansing) {
            self.client.disconnect(ReasonCode::SUCCESS, None).await;
            course.retry_at = Some(Instant::now());
            return;
        }
        if !session_present {
            // Its first step may be long in coming, and until then the outbox would take the lost session for the living one.
            self.ask(Command::Began(self.client.sessions_begun()));
        }
        course.online = true;
        course.answered = false;
        course.online_since = Some(Instant::now());
        self.status.send_modify(|status| status.link = Link::Online { session_present });
    }

    fn answered(&self, course: &mut Course) {
        if !std::mem::replace(&mut course.answered, true) {
            course.suspect.clear();
            self.status.send_if_modified(|status| status.suspect.take().is_some());
        }
    }

    /// The connection is gone: it may be because of the message that was to be answered first.
    fn suspect(&self, how: &Closed, course: &mut Course) {
        let by_us = matches!(how, Closed::ByUs(_));
        if let Some(first) = self.lineup.first_in_flight()
            && course.online
            && !course.answered
            && !by_us
            && course.suspect.ended(first)
        {
            self.status.send_modify(|status| status.suspect = Some(first));
        }
    }

    /// An attempt to connect came to nothing.
    fn refused(&mut self, error: &ConnectError, course: &mut Course) {
        let reason = match error {
            ConnectError::Refused(connack) => Some(connack.reason),
            _ => None,
        };
        self.pause(error.to_string(), reason, course);
    }

    fn lost(&mut self, why: String, course: &mut Course) {
        if course.retry_at.is_none() {
            let said = match &self.status.borrow().link {
                Link::Offline { reason, .. } => *reason,
                _ => None,
            };
            self.pause(why, said, course);
        }
    }

    fn pause(&mut self, mut why: String, reason: Option<ReasonCode>, course: &mut Course) {
        let since = course.online_since.take();
        let lasted = since.map_or(Duration::ZERO, |since| since.elapsed());
        course.failures = if lasted >= self.backoff.longest { 1 } else { course.failures.saturating_add(1) };
        if since.is_some() {
            course.early_ends = if lasted < EARLY { course.early_ends.saturating_add(1) } else { 0 };
        }
        if course.early_ends >= EARLY_ENDS_MIN {
            // Two that take each other's session over get something done each time, and would never pause for longer.
            course.failures = course.failures.max(course.early_ends);
            why += ", as several times in a row: is another client using our client id?";
        }
        course.online = false;
        course.retry_at = Some(Instant::now() + self.backoff.pause(course.failures, self.random.f64()));
        self.offline(why, reason);
    }

    fn offline(&mut self, why: String, reason: Option<ReasonCode>) {
        self.status.send_modify(|status| status.link = Link::Offline { why, reason });
    }

    fn ask(&self, command: Command<Tickets>) {
        if let Some(outbox) = &self.outbox {
            // The thread only ends when it was told to.
            let _ = outbox.commands().send(command);
        }
    }

    async fn end(mut self, course: Course) {
        if course.online {
            let _ = tokio::time::timeout(GRACE, self.client.disconnect(ReasonCode::SUCCESS, None)).await;
        }
        if !course.settled.is_empty() {
            self.ask(Command::Settle(course.settled));
        }
        if let Some(outbox) = self.outbox.take() {
            outbox.close(GRACE).await;
        }
        if let Some((_, left)) = course.closing {
            let _ = left.send(self.lineup.len());
        }
    }
}

impl Course {
    fn new() -> Self {
        Self {
            connecting: None,
            online: false,
            failures: 0,
            online_since: None,
            early_ends: 0,
            retry_at: None,
            answered: false,
            suspect: Suspect::default(),
            next_seq: 1,
            settled: Vec::new(),
            closing: None,
        }
    }
}

async fn until_ready(connecting: Option<&mut Connecting>) -> Result<(), ConnectError> {
    match connecting {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
