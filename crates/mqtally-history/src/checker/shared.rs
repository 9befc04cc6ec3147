//! V4 and D12: a shared subscription gives each message to one member, and a QoS 2 message stays with it.
//!
//! Only copies count whose one matching filter is the shared one. A member that is gone may lose a QoS 1 message to
//! another, so a second copy is wrong only where the first member stayed connected, and at QoS 2 always. There is no
//! order in a group, so that a message is missing is said only where each member stayed until it had received a later one
//! of the same stream, and for five seconds at least.

use super::excerpt::{Direction, line};
use super::ledger::{Evidence, Ledger};
use super::world::client::Phase;
use super::world::delivery::{Delivery, Known};
use super::world::message::{Message, State};
use super::world::{ClientIx, ConnIx, GroupIx, Moment, Place, StreamIx, World};
use crate::event::Closing;
use crate::packet::{Packet, Version};
use crate::promise::PromiseId;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How long the end of a connection may be recorded after the broker saw it.
const NOTICE_NS: u64 = 1_000_000_000;

/// How long a member that leaves gives the broker to find somebody for a message.
const PATIENCE_NS: u64 = 5_000_000_000;

/// The groups, by their whole filter, and who got what.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    of_filter: FxHashMap<Arc<str>, usize>,
    groups: Vec<Members>,
}

#[derive(Debug, Default)]
struct Members {
    filter: Arc<str>,
    clients: BTreeSet<ClientIx>,
    holders: BTreeMap<StreamIx, BTreeMap<u64, Holder>>,
    /// The latest of what each member received.
    latest: BTreeMap<(StreamIx, ClientIx), Latest>,
    second: Vec<Second>,
}

/// A message, by where it was first sent and where it came.
#[derive(Debug, Clone, Copy, Default)]
struct Latest {
    sent: Place,
    came: Place,
    connection: ConnIx,
}

/// Who got a message first.
#[derive(Debug, Clone, Copy)]
struct Holder {
    client: ClientIx,
    connection: ConnIx,
    qos: u8,
    at: Moment,
}

/// A copy to another member while the first was connected.
#[derive(Debug)]
struct Second {
    first: Holder,
    client: ClientIx,
    stream: StreamIx,
    sequence: u64,
    at: Moment,
}

impl Shared {
    pub(crate) fn sent(&mut self, world: &World, at: ConnIx, it: &Packet) {
        let Packet::Subscribe(subscribe) = it else { return };
        for filter in subscribe.filters.iter().filter(|it| it.filter.starts_with("$share/")) {
            let group = *self.of_filter.entry(Arc::clone(&filter.filter)).or_insert_with(|| {
                self.groups.push(Members { filter: Arc::clone(&filter.filter), ..Members::default() });
                self.groups.len() - 1
            });
            self.groups[group].clients.insert(world.connection(at).client);
        }
    }

    pub(crate) fn judge(&mut self, world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
        if delivery.routes.shared != 1 || delivery.routes.lawful != 1 || delivery.version != Version::V5_0 {
            return;
        }
        let Some(known) = delivery.known else { return };
        let mut filters = world.client(delivery.client).subscriptions.iter();
        let filter = filters.find(|it| it.shared && it.matches(&delivery.publish.topic)).map(|it| &it.filter);
        let Some(group) = filter.and_then(|filter| self.of_filter.get(filter)) else { return };
        let members = &mut self.groups[*group];
        let latest = members.latest.entry((known.stream, delivery.client)).or_default();
        if known.message.first_sent > latest.sent {
            let (sent, came) = (known.message.first_sent, delivery.now.place);
            *latest = Latest { sent, came, connection: delivery.connection };
        }
        members.take(world, delivery, &known, ledger);
    }

    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        for it in &mut self.groups {
            it.judge_absent(world, group, ledger);
            it.judge_seconds(world, group, ledger);
            it.judge_kept(world, group, ledger);
            it.holders.retain(|stream, _| world.stream(*stream).group != group);
            it.latest.retain(|(stream, _), _| world.stream(*stream).group != group);
        }
    }
}

impl Members {
    fn take(&mut self, world: &World, delivery: &Delivery<'_>, known: &Known<'_>, ledger: &mut Ledger) {
        let sequence = known.marker.message.sequence;
        let holders = self.holders.entry(known.stream).or_default();
        let Some(first) = holders.get(&sequence).copied() else {
            let (client, connection) = (delivery.client, delivery.connection);
            holders
                .insert(sequence, Holder { client, connection, qos: delivery.publish.qos, at: delivery.now });
            return ledger.oblige_many(PromiseId::V4, delivery.version, u64::from(self.clients.len() > 1));
        };
        let resubmitted = match known.marker.qos {
            2 => known.message.submissions > 1,
            _ => known.message.sends > 1,
        };
        if first.client == delivery.client || resubmitted || world.excused_since(known.message.first_sent) {
            return;
        }
        let open = world.connection(first.connection).closed.is_none();
        let second =
            Second { first, client: delivery.client, stream: known.stream, sequence, at: delivery.now };
        match (first.qos, open) {
            (2, false) => second.report(world, PromiseId::D12, &self.filter, ledger),
            (0, _) if known.marker.qos != 1 => second.report(world, PromiseId::V4, &self.filter, ledger),
            (_, true) => self.second.push(second),
            _ => {}
        }
    }

