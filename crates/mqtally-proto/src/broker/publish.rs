//! PUBLISH and PUBREL from clients: admitting a message, routing it, answering for it.
//!
//! A message is taken in whole or not at all: every session that it would go to is asked for room before anything is
//! stored. QoS 2 messages are routed when PUBLISH comes; the packet id is remembered until PUBREL, so the same id is
//! answered again and not routed again.

use super::Broker;
use super::config::ConnectionId;
use super::deliver::{Hop, Parcel, unknown_id};
use super::router::Target;
use super::sessions::SessionKey;
use super::stored::{Change, Message};
use crate::Time;
use crate::packet::{Ack, Packet, Properties, Property, Publish, Qos, ReasonCode, Version};
use bytestring::ByteString;
use std::sync::Arc;

/// What the properties of a PUBLISH (or a will) say.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Those that travel with the message, in order.
    pub(super) properties: Properties,
    pub(super) expiry_interval: Option<u32>,
    topic_alias: Option<u16>,
    /// A client must not send subscription identifiers `[MQTT-3.3.4-6]`.
    has_subscription_identifier: bool,
}

impl Content {
    pub(super) fn new(mut properties: Properties) -> Self {
        let mut content = Self::default();
        properties.0.retain(|property| {
            match property {
                Property::MessageExpiryInterval(seconds) => content.expiry_interval = Some(*seconds),
                Property::TopicAlias(alias) => content.topic_alias = Some(*alias),
                Property::SubscriptionIdentifier(_) => content.has_subscription_identifier = true,
                Property::WillDelayInterval(_) => {}
                _ => return true,
            }
            false
        });
        content.properties = properties;
        content
    }
}

impl Broker {
    pub(super) fn publish(&mut self, now: Time, connection: ConnectionId, key: SessionKey, publish: Publish) {
        let (qos, id, dup) = (publish.qos, publish.packet_id.unwrap_or(0), publish.dup);
        let message = match self.admit(now, connection, key, publish) {
            Ok(message) => message,
            Err(reason) => return self.fail(now, connection, reason),
        };
        let reason = match qos {
            Qos::ExactlyOnce => match self.receive(key, id, dup) {
                Received::New => self.route(now, Some(key), &message),
                Received::Repeated => ReasonCode::SUCCESS,
                Received::TooMany => return self.fail(now, connection, ReasonCode::RECEIVE_MAXIMUM_EXCEEDED),
            },
            Qos::AtMostOnce | Qos::AtLeastOnce => self.route(now, Some(key), &message),
        };
        self.answer(now, connection, key, qos, id, reason);
    }

    /// PUBREL is always answered, also for an id that is not known `[MQTT-4.3.3-11]`.
    pub(super) fn pubrel(&mut self, connection: ConnectionId, key: SessionKey, ack: &Ack) {
        let session = &mut self.sessions[key];
        let id = ack.packet_id;
        let reason = if session.inbound.release(id) {
            if session.is_durable() {
                self.ledger.changes.push(Change::RemoveReceived(session.id, id));
            }
            ReasonCode::SUCCESS
        } else {
            unknown_id(session.version)
        };
        self.ledger.send(connection, Packet::Pubcomp(Ack::with_reason(id, reason)));
    }

    /// Gives a message to every session that has room for it: for messages that nobody can be refused.
    pub(super) fn route_to_those_with_room(&mut self, now: Time, message: &Arc<Message>) {
        let publisher = self.sessions.find(&message.publisher);
        let mut targets = self.targets(message, publisher);
        targets.retain(|target| self.make_room(now, message, target));
        let retain = self.can_retain(now, message);
        self.deliver_to(now, message, retain, targets);
    }

    /// The message of a PUBLISH, or the reason to end the connection for.
    fn admit(
        &mut self,
        now: Time,
        connection: ConnectionId,
        key: SessionKey,
        publish: Publish,
    ) -> Result<Arc<Message>, ReasonCode> {
        let content = Content::new(publish.properties);
        if content.has_subscription_identifier {
            return Err(ReasonCode::PROTOCOL_ERROR);
        }
        let topic = self.resolve_alias(connection, publish.topic, content.topic_alias)?;
        Ok(Arc::new(Message {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: content.properties,
            expires_at: content.expiry_interval.map(|seconds| now.plus_secs(seconds.into())),
            publisher: self.sessions[key].client_id.clone(),
        }))
    }

    /// The topic that a PUBLISH means; an alias lives as long as its connection `[MQTT-3.3.2-7]`.
    fn resolve_alias(
        &mut self,
        connection: ConnectionId,
        topic: ByteString,
        alias: Option<u16>,
    ) -> Result<ByteString, ReasonCode> {
        let Some(alias) = alias else {
            return if topic.is_empty() { Err(ReasonCode::PROTOCOL_ERROR) } else { Ok(topic) };
        };
        if alias == 0 || alias > self.config.limits.topic_alias_maximum {
            return Err(ReasonCode::TOPIC_ALIAS_INVALID);
        }
        let aliases = self.connections.get_mut(&connection).map(|connection| &mut connection.aliases);
        let aliases = aliases.ok_or(ReasonCode::UNSPECIFIED_ERROR)?;
        if topic.is_empty() {
            return aliases.get(&alias).cloned().ok_or(ReasonCode::PROTOCOL_ERROR);
        }
        aliases.insert(alias, topic.clone());
        Ok(topic)
    }

