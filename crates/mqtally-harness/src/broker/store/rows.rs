//! Rows as bytes. Every body begins with a CRC-32 over its table, its keys and what follows.
//!
//! SQLite does not notice a flipped bit inside a row; this does.

use super::properties;
use bytes::Bytes;
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::broker::{
    Message, MessageId, Phase, SessionId, StoredDelivery, StoredSession, StoredSubscription,
};
use mqtally_proto::packet::{Qos, RetainHandling, Subscription, Version, Will};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// Which table a body belongs to, so that no body passes for one of another table.
#[derive(Debug, Clone, Copy)]
pub(super) enum Table {
    Session = 1,
    Subscription = 2,
    Delivery = 3,
    Flow = 4,
    Message = 5,
    Retained = 6,
}

/// The flow state of every session that has any.
pub(super) type Flows = FxHashMap<SessionId, Flow>;

/// What changes most often of a session: bounded by its windows, so it is one small row, written once a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    /// Inbound QoS 2 packet ids.
    pub(super) received: BTreeSet<u16>,
    /// Phases of the deliveries in flight by sequence; one that is not here is queued.
    pub(super) phases: BTreeMap<u64, Phase>,
}

impl Flow {
    pub(super) fn set_phase(&mut self, sequence: u64, phase: Phase) {
        match phase {
            Phase::Queued => self.phases.remove(&sequence),
            Phase::Published(_) | Phase::Released(_) => self.phases.insert(sequence, phase),
        };
    }

    pub(super) fn is_empty(&self) -> bool {
        self.received.is_empty() && self.phases.is_empty()
    }
}

/// A row's body while it is written; kept for the next row.
#[derive(Debug, Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn session(&mut self, row: &StoredSession) -> &[u8] {
        self.start();
        self.text(&row.client_id);
        self.u8(match row.version {
            Version::V3_1_1 => 4,
            Version::V5_0 => 5,
        });
        self.u32(row.expiry_interval);
        self.time(row.disconnected_at);
        self.u8(u8::from(row.will.is_some()));
        if let Some(will) = &row.will {
            self.text(&will.topic);
            self.bytes(&will.payload);
            self.u8(will.qos as u8 | u8::from(will.retain) << 2);
            properties::write(self, &will.properties);
        }
        self.seal(Table::Session, &[&row.id.0.to_le_bytes()])
    }

    pub(super) fn subscription(&mut self, session: SessionId, row: &StoredSubscription) -> &[u8] {
        let subscription = &row.subscription;
        self.start();
        self.u8(subscription.qos as u8
            | u8::from(subscription.no_local) << 2
            | u8::from(subscription.retain_as_published) << 3
            | (subscription.retain_handling as u8) << 4);
        self.u32(row.identifier.unwrap_or(0));
        self.seal(Table::Subscription, &[&session.0.to_le_bytes(), subscription.filter.as_bytes()])
    }

    pub(super) fn delivery(&mut self, session: SessionId, row: &StoredDelivery) -> &[u8] {
        self.start();
        self.u64(row.message.0);
        self.u8(row.qos as u8 | u8::from(row.retain) << 2);
        row.subscription_ids.iter().for_each(|id| self.u32(*id));
        self.seal(Table::Delivery, &[&session.0.to_le_bytes(), &row.sequence.to_le_bytes()])
    }

    pub(super) fn flow(&mut self, session: SessionId, flow: &Flow) -> &[u8] {
        self.start();
        self.varint(flow.received.len() as u64);
        flow.received.iter().for_each(|id| self.u16(*id));
        let mut last = 0;
        for (&sequence, &phase) in &flow.phases {
            let (released, packet_id) = match phase {
                Phase::Queued => continue,
                Phase::Published(packet_id) => (0, packet_id),
                Phase::Released(packet_id) => (1, packet_id),
            };
            self.varint((sequence - last) << 1 | released);
            self.u16(packet_id);
            last = sequence;
        }
        self.seal(Table::Flow, &[&session.0.to_le_bytes()])
    }

    pub(super) fn message(&mut self, id: MessageId, message: &Message) -> &[u8] {
        self.message_fields(message);
        self.seal(Table::Message, &[&id.0.to_le_bytes(), message.topic.as_bytes(), &message.payload])
    }

    pub(super) fn retained(&mut self, message: &Message) -> &[u8] {
        self.message_fields(message);
        self.seal(Table::Retained, &[message.topic.as_bytes(), &message.payload])
    }

    fn message_fields(&mut self, message: &Message) {
        self.start();
        self.u8(message.qos as u8 | u8::from(message.retain) << 2);
        self.time(message.expires_at);
        self.text(&message.publisher);
        properties::write(self, &message.properties);
    }

    fn start(&mut self) {
        self.0.clear();
        self.0.extend_from_slice(&[0; 4]);
    }

    fn seal(&mut self, table: Table, keys: &[&[u8]]) -> &[u8] {
        let crc = checksum(table, keys, &self.0[4..]);
        self.0[..4].copy_from_slice(&crc.to_le_bytes());
        &self.0
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn time(&mut self, time: Option<Time>) {
        self.u64(time.map_or(u64::MAX, Time::as_ms));
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, value: &ByteString) {
        self.bytes(value.as_bytes());
    }
}

