//! R12, S12, F6, O5, A3, A4 and A5: somebody's own client, judged as the broker is.
//!
//! The proxy records what it is about to write to the client, and a cut may come before the client has read it. So an
//! acknowledgement counts as read only once the client answered it, or something that was written behind it; until then
//! both of the client's views are right. What the client sends it has certainly decided to send.
//!
//! A process that ended may have lost its half of the session, which MQTT does not forbid: what it had in flight is not
//! held against its next life.

mod reports;
mod returns;
mod wrong;

pub(crate) use reports::judge_claim;

use super::excerpt::{Direction, ack, line};
use super::ledger::{Evidence, Ledger, Scope};
use super::world::{ClientIx, ConnIx, GroupIx, Moment, NEVER, Place, StreamIx, World};
use crate::event::{Outcome, Role};
use crate::marker::{Identity, MessageId, Purpose};
use crate::packet::{Connack, Packet, Publish, Version};
use crate::promise::PromiseId;
use reports::judge_reports;
use returns::Returns;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet};
use wrong::Wrong;

/// A client that lives for so long on a resumed session has sent again what it wants to.
const PATIENCE_NS: u64 = 5_000_000_000;

/// What is known of each client under test.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    links: FxHashMap<ConnIx, Link>,
    sessions: BTreeMap<ClientIx, Session>,
    returns: Returns,
}

/// What a client has to remember.
#[derive(Debug, Default)]
struct Session {
    outbound: BTreeMap<u16, Sending>,
    /// What it has certainly read the end of, by the packet id that is free since.
    finished: BTreeMap<u16, Sending>,
    /// What an earlier life of its process had in flight.
    forgotten: BTreeMap<u16, Sending>,
    /// The messages that packet ids to it stand for, whatever becomes of its process.
    carried: BTreeMap<u16, (StreamIx, u64)>,
    /// Load that it acknowledged on the wire, and where, until it reports it.
    acknowledged: BTreeMap<(StreamIx, u64), Moment>,
    /// What it reported of each stream, and the latest of it.
    reported: BTreeMap<StreamIx, BTreeSet<u64>>,
}

/// One packet id of the client's.
#[derive(Debug, Clone, Copy)]
struct Sending {
    body: Body,
    qos: u8,
    first: Moment,
    connection: ConnIx,
    released: bool,
    /// PUBACK or PUBREC, written to the client.
    acked: Option<Written>,
    /// The end of the exchange, written to the client.
    done: Option<Written>,
}

/// Something that was written to the client.
#[derive(Debug, Clone, Copy)]
struct Written {
    at: Place,
    connection: ConnIx,
    /// The client has certainly read it.
    read: bool,
}

/// What a PUBLISH of the client's carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Marked(MessageId),
    Unmarked(u32, u32),
}

/// One connection.
#[derive(Debug, Default)]
struct Link {
    maximum: usize,
    unfinished: FxHashSet<u16>,
    /// What it has to answer, by the kind of the answer, and where that was written.
    due: FxHashMap<(Answer, u16), Moment>,
    /// The latest that was answered, by kind.
    answered: [Place; 4],
    /// The client has read what was written up to here.
    read_up_to: Place,
    resumed: bool,
    /// Something new was sent.
    fresh: bool,
    /// The state of a session that the broker does not have any more.
    stale: BTreeMap<u16, Sending>,
    /// The original of what was sent again last.
    again: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
}

/// What a rule looks at.
struct Scene<'a> {
    world: &'a World,
    at: ConnIx,
    client: ClientIx,
    version: Version,
}

impl Subjects {
    pub(crate) fn sent(&mut self, world: &World, at: ConnIx, it: &Packet, ledger: &mut Ledger) {
        let Some(scene) = scene(world, at) else { return };
        let session = self.sessions.entry(scene.client).or_default();
        let link = self.links.entry(at).or_default();
        match it {
            Packet::Connect(connect) => self.returns.connected(world, scene.client, connect, ledger),
            Packet::Publish(publish) if publish.qos > 0 => scene.published(session, link, publish, ledger),
            Packet::Puback(id, reason) => {
                scene.answered(session, link, (Answer::Puback, *id), *reason, ledger);
            }
            Packet::Pubrec(id, reason) => {
                scene.answered(session, link, (Answer::Pubrec, *id), *reason, ledger);
            }
            Packet::Pubcomp(id, reason) => {
                scene.answered(session, link, (Answer::Pubcomp, *id), *reason, ledger);
            }
            Packet::Pubrel(id, _) => scene.released(session, link, *id, ledger),
            _ => {}
        }
    }

