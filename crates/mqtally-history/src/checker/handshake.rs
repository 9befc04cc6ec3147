//! R8, R9 and R10: the publisher's hop.
//!
//! An acknowledgement is right when this connection carried a packet that it answers, or the session still waits for
//! it. A second PUBREC for an exchange that was begun on an earlier connection is odd: a broker may answer what it holds
//! of a session that is back, and the client's repetition. PUBREL without PUBCOMP, and a repeated PUBLISH without PUBREC, are a violation where the broker answered a later
//! PINGREQ of the same connection and had time for an answer that it stores before it sends it, and where it closed
//! connections over the same one three times in a row, without a fault, an end of the broker or a takeover in between.

use super::excerpt::{Direction, ack, line, packet};
use super::ledger::{Evidence, Ledger};
use super::world::{ClientIx, ConnIx, GroupIx, Moment, World};
use crate::event::Closing;
use crate::packet::Packet;
use crate::promise::PromiseId;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;

/// Connections closed over one PUBREL before that is no coincidence.
const CLOSINGS_MIN: u32 = 3;

/// What each connection is owed.
#[derive(Debug, Default)]
pub(crate) struct Handshake {
    links: FxHashMap<ConnIx, Link>,
    closings: FxHashMap<ClientIx, (Asked, u32)>,
}

#[derive(Debug, Default)]
struct Link {
    /// How many answers are due, by kind and packet id.
    due: FxHashMap<(Answer, u16), u32>,
    /// QoS 2 exchanges that were begun on an earlier connection and went on here.
    resumed: FxHashSet<u16>,
    /// PUBRELs without PUBCOMP and repeated PUBLISHes without PUBREC: where they were sent, and whether a later
    /// PINGREQ was answered.
    waiting: BTreeMap<Asked, (Moment, bool)>,
}

/// An answer that has to come, and its packet id.
type Asked = (Answer, u16);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Answer {
    Puback,
    Pubrec,
    Pubcomp,
}

impl Handshake {
    pub(crate) fn sent(&mut self, world: &World, at: ConnIx, it: &Packet) {
        let due = match it {
            Packet::Publish(publish) if publish.qos == 1 => (Answer::Puback, publish.packet_id),
            Packet::Publish(publish) if publish.qos == 2 => (Answer::Pubrec, publish.packet_id),
            Packet::Pubrel(id, _) => (Answer::Pubcomp, *id),
            _ => return,
        };
        let link = self.links.entry(at).or_default();
        *link.due.entry(due).or_default() += 1;
        let repeated = is_repeated(world, at, it);
        if due.0 == Answer::Pubcomp || repeated {
            link.waiting.insert(due, (world.now, false));
        }
        if repeated || (due.0 == Answer::Pubcomp && !link.due.contains_key(&(Answer::Pubrec, due.1))) {
            link.resumed.insert(due.1);
        }
    }

    pub(crate) fn received(&mut self, world: &World, at: ConnIx, it: &Packet, ledger: &mut Ledger) {
        match it {
            Packet::Puback(id, _) => self.answered(world, at, Answer::Puback, *id, it, ledger),
            Packet::Pubrec(id, _) => {
                self.answered(world, at, Answer::Pubrec, *id, it, ledger);
                self.completed(world, at, (Answer::Pubrec, *id), ledger);
            }
            Packet::Pubcomp(id, _) => {
                self.answered(world, at, Answer::Pubcomp, *id, it, ledger);
                self.completed(world, at, (Answer::Pubcomp, *id), ledger);
            }
            Packet::Pingresp => self.ponged(world, at),
            _ => {}
        }
    }

    fn answered(
        &mut self,
        world: &World,
        at: ConnIx,
        kind: Answer,
        id: u16,
        it: &Packet,
        ledger: &mut Ledger,
    ) {
        let connection = world.connection(at);
        ledger.oblige(PromiseId::R10, connection.version);
        let link = self.links.entry(at).or_default();
        if let Some(due) = link.due.get_mut(&(kind, id)).filter(|due| **due > 0) {
            *due -= 1;
            return;
        }
        let waits = world.client(connection.client).outbound.get(&id).is_some_and(|held| match kind {
            Answer::Puback => held.qos == 1,
            Answer::Pubrec => held.qos == 2,
            Answer::Pubcomp => held.qos == 2 && held.released,
        });
        if waits {
            return;
        }
        let scope = world.client_scope(connection.client);
        let evidence = || {
            let name = &world.client(connection.client).name;
            let message = format!("{name} received {}, and nothing that it sent waits for that", packet(it));
            Evidence { message, lines: vec![line(world.now, name, Direction::In, packet(it))] }
        };
        match kind == Answer::Pubrec && link.resumed.contains(&id) {
            true => ledger.warn(world, PromiseId::R10, scope, evidence),
            false => ledger.broken(world, PromiseId::R10, scope, evidence),
        }
    }

