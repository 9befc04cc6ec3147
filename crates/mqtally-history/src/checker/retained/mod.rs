//! T1 to T9: the last retained message of a topic, for those who subscribe.
//!
//! Each filter of a SUBSCRIBE reads the register of each topic that it matches. What it reads may wait in the session's
//! queue behind other deliveries, over the end of its connection and past UNSUBACK. So a copy is wrong only where no
//! SUBSCRIBE of its session can have read it; and what should have come and did not is broken once the session rests: it
//! has no exchange open, and the broker, which answered something behind SUBACK, sent nothing for a second, or for five
//! where it did not. QoS 0 may be discarded at any time, and a shared filter reads nothing.

mod ask;
mod read;
mod register;

use super::excerpt::{Direction, line};
use super::ledger::{Evidence, Ledger};
use super::world::delivery::{Delivery, Known};
use super::world::{ClientIx, ConnIx, GroupIx, Moment, NEVER, Place, World};
use crate::event::Closing;
use crate::marker::{Identity, Purpose};
use crate::packet::{Packet, Publish, Subscribe};
use crate::promise::PromiseId;
use ask::{Ask, Due};
use read::Read;
use register::{Register, Write};
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

const SECOND_NS: u64 = 1_000_000_000;

/// The registers, and who reads them.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    registers: Vec<Register>,
    of_topic: FxHashMap<Arc<str>, usize>,
    /// Writes without their final acknowledgement.
    pending: FxHashMap<(ClientIx, u16), (usize, Place)>,
    /// What each client's session asked for.
    asks: FxHashMap<ClientIx, Vec<Ask>>,
    /// Clients with an ask that has not rested.
    reading: BTreeSet<ClientIx>,
}

/// Filters of one session that are followed at a time.
const ASKS_MAX: usize = 1024;

impl Retained {
    pub(crate) fn sent(&mut self, world: &World, at: ConnIx, it: &Packet, ledger: &mut Ledger) {
        match it {
            Packet::Publish(publish) => self.published(world, at, publish, ledger),
            Packet::Subscribe(subscribe) => self.asked(world, at, subscribe, ledger),
            Packet::Unsubscribe(_, filters) => self.leaving(world, at, filters, ledger),
            _ => {}
        }
    }

    pub(crate) fn received(&mut self, world: &World, at: ConnIx, it: &Packet, ledger: &mut Ledger) {
        let client = world.connection(at).client;
        match it {
            Packet::Puback(id, reason) | Packet::Pubcomp(id, reason) if !self.pending.is_empty() => {
                self.written((client, *id), world.now, *reason < 0x80);
            }
            Packet::Pubrec(id, 0x80..) => self.written((client, *id), world.now, false),
            Packet::Suback(id, codes) => self.answered(world, at, *id, codes),
            Packet::Pingresp => {
                let ping = world.connection(at).pings.front().map_or(0, |ping| ping.place);
                self.settle(world, at, ping);
            }
            Packet::Connack(connack) if connack.reason == 0 => {
                // A new session has asked for nothing. One that was resumed in doubt may be the old one.
                let fresh = world.connection(at).connect.as_ref().is_some_and(|connect| connect.clean_start);
                if fresh || !connack.session_present {
                    self.forget(world, client, ledger);
                }
            }
            Packet::Unsuback(id, _) => self.left(world, at, *id, ledger),
            _ => {}
        }
    }

    fn published(&mut self, world: &World, at: ConnIx, publish: &Publish, ledger: &mut Ledger) {
        let client = world.connection(at).client;
        let key = (client, publish.packet_id);
        if !publish.retain {
            if publish.qos > 0 && !self.pending.is_empty() {
                self.pending.remove(&key);
            }
            return self.passed_by(publish);
        }
        let register = self.register(&publish.topic);
        let write = Write::of(publish, client, at, world.now);
        if publish.dup && self.pending.get(&key).is_some_and(|(known, _)| *known == register) {
            return;
        }
        if publish.qos > 0 {
            self.pending.insert(key, (register, world.now.place));
        }
        self.judge_over(world, ledger);
        let oldest = self.oldest_reader(world.now);
        self.registers[register].add(write, oldest);
    }

