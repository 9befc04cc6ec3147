//! E1, E2 and E3: what a message may not outlive, and how large it may be.
//!
//! A broker may begin to deliver as soon as it has a message, and what it began may come late. So a message has expired
//! before its delivery began for certain only where its session had nobody at the other end from before it was sent
//! until this connection was asked for, and that was later than its acknowledgement and its interval. A second of
//! tolerance is given each way.

use super::ledger::{Evidence, Ledger};
use super::world::client::Connection;
use super::world::delivery::{Delivery, Known};
use super::world::message::Message;
use super::world::{ClientIx, NEVER, World};
use crate::event::Closing;
use crate::packet::Version;
use crate::promise::PromiseId;

const SECOND_NS: u64 = 1_000_000_000;
/// How long after its client ended a connection the broker certainly knows.
const NOTICE_NS: u64 = 100_000_000;

pub(crate) fn judge(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    judge_size(world, delivery, ledger);
    let Some(known) = delivery.known.filter(|known| known.message.expiry().is_some()) else { return };
    if known.copies.first > 0 {
        return;
    }
    // DUP says that an earlier copy was on its way: its delivery had begun.
    let begun = delivery.publish.dup;
    if delivery.is_live() && !begun && has_expired(world, delivery.client, &known.message) {
        ledger.oblige(PromiseId::E1, delivery.version);
        let what = "had expired before its session came back, and was delivered";
        broken(world, delivery, PromiseId::E1, &format!("{} {what}", world.message_name(&known)), ledger);
    }
    if delivery.version == Version::V5_0 && world.stream(known.stream).version == Version::V5_0 {
        judge_interval(world, delivery, &known, ledger);
    }
}

/// Whether a message had expired for certain before its session could receive it.
pub(crate) fn has_expired(world: &World, client: ClientIx, message: &Message) -> bool {
    let Some((expiry, acked_ns)) = message.expiry().zip(message.acked_ns()) else { return false };
    waited_from_ns(world, client, message)
        .is_some_and(|from_ns| from_ns > acked_ns.saturating_add((u64::from(expiry) + 1) * SECOND_NS))
}

/// Whether a message can have expired by now: one that cannot is owed as any other.
pub(crate) fn may_have_expired(world: &World, message: &Message) -> bool {
    message.expiry().is_some_and(|expiry| {
        let limit_ns = u64::from(expiry.saturating_sub(1)) * SECOND_NS;
        world.now.at_ns.saturating_sub(message.first_sent_ns) >= limit_ns
    })
}

/// When the client first asked to come back after a message was sent, if nobody was at the other end until then.
fn waited_from_ns(world: &World, client: ClientIx, message: &Message) -> Option<u64> {
    let mut it = world.connection(world.client(client).last_connect?);
    let before = |it: &Connection| it.previous.map(|at| world.connection(at));
    while let Some(earlier) = before(it).filter(|earlier| earlier.connect_sent.place > message.first_sent) {
        it = earlier;
    }
    let away =
        it.connect_sent.place > message.first_sent && before(it).is_none_or(|it| was_noticed(it, message));
    let goes_on = it.accepted == NEVER || it.resumed;
    (away && goes_on).then_some(it.connect_sent.at_ns)
}

/// Whether the broker knew of a connection's end before a message was sent.
fn was_noticed(before: &Connection, message: &Message) -> bool {
    let notice_ns = match before.closed {
        Some(Closing::ByBroker) => 0,
        Some(Closing::Fin | Closing::Rst) => NOTICE_NS,
        Some(Closing::Broken | Closing::Vanished) | None => return false,
    };
    let end = before.closed_at;
    end.place < message.first_sent && end.at_ns + notice_ns < message.first_sent_ns
}

fn judge_interval(world: &World, delivery: &Delivery<'_>, known: &Known<'_>, ledger: &mut Ledger) {
    let message = &known.message;
    let Some(sent) = message.expiry() else { return };
    let name = world.message_name(known);
    let Some(came) = delivery.publish.message_expiry else {
        ledger.oblige(PromiseId::E2, delivery.version);
        let what = format!("{name} was sent with an expiry interval of {sent} s and came without one");
        return broken(world, delivery, PromiseId::E2, &what, ledger);
    };
    let longest_ns = delivery.now.at_ns.saturating_sub(message.first_sent_ns);
    let shortest_ns = shortest_wait_ns(world, delivery, message);
    let least = u64::from(sent).saturating_sub(longest_ns / SECOND_NS + 2);
    let most = (u64::from(sent) + 1).saturating_sub(shortest_ns / SECOND_NS).min(u64::from(sent));
    ledger.oblige_many(PromiseId::E2, delivery.version, u64::from(shortest_ns >= 2 * SECOND_NS));
    if !(least..=most).contains(&u64::from(came)) {
        ledger.oblige(PromiseId::E2, delivery.version);
        let what = format!(
            "{name} was sent with an expiry interval of {sent} s, waited for {} to {} s, and came with {came} s",
            shortest_ns / SECOND_NS,
            longest_ns / SECOND_NS + 1
        );
        broken(world, delivery, PromiseId::E2, &what, ledger);
    }
}

/// For how long it waited at least: for its session to come back, or for a subscription to ask for it.
fn shortest_wait_ns(world: &World, delivery: &Delivery<'_>, message: &Message) -> u64 {
    let Some(acked_ns) = message.acked_ns() else { return 0 };
    let from_ns = match delivery.is_live() {
        true => waited_from_ns(world, delivery.client, message),
        false if delivery.routes.asked_first < NEVER => Some(delivery.routes.asked_first_ns),
        false => None,
    };
    from_ns.map_or(0, |from_ns| from_ns.saturating_sub(acked_ns))
}

fn judge_size(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    let connect = world.connection(delivery.connection).connect.as_ref();
    let Some(limit) = connect.and_then(|connect| connect.maximum_packet_size) else { return };
    let len = delivery.publish.packet_len;
    if len > limit {
        ledger.oblige(PromiseId::E3, delivery.version);
        let name = &world.client(delivery.client).name;
        let what = format!("session {name} takes packets of up to {limit} bytes, and received one of {len}");
        broken(world, delivery, PromiseId::E3, &what, ledger);
    }
}

fn broken(world: &World, delivery: &Delivery<'_>, id: PromiseId, message: &str, ledger: &mut Ledger) {
    ledger.broken(world, id, world.scope(delivery), || {
        let from = delivery.known.map_or(0, |known| known.message.first_sent);
        let mut lines = world.control_lines(delivery.client, from);
        lines.push(world.delivery_line(delivery));
        Evidence { message: message.to_owned(), lines }
    });
}
