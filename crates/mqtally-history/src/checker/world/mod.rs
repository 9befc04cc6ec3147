//! What is known of clients, sessions and messages at an event: the state that every family reads.
//!
//! Families see the world as it was before the event that they judge; then it is told of the event. Only here state
//! changes, and nothing here judges.

pub(crate) mod client;
mod connecting;
pub(crate) mod delivery;
mod describe;
pub(crate) mod message;
pub(crate) mod paged;
mod publishing;
mod receiving;
mod subscribing;
pub(crate) mod subscription;
pub(crate) mod topic;

use super::excerpt::{self, Direction, Line};
use crate::event::{BrokerEvent, ConnectionId, Event, EventKind};
use crate::marker::MessageId;
use crate::packet::{Packet, Version};
use crate::profile::Profile;
use client::{Client, Connection, Expected, Phase};
use message::{Message, State, Stream};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::Arc;

/// Number of an event in the history, from 1. Larger means later only as [`event`](crate::event) says.
pub(crate) type Place = u32;
/// Later than every event.
pub(crate) const NEVER: Place = u32::MAX;

/// Messages that devices took and have not sent; the timetable of those beyond is not remembered.
const UNSENT_MAX: usize = 1 << 20;
/// Faults of a part that findings can name.
const FAULTS_MAX: usize = 1_024;
/// What a broker takes to store an answer before it sends it, at most; a PINGRESP may come before that.
const STORING_NS: u64 = 4_000_000_000;

pub(crate) type ClientIx = u32;
pub(crate) type ConnIx = u32;
pub(crate) type StreamIx = u32;
pub(crate) type GroupIx = u32;

/// An event's number and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Moment {
    pub(crate) place: Place,
    pub(crate) at_ns: u64,
}

/// A part of the run.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: Arc<str>,
    pub(crate) version: Version,
    pub(crate) began: Moment,
    pub(crate) ended: Option<Moment>,
    pub(crate) drained: bool,
    /// The last [`FAULTS_MAX`] faults.
    pub(crate) faults: VecDeque<FaultSeen>,
}

/// A fault as findings name it.
#[derive(Debug, Clone)]
pub(crate) struct FaultSeen {
    pub(crate) kind: Arc<str>,
    pub(crate) client: Option<Arc<str>>,
    pub(crate) at: Moment,
}

/// Everything known at the event last told.
#[derive(Debug)]
pub(crate) struct World {
    profile: Profile,
    pub(crate) now: Moment,
    pub(crate) clients: Vec<Client>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) groups: Vec<Group>,
    pub(crate) current_group: Option<GroupIx>,
    /// The longest session expiry interval that the server grants, as far as it has said so, in seconds.
    expiry_max: u32,
    client_of_name: FxHashMap<Arc<str>, ClientIx>,
    connection_of_id: FxHashMap<ConnectionId, ConnIx>,
    stream_of_id: FxHashMap<(u32, u16), StreamIx>,
    /// When a message that was not sent yet was meant to be sent.
    due_ns: FxHashMap<MessageId, u64>,
    lineages: u32,
    /// What wills carry, and no PUBLISH has to have sent.
    wills: FxHashSet<MessageId>,
    /// Topic, checksum and length of what was sent without a marker.
    unmarked: FxHashSet<(Arc<str>, u32, u32)>,
    /// More than can be remembered was sent without one.
    many_unmarked: bool,
    broker_stopping: bool,
    /// The last fault that was not of one client alone.
    last_fault: Place,
    /// The last end of the broker that the profile does not cover.
    pub(crate) uncovered_fault: Option<Moment>,
    /// The last end of the broker that it does.
    pub(crate) covered_fault: Option<Moment>,
}

