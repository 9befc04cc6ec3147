//! D1, D2, S5, S6, D7, Q2, Q4, L1 and L4: judged when a part of the run is over, message by message and session by session.
//!
//! A message is owed to a session when it is finally acknowledged and a filter was certain from before its first byte
//! to its acknowledgement, at a QoS above 0. It is lost when a later sentinel of its stream came to the same session
//! and it did not: never because time passed. What is missing without such a sentinel is undecided (L1). A lineage
//! that ended, a fault of the broker that its profile does not cover, an expiry, a size limit, a shared filter and
//! No Local lift the obligation; the messages that a session took along when it was lost against the rules are a
//! consequence of that one violation (S2), and those of a filter that went missing in a resumed session of S5.
//! Canaries probe filters and are owed to S5 alone: a cluster may take a moment to know a new filter.

use super::excerpt::{Direction, Line, line};
use super::flow::{Flow, Stall};
use super::ledger::{Evidence, Ledger, Scope};
use super::world::client::{Client, Copies, Why};
use super::world::message::{Message, State, Stream};
use super::world::subscription::End;
use super::world::{ClientIx, GroupIx, Moment, NEVER, Place, StreamIx, World};
use crate::event::Closing;
use crate::marker::Purpose;
use crate::promise::PromiseId;
use std::collections::{BTreeMap, BTreeSet};

/// The excuse of what a broker took along when it ended.
pub(crate) const BROKER_ENDED: &str = "the broker ended, and its profile does not cover that";

/// Messages other than canaries that have to be missing behind a resumption for its filter to be called dead.
const SILENT_MIN: u32 = 3;
/// A connected session that receives nothing for so long, and is owed something, is stalled.
const STALL_NS: u64 = 10_000_000_000;

pub(crate) fn judge(world: &World, group: GroupIx, flow: &Flow, ledger: &mut Ledger) {
    let mut pass = Pass { world, group, ledger, missing: Vec::new(), alive: BTreeSet::new() };
    for stream in 0..world.streams.len() as StreamIx {
        if world.stream(stream).group == group {
            pass.stream(stream);
        }
    }
    let Pass { missing, alive, .. } = pass;
    let dead = judge_windows(world, &missing, &alive, ledger);
    for it in missing {
        judge_missing(world, &it, &dead, flow, ledger);
    }
    judge_drain(world, group, ledger);
}

/// A filter of a session in the time that one resumption opened: client, place among its filters, resumption.
type Window = (ClientIx, usize, usize);

/// A message that is owed and did not come.
#[derive(Debug)]
struct Missing {
    client: ClientIx,
    stream: StreamIx,
    sequence: u64,
    message: Message,
    qos: u8,
    windows: Vec<Window>,
    why: Owed,
}

/// Why it is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    /// It is finally acknowledged.
    Acknowledged,
    /// It is not, but reached another session, so that the broker had it.
    KnownElsewhere,
}

struct Pass<'a> {
    world: &'a World,
    group: GroupIx,
    ledger: &'a mut Ledger,
    missing: Vec<Missing>,
    alive: BTreeSet<Window>,
}

/// A session that a stream may concern.
struct Reader<'a> {
    ix: ClientIx,
    client: &'a Client,
    matching: Vec<usize>,
    /// One of the filters was subscribed more than once.
    asked_again: bool,
}

/// How a session's filters cover a message.
#[derive(Debug, Clone, Copy, Default)]
struct Cover {
    filters: u8,
    shared: bool,
    own_no_local: bool,
    /// The least that the best filter granted.
    granted: u8,
    /// Each filter has one grant.
    settled: bool,
}

