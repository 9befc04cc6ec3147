//! Programs under test: those that break a promise are found as that promise, those that keep all are clean.
//!
//! The programs are this very file, started again as the test `act_as_a_client`.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod wire;

use client::{Mutant, Publisher, Subscriber, Told};
use mqtally_harness::broker::store::Sync;
use mqtally_harness::broker::{Durability, Options, serve};
use mqtally_harness::nemesis::Faults;
use mqtally_harness::process::{BrokerSource, BrokerUnderTest};
use mqtally_harness::run::{Group, Plan, Programs};
use mqtally_harness::subject::Subject;
use mqtally_history::event::Side;
use mqtally_history::report::{Report, Verdict};
use std::net::Ipv4Addr;
use support::mutant::{Mutant as BrokerMutant, Proxy};
use support::{Embedded, Played, plan, play, url};

/// Not a test: what the others start.
#[test]
#[ignore = "it is started by the other tests"]
fn act_as_a_client() {
    match std::env::var("KIT_SIDE").as_deref() {
        Ok("sub") => Subscriber::new(Told::from_environment()).run(),
        Ok("pub") => Publisher::new(Told::from_environment()).run(),
        _ => {}
    }
}

/// The command that starts a client of the kit.
fn kit(side: Side, mutant: Mutant, version: &str) -> String {
    let side = if side == Side::Subscriber { "sub" } else { "pub" };
    let program = std::env::current_exe().expect("it runs");
    format!(
        "env KIT_SIDE={side} KIT_MUTANT={} KIT_VERSION={version} '{}' act_as_a_client --exact --ignored --nocapture",
        mutant.name(),
        program.display()
    )
}

/// Not a test: the durable broker that some of the others start, stop and kill.
#[tokio::test]
#[ignore = "it is started by the other tests"]
async fn act_as_a_broker() {
    let port = std::env::var("KIT_BROKER_PORT").ok().and_then(|port| port.parse().ok());
    let Some(port) = port else { return };
    let durability = Durability::Durable { directory: "state".into(), sync: Sync::Off };
    let options = Options::new((Ipv4Addr::LOCALHOST, port).into(), durability);
    let asked = async {
        let mut signal = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        signal.as_mut().expect("a handler").recv().await;
    };
    serve(options, |_| (), asked).await.expect("the broker failed");
}

async fn judged(side: Side, command: String) -> (Report, Played) {
    let embedded = Embedded::start().await;
    judged_on(embedded.source(), side, command).await
}

/// On a broker that is ended and started again.
async fn judged_over_restarts(side: Side, command: String) -> (Report, Played) {
    let directory = tempfile::tempdir().expect("a directory");
    judged_on(restartable(&directory), side, command).await
}

fn restartable(directory: &tempfile::TempDir) -> BrokerSource {
    let program = std::env::current_exe().expect("it runs");
    let template = format!(
        "env KIT_BROKER_PORT={{port}} '{}' act_as_a_broker --exact --ignored --nocapture",
        program.display()
    );
    BrokerSource::Command { template, directory: directory.path().to_owned(), login: None }
}

async fn judged_on(source: BrokerSource, side: Side, command: String) -> (Report, Played) {
    judged_without("", source, side, command).await
}

/// The same without the rounds of this name.
async fn judged_without(rounds: &str, source: BrokerSource, side: Side, command: String) -> (Report, Played) {
    let directory = tempfile::tempdir().expect("a directory");
    let group = if side == Side::Subscriber { Group::SubjectSub } else { Group::SubjectPub };
    let mut plan: Plan = plan(&[group]).without_rounds(rounds);
    plan.messages = None;
    let mut broker = BrokerUnderTest::start(source.clone()).await.expect("it runs");
    let subject = Subject::introduce(side, command, directory.path().to_owned(), false, broker.endpoint());
    plan.subjects = vec![subject.await.expect("it starts")];
    // One that is not ours goes on.
    let _ = broker.terminate().await;
    let played = play(plan, source).await;
    (played.report(), played)
}

