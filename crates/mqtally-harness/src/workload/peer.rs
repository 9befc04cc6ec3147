//! The library's client in a stage: its events are always read, and what a stage waits for can be awaited with a bound.

use super::Trouble;
use super::scene::{Lifetime, Scene};
use mqtally::client::{Client, ConnectError, Event, Events, Settings};
use mqtally_proto::packet::{Publish, ReasonCode, Suback};
use mqtally_proto::session::{self, Options};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Events taken at once.
const EVENTS_AT_ONCE: usize = 256;
/// Messages that a client takes at a time, where that is not what a stage is about.
const RECEIVE_MAXIMUM: u16 = 1_024;
/// Connections in a row without an acknowledgement after which nobody waits for one any more.
const FRUITLESS_MAX: u64 = 100;

/// What a client's events have come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Publishes whose handshake has ended.
    pub(crate) completed: u64,
    /// The first answer that was no success.
    pub(crate) refused: Option<ReasonCode>,
    /// The last SUBACK.
    pub(crate) suback: Option<Suback>,
    /// Connections that were accepted.
    pub(crate) connections: u64,
    /// The last of them is gone.
    pub(crate) closed: bool,
}

/// What is done with each received message.
pub(crate) type Handler = Box<dyn FnMut(Publish) + Send>;

/// A client of the library whose events a task of its own reads.
pub(crate) struct Peer {
    pub(crate) name: Arc<str>,
    pub(crate) client: Client,
    standing: watch::Receiver<Standing>,
    limit: Duration,
    reader: JoinHandle<()>,
}

impl Peer {
    /// A client that is not connected yet.
    pub(crate) fn new(
        scene: &Scene,
        name: &Arc<str>,
        lifetime: Lifetime,
        in_flight_max: u16,
        handler: Handler,
    ) -> Self {
        Self::taking(scene, name, lifetime, in_flight_max, RECEIVE_MAXIMUM, handler)
    }

    /// The same with so many messages that the broker may have unacknowledged toward it (5.0).
    pub(crate) fn taking(
        scene: &Scene,
        name: &Arc<str>,
        lifetime: Lifetime,
        in_flight_max: u16,
        receive_maximum: u16,
        handler: Handler,
    ) -> Self {
        if lifetime.expiry_s > 0 {
            scene.leaves_session(name);
        }
        let options = Options {
            clean_start: lifetime.clean_start,
            session_expiry_interval: lifetime.expiry_s,
            in_flight_max,
            receive_maximum,
            ..Options::new(scene.version, &**name)
        };
        let limit = scene.plan.answer_limit;
        let settings = Settings {
            tap: Some(scene.recorder.tap(name, scene.version)),
            connect_timeout: limit,
            ..Settings::new(scene.endpoint().clone(), options)
        };
        let (client, events) = Client::start(settings);
        let (sender, standing) = watch::channel(Standing::default());
        let reader = tokio::spawn(read(events, sender, handler));
        Self { name: name.clone(), client, standing, limit, reader }
    }

    /// Connects, at first or again. Returns whether the broker had the session.
    pub(crate) async fn connect(&self) -> Result<bool, Trouble> {
        let before = self.standing().connections;
        match self.client.connect().await {
            Ok(connected) => {
                // The answer may come before its event is read; until then the standing is that of the last connection.
                self.reach("connection", |standing| standing.connections > before).await?;
                Ok(connected.session_present)
            }
            Err(ConnectError::Refused(connack)) => {
                Err(Trouble::Refused { client: self.name.to_string(), reason: connack.reason })
            }
            Err(error) => {
                Err(Trouble::Unreachable { client: self.name.to_string(), error: error.to_string() })
            }
        }
    }

