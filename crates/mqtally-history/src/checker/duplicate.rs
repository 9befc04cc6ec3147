//! D3, D4, D5: no copy too many.
//!
//! A copy is one that a receiver following the protocol accepts: a QoS 2 PUBLISH whose packet id it holds already is
//! answered and not accepted. A second copy is lawful after the session was lost, when the message was submitted
//! anew, or through another matching filter; at QoS 1 also after a reconnect; and retained copies are not counted.

use super::excerpt::{Direction, Line, ack, line};
use super::ledger::{Evidence, Ledger};
use super::world::World;
use super::world::client::{Inbound, Phase, Subject};
use super::world::delivery::{Delivery, Known};
use crate::packet::Version;
use crate::promise::PromiseId;

pub(crate) fn judge(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    let Some(known) = delivery.known.filter(|_| delivery.is_live()) else {
        return judge_forgotten(world, delivery, ledger);
    };
    match (delivery.publish.qos, known.marker.qos) {
        (2, 2) => judge_bounded(world, delivery, &known, PromiseId::D3, ledger),
        (0, 0 | 2) => judge_bounded(world, delivery, &known, PromiseId::D5, ledger),
        (1, _) => judge_qos_1(world, delivery, &known, ledger),
        _ => {}
    }
}

/// D3 of a message that was judged and forgotten: its lineage is known to have accepted it.
fn judge_forgotten(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    let (Subject::Ours(stream, sequence), None) = (delivery.subject, delivery.known) else { return };
    let client = world.client(delivery.client);
    let accepted = client
        .accepted_once
        .get(&stream)
        .is_some_and(|it| it.lineage == client.lineage && (it.from..it.to).contains(&sequence));
    let counts = delivery.publish.qos == 2 && !delivery.publish.retain && !delivery.is_overlapped();
    if !accepted || !counts || delivery.is_repetition() || world.uncovered_fault.is_some() {
        return;
    }
    ledger.tally.duplicated += 1;
    ledger.oblige(PromiseId::D3, delivery.version);
    ledger.broken(world, PromiseId::D3, world.client_scope(delivery.client), || Evidence {
        message: format!(
            "QoS 2 message {sequence} of {} reached session {} again, long after it had accepted it",
            world.stream(stream).topic,
            client.name
        ),
        lines: vec![world.delivery_line(delivery)],
    });
}

/// At QoS 2 and 0 there is a limit to the copies, whatever happened in between.
fn judge_bounded(
    world: &World,
    delivery: &Delivery<'_>,
    known: &Known<'_>,
    id: PromiseId,
    ledger: &mut Ledger,
) {
    if delivery.is_repetition() || delivery.routes.shared > 0 {
        return;
    }
    let accepted = known.copies.accepted_in(world.client(delivery.client).lineage);
    if accepted == 0 {
        return ledger.oblige(id, delivery.version);
    }
    // It was on its way before the newer connection brought it again.
    if world.is_superseded(delivery.connection) {
        return;
    }
    let limit = u32::from(delivery.routes.lawful.max(1)) * u32::from(known.message.submissions.max(1));
    if u32::from(accepted) < limit {
        return;
    }
    if world.excused_since(known.message.first_sent) {
        ledger.excuse(super::delivery::BROKER_ENDED);
        return;
    }
    ledger.tally.duplicated += 1;
    ledger.oblige(id, delivery.version);
    ledger.broken(world, id, world.scope(delivery), || twice(world, delivery, known));
}

fn judge_qos_1(world: &World, delivery: &Delivery<'_>, known: &Known<'_>, ledger: &mut Ledger) {
    let client = world.client(delivery.client);
    if known.copies.accepted_in(client.lineage) == 0 {
        return ledger.oblige(PromiseId::D4, delivery.version);
    }
    let unanswered = delivery.held.is_some_and(|held| {
        held.subject == delivery.subject
            && held.connection == delivery.connection
            && held.phase == Phase::Publish
    });
    if unanswered && delivery.version == Version::V5_0 {
        ledger.tally.duplicated += 1;
        ledger.oblige(PromiseId::D4, delivery.version);
        return ledger.broken(world, PromiseId::D4, world.scope(delivery), || twice(world, delivery, known));
    }
    // What was on its way on a connection that is taken over may come behind the CONNACK of the next.
    let reconnected = world.connection(delivery.connection).accepted > known.copies.first
        || delivery.held.is_some_and(|held| held.connection != delivery.connection)
        || world.is_superseded(delivery.connection);
    if !reconnected && known.message.sends == 1 && !delivery.is_overlapped() {
        ledger.tally.duplicated += 1;
        ledger.warn(world, PromiseId::D4, world.scope(delivery), || twice(world, delivery, known));
    }
}

fn twice(world: &World, delivery: &Delivery<'_>, known: &Known<'_>) -> Evidence {
    let first = known.copies.first_moment();
    let again = delivery.publish;
    let hop = match (known.copies.packet_id == again.packet_id, again.dup) {
        (true, _) => " (repeated on the way to the subscriber)",
        (false, false) => " (taken twice from the publisher, or stored twice)",
        (false, true) => "",
    };
    let message = format!(
        "{} reached session {} {}: PUBLISH id {} at {} and PUBLISH id {} at {}{}{}",
        world.message_name(known),
        world.client(delivery.client).name,
        if known.copies.accepted < 2 {
            "twice".to_owned()
        } else {
            format!("{} times", known.copies.accepted + 1)
        },
        known.copies.first_packet_id,
        super::excerpt::seconds(first.at_ns),
        again.packet_id,
        super::excerpt::seconds(delivery.now.at_ns),
        if again.qos == 0 { "" } else { hop },
        world.after_restart(known.message.first_sent),
    );
    let mut lines = world.copies_lines(delivery, known);
    lines.extend(release_line(world, delivery));
    Evidence { message, lines }
}

/// PUBREL of the copy before, without which the same packet id would be no second copy.
fn release_line(world: &World, delivery: &Delivery<'_>) -> Option<Line> {
    let released = |held: &Inbound| {
        held.subject == delivery.subject && matches!(held.phase, Phase::Release | Phase::Complete)
    };
    let held = delivery.held.filter(|held| held.qos == 2 && released(held))?;
    let name = &world.client(delivery.client).name;
    Some(line(held.last, name, Direction::In, ack("PUBREL", delivery.publish.packet_id, 0)))
}