    pub(crate) fn received(&mut self, world: &World, at: ConnIx, it: &Packet) {
        let Some(scene) = scene(world, at) else { return };
        let session = self.sessions.entry(scene.client).or_default();
        let link = self.links.entry(at).or_default();
        let now = world.now;
        match it {
            Packet::Connack(connack) if connack.reason == 0 => accepted(session, link, connack),
            Packet::Publish(publish) if publish.qos > 0 => {
                let answer = if publish.qos == 1 { Answer::Puback } else { Answer::Pubrec };
                link.due.insert((answer, publish.packet_id), now);
                match publish.identity {
                    Identity::Ours(marker) if marker.purpose == Purpose::Load => {
                        let carried = world.stream_of(marker.message).map(|it| (it, marker.message.sequence));
                        session.carried.extend(carried.map(|carried| (publish.packet_id, carried)));
                    }
                    _ => drop(session.carried.remove(&publish.packet_id)),
                }
            }
            Packet::Pubrel(id, _) => drop(link.due.insert((Answer::Pubcomp, *id), now)),
            Packet::Puback(id, _) | Packet::Pubcomp(id, _) | Packet::Pubrec(id, 0x80..) => {
                link.unfinished.remove(id);
                if let Some(entry) = session.outbound.get_mut(id) {
                    entry.done = Some(Written { at: now.place, connection: at, read: false });
                }
            }
            Packet::Pubrec(id, _) => {
                link.due.insert((Answer::Pubrel, *id), now);
                if let Some(entry) = session.outbound.get_mut(id) {
                    entry.acked = Some(Written { at: now.place, connection: at, read: false });
                }
            }
            _ => {}
        }
    }

    /// A connection is over.
    pub(crate) fn closed(&mut self, world: &World, at: ConnIx, ledger: &mut Ledger) {
        let (Some(scene), Some(link)) = (scene(world, at), self.links.remove(&at)) else { return };
        let session = self.sessions.entry(scene.client).or_default();
        for entry in session.outbound.values_mut() {
            for written in [&mut entry.acked, &mut entry.done].into_iter().flatten() {
                written.read |= written.connection == at && written.at <= link.read_up_to;
            }
        }
        let read = |entry: &Sending| entry.done.is_some_and(|done| done.read);
        session.finished.extend(session.outbound.iter().filter(|(_, entry)| read(entry)));
        session.outbound.retain(|_, entry| !read(entry));
        if !link.stale.is_empty() && scene.version == Version::V5_0 {
            ledger.oblige(PromiseId::S12, scene.version);
        }
        let connection = world.connection(at);
        let settled = connection.accepted < NEVER
            && connection.last_sent.place > connection.accepted
            && world.now.at_ns.saturating_sub(connection.accepted_ns) >= PATIENCE_NS;
        if link.resumed && settled {
            scene.judge_debts(session, ledger);
        }
        scene.judge_answers(&link, ledger);
    }

    /// Its process ended: what it had in flight its next life may know or not.
    pub(crate) fn wiped(&mut self, world: &World, client: &str) {
        let client = world.client_named(client).filter(|ix| world.client(*ix).role == Role::Subject);
        let Some(client) = client else { return };
        self.returns.ended(client);
        let session = self.sessions.entry(client).or_default();
        let lost = std::mem::take(&mut session.outbound);
        session.forgotten.extend(lost);
        session.finished.clear();
    }

    /// The program reports that it processed a message.
    pub(crate) fn settled(&mut self, world: &World, client: &str, message: MessageId, outcome: Outcome) {
        let client = world.client_named(client).filter(|ix| world.client(*ix).role == Role::Subject);
        let (Some(client), Some(stream)) = (client, world.stream_of(message)) else { return };
        if outcome != Outcome::Failed {
            let session = self.sessions.entry(client).or_default();
            session.acknowledged.remove(&(stream, message.sequence));
            session.reported.entry(stream).or_default().insert(message.sequence);
        }
    }

    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        let mut open: Vec<ConnIx> = self.links.keys().copied().collect();
        open.retain(|at| world.client(world.connection(*at).client).group == group);
        open.sort_unstable();
        open.into_iter().for_each(|at| self.closed(world, at, ledger));
        for (client, session) in self.sessions.iter().filter(|(ix, _)| world.client(**ix).group == group) {
            judge_reports(world, *client, session, ledger);
        }
        self.sessions.retain(|ix, _| world.client(*ix).group != group);
        self.returns.judge_group(world, group, ledger);
    }
}

