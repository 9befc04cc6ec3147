//! kill -9: nothing acknowledged is lost, nothing is done twice, at random and at every numbered crash point.
//!
//! The child is a subscriber with a broker in its pocket: what the broker knows (which message was acknowledged, which
//! exchange is where) stands in a log file and survives every death. After each death the broker sends again what was
//! not acknowledged. Each message's effect is a row written in the inbox's transaction. At the end both sides are compared.
//! `MQTALLY_KILL_ROUNDS=500` for many kills.

#![allow(clippy::print_stdout, reason = "seeds and counts, shown with --nocapture")]

mod inbox_support;

use inbox_support::{message, qos_2};
use mqtally::inbox::dead_letter::{DeadLetters, Selection};
use mqtally::inbox::{Arrival, Delivery, Inbox, Outcome, RetryPolicy, Settings};
use mqtally::store::fail::CRASH_POINTS;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

const DIRECTORY: &str = "MQTALLY_KILL_DIRECTORY";
const MESSAGES: &str = "MQTALLY_KILL_MESSAGES";
const WINDOW_MS: &str = "MQTALLY_KILL_WINDOW_MS";
const PACKET_IDS: u64 = 40;
const LONG_MS: u64 = 3_600_000;

#[test]
fn every_crash_point_loses_nothing_and_does_nothing_twice() {
    for point in CRASH_POINTS {
        for count in [1, 4].iter().take(if point >= 12 { 1 } else { 2 }) {
            let directory = tempfile::tempdir().unwrap();
            // Keys that expire at once let duplicates through; there only losses are judged.
            let window_ms = if point == 11 { 40 } else { LONG_MS };
            let crash = format!("{point}:{count}");
            let died = run(directory.path(), 60, window_ms, &[("MQTALLY_CRASH_POINT", &crash)]);
            assert!(!died.success(), "crash point {crash} was not reached");
            assert!(run(directory.path(), 60, window_ms, &[]).success(), "after crash point {crash}");
            judge(directory.path(), 60, window_ms == LONG_MS, &crash);
        }
    }
}

#[test]
fn random_kills_lose_nothing_and_do_nothing_twice() {
    let rounds: u32 = std::env::var("MQTALLY_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let seed =
        std::env::var("MQTALLY_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("MQTALLY_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut killed, mut stores) = (0, 0);
    while killed < rounds {
        let directory = tempfile::tempdir().unwrap();
        stores += 1;
        loop {
            let mut child = child(directory.path(), 2_000, LONG_MS).spawn().unwrap();
            let patience = Duration::from_millis(random.u64(1..150));
            std::thread::sleep(patience);
            if killed < rounds && child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                killed += 1;
            }
            if child.wait().unwrap().success() {
                break;
            }
        }
        judge(directory.path(), 2_000, true, "random kills");
    }
    println!("{killed} kills, {stores} stores");
}

fn child(directory: &Path, messages: u64, window_ms: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_child", "--quiet"]).env(DIRECTORY, directory);
    command.env(MESSAGES, messages.to_string()).env(WINDOW_MS, window_ms.to_string());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command
}

fn run(directory: &Path, messages: u64, window_ms: u64, environment: &[(&str, &str)]) -> ExitStatus {
    child(directory, messages, window_ms).envs(environment.iter().copied()).status().unwrap()
}

/// Compares what the broker sent with the effects in the store.
fn judge(directory: &Path, messages: u64, judge_twice: bool, what: &str) {
    let connection = rusqlite::Connection::open(directory.join("inbox.db")).unwrap();
    let mut statement = connection.prepare("SELECT n, count(*) FROM effect GROUP BY n ORDER BY n").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let effects: BTreeMap<u64, u64> = rows.collect::<Result<_, _>>().unwrap();
    let lost: Vec<_> = (0..messages).filter(|n| !effects.contains_key(n)).collect();
    let twice: Vec<_> = effects.iter().filter(|(_, count)| **count > 1).collect();
    assert!(lost.is_empty(), "{what}: lost {lost:?}");
    assert!(!judge_twice || twice.is_empty(), "{what}: done twice {twice:?}");
    let dead: i64 = connection.query_row("SELECT count(*) FROM dead", [], |row| row.get(0)).unwrap();
    assert_eq!(dead, 0, "{what}");
}

/// Not a test of its own: the process that the others kill.
#[test]
fn the_child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(subscribe(Path::new(&directory), number(MESSAGES), number(WINDOW_MS)));
}

