//! What a history of the wire does not judge: whether our own ends keep what they were trusted with.
//!
//! A publisher's outbox: what was accepted is finally acknowledged. A subscriber's inbox: what was acknowledged is
//! processed. (That it is processed once the checker judges, as A2.)

use mqtally_history::event::{ConnectionId, Event, EventKind, Outcome};
use mqtally_history::marker::{Identity, MessageId};
use mqtally_history::packet::{Packet, Publish};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Messages by who has to do with them.
type Of = BTreeSet<(Arc<str>, MessageId)>;

#[derive(Debug, Default)]
pub(super) struct Ends {
    client_of: BTreeMap<ConnectionId, Arc<str>>,
    /// What a packet id stands for, by client and direction.
    sending: BTreeMap<(Arc<str>, u16), MessageId>,
    receiving: BTreeMap<(Arc<str>, u16), MessageId>,
    complete: BTreeSet<MessageId>,
    acknowledged: Of,
    processed: Of,
}

impl Ends {
    pub(super) fn of(events: &[Event]) -> Self {
        let mut ends = Self::default();
        events.iter().for_each(|event| ends.observe(&event.kind));
        ends
    }

    /// Accepted messages whose handshake never came to its end.
    pub(super) fn unsent<'a>(&'a self, accepted: &'a [MessageId]) -> impl Iterator<Item = MessageId> + 'a {
        accepted.iter().copied().filter(|message| !self.complete.contains(message))
    }

    /// Messages that a client acknowledged and never processed.
    pub(super) fn unprocessed(&self) -> impl Iterator<Item = &(Arc<str>, MessageId)> {
        self.acknowledged.difference(&self.processed)
    }

    fn observe(&mut self, kind: &EventKind) {
        match kind {
            EventKind::Opened { connection, client, .. } => {
                self.client_of.insert(*connection, client.clone());
            }
            EventKind::Sent(connection, packet) => self.sent(*connection, packet),
            EventKind::Received(connection, packet) => self.received(*connection, packet),
            EventKind::Settled { client, message, outcome: Outcome::Processed } => {
                self.processed.insert((client.clone(), *message));
            }
            _ => {}
        }
    }

    fn sent(&mut self, connection: ConnectionId, packet: &Packet) {
        let Some(client) = self.client_of.get(&connection) else { return };
        match packet {
            Packet::Publish(publish) if publish.qos > 0 => {
                if let Some(message) = message(publish) {
                    self.sending.insert((client.clone(), publish.packet_id), message);
                }
            }
            Packet::Puback(id, _) | Packet::Pubrec(id, _) => {
                if let Some(message) = self.receiving.get(&(client.clone(), *id)) {
                    self.acknowledged.insert((client.clone(), *message));
                }
            }
            _ => {}
        }
    }

    fn received(&mut self, connection: ConnectionId, packet: &Packet) {
        let Some(client) = self.client_of.get(&connection) else { return };
        match packet {
            Packet::Publish(publish) if publish.qos > 0 => {
                if let Some(message) = message(publish) {
                    self.receiving.insert((client.clone(), publish.packet_id), message);
                }
            }
            Packet::Puback(id, _) | Packet::Pubcomp(id, _) => {
                self.complete.extend(self.sending.get(&(client.clone(), *id)));
            }
            _ => {}
        }
    }
}

fn message(publish: &Publish) -> Option<MessageId> {
    match publish.identity {
        Identity::Ours(marker) => Some(marker.message),
        Identity::Foreign | Identity::Corrupt | Identity::Unmarked => None,
    }
}
