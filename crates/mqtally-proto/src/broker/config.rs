//! How a broker is set up, and what it asks its caller to do.

use crate::packet::{PACKET_SIZE_MAX, Packet};
use bytes::Bytes;
use bytestring::ByteString;

/// The caller's number for a network connection; never used twice in the life of a [`super::Broker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What the broker allows. Every queue has a limit here, and an answer when it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet accepted, in bytes; announced where a packet can exceed it, and answered with 0x95.
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
            packet_size_max: PACKET_SIZE_MAX,
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

/// What the caller has to do, in order, after the changes are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write a packet to a connection.
    Send(ConnectionId, Packet),
    /// Flush what was written and close. Nothing more is sent on it and no input from it is wanted.
    Close(ConnectionId),
    /// Check a CONNECT's credentials and answer with [`super::Broker::handle_authenticated`].
    Authenticate(ConnectionId, Option<ByteString>, Option<Bytes>),
}
