//! The run against mosquitto, a broker that is not ours. Needs its program: `cargo test -- --ignored mosquitto`.

mod support;

use mqtally_harness::process::BrokerSource;
use mqtally_harness::run::Group;
use mqtally_history::profile::Profile;
use mqtally_history::report::Verdict;
use support::{plan, play_until};

async fn check(group: Group) {
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
    assert_ne!(report.verdict, Verdict::Broken, "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto"]
async fn qos_runs_to_its_end_on_mosquitto() {
    check(Group::Qos).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto"]
async fn session_runs_to_its_end_on_mosquitto() {
    check(Group::Session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto"]
async fn duplicates_runs_to_its_end_on_mosquitto() {
    check(Group::Duplicates).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mosquitto"]
async fn restart_runs_to_its_end_on_mosquitto() {
    check(Group::Restart).await;
}
