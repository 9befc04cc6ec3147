//! L2, L3, L5 and S14: whether the other end still does anything.
//!
//! A wedge is a client whose connections the broker closes five times in a row within five seconds each, without having
//! answered anything or delivered anything new, and with no fault, takeover or stated reason in between. A PINGREQ has five seconds. A silent
//! client is to be closed behind one and a half keep-alives; two seconds or a quarter are allowed on top.

use super::excerpt::{Direction, line};
use super::ledger::{Evidence, Ledger, Scope};
use super::world::client::Connection;
use super::world::{ClientIx, ConnIx, GroupIx, NEVER, World};
use crate::event::{BrokerEvent, BrokerKind, Closing, Role};
use crate::marker::Identity;
use crate::packet::{Packet, Publish};
use crate::promise::PromiseId;
use rustc_hash::FxHashMap;

const SECOND_NS: u64 = 1_000_000_000;
const PATIENCE_NS: u64 = 5 * SECOND_NS;
/// Fruitless connections in a row that make a wedge.
const LOOPS_MIN: u32 = 5;

/// Fruitless connections in a row, by client.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    loops: FxHashMap<ClientIx, u32>,
    /// By connection, whether it has got an answer.
    answered: Vec<bool>,
}

impl Liveness {
    pub(crate) fn received(&mut self, world: &World, at: ConnIx, it: &Packet, ledger: &mut Ledger) {
        let connection = world.connection(at);
        if let (Packet::Pingresp, false) = (it, connection.pings.is_empty()) {
            ledger.oblige(PromiseId::L3, connection.version);
        }
        let answers = !matches!(
            it,
            Packet::Publish(_)
                | Packet::Pubrel(..)
                | Packet::Connack(_)
                | Packet::Disconnect(..)
                | Packet::Auth(_)
        );
        if answers || brings_something_new(world, connection.client, it) {
            self.loops.remove(&connection.client);
        }
        if answers && !self.mark_answered(at) {
            ledger.oblige_many(PromiseId::L2, connection.version, u64::from(connection.previous.is_some()));
        }
    }

    /// Notes that a connection has got an answer; whether it had one before.
    fn mark_answered(&mut self, at: ConnIx) -> bool {
        let at = at as usize;
        if self.answered.len() <= at {
            self.answered.resize(at + 1, false);
        }
        std::mem::replace(&mut self.answered[at], true)
    }

    /// A fault of ours explains a closed connection.
    pub(crate) fn fault(&mut self, world: &World, client: Option<&str>) {
        match client.and_then(|name| world.client_named(name)) {
            Some(client) => drop(self.loops.remove(&client)),
            None => self.loops.clear(),
        }
    }

    pub(crate) fn closed(&mut self, world: &World, at: ConnIx, closing: Closing, ledger: &mut Ledger) {
        judge_open(world, at, Some(closing), ledger);
        let connection = world.connection(at);
        let client = connection.client;
        let fruitless = closing == Closing::ByBroker
            && connection.role == Role::Own
            && connection.accepted < NEVER
            && !self.answered.get(at as usize).copied().unwrap_or(false)
            && world.client(client).last_connect == Some(at)
            && connection.said_goodbye.is_none()
            && !connection.told_goodbye.is_some_and(is_policy)
            && world.now.at_ns.saturating_sub(connection.accepted_ns) < PATIENCE_NS;
        if !fruitless {
            return;
        }
        let loops = self.loops.entry(client).or_default();
        *loops += 1;
        if *loops == LOOPS_MIN {
            wedged(world, client, ledger);
        }
    }

    pub(crate) fn judge_group(
        &mut self,
        world: &World,
        group: GroupIx,
        kind: BrokerKind,
        ledger: &mut Ledger,
    ) {
        for client in world.clients.iter().filter(|client| client.group == group) {
            if let Some(at) = client.current {
                judge_open(world, at, None, ledger);
            }
        }
        if kind != BrokerKind::Url {
            ledger.oblige(PromiseId::L5, world.group(group).version);
        }
    }
}

