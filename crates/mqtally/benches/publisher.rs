//! CPU time a published message costs its publisher's process: window 100, payload 100 bytes, QoS 0, 1 and 2, without
//! and with an outbox, beside mosquitto_pub and paho-mqtt where they are installed; and how many messages a second an
//! outbox takes in, beside a bare file with one append and one fdatasync a batch.
//!
//! All publishers talk to the same peer, a thread here that answers whatever is there in one write. Each is a process of
//! its own, timed by bash.
#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use bytes::BytesMut;
use bytestring::ByteString;
use mqtally::endpoint::Endpoint;
use mqtally::publisher::{Message, PublishError, Publisher, Uuid};
use mqtally_proto::packet::{
    Ack, Connack, Decoder, Packet, Properties, Publish, Qos, ReasonCode, Version, encode,
};
use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PAYLOAD: [u8; 100] = [b'x'; 100];
const TOPIC: &str = "bench/topic";
/// Payload and topic are not copied: what is measured is the publisher.
const MESSAGE_TOPIC: ByteString = ByteString::from_static(TOPIC);
/// Messages that become safe together, and are handed over while the last are on their way.
const BATCH: usize = 100;
/// Messages of a batch where the outbox only takes in.
const BATCHES: [usize; 3] = [16, 128, 1_024];
/// Callers of an outbox: what one prepares while the other's batch is synced.
const CALLERS: u64 = 2;
const OURS: u64 = 200_000;
const MOSQUITTO: u64 = 100_000;
const PAHO: u64 = 20_000;

const PAHO_PROGRAM: &str = "
import sys, paho.mqtt.client as mqtt
port, qos, count = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
try: c = mqtt.Client(client_id='bench')
except Exception: c = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id='bench')
c.max_inflight_messages_set(100)
c.connect('127.0.0.1', port); c.loop_start()
infos = [c.publish('bench/topic', b'x' * 100, qos) for _ in range(count)]
for i in infos: i.wait_for_publish()
c.loop_stop(); c.disconnect()
";

fn main() -> Result<()> {
    match std::env::var("MQTALLY_BENCH_JOB").as_deref() {
        Ok("intake") => return intake(&BATCHES),
        Ok(job) if let Some(batch) = job.strip_prefix("intake ") => return intake(&[batch.parse()?]),
        Ok(job) => return child(job),
        Err(_) => {}
    }
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|stream| drop(std::thread::spawn(|| answer(stream))));
    });
    println!("{:<22} {:>12} {:>12} {:>12}", "µs CPU a message", "QoS 0", "QoS 1", "QoS 2");
    let ours = row("mqtally", OURS, |qos| ours(address, qos, false))?;
    row("mqtally, outbox", OURS, |qos| self::ours(address, qos, true))?;
    let mosquitto = row("mosquitto_pub", MOSQUITTO, |qos| mosquitto(address, qos));
    let paho = row("paho-mqtt", PAHO, |qos| self::paho(address, qos));
    for (name, other) in [("mosquitto_pub", mosquitto), ("paho-mqtt", paho)] {
        match other {
            Ok(other) => println!("{name} / mqtally: {}", ratios(&other, &ours)),
            Err(error) => println!("{name}: skipped ({error})"),
        }
    }
    intake(&BATCHES)
}

/// Runs one process for each QoS and prints what a message cost it.
fn row(name: &str, messages: u64, command: impl Fn(Qos) -> Result<Command>) -> Result<[f64; 3]> {
    let mut costs = [0.0; 3];
    for (cost, qos) in costs.iter_mut().zip([Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]) {
        *cost = cpu_seconds(command(qos)?)? * 1e6 / messages as f64;
    }
    println!("{name:<22} {:>12.2} {:>12.2} {:>12.2}", costs[0], costs[1], costs[2]);
    Ok(costs)
}

fn ratios(other: &[f64; 3], ours: &[f64; 3]) -> String {
    let ratios = other.iter().zip(ours).map(|(other, ours)| format!("{:.1}", other / ours));
    ratios.collect::<Vec<_>>().join(" / ")
}

/// User and system time of a command with all its threads.
fn cpu_seconds(mut command: Command) -> Result<f64> {
    let output = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
    let stderr = String::from_utf8(output.stderr)?;
    if !output.status.success() {
        return Err(stderr.lines().next().unwrap_or("it failed").into());
    }
    let times = stderr.lines().last().ok_or("no times")?.split(' ');
    Ok(times.map(str::parse::<f64>).sum::<std::result::Result<f64, _>>()?)
}

fn timed(script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("TIMEFORMAT='%U %S'; time {script}")).arg("bench").args(arguments);
    command
}

fn ours(address: SocketAddr, qos: Qos, stored: bool) -> Result<Command> {
    let program = std::env::current_exe()?;
    let mut command = timed("\"$1\"", &[&program.to_string_lossy()]);
    command.env("MQTALLY_BENCH_JOB", format!("{} {} {stored}", address.port(), qos as u8));
    Ok(command)
}

fn mosquitto(address: SocketAddr, qos: Qos) -> Result<Command> {
    let script =
        format!("mosquitto_pub -V 5 -i bench -p {} -q {} -t {TOPIC} -l < \"$1\"", address.port(), qos as u8);
    let lines = std::env::temp_dir().join(format!("mqtally-bench-{}", std::process::id()));
    std::fs::write(&lines, format!("{}\n", "x".repeat(100)).repeat(usize::try_from(MOSQUITTO)?))?;
    Ok(timed(&script, &[&lines.to_string_lossy()]))
}

fn paho(address: SocketAddr, qos: Qos) -> Result<Command> {
    let (port, qos, count) = (address.port().to_string(), (qos as u8).to_string(), PAHO.to_string());
    Ok(timed("python3 -c \"$1\" \"$2\" \"$3\" \"$4\"", &[PAHO_PROGRAM, &port, &qos, &count]))
}

