//! The broker on real sockets: what the state machine alone cannot show.

mod wire;

use mqtally_harness::broker::store::{StoreErrorKind, Sync};
use mqtally_harness::broker::{BrokerError, Durability, Limits, Options, Served, serve};
use mqtally_proto::packet::{Ack, Packet, Qos, ReasonCode, Version};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use tokio::sync::oneshot;
use wire::{Wire, fleeting, persistent, publish, subscribe};

/// A broker on a thread of this process.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<Served, BrokerError>>,
}

impl Running {
    fn start(options: Options) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (ready, address) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let ready = move |address| ready.send(address).expect("the test waits for it");
            runtime.block_on(serve(options, ready, async { drop(stopped.await) }))
        });
        let address = address.recv().expect("it gets ready");
        Self { address, stop, thread }
    }

    fn stop(self) -> Served {
        self.stop.send(()).expect("it runs");
        self.thread.join().expect("no panic").expect("no error")
    }
}

fn volatile() -> Options {
    Options::new((Ipv4Addr::LOCALHOST, 0).into(), Durability::Volatile)
}

fn durable(directory: &Path) -> Options {
    let directory = directory.to_owned();
    Options { durability: Durability::Durable { directory, sync: Sync::Off }, ..volatile() }
}

fn connect(broker: &Running, client_id: &str) -> Wire {
    Wire::connect(broker.address, fleeting(client_id, Version::V5_0)).expect("let in").0
}

#[test]
fn packets_may_come_in_any_pieces() {
    let broker = Running::start(volatile());
    let mut wire = Wire::silent(broker.address, Version::V3_1_1).expect("connected");
    let mut bytes = bytes::BytesMut::new();
    for packet in [
        Packet::Connect(Box::new(fleeting("pieces", Version::V3_1_1))),
        subscribe(1, "t", Qos::AtMostOnce),
        publish(0, "t", Qos::AtMostOnce, b"x"),
        Packet::Pingreq,
    ] {
        mqtally_proto::packet::encode(&packet, Version::V3_1_1, &mut bytes).expect("lawful");
    }
    for byte in bytes {
        wire.send_bytes(&[byte]).expect("sent");
    }
    let answers: Vec<Packet> = (0..4).map(|_| wire.receive().expect("an answer")).collect();
    assert!(
        matches!(&answers[..], [Packet::Connack(_), Packet::Suback(_), Packet::Publish(_), Packet::Pingresp]),
        "{answers:?}"
    );
    broker.stop();
}

#[test]
fn a_message_larger_than_every_buffer_arrives_whole() {
    let broker = Running::start(volatile());
    let mut wire = connect(&broker, "large");
    wire.send(subscribe(1, "t", Qos::AtLeastOnce)).expect("sent");
    wire.receive().expect("SUBACK");
    let payload: Vec<u8> = (0..8_000_000_u32).map(|index| index as u8).collect();
    wire.send(publish(2, "t", Qos::AtLeastOnce, &payload)).expect("sent");
    let mut received = None;
    for _ in 0..2 {
        if let Packet::Publish(publish) = wire.receive().expect("PUBACK and PUBLISH") {
            received = Some(publish.payload);
        }
    }
    assert!(received.is_some_and(|received| received == payload));
    broker.stop();
}

#[test]
fn nonsense_is_answered_with_its_reason_and_the_end() {
    let broker = Running::start(volatile());
    let mut wire = connect(&broker, "nonsense");
    wire.send_bytes(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]).expect("sent");
    let answer = wire.receive().expect("DISCONNECT");
    assert!(
        matches!(&answer, Packet::Disconnect(packet) if packet.reason == ReasonCode::MALFORMED_PACKET),
        "{answer:?}"
    );
    wire.wait_for_close();

    let mut wire = Wire::silent(broker.address, Version::V3_1_1).expect("connected");
    wire.send_bytes(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
    assert_eq!(wire.receive().expect_err("no answer to what is not MQTT").kind(), ErrorKind::UnexpectedEof);
    broker.stop();
}

