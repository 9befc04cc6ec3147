//! The one loop between the connection and the inbox.
//!
//! In this order: what was stored is acknowledged, what was released is completed, what came is given to the inbox. Nothing
//! of one connection is left when the next begins: packet ids may mean other messages there.

use super::builder::Config;
use super::notice::{Notice, Pause};
use super::reconnect::{EARLY_ENDS_MAX, Reconnect};
use super::{Status, SubscriberError, start_client};
use crate::client::{Client, ConnectError, Connected, Event, Events, hopeless};
use crate::connection::{Closed, Closing};
use crate::inbox::key::{View, replay_epoch};
use crate::inbox::{Accepted, Arrival, Availability, Exchange, Inbox, InboxError};
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Publish, Qos, ReasonCode, Suback};
use mqtally_proto::session::{Event as SessionEvent, ProtocolError};
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::Instant;

/// Events that are looked at before what is stored is acknowledged.
const EVENTS_MAX: usize = 256;
/// How long the last acknowledgements may take when it stops.
const FLUSH_TIME: Duration = Duration::from_secs(5);

pub(super) struct Link {
    config: Arc<Config>,
    client: Client,
    events: Events,
    inbox: Inbox,
    availability: watch::Receiver<Availability>,
    backlog: watch::Receiver<u64>,
    status: watch::Sender<Status>,
    /// The session's number in the inbox.
    session: u32,
    /// QoS 2 packet ids that an earlier run left to be released. One that comes without DUP means another message.
    inherited: FxHashSet<u16>,
    /// Whether this store ever belonged to a session.
    known: bool,
    /// The broker had lost the session, and the inbox does not know yet.
    session_lost: bool,
    /// For how many seconds the broker said that it keeps the session, where that is not what was asked for.
    granted_expiry: Option<u32>,
    reconnect: Reconnect,
    /// CONNACK was taken from the events: what comes now is of this connection.
    up: bool,
    stored: VecDeque<Stored>,
    /// PUBRELs that came while others are made durable.
    released: Vec<u16>,
    releasing: Option<Releasing>,
    messages: usize,
    bytes: usize,
    pause: Option<Pause>,
    /// The store failed under messages that had been read; this connection can only be kept alive.
    stalled: bool,
    takeover: bool,
    end: Option<End>,
    /// What came and was not given to the inbox yet, and what it is to be acknowledged by.
    batch: Vec<Arrival>,
    batch_ids: Vec<u16>,
}

/// How a connection ended.
struct End {
    how: Closed,
    error: Option<ProtocolError>,
}

/// PUBRELs on their way to the disk.
struct Releasing {
    durable: Pin<Box<dyn Future<Output = Result<Vec<bool>, InboxError>> + Send>>,
    packet_ids: Vec<u16>,
}

/// Messages on their way to the disk.
struct Stored {
    durable: Pin<Box<dyn Future<Output = Result<Vec<Accepted>, InboxError>> + Send>>,
    packet_ids: Vec<u16>,
    messages: usize,
    bytes: usize,
}

impl Link {
    /// Takes up the session where the inbox left it.
    pub(super) async fn open(
        config: &Arc<Config>,
        inbox: Inbox,
        status: watch::Sender<Status>,
        backlog: watch::Receiver<u64>,
    ) -> Result<Self, SubscriberError> {
        let (session, remembered) = inbox.session().await.map_err(|_| SubscriberError::Inbox)?;
        let counted = inbox.statistics().await.map_err(|_| SubscriberError::Inbox)?;
        config.warn_of_old_dead_letters(&counted);
        let inherited = remembered.iter().copied().collect();
        let (client, events) = start_client(config, remembered);
        Ok(Self {
            config: Arc::clone(config),
            client,
            events,
            availability: inbox.availability(),
            backlog,
            status,
            session,
            inherited,
            known: inbox.was_joined_before().unwrap_or(counted.received > 0 || counted.session_losses > 0),
            session_lost: false,
            granted_expiry: None,
            inbox,
            reconnect: Reconnect::default(),
            up: false,
            stored: VecDeque::new(),
            released: Vec::new(),
            releasing: None,
            messages: 0,
            bytes: 0,
            pause: None,
            stalled: false,
            takeover: false,
            end: None,
            batch: Vec::new(),
            batch_ids: Vec::new(),
        })
    }

    /// Connects, again and again. Cancel-safe: [`Link::close`] ends it in order from anywhere.
    pub(super) async fn run(&mut self) -> Result<(), SubscriberError> {
        let mut first = true;
        loop {
            self.wait_for_store().await?;
            match self.client.connect().await {
                Ok(connected) => {
                    first = false;
                    let accepted = Instant::now();
                    self.begin(&connected).await?;
                    self.serve().await?;
                    self.disconnected(accepted.elapsed()).await?;
                }
                Err(error) => self.not_connected(error, first).await?,
            }
        }
    }

