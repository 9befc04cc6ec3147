//! W1 to W6: the will of a connection, and only that of one that ended without a goodbye.
//!
//! How a connection ended decides what is right: without DISCONNECT its will is due, once; behind a DISCONNECT that the
//! broker has read it is not; where the broker may or may not have read it, or ended itself, both are right. A delay
//! counts from when the broker can have noticed, is cut short by the end of the session, and a resumption before it is
//! over calls the will off. A second of tolerance is given each way. What is due and did not come is judged when the
//! witness goes or the part ends, five seconds behind the latest time: no sentinel can stand behind a will.

use super::excerpt::{Direction, Line, line};
use super::ledger::{Evidence, Ledger};
use super::world::client::Connection;
use super::world::delivery::Delivery;
use super::world::{ClientIx, ConnIx, GroupIx, Moment, NEVER, World};
use crate::event::Closing;
use crate::marker::{Identity, MessageId};
use crate::packet::{Connect, Packet, Publish};
use crate::promise::PromiseId;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SECOND_NS: u64 = 1_000_000_000;
/// How much earlier than the end of its connection was recorded a will may come.
const EARLY_NS_MAX: u64 = 2 * SECOND_NS;
/// What is due has to be there by then.
const PATIENCE_NS: u64 = 5 * SECOND_NS;

/// Every will that was declared.
#[derive(Debug, Default)]
pub(crate) struct Wills {
    declared: Vec<Declared>,
    of_key: FxHashMap<Key, usize>,
    of_connection: FxHashMap<ConnIx, (usize, usize)>,
    /// Connections without a will, of clients that declared one before: what they declared, and how they ended.
    without: Vec<(usize, End)>,
}

/// How a will is recognised.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Marked(MessageId),
    Unmarked(Arc<str>, u32, u32),
}

/// One will, which several connections may have declared.
#[derive(Debug)]
struct Declared {
    client: ClientIx,
    message: Publish,
    instances: Vec<Instance>,
    copies: BTreeMap<ClientIx, u32>,
    judged: BTreeSet<ClientIx>,
}

/// The will of one connection.
#[derive(Debug)]
struct Instance {
    connection: ConnIx,
    delay_s: u32,
    end: Option<End>,
    /// It came while the connection seemed open.
    early: Option<(Moment, ClientIx)>,
    reopened: Option<Reopened>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    at: Moment,
    /// The broker cannot have noticed before.
    earliest_ns: u64,
    /// It must have noticed by then.
    latest_ns: u64,
    delay_s: u32,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Due,
    Discarded,
    Either,
}

/// The client's next connection.
#[derive(Debug, Clone, Copy)]
struct Reopened {
    accepted_ns: u64,
    resumed: bool,
}

impl Wills {
    pub(crate) fn sent(&mut self, world: &World, at: ConnIx, it: &Packet) {
        let Packet::Connect(Connect { will: Some(will), .. }) = it else { return };
        let declared = match self.of_key.get(&key(&will.message)) {
            Some(declared) => *declared,
            None => self.declare(world.connection(at).client, &will.message),
        };
        let instances = &mut self.declared[declared].instances;
        self.of_connection.insert(at, (declared, instances.len()));
        let delay_s = will.delay_s;
        instances.push(Instance { connection: at, delay_s, end: None, early: None, reopened: None });
    }

    fn declare(&mut self, client: ClientIx, message: &Publish) -> usize {
        self.of_key.insert(key(message), self.declared.len());
        self.declared.push(Declared {
            client,
            message: message.clone(),
            instances: Vec::new(),
            copies: BTreeMap::new(),
            judged: BTreeSet::new(),
        });
        self.declared.len() - 1
    }

    pub(crate) fn received(&mut self, world: &World, at: ConnIx, it: &Packet) {
        let Packet::Connack(connack) = it else { return };
        let connection = world.connection(at);
        if connack.reason != 0 || self.declared.is_empty() {
            return;
        }
        let reopened = Reopened { accepted_ns: world.now.at_ns, resumed: connack.session_present };
        let mine = self.declared.iter_mut().filter(|it| it.client == connection.client);
        for instance in mine.flat_map(|it| &mut it.instances).filter(|it| it.connection != at) {
            instance.reopened.get_or_insert(reopened);
        }
    }

    pub(crate) fn judge(&mut self, world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) -> bool {
        if self.declared.is_empty() || delivery.known.is_some() {
            return false;
        }
        let Some(at) = self.of_key.get(&key(delivery.publish)).copied() else { return false };
        let again = delivery.held.is_some_and(|held| held.subject == delivery.subject);
        if !again {
            self.judge_copy(world, at, delivery, ledger);
        }
        true
    }

