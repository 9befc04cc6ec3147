//! The fault proxy on real sockets, in front of the embedded broker and of peers that say what a test tells them to.

mod wire;

use mqtally::endpoint::Endpoint;
use mqtally_harness::broker::{Durability, Options, serve};
use mqtally_harness::proxy::{
    Direction, Ending, Note, Peer, Proxy, ProxyOptions, Scope, Strike, Tamper, TamperFactory, Tampered, Watch,
};
use mqtally_proto::packet::{Ack, Observed, Packet, Qos, Version, encode};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use wire::{Wire, fleeting, publish, subscribe};

/// Whoever waits longer than that waits in vain.
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy, what it fronts, and what it did.
struct Bench {
    proxy: Proxy,
    strikes: mpsc::Receiver<Strike>,
    runtime: Runtime,
}

impl Bench {
    /// In front of the embedded broker.
    fn with_broker(rules: &[&str]) -> Self {
        Self::with_tampered_broker(rules, None)
    }

    fn with_tampered_broker(rules: &[&str], tamper: Option<TamperFactory>) -> Self {
        let runtime = runtime();
        let (ready, address) = mpsc::channel();
        let options = Options::new((Ipv4Addr::LOCALHOST, 0).into(), Durability::Volatile);
        let ready = move |address| ready.send(address).expect("awaited");
        runtime.spawn(serve(options, ready, std::future::pending()));
        let upstream = address.recv_timeout(PATIENCE).expect("it starts");
        Self::start(runtime, upstream, rules, tamper)
    }

    /// In front of a peer that does what the test does.
    fn with_peer(rules: &[&str]) -> (Self, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let upstream = listener.local_addr().expect("bound");
        (Self::start(runtime(), upstream, rules, None), listener)
    }

    fn start(runtime: Runtime, upstream: SocketAddr, rules: &[&str], tamper: Option<TamperFactory>) -> Self {
        let (strike, strikes) = mpsc::channel();
        let watch: Watch = Arc::new(move |_, note| {
            if let Note::Strike(it) = note {
                // The test may be over.
                drop(strike.send((*it).clone()));
            }
        });
        let upstream = Endpoint::new(upstream.ip().to_string(), upstream.port());
        let options = ProxyOptions {
            watch: Some(watch),
            tamper,
            ..ProxyOptions::new((Ipv4Addr::LOCALHOST, 0).into(), upstream)
        };
        let proxy = runtime.block_on(Proxy::start(options)).expect("a free port");
        for rule in rules {
            proxy.add(rule.parse().expect("a rule")).expect("taken");
        }
        Self { proxy, strikes, runtime }
    }

    fn connect(&self, client: &str) -> Wire {
        Wire::connect(self.proxy.address(), fleeting(client, Version::V5_0)).expect("let in").0
    }

    /// Somebody who publishes on `t` hears it here.
    fn listener(&self) -> Wire {
        let mut wire = self.connect("listener");
        wire.send(subscribe(1, "t", Qos::AtLeastOnce)).expect("sent");
        assert!(matches!(wire.receive(), Ok(Packet::Suback(_))));
        wire
    }

    fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.proxy.address()).expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream
    }

    fn strike(&self) -> Strike {
        self.strikes.recv_timeout(PATIENCE).expect("a rule strikes")
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("somebody connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn qos1(packet_id: u16) -> Packet {
    publish(packet_id, "t", Qos::AtLeastOnce, b"x")
}

fn bytes_of(packet: &Packet) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    encode(packet, Version::V5_0, &mut bytes).expect("lawful");
    bytes.to_vec()
}

fn connect_bytes() -> Vec<u8> {
    bytes_of(&Packet::Connect(Box::new(fleeting("victim", Version::V5_0))))
}

fn read_exactly(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).expect("so many bytes");
    bytes
}

/// How a stream ends, and the bytes before.
fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, Option<ErrorKind>) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).err().map(|error| error.kind());
    (bytes, end)
}

#[test]
fn without_rules_a_client_does_not_notice() {
    let bench = Bench::with_broker(&[]);
    let mut wire = bench.listener();
    wire.send(qos1(2)).expect("sent");
    let mut names: Vec<&str> = (0..2).map(|_| wire.receive().expect("an answer").name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["PUBACK", "PUBLISH"]);
}

