//! The loop that drives one session over its connections.
//!
//! In this order, for ever: drain every output (packets to the socket in one write, events to their stream), wait
//! for one thing, make one mutation.

use super::{ConnectError, Connected, Event, Settings, Shared, Step, Steps};
use crate::connection::{Closed, Closing, Connection, ConnectionError, DialError, Read};
use mqtally_proto::Time;
use mqtally_proto::packet::{DecodeError, Packet, ReasonCode};
use mqtally_proto::session::{self, ProtocolError};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{Interest, Ready};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Bytes that wait for the socket before nothing more is taken from the session or the server.
const BACKLOG_BYTES_MAX: usize = 1 << 20;

/// Bytes of messages after which whoever takes the events gets a turn: he may want to pause the reading.
const TURN_BYTES_MAX: usize = 1 << 20;

/// What a handle asks of the loop.
pub(super) enum Control {
    Connect(oneshot::Sender<Result<Connected, ConnectError>>),
    Cut(Closing, oneshot::Sender<()>),
    Disconnect { reason: ReasonCode, session_expiry: Option<u32>, reply: oneshot::Sender<()> },
    PauseReading(bool, oneshot::Sender<()>),
    BytesWaiting(oneshot::Sender<bool>),
    HalfClose(oneshot::Sender<()>),
}

/// The one thing that was waited for.
enum Input {
    Control(Control),
    /// Every handle is gone.
    Abandoned,
    /// A handle put something into the session, or the event stream has room again: there is output to drain.
    Woken,
    Ready(io::Result<Ready>),
    /// Whether the steps at the gate were recorded.
    Recorded(bool),
    Timeout,
}

struct Opening {
    reply: oneshot::Sender<Result<Connected, ConnectError>>,
    deadline: Instant,
}

pub(super) struct Driver {
    settings: Settings,
    shared: Arc<Shared>,
    controls: mpsc::Receiver<Control>,
    events: mpsc::Sender<Event>,
    /// Events that their stream has no room for; while there are any, nothing is read.
    pending: VecDeque<Event>,
    connection: Option<Connection>,
    dials: u64,
    /// Who waits for CONNACK, and until when.
    opening: Option<Opening>,
    /// What the server did wrong on this connection.
    error: Option<ProtocolError>,
    /// Who waits for bytes that are not to be taken.
    watchers: Vec<oneshot::Sender<bool>>,
    paused: bool,
    /// Set while what is queued must not be written, because its steps are not recorded.
    recording: Option<oneshot::Receiver<()>>,
    packets: Vec<Packet>,
    /// Of messages, since others had a turn.
    turn_bytes: usize,
    clock: Clock,
}

