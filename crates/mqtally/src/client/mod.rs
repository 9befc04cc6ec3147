//! One client: a [`Session`] driven over its connections by one task.
//!
//! [`Client::start`] gives a handle, which can be cloned, and the stream of [`Event`]s. The session outlives its
//! connections: after [`Client::cut`], or when the server goes away, [`Client::connect`] resumes it. Nothing
//! reconnects by itself.
//!
//! Whoever publishes has to read the events, too: when [`Events`] is full the client stops reading its socket, and
//! so completions stop.

mod driver;
mod gate;
mod hopeless;

pub use gate::{Gate, Step, Steps};
pub use hopeless::hopeless;

use crate::connection::{Closed, Closing, DialError, Tap};
use crate::endpoint::Endpoint;
use bytes::Bytes;
use bytestring::ByteString;
use driver::{Control, Driver};
use mqtally_proto::packet::{Connack, Properties, Publish, Qos, ReasonCode, Subscription};
use mqtally_proto::session::{self, Options, ProtocolError, PublishError, RequestError, Session};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Events that may wait to be taken.
const EVENTS_MAX: usize = 1_024;
/// Requests to the loop that may wait to be carried out.
const CONTROLS_MAX: usize = 16;

/// How a client is set up.
#[derive(Clone)]
pub struct Settings {
    /// Where the broker is. Its user name and password are used where `options` have none.
    pub endpoint: Endpoint,
    /// The session.
    pub options: Options,
    /// How long to wait for the transport, and then for CONNACK.
    pub connect_timeout: Duration,
    /// Sees every frame.
    pub tap: Option<Tap>,
    /// Makes the steps of our QoS 2 messages survive the process before the server can know of them.
    pub gate: Option<Gate>,
}

impl Settings {
    /// A client without tap and gate that gives a connect 10 seconds.
    pub fn new(endpoint: Endpoint, options: Options) -> Self {
        Self { endpoint, options, connect_timeout: Duration::from_secs(10), tap: None, gate: None }
    }
}

/// What a client has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something in the session.
    Session(session::Event),
    /// The connection is gone.
    Closed {
        /// How it ended.
        how: Closed,
        /// What the server did wrong, where that is why we ended it; what TLS or the WebSocket says, where it broke.
        error: Option<ProtocolError>,
    },
}

/// The server's acceptance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Whether the server resumed the session.
    pub session_present: bool,
    /// The whole answer.
    pub connack: Connack,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is one already.
    #[error("this client is connected already; cut or disconnect it first")]
    AlreadyConnected,
    /// Nobody answers there, or not as the transport wants.
    #[error("cannot reach {endpoint}: {source}{}", advice(.source))]
    Dial {
        /// Where.
        endpoint: Box<Endpoint>,
        /// Why.
        source: DialError,
    },
    /// The server answered, and said no.
    #[error("the broker refused the connection: {}", .0.reason)]
    Refused(Connack),
    /// The connection ended before the server had answered.
    #[error("the connection ended before the broker answered{}", detail(how, .error.as_ref()))]
    Closed {
        /// How it ended.
        how: Closed,
        /// What the server did wrong, where that is why we ended it; what TLS or the WebSocket says, where it broke.
        error: Option<ProtocolError>,
    },
    /// The server did not answer.
    #[error("the broker accepted the connection and did not answer CONNECT within {0:?}")]
    NoAnswer(Duration),
    /// The client's task has ended.
    #[error("the client's task has ended")]
    Gone,
}

/// The handle of a client. When the last clone is dropped the connection is closed without DISCONNECT.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    controls: mpsc::Sender<Control>,
}

/// The events of a client, in order.
pub struct Events(mpsc::Receiver<Event>);

/// What handle and loop share. The lock is held for one call on the session and never across an await.
struct Shared {
    session: Mutex<Session>,
    /// The session may have something to send.
    wake: Notify,
    /// The session may have room for publishes.
    room: Notify,
}

