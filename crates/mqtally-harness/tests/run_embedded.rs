//! The run against the embedded broker in this process.

mod support;

use mqtally_harness::run::Group;
use support::{Embedded, plan, play};

async fn check(group: Group) {
    let broker = Embedded::start().await;
    let played = play(plan(&[group]), broker.source()).await;
    println!("{:?}", played.summary);
    assert_eq!(played.troubles(), Vec::<String>::new());
    assert_eq!(played.summary.aborted, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_runs_to_its_end() {
    check(Group::Qos).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_runs_to_its_end() {
    check(Group::Session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_runs_to_its_end() {
    check(Group::Duplicates).await;
}
