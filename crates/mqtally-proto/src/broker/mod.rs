//! The server's side: sessions, subscriptions, retained messages, routing, expiry; a pure state machine.
//!
//! The caller owns the sockets, the clock and the disk, and keeps one order:
//!
//! 1. feed what happened: [`Broker::handle_packet`], [`Broker::handle_closed`], [`Broker::handle_timeout`], …, as
//!    many as are there;
//! 2. drain [`Broker::changes`] and commit them in one transaction;
//! 3. only then drain [`Broker::outputs`] and let the bytes out;
//! 4. sleep until [`Broker::poll_timeout`] or the next input.
//!
//! So no acknowledgement leaves before its effect is durable. After a restart [`Broker::restore`] takes what the
//! store kept.

use crate::Time;
use crate::packet::{Packet, Properties, Qos, Subscription, Version, Will};
use bytes::Bytes;
use bytestring::ByteString;
use std::sync::Arc;

/// The caller's number for a network connection; never used twice in the life of a [`Broker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The broker's number for a session in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The broker's number for a stored message; one message may be queued for many sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub u64);

/// What the broker allows. Every queue has a limit here, and an answer when it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet accepted, in bytes; announced, and answered with 0x95.
    pub packet_size_max: u32,
    /// QoS 1 and 2 messages that one client may have unacknowledged toward us; announced, and answered with 0x93.
    pub receive_maximum: u16,
    /// Unacknowledged QoS 1 and 2 messages that we keep on the way to one client, whatever it allows.
    pub in_flight_max: u16,
    /// Messages waiting for one session; a publish that does not fit is refused with 0x97 (5.0) or closes (3.1.1).
    pub queued_messages_max: usize,
    /// Bytes of payload and topic waiting for one session; same answer.
    pub queued_bytes_max: usize,
    /// Topic aliases that a client may set up on a connection.
    pub topic_alias_maximum: u16,
    /// Longest session expiry granted, seconds; announced when it is less than asked.
    pub session_expiry_max: u32,
    /// Expiry of a 3.1.1 session with Clean Session 0, seconds (3.1.1 has none of its own).
    pub session_expiry_v3: u32,
    /// Sessions, connected or not; CONNECT is refused with 0x97 above it.
    pub sessions_max: usize,
    /// Subscriptions of one session; SUBSCRIBE answered with 0x97 above it.
    pub subscriptions_max: usize,
    /// Retained messages in all; refused with 0x97 above it.
    pub retained_max: usize,
    /// Keep-alive imposed when a client asks for none or more, seconds; 0 imposes nothing.
    pub keep_alive_max: u16,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_size_max: 268_435_460,
            receive_maximum: 1_024,
            in_flight_max: 1_024,
            queued_messages_max: 100_000,
            queued_bytes_max: 256 << 20,
            topic_alias_maximum: 64,
            session_expiry_max: u32::MAX,
            session_expiry_v3: u32::MAX,
            sessions_max: 100_000,
            subscriptions_max: 10_000,
            retained_max: 100_000,
            keep_alive_max: 0,
        }
    }
}

/// How the broker is set up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// What is allowed.
    pub limits: Limits,
    /// Ask the caller to check every CONNECT ([`Output::Authenticate`]) instead of admitting everybody.
    pub authenticate: bool,
}

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
    pub sessions: Vec<(StoredSession, Vec<StoredSubscription>, Vec<StoredDelivery>, Vec<u16>)>,
    /// Messages that deliveries refer to.
    pub messages: Vec<(MessageId, Arc<Message>)>,
    /// Retained messages.
    pub retained: Vec<Arc<Message>>,
}

/// What the caller has to do, in order, after the changes are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write a packet to a connection.
    Send(ConnectionId, Packet),
    /// Flush what was written and close. Nothing more is sent on it and no input from it is wanted.
    Close(ConnectionId),
    /// Check a CONNECT's credentials and answer with [`Broker::handle_authenticated`].
    Authenticate(ConnectionId, Option<ByteString>, Option<Bytes>),
}
