//! Group `restart` on the embedded broker in a process of its own, which is this test program again; also with something
//! in it that breaks one promise when it is killed.

#![expect(clippy::print_stdout, reason = "the kill matrix is for people")]

mod support;

use mqtally_harness::broker::store::Sync;
use mqtally_harness::broker::{Durability, Options, serve};
use mqtally_harness::nemesis::Faults;
use mqtally_harness::process::BrokerSource;
use mqtally_harness::run::{Group, Plan};
use mqtally_history::profile::Profile;
use mqtally_history::report::{Severity, Verdict};
use mqtally_proto::packet::Version;
use std::net::Ipv4Addr;
use std::time::Duration;
use support::mutant::{Mutant, Proxy};
use support::{Embedded, Played, plan, play, play_until};

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

/// Brokers that are found out when they are killed.
const MUTANTS: [Mutant; 2] = [Mutant::AcknowledgeEarly, Mutant::ForgetFiltersAtRestart];

/// A broker that keeps everything, with a mutant in the same process.
async fn play_mutant(mutant: Mutant, version: Version, profile: Profile) -> Played {
    play_mutant_in(plan(&[Group::Restart]), mutant, version, profile).await
}

async fn play_mutant_in(mut plan: Plan, mutant: Mutant, version: Version, profile: Profile) -> Played {
    plan.versions = vec![version];
    // What a mutant swallows is waited for in vain.
    plan.drain_limit = Duration::from_secs(5);
    let directory = tempfile::tempdir().expect("no directory");
    let program = std::env::current_exe().expect("this program has no path");
    let template = format!(
        "env TEST_BROKER_PORT={{port}} TEST_BROKER=durable TEST_MUTANT={mutant:?} TEST_RUN={} '{}' --ignored --exact \
         the_broker_itself",
        plan.run,
        program.display()
    );
    let source = BrokerSource::Command { template, directory: directory.path().to_owned(), login: None };
    play_until(plan, source, profile, |_| false).await
}

/// `promise` is broken under this profile, and nothing else of severity S1.
async fn check_mutant(mutant: Mutant, profile: Profile, promise: &str) {
    for version in [Version::V3_1_1, Version::V5_0] {
        let played = play_mutant(mutant, version, profile).await;
        let report = played.report();
        let broken = report.promises.iter().filter(|it| it.verdict == Verdict::Broken);
        let broken: Vec<_> = broken.map(|it| (it.id, it.severity)).collect();
        let names: Vec<&str> = broken.iter().map(|(id, _)| *id).collect();
        println!(
            "{:>22} {version:?} {} broken {names:?} troubles {:?}",
            format!("{mutant:?}"),
            profile.name(),
            played.troubles()
        );
        assert!(names.contains(&promise), "{promise} is not broken: {report:#?}");
        let others = broken.iter().filter(|(id, severity)| *id != promise && *severity == Severity::S1);
        assert_eq!(others.count(), 0, "{broken:?} {:#?}", report.findings);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutant_a_message_that_is_acknowledged_before_it_is_stored_is_lost() {
    check_mutant(Mutant::AcknowledgeEarly, Profile::Durable, "D1").await;
}

/// The control: who promises nothing breaks nothing, though the same is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutant_what_no_profile_promises_is_not_broken_by_a_kill() {
    let played = play_mutant(Mutant::AcknowledgeEarly, Version::V5_0, Profile::Volatile).await;
    let report = played.report();
    assert_eq!(report.verdict, Verdict::Kept, "{:?} {:#?}", report.unknown_because, report.findings);
    assert!(!report.excuses.is_empty(), "nothing was lost");
}

/// No profile excuses it: the broker said that it had the session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutant_a_session_that_is_resumed_without_its_filters_behind_a_restart_is_none() {
    check_mutant(Mutant::ForgetFiltersAtRestart, Profile::Volatile, "S5").await;
}

/// The same where the broker is only asked to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mutant_filters_that_a_stop_takes_are_missed_in_the_group_of_faults() {
    let mut plan = plan(&[Group::Faults]);
    plan.faults = Faults::read("terminate-broker").expect("a kind of fault");
    let mutant = Mutant::ForgetFiltersAtRestart;
    let report = play_mutant_in(plan, mutant, Version::V5_0, Profile::Graceful).await.report();
    let broken = report.promises.iter().filter(|it| it.verdict == Verdict::Broken);
    let broken: Vec<_> = broken.map(|it| it.id).collect();
    println!("{:>22} stopped broken {broken:?}", format!("{mutant:?}"));
    assert_eq!(broken, ["S5"], "{:#?} {:?}", report.findings, report.unknown_because);
}

#[tokio::test]
#[ignore = "the broker that the other tests start and kill"]
async fn the_broker_itself() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let durability = match std::env::var("TEST_BROKER").as_deref() {
        Ok("durable") => Durability::Durable { directory: "state".into(), sync: Sync::Off },
        _ => Durability::Volatile,
    };
    let Some(port) = number("TEST_BROKER_PORT").and_then(|port| u16::try_from(port).ok()) else { return };
    let mutant = std::env::var("TEST_MUTANT").ok();
    let Some(mutant) = MUTANTS.into_iter().find(|it| mutant == Some(format!("{it:?}"))) else {
        let options = Options::new((Ipv4Addr::LOCALHOST, port).into(), durability);
        serve(options, |_| (), std::future::pending()).await.expect("the broker failed");
        return;
    };
    let broker = Embedded::with(durability).await;
    let _proxy = Proxy::listen(port, broker.address, mutant, number("TEST_RUN").expect("a run")).await;
    std::future::pending::<()>().await;
}
