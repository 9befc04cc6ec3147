//! R1 to R7, R11 and O2: what a broker does about its unfinished deliveries.
//!
//! The subscriber's table of packet ids is followed on the wire. An acknowledgement that we sent may not have been
//! read, above all before a reset: then PUBLISH, PUBREL and nothing are all right. Only where we sent nothing the
//! broker owes the same PUBLISH, with DUP and its packet id, and where we owe PUBCOMP its PUBREL; and it owes them
//! before the sentinel. An end of the broker that its profile does not cover settles every debt, and so does the loss
//! of the session.

use super::excerpt::{Direction, Line, ack, line};
use super::ledger::{Evidence, Ledger, Scope};
use super::world::client::{Client, Connection, Inbound, Phase, Subject};
use super::world::delivery::Delivery;
use super::world::{ClientIx, ConnIx, GroupIx, NEVER, Place, StreamIx, World};
use crate::marker::Identity;
use crate::packet::{Connack, Version};
use crate::promise::PromiseId;
use rustc_hash::FxHashMap;

/// What is remembered of each connection that resumed a session.
#[derive(Debug, Default)]
pub(crate) struct Resumption {
    of_client: FxHashMap<ClientIx, Resumed>,
}

/// A resumed connection.
#[derive(Debug, Default)]
struct Resumed {
    connection: ConnIx,
    /// Where the original of what was sent again last began, by stream and QoS.
    again: FxHashMap<(StreamIx, u8), Place>,
    /// The same over all of them.
    again_any: Place,
}

impl Resumption {
    /// A connection is accepted.
    pub(crate) fn accepted(&mut self, world: &World, at: ConnIx, connack: &Connack) {
        if connack.reason == 0 && world.connection(at).accepted == NEVER {
            let resumed = Resumed { connection: at, ..Resumed::default() };
            self.of_client.insert(world.connection(at).client, resumed);
        }
    }

    pub(crate) fn judge(&mut self, world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
        judge_dup(world, delivery, ledger);
        // What was on its way on a connection that was taken over since is no answer to that.
        if delivery.publish.qos == 0 || world.is_superseded(delivery.connection) {
            return;
        }
        match delivery.held.filter(|held| held.subject == delivery.subject) {
            Some(held) => self.judge_again(world, delivery, &held, ledger),
            None => judge_fresh(world, delivery, ledger),
        }
        judge_packet_id(world, delivery, ledger);
    }

    /// The same message with the same packet id once more.
    fn judge_again(&mut self, world: &World, delivery: &Delivery<'_>, held: &Inbound, ledger: &mut Ledger) {
        let certain = delivery.is_live() && !held.overlapped && !resubmitted(delivery);
        if held.qos == 2 && matches!(held.phase, Phase::Release | Phase::Complete) {
            if certain && !world.excused_since(held.last.place) {
                ledger.oblige(PromiseId::R3, delivery.version);
                broken(
                    world,
                    delivery,
                    PromiseId::R3,
                    "sent again as PUBLISH after its PUBREL",
                    held,
                    ledger,
                );
            }
            return;
        }
        if held.connection == delivery.connection {
            if held.phase == Phase::Publish {
                spontaneous(world, delivery.connection, "PUBLISH", delivery.publish.packet_id, held, ledger);
            }
            return;
        }
        let unanswered = held.phase == Phase::Publish;
        let sent_once = delivery.known.is_some_and(|known| known.message.sends == 1);
        // A broker that fell back to an older state does not know that it has sent it.
        let known_to_broker = unanswered || (certain && sent_once);
        if known_to_broker && !world.excused_since(held.last.place) {
            ledger.oblige(PromiseId::R5, delivery.version);
            if !delivery.publish.dup {
                broken(world, delivery, PromiseId::R5, "delivered again without DUP", held, ledger);
            }
        }
        if unanswered {
            ledger.oblige(PromiseId::R1, delivery.version);
            ledger.oblige(PromiseId::R4, delivery.version);
            self.judge_order(world, delivery, held, ledger);
        }
    }

    /// O2.
    fn judge_order(&mut self, world: &World, delivery: &Delivery<'_>, held: &Inbound, ledger: &mut Ledger) {
        let Subject::Ours(stream, _) = delivery.subject else { return };
        let Some(resumed) = self.of_client.get_mut(&delivery.client) else { return };
        if resumed.connection != delivery.connection || held.overlapped {
            return;
        }
        let began = held.began.place;
        let again = resumed.again.entry((stream, delivery.publish.qos)).or_default();
        let (in_stream, in_all) = (*again, resumed.again_any);
        *again = began.max(in_stream);
        resumed.again_any = began.max(in_all);
        if in_all > 0 {
            ledger.oblige(PromiseId::O2, delivery.version);
        }
        if began < in_stream {
            broken(
                world,
                delivery,
                PromiseId::O2,
                "sent again after one that came later at first",
                held,
                ledger,
            );
        } else if began < in_all && delivery.version == Version::V3_1_1 {
            ledger.warn(world, PromiseId::O2, world.scope(delivery), || {
                evidence(
                    world,
                    delivery,
                    "sent again after one of another topic that came later at first",
                    held,
                )
            });
        }
    }

