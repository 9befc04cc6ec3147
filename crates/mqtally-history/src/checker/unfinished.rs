//! Q5 and V5: what an UNSUBSCRIBE must not end, and what a refusal must.
//!
//! Both go by what the broker has certainly read: it answered a PINGREQ that was sent behind it. When it sends PUBREL is
//! its own affair: what stores it first may answer PINGREQ before, so Q5 leaves it the time for that.

use super::excerpt::{Direction, ack, line};
use super::ledger::{Evidence, Ledger};
use super::world::client::{Inbound, Phase, Subject};
use super::world::delivery::Delivery;
use super::world::{ClientIx, ConnIx, GroupIx, Moment, World, topic};
use crate::packet::Packet;
use crate::promise::PromiseId;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Exchanges that an UNSUBSCRIBE met, and deliveries that were refused.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    met: BTreeMap<(ClientIx, u16), Owed>,
    refused: FxHashMap<(ClientIx, u16), Refused>,
}

/// Since when PUBREL is owed: the later of UNSUBSCRIBE and our PUBREC.
type Owed = Option<Moment>;

#[derive(Debug, Clone, Copy)]
struct Refused {
    subject: Subject,
    connection: ConnIx,
    at: Moment,
}

impl Unfinished {
    pub(crate) fn sent(&mut self, world: &World, at: ConnIx, it: &Packet) {
        let client = world.connection(at).client;
        match it {
            Packet::Unsubscribe(_, filters) => {
                let matches = |subject| match subject {
                    Subject::Ours(stream, _) => {
                        filters.iter().any(|filter| topic::matches(filter, &world.stream(stream).topic))
                    }
                    Subject::Other(_) => false,
                };
                let inbound = world.client(client).inbound.iter();
                let begun = inbound.filter(|(_, held)| {
                    held.qos == 2
                        && matches!(held.phase, Phase::Publish | Phase::Acked)
                        && matches(held.subject)
                });
                let owed = |held: &Inbound| (held.phase == Phase::Acked).then_some(world.now);
                self.met.extend(begun.map(|(id, held)| ((client, *id), owed(held))));
            }
            Packet::Puback(id, 0x80..) | Packet::Pubrec(id, 0x80..) => {
                if let Some(held) = world.client(client).inbound.get(id) {
                    let refused = Refused { subject: held.subject, connection: at, at: world.now };
                    self.refused.insert((client, *id), refused);
                    self.met.remove(&(client, *id));
                }
            }
            Packet::Pubrec(id, _) => {
                if let Some(owed) = self.met.get_mut(&(client, *id)) {
                    *owed = Some(world.now);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn received(&mut self, world: &World, at: ConnIx, it: &Packet, ledger: &mut Ledger) {
        if let (Packet::Pubrel(id, _), false) = (it, self.met.is_empty())
            && self.met.remove(&(world.connection(at).client, *id)).is_some()
        {
            ledger.oblige(PromiseId::Q5, world.connection(at).version);
        }
    }

    /// V5, broken: a delivery that was refused comes again.
    pub(crate) fn judge(&mut self, world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
        if self.refused.is_empty() || delivery.publish.qos == 0 {
            return;
        }
        let Some(it) = self.refused.remove(&(delivery.client, delivery.publish.packet_id)) else { return };
        let read = world.connection(it.connection).read_up_to > it.at.place;
        if it.subject != delivery.subject || !delivery.publish.dup || !read {
            return;
        }
        ledger.oblige(PromiseId::V5, delivery.version);
        ledger.broken(world, PromiseId::V5, world.client_scope(delivery.client), || {
            let name = &world.client(delivery.client).name;
            let text = ack("refusal", delivery.publish.packet_id, 0);
            Evidence {
                message: format!("session {name} refused a message, and it was sent again"),
                lines: vec![line(it.at, name, Direction::Out, text), world.delivery_line(delivery)],
            }
        });
    }

    /// A connection is over: Q5, broken.
    pub(crate) fn closed(&mut self, world: &World, at: ConnIx, ledger: &mut Ledger) {
        let connection = world.connection(at);
        let client = connection.client;
        if world.client(client).current != Some(at) {
            return;
        }
        let waits = |id: &u16| {
            let held = world.client(client).inbound.get(id);
            held.is_some_and(|held| held.phase == Phase::Acked && held.connection == at)
        };
        let due = |owed: Moment| connection.read_up_to > owed.place && world.had_time(client, owed);
        for ((_, id), owed) in self.met.range((client, 0)..=(client, u16::MAX)) {
            if owed.is_some_and(due) && waits(id) {
                given_up(world, client, *id, ledger);
            }
        }
        self.met.retain(|(owner, _), _| *owner != client);
    }

    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        for client in 0..world.clients.len() as ClientIx {
            if let Some(at) = world.client(client).current.filter(|_| world.client(client).group == group) {
                self.closed(world, at, ledger);
            }
        }
        let ended = |client: ClientIx| world.client(client).group == group;
        for ((client, _), it) in self.refused.iter().filter(|((client, _), _)| ended(*client)) {
            let client = world.client(*client);
            let read = world.connection(it.connection).read_up_to > it.at.place;
            let returned = client.resumes.last().is_some_and(|resumed| *resumed > it.at.place);
            ledger.oblige_many(PromiseId::V5, client.version, u64::from(read && returned));
        }
        self.refused.retain(|(client, _), _| !ended(*client));
    }
}

fn given_up(world: &World, client: ClientIx, id: u16, ledger: &mut Ledger) {
    let it = world.client(client);
    ledger.oblige(PromiseId::Q5, it.version);
    ledger.broken(world, PromiseId::Q5, world.client_scope(client), || Evidence {
        message: format!(
            "session {} unsubscribed within the QoS 2 exchange of id {id}; the broker read PUBREC, had time, and never sent PUBREL",
            it.name
        ),
        lines: world.control_lines(client, 0),
    });
}
