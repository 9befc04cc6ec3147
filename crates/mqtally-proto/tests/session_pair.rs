//! Our session against our broker, both without I/O, with the connection cut at every step.
//!
//! A publisher and a subscriber, each a [`Session`], and one [`Broker`] between them. Packets travel one by one in an
//! order that descends from a seed, and any step may be a cut, which loses what was on its way. In the end all is
//! healed and drained, and the promises are counted.

use fastrand::Rng;
use mqtally_proto::Time;
use mqtally_proto::broker::{Broker, Config, ConnectionId, Limits, Output};
use mqtally_proto::packet::{Packet, Properties, Publish, Qos, Subscription, Version};
use mqtally_proto::session::{Acknowledge, Event, Options, Session};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const MESSAGES: u64 = 40;
/// Far above what the longest run takes.
const STEPS_MAX: u32 = 100_000;
const NOW: Time = Time::from_ms(1_000);

#[derive(Debug, Clone, Copy)]
struct Plan {
    version: Version,
    qos: Qos,
    acknowledge: Acknowledge,
    receive_maximum: u16,
    /// One step in this many is a cut.
    cut_every: u32,
    /// Whether one cut in four is of both, and the broker forgets everything.
    forgetful: bool,
    seed: u64,
}

/// One client with its wire to the broker.
struct End {
    session: Session,
    connection: Option<ConnectionId>,
    to_broker: VecDeque<Packet>,
    to_client: VecDeque<Packet>,
    /// PUBLISHes of this connection that the server has not finished, by packet id.
    outstanding: BTreeSet<u16>,
}

struct Pair {
    plan: Plan,
    rng: Rng,
    broker: Broker,
    connections: u64,
    ends: [End; 2],
    accepted: u64,
    completed: BTreeMap<u64, u32>,
    delivered: Vec<u64>,
    /// One step in this many is a cut now.
    cut_every: u32,
    steps: u32,
    cuts: u32,
    losses: u32,
}

const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;

fn broker(plan: Plan) -> Broker {
    let limits = Limits { receive_maximum: plan.receive_maximum, ..Limits::default() };
    Broker::new(Config { limits, ..Config::default() })
}

impl End {
    fn new(plan: Plan, name: &'static str) -> Self {
        let options = Options {
            clean_start: false,
            session_expiry_interval: 3_600,
            acknowledge: plan.acknowledge,
            receive_maximum: plan.receive_maximum,
            in_flight_max: 5,
            ..Options::new(plan.version, name)
        };
        Self {
            session: Session::new(options),
            connection: None,
            to_broker: VecDeque::new(),
            to_client: VecDeque::new(),
            outstanding: BTreeSet::new(),
        }
    }
}

impl Pair {
    fn new(plan: Plan) -> Self {
        let mut pair = Self {
            plan,
            rng: Rng::with_seed(plan.seed),
            broker: broker(plan),
            connections: 0,
            ends: [End::new(plan, "publisher"), End::new(plan, "subscriber")],
            accepted: 0,
            completed: BTreeMap::new(),
            delivered: Vec::new(),
            cut_every: u32::MAX,
            steps: 0,
            cuts: 0,
            losses: 0,
        };
        pair.connect(PUBLISHER);
        pair.connect(SUBSCRIBER);
        pair.settle();
        let filter = Subscription::new("t", Qos::ExactlyOnce);
        pair.ends[SUBSCRIBER].session.subscribe(vec![filter], Properties::default()).unwrap();
        pair.drain(SUBSCRIBER);
        pair.settle();
        pair
    }

    fn run(mut self) -> Self {
        self.cut_every = self.plan.cut_every;
        while self.accepted < MESSAGES {
            self.publish();
            self.step();
        }
        self.cut_every = u32::MAX;
        self.settle();
        self
    }

    fn publish(&mut self) {
        let publish = Publish {
            qos: self.plan.qos,
            topic: "t".into(),
            payload: self.accepted.to_string().into(),
            ..Publish::default()
        };
        let session = &mut self.ends[PUBLISHER].session;
        if session.has_room(self.plan.qos) && session.publish(self.accepted, publish).is_ok() {
            self.accepted += 1;
        }
        self.drain(PUBLISHER);
    }

    /// Until nothing moves any more.
    fn settle(&mut self) {
        for end in [PUBLISHER, SUBSCRIBER] {
            if self.ends[end].connection.is_none() {
                self.connect(end);
            }
        }
        while self.ends.iter().any(|end| !end.to_broker.is_empty() || !end.to_client.is_empty()) {
            self.step();
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        assert!(self.steps < STEPS_MAX, "no progress; {:?}", self.plan);
        let end = self.rng.usize(..2);
        if self.ends[end].connection.is_none() {
            self.connect(end);
        } else if self.rng.u32(..self.cut_every) == 0 {
            self.cut(end);
            if self.plan.forgetful && self.rng.u8(..4) == 0 {
                self.cut(1 - end);
                self.broker = broker(self.plan);
                self.losses += 1;
            }
        } else if self.rng.bool() {
            self.move_to_broker(end);
        } else {
            self.move_to_client(end);
        }
    }

    fn connect(&mut self, end: usize) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.ends[end].connection = Some(connection);
        self.broker.handle_opened(NOW, connection);
        self.ends[end].session.handle_opened(NOW);
        self.drain(end);
    }

    /// What is on its way is lost, in both directions.
    fn cut(&mut self, end: usize) {
        self.cuts += 1;
        let cut = &mut self.ends[end];
        cut.to_broker.clear();
        cut.to_client.clear();
        cut.outstanding.clear();
        cut.session.handle_closed(NOW);
        if let Some(connection) = cut.connection.take() {
            self.broker.handle_closed(NOW, connection);
        }
        self.drain(end);
    }

