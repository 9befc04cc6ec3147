//! Network connections: from TCP accept to close, and what each may say when.

use super::Broker;
use super::config::{ConnectionId, Output};
use super::sessions::{SessionKey, WillFate};
use super::timers::Timer;
use crate::Time;
use crate::packet::{Connect, DecodeError, Disconnect, Packet, Properties, ReasonCode, Version};
use bytestring::ByteString;
use rustc_hash::FxHashMap;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    /// How long the client may be silent, milliseconds; `None` for ever.
    silence_ms_max: Option<u64>,
    heard_at: Time,
    /// When [`Timer::Silence`] stands.
    pub(super) timer_at: Option<Time>,
    pub(super) aliases: FxHashMap<u16, ByteString>,
}

#[derive(Debug)]
pub(super) enum State {
    /// CONNECT has not come.
    Opened,
    /// The caller is checking the CONNECT.
    Authenticating(Box<Applicant>),
    /// CONNACK was sent.
    Connected(SessionKey),
}

/// A client whose credentials are being checked, and what it has sent in the meantime `[MQTT-3.1.4-6]`.
#[derive(Debug)]
pub(super) struct Applicant {
    pub(super) connect: Connect,
    pub(super) packets: Vec<Packet>,
    bytes: usize,
}

/// How long a connection may take to send CONNECT and to be authenticated, milliseconds.
const CONNECT_MS_MAX: u64 = 10_000;
/// What is kept of a client whose credentials are being checked; with more it is closed.
const APPLICANT_PACKETS_MAX: usize = 64;
const APPLICANT_BYTES_MAX: usize = 1 << 20;

impl Connection {
    /// When the client will have been silent for too long, as far as is known.
    pub(super) fn silent_until(&self) -> Option<Time> {
        self.silence_ms_max.map(|ms| self.heard_at.plus_ms(ms))
    }
}

impl Broker {
    /// A network connection was accepted; its CONNECT has to come within ten seconds.
    pub fn handle_opened(&mut self, now: Time, connection: ConnectionId) {
        let opened = Connection {
            state: State::Opened,
            silence_ms_max: None,
            heard_at: now,
            timer_at: None,
            aliases: FxHashMap::default(),
        };
        self.connections.insert(connection, opened);
        self.watch(now, connection, Some(CONNECT_MS_MAX));
    }

