//! A run in small: publishers, subscribers and a broker that keeps every promise, or breaks one on purpose, over
//! links that are cut. Everything follows from a seed.

use fastrand::Rng;
use mqtally_history::event::{BrokerEvent, Closing, ConnectionId, Event, EventKind, Role};
use mqtally_history::marker::{Identity, Marker, MessageId, Purpose};
use mqtally_history::packet::{Connack, Connect, Filter, Packet, Publish, Subscribe, Version};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A way to break a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutation {
    DropOne,
    DeliverQos2Twice,
    SwapNeighbours,
    DenySession,
    ForgetInFlight,
    NewPacketId,
    PublishAfterPubrel,
    NoDup,
    HandDupOn,
    UpgradeQos,
    DamagePayload,
    InventMessage,
}

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) version: Version,
    /// The broker is killed now and then, and keeps everything or nothing.
    pub(crate) kills: Option<Survival>,
    pub(crate) mutation: Option<Mutation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survival {
    Everything,
    Nothing,
}

/// The history of a run, and how often its promise was really broken.
pub(crate) fn run(plan: Plan) -> (Vec<Event>, u32) {
    let mut run = Run::new(plan);
    for _ in 0..1500 {
        run.step(true);
    }
    run.heal();
    run.send_sentinels();
    run.heal();
    run.record(EventKind::GroupEnded { group: "model".into(), drained: true });
    (run.events, run.broker.broken)
}

const TOPICS: [(&str, u8); 5] = [("a", 0), ("a", 1), ("a", 2), ("b", 1), ("b", 2)];
const FILTERS: [&[(&str, u8)]; 4] = [&[("a", 2)], &[("#", 1)], &[("a", 1), ("+", 2)], &[("b", 2), ("a", 0)]];
const PUBLISHERS: usize = 2;
const WINDOW: usize = 4;

struct Run {
    plan: Plan,
    rng: Rng,
    events: Vec<Event>,
    links: Vec<Link>,
    clients: Vec<Client>,
    broker: Broker,
}

#[derive(Default)]
struct Link {
    client: usize,
    up: VecDeque<Packet>,
    down: VecDeque<Packet>,
    open: bool,
}

struct Client {
    name: Arc<str>,
    link: Option<usize>,
    accepted: bool,
    sequences: [u64; TOPICS.len()],
    outbound: Vec<Sending>,
    next_id: u16,
    due: VecDeque<Packet>,
    subscribed: bool,
}

struct Sending {
    publish: Publish,
    released: bool,
}

#[derive(Default)]
struct Broker {
    sessions: BTreeMap<usize, Session>,
    takes_at_pubrel: bool,
    rng: Rng,
    mutation: Option<Mutation>,
    broken: u32,
}

#[derive(Default)]
struct Session {
    link: Option<usize>,
    filters: Vec<(Arc<str>, u8)>,
    in_flight: Vec<(u16, Publish, bool)>,
    queue: VecDeque<Publish>,
    next_id: u16,
    received: BTreeMap<u16, Option<Publish>>,
}

impl Run {
    fn new(plan: Plan) -> Self {
        let mut rng = Rng::with_seed(plan.seed);
        let broker = Broker {
            takes_at_pubrel: rng.bool(),
            rng: rng.fork(),
            mutation: plan.mutation,
            ..Broker::default()
        };
        let names =
            (0..PUBLISHERS).map(|n| format!("pub-{n}")).chain((0..FILTERS.len()).map(|n| format!("sub-{n}")));
        let client = |name: String| Client {
            name: name.into(),
            link: None,
            accepted: false,
            sequences: [0; TOPICS.len()],
            outbound: Vec::new(),
            next_id: 0,
            due: VecDeque::new(),
            subscribed: false,
        };
        let clients = names.map(client).collect();
        let mut run = Self { plan, rng, events: Vec::new(), links: Vec::new(), clients, broker };
        run.record(EventKind::GroupStarted { group: "model".into(), version: plan.version });
        (0..run.clients.len()).for_each(|client| run.connect(client));
        run.settle();
        run
    }