    fn judge_copy(&mut self, world: &World, at: usize, delivery: &Delivery<'_>, ledger: &mut Ledger) {
        let it = &mut self.declared[at];
        judge_body(world, it, delivery, ledger);
        if is_retained_copy(it, delivery) {
            return judge_retained(world, it, delivery, ledger);
        }
        let came = it.copies.entry(delivery.client).or_default();
        *came += 1;
        let count = *came;
        let now_ns = delivery.now.at_ns;
        let possible = it.instances.iter().filter(|it| it.may_be_out(now_ns)).count() as u32;
        if count <= possible * u32::from(delivery.routes.lawful.max(1)) {
            ledger.oblige(PromiseId::W1, delivery.version);
            ledger.oblige(PromiseId::W3, delivery.version);
            let delayed = it.instances.iter().any(|it| it.end.is_some_and(|end| end.delay_s > 0));
            return ledger.oblige_many(PromiseId::W4, delivery.version, u64::from(delayed));
        }
        let open = it.instances.iter_mut().find(|it| it.end.is_none() && it.early.is_none());
        if let Some(instance) = open {
            instance.early = Some((delivery.now, delivery.client));
            return;
        }
        let second = it.message.qos == 1 && world.client(delivery.client).online.len() > 1;
        let (id, what) = it.why_not(world, now_ns);
        if id == PromiseId::W3 && second {
            return;
        }
        ledger.oblige(id, delivery.version);
        ledger
            .broken(world, id, world.client_scope(it.client), || evidence(world, it, delivery.client, what));
    }

    /// A connection is over: its own will, and the wills that its client was to witness.
    pub(crate) fn closed(&mut self, world: &World, at: ConnIx, closing: Closing, ledger: &mut Ledger) {
        if self.declared.is_empty() {
            return;
        }
        let connection = world.connection(at);
        if world.client(connection.client).current == Some(at) {
            self.judge_witness(world, connection.client, ledger);
        }
        let end = end(world, at, closing);
        match self.of_connection.remove(&at) {
            Some((declared, instance)) => {
                let it = &mut self.declared[declared];
                let delay_s = it.instances[instance].delay_s.min(world.client(it.client).expiry);
                it.instances[instance].end = Some(End { delay_s, ..end });
                judge_early(world, it, instance, ledger);
            }
            None if end.fate == Fate::Due => {
                let before = self.declared.iter().rposition(|it| it.client == connection.client);
                self.without.extend(before.map(|before| (before, end)));
            }
            None => {}
        }
    }

    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        for ix in 0..world.clients.len() as ClientIx {
            if world.client(ix).group == group && world.client(ix).current.is_some() {
                self.judge_witness(world, ix, ledger);
            }
        }
        for it in self.declared.iter_mut().filter(|it| world.client(it.client).group == group) {
            for instance in 0..it.instances.len() {
                judge_early(world, it, instance, ledger);
            }
        }
    }

    /// What a client that was there all the time should have seen by now, and should not.
    fn judge_witness(&mut self, world: &World, witness: ClientIx, ledger: &mut Ledger) {
        for it in self.declared.iter_mut().filter(|it| it.message.qos > 0 && it.client != witness) {
            if !it.judged.contains(&witness) && it.judge_witness(world, witness, ledger) {
                it.judged.insert(witness);
            }
        }
        let version = world.client(witness).version;
        for (declared, end) in &self.without {
            let it = &self.declared[*declared];
            let quiet = it.witnesses(world, witness, end) && world.now.at_ns > end.latest_ns + SECOND_NS;
            ledger.oblige_many(PromiseId::W6, version, u64::from(quiet));
        }
    }
}

impl Declared {
    /// True once everything has been judged that there was.
    fn judge_witness(&self, world: &World, witness: ClientIx, ledger: &mut Ledger) -> bool {
        let version = world.client(witness).version;
        let came = self.copies.get(&witness).copied().unwrap_or(0);
        let (mut due, mut seen) = (0, false);
        let ended = self.instances.iter().filter_map(|it| Some((it, it.end?)));
        for (instance, end) in ended.filter(|(_, end)| self.witnesses(world, witness, end)) {
            let latest_ns = end.latest_ns.saturating_add(u64::from(end.delay_s) * SECOND_NS);
            seen = true;
            match end.fate {
                Fate::Discarded if world.now.at_ns > end.latest_ns + SECOND_NS => {
                    ledger.oblige_many(PromiseId::W2, version, u64::from(came == 0));
                }
                Fate::Due if instance.is_called_off() => {
                    ledger.oblige_many(PromiseId::W4, version, u64::from(came == 0));
                }
                Fate::Due if end.delay_s > 0 && instance.reopened.is_some() => {}
                Fate::Due if world.now.at_ns > latest_ns.saturating_add(PATIENCE_NS) => due += 1,
                _ => {}
            }
        }
        if due > came {
            ledger.oblige(PromiseId::W1, version);
            let what = "ended without DISCONNECT, and its will did not come";
            ledger.broken(world, PromiseId::W1, world.client_scope(self.client), || {
                evidence(world, self, witness, what)
            });
        }
        seen
    }

