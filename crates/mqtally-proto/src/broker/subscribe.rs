//! SUBSCRIBE and UNSUBSCRIBE.

use super::Broker;
use super::config::ConnectionId;
use super::deliver::{Hop, Parcel};
use super::router::Grant;
use super::sessions::SessionKey;
use super::shared::shared;
use super::stored::{Change, Message, StoredSubscription};
use crate::Time;
use crate::packet::{
    Packet, Properties, Qos, ReasonCode, RetainHandling, Suback, Subscribe, Subscription, Unsuback,
    Unsubscribe, Version,
};
use crate::topic::{self, Shared};
use std::sync::Arc;

/// Retained messages that a SUBSCRIBE asks for, to be sent after its SUBACK.
#[derive(Default)]
struct Awaited {
    copies: Vec<(Arc<Message>, Hop)>,
    bytes: usize,
}

impl Awaited {
    fn push(&mut self, message: &Arc<Message>, granted: Qos, identifier: Option<u32>) {
        let hop = Hop {
            qos: message.qos.min(granted),
            retain: true,
            identifiers: identifier.into_iter().collect(),
        };
        self.bytes += message.size();
        self.copies.push((message.clone(), hop));
    }
}

impl Broker {
    pub(super) fn subscribe(
        &mut self,
        now: Time,
        connection: ConnectionId,
        key: SessionKey,
        packet: Subscribe,
    ) {
        let identifier = packet.properties.subscription_identifiers().next();
        let unlawful = |filter: &Subscription| filter.no_local && filter.filter.starts_with("$share/");
        if identifier == Some(0) || packet.filters.is_empty() || packet.filters.iter().any(unlawful) {
            return self.fail(now, connection, ReasonCode::PROTOCOL_ERROR);
        }
        let mut awaited = Awaited::default();
        let filters = packet.filters.into_iter();
        let reasons =
            filters.map(|wanted| self.subscribe_to(now, key, wanted, identifier, &mut awaited)).collect();
        let suback = Suback { packet_id: packet.packet_id, properties: Properties::default(), reasons };
        self.ledger.send(connection, Packet::Suback(suback));
        let session = &mut self.sessions[key];
        for (message, hop) in awaited.copies {
            session.deliver(now, &mut Parcel::new(message), hop, &mut self.ledger);
        }
    }

    pub(super) fn unsubscribe(&mut self, connection: ConnectionId, key: SessionKey, packet: Unsubscribe) {
        let session = &mut self.sessions[key];
        let mut reasons = Vec::new();
        for filter in packet.filters {
            let existed = session.subscriptions.remove(&filter).is_some();
            if existed {
                self.router.unsubscribe(key, &filter);
                if session.is_durable() {
                    self.ledger.changes.push(Change::RemoveSubscription(session.id, filter));
                }
            }
            reasons.push(if existed { ReasonCode::SUCCESS } else { ReasonCode::NO_SUBSCRIPTION_EXISTED });
        }
        if session.version == Version::V3_1_1 {
            reasons.clear();
        }
        let unsuback = Unsuback { packet_id: packet.packet_id, properties: Properties::default(), reasons };
        self.ledger.send(connection, Packet::Unsuback(unsuback));
    }

    /// Grants one filter, in place of an earlier subscription to the same one `[MQTT-3.8.4-3]`.
    fn subscribe_to(
        &mut self,
        now: Time,
        key: SessionKey,
        wanted: Subscription,
        identifier: Option<u32>,
        awaited: &mut Awaited,
    ) -> ReasonCode {
        let session = &self.sessions[key];
        let refused =
            |reason| if session.version == Version::V5_0 { reason } else { ReasonCode::UNSPECIFIED_ERROR };
        if topic::validate_filter(&wanted.filter).is_err() || Shared::parse(&wanted.filter).is_err() {
            return refused(ReasonCode::TOPIC_FILTER_INVALID);
        }
        let is_new = !session.subscriptions.contains_key(&wanted.filter);
        if is_new && session.subscriptions.len() >= self.config.limits.subscriptions_max {
            return refused(ReasonCode::QUOTA_EXCEEDED);
        }
        if !self.await_retained(now, key, &wanted, is_new, identifier, awaited) {
            return refused(ReasonCode::QUOTA_EXCEEDED);
        }
        let granted = ReasonCode(wanted.qos as u8);
        self.insert_subscription(key, StoredSubscription { subscription: wanted, identifier });
        granted
    }

    /// Collects the retained messages that the subscription is to get; false when the session has no room for them.
    fn await_retained(
        &self,
        now: Time,
        key: SessionKey,
        wanted: &Subscription,
        is_new: bool,
        identifier: Option<u32>,
        awaited: &mut Awaited,
    ) -> bool {
        let send = match wanted.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if !send || shared(&wanted.filter).is_some() {
            return true;
        }
        let (session, limits) = (&self.sessions[key], &self.config.limits);
        let (copies, bytes) = (awaited.copies.len(), awaited.bytes);
        for message in self.retained.matching(&wanted.filter, now) {
            if wanted.no_local && message.publisher == session.client_id {
                continue;
            }
            awaited.push(message, wanted.qos, identifier);
            if !session.can_queue(awaited.copies.len(), awaited.bytes, limits) {
                awaited.copies.truncate(copies);
                awaited.bytes = bytes;
                return false;
            }
        }
        true
    }

    fn insert_subscription(&mut self, key: SessionKey, row: StoredSubscription) {
        let session = &self.sessions[key];
        if session.is_durable() {
            self.ledger.changes.push(Change::PutSubscription(session.id, row.clone()));
        }
        self.restore_subscription(key, row);
    }

    /// Takes in a subscription that the store has.
    pub(super) fn restore_subscription(&mut self, key: SessionKey, row: StoredSubscription) {
        let wanted = &row.subscription;
        let grant = Grant {
            qos: wanted.qos,
            no_local: wanted.no_local,
            retain_as_published: wanted.retain_as_published,
            identifier: row.identifier,
        };
        self.router.subscribe(key, &wanted.filter, grant);
        self.sessions[key].subscriptions.insert(wanted.filter.clone(), row);
    }
}
