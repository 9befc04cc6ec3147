//! A message as it is kept: its bytes in a row of the inbox, and its own row among the dead letters.

use super::arrival::{Arrival, Lane};
pub(crate) use crate::store::properties::{decode as decode_properties, encode as encode_properties};
use bytes::Bytes;
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::packet::Qos;
use rusqlite::Row;

/// A dead letter's message, in the order in which [`Record::read`] expects it.
pub(crate) const COLUMNS: &str =
    "seq, crc, received_ms, qos, retain, replay, lane, key, topic, props, payload";

/// A message as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) received_at: Time,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) replay: u32,
    pub(crate) lane: Option<Lane>,
    pub(crate) key: Option<String>,
    pub(crate) topic: ByteString,
    pub(crate) properties: Bytes,
    pub(crate) payload: Bytes,
}

impl From<Arrival> for Record {
    fn from(arrival: Arrival) -> Self {
        Self {
            received_at: arrival.received_at.min(Time::from_ms(i64::MAX as u64)),
            qos: arrival.qos,
            retain: arrival.retain,
            replay: arrival.replay,
            lane: arrival.lane,
            key: arrival.key.map(|key| key.text),
            properties: encode_properties(&arrival.properties).into(),
            topic: arrival.topic,
            payload: arrival.payload,
        }
    }
}

/// Time, lane, and the lengths of key, topic and properties with the small fields.
const HEAD_BYTES: usize = 5 * 8;

impl Record {
    /// A stand-in for a message that is damaged: the bytes that were found, to be looked at.
    pub(crate) fn damaged(found: Bytes) -> Self {
        Self {
            received_at: Time::default(),
            qos: Qos::AtMostOnce,
            retain: false,
            replay: 0,
            lane: None,
            key: None,
            topic: ByteString::new(),
            properties: Bytes::new(),
            payload: found,
        }
    }

    fn head(&self) -> [u8; HEAD_BYTES] {
        let key = self.key.as_deref().unwrap_or_default();
        let flags = self.qos as u8
            | u8::from(self.retain) << 2
            | u8::from(self.lane.is_some()) << 3
            | u8::from(self.key.is_some()) << 4;
        let fields = [
            self.received_at.as_ms(),
            self.lane.map_or(0, |lane| lane.0),
            u64::from(flags) | u64::from(self.replay) << 32,
            key.len() as u64,
            self.topic.len() as u64 | (self.properties.len() as u64) << 32,
        ];
        let mut head = [0; HEAD_BYTES];
        for (slot, field) in head.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        head
    }

    fn parts(&self) -> [&[u8]; 4] {
        [
            self.key.as_deref().unwrap_or_default().as_bytes(),
            self.topic.as_bytes(),
            &self.properties,
            &self.payload,
        ]
    }

    /// Appends the message to a row of the inbox.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.head());
        self.parts().into_iter().for_each(|part| bytes.extend_from_slice(part));
    }

    /// Reads what [`encode`](Self::encode) wrote; the parts share the row's bytes.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let field = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| head[at * 8 + byte]));
        let (flags, lengths) = (field(2) as u8, field(4));
        let mut rest = bytes.slice(HEAD_BYTES..);
        let mut part = |length: u64| {
            let length = usize::try_from(length).ok().filter(|length| *length <= rest.len())?;
            Some(rest.split_to(length))
        };
        let key = part(field(3))?;
        let topic = part(lengths & u64::from(u32::MAX))?;
        let properties = part(lengths >> 32)?;
        Some(Self {
            received_at: Time::from_ms(field(0)),
            qos: qos_of(flags & 3)?,
            retain: flags & 1 << 2 != 0,
            replay: (field(2) >> 32) as u32,
            lane: (flags & 1 << 3 != 0).then(|| Lane(field(1))),
            key: if flags & 1 << 4 == 0 { None } else { Some(str::from_utf8(&key).ok()?.to_owned()) },
            topic: ByteString::try_from(topic).ok()?,
            properties,
            payload: rest,
        })
    }

    /// Checksum of the dead letter with this number.
    pub(crate) fn crc(&self, sequence: u64) -> u32 {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&sequence.to_le_bytes());
        crc.update(&self.head());
        self.parts().into_iter().for_each(|part| crc.update(part));
        crc.finalize()
    }

    /// Reads a row that begins with [`COLUMNS`]: its number, and the record if its checksum holds.
    pub(crate) fn read(row: &Row<'_>) -> rusqlite::Result<(u64, Option<Self>)> {
        let sequence = row.get(0)?;
        Ok((
            sequence,
            Self::columns(row).ok().filter(|(crc, record)| record.crc(sequence) == *crc).map(|(_, r)| r),
        ))
    }

    fn columns(row: &Row<'_>) -> rusqlite::Result<(u32, Self)> {
        let qos = row.get(3)?;
        let record = Self {
            received_at: Time::from_ms(row.get(2)?),
            qos: qos_of(qos).ok_or(rusqlite::Error::IntegralValueOutOfRange(3, qos.into()))?,
            retain: row.get(4)?,
            replay: row.get(5)?,
            lane: row.get::<_, Option<i64>>(6)?.map(|lane| Lane(lane.cast_unsigned())),
            key: row.get(7)?,
            topic: row.get_ref(8)?.as_str()?.into(),
            properties: Bytes::copy_from_slice(row.get_ref(9)?.as_blob()?),
            payload: Bytes::copy_from_slice(row.get_ref(10)?.as_blob()?),
        };
        Ok((row.get(1)?, record))
    }
}

fn qos_of(number: u8) -> Option<Qos> {
    [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce].get(usize::from(number)).copied()
}

/// Checksum of a small row of numbers.
pub(crate) fn crc_of(values: &[u64]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    values.iter().for_each(|value| crc.update(&value.to_le_bytes()));
    crc.finalize()
}
