//! How fast a history is judged, and how large it is: `cargo bench -p mqtally-history`.
//!
//! `MQTALLY_BENCH_EVENTS=100000000 cargo bench -p mqtally-history` judges so many events instead, made as they are
//! needed, and prints the most memory that this took (on Linux).

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use mqtally_history::checker::Checker;
use mqtally_history::event::{ConnectionId, Event, EventKind, Header, Role};
use mqtally_history::journal::{Reader, Writer};
use mqtally_history::marker::{Identity, Marker, MessageId, Purpose};
use mqtally_history::packet::{Connack, Connect, Filter, Packet, Publish, Subscribe, Version};
use std::sync::Arc;
use std::time::Instant;

const MESSAGES: u64 = 500_000;
const ROUNDS: usize = 5;
/// Messages from sentinel to sentinel.
const EPOCH: u64 = 10_000;

fn main() {
    match std::env::var("MQTALLY_BENCH_EVENTS").ok().and_then(|events| events.parse::<u64>().ok()) {
        Some(events) => judge_a_long_run(events / EVENTS_PER_MESSAGE),
        None => measure(),
    }
}

/// Judges a run that is never in memory as a whole.
fn judge_a_long_run(messages: u64) {
    let header = Header { run: 1, ..Header::default() };
    let start = Instant::now();
    let mut checker = Checker::new(&header);
    let mut events = 0;
    for event in history(messages) {
        checker.observe(&event);
        events += 1;
    }
    let report = checker.finish();
    rate("check", events, start);
    assert_eq!(report.tally.delivered, 2 * (messages - messages / EPOCH), "{:#?}", report.findings);
    println!("peak memory: {}", peak_memory().unwrap_or_else(|| "unknown".to_owned()));
}

/// The most memory that this process has had resident.
fn peak_memory() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().to_owned())
}

fn measure() {
    let events: Vec<Event> = history(MESSAGES).collect();
    let header = Header { run: 1, ..Header::default() };
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut checker = Checker::new(&header);
        events.iter().for_each(|event| checker.observe(event));
        let report = checker.finish();
        rate("check", events.len(), start);
        assert_eq!(report.tally.delivered, 2 * (MESSAGES - MESSAGES / EPOCH), "{:#?}", report.findings);
    }
    let mut journal = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut writer = Writer::new(Vec::new(), &header).expect("a vector takes everything");
        for event in &events {
            writer.append(event).expect("a vector takes everything");
        }
        journal = writer.finish().expect("a vector takes everything");
        rate("write", events.len(), start);
    }
    println!("journal: {:.1} bytes an event", journal.len() as f64 / events.len() as f64);
    let start = Instant::now();
    let read = Reader::new(journal.as_slice()).expect("it was just written").filter(Result::is_ok).count();
    rate("read", read, start);
}

fn rate(what: &str, events: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    let (millions, each_ns) = (events as f64 / seconds / 1e6, seconds * 1e9 / events as f64);
    println!("{what}: {events} events in {seconds:.3} s, {millions:.2} M a second, {each_ns:.0} ns each");
}

/// PUBLISH and PUBACK of the publisher and of two subscribers.
const EVENTS_PER_MESSAGE: u64 = 6;

/// One publisher and two subscribers, QoS 1, a window of 100, a sentinel every [`EPOCH`] messages.
fn history(messages: u64) -> impl Iterator<Item = Event> {
    let topic: Arc<str> = "alerts/temperature_high".into();
    let mut start = vec![EventKind::GroupStarted { group: "bench".into(), version: Version::V5_0 }];
    for client in 0..3 {
        join(&mut start, client);
    }
    let end = EventKind::GroupEnded { group: "bench".into(), drained: true };
    let kinds = start.into_iter().chain((0..messages).flat_map(move |sequence| exchange(&topic, sequence)));
    let at = |(place, kind)| Event { at_ns: place as u64 * 10_000, kind };
    kinds.chain(std::iter::once(end)).enumerate().map(at)
}

fn exchange(topic: &Arc<str>, sequence: u64) -> [EventKind; EVENTS_PER_MESSAGE as usize] {
    let id = (sequence % 100 + 1) as u16;
    let publish = || Packet::Publish(publish(topic, id, sequence));
    let puback = || Packet::Puback(id, 0);
    [
        EventKind::Sent(ConnectionId(0), publish()),
        EventKind::Received(ConnectionId(0), puback()),
        EventKind::Received(ConnectionId(1), publish()),
        EventKind::Sent(ConnectionId(1), puback()),
        EventKind::Received(ConnectionId(2), publish()),
        EventKind::Sent(ConnectionId(2), puback()),
    ]
}

fn join(kinds: &mut Vec<EventKind>, client: u32) {
    let connection = ConnectionId(client);
    let name = format!("client-{client}").into();
    let connect = Connect { session_expiry: 3600, keep_alive: 60, ..Connect::default() };
    let connack = Connack::default();
    let filter = Filter {
        filter: "alerts/+".into(),
        qos: 1,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    };
    kinds.push(EventKind::Opened { connection, client: name, version: Version::V5_0, role: Role::Own });
    kinds.push(EventKind::Sent(connection, Packet::Connect(connect)));
    kinds.push(EventKind::Received(connection, Packet::Connack(connack)));
    if client > 0 {
        let subscribe = Subscribe { packet_id: 1, identifier: None, filters: vec![filter] };
        kinds.push(EventKind::Sent(connection, Packet::Subscribe(subscribe)));
        kinds.push(EventKind::Received(connection, Packet::Suback(1, vec![1])));
    }
}

fn publish(topic: &Arc<str>, packet_id: u16, sequence: u64) -> Publish {
    let message = MessageId { publisher: 1, stream: 1, sequence };
    let purpose = if sequence % EPOCH == EPOCH - 1 { Purpose::Sentinel } else { Purpose::Load };
    Publish {
        dup: false,
        qos: 1,
        retain: false,
        packet_id,
        topic: Arc::clone(topic),
        identity: Identity::Ours(Marker { run: 1, message, attempt: 0, qos: 1, purpose }),
        packet_len: 120,
        payload_len: 100,
        payload_crc: sequence as u32,
        properties: None,
        message_expiry: None,
        subscription_ids: Vec::new(),
        topic_alias: None,
    }
}
