//! CONNECT: who may come in, and which session it is.

use super::Broker;
use super::config::{ConnectionId, Limits, Output};
use super::connection::{Applicant, State};
use super::sessions::{Link, Session, SessionKey};
use super::stored::{Change, SessionId};
use crate::Time;
use crate::packet::{Connack, Connect, PACKET_SIZE_MAX, Packet, Properties, Property, ReasonCode, Version};
use bytestring::ByteString;

impl Broker {
    /// The caller's answer to [`Output::Authenticate`].
    pub fn handle_authenticated(&mut self, now: Time, connection: ConnectionId, accepted: bool) {
        let Some(known) = self.connections.get_mut(&connection) else { return };
        let Applicant { connect, packets, .. } = match std::mem::replace(&mut known.state, State::Opened) {
            State::Authenticating(applicant) => *applicant,
            other => return known.state = other,
        };
        if !accepted {
            return self.refuse(now, connection, connect.version, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
        }
        self.admit_client(now, connection, connect);
        for packet in packets {
            self.handle_packet(now, connection, packet);
        }
    }

    /// A client asks to come in.
    pub(super) fn apply(&mut self, now: Time, connection: ConnectionId, connect: Connect) {
        if let Some(reason) = objection(&connect) {
            return self.refuse(now, connection, connect.version, reason);
        }
        if !self.config.authenticate {
            return self.admit_client(now, connection, connect);
        }
        let credentials = (connect.username.clone(), connect.password.clone());
        if let Some(known) = self.connections.get_mut(&connection) {
            known.state = State::Authenticating(Box::new(Applicant::new(connect)));
            self.ledger.outputs.push(Output::Authenticate(connection, credentials.0, credentials.1));
        }
    }

    /// CONNACK with an error, then close `[MQTT-3.2.2-7]`.
    pub(super) fn refuse(
        &mut self,
        now: Time,
        connection: ConnectionId,
        version: Version,
        reason: ReasonCode,
    ) {
        let reason = match version {
            Version::V5_0 => reason,
            Version::V3_1_1 => v3_return_code(reason),
        };
        let connack = Connack { session_present: false, reason, properties: Properties::default() };
        self.ledger.send(connection, Packet::Connack(connack));
        self.close(now, connection);
    }

    fn admit_client(&mut self, now: Time, connection: ConnectionId, mut connect: Connect) {
        // A session that is over must not be resumed because nobody has looked at the clock.
        self.handle_timeout(now);
        if !self.connections.contains_key(&connection) {
            return;
        }
        if self.is_full_for(&connect.client_id) {
            return self.refuse(now, connection, connect.version, ReasonCode::QUOTA_EXCEEDED);
        }
        let mut properties = announced(&self.config.limits);
        if connect.client_id.is_empty() {
            connect.client_id = self.unused_client_id();
            properties.push(Property::AssignedClientIdentifier(connect.client_id.clone()));
        }
        let keep_alive = self.imposed_keep_alive(&connect);
        if keep_alive != connect.keep_alive {
            properties.push(Property::ServerKeepAlive(keep_alive));
        }
        let asked = asked_expiry(&connect, &self.config.limits);
        let expiry = asked.min(self.config.limits.session_expiry_max);
        if expiry != asked {
            properties.push(Property::SessionExpiryInterval(expiry));
        }
        if connect.version == Version::V3_1_1 {
            properties.clear();
        }
        let (key, session_present) = self.take_up_session(now, &connect);
        if let Some(known) = self.connections.get_mut(&connection) {
            known.state = State::Connected(key);
        }
        self.watch(now, connection, silence_ms_max(keep_alive));
        let connack =
            Connack { session_present, reason: ReasonCode::SUCCESS, properties: Properties(properties) };
        self.ledger.send(connection, Packet::Connack(connack));
        self.link(now, connection, key, connect, expiry);
    }

    /// The client's session: the one it left, if it is still there and wanted, or a new one; and whether it is an old one.
    fn take_up_session(&mut self, now: Time, connect: &Connect) -> (SessionKey, bool) {
        if let Some(link) = self.sessions.find(&connect.client_id).and_then(|key| self.sessions[key].link) {
            self.fail(now, link.connection, ReasonCode::SESSION_TAKEN_OVER);
        }
        // Without expiry, the session that was taken over has ended with its connection.
        if let Some(key) = self.sessions.find(&connect.client_id) {
            if !connect.clean_start {
                self.stop_waiting(key);
                return (key, true);
            }
            self.end_session(now, key);
        }
        self.last_session += 1;
        let session = Session::new(SessionId(self.last_session), connect.client_id.clone(), connect.version);
        (self.sessions.insert(session), false)
    }

    /// Puts the session on its connection and goes on where it stood.
    fn link(&mut self, now: Time, connection: ConnectionId, key: SessionKey, connect: Connect, expiry: u32) {
        if expiry == 0 && self.sessions[key].is_durable() {
            self.make_transient(key);
        }
        let receive_maximum = connect.properties.receive_maximum().unwrap_or(u16::MAX);
        let session = &mut self.sessions[key];
        session.version = connect.version;
        session.expiry_interval = expiry;
        session.disconnected_at = None;
        session.will = connect.will;
        session.link = Some(Link {
            connection,
            window: usize::from(receive_maximum.min(self.config.limits.in_flight_max).max(1)),
            packet_size_max: connect.properties.maximum_packet_size().unwrap_or(u32::MAX),
        });
        if session.is_durable() {
            self.ledger.changes.push(Change::PutSession(session.row()));
        }
        session.resume(now, &mut self.ledger);
    }

    fn is_full_for(&self, client_id: &str) -> bool {
        self.sessions.len() >= self.config.limits.sessions_max && self.sessions.find(client_id).is_none()
    }

    /// 3.1.1 has no way to tell a client that its keep-alive was changed, so only 5.0 clients get another one.
    fn imposed_keep_alive(&self, connect: &Connect) -> u16 {
        let max = self.config.limits.keep_alive_max;
        let exceeds = connect.keep_alive == 0 || connect.keep_alive > max;
        if max > 0 && exceeds && connect.version == Version::V5_0 { max } else { connect.keep_alive }
    }

    fn unused_client_id(&mut self) -> ByteString {
        loop {
            self.last_assigned += 1;
            let id = format!("mqtally-{}", self.last_assigned);
            if self.sessions.find(&id).is_none() {
                return id.into();
            }
        }
    }
}

/// Why a client cannot come in, whoever it is.
fn objection(connect: &Connect) -> Option<ReasonCode> {
    let nameless = connect.client_id.is_empty();
    if connect.properties.authentication_method().is_some() {
        Some(ReasonCode::BAD_AUTHENTICATION_METHOD)
    } else if nameless && connect.version == Version::V3_1_1 && !connect.clean_start {
        // Nobody could come back to such a session `[MQTT-3.1.3-8]`.
        Some(ReasonCode::CLIENT_IDENTIFIER_NOT_VALID)
    } else if connect.will.as_ref().is_some_and(|will| will.topic.starts_with('$')) {
        Some(ReasonCode::NOT_AUTHORIZED)
    } else {
        None
    }
}

/// The expiry interval that a client asks for, seconds; Clean Session 0 of 3.1.1 asks for the configured one.
fn asked_expiry(connect: &Connect, limits: &Limits) -> u32 {
    match connect.version {
        Version::V5_0 => connect.properties.session_expiry_interval().unwrap_or(0),
        Version::V3_1_1 if connect.clean_start => 0,
        Version::V3_1_1 => limits.session_expiry_v3,
    }
}

/// What every 5.0 client is told of our limits; what is not said is the protocol's default.
fn announced(limits: &Limits) -> Vec<Property> {
    let packet_size_max = limits.packet_size_max.max(1);
    let mut properties = vec![
        Property::ReceiveMaximum(limits.receive_maximum.max(1)),
        Property::TopicAliasMaximum(limits.topic_alias_maximum),
    ];
    properties
        .extend((packet_size_max < PACKET_SIZE_MAX).then_some(Property::MaximumPacketSize(packet_size_max)));
    properties
}

/// One and a half times the keep-alive `[MQTT-3.1.2-22]`; 0 turns it off.
fn silence_ms_max(keep_alive: u16) -> Option<u64> {
    (keep_alive > 0).then(|| u64::from(keep_alive) * 1_500)
}

/// The reason whose meaning 3.1.1 has a return code for.
fn v3_return_code(reason: ReasonCode) -> ReasonCode {
    match reason {
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION
        | ReasonCode::CLIENT_IDENTIFIER_NOT_VALID
        | ReasonCode::BAD_USER_NAME_OR_PASSWORD
        | ReasonCode::NOT_AUTHORIZED => reason,
        _ => ReasonCode::SERVER_UNAVAILABLE,
    }
}