impl Shared {
    /// A session is consistent between two calls, whatever happened to the thread that made the last one.
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Starts the client's task on the current tokio runtime; [`Client::connect`] is next.
    pub fn start(settings: Settings) -> (Self, Events) {
        Self::resume(settings, |_| ())
    }

    /// As [`Client::start`], with a session into which `restore` has put what an earlier life of the process left.
    pub fn resume(mut settings: Settings, restore: impl FnOnce(&mut Session)) -> (Self, Events) {
        fill_in_credentials(&mut settings);
        let mut session = Session::new(settings.options.clone());
        restore(&mut session);
        let session = Mutex::new(session);
        let shared = Arc::new(Shared { session, wake: Notify::new(), room: Notify::new() });
        let (controls, controls_out) = mpsc::channel(CONTROLS_MAX);
        let (events, events_out) = mpsc::channel(EVENTS_MAX);
        tokio::spawn(Driver::new(settings, Arc::clone(&shared), controls_out, events).run());
        (Self { shared, controls }, Events(events_out))
    }

    /// Connects, at first or again, and waits for the server's answer. To resume the session, the next CONNECT must
    /// not ask for a clean start: see [`Client::set_clean_start`].
    ///
    /// A connect that is dropped before it is ready goes on; the events tell what came of it.
    pub async fn connect(&self) -> Result<Connected, ConnectError> {
        self.request(Control::Connect).await.unwrap_or(Err(ConnectError::Gone))
    }

    /// Whether the next connect asks for a clean start.
    pub fn set_clean_start(&self, clean_start: bool) {
        self.shared.session().set_clean_start(clean_start);
    }

    /// How many sessions the server has begun so far: see [`Session::begun`].
    pub(crate) fn sessions_begun(&self) -> u64 {
        self.shared.session().begun()
    }

    /// Accepts a message for sending as soon as the in-flight window has room, connected or not. `token` comes back
    /// in [`session::Event::Completed`]; it is the caller's, so that no completion can come before it is known.
    ///
    /// Cancel-safe: dropped before it is ready, it has done nothing.
    pub async fn publish(&self, token: u64, publish: Publish) -> Result<(), PublishError> {
        let mut offered = Some(publish);
        while !self.offer(token, &mut offered)? {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            if self.offer(token, &mut offered)? {
                break;
            }
            room.await;
        }
        Ok(())
    }

    /// Accepts messages under one lock as long as `next`, which is told for which QoS there is room, has any. One that
    /// cannot be sent comes back with its token, and ends it. `next` must not call the client.
    pub(crate) fn publish_ready(
        &self,
        mut next: impl FnMut(&dyn Fn(Qos) -> bool) -> Option<(u64, Publish)>,
    ) -> Result<(), (u64, PublishError)> {
        let mut session = self.shared.session();
        let mut accepted = false;
        let mut offer = || {
            while let Some((token, publish)) = next(&|qos| session.has_room(qos)) {
                session.publish(token, publish).map_err(|error| (token, error))?;
                accepted = true;
            }
            Ok(())
        };
        let offered = offer();
        if accepted {
            self.shared.wake.notify_one();
        }
        offered
    }

    /// Answers a received message: see [`Session::acknowledge`].
    pub fn acknowledge(&self, packet_id: u16) {
        self.shared.session().acknowledge(packet_id);
        self.shared.wake.notify_one();
    }

    /// Answers a received PUBREL: see [`Session::complete`].
    pub fn complete(&self, packet_id: u16) {
        self.shared.session().complete(packet_id);
        self.shared.wake.notify_one();
    }

    /// Asks for subscriptions; the answer comes as an event with the returned packet id.
    pub fn subscribe(&self, filters: Vec<Subscription>, properties: Properties) -> Result<u16, RequestError> {
        let packet_id = self.shared.session().subscribe(filters, properties);
        self.shared.wake.notify_one();
        packet_id
    }