    /// Judges who has read everything, before the registers move on.
    fn judge_over(&mut self, world: &World, ledger: &mut Ledger) {
        let mut reading = std::mem::take(&mut self.reading);
        reading.retain(|client| {
            if let Some(at) = world.client(*client).current {
                self.rest(world, at, ledger);
            }
            let asks = self.asks.get(client).into_iter().flatten();
            asks.into_iter().any(|ask| !ask.has_rested())
        });
        self.reading = reading;
    }

    /// The asks that rest on this connection are judged.
    fn rest(&mut self, world: &World, at: ConnIx, ledger: &mut Ledger) {
        let client = world.connection(at).client;
        let Some(mut asks) = self.asks.remove(&client) else { return };
        let lineage = world.client(client).lineage;
        for ask in asks.iter_mut().filter(|ask| !ask.has_rested() && ask.rests(world, at)) {
            if ask.lineage == lineage && !ask.leaving && ask.is_answered() && !ask.is_stale(world.now) {
                self.judge_reads(world, client, ask, ledger);
            }
            ask.rested = world.now.place;
        }
        drop_left(world, client, &mut asks, ledger);
        self.asks.insert(client, asks);
    }

    /// A will with RETAIN may be written at any time from now on.
    pub(crate) fn will_declared(&mut self, world: &World, at: ConnIx, will: &Publish) {
        if will.retain {
            let register = self.register(&will.topic);
            let write = Write { will: true, ..Write::of(will, world.connection(at).client, at, world.now) };
            let oldest = self.oldest_reader(world.now);
            self.registers[register].add(write, oldest);
        }
    }

    /// A will was seen to be published: with RETAIN, it is written.
    pub(crate) fn will_published(&mut self, world: &World, will: &Publish) {
        let Some(register) = self.of_topic.get(&will.topic) else { return };
        let mut writes = self.registers[*register].writes.iter_mut();
        if let Some(write) = writes.find(|write| write.will && write.is(will)) {
            write.acked = world.now;
            write.will = false;
        }
    }

    /// A message without RETAIN to a topic that has a retained one.
    fn passed_by(&mut self, publish: &Publish) {
        if self.registers.is_empty() {
            return;
        }
        let (Some(register), Identity::Ours(marker)) = (self.of_topic.get(&publish.topic), publish.identity)
        else {
            return;
        };
        self.registers[*register].plain.get_or_insert(marker.message);
    }

    fn register(&mut self, topic: &Arc<str>) -> usize {
        if let Some(at) = self.of_topic.get(topic) {
            return *at;
        }
        self.of_topic.insert(Arc::clone(topic), self.registers.len());
        self.registers.push(Register::new(topic));
        self.registers.len() - 1
    }

    fn oldest_reader(&self, now: Moment) -> Place {
        let reading = self.reading.iter().filter_map(|client| self.asks.get(client)).flatten();
        reading
            .filter(|ask| !ask.has_rested() && !ask.is_stale(now))
            .map(|ask| ask.asked.place)
            .min()
            .unwrap_or(now.place)
    }

    fn written(&mut self, key: (ClientIx, u16), now: Moment, accepted: bool) {
        let Some((register, sent)) = self.pending.remove(&key) else { return };
        let write = self.registers[register].writes.iter_mut().find(|write| write.sent.place == sent);
        if let Some(write) = write.filter(|_| accepted) {
            write.acked = now;
        }
    }