fn off(report: &Report) -> Vec<&'static str> {
    let off =
        report.promises.iter().filter(|it| !matches!(it.verdict, Verdict::Kept | Verdict::NotExercised));
    off.map(|it| it.id).collect()
}

/// The mutant breaks this promise and no other.
#[track_caller]
fn assert_found(found: &(Report, Played), promise: &str) {
    let (report, played) = found;
    assert_eq!(off(report), [promise], "{:#?}\n{:?}", report.findings, played.troubles());
}

#[track_caller]
fn assert_clean(found: &(Report, Played)) {
    let (report, played) = found;
    let why = format!("{:#?}\n{:?}\n{:?}", report.findings, report.unknown_because, played.troubles());
    assert_eq!((off(report).as_slice(), report.verdict), (&[][..], Verdict::Kept), "{why}");
}

#[track_caller]
fn exercised(report: &Report, promise: &str) -> u64 {
    report.promises.iter().find(|it| it.id == promise).expect("in the catalogue").obligations
}

macro_rules! judge {
    () => {
        judged
    };
    ($judged:ident) => {
        $judged
    };
}

macro_rules! kill_matrix {
    ($($name:ident: $side:ident $mutant:ident on $version:literal breaks $promise:literal $(in $judged:ident)?;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let command = kit(Side::$side, Mutant::$mutant, $version);
            let found = judge!($($judged)?)(Side::$side, command).await;
            println!("{:24} MQTT {:6} {:10?} {:?}", stringify!($mutant), $version, Side::$side, off(&found.0));
            assert_found(&found, $promise);
        }
    )*};
}

kill_matrix! {
    c1_publish_after_pubrel_is_found: Publisher PublishAfterPubrel on "5" breaks "R12";
    c2_a_new_packet_id_is_found: Publisher NewPacketId on "3.1.1" breaks "R12";
    c3_a_dead_session_that_goes_on_is_found: Publisher KeepsDeadSession on "5" breaks "S12";
    c4_an_early_acknowledgement_is_found: Subscriber AcknowledgesEarly on "3.1.1" breaks "A3";
    c5_acknowledgements_in_reverse_are_found: Subscriber AcknowledgesInReverse on "5" breaks "O5";
    c6_too_many_in_flight_are_found: Publisher IgnoresReceiveMaximum on "5" breaks "F6";
    c7_a_second_delivery_at_pubrel_is_found: Subscriber DeliversAgainAtPubrel on "3.1.1" breaks "A2";
    c8_an_early_claim_is_found: Publisher ClaimsEarly on "3.1.1" breaks "A4";
    a_pubrel_that_names_nothing_and_is_not_answered_is_found: Subscriber LetsUnknownPubrelLie on "3.1.1" breaks "R12";
    state_that_a_takeover_wipes_is_found: Subscriber ForgetsWhenTakenOver on "5" breaks "A2";
    state_that_an_aborted_connect_wipes_is_found: Publisher ForgetsWhenIgnored on "3.1.1" breaks "R12";
    state_that_quick_reconnects_wipe_is_found: Publisher ForgetsWhenCutAtOnce on "3.1.1" breaks "R12";
    state_that_a_shutdown_of_the_broker_wipes_is_found: Publisher ForgetsAtShutdown on "5" breaks "R12" in judged_over_restarts;
}

/// A cut may do by chance what other rounds are for: one that loses a PUBCOMP makes the broker send its PUBREL again, and
/// that names nothing any more. A kind of rounds that stood in for another would find its mutant each time.
const RUNS_BY_CHANCE_MAX: usize = 3;

