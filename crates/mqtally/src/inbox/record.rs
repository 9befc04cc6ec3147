//! One row of the inbox: its bytes, its checksum, and how it is read back.

use super::arrival::{Arrival, Lane};
use bytes::Bytes;
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Property, Qos};
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

/// The properties that belong to the application, as bytes: identifier, length, value. The others end at this hop.
pub(crate) fn encode_properties(properties: &Properties) -> Vec<u8> {
    let mut bytes = Vec::new();
    for property in &properties.0 {
        match property {
            Property::PayloadFormatIndicator(value) => field(&mut bytes, 0x01, &[*value]),
            Property::MessageExpiryInterval(value) => field(&mut bytes, 0x02, &value.to_le_bytes()),
            Property::ContentType(text) => field(&mut bytes, 0x03, text.as_bytes()),
            Property::ResponseTopic(text) => field(&mut bytes, 0x08, text.as_bytes()),
            Property::CorrelationData(data) => field(&mut bytes, 0x09, data),
            Property::UserProperty(name, value) => {
                let length = (name.len() as u32).to_le_bytes();
                field(&mut bytes, 0x26, &[&length[..], name.as_bytes(), value.as_bytes()].concat());
            }
            _ => {}
        }
    }
    bytes
}

fn field(bytes: &mut Vec<u8>, identifier: u8, value: &[u8]) {
    bytes.push(identifier);
    bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    bytes.extend_from_slice(value);
}

/// Reads what [`encode_properties`] wrote; stops at anything else, which the row's checksum excludes.
pub(crate) fn decode_properties(mut bytes: &[u8]) -> Properties {
    let mut properties = Vec::new();
    while let Some((property, rest)) = decode_one(bytes) {
        properties.push(property);
        bytes = rest;
    }
    Properties(properties)
}

fn decode_one(bytes: &[u8]) -> Option<(Property, &[u8])> {
    let (identifier, rest) = bytes.split_first()?;
    let (value, rest) = sized(rest)?;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(ByteString::from);
    let property = match identifier {
        0x01 => Property::PayloadFormatIndicator(*value.first()?),
        0x02 => Property::MessageExpiryInterval(u32::from_le_bytes(value.try_into().ok()?)),
        0x03 => Property::ContentType(text(value)?),
        0x08 => Property::ResponseTopic(text(value)?),
        0x09 => Property::CorrelationData(Bytes::copy_from_slice(value)),
        0x26 => {
            let (name, value) = sized(value)?;
            Property::UserProperty(text(name)?, text(value)?)
        }
        _ => return None,
    };
    Some((property, rest))
}

fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_applications_properties_come_back_and_the_hops_do_not() {
        let application = vec![
            Property::UserProperty("a".into(), "1".into()),
            Property::ContentType("text/plain".into()),
            Property::UserProperty("a".into(), "".into()),
            Property::CorrelationData(Bytes::from_static(b"\0\xff")),
            Property::MessageExpiryInterval(70_000),
            Property::PayloadFormatIndicator(1),
            Property::ResponseTopic("r".into()),
        ];
        let mut all = application.clone();
        all.insert(2, Property::TopicAlias(7));
        all.push(Property::SubscriptionIdentifier(3));
        assert_eq!(decode_properties(&encode_properties(&Properties(all))), Properties(application));
        assert_eq!(encode_properties(&Properties::default()), b"");
    }

    #[test]
    fn any_cut_of_the_bytes_is_survived() {
        let bytes =
            encode_properties(&Properties(vec![Property::UserProperty("name".into(), "value".into()); 2]));
        for end in 0..bytes.len() {
            assert!(decode_properties(&bytes[..end]).0.len() < 2);
        }
    }
}
