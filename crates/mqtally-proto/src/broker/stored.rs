//! What is durable, and how it changes.

use crate::Time;
use crate::packet::{Properties, Qos, Subscription, Version, Will};
use bytes::Bytes;
use bytestring::ByteString;
use std::sync::Arc;

/// The broker's number for a session in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The broker's number for a stored message; one message may be queued for many sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// An application message as the broker keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic name, never empty.
    pub topic: ByteString,
    /// Payload.
    pub payload: Bytes,
    /// QoS it was published at.
    pub qos: Qos,
    /// Retain flag as published.
    pub retain: bool,
    /// 5.0 properties that travel with a message, in order, without expiry interval, alias and subscription ids.
    pub properties: Properties,
    /// When it expires, if it does.
    pub expires_at: Option<Time>,
    /// The publishing client, for No Local.
    pub publisher: ByteString,
}

impl Message {
    /// Whether its expiry interval is over at `now` `[MQTT-3.3.2-5]`.
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Bytes of topic and payload: what counts against [`super::Limits::queued_bytes_max`].
    pub fn size(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// How far the delivery of one message to one session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waiting for room in the window; it has no packet id yet.
    Queued,
    /// PUBLISH was sent (or is about to be) with this packet id; PUBACK or PUBREC is awaited.
    Published(u16),
    /// QoS 2: PUBREC came; PUBREL was sent (or is about to be); PUBCOMP is awaited. The message itself is no longer needed.
    Released(u16),
}

/// One message on its way to one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Place in the session's order; unique in the session, growing.
    pub sequence: u64,
    /// Which message.
    pub message: MessageId,
    /// QoS of this hop, above 0.
    pub qos: Qos,
    /// Retain flag of this hop.
    pub retain: bool,
    /// Subscription identifiers to carry.
    pub subscription_ids: Vec<u32>,
    /// How far it is.
    pub phase: Phase,
}

/// The part of a session that is kept apart from its subscriptions and deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSession {
    /// The session's number.
    pub id: SessionId,
    /// Client id.
    pub client_id: ByteString,
    /// Version of the last connection.
    pub version: Version,
    /// Expiry interval, seconds after the connection ends; `u32::MAX` never.
    pub expiry_interval: u32,
    /// When the connection ended; `None` while it was open (after a restart the caller's start counts).
    pub disconnected_at: Option<Time>,
    /// A will that is still to be published: with its delay, unless the session is resumed first.
    pub will: Option<Will>,
}

/// A subscription of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSubscription {
    /// Filter and options as granted.
    pub subscription: Subscription,
    /// Its 5.0 subscription identifier.
    pub identifier: Option<u32>,
}

/// One change of durable state. Applying all changes in order to an empty [`Stored`] gives the broker's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Insert or replace a session's own row.
    PutSession(StoredSession),
    /// Remove a session with its subscriptions, deliveries and received ids.
    RemoveSession(SessionId),
    /// Insert or replace a subscription, keyed by its filter.
    PutSubscription(SessionId, StoredSubscription),
    /// Remove a subscription.
    RemoveSubscription(SessionId, ByteString),
    /// Insert a message that some delivery refers to.
    PutMessage(MessageId, Arc<Message>),
    /// Remove a message that no delivery refers to any more.
    RemoveMessage(MessageId),
    /// Insert a delivery.
    PutDelivery(SessionId, StoredDelivery),
    /// A delivery moved on.
    SetPhase(SessionId, u64, Phase),
    /// A delivery is finished (or given up).
    RemoveDelivery(SessionId, u64),
    /// Remember an inbound QoS 2 packet id.
    PutReceived(SessionId, u16),
    /// Forget it: PUBREL came.
    RemoveReceived(SessionId, u16),
    /// Insert or replace the retained message of a topic.
    PutRetained(Arc<Message>),
    /// Clear the retained message of a topic.
    RemoveRetained(ByteString),
}

/// Everything that a store kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stored {
    /// Sessions, each with subscriptions, deliveries in order of sequence, and received QoS 2 ids.
    pub sessions: Vec<SessionRows>,
    /// Messages that deliveries refer to.
    pub messages: Vec<(MessageId, Arc<Message>)>,
    /// Retained messages.
    pub retained: Vec<Arc<Message>>,
}

impl Stored {
    /// Applies one change: what each [`Change`] means, for stores to be measured against.
    ///
    /// A change within a session that is not there does nothing. It searches lists: a reference, not a store.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::PutSession(row) => match self.session(row.id) {
                Some((session, ..)) => *session = row,
                None => self.sessions.push((row, Vec::new(), Vec::new(), Vec::new())),
            },
            Change::RemoveSession(id) => self.sessions.retain(|(session, ..)| session.id != id),
            Change::PutSubscription(id, row) => self.within(id, |subscriptions, _, _| {
                subscriptions.retain(|kept| kept.subscription.filter != row.subscription.filter);
                subscriptions.push(row);
            }),
            Change::RemoveSubscription(id, filter) => self.within(id, |subscriptions, _, _| {
                subscriptions.retain(|kept| kept.subscription.filter != filter);
            }),
            Change::PutMessage(id, message) => self.messages.push((id, message)),
            Change::RemoveMessage(id) => self.messages.retain(|(kept, _)| *kept != id),
            Change::PutDelivery(id, row) => self.within(id, |_, deliveries, _| deliveries.push(row)),
            Change::SetPhase(id, sequence, phase) => self.within(id, |_, deliveries, _| {
                deliveries
                    .iter_mut()
                    .filter(|row| row.sequence == sequence)
                    .for_each(|row| row.phase = phase);
            }),
            Change::RemoveDelivery(id, sequence) => self.within(id, |_, deliveries, _| {
                deliveries.retain(|row| row.sequence != sequence);
            }),
            Change::PutReceived(id, packet_id) => self.within(id, |_, _, received| received.push(packet_id)),
            Change::RemoveReceived(id, packet_id) => self.within(id, |_, _, received| {
                received.retain(|kept| *kept != packet_id);
            }),
            Change::PutRetained(message) => {
                self.retained.retain(|kept| kept.topic != message.topic);
                self.retained.push(message);
            }
            Change::RemoveRetained(topic) => self.retained.retain(|kept| kept.topic != topic),
        }
    }

    fn session(&mut self, id: SessionId) -> Option<&mut SessionRows> {
        self.sessions.iter_mut().find(|(session, ..)| session.id == id)
    }

    fn within(
        &mut self,
        id: SessionId,
        change: impl FnOnce(&mut Vec<StoredSubscription>, &mut Vec<StoredDelivery>, &mut Vec<u16>),
    ) {
        if let Some((_, subscriptions, deliveries, received)) = self.session(id) {
            change(subscriptions, deliveries, received);
        }
    }
}

/// A session with subscriptions, deliveries in order of sequence, and received QoS 2 ids.
pub type SessionRows = (StoredSession, Vec<StoredSubscription>, Vec<StoredDelivery>, Vec<u16>);
