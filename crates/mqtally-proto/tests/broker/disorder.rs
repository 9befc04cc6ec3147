//! Any packets in any order: the broker stays sound whoever its clients are.
//!
//! The bench asserts after every packet that the changes add up to the broker's state, that nothing is sent on a closed
//! connection, and that every packet can be written and strictly read.

use crate::bench::*;
use mqtally_proto::broker::{Config, Limits};
use mqtally_proto::packet::{
    Ack, Connect, Packet, Properties, Property, Publish, Qos, ReasonCode, RetainHandling, Subscribe,
    Subscription, Unsubscribe, Version,
};

const SEEDS: u64 = 400;
const STEPS: usize = 250;
const TOPICS: [&str; 4] = ["a", "a/b", "a/b/c", "$x"];
const FILTERS: [&str; 7] = ["a", "a/+", "#", "$share/g/a/#", "$share/h/a", "$share/g/+", "$share/g"];
const EXPIRIES: [u32; 4] = [0, 1, 30, u32::MAX];

#[test]
fn no_order_of_packets_is_too_much() {
    for seed in 0..SEEDS {
        let life = std::panic::catch_unwind(|| disorder(seed));
        assert!(life.is_ok(), "broken with seed {seed}");
    }
}

/// Small limits, so that they are reached.
fn config(random: &mut fastrand::Rng) -> Config {
    let limits = Limits {
        receive_maximum: random.u16(1..5),
        in_flight_max: random.u16(1..5),
        queued_messages_max: random.usize(0..5),
        queued_bytes_max: random.usize(0..100),
        sessions_max: random.usize(1..6),
        subscriptions_max: random.usize(1..6),
        retained_max: random.usize(0..4),
        session_expiry_max: EXPIRIES[random.usize(1..4)],
        ..Limits::default()
    };
    Config { limits, authenticate: random.u8(0..4) == 0 }
}

fn disorder(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bench = Bench::with_config(config(&mut random));
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..STEPS {
        clients.retain(|client| !bench.is_closed(*client));
        let client = (!clients.is_empty()).then(|| clients[random.usize(0..clients.len())]);
        match (random.u8(0..100), client) {
            (0..12, _) => clients.push(enter(&mut bench, &mut random)),
            (12..16, Some(client)) => {
                bench.cut(client);
                clients.retain(|kept| *kept != client);
            }
            (16..20, _) => bench.pass_secs(random.u64(0..20)),
            (20, _) => bench.restart(),
            (21, _) => {
                bench.broker.handle_shutdown(bench.now);
                bench.settle();
            }
            (_, Some(client)) => bench.send(client, packet(&mut random)),
            (_, None) => {}
        }
    }
}

fn enter(bench: &mut Bench, random: &mut fastrand::Rng) -> Client {
    let client = bench.apply(connect(random));
    if let Some(asked) = bench.asked.pop() {
        bench.broker.handle_authenticated(bench.now, asked, random.u8(0..5) > 0);
        bench.settle();
    }
    client
}

fn connect(random: &mut fastrand::Rng) -> Connect {
    let name = ["", "one", "two", "three", "four", "five"][random.usize(0..6)];
    let version = VERSIONS[random.usize(0..2)];
    let delay = properties([Property::WillDelayInterval(random.u32(0..40))]);
    let last = will(
        TOPICS[random.usize(0..3)],
        "bye",
        if version == Version::V5_0 { delay } else { Properties::default() },
    );
    let mut connect = Connect {
        clean_start: random.u8(0..4) == 0,
        keep_alive: random.u16(0..10),
        will: last.filter(|_| random.bool()),
        ..clean(version, name)
    };
    if version == Version::V5_0 {
        connect.properties = properties([
            Property::SessionExpiryInterval(EXPIRIES[random.usize(0..4)]),
            Property::ReceiveMaximum(random.u16(1..5)),
            Property::MaximumPacketSize(random.u32(60..100)),
        ]);
    }
    connect
}

fn packet(random: &mut fastrand::Rng) -> Packet {
    let id = random.u16(1..6);
    let reason = ReasonCode([0x00, 0x00, 0x10, 0x80, 0x92][random.usize(0..5)]);
    let ack = Ack::with_reason(id, reason);
    match random.u8(0..100) {
        0..40 => Packet::Publish(random_publish(random, id)),
        40..55 => Packet::Puback(ack),
        55..65 => Packet::Pubrec(ack),
        65..75 => Packet::Pubrel(ack),
        75..85 => Packet::Pubcomp(ack),
        85..94 => Packet::Subscribe(Subscribe {
            packet_id: id,
            properties: properties([Property::SubscriptionIdentifier(random.u32(1..4))]),
            filters: (0..random.usize(1..3)).map(|_| subscription(random)).collect(),
        }),
        94..98 => Packet::Unsubscribe(Unsubscribe {
            packet_id: id,
            properties: Properties::default(),
            filters: vec![FILTERS[random.usize(0..FILTERS.len())].into()],
        }),
        _ => Packet::Disconnect(mqtally_proto::packet::Disconnect {
            reason,
            properties: properties([Property::SessionExpiryInterval(EXPIRIES[random.usize(0..4)])]),
        }),
    }
}

fn random_publish(random: &mut fastrand::Rng, id: u16) -> Publish {
    let qos = level(random);
    let payload =
        ["", "x", "a payload that is long enough not to be taken by all of them"][random.usize(0..3)];
    Publish {
        dup: random.bool(),
        retain: random.u8(0..4) == 0,
        properties: properties([Property::MessageExpiryInterval(random.u32(1..30))]),
        ..message(TOPICS[random.usize(0..TOPICS.len())], qos, id, payload)
    }
}

fn subscription(random: &mut fastrand::Rng) -> Subscription {
    let handling = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    Subscription {
        no_local: random.u8(0..8) == 0,
        retain_as_published: random.bool(),
        retain_handling: handling[random.usize(0..3)],
        ..Subscription::new(FILTERS[random.usize(0..FILTERS.len())], level(random))
    }
}

fn level(random: &mut fastrand::Rng) -> Qos {
    [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][random.usize(0..3)]
}
