//! D1, D2, S5, S6, D7, Q2, Q4, L1 and L4: judged when a part of the run is over, message by message and session by session.
//!
//! A message is owed to a session when it is finally acknowledged and a filter was certain from before its first byte
//! to its acknowledgement, at a QoS above 0. It is lost when a later sentinel of its stream came to the same session
//! and it did not: never because time passed. What is missing without such a sentinel is undecided (L1). A lineage
//! that ended, a fault of the broker that its profile does not cover, an expiry, a size limit, a shared filter and
//! No Local lift the obligation, and so does a queue that was full, which shows in the same number of messages kept at
//! one end of two times away; the messages that a session took along when it was lost against the rules are a
//! consequence of that one violation (S2), and those of a filter that went missing in a resumed session of S5.
//! Canaries probe filters and are owed to S5 alone: a cluster may take a moment to know a new filter.

mod missing;
mod queue;
mod windows;

pub(crate) use missing::BROKER_ENDED;

use super::excerpt::{Direction, line};
use super::flow::Flow;
use super::ledger::{Evidence, Ledger, Scope};
use super::order::Order;
use super::world::client::{Client, Copies};
use super::world::message::{Message, State, Stream};
use super::world::subscription::End;
use super::world::{ClientIx, GroupIx, NEVER, Place, StreamIx, World};
use crate::marker::Purpose;
use crate::promise::PromiseId;
use missing::{
    Missing, Owed, broken_off, excuse, judge_missing, lifted_by_message, sentinel_behind, successor,
};
use queue::{QUEUE_FULL, Queue, away, limited};
use std::collections::{BTreeMap, BTreeSet};
use windows::judge_windows;

/// What is missing from messages that were forgotten, and windows that were seen to be alive.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    missing: Vec<Missing>,
    alive: BTreeSet<Window>,
    /// What came of the messages that were sent while a session was away, by session and the time it was away.
    queued: BTreeMap<(ClientIx, usize), Queue>,
}

/// Missing messages that are kept to the end of their part, where what became of their filters is known.
const MISSING_MAX: usize = 100_000;

impl Deliveries {
    /// Judges the messages of a stream below `end`, which have had their time; what is missing waits.
    pub(crate) fn retire(
        &mut self,
        world: &World,
        stream: StreamIx,
        end: u64,
        flow: &Flow,
        ledger: &mut Ledger,
    ) {
        let before = self.missing.len();
        let mut pass = Pass { world, group: world.stream(stream).group, ledger, found: self };
        pass.stream(stream, end);
        for it in &mut self.missing[before..] {
            let lifted = broken_off(world, it).is_some() || lifted_by_message(world, it).is_some();
            it.proved = sentinel_behind(world, it).filter(|_| !lifted);
        }
        for it in self.missing.drain(MISSING_MAX.min(self.missing.len())..) {
            judge_missing(world, &it, &BTreeSet::new(), flow, ledger);
        }
    }

    /// Judges everything of a part that is over.
    pub(crate) fn judge_group(
        &mut self,
        world: &World,
        group: GroupIx,
        (flow, order): (&Flow, &Order),
        ledger: &mut Ledger,
    ) {
        let mut pass = Pass { world, group, ledger, found: self };
        for stream in 0..world.streams.len() as StreamIx {
            if world.stream(stream).group == group {
                pass.stream(stream, u64::MAX);
            }
        }
        let Self { mut missing, alive, queued } = std::mem::take(self);
        for it in missing.iter_mut().filter(|it| it.proved.is_none() && sentinel_behind(world, it).is_none())
        {
            let lifted = broken_off(world, it).is_some() || lifted_by_message(world, it).is_some();
            it.proved = successor(world, it, order).filter(|_| !lifted);
        }
        let limited = limited(world, &missing, &queued);
        let (full, missing): (Vec<Missing>, Vec<Missing>) =
            missing.into_iter().partition(|it| limited.contains(&away(world, it.client, &it.message)));
        full.iter().for_each(|it| excuse(it, QUEUE_FULL, ledger));
        let dead = judge_windows(world, &missing, &alive, ledger);
        for it in missing {
            judge_missing(world, &it, &dead, flow, ledger);
        }
        judge_drain(world, group, ledger);
    }
}