    /// A connection is over: R1 and R2 of it. What comes later may end the session, and its debts with it.
    pub(crate) fn closed(&self, world: &World, at: ConnIx, ledger: &mut Ledger) {
        let ix = world.connection(at).client;
        if world.client(ix).current == Some(at) {
            judge_debts(world, ix, world.client(ix), ledger);
        }
    }

    /// R1 and R2 of the connections that are open: what is owed still, and behind which a sentinel came.
    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        for ix in 0..world.clients.len() as ClientIx {
            let client = world.client(ix);
            if client.group == group {
                if client.current.is_some() {
                    judge_debts(world, ix, client, ledger);
                }
                // Deliveries that waited for their answer for a while, and were not sent again.
                ledger.oblige_many(PromiseId::R11, client.version, client.waited);
                self.of_client.remove(&ix);
            }
        }
    }
}

/// R2 and R3, kept: what was released before the connection ended is released again, and not published.
pub(crate) fn judge_release(world: &World, at: ConnIx, id: u16, ledger: &mut Ledger) {
    let connection = world.connection(at);
    let Some(held) = world.client(connection.client).inbound.get(&id) else { return };
    match held.phase {
        Phase::Release if held.connection != at => {
            ledger.oblige(PromiseId::R2, connection.version);
            ledger.oblige(PromiseId::R3, connection.version);
        }
        Phase::Release if !held.answered_again => spontaneous(world, at, "PUBREL", id, held, ledger),
        _ => {}
    }
}

/// R11, broken: sent again within a connection, and no answer in between.
fn spontaneous(world: &World, at: ConnIx, what: &str, id: u16, held: &Inbound, ledger: &mut Ledger) {
    let connection = world.connection(at);
    let name = &world.client(connection.client).name;
    let scope = world.client_scope(connection.client);
    let evidence = || Evidence {
        message: format!(
            "{what} id {id} was sent to session {name} twice on one connection, without an answer between"
        ),
        lines: vec![
            line(held.last, name, Direction::In, ack(what, id, 0)),
            line(world.now, name, Direction::In, ack(what, id, 0)),
        ],
    };
    ledger.oblige(PromiseId::R11, connection.version);
    match connection.version {
        Version::V5_0 => ledger.broken(world, PromiseId::R11, scope, evidence),
        Version::V3_1_1 => ledger.warn(world, PromiseId::R11, scope, evidence),
    }
}

fn judge_debts(world: &World, ix: ClientIx, client: &Client, ledger: &mut Ledger) {
    let Some(last) = client.last_accepted.map(|at| world.connection(at)).filter(|it| it.resumed) else {
        return;
    };
    let mut debts: Vec<(u16, Inbound)> = client.inbound.iter().map(|(id, held)| (*id, *held)).collect();
    debts.sort_unstable_by_key(|(id, _)| *id);
    for (id, held) in
        debts.into_iter().filter(|(_, held)| world.connection(held.connection).accepted < last.accepted)
    {
        let promise = match held.phase {
            Phase::Publish if !(held.expires && held.qos == 1) => PromiseId::R1,
            Phase::Release => PromiseId::R2,
            Phase::Publish | Phase::Acked | Phase::Complete => continue,
        };
        let Subject::Ours(stream, sequence) = held.subject else { continue };
        let sentinel = client.sentinels.get(&(stream, held.qos));
        let returned = first_return(world, last, world.connection(held.connection).accepted);
        let behind = |it: &&super::world::client::Sentinel| {
            it.at > returned && it.lineage == client.lineage && it.sequence > sequence
        };
        if sentinel.filter(behind).is_none() || held.overlapped {
            continue;
        }
        ledger.oblige(promise, client.version);
        let scope = Scope { cause: u64::from(ix) << 32 | u64::from(stream), ..world.client_scope(ix) };
        ledger.broken(world, promise, scope, || debt(world, ix, id, &held, sequence, promise));
        if last.took_over.is_some() {
            ledger.oblige(PromiseId::S10, client.version);
            ledger.broken(world, PromiseId::S10, scope, || debt(world, ix, id, &held, sequence, promise));
        }
    }
}

/// When the first connection was accepted behind the one that was accepted at `since`, up to `last`.
fn first_return(world: &World, last: &Connection, since: Place) -> Place {
    let (mut first, mut at) = (last.accepted, last.previous);
    while let Some(before) = at.map(|at| world.connection(at)).filter(|it| it.connect_sent.place > since) {
        if (since..first).contains(&before.accepted) {
            first = before.accepted;
        }
        at = before.previous;
    }
    first
}

