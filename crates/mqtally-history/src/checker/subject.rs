//! R12, S12, F6, O5, A3 and A4: somebody's own client, judged as the broker is.
//!
//! The proxy records what it is about to write to the client, and a cut may come before the client has read it. So an
//! acknowledgement counts as read only once the client answered it, or something that was written behind it; until then
//! both of the client's views are right. What the client sends it has certainly decided to send.

use super::excerpt::{Direction, ack, line};
use super::ledger::{Evidence, Ledger};
use super::world::message::{Message, State};
use super::world::{ClientIx, ConnIx, GroupIx, Moment, NEVER, Place, StreamIx, World};
use crate::event::{Outcome, Role};
use crate::marker::{Identity, MessageId};
use crate::packet::{Connack, Packet, Publish, Version};
use crate::promise::PromiseId;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, BTreeSet};

/// A client that lives for so long on a resumed session has sent again what it wants to.
const PATIENCE_NS: u64 = 5_000_000_000;

/// What is known of each client under test.
#[derive(Debug, Default)]
pub(crate) struct Subjects {
    links: FxHashMap<ConnIx, Link>,
    sessions: BTreeMap<ClientIx, Session>,
}

/// What a client has to remember.
#[derive(Debug, Default)]
struct Session {
    outbound: BTreeMap<u16, Sending>,
    connected: bool,
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
    due: FxHashMap<(Answer, u16), Place>,
    /// The latest that was answered, by kind.
    answered: [Place; 4],
    /// The client has read what was written up to here.
    read_up_to: Place,
    resumed: bool,
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
        let now = world.now.place;
        match it {
            Packet::Connack(connack) if connack.reason == 0 => accepted(session, link, connack),
            Packet::Publish(publish) if publish.qos == 1 => {
                link.due.insert((Answer::Puback, publish.packet_id), now);
            }
            Packet::Publish(publish) if publish.qos == 2 => {
                link.due.insert((Answer::Pubrec, publish.packet_id), now);
            }
            Packet::Pubrel(id, _) => drop(link.due.insert((Answer::Pubcomp, *id), now)),
            Packet::Puback(id, _) | Packet::Pubcomp(id, _) | Packet::Pubrec(id, 0x80..) => {
                link.unfinished.remove(id);
                if let Some(entry) = session.outbound.get_mut(id) {
                    entry.done = Some(Written { at: now, connection: at, read: false });
                }
            }
            Packet::Pubrec(id, _) => {
                link.due.insert((Answer::Pubrel, *id), now);
                if let Some(entry) = session.outbound.get_mut(id) {
                    entry.acked = Some(Written { at: now, connection: at, read: false });
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
        session.outbound.retain(|_, entry| !entry.done.is_some_and(|done| done.read));
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
    }
}

/// A4: a program says that it published a message.
pub(crate) fn judge_claim(world: &World, client: &str, id: MessageId, ledger: &mut Ledger) {
    let Some(ix) = world.client_named(client) else {
        return ledger.unknown(format!("{client}, which never connected, said that it published"));
    };
    ledger.oblige(PromiseId::A4, world.client(ix).version);
    let state = world.message(id).map_or(State::NeverSent, |(_, message)| message.state);
    let qos = world.stream_of(id).map_or(0, |stream| world.stream(stream).qos);
    let (why, over) = match state {
        State::NeverSent => ("had not sent it", world.stream_of(id).is_some_and(|it| world.stream(it).over)),
        State::Indeterminate => ("had no acknowledgement for it", qos == 0),
        State::Refused => ("had been refused", false),
        State::Owned | State::Complete => return,
    };
    if over {
        return;
    }
    ledger.broken(world, PromiseId::A4, world.client_scope(ix), || Evidence {
        message: format!("{client} said that it published message {} and {why}", id.sequence),
        lines: vec![line(world.now, client, Direction::None, format!("published message {}", id.sequence))],
    });
}

/// A3: what was acknowledged is reported, if something behind it is.
fn judge_reports(world: &World, ix: ClientIx, session: &Session, ledger: &mut Ledger) {
    let client = world.client(ix);
    for (stream, reported) in &session.reported {
        ledger.oblige_many(PromiseId::A3, client.version, reported.len() as u64);
        let last = reported.last().copied().unwrap_or(0);
        let missing = session.acknowledged.range((*stream, 0)..(*stream, last));
        for ((_, sequence), at) in missing {
            ledger.oblige(PromiseId::A3, client.version);
            ledger.broken(world, PromiseId::A3, world.client_scope(ix), || Evidence {
                message: format!(
                    "{} acknowledged message {sequence} of {} and never reported it, though it reported a later one",
                    client.name,
                    world.stream(*stream).topic
                ),
                lines: vec![line(*at, &client.name, Direction::Out, format!("acknowledges message {sequence}"))],
            });
        }
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
        session.connected = true;
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
            let what = format!("has {unfinished} unfinished messages, and the broker takes {}", link.maximum);
            self.broken(PromiseId::F6, &what, "PUBLISH", id, None, ledger);
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
            return self.broken12("sent PUBLISH again after its PUBREL", id, entry.first, ledger);
        }
        if read(entry.acked) || read(entry.done) {
            return self.broken12(
                "sent PUBLISH again after it had read its acknowledgement",
                id,
                entry.first,
                ledger,
            );
        }
        if entry.connection == self.at {
            let what = "sent PUBLISH twice on one connection";
            return match self.version {
                Version::V5_0 => self.broken12(what, id, entry.first, ledger),
                Version::V3_1_1 => self.warn12(what, id, entry.first, ledger),
            };
        }
        if !it.dup {
            self.broken12("sent PUBLISH again without DUP", id, entry.first, ledger);
        }
        if entry.first.place < link.again {
            self.broken12("sent again a message after one that it had sent later", id, entry.first, ledger);
        }
        link.again = link.again.max(entry.first.place);
    }

    fn judge_fresh(&self, session: &Session, link: &Link, it: &Publish, body: Body, ledger: &mut Ledger) {
        let id = it.packet_id;
        if it.dup && link.stale.get(&id).is_some_and(|entry| entry.body == body) {
            return self.judge_stale("PUBLISH", id, ledger);
        }
        let in_use = session.outbound.get(&id).filter(|entry| entry.done.is_none());
        if let Some(entry) = in_use {
            ledger.oblige(PromiseId::R12, self.version);
            self.broken12("used a packet id that was in use for another message", id, entry.first, ledger);
        }
        let old = session.outbound.iter().find(|(other, entry)| {
            let unacknowledged = entry.done.is_none() && entry.acked.is_none() && entry.connection != self.at;
            **other != id && matches!(body, Body::Marked(_)) && entry.body == body && unacknowledged
        });
        if let Some((_, entry)) = old.filter(|_| link.resumed) {
            ledger.oblige(PromiseId::R12, self.version);
            return self.broken12(
                "sent an unacknowledged message again with another packet id",
                id,
                entry.first,
                ledger,
            );
        }
        if it.dup && session.connected && in_use.is_none() {
            ledger.oblige(PromiseId::R12, self.version);
            self.broken12("sent a message for the first time with DUP", id, self.world.now, ledger);
        }
    }

    /// S12: 3.1.1 does not say it.
    fn judge_stale(&self, what: &str, id: u16, ledger: &mut Ledger) {
        if self.version == Version::V5_0 {
            ledger.oblige(PromiseId::S12, self.version);
            let why = "went on with its old session, though session present was 0";
            self.broken(PromiseId::S12, why, what, id, None, ledger);
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
            self.broken12("sent PUBREL and had no PUBREC", id, entry.first, ledger);
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
            self.broken12("acknowledged what it had not received", id, self.world.now, ledger);
        }
        if let (
            Some(super::world::client::Subject::Ours(stream, sequence)),
            Answer::Puback | Answer::Pubcomp,
        ) = (held.map(|held| held.subject), kind)
        {
            let load = self.world.stream(stream).messages.at(sequence).is_some_and(Message::is_load);
            let reported = session.reported.get(&stream).is_some_and(|reported| reported.contains(&sequence));
            if load && !reported && reason < 0x80 {
                session.acknowledged.entry((stream, sequence)).or_insert(self.world.now);
            }
        }
    }

    /// O5: answers go out in the order in which what they answer came. False where nothing was to be answered.
    fn judge_in_order(&self, link: &mut Link, (kind, id): (Answer, u16), ledger: &mut Ledger) -> bool {
        let Some(came) = link.due.remove(&(kind, id)) else { return false };
        link.read_up_to = link.read_up_to.max(came);
        if kind == Answer::Pubcomp {
            return true;
        }
        let latest = &mut link.answered[kind as usize];
        ledger.oblige(PromiseId::O5, self.version);
        if came < *latest {
            self.broken(PromiseId::O5, "answered out of order", kind.name(), id, None, ledger);
        }
        *latest = came.max(*latest);
        true
    }

    /// R12: what a resumed session owes and did not send again.
    fn judge_debts(&self, session: &Session, ledger: &mut Ledger) {
        for (id, entry) in session.outbound.iter().filter(|(_, entry)| entry.done.is_none()) {
            if entry.connection != self.at {
                ledger.oblige(PromiseId::R12, self.version);
                let what =
                    if entry.released { "never sent PUBREL again" } else { "never sent PUBLISH again" };
                self.broken12(&format!("resumed its session and {what}"), *id, entry.first, ledger);
            }
        }
    }

    fn broken12(&self, what: &str, id: u16, first: Moment, ledger: &mut Ledger) {
        self.broken(PromiseId::R12, what, "PUBLISH", id, Some(first), ledger);
    }

    fn warn12(&self, what: &str, id: u16, first: Moment, ledger: &mut Ledger) {
        let scope = self.world.client_scope(self.client);
        ledger.warn(self.world, PromiseId::R12, scope, || self.evidence(what, "PUBLISH", id, Some(first)));
    }

    fn broken(
        &self,
        promise: PromiseId,
        what: &str,
        packet: &str,
        id: u16,
        first: Option<Moment>,
        ledger: &mut Ledger,
    ) {
        let scope = self.world.client_scope(self.client);
        ledger.broken(self.world, promise, scope, || self.evidence(what, packet, id, first));
    }

    fn evidence(&self, what: &str, packet: &str, id: u16, first: Option<Moment>) -> Evidence {
        let (now, name) = (self.world.now, &self.world.client(self.client).name);
        let from = first.map_or(0, |first| first.place);
        let mut lines = self.world.control_lines(self.client, from);
        lines.extend(first.map(|first| line(first, name, Direction::Out, ack(packet, id, 0))));
        lines.push(line(now, name, Direction::Out, ack(packet, id, 0)));
        Evidence { message: format!("the client under test, {name}, {what} ({packet} id {id})"), lines }
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