/// L5.
pub(crate) fn judge_broker(world: &World, event: BrokerEvent, ledger: &mut Ledger) {
    let last = world.groups.len().checked_sub(1).map(|group| group as GroupIx);
    let Some(group) = world.current_group.or(last) else { return };
    if event != BrokerEvent::Exited || world.is_stopping() {
        return;
    }
    let version = world.group(group).version;
    ledger.oblige(PromiseId::L5, version);
    ledger.broken(world, PromiseId::L5, Scope { group, version, cause: 0 }, || Evidence {
        message: "the broker ended, and nobody had asked it to".to_owned(),
        lines: vec![line(world.now, "broker", Direction::None, "exited")],
    });
}

/// Whether this is a delivery of a message that the client had no copy of.
fn brings_something_new(world: &World, client: ClientIx, it: &Packet) -> bool {
    let Packet::Publish(Publish { identity: Identity::Ours(marker), .. }) = it else { return false };
    let message = world.message(marker.message);
    message.is_some_and(|(stream, _)| {
        world.client(client).copies_of(stream, marker.message.sequence).packets == 0
    })
}

/// A reason to close a connection that is not about what the client did.
fn is_policy(reason: u8) -> bool {
    matches!(reason, 0x87 | 0x89 | 0x8b | 0x8d | 0x8e | 0x96 | 0x97 | 0x98 | 0x9c | 0x9d | 0x9f | 0xa0)
}

fn wedged(world: &World, client: ClientIx, ledger: &mut Ledger) {
    let it = world.client(client);
    ledger.oblige(PromiseId::L2, it.version);
    ledger.broken(world, PromiseId::L2, world.client_scope(client), || Evidence {
        message: format!(
            "{} cannot get on: the broker closed {LOOPS_MIN} connections of it in a row without answering anything",
            it.name
        ),
        lines: world.control_lines(client, 0),
    });
}

/// L3 and S14, for a connection that ends, or that a part leaves open.
fn judge_open(world: &World, at: ConnIx, closing: Option<Closing>, ledger: &mut Ledger) {
    let connection = world.connection(at);
    let unseen = matches!(closing, Some(Closing::Vanished | Closing::Broken));
    if connection.accepted == NEVER || connection.closed.is_some() || unseen {
        return;
    }
    judge_ping(world, connection, ledger);
    judge_keep_alive(world, connection, closing, ledger);
}

fn judge_ping(world: &World, connection: &Connection, ledger: &mut Ledger) {
    let Some(ping) = connection.pings.front() else { return };
    let waited_ns = world.now.at_ns.saturating_sub(ping.at_ns);
    if waited_ns < PATIENCE_NS || world.disturbed_since(connection.client, connection.accepted) {
        return;
    }
    let name = &world.client(connection.client).name;
    ledger.oblige(PromiseId::L3, connection.version);
    ledger.broken(world, PromiseId::L3, world.client_scope(connection.client), || Evidence {
        message: format!("{name} sent PINGREQ, and no PINGRESP came within {} s", waited_ns / SECOND_NS),
        lines: vec![line(*ping, name, Direction::Out, "PINGREQ")],
    });
}

fn judge_keep_alive(world: &World, connection: &Connection, closing: Option<Closing>, ledger: &mut Ledger) {
    let keep_alive_ns = u64::from(connection.keep_alive()) * SECOND_NS;
    let silent_ns = world.now.at_ns.saturating_sub(connection.last_sent.at_ns);
    if keep_alive_ns == 0
        || silent_ns <= keep_alive_ns
        || world.disturbed_since(connection.client, connection.accepted)
    {
        return;
    }
    let limit_ns = keep_alive_ns * 3 / 2;
    let limit_ns = limit_ns + (limit_ns / 4).max(2 * SECOND_NS);
    if silent_ns <= limit_ns {
        let in_time = closing == Some(Closing::ByBroker);
        return ledger.oblige_many(PromiseId::S14, connection.version, u64::from(in_time));
    }
    let name = &world.client(connection.client).name;
    ledger.oblige(PromiseId::S14, connection.version);
    ledger.warn(world, PromiseId::S14, world.client_scope(connection.client), || Evidence {
        message: format!(
            "{name} said nothing for {} s with a keep-alive of {} s, and its connection was still open",
            silent_ns / SECOND_NS,
            keep_alive_ns / SECOND_NS
        ),
        lines: vec![line(connection.last_sent, name, Direction::Out, "the last packet")],
    });
}
