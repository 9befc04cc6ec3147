//! Nanoseconds to encode and to decode a PUBLISH at QoS 1 with a payload of 100 bytes, beside `mqtt-proto`.
//!
//! Each figure is the best of several rounds, the codecs taking turns, so that a busy machine harms neither alone.
//! `cargo bench -p mqtally-proto --bench codec`
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use bytes::{Bytes, BytesMut};
use mqtally_proto::packet::{Decoder, Packet, Publish, Qos, Version, encode, observe};
use mqtt_proto::{Pid, QosPid, TopicName, v3, v5};
use std::hint::black_box;
use std::time::Instant;

const TOPIC: &str = "factory/line1/press/temperature";
const ROUNDS: usize = 25;
/// Packets that come in one read of a socket.
const BATCH: usize = 64;
const BATCHES: usize = 512;

fn main() {
    println!(
        "PUBLISH, QoS 1, topic of {} bytes, payload of 100; ns a packet, best of {ROUNDS} rounds",
        TOPIC.len()
    );
    println!("{:<6} {:<8} {:>6} {:>11} {:>6}", "", "", "ours", "mqtt-proto", "ratio");
    row("3.1.1", "encode", encode_ours(Version::V3_1_1), encode_v3());
    row("3.1.1", "decode", decode_ours(Version::V3_1_1), decode_v3());
    row("3.1.1", "observe", observe_ours(Version::V3_1_1), decode_v3());
    row("5.0", "encode", encode_ours(Version::V5_0), encode_v5());
    row("5.0", "decode", decode_ours(Version::V5_0), decode_v5());
    row("5.0", "observe", observe_ours(Version::V5_0), decode_v5());
}

fn row(version: &str, act: &str, mut ours: impl FnMut(), mut theirs: impl FnMut()) {
    let (mut our_best, mut their_best) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ROUNDS {
        our_best = our_best.min(ns_per_packet(&mut ours));
        their_best = their_best.min(ns_per_packet(&mut theirs));
    }
    println!("{version:<6} {act:<8} {our_best:>6.1} {their_best:>11.1} {:>6.2}", our_best / their_best);
}

fn ns_per_packet(batch: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..BATCHES).for_each(|_| batch());
    start.elapsed().as_secs_f64() * 1e9 / (BATCH * BATCHES) as f64
}

fn encode_ours(version: Version) -> impl FnMut() {
    let packet = our_packet();
    let mut out = BytesMut::with_capacity(BATCH * 256);
    move || {
        out.clear();
        for _ in 0..BATCH {
            encode(black_box(&packet), version, &mut out).expect("lawful");
        }
        black_box(&out);
    }
}

fn decode_ours(version: Version) -> impl FnMut() {
    let wire = wire(version);
    let mut buffer = BytesMut::with_capacity(wire.len());
    let mut decoder = Decoder::client(version, u32::MAX);
    move || {
        buffer.extend_from_slice(&wire);
        while let Some(packet) = decoder.decode(&mut buffer).expect("lawful") {
            black_box(packet);
        }
    }
}

fn observe_ours(version: Version) -> impl FnMut() {
    let wire = wire(version);
    let mut buffer = BytesMut::with_capacity(wire.len());
    move || {
        buffer.extend_from_slice(&wire);
        while let Some(observed) = observe(&mut buffer, version).expect("lawful") {
            black_box(observed);
        }
    }
}

fn encode_v3() -> impl FnMut() {
    let publish = v3::Publish::new(qos_pid(), topic_name(), payload());
    let packet = v3::Packet::Publish(publish);
    let mut out = BytesMut::with_capacity(BATCH * 256);
    move || {
        out.clear();
        for _ in 0..BATCH {
            out.extend_from_slice(black_box(&packet).encode().expect("lawful").as_ref());
        }
        black_box(&out);
    }
}

fn encode_v5() -> impl FnMut() {
    let publish = v5::Publish::new(qos_pid(), topic_name(), payload());
    let packet = v5::Packet::Publish(publish);
    let mut out = BytesMut::with_capacity(BATCH * 256);
    move || {
        out.clear();
        for _ in 0..BATCH {
            out.extend_from_slice(black_box(&packet).encode().expect("lawful").as_ref());
        }
        black_box(&out);
    }
}

fn decode_v3() -> impl FnMut() {
    let wire = wire(Version::V3_1_1);
    let size = wire.len() / BATCH;
    move || {
        for frame in wire.chunks(size) {
            black_box(v3::Packet::decode(frame).expect("lawful"));
        }
    }
}

fn decode_v5() -> impl FnMut() {
    let wire = wire(Version::V5_0);
    let size = wire.len() / BATCH;
    move || {
        for frame in wire.chunks(size) {
            black_box(v5::Packet::decode(frame).expect("lawful"));
        }
    }
}

/// One read of a socket: a batch of the same packet.
fn wire(version: Version) -> Bytes {
    let mut wire = BytesMut::new();
    for _ in 0..BATCH {
        encode(&our_packet(), version, &mut wire).expect("lawful");
    }
    wire.freeze()
}

fn our_packet() -> Packet {
    Packet::Publish(Publish {
        qos: Qos::AtLeastOnce,
        topic: TOPIC.into(),
        packet_id: Some(7),
        payload: payload(),
        ..Publish::default()
    })
}

fn qos_pid() -> QosPid {
    QosPid::Level1(Pid::try_from(7).expect("not 0"))
}

fn topic_name() -> TopicName {
    TopicName::try_from(TOPIC).expect("lawful")
}

fn payload() -> Bytes {
    Bytes::from(vec![b'x'; 100])
}
