//! From a store to a broker, and back.

use super::Broker;
use super::config::Config;
use super::deliver::{Delivery, Hop};
use super::sessions::Session;
use super::stored::{Change, Message, MessageId, Phase, SessionRows, Stored, StoredDelivery};
use crate::Time;
use crate::inflight::Stage;
use rustc_hash::FxHashMap;
use std::sync::Arc;

type Messages = FxHashMap<MessageId, Arc<Message>>;

impl Broker {
    /// The broker after a restart.
    ///
    /// Sessions that were connected count as disconnected at `now`. Deliveries that had begun are taken up again, with
    /// the same packet ids, when their client resumes. Sessions, messages and wills that are over come due at the first
    /// [`Self::handle_timeout`] or when they are next looked at. A delivery whose message the store has lost is dropped.
    pub fn restore(config: Config, stored: Stored, now: Time) -> Self {
        let mut broker = Self::new(config);
        let messages: Messages = stored.messages.into_iter().collect();
        for &id in messages.keys() {
            broker.ledger.reserve(id);
        }
        for message in stored.retained {
            broker.retained.restore(message);
        }
        for rows in stored.sessions {
            broker.restore_session(now, rows, &messages);
        }
        broker
    }

    /// What a store of this broker should hold: all changes so far, applied in order to an empty [`Stored`].
    ///
    /// Sessions and messages stand in the order of their numbers, deliveries in that of their sequence, the rest in
    /// alphabetical order, so that equal states are equal values. It copies everything: for checks, not for every commit.
    pub fn stored(&self) -> Stored {
        let mut messages = Messages::default();
        let mut sessions = Vec::new();
        for (_, session) in self.sessions.iter().filter(|(_, session)| session.is_durable()) {
            messages.extend(session.stored_messages());
            let subscriptions = session.subscriptions.values().cloned().collect();
            sessions.push((
                session.row(),
                subscriptions,
                session.delivery_rows(),
                session.inbound.to_sorted(),
            ));
        }
        sessions.sort_unstable_by_key(|(session, ..)| session.id);
        let mut messages: Vec<_> = messages.into_iter().collect();
        messages.sort_unstable_by_key(|(id, _)| *id);
        Stored { sessions, messages, retained: self.retained.iter().cloned().collect() }
    }

    fn restore_session(&mut self, now: Time, rows: SessionRows, messages: &Messages) {
        let (row, subscriptions, deliveries, received) = rows;
        self.last_session = self.last_session.max(row.id.0);
        let mut session = Session::new(row.id, row.client_id, row.version);
        session.expiry_interval = row.expiry_interval;
        session.will = row.will;
        let since = row.disconnected_at.unwrap_or(now);
        session.disconnected_at = Some(since);
        if row.disconnected_at.is_none() {
            self.ledger.changes.push(Change::PutSession(session.row()));
        }
        for id in received {
            session.inbound.insert(id);
        }
        for delivery in deliveries {
            self.restore_delivery(&mut session, delivery, messages);
        }
        let key = self.sessions.insert(session);
        for subscription in subscriptions {
            self.restore_subscription(key, subscription);
        }
        self.await_return(key, since);
    }

    fn restore_delivery(&mut self, session: &mut Session, row: StoredDelivery, messages: &Messages) {
        session.next_sequence = session.next_sequence.max(row.sequence);
        let Some(message) = messages.get(&row.message) else {
            return self.ledger.changes.push(Change::RemoveDelivery(session.id, row.sequence));
        };
        let delivery = Delivery {
            sequence: row.sequence,
            message: message.clone(),
            message_id: Some(row.message),
            hop: Hop { qos: row.qos, retain: row.retain, identifiers: row.subscription_ids },
        };
        let restored = match row.phase {
            Phase::Queued => {
                session.queue.push(delivery);
                Ok(())
            }
            Phase::Published(id) => session.outbound.restore(id, row.qos, Stage::Published, delivery),
            Phase::Released(id) => session.outbound.restore(id, row.qos, Stage::Released, delivery),
        };
        match restored {
            Ok(()) => self.ledger.restore_reference(row.message),
            Err(_) => self.ledger.changes.push(Change::RemoveDelivery(session.id, row.sequence)),
        }
    }
}
