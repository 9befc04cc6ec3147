//! F1 and F2, in 5.0: no more unfinished deliveries than the client's receive maximum.
//!
//! What we count as unfinished is a lower bound of what the broker has to: an acknowledgement counts from when we
//! begin to send it. A PUBLISH repeated on its connection and a PUBREL take no place of their own.

use super::ledger::{Evidence, Ledger};
use super::world::delivery::Delivery;
use super::world::{ConnIx, World};
use crate::packet::{Packet, Version};
use crate::promise::PromiseId;
use rustc_hash::FxHashMap;

/// The unfinished deliveries of each connection with a receive maximum.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    links: FxHashMap<ConnIx, Link>,
}

#[derive(Debug)]
struct Link {
    maximum: usize,
    /// Packet ids, and whether PUBREC was sent.
    unfinished: FxHashMap<u16, bool>,
    /// How many of them have it.
    received: usize,
}

impl Flow {
    pub(crate) fn sent(&mut self, at: ConnIx, it: &Packet) {
        if let Packet::Connect(connect) = it {
            if connect.receive_maximum < u16::MAX {
                let maximum = usize::from(connect.receive_maximum);
                self.links.insert(at, Link { maximum, unfinished: FxHashMap::default(), received: 0 });
            }
            return;
        }
        let Some(link) = self.links.get_mut(&at) else { return };
        match it {
            Packet::Puback(id, _) | Packet::Pubcomp(id, _) | Packet::Pubrec(id, 0x80..) => {
                let received = link.unfinished.remove(id) == Some(true);
                link.received -= usize::from(received);
            }
            Packet::Pubrec(id, _) => {
                if let Some(received) = link.unfinished.get_mut(id) {
                    link.received += usize::from(!*received);
                    *received = true;
                }
            }
            _ => {}
        }
    }

    pub(crate) fn judge(&mut self, world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
        let Some(link) = self.links.get_mut(&delivery.connection) else { return };
        if delivery.publish.qos == 0 || delivery.version != Version::V5_0 {
            return;
        }
        link.unfinished.entry(delivery.publish.packet_id).or_insert(false);
        let unfinished = link.unfinished.len();
        if unfinished < link.maximum {
            return;
        }
        let without_received = unfinished - link.received;
        let id =
            if link.received > 0 && without_received <= link.maximum { PromiseId::F2 } else { PromiseId::F1 };
        ledger.oblige(id, delivery.version);
        if unfinished > link.maximum {
            let maximum = link.maximum;
            ledger.broken(world, id, world.client_scope(delivery.client), || Evidence {
                message: format!(
                    "session {} set a receive maximum of {maximum} and received {unfinished} messages that it had \
                     not finished, {} of them behind PUBREC",
                    world.client(delivery.client).name,
                    unfinished - without_received
                ),
                lines: vec![world.delivery_line(delivery)],
            });
        }
    }

    /// A connection is over.
    pub(crate) fn closed(&mut self, at: ConnIx) {
        self.links.remove(&at);
    }
}