    async fn not_connected(&mut self, error: ConnectError, first: bool) -> Result<(), SubscriberError> {
        if let ConnectError::Refused(connack) = &error
            && let Some(advice) = hopeless(connack.reason)
        {
            return Err(SubscriberError::Refused { reason: connack.reason, advice });
        }
        if first {
            return Err(SubscriberError::Unreachable(error));
        }
        let retry_in = self.reconnect.failed(fastrand::f64());
        self.wait(error.to_string(), retry_in).await;
        Ok(())
    }

    async fn wait(&mut self, why: String, retry_in: Duration) {
        self.config.tell(&Notice::Disconnected { why, retry_in });
        tokio::time::sleep(retry_in).await;
    }

    /// The broker accepted the connection: settles whose session it is, and subscribes.
    async fn begin(&mut self, connected: &Connected) -> Result<(), SubscriberError> {
        self.config.tell(&Notice::Connected { session_present: connected.session_present });
        (self.pause, self.stalled, self.takeover, self.end) = (None, false, false, None);
        let granted = connected.connack.properties.session_expiry_interval();
        if granted != std::mem::replace(&mut self.granted_expiry, granted) {
            self.config.tell_of_expiry(granted);
        }
        match (connected.session_present, self.known) {
            (true, true) | (false, false) => {}
            (true, false) => self.config.tell(&Notice::SessionOfAnotherStore),
            (false, true) => self.session_lost = true,
        }
        self.known = true;
        // Nothing of the new session may be taken before the old one's packet ids are forgotten.
        if self.session_lost && !self.forget_session().await? {
            self.stalled = true;
            return Ok(());
        }
        // Also where the session was kept: the filters may be others than they were. An error means that the connection
        // has ended already.
        let _ = self.client.subscribe(self.config.filters.clone(), Properties::default());
        Ok(())
    }

    /// Whether the inbox has forgotten it: not while it cannot be written.
    async fn forget_session(&mut self) -> Result<bool, SubscriberError> {
        let forgotten = async {
            let exchanges = self.inbox.session_lost().await?;
            Ok((exchanges, self.inbox.session().await?.0))
        };
        match forgotten.await {
            Ok((exchanges, session)) => {
                (self.session, self.session_lost) = (session, false);
                self.inherited.clear();
                self.config.tell(&Notice::SessionLost { exchanges });
                Ok(true)
            }
            Err(InboxError::Closed) => Err(SubscriberError::Inbox),
            Err(InboxError::Unavailable(_)) => Ok(false),
        }
    }

