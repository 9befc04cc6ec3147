//! The subscriber end to end: messages queued at the embedded broker, each stored, acknowledged, handled and settled.
//!
//! In alternating runs on one disk beside *rawlog* (append and sync in batches of the size that the subscriber's own commits
//! had, and in batches of 128: the limit of a single writer) and a subscriber in Python that commits each message to SQLite before it acknowledges it
//! (paho-mqtt; skipped where it is not installed, `.ci/install-referees` does that). The medians of three runs are shown. CPU
//! time is that of the subscriber's process alone.
//!
//! `cargo build --release && cargo bench -p mqtally --bench subscriber`. `MQTALLY_BIN`: the program whose broker is used;
//! `MQTALLY_BENCH_DIR`: the directory; `MQTALLY_BENCH_PYTHON`: the interpreter.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use mqtally::client::{Client, Event, Settings};
use mqtally::handler::Handler;
use mqtally::inbox::Outcome;
use mqtally::subscriber::{Builder, Order};
use mqtally_proto::packet::{Properties, Publish, Qos, ReasonCode, Subscription, Version};
use mqtally_proto::session::{Event as SessionEvent, Options};
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MESSAGES: u64 = 50_000;
/// The slow one gets fewer.
const MESSAGES_PYTHON: u64 = 1_500;
const PAYLOAD_BYTES: usize = 100;
const RUNS: usize = 3;
const QOS: [Qos; 2] = [Qos::AtLeastOnce, Qos::ExactlyOnce];

