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
mod sending;
mod wrong;

pub(crate) use reports::judge_claim;

use super::excerpt::{Direction, ack, line};
use super::ledger::{Evidence, Ledger, Scope};
use super::world::{ClientIx, ConnIx, GroupIx, Moment, NEVER, Place, StreamIx, World};
use crate::event::{Outcome, Role};
use crate::marker::{Identity, MessageId, Purpose};
use crate::packet::{Connack, Packet, Version};
use crate::promise::PromiseId;
use reports::judge_reports;
use returns::Returns;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet};
use wrong::Wrong;

/// A client that lives for so long on a resumed session has sent again what it wants to.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Ends of a client's process that findings can show.
const ENDS_MAX: usize = 1_000;

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
    carried: BTreeMap<u16, Carried>,
    /// Load that it acknowledged on the wire, until it reports it.
    acknowledged: BTreeMap<(StreamIx, u64), Acknowledged>,
    /// When its process ended.
    ends: Vec<Moment>,
    /// What it reported of each stream, and the latest of it.
    reported: BTreeMap<StreamIx, BTreeSet<u64>>,
}

/// What a packet id to the client stands for.
#[derive(Debug, Clone, Copy)]
struct Carried {
    stream: StreamIx,
    sequence: u64,
    /// Its PUBREC.
    taken: Option<Moment>,
}

/// The end of an exchange with the client.
#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    packet: &'static str,
    id: u16,
    at: Moment,
    /// Its PUBREC, where it has one.
    taken: Option<Moment>,
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
    /// QoS 2 messages to it that it has acknowledged by PUBREC here.
    taken: FxHashSet<u16>,
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
                // What comes again before it is answered has the place of its first copy.
                link.due.entry((answer, publish.packet_id)).or_insert(now);
                match publish.identity {
                    Identity::Ours(marker) if marker.purpose == Purpose::Load => {
                        let carried = world.stream_of(marker.message).map(|stream| Carried {
                            stream,
                            sequence: marker.message.sequence,
                            taken: None,
                        });
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

    /// Its process ended, and its store is there for the next one.
    pub(crate) fn ended(&mut self, world: &World, client: &str) {
        self.session_ended(world, client);
    }

    /// Its process ended: what it had in flight its next life may know or not.
    pub(crate) fn wiped(&mut self, world: &World, client: &str) {
        let Some(session) = self.session_ended(world, client) else { return };
        let lost = std::mem::take(&mut session.outbound);
        session.forgotten.extend(lost);
        session.finished.clear();
    }

    fn session_ended(&mut self, world: &World, client: &str) -> Option<&mut Session> {
        let client = world.client_named(client).filter(|ix| world.client(*ix).role == Role::Subject)?;
        self.returns.ended(client);
        let session = self.sessions.entry(client).or_default();
        if session.ends.len() < ENDS_MAX {
            session.ends.push(world.now);
        }
        Some(session)
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
        match kind {
            _ if reason >= 0x80 => {}
            Answer::Pubrec => {
                if let Some(carried) = session.carried.get_mut(&id) {
                    carried.taken.get_or_insert(self.world.now);
                }
            }
            Answer::Puback | Answer::Pubcomp => self.note_acknowledged(session, kind, id),
            Answer::Pubrel => {}
        }
    }

    fn note_acknowledged(&self, session: &mut Session, kind: Answer, id: u16) {
        let Some(Carried { stream, sequence, taken }) = session.carried.remove(&id) else { return };
        let reported = session.reported.get(&stream).is_some_and(|reported| reported.contains(&sequence));
        if !reported {
            let it = Acknowledged { packet: kind.name(), id, at: self.world.now, taken };
            session.acknowledged.entry((stream, sequence)).or_insert(it);
        }
    }

    /// O5: answers go out in the order in which what they answer came. False where nothing was to be answered.
    fn judge_in_order(&self, link: &mut Link, (kind, id): (Answer, u16), ledger: &mut Ledger) -> bool {
        let Some(came) = link.due.remove(&(kind, id)).map(|came| came.place) else { return false };
        link.read_up_to = link.read_up_to.max(came);
        if kind == Answer::Pubcomp {
            // One that it took on this connection it would hardly forget.
            if !link.taken.remove(&id) {
                ledger.oblige(PromiseId::R12, self.version);
            }
            return true;
        }
        if kind == Answer::Pubrec {
            link.taken.insert(id);
        }
        let latest = &mut link.answered[kind as usize];
        ledger.oblige(PromiseId::O5, self.version);
        if came < *latest {
            self.broken(PromiseId::O5, Wrong::OutOfOrder, kind.name(), id, None, ledger);
        }
        *latest = came.max(*latest);
        true
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
