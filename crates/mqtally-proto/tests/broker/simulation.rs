//! Random lives from a seed: clients publish, read late, are cut and come back; the broker dies before or after a commit.
//! In the end everybody is connected and reads everything, and the promises are checked against what was sent:
//! nothing of QoS 1 or 2 is lost, QoS 2 comes once, first copies are in order.

use crate::bench::*;
use mqtally_proto::broker::Limits;
use mqtally_proto::packet::{Ack, Packet, Property, Publish, Qos, ReasonCode, Version};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const SEEDS: u64 = 600;
const STEPS: usize = 120;
const TOPICS: [&str; 3] = ["a/x", "a/y", "b"];
const FILTERS: [&str; 4] = ["#", "a/+", "a/x", "b/#"];

#[test]
fn no_life_loses_a_message_or_repeats_qos_2_or_breaks_the_order() {
    for seed in 0..SEEDS {
        let life = std::panic::catch_unwind(|| Life::new(seed).live());
        assert!(life.is_ok(), "broken with seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_life() {
    let history = |seed| Life::new(seed).live().into_iter().map(|peer| peer.log).collect::<Vec<_>>();
    assert_eq!(history(7), history(7));
}

/// What a message is known by; its payload says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Sent {
    publisher: usize,
    topic: &'static str,
    qos: Qos,
    number: u64,
}

impl Sent {
    fn payload(&self) -> String {
        format!("{} {} {} {}", self.publisher, self.topic, self.qos as u8, self.number)
    }

    fn packet(&self, id: u16, dup: bool) -> Packet {
        Packet::Publish(Publish { dup, ..message(self.topic, self.qos, id, &self.payload()) })
    }
}

/// A lawful client: both a publisher and a subscriber.
#[derive(Debug)]
struct Peer {
    version: Version,
    filters: Vec<(&'static str, Qos)>,
    /// Another one on each connection.
    receive_maximum: u16,
    line: Option<Client>,
    /// What it has been sent and not yet read.
    inbox: VecDeque<Packet>,
    /// Its own unfinished messages in order, and whether each is released.
    unfinished: Vec<(u16, Sent, bool)>,
    last_id: u16,
    /// Received QoS 2 ids without PUBREL, and what they stand for.
    unreleased: BTreeMap<u16, String>,
    /// Packet ids received and not finished on this connection.
    on_line: BTreeSet<u16>,
    /// All it took in: the payload, and the QoS of the copy.
    log: Vec<(String, Qos)>,
}

struct Life {
    bench: Bench,
    random: fastrand::Rng,
    peers: Vec<Peer>,
    sent: Vec<Sent>,
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let limits = Limits { in_flight_max: random.u16(1..=20), ..Limits::default() };
        let peers = (0..4).map(|_| Peer::new(&mut random)).collect();
        let mut life = Self { bench: Bench::with(limits), random, peers, sent: Vec::new() };
        for at in 0..life.peers.len() {
            life.join(at, false);
            for (filter, qos) in life.peers[at].filters.clone() {
                let line = life.peers[at].line.expect("a connected peer");
                life.bench.subscribe(line, filter, qos);
            }
        }
        life
    }

    fn live(mut self) -> Vec<Peer> {
        for _ in 0..STEPS {
            self.step();
        }
        self.drain();
        for at in 0..self.peers.len() {
            self.judge(at);
        }
        self.peers
    }

    fn step(&mut self) {
        let at = self.random.usize(0..self.peers.len());
        match self.random.u8(0..100) {
            0..45 => self.publish(at),
            45..85 => {
                for _ in 0..self.random.usize(1..8) {
                    self.read(at);
                }
            }
            85..91 => self.cut(at),
            91..98 => self.join(at, true),
            98 => self.bench.pass_secs(1),
            _ => self.crash(at),
        }
    }

    fn publish(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let Some(line) = peer.line else { return };
        let sent = Sent {
            publisher: at,
            topic: TOPICS[self.random.usize(0..TOPICS.len())],
            qos: [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][self.random.usize(0..3)],
            number: self.sent.len() as u64,
        };
        let id = peer.unused_id();
        self.sent.push(sent.clone());
        let packet = sent.packet(id, false);
        if sent.qos > Qos::AtMostOnce {
            peer.unfinished.push((id, sent, false));
        }
        self.feed(at, line, packet);
    }

    /// Sends a packet, which arrives, or is lost because the connection ends first.
    fn feed(&mut self, at: usize, line: Client, packet: Packet) {
        if self.random.u8(0..100) < 2 {
            return self.cut(at);
        }
        self.bench.send(line, packet);
        self.collect();
    }

    /// The broker dies with an input in its hands: before its changes are committed, or after that and before the outputs
    /// are let out.
    fn crash(&mut self, at: usize) {
        let packet = self.peers[at].inbox.pop_front().and_then(|packet| self.peers[at].react(packet));
        if let (Some(line), Some(packet)) = (self.peers[at].line, packet) {
            self.bench.broker.handle_packet(self.bench.now, line.0, packet);
            if self.random.bool() {
                for change in self.bench.broker.changes() {
                    self.bench.stored.apply(change);
                }
            }
        }
        self.bench.restart();
        self.peers.iter_mut().for_each(Peer::lose_line);
    }

    fn cut(&mut self, at: usize) {
        if let Some(line) = self.peers[at].line.filter(|line| !self.bench.is_closed(*line)) {
            self.bench.cut(line);
        }
        self.peers[at].lose_line();
        self.collect();
    }

    /// Connects a peer, over its old connection if there is one, and sends again what is unfinished.
    fn join(&mut self, at: usize, present: bool) {
        self.peers[at].lose_line();
        self.peers[at].receive_maximum = self.random.u16(1..=5);
        let (line, connack, received) = self.bench.enter(self.peers[at].connect(at));
        assert_eq!(connack.session_present, present);
        let peer = &mut self.peers[at];
        peer.line = Some(line);
        peer.inbox.extend(received);
        for packet in peer.resend() {
            if self.peers[at].line == Some(line) {
                self.feed(at, line, packet);
            }
        }
    }

    fn read(&mut self, at: usize) {
        let Some(packet) = self.peers[at].inbox.pop_front() else { return };
        let answer = self.peers[at].react(packet);
        if let (Some(line), Some(answer)) = (self.peers[at].line, answer) {
            self.feed(at, line, answer);
        }
    }

    fn collect(&mut self) {
        for peer in &mut self.peers {
            if let Some(line) = peer.line {
                assert!(!self.bench.is_closed(line), "a lawful client was closed");
                peer.inbox.extend(self.bench.take(line));
            }
        }
    }

    /// Everybody comes back and reads until nothing is left to be said.
    fn drain(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "no end");
            for at in 0..self.peers.len() {
                if self.peers[at].line.is_none() {
                    self.join(at, true);
                }
                self.read(at);
            }
            let quiet =
                |peer: &Peer| peer.line.is_some() && peer.inbox.is_empty() && peer.unfinished.is_empty();
            if self.peers.iter().all(quiet) {
                break;
            }
        }
        for (session, _, deliveries, received) in &self.bench.stored.sessions {
            assert!(
                deliveries.is_empty() && received.is_empty(),
                "{session:?} keeps {deliveries:?} {received:?}"
            );
        }
        assert_eq!(self.bench.stored.messages, []);
    }

    fn judge(&self, at: usize) {
        let peer = &self.peers[at];
        let mut copies: BTreeMap<&str, usize> = BTreeMap::new();
        let mut last: BTreeMap<(usize, &str, Qos), u64> = BTreeMap::new();
        let by_payload: BTreeMap<String, &Sent> =
            self.sent.iter().map(|sent| (sent.payload(), sent)).collect();
        for (payload, qos) in &peer.log {
            let sent = by_payload[payload];
            assert_eq!(Some(*qos), peer.expected_qos(sent), "QoS of {sent:?}");
            let copies = copies.entry(payload).or_default();
            *copies += 1;
            // Of QoS 1 granted QoS 0 the first copy may be lost and the publisher's second one come later.
            let may_come_late = sent.qos == Qos::AtLeastOnce && *qos == Qos::AtMostOnce;
            if *copies == 1 && !may_come_late {
                let before = last.insert((sent.publisher, sent.topic, sent.qos), sent.number);
                assert!(before.is_none_or(|before| before < sent.number), "{sent:?} after {before:?}");
            }
        }
        for sent in &self.sent {
            let copies = copies.get(sent.payload().as_str()).copied().unwrap_or(0);
            match peer.expected_qos(sent) {
                None => assert_eq!(copies, 0, "unwanted {sent:?}"),
                Some(Qos::AtLeastOnce) => assert!(copies >= 1, "peer {at} lost {sent:?}"),
                Some(Qos::ExactlyOnce) => assert_eq!(copies, 1, "peer {at}: {sent:?}"),
                Some(Qos::AtMostOnce) if sent.qos == Qos::AtLeastOnce => {}
                Some(Qos::AtMostOnce) => assert!(copies <= 1, "repeated {sent:?}"),
            }
        }
    }
}