    fn asked(&mut self, world: &World, at: ConnIx, subscribe: &Subscribe, ledger: &mut Ledger) {
        let client = world.connection(at).client;
        self.rest(world, at, ledger);
        let asks = self.asks.entry(client).or_default();
        for filter in &subscribe.filters {
            let ask = Ask::new(world, at, subscribe.packet_id, filter);
            let (old, rest): (Vec<Ask>, Vec<Ask>) = std::mem::take(asks)
                .into_iter()
                .partition(|it| it.has_rested() && it.filter == ask.filter && it.due != Due::Shared);
            old.iter().for_each(|it| judge_suspects(world, client, it, ledger));
            *asks = rest;
            if asks.len() == ASKS_MAX {
                asks.remove(0);
            }
            asks.push(ask);
        }
        self.reading.insert(client);
    }

    fn answered(&mut self, world: &World, at: ConnIx, id: u16, codes: &[u8]) {
        let asks = self.asks.entry(world.connection(at).client).or_default().iter_mut();
        let waiting = asks.filter(|ask| ask.connection == at && ask.packet_id == id && !ask.is_answered());
        for (ask, code) in waiting.zip(codes) {
            ask.answered = world.now;
            ask.refused = *code >= 0x80;
            ask.granted = *code;
        }
    }

    /// Something came that the broker did behind what stands at `behind`.
    fn settle(&mut self, world: &World, at: ConnIx, behind: Place) {
        let asks = self.asks.get_mut(&world.connection(at).client).into_iter().flatten();
        asks.for_each(|ask| ask.settle(world, at, behind));
    }

    pub(crate) fn judge(&mut self, world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
        if let Some(known) = delivery.known.filter(|known| known.marker.purpose != Purpose::Load) {
            self.settle(world, delivery.connection, known.message.first_sent);
        }
        let plain = delivery.known.is_some_and(|known| !known.message.retain);
        if delivery.publish.retain
            && !plain
            && let Some(register) = self.of_topic.get(&delivery.publish.topic)
        {
            let asks = self.asks.get_mut(&delivery.client).into_iter().flatten();
            asks.for_each(|ask| ask.sees(*register));
        }
        match (delivery.publish.retain, delivery.retained) {
            (false, false) => judge_live(world, delivery, ledger),
            (true, false) => judge_flagged(world, delivery, ledger),
            (_, true) => self.judge_retained(world, delivery, ledger),
        }
    }

    fn judge_retained(&mut self, world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
        let publish = delivery.publish;
        if delivery.is_repetition() || is_again(delivery) {
            return;
        }
        if delivery.known.is_some_and(|known| !known.message.retain) {
            ledger.oblige(PromiseId::T5, delivery.version);
            let what = "was published without RETAIN, and came as the retained message of its topic";
            return broken(world, delivery, PromiseId::T5, what, ledger);
        }
        let races = delivery.known.is_some_and(|known| known.message.acked == 0);
        if races && !publish.retain {
            // QoS 0: it may be a live copy that came late.
            return;
        }
        ledger.oblige(PromiseId::T2, delivery.version);
        if !publish.retain {
            broken(world, delivery, PromiseId::T2, "came to a new subscription without RETAIN", ledger);
        }
        let Some(register) = self.of_topic.get(&publish.topic).copied() else { return };
        let readers = self.readers(delivery, register);
        let Some(earliest) = readers.iter().min().copied() else {
            return self.judge_unasked(world, delivery, register, ledger);
        };
        let Some(asks) = self.asks.get_mut(&delivery.client) else { return };
        asks.iter_mut().for_each(|ask| ask.sees(register));
        let established = || asks.iter().filter(|ask| ask.matches(&publish.topic) && !ask.left);
        let answered = established().map(|ask| ask.answered.place).max().unwrap_or(NEVER);
        let settled = established().map(|ask| ask.settled).max().unwrap_or(0);
        let since = delivery.known.filter(|known| known.message.first_sent > answered);
        if since.is_some_and(|known| settled > 0 && known.message.first_sent > settled) {
            let what = "came with RETAIN through a filter that had been there for long";
            ledger.oblige(PromiseId::T3, delivery.version);
            return broken(world, delivery, PromiseId::T3, what, ledger);
        }
        let ask = &mut asks[earliest];
        ask.take(register, publish, world.now, since.map(|known| known.marker.message));
        let asked = ask.asked;
        self.judge_value(world, delivery, register, asked, ledger);
    }