    /// Whether a client was connected and subscribed from before the end until now, at a QoS above 0.
    fn witnesses(&self, world: &World, witness: ClientIx, end: &End) -> bool {
        let client = world.client(witness);
        let there =
            client.online.last().is_some_and(|(from, _)| *from < end.at.place) && client.current.is_some();
        there
            && client.group == world.client(self.client).group
            && client.subscriptions.iter().any(|it| {
                let granted = it.grants.iter().all(|grant| grant.granted.is_some_and(|qos| qos > 0));
                granted && !it.shared && it.matches(&self.message.topic) && it.covers(end.at.place, NEVER - 1)
            })
    }

    /// Why a copy is one too many.
    fn why_not(&self, world: &World, now_ns: u64) -> (PromiseId, &'static str) {
        let last = world.client(self.client).last_connect.map(|at| world.connection(at));
        let without = last.is_some_and(|it| {
            it.connect.as_ref().is_some_and(|connect| connect.will.is_none())
                && it.closed.is_some()
                && it.said_goodbye.is_none()
        });
        let held_back = |it: &Instance| {
            it.is_called_off() || (it.end.is_some_and(|end| end.fate == Fate::Due) && !it.may_be_out(now_ns))
        };
        let discarded = |it: &Instance| it.end.is_some_and(|end| end.fate == Fate::Discarded);
        let out = self.instances.iter().any(|it| it.may_be_out(now_ns));
        match () {
            () if without => (PromiseId::W6, "had no will on its last connection, and an old one came"),
            () if self.instances.iter().any(Instance::is_called_off) => {
                (PromiseId::W4, "resumed its session before the will delay was over, and its will came")
            }
            () if self.instances.iter().any(held_back) => {
                (PromiseId::W4, "has been away for less than its will delay, and its will came")
            }
            () if !out && self.instances.iter().any(discarded) => {
                (PromiseId::W2, "said goodbye with DISCONNECT, and its will came")
            }
            () => (PromiseId::W3, "had its will published more than once"),
        }
    }
}

impl Instance {
    /// Whether the broker can have published it.
    fn may_be_out(&self, now_ns: u64) -> bool {
        let Some(end) = self.end else { return false };
        match end.fate {
            Fate::Discarded => false,
            Fate::Either => true,
            Fate::Due => {
                let session_over = self.reopened.is_some_and(|next| !next.resumed);
                let waited = now_ns + SECOND_NS >= end.earliest_ns + u64::from(end.delay_s) * SECOND_NS;
                (waited || session_over) && !self.is_called_off()
            }
        }
    }

    /// The session was resumed well before the delay was over.
    fn is_called_off(&self) -> bool {
        let Some((end, next)) = self.end.zip(self.reopened) else { return false };
        let over_ns = end.earliest_ns + u64::from(end.delay_s) * SECOND_NS;
        end.delay_s > 0
            && end.fate != Fate::Discarded
            && next.resumed
            && next.accepted_ns + SECOND_NS < over_ns
    }
}

fn key(message: &Publish) -> Key {
    match message.identity {
        Identity::Ours(marker) => Key::Marked(marker.message),
        _ => Key::Unmarked(Arc::clone(&message.topic), message.payload_crc, message.payload_len),
    }
}

/// What the end of a connection means for its will.
fn end(world: &World, at: ConnIx, closing: Closing) -> End {
    let connection = world.connection(at);
    let silence_ns = u64::from(connection.keep_alive()) * SECOND_NS * 3 / 2;
    let unnoticed = matches!(closing, Closing::Broken | Closing::Vanished);
    let earliest_ns = match closing {
        Closing::Fin | Closing::Rst => world.now.at_ns,
        Closing::ByBroker | Closing::Broken | Closing::Vanished => connection.last_heard_ns,
    };
    let late_ns = if unnoticed { silence_ns + silence_ns / 4 + 2 * SECOND_NS } else { 0 };
    let fate = match fate(world, at, connection, closing) {
        Fate::Due if unnoticed && silence_ns == 0 => Fate::Either,
        fate => fate,
    };
    End { at: world.now, earliest_ns, latest_ns: world.now.at_ns + late_ns, delay_s: 0, fate }
}

