//! How fast a history is judged, and how large it is: `cargo bench -p mqtally-history`.

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

fn main() {
    let events = history();
    let header = Header { run: 1, ..Header::default() };
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut checker = Checker::new(&header);
        events.iter().for_each(|event| checker.observe(event));
        let report = checker.finish();
        rate("check", events.len(), start);
        assert_eq!(report.tally.delivered, 2 * MESSAGES, "{:#?}", report.findings);
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

/// One publisher and two subscribers, QoS 1, a window of 100.
fn history() -> Vec<Event> {
    let topic: Arc<str> = "alerts/temperature_high".into();
    let mut kinds = vec![EventKind::GroupStarted { group: "bench".into(), version: Version::V5_0 }];
    for client in 0..3 {
        join(&mut kinds, client);
    }
    for sequence in 0..MESSAGES {
        let id = (sequence % 100 + 1) as u16;
        let publish = Packet::Publish(publish(&topic, id, sequence));
        kinds.push(EventKind::Sent(ConnectionId(0), publish.clone()));
        kinds.push(EventKind::Received(ConnectionId(0), Packet::Puback(id, 0)));
        for subscriber in 1..3 {
            kinds.push(EventKind::Received(ConnectionId(subscriber), publish.clone()));
            kinds.push(EventKind::Sent(ConnectionId(subscriber), Packet::Puback(id, 0)));
        }
    }
    kinds.push(EventKind::GroupEnded { group: "bench".into(), drained: true });
    let at = |(place, kind)| Event { at_ns: place as u64 * 10_000, kind };
    kinds.into_iter().enumerate().map(at).collect()
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
    Publish {
        dup: false,
        qos: 1,
        retain: false,
        packet_id,
        topic: Arc::clone(topic),
        identity: Identity::Ours(Marker { run: 1, message, attempt: 0, qos: 1, purpose: Purpose::Load }),
        packet_len: 120,
        payload_len: 100,
        payload_crc: sequence as u32,
        properties: None,
        message_expiry: None,
        subscription_ids: Vec::new(),
        topic_alias: None,
    }
}
