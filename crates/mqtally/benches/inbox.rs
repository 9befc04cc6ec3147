//! The inbox beside its physical limit, in one run.
//!
//! *rawlog* appends each batch to a file, syncs it, and keeps the ids in a hash map: what a single writer on this disk can do at
//! most. The inbox does accept, claim and settle for the same messages. Two batches are in flight, so that one gathers while the
//! other is synced, as a connection does it. What gathers meanwhile shares a sync, so the limit is measured twice: with a sync for
//! each batch, and with a sync for as many messages as the inbox synced together.
//!
//! `cargo bench -p mqtally --bench inbox` for the rates; with `-- --ids 10000000` also for that many dedup ids: memory of an id, and
//! the time to open after a kill. Directory: `MQTALLY_BENCH_DIR`, else the target directory's disk.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use mqtally::inbox::key::Key;
use mqtally::inbox::{Arrival, Inbox, InboxError, Lane, Outcome, Settings};
use mqtally_proto::packet::Qos;
use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PAYLOAD_BYTES: usize = 100;
const IN_FLIGHT: usize = 2;
const RUNS: usize = 5;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, flag, path] = &arguments[..]
        && flag == "--fill-and-die"
    {
        return fill_and_die(Path::new(path));
    }
    let ids = arguments.iter().position(|argument| argument == "--ids").and_then(|at| arguments.get(at + 1));
    let directory = directory()?;
    rates(&directory)?;
    opening(&directory, ids.map_or(Ok(1_000_000), |count| count.parse())?)?;
    Ok(fs::remove_dir_all(&directory)?)
}

fn directory() -> Result<PathBuf> {
    let base = std::env::var_os("MQTALLY_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    let directory = base.join(format!("inbox-bench-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn rates(directory: &Path) -> Result<()> {
    println!(
        "{:>6} {:>12} {:>14} {:>6} {:>14} {:>22} {:>6} {:>16}",
        "batch",
        "inbox msg/s",
        "rawlog msg/s",
        "ratio",
        "messages/sync",
        "rawlog msg/s at that",
        "ratio",
        "CPU µs/message"
    );
    for batch in [16, 128, 1_024] {
        let messages = (batch * 600).clamp(20_000, 300_000) / batch * batch;
        // Alternating, because the disk's mood changes; the median is shown.
        let mut runs = Vec::new();
        for run in 0..RUNS {
            let (path, cpu) = (directory.join(format!("inbox-{batch}-{run}.db")), cpu_time()?);
            let inbox = inbox(&path, messages, batch)?;
            let cpu = (cpu_time()? - cpu).as_secs_f64() * 1e6 / messages as f64;
            let together = messages as f64 / synced(&path)?;
            let raw = directory.join(format!("raw-{batch}-{run}"));
            let each = rawlog(&raw, messages, batch)?;
            let same = rawlog(&raw, messages, together.round() as usize)?;
            runs.push((inbox / each, [inbox, each, together, same, cpu]));
        }
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, [inbox, each, together, same, cpu]) = runs[RUNS / 2];
        println!(
            "{batch:>6} {inbox:>12.0} {each:>14.0} {ratio:>6.2} {together:>14.0} {same:>22.0} {:>6.2} {cpu:>16.1}",
            inbox / same
        );
    }
    Ok(())
}

/// Commits that the store has synced.
fn synced(store: &Path) -> Result<f64> {
    let connection = rusqlite::Connection::open(store)?;
    Ok(connection.query_row("SELECT synced FROM tally", [], |row| row.get(0))?)
}

/// Messages a second of the limit.
fn rawlog(path: &Path, messages: usize, batch: usize) -> Result<f64> {
    let mut file = File::create(path)?;
    let mut index = HashSet::new();
    let mut bytes = Vec::new();
    let start = Instant::now();
    for first in (0..messages).step_by(batch) {
        bytes.clear();
        for n in first..(first + batch).min(messages) {
            let arrival = arrival(n as u64);
            index.insert(arrival.key.map(|key| key.id));
            bytes.extend_from_slice(&(arrival.payload.len() as u32).to_le_bytes());
            bytes.extend_from_slice(arrival.topic.as_bytes());
            bytes.extend_from_slice(&arrival.payload);
        }
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    Ok(messages as f64 / start.elapsed().as_secs_f64())
}

/// Messages a second of accept + claim + settle.
fn inbox(path: &Path, messages: usize, batch: usize) -> Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (inbox, _) = Inbox::open(path, Settings::default())?;
        let start = Instant::now();
        let worker = tokio::spawn(handle(inbox.clone(), messages, batch));
        let mut in_flight = VecDeque::new();
        for first in (0..messages).step_by(batch) {
            let arrivals = (first..first + batch).map(|n| arrival(n as u64)).collect();
            in_flight.push_back(inbox.submit(arrivals).await?);
            if in_flight.len() == IN_FLIGHT
                && let Some(oldest) = in_flight.pop_front()
            {
                oldest.durable().await?;
            }
        }
        worker.await??;
        let elapsed = start.elapsed();
        let counted = inbox.statistics().await?;
        assert_eq!((counted.processed, counted.unsettled), (messages as u64, 0));
        inbox.close().await;
        Ok(messages as f64 / elapsed.as_secs_f64())
    })
}