    fn record(&mut self, kind: EventKind) {
        let at_ns = self.events.len() as u64 * 100_000;
        self.events.push(Event { at_ns, kind });
    }

    fn step(&mut self, faults: bool) {
        let client = self.rng.usize(..self.clients.len());
        match self.rng.u32(..100) {
            0..20 => self.publish(client, Purpose::Load),
            20..50 => self.broker_reads(client),
            50..80 => self.client_reads(client),
            80..95 => self.answer(client),
            95..97 if faults => self.cut(client),
            97 if faults => self.take_over(client),
            98 if faults && self.plan.kills.is_some() && self.rng.u8(..8) == 0 => self.kill(),
            _ if self.clients[client].link.is_none() => self.connect(client),
            _ => {}
        }
    }

    /// Reconnects everybody and lets everything come to rest.
    fn heal(&mut self) {
        self.settle();
        for client in 0..self.clients.len() {
            if self.clients[client].link.is_none() {
                self.connect(client);
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            let before = self.events.len();
            for client in 0..self.clients.len() {
                self.broker_reads(client);
                self.client_reads(client);
                self.answer(client);
            }
            // Nobody reads a link that its client has given up.
            let idle = |(at, link): (usize, &Link)| {
                let read = self.clients[link.client].link == Some(at);
                !link.open || (link.up.is_empty() && (link.down.is_empty() || !read))
            };
            if self.events.len() == before && self.links.iter().enumerate().all(idle) {
                return;
            }
        }
    }

    fn send(&mut self, client: usize, packet: Packet) {
        let Some(link) = self.clients[client].link else { return };
        self.record(EventKind::Sent(ConnectionId(link as u32), packet.clone()));
        self.links[link].up.push_back(packet);
    }

    fn connect(&mut self, client: usize) {
        let link = self.links.len();
        self.links.push(Link { client, open: true, ..Link::default() });
        let it = &mut self.clients[client];
        it.link = Some(link);
        it.accepted = false;
        it.due.clear();
        let name = Arc::clone(&it.name);
        let version = self.plan.version;
        self.record(EventKind::Opened {
            connection: ConnectionId(link as u32),
            client: name,
            version,
            role: Role::Own,
        });
        self.send(client, Packet::Connect(Connect { session_expiry: u32::MAX, ..Connect::default() }));
    }

    fn take_over(&mut self, client: usize) {
        if self.clients[client].accepted {
            self.connect(client);
        }
    }

    fn close(&mut self, link: usize, closing: Closing) {
        let it = &mut self.links[link];
        if !it.open {
            return;
        }
        it.open = false;
        it.up.clear();
        it.down.clear();
        let client = it.client;
        if self.clients[client].link == Some(link) {
            self.clients[client].link = None;
            self.clients[client].accepted = false;
            self.clients[client].due.clear();
        }
        self.record(EventKind::Closed(ConnectionId(link as u32), closing));
        self.broker.gone(client, link);
    }

    fn cut(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else { return };
        if self.rng.bool() {
            // In order: the broker reads what was sent, and its answers find nobody.
            while let Some(packet) = self.links[link].up.pop_front() {
                self.handle(link, packet);
            }
            self.close(link, Closing::Fin);
        } else {
            self.close(link, Closing::Rst);
        }
    }

    fn kill(&mut self) {
        self.record(EventKind::Broker(BrokerEvent::Killed));
        (0..self.links.len()).for_each(|link| self.close(link, Closing::ByBroker));
        if self.plan.kills == Some(Survival::Nothing) {
            self.broker.sessions.clear();
        }
        self.record(EventKind::Broker(BrokerEvent::Started));
    }

    fn publish(&mut self, client: usize, purpose: Purpose) {
        let number = self.rng.usize(..TOPICS.len());
        self.publish_to(client, number, purpose);
    }

    fn publish_to(&mut self, client: usize, number: usize, purpose: Purpose) {
        let it = &mut self.clients[client];
        if client >= PUBLISHERS || !it.accepted || it.outbound.len() > 20 {
            return;
        }
        let (topic, qos) = TOPICS[number];
        let message =
            MessageId { publisher: client as u32, stream: number as u16, sequence: it.sequences[number] };
        it.sequences[number] += 1;
        it.next_id = if qos > 0 { it.next_id + 1 } else { it.next_id };
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            packet_id: if qos > 0 { it.next_id } else { 0 },
            topic: topic.into(),
            identity: Identity::Ours(Marker { run: 1, message, attempt: 0, qos, purpose }),
            packet_len: 90,
            payload_len: 64,
            payload_crc: message.sequence as u32 * 7 + number as u32,
            properties: None,
            message_expiry: None,
            subscription_ids: Vec::new(),
            topic_alias: None,
        };
        if qos > 0 {
            it.outbound.push(Sending { publish: publish.clone(), released: false });
        }
        self.send(client, Packet::Publish(publish));
    }

