//! `--listen`: /metrics, /healthz, /readyz.

use crate::bench::{Bench, Broker, Running, eventually, message};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

/// The address that it says it serves on.
fn address(running: &Running) -> SocketAddr {
    running.says("/metrics");
    let said = running.said();
    let (_, rest) = said.split_once("metrics on http://").expect("an address");
    rest.split_once("/metrics").expect("a path").0.parse().expect("an address")
}

fn ask(at: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_owned(), body.to_owned())
}

fn get(at: SocketAddr, path: &str) -> (u16, String) {
    let (status, _, body) = ask(at, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    (status, body)
}

/// The samples of a page in Prometheus' text format 0.0.4; panics where it is not in that format.
fn samples(page: &str) -> BTreeMap<String, f64> {
    assert!(page.ends_with('\n'), "the last line has an end");
    let (mut samples, mut families, mut helped) = (BTreeMap::new(), BTreeMap::new(), String::new());
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a help text");
            assert!(is_name(name) && !text.is_empty(), "{line}");
            name.clone_into(&mut helped);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(name, helped, "its help comes before it");
            assert!(matches!(kind, "counter" | "gauge"), "{line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(families.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert!(is_name(name) && families.contains_key(name) && name == helped, "{line}");
            check_labels(labels.strip_suffix('}').expect("a closing brace"));
            let value: f64 = value.parse().expect("a number");
            assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
        }
    }
    samples
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    name.starts_with("mqtally_subscriber_") && name.chars().all(plain)
}

fn check_labels(labels: &str) {
    for label in labels.split(',').filter(|label| !label.is_empty()) {
        let (name, value) = label.split_once('=').expect("a value");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{label}");
        assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{label}");
    }
}

#[test]
fn metrics_are_in_prometheus_format_and_count_what_happened() {
    let bench = Bench::new();
    let running =
        bench.sub("-t # --dedup-key /id --listen 127.0.0.1:0 --retries 0", &["--on", "bad=exec:exit 1"]);
    let at = address(&running);
    let payloads = ["{\"id\":1}", "{\"id\":1}", "{\"id\":2}"];
    bench.publish(payloads.map(|payload| message("t", payload)).to_vec());
    bench.publish(vec![message("bad", "x")]);
    eventually("they are settled", || bench.count("SELECT processed + dead_lettered FROM tally") == 3);
    let (status, head, page) = ask(at, "GET /metrics HTTP/1.1\r\n\r\n");
    assert_eq!(status, 200);
    assert!(head.contains("Content-Type: text/plain; version=0.0.4"), "{head}");
    let samples = samples(&page);
    let sample = |name: &str| samples[&format!("mqtally_subscriber_{name}")];
    assert_eq!(sample("received_messages_total"), 4.0);
    assert_eq!(sample("duplicate_messages_total{cause=\"published_again\"}"), 1.0);
    assert_eq!((sample("processed_messages_total"), sample("dead_lettered_messages_total")), (2.0, 1.0));
    assert_eq!((sample("dead_letters"), sample("subscribed"), sample("reading_paused")), (1.0, 1.0, 0.0));
    assert!(sample("oldest_unsettled_seconds") >= 0.0);
}

#[test]
fn only_whole_requests_for_what_is_there_are_answered() {
    let bench = Bench::new();
    let running = bench.sub("-t # --listen 127.0.0.1:0", &[]);
    let at = address(&running);
    assert!(at.ip().is_loopback());
    assert_eq!(get(at, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(at, "/metrics?x=1").0, 200);
    assert_eq!(get(at, "/").0, 404);
    assert_eq!(ask(at, "POST /metrics HTTP/1.1\r\n\r\n").0, 405);
    assert_eq!(ask(at, "nonsense\r\n\r\n").0, 400);
    let (status, head, body) = ask(at, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(!head.contains("Content-Length: 0"), "{head}");
    // Somebody who never asks keeps nobody else from it.
    let silent: Vec<_> = (0..4).map(|_| TcpStream::connect(at).expect("it listens")).collect();
    assert_eq!(get(at, "/healthz").0, 200);
    drop(silent);
}

#[test]
fn a_port_alone_is_on_loopback_and_one_that_is_taken_is_status_69() {
    let bench = Bench::new();
    let running = bench.sub("-t # --listen 0", &[]);
    let at = address(&running);
    assert!(at.ip().is_loopback(), "{at}");
    let ended = bench.start(&format!("-t # --client-id d --store d.sub --listen {at}"), &[]).ended();
    assert_eq!(ended.code, Some(69));
    assert!(ended.stderr.contains("cannot listen"), "{}", ended.stderr);
}

#[test]
fn it_is_ready_only_while_the_broker_has_granted_the_subscriptions() {
    let mut bench = Bench::new();
    let running = bench.sub("-t # --listen 127.0.0.1:0", &[]);
    let at = address(&running);
    assert_eq!(get(at, "/readyz"), (200, "ok\n".to_owned()));
    let address = bench.broker.address.to_string();
    bench.broker = Broker::start(bench.directory.path(), &["--volatile"]);
    eventually("it is not ready", || get(at, "/readyz") == (503, "not subscribed\n".to_owned()));
    assert_eq!(get(at, "/healthz").0, 200, "a restart would not help");
    bench.broker = Broker::at(&address, bench.directory.path(), &["--volatile"]);
    eventually("it is ready again", || get(at, "/readyz").0 == 200);
    assert_eq!(running.terminate().code, Some(0));
}

#[test]
fn it_is_not_ready_while_too_much_is_unsettled_and_when_it_stops() {
    let bench = Bench::new();
    let hangs = ["--handler", "exec:sleep 3"];
    let running = bench.sub("-t # --listen 127.0.0.1:0 --backlog-max 1", &hangs);
    let at = address(&running);
    bench.publish(vec![message("a", "x")]);
    let expect = "not reading: 1 messages are stored and not settled\n".to_owned();
    eventually("it is not ready", || get(at, "/readyz") == (503, expect.clone()));
    running.signal("TERM");
    eventually("it is not ready", || get(at, "/readyz") == (503, "not reading: stopping\n".to_owned()));
    assert_eq!(running.ended().code, Some(0));
}