    /// A second member got a message while the first was connected, and stayed.
    fn judge_seconds(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        let (here, rest): (Vec<Second>, Vec<Second>) = std::mem::take(&mut self.second)
            .into_iter()
            .partition(|it| world.stream(it.stream).group == group);
        self.second = rest;
        for it in here {
            let first = world.connection(it.first.connection);
            let until_ns = if first.closed.is_some() { first.closed_at.at_ns } else { u64::MAX };
            // What the first member sent behind the second copy, it sent before it ended its connection.
            let by_client = matches!(first.closed, Some(Closing::Fin | Closing::Rst));
            let stayed = by_client && first.last_sent.place > it.at.place;
            let quiet = !world.disturbed_since(it.first.client, it.first.at.place);
            if until_ns > it.at.at_ns + NOTICE_NS || (stayed && quiet) {
                let id = if it.first.qos == 2 { PromiseId::D12 } else { PromiseId::V4 };
                it.report(world, id, &self.filter, ledger);
            }
        }
    }

    /// D12, kept: a QoS 2 message whose holder was cut off, and that nobody else got.
    fn judge_kept(&self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        let streams = self.holders.iter().filter(|(stream, _)| world.stream(**stream).group == group);
        for (stream, holders) in streams.filter(|_| self.clients.len() > 1) {
            for (sequence, it) in holders.iter().filter(|(_, it)| it.qos == 2) {
                let client = world.client(it.client);
                let copies = client.copies_of(*stream, *sequence);
                let waits = client.inbound.get(&copies.packet_id).is_some_and(|held| {
                    held.connection == it.connection && matches!(held.phase, Phase::Publish | Phase::Acked)
                });
                let cut = world.connection(it.connection).closed.is_some() && (copies.packets > 1 || waits);
                ledger.oblige_many(PromiseId::D12, client.version, u64::from(cut));
            }
        }
    }

    /// V4: a message that no member got.
    fn judge_absent(&self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        for stream in 0..world.streams.len() as StreamIx {
            let it = world.stream(stream);
            let since: Option<Place> = self
                .clients
                .iter()
                .map(|client| self.latest.get(&(stream, *client)).map(|latest| latest.sent))
                .min()
                .flatten();
            let Some(since) = since.filter(|_| it.group == group) else { continue };
            let held = self.holders.get(&stream);
            for (sequence, message) in it.messages.iter() {
                let complete = message.state == State::Complete && message.acked < since && it.qos > 0;
                let absent = held.is_none_or(|held| !held.contains_key(&sequence));
                if complete && absent && message.expiry().is_none() && self.stayed(world, stream, message) {
                    self.report_absent(world, stream, sequence, message.first_sent, ledger);
                }
            }
        }
    }

    /// Whether each member was connected and subscribed to nothing else that matches, from before a message was sent until
    /// it had received a later one.
    fn stayed(&self, world: &World, stream: StreamIx, message: &Message) -> bool {
        let (topic, sent) = (&world.stream(stream).topic, message.first_sent);
        self.clients.iter().all(|client| {
            let latest = self.latest.get(&(stream, *client)).copied().unwrap_or_default();
            let (until, connection) = (latest.came, world.connection(latest.connection));
            let left_ns = if connection.closed.is_some() { connection.closed_at.at_ns } else { u64::MAX };
            let patient = left_ns.saturating_sub(message.acked_ns().unwrap_or(u64::MAX)) >= PATIENCE_NS;
            let client = world.client(*client);
            let there = patient && client.online.iter().any(|(from, to)| *from < sent && until < *to);
            let mut matching = client.subscriptions.iter().filter(|it| it.matches(topic));
            let only = matching.next().filter(|_| matching.next().is_none());
            there && only.is_some_and(|it| it.covers(sent, until) && it.filter == self.filter)
        }) && !world.excused_since(sent)
    }

    fn report_absent(
        &self,
        world: &World,
        stream: StreamIx,
        sequence: u64,
        sent: Place,
        ledger: &mut Ledger,
    ) {
        let Some(first) = self.clients.first() else { return };
        ledger.tally.lost += 1;
        ledger.oblige(PromiseId::V4, Version::V5_0);
        ledger.broken(world, PromiseId::V4, world.client_scope(*first), || Evidence {
            message: format!(
                "message {sequence} of {} (event {sent}) reached no member of {}, and each received a later one",
                world.stream(stream).topic,
                self.filter
            ),
            lines: world.control_lines(*first, 0),
        });
    }
}

impl Second {
    fn report(&self, world: &World, id: PromiseId, filter: &str, ledger: &mut Ledger) {
        ledger.tally.duplicated += 1;
        ledger.oblige(id, world.client(self.client).version);
        ledger.broken(world, id, world.client_scope(self.client), || {
            let (first, second) = (&world.client(self.first.client).name, &world.client(self.client).name);
            let id = world.stream(self.stream).id(self.sequence);
            let text = format!("PUBLISH message={}/{}/{}", id.publisher, id.stream, id.sequence);
            Evidence {
                message: format!(
                    "message {} of {} reached {first} at QoS {} and then {second} too, through {filter}",
                    self.sequence,
                    world.stream(self.stream).topic,
                    self.first.qos
                ),
                lines: vec![
                    line(self.first.at, first, Direction::In, &text),
                    line(self.at, second, Direction::In, &text),
                ],
            }
        });
    }
}
