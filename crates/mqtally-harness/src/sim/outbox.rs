//! A publisher's application and outbox: what it keeps until it is acknowledged.
//!
//! A model of `mqtally`'s outbox and publisher (which are SQLite, threads and tokio) around the real session: a message
//! is accepted when it is stored; a QoS 2 packet id is stored before its PUBLISH is written, and PUBREC before PUBREL;
//! what is acknowledged is settled. A crash keeps what the disk kept; a publisher without a store forgets.

use super::disk::{Disk, Store};
use super::plan::PublisherPlan;
use bytes::{BufMut, BytesMut};
use bytestring::ByteString;
use fastrand::Rng;
use mqtally_history::marker::{MARKER_LEN, Marker, MessageId, Purpose};
use mqtally_proto::inflight::Stage;
use mqtally_proto::packet::{Packet, Properties, Property, Publish, Qos, Version};
use mqtally_proto::session::Session;
use std::collections::{BTreeMap, VecDeque};

/// What the outbox holds.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    rows: BTreeMap<u64, Row>,
    /// QoS 2 messages whose packet id the broker may know, by row.
    flights: BTreeMap<u64, (u16, Stage)>,
    /// Which of the broker's sessions the packet ids belong to; 0 is none.
    epoch: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Row {
    number: u64,
    pub(super) id: MessageId,
    publish: Publish,
}

/// A step of a QoS 2 handshake that has to be on disk before it is on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    number: u64,
    packet_id: u16,
    stage: Stage,
}

#[derive(Debug)]
pub(super) enum Written {
    Inserted(Vec<Row>),
    Stepped { epoch: u64, steps: Vec<Step>, hold: u64 },
    Began { epoch: u64 },
    Settled(u64),
}

impl Store for Outbox {
    type Transaction = Written;

    fn apply(&mut self, written: &Written) {
        match written {
            Written::Inserted(rows) => {
                self.rows.extend(rows.iter().map(|row| (row.number, row.clone())));
            }
            Written::Stepped { epoch, steps, .. } => {
                self.begin(*epoch);
                for step in steps {
                    self.flights.insert(step.number, (step.packet_id, step.stage));
                }
            }
            Written::Began { epoch } => self.begin(*epoch),
            Written::Settled(number) => {
                self.rows.remove(number);
                self.flights.remove(number);
            }
        }
    }
}

impl Outbox {
    /// Packet ids of another session mean nothing.
    fn begin(&mut self, epoch: u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.flights.clear();
        }
    }
}

/// A topic at one QoS, with its messages numbered from 0.
#[derive(Debug)]
struct Stream {
    number: u16,
    topic: ByteString,
    qos: Qos,
    next: u64,
}

#[derive(Debug)]
pub(super) struct Publisher {
    version: Version,
    run: u32,
    /// As markers carry it: another one for each life without a store.
    publisher: u32,
    plan: PublisherPlan,
    streams: Vec<Stream>,
    pub(super) disk: Disk<Outbox>,
    /// Messages of the load that are still to be made.
    left: u32,
    next_number: u64,
    /// The epoch when this process began.
    epoch_base: u64,
    /// Stored, and not given to the session.
    waiting: VecDeque<Row>,
    /// Packets whose steps are being stored, and the number of that.
    held: Option<(u64, Vec<Packet>)>,
    holds: u64,
    /// Everything above QoS 0 that was accepted in this life of the store.
    pub(super) accepted: Vec<MessageId>,
}

impl Publisher {
    pub(super) fn new(plan: &PublisherPlan, version: Version, run: u32, publisher: u32) -> Self {
        let stream = |(number, (topic, qos)): (usize, &(ByteString, Qos))| Stream {
            number: u16::try_from(number).unwrap_or(u16::MAX),
            topic: topic.clone(),
            qos: *qos,
            next: 0,
        };
        Self {
            version,
            run,
            publisher,
            streams: plan.streams.iter().enumerate().map(stream).collect(),
            left: plan.messages,
            plan: plan.clone(),
            disk: Disk::default(),
            next_number: 0,
            epoch_base: 0,
            waiting: VecDeque::new(),
            held: None,
            holds: 0,
            accepted: Vec::new(),
        }
    }

    /// Whether the outbox knows of a session to resume.
    pub(super) fn resumes(&self) -> bool {
        self.disk.synced().epoch > 0
    }

    /// The process begins on what the disk kept: gives the session what was in flight, and lines up the rest.
    pub(super) fn restore(&mut self, session: &mut Session) {
        let outbox = self.disk.synced();
        self.epoch_base = outbox.epoch;
        self.held = None;
        self.waiting.clear();
        for (number, row) in &outbox.rows {
            match outbox.flights.get(number) {
                // An id that is taken twice was damaged on the disk, which this disk does not do.
                Some((packet_id, stage)) => {
                    drop(session.restore(*number, *packet_id, *stage, row.publish.clone()));
                }
                None => self.waiting.push_back(row.clone()),
            }
        }
    }

    /// The process died and left nothing: it is another publisher from here on.
    pub(super) fn forget(&mut self, publisher: u32) {
        let left = self.left;
        *self = Self { left, ..Self::new(&self.plan, self.version, self.run, publisher) };
    }