    fn send_sentinels(&mut self) {
        for client in 0..PUBLISHERS {
            for number in 0..TOPICS.len() {
                self.publish_to(client, number, Purpose::Sentinel);
                self.settle();
            }
        }
    }

    fn broker_reads(&mut self, client: usize) {
        let link =
            self.links.iter().position(|link| link.client == client && link.open && !link.up.is_empty());
        if let Some(link) = link
            && let Some(packet) = self.links[link].up.pop_front()
        {
            self.handle(link, packet);
        }
    }

    fn handle(&mut self, link: usize, packet: Packet) {
        let client = self.links[link].client;
        if let Packet::Connect(_) = packet {
            let old = self.broker.sessions.get(&client).and_then(|session| session.link);
            old.into_iter().for_each(|old| self.close(old, Closing::ByBroker));
        }
        let alive = self.broker.handle(link, client, packet);
        for (to, packet) in alive {
            if self.links[to].open {
                self.links[to].down.push_back(packet);
            }
        }
    }

    fn client_reads(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else { return };
        let Some(packet) = self.links[link].down.pop_front() else { return };
        self.record(EventKind::Received(ConnectionId(link as u32), packet.clone()));
        match packet {
            Packet::Connack(connack) => self.accepted(client, connack.session_present),
            Packet::Publish(publish) if publish.qos == 1 => {
                self.clients[client].due.push_back(Packet::Puback(publish.packet_id, 0));
            }
            Packet::Publish(publish) if publish.qos == 2 => {
                self.clients[client].due.push_back(Packet::Pubrec(publish.packet_id, 0));
            }
            Packet::Pubrel(id, _) => self.clients[client].due.push_back(Packet::Pubcomp(id, 0)),
            Packet::Puback(id, _) | Packet::Pubcomp(id, _) => {
                self.clients[client].outbound.retain(|it| it.publish.packet_id != id);
            }
            Packet::Pubrec(id, _) => {
                self.clients[client]
                    .outbound
                    .iter_mut()
                    .filter(|it| it.publish.packet_id == id)
                    .for_each(|it| it.released = true);
                self.clients[client].due.push_back(Packet::Pubrel(id, 0));
            }
            _ => {}
        }
    }

    fn accepted(&mut self, client: usize, present: bool) {
        let it = &mut self.clients[client];
        it.accepted = true;
        if !present {
            it.subscribed = false;
            // What is in doubt is not submitted anew here.
            it.outbound.clear();
        }
        let again: Vec<Packet> = it
            .outbound
            .iter()
            .map(|it| match it.released {
                true => Packet::Pubrel(it.publish.packet_id, 0),
                false => Packet::Publish(Publish { dup: true, ..it.publish.clone() }),
            })
            .collect();
        again.into_iter().for_each(|packet| self.send(client, packet));
        if client >= PUBLISHERS && !self.clients[client].subscribed {
            self.clients[client].subscribed = true;
            let filters = FILTERS[client - PUBLISHERS].iter().map(|(filter, qos)| Filter {
                filter: (*filter).into(),
                qos: *qos,
                no_local: false,
                retain_as_published: false,
                retain_handling: 0,
            });
            let subscribe = Subscribe { packet_id: 1, identifier: None, filters: filters.collect() };
            self.send(client, Packet::Subscribe(subscribe));
        }
    }