#[test]
fn a_cut_after_the_third_publish_lets_three_through() {
    let bench = Bench::with_broker(&["cut after c2s PUBLISH 3 client=victim"]);
    let mut listener = bench.listener();
    let mut wire = bench.connect("victim");
    wire.send_all((1..=5).map(qos1)).expect("sent");
    wire.wait_for_close();
    let strike = bench.strike();
    assert_eq!((strike.kind, strike.peer.and_then(|peer| peer.connection)), ("cut-after", Some(1)));
    for _ in 0..3 {
        assert!(matches!(listener.receive(), Ok(Packet::Publish(_))));
    }
    listener.send(Packet::Pingreq).expect("sent");
    assert_eq!(listener.receive().expect("no fourth"), Packet::Pingresp);
}

#[test]
fn both_sides_see_how_the_link_was_cut_and_what_came_before() {
    let check = |rule: &str, delivered: usize, end: Option<ErrorKind>| {
        let (bench, listener) = Bench::with_peer(&[rule]);
        let mut client = bench.dial();
        client.write_all(&connect_bytes()).expect("sent");
        let mut broker = accept(&listener);
        read_exactly(&mut broker, connect_bytes().len());
        let publish = bytes_of(&qos1(1));
        client.write_all(&publish).expect("sent");
        let (bytes, broker_end) = read_to_end(&mut broker);
        assert_eq!((bytes.len(), broker_end), (delivered, end), "{rule}, broker");
        assert!(publish.starts_with(&bytes), "{rule}");
        assert_eq!(read_to_end(&mut client), (Vec::new(), end), "{rule}, client");
    };
    let reset = Some(ErrorKind::ConnectionReset);
    let whole = bytes_of(&qos1(1)).len();
    check("cut before c2s PUBLISH", 0, None);
    check("cut before c2s PUBLISH rst", 0, reset);
    check("cut after c2s PUBLISH", whole, None);
    check("cut after c2s PUBLISH rst", whole, reset);
    check("cut inside c2s PUBLISH bytes=5", 5, None);
    check("cut inside c2s PUBLISH bytes=5 rst", 5, reset);
}

#[test]
fn an_aborted_connect_reaches_the_broker_and_no_connack_the_client() {
    let (bench, listener) = Bench::with_peer(&["abort-connect"]);
    let mut client = bench.dial();
    client.write_all(&connect_bytes()).expect("sent");
    let mut broker = accept(&listener);
    assert_eq!(read_to_end(&mut broker), (connect_bytes(), None));
    assert_eq!(read_to_end(&mut client), (Vec::new(), None));
    assert_eq!(bench.strike().kind, "aborted-connect");
    // It strikes once: the next one gets in.
    bench.dial().write_all(&connect_bytes()).expect("sent");
    read_exactly(&mut accept(&listener), connect_bytes().len());
}

#[test]
fn a_storm_connects_many_times_with_the_same_bytes() {
    let (bench, listener) = Bench::with_peer(&["storm 4 within 10ms"]);
    let mut client = bench.dial();
    client.write_all(&connect_bytes()).expect("sent");
    let mut all: Vec<TcpStream> = (0..5).map(|_| accept(&listener)).collect();
    for stream in &mut all {
        assert_eq!(read_exactly(stream, connect_bytes().len()), connect_bytes());
    }
    // The first to be accepted is the client's own.
    all[0].write_all(b"\x20\x03\x00\x00\x00").expect("sent");
    read_exactly(&mut client, 5);
}

#[test]
fn after_a_storm_the_client_has_its_session() {
    let bench = Bench::with_broker(&["storm 4 client=victim"]);
    let mut wire = bench.connect("victim");
    wire.send(Packet::Pingreq).expect("sent");
    assert_eq!(wire.receive().expect("not taken over"), Packet::Pingresp);
}

