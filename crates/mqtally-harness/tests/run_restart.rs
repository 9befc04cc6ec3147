//! Group `restart` on the embedded broker in a process of its own, which is this test program again.

mod support;

use mqtally_harness::broker::store::Sync;
use mqtally_harness::broker::{Durability, Options, serve};
use mqtally_harness::process::BrokerSource;
use mqtally_harness::run::{Group, Plan};
use mqtally_history::report::Verdict;
use mqtally_proto::packet::Version;
use std::net::Ipv4Addr;
use std::time::Duration;
use support::{Played, plan, play};

async fn play_restarts(durability: &str) -> Played {
    play_restarts_of(plan(&[Group::Restart]), durability, "0").await
}

/// The same, of a broker that takes `delay_s` seconds to start.
async fn play_restarts_of(plan: Plan, durability: &str, delay_s: &str) -> Played {
    let directory = tempfile::tempdir().expect("no directory");
    let program = std::env::current_exe().expect("this program has no path");
    let template = format!(
        "env TEST_BROKER_PORT={{port}} TEST_BROKER={durability} \
         sh -c 'sleep {delay_s}; exec \"$0\" --ignored --exact the_broker_itself' '{}'",
        program.display()
    );
    let source = BrokerSource::Command { template, directory: directory.path().to_owned(), login: None };
    play(plan, source).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_broker_keeps_everything_across_kill_9() {
    let played = play_restarts("durable").await;
    assert_eq!(played.troubles(), Vec::<String>::new());
    let report = played.report();
    assert_eq!(report.verdict, Verdict::Kept, "{:?} {:#?}", report.unknown_because, report.findings);
    let kills: u64 =
        report.faults.iter().filter(|fault| fault.kind == "kill-broker").map(|fault| fault.count).sum();
    assert_eq!(kills, 8);
}

/// The traffic gave up while the broker was still starting, and took the start down with it: nobody was there then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_starts_more_slowly_than_it_answers_is_waited_for() {
    let mut plan = plan(&[Group::Restart]);
    plan.versions = vec![Version::V5_0];
    plan.answer_limit = Duration::from_secs(2);
    let played = play_restarts_of(plan, "durable", "3").await;
    assert_eq!(played.troubles(), Vec::<String>::new());
    assert_eq!(played.report().verdict, Verdict::Kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volatile_broker_that_calls_itself_durable_is_found_out() {
    let report = play_restarts("volatile").await.report();
    assert_eq!(report.verdict, Verdict::Broken, "{:?}", report.unknown_because);
}

#[tokio::test]
#[ignore = "the broker that the other tests start and kill"]
async fn the_broker_itself() {
    let port = std::env::var("TEST_BROKER_PORT").ok().and_then(|port| port.parse().ok());
    let durability = match std::env::var("TEST_BROKER").as_deref() {
        Ok("durable") => Durability::Durable { directory: "state".into(), sync: Sync::Off },
        _ => Durability::Volatile,
    };
    let Some(port) = port else { return };
    let options = Options::new((Ipv4Addr::LOCALHOST, port).into(), durability);
    serve(options, |_| (), std::future::pending()).await.expect("the broker failed");
}