impl Peer {
    fn new(random: &mut fastrand::Rng) -> Self {
        let levels = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
        let filters = (0..random.usize(1..3))
            .map(|_| (FILTERS[random.usize(0..FILTERS.len())], levels[random.usize(0..levels.len())]));
        // The last word on a filter is the one that counts.
        let filters: BTreeMap<&'static str, Qos> = filters.collect();
        Self {
            version: VERSIONS[random.usize(0..2)],
            filters: filters.into_iter().collect(),
            receive_maximum: 0,
            line: None,
            inbox: VecDeque::new(),
            unfinished: Vec::new(),
            last_id: 0,
            unreleased: BTreeMap::new(),
            on_line: BTreeSet::new(),
            log: Vec::new(),
        }
    }

    fn connect(&self, at: usize) -> mqtally_proto::packet::Connect {
        let mut connect = durable(self.version, &format!("peer-{at}"));
        if self.version == Version::V5_0 {
            connect.properties.push(Property::ReceiveMaximum(self.receive_maximum));
        }
        connect
    }

    fn lose_line(&mut self) {
        self.line = None;
        self.inbox.clear();
        self.on_line.clear();
    }

    fn unused_id(&mut self) -> u16 {
        self.last_id = self.last_id % 1_000 + 1;
        self.last_id
    }

