//! What leaves the broker: changes for the store, outputs for the sockets, and which messages the store still needs.

use super::config::{ConnectionId, Output};
use super::deliver::Delivery;
use super::stored::{Change, Message, MessageId};
use crate::packet::Packet;
use rustc_hash::FxHashMap;
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) changes: Vec<Change>,
    pub(super) outputs: Vec<Output>,
    /// Deliveries of durable sessions that refer to a stored message.
    references: FxHashMap<MessageId, usize>,
    last_message: u64,
}

impl Ledger {
    pub(super) fn send(&mut self, connection: ConnectionId, packet: Packet) {
        self.outputs.push(Output::Send(connection, packet));
    }

    /// One more delivery of a durable session refers to `message`; the first one stores it and names it.
    pub(super) fn refer(&mut self, id: &mut Option<MessageId>, message: &Arc<Message>) -> MessageId {
        let id = *id.get_or_insert_with(|| {
            self.last_message += 1;
            MessageId(self.last_message)
        });
        let references = self.references.entry(id).or_default();
        if *references == 0 {
            self.changes.push(Change::PutMessage(id, message.clone()));
        }
        *references += 1;
        id
    }

    /// A delivery that a store kept refers to its message.
    pub(super) fn restore_reference(&mut self, id: MessageId) {
        *self.references.entry(id).or_default() += 1;
    }

    /// Message ids up to `id` are taken.
    pub(super) fn reserve(&mut self, id: MessageId) {
        self.last_message = self.last_message.max(id.0);
    }

    /// A delivery is over; the last one of a durable session removes the message.
    pub(super) fn release(&mut self, delivery: &Delivery, durable: bool) {
        let Some(id) = delivery.message_id.filter(|_| durable) else { return };
        let Some(references) = self.references.get_mut(&id) else { return };
        *references -= 1;
        if *references == 0 {
            self.references.remove(&id);
            self.changes.push(Change::RemoveMessage(id));
        }
    }
}