impl Driver {
    pub(super) fn new(
        settings: Settings,
        shared: Arc<Shared>,
        controls: mpsc::Receiver<Control>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            settings,
            shared,
            controls,
            events,
            pending: VecDeque::new(),
            connection: None,
            dials: 0,
            opening: None,
            error: None,
            watchers: Vec::new(),
            paused: false,
            recording: None,
            packets: Vec::new(),
            turn_bytes: 0,
            clock: Clock::start(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.drain().await;
            if self.turn_bytes >= TURN_BYTES_MAX {
                self.turn_bytes = 0;
                tokio::task::yield_now().await;
            }
            match self.wait().await {
                Input::Abandoned => break,
                input => self.apply(input).await,
            }
        }
        self.close(Closing::Fin).await;
        for event in self.pending.drain(..) {
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }

    /// Until nothing more can go out.
    async fn drain(&mut self) {
        if let Err(error) = self.transmit() {
            // What the server said last may say why it hung up.
            if !self.paused {
                self.read();
            }
            self.lost(Closed::Broken(error.kind()));
        }
        if self.connection.is_some() && self.recording.is_none() && self.shared.session().is_closing() {
            self.close(Closing::Fin).await;
        }
        self.take_events();
        while let Some(event) = self.pending.pop_front() {
            match self.events.try_send(event) {
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
                Err(mpsc::error::TrySendError::Full(event)) => return self.pending.push_front(event),
            }
        }
    }

    /// Hands the session's packets to the kernel, many in one write.
    fn transmit(&mut self) -> io::Result<()> {
        let Some(connection) = self.connection.as_mut().filter(|_| self.recording.is_none()) else {
            return Ok(());
        };
        let mut session = self.shared.session();
        let mut steps = Vec::new();
        while connection.backlog() < BACKLOG_BYTES_MAX
            && let Some(packet) = session.poll_transmit()
        {
            if self.settings.gate.is_some() {
                steps.extend(Step::of(&packet, &session));
            }
            connection.queue(&packet).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        }
        drop(session);
        self.shared.room.notify_waiters();
        if steps.is_empty() {
            return connection.flush();
        }
        self.record(steps);
        Ok(())
    }

    /// Nothing is written until the gate has recorded the steps of what is queued.
    fn record(&mut self, steps: Vec<Step>) {
        if let Some(gate) = &self.settings.gate {
            let (recorded, recording) = oneshot::channel();
            self.recording = Some(recording);
            gate(Steps { steps, recorded });
        }
    }

    fn recorded(&mut self, recorded: bool) {
        self.recording = None;
        let Some(connection) = &mut self.connection else { return };
        let written = if recorded { connection.flush() } else { Err(io::ErrorKind::Other.into()) };
        if let Err(error) = written {
            self.lost(Closed::Broken(error.kind()));
        }
    }

    fn take_events(&mut self) {
        let mut session = self.shared.session();
        while let Some(event) = session.poll_event() {
            if let Some(answer) = answer_to_connect(&event)
                && let Some(opening) = self.opening.take()
            {
                let _ = opening.reply.send(answer);
            }
            if let session::Event::Message(publish) | session::Event::Duplicate(publish) = &event {
                self.turn_bytes += publish.payload.len();
            }
            self.pending.push_back(Event::Session(event));
        }
    }

    async fn wait(&mut self) -> Input {
        let deadline = self.deadline();
        let connection = self.connection.as_ref();
        let interest = connection.and_then(|connection| self.interest(connection));
        tokio::select! {
            biased;
            control = self.controls.recv() => control.map_or(Input::Abandoned, Input::Control),
            () = self.shared.wake.notified() => Input::Woken,
            _ = self.events.reserve(), if !self.pending.is_empty() => Input::Woken,
            ready = ready(connection.zip(interest)) => Input::Ready(ready),
            recorded = recorded(self.recording.as_mut()) => Input::Recorded(recorded),
            () = sleep_until(deadline) => Input::Timeout,
        }
    }

    fn interest(&self, connection: &Connection) -> Option<Interest> {
        let write = connection.backlog() > 0 && self.recording.is_none();
        let read = self.takes_input(connection) || !self.watchers.is_empty();
        match (read, write) {
            (true, true) => Some(Interest::READABLE | Interest::WRITABLE),
            (true, false) => Some(Interest::READABLE),
            (false, true) => Some(Interest::WRITABLE),
            (false, false) => None,
        }
    }

    fn takes_input(&self, connection: &Connection) -> bool {
        !self.paused && self.pending.is_empty() && connection.backlog() < BACKLOG_BYTES_MAX
    }

    fn deadline(&self) -> Option<Instant> {
        let session = self.shared.session().poll_timeout().map(|time| self.clock.instant(time));
        let opening = self.opening.as_ref().map(|opening| opening.deadline);
        session.into_iter().chain(opening).min()
    }

    async fn apply(&mut self, input: Input) {
        match input {
            Input::Control(control) => self.control(control).await,
            Input::Ready(Ok(ready)) if ready.is_readable() => self.readable(),
            Input::Ready(Err(error)) => self.lost(Closed::Broken(error.kind())),
            Input::Recorded(recorded) => self.recorded(recorded),
            Input::Timeout => self.timeout().await,
            Input::Ready(Ok(_)) | Input::Woken | Input::Abandoned => {}
        }
    }

    async fn control(&mut self, control: Control) {
        match control {
            Control::Connect(reply) => self.connect(reply).await,
            Control::Cut(closing, reply) => {
                self.close(closing).await;
                let _ = reply.send(());
            }
            Control::Disconnect { reason, session_expiry, reply } => {
                self.shared.session().disconnect(reason, session_expiry);
                self.drain().await;
                let _ = reply.send(());
            }
            Control::PauseReading(paused, reply) => {
                self.paused = paused;
                let _ = reply.send(());
            }
            Control::BytesWaiting(reply) if self.connection.is_some() => self.watchers.push(reply),
            Control::BytesWaiting(reply) => {
                let _ = reply.send(false);
            }
            Control::HalfClose(reply) => {
                if let Some(connection) = &mut self.connection {
                    let _ = connection.half_close().await; // a failure shows as the connection's end
                }
                let _ = reply.send(());
            }
        }
    }

    async fn connect(&mut self, reply: oneshot::Sender<Result<Connected, ConnectError>>) {
        if self.connection.is_some() {
            return drop(reply.send(Err(ConnectError::AlreadyConnected)));
        }
        match self.dial().await {
            Ok(connection) => {
                self.connection = Some(connection);
                self.paused = false;
                self.opening =
                    Some(Opening { reply, deadline: Instant::now() + self.settings.connect_timeout });
                self.shared.session().handle_opened(self.clock.now());
            }
            Err(source) => {
                let endpoint = Box::new(self.settings.endpoint.clone());
                let _ = reply.send(Err(ConnectError::Dial { endpoint, source }));
            }
        }
    }

    async fn dial(&mut self) -> Result<Connection, DialError> {
        self.dials += 1;
        let Settings { endpoint, options, connect_timeout, tap, .. } = &self.settings;
        let packet_size_max = options.packet_size_max;
        Connection::dial(
            endpoint,
            *connect_timeout,
            options.version,
            packet_size_max,
            self.dials,
            tap.clone(),
        )
        .await
    }

    fn readable(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        if !self.watchers.is_empty()
            && let Some(waiting) = connection.are_bytes_waiting().unwrap_or(Some(false))
        {
            self.tell_watchers(waiting);
        }
        if self.connection.as_ref().is_some_and(|connection| self.takes_input(connection)) {
            self.read();
        }
    }

    /// One read, and everything in it.
    fn read(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let mut packets = std::mem::take(&mut self.packets);
        let read = connection.read(&mut packets);
        let refused = self.take_packets(&mut packets);
        self.packets = packets;
        match (refused, read) {
            (Err(error), _) => self.refuse(error),
            (_, Err(ConnectionError::Decode(DecodeError { reason, detail }))) => {
                self.refuse(ProtocolError { reason, detail });
            }
            (_, Err(ConnectionError::Io(error))) => self.broken(&error),
            (_, Ok(Read::End)) => self.lost(Closed::ByPeer),
            (_, Ok(Read::Open)) => {}
        }
    }

    fn take_packets(&mut self, packets: &mut Vec<Packet>) -> Result<(), ProtocolError> {
        let now = self.clock.now();
        let mut session = self.shared.session();
        packets.drain(..).try_for_each(|packet| session.handle_packet(now, packet))
    }

    /// What the operating system reports says it with its kind; what TLS or a WebSocket has to say needs words.
    fn broken(&mut self, error: &io::Error) {
        let reason = ReasonCode::UNSPECIFIED_ERROR;
        self.error = error.get_ref().map(|error| ProtocolError { reason, detail: error.to_string() });
        self.lost(Closed::Broken(error.kind()));
    }

    /// The server broke the protocol: say so, and let the loop close what the session no longer wants.
    fn refuse(&mut self, error: ProtocolError) {
        self.shared.session().disconnect(error.reason, None);
        self.error = Some(error);
    }

    async fn timeout(&mut self) {
        if self.opening.as_ref().is_some_and(|opening| opening.deadline <= Instant::now()) {
            return self.give_up_opening().await;
        }
        let silence = self.shared.session().handle_timeout(self.clock.now());
        if let Err(error) = silence
            && !self.paused
        {
            self.refuse(error);
        }
    }

    async fn give_up_opening(&mut self) {
        if let Some(opening) = self.opening.take() {
            let _ = opening.reply.send(Err(ConnectError::NoAnswer(self.settings.connect_timeout)));
        }
        self.close(Closing::Fin).await;
    }

    async fn close(&mut self, closing: Closing) {
        if let Some(mut connection) = self.connection.take() {
            if self.recording.is_some() {
                connection.discard();
            }
            connection.close(closing).await;
            self.ended(Closed::ByUs(closing));
        }
    }

    fn lost(&mut self, how: Closed) {
        if let Some(connection) = self.connection.take() {
            connection.closed(&how);
            self.ended(how);
        }
    }

    fn tell_watchers(&mut self, waiting: bool) {
        for watcher in self.watchers.drain(..) {
            let _ = watcher.send(waiting);
        }
    }

    fn ended(&mut self, how: Closed) {
        self.recording = None;
        self.shared.session().handle_closed(self.clock.now());
        self.take_events();
        let error = self.error.take();
        if let Some(opening) = self.opening.take() {
            let _ = opening.reply.send(Err(ConnectError::Closed { how: how.clone(), error: error.clone() }));
        }
        self.tell_watchers(false);
        self.pending.push_back(Event::Closed { how, error });
    }
}

fn answer_to_connect(event: &session::Event) -> Option<Result<Connected, ConnectError>> {
    match event {
        session::Event::Connected { session_present, connack } => {
            Some(Ok(Connected { session_present: *session_present, connack: connack.clone() }))
        }
        session::Event::Refused(connack) => Some(Err(ConnectError::Refused(connack.clone()))),
        _ => None,
    }
}

async fn ready(waiting: Option<(&Connection, Interest)>) -> io::Result<Ready> {
    match waiting {
        Some((connection, interest)) => connection.ready(interest).await,
        None => std::future::pending().await,
    }
}

async fn recorded(recording: Option<&mut oneshot::Receiver<()>>) -> bool {
    match recording {
        Some(recording) => recording.await.is_ok(),
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Wall-clock time at the start, carried on by a clock that only moves forward.
struct Clock {
    origin: Time,
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Time::from_ms(since_epoch.as_millis() as u64), started: Instant::now() }
    }

    fn now(&self) -> Time {
        self.origin.plus_ms(self.started.elapsed().as_millis() as u64)
    }

    fn instant(&self, time: Time) -> Instant {
        self.started + Duration::from_millis(time.ms_since(self.origin))
    }
}