    /// Waits until the client's standing is as `wanted`. The bound starts anew with everything that happens.
    pub(crate) async fn until(
        &self,
        awaited: &'static str,
        wanted: impl Fn(&Standing) -> bool,
    ) -> Result<Standing, Trouble> {
        let mut standing = self.standing.clone();
        loop {
            let now = standing.borrow_and_update().clone();
            if wanted(&now) {
                return Ok(now);
            }
            if now.closed {
                return Err(Trouble::Closed { client: self.name.to_string(), awaited });
            }
            match timeout(self.limit, standing.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Trouble::Closed { client: self.name.to_string(), awaited }),
                Err(_) => {
                    let seconds = self.limit.as_secs();
                    return Err(Trouble::Silent { client: self.name.to_string(), awaited, seconds });
                }
            }
        }
    }

    /// The same, whether or not connections end meanwhile, with a bound of its own, and one on connections that come to
    /// nothing: a broker that a client cannot work with would be tried for ever.
    pub(crate) async fn until_across(
        &self,
        limit: Duration,
        awaited: &'static str,
        wanted: impl Fn(&Standing) -> bool,
    ) -> Result<Standing, Trouble> {
        let mut standing = self.standing.clone();
        let mut progress = self.standing();
        loop {
            let now = standing.borrow_and_update().clone();
            if wanted(&now) {
                return Ok(now);
            }
            if now.completed > progress.completed {
                progress = now.clone();
            }
            if now.connections > progress.connections + FRUITLESS_MAX {
                let client = self.name.to_string();
                return Err(Trouble::Fruitless { client, awaited, connections: FRUITLESS_MAX });
            }
            if !matches!(timeout(limit, standing.changed()).await, Ok(Ok(()))) {
                let seconds = limit.as_secs();
                return Err(Trouble::Silent { client: self.name.to_string(), awaited, seconds });
            }
        }
    }

    /// Ready when there is no connection, which may be never; whoever waits has another bound.
    pub(crate) async fn gone(&self) {
        if self.standing.clone().wait_for(|standing| standing.closed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the connection is gone.
    pub(crate) async fn until_closed(&self) -> Result<(), Trouble> {
        self.reach("end of the connection", |standing| standing.closed).await
    }

    async fn reach(&self, awaited: &'static str, wanted: impl Fn(&Standing) -> bool) -> Result<(), Trouble> {
        let mut standing = self.standing.clone();
        match timeout(self.limit, standing.wait_for(wanted)).await {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(Trouble::Silent { client: self.name.to_string(), awaited, seconds: self.limit.as_secs() })
            }
        }
    }

    /// Its standing, to be watched.
    pub(crate) fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Waits until it is connected.
    pub(crate) async fn until_connected(&self) -> Result<(), Trouble> {
        self.reach("connection", |standing| standing.connections > 0 && !standing.closed).await
    }

    /// What its events have come to so far.
    pub(crate) fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// DISCONNECT and an orderly end.
    pub(crate) async fn disconnect(&self) {
        self.client.disconnect(ReasonCode::SUCCESS, None).await;
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(mut events: Events, standing: watch::Sender<Standing>, mut handler: Handler) {
    let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
    while events.recv_many(&mut batch, EVENTS_AT_ONCE).await > 0 {
        let mut changed = standing.borrow().clone();
        let mut worth_telling = false;
        for event in batch.drain(..) {
            match event {
                Event::Session(session::Event::Message(publish)) => handler(publish),
                other => worth_telling |= changed.take(other),
            }
        }
        if worth_telling {
            standing.send_replace(changed);
        }
    }
}

impl Standing {
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Session(session::Event::Completed { reason, .. }) => {
                self.completed += 1;
                // Packet id not found answers a PUBREL that is sent again after the broker had completed it.
                if reason.is_error() && reason != ReasonCode::PACKET_IDENTIFIER_NOT_FOUND {
                    self.refused.get_or_insert(reason);
                }
            }
            Event::Session(session::Event::Subscribed(suback)) => self.suback = Some(suback),
            Event::Session(session::Event::Connected { .. }) => {
                self.connections += 1;
                self.closed = false;
            }
            Event::Closed { .. } => self.closed = true,
            Event::Session(_) => return false,
        }
        true
    }
}
