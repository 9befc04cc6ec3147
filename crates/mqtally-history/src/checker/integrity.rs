//! D6 and D8: what arrives was sent, as it was sent.
//!
//! What carries the marker of another run is a left-over and no concern of this one. What carries none is a phantom
//! where it comes live on an ordinary topic that a filter of ours asks for; it may be retained from before, and where
//! a will was set anywhere in the run it may be that.

use super::ledger::{Evidence, Ledger};
use super::world::World;
use super::world::delivery::Delivery;
use crate::marker::{Identity, Marker};
use crate::packet::Version;
use crate::promise::PromiseId;

pub(crate) fn judge(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    match &delivery.publish.identity {
        Identity::Ours(marker) => judge_ours(world, delivery, marker, ledger),
        Identity::Corrupt => {
            ledger.oblige(PromiseId::D8, delivery.version);
            corrupt(world, delivery, "a damaged marker", ledger);
            ledger.unrecognised(delivery.client, &delivery.publish.topic);
        }
        Identity::Unmarked => judge_unmarked(world, delivery, ledger),
        Identity::Foreign => {}
    }
}

fn judge_ours(world: &World, delivery: &Delivery<'_>, marker: &Marker, ledger: &mut Ledger) {
    ledger.oblige(PromiseId::D6, delivery.version);
    let Some(known) = delivery.known else {
        // The messages of a part that is over are forgotten; that its streams existed is not.
        let stream = world.stream_of(marker.message);
        let over = stream.is_some_and(|stream| world.stream(stream).is_forgotten(marker.message.sequence));
        if !over && !world.is_will(marker.message) {
            phantom(world, delivery, "carries a marker of this run that no PUBLISH carried", ledger);
        }
        return;
    };
    ledger.oblige(PromiseId::D8, delivery.version);
    let published_with_5 = world.stream(known.stream).version == Version::V5_0;
    if !known.message.same_payload(delivery.publish, marker) {
        corrupt(world, delivery, "another payload than was sent", ledger);
    } else if world.stream(known.stream).topic != delivery.publish.topic
        && !delivery.publish.topic.is_empty()
        && delivery.routes.lawful > 0
    {
        corrupt(world, delivery, "another topic than it was sent to", ledger);
    } else if delivery.version == Version::V5_0
        && published_with_5
        && !known.message.same_properties(delivery.publish, marker)
    {
        corrupt(world, delivery, "other properties than were sent", ledger);
    }
}

fn judge_unmarked(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    let hidden = delivery.publish.topic.starts_with('$');
    if delivery.is_live() && !hidden && delivery.routes.lawful > 0 && !world.sent_unmarked(delivery.publish) {
        ledger.oblige(PromiseId::D6, delivery.version);
        phantom(world, delivery, "carries no marker, so nobody in this run sent it", ledger);
    }
}

fn phantom(world: &World, delivery: &Delivery<'_>, why: &str, ledger: &mut Ledger) {
    ledger.tally.unexpected += 1;
    ledger.broken(world, PromiseId::D6, world.scope(delivery), || Evidence {
        message: format!(
            "a message on {} reached session {} that {why}",
            delivery.publish.topic,
            world.client(delivery.client).name
        ),
        lines: vec![world.delivery_line(delivery)],
    });
}

fn corrupt(world: &World, delivery: &Delivery<'_>, what: &str, ledger: &mut Ledger) {
    ledger.tally.corrupt += 1;
    ledger.broken(world, PromiseId::D8, world.scope(delivery), || Evidence {
        message: format!(
            "a message on {} reached session {} with {what}",
            delivery.publish.topic,
            world.client(delivery.client).name
        ),
        lines: vec![world.delivery_line(delivery)],
    });
}