    /// What a client sends again on a new connection, in order.
    fn resend(&self) -> Vec<Packet> {
        let unfinished = self.unfinished.iter();
        unfinished
            .map(|(id, sent, released)| if *released { pubrel(*id) } else { sent.packet(*id, true) })
            .collect()
    }

    /// Reads a packet, and gives the answer to it.
    fn react(&mut self, packet: Packet) -> Option<Packet> {
        match packet {
            Packet::Publish(publish) => self.receive(&publish),
            Packet::Pubrel(ack) => {
                assert!(!ack.reason.is_error());
                self.unreleased.remove(&ack.packet_id);
                self.on_line.remove(&ack.packet_id);
                Some(pubcomp(ack.packet_id))
            }
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.check_own(&ack);
                self.unfinished.retain(|(id, ..)| *id != ack.packet_id);
                None
            }
            Packet::Pubrec(ack) => {
                self.check_own(&ack);
                let own = self.unfinished.iter_mut().find(|(id, ..)| *id == ack.packet_id);
                own.expect("an unfinished message").2 = true;
                Some(pubrel(ack.packet_id))
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn check_own(&self, ack: &Ack) {
        let resumed = ReasonCode::PACKET_IDENTIFIER_NOT_FOUND;
        assert!(!ack.reason.is_error() || ack.reason == resumed, "{ack:?}");
        assert!(self.unfinished.iter().any(|(id, ..)| *id == ack.packet_id), "{ack:?} of nothing");
    }

    fn receive(&mut self, publish: &Publish) -> Option<Packet> {
        let payload = std::str::from_utf8(&publish.payload).expect("text").to_owned();
        let Some(id) = publish.packet_id else {
            assert!(!publish.dup, "DUP at QoS 0");
            self.log.push((payload, Qos::AtMostOnce));
            return None;
        };
        assert!(self.on_line.insert(id), "{id} sent twice on one connection");
        let window =
            if self.version == Version::V5_0 { usize::from(self.receive_maximum) } else { usize::MAX };
        assert!(self.on_line.len() <= window, "receive maximum exceeded");
        if publish.qos == Qos::AtLeastOnce {
            self.on_line.remove(&id);
            self.log.push((payload, publish.qos));
            return Some(puback(id));
        }
        match self.unreleased.get(&id) {
            Some(known) => {
                assert_eq!(known, &payload, "packet id used again before PUBCOMP");
                assert!(publish.dup, "DUP missing");
            }
            None => {
                self.log.push((payload.clone(), publish.qos));
                self.unreleased.insert(id, payload);
            }
        }
        Some(pubrec(id))
    }

    /// The QoS at which this peer should get a message, if at all.
    fn expected_qos(&self, sent: &Sent) -> Option<Qos> {
        let matching =
            self.filters.iter().filter(|(filter, _)| mqtally_proto::topic::matches(filter, sent.topic));
        matching.map(|(_, granted)| (*granted).min(sent.qos)).max()
    }
}