#[test]
fn one_connection_too_many_is_closed() {
    let broker = Running::start(Options { connections_max: 1, ..volatile() });
    let first = connect(&broker, "first");
    let mut second = Wire::silent(broker.address, Version::V5_0).expect("accepted by the system");
    assert!(second.receive().is_err());
    drop(first);
    broker.stop();
}

/// The subscriber never reads: its socket fills, then its backlog, and from there QoS 0 is dropped, while the publisher
/// goes on and the broker's memory does not grow.
#[test]
fn a_client_that_does_not_read_loses_qos_0_and_stops_nobody() {
    let broker = Running::start(Options { backlog_qos0_max: 100_000, ..volatile() });
    let mut deaf = connect(&broker, "deaf");
    deaf.send(subscribe(1, "t", Qos::AtMostOnce)).expect("sent");
    deaf.receive().expect("SUBACK");
    let mut publisher = connect(&broker, "publisher");
    let payload = vec![0; 100_000];
    for _ in 0..300 {
        publisher.send(publish(0, "t", Qos::AtMostOnce, &payload)).expect("sent");
    }
    publisher.send(Packet::Pingreq).expect("sent");
    assert_eq!(publisher.receive().expect("PINGRESP"), Packet::Pingresp);
    drop(deaf);
    assert!(broker.stop().qos0_dropped > 0);
}

/// Answers are not dropped, so a flood that never reads them would fill the memory.
#[test]
fn a_flood_that_never_reads_its_answers_is_cut_off() {
    let limits = Limits { queued_bytes_max: 0, ..Limits::default() };
    let broker = Running::start(Options { backlog_qos0_max: 0, limits, ..volatile() });
    let mut wire = connect(&broker, "flood");
    let pings = [0xC0, 0].repeat(50_000);
    while wire.send_bytes(&pings).is_ok() {}
    connect(&broker, "another");
    broker.stop();
}

#[test]
fn a_session_outlives_the_broker() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Running::start(durable(directory.path()));
    let (mut away, _) = Wire::connect(broker.address, persistent("away", Version::V5_0)).expect("let in");
    away.send(subscribe(1, "t", Qos::ExactlyOnce)).expect("sent");
    away.receive().expect("SUBACK");
    drop(away);
    let mut publisher = connect(&broker, "publisher");
    publisher.send(publish(1, "t", Qos::ExactlyOnce, b"kept")).expect("sent");
    publisher.receive().expect("PUBREC");
    publisher.send(Packet::Pubrel(Ack::success(1))).expect("sent");
    publisher.receive().expect("PUBCOMP");
    assert!(broker.stop().commits >= 3);

    let broker = Running::start(durable(directory.path()));
    let (mut back, connack) =
        Wire::connect(broker.address, persistent("away", Version::V5_0)).expect("let in");
    assert!(connack.session_present);
    let packet = back.receive().expect("the message");
    assert!(matches!(&packet, Packet::Publish(publish) if publish.payload == b"kept"[..]), "{packet:?}");
    broker.stop();
}

/// A last word is answered by nothing, so it may wait; it does not wait for ever.
#[test]
fn an_acknowledgement_that_nobody_waits_for_is_stored_all_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Running::start(durable(directory.path()));
    let (mut wire, _) = Wire::connect(broker.address, persistent("both", Version::V5_0)).expect("let in");
    wire.send_all([subscribe(1, "t", Qos::AtLeastOnce), publish(2, "t", Qos::AtLeastOnce, b"once")])
        .expect("sent");
    let delivered = loop {
        if let Packet::Publish(publish) = wire.receive().expect("SUBACK, PUBACK, PUBLISH") {
            break publish;
        }
    };
    wire.send(Packet::Puback(Ack::success(delivered.packet_id.expect("QoS 1")))).expect("sent");
    let log = directory.path().join("broker.sqlite-wal");
    let size = std::fs::metadata(&log).expect("a log").len();
    while std::fs::metadata(&log).expect("a log").len() == size {
        thread::yield_now();
    }
    broker.stop();
}

#[test]
fn the_store_is_not_shared() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Running::start(durable(directory.path()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let second = runtime.block_on(serve(durable(directory.path()), |_| (), std::future::pending()));
    assert!(matches!(second, Err(BrokerError::Store(error)) if matches!(error.kind, StoreErrorKind::Locked)));
    broker.stop();
}