impl World {
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            profile,
            now: Moment::default(),
            clients: Vec::new(),
            connections: Vec::new(),
            streams: Vec::new(),
            groups: Vec::new(),
            current_group: None,
            expiry_max: u32::MAX,
            client_of_name: FxHashMap::default(),
            connection_of_id: FxHashMap::default(),
            stream_of_id: FxHashMap::default(),
            due_ns: FxHashMap::default(),
            lineages: 0,
            wills: FxHashSet::default(),
            unmarked: FxHashSet::default(),
            many_unmarked: false,
            broker_stopping: false,
            last_fault: 0,
            uncovered_fault: None,
            covered_fault: None,
        }
    }

    pub(crate) fn client(&self, client: ClientIx) -> &Client {
        &self.clients[client as usize]
    }

    pub(crate) fn client_named(&self, name: &str) -> Option<ClientIx> {
        self.client_of_name.get(name).copied()
    }

    pub(crate) fn connection(&self, connection: ConnIx) -> &Connection {
        &self.connections[connection as usize]
    }

    pub(crate) fn connection_of(&self, id: ConnectionId) -> Option<ConnIx> {
        self.connection_of_id.get(&id).copied()
    }

    pub(crate) fn stream(&self, stream: StreamIx) -> &Stream {
        &self.streams[stream as usize]
    }

    pub(crate) fn group(&self, group: GroupIx) -> &Group {
        &self.groups[group as usize]
    }

    pub(crate) fn stream_of(&self, id: MessageId) -> Option<StreamIx> {
        self.stream_of_id.get(&(id.publisher, id.stream)).copied()
    }

    /// The message with this id, when it was sent in a part of the run that is not over.
    pub(crate) fn message(&self, id: MessageId) -> Option<(StreamIx, &Message)> {
        let stream = self.stream_of(id)?;
        let message = self.stream(stream).messages.at(id.sequence)?;
        (message.state != State::NeverSent).then_some((stream, message))
    }

    /// The broker was asked to end, or has ended.
    pub(crate) fn is_stopping(&self) -> bool {
        self.broker_stopping
    }

    /// Whether a fault struck this client or everybody, or the broker was stopped or paused, after `place`.
    pub(crate) fn disturbed_since(&self, client: ClientIx, place: Place) -> bool {
        self.last_fault.max(self.client(client).last_fault) > place
    }

    /// Whether the broker has had the time for an answer to what a client sent at `sent`: it may have to store that first,
    /// and answer a PINGREQ before. What it sends while a fault is in force may never arrive.
    pub(crate) fn had_time(&self, client: ClientIx, sent: Moment) -> bool {
        self.now.at_ns >= sent.at_ns.saturating_add(STORING_NS) && !self.disturbed_since(client, sent.place)
    }

    /// Whether a will carries this message.
    pub(crate) fn is_will(&self, id: MessageId) -> bool {
        self.wills.contains(&id)
    }

    /// Whether the broker failed, in a way that its profile does not cover, after `place`.
    pub(crate) fn excused_since(&self, place: Place) -> bool {
        self.uncovered_fault.is_some_and(|fault| fault.place > place)
    }

    /// Whether it ended, in a way that its profile does cover, after `place`.
    pub(crate) fn restarted_since(&self, place: Place) -> bool {
        self.covered_fault.is_some_and(|fault| fault.place > place)
    }

    /// Whether it did after `since` and no later than `until`, as far as the faults of the part are remembered.
    pub(crate) fn restarted_between(&self, group: GroupIx, since: Place, until: Place) -> bool {
        let ends = ["terminate-broker", "kill-broker", "broker-exited"];
        let mut faults = self.group(group).faults.iter().filter(|fault| ends.contains(&&*fault.kind));
        self.restarted_since(since) && faults.any(|fault| fault.at.place > since && fault.at.place <= until)
    }

    /// What a CONNACK without refusal has to say about the session; none for a clean start.
    pub(crate) fn expected(&self, connection: &Connection) -> Option<Expected> {
        connection.connect.as_ref().filter(|connect| !connect.clean_start)?;
        let client = self.client(connection.client);
        let raced = client.last_connect.map(|last| self.connection(last).id) != Some(connection.id);
        Some(match raced {
            true => Expected::Either,
            false => client.expected(connection.known_before, connection.connect_sent.at_ns, self.now.at_ns),
        })
    }

    /// Where an event stands, before anything judges it.
    pub(crate) fn tick(&mut self, at_ns: u64) {
        self.now = Moment { place: self.now.place.saturating_add(1), at_ns };
    }

    /// Takes an event in. False when it speaks of a connection that was never opened.
    pub(crate) fn tell(&mut self, event: &Event) -> bool {
        match &event.kind {
            EventKind::GroupStarted { group, version } => self.group_started(group, *version),
            EventKind::GroupEnded { drained, .. } => self.group_ended(*drained),
            EventKind::Opened { connection, client, version, role } => {
                self.opened(*connection, client, *version, *role);
            }
            EventKind::Sent(id, packet) => return self.on(*id, |world, at| world.sent(at, packet)),
            EventKind::Received(id, packet) => return self.on(*id, |world, at| world.received(at, packet)),
            EventKind::Closed(id, closing) => return self.on(*id, |world, at| world.closed(at, *closing)),
            EventKind::StateWiped { client } => self.wiped(client),
            EventKind::ProcessEnded { client } => self.process_ended(client),
            EventKind::Broker(event) => self.broker(*event),
            EventKind::Fault { kind, client } => self.fault(kind, client.clone()),
            EventKind::Accepted { message, late_ns } => self.taken_on(*message, *late_ns),
            EventKind::Unlawful { .. }
            | EventKind::Declared(_)
            | EventKind::Advised(_)
            | EventKind::Position { .. }
            | EventKind::Labelled { .. }
            | EventKind::Settled { .. }
            | EventKind::Claimed { .. }
            | EventKind::Subject { .. }
            | EventKind::Statistics { .. }
            | EventKind::Gap { .. }
            | EventKind::Aborted { .. } => {}
        }
        true
    }

    /// A device took a message: its latencies count from when it was meant to be sent.
    fn taken_on(&mut self, message: MessageId, late_ns: u64) {
        if self.due_ns.len() < UNSENT_MAX {
            self.due_ns.insert(message, self.now.at_ns.saturating_sub(late_ns));
        }
    }

    fn on(&mut self, id: ConnectionId, act: impl FnOnce(&mut Self, ConnIx)) -> bool {
        let connection = self.connection_of(id);
        if let Some(at) = connection {
            act(self, at);
        }
        connection.is_some()
    }

    fn group_started(&mut self, name: &Arc<str>, version: Version) {
        self.current_group = Some(self.groups.len() as GroupIx);
        self.groups.push(Group {
            name: Arc::clone(name),
            version,
            began: self.now,
            ended: None,
            drained: false,
            faults: VecDeque::new(),
        });
    }

    fn group_ended(&mut self, drained: bool) {
        if let Some(group) = self.current_group.take() {
            let now = self.now;
            let group = &mut self.groups[group as usize];
            group.ended = Some(now);
            group.drained = drained;
        }
    }

    /// Forgets the messages of a stream below `end`, which were judged.
    pub(crate) fn retire(&mut self, stream: StreamIx, end: u64) {
        for client in &mut self.clients {
            client.retire(stream, &self.streams[stream as usize], end);
        }
        let it = &mut self.streams[stream as usize];
        it.messages.forget_below(end);
        it.retired = end;
        it.sentinels.retain(|sequence| *sequence >= end);
    }

    /// Forgets the messages of a part that was judged; that they were sent stays known.
    pub(crate) fn forget(&mut self, group: GroupIx) {
        for stream in self.streams.iter_mut().filter(|stream| stream.group == group) {
            stream.over = true;
            stream.messages.clear();
        }
        for client in self.clients.iter_mut().filter(|client| client.group == group) {
            client.copies = FxHashMap::default();
        }
    }

    /// The part of the run that new clients and streams belong to; made where the history names none.
    fn group_here(&mut self, version: Version) -> GroupIx {
        if let Some(group) = self.current_group {
            return group;
        }
        self.group_started(&"".into(), version);
        self.groups.len() as GroupIx - 1
    }

    fn note(&mut self, client: ClientIx, direction: Direction, text: &str) {
        let client = &mut self.clients[client as usize];
        let line: Line = excerpt::line(self.now, &client.name, direction, text);
        client.note(line);
    }

    fn sent(&mut self, at: ConnIx, packet: &Packet) {
        let now = self.now;
        let connection = &mut self.connections[at as usize];
        connection.last_sent = now;
        let client = connection.client;
        if packet.is_answered() {
            connection.asks(now.at_ns);
        }
        match packet {
            Packet::Publish(publish) => return self.publish_sent(client, publish),
            Packet::Puback(id, reason) => {
                self.refused(client, *id, *reason);
                return self.inbound_acked(at, *id, Phase::Acked);
            }
            Packet::Pubrec(id, reason @ 0x80..) => {
                self.refused(client, *id, *reason);
                self.clients[client as usize].inbound.remove(id);
                return;
            }
            Packet::Pubrec(id, _) => return self.inbound_acked(at, *id, Phase::Acked),
            Packet::Pubcomp(id, _) => return self.inbound_acked(at, *id, Phase::Complete),
            Packet::Pubrel(id, _) => {
                self.clients[client as usize].shadows.remove(id);
                if let Some(entry) = self.clients[client as usize].outbound.get_mut(id) {
                    entry.released = true;
                }
                return;
            }
            Packet::Pingreq => return connection.pings.push_back(now),
            Packet::Auth(_) => return,
            _ => self.note(client, Direction::Out, &excerpt::packet(packet)),
        }
        match packet {
            Packet::Connect(connect) => self.connect_sent(at, connect),
            Packet::Subscribe(subscribe) => self.subscribe_sent(at, subscribe),
            Packet::Unsubscribe(id, filters) => self.unsubscribe_sent(at, *id, filters),
            Packet::Disconnect(reason, expiry) => self.goodbye(at, *reason, *expiry),
            _ => {}
        }
    }

    fn received(&mut self, at: ConnIx, packet: &Packet) {
        let now = self.now;
        let connection = &mut self.connections[at as usize];
        connection.last_heard_ns = now.at_ns;
        connection.last_heard = now.place;
        let client = connection.client;
        if packet.is_answer() {
            connection.is_answered();
            if self.clients[client as usize].current == Some(at) {
                self.clients[client as usize].served_ns = connection.served_ns;
            }
        }
        match packet {
            // A delivery is told by `delivered`, with the facts that were judged.
            Packet::Publish(_) | Packet::Auth(_) => return,
            Packet::Pingresp => {
                let ping = connection.pings.pop_front();
                connection.read_up_to = ping.map_or(connection.read_up_to, |ping| ping.place);
                return;
            }
            Packet::Puback(id, reason) => return self.outbound_acked(client, *id, 1, *reason),
            Packet::Pubrec(id, reason) => return self.outbound_received(client, *id, *reason),
            Packet::Pubcomp(id, _) => return self.outbound_acked(client, *id, 2, 0),
            Packet::Pubrel(id, _) => return self.inbound_released(at, *id),
            _ => self.note(client, Direction::In, &excerpt::packet(packet)),
        }
        match packet {
            Packet::Connack(connack) => self.connack(at, connack),
            Packet::Suback(id, codes) => self.suback(at, *id, codes),
            Packet::Unsuback(id, codes) => self.unsuback(at, *id, codes),
            Packet::Disconnect(reason, _) => self.connections[at as usize].told_goodbye = Some(*reason),
            _ => {}
        }
    }

    fn broker(&mut self, event: BrokerEvent) {
        self.last_fault = self.now.place;
        let needed = match event {
            BrokerEvent::Started => {
                self.broker_stopping = false;
                return;
            }
            // It answers late, and loses nothing by it.
            BrokerEvent::Paused | BrokerEvent::Resumed => return,
            BrokerEvent::Terminated => Profile::Graceful,
            BrokerEvent::Killed => Profile::Durable,
            BrokerEvent::PowerLost => Profile::PowerSafe,
            // The end that a signal of ours asked for was taken in with the signal.
            BrokerEvent::Exited if self.broker_stopping => return,
            BrokerEvent::Exited => Profile::Durable,
        };
        self.broker_stopping = true;
        let fault = match event {
            BrokerEvent::Terminated => "terminate-broker",
            BrokerEvent::Killed => "kill-broker",
            BrokerEvent::PowerLost => "power-loss",
            _ => "broker-exited",
        };
        self.fault(&fault.into(), None);
        if self.profile >= needed {
            self.covered_fault = Some(self.now);
            return;
        }
        self.uncovered_fault = Some(self.now);
        let now = self.now.place;
        self.clients.iter_mut().for_each(|client| client.forgive(now));
    }

    fn fault(&mut self, kind: &Arc<str>, client: Option<Arc<str>>) {
        if &**kind == "connect-storm" {
            let stormed = client.as_deref().and_then(|name| self.client_named(name));
            stormed.into_iter().for_each(|client| self.stormed(client));
        }
        match client.as_deref().and_then(|name| self.client_named(name)) {
            Some(client) => self.clients[client as usize].last_fault = self.now.place,
            None => self.last_fault = self.now.place,
        }
        let fault = FaultSeen { kind: Arc::clone(kind), client, at: self.now };
        if let Some(group) = self.current_group {
            let faults = &mut self.groups[group as usize].faults;
            if faults.len() == FAULTS_MAX {
                faults.pop_front();
            }
            faults.push_back(fault);
        }
    }
}