    fn answer(&mut self, client: usize) {
        if let Some(packet) = self.clients[client].due.pop_front() {
            self.send(client, packet);
        }
    }
}

impl Broker {
    fn gone(&mut self, client: usize, link: usize) {
        if let Some(session) = self.sessions.get_mut(&client)
            && session.link == Some(link)
        {
            session.link = None;
        }
    }

    fn breaks(&mut self, mutation: Mutation, one_in: u32) -> bool {
        let breaks = self.mutation == Some(mutation) && self.rng.u32(..one_in) == 0;
        self.broken += u32::from(breaks);
        breaks
    }

    fn handle(&mut self, link: usize, client: usize, packet: Packet) -> Vec<(usize, Packet)> {
        let mut out = Vec::new();
        match packet {
            Packet::Connect(_) => self.connect(link, client, &mut out),
            Packet::Subscribe(subscribe) => {
                let session = self.sessions.entry(client).or_default();
                let filters = subscribe.filters.iter().map(|it| (Arc::clone(&it.filter), it.qos));
                session.filters = filters.collect();
                let codes = subscribe.filters.iter().map(|it| it.qos).collect();
                out.push((link, Packet::Suback(subscribe.packet_id, codes)));
            }
            Packet::Publish(publish) => self.publish(link, client, publish, &mut out),
            Packet::Pubrel(id, _) => {
                let received = self.sessions.entry(client).or_default().received.remove(&id);
                received.flatten().into_iter().for_each(|publish| self.route(&publish, &mut out));
                out.push((link, Packet::Pubcomp(id, 0)));
            }
            Packet::Pubrec(id, _) => {
                let session = self.sessions.entry(client).or_default();
                session.in_flight.iter_mut().filter(|it| it.0 == id).for_each(|it| it.2 = true);
                out.push((link, Packet::Pubrel(id, 0)));
            }
            Packet::Puback(id, _) | Packet::Pubcomp(id, _) => {
                self.sessions.entry(client).or_default().in_flight.retain(|it| it.0 != id);
                self.pump(client, &mut out);
            }
            _ => {}
        }
        out
    }

    fn connect(&mut self, link: usize, client: usize, out: &mut Vec<(usize, Packet)>) {
        let exists = self.sessions.contains_key(&client);
        let denied = exists && self.breaks(Mutation::DenySession, 4);
        let forgets = exists
            && self.sessions.get(&client).is_some_and(|it| it.in_flight.iter().any(|it| !it.2))
            && self.breaks(Mutation::ForgetInFlight, 2);
        let session = self.sessions.entry(client).or_default();
        session.link = Some(link);
        if forgets {
            session.in_flight.clear();
        }
        let connack = Connack { session_present: exists && !denied, ..Connack::default() };
        out.push((link, Packet::Connack(connack)));
        self.redeliver(link, client, out);
        self.pump(client, out);
    }

    fn redeliver(&mut self, link: usize, client: usize, out: &mut Vec<(usize, Packet)>) {
        let again = std::mem::take(&mut self.sessions.entry(client).or_default().in_flight);
        for (mut id, publish, mut released) in again {
            if released && self.breaks(Mutation::PublishAfterPubrel, 1) {
                released = false;
            } else if !released && self.breaks(Mutation::NewPacketId, 1) {
                id += 1000;
            }
            let dup = released || !self.breaks(Mutation::NoDup, 1);
            out.push((
                link,
                match released {
                    true => Packet::Pubrel(id, 0),
                    false => Packet::Publish(Publish { dup, packet_id: id, ..publish.clone() }),
                },
            ));
            self.sessions.entry(client).or_default().in_flight.push((id, publish, released));
        }
    }