/// A row's body while it is read; `None` where it does not hold what it should.
#[derive(Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn open(table: Table, keys: &[&[u8]], body: &'a [u8]) -> Option<Self> {
        let (crc, fields) = body.split_first_chunk::<4>()?;
        (*crc == checksum(table, keys, fields).to_le_bytes()).then_some(Self(fields))
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.chunk().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.chunk().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn time(&mut self) -> Option<Option<Time>> {
        self.u64().map(|ms| (ms != u64::MAX).then(|| Time::from_ms(ms)))
    }

    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.varint()?).ok()?;
        self.take(length).map(Bytes::copy_from_slice)
    }

    pub(super) fn text(&mut self) -> Option<ByteString> {
        ByteString::try_from(self.bytes()?).ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}

pub(super) fn read_session(id: SessionId, body: &[u8]) -> Option<StoredSession> {
    let mut reader = Reader::open(Table::Session, &[&id.0.to_le_bytes()], body)?;
    Some(StoredSession {
        id,
        client_id: reader.text()?,
        version: match reader.u8()? {
            4 => Version::V3_1_1,
            5 => Version::V5_0,
            _ => return None,
        },
        expiry_interval: reader.u32()?,
        disconnected_at: reader.time()?,
        will: match reader.u8()? {
            0 => None,
            _ => Some(read_will(&mut reader)?),
        },
    })
}

fn read_will(reader: &mut Reader<'_>) -> Option<Will> {
    let (topic, payload) = (reader.text()?, reader.bytes()?);
    let flags = reader.u8()?;
    let properties = properties::read(reader)?;
    Some(Will { topic, payload, qos: Qos::from_u8(flags & 3)?, retain: flags & 4 != 0, properties })
}

pub(super) fn read_subscription(
    session: SessionId,
    filter: String,
    body: &[u8],
) -> Option<StoredSubscription> {
    let keys: [&[u8]; 2] = [&session.0.to_le_bytes(), filter.as_bytes()];
    let mut reader = Reader::open(Table::Subscription, &keys, body)?;
    let flags = reader.u8()?;
    let identifier = reader.u32()?;
    let subscription = Subscription {
        filter: filter.into(),
        qos: Qos::from_u8(flags & 3)?,
        no_local: flags & 4 != 0,
        retain_as_published: flags & 8 != 0,
        retain_handling: match flags >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        },
    };
    Some(StoredSubscription { subscription, identifier: (identifier != 0).then_some(identifier) })
}

pub(super) fn read_delivery(session: SessionId, sequence: u64, body: &[u8]) -> Option<StoredDelivery> {
    let keys: [&[u8]; 2] = [&session.0.to_le_bytes(), &sequence.to_le_bytes()];
    let mut reader = Reader::open(Table::Delivery, &keys, body)?;
    let message = MessageId(reader.u64()?);
    let flags = reader.u8()?;
    let mut subscription_ids = Vec::new();
    while let Some(id) = reader.u32() {
        subscription_ids.push(id);
    }
    let (qos, retain) = (Qos::from_u8(flags & 3)?, flags & 4 != 0);
    Some(StoredDelivery { sequence, message, qos, retain, subscription_ids, phase: Phase::Queued })
}

pub(super) fn read_flow(session: SessionId, body: &[u8]) -> Option<Flow> {
    let mut reader = Reader::open(Table::Flow, &[&session.0.to_le_bytes()], body)?;
    let mut flow = Flow::default();
    for _ in 0..reader.varint()? {
        flow.received.insert(reader.u16()?);
    }
    let mut sequence = 0;
    while let Some(step) = reader.varint() {
        sequence += step >> 1;
        let packet_id = reader.u16()?;
        let phase = if step & 1 == 0 { Phase::Published(packet_id) } else { Phase::Released(packet_id) };
        flow.phases.insert(sequence, phase);
    }
    Some(flow)
}

pub(super) fn read_message(id: MessageId, topic: String, payload: Vec<u8>, body: &[u8]) -> Option<Message> {
    let reader = Reader::open(Table::Message, &[&id.0.to_le_bytes(), topic.as_bytes(), &payload], body)?;
    read_message_fields(reader, topic, payload)
}

pub(super) fn read_retained(topic: String, payload: Vec<u8>, body: &[u8]) -> Option<Message> {
    let reader = Reader::open(Table::Retained, &[topic.as_bytes(), &payload], body)?;
    read_message_fields(reader, topic, payload)
}

fn read_message_fields(mut reader: Reader<'_>, topic: String, payload: Vec<u8>) -> Option<Message> {
    let flags = reader.u8()?;
    Some(Message {
        topic: topic.into(),
        payload: payload.into(),
        qos: Qos::from_u8(flags & 3)?,
        retain: flags & 4 != 0,
        expires_at: reader.time()?,
        publisher: reader.text()?,
        properties: properties::read(&mut reader)?,
    })
}

fn checksum(table: Table, keys: &[&[u8]], fields: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[table as u8]);
    keys.iter().for_each(|key| hasher.update(key));
    hasher.update(fields);
    hasher.finalize()
}
