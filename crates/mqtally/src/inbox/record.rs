//! One row of the inbox: its bytes, its checksum, and how it is read back.

use super::arrival::{Arrival, Lane};
pub(crate) use crate::store::properties::{decode as decode_properties, encode as encode_properties};
use bytes::Bytes;
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::packet::Qos;
use rusqlite::{Row, Statement};

/// The message's columns, in the order in which [`Record::read`] expects them and [`Record::insert`] binds them.
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
    pub(crate) properties: Vec<u8>,
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
            properties: encode_properties(&arrival.properties),
            topic: arrival.topic,
            payload: arrival.payload,
        }
    }
}

impl Record {
    /// Checksum of the row at `sequence`.
    pub(crate) fn crc(&self, sequence: u64) -> u32 {
        let key = self.key.as_deref().unwrap_or_default();
        let mut head = [0; 48];
        let fields = [
            sequence,
            self.received_at.as_ms(),
            u64::from(self.qos as u8) | u64::from(self.retain) << 8 | u64::from(self.replay) << 32,
            self.lane.map_or(0, |lane| lane.0),
            u64::from(self.lane.is_some()) | u64::from(self.key.is_some()) << 1 | (key.len() as u64) << 32,
            self.topic.len() as u64 | (self.properties.len() as u64) << 32,
        ];
        for (slot, field) in head.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&field.to_le_bytes());
        }
        let mut crc = crc32fast::Hasher::new();
        for part in [&head[..], key.as_bytes(), self.topic.as_bytes(), &self.properties, &self.payload] {
            crc.update(part);
        }
        crc.finalize()
    }

    /// Binds the columns to a statement's first parameters and runs it.
    pub(crate) fn insert(&self, statement: &mut Statement<'_>, sequence: u64) -> rusqlite::Result<usize> {
        statement.execute((
            sequence,
            self.crc(sequence),
            self.received_at.as_ms(),
            self.qos as u8,
            self.retain,
            self.replay,
            self.lane.map(|lane| lane.0.cast_signed()),
            self.key.as_deref(),
            &*self.topic,
            &self.properties,
            &*self.payload,
        ))
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
        let qos = match row.get(3)? {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            2 => Qos::ExactlyOnce,
            other => return Err(rusqlite::Error::IntegralValueOutOfRange(3, other)),
        };
        let record = Self {
            received_at: Time::from_ms(row.get(2)?),
            qos,
            retain: row.get(4)?,
            replay: row.get(5)?,
            lane: row.get::<_, Option<i64>>(6)?.map(|lane| Lane(lane.cast_unsigned())),
            key: row.get(7)?,
            topic: row.get_ref(8)?.as_str()?.into(),
            properties: row.get(9)?,
            payload: Bytes::copy_from_slice(row.get_ref(10)?.as_blob()?),
        };
        Ok((row.get(1)?, record))
    }
}

/// Checksum of a small row of numbers.
pub(crate) fn crc_of(values: &[u64]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    values.iter().for_each(|value| crc.update(&value.to_le_bytes()));
    crc.finalize()
}