    /// The asks of the session that can have read a copy and have not received its value, by their place.
    fn readers(&self, delivery: &Delivery<'_>, register: usize) -> Vec<usize> {
        let Some(asks) = self.asks.get(&delivery.client) else { return Vec::new() };
        let publish = delivery.publish;
        let write = self.registers[register].writes.iter().find(|write| write.is(publish));
        let sent = match (delivery.known, write) {
            (Some(known), _) => known.message.first_sent,
            (None, Some(write)) if !write.will => write.sent.place,
            (None, _) => 0,
        };
        let reads =
            |ask: &Ask| ask.may_read(sent) && ask.matches(&publish.topic) && !ask.has(register, publish);
        asks.iter().enumerate().filter(|(_, ask)| reads(ask)).map(|(at, _)| at).collect()
    }

    /// T1, T3 and T8: no SUBSCRIBE of the session is left that can have read it.
    fn judge_unasked(&self, world: &World, delivery: &Delivery<'_>, register: usize, ledger: &mut Ledger) {
        let connection = world.connection(delivery.connection);
        let publish = delivery.publish;
        let asks = || {
            let asks = self.asks.get(&delivery.client).into_iter().flatten();
            asks.filter(|ask| ask.matches(&publish.topic) && !ask.refused)
        };
        if world.excused_since(asks().map(|ask| ask.asked.place).min().unwrap_or(NEVER)) {
            return;
        }
        let declined =
            asks().filter(|ask| !matches!(ask.due, Due::Yes | Due::Unsure)).map(|ask| ask.due).max();
        match declined {
            Some(Due::Shared) => {
                return warn(world, delivery, PromiseId::T8, "came through a shared subscription", ledger);
            }
            Some(due) => {
                ledger.oblige(PromiseId::T8, delivery.version);
                let what = match due {
                    Due::NotAgain => "came for a filter that existed, with Retain Handling 1",
                    _ => "came for a filter with Retain Handling 2",
                };
                return broken(world, delivery, PromiseId::T8, what, ledger);
            }
            None => {}
        }
        if asks().any(|ask| ask.has(register, publish))
            && asks().any(|ask| ask.connection == delivery.connection)
        {
            let (id, what) = (PromiseId::T1, "came twice for one subscription");
            // At QoS 1 a copy too many is a nuisance, and no broken promise.
            return match publish.qos {
                1 => warn(world, delivery, id, what, ledger),
                _ => {
                    ledger.oblige(id, delivery.version);
                    broken(world, delivery, id, what, ledger);
                }
            };
        }
        let Some(known) = delivery.known else { return };
        let answered = asks().map(|ask| ask.answered.place).max().unwrap_or(connection.accepted);
        // It may have waited since the client was here before.
        if known.message.first_sent > answered {
            ledger.oblige(PromiseId::T3, delivery.version);
            let what = "came with RETAIN through a filter that had been there for long";
            broken(world, delivery, PromiseId::T3, what, ledger);
        } else if connection.resumed && known.copies.retained && delivery.held.is_none() {
            warn(world, delivery, PromiseId::T8, "came again because its session was resumed", ledger);
        }
    }

