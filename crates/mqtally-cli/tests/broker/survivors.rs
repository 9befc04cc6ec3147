//! Clients that keep their session state while the broker dies under them, and know what they are owed.

use crate::wire::{Wire, fleeting, persistent, publish, subscribe};
use mqtally_proto::packet::{Ack, Packet, Publish, Qos, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, Result};
use std::net::SocketAddr;
use std::sync::mpsc::Sender;

/// Messages that a publisher has unacknowledged.
const WINDOW: usize = 50;
/// Every this many messages one is published retained, on a topic of its own.
const RETAINED_EVERY: u64 = 10;

/// Publishes numbers from 1 on; its session and what is in flight outlive its connections.
pub(crate) struct Publisher {
    qos: Qos,
    last_number: u64,
    /// Messages in flight in the order of sending: packet id, the packet, and whether PUBREC came.
    in_flight: Vec<(u16, Publish, bool)>,
    last_packet_id: u16,
    /// Highest number that was acknowledged on the retained topic.
    retained: u64,
    connected_before: bool,
}

impl Publisher {
    pub(crate) fn new(qos: Qos) -> Self {
        let (in_flight, connected_before) = (Vec::new(), false);
        Self { qos, last_number: 0, in_flight, last_packet_id: 0, retained: 0, connected_before }
    }

    pub(crate) fn published(&self) -> u64 {
        self.last_number
    }

    pub(crate) fn topic(&self) -> String {
        format!("kill/{}", self.qos as u8)
    }

    /// Publishes until the connection breaks.
    pub(crate) fn run(&mut self, broker: SocketAddr, tick: &Sender<()>) {
        let Ok(mut wire) = self.resume(broker) else { return };
        while self.publish_more(&mut wire).and_then(|()| self.take_acks(&mut wire)).is_ok() {
            // Nobody counts any more once the broker is being killed.
            let _ = tick.send(());
        }
    }

    /// Brings everything in flight to its end.
    pub(crate) fn finish(&mut self, broker: SocketAddr) {
        let mut wire = self.resume(broker).expect("the broker is up");
        while !self.in_flight.is_empty() {
            self.take_acks(&mut wire).expect("everything in flight is acknowledged in the end");
        }
    }

    /// The retained message is the last acknowledged one or a later one.
    pub(crate) fn check_retained(&self, broker: SocketAddr) {
        let topic = format!("retained/{}", self.qos as u8);
        let (mut wire, _) = Wire::connect(broker, fleeting("retained", Version::V5_0)).expect("connected");
        wire.send(subscribe(1, &topic, Qos::AtMostOnce)).expect("sent");
        wire.receive().expect("SUBACK");
        let Packet::Publish(publish) = wire.receive().expect("the retained message") else {
            panic!("no PUBLISH")
        };
        assert!(publish.retain && number(&publish) >= self.retained, "{publish:?}, not {}", self.retained);
    }

    fn resume(&mut self, broker: SocketAddr) -> Result<Wire> {
        let id = format!("publisher-{}", self.qos as u8);
        let (mut wire, connack) = Wire::connect(broker, persistent(&id, Version::V5_0))?;
        assert!(connack.session_present || !self.connected_before, "the session of {id} is lost");
        self.connected_before = true;
        wire.send_all(self.in_flight.iter().map(|(id, publish, released)| match released {
            true => Packet::Pubrel(Ack::success(*id)),
            false => Packet::Publish(Publish { dup: true, ..publish.clone() }),
        }))?;
        Ok(wire)
    }

    fn publish_more(&mut self, wire: &mut Wire) -> Result<()> {
        let mut packets = Vec::new();
        while self.in_flight.len() < WINDOW {
            self.last_number += 1;
            self.last_packet_id = self.last_packet_id % 60_000 + 1;
            packets.push(self.enter(&self.topic(), self.last_packet_id, false));
            if self.last_number.is_multiple_of(RETAINED_EVERY) {
                self.last_packet_id = self.last_packet_id % 60_000 + 1;
                packets.push(self.enter(&format!("retained/{}", self.qos as u8), self.last_packet_id, true));
            }
        }
        wire.send_all(packets)
    }

    fn enter(&mut self, topic: &str, packet_id: u16, retain: bool) -> Packet {
        let text = self.last_number.to_string();
        let Packet::Publish(packet) = publish(packet_id, topic, self.qos, text.as_bytes()) else {
            unreachable!()
        };
        let packet = Publish { retain, ..packet };
        self.in_flight.push((packet_id, packet.clone(), false));
        Packet::Publish(packet)
    }

    /// Takes one packet and what was read with it.
    fn take_acks(&mut self, wire: &mut Wire) -> Result<()> {
        let mut next = Some(wire.receive()?);
        let mut answers = Vec::new();
        while let Some(packet) = next {
            match packet {
                Packet::Puback(ack) | Packet::Pubcomp(ack) => self.complete(ack.packet_id),
                Packet::Pubrec(ack) => {
                    let entry = self.in_flight.iter_mut().find(|(id, ..)| *id == ack.packet_id);
                    entry.expect("PUBREC answers a PUBLISH").2 = true;
                    answers.push(Packet::Pubrel(Ack::success(ack.packet_id)));
                }
                other => return Err(Error::other(format!("{other:?}"))),
            }
            next = wire.buffered()?;
        }
        wire.send_all(answers)
    }

