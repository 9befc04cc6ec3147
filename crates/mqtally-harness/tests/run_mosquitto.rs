//! The run against mosquitto, a broker that is not ours. Needs its program: `cargo test -- --ignored mosquitto`.

mod support;

use mqtally_harness::process::BrokerSource;
use mqtally_harness::run::Group;
use mqtally_history::profile::Profile;
use mqtally_history::report::Verdict;
use support::{plan, play_until};

/// Everything comes to its end, and nothing is broken but what version 2.0.11 is known to break.
async fn check(group: Group, known: &[&str]) {
    let directory = tempfile::tempdir().expect("no directory");
    let template = "mosquitto -p {port}".to_owned();
    let source = BrokerSource::Command { template, directory: directory.path().to_owned() };
    let mut plan = plan(&[group]);
    // Version 2.0.11 acknowledges and drops what a 3.1.1 client has in flight above 20: a finding, and not of this test.
    plan.in_flight = Some(10);
    let played = play_until(plan, source, Profile::Volatile, |_| false).await;
    assert_eq!(played.troubles(), Vec::<String>::new());
    assert_eq!(played.summary.aborted, None);
    let report = played.report();
    let broken = report.findings.iter().filter(|finding| finding.verdict == Verdict::Broken);
    let unknown: Vec<_> = broken.filter(|finding| !known.contains(&finding.promise)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto"]
async fn qos_on_mosquitto() {
    // It delivers through the first of two matching filters in 3.1.1, and goes above a receive maximum in 5.0.
    check(Group::Qos, &["Q2", "F1", "F2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto"]
async fn session_on_mosquitto() {
    check(Group::Session, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto"]
async fn duplicates_on_mosquitto() {
    check(Group::Duplicates, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto"]
async fn restart_on_mosquitto() {
    check(Group::Restart, &[]).await;
}