macro_rules! only_found_by {
    ($($name:ident: $side:ident $mutant:ident on $version:literal is found by $rounds:literal alone;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            let mut by_chance = Vec::new();
            while by_chance.len() < RUNS_BY_CHANCE_MAX {
                let directory = tempfile::tempdir().expect("a directory");
                let (source, command) = (restartable(&directory), kit(Side::$side, Mutant::$mutant, $version));
                let (report, ..) = judged_without($rounds, source, Side::$side, command).await;
                println!(
                    "{:24} MQTT {:6} {:10?} without {:15} {:?}",
                    stringify!($mutant), $version, Side::$side, $rounds, off(&report)
                );
                if off(&report).is_empty() {
                    return;
                }
                by_chance.push(report.findings);
            }
            panic!("found each time: {by_chance:#?}");
        }
    )*};
}

// Each of these is found above, and without the rounds of one kind it is not: no other kind stands in for them.
only_found_by! {
    rounds_stray_pubrel: Subscriber LetsUnknownPubrelLie on "3.1.1" is found by "stray-pubrel" alone;
    rounds_taken_over: Subscriber ForgetsWhenTakenOver on "5" is found by "taken-over" alone;
    rounds_kill_subscriber: Subscriber AcknowledgesEarly on "3.1.1" is found by "kill" alone;
    rounds_kill_publisher: Publisher TakesIdsInUse on "5" is found by "kill" alone;
    rounds_connect_storm: Publisher ForgetsWhenCutAtOnce on "3.1.1" is found by "connect-storm" alone;
    rounds_aborted_connect: Publisher ForgetsWhenIgnored on "3.1.1" is found by "aborted-connect" alone;
    rounds_lost_session: Publisher KeepsDeadSession on "5" is found by "lost-session" alone;
    rounds_late: Publisher IgnoresReceiveMaximum on "5" is found by "late" alone;
    rounds_broker_ends: Publisher ForgetsAtShutdown on "5" is found by "broker-ends" alone;
}

