//! The subscriber end to end: messages queued at the embedded broker, each stored, acknowledged, handled and settled.
//!
//! In alternating runs on one disk beside
//!
//! - *raw log*: the same client on the same connection with a file instead of an inbox (`rawlog.rs`): the limit;
//! - *bare file*: append and sync alone, no broker and no client: the disk;
//! - *paho-mqtt*: a subscriber in Python that commits each message to SQLite before it acknowledges it; skipped where it is not
//!   installed (`.ci/install-referees` does that).
//!
//! The broker sends so many messages ahead of the acknowledgements at most: 128, which is then the largest batch that can gather
//! for anybody, and 1,024. Medians of five runs are shown, of a ratio its own. CPU time is that of the receiving process alone.
//!
//! `cargo build --release && cargo bench -p mqtally --bench subscriber`. `MQTALLY_BIN`: the program whose broker is used;
//! `MQTALLY_BENCH_DIR`: the directory; `MQTALLY_BENCH_PYTHON`: the interpreter.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod broker;
mod paho;
mod rawlog;

use broker::{Broker, queue};
use mqtally::handler::Handler;
use mqtally::inbox::Outcome;
use mqtally::subscriber::{Builder, Order};
use mqtally_proto::packet::Qos;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MESSAGES: u64 = 50_000;
/// The slow one gets fewer.
const MESSAGES_PYTHON: u64 = 1_500;
const PAYLOAD_BYTES: usize = 100;
const RUNS: usize = 5;
const QOS: [Qos; 2] = [Qos::AtLeastOnce, Qos::ExactlyOnce];
/// Messages on their way at most.
const IN_FLIGHT: [u16; 2] = [128, 1_024];

fn main() -> Result<()> {
    let parent = std::env::var_os("MQTALLY_BENCH_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let directory = tempfile::tempdir_in(parent)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for in_flight in IN_FLIGHT {
        let broker = Broker::start(directory.path(), in_flight)?;
        for qos in QOS {
            let mut runs = Vec::new();
            for _ in 0..RUNS {
                let place = tempfile::tempdir_in(directory.path())?;
                runs.push(run(&runtime, &broker, place.path(), qos, in_flight)?);
            }
            println!("{qos}, at most {in_flight} on their way");
            show(&runs);
        }
    }
    if !paho::is_there() {
        println!("paho-mqtt: skipped, it is not installed");
    }
    Ok(())
}

/// What a contestant did in one run.
struct Figures {
    who: String,
    rate: f64,
    cpu_us: Option<f64>,
    messages_a_sync: f64,
}

/// All contestants once; the first is ours.
fn run(runtime: &Runtime, broker: &Broker, place: &Path, qos: Qos, in_flight: u16) -> Result<Vec<Figures>> {
    let mut all = vec![subscriber(runtime, broker, &place.join("store"), qos)?];
    let together = all[0].messages_a_sync;
    for batch_max in IN_FLIGHT.into_iter().filter(|batch_max| *batch_max <= in_flight) {
        all.push(raw_log(runtime, broker, &place.join("log"), qos, batch_max.into())?);
    }
    for (batch, why) in [(128.0, ""), (together, ", as the subscriber")] {
        let who = format!("bare file{why}");
        let rate = rawlog::bare_file(&place.join("file"), batch.round() as usize)?;
        all.push(Figures { who, rate, cpu_us: None, messages_a_sync: batch });
    }
    if paho::is_there() {
        runtime.block_on(queue(broker, "python", qos, MESSAGES_PYTHON))?;
        let rate = paho::receive(broker, &place.join("python"), qos, MESSAGES_PYTHON)?;
        all.push(Figures { who: "paho-mqtt, SQLite".into(), rate, cpu_us: None, messages_a_sync: 1.0 });
    }
    Ok(all)
}

fn subscriber(runtime: &Runtime, broker: &Broker, store: &Path, qos: Qos) -> Result<Figures> {
    runtime.block_on(queue(broker, "bench", qos, MESSAGES))?;
    let cpu = cpu_time()?;
    let rate = runtime.block_on(subscribe(broker, store, qos))?;
    let cpu_us = Some(cpu_us_since(cpu)?);
    let messages_a_sync = MESSAGES as f64 / synced(store)?;
    Ok(Figures { who: "subscriber".into(), rate, cpu_us, messages_a_sync })
}

fn raw_log(runtime: &Runtime, broker: &Broker, path: &Path, qos: Qos, batch_max: usize) -> Result<Figures> {
    runtime.block_on(queue(broker, "rawlog", qos, MESSAGES))?;
    let cpu = cpu_time()?;
    let (rate, messages_a_sync) = runtime.block_on(rawlog::receive(broker, path, batch_max))?;
    let cpu_us = Some(cpu_us_since(cpu)?);
    Ok(Figures { who: format!("raw log, {batch_max} at most"), rate, cpu_us, messages_a_sync })
}

/// Messages a second.
async fn subscribe(broker: &Broker, store: &Path, qos: Qos) -> Result<f64> {
    let subscriber = Builder::new(broker.url.parse()?, "bench")
        .subscribe("bench/#", qos)
        .order(Order::None)
        .concurrency(256)
        .otherwise(Handler::from_fn(|_| async { Outcome::Done }))
        .count(MESSAGES)
        .open(store)?;
    let start = Instant::now();
    subscriber.run(std::future::pending()).await?;
    Ok(MESSAGES as f64 / start.elapsed().as_secs_f64())
}

/// How often the store has synced its log.
fn synced(store: &Path) -> Result<f64> {
    let connection = rusqlite::Connection::open(store)?;
    Ok(connection.query_row("SELECT synced FROM tally", [], |row| row.get(0))?)
}

fn show(runs: &[Vec<Figures>]) {
    println!(
        "  {:<30}{:>10}{:>12}{:>15}{:>25}",
        "", "msg/s", "CPU µs/msg", "messages/sync", "subscriber/this (range)"
    );
    for (at, first) in runs.first().into_iter().flatten().enumerate() {
        let of = |figure: &dyn Fn(&[Figures]) -> f64| sorted(runs.iter().map(|run| figure(run)));
        let median = |figure: &dyn Fn(&[Figures]) -> f64| of(figure)[runs.len() / 2];
        let cpu_us = first.cpu_us.map(|_| median(&|run| run[at].cpu_us.unwrap_or_default()));
        let ratios = of(&|run| run[0].rate / run[at].rate);
        print!("  {:<30}{:>10.0}", first.who, median(&|run| run[at].rate));
        print!("{:>12}", cpu_us.map_or("-".into(), |cpu_us| format!("{cpu_us:.1}")));
        print!("{:>15.0}", median(&|run| run[at].messages_a_sync));
        let range = format!("({:.2} to {:.2})", ratios[0], ratios[runs.len() - 1]);
        println!("{:>8.2} {range:>16}", ratios[runs.len() / 2]);
    }
}

fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<_> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// CPU time a message since this process had used `before`.
fn cpu_us_since(before: Duration) -> Result<f64> {
    Ok((cpu_time()? - before).as_secs_f64() * 1e6 / MESSAGES as f64)
}

/// User and system time of this process, all threads.
fn cpu_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let ticks: u64 = fields.get(11).ok_or("no utime")?.parse::<u64>()?
        + fields.get(12).ok_or("no stime")?.parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}
