//! Scenarios against the embedded broker in this process, which cannot be killed: their other faults strike.

mod support;

use mqtally_harness::run::RunEvent;
use mqtally_harness::scenario::{Scenario, built_in};
use mqtally_history::event::EventKind;
use mqtally_history::report::{Report, Verdict};
use std::sync::Arc;
use support::{Embedded, Played, plan, play};

async fn played(scenario: Scenario) -> Played {
    let broker = Embedded::start().await;
    let mut plan = plan(&[]);
    plan.scenarios = vec![Arc::new(scenario)];
    play(plan, broker.source()).await
}

fn kept(played: &Played) -> Report {
    assert_eq!(played.troubles(), Vec::<String>::new());
    let report = played.report();
    assert_eq!(report.verdict, Verdict::Kept, "{:?} {:#?}", report.unknown_because, report.findings);
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scenario_is_played_with_its_faults_and_its_devices_send_all_they_are_to() {
    let scenario = built_in("factory").expect("a scenario");
    let (messages, strikes) = (scenario.messages(), 2 * 3 + 2 * 3 + 2 * 2 * 3);
    let played = played(scenario).await;
    let report = kept(&played);
    let accepted = played.events.iter().filter(|event| matches!(event.kind, EventKind::Accepted { .. }));
    assert_eq!(accepted.count() as u64, 2 * messages);
    let cuts = report.faults.iter().find(|fault| fault.kind == "cut").expect("cuts");
    assert!(cuts.count >= strikes, "{cuts:?}");
    assert!(played.told.iter().any(|event| matches!(event, RunEvent::StageSkipped { stage, .. }
        if stage.contains("faults of the broker"))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_valve_stands_at_is_the_number_of_its_commands() {
    let played = played(built_in("smart-home").expect("a scenario")).await;
    kept(&played);
    let positions = played.events.iter().filter_map(|event| match &event.kind {
        EventKind::Position { value, .. } => Some(*value),
        _ => None,
    });
    assert_eq!(positions.collect::<Vec<_>>(), [30, 30]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_stops_reading_gets_the_rest_when_it_goes_on() {
    let text = r#"
        name = "stalled"
        duration = "10s"
        speed = 20
        [[streams]]
        name = "command"
        topic = "it/{device}"
        devices = 2
        qos = 1
        every = "100ms"
        payload = "plain text {number}"
        [[subscribers]]
        name = "slow"
        filters = ["it/+@1"]
        [[faults]]
        kind = "stall"
        of = "slow"
        at = "2s"
        lasts = "4s"
        [[faults]]
        kind = "leave"
        of = "command"
        at = "3s"
        lasts = "1s"
    "#;
    let played = played(Scenario::parse(text).expect("a scenario")).await;
    let report = kept(&played);
    assert_eq!((report.tally.published, report.tally.delivered), (400, 400));
    let count = |kind: &str| report.faults.iter().find(|fault| fault.kind == kind).map(|fault| fault.count);
    assert_eq!((count("stall"), count("leave")), (Some(2), Some(4)));
}
