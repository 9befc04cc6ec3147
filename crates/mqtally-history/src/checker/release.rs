//! R10 on the subscriber's hop: a PUBREC is answered with the PUBREL of its packet id.
//!
//! When a broker answers is its own affair, so one that has not yet is not accused. PUBREL is missing for certain when
//! the sentinel behind the message came behind our PUBREC, the broker then released an exchange of the same stream that
//! it began no earlier than that sentinel's, on the same connection, and that connection is over, or the part is:
//! exchanges are in order within a topic [3.1.1:MQTT-4.6.0-4, -6], and not between two. Who was cut before that is owed
//! nothing here: what the next connection owes is R1's and R2's.

use super::excerpt::{Direction, ack, line};
use super::ledger::{Evidence, Ledger};
use super::world::client::{Client, Inbound, Phase, Subject};
use super::world::{ClientIx, ConnIx, GroupIx, World};
use crate::promise::PromiseId;

/// PUBREL: R10 is kept where its exchange's PUBREC was sent on this connection, and broken where the exchange began on
/// it and its PUBREC was not sent yet.
pub(crate) fn received(world: &World, at: ConnIx, id: u16, ledger: &mut Ledger) {
    let connection = world.connection(at);
    let held = world.client(connection.client).inbound.get(&id).filter(|held| held.connection == at);
    let Some(held) = held else { return };
    let early = held.phase == Phase::Publish && held.began.place > connection.accepted;
    if early || (held.qos == 2 && held.phase == Phase::Acked) {
        ledger.oblige(PromiseId::R10, connection.version);
    }
    if early {
        ledger.broken(world, PromiseId::R10, world.client_scope(connection.client), || {
            let name = &world.client(connection.client).name;
            let publish = line(held.last, name, Direction::In, ack("PUBLISH", id, 0));
            let release = line(world.now, name, Direction::In, ack("PUBREL", id, 0));
            let message =
                format!("PUBREL id {id} came to session {name}, which had sent no PUBREC for that PUBLISH");
            Evidence { message, lines: vec![publish, release] }
        });
    }
}

/// A connection is over.
pub(crate) fn closed(world: &World, at: ConnIx, ledger: &mut Ledger) {
    let ix = world.connection(at).client;
    let client = world.client(ix);
    if client.current != Some(at) {
        return;
    }
    let mut owed: Vec<(u16, Inbound)> = client
        .inbound
        .iter()
        .filter(|(_, held)| is_missing(world, client, at, held))
        .map(|(id, held)| (*id, *held))
        .collect();
    owed.sort_unstable_by_key(|(id, _)| *id);
    for (id, held) in owed {
        ledger.oblige(PromiseId::R10, client.version);
        ledger.broken(world, PromiseId::R10, world.client_scope(ix), || evidence(world, ix, id, &held));
    }
}

/// The part is over, and with it the connections that are open still.
pub(crate) fn judge_group(world: &World, group: GroupIx, ledger: &mut Ledger) {
    for ix in 0..world.clients.len() as ClientIx {
        if let Some(at) = world.client(ix).current.filter(|_| world.client(ix).group == group) {
            closed(world, at, ledger);
        }
    }
}

fn is_missing(world: &World, client: &Client, at: ConnIx, held: &Inbound) -> bool {
    let waits = held.qos == 2 && held.phase == Phase::Acked && held.connection == at && held.acked > 0;
    let Subject::Ours(stream, sequence) = held.subject else { return false };
    let Some(sentinel) = client.sentinels.get(&(stream, 2)).filter(|_| waits) else { return false };
    sentinel.lineage == client.lineage
        && sentinel.sequence > sequence
        && sentinel.at > held.acked
        && world.connection(at).released_up_to.get(&stream).is_some_and(|latest| *latest > sentinel.at)
}

fn evidence(world: &World, ix: ClientIx, id: u16, held: &Inbound) -> Evidence {
    let client = world.client(ix);
    let mut lines = world.control_lines(ix, held.last.place);
    lines.push(line(held.last, &client.name, Direction::In, ack("PUBLISH", id, 0)));
    Evidence {
        message: format!(
            "session {} answered PUBLISH id {id} with PUBREC, and no PUBREL id {id} came, though one came for the \
             sentinel behind it, or for what followed that on its topic",
            client.name
        ),
        lines,
    }
}