fn scene(world: &World, at: ConnIx) -> Option<Scene<'_>> {
    let connection = world.connection(at);
    let (client, version) = (connection.client, connection.version);
    (connection.role == Role::Subject).then_some(Scene { world, at, client, version })
}

fn accepted(session: &mut Session, link: &mut Link, connack: &Connack) {
    link.maximum = usize::from(connack.receive_maximum);
    link.resumed = connack.session_present;
    if !connack.session_present {
        link.stale = std::mem::take(&mut session.outbound);
        session.forgotten.clear();
        session.finished.clear();
    }
}

impl Scene<'_> {
    fn published(&self, session: &mut Session, link: &mut Link, it: &Publish, ledger: &mut Ledger) {
        self.judge_quota(link, it.packet_id, ledger);
        let body = body(it);
        let same = session.outbound.get(&it.packet_id).copied().filter(|entry| entry.body == body);
        match same {
            Some(entry) => self.judge_again(link, it, &entry, ledger),
            None => self.judge_fresh(session, link, it, body, ledger),
        }
        let fresh = Sending {
            body,
            qos: it.qos,
            first: self.world.now,
            connection: self.at,
            released: false,
            acked: None,
            done: None,
        };
        let entry = same.map_or(fresh, |entry| Sending { connection: self.at, ..entry });
        session.outbound.insert(it.packet_id, entry);
    }

    /// F6.
    fn judge_quota(&self, link: &mut Link, id: u16, ledger: &mut Ledger) {
        if self.version != Version::V5_0 || link.maximum == 0 {
            return;
        }
        link.unfinished.insert(id);
        let unfinished = link.unfinished.len();
        ledger.oblige_many(PromiseId::F6, self.version, u64::from(unfinished >= link.maximum));
        if unfinished > link.maximum {
            let packet =
                format!("PUBLISH id {id}; {unfinished} unfinished, receive maximum {}", link.maximum);
            self.broken_at(PromiseId::F6, Wrong::AboveReceiveMaximum, (&packet, "PUBLISH", id), None, ledger);
        }
    }

    /// The same message with the same id once more.
    fn judge_again(&self, link: &mut Link, it: &Publish, entry: &Sending, ledger: &mut Ledger) {
        let id = it.packet_id;
        let read = |written: Option<Written>| {
            written.is_some_and(|it| it.read || (it.connection == self.at && it.at <= link.read_up_to))
        };
        ledger.oblige(PromiseId::R12, self.version);
        if entry.released {
            return self.broken12(Wrong::AgainAfterPubrel, id, entry.first, ledger);
        }
        if read(entry.acked) || read(entry.done) {
            return self.broken12(Wrong::AgainAfterAcknowledgement, id, entry.first, ledger);
        }
        if entry.connection == self.at {
            let wrong = Wrong::TwiceOnOneConnection;
            return match self.version {
                Version::V5_0 => self.broken12(wrong, id, entry.first, ledger),
                Version::V3_1_1 => self.warn12(wrong, id, entry.first, ledger),
            };
        }
        if !it.dup {
            self.broken12(Wrong::AgainWithoutDup, id, entry.first, ledger);
        }
        if entry.first.place < link.again {
            self.broken12(Wrong::AgainOutOfOrder, id, entry.first, ledger);
        }
        link.again = link.again.max(entry.first.place);
    }

    fn judge_fresh(
        &self,
        session: &mut Session,
        link: &mut Link,
        it: &Publish,
        body: Body,
        ledger: &mut Ledger,
    ) {
        let id = it.packet_id;
        if it.dup && link.stale.get(&id).is_some_and(|entry| entry.body == body) {
            return self.judge_stale("PUBLISH", id, ledger);
        }
        let in_use = session.outbound.get(&id).filter(|entry| entry.done.is_none());
        if let Some(entry) = in_use {
            ledger.oblige(PromiseId::R12, self.version);
            self.broken12(Wrong::IdInUse, id, entry.first, ledger);
        }
        // The broker has answered with PUBREC and waits for PUBREL: until then the id means the old message to it.
        let forgotten = session.forgotten.remove(&id);
        let taken = forgotten.filter(|old| {
            let held = old.qos == 2 && it.qos == 2 && old.acked.is_some() && old.done.is_none();
            held && !old.released && old.body != body && link.resumed
        });
        if let Some(old) = taken {
            ledger.oblige(PromiseId::R12, self.version);
            self.warn12(Wrong::IdOfAnotherLife, id, old.first, ledger);
        }
        let in_use = in_use.is_some();
        let old = session.outbound.iter().find(|(other, entry)| {
            let unacknowledged = entry.done.is_none() && entry.acked.is_none() && entry.connection != self.at;
            **other != id && matches!(body, Body::Marked(_)) && entry.body == body && unacknowledged
        });
        if let Some((_, entry)) = old.filter(|_| link.resumed) {
            ledger.oblige(PromiseId::R12, self.version);
            return self.broken12(Wrong::AgainWithAnotherId, id, entry.first, ledger);
        }
        let finished = session.finished.remove(&id).filter(|entry| it.dup && entry.body == body);
        if let Some(entry) = finished {
            ledger.oblige(PromiseId::R12, self.version);
            return self.broken12(Wrong::AgainAfterAcknowledgement, id, entry.first, ledger);
        }
        // What it wrote into a dead connection nobody has seen; but that is sent again before anything new.
        if it.dup && link.fresh && !in_use && forgotten.is_none() {
            self.warn12(Wrong::FirstTimeWithDup, id, self.world.now, ledger);
        }
        link.fresh |= !it.dup;
    }

    /// S12: 3.1.1 does not say it.
    fn judge_stale(&self, what: &str, id: u16, ledger: &mut Ledger) {
        if self.version == Version::V5_0 {
            ledger.oblige(PromiseId::S12, self.version);
            self.broken(PromiseId::S12, Wrong::OldSession, what, id, None, ledger);
        }
    }

    fn released(&self, session: &mut Session, link: &mut Link, id: u16, ledger: &mut Ledger) {
        self.judge_in_order(link, (Answer::Pubrel, id), ledger);
        let Some(entry) = session.outbound.get_mut(&id) else {
            if link.stale.get(&id).is_some_and(|entry| entry.qos == 2) {
                self.judge_stale("PUBREL", id, ledger);
            }
            return;
        };
        if entry.connection != self.at {
            ledger.oblige(PromiseId::R12, self.version);
        }
        if entry.qos == 2 && entry.acked.is_none() {
            self.broken(PromiseId::R12, Wrong::PubrelWithoutPubrec, "PUBREL", id, Some(entry.first), ledger);
        }
        if let Some(acked) = &mut entry.acked {
            acked.read = true;
        }
        entry.released = true;
        entry.connection = self.at;
    }

    /// PUBACK, PUBREC or PUBCOMP.
    fn answered(
        &self,
        session: &mut Session,
        link: &mut Link,
        (kind, id): (Answer, u16),
        reason: u8,
        ledger: &mut Ledger,
    ) {
        let held = self.world.client(self.client).inbound.get(&id);
        if !self.judge_in_order(link, (kind, id), ledger) && held.is_none() && reason < 0x80 {
            ledger.oblige(PromiseId::R12, self.version);
            self.broken(PromiseId::R12, Wrong::AcknowledgedNothing, kind.name(), id, None, ledger);
        }
        if !matches!(kind, Answer::Puback | Answer::Pubcomp) || reason >= 0x80 {
            return;
        }
        if let Some((stream, sequence)) = session.carried.remove(&id) {
            let reported = session.reported.get(&stream).is_some_and(|reported| reported.contains(&sequence));
            if !reported {
                session.acknowledged.entry((stream, sequence)).or_insert(self.world.now);
            }
        }
    }

    /// O5: answers go out in the order in which what they answer came. False where nothing was to be answered.
    fn judge_in_order(&self, link: &mut Link, (kind, id): (Answer, u16), ledger: &mut Ledger) -> bool {
        let Some(came) = link.due.remove(&(kind, id)).map(|came| came.place) else { return false };
        link.read_up_to = link.read_up_to.max(came);
        if kind == Answer::Pubcomp {
            return true;
        }
        let latest = &mut link.answered[kind as usize];
        ledger.oblige(PromiseId::O5, self.version);
        if came < *latest {
            self.broken(PromiseId::O5, Wrong::OutOfOrder, kind.name(), id, None, ledger);
        }
        *latest = came.max(*latest);
        true
    }

    /// R12: what a resumed session owes and did not send again.
    fn judge_debts(&self, session: &Session, ledger: &mut Ledger) {
        for (id, entry) in session.outbound.iter().filter(|(_, entry)| entry.done.is_none()) {
            if entry.connection != self.at {
                ledger.oblige(PromiseId::R12, self.version);
                let (wrong, packet) = match entry.released {
                    true => (Wrong::NeverPubrelAgain, "PUBREL"),
                    false => (Wrong::NeverPublishAgain, "PUBLISH"),
                };
                self.broken(PromiseId::R12, wrong, packet, *id, Some(entry.first), ledger);
            }
        }
    }

    /// R12: a PUBREL that it has read and let lie.
    fn judge_answers(&self, link: &Link, ledger: &mut Ledger) {
        let mut owed: Vec<(u16, Moment)> = link
            .due
            .iter()
            .filter(|((kind, _), came)| {
                let waited_ns = self.world.now.at_ns.saturating_sub(came.at_ns);
                *kind == Answer::Pubcomp && came.place < link.read_up_to && waited_ns >= PATIENCE_NS
            })
            .map(|((_, id), came)| (*id, *came))
            .collect();
        owed.sort_unstable_by_key(|(_, came)| came.place);
        for (id, came) in owed {
            ledger.oblige(PromiseId::R12, self.version);
            self.broken(PromiseId::R12, Wrong::NeverPubcomp, "PUBREL", id, Some(came), ledger);
        }
    }

    fn broken12(&self, wrong: Wrong, id: u16, first: Moment, ledger: &mut Ledger) {
        self.broken(PromiseId::R12, wrong, "PUBLISH", id, Some(first), ledger);
    }

    fn warn12(&self, wrong: Wrong, id: u16, first: Moment, ledger: &mut Ledger) {
        let at = format!("PUBLISH id {id}");
        let evidence = || self.evidence(wrong, (&at, "PUBLISH", id), Some(first));
        ledger.warn(self.world, PromiseId::R12, self.scope(wrong), evidence);
    }

    fn broken(
        &self,
        promise: PromiseId,
        wrong: Wrong,
        packet: &str,
        id: u16,
        first: Option<Moment>,
        ledger: &mut Ledger,
    ) {
        self.broken_at(promise, wrong, (&format!("{packet} id {id}"), packet, id), first, ledger);
    }

    fn broken_at(
        &self,
        promise: PromiseId,
        wrong: Wrong,
        at: (&str, &str, u16),
        first: Option<Moment>,
        ledger: &mut Ledger,
    ) {
        ledger.broken(self.world, promise, self.scope(wrong), || self.evidence(wrong, at, first));
    }

    /// Each way of being wrong is a cause of its own.
    fn scope(&self, wrong: Wrong) -> Scope {
        let scope = self.world.client_scope(self.client);
        Scope { cause: scope.cause | wrong as u64, ..scope }
    }

    fn evidence(&self, wrong: Wrong, (at, packet, id): (&str, &str, u16), first: Option<Moment>) -> Evidence {
        let (now, name) = (self.world.now, &self.world.client(self.client).name);
        let from = first.map_or(0, |first| first.place);
        let mut lines = self.world.control_lines(self.client, from);
        lines.extend(first.map(|first| line(first, name, Direction::Out, ack(packet, id, 0))));
        lines.push(line(now, name, Direction::Out, ack(packet, id, 0)));
        Evidence { message: wrong.sentence(name, at), lines }
    }
}

impl Answer {
    fn name(self) -> &'static str {
        match self {
            Answer::Puback => "PUBACK",
            Answer::Pubrec => "PUBREC",
            Answer::Pubrel => "PUBREL",
            Answer::Pubcomp => "PUBCOMP",
        }
    }
}

fn body(it: &Publish) -> Body {
    match it.identity {
        Identity::Ours(marker) => Body::Marked(marker.message),
        _ => Body::Unmarked(it.payload_crc, it.payload_len),
    }
}