/// The broker drops what comes under an id that it holds, and rightly: that is nobody's loss but the program's.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_takes_packet_ids_in_use_is_found() {
    let found = judged(Side::Publisher, kit(Side::Publisher, Mutant::TakesIdsInUse, "5")).await;
    let of = |id: &str| found.0.promises.iter().find(|it| it.id == id).map(|it| it.verdict);
    assert_eq!(of("R12"), Some(Verdict::Warn), "{:#?}", found.0.findings);
    assert_ne!(of("D2"), Some(Verdict::Broken), "{:#?}", found.0.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_keeps_every_promise_is_clean() {
    for version in ["3.1.1", "5"] {
        let found = judged(Side::Subscriber, kit(Side::Subscriber, Mutant::None, version)).await;
        assert_clean(&found);
        for promise in ["O5", "A2", "A3", "A5", "R1", "R2", "D1", "D2", "D3"] {
            assert!(exercised(&found.0, promise) > 0, "{promise} on {version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_keeps_every_promise_is_clean() {
    for version in ["3.1.1", "5"] {
        let found = judged(Side::Publisher, kit(Side::Publisher, Mutant::None, version)).await;
        assert_clean(&found);
        for promise in ["O5", "R12", "A4", "A5", "R8", "R9"] {
            assert!(exercised(&found.0, promise) > 0, "{promise} on {version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_posts_counts_as_what_it_prints() {
    let posting = |mutant| kit(Side::Subscriber, mutant, "5").replace("env ", "env KIT_POSTS=1 ");
    let found = judged(Side::Subscriber, posting(Mutant::None)).await;
    assert_clean(&found);
    assert!(exercised(&found.0, "A3") > 0);
    assert_found(&judged(Side::Subscriber, posting(Mutant::AcknowledgesEarly)).await, "A3");
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_the_broker_are_no_fault_of_a_client_that_keeps_every_promise() {
    for (side, version) in [(Side::Subscriber, "5"), (Side::Publisher, "3.1.1")] {
        let found = judged_over_restarts(side, kit(side, Mutant::None, version)).await;
        assert_clean(&found);
        for fault in ["terminate-broker", "kill-broker"] {
            assert!(found.0.faults.iter().any(|it| it.kind == fault), "{fault}: {:?}", found.0.faults);
        }
    }
}

/// The fault `kill-process` alone, with these as the clients.
async fn killed(subscriber: Mutant, publisher: Mutant, source: BrokerSource, run: u32) -> (Report, Played) {
    let mut plan = plan(&[Group::Faults]);
    plan.run = run;
    plan.messages = None;
    plan.faults = Faults::read("kill-process").expect("a kind of fault");
    plan.programs = Some(Programs {
        subscriber: kit(Side::Subscriber, subscriber, "{protocol}"),
        publisher: kit(Side::Publisher, publisher, "{protocol}"),
    });
    let played = play(plan, source).await;
    (played.report(), played)
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_are_killed_with_and_without_their_store_lose_nothing_of_what_is_promised() {
    let embedded = Embedded::start().await;
    let found = killed(Mutant::None, Mutant::None, embedded.source(), 1).await;
    assert_clean(&found);
    let struck = |kind: &str| found.0.faults.iter().find(|it| it.kind == kind).map(|it| it.count);
    assert_eq!((struck("kill-process"), struck("wipe-process")), (Some(24), Some(8)), "{:?}", found.0.faults);
    for promise in ["D1", "D2", "D3", "O1", "O5", "S2", "R12", "A3"] {
        assert!(exercised(&found.0, promise) > 0, "{promise}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_acknowledges_first_and_is_killed_is_found() {
    let embedded = Embedded::start().await;
    let found = killed(Mutant::AcknowledgesEarly, Mutant::None, embedded.source(), 1).await;
    assert_found(&found, "A3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_begins_anew_with_a_client_that_was_killed_is_found() {
    let embedded = Embedded::start().await;
    let proxy = Proxy::start(embedded.address, BrokerMutant::ForgetKilled, 1).await;
    let found = killed(Mutant::None, Mutant::None, url(proxy.address), 1).await;
    assert!(proxy.strikes() > 0);
    assert_found(&found, "S2");
}

/// What is said of a program that cannot be judged: never "kept".
async fn reason(side: Side, command: &str) -> String {
    let (report, _) = judged(side, command.to_owned()).await;
    assert_eq!(report.verdict, Verdict::Unknown, "{report:#?}");
    report.unknown_because.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_at_once_is_unknown_with_its_last_words() {
    let reason = reason(Side::Subscriber, "sh -c 'echo no module named mqtt >&2; exit 3'").await;
    assert!(
        reason.contains("it ended before it connected (exit status: 3; it said: no module named mqtt)"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_ends_again_and_again_is_unknown() {
    // A publisher that is told to publish to a filter falls over it.
    let reason = reason(Side::Subscriber, &kit(Side::Publisher, Mutant::None, "5")).await;
    assert!(reason.contains("it ended 21 times by itself (exit status: 101; it said: "), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_mqtt_are_unknown() {
    let command =
        r#"bash -c 'exec 3<>/dev/tcp/{host}/{port}; printf "\\377%.0s" 1 2 3 4 5 6 7 8 >&3; sleep 60'"#;
    let reason = reason(Side::Publisher, command).await;
    assert!(reason.contains("the publishing subject: it sends bytes that are no MQTT"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_says_nothing_of_messages_is_unknown() {
    let mute = kit(Side::Subscriber, Mutant::None, "5").replace("env ", "env KIT_MUTE=1 ");
    let reason = reason(Side::Subscriber, &mute).await;
    assert!(reason.contains("A3 had to be exercised on MQTT 5 and was not"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_as_a_subscriber_never_subscribes_and_is_unknown() {
    let elsewhere = kit(Side::Publisher, Mutant::None, "5").replace("env ", "env MQTALLY_TOPIC=elsewhere ");
    let reason = reason(Side::Subscriber, &elsewhere).await;
    assert!(reason.contains("the subscribing subject: it did not subscribe within 20 s"), "{reason}");
}