    /// Whether a QoS 2 packet id is new. A client that sends again may overshoot its quota: what it believes to be
    /// unfinished may be finished here, and refusing it would only have it try the same again.
    fn receive(&mut self, key: SessionKey, id: u16, dup: bool) -> Received {
        let session = &self.sessions[key];
        if session.inbound.contains(id) {
            return Received::Repeated;
        }
        let full = session.inbound.len() >= usize::from(self.config.limits.receive_maximum.max(1));
        if full && !dup && session.version == Version::V5_0 { Received::TooMany } else { Received::New }
    }

    /// Routes a message to all sessions that want it, or to none and says why.
    fn route(&mut self, now: Time, publisher: Option<SessionKey>, message: &Arc<Message>) -> ReasonCode {
        if message.topic.starts_with('$') {
            return ReasonCode::NOT_AUTHORIZED;
        }
        let targets = self.targets(message, publisher);
        let retain = self.can_retain(now, message);
        let accepted = retain && targets.iter().all(|target| self.make_room(now, message, target));
        if message.qos != Qos::AtMostOnce && !accepted {
            self.targets = targets;
            return ReasonCode::QUOTA_EXCEEDED;
        }
        let matched = !targets.is_empty();
        self.deliver_to(now, message, retain, targets);
        if matched { ReasonCode::SUCCESS } else { ReasonCode::NO_MATCHING_SUBSCRIBERS }
    }

    fn targets(&mut self, message: &Message, publisher: Option<SessionKey>) -> Vec<Target> {
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        self.router.match_topic(&message.topic, publisher, &mut targets);
        let (sessions, limits) = (&self.sessions, &self.config.limits);
        let rank = |key, qos| sessions[key].rank(message, message.qos.min(qos), limits);
        self.router.choose_members(rank, &mut targets);
        targets
    }

    fn can_retain(&mut self, now: Time, message: &Message) -> bool {
        let max = self.config.limits.retained_max;
        !message.retain || self.retained.has_room(message, max, now, &mut self.ledger.changes)
    }

    /// Whether a session can take its copy; if it is full of expired messages, they make way.
    fn make_room(&mut self, now: Time, message: &Message, target: &Target) -> bool {
        let limits = &self.config.limits;
        let session = &mut self.sessions[target.session];
        let qos = message.qos.min(target.qos);
        session.has_room(message, qos, limits) || {
            session.sweep(now, &mut self.ledger);
            session.has_room(message, qos, limits)
        }
    }

    /// Gives the message to its targets, and retains it if it is to be and there is room.
    ///
    /// Each target had room for its copy, but one session may be several: as an ordinary subscriber and in shared groups.
    /// It gets all of them, past its limit if need be, for there is no taking back.
    fn deliver_to(&mut self, now: Time, message: &Arc<Message>, retain: bool, mut targets: Vec<Target>) {
        if message.retain && retain {
            self.retained.put(message, &mut self.ledger.changes);
        }
        let mut parcel = Parcel::new(message.clone());
        for target in targets.drain(..) {
            let hop = Hop {
                qos: message.qos.min(target.qos),
                retain: message.retain && target.retain_as_published,
                identifiers: target.identifiers,
            };
            self.sessions[target.session].deliver(now, &mut parcel, hop, &mut self.ledger);
        }
        self.targets = targets;
    }

    fn answer(
        &mut self,
        now: Time,
        connection: ConnectionId,
        key: SessionKey,
        qos: Qos,
        id: u16,
        reason: ReasonCode,
    ) {
        let session = &mut self.sessions[key];
        let reason = match session.version {
            Version::V5_0 => reason,
            // 3.1.1 cannot refuse: what does not fit closes the connection, unacknowledged; what is not allowed is
            // acknowledged and goes nowhere `[MQTT-3.3.5-2]`.
            Version::V3_1_1 if reason == ReasonCode::QUOTA_EXCEEDED && qos != Qos::AtMostOnce => {
                return self.fail(now, connection, reason);
            }
            Version::V3_1_1 => ReasonCode::SUCCESS,
        };
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.ledger.send(connection, Packet::Puback(Ack::with_reason(id, reason))),
            Qos::ExactlyOnce => {
                if !reason.is_error() && session.inbound.insert(id) && session.is_durable() {
                    self.ledger.changes.push(Change::PutReceived(session.id, id));
                }
                self.ledger.send(connection, Packet::Pubrec(Ack::with_reason(id, reason)));
            }
        }
    }
}

enum Received {
    New,
    Repeated,
    TooMany,
}
