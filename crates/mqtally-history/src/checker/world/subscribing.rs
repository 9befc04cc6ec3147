//! SUBSCRIBE, UNSUBSCRIBE and their answers.

use super::client::PendingSubscribe;
use super::subscription::{End, Subscription};
use super::{ConnIx, World};
use crate::packet::Subscribe;
use std::sync::Arc;

impl World {
    pub(super) fn subscribe_sent(&mut self, at: ConnIx, subscribe: &Subscribe) {
        let now = self.now;
        let connection = &mut self.connections[at as usize];
        let client = &mut self.clients[connection.client as usize];
        subscribe.filters.iter().for_each(|filter| client.subscribe(filter, subscribe.identifier, now));
        let filters = subscribe.filters.iter().map(|it| (Arc::clone(&it.filter), it.qos)).collect();
        connection.subscribes.insert(subscribe.packet_id, PendingSubscribe { asked: now.place, filters });
    }

    pub(super) fn suback(&mut self, at: ConnIx, id: u16, codes: &[u8]) {
        let now = self.now.place;
        let connection = &mut self.connections[at as usize];
        let Some(pending) = connection.subscribes.remove(&id) else { return };
        let client = &mut self.clients[connection.client as usize];
        for ((filter, _), code) in pending.filters.iter().zip(codes) {
            let asked = |it: &Subscription| it.grants.iter().any(|grant| grant.asked == pending.asked);
            let subscription = client.subscriptions.iter_mut().find(|it| it.filter == *filter && asked(it));
            if let Some(subscription) = subscription {
                subscription.answered(pending.asked, *code, now);
            }
        }
    }

    pub(super) fn unsubscribe_sent(&mut self, at: ConnIx, id: u16, filters: &[Arc<str>]) {
        let now = self.now.place;
        let connection = &mut self.connections[at as usize];
        let client = &mut self.clients[connection.client as usize];
        for subscription in client.subscriptions.iter_mut().filter(|it| filters.contains(&it.filter)) {
            subscription.doubt(now);
        }
        connection.unsubscribes.insert(id, filters.to_vec());
    }

    pub(super) fn unsuback(&mut self, at: ConnIx, id: u16, codes: &[u8]) {
        let now = self.now.place;
        let connection = &mut self.connections[at as usize];
        let Some(filters) = connection.unsubscribes.remove(&id) else { return };
        let client = &mut self.clients[connection.client as usize];
        for (number, filter) in filters.iter().enumerate() {
            if codes.get(number).is_some_and(|code| *code >= 0x80) {
                continue;
            }
            let doubted = client.subscriptions.iter_mut().filter(|it| it.filter == *filter && it.until < now);
            doubted.for_each(|it| it.close(End::Unsubscribed, now));
        }
    }
}