/// Handles that many messages: as many batches at a time as are on their way in.
async fn handle(inbox: Inbox, messages: usize, batch: usize) -> std::result::Result<(), InboxError> {
    let (settled, mut progress) = mpsc::unbounded_channel();
    let mut workers: JoinSet<_> =
        (0..IN_FLIGHT).map(|_| work(inbox.clone(), batch, settled.clone())).collect();
    let mut left = messages;
    while left > 0 {
        tokio::select! {
            Some(settled) = progress.recv() => left -= settled,
            Some(Ok(ended)) = workers.join_next() => return ended,
        }
    }
    Ok(())
}

async fn work(
    inbox: Inbox,
    batch: usize,
    progress: mpsc::UnboundedSender<usize>,
) -> std::result::Result<(), InboxError> {
    let mut claimed = inbox.claim(0, batch).await?;
    loop {
        let settlements = claimed.iter().map(|delivery| (delivery.lease(), Outcome::Done)).collect();
        // Asked for together, as a dispatcher does it: what is done makes room for more.
        let settling = async {
            let settled = inbox.settle_all(settlements).await?;
            // Whoever counts may have seen enough.
            let _ = progress.send(settled.len());
            Ok::<_, InboxError>(())
        };
        let ((), more) = tokio::try_join!(settling, inbox.claim(0, batch))?;
        claimed = more;
    }
}

/// Memory of an id and the time to open after a kill.
fn opening(directory: &Path, ids: u64) -> Result<()> {
    let path = directory.join("ids.db");
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .args(["--fill-and-die".as_ref(), path.as_os_str()])
        .env("MQTALLY_BENCH_IDS", ids.to_string())
        .spawn()?;
    child.wait()?;
    let before = resident_kib()?;
    let start = Instant::now();
    let (inbox, _) = Inbox::open(&path, Settings::default())?;
    let elapsed = start.elapsed();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counted = runtime.block_on(inbox.statistics())?;
    assert_eq!(counted.keys, ids);
    let resident = resident_kib()?.saturating_sub(before) as f64 * 1024.0 / ids as f64;
    let index = counted.key_bytes as f64 / ids as f64;
    println!(
        "{ids} ids: {index:.1} bytes an id in the index ({resident:.1} resident), opened after a kill in {elapsed:.2?}"
    );
    runtime.block_on(inbox.close());
    Ok(())
}

/// Stores messages with that many ids, settles them all, and dies without closing.
fn fill_and_die(path: &Path) -> Result<()> {
    let ids: u64 = std::env::var("MQTALLY_BENCH_IDS")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (inbox, _) = Inbox::open(path, Settings::default())?;
        let worker = tokio::spawn(handle(inbox.clone(), ids as usize, 1_024));
        for first in (0..ids).step_by(1_000) {
            let arrivals = (first..(first + 1_000).min(ids)).map(arrival).collect();
            inbox.submit(arrivals).await?.durable().await?;
        }
        worker.await??;
        std::process::abort();
    })
}

fn arrival(n: u64) -> Arrival {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mixed(n).to_be_bytes());
    id[8..].copy_from_slice(&n.to_be_bytes());
    let topic = format!("plant/line-{}/temperature", n % 64);
    Arrival {
        qos: Qos::AtLeastOnce,
        lane: None::<Lane>,
        key: Some(Key { id, text: format!("0192f0c1-7a1b-7000-8000-{n:012x}"), also: Vec::new() }),
        topic: topic.into(),
        payload: vec![n as u8; PAYLOAD_BYTES].into(),
        ..Arrival::default()
    }
}

/// Spreads numbers as a hash does (splitmix64).
fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// CPU time of this process so far, from the kernel (Linux; elsewhere zero).
fn cpu_time() -> Result<Duration> {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return Ok(Duration::ZERO) };
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

fn resident_kib() -> Result<u64> {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(0) };
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?)
}
