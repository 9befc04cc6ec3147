//! A message that is owed and did not come: excused, a consequence of something else, lost, or undecided.

use super::windows::window_scope;
use super::{Window, loss_id, oblige, was_asked_again};
use crate::checker::excerpt::{Direction, Line, line};
use crate::checker::expiry;
use crate::checker::flow::{Flow, STALL_NS, Stall};
use crate::checker::ledger::{Evidence, Ledger, Scope};
use crate::checker::order::Order;
use crate::checker::world::client::{Client, Sentinel, Why};
use crate::checker::world::message::{Message, State};
use crate::checker::world::{ClientIx, Moment, Place, StreamIx, World};
use crate::event::Closing;
use crate::marker::Purpose;
use crate::promise::PromiseId;
use std::collections::BTreeSet;

/// The excuse of what a broker took along when it ended.
pub(crate) const BROKER_ENDED: &str = "the broker ended, and its profile does not cover that";

/// A message that is owed and did not come.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) client: ClientIx,
    pub(super) stream: StreamIx,
    pub(super) sequence: u64,
    pub(super) message: Message,
    /// The least and the most that it may have had, where its filter was granted anew while it was on its way.
    pub(super) qos: u8,
    pub(super) qos_most: u8,
    pub(super) windows: Vec<Window>,
    pub(super) why: Owed,
    /// The sentinel, or a later message, that proved it lost, whatever happened to the session afterwards.
    pub(super) proved: Option<Place>,
}

/// Why it is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// It is finally acknowledged.
    Acknowledged,
    /// It is not, but reached another session, so that the broker had it.
    KnownElsewhere,
}

pub(super) fn judge_missing(
    world: &World,
    it: &Missing,
    dead: &BTreeSet<Window>,
    flow: &Flow,
    ledger: &mut Ledger,
) {
    if it.message.purpose == Some(Purpose::Canary) {
        return;
    }
    let version = world.client(it.client).version;
    let expired = expiry::has_expired(world, it.client, &it.message);
    ledger.oblige_many(PromiseId::E1, version, u64::from(expired));
    let large = it.message.expiry().is_none() && is_too_large(world, it);
    ledger.oblige_many(PromiseId::E3, version, u64::from(large));
    if let Some(why) =
        broken_off(world, it).filter(|_| it.proved.or_else(|| sentinel_behind(world, it)).is_none())
    {
        excuse(it, broken_by(why), ledger);
        if why == Why::Lost && it.why == Owed::Acknowledged {
            ledger.consequence(PromiseId::S2, world.client_scope(it.client), 1);
        }
        return;
    }
    if let Some(reason) = lifted_by_message(world, it).filter(|_| it.proved.is_none()) {
        return excuse(it, reason, ledger);
    }
    if let Some((client, at, _)) = sent_to_dead(world, it, dead) {
        excuse(it, "its filter was dead after a resumption (S5)", ledger);
        return ledger.consequence(PromiseId::S5, window_scope(world, client, at), 1);
    }
    match (it.proved.or_else(|| sentinel_behind(world, it)), it.why) {
        (Some(at), Owed::Acknowledged) => lost(world, it, at, ledger),
        (Some(at), Owed::KnownElsewhere) => missing_here_only(world, it, at, ledger),
        (None, Owed::Acknowledged) => stalled(world, it, flow, ledger),
        (None, Owed::KnownElsewhere) => {}
    }
}

/// Why the session's lineage ended behind this message, if it did.
pub(super) fn broken_off(world: &World, it: &Missing) -> Option<Why> {
    let breaks = &world.client(it.client).breaks;
    breaks.iter().find(|at| at.place > it.message.first_sent).map(|at| at.why)
}

/// What lifts the obligation whatever the session did.
pub(super) fn lifted_by_message(world: &World, it: &Missing) -> Option<&'static str> {
    let reasons = [
        (expiry::may_have_expired(world, &it.message), "the message may have expired"),
        (world.excused_since(it.message.first_sent) || sent_in_doubt(world, it), BROKER_ENDED),
        (is_too_large(world, it), "the message was larger than the client takes"),
    ];
    reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
}

/// The dead filter for which it was sent, also where that was asked for again before the message was acknowledged.
fn sent_to_dead(world: &World, it: &Missing, dead: &BTreeSet<Window>) -> Option<Window> {
    let client = world.client(it.client);
    let after = client.resumes.partition_point(|place| *place < it.message.first_sent);
    let topic = &world.stream(it.stream).topic;
    let of_message = |(ix, at, resume): &&Window| {
        *ix == it.client && resume + 1 == after && client.subscriptions[*at].matches(topic)
    };
    dead.iter().find(of_message).copied()
}