    /// Serves one connection to its end.
    async fn serve(&mut self) -> Result<(), SubscriberError> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while self.end.is_none() {
            self.balance().await;
            self.renew().await;
            tokio::select! {
                biased;
                stored = next_stored(&mut self.stored) => self.acknowledge(&stored),
                forgotten = next_forgotten(&mut self.releasing) => self.complete(&forgotten),
                changed = self.availability.changed() => {
                    changed.map_err(|_| SubscriberError::Inbox)?;
                    self.store_changed()?;
                }
                _ = self.backlog.changed() => {}
                count = self.events.recv_many(&mut events, EVENTS_MAX) => {
                    if count == 0 {
                        return Err(SubscriberError::Inbox);
                    }
                    self.take(&mut events).await?;
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, events: &mut Vec<Event>) -> Result<(), SubscriberError> {
        for event in events.drain(..) {
            match event {
                Event::Session(SessionEvent::Connected { .. }) => self.up = true,
                // Of an attempt before this connection.
                _ if !self.up => {}
                Event::Session(SessionEvent::Message(publish)) => {
                    self.forget_inherited(publish.packet_id).await;
                    self.arrive(publish);
                }
                Event::Session(SessionEvent::Duplicate(publish)) => self.arrive(publish),
                Event::Session(SessionEvent::Released { packet_id }) => self.release(packet_id),
                Event::Session(SessionEvent::Subscribed(suback)) => self.subscribed(&suback)?,
                Event::Session(SessionEvent::Disconnected(disconnect)) => {
                    self.takeover = disconnect.reason == ReasonCode::SESSION_TAKEN_OVER;
                }
                Event::Session(_) => {}
                Event::Closed { how, error } => {
                    self.up = false;
                    self.end = Some(End { how, error });
                }
            }
        }
        self.forget_released();
        self.store().await
    }

    async fn forget_inherited(&mut self, packet_id: Option<u16>) {
        if let Some(packet_id) = packet_id.filter(|packet_id| self.inherited.remove(packet_id)) {
            self.stalled |= self.inbox.release(packet_id).await.is_err();
        }
    }

    fn arrive(&mut self, publish: Publish) {
        if self.stalled {
            return;
        }
        let received_at = now();
        let Publish { topic, qos, retain, dup, packet_id, properties, payload } = publish;
        let key = self.config.key_of(View {
            topic: &topic,
            properties: &properties,
            payload: &payload,
            received_at,
        });
        let exchange = packet_id.filter(|_| qos == Qos::ExactlyOnce);
        self.batch.push(Arrival {
            lane: self.config.order.lane(&topic, &payload),
            replay: replay_epoch(&properties),
            exchange: exchange.map(|packet_id| Exchange { session: self.session, packet_id }),
            topic,
            qos,
            retain,
            dup,
            properties,
            payload,
            key,
            received_at,
        });
        self.batch_ids.extend(packet_id);
    }

    /// Gives the inbox what has come. Reading is paused before a wait: the queue has room for all credit but one huge message.
    async fn store(&mut self) -> Result<(), SubscriberError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let arrivals = std::mem::take(&mut self.batch);
        let packet_ids = std::mem::take(&mut self.batch_ids);
        let (messages, bytes) =
            (arrivals.len(), arrivals.iter().map(|arrival| arrival.payload.len()).sum::<usize>());
        self.messages += messages;
        self.bytes += bytes;
        self.balance().await;
        match self.inbox.submit(arrivals).await {
            Ok(submitted) => {
                let durable = Box::pin(submitted.durable());
                self.stored.push_back(Stored { durable, packet_ids, messages, bytes });
                Ok(())
            }
            Err(InboxError::Closed) => Err(SubscriberError::Inbox),
            Err(InboxError::Unavailable(_)) => {
                self.messages -= messages;
                self.bytes -= bytes;
                self.stalled = true;
                Ok(())
            }
        }
    }

    /// PUBACK and PUBREC, in the order received [MQTT-4.6.0-2] [MQTT-4.6.0-3].
    fn acknowledge(&mut self, stored: &Result<Vec<Accepted>, InboxError>) {
        let Some(Stored { packet_ids, messages, bytes, .. }) = self.stored.pop_front() else { return };
        self.messages -= messages;
        self.bytes -= bytes;
        match stored {
            Ok(_) => packet_ids.into_iter().for_each(|packet_id| self.client.acknowledge(packet_id)),
            Err(_) => self.stalled = true,
        }
    }

    fn release(&mut self, packet_id: u16) {
        self.inherited.remove(&packet_id);
        self.released.push(packet_id);
    }

    /// Has the inbox forget what was released; one batch gathers while the one before it is made durable.
    fn forget_released(&mut self) {
        if self.releasing.is_none() && !self.released.is_empty() {
            let packet_ids = std::mem::take(&mut self.released);
            let (inbox, wanted) = (self.inbox.clone(), packet_ids.clone());
            let durable = Box::pin(async move { inbox.release_all(wanted).await });
            self.releasing = Some(Releasing { durable, packet_ids });
        }
    }

    /// PUBCOMP, in the order of the PUBRELs [MQTT-4.6.0-4].
    fn complete(&mut self, forgotten: &Result<Vec<bool>, InboxError>) {
        let Some(Releasing { packet_ids, .. }) = self.releasing.take() else { return };
        match forgotten {
            Ok(_) => packet_ids.into_iter().for_each(|packet_id| self.client.complete(packet_id)),
            Err(_) => self.stalled = true,
        }
        self.forget_released();
    }

    fn subscribed(&self, suback: &Suback) -> Result<(), SubscriberError> {
        for (subscription, reason) in self.config.filters.iter().zip(&suback.reasons) {
            let filter = subscription.filter.to_string();
            if reason.is_error() {
                return Err(SubscriberError::SubscriptionRefused { filter, reason: *reason });
            }
            if reason.0 < subscription.qos.as_u8() {
                let (asked, granted) = (subscription.qos, reason.0);
                self.config.tell(&Notice::GrantedLess { filter, asked, granted });
            }
        }
        self.status.send_modify(|status| status.subscribed = true);
        self.config.tell(&Notice::Subscribed { filters: suback.reasons.len() });
        Ok(())
    }

    /// Reads, or does not, as credit, backlog and store allow.
    async fn balance(&mut self) {
        let wanted = self.reason_to_pause();
        if wanted.is_some() != self.pause.is_some() {
            self.client.pause_reading(wanted.is_some()).await;
        }
        if wanted != self.pause {
            self.tell_pause(wanted.as_ref());
            self.pause = wanted;
        }
    }

    fn tell_pause(&self, pause: Option<&Pause>) {
        let brief = |pause: Option<&Pause>| pause.is_none_or(Pause::is_brief);
        if !brief(pause) || !brief(self.pause.as_ref()) {
            self.config.tell(&pause.map_or(Notice::Resumed, |pause| Notice::Paused(pause.clone())));
        }
        self.status.send_modify(|status| status.paused = pause.cloned());
    }

    fn reason_to_pause(&self) -> Option<Pause> {
        if let Availability::Unavailable(why) = &*self.availability.borrow() {
            return Some(Pause::Store(Arc::clone(why)));
        }
        if self.stalled {
            return Some(Pause::Store("it failed, and is being opened again".into()));
        }
        let (unsettled, backlog_max) = (*self.backlog.borrow(), self.config.backlog_max);
        let paused_for_backlog = matches!(self.pause, Some(Pause::Backlog(_)));
        if unsettled >= backlog_max || (paused_for_backlog && unsettled > backlog_max - backlog_max / 10) {
            return Some(Pause::Backlog(backlog_max));
        }
        // Until half of it is free again, so that it is not turned on and off for each message.
        let share = if self.pause == Some(Pause::Credit) { 2 } else { 1 };
        let spent = self.messages >= self.config.credit.messages.div_ceil(share)
            || self.bytes >= self.config.credit.bytes.div_ceil(share);
        spent.then_some(Pause::Credit)
    }

    /// Where the store failed and is back, a new connection makes the broker send again what was read and not stored.
    async fn renew(&mut self) {
        let available = *self.availability.borrow() == Availability::Available;
        if self.stalled && available {
            self.client.cut(Closing::Fin).await;
        }
    }

    fn store_changed(&mut self) -> Result<(), SubscriberError> {
        match &*self.availability.borrow_and_update() {
            Availability::Closed => return Err(SubscriberError::Inbox),
            Availability::Unavailable(_) => self.stalled = true,
            Availability::Available => {}
        }
        Ok(())
    }

    async fn wait_for_store(&mut self) -> Result<(), SubscriberError> {
        let ready = self.availability.wait_for(|now| !matches!(now, Availability::Unavailable(_))).await;
        match ready.as_deref() {
            Ok(Availability::Available) => Ok(()),
            _ => Err(SubscriberError::Inbox),
        }
    }

    /// After the end of a connection: lets what it left come to its end, and waits for the next one.
    async fn disconnected(&mut self, lived: Duration) -> Result<(), SubscriberError> {
        self.status.send_replace(Status::default());
        self.settle_all().await;
        if self.takeover {
            return Err(SubscriberError::TakenOver { client_id: self.config.client_id() });
        }
        let Some(End { how, error }) = self.end.take() else { return Ok(()) };
        if how == Closed::ByUs(Closing::Fin) && error.is_none() {
            return Ok(()); // the store came back
        }
        let by_peer = !matches!(how, Closed::ByUs(_));
        match self.reconnect.ended(lived, by_peer, fastrand::f64()) {
            Some(retry_in) => self.wait(what_ended(&how, error.as_ref()), retry_in).await,
            None => {
                let client_id = self.config.client_id();
                return Err(SubscriberError::Unwelcome { times: EARLY_ENDS_MAX, client_id });
            }
        }
        Ok(())
    }

    async fn settle_all(&mut self) {
        while !self.stored.is_empty() {
            let stored = next_stored(&mut self.stored).await;
            self.acknowledge(&stored);
        }
        while self.releasing.is_some() {
            let forgotten = next_forgotten(&mut self.releasing).await;
            self.complete(&forgotten);
        }
    }

    /// Reads nothing more.
    pub(super) async fn pause(&mut self) {
        self.client.pause_reading(true).await;
        self.status.send_modify(|status| status.paused = Some(Pause::Stopping));
    }

    /// Sends the acknowledgements that are due, says DISCONNECT, and closes.
    pub(super) async fn close(mut self) {
        // What is not stored by then comes again.
        drop(tokio::time::timeout(FLUSH_TIME, self.settle_all()).await);
        self.client.disconnect(ReasonCode::SUCCESS, None).await;
    }
}

async fn next_forgotten(releasing: &mut Option<Releasing>) -> Result<Vec<bool>, InboxError> {
    match releasing {
        Some(releasing) => releasing.durable.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn next_stored(stored: &mut VecDeque<Stored>) -> Result<Vec<Accepted>, InboxError> {
    match stored.front_mut() {
        Some(stored) => stored.durable.as_mut().await,
        None => std::future::pending().await,
    }
}

fn what_ended(how: &Closed, error: Option<&ProtocolError>) -> String {
    error.map_or_else(|| how.to_string(), |error| format!("the broker broke the protocol: {error}"))
}

fn now() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_ms(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
