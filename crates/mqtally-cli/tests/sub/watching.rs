//! `--listen`: the live page, /metrics, /healthz, /readyz.

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
    assert_eq!(get(at, "/other").0, 403, "what is not for machines is for those who name us");
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
    let hangs = ["--handler", "exec:until [ -e enough ]; do sleep 0.02; done"];
    let running = bench.sub("-t # --listen 127.0.0.1:0 --backlog-max 1", &hangs);
    let at = address(&running);
    bench.publish(vec![message("a", "x")]);
    let expect = "not reading: 1 messages are stored and not settled\n".to_owned();
    eventually("it is not ready", || get(at, "/readyz") == (503, expect.clone()));
    running.signal("TERM");
    eventually("it is not ready", || get(at, "/readyz") == (503, "not reading: stopping\n".to_owned()));
    std::fs::write(bench.path("enough"), "").expect("written");
    assert_eq!(running.ended().code, Some(0));
}

/// Asks as the page does that is served at `at`.
fn ask_as_page(at: SocketAddr, request: &str, headers: &str, body: &str) -> (u16, String, String) {
    let length = body.len();
    ask(at, &format!("{request} HTTP/1.1\r\nHost: {at}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"))
}

#[test]
fn the_page_may_load_nothing_from_elsewhere_and_its_view_has_the_figures() {
    let bench = Bench::new();
    let running = bench.sub("-t a/# --listen 127.0.0.1:0", &[]);
    let at = address(&running);
    let (status, head, page) = ask_as_page(at, "GET /", "", "");
    assert_eq!(status, 200);
    assert!(head.contains("Content-Security-Policy: default-src 'none';"), "{head}");
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
    assert!(
        !ask_as_page(at, "GET /", "", "").1.contains(&head[head.find("nonce-").expect("one")..][..20]),
        "once"
    );
    bench.publish(vec![message("a/b", "x")]);
    let view = || {
        serde_json::from_str::<serde_json::Value>(&ask_as_page(at, "GET /view.json", "", "").2).expect("JSON")
    };
    eventually("the message is in the view", || view()["figures"][0]["value"] == "1");
    assert_eq!(view()["state"]["word"], "subscribed");
    assert_eq!(ask_as_page(at, "POST /view.json", "", "").0, 405);
    assert_eq!(ask_as_page(at, "GET /replay", "", "").0, 405);
    assert_eq!(ask_as_page(at, "GET /other", "", "").0, 404);
}

#[test]
fn only_its_own_page_may_ask_for_a_replay() {
    let bench = Bench::new();
    let running = bench.sub("-t # --listen 127.0.0.1:0 --retries 0", &["--handler", "exec:test -e repaired"]);
    let at = address(&running);
    bench.publish(vec![message("a", "x")]);
    eventually("it is dead", || bench.count("SELECT count(*) FROM dead") == 1);
    std::fs::write(bench.path("repaired"), "").expect("a file");
    let replay = |headers: &str, body: &str| ask_as_page(at, "POST /replay", headers, body).0;
    assert_eq!(replay("Origin: http://evil.example\r\n", "{\"number\":1}"), 403);
    assert_eq!(replay("Origin: null\r\n", "{\"number\":1}"), 403);
    assert_eq!(replay("Sec-Fetch-Site: cross-site\r\n", "{\"number\":1}"), 403);
    assert_eq!(
        ask(at, "POST /replay HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 12\r\n\r\n{\"number\":1}").0,
        403
    );
    assert_eq!(replay("", "number=1"), 400);
    assert_eq!(replay("", "{\"number\":2}"), 404);
    assert_eq!(replay("", "{\"number\":18446744073709551615}"), 404);
    assert_eq!(bench.count("SELECT count(*) FROM dead WHERE replay_asked = 0"), 1, "nothing was asked for");
    assert_eq!(replay(&format!("Origin: http://{at}\r\n"), "{\"number\":1}"), 200);
    eventually("it was processed", || bench.count("SELECT processed FROM tally") == 1);
}

#[test]
fn a_token_that_was_given_is_asked_for_and_never_printed() {
    let bench = Bench::new();
    let token = "a-token-of-32-characters-1234567";
    let mut command = bench.sub_command("-t # --listen 127.0.0.1:0", &[]);
    let running = Running::start(command.env("MQTALLY_LIVE_TOKEN", token));
    let at = address(&running);
    assert!(!running.said().contains(token), "{}", running.said());
    assert_eq!(ask_as_page(at, "GET /", "", "").0, 401);
    assert_eq!(ask_as_page(at, "GET /events", "", "").0, 401);
    assert_eq!(ask_as_page(at, "POST /replay", "", "{\"number\":1}").0, 401);
    assert_eq!(get(at, "/healthz").0, 200, "is no secret");
    let (status, head, page) = ask_as_page(at, &format!("GET /?token={token}"), "", "");
    assert_eq!(status, 200);
    assert!(!page.contains(token));
    let cookie = head.split("Set-Cookie: ").nth(1).and_then(|rest| rest.split(';').next()).expect("a cookie");
    assert_eq!(ask_as_page(at, "GET /view.json", &format!("Cookie: {cookie}\r\n"), "").0, 200);
    assert_eq!(ask_as_page(at, "GET /view.json", &format!("Authorization: Bearer {token}\r\n"), "").0, 200);

    let mut command = bench.sub_command("-t # --client-id d --store d.sub --listen 127.0.0.1:0", &[]);
    let ended = Running::start(command.env("MQTALLY_LIVE_TOKEN", "short")).ended();
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(ended.stderr.contains("MQTALLY_LIVE_TOKEN; use 16 to 256 letters"), "{}", ended.stderr);
    let ended =
        bench.start("-t # --client-id d --store d.sub --listen 0 --live-token-file missing", &[]).ended();
    assert_eq!(ended.code, Some(74), "{}", ended.stderr);
}