    /// Ends subscriptions; the answer comes as an event with the returned packet id.
    pub fn unsubscribe(&self, filters: Vec<ByteString>, properties: Properties) -> Result<u16, RequestError> {
        let packet_id = self.shared.session().unsubscribe(filters, properties);
        self.shared.wake.notify_one();
        packet_id
    }

    /// How many publishes at `qos` above 0 are accepted without waiting.
    pub fn window(&self) -> usize {
        self.shared.session().window()
    }

    /// QoS 1 and 2 publishes that were accepted and have not completed.
    pub fn in_flight(&self) -> usize {
        self.shared.session().in_flight()
    }

    /// Whether a publish at `qos` would be accepted without waiting.
    pub fn has_room(&self, qos: Qos) -> bool {
        self.shared.session().has_room(qos)
    }

    /// Ends the connection without DISCONNECT. Returns when it is gone.
    pub async fn cut(&self, closing: Closing) {
        self.request(|reply| Control::Cut(closing, reply)).await.unwrap_or_default();
    }

    /// Says DISCONNECT and ends the connection in order. `session_expiry` (5.0, seconds) replaces the session's.
    pub async fn disconnect(&self, reason: ReasonCode, session_expiry: Option<u32>) {
        self.request(|reply| Control::Disconnect { reason, session_expiry, reply }).await.unwrap_or_default();
    }

    /// Stops taking what the server sends, or starts again. When it returns nothing more is taken; pings go on, and
    /// the server's silence is excused.
    pub async fn pause_reading(&self, paused: bool) {
        self.request(|reply| Control::PauseReading(paused, reply)).await.unwrap_or_default();
    }

    /// Waits until the server has sent something that has not been taken; of use while reading is paused. False when
    /// the connection ended instead, or there is none.
    pub async fn bytes_waiting(&self) -> bool {
        self.request(Control::BytesWaiting).await.unwrap_or_default()
    }

    /// Ends our direction of the connection and leaves the other open.
    pub async fn half_close(&self) {
        self.request(Control::HalfClose).await.unwrap_or_default();
    }

    /// Takes the message if there is room for it.
    fn offer(&self, token: u64, offered: &mut Option<Publish>) -> Result<bool, PublishError> {
        let mut session = self.shared.session();
        let Some(publish) = offered.take_if(|publish| session.has_room(publish.qos)) else {
            return Ok(false);
        };
        session.publish(token, publish)?;
        self.shared.wake.notify_one();
        Ok(true)
    }

    /// `None` when the task has ended.
    async fn request<T>(&self, control: impl FnOnce(oneshot::Sender<T>) -> Control) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.controls.send(control(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl Events {
    /// The next event; `None` when the client is gone. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Event> {
        self.0.recv().await
    }

    /// Appends up to `limit` events, waiting for the first; returns how many, 0 when the client is gone.
    /// Cancel-safe.
    pub async fn recv_many(&mut self, events: &mut Vec<Event>, limit: usize) -> usize {
        self.0.recv_many(events, limit).await
    }
}

fn fill_in_credentials(Settings { endpoint, options, .. }: &mut Settings) {
    let (username, password) = (endpoint.username(), endpoint.password());
    options.username = options.username.take().or(username.map(ByteString::from));
    options.password =
        options.password.take().or(password.map(|password| Bytes::copy_from_slice(password.as_bytes())));
}

/// Where the error itself does not say what to do.
fn advice(error: &DialError) -> &'static str {
    match error {
        DialError::Io(_) | DialError::TimedOut(_) => "; is the broker running and the address right?",
        DialError::Tls(_) | DialError::WebSocket(_) => "",
    }
}

fn detail(how: &Closed, error: Option<&ProtocolError>) -> String {
    match (error, how) {
        (Some(error), _) => format!(": {error}"),
        (None, Closed::Broken(kind)) => format!(": {kind}"),
        (None, Closed::ByPeer | Closed::ByUs(_)) => String::new(),
    }
}
