//! `mqtally sub` over TLS, a WebSocket and a Unix socket.

use crate::bench::{Bench, Running, message};
use crate::relay;

/// A message goes through, and an acknowledgement back.
fn round(bench: &Bench, running: Running) {
    bench.publish(vec![message("a", vec![b'x'; 100_000])]);
    running.prints("a xxx");
    let ended = running.terminate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    bench.publish(vec![message("b", "y")]);
    let again = bench.start("-t # --count 1", &[]).ended();
    assert_eq!(again.stdout, b"b y\n", "the first message was acknowledged");
}

#[test]
fn a_unix_socket_carries_it() {
    let bench = Bench::new();
    let path = bench.path("broker.sock");
    relay::unix(bench.broker.address, &path);
    let running = bench.sub(&format!("-t # --broker unix:{}", path.display()), &[]);
    round(&bench, running);
}

#[test]
fn a_websocket_carries_it() {
    let bench = Bench::new();
    let port = relay::websocket(bench.broker.address);
    let running = bench.sub(&format!("-t # --broker ws://127.0.0.1:{port}"), &[]);
    round(&bench, running);
}

#[test]
fn tls_with_an_authority_and_a_certificate_of_our_own_carries_it() {
    let bench = Bench::new();
    let port = relay::tls(bench.broker.address, bench.directory.path());
    let url = format!("mqtts://127.0.0.1:{port}");
    let refused = |args: &str, code: i32, expect: &str| {
        let ended = bench.start(&format!("-t # --broker {url} {args}"), &[]).ended();
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    };
    refused("", 69, "certificate");
    refused("--cafile stranger --cert cert --key key", 69, "certificate");
    refused("--cafile ca", 69, "certificate");
    refused("--cafile ca --cert cert --key nothing", 74, "cannot read the key nothing");
    refused("--cafile nothing", 74, "name a file that can be read");
    refused("--cafile key", 74, "there is no certificate in it");
    refused("--cafile ca --cert cert", 64, "--key");
    let running = bench.sub(&format!("-t # --broker {url} --cafile ca --cert cert --key key"), &[]);
    round(&bench, running);
}