impl Pass<'_> {
    fn stream(&mut self, ix: StreamIx) {
        let world = self.world;
        let stream = world.stream(ix);
        let readers = readers(world, self.group, ix);
        for (sequence, message) in stream.messages.iter().filter(|(_, it)| it.state != State::NeverSent) {
            self.count_published(message);
            let known = readers.iter().any(|it| it.client.copies_of(ix, sequence).live);
            for reader in &readers {
                self.message(ix, sequence, message, reader, known);
            }
        }
    }

    fn count_published(&mut self, message: &Message) {
        if message.is_load() {
            self.ledger.tally.published += 1;
            self.ledger.tally.acknowledged += u64::from(message.state == State::Complete);
        }
    }

    fn message(&mut self, ix: StreamIx, sequence: u64, message: &Message, reader: &Reader<'_>, known: bool) {
        let stream = self.world.stream(ix);
        let copies = reader.client.copies_of(ix, sequence);
        let cover = reader.cover(stream, message);
        if copies.first > 0 {
            return self.arrived(stream, message, reader, cover, &copies);
        }
        if cover.filters == 0 {
            return self.rightly_absent(message, reader);
        }
        if message.state == State::Refused {
            return self.ledger.oblige(PromiseId::D7, reader.client.version);
        }
        if cover.own_no_local {
            return self.ledger.oblige(PromiseId::V2, reader.client.version);
        }
        let why = match message.state {
            State::Complete => Owed::Acknowledged,
            _ => {
                self.ledger.tally.unresolved += u64::from(message.is_load());
                Owed::KnownElsewhere
            }
        };
        let judged = why == Owed::Acknowledged || (known && message.submissions == 1);
        let qos = stream.qos.min(cover.granted);
        if judged && qos > 0 && !cover.shared {
            let windows = reader.windows(message);
            self.missing.push(Missing {
                client: reader.ix,
                stream: ix,
                sequence,
                message: *message,
                qos,
                windows,
                why,
            });
        }
    }

    fn arrived(
        &mut self,
        stream: &Stream,
        message: &Message,
        reader: &Reader<'_>,
        cover: Cover,
        copies: &Copies,
    ) {
        let (client, tally) = (reader.client, &mut self.ledger.tally);
        if message.is_load() {
            tally.delivered += 1;
            let pending = matches!(message.state, State::Indeterminate | State::Owned);
            tally.recovered += u64::from(pending && stream.qos > 0);
        }
        self.alive.extend(reader.windows(message));
        if message.state == State::Refused {
            return self.refused(stream, message, reader, copies);
        }
        let qos = stream.qos.min(cover.granted);
        let owed = message.state == State::Complete && cover.filters > 0 && qos > 0 && !cover.shared;
        if owed && !cover.own_no_local && message.purpose != Some(Purpose::Canary) {
            oblige(self.ledger, client, message, qos);
            let again = reader.asked_again && was_asked_again(client, stream, message);
            self.ledger.oblige_many(PromiseId::Q4, client.version, u64::from(again));
            self.ledger.oblige(PromiseId::L4, client.version);
            self.judge_overlap(stream, message, reader, cover, copies);
        }
    }

    /// D10 and D11 are put to the test by what does not come through a filter that is over.
    fn rightly_absent(&mut self, message: &Message, reader: &Reader<'_>) {
        let filters = || reader.matching.iter().map(|at| &reader.client.subscriptions[*at]);
        if message.state != State::Complete || filters().any(|it| it.gone > message.first_sent) {
            return;
        }
        for (end, id) in [(End::Unsubscribed, PromiseId::D10), (End::Discarded, PromiseId::D11)] {
            let tested = filters().any(|it| it.end == end);
            self.ledger.oblige_many(id, reader.client.version, u64::from(tested));
        }
    }

    fn refused(&mut self, stream: &Stream, message: &Message, reader: &Reader<'_>, copies: &Copies) {
        let client = reader.client;
        self.ledger.oblige(PromiseId::D7, client.version);
        if message.sends > 1 {
            return;
        }
        let scope = self.world.client_scope(reader.ix);
        self.ledger.warn(self.world, PromiseId::D7, scope, || Evidence {
            message: format!(
                "a message of {} that was refused to its publisher reached session {}",
                stream.topic, client.name
            ),
            lines: vec![line(
                copies.first_moment(),
                &client.name,
                Direction::In,
                format!("PUBLISH id={}", copies.packet_id),
            )],
        });
    }

    /// Q2: with several filters, the best QoS among them has to be there once everything has come.
    fn judge_overlap(
        &mut self,
        stream: &Stream,
        message: &Message,
        reader: &Reader<'_>,
        cover: Cover,
        copies: &Copies,
    ) {
        let (world, client) = (self.world, reader.client);
        let drained =
            world.group(self.group).drained && client.breaks.iter().all(|it| it.place < message.first_sent);
        if cover.filters < 2 || !cover.settled || !drained || world.excused_since(message.first_sent) {
            return;
        }
        self.ledger.oblige(PromiseId::Q2, client.version);
        let due = stream.qos.min(cover.granted);
        if copies.max_qos < due {
            self.ledger.broken(world, PromiseId::Q2, world.client_scope(reader.ix), || Evidence {
                message: format!(
                    "several filters of session {} match {}; the best is granted QoS {}, and a message published at \
                     QoS {} came at QoS {} only",
                    client.name, stream.topic, cover.granted, stream.qos, copies.max_qos
                ),
                lines: vec![line(copies.first_moment(), &client.name, Direction::In, format!("PUBLISH id={}", copies.packet_id))],
            });
        }
    }
}