    /// Some messages of the load, to be stored; none when all are made.
    pub(super) fn burst(&mut self, random: &mut Rng) -> Vec<Row> {
        let count = random.u32(1..=self.plan.burst_max).min(self.left);
        self.left -= count;
        (0..count).map(|_| self.message(random, Purpose::Load)).collect()
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// The last message of each stream.
    pub(super) fn sentinels(&mut self, random: &mut Rng) -> Vec<(Row, ByteString)> {
        let streams = self.streams.len();
        let of_stream = |at: usize| {
            let row = self.message_of(at, random, Purpose::Sentinel);
            (row, self.streams[at].topic.clone())
        };
        (0..streams).map(of_stream).collect()
    }

    /// Nothing is stored, and nothing about to be.
    pub(super) fn is_settled(&self) -> bool {
        self.disk.synced().rows.is_empty() && self.disk.is_idle()
    }

    /// Rows became durable: they are accepted.
    pub(super) fn accept(&mut self, rows: Vec<Row>) {
        self.promise(&rows);
        self.waiting.extend(rows);
    }

    /// Says that these are safe. At QoS 0 that promises nothing.
    pub(super) fn promise(&mut self, rows: &[Row]) {
        let kept = rows.iter().filter(|row| row.publish.qos > Qos::AtMostOnce);
        self.accepted.extend(kept.map(|row| row.id));
    }

    /// Gives the session what it has room for. Returns what it will not take.
    pub(super) fn hand_on(&mut self, session: &mut Session) -> Vec<u64> {
        let mut refused = Vec::new();
        while let Some(row) = self.waiting.pop_front_if(|row| session.has_room(row.publish.qos)) {
            if session.publish(row.number, row.publish).is_err() {
                refused.push(row.number);
            }
        }
        refused
    }

    /// Holds packets back whose steps have to be stored first, and returns those steps.
    pub(super) fn hold(&mut self, packets: Vec<Packet>, session: &Session) -> Result<Written, Vec<Packet>> {
        let steps: Vec<Step> = packets.iter().filter_map(|packet| step_of(packet, session)).collect();
        if steps.is_empty() {
            return Err(packets);
        }
        self.holds += 1;
        self.held = Some((self.holds, packets));
        Ok(Written::Stepped { epoch: self.epoch(session), steps, hold: self.holds })
    }

    pub(super) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// What was held back, once its steps are stored.
    pub(super) fn release(&mut self, hold: u64) -> Vec<Packet> {
        self.held.take_if(|(number, _)| *number == hold).map(|(_, packets)| packets).unwrap_or_default()
    }

    /// The connection that held packets were for is gone.
    pub(super) fn drop_held(&mut self) {
        self.held = None;
    }

    /// The broker's session of now, counted over all lives of the process.
    pub(super) fn epoch(&self, session: &Session) -> u64 {
        self.epoch_base + session.begun()
    }

    fn message(&mut self, random: &mut Rng, purpose: Purpose) -> Row {
        let at = random.usize(..self.streams.len());
        self.message_of(at, random, purpose)
    }

    fn message_of(&mut self, at: usize, random: &mut Rng, purpose: Purpose) -> Row {
        let (publisher, stream) = (self.publisher, &mut self.streams[at]);
        let id = MessageId { publisher, stream: stream.number, sequence: stream.next };
        stream.next += 1;
        self.next_number += 1;
        let qos = stream.qos;
        let marker = Marker { run: self.run, message: id, attempt: 0, qos: qos.as_u8(), purpose };
        let load = purpose == Purpose::Load;
        let mut payload = BytesMut::from(marker.encode().as_slice());
        payload.put_bytes(b'.', body_len(random));
        let publish = Publish {
            qos,
            retain: load && self.plan.retains && random.u8(..4) == 0,
            topic: stream.topic.clone(),
            properties: if load { self.properties(random) } else { Properties::default() },
            payload: payload.freeze(),
            ..Publish::default()
        };
        Row { number: self.next_number, id, publish }
    }

    fn properties(&self, random: &mut Rng) -> Properties {
        let mut properties = Properties::default();
        if self.version == Version::V3_1_1 {
            return properties;
        }
        for number in 0..random.u8(..3) {
            properties.push(Property::UserProperty(format!("key-{number}").into(), "value".into()));
        }
        if random.u8(..8) == 0 {
            properties.push(Property::ContentType("text/plain".into()));
        }
        if self.plan.expires && random.u8(..4) == 0 {
            properties.push(Property::MessageExpiryInterval(random.u32(1..20)));
        }
        properties
    }
}

/// Mostly small; now and then more than one segment of a network.
fn body_len(random: &mut Rng) -> usize {
    if random.u8(..32) == 0 { random.usize(..4_000) } else { random.usize(..2 * MARKER_LEN) }
}

fn step_of(packet: &Packet, session: &Session) -> Option<Step> {
    let (packet_id, stage) = match packet {
        Packet::Publish(Publish { qos: Qos::ExactlyOnce, packet_id: Some(id), .. }) => {
            (*id, Stage::Published)
        }
        Packet::Pubrel(ack) => (ack.packet_id, Stage::Released),
        _ => return None,
    };
    Some(Step { number: session.token(packet_id)?, packet_id, stage })
}