    /// T1, T4 and T9: what comes is what the topic holds.
    fn judge_value(
        &self,
        world: &World,
        delivery: &Delivery<'_>,
        register: usize,
        asked: Moment,
        ledger: &mut Ledger,
    ) {
        let (publish, it) = (delivery.publish, &self.registers[register]);
        if publish.payload_len == 0 {
            ledger.oblige(PromiseId::T4, delivery.version);
            return broken(
                world,
                delivery,
                PromiseId::T4,
                "is empty, and came as a retained message",
                ledger,
            );
        }
        // The last of those that carried it: what is submitted again is written again.
        let write = it.writes.iter().rfind(|write| write.is(publish));
        if let Some(write) = write.filter(|write| expired_for_certain(write, asked)) {
            ledger.oblige(PromiseId::T9, delivery.version);
            let what = format!(
                "had expired when its subscription was asked for: its interval was {} s",
                write.expiry.unwrap_or(0)
            );
            return broken(world, delivery, PromiseId::T9, &what, ledger);
        }
        let later = match (write, delivery.known) {
            (Some(write), _) if !write.will => it.later_than(write.acked.place, asked.place),
            (None, Some(known)) if known.message.acked > 0 => it.later_than(known.message.acked, asked.place),
            // What was there before the run.
            (None, None) => it.later_than(0, asked.place),
            _ => None,
        };
        let Some(later) = later.filter(|later| !world.excused_since(later.sent.place)) else { return };
        let id = if later.clears() { PromiseId::T4 } else { PromiseId::T1 };
        ledger.oblige(id, delivery.version);
        let what = match later.clears() {
            true => "came, though an empty message had cleared its topic".to_owned(),
            false => format!("came, though a later one was acknowledged (event {})", later.acked.place),
        };
        broken(world, delivery, id, &what, ledger);
    }

    /// UNSUBSCRIBE: what came by now is what had to come.
    fn leaving(&mut self, world: &World, at: ConnIx, filters: &[Arc<str>], ledger: &mut Ledger) {
        self.rest(world, at, ledger);
        let asks = self.asks.get_mut(&world.connection(at).client).into_iter().flatten();
        for ask in asks.filter(|ask| filters.contains(&ask.filter)) {
            ask.leaving = true;
        }
    }

    fn left(&mut self, world: &World, at: ConnIx, id: u16, ledger: &mut Ledger) {
        let connection = world.connection(at);
        let Some(filters) = connection.unsubscribes.get(&id) else { return };
        let Some(asks) = self.asks.get_mut(&connection.client) else { return };
        for ask in asks.iter_mut().filter(|ask| ask.leaving && filters.contains(&ask.filter)) {
            ask.left = true;
        }
        drop_left(world, connection.client, asks, ledger);
    }

    /// A connection is over: what it had to show is judged, and what it had not waits for the next.
    pub(crate) fn closed(&mut self, world: &World, at: ConnIx, closing: Closing, ledger: &mut Ledger) {
        let client = world.connection(at).client;
        if world.client(client).current != Some(at) || !self.asks.contains_key(&client) {
            return;
        }
        if !matches!(closing, Closing::Broken | Closing::Vanished) {
            self.rest(world, at, ledger);
        }
        if world.client(client).expiry == 0 {
            self.forget(world, client, ledger);
        }
    }

    fn forget(&mut self, world: &World, client: ClientIx, ledger: &mut Ledger) {
        self.reading.remove(&client);
        let asks = self.asks.remove(&client).unwrap_or_default();
        asks.iter().for_each(|ask| judge_suspects(world, client, ask, ledger));
    }

    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        let mut here: Vec<ClientIx> = self.asks.keys().copied().collect();
        here.retain(|client| world.client(*client).group == group);
        here.sort_unstable();
        for client in here {
            if let Some(at) = world.client(client).current {
                self.rest(world, at, ledger);
            }
            self.forget(world, client, ledger);
        }
        self.pending.retain(|(client, _), _| world.client(*client).group != group);
    }

    fn judge_reads(&self, world: &World, client: ClientIx, ask: &Ask, ledger: &mut Ledger) {
        for (ix, register) in self.registers.iter().enumerate().filter(|(_, it)| ask.matches(&it.topic)) {
            let got = ask.seen.contains(&ix);
            Read { world, client, at: ask.connection, ask, register, got }.judge(ledger);
        }
    }
}

