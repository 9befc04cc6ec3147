//! Nanoseconds that the broker core spends on a message, from PUBLISH to the last acknowledgement, without bytes, disk or
//! sockets. The subscriber's session is durable, so that changes are made; they are drained and dropped.
//!
//! Each figure is the best of several rounds. `cargo bench -p mqtally-proto --bench broker`
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use bytes::Bytes;
use mqtally_proto::Time;
use mqtally_proto::broker::{Broker, Config, ConnectionId, Output};
use mqtally_proto::packet::{
    Ack, Connect, Packet, Properties, Property, Publish, Qos, Subscribe, Subscription, Version,
};
use std::hint::black_box;
use std::time::Instant;

const NOW: Time = Time::from_ms(0);
const PUBLISHER: ConnectionId = ConnectionId(0);
const TOPIC: &str = "factory/line1/press/temperature";
const ROUNDS: usize = 15;
const MESSAGES: u16 = 20_000;
/// Messages that come in between two drains.
const BATCH: u16 = 64;

fn main() {
    println!("{MESSAGES} messages of 100 bytes; ns a message, best of {ROUNDS} rounds");
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        row(&format!("live, QoS {}", qos as u8), 1, qos, || broker(1, qos, 0));
    }
    row("live, QoS 1, 10,000 other subscriptions", 1, Qos::AtLeastOnce, || {
        broker(1, Qos::AtLeastOnce, 10_000)
    });
    row("live, QoS 1, a copy of each to 100 clients", 100, Qos::AtLeastOnce, || {
        broker(100, Qos::AtLeastOnce, 0)
    });
    row("away, QoS 1", 1, Qos::AtLeastOnce, || {
        let mut broker = broker(1, Qos::AtLeastOnce, 0);
        broker.handle_closed(NOW, ConnectionId(1));
        broker
    });
}

fn row(what: &str, copies: u16, qos: Qos, broker: impl Fn() -> Broker) {
    let messages = MESSAGES / copies;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let mut broker = broker();
        let start = Instant::now();
        for first in (0..messages).step_by(usize::from(BATCH)) {
            publish_batch(&mut broker, qos, first);
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(messages * copies));
    }
    println!("{what:<44} {best:>7.0}");
}

/// A broker with a publisher, clients subscribed to all topics, and one with `others` filters that match nothing.
fn broker(subscribers: u64, qos: Qos, others: usize) -> Broker {
    let mut broker = Broker::new(Config::default());
    for number in 0..=subscribers {
        connect(&mut broker, ConnectionId(number));
        if number > 0 {
            subscribe(&mut broker, ConnectionId(number), vec![Subscription::new("factory/#", qos)]);
        }
    }
    for number in 0..others {
        let filter = format!("factory/line{number}/+/pressure");
        subscribe(&mut broker, PUBLISHER, vec![Subscription::new(filter, qos)]);
    }
    drain(&mut broker);
    broker
}

fn connect(broker: &mut Broker, connection: ConnectionId) {
    let connect = Connect {
        version: Version::V5_0,
        clean_start: false,
        keep_alive: 60,
        client_id: format!("client-{}", connection.0).into(),
        will: None,
        username: None,
        password: None,
        properties: Properties(vec![Property::SessionExpiryInterval(3_600)]),
    };
    broker.handle_opened(NOW, connection);
    broker.handle_packet(NOW, connection, Packet::Connect(Box::new(connect)));
}

fn subscribe(broker: &mut Broker, connection: ConnectionId, filters: Vec<Subscription>) {
    let subscribe = Subscribe { packet_id: 1, properties: Properties::default(), filters };
    broker.handle_packet(NOW, connection, Packet::Subscribe(subscribe));
}

/// Publishes a batch and finishes its handshakes at both ends.
fn publish_batch(broker: &mut Broker, qos: Qos, first: u16) {
    let payload = Bytes::from_static(&[7; 100]);
    for id in first + 1..=first + BATCH {
        let publish = Publish {
            qos,
            topic: TOPIC.into(),
            packet_id: (qos > Qos::AtMostOnce).then_some(id),
            payload: payload.clone(),
            ..Publish::default()
        };
        broker.handle_packet(NOW, PUBLISHER, Packet::Publish(publish));
    }
    loop {
        let answers = drain(broker);
        if answers.is_empty() {
            break;
        }
        for (connection, answer) in answers {
            broker.handle_packet(NOW, connection, answer);
        }
    }
}

/// Drops the changes, and gives the clients' answers to the outputs.
fn drain(broker: &mut Broker) -> Vec<(ConnectionId, Packet)> {
    broker.changes().for_each(|change| drop(black_box(change)));
    let answers = broker.outputs().filter_map(|output| match black_box(output) {
        Output::Send(connection, packet) => Some((connection, answer(&packet)?)),
        Output::Close(_) | Output::Authenticate(..) => None,
    });
    answers.collect()
}

fn answer(packet: &Packet) -> Option<Packet> {
    match packet {
        Packet::Publish(publish) => match publish.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => publish.packet_id.map(|id| Packet::Puback(Ack::success(id))),
            Qos::ExactlyOnce => publish.packet_id.map(|id| Packet::Pubrec(Ack::success(id))),
        },
        Packet::Pubrec(ack) => Some(Packet::Pubrel(Ack::success(ack.packet_id))),
        Packet::Pubrel(ack) => Some(Packet::Pubcomp(Ack::success(ack.packet_id))),
        _ => None,
    }
}