    fn complete(&mut self, packet_id: u16) {
        let at = self.in_flight.iter().position(|(id, ..)| *id == packet_id);
        let (_, publish, _) =
            self.in_flight.remove(at.expect("an acknowledgement answers something in flight"));
        if publish.retain {
            self.retained = self.retained.max(number(&publish));
        }
    }
}

/// Receives at QoS 2 whatever is published below `kill/`.
pub(crate) struct Subscriber {
    version: Version,
    /// Every delivery to the application, by topic.
    delivered: BTreeMap<String, Vec<u64>>,
    /// PUBLISH came, our last acknowledgement of it may not have reached the broker: packet id, number.
    unsettled: BTreeMap<u16, u64>,
    /// QoS 2 packet ids delivered and not released.
    received: BTreeSet<u16>,
}

impl Subscriber {
    pub(crate) fn new(version: Version) -> Self {
        Self { version, delivered: BTreeMap::new(), unsettled: BTreeMap::new(), received: BTreeSet::new() }
    }

    pub(crate) fn subscribe(&mut self, broker: SocketAddr) {
        let (mut wire, _) = Wire::connect(broker, self.connect()).expect("connected");
        wire.send(subscribe(1, "kill/+", Qos::ExactlyOnce)).expect("sent");
        assert!(matches!(wire.receive(), Ok(Packet::Suback(_))));
    }

    /// Receives until the connection breaks.
    pub(crate) fn run(&mut self, broker: SocketAddr, tick: &Sender<()>) {
        let Ok(mut wire) = self.resume(broker) else { return };
        while self.take(&mut wire).is_ok() {
            let _ = tick.send(());
        }
    }

    /// Receives until everything has come, looks whether more comes, and checks what came.
    pub(crate) fn finish(&mut self, broker: SocketAddr, publishers: &[Publisher]) {
        let mut wire = self.resume(broker).expect("the broker is up");
        while !self.received.is_empty() || publishers.iter().any(|publisher| !self.has_last_of(publisher)) {
            self.take(&mut wire).unwrap_or_else(|error| panic!("{error}; {:?} unreleased", self.received));
        }
        wire.send(Packet::Pingreq).expect("sent");
        while self.take(&mut wire).expect("PINGRESP comes") {}
        for publisher in publishers {
            self.check(publisher);
        }
    }

    fn has_last_of(&self, publisher: &Publisher) -> bool {
        let delivered = self.delivered.get(&publisher.topic());
        delivered.is_some_and(|numbers| numbers.contains(&publisher.published()))
    }

    fn check(&self, publisher: &Publisher) {
        let delivered = &self.delivered[&publisher.topic()];
        let expected: Vec<u64> = (1..=publisher.published()).collect();
        if publisher.qos == Qos::ExactlyOnce {
            assert_eq!(*delivered, expected, "exactly once, in order");
        }
        let mut seen = BTreeSet::new();
        let first_copies: Vec<u64> =
            delivered.iter().copied().filter(|number| seen.insert(*number)).collect();
        assert_eq!(first_copies, expected, "nothing lost, first copies in order");
    }

    fn connect(&self) -> mqtally_proto::packet::Connect {
        persistent(&format!("subscriber-{:?}", self.version), self.version)
    }

    fn resume(&mut self, broker: SocketAddr) -> Result<Wire> {
        let (wire, connack) = Wire::connect(broker, self.connect())?;
        assert!(connack.session_present, "the session of {:?} is lost", self.version);
        Ok(wire)
    }

    /// Takes one packet and what was read with it; false when PINGRESP was among them.
    fn take(&mut self, wire: &mut Wire) -> Result<bool> {
        let mut next = Some(wire.receive()?);
        let (mut answers, mut more) = (Vec::new(), true);
        while let Some(packet) = next {
            match packet {
                Packet::Publish(publish) => answers.push(self.deliver(&publish)),
                Packet::Pubrel(ack) => {
                    self.received.remove(&ack.packet_id);
                    self.unsettled.remove(&ack.packet_id);
                    answers.push(Packet::Pubcomp(Ack::success(ack.packet_id)));
                }
                Packet::Pingresp => more = false,
                other => return Err(Error::other(format!("{other:?}"))),
            }
            next = wire.buffered()?;
        }
        wire.send_all(answers)?;
        Ok(more)
    }

    fn deliver(&mut self, publish: &Publish) -> Packet {
        let packet_id = publish.packet_id.expect("above QoS 0");
        let ack = Ack::success(packet_id);
        let number = number(publish);
        let known = publish.qos == Qos::ExactlyOnce && self.received.contains(&packet_id);
        if known {
            assert!(publish.dup, "{number} is sent again without DUP");
            assert_eq!(
                self.unsettled[&packet_id], number,
                "packet id {packet_id} is used again before its release"
            );
            return Packet::Pubrec(ack);
        }
        self.delivered.entry(publish.topic.to_string()).or_default().push(number);
        if publish.qos == Qos::AtLeastOnce {
            return Packet::Puback(ack);
        }
        self.received.insert(packet_id);
        self.unsettled.insert(packet_id, number);
        Packet::Pubrec(ack)
    }
}

fn number(publish: &Publish) -> u64 {
    std::str::from_utf8(&publish.payload).ok().and_then(|text| text.parse().ok()).expect("a number")
}