/// The publisher that is measured: every message to its final acknowledgement.
fn child(job: &str) -> Result<()> {
    let mut words = job.split(' ');
    let mut word = || words.next().ok_or("a job has three words");
    let (port, qos, stored) = (word()?.parse()?, word()?.parse()?, word()? == "true");
    let qos = Qos::from_u8(qos).ok_or("no QoS")?;
    let directory = tempfile::tempdir_in(".")?;
    let builder = Publisher::builder(Endpoint::new("127.0.0.1", port)).client_id("bench");
    let builder = if stored { builder.store(directory.path().join("outbox.db")) } else { builder };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { publish(builder.start()?, qos).await })?;
    Ok(())
}

async fn publish(publisher: Publisher, qos: Qos) -> Result<()> {
    let mut open = Vec::new();
    for _ in 0..OURS / BATCH as u64 {
        let receipts = publisher.publish_all(messages(&publisher, BATCH, qos)).await?;
        for receipt in std::mem::replace(&mut open, receipts) {
            receipt.await?;
        }
    }
    for receipt in open {
        receipt.await?;
    }
    publisher.close(Duration::from_secs(10)).await;
    Ok(())
}

fn messages(publisher: &Publisher, count: usize, qos: Qos) -> Vec<(Uuid, Message)> {
    let message = |id| (id, Message::new(MESSAGE_TOPIC, &PAYLOAD[..], qos));
    publisher.next_ids(count).into_iter().map(message).collect()
}

/// What an outbox takes in from two callers while nobody listens, and what the disk gives: in turns, because a disk is
/// shared with whatever else the machine does. The median counts.
fn intake(batches: &[usize]) -> Result<()> {
    const MESSAGES: u64 = 50_000;
    const ROUNDS: u32 = 7;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for batch in batches.iter().copied() {
        let messages = MESSAGES.min(batch as u64 * 400) / (CALLERS * batch as u64) * (CALLERS * batch as u64);
        let directory = tempfile::tempdir_in(".")?;
        let mut rounds = Vec::new();
        for round in 0..ROUNDS {
            let store = directory.path().join(format!("outbox-{round}.db"));
            let outbox = runtime.block_on(take_in(&store, messages, batch))?.as_secs_f64();
            let rawlog = raw_log(&directory.path().join("raw"), messages, batch)?.as_secs_f64();
            rounds.push((rawlog / outbox, outbox, rawlog));
        }
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, outbox, rawlog) = rounds[rounds.len() / 2];
        println!(
            "batches of {batch}: outbox {:.0} messages a second, bare file {:.0}: {ratio:.2} of it ({:.2} to {:.2})",
            messages as f64 / outbox,
            messages as f64 / rawlog,
            rounds[0].0,
            rounds[rounds.len() - 1].0,
        );
    }
    Ok(())
}

async fn take_in(store: &std::path::Path, messages: u64, batch: usize) -> Result<Duration> {
    let publisher = Publisher::builder(Endpoint::new("127.0.0.1", 9)).store(store).start()?;
    let started = Instant::now();
    let batches = messages / batch as u64 / CALLERS;
    let mut callers: JoinSet<_> = (0..CALLERS).map(|_| call(publisher.clone(), batches, batch)).collect();
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    let elapsed = started.elapsed();
    publisher.close(Duration::ZERO).await;
    Ok(elapsed)
}

/// A caller waits for a batch to be durable before it begins the next.
async fn call(publisher: Publisher, batches: u64, batch: usize) -> std::result::Result<(), PublishError> {
    for _ in 0..batches {
        drop(publisher.publish_all(messages(&publisher, batch, Qos::AtLeastOnce)).await?);
    }
    Ok(())
}

/// One append and one fdatasync a batch: what no store of one writer can beat.
fn raw_log(path: &std::path::Path, messages: u64, batch: usize) -> Result<Duration> {
    let mut file = std::fs::File::create(path)?;
    let bytes = vec![b'x'; batch * (PAYLOAD.len() + TOPIC.len() + 48)];
    let started = Instant::now();
    for _ in 0..messages / batch as u64 {
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    Ok(started.elapsed())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut decoder, mut input, mut output) = (Decoder::server(1 << 20), BytesMut::new(), BytesMut::new());
    let (mut chunk, mut version) = (vec![0; 1 << 16], Version::V5_0);
    loop {
        let bytes = stream.read(&mut chunk)?;
        if bytes == 0 {
            return Ok(());
        }
        input.extend_from_slice(&chunk[..bytes]);
        while let Some(packet) = decoder.decode(&mut input).map_err(std::io::Error::other)? {
            if let Packet::Connect(connect) = &packet {
                version = connect.version;
            }
            if let Some(answer) = answer_to(&packet) {
                encode(&answer, version, &mut output).map_err(std::io::Error::other)?;
            }
        }
        stream.write_all(&output.split())?;
    }
}

fn answer_to(packet: &Packet) -> Option<Packet> {
    match packet {
        Packet::Connect(_) => {
            let properties = Properties::default();
            Some(Packet::Connack(Connack { session_present: false, reason: ReasonCode::SUCCESS, properties }))
        }
        Packet::Publish(Publish { qos: Qos::AtLeastOnce, packet_id: Some(id), .. }) => {
            Some(Packet::Puback(Ack::success(*id)))
        }
        Packet::Publish(Publish { packet_id: Some(id), .. }) => Some(Packet::Pubrec(Ack::success(*id))),
        Packet::Pubrel(Ack { packet_id, .. }) => Some(Packet::Pubcomp(Ack::success(*packet_id))),
        Packet::Pingreq => Some(Packet::Pingresp),
        _ => None,
    }
}