    fn move_to_broker(&mut self, end: usize) {
        let Some(packet) = self.ends[end].to_broker.pop_front() else { return };
        let Some(connection) = self.ends[end].connection else { return };
        self.broker.handle_packet(NOW, connection, packet);
        self.broker.changes();
        let outputs: Vec<Output> = self.broker.outputs().collect();
        for output in outputs {
            match output {
                Output::Send(to, packet) => {
                    let receiver = self.ends.iter_mut().find(|end| end.connection == Some(to));
                    receiver.into_iter().for_each(|end| end.to_client.push_back(packet.clone()));
                }
                closed => panic!("{closed:?}: a lawful client was turned away; {:?}", self.plan),
            }
        }
    }

    fn move_to_client(&mut self, end: usize) {
        let Some(packet) = self.ends[end].to_client.pop_front() else { return };
        if let Packet::Puback(ack) | Packet::Pubcomp(ack) = &packet {
            self.ends[end].outstanding.remove(&ack.packet_id);
        }
        self.ends[end].session.handle_packet(NOW, packet).expect("a lawful server was hung up on");
        self.drain(end);
    }

    fn drain(&mut self, end: usize) {
        while let Some(packet) = self.ends[end].session.poll_transmit() {
            self.count_outstanding(end, &packet);
            self.ends[end].to_broker.push_back(packet);
        }
        while let Some(event) = self.ends[end].session.poll_event() {
            self.take(end, event);
        }
    }

    fn count_outstanding(&mut self, end: usize, packet: &Packet) {
        let Packet::Publish(Publish { packet_id: Some(packet_id), .. }) = packet else { return };
        self.ends[end].outstanding.insert(*packet_id);
        let limit = usize::from(self.plan.receive_maximum);
        let kept = self.plan.version == Version::V3_1_1 || self.ends[end].outstanding.len() <= limit;
        assert!(kept, "receive maximum exceeded; {:?}", self.plan);
    }

    fn take(&mut self, end: usize, event: Event) {
        match event {
            Event::Completed { token, reason } => {
                assert!(!reason.is_error() || reason.0 == 0x92, "{reason}; {:?}", self.plan);
                *self.completed.entry(token).or_default() += 1;
            }
            Event::Message(publish) => {
                self.delivered.push(std::str::from_utf8(&publish.payload).unwrap().parse().unwrap());
                self.acknowledge(end, publish.packet_id);
            }
            Event::SessionLost { .. } => {
                assert!(self.plan.forgetful, "the broker lost a session; {:?}", self.plan);
            }
            _ => {}
        }
    }

    fn acknowledge(&mut self, end: usize, packet_id: Option<u16>) {
        let Some(packet_id) = packet_id else { return };
        if self.plan.acknowledge == Acknowledge::Manual {
            self.ends[end].session.acknowledge(packet_id);
            self.drain(end);
        }
    }
}

/// Every plan once per seed. The seeds are fixed; a failure prints its plan.
fn for_each_plan(forgetful: bool, check: impl Fn(Plan, Pair)) {
    for seed in 0..6 {
        for version in [Version::V3_1_1, Version::V5_0] {
            for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
                for acknowledge in [Acknowledge::Automatic, Acknowledge::Manual] {
                    for (receive_maximum, cut_every) in [(100, 3), (100, 20), (2, 10)] {
                        let plan =
                            Plan { version, qos, acknowledge, receive_maximum, cut_every, forgetful, seed };
                        check(plan, Pair::new(plan).run());
                    }
                }
            }
        }
    }
}

#[test]
fn every_accepted_publish_completes_once_and_arrives_in_order_whatever_is_cut() {
    let all: Vec<u64> = (0..MESSAGES).collect();
    for_each_plan(false, |plan, pair| {
        assert!(pair.cuts > 0, "nothing was cut; {plan:?}");
        assert_eq!(pair.completed.len() as u64, MESSAGES, "{plan:?}");
        assert!(pair.completed.values().all(|times| *times == 1), "{:?}; {plan:?}", pair.completed);
        match plan.qos {
            Qos::ExactlyOnce => assert_eq!(pair.delivered, all, "{plan:?}"),
            _ => assert_eq!(first_copies(&pair.delivered), all, "{plan:?}"),
        }
    });
}

/// Nothing can be said about deliveries here: the broker forgets what it acknowledged.
#[test]
fn every_accepted_publish_completes_once_though_the_broker_forgets_its_sessions() {
    let losses = std::cell::Cell::new(0);
    for_each_plan(true, |plan, pair| {
        losses.set(losses.get() + pair.losses);
        assert_eq!(pair.completed.len() as u64, MESSAGES, "{plan:?}");
        assert!(pair.completed.values().all(|times| *times == 1), "{:?}; {plan:?}", pair.completed);
    });
    assert!(losses.get() > 0);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let plan = Plan {
        version: Version::V5_0,
        qos: Qos::AtLeastOnce,
        acknowledge: Acknowledge::Automatic,
        receive_maximum: 2,
        cut_every: 5,
        forgetful: true,
        seed: 7,
    };
    let run = || Pair::new(plan).run();
    let (one, two) = (run(), run());
    assert_eq!((one.delivered, one.cuts), (two.delivered, two.cuts));
}

fn first_copies(delivered: &[u64]) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    delivered.iter().copied().filter(|message| seen.insert(*message)).collect()
}