fn fate(world: &World, at: ConnIx, connection: &Connection, closing: Closing) -> Fate {
    let since = connection.accepted;
    if connection.refused {
        return Fate::Discarded;
    }
    if since == NEVER || world.excused_since(since) || world.restarted_since(since) {
        return Fate::Either;
    }
    let alone = world.client(connection.client).last_connect == Some(at);
    let in_order = matches!(closing, Closing::Fin | Closing::ByBroker);
    match (connection.said_goodbye, connection.told_goodbye) {
        (Some(0), None) if in_order && alone => Fate::Discarded,
        (Some(0), _) => Fate::Either,
        (Some(_), _) if in_order => Fate::Due,
        // The server is shutting down, and may defer its wills.
        (_, Some(0x8b)) => Fate::Either,
        _ => Fate::Due,
    }
}

/// A copy for a new subscription.
fn is_retained_copy(it: &Declared, delivery: &Delivery<'_>) -> bool {
    let ended = it.instances.iter().filter_map(|it| it.end).map(|end| end.at.place).min().unwrap_or(NEVER);
    let as_published =
        delivery.routes.as_published > 0 && it.message.retain && !it.copies.contains_key(&delivery.client);
    delivery.publish.retain && delivery.routes.asked_last > ended && !as_published
}

fn judge_retained(world: &World, it: &Declared, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    ledger.oblige(PromiseId::W5, delivery.version);
    if !it.message.retain {
        let what = "declared its will without RETAIN, and it came as a retained message";
        ledger.broken(world, PromiseId::W5, world.client_scope(it.client), || {
            evidence(world, it, delivery.client, what)
        });
    }
}

/// W5 and D8: QoS, RETAIN and payload as declared.
fn judge_body(world: &World, it: &Declared, delivery: &Delivery<'_>, ledger: &mut Ledger) {
    let (publish, will) = (delivery.publish, &it.message);
    ledger.oblige(PromiseId::W5, delivery.version);
    let granted = (0..=2u8).filter(|qos| delivery.routes.granted & 1 << qos != 0);
    let mut lawful = granted.map(|qos| qos.min(will.qos));
    if delivery.routes.granted > 0 && !lawful.any(|qos| qos == publish.qos) {
        ledger.broken(world, PromiseId::W5, world.client_scope(it.client), || {
            evidence(
                world,
                it,
                delivery.client,
                "had its will published at another QoS than declared and granted",
            )
        });
    }
    let as_published = delivery.routes.as_published > 0 && will.retain;
    if publish.retain && !is_retained_copy(it, delivery) && !as_published && delivery.routes.lawful > 0 {
        ledger.oblige(PromiseId::W5, delivery.version);
        ledger.broken(world, PromiseId::W5, world.client_scope(it.client), || {
            evidence(world, it, delivery.client, "had its will published live, and it came with RETAIN")
        });
    }
    if (publish.payload_crc, publish.payload_len) != (will.payload_crc, will.payload_len) {
        ledger.tally.corrupt += 1;
        ledger.oblige(PromiseId::D8, delivery.version);
        ledger.broken(world, PromiseId::D8, world.client_scope(it.client), || {
            evidence(world, it, delivery.client, "had another will published than it declared")
        });
    }
}

/// A will that came while its connection seemed open.
fn judge_early(world: &World, it: &mut Declared, instance: usize, ledger: &mut Ledger) {
    let version = world.client(it.client).version;
    let Some((early, witness)) = it.instances[instance].early.take() else { return };
    let end = it.instances[instance].end;
    let (id, what) = match end.map(|end| end.fate) {
        Some(Fate::Discarded) => (PromiseId::W2, "said goodbye with DISCONNECT, and its will came"),
        Some(_) if world.now.at_ns.saturating_sub(early.at_ns) <= EARLY_NS_MAX => {
            return ledger.oblige(PromiseId::W1, version);
        }
        None if it.instances.iter().any(Instance::is_called_off) => {
            (PromiseId::W4, "resumed its session before the will delay was over, and its will came")
        }
        _ => (PromiseId::W1, "was still connected, and its will came"),
    };
    ledger.oblige(id, version);
    ledger.broken(world, id, world.client_scope(it.client), || evidence(world, it, witness, what));
}

fn evidence(world: &World, it: &Declared, witness: ClientIx, what: &str) -> Evidence {
    let (client, will) = (&world.client(it.client).name, &it.message);
    let mut lines: Vec<Line> = world.control_lines(it.client, 0);
    let text =
        format!("will of {client}: topic={} qos={} retain={}", will.topic, will.qos, u8::from(will.retain));
    lines.push(line(world.now, &world.client(witness).name, Direction::None, text));
    Evidence {
        message: format!("{client} {what} (topic {}, witness {})", will.topic, world.client(witness).name),
        lines,
    }
}