/// Whether nobody could know yet which filters the session had kept: it had not come back since the broker ended in a
/// way that its profile does not cover.
fn sent_in_doubt(world: &World, it: &Missing) -> bool {
    let online = &world.client(it.client).online;
    let came = online.partition_point(|(from, _)| *from <= it.message.first_sent);
    came.checked_sub(1).is_some_and(|last| world.excused_since(online[last].0))
}

pub(super) fn broken_by(why: Why) -> &'static str {
    match why {
        Why::CleanStart => "the session was ended by a clean start",
        Why::Ended => "the session ended with its connection",
        Why::Lost => "the session was lost (S2)",
        Why::Gone => "the session was gone, as it may be",
        Why::Wiped => "the client forgot its state",
    }
}

pub(super) fn excuse(it: &Missing, reason: &'static str, ledger: &mut Ledger) {
    if it.why == Owed::Acknowledged {
        ledger.excuse(reason);
    }
}

pub(super) fn is_too_large(world: &World, it: &Missing) -> bool {
    // A generous bound on what stands around topic and payload in a PUBLISH without properties.
    let len = u64::from(it.message.payload_len()) + world.stream(it.stream).topic.len() as u64 + 16;
    len > u64::from(world.client(it.client).least_packet_max)
}

/// Where the sentinels had come that the broker received behind this message, one of each QoS that it may have had.
pub(super) fn sentinel_behind(world: &World, it: &Missing) -> Option<Place> {
    let sentinels = &world.client(it.client).sentinels;
    behind_at_each(it, |qos| is_behind(world, it, sentinels.get(&(it.stream, qos))?))
}

/// Where any messages of the stream had come that had to come behind this one.
pub(super) fn successor(world: &World, it: &Missing, order: &Order) -> Option<Place> {
    let client = world.client(it.client);
    behind_at_each(it, |qos| {
        let sequence = order.latest(world, it.client, it.stream, qos)?;
        let at = client.copies_of(it.stream, sequence).first;
        is_behind(world, it, &Sentinel { sequence, at, lineage: client.lineage })
    })
}

/// Messages are in order among those of one QoS.
fn behind_at_each(it: &Missing, behind: impl Fn(u8) -> Option<Place>) -> Option<Place> {
    (it.qos..=it.qos_most).map(behind).try_fold(0, |latest, place| Some(place?.max(latest)))
}

fn is_behind(world: &World, it: &Missing, sentinel: &Sentinel) -> Option<Place> {
    let client = world.client(it.client);
    let sent = world.stream(it.stream).messages.at(sentinel.sequence)?;
    let same_lineage = it.message.lineage == sent.lineage
        && it.message.first_sent < sent.first_sent
        && !it.message.unordered
        && it.message.submissions == 1
        && sent.submissions == 1;
    // What ends the session later does not undo the loss.
    let whole = !client.breaks.iter().any(|at| it.message.first_sent < at.place && at.place < sentinel.at);
    let acknowledged_before = it.message.acked > 0 && it.message.acked < sent.first_sent;
    let behind = same_lineage || acknowledged_before;
    (behind && whole).then_some(sentinel.at)
}

pub(super) fn lost(world: &World, it: &Missing, sentinel: Place, ledger: &mut Ledger) {
    let client = world.client(it.client);
    let id = loss_id(it.qos);
    if ledger.take_unrecognised(it.client, &world.stream(it.stream).topic) {
        return excuse(it, "a delivery on its topic was damaged beyond recognition (D8)", ledger);
    }
    ledger.tally.lost += 1;
    oblige(ledger, client, &it.message, it.qos);
    let scope =
        Scope { cause: u64::from(it.client) << 32 | u64::from(it.stream), ..world.client_scope(it.client) };
    ledger.broken_by(world, id, scope, sentinel, || loss(world, it, sentinel));
    if was_asked_again(client, world.stream(it.stream), &it.message) {
        ledger.oblige(PromiseId::Q4, client.version);
        ledger.broken_by(world, PromiseId::Q4, scope, sentinel, || loss(world, it, sentinel));
    }
    if !client.was_online(it.message.first_sent) {
        ledger.broken_by(world, PromiseId::S6, scope, sentinel, || loss(world, it, sentinel));
    }
}

