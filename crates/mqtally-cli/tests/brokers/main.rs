//! Brokers that are not ours, each in the configurations of `cases.rs`: what is found of them is what is documented.
//!
//! `.ci/install-referees` and `.ci/install-brokers` install them; `cargo test -p mqtally-cli --test brokers` runs short
//! runs of those that start quickly, and `just brokers` runs everything and writes docs/brokers.md. A finding that is
//! documented has been read against the specification; its reading is in `readings.toml`.

mod cases;
mod document;
mod readings;

use cases::{CASES, Case};
use readings::Readings;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The seed of every run.
const SEED: &str = "42";

/// What a run may take, seconds; the longest takes a third of it on a quiet machine.
const LIMIT_S: &str = "600";

/// What the program said, and its report.
fn run(case: &Case, more: &[&str]) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let report = directory.path().join("report.json");
    let mut command = Command::new("timeout");
    command.args(["--preserve-status", "--signal=INT", LIMIT_S, env!("CARGO_BIN_EXE_mqtally")]);
    command.arg("test").args(more).args(["--seed", SEED, "--quiet", "--json"]).arg(&report);
    command.args(case.arguments(&cases::root().to_string_lossy()));
    command.args(["--config", "/dev/null"]).env("MQTALLY_PASSWORD", "secret");
    let epmd = case.needs_epmd.then(Epmd::start);
    if let Some(epmd) = &epmd {
        command.env("ERL_EPMD_PORT", epmd.port.to_string());
    }
    let output = command.output().expect("the program runs");
    // Broken or unknown is for the report to say; anything else is no verdict.
    assert!(matches!(output.status.code(), Some(0..=2)), "{}: {output:#?}", case.name);
    let text = std::fs::read(&report).unwrap_or_else(|error| panic!("no report ({error}): {output:#?}"));
    let report: Value = serde_json::from_slice(&text).expect("JSON");
    for promise in report["promises"].as_array().expect("promises") {
        assert!(promise["violations"].as_u64() <= promise["obligations"].as_u64(), "{promise}");
    }
    report
}

/// Erlang's name server, which would otherwise stay behind as a daemon.
struct Epmd {
    process: Child,
    port: u16,
}

impl Epmd {
    fn start() -> Self {
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
        let mut command = Command::new("epmd");
        command.args(["-address", "127.0.0.1", "-port", &port.to_string()]).stdout(Stdio::null());
        Self { process: command.spawn().expect("epmd runs"), port }
    }
}

impl Drop for Epmd {
    fn drop(&mut self) {
        // It is gone already when it could not start.
        let _ = self.process.kill().and_then(|()| self.process.wait());
    }
}

fn with_verdict<'a>(report: &'a Value, verdict: &str) -> BTreeSet<&'a str> {
    let promises = report["promises"].as_array().expect("promises");
    let promises = promises.iter().filter(|promise| promise["verdict"] == verdict);
    promises.map(|promise| promise["id"].as_str().expect("an id")).collect()
}

/// Short runs: there is a verdict, what is broken is documented, and the core of MQTT is kept.
#[track_caller]
fn check(name: &str, kept: &[&str]) {
    let case = cases::named(name);
    let report = run(case, &["qos", "session", "--protocol", "3.1.1"]);
    let readings = Readings::load();
    let (broken, found) = (with_verdict(&report, "broken"), with_verdict(&report, "kept"));
    let unread: Vec<&&str> = broken.iter().filter(|promise| !readings.covers(case, promise)).collect();
    assert!(
        unread.is_empty(),
        "{name}: {unread:?} of {broken:?} are not in readings.toml: {:#}",
        report["findings"]
    );
    let missing: Vec<&&str> = kept.iter().filter(|promise| !found.contains(*promise)).collect();
    assert!(missing.is_empty(), "{name}: {missing:?} are not kept: {:#}", report["findings"]);
}

#[test]
fn every_reading_has_the_rule_that_it_is_read_against() {
    assert_eq!(Readings::load().without_rule(), Vec::<&str>::new());
}

#[test]
fn mosquitto_with_a_store_and_without_limits() {
    check(
        "mosquitto, durable",
        &["D1", "D2", "D3", "O1", "R1", "R2", "R3", "R9", "S1", "S2", "S5", "S6", "Q1"],
    );
}

#[test]
fn aedes_as_it_comes() {
    check("aedes", &["D5", "D6", "D8", "D9", "S1", "S9"]);
}

/// What is found of it depends on how its tasks meet, more than CI should.
#[test]
#[ignore = "just brokers"]
fn amqtt_with_users() {
    check("amqtt, with users", &["D3", "D5", "D6", "D8", "S1"]);
}

/// The page that people read. It takes about twenty minutes, and needs all of them installed; with MQTALLY_REPORTS=kept
/// it is written again from the reports of the last time, as far as there are any.
#[test]
#[ignore = "just brokers"]
fn the_document_is_written() {
    let reports: Vec<(&Case, Value)> = CASES.iter().map(|case| (case, whole_run(case))).collect();
    let page = document::page(&reports, &Readings::load(), SEED);
    std::fs::write(Path::new(&cases::root()).join("docs/brokers.md"), page).expect("written");
}

fn whole_run(case: &Case) -> Value {
    let directory = cases::root().join("target/brokers/reports");
    let kept = directory.join(format!("{}.json", case.name));
    let wanted = std::env::var("MQTALLY_REPORTS").is_ok_and(|word| word == "kept");
    if let Some(text) = wanted.then(|| std::fs::read(&kept).ok()).flatten() {
        return serde_json::from_slice(&text).expect("JSON");
    }
    // A finding is read, and its schedule need not be shrunk for that.
    let report = run(case, &["--no-shrink"]);
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(kept, report.to_string()))
        .expect("written");
    report
}