    fn publish(&mut self, link: usize, client: usize, publish: Publish, out: &mut Vec<(usize, Packet)>) {
        let id = publish.packet_id;
        match publish.qos {
            0 => self.route(&publish, out),
            1 => {
                self.route(&publish, out);
                out.push((link, Packet::Puback(id, 0)));
            }
            _ => {
                let known = self.sessions.entry(client).or_default().received.contains_key(&id);
                if !known && !self.takes_at_pubrel {
                    self.route(&publish, out);
                }
                let kept = Some(publish).filter(|_| self.takes_at_pubrel);
                self.sessions.entry(client).or_default().received.entry(id).or_insert(kept);
                out.push((link, Packet::Pubrec(id, 0)));
            }
        }
    }

    fn route(&mut self, publish: &Publish, out: &mut Vec<(usize, Packet)>) {
        let clients: Vec<usize> = self.sessions.keys().copied().collect();
        for client in clients {
            let matching = self.sessions[&client]
                .filters
                .iter()
                .filter(|(filter, _)| **filter == *publish.topic || matches!(&**filter, "#" | "+"));
            if let Some(granted) = matching.map(|(_, qos)| *qos).max() {
                self.deliver(client, publish, granted, out);
            }
        }
    }

    fn deliver(&mut self, client: usize, publish: &Publish, granted: u8, out: &mut Vec<(usize, Packet)>) {
        let load = matches!(publish.identity, Identity::Ours(marker) if marker.purpose == Purpose::Load);
        let mut qos = publish.qos.min(granted);
        if load && granted > publish.qos && self.breaks(Mutation::UpgradeQos, 5) {
            qos = granted;
        }
        if load && qos > 0 && self.breaks(Mutation::DropOne, 20) {
            return;
        }
        let dup = publish.dup
            && qos > 0
            && self.sessions[&client].link.is_some()
            && self.breaks(Mutation::HandDupOn, 1);
        let mut copy = Publish { qos, dup, packet_id: 0, ..publish.clone() };
        if load && self.breaks(Mutation::DamagePayload, 20) {
            copy.payload_crc ^= 1;
        }
        if load
            && self.breaks(Mutation::InventMessage, 20)
            && let Identity::Ours(marker) = &mut copy.identity
        {
            marker.message.sequence += 1_000_000;
        }
        let twice = load && qos == 2 && self.breaks(Mutation::DeliverQos2Twice, 10);
        let session = self.sessions.entry(client).or_default();
        if qos == 0 {
            out.extend(session.link.map(|link| (link, Packet::Publish(copy))));
            return;
        }
        session.queue.push_back(copy.clone());
        if twice {
            session.queue.push_back(copy);
        }
        self.swap(client, load);
        self.pump(client, out);
    }

    /// Swaps the last two of the queue when nothing but order tells them apart.
    fn swap(&mut self, client: usize, load: bool) {
        let queue = &self.sessions[&client].queue;
        let key = |at: usize| match queue[at].identity {
            Identity::Ours(marker) => Some((marker.message.publisher, marker.message.stream, queue[at].qos)),
            _ => None,
        };
        let len = queue.len();
        if load && len >= 2 && key(len - 1) == key(len - 2) && self.breaks(Mutation::SwapNeighbours, 1) {
            self.sessions.entry(client).or_default().queue.swap(len - 1, len - 2);
        }
    }

    fn pump(&mut self, client: usize, out: &mut Vec<(usize, Packet)>) {
        let session = self.sessions.entry(client).or_default();
        let Some(link) = session.link else { return };
        while session.in_flight.len() < WINDOW
            && let Some(mut publish) = session.queue.pop_front()
        {
            let used: BTreeSet<u16> = session.in_flight.iter().map(|it| it.0).collect();
            loop {
                session.next_id = session.next_id % 100 + 1;
                if !used.contains(&session.next_id) {
                    break;
                }
            }
            publish.packet_id = session.next_id;
            let dup = std::mem::take(&mut publish.dup);
            session.in_flight.push((publish.packet_id, publish.clone(), false));
            out.push((link, Packet::Publish(Publish { dup, ..publish })));
        }
    }
}