    /// A packet came in. Packets of a connection that was closed are ignored.
    ///
    /// What is kept of it (a retained or waiting message, a filter) keeps the buffer alive that it was decoded from: read
    /// into buffers that are small beside [`Limits::queued_bytes_max`](super::Limits::queued_bytes_max).
    pub fn handle_packet(&mut self, now: Time, connection: ConnectionId, packet: Packet) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        match (&mut known.state, packet) {
            (State::Connected(key), packet) => {
                let key = *key;
                known.heard_at = now;
                self.handle_connected(now, connection, key, packet);
            }
            (State::Opened, Packet::Connect(connect)) => self.apply(now, connection, *connect),
            (State::Opened, _) => self.close(now, connection),
            (State::Authenticating(applicant), packet) => {
                applicant.bytes += weight(&packet);
                applicant.packets.push(packet);
                if applicant.packets.len() > APPLICANT_PACKETS_MAX || applicant.bytes > APPLICANT_BYTES_MAX {
                    self.close(now, connection);
                }
            }
        }
    }

    /// Bytes came in that are no lawful packet: says why where the version has a packet for it, and closes
    /// `[MQTT-4.13.1-1]`.
    ///
    /// A CONNACK that refuses an unknown protocol version goes out in the 3.1.1 form when no version is known.
    pub fn handle_malformed(&mut self, now: Time, connection: ConnectionId, error: &DecodeError) {
        let Some(known) = self.connections.get(&connection) else { return };
        match known.state {
            State::Opened if error.reason == ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => {
                self.refuse(now, connection, Version::V3_1_1, error.reason);
            }
            State::Opened | State::Authenticating(_) => self.close(now, connection),
            State::Connected(_) => self.fail(now, connection, error.reason),
        }
    }

    /// The network connection is gone without DISCONNECT.
    pub fn handle_closed(&mut self, now: Time, connection: ConnectionId) {
        self.forget(now, connection, WillFate::Publish);
    }

    /// The broker stops: says so to 5.0 clients (0x8B) and closes every connection. Durable sessions stay as they are;
    /// wills are published or wait, as after any lost connection.
    pub fn handle_shutdown(&mut self, now: Time) {
        let mut ids: Vec<ConnectionId> = self.connections.keys().copied().collect();
        ids.sort_unstable();
        for &id in &ids {
            self.say_goodbye(id, ReasonCode::SERVER_SHUTTING_DOWN);
            self.ledger.outputs.push(Output::Close(id));
        }
        // All are cut before the first will is published: it must not go out on a connection that was closed.
        for &id in &ids {
            if let Some(State::Connected(key)) = self.connections.get(&id).map(|connection| &connection.state)
            {
                self.sessions[*key].link = None;
            }
        }
        for id in ids {
            self.forget(now, id, WillFate::Publish);
        }
    }

    fn handle_connected(&mut self, now: Time, connection: ConnectionId, key: SessionKey, packet: Packet) {
        match packet {
            Packet::Publish(publish) => self.publish(now, connection, key, publish),
            Packet::Puback(ack) => self.puback(now, key, &ack),
            Packet::Pubrec(ack) => self.pubrec(now, connection, key, &ack),
            Packet::Pubrel(ack) => self.pubrel(connection, key, &ack),
            Packet::Pubcomp(ack) => self.pubcomp(now, key, &ack),
            Packet::Subscribe(subscribe) => self.subscribe(now, connection, key, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(connection, key, unsubscribe),
            Packet::Pingreq => self.ledger.send(connection, Packet::Pingresp),
            Packet::Disconnect(disconnect) => self.disconnect(now, connection, key, &disconnect),
            // A second CONNECT `[MQTT-3.1.0-2]`, AUTH without an authentication method `[MQTT-4.12.0-7]`, and what only
            // servers send.
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp
            | Packet::Auth(_) => self.fail(now, connection, ReasonCode::PROTOCOL_ERROR),
        }
    }

    /// The client takes leave; it may change its session's expiry, unless that was 0.
    fn disconnect(&mut self, now: Time, connection: ConnectionId, key: SessionKey, packet: &Disconnect) {
        let session = &mut self.sessions[key];
        match packet.properties.session_expiry_interval() {
            Some(seconds) if seconds > 0 && !session.is_durable() => {
                return self.fail(now, connection, ReasonCode::PROTOCOL_ERROR);
            }
            Some(0) if session.is_durable() => self.make_transient(key),
            Some(seconds) => session.expiry_interval = seconds.min(self.config.limits.session_expiry_max),
            None => {}
        }
        let kept = packet.reason != ReasonCode::SUCCESS;
        self.ledger.outputs.push(Output::Close(connection));
        self.forget(now, connection, if kept { WillFate::Publish } else { WillFate::Discard });
    }

    /// Ends a connection for `reason`; its will is published.
    pub(super) fn fail(&mut self, now: Time, connection: ConnectionId, reason: ReasonCode) {
        self.say_goodbye(connection, reason);
        self.close(now, connection);
    }

    pub(super) fn close(&mut self, now: Time, connection: ConnectionId) {
        if self.connections.contains_key(&connection) {
            self.ledger.outputs.push(Output::Close(connection));
            self.forget(now, connection, WillFate::Publish);
        }
    }

    /// Allows a connection to be silent for so long, counted from now.
    pub(super) fn watch(&mut self, now: Time, id: ConnectionId, silence_ms_max: Option<u64>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        self.timers.stop(connection.timer_at.take(), Timer::Silence(id));
        connection.heard_at = now;
        connection.silence_ms_max = silence_ms_max;
        connection.timer_at = connection.silent_until();
        self.timers.start(connection.timer_at, Timer::Silence(id));
    }

    /// DISCONNECT, to a connected 5.0 client; 3.1.1 servers have none.
    pub(super) fn say_goodbye(&mut self, id: ConnectionId, reason: ReasonCode) {
        let Some(State::Connected(key)) = self.connections.get(&id).map(|connection| &connection.state)
        else {
            return;
        };
        if self.sessions[*key].version == Version::V5_0 {
            let disconnect = Disconnect { reason, properties: Properties::default() };
            self.ledger.send(id, Packet::Disconnect(disconnect));
        }
    }

    fn forget(&mut self, now: Time, id: ConnectionId, fate: WillFate) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.timers.stop(connection.timer_at, Timer::Silence(id));
        if let State::Connected(key) = connection.state {
            self.leave(now, key, fate);
        }
    }
}

impl Applicant {
    pub(super) fn new(connect: Connect) -> Self {
        Self { connect, packets: Vec::new(), bytes: 0 }
    }
}

/// About the bytes that a kept packet holds.
fn weight(packet: &Packet) -> usize {
    match packet {
        Packet::Publish(publish) => publish.topic.len() + publish.payload.len(),
        Packet::Subscribe(subscribe) => subscribe.filters.iter().map(|filter| filter.filter.len()).sum(),
        Packet::Unsubscribe(unsubscribe) => unsubscribe.filters.iter().map(|filter| filter.len()).sum(),
        _ => 0,
    }
}
