//! The run against mosquitto, a broker that is not ours. Needs its program: `cargo test -- --ignored mosquitto`.

mod support;

use mqtally_harness::process::BrokerSource;
use mqtally_harness::run::Group;
use support::{plan, play};

async fn check(group: Group) {
    let directory = tempfile::tempdir().expect("no directory");
    let template = "mosquitto -p {port}".to_owned();
    let source = BrokerSource::Command { template, directory: directory.path().to_owned() };
    let played = play(plan(&[group]), source).await;
    println!("{:?}", played.summary);
    assert_eq!(played.troubles(), Vec::<String>::new());
    assert_eq!(played.summary.aborted, None);
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