fn readers(world: &World, group: GroupIx, stream: StreamIx) -> Vec<Reader<'_>> {
    let topic = &world.stream(stream).topic;
    let clients = world.clients.iter().enumerate().filter(|(_, client)| client.group == group);
    let reader = |(ix, client): (usize, &'_ Client)| {
        let matching = client.subscriptions.iter().enumerate().filter(|(_, it)| it.matches(topic));
        (ix as ClientIx, matching.map(|(at, _)| at).collect::<Vec<_>>())
    };
    clients
        .map(reader)
        .map(|(ix, matching)| {
            let client = world.client(ix);
            let asked_again = matching.iter().any(|at| client.subscriptions[*at].grants.len() > 1);
            Reader { ix, client, matching, asked_again }
        })
        .filter(|it| !it.matching.is_empty() || it.client.copies.contains_key(&stream))
        .collect()
}

impl Reader<'_> {
    /// The filters that were certain from before the first byte to the final acknowledgement, or, where there is
    /// none, to the end.
    fn cover(&self, stream: &Stream, message: &Message) -> Cover {
        let until = if message.acked > 0 { message.acked } else { NEVER - 1 };
        let mut cover = Cover { settled: true, ..Cover::default() };
        let own = stream.client == self.ix;
        let covering = self.matching.iter().map(|at| &self.client.subscriptions[*at]);
        for subscription in covering.filter(|it| it.covers(message.first_sent, until)) {
            let grants = || subscription.grants_between(message.first_sent, until);
            if own && grants().any(|grant| grant.no_local) {
                cover.own_no_local = true;
                cover.filters = cover.filters.max(1);
                continue;
            }
            let least = grants().map(|grant| grant.granted.unwrap_or(0)).min().unwrap_or(0);
            cover.settled &= grants().count() == 1;
            cover.filters = cover.filters.saturating_add(1);
            cover.shared |= subscription.shared;
            cover.granted = cover.granted.max(least);
        }
        // A filter without No Local delivers the client's own messages all the same.
        cover.own_no_local &= cover.granted == 0 && cover.filters <= 1;
        cover
    }

    /// The windows behind resumptions in which this message was sent.
    fn windows(&self, message: &Message) -> Vec<Window> {
        let after = self.client.resumes.partition_point(|place| *place < message.first_sent);
        let Some(resume) = after.checked_sub(1) else { return Vec::new() };
        let resumed = self.client.resumes[resume];
        let until = message.acked.max(message.first_sent);
        let open = |at: &&usize| {
            let it = &self.client.subscriptions[**at];
            let asked_again = it.grants.iter().any(|grant| grant.asked > resumed && grant.asked < until);
            it.covers(resumed, until) && !it.shared && !asked_again
        };
        self.matching.iter().filter(open).map(|at| (self.ix, *at, resume)).collect()
    }
}

fn loss_id(qos: u8) -> PromiseId {
    if qos == 2 { PromiseId::D2 } else { PromiseId::D1 }
}

fn oblige(ledger: &mut Ledger, client: &Client, message: &Message, qos: u8) {
    ledger.oblige(loss_id(qos), client.version);
    if !client.was_online(message.first_sent) {
        ledger.oblige(PromiseId::S6, client.version);
    }
}

/// Whether one of its filters was subscribed again while a message was under way to the broker.
fn was_asked_again(client: &Client, stream: &Stream, message: &Message) -> bool {
    let matching = client.subscriptions.iter().filter(|it| it.matches(&stream.topic));
    matching.flat_map(|it| it.grants.iter().skip(1)).any(|again| {
        again.asked < message.acked.max(message.first_sent) && again.answered > message.first_sent
    })
}

/// S5: finds the filters that deliver nothing behind a resumption.
fn judge_windows(
    world: &World,
    missing: &[Missing],
    alive: &BTreeSet<Window>,
    ledger: &mut Ledger,
) -> BTreeSet<Window> {
    for (client, ..) in alive {
        ledger.oblige(PromiseId::S5, world.client(*client).version);
    }
    let mut silent: BTreeMap<Window, (u32, &Missing)> = BTreeMap::new();
    let lifted = |it: &Missing| lifted_by_message(world, it).is_some() || broken_off(world, it).is_some();
    for it in missing.iter().filter(|it| it.why == Owed::Acknowledged && !lifted(it)) {
        for window in it.windows.iter().filter(|window| may_be_dead(world, window, alive)) {
            let weight = if it.message.purpose == Some(Purpose::Canary) { SILENT_MIN } else { 1 };
            silent.entry(*window).or_insert((0, it)).0 += weight;
        }
    }
    silent.retain(|_, (weight, first)| *weight >= SILENT_MIN && was_heard_after(world, first));
    for (window, (_, first)) in &silent {
        report_silent(world, *window, first, ledger);
    }
    silent.into_keys().collect()
}

