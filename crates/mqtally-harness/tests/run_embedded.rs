//! The run against the embedded broker in this process: everything is exercised and kept.

mod support;

use mqtally_harness::run::Group;
use mqtally_history::report::Verdict;
use support::{Embedded, plan, play};

async fn check(group: Group) {
    let broker = Embedded::start().await;
    let played = play(plan(&[group]), broker.source()).await;
    assert_eq!(played.troubles(), Vec::<String>::new());
    assert_eq!(played.summary.aborted, None);
    let report = played.report();
    assert_eq!(report.verdict, Verdict::Kept, "{:?} {:#?}", report.unknown_because, report.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_is_kept() {
    check(Group::Qos).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_is_kept() {
    check(Group::Session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retained_is_kept() {
    check(Group::Retained).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wills_is_kept() {
    check(Group::Wills).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_is_kept() {
    check(Group::Options).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_is_kept() {
    check(Group::Faults).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_is_kept() {
    check(Group::Duplicates).await;
}