async fn subscribe(directory: &Path, messages: u64, window_ms: u64) {
    let path = directory.join("inbox.db");
    let retry = RetryPolicy { attempts_max: u32::MAX, delay_ms: 1, delay_ms_max: 2 };
    let (inbox, _) =
        Inbox::open(&path, Settings { window_ms, retry, poll_ms: 1, ..Settings::default() }).unwrap();
    let mut broker = Broker::resume(&directory.join("broker.log"));
    let worker = tokio::spawn(work(inbox.clone(), path));
    broker.finish_exchanges(&inbox).await;
    if broker.is_new {
        inbox.session_lost().await.unwrap();
    }
    for first in (0..messages).step_by(8) {
        broker.deliver(&inbox, first..(first + 8).min(messages)).await;
    }
    while inbox.statistics().await.unwrap().unsettled > 0 || inbox.statistics().await.unwrap().dead > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if window_ms < LONG_MS {
        tokio::time::sleep(Duration::from_millis(2 * window_ms)).await;
    }
    worker.abort();
    inbox.close().await;
}

/// What the broker knows, as a log of what reached it.
struct Broker {
    log: File,
    acknowledged: BTreeMap<u64, String>,
    is_new: bool,
}

impl Broker {
    fn resume(path: &Path) -> Self {
        let mut acknowledged = BTreeMap::new();
        let log = fs::read_to_string(path).unwrap_or_default();
        for line in log.lines() {
            let (what, n) = line.split_once(' ').unwrap();
            acknowledged.insert(n.parse().unwrap(), what.to_owned());
        }
        let file = File::options().append(true).create(true).open(path).unwrap();
        Self { log: file, acknowledged, is_new: log.is_empty() }
    }

    fn note(&mut self, what: &str, n: u64) {
        writeln!(self.log, "{what} {n}").unwrap();
        self.acknowledged.insert(n, what.to_owned());
    }

    fn is_exchange(n: u64) -> bool {
        n.is_multiple_of(3)
    }

    /// Sends PUBREL for every exchange that stands between PUBREC and PUBCOMP.
    async fn finish_exchanges(&mut self, inbox: &Inbox) {
        let open: Vec<_> =
            self.acknowledged.iter().filter(|(_, what)| *what == "pubrec").map(|(n, _)| *n).collect();
        for n in open {
            inbox.release(packet_id(n)).await.unwrap();
            self.note("pubcomp", n);
        }
    }

    /// Delivers what was not acknowledged, and some of it twice.
    async fn deliver(&mut self, inbox: &Inbox, range: std::ops::Range<u64>) {
        let (session, _) = inbox.session().await.unwrap();
        let unacknowledged: Vec<_> = range.filter(|n| !self.acknowledged.contains_key(n)).collect();
        let mut submitted = Vec::new();
        for n in &unacknowledged {
            submitted.push((*n, inbox.submit(vec![arrival(session, *n)]).await.unwrap()));
            if n.is_multiple_of(5) {
                inbox.submit(vec![Arrival { dup: true, ..arrival(session, *n) }]).await.unwrap();
            }
        }
        for (n, submitted) in submitted {
            submitted.durable().await.unwrap();
            self.note(if Self::is_exchange(n) { "pubrec" } else { "puback" }, n);
        }
        self.finish_exchanges(inbox).await;
    }
}

/// Packet ids come round soon, so that one remembered too long would swallow a new message.
fn packet_id(n: u64) -> u16 {
    (n % PACKET_IDS) as u16 + 1
}

fn arrival(session: u32, n: u64) -> Arrival {
    let plain = message(&n.to_string(), &n.to_string());
    if Broker::is_exchange(n) { qos_2(session, packet_id(n), plain) } else { plain }
}

/// Does every message; some only at the second attempt, some by way of the dead letters.
async fn work(inbox: Inbox, path: std::path::PathBuf) {
    let mut letters = DeadLetters::attach(&path).unwrap();
    loop {
        let Ok(claimed) = inbox.claim(0, 5).await else { return };
        for delivery in claimed {
            let outcome = decide(&delivery);
            let dies = matches!(outcome, Outcome::DeadLetter { .. });
            inbox.settle(delivery.lease(), outcome).await.unwrap().unwrap();
            if dies {
                replay_all(&mut letters);
            }
        }
        replay_all(&mut letters);
    }
}

fn decide(delivery: &Delivery) -> Outcome {
    let n: u64 = std::str::from_utf8(&delivery.payload).unwrap().parse().unwrap();
    match n % 10 {
        3 if delivery.attempt == 1 => Outcome::Retry { after: None, error: "not yet".into() },
        7 if delivery.replay == 0 => Outcome::DeadLetter { error: "look at it".into() },
        _ => Outcome::DoneWith(Box::new(move |transaction| {
            transaction.execute_batch("CREATE TABLE IF NOT EXISTS effect(n INTEGER)")?;
            transaction.execute("INSERT INTO effect VALUES (?1)", [n]).map(|_| ())
        })),
    }
}

fn replay_all(letters: &mut DeadLetters) {
    let page = letters.list(&Selection::default(), 0, 100).unwrap();
    let sequences: Vec<_> = page.letters.iter().map(|letter| letter.sequence).collect();
    letters.replay(&sequences, false).unwrap();
}
