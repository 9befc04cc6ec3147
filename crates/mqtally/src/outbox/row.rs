//! A message as it is kept: one row that never changes, with a checksum over all of it.

use super::Uuid;
use crate::store::properties;
use bytes::Bytes;
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Qos};
use rusqlite::{Row, Statement};

/// A message to be published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Topic name: no wildcards.
    pub topic: ByteString,
    /// What is said.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// 5.0 properties that belong to the application; 3.1.1 has none and sends none.
    pub properties: Properties,
}

/// What a message counts in [`Settings::bytes_max`](super::Settings::bytes_max) beside its own bytes.
const OVERHEAD_BYTES: u64 = 64;

impl Message {
    /// A message without properties that is not retained.
    pub fn new(topic: impl Into<ByteString>, payload: impl Into<Bytes>, qos: Qos) -> Self {
        Self { topic: topic.into(), payload: payload.into(), qos, ..Self::default() }
    }

    /// Bytes that the message takes in an outbox, about.
    pub(crate) fn size(&self) -> u64 {
        OVERHEAD_BYTES + self.topic.len() as u64 + self.payload.len() as u64
    }
}

/// A message with its place and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Place in the order of publishing; never used twice in one outbox.
    pub seq: u64,
    /// Name.
    pub id: Uuid,
    /// When it was published.
    pub created: Time,
    /// The message itself.
    pub message: Message,
}

pub(super) const COLUMNS: &str = "seq, crc, msg_id, created_ms, qos, retain, topic, props, payload";

pub(super) fn insert(
    statement: &mut Statement<'_>,
    seq: u64,
    id: Uuid,
    created: Time,
    message: &Message,
) -> rusqlite::Result<()> {
    let props = properties::encode(&message.properties);
    let crc = crc(seq, id, created, message, &props);
    let Message { topic, payload, qos, retain, .. } = message;
    let created = created.as_ms();
    statement.execute((seq, crc, id.0, created, *qos as u8, retain, &**topic, &props, &**payload))?;
    Ok(())
}

/// Reads a row that begins with [`COLUMNS`]: its number, and the message if the checksum holds.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<(u64, Option<Stored>)> {
    Ok((row.get(0)?, columns(row).ok().flatten()))
}

fn columns(row: &Row<'_>) -> rusqlite::Result<Option<Stored>> {
    let (seq, created) = (row.get(0)?, Time::from_ms(row.get(3)?));
    let id = Uuid(row.get(2)?);
    let props = row.get_ref(7)?.as_blob()?;
    let message = Message {
        topic: row.get_ref(6)?.as_str()?.into(),
        payload: Bytes::copy_from_slice(row.get_ref(8)?.as_blob()?),
        qos: Qos::from_u8(row.get(4)?).unwrap_or_default(),
        retain: row.get(5)?,
        properties: properties::decode(props),
    };
    let whole = row.get::<_, u32>(1)? == crc(seq, id, created, &message, props);
    Ok(whole.then_some(Stored { seq, id, created, message }))
}

fn crc(seq: u64, id: Uuid, created: Time, message: &Message, props: &[u8]) -> u32 {
    let lengths = message.topic.len() as u64 | (props.len() as u64) << 32;
    let flags = u64::from(message.qos as u8) | u64::from(message.retain) << 8;
    let mut head = [0; 48];
    head[..16].copy_from_slice(&id.0);
    for (slot, field) in head[16..].chunks_exact_mut(8).zip([seq, created.as_ms(), flags, lengths]) {
        slot.copy_from_slice(&field.to_le_bytes());
    }
    let mut crc = crc32fast::Hasher::new();
    for part in [&head[..], message.topic.as_bytes(), props, &message.payload] {
        crc.update(part);
    }
    crc.finalize()
}