    fn completed(&mut self, world: &World, at: ConnIx, asked: Asked, ledger: &mut Ledger) {
        let connection = world.connection(at);
        if self.links.entry(at).or_default().waiting.remove(&asked).is_some() {
            ledger.oblige(asked.0.promise(), connection.version);
        }
        self.closings.remove(&connection.client);
    }

    /// A PINGRESP answers the oldest PINGREQ; what was sent before that has been handled.
    fn ponged(&mut self, world: &World, at: ConnIx) {
        let Some(ping) = world.connection(at).pings.front() else { return };
        let link = self.links.entry(at).or_default();
        for (sent, handled) in link.waiting.values_mut() {
            *handled |= sent.place < ping.place;
        }
    }

    /// A fault of ours explains a closed connection.
    pub(crate) fn fault(&mut self, world: &World, client: Option<&str>) {
        match client.and_then(|name| world.client_named(name)) {
            Some(client) => drop(self.closings.remove(&client)),
            None => self.closings.clear(),
        }
    }

    pub(crate) fn closed(&mut self, world: &World, at: ConnIx, closing: Closing, ledger: &mut Ledger) {
        let Some(link) = self.links.remove(&at) else { return };
        judge_releases(world, at, &link, ledger);
        let client = world.connection(at).client;
        let last = link.waiting.iter().max_by_key(|(_, (sent, _))| sent.place);
        // One that was taken over had to be closed.
        let unprovoked = closing == Closing::ByBroker && world.client(client).last_connect == Some(at);
        let Some((asked, (sent, _))) = last.filter(|_| unprovoked) else { return };
        let times = self.closings.entry(client).or_insert((*asked, 0));
        *times = if times.0 == *asked { (*asked, times.1 + 1) } else { (*asked, 1) };
        if times.1 == CLOSINGS_MIN {
            let what = format!("and the broker closed the connection instead, {CLOSINGS_MIN} times in a row");
            unanswered(world, at, *asked, *sent, &what, ledger);
        }
    }

    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        let mut here: Vec<ConnIx> = self.links.keys().copied().collect();
        here.retain(|at| world.client(world.connection(*at).client).group == group);
        here.sort_unstable();
        for at in here {
            if let Some(link) = self.links.get(&at) {
                judge_releases(world, at, link, ledger);
            }
            self.links.remove(&at);
        }
    }
}

impl Answer {
    fn promise(self) -> PromiseId {
        if self == Answer::Pubrec { PromiseId::R8 } else { PromiseId::R9 }
    }
}

/// A QoS 2 PUBLISH that its session sends once more, before its PUBREL.
fn is_repeated(world: &World, at: ConnIx, it: &Packet) -> bool {
    let Packet::Publish(publish) = it else { return false };
    let outbound = &world.client(world.connection(at).client).outbound;
    publish.qos == 2
        && publish.dup
        && outbound.get(&publish.packet_id).is_some_and(|held| held.qos == 2 && !held.released)
}

fn judge_releases(world: &World, at: ConnIx, link: &Link, ledger: &mut Ledger) {
    let client = world.connection(at).client;
    let due = |sent: &Moment, handled: &bool| *handled && world.had_time(client, *sent);
    for (asked, (sent, _)) in link.waiting.iter().filter(|(_, (sent, handled))| due(sent, handled)) {
        unanswered(world, at, *asked, *sent, "and the broker answered a later PINGREQ", ledger);
    }
}

fn unanswered(world: &World, at: ConnIx, (kind, id): Asked, sent: Moment, what: &str, ledger: &mut Ledger) {
    let connection = world.connection(at);
    let client = world.client(connection.client);
    let (said, owed) = match kind {
        Answer::Pubrec => ("PUBLISH", "PUBREC"),
        Answer::Puback | Answer::Pubcomp => ("PUBREL", "PUBCOMP"),
    };
    ledger.oblige(kind.promise(), connection.version);
    ledger.broken(world, kind.promise(), world.client_scope(connection.client), || {
        let mut lines = world.control_lines(connection.client, sent.place);
        lines.push(line(sent, &client.name, Direction::Out, ack(said, id, 0)));
        Evidence { message: format!("{} sent {said} id {id}, no {owed} came, {what}", client.name), lines }
    });
}
