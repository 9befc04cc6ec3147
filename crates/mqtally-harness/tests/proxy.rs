//! The fault proxy on real sockets, in front of the embedded broker and of peers that say what a test tells them to.

mod wire;

use mqtally::endpoint::Endpoint;
use mqtally_harness::broker::{Durability, Options, serve};
use mqtally_harness::proxy::{Note, Proxy, ProxyOptions, Strike, Watch};
use mqtally_proto::packet::{Packet, Qos, Version};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::Runtime;
use wire::{Wire, fleeting, publish, subscribe};

/// Whoever waits longer than that waits in vain.
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy, what it fronts, and what it did.
struct Bench {
    proxy: Proxy,
    strikes: mpsc::Receiver<Strike>,
    _runtime: Runtime,
}

impl Bench {
    /// In front of the embedded broker.
    fn with_broker(rules: &[&str]) -> Self {
        let runtime = runtime();
        let (ready, address) = mpsc::channel();
        let options = Options::new((Ipv4Addr::LOCALHOST, 0).into(), Durability::Volatile);
        runtime.spawn(serve(
            options,
            move |address| ready.send(address).expect("awaited"),
            std::future::pending(),
        ));
        Self::start(runtime, address.recv_timeout(PATIENCE).expect("it starts"), rules)
    }

    /// In front of whatever listens at `upstream`.
    fn start(runtime: Runtime, upstream: SocketAddr, rules: &[&str]) -> Self {
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
            ..ProxyOptions::new((Ipv4Addr::LOCALHOST, 0).into(), upstream)
        };
        let proxy = runtime.block_on(Proxy::start(options)).expect("a free port");
        for rule in rules {
            proxy.add(rule.parse().expect("a rule")).expect("taken");
        }
        Self { proxy, strikes, _runtime: runtime }
    }

    fn connect(&self, client: &str) -> Wire {
        Wire::connect(self.proxy.address(), fleeting(client, Version::V5_0)).expect("let in").0
    }

    /// The kind of the next strike.
    fn strike(&self) -> Strike {
        self.strikes.recv_timeout(PATIENCE).expect("a rule strikes")
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn qos1(packet_id: u16) -> Packet {
    publish(packet_id, "t", Qos::AtLeastOnce, b"x")
}

#[test]
fn without_rules_a_client_does_not_notice() {
    let bench = Bench::with_broker(&[]);
    let mut wire = bench.connect("a");
    wire.send(subscribe(1, "t", Qos::AtLeastOnce)).expect("sent");
    assert!(matches!(wire.receive(), Ok(Packet::Suback(_))));
    wire.send(qos1(2)).expect("sent");
    let mut names: Vec<&str> = (0..2).map(|_| wire.receive().expect("an answer").name()).collect();
    names.sort_unstable();
    assert_eq!(names, ["PUBACK", "PUBLISH"]);
}

#[test]
fn a_cut_after_the_third_publish_lets_three_through() {
    let bench = Bench::with_broker(&["cut after c2s PUBLISH 3 client=victim"]);
    let mut other = bench.connect("other");
    other.send(subscribe(1, "t", Qos::AtLeastOnce)).expect("sent");
    assert!(matches!(other.receive(), Ok(Packet::Suback(_))));
    let mut wire = bench.connect("victim");
    wire.send_all((1..=5).map(qos1)).expect("sent");
    wire.wait_for_close();
    let strike = bench.strike();
    assert_eq!((strike.kind, strike.peer.and_then(|peer| peer.connection)), ("cut-after", Some(1)));
    for _ in 0..3 {
        assert!(matches!(other.receive(), Ok(Packet::Publish(_))));
    }
    other.send(Packet::Pingreq).expect("sent");
    assert_eq!(other.receive().expect("no fourth"), Packet::Pingresp);
}