fn debt(world: &World, ix: ClientIx, id: u16, held: &Inbound, sequence: u64, promise: PromiseId) -> Evidence {
    let client = world.client(ix);
    let (packet, owed) = match promise {
        PromiseId::R2 => ("PUBREL", "PUBCOMP was not sent"),
        _ => ("PUBLISH", "it was not acknowledged"),
    };
    let mut lines = world.control_lines(ix, held.last.place);
    lines.push(line(held.last, &client.name, Direction::In, ack(packet, id, 0)));
    Evidence {
        message: format!(
            "{packet} id {id} (message {sequence}) reached session {} and {owed}; the session was resumed, and it was \
             never sent again though the sentinel behind it was",
            client.name
        ),
        lines,
    }
}

/// R6: QoS 0 has no DUP, and a first copy on a connection that is older than the message has none.
fn judge_dup(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    let publish = delivery.publish;
    let fresh = delivery.known.is_some_and(|known| {
        let since = world.connection(delivery.connection).accepted;
        known.copies.first == 0 && since < known.message.first_sent && delivery.routes.shared == 0
    });
    if publish.qos > 0 && !fresh {
        return;
    }
    ledger.oblige(PromiseId::R6, delivery.version);
    if publish.dup {
        let why = if publish.qos == 0 {
            "DUP at QoS 0"
        } else {
            "DUP on the first copy, to a connection that was open"
        };
        ledger.broken(world, PromiseId::R6, world.scope(delivery), || Evidence {
            message: format!("session {} received {why}", world.client(delivery.client).name),
            lines: vec![world.delivery_line(delivery)],
        });
    }
}

/// R4: an unacknowledged message that comes with another packet id, after a reconnect.
fn judge_fresh(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    let Some(known) = delivery.known else { return };
    let client = world.client(delivery.client);
    let Some(held) = client.inbound.get(&known.copies.packet_id) else { return };
    let owed = held.subject == delivery.subject
        && held.phase == Phase::Publish
        && world.connection(held.connection).accepted < world.connection(delivery.connection).accepted
        && world.connection(held.connection).client == delivery.client;
    let certain =
        delivery.is_live() && !delivery.is_overlapped() && !held.overlapped && !resubmitted(delivery);
    if owed && certain {
        ledger.oblige(PromiseId::R4, delivery.version);
        broken(world, delivery, PromiseId::R4, "delivered again with another packet id", held, ledger);
    }
}

/// The publisher may have caused another copy.
fn resubmitted(delivery: &Delivery<'_>) -> bool {
    delivery.known.is_none_or(|known| match known.marker.qos {
        2 => known.message.submissions > 1,
        _ => known.message.sends > 1,
    })
}

/// R7: the id is not 0, and not in use for something else.
fn judge_packet_id(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    ledger.oblige(PromiseId::R7, delivery.version);
    let in_use = delivery.held.filter(|held| {
        held.subject != delivery.subject && matches!(held.phase, Phase::Publish | Phase::Release)
    });
    // A damaged copy of the same message looks like another one.
    let damaged = matches!(delivery.publish.identity, Identity::Corrupt);
    match in_use {
        Some(held) if !damaged => {
            broken(
                world,
                delivery,
                PromiseId::R7,
                "sent with the id of another that is unfinished",
                &held,
                ledger,
            );
        }
        _ if delivery.publish.packet_id == 0 => {
            let held = Inbound::none(delivery);
            broken(world, delivery, PromiseId::R7, "sent with packet id 0", &held, ledger);
        }
        _ => {}
    }
}

fn broken(
    world: &World,
    delivery: &Delivery<'_>,
    id: PromiseId,
    what: &str,
    held: &Inbound,
    ledger: &mut Ledger,
) {
    ledger.broken(world, id, world.scope(delivery), || evidence(world, delivery, what, held));
}

fn evidence(world: &World, delivery: &Delivery<'_>, what: &str, held: &Inbound) -> Evidence {
    let client = world.client(delivery.client);
    let name = delivery.known.map_or_else(|| "a message".to_owned(), |known| world.message_name(&known));
    let mut lines: Vec<Line> = world.control_lines(delivery.client, held.began.place);
    let began = match held.phase {
        Phase::Release | Phase::Complete => ("PUBREL", held.last),
        Phase::Publish | Phase::Acked => ("PUBLISH", held.began),
    };
    lines.push(line(began.1, &client.name, Direction::In, ack(began.0, delivery.packet_id_before(), 0)));
    lines.push(world.delivery_line(delivery));
    let since = world.after_restart(held.began.place);
    Evidence { message: format!("{name} was {what}, to session {}{since}", client.name), lines }
}
