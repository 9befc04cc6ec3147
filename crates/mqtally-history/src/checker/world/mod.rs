//! What is known of clients, sessions and messages at an event: the state that every family reads.
//!
//! Families see the world as it was before the event that they judge; then it is told of the event. Only here state
//! changes, and nothing here judges.

pub(crate) mod client;
pub(crate) mod delivery;
mod describe;
pub(crate) mod message;
pub(crate) mod paged;
pub(crate) mod subscription;
pub(crate) mod topic;

use super::excerpt::{self, Direction, Line};
use crate::event::{BrokerEvent, Closing, ConnectionId, Event, EventKind};
use crate::marker::{Identity, MessageId};
use crate::packet::{Connack, Connect, Packet, Publish, Subscribe, Version};
use crate::profile::Profile;
use client::{
    Away, Client, Connection, Expected, Inbound, Known, Outbound, PendingSubscribe, Phase, Subject, Why,
};
use message::{Message, State, Stream};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Number of an event in the history, from 1. Larger means later only as [`event`](crate::event) says.
pub(crate) type Place = u32;
/// Later than every event.
pub(crate) const NEVER: Place = u32::MAX;

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
    pub(crate) last_fault: Option<FaultSeen>,
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
    client_of_name: FxHashMap<Arc<str>, ClientIx>,
    connection_of_id: FxHashMap<ConnectionId, ConnIx>,
    stream_of_id: FxHashMap<(u32, u16), StreamIx>,
    lineages: u32,
    /// A will was set somewhere: then a message can arrive that no PUBLISH sent.
    pub(crate) any_will: bool,
    broker_stopping: bool,
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
            client_of_name: FxHashMap::default(),
            connection_of_id: FxHashMap::default(),
            stream_of_id: FxHashMap::default(),
            lineages: 0,
            any_will: false,
            broker_stopping: false,
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

    /// Whether the broker failed, in a way that its profile does not cover, after `place`.
    pub(crate) fn excused_since(&self, place: Place) -> bool {
        self.uncovered_fault.is_some_and(|fault| fault.place > place)
    }

    /// Whether it ended, in a way that its profile does cover, after `place`.
    pub(crate) fn restarted_since(&self, place: Place) -> bool {
        self.covered_fault.is_some_and(|fault| fault.place > place)
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
            EventKind::Opened { connection, client, version, .. } => {
                self.opened(*connection, client, *version);
            }
            EventKind::Sent(id, packet) => return self.on(*id, |world, at| world.sent(at, packet)),
            EventKind::Received(id, packet) => return self.on(*id, |world, at| world.received(at, packet)),
            EventKind::Closed(id, closing) => return self.on(*id, |world, at| world.closed(at, *closing)),
            EventKind::StateWiped { client } => self.wiped(client),
            EventKind::Broker(event) => self.broker(*event),
            EventKind::Fault { kind, client } => self.fault(kind, client.clone()),
            EventKind::Unlawful { .. }
            | EventKind::Labelled { .. }
            | EventKind::Settled { .. }
            | EventKind::Statistics { .. }
            | EventKind::Gap { .. }
            | EventKind::Aborted { .. } => {}
        }
        true
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
            last_fault: None,
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

    fn opened(&mut self, id: ConnectionId, name: &Arc<str>, version: Version) {
        let client = match self.client_of_name.get(name) {
            Some(client) => *client,
            None => self.new_client(name, version),
        };
        self.clients[client as usize].version = version;
        let connection = self.connections.len() as ConnIx;
        self.connection_of_id.insert(id, connection);
        self.connections.push(Connection {
            id,
            client,
            version,
            connect: None,
            connect_sent: self.now,
            known_before: Known::Never,
            maybe_fresh: false,
            accepted: NEVER,
            refused: false,
            closed: None,
            last_heard_ns: self.now.at_ns,
            last_heard: 0,
            resumed: false,
            overrode_expiry: false,
            subscribes: FxHashMap::default(),
            unsubscribes: FxHashMap::default(),
        });
    }

    fn new_client(&mut self, name: &Arc<str>, version: Version) -> ClientIx {
        let client = self.clients.len() as ClientIx;
        let group = self.group_here(version);
        self.lineages += 1;
        self.clients.push(Client::new(name, version, group, self.lineages));
        self.client_of_name.insert(Arc::clone(name), client);
        client
    }

    fn break_lineage(&mut self, client: ClientIx, why: Why) {
        self.lineages += 1;
        self.clients[client as usize].break_lineage(self.lineages, why, self.now.place);
    }

    fn note(&mut self, client: ClientIx, direction: Direction, text: &str) {
        let client = &mut self.clients[client as usize];
        let line: Line = excerpt::line(self.now, &client.name, direction, text);
        client.note(line);
    }

    fn sent(&mut self, at: ConnIx, packet: &Packet) {
        let client = self.connection(at).client;
        match packet {
            Packet::Publish(publish) => return self.publish_sent(client, publish),
            Packet::Puback(id, _) => return self.inbound_acked(client, *id, Phase::Acked),
            Packet::Pubrec(id, 0x80..) => {
                self.clients[client as usize].inbound.remove(id);
                return;
            }
            Packet::Pubrec(id, _) => return self.inbound_acked(client, *id, Phase::Acked),
            Packet::Pubcomp(id, _) => return self.inbound_acked(client, *id, Phase::Complete),
            Packet::Pubrel(id, _) => {
                if let Some(entry) = self.clients[client as usize].outbound.get_mut(id) {
                    entry.released = true;
                }
                return;
            }
            Packet::Pingreq | Packet::Auth(_) => return,
            _ => self.note(client, Direction::Out, &excerpt::packet(packet)),
        }
        match packet {
            Packet::Connect(connect) => self.connect_sent(at, connect),
            Packet::Subscribe(subscribe) => self.subscribe_sent(at, subscribe),
            Packet::Unsubscribe(id, filters) => self.unsubscribe_sent(at, *id, filters),
            Packet::Disconnect(_, Some(expiry)) => {
                self.clients[client as usize].expiry = *expiry;
                self.connections[at as usize].overrode_expiry = true;
            }
            _ => {}
        }
    }

    fn received(&mut self, at: ConnIx, packet: &Packet) {
        let now = self.now;
        let connection = &mut self.connections[at as usize];
        connection.last_heard_ns = now.at_ns;
        connection.last_heard = now.place;
        let client = connection.client;
        match packet {
            // A delivery is told by `delivered`, with the facts that were judged.
            Packet::Publish(_) | Packet::Pingresp | Packet::Auth(_) => return,
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
            _ => {}
        }
    }

    fn connect_sent(&mut self, at: ConnIx, connect: &Connect) {
        let now = self.now;
        let connection = &mut self.connections[at as usize];
        let client_ix = connection.client;
        let client = &mut self.clients[client_ix as usize];
        self.any_will |= connect.will.is_some();
        connection.known_before = client.known;
        connection.maybe_fresh = client.maybe_fresh;
        client.maybe_fresh |= client.expected(client.known, now.at_ns, now.at_ns) != Expected::Present;
        connection.connect = Some(connect.clone());
        connection.connect_sent = now;
        client.last_connect = Some(at);
        // Until CONNACK comes nobody knows whether the broker read it.
        if connect.clean_start || connect.session_expiry == 0 {
            client.known = Known::Doubtful("a CONNECT that could end the session was not answered");
        } else if client.known != Known::Exists {
            client.known = Known::Doubtful("a CONNECT that could begin a session was not answered");
        }
        if connect.clean_start {
            self.break_lineage(client_ix, Why::CleanStart);
        }
    }

    fn connack(&mut self, at: ConnIx, connack: &Connack) {
        let expected = self.expected(self.connection(at));
        let connection = &mut self.connections[at as usize];
        let (client_ix, connect_sent) = (connection.client, connection.connect_sent);
        if connack.reason != 0 || connection.accepted != NEVER {
            connection.refused |= connack.reason != 0;
            return;
        }
        let Some(connect) = connection.connect.clone() else { return };
        connection.accepted = self.now.place;
        connection.resumed = connack.session_present && !connect.clean_start;
        if connect.clean_start {
            self.clients[client_ix as usize].discard_subscriptions(connect_sent.place, self.now.place);
        } else if !connack.session_present {
            self.session_absent(client_ix, expected);
        } else if connection.maybe_fresh {
            self.break_lineage(client_ix, Why::Gone);
        }
        self.accepted(at, connack, connack.session_expiry.unwrap_or(connect.session_expiry));
    }

    fn session_absent(&mut self, client: ClientIx, expected: Option<Expected>) {
        let first = self.client(client).online.is_empty() && self.client(client).breaks.is_empty();
        if !first {
            let why = if expected == Some(Expected::Present) { Why::Lost } else { Why::Gone };
            self.break_lineage(client, why);
        }
    }

    fn accepted(&mut self, at: ConnIx, connack: &Connack, expiry: u32) {
        let now = self.now.place;
        let resumed = self.connection(at).resumed;
        let client = &mut self.clients[self.connections[at as usize].client as usize];
        if let Some(open) = client.online.last_mut().filter(|_| client.current.is_some()) {
            open.1 = now;
        }
        client.online.push((now, NEVER));
        client.known = Known::Exists;
        client.maybe_fresh = false;
        client.expiry = expiry;
        client.away = None;
        client.current = Some(at);
        client.last_accepted = Some(at);
        client.sent_up_to.clear();
        if client.session_present.len() < 100 {
            client.session_present.push(connack.session_present);
        }
        if resumed {
            client.resumed += 1;
            client.resumes.push(now);
        }
    }

    fn closed(&mut self, at: ConnIx, closing: Closing) {
        let now = self.now;
        let connection = &mut self.connections[at as usize];
        if connection.closed.is_some() {
            return;
        }
        connection.closed = Some(closing);
        let (client_ix, heard) = (connection.client, connection.last_heard_ns);
        let unread = connection.overrode_expiry
            && matches!(closing, Closing::Rst | Closing::Broken | Closing::Vanished);
        self.note(client_ix, Direction::None, closing_text(closing));
        let client = &mut self.clients[client_ix as usize];
        if client.current != Some(at) {
            return;
        }
        client.current = None;
        if let Some(open) = client.online.last_mut() {
            open.1 = now.place;
        }
        client.away = Some(match closing {
            Closing::Fin | Closing::Rst => Away { earliest_ns: now.at_ns, latest_ns: Some(now.at_ns) },
            Closing::ByBroker => Away { earliest_ns: heard, latest_ns: Some(now.at_ns) },
            Closing::Broken | Closing::Vanished => Away { earliest_ns: heard, latest_ns: None },
        });
        if unread {
            client.known = Known::Doubtful("a DISCONNECT that set the expiry may not have been read");
        }
        if client.expiry == 0 {
            if client.known == Known::Exists {
                client.known = Known::Ended;
            }
            self.break_lineage(client_ix, Why::Ended);
        }
    }

    fn wiped(&mut self, name: &Arc<str>) {
        if let Some(client) = self.client_named(name) {
            self.break_lineage(client, Why::Wiped);
            self.note(client, Direction::None, "forgets its session");
        }
    }

    fn broker(&mut self, event: BrokerEvent) {
        let needed = match event {
            BrokerEvent::Started => {
                self.broker_stopping = false;
                return;
            }
            // It answers late, and loses nothing by it.
            BrokerEvent::Paused | BrokerEvent::Resumed => return,
            BrokerEvent::Terminated => Profile::Graceful,
            BrokerEvent::Killed => Profile::Durable,
            // The end that a signal of ours asked for was taken in with the signal.
            BrokerEvent::Exited if self.broker_stopping => return,
            BrokerEvent::Exited => Profile::Durable,
        };
        self.broker_stopping = true;
        let fault = match event {
            BrokerEvent::Terminated => "stop-broker",
            BrokerEvent::Killed => "kill-broker",
            _ => "broker-exited",
        };
        self.fault(&fault.into(), None);
        if self.profile >= needed {
            self.covered_fault = Some(self.now);
            return;
        }
        self.uncovered_fault = Some(self.now);
        self.clients.iter_mut().for_each(Client::forgive);
    }

    fn fault(&mut self, kind: &Arc<str>, client: Option<Arc<str>>) {
        let fault = FaultSeen { kind: Arc::clone(kind), client, at: self.now };
        if let Some(group) = self.current_group {
            self.groups[group as usize].last_fault = Some(fault);
        }
    }

    fn subscribe_sent(&mut self, at: ConnIx, subscribe: &Subscribe) {
        let now = self.now.place;
        let connection = &mut self.connections[at as usize];
        let client = &mut self.clients[connection.client as usize];
        subscribe.filters.iter().for_each(|filter| client.subscribe(filter, now));
        let filters = subscribe.filters.iter().map(|it| (Arc::clone(&it.filter), it.qos)).collect();
        connection.subscribes.insert(subscribe.packet_id, PendingSubscribe { asked: now, filters });
    }

    fn suback(&mut self, at: ConnIx, id: u16, codes: &[u8]) {
        let now = self.now.place;
        let connection = &mut self.connections[at as usize];
        let Some(pending) = connection.subscribes.remove(&id) else { return };
        let client = &mut self.clients[connection.client as usize];
        for ((filter, _), code) in pending.filters.iter().zip(codes) {
            let asked =
                |it: &subscription::Subscription| it.grants.iter().any(|grant| grant.asked == pending.asked);
            let subscription = client.subscriptions.iter_mut().find(|it| it.filter == *filter && asked(it));
            if let Some(subscription) = subscription {
                subscription.answered(pending.asked, *code, now);
            }
        }
    }

    fn unsubscribe_sent(&mut self, at: ConnIx, id: u16, filters: &[Arc<str>]) {
        let now = self.now.place;
        let connection = &mut self.connections[at as usize];
        let client = &mut self.clients[connection.client as usize];
        for subscription in client.subscriptions.iter_mut().filter(|it| filters.contains(&it.filter)) {
            subscription.doubt(now);
        }
        connection.unsubscribes.insert(id, filters.to_vec());
    }

    fn unsuback(&mut self, at: ConnIx, id: u16, codes: &[u8]) {
        let now = self.now.place;
        let connection = &mut self.connections[at as usize];
        let Some(filters) = connection.unsubscribes.remove(&id) else { return };
        let client = &mut self.clients[connection.client as usize];
        for (number, filter) in filters.iter().enumerate() {
            if codes.get(number).is_some_and(|code| *code >= 0x80) {
                continue;
            }
            let doubted = client.subscriptions.iter_mut().filter(|it| it.filter == *filter && it.until < now);
            doubted.for_each(|it| it.close(subscription::End::Unsubscribed, now));
        }
    }

    fn publish_sent(&mut self, client_ix: ClientIx, publish: &Publish) {
        let Identity::Ours(marker) = publish.identity else {
            return self.hold_outbound(client_ix, publish, None);
        };
        let stream_ix = match self.stream_of(marker.message) {
            Some(stream) => stream,
            None => self.new_stream(client_ix, &marker, publish),
        };
        let now = self.now;
        let client = &mut self.clients[client_ix as usize];
        let carried = Some((stream_ix, marker.message.sequence));
        let held = publish.qos > 0
            && client.outbound.get(&publish.packet_id).is_some_and(|it| it.message == carried);
        let message = self.streams[stream_ix as usize].messages.entry(marker.message.sequence);
        message.sent(now, publish, &marker, client.lineage, held);
        let sent_up_to = client.sent_up_to.entry(stream_ix).or_default();
        message.unordered |= message.first_sent < *sent_up_to;
        *sent_up_to = (*sent_up_to).max(message.first_sent);
        if !held {
            self.hold_outbound(client_ix, publish, carried);
        }
    }

    fn hold_outbound(&mut self, client: ClientIx, publish: &Publish, message: Option<(StreamIx, u64)>) {
        if publish.qos > 0 {
            let entry = Outbound { message, qos: publish.qos, released: false };
            self.clients[client as usize].outbound.insert(publish.packet_id, entry);
        }
    }

    fn new_stream(
        &mut self,
        client: ClientIx,
        marker: &crate::marker::Marker,
        publish: &Publish,
    ) -> StreamIx {
        let stream = self.streams.len() as StreamIx;
        let version = self.client(client).version;
        let group = self.group_here(version);
        let id = marker.message;
        self.stream_of_id.insert((id.publisher, id.stream), stream);
        self.streams.push(Stream {
            publisher: id.publisher,
            number: id.stream,
            topic: Arc::clone(&publish.topic),
            qos: marker.qos,
            version,
            group,
            client,
            messages: paged::Paged::default(),
            pubrec_up_to: 0,
            over: false,
        });
        stream
    }

    /// PUBACK, or PUBCOMP, which has no refusal.
    fn outbound_acked(&mut self, client: ClientIx, id: u16, qos: u8, reason: u8) {
        let outbound = &mut self.clients[client as usize].outbound;
        let Some(entry) = outbound.get(&id).copied().filter(|it| it.qos == qos) else { return };
        if qos == 2 && !entry.released {
            return;
        }
        outbound.remove(&id);
        let Some((stream, sequence)) = entry.message else { return };
        let now = self.now;
        let message = self.streams[stream as usize].messages.entry(sequence);
        match reason {
            0x80.. => message.state = State::Refused,
            _ => message.acknowledged(now),
        }
    }

    fn outbound_received(&mut self, client: ClientIx, id: u16, reason: u8) {
        let outbound = &mut self.clients[client as usize].outbound;
        let Some(entry) = outbound.get(&id).copied().filter(|it| it.qos == 2) else { return };
        if reason >= 0x80 {
            outbound.remove(&id);
        }
        let Some((stream, sequence)) = entry.message else { return };
        let stream = &mut self.streams[stream as usize];
        let message = stream.messages.entry(sequence);
        // A broker that takes a message at PUBREL takes them in the order of its PUBRECs.
        message.unordered |= message.first_sent < stream.pubrec_up_to;
        stream.pubrec_up_to = stream.pubrec_up_to.max(message.first_sent);
        match (reason, message.state) {
            (0x80.., _) => message.state = State::Refused,
            (_, State::Indeterminate) => message.state = State::Owned,
            _ => {}
        }
    }

    fn inbound_acked(&mut self, client: ClientIx, id: u16, phase: Phase) {
        let inbound = &mut self.clients[client as usize].inbound;
        let Some(entry) = inbound.get_mut(&id) else { return };
        match (entry.phase, phase) {
            (Phase::Publish, Phase::Acked) | (Phase::Release, Phase::Complete) => entry.phase = phase,
            _ => {}
        }
    }

    fn inbound_released(&mut self, at: ConnIx, id: u16) {
        let now = self.now;
        let client = self.connections[at as usize].client;
        let Some(entry) = self.clients[client as usize].inbound.get_mut(&id) else { return };
        if entry.qos == 2 {
            entry.phase = Phase::Release;
            entry.last = now;
            entry.connection = at;
        }
    }

    /// Holds what a delivery began or repeated.
    fn hold_inbound(&mut self, at: ConnIx, publish: &Publish, subject: Subject, overlapped: bool) {
        let now = self.now;
        let inbound = &mut self.clients[self.connections[at as usize].client as usize].inbound;
        let before = inbound.get(&publish.packet_id).filter(|it| it.subject == subject);
        // Repeated on the connection that carries our acknowledgement: it may have crossed.
        let crossed = before.is_some_and(|it| it.connection == at && it.phase == Phase::Acked);
        let phase = if crossed { Phase::Acked } else { Phase::Publish };
        let began = before.map_or(now, |it| it.began);
        inbound.insert(
            publish.packet_id,
            Inbound {
                subject,
                qos: publish.qos,
                phase,
                began,
                last: now,
                connection: at,
                expires: publish.message_expiry.is_some(),
                overlapped,
            },
        );
    }
}

fn closing_text(closing: Closing) -> &'static str {
    match closing {
        Closing::ByBroker => "closed by the broker",
        Closing::Fin => "closed by the client",
        Closing::Rst => "reset by the client",
        Closing::Broken => "the connection broke",
        Closing::Vanished => "the client fell silent",
    }
}
