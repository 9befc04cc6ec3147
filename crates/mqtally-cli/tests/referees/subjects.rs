//! Other people's clients as programs under test.

use crate::process::mqtally;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The report of a run with this program.
fn judged(flag: &str, command: &str) -> Value {
    let files = tempfile::tempdir().expect("a directory");
    let report = files.path().join("report.json");
    let mut test = mqtally(&["test", "--seed", "42", "--quiet", flag, command]);
    let output = test.arg("--json").arg(&report).output().expect("it runs");
    let text = std::fs::read(&report).unwrap_or_else(|error| panic!("no report ({error}): {output:#?}"));
    serde_json::from_slice(&text).expect("JSON")
}

fn python(script: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python: PathBuf = root.join("../../target/referees/bin/python");
    format!("'{}' '{}'", python.display(), root.join("tests/referees").join(script).display())
}

fn broken(report: &Value) -> Vec<&str> {
    let promises = report["promises"].as_array().expect("promises");
    let broken = promises.iter().filter(|promise| promise["verdict"] == "broken");
    broken.map(|promise| promise["id"].as_str().expect("an id")).collect()
}

#[test]
fn a_subscriber_with_a_queue_in_memory_loses_what_it_has_acknowledged() {
    let report = judged("--subject-sub", &python("naive_subscriber.py"));
    assert_eq!((broken(&report), &report["verdict"]), (vec!["A3"], &Value::from("broken")), "{report:#}");
    let finding = &report["findings"][0];
    let message = finding["message"].as_str().expect("a message");
    assert!(message.contains("naive, acknowledged message") && message.contains("To mend it:"), "{message}");
}

#[test]
fn a_subscriber_that_acknowledges_when_it_has_processed_is_kept() {
    let report = judged("--subject-sub", &python("careful_subscriber.py"));
    assert_eq!((broken(&report), &report["verdict"]), (vec![], &Value::from("kept")), "{report:#}");
    assert_eq!(report["subjects"][0]["client_ids"][0], "careful");
}

#[test]
fn mosquitto_sub_can_be_judged() {
    let report = judged("--subject-sub", "mosquitto_sub -h {host} -p {port} -t {topic} -q 1 -c -i moss");
    assert_eq!(&report["verdict"], &Value::from("kept"), "{report:#}");
}