/// What was given up and has rested is of no interest any more.
fn drop_left(world: &World, client: ClientIx, asks: &mut Vec<Ask>, ledger: &mut Ledger) {
    asks.retain(|ask| {
        let over = ask.left && ask.has_rested();
        if over {
            judge_suspects(world, client, ask, ledger);
        }
        !over
    });
}

/// T3 at the end: a copy with RETAIN of what was sent to an established filter, and no other copy.
fn judge_suspects(world: &World, client_ix: ClientIx, ask: &Ask, ledger: &mut Ledger) {
    for got in &ask.got {
        let Some(id) = got.suspect else { continue };
        let Some((stream, _)) = world.message(id) else { continue };
        let client = world.client(client_ix);
        if client.copies_of(stream, id.sequence).live {
            continue;
        }
        ledger.oblige(PromiseId::T3, client.version);
        ledger.broken(world, PromiseId::T3, world.client_scope(client_ix), || {
            let topic = &world.stream(stream).topic;
            let text = format!("PUBLISH retain=1 topic={topic} message={}/{}/{}", id.publisher, id.stream, id.sequence);
            Evidence {
                message: format!(
                    "message {} of {topic} was sent when the filter {} of session {} was established, and came with \
                     RETAIN only",
                    id.sequence, ask.filter, client.name
                ),
                lines: vec![line(got.at, &client.name, Direction::In, text)],
            }
        });
    }
}

/// A live copy without RETAIN: right, but where every filter retains as published.
fn judge_live(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    let Some(known) = delivery.known.filter(|known| known.message.retain) else { return };
    ledger.oblige(PromiseId::T3, delivery.version);
    let as_published =
        delivery.routes.lawful > 0 && delivery.routes.all_as_published == delivery.routes.lawful;
    if as_published && always_retained(&known) {
        let what = "was published with RETAIN and came without, through a filter that retains as published";
        broken(world, delivery, PromiseId::T3, what, ledger);
    }
}

/// A live copy with RETAIN: right where a filter retains as published, and the message was.
fn judge_flagged(world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    ledger.oblige(PromiseId::T3, delivery.version);
    if delivery.known.is_some_and(|known| !known.message.retain) {
        let what = "was published without RETAIN, and came with it";
        broken(world, delivery, PromiseId::T3, what, ledger);
    }
}

fn always_retained(known: &Known<'_>) -> bool {
    known.message.submissions == 1
}

/// The same exchange once more: it was taken in with its first packet.
fn is_again(delivery: &Delivery<'_>) -> bool {
    let same = delivery.held.filter(|held| held.subject == delivery.subject);
    same.is_some_and(|held| delivery.publish.dup || held.connection != delivery.connection)
}

/// Whether it had expired when the subscription was asked for.
fn expired_for_certain(write: &Write, asked: Moment) -> bool {
    write.acked.place < NEVER
        && write.expiry.is_some_and(|expiry| {
            write.acked.at_ns.saturating_add((u64::from(expiry) + 1) * SECOND_NS) < asked.at_ns
        })
}

fn broken(world: &World, delivery: &Delivery<'_>, id: PromiseId, what: &str, ledger: &mut Ledger) {
    ledger.broken(world, id, world.client_scope(delivery.client), || evidence(world, delivery, what));
}

fn warn(world: &World, delivery: &Delivery<'_>, id: PromiseId, what: &str, ledger: &mut Ledger) {
    ledger.oblige(id, delivery.version);
    ledger.warn(world, id, world.client_scope(delivery.client), || evidence(world, delivery, what));
}

fn evidence(world: &World, delivery: &Delivery<'_>, what: &str) -> Evidence {
    let mut lines = world.control_lines(delivery.client, 0);
    lines.push(world.delivery_line(delivery));
    let client = &world.client(delivery.client).name;
    let message = format!("a message on {} at session {client} {what}", delivery.publish.topic);
    Evidence { message, lines }
}