/// How far the messages of a stream can be judged and forgotten: each session that it concerns has received a sentinel
/// behind the next one, and nothing before it can change any more.
pub(crate) fn retirable(world: &World, ix: StreamIx) -> u64 {
    let stream = world.stream(ix);
    let passed = |reader: &Reader<'_>| {
        let shared = reader.matching.iter().any(|at| reader.client.subscriptions[*at].shared);
        if shared { 0 } else { reader.client.last_sentinel(ix) }
    };
    let passed = readers(world, stream.group, ix).iter().map(passed).min().unwrap_or(0);
    let before = stream.sentinels.iter().copied().rfind(|sequence| *sequence < passed).unwrap_or(0);
    if before <= stream.retired {
        return stream.retired;
    }
    let lineage = world.client(stream.client).lineage;
    let open = |it: &Message| match it.state {
        State::Owned | State::Indeterminate => stream.qos > 0 && it.lineage == lineage,
        State::NeverSent => true,
        State::Complete | State::Refused => false,
    };
    let end = stream.messages.below(before).find(|(_, it)| open(it)).map_or(before, |(sequence, _)| sequence);
    crate::checker::world::paged::Paged::<Message>::whole_pages(end)
}

/// A filter of a session in the time that one resumption opened: client, place among its filters, resumption.
type Window = (ClientIx, usize, usize);

struct Pass<'a> {
    world: &'a World,
    group: GroupIx,
    ledger: &'a mut Ledger,
    found: &'a mut Deliveries,
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
    /// The most that any filter may have granted.
    granted_most: u8,
    /// Each filter has one grant.
    settled: bool,
}

impl Pass<'_> {
    fn stream(&mut self, ix: StreamIx, end: u64) {
        let world = self.world;
        let stream = world.stream(ix);
        let readers = readers(world, self.group, ix);
        for (sequence, message) in stream.messages.below(end).filter(|(_, it)| it.state != State::NeverSent) {
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
            self.found.missing.push(Missing {
                client: reader.ix,
                stream: ix,
                sequence,
                message: *message,
                qos,
                qos_most: stream.qos.min(cover.granted_most),
                windows,
                why,
                proved: None,
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
        self.found.alive.extend(reader.windows(message));
        if message.state == State::Refused {
            return self.refused(stream, message, reader, copies);
        }
        let qos = stream.qos.min(cover.granted);
        let owed = message.state == State::Complete && cover.filters > 0 && qos > 0 && !cover.shared;
        if owed && let Some(away) = away(self.world, reader.ix, message) {
            let sent = message.first_sent;
            let queue = self.found.queued.entry(away).or_insert(Queue { kept: 0, first: sent, last: sent });
            *queue = Queue { kept: queue.kept + 1, first: queue.first.min(sent), last: queue.last.max(sent) };
        }
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
        cover.granted_most = self.granted_most(message.first_sent, until);
        // A filter without No Local delivers the client's own messages all the same.
        cover.own_no_local &= cover.granted == 0 && cover.filters <= 1;
        cover
    }

    /// The most that any filter may have granted at some time in between.
    fn granted_most(&self, from: Place, until: Place) -> u8 {
        let matching = self.matching.iter().map(|at| &self.client.subscriptions[*at]);
        let grants = matching.filter(|it| it.gone > from).flat_map(|it| it.grants_between(from, until));
        grants.map(|grant| grant.granted.unwrap_or(grant.asked_qos)).max().unwrap_or(0)
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

fn judge_drain(world: &World, group: GroupIx, ledger: &mut Ledger) {
    let it = world.group(group);
    for client in world.clients.iter().filter(|client| client.group == group) {
        ledger.oblige_many(PromiseId::L1, client.version, client.sentinels.len() as u64);
    }
    if it.ended.is_some() && !it.drained {
        let name = super::part(&it.name);
        ledger.unknown(format!(
            "{name} did not drain: a stage came to no end, or a sentinel did not arrive in time"
        ));
        ledger.undecided(world, PromiseId::L1, Scope { group, version: it.version, cause: u64::MAX }, || {
            Evidence { message: format!("{name} ended before every stream was drained"), lines: Vec::new() }
        });
    }
}
