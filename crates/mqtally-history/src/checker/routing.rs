//! D9, D10, D11 and V2: a message comes only where a filter asks for it.
//!
//! A filter counts from SUBSCRIBE to UNSUBACK, and beyond for what was sent before; one whose session is in doubt
//! always counts. What comes through a filter that UNSUBACK ended is D10, through one that a clean start discarded
//! D11, through none at all D9.

use super::ledger::{Evidence, Ledger};
use super::world::World;
use super::world::client::Why;
use super::world::delivery::{Delivery, Known};
use super::world::topic;
use crate::marker::Identity;
use crate::promise::PromiseId;

pub(crate) fn judge(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    match delivery.known {
        Some(known) => judge_ours(world, delivery, &known, ledger),
        None if delivery.publish.identity == Identity::Unmarked => judge_hidden(world, delivery, ledger),
        None => {}
    }
}

fn judge_ours(world: &World, delivery: &Delivery<'_>, known: &Known<'_>, ledger: &mut Ledger) {
    let routes = delivery.routes;
    ledger.oblige(PromiseId::D9, delivery.version);
    if routes.lawful > 0 {
        judge_no_local(world, delivery, known, ledger);
        return judge_old(world, delivery, known, ledger);
    }
    // It was on its way to the session before.
    if routes.discarded > 0 && world.is_superseded(delivery.connection) {
        return;
    }
    let (id, why) = match (routes.given_up, routes.discarded) {
        (1.., _) => {
            (PromiseId::D10, "only a filter matches that UNSUBACK had ended before the message was sent")
        }
        (0, 1..) => (PromiseId::D11, "only a filter matches that was discarded with an older session"),
        (0, 0) => (PromiseId::D9, "no filter of the session matches"),
    };
    if id != PromiseId::D9 {
        ledger.oblige(id, delivery.version);
    }
    broken(world, delivery, id, why, ledger);
}

/// D11's other half: an old message through a new filter.
fn judge_old(world: &World, delivery: &Delivery<'_>, known: &Known<'_>, ledger: &mut Ledger) {
    let connection = world.connection(delivery.connection);
    let clean = connection.connect.as_ref().is_some_and(|connect| connect.clean_start);
    let had_more = world
        .client(delivery.client)
        .breaks
        .iter()
        .any(|it| it.why == Why::CleanStart && it.place == connection.connect_sent.place)
        && world.client(delivery.client).online.len() > 1;
    // What was submitted anew since is a new message to the broker.
    if !clean || !had_more || !delivery.is_live() || known.message.submissions > 1 {
        return;
    }
    ledger.oblige(PromiseId::D11, delivery.version);
    if known.message.acked > 0 && known.message.acked < connection.connect_sent.place {
        let why = "it was finally acknowledged before the client asked for a clean start";
        broken(world, delivery, PromiseId::D11, why, ledger);
    }
}

fn judge_no_local(world: &World, delivery: &Delivery<'_>, known: &Known<'_>, ledger: &mut Ledger) {
    let own = world.stream(known.stream).client == delivery.client;
    if own && delivery.routes.no_local == delivery.routes.lawful {
        ledger.oblige(PromiseId::V2, delivery.version);
        broken(world, delivery, PromiseId::V2, "its client sent it and asked for No Local", ledger);
    }
}

/// A filter that begins with a wildcard does not match a topic that begins with `$`.
fn judge_hidden(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    let topic = &delivery.publish.topic;
    if !topic.starts_with('$') || delivery.routes.lawful > 0 {
        return;
    }
    let filters = world.client(delivery.client).subscriptions.iter().map(|it| topic::unshared(&it.filter).0);
    if filters.into_iter().any(|filter| topic::matches_levels(filter, topic)) {
        ledger.oblige(PromiseId::D9, delivery.version);
        let why = "only a filter that begins with a wildcard could match, and `$` hides the topic from it";
        broken(world, delivery, PromiseId::D9, why, ledger);
    }
}

fn broken(world: &World, delivery: &Delivery<'_>, id: PromiseId, why: &str, ledger: &mut Ledger) {
    ledger.broken(world, id, world.scope(delivery), || {
        let client = world.client(delivery.client);
        let mut lines = world.control_lines(delivery.client, 0);
        lines.push(world.delivery_line(delivery));
        let message =
            format!("a message on {} reached session {}: {why}", delivery.publish.topic, client.name);
        Evidence { message, lines }
    });
}