fn main() -> Result<()> {
    let parent = std::env::var_os("MQTALLY_BENCH_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let directory = tempfile::tempdir_in(parent)?;
    let broker = Broker::start(directory.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!(
        "{:<6}{:>10}{:>14}{:>16}{:>11}{:>14}{:>17}{:>17}{:>12}{:>16}",
        "",
        "msg/s",
        "CPU µs/msg",
        "messages/sync",
        "rawlog",
        "of rawlog",
        "rawlog, 128/sync",
        "of rawlog at 128",
        "paho",
        "times paho"
    );
    for qos in QOS {
        let mut runs = Vec::new();
        for number in 0..RUNS {
            let place = directory.path().join(format!("run-{}-{number}", qos.as_u8()));
            fs::create_dir(&place)?;
            runs.push(run(&runtime, &broker, &place, qos)?);
        }
        show(qos, &runs);
    }
    Ok(())
}

/// What one run measured.
struct Run {
    rate: f64,
    cpu_us: f64,
    batch: f64,
    rawlog: f64,
    rawlog_128: f64,
    /// Absent where paho-mqtt is not installed.
    paho: Option<f64>,
}

fn run(runtime: &Runtime, broker: &Broker, place: &Path, qos: Qos) -> Result<Run> {
    runtime.block_on(queue(broker, "bench", qos, MESSAGES))?;
    let store = place.join("store");
    let (rate, cpu_us) = runtime.block_on(subscribe(broker, &store, qos))?;
    let batch = MESSAGES as f64 / synced(&store)?;
    let [rawlog, rawlog_128] = [batch.round() as usize, 128].map(|batch| rawlog(&place.join("raw"), batch));
    let paho = if has_paho() {
        runtime.block_on(queue(broker, "python", qos, MESSAGES_PYTHON))?;
        Some(python(broker, place, qos)?)
    } else {
        None
    };
    Ok(Run { rate, cpu_us, batch, rawlog: rawlog?, rawlog_128: rawlog_128?, paho })
}

fn show(qos: Qos, runs: &[Run]) {
    let of = |figure: &dyn Fn(&Run) -> f64| {
        let mut figures: Vec<_> = runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    print!(
        "{:<6}{:>10.0}{:>14.1}{:>16.0}{:>11.0}{:>14.2}{:>17.0}{:>17.2}",
        qos.to_string(),
        of(&|run| run.rate),
        of(&|run| run.cpu_us),
        of(&|run| run.batch),
        of(&|run| run.rawlog),
        of(&|run| run.rate / run.rawlog),
        of(&|run| run.rawlog_128),
        of(&|run| run.rate / run.rawlog_128),
    );
    if runs.iter().all(|run| run.paho.is_some()) {
        let paho = |run: &Run| run.paho.unwrap_or_default();
        println!("{:>12.0}{:>16.0}", of(&paho), of(&|run| run.rate / paho(run)));
    } else {
        println!("{:>12}{:>16}", "skipped", "no paho-mqtt");
    }
}

/// Messages a second of the limit.
fn rawlog(path: &Path, batch: usize) -> Result<f64> {
    let mut file = File::create(path)?;
    let bytes = vec![b'x'; (PAYLOAD_BYTES + 40) * batch];
    let batches = (MESSAGES as usize / batch).max(1);
    let start = Instant::now();
    for _ in 0..batches {
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    Ok((batches * batch) as f64 / start.elapsed().as_secs_f64())
}

/// Commits that the store has synced.
fn synced(store: &Path) -> Result<f64> {
    let connection = rusqlite::Connection::open(store)?;
    Ok(connection.query_row("SELECT synced FROM tally", [], |row| row.get(0))?)
}

async fn subscribe(broker: &Broker, store: &Path, qos: Qos) -> Result<(f64, f64)> {
    let subscriber = Builder::new(broker.url.parse()?, "bench")
        .subscribe("bench/#", qos)
        .order(Order::None)
        .concurrency(256)
        .otherwise(Handler::from_fn(|_| async { Outcome::Done }))
        .count(MESSAGES)
        .open(store)?;
    let (start, cpu) = (Instant::now(), cpu_time()?);
    subscriber.run(std::future::pending()).await?;
    let (elapsed, cpu) = (start.elapsed(), cpu_time()? - cpu);
    Ok((MESSAGES as f64 / elapsed.as_secs_f64(), cpu.as_secs_f64() * 1e6 / MESSAGES as f64))
}

/// Makes a session for `client_id`, and has the broker queue messages for it.
async fn queue(broker: &Broker, client_id: &str, qos: Qos, messages: u64) -> Result<()> {
    let options = Options { session_expiry_interval: 3_600, ..Options::new(Version::V5_0, client_id) };
    let (client, mut events) = Client::start(Settings::new(broker.url.parse()?, options));
    client.connect().await?;
    let filter = format!("{client_id}/#");
    client.subscribe(vec![Subscription::new(filter, qos)], Properties::default())?;
    while !matches!(events.recv().await, Some(Event::Session(SessionEvent::Subscribed(_))) | None) {}
    client.disconnect(ReasonCode::SUCCESS, None).await;

    let options = Options { in_flight_max: 1_000, ..Options::new(Version::V5_0, "publisher") };
    let (client, mut events) = Client::start(Settings::new(broker.url.parse()?, options));
    client.connect().await?;
    let publisher = client.clone();
    let topic = client_id.to_owned();
    let publishing = tokio::spawn(async move {
        for number in 0..messages {
            let mut payload = format!(r#"{{"mqtally_id":"{number}"}}"#).into_bytes();
            payload.resize(PAYLOAD_BYTES, b' ');
            let topic = format!("{topic}/{}", number % 50).into();
            publisher
                .publish(number, Publish { qos, topic, payload: payload.into(), ..Publish::default() })
                .await?;
        }
        Ok::<(), mqtally_proto::session::PublishError>(())
    });
    let mut completed = 0;
    while completed < messages {
        let event = events.recv().await.ok_or("the publisher ended")?;
        completed += u64::from(matches!(event, Event::Session(SessionEvent::Completed { .. })));
    }
    publishing.await??;
    client.disconnect(ReasonCode::SUCCESS, None).await;
    Ok(())
}

fn interpreter() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/referees/bin/python");
    let found = if installed.exists() { installed } else { "python3".into() };
    std::env::var_os("MQTALLY_BENCH_PYTHON").map_or(found, PathBuf::from)
}

fn has_paho() -> bool {
    let found =
        Command::new(interpreter()).args(["-c", "import paho.mqtt.client"]).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

fn python(broker: &Broker, place: &Path, qos: Qos) -> Result<f64> {
    let port = broker.url.rsplit(':').next().unwrap_or_default();
    let output = Command::new(interpreter())
        .args(["-c", PYTHON, port, &MESSAGES_PYTHON.to_string(), &qos.as_u8().to_string()])
        .arg(place.join("python"))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let seconds: f64 =
        text.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(MESSAGES_PYTHON as f64 / seconds)
}

const PYTHON: &str = r#"
import sqlite3, sys, time
import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes
port, messages, qos, path = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
store = sqlite3.connect(path)
store.execute("PRAGMA journal_mode=WAL")
store.execute("PRAGMA synchronous=FULL")
store.execute("CREATE TABLE message(id TEXT PRIMARY KEY, topic TEXT, payload BLOB)")
taken, started = 0, 0.0
def on_message(client, _, message):
    global taken
    store.execute("INSERT OR IGNORE INTO message VALUES (?, ?, ?)", (str(message.payload), message.topic, message.payload))
    store.commit()
    client.ack(message.mid, message.qos)
    taken += 1
    if taken == messages:
        print(time.monotonic() - started)
        client.disconnect()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "python", protocol=mqtt.MQTTv5, manual_ack=True)
client.on_message = on_message
properties = Properties(PacketTypes.CONNECT)
properties.SessionExpiryInterval = 3600
started = time.monotonic()
client.connect("127.0.0.1", port, clean_start=False, properties=properties)
client.loop_forever()
"#;

/// User and system time of this process, all threads.
fn cpu_time() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let ticks: u64 = fields.get(11).ok_or("no utime")?.parse::<u64>()?
        + fields.get(12).ok_or("no stime")?.parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

struct Broker {
    child: Child,
    url: String,
}

impl Broker {
    fn start(directory: &Path) -> Result<Self> {
        let beside = std::env::current_exe()?.with_file_name("..").join("mqtally");
        let program = std::env::var_os("MQTALLY_BIN").map_or(beside, PathBuf::from);
        let mut child = Command::new(program)
            // paho-mqtt refuses a broker that announces more than 268435455.
            .args(["broker", "--listen", "127.0.0.1:0", "--packet-size-max", "1000000", "--data"])
            .arg(directory.join("broker"))
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| {
                format!("no broker ({error}); run 'cargo build --release', or set MQTALLY_BIN")
            })?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self { child, url: format!("mqtt://{}", line.trim()) })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
