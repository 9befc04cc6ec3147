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
//!
//! What the broker promises, beyond what the versions require:
//!
//! - A message is taken in whole or refused: when one of the sessions that it matches has no room, no session gets it.
//!   The answer is 0x97 in PUBACK or PUBREC; a 3.1.1 publisher is closed without acknowledgement. QoS 0 is never refused.
//! - QoS 2 messages are routed when PUBLISH comes, and never again until PUBREL.
//! - A session with overlapping subscriptions gets one copy of a message, at the highest QoS granted, with all
//!   subscription identifiers; a copy through a shared subscription is apart from it.
//! - Topics that begin with `$` belong to the server: publishing to them is answered with 0x87 and goes nowhere.
//!
//! What is deliberately absent: topic aliases toward clients, enhanced authentication (0x8C), reason strings and user
//! properties of the server's own, QoS 0 messages for clients that are away, and durable wills of sessions that end with
//! their connection: a crash forgets them with their session.

mod config;
mod connect;
mod connection;
mod deliver;
mod ledger;
mod publish;
mod restore;
mod retained;
mod router;
mod sessions;
mod shared;
mod stored;
mod subscribe;
mod timers;
mod will;

pub use config::{Config, ConnectionId, Limits, Output};
pub use stored::{
    Change, Message, MessageId, Phase, SessionId, SessionRows, Stored, StoredDelivery, StoredSession,
    StoredSubscription,
};

use connection::Connection;
use ledger::Ledger;
use retained::Retained;
use router::{Router, Target};
use rustc_hash::FxHashMap;
use sessions::Sessions;
use timers::Timers;

/// An MQTT server without I/O. The module's documentation says how it is driven.
///
/// ```
/// use mqtally_proto::Time;
/// use mqtally_proto::broker::{Broker, Config, ConnectionId, Output};
/// use mqtally_proto::packet::{Connect, Packet, Properties, Version};
/// let mut broker = Broker::new(Config::default());
/// let (now, connection) = (Time::from_ms(0), ConnectionId(1));
/// broker.handle_opened(now, connection);
/// let connect = Connect {
///     version: Version::V5_0,
///     clean_start: true,
///     keep_alive: 60,
///     client_id: "sensor-1".into(),
///     will: None,
///     username: None,
///     password: None,
///     properties: Properties::default(),
/// };
/// broker.handle_packet(now, connection, Packet::Connect(Box::new(connect)));
/// assert_eq!(broker.changes().count(), 0); // the session ends with its connection: nothing to store
/// let outputs: Vec<Output> = broker.outputs().collect();
/// assert!(matches!(&outputs[..], [Output::Send(_, Packet::Connack(_))]));
/// assert_eq!(broker.poll_timeout(), Some(Time::from_ms(90_000)));
/// ```
#[derive(Debug, Default)]
pub struct Broker {
    config: Config,
    connections: FxHashMap<ConnectionId, Connection>,
    sessions: Sessions,
    router: Router,
    retained: Retained,
    timers: Timers,
    ledger: Ledger,
    /// Lent to the message that is being routed.
    targets: Vec<Target>,
    last_session: u64,
    last_assigned: u64,
}

impl Broker {
    /// A broker without memory of an earlier life.
    pub fn new(config: Config) -> Self {
        Self { config, ..Self::default() }
    }

    /// What has to be made durable, in order, before [`Self::outputs`] are let out.
    pub fn changes(&mut self) -> std::vec::Drain<'_, Change> {
        self.ledger.changes.drain(..)
    }

    /// What has to be done, in order, once the changes are durable.
    ///
    /// Connections share no order; a caller whose client reads too slowly may drop QoS 0 PUBLISH packets.
    pub fn outputs(&mut self) -> std::vec::Drain<'_, Output> {
        self.ledger.outputs.drain(..)
    }
}