#[test]
fn a_delay_and_a_throttle_take_their_time() {
    let check = |rule: &str, ms_min: u64| {
        let bench = Bench::with_broker(&[rule]);
        let mut wire = bench.connect("a");
        let asked = Instant::now();
        wire.send(Packet::Pingreq).expect("sent");
        assert_eq!(wire.receive().expect("late"), Packet::Pingresp);
        let elapsed = asked.elapsed();
        assert!(elapsed >= Duration::from_millis(ms_min), "{rule}: {elapsed:?}");
    };
    check("delay s2c 100ms after s2c CONNACK", 99);
    check("delay c2s 60ms jitter 1ms seed 3", 59);
    check("throttle s2c 10B/s before c2s PINGREQ", 99);
}

#[test]
fn single_bytes_and_collected_packets_are_the_same_packets() {
    let rules = ["split s2c 1", "split c2s 1", "coalesce c2s 5ms"];
    let bench = Bench::with_broker(&rules);
    let mut wire = bench.listener();
    wire.send_all((1..=20).map(qos1)).expect("sent");
    let mut published = 0;
    for _ in 0..40 {
        published += u32::from(matches!(wire.receive(), Ok(Packet::Publish(_))));
    }
    assert_eq!(published, 20);
}

#[test]
fn behind_a_black_hole_nobody_hears_of_the_others_end() {
    let (bench, listener) = Bench::with_peer(&["black-hole both after c2s CONNECT"]);
    let mut client = bench.dial();
    client.write_all(&connect_bytes()).expect("sent");
    let mut broker = accept(&listener);
    read_exactly(&mut broker, connect_bytes().len());
    client.write_all(&bytes_of(&qos1(1))).expect("swallowed");
    drop(client);
    // Another client's packets pass meanwhile.
    bench.dial().write_all(&connect_bytes()).expect("sent");
    read_exactly(&mut accept(&listener), connect_bytes().len());
    broker.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
    let silence = broker.read(&mut [0]).expect_err("nothing comes").kind();
    assert!(matches!(silence, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence:?}");
    let id = bench.strike().rule.expect("by a rule");
    bench.proxy.remove(id).expect("it was there");
    broker.set_read_timeout(Some(PATIENCE)).expect("set");
    assert_eq!(read_to_end(&mut broker), (Vec::new(), Some(ErrorKind::ConnectionReset)));
}

/// Neither the proxy nor anybody else keeps what a reader does not take: the sender is stopped.
#[test]
fn a_reader_that_stalls_stops_the_sender_and_loses_nothing() {
    const BYTES_MAX: usize = 48 << 20;
    let check = |rules: &[&str]| {
        let (bench, listener) = Bench::with_peer(rules);
        let mut client = bench.dial();
        client.write_all(&connect_bytes()).expect("sent");
        let mut broker = accept(&listener);
        read_exactly(&mut broker, connect_bytes().len());
        broker.set_write_timeout(Some(Duration::from_millis(500))).expect("set");
        let message = bytes_of(&publish(0, "t", Qos::AtMostOnce, &[7; 100_000]));
        let mut written = 0;
        while written < BYTES_MAX {
            match broker.write(&message[written % message.len()..]) {
                Ok(len) => written += len,
                Err(_) => break,
            }
        }
        assert!(written < BYTES_MAX, "nobody stopped the sender");
        for listed in bench.proxy.rules() {
            bench.proxy.remove(listed.id);
        }
        drop(broker);
        let received = thread::spawn(move || read_to_end(&mut client)).join().expect("no panic");
        assert_eq!((received.0.len(), received.1), (written, None), "{rules:?}");
    };
    check(&[]);
    check(&["stall s2c"]);
}

#[test]
fn whoever_is_refused_sees_it_and_gets_in_later() {
    let check = |rule: &str, expect: Option<ErrorKind>| {
        let bench = Bench::with_broker(&[rule]);
        let mut refused = bench.dial();
        // A reset may be seen by the write already.
        let end = refused.write_all(&connect_bytes()).and_then(|()| refused.read(&mut [0]));
        let end =
            end.map_or_else(|error| Some(error.kind()), |len| if len == 0 { None } else { panic!("served") });
        assert!(
            end == expect || end == Some(ErrorKind::ConnectionReset) && expect.is_none(),
            "{rule}: {end:?}"
        );
        assert_eq!(bench.strike().kind, "refuse");
        bench.connect("a");
    };
    check("refuse times 1", None);
    check("refuse rst times 1", Some(ErrorKind::ConnectionReset));
}

#[test]
fn nobody_listens_until_the_rule_is_removed() {
    let bench = Bench::with_broker(&[]);
    let mut open = bench.connect("before");
    let id = bench.proxy.add("refuse unlisten".parse().expect("a rule")).expect("taken");
    assert_eq!(bench.strike().rule, Some(id));
    let refused = TcpStream::connect(bench.proxy.address()).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    open.send(Packet::Pingreq).expect("sent");
    assert_eq!(open.receive().expect("open links stay"), Packet::Pingresp);
    bench.proxy.remove(id).expect("it was there");
    let since = Instant::now();
    while TcpStream::connect(bench.proxy.address()).is_err() {
        assert!(since.elapsed() < PATIENCE, "it never listened again");
        thread::yield_now();
    }
}

#[test]
fn a_cut_by_hand_strikes_only_whom_it_names() {
    let bench = Bench::with_broker(&[]);
    let (victim, mut other) = (bench.connect("victim"), bench.connect("other"));
    let mut clients: Vec<_> = bench.proxy.links().into_iter().filter_map(|peer| peer.client).collect();
    clients.sort_unstable();
    assert_eq!(clients, ["other", "victim"]);
    let scope = Scope { client: Some("vic*".into()), ..Scope::default() };
    assert_eq!(bench.proxy.cut(&scope, Ending::Rst), 1);
    victim.wait_for_close();
    assert_eq!(bench.strike().kind, "cut-now");
    other.send(Packet::Pingreq).expect("sent");
    assert_eq!(other.receive().expect("spared"), Packet::Pingresp);
}

#[test]
fn what_is_not_mqtt_passes_and_an_end_is_passed_on() {
    let (bench, listener) = Bench::with_peer(&[]);
    let mut client = bench.dial();
    let noise = b"\xF0\xFF\xFF\xFF\xFF\xFF not MQTT at all";
    client.write_all(noise).expect("sent");
    client.shutdown(std::net::Shutdown::Write).expect("half-closed");
    let mut broker = accept(&listener);
    assert_eq!(read_to_end(&mut broker), (noise.to_vec(), None));
    broker.write_all(b"\x20").expect("sent");
    drop(broker);
    assert_eq!(read_to_end(&mut client), (b"\x20".to_vec(), None), "the other direction stayed open");
}

#[test]
fn a_broker_that_is_not_there_resets_the_client() {
    let (bench, listener) = Bench::with_peer(&[]);
    drop(listener);
    let end = bench.dial().read(&mut [0]).expect_err("nobody is there").kind();
    assert_eq!(end, ErrorKind::ConnectionReset);
}

/// Answers each QoS 1 PUBLISH of the client itself and drops it.
struct Liar;

impl Tamper for Liar {
    fn on_packet(&mut self, peer: &Peer, direction: Direction, packet: &Observed, out: &mut Tampered) {
        match (&packet.packet, peer.client.as_deref()) {
            (Some(Packet::Publish(publish)), Some("victim")) if direction == Direction::ToServer => {
                let puback = Packet::Puback(Ack::success(publish.packet_id.unwrap_or(1)));
                out.send(Direction::ToClient, &puback).expect("lawful");
            }
            _ => out.pass(direction, packet),
        }
    }
}

#[test]
fn a_tamper_writes_other_packets_than_came() {
    let factory: TamperFactory = Arc::new(|| Box::new(Liar));
    let bench = Bench::with_tampered_broker(&["cut after s2c PUBACK 2"], Some(factory));
    let mut listener = bench.listener();
    let mut wire = bench.connect("victim");
    for id in [7, 8] {
        wire.send(qos1(id)).expect("sent");
        assert_eq!(wire.receive().expect("a lie"), Packet::Puback(Ack::success(id)));
    }
    wire.wait_for_close();
    listener.send(Packet::Pingreq).expect("sent");
    assert_eq!(listener.receive().expect("no message"), Packet::Pingresp);
}

#[test]
fn a_proxy_that_ends_closes_its_links() {
    let Bench { proxy, strikes: _strikes, runtime: _runtime } = Bench::with_broker(&[]);
    let wire = Wire::connect(proxy.address(), fleeting("a", Version::V5_0)).expect("let in").0;
    drop(proxy);
    wire.wait_for_close();
}
