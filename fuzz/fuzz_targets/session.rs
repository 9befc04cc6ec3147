//! Any sequence of requests, bytes from a server, cuts and pauses: nothing panics, every packet sent can be written, no
//! accepted message is completed twice, and none is forgotten.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use mqtally_proto::Time;
use mqtally_proto::packet::{Decoder, Properties, Publish, Qos, ReasonCode, Subscription, Version, encode};
use mqtally_proto::session::{Acknowledge, Event, Options, Session};
use std::collections::BTreeSet;

fuzz_target!(|bytes: &[u8]| {
    let Some((settings, mut rest)) = bytes.split_first() else { return };
    let mut bench = Bench::new(*settings);
    while let [act, count, tail @ ..] = rest {
        let (data, tail) = tail.split_at(tail.len().min(usize::from(*count)));
        bench.step(*act, data);
        bench.settle();
        rest = tail;
    }
});

struct Bench {
    session: Session,
    version: Version,
    line: Option<(Decoder, BytesMut)>,
    now: Time,
    last_token: u64,
    /// Accepted above QoS 0 and not completed.
    owed: BTreeSet<u64>,
}

impl Bench {
    fn new(settings: u8) -> Self {
        let version = if settings & 1 == 0 { Version::V3_1_1 } else { Version::V5_0 };
        let mut options = Options::new(version, "fuzzed");
        options.clean_start = settings & 2 != 0;
        options.session_expiry_interval = 60;
        options.in_flight_max = 3;
        options.acknowledge = match settings >> 2 & 3 {
            0 => Acknowledge::Automatic,
            1 => Acknowledge::Manual,
            _ => Acknowledge::EveryStep,
        };
        let session = Session::new(options);
        Self { session, version, line: None, now: Time::from_ms(0), last_token: 0, owed: BTreeSet::new() }
    }

    fn step(&mut self, act: u8, data: &[u8]) {
        let packet_id = u16::from(act >> 4) + 1;
        match act & 15 {
            0 if self.line.is_none() => {
                self.line = Some((Decoder::client(self.version, 65_536), BytesMut::new()));
                self.session.handle_opened(self.now);
            }
            0 | 1 => self.cut(),
            2 => self.pass(1 << (act >> 4)),
            3..=5 => self.publish(Qos::from_u8((act & 15) - 3).unwrap_or_default(), data),
            6 => self.session.acknowledge(packet_id),
            7 => self.session.complete(packet_id),
            8 => drop(
                self.session
                    .subscribe(vec![Subscription::new("a/+", Qos::ExactlyOnce)], Properties::default()),
            ),
            9 => drop(self.session.unsubscribe(vec!["a/+".into()], Properties::default())),
            10 => self.session.disconnect(ReasonCode::SUCCESS, None),
            11 => self.session.set_clean_start(act >> 4 & 1 != 0),
            _ => self.feed(data),
        }
    }

    fn cut(&mut self) {
        if self.line.take().is_some() {
            self.session.handle_closed(self.now);
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus_secs(seconds);
        if self.session.handle_timeout(self.now).is_err() {
            self.cut();
        }
    }

    fn publish(&mut self, qos: Qos, payload: &[u8]) {
        self.last_token += 1;
        let payload = Bytes::copy_from_slice(payload);
        let publish = Publish { qos, topic: "a/b".into(), payload, ..Publish::default() };
        if self.session.publish(self.last_token, publish).is_ok() && qos > Qos::AtMostOnce {
            self.owed.insert(self.last_token);
        }
    }

    fn feed(&mut self, data: &[u8]) {
        let Some((decoder, buffer)) = &mut self.line else { return };
        buffer.extend_from_slice(data);
        loop {
            let handled = match decoder.decode(buffer) {
                Ok(Some(packet)) => self.session.handle_packet(self.now, packet).is_ok(),
                Ok(None) => return,
                Err(_) => false,
            };
            if !handled {
                return self.cut();
            }
        }
    }

    fn settle(&mut self) {
        while let Some(packet) = self.session.poll_transmit() {
            encode(&packet, self.version, &mut BytesMut::new()).expect("a packet that can be written");
        }
        while let Some(event) = self.session.poll_event() {
            if let Event::Completed { token, .. } = event {
                assert!(
                    self.owed.remove(&token) || token <= self.last_token,
                    "completed without having begun"
                );
            }
        }
        assert!(self.owed.len() <= self.session.in_flight(), "a message was forgotten: {:?}", self.owed);
    }
}
