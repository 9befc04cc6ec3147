//! Publishers that are killed, at random moments and at each numbered crash point: nothing that `publish` accepted is
//! lost, nothing arrives twice at QoS 2 while the broker keeps the session, and every other copy has the id of the
//! first.
//!
//! The publisher is this test program again, as a child process. `MQTALLY_KILL_ROUNDS` multiplies the rounds.

mod publisher_support;

use mqtally::outbox::CRASH_POINTS;
use mqtally::publisher::{Backoff, Message, Publisher};
use mqtally_proto::packet::Qos;
use publisher_support::Broker;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// What a life publishes at most, and what the last one may take.
const LIFE_MESSAGES: u32 = 1_500;
const DRAIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
struct Round {
    qos: Qos,
    /// Whether the broker keeps the session between the lives.
    kept: bool,
    seed: u64,
}

/// How a life ends.
#[derive(Debug, Clone, Copy)]
enum Death {
    /// kill -9 after this time.
    Killed(Duration),
    /// At this crash point, the n-th time.
    Crash(u32, u32),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_moments() {
    for seed in 0..rounds() {
        let mut random = fastrand::Rng::with_seed(seed);
        run_all(seed, || (0..4).map(|_| Death::Killed(Duration::from_millis(random.u64(5..120)))).collect())
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_crash_point() {
    for seed in 0..rounds() {
        for point in CRASH_POINTS {
            let mut random = fastrand::Rng::with_seed(seed ^ u64::from(point) << 32);
            run_all(seed, || (0..2).map(|_| Death::Crash(point, random.u32(1..12))).collect()).await;
        }
    }
}

/// The publisher's process. Without its environment this is no test.
#[tokio::test]
async fn child_publisher() {
    let Ok(broker) = std::env::var("MQTALLY_CHILD_BROKER") else { return };
    let argument = |name: &str| std::env::var(name).unwrap();
    let number = |name: &str| argument(name).parse::<u32>().unwrap();
    let (first, count) = (number("MQTALLY_CHILD_FIRST"), number("MQTALLY_CHILD_COUNT"));
    let qos = Qos::from_u8(number("MQTALLY_CHILD_QOS") as u8).unwrap();
    let fast = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(20) };
    let builder = Publisher::builder(format!("mqtt://{broker}").parse().unwrap()).backoff(fast);
    let publisher = builder.store(argument("MQTALLY_CHILD_STORE")).start().unwrap();
    let mut next = first;
    while next < first + count {
        let end = (next + fastrand::u32(1..20)).min(first + count);
        let message =
            |n: u32| (publisher.next_id(), Message::new(format!("t/{}", n % 5), n.to_string(), qos));
        drop(publisher.publish_all((next..end).map(message).collect()).await.unwrap());
        promise(next, end);
        next = end;
        tokio::time::sleep(Duration::from_micros(300)).await;
    }
    let left = publisher.close(DRAIN).await;
    assert_eq!(left, 0);
}

/// One write: the parent sees it wholly or not at all, and before the process can die.
fn promise(first: u32, end: u32) {
    std::io::stdout().write_all(format!("\nsafe {first} {end}\n").as_bytes()).unwrap();
}

/// Both QoS, with the session kept and lost, side by side.
async fn run_all(seed: u64, mut deaths: impl FnMut() -> Vec<Death>) {
    let runs: Vec<_> = combinations(seed).map(|round| tokio::spawn(run(round, deaths()))).collect();
    for run in runs {
        run.await.unwrap();
    }
}

async fn run(round: Round, deaths: Vec<Death>) {
    let (broker, directory) = (Broker::start().await, tempfile::tempdir().unwrap());
    let store = directory.path().join("outbox.db");
    broker.plan(|plan| plan.cut_after = Some(|connection| 150 + (connection as usize * 97) % 400));
    let mut promised = Vec::new();
    let mut first = 0;
    for death in deaths {
        promised.extend(live(&broker, &store, round, first, LIFE_MESSAGES, Some(death)).await);
        first += LIFE_MESSAGES;
        broker.plan(|plan| plan.lose_session = !round.kept);
    }
    promised.extend(live(&broker, &store, round, first, 50, None).await);
    assert!(promised.len() >= 50, "the last life promises all of its own");
    judge(&broker, round, &promised);
}

/// One process; returns what it promised.
async fn live(
    broker: &Broker,
    store: &Path,
    round: Round,
    first: u32,
    count: u32,
    death: Option<Death>,
) -> Vec<u32> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_publisher", "--nocapture"]).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env("MQTALLY_CHILD_BROKER", broker.address.to_string()).env("MQTALLY_CHILD_STORE", store);
    command.env("MQTALLY_CHILD_QOS", (round.qos as u8).to_string());
    command.env("MQTALLY_CHILD_FIRST", first.to_string()).env("MQTALLY_CHILD_COUNT", count.to_string());
    if let Some(Death::Crash(point, times)) = death {
        command.env("MQTALLY_CRASH_POINT", format!("{point}:{times}"));
    }
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (promised, ()) = tokio::join!(promises(lines), end(&mut child, death));
    promised
}

async fn promises(mut lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>) -> Vec<u32> {
    let mut promised = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some((first, end)) = line.strip_prefix("safe ").and_then(|range| range.split_once(' ')) {
            promised.extend(first.parse::<u32>().unwrap()..end.parse::<u32>().unwrap());
        }
    }
    promised
}

async fn end(child: &mut Child, death: Option<Death>) {
    if let Some(Death::Killed(after)) = death {
        tokio::time::sleep(after).await;
        let _ = child.start_kill(); // it may have ended by itself
    }
    let status = tokio::time::timeout(DRAIN, child.wait()).await.expect("the process hangs").unwrap();
    assert!(death.is_some() || status.success(), "the last life fails");
}

fn judge(broker: &Broker, round: Round, promised: &[u32]) {
    let copies = broker.copies();
    let lost: Vec<_> = promised.iter().filter(|n| !copies.contains_key(&n.to_string())).collect();
    assert!(
        lost.is_empty(),
        "{round:?}, seed {}: {} of {} lost: {lost:?}",
        round.seed,
        lost.len(),
        promised.len()
    );
    for (payload, ids) in &copies {
        assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]), "{round:?}: {payload} under {ids:?}");
        let once = round.qos == Qos::ExactlyOnce && round.kept;
        assert!(!once || ids.len() == 1, "{round:?}: {payload} arrived {} times", ids.len());
    }
}

fn combinations(seed: u64) -> impl Iterator<Item = Round> {
    [Qos::AtLeastOnce, Qos::ExactlyOnce]
        .into_iter()
        .flat_map(move |qos| [true, false].map(|kept| Round { qos, kept, seed }))
}

fn rounds() -> u64 {
    std::env::var("MQTALLY_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}