/// Nothing came through the filter in this window or, before it was asked for again, in a later one; and no end of the
/// broker explains that.
fn may_be_dead(world: &World, (ix, at, resume): &Window, alive: &BTreeSet<Window>) -> bool {
    let client = world.client(*ix);
    let resumed = client.resumes[*resume];
    let asked_before = |place| {
        let grants = &client.subscriptions[*at].grants;
        grants.iter().any(|grant| resumed < grant.asked && grant.asked < place)
    };
    let mut later = alive.range((*ix, *at, *resume)..=(*ix, *at, usize::MAX));
    !world.excused_since(resumed) && !later.any(|(.., later)| !asked_before(client.resumes[*later]))
}

fn was_heard_after(world: &World, missing: &Missing) -> bool {
    let last = world.client(missing.client).last_accepted.map(|at| world.connection(at));
    last.is_some_and(|it| it.last_heard > missing.message.acked)
}

fn report_silent(world: &World, (ix, at, resume): Window, first: &Missing, ledger: &mut Ledger) {
    let client = world.client(ix);
    ledger.oblige(PromiseId::S5, client.version);
    let filter = &client.subscriptions[at].filter;
    ledger.broken(world, PromiseId::S5, window_scope(world, ix, at), || Evidence {
        message: format!(
            "session {} was resumed (session present 1), and its filter {filter} delivers nothing since: message {} \
             of {} and all after it are missing",
            client.name,
            first.sequence,
            world.stream(first.stream).topic
        ),
        lines: [world.control_lines(ix, client.resumes[resume] - 1), missing_lines(world, first)].concat(),
    });
}

fn window_scope(world: &World, client: ClientIx, at: usize) -> Scope {
    Scope { cause: u64::from(client) << 32 | at as u64, ..world.client_scope(client) }
}

/// Why the session's lineage ended behind this message, if it did.
fn broken_off(world: &World, it: &Missing) -> Option<Why> {
    let breaks = &world.client(it.client).breaks;
    breaks.iter().find(|at| at.place > it.message.first_sent).map(|at| at.why)
}

/// What lifts the obligation whatever the session did.
fn lifted_by_message(world: &World, it: &Missing) -> Option<&'static str> {
    let reasons = [
        (it.message.expiry().is_some(), "the message may have expired"),
        (world.excused_since(it.message.first_sent), BROKER_ENDED),
        (is_too_large(world, it), "the message was larger than the client takes"),
    ];
    reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
}

fn broken_by(why: Why) -> &'static str {
    match why {
        Why::CleanStart => "the session was ended by a clean start",
        Why::Ended => "the session ended with its connection",
        Why::Lost => "the session was lost (S2)",
        Why::Gone => "the session was gone, as it may be",
        Why::Wiped => "the client forgot its state",
    }
}

fn excuse(it: &Missing, reason: &'static str, ledger: &mut Ledger) {
    if it.why == Owed::Acknowledged {
        ledger.excuse(reason);
    }
}

fn is_too_large(world: &World, it: &Missing) -> bool {
    // A generous bound on what stands around topic and payload in a PUBLISH without properties.
    let len = u64::from(it.message.payload_len()) + world.stream(it.stream).topic.len() as u64 + 16;
    len > u64::from(world.client(it.client).least_packet_max)
}

fn judge_missing(world: &World, it: &Missing, dead: &BTreeSet<Window>, flow: &Flow, ledger: &mut Ledger) {
    if it.message.purpose == Some(Purpose::Canary) {
        return;
    }
    if let Some(why) = broken_off(world, it) {
        excuse(it, broken_by(why), ledger);
        if why == Why::Lost && it.why == Owed::Acknowledged {
            ledger.consequence(PromiseId::S2, world.client_scope(it.client), 1);
        }
        return;
    }
    if let Some(reason) = lifted_by_message(world, it) {
        let version = world.client(it.client).version;
        let expired = super::expiry::has_expired(world, it.client, &it.message);
        ledger.oblige_many(PromiseId::E1, version, u64::from(expired));
        ledger.oblige_many(PromiseId::E3, version, u64::from(is_too_large(world, it)));
        return excuse(it, reason, ledger);
    }
    if let Some((client, at, _)) = it.windows.iter().find(|window| dead.contains(window)) {
        excuse(it, "its filter was dead after a resumption (S5)", ledger);
        return ledger.consequence(PromiseId::S5, window_scope(world, *client, *at), 1);
    }
    match (sentinel_behind(world, it), it.why) {
        (Some(at), Owed::Acknowledged) => lost(world, it, at, ledger),
        (Some(at), Owed::KnownElsewhere) => missing_here_only(world, it, at, ledger),
        (None, Owed::Acknowledged) => stalled(world, it, flow, ledger),
        (None, Owed::KnownElsewhere) => {}
    }
}

