//! V1 and V3, in 5.0: subscription identifiers and topic aliases.
//!
//! An identifier that no matching filter has is wrong at once, and so is a copy without one where its only filter has
//! one. Where several filters match, their identifiers may come in one copy or in several: then the union counts, once
//! the part is drained.

use super::ledger::{Evidence, Ledger};
use super::world::delivery::{Delivery, Known};
use super::world::subscription::End;
use super::world::{ClientIx, GroupIx, NEVER, Place, StreamIx, World};
use crate::packet::Version;
use crate::promise::PromiseId;
use std::collections::BTreeMap;

/// Messages through several filters with identifiers that are remembered at a time.
const PENDING_MAX: usize = 65_536;

/// Messages whose identifiers may come in several copies.
#[derive(Debug, Default)]
pub(crate) struct Identifiers {
    pending: BTreeMap<(StreamIx, u64, ClientIx), Pending>,
}

#[derive(Debug)]
struct Pending {
    sent: Place,
    due: Vec<u32>,
    came: Vec<u32>,
}

impl Identifiers {
    pub(crate) fn judge(&mut self, world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
        if delivery.version != Version::V5_0 {
            return;
        }
        judge_alias(world, delivery, ledger);
        let in_use =
            world.client(delivery.client).uses_identifiers || !delivery.publish.subscription_ids.is_empty();
        if let Some(known) = delivery.known.filter(|_| in_use) {
            self.judge_identifiers(world, delivery, &known, ledger);
        }
    }

    fn judge_identifiers(
        &mut self,
        world: &World,
        delivery: &Delivery<'_>,
        known: &Known<'_>,
        ledger: &mut Ledger,
    ) {
        let (lawful, due) = identifiers(world, delivery, known.message.first_sent);
        let came = &delivery.publish.subscription_ids;
        if let Some(wrong) = came.iter().find(|id| !lawful.contains(id)) {
            ledger.oblige(PromiseId::V1, delivery.version);
            let what = format!("with subscription identifier {wrong}, which no filter that matches it has");
            return broken(world, delivery, &what, ledger);
        }
        if !delivery.is_live() || due.is_empty() {
            return;
        }
        if delivery.routes.lawful == 1 {
            ledger.oblige(PromiseId::V1, delivery.version);
            if came.is_empty() {
                broken(world, delivery, "without the subscription identifier of its filter", ledger);
            }
            return;
        }
        let key = (known.stream, known.marker.message.sequence, delivery.client);
        if self.pending.len() < PENDING_MAX || self.pending.contains_key(&key) {
            let sent = known.message.first_sent;
            let pending = self.pending.entry(key).or_insert(Pending { sent, due, came: Vec::new() });
            pending.came.extend(came);
        }
    }

    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        let here = |stream: StreamIx| world.stream(stream).group == group;
        for ((stream, sequence, client), it) in self.pending.iter().filter(|((stream, ..), _)| here(*stream))
        {
            let whole = world.client(*client).breaks.iter().all(|at| at.place < it.sent);
            if world.group(group).drained && whole && !world.excused_since(it.sent) {
                judge_union(world, (*stream, *sequence, *client), it, ledger);
            }
        }
        self.pending.retain(|(stream, ..), _| !here(*stream));
    }
}

fn judge_union(
    world: &World,
    (stream, sequence, client): (StreamIx, u64, ClientIx),
    it: &Pending,
    ledger: &mut Ledger,
) {
    ledger.oblige(PromiseId::V1, world.client(client).version);
    let Some(missing) = it.due.iter().find(|id| !it.came.contains(id)) else { return };
    ledger.broken(world, PromiseId::V1, world.client_scope(client), || Evidence {
        message: format!(
            "message {sequence} of {} reached session {} without subscription identifier {missing} of a filter that \
             matches it",
            world.stream(stream).topic,
            world.client(client).name
        ),
        lines: world.control_lines(client, 0),
    });
}

/// The identifiers that may come with a copy, and those that have to.
fn identifiers(world: &World, delivery: &Delivery<'_>, sent: Place) -> (Vec<u32>, Vec<u32>) {
    let (mut lawful, mut due) = (Vec::new(), Vec::new());
    let subscriptions = world.client(delivery.client).subscriptions.iter();
    let topic = &delivery.publish.topic;
    for it in subscriptions.filter(|it| it.end != End::Refused && (it.gone > sent) && it.matches(topic)) {
        let mut ids = it.grants_between(sent, delivery.now.place).map(|grant| grant.identifier);
        let first = ids.next().flatten();
        let settled = ids.all(|id| id == first);
        lawful.extend(it.grants.iter().filter_map(|grant| grant.identifier));
        let certain = settled && it.active < sent && it.until == NEVER;
        due.extend(first.filter(|_| certain));
    }
    (lawful, due)
}

fn judge_alias(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    let Some(alias) = delivery.publish.topic_alias else { return };
    ledger.oblige(PromiseId::V3, delivery.version);
    let connect = world.connection(delivery.connection).connect.as_ref();
    let maximum = connect.map_or(0, |connect| connect.topic_alias_maximum);
    let what = match () {
        () if alias == 0 => "topic alias 0".to_owned(),
        () if alias > maximum => format!("topic alias {alias}, and it accepts up to {maximum}"),
        () if delivery.publish.topic.is_empty() => {
            format!("topic alias {alias} alone, which this connection did not define")
        }
        () => return,
    };
    ledger.broken(world, PromiseId::V3, world.client_scope(delivery.client), || Evidence {
        message: format!("session {} received {what}", world.client(delivery.client).name),
        lines: vec![world.delivery_line(delivery)],
    });
}

fn broken(world: &World, delivery: &Delivery<'_>, what: &str, ledger: &mut Ledger) {
    ledger.broken(world, PromiseId::V1, world.client_scope(delivery.client), || Evidence {
        message: format!(
            "a message on {} reached session {} {what}",
            delivery.publish.topic,
            world.client(delivery.client).name
        ),
        lines: vec![world.delivery_line(delivery)],
    });
}
