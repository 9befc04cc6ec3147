//! `mqtally pub` over TLS, a WebSocket and a Unix socket.

use crate::program::Program;
use crate::publishing::Broker;
use crate::relay;
use serde_json::Value;

struct Bench {
    program: Program,
    broker: Broker,
}

impl Bench {
    fn new() -> Bench {
        let program = Program::new();
        let broker = Broker::start(&program, "127.0.0.1:0");
        Bench { program, broker }
    }

    /// Publishes to this URL with every QoS, some of it long; answers when the broker has acknowledged all.
    fn publish(&self, url: &str) {
        std::fs::write(self.program.directory().join("long"), vec![b'x'; 100_000]).expect("written");
        for arguments in
            ["-q 0 -m x", "-q 1 -m x --count 50", "-q 2 -f long --count 2", "-q 1 -f long --store o.db"]
        {
            let ended = self.program.run(&format!("pub --broker {url} -t a/b {arguments} --json -"));
            assert_eq!(ended.status, 0, "{arguments}: {}", ended.stderr);
            let found: Value = serde_json::from_str(&ended.stdout).expect("JSON");
            let accepted = found["accepted"].as_u64().expect("a number");
            assert!(accepted > 0 && found["acknowledged"] == accepted, "{arguments}: {found}");
        }
    }
}

#[test]
fn a_unix_socket_carries_it() {
    let bench = Bench::new();
    let path = bench.program.directory().join("broker.sock");
    relay::unix(bench.broker.socket(), &path);
    bench.publish(&format!("unix:{}", path.display()));
}

#[test]
fn a_websocket_carries_it() {
    let bench = Bench::new();
    let port = relay::websocket(bench.broker.socket());
    bench.publish(&format!("ws://127.0.0.1:{port}"));
}

#[test]
fn tls_with_an_authority_and_a_certificate_of_our_own_carries_it() {
    let bench = Bench::new();
    let port = relay::tls(bench.broker.socket(), bench.program.directory());
    let url = format!("mqtts://127.0.0.1:{port}");
    let refused = |arguments: &str, status: i32, expect: &str| {
        let ended = bench.program.run(&format!("pub --broker {url} -t a -m x -q 1 --timeout 1 {arguments}"));
        assert_eq!(ended.status, status, "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{arguments}: {}", ended.stderr);
    };
    refused("", 1, "certificate");
    refused("--cafile stranger --cert cert --key key", 1, "certificate");
    refused("--cafile ca", 1, "certificate");
    refused("--cafile ca --cert cert --key nothing", 74, "cannot read the key nothing");
    refused("--cafile ca --cert cert --key stranger", 74, "the key stranger is not usable");
    refused("--cafile key", 74, "there is no certificate in it");
    refused("--cafile ca --cert cert", 64, "--key");
    bench.publish(&format!("{url} --cafile ca --cert cert --key key"));
}