/// Where a sentinel came that the broker received behind this message.
fn sentinel_behind(world: &World, it: &Missing) -> Option<Place> {
    let client = world.client(it.client);
    let sentinel = client.sentinels.get(&it.stream)?;
    let sent = world.stream(it.stream).messages.at(sentinel.sequence)?;
    let same_lineage = it.message.lineage == sent.lineage
        && it.message.first_sent < sent.first_sent
        && !it.message.unordered
        && it.message.submissions == 1
        && sent.submissions == 1;
    let acknowledged_before = it.message.acked > 0 && it.message.acked < sent.first_sent;
    let behind = same_lineage || acknowledged_before;
    (behind && sentinel.lineage == client.lineage && sentinel.qos == it.qos).then_some(sentinel.at)
}

fn lost(world: &World, it: &Missing, sentinel: Place, ledger: &mut Ledger) {
    let client = world.client(it.client);
    let id = loss_id(it.qos);
    ledger.tally.lost += 1;
    oblige(ledger, client, &it.message, it.qos);
    let scope =
        Scope { cause: u64::from(it.client) << 32 | u64::from(it.stream), ..world.client_scope(it.client) };
    ledger.broken(world, id, scope, || loss(world, it, sentinel));
    if was_asked_again(client, world.stream(it.stream), &it.message) {
        ledger.oblige(PromiseId::Q4, client.version);
        ledger.broken(world, PromiseId::Q4, scope, || loss(world, it, sentinel));
    }
    if !client.was_online(it.message.first_sent) {
        ledger.broken(world, PromiseId::S6, scope, || loss(world, it, sentinel));
    }
}

fn missing_here_only(world: &World, it: &Missing, sentinel: Place, ledger: &mut Ledger) {
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
        ledger.broken(world, loss_id(it.qos), scope, evidence);
    } else {
        ledger.warn(world, loss_id(it.qos), scope, evidence);
    }
}

fn loss(world: &World, it: &Missing, sentinel: Place) -> Evidence {
    let stream = world.stream(it.stream);
    let client = world.client(it.client);
    let offline = if client.was_online(it.message.first_sent) { "" } else { ", sent while it was offline" };
    Evidence {
        message: format!(
            "QoS {} message {} of {} never reached session {}{offline}, and the sentinel behind it did (event \
             {sentinel}){}",
            stream.qos,
            it.sequence,
            stream.topic,
            client.name,
            world.after_restart(it.message.first_sent)
        ),
        lines: missing_lines(world, it),
    }
}

/// The message at its publisher, and what the session's connections went through.
fn missing_lines(world: &World, it: &Missing) -> Vec<Line> {
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

fn stalled(world: &World, it: &Missing, flow: &Flow, ledger: &mut Ledger) {
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
fn judge_stall(world: &World, it: &Missing, flow: &Flow, scope: Scope, ledger: &mut Ledger) {
    let client = world.client(it.client);
    let waited_ns = it.message.acked_ns().map_or(0, |acked_ns| world.now.at_ns.saturating_sub(acked_ns));
    let stall = client.current.and_then(|at| flow.stall(world, at, STALL_NS));
    let quiet = waited_ns >= STALL_NS && !world.disturbed_since(it.client, it.message.first_sent);
    let Some(stall) = stall.filter(|_| quiet) else { return };
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
fn went_away(world: &World, client: &Client) -> bool {
    let last = client.last_accepted.map(|at| world.connection(at));
    last.is_some_and(|it| matches!(it.closed, Some(Closing::Fin | Closing::Rst)))
}

fn judge_drain(world: &World, group: GroupIx, ledger: &mut Ledger) {
    let it = world.group(group);
    for client in world.clients.iter().filter(|client| client.group == group) {
        ledger.oblige_many(PromiseId::L1, client.version, client.sentinels.len() as u64);
    }
    if it.ended.is_some() && !it.drained {
        let name = super::part(&it.name);
        ledger.unknown(format!("{name} did not drain: a sentinel did not arrive in time"));
        ledger.undecided(world, PromiseId::L1, Scope { group, version: it.version, cause: u64::MAX }, || {
            Evidence { message: format!("{name} ended before every stream was drained"), lines: Vec::new() }
        });
    }
}
