//! Q1, T7, Q3 and Q6: the QoS that was granted, and SUBACK itself.
//!
//! What counts is the QoS granted, not the one asked for. While a filter is subscribed again the old and the new are
//! both right, and before the first SUBACK anything up to what was asked for.

use super::ledger::{Evidence, Ledger};
use super::world::delivery::Delivery;
use super::world::{ConnIx, World};
use crate::packet::Packet;
use crate::promise::PromiseId;

pub(crate) fn judge(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    let Some(known) = delivery.known else { return };
    let routes = delivery.routes;
    if routes.lawful == 0 || routes.granted == 0 {
        return;
    }
    let (published, came) = (known.marker.qos, delivery.publish.qos);
    let id = if delivery.is_live() { PromiseId::Q1 } else { PromiseId::T7 };
    ledger.oblige(id, delivery.version);
    let granted = || (0..=2u8).filter(|qos| routes.granted & 1 << qos != 0);
    if granted().any(|qos| qos.min(published) == came) {
        return;
    }
    ledger.broken(world, id, world.scope(delivery), || {
        let granted: Vec<String> = granted().map(|qos| qos.to_string()).collect();
        let client = world.client(delivery.client);
        let mut lines = world.control_lines(delivery.client, 0);
        lines.push(world.delivery_line(delivery));
        let message = format!(
            "{} reached session {}, which was granted QoS {}, at QoS {came}",
            world.message_name(&known),
            client.name,
            granted.join(" or ")
        );
        Evidence { message, lines }
    });
}

pub(crate) fn judge_suback(world: &World, at: ConnIx, id: u16, codes: &[u8], ledger: &mut Ledger) {
    let connection = world.connection(at);
    ledger.oblige(PromiseId::Q3, connection.version);
    let Some(pending) = connection.subscribes.get(&id) else {
        return bad_suback(world, at, id, codes, "no SUBSCRIBE with this id waits for it", ledger);
    };
    if pending.filters.len() != codes.len() {
        return bad_suback(world, at, id, codes, "it has not one code a filter", ledger);
    }
    judge_maximum(world, at, (id, codes), &pending.filters, ledger);
    let lawful = |code: u8, asked: u8| code <= asked || code >= 0x80;
    if !pending.filters.iter().zip(codes).all(|((_, asked), code)| lawful(*code, *asked)) {
        bad_suback(
            world,
            at,
            id,
            codes,
            "a code is neither a QoS up to what was asked for nor a failure",
            ledger,
        );
    }
}

/// Q6: a server without the higher QoS accepts subscriptions to it all the same.
fn judge_maximum(
    world: &World,
    at: ConnIx,
    (id, codes): (u16, &[u8]),
    filters: &[(std::sync::Arc<str>, u8)],
    ledger: &mut Ledger,
) {
    let connection = world.connection(at);
    let maximum = connection.connack.as_ref().map_or(2, |connack| connack.maximum_qos);
    for (_, code) in filters.iter().zip(codes).filter(|((_, asked), _)| *asked > maximum) {
        ledger.oblige(PromiseId::Q6, connection.version);
        // Unspecified, implementation specific, QoS not supported; others have nothing to do with the QoS.
        if matches!(code, 0x80 | 0x83 | 0x9b) {
            let what = format!(
                "was refused a subscription (SUBACK id {id}) above the server's maximum QoS {maximum}"
            );
            broken_maximum(world, at, &what, ledger);
        }
    }
}

/// Q6: a server that does not support a QoS says so in CONNACK.
pub(crate) fn judge_unsupported(world: &World, at: ConnIx, it: &Packet, ledger: &mut Ledger) {
    const QOS_NOT_SUPPORTED: u8 = 0x9b;
    let refused = matches!(
        it,
        Packet::Puback(_, QOS_NOT_SUPPORTED)
            | Packet::Pubrec(_, QOS_NOT_SUPPORTED)
            | Packet::Disconnect(QOS_NOT_SUPPORTED, _)
    );
    let announced = world.connection(at).connack.as_ref().is_none_or(|connack| connack.maximum_qos < 2);
    if refused && !announced {
        ledger.oblige(PromiseId::Q6, world.connection(at).version);
        let what = "was told that a QoS is not supported, and CONNACK had announced no maximum";
        broken_maximum(world, at, what, ledger);
    }
}

fn broken_maximum(world: &World, at: ConnIx, what: &str, ledger: &mut Ledger) {
    let ix = world.connection(at).client;
    ledger.broken(world, PromiseId::Q6, world.client_scope(ix), || Evidence {
        message: format!("{} {what}", world.client(ix).name),
        lines: world.control_lines(ix, 0),
    });
}

fn bad_suback(world: &World, at: ConnIx, id: u16, codes: &[u8], why: &str, ledger: &mut Ledger) {
    let ix = world.connection(at).client;
    let name = &world.client(ix).name;
    ledger.broken(world, PromiseId::Q3, world.client_scope(ix), || {
        let suback = super::excerpt::packet(&Packet::Suback(id, codes.to_vec()));
        let mut lines = world.control_lines(ix, 0);
        lines.push(super::excerpt::line(world.now, name, super::excerpt::Direction::In, &suback));
        Evidence { message: format!("{name} received {suback}: {why}"), lines }
    });
}
