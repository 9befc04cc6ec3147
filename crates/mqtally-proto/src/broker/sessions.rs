//! Sessions: one for each client id, connected or not, from clean start to expiry.

use super::Broker;
use super::config::ConnectionId;
use super::deliver::{Delivery, Queue};
use super::stored::{Change, SessionId, StoredSession, StoredSubscription};
use super::timers::Timer;
use super::will::will_delay_secs;
use crate::Time;
use crate::inflight::{Inbound, Outbound};
use crate::packet::{Version, Will};
use bytestring::ByteString;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

/// Where a live session is kept; used again after the session's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionKey(u32);

impl SessionKey {
    pub(super) fn from_index(index: usize) -> Self {
        Self(index as u32)
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    pub(super) client_id: ByteString,
    pub(super) version: Version,
    /// Seconds; [`NEVER`] for a session without end, 0 for one that ends with its connection.
    pub(super) expiry_interval: u32,
    pub(super) disconnected_at: Option<Time>,
    /// The will of the connection, or the one that is still to be published after it.
    pub(super) will: Option<Will>,
    /// When [`Timer::Will`] stands.
    pub(super) will_at: Option<Time>,
    /// When [`Timer::SessionEnd`] stands.
    pub(super) ends_at: Option<Time>,
    pub(super) link: Option<Link>,
    pub(super) subscriptions: BTreeMap<ByteString, StoredSubscription>,
    pub(super) outbound: Outbound<Delivery>,
    pub(super) queue: Queue,
    pub(super) inbound: Inbound,
    pub(super) next_sequence: u64,
}

/// The session expiry interval that never ends.
pub(super) const NEVER: u32 = u32::MAX;

/// What a session knows of the connection that it is on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) connection: ConnectionId,
    /// QoS 1 and 2 messages that may be unfinished on it.
    pub(super) window: usize,
    /// Largest packet that the client takes, bytes.
    pub(super) packet_size_max: u32,
}

impl Session {
    pub(super) fn new(id: SessionId, client_id: ByteString, version: Version) -> Self {
        Self {
            id,
            client_id,
            version,
            expiry_interval: 0,
            disconnected_at: None,
            will: None,
            will_at: None,
            ends_at: None,
            link: None,
            subscriptions: BTreeMap::new(),
            outbound: Outbound::default(),
            queue: Queue::default(),
            inbound: Inbound::default(),
            next_sequence: 0,
        }
    }

    /// Whether the store keeps it: it is to outlive its connection.
    pub(super) fn is_durable(&self) -> bool {
        self.expiry_interval > 0
    }

    pub(super) fn row(&self) -> StoredSession {
        StoredSession {
            id: self.id,
            client_id: self.client_id.clone(),
            version: self.version,
            expiry_interval: self.expiry_interval,
            disconnected_at: self.disconnected_at,
            will: self.will.clone(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    slots: Vec<Option<Session>>,
    vacant: Vec<SessionKey>,
    by_client: FxHashMap<ByteString, SessionKey>,
}

impl Sessions {
    pub(super) fn insert(&mut self, session: Session) -> SessionKey {
        let key = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push(None);
            SessionKey::from_index(self.slots.len() - 1)
        });
        self.by_client.insert(session.client_id.clone(), key);
        self.slots[key.index()] = Some(session);
        key
    }

    pub(super) fn remove(&mut self, key: SessionKey) -> Option<Session> {
        let session = self.slots.get_mut(key.index())?.take()?;
        self.by_client.remove(&session.client_id);
        self.vacant.push(key);
        Some(session)
    }

    pub(super) fn find(&self, client_id: &str) -> Option<SessionKey> {
        self.by_client.get(client_id).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_client.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionKey, &Session)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(at, slot)| Some((SessionKey::from_index(at), slot.as_ref()?)))
    }
}

/// Keys are kept only where the session's end removes them, so a key always has its session.
impl Index<SessionKey> for Sessions {
    type Output = Session;

    fn index(&self, key: SessionKey) -> &Session {
        self.slots[key.index()].as_ref().expect("a key outlived its session")
    }
}

impl IndexMut<SessionKey> for Sessions {
    fn index_mut(&mut self, key: SessionKey) -> &mut Session {
        self.slots[key.index()].as_mut().expect("a key outlived its session")
    }
}

/// What becomes of the will when a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WillFate {
    /// The client took leave with reason 0x00 `[MQTT-3.14.4-3]`.
    Discard,
    /// It is to be published, after its delay.
    Publish,
}

impl Broker {
    /// The session's connection is gone: the session waits for the next one, or ends `[MQTT-3.1.2-23]`.
    pub(super) fn leave(&mut self, now: Time, key: SessionKey, fate: WillFate) {
        let session = &mut self.sessions[key];
        session.link = None;
        session.disconnected_at = Some(now);
        if fate == WillFate::Discard {
            session.will = None;
        }
        if !session.is_durable() {
            return self.end_session(now, key);
        }
        let row = session.row();
        self.ledger.changes.push(Change::PutSession(row));
        self.await_return(key, now);
        if self.sessions[key].will_at.is_some_and(|at| at <= now) {
            self.publish_delayed_will(now, key);
        }
    }

    /// Starts the timers of a session that has been without a connection since `since`.
    pub(super) fn await_return(&mut self, key: SessionKey, since: Time) {
        let session = &mut self.sessions[key];
        session.will_at = session.will.as_ref().map(|will| since.plus_secs(will_delay_secs(will).into()));
        session.ends_at =
            (session.expiry_interval != NEVER).then(|| since.plus_secs(session.expiry_interval.into()));
        self.timers.start(session.will_at, Timer::Will(key));
        self.timers.start(session.ends_at, Timer::SessionEnd(key));
    }

    /// A connection takes the session up again: nothing of its absence is left to come due.
    pub(super) fn stop_waiting(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key];
        self.timers.stop(session.will_at.take(), Timer::Will(key));
        self.timers.stop(session.ends_at.take(), Timer::SessionEnd(key));
    }

    /// The session is over: its will is due, its subscriptions and messages go.
    pub(super) fn end_session(&mut self, now: Time, key: SessionKey) {
        self.stop_waiting(key);
        let Some(mut session) = self.sessions.remove(key) else { return };
        for filter in session.subscriptions.keys() {
            self.router.unsubscribe(key, filter);
        }
        if session.is_durable() {
            self.ledger.changes.push(Change::RemoveSession(session.id));
        }
        self.move_shared(now, &mut session);
        session.release_all(&mut self.ledger);
        if let Some(will) = session.will.take() {
            self.publish_will(now, session.client_id, will);
        }
    }

    /// A durable session was resumed by a connection that lets it end with itself: the store forgets it.
    pub(super) fn make_transient(&mut self, key: SessionKey) {
        let session = &mut self.sessions[key];
        self.ledger.changes.push(Change::RemoveSession(session.id));
        session.release_all(&mut self.ledger);
        session.expiry_interval = 0;
    }
}
