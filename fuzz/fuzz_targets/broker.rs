//! Any sequence of connections, bytes, cuts, pauses and restarts: nothing panics, every packet sent can be written, and
//! the changes add up to the broker's state.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mqtally_proto::Time;
use mqtally_proto::broker::{Broker, Config, ConnectionId, Limits, Output, Stored};
use mqtally_proto::packet::{Decoder, Version, encode};
use std::collections::BTreeMap;

fuzz_target!(|bytes: &[u8]| {
    let mut bench = Bench::new();
    let mut rest = bytes;
    while let [act, count, tail @ ..] = rest {
        let (data, tail) = tail.split_at(tail.len().min(usize::from(*count)));
        bench.step(*act, data);
        bench.settle();
        rest = tail;
    }
});

struct Bench {
    broker: Broker,
    stored: Stored,
    now: Time,
    lines: BTreeMap<ConnectionId, (Decoder, BytesMut)>,
    opened: u64,
}

/// Small limits, so that they are reached.
fn config() -> Config {
    let limits = Limits {
        receive_maximum: 3,
        in_flight_max: 3,
        queued_messages_max: 4,
        sessions_max: 5,
        subscriptions_max: 6,
        retained_max: 3,
        ..Limits::default()
    };
    Config { limits, authenticate: false }
}

impl Bench {
    fn new() -> Self {
        let broker = Broker::new(config());
        Self { broker, stored: Stored::default(), now: Time::from_ms(0), lines: BTreeMap::new(), opened: 0 }
    }

    fn step(&mut self, act: u8, data: &[u8]) {
        let line = self.lines.keys().nth(usize::from(act >> 4) % self.lines.len().max(1)).copied();
        match (act & 15, line) {
            (0, _) => self.open(),
            (1, Some(line)) => {
                self.lines.remove(&line);
                self.broker.handle_closed(self.now, line);
            }
            (2, _) => {
                self.now = self.now.plus_secs(1 << (act >> 4));
                self.broker.handle_timeout(self.now);
            }
            (3, _) => {
                self.lines.clear();
                self.broker = Broker::restore(config(), self.stored.clone(), self.now);
            }
            (4, _) => self.broker.handle_shutdown(self.now),
            (_, Some(line)) => self.feed(line, data),
            (_, None) => {}
        }
    }

    fn open(&mut self) {
        self.opened += 1;
        let id = ConnectionId(self.opened);
        self.lines.insert(id, (Decoder::server(65_536), BytesMut::new()));
        self.broker.handle_opened(self.now, id);
    }

    fn feed(&mut self, id: ConnectionId, data: &[u8]) {
        let Some((decoder, buffer)) = self.lines.get_mut(&id) else { return };
        buffer.extend_from_slice(data);
        loop {
            match decoder.decode(buffer) {
                Ok(Some(packet)) => self.broker.handle_packet(self.now, id, packet),
                Ok(None) => break,
                Err(error) => {
                    self.broker.handle_malformed(self.now, id, &error);
                    break;
                }
            }
        }
    }

    fn settle(&mut self) {
        for change in self.broker.changes() {
            self.stored.apply(change);
        }
        assert_eq!(in_order(self.stored.clone()), self.broker.stored());
        for output in self.broker.outputs() {
            match output {
                Output::Send(id, packet) => {
                    let (decoder, _) = self.lines.get(&id).expect("an open connection");
                    let version = decoder.version().unwrap_or(Version::V3_1_1);
                    encode(&packet, version, &mut BytesMut::new()).expect("a packet that can be written");
                }
                Output::Close(id) => drop(self.lines.remove(&id)),
                Output::Authenticate(..) => unreachable!("not asked for"),
            }
        }
    }
}

/// The same in the order in which the broker gives it.
fn in_order(mut stored: Stored) -> Stored {
    stored.sessions.sort_by_key(|(session, ..)| session.id);
    for (_, subscriptions, _, received) in &mut stored.sessions {
        subscriptions.sort_by(|one, other| one.subscription.filter.cmp(&other.subscription.filter));
        received.sort_unstable();
    }
    stored.messages.sort_by_key(|(id, _)| *id);
    stored.retained.sort_by(|one, other| one.topic.cmp(&other.topic));
    stored
}