pub(super) fn missing_here_only(world: &World, it: &Missing, sentinel: Place, ledger: &mut Ledger) {
    let scope =
        Scope { cause: u64::from(it.client) << 32 | u64::from(it.stream), ..world.client_scope(it.client) };
    let evidence = || {
        let mut evidence = loss(world, it, sentinel);
        evidence
            .message
            .push_str("; its publisher saw no final acknowledgement, but another session received it");
        evidence
    };
    if it.message.state == State::Owned {
        ledger.tally.lost += 1;
        ledger.oblige(loss_id(it.qos), world.client(it.client).version);
        ledger.broken_by(world, loss_id(it.qos), scope, sentinel, evidence);
    } else {
        ledger.warn(world, loss_id(it.qos), scope, evidence);
    }
}

pub(super) fn loss(world: &World, it: &Missing, sentinel: Place) -> Evidence {
    let stream = world.stream(it.stream);
    let client = world.client(it.client);
    let offline = if client.was_online(it.message.first_sent) { "" } else { ", sent while it was offline" };
    Evidence {
        message: format!(
            "QoS {} message {} of {} never reached session {}{offline}, and one behind it did (event \
             {sentinel}){}",
            stream.qos,
            it.sequence,
            stream.topic,
            client.name,
            world.after_restart_by(stream.group, it.message.first_sent, sentinel)
        ),
        lines: missing_lines(world, it),
    }
}

/// The message at its publisher, and what the session's connections went through.
pub(super) fn missing_lines(world: &World, it: &Missing) -> Vec<Line> {
    let stream = world.stream(it.stream);
    let publisher = &world.client(stream.client).name;
    let id = stream.id(it.sequence);
    let text = format!(
        "PUBLISH qos={} topic={} message={}/{}/{}",
        stream.qos, stream.topic, id.publisher, id.stream, id.sequence
    );
    let sent = Moment { place: it.message.first_sent, at_ns: it.message.first_sent_ns };
    let acked = Moment { place: it.message.acked, at_ns: it.message.acked_ns().unwrap_or(0) };
    let mut lines = world.control_lines(it.client, it.message.first_sent);
    lines.push(line(sent, publisher, Direction::Out, text));
    if acked.place > 0 {
        lines.push(line(acked, publisher, Direction::In, "final acknowledgement"));
    }
    lines
}

pub(super) fn stalled(world: &World, it: &Missing, flow: &Flow, ledger: &mut Ledger) {
    let client = world.client(it.client);
    ledger.tally.unresolved += u64::from(it.message.is_load());
    if world.group(client.group).drained && went_away(world, client) {
        return;
    }
    let scope =
        Scope { cause: u64::from(it.client) << 32 | u64::from(it.stream), ..world.client_scope(it.client) };
    ledger.oblige(PromiseId::L1, client.version);
    let evidence = || Evidence {
        message: format!(
            "message {} of {} is owed to session {}, and no sentinel came behind it: late, or lost",
            it.sequence,
            world.stream(it.stream).topic,
            client.name
        ),
        lines: missing_lines(world, it),
    };
    ledger.undecided(world, PromiseId::L1, scope, evidence);
    judge_stall(world, it, flow, scope, ledger);
    ledger.undecided(world, loss_id(it.qos), scope, evidence);
}

/// L4, F4 and F5: the session is connected and has places free, and nothing comes.
pub(super) fn judge_stall(world: &World, it: &Missing, flow: &Flow, scope: Scope, ledger: &mut Ledger) {
    let client = world.client(it.client);
    let Some((stall, until_ns)) = flow.stall(world, it.client) else { return };
    let waited_ns = it.message.acked_ns().map_or(0, |acked_ns| until_ns.saturating_sub(acked_ns));
    // What cut the client off before it came back explains nothing since.
    let since = client.last_accepted.map_or(0, |at| world.connection(at).accepted).max(it.message.first_sent);
    if waited_ns < STALL_NS || world.disturbed_since(it.client, since) {
        return;
    }
    let (id, what) = match stall {
        Stall::Free => (PromiseId::L4, "has places free"),
        Stall::AfterQuota => (PromiseId::F5, "acknowledged and has places free again"),
        Stall::Resumed => (PromiseId::F4, "came back with all its places free, and they never filled"),
    };
    ledger.oblige(id, client.version);
    ledger.broken(world, id, scope, || Evidence {
        message: format!(
            "session {} {what}, is owed message {} of {}, and received nothing for {} s",
            client.name,
            it.sequence,
            world.stream(it.stream).topic,
            STALL_NS / 1_000_000_000
        ),
        lines: missing_lines(world, it),
    });
}

/// The client closed its connection and did not come back, as a test of absence may want.
pub(super) fn went_away(world: &World, client: &Client) -> bool {
    let last = client.last_accepted.map(|at| world.connection(at));
    last.is_some_and(|it| matches!(it.closed, Some(Closing::Fin | Closing::Rst)))
}
