//! Runs that do not come to their end: cancelled, or left by their broker. None hangs, none is judged as if it had.

mod support;

use mqtally_harness::recorder::{HISTORY_FILE, Recorder};
use mqtally_harness::run::{Group, RunEvent};
use mqtally_history::event::{EventKind, Header};
use mqtally_history::packet::Packet;
use mqtally_history::profile::Profile;
use mqtally_history::report::Verdict;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use support::{Embedded, Played, plan, play, play_until, url};

fn aborted(played: &Played) -> Option<&str> {
    played.events.iter().find_map(|event| match &event.kind {
        EventKind::Aborted { reason } => Some(reason.as_str()),
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_stops_before_its_end_and_says_so() {
    let broker = Embedded::start().await;
    let sent = |event: &RunEvent| matches!(event, RunEvent::Progress { sent: 1.., .. });
    let played = play_until(plan(&[Group::Session]), broker.source(), Profile::Durable, sent).await;
    assert!(played.summary.interrupted);
    assert_eq!(aborted(&played), Some("interrupted"));
    assert_eq!(played.report().verdict, Verdict::Unknown);
}

/// Each run that leaves its sessions behind fills up a broker that others use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_run_ends_the_sessions_that_it_began() {
    let broker = Embedded::start().await;
    let sent = |event: &RunEvent| matches!(event, RunEvent::Progress { sent: 1.., .. });
    let played = play_until(plan(&[Group::Session]), broker.source(), Profile::Durable, sent).await;
    let mut clients = HashMap::new();
    let mut sessions = HashMap::new();
    for event in &played.events {
        match &event.kind {
            EventKind::Opened { connection, client, .. } => drop(clients.insert(*connection, client.clone())),
            EventKind::Sent(connection, Packet::Connect(connect)) => {
                sessions.insert(clients[connection].clone(), connect.session_expiry);
            }
            _ => {}
        }
    }
    // What is refused begins no session.
    sessions.retain(|client, expiry| *expiry > 0 && !client.ends_with("refused"));
    assert_eq!(sessions, HashMap::new());
}

/// A connection that stays open in the history would make the next one of its client a takeover.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_of_a_cancelled_run_ends_in_its_history() {
    let broker = Embedded::start().await;
    let sent = |event: &RunEvent| matches!(event, RunEvent::Progress { sent: 1.., .. });
    let played = play_until(plan(&[Group::Session]), broker.source(), Profile::Durable, sent).await;
    let mut open = HashSet::new();
    for event in &played.events {
        match &event.kind {
            EventKind::Opened { connection, .. } => {
                assert!(open.insert(*connection), "{connection:?} was open");
            }
            EventKind::Closed(connection, _) => {
                assert!(open.remove(connection), "{connection:?} was not open");
            }
            _ => {}
        }
    }
    assert_eq!(open, HashSet::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_goes_away_ends_the_run_without_a_hang() {
    let broker = Embedded::start().await;
    let source = broker.source();
    let mut broker = Some(broker);
    let played = play_until(plan(&[Group::Qos, Group::Session]), source, Profile::Durable, |event| {
        if matches!(event, RunEvent::GroupStarted { .. }) {
            broker = None;
        }
        false
    })
    .await;
    assert!(!played.summary.interrupted);
    let reason = aborted(&played).expect("the run went on without a broker");
    assert!(reason.contains("no MQTT broker answers"), "{reason}");
    assert_eq!(played.report().verdict, Verdict::Unknown);
    let undrained = |event: &_| matches!(event, RunEvent::GroupEnded { drained: false, .. });
    assert_eq!(played.told.iter().filter(|event| undrained(event)).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_are_left_out_where_the_broker_is_not_ours() {
    let broker = Embedded::start().await;
    let played = play(plan(&[Group::Restart]), broker.source()).await;
    assert!(matches!(&played.told[..], [RunEvent::GroupSkipped { group, reason }]
        if &**group == "restart" && reason.contains("--broker-cmd")));
    assert_eq!(played.header.required, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_unplugged_stage_would_have_exercised_is_missed() {
    let broker = Embedded::start().await;
    let plan = plan(&[Group::Session]).without_stage("session/unreleased");
    let report = play(plan, broker.source()).await.report();
    assert_eq!(report.verdict, Verdict::Unknown);
    let missed = |promise: &str| {
        let verdict = report.promises.iter().find(|one| one.id == promise).map(|one| one.verdict);
        verdict == Some(Verdict::NotExercised)
            && report
                .unknown_because
                .iter()
                .any(|why| why.starts_with(&format!("{promise} had to be exercised")))
    };
    assert!(missed("R2"), "{:?}", report.unknown_because);
    assert!(missed("R3"), "{:?}", report.unknown_because);
}

#[test]
fn a_full_disk_is_an_error_and_not_a_shorter_history() {
    let directory = tempfile::tempdir().expect("no directory");
    std::os::unix::fs::symlink("/dev/full", directory.path().join(HISTORY_FILE)).expect("no link");
    let recorder = Recorder::create(directory.path(), &Header::default()).expect("no history");
    recorder.fault("cut-fin", None);
    assert!(recorder.finish().is_err());
}

/// The port is free, so nobody listens there.
#[tokio::test]
async fn nobody_listens_and_the_start_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("no port");
    let address = listener.local_addr().expect("no address");
    drop(listener);
    let started =
        mqtally_harness::process::BrokerUnderTest::start_within(url(address), Duration::from_secs(1)).await;
    let error = started.expect_err("it started").to_string();
    assert!(error.contains("check the URL and that the broker runs"), "{error}");
}
