//! The changes of one batch, reduced to what has to reach the disk.

use super::rows::{Flow, Flows};
use bytestring::ByteString;
use mqtally_proto::broker::{
    Change, Message, MessageId, Phase, SessionId, StoredDelivery, StoredSession, StoredSubscription,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the next transaction writes. Ordered maps, so that rows are written in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) sessions: BTreeMap<SessionId, PendingSession>,
    /// `None`: the stored message goes.
    pub(super) messages: BTreeMap<MessageId, Option<Arc<Message>>>,
    /// `None`: the topic's retained message goes.
    pub(super) retained: BTreeMap<ByteString, Option<Arc<Message>>>,
}

/// What the next transaction writes of one session.
#[derive(Debug, Default)]
pub(super) struct PendingSession {
    /// Everything stored of it goes first.
    pub(super) removed: bool,
    pub(super) row: Option<StoredSession>,
    pub(super) subscriptions: BTreeMap<ByteString, Option<StoredSubscription>>,
    pub(super) deliveries: BTreeMap<u64, Option<StoredDelivery>>,
    pub(super) flow_changed: bool,
}

impl PendingSession {
    fn is_empty(&self) -> bool {
        let changed = self.removed || self.flow_changed || self.row.is_some();
        !changed && self.subscriptions.is_empty() && self.deliveries.is_empty()
    }
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.retained.is_empty()
            && self.sessions.values().all(PendingSession::is_empty)
    }

    pub(super) fn clear(&mut self) {
        self.sessions.clear();
        self.messages.clear();
        self.retained.clear();
    }

    /// Takes in one change; `flows` is kept current beside it.
    pub(super) fn apply(&mut self, change: Change, flows: &mut Flows) {
        match change {
            Change::PutSession(row) => {
                let id = row.id;
                self.session(id).row = Some(row);
            }
            Change::RemoveSession(id) => {
                flows.remove(&id);
                self.sessions.insert(id, PendingSession { removed: true, ..PendingSession::default() });
            }
            Change::PutSubscription(id, row) => {
                self.session(id).subscriptions.insert(row.subscription.filter.clone(), Some(row));
            }
            Change::RemoveSubscription(id, filter) => {
                self.session(id).subscriptions.insert(filter, None);
            }
            Change::PutMessage(id, message) => {
                self.messages.insert(id, Some(message));
            }
            Change::RemoveMessage(id) => remove(&mut self.messages, id),
            Change::PutDelivery(id, row) => self.put_delivery(id, row, flows),
            Change::SetPhase(id, sequence, phase) => self.flow(id, flows).set_phase(sequence, phase),
            Change::RemoveDelivery(id, sequence) => self.remove_delivery(id, sequence, flows),
            Change::PutReceived(id, packet_id) => {
                self.flow(id, flows).received.insert(packet_id);
            }
            Change::RemoveReceived(id, packet_id) => {
                self.flow(id, flows).received.remove(&packet_id);
            }
            Change::PutRetained(message) => {
                self.retained.insert(message.topic.clone(), Some(message));
            }
            Change::RemoveRetained(topic) => {
                self.retained.insert(topic, None);
            }
        }
    }

    fn session(&mut self, id: SessionId) -> &mut PendingSession {
        self.sessions.entry(id).or_default()
    }

    fn flow<'a>(&mut self, id: SessionId, flows: &'a mut Flows) -> &'a mut Flow {
        self.session(id).flow_changed = true;
        flows.entry(id).or_default()
    }

    fn put_delivery(&mut self, id: SessionId, row: StoredDelivery, flows: &mut Flows) {
        if row.phase != Phase::Queued {
            self.flow(id, flows).set_phase(row.sequence, row.phase);
        }
        self.session(id).deliveries.insert(row.sequence, Some(row));
    }

    fn remove_delivery(&mut self, id: SessionId, sequence: u64, flows: &mut Flows) {
        let had_phase = flows.get_mut(&id).is_some_and(|flow| flow.phases.remove(&sequence).is_some());
        let session = self.session(id);
        session.flow_changed |= had_phase;
        remove(&mut session.deliveries, sequence);
    }
}

/// Removes a row whose key is used once: one that this batch inserts never reaches the disk.
fn remove<K: Ord, V>(rows: &mut BTreeMap<K, Option<V>>, key: K) {
    if !matches!(rows.remove(&key), Some(Some(_))) {
        rows.insert(key, None);
    }
}
