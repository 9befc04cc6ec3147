//! Messages as they are kept: many in one row, each with its own checksum.
//!
//! What was committed together lies together: a list of lengths and checksums with a checksum of its own, and the
//! messages behind it. So a damaged byte costs one message, or where it hits the list, those of its row. A pack never
//! changes.

use super::{Message, Stored, Uuid};
use crate::store::properties;
use bytes::Bytes;
use mqtally_proto::Time;
use mqtally_proto::packet::Qos;

/// Messages of one row at most, and the bytes from which on another row is begun.
pub(super) const PACK_MESSAGES_MAX: usize = 1_024;
pub(super) const PACK_BYTES: u64 = 256 * 1024;

/// Length and checksum of a message.
const SLOT_BYTES: usize = 8;
/// Id, time, flags, lengths of topic and properties.
const HEAD_BYTES: usize = 16 + 8 + 1 + 2 + 4;
const RETAIN: u8 = 0x80;

/// A message as it lies in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) seq: u64,
    pub(super) crc: u32,
    /// Empty where the list does not say where it lies.
    pub(super) body: &'a [u8],
}

/// What can be said of a message without its payload.
#[derive(Debug)]
pub(super) struct Head<'a> {
    pub(super) id: Uuid,
    created: Time,
    pub(super) qos: Qos,
    retain: bool,
    pub(super) topic: &'a str,
    properties: &'a [u8],
    payload: &'a [u8],
}

/// Puts the next `count` messages, from number `first` on, into `packed`, and nothing else.
pub(super) fn pack<'a>(
    first: u64,
    count: usize,
    messages: impl Iterator<Item = (Uuid, Time, &'a Message)>,
    packed: &mut Vec<u8>,
) {
    let list_bytes = count * SLOT_BYTES;
    packed.clear();
    packed.resize(list_bytes + 4, 0);
    for ((seq, slot), (id, created, message)) in (first..).zip(0..count).zip(messages) {
        let start = packed.len();
        append(packed, id, created, message);
        let length = ((packed.len() - start) as u32).to_le_bytes();
        let crc = checksum(seq, &packed[start..]).to_le_bytes();
        packed[slot * SLOT_BYTES..][..4].copy_from_slice(&length);
        packed[slot * SLOT_BYTES + 4..][..4].copy_from_slice(&crc);
    }
    let crc = checksum(first, &packed[..list_bytes]).to_le_bytes();
    packed[list_bytes..][..4].copy_from_slice(&crc);
}

fn append(packed: &mut Vec<u8>, id: Uuid, created: Time, message: &Message) {
    let Message { topic, payload, qos, retain, properties } = message;
    let properties = properties::encode(properties);
    packed.extend_from_slice(&id.0);
    packed.extend_from_slice(&created.as_ms().to_le_bytes());
    packed.push(*qos as u8 | if *retain { RETAIN } else { 0 });
    // A topic is at most 65,535 bytes long [MQTT-1.5.4-1].
    packed.extend_from_slice(&(topic.len() as u16).to_le_bytes());
    packed.extend_from_slice(&(properties.len() as u32).to_le_bytes());
    packed.extend_from_slice(topic.as_bytes());
    packed.extend_from_slice(&properties);
    packed.extend_from_slice(payload);
}

/// The `count` messages from number `first` on, in order; all without a body where the list is damaged.
pub(super) fn records(first: u64, count: u32, packed: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let (slots, mut bodies) = list(first, count, packed).unwrap_or_default();
    (first..).take(count as usize).enumerate().map(move |(at, seq)| {
        let (length, crc) = slots.get(at).map_or((0, 0), split_slot);
        let body = bodies.split_off(..length as usize).unwrap_or_default();
        Record { seq, crc, body }
    })
}

type List<'a> = (&'a [[u8; SLOT_BYTES]], &'a [u8]);

fn list(first: u64, count: u32, packed: &[u8]) -> Option<List<'_>> {
    let (list, rest) = packed.split_at_checked((count as usize).checked_mul(SLOT_BYTES)?)?;
    let (crc, bodies) = rest.split_first_chunk::<4>()?;
    (checksum(first, list) == u32::from_le_bytes(*crc)).then_some((list.as_chunks().0, bodies))
}

fn split_slot(slot: &[u8; SLOT_BYTES]) -> (u32, u32) {
    let both = u64::from_le_bytes(*slot);
    (both as u32, (both >> 32) as u32)
}

impl<'a> Record<'a> {
    /// The message, if its checksum holds.
    pub(super) fn stored(&self) -> Option<Stored> {
        let Head { id, created, qos, retain, topic, properties, payload } = self.head()?;
        let message = Message {
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload),
            qos,
            retain,
            properties: properties::decode(properties),
        };
        Some(Stored { seq: self.seq, id, created, message })
    }

    /// What it says of itself, if its checksum holds.
    pub(super) fn head(&self) -> Option<Head<'a>> {
        (checksum(self.seq, self.body) == self.crc).then_some(())?;
        let (head, mut rest) = self.body.split_first_chunk::<HEAD_BYTES>()?;
        let (id, head) = head.split_first_chunk()?;
        let (created_ms, head) = head.split_first_chunk()?;
        let [flags, topic_len @ .., p0, p1, p2, p3] = head else { return None };
        let topic_len = u16::from_le_bytes(topic_len.try_into().ok()?);
        let properties_len = u32::from_le_bytes([*p0, *p1, *p2, *p3]);
        Some(Head {
            id: Uuid(*id),
            created: Time::from_ms(u64::from_le_bytes(*created_ms)),
            qos: Qos::from_u8(flags & !RETAIN)?,
            retain: flags & RETAIN != 0,
            topic: std::str::from_utf8(rest.split_off(..usize::from(topic_len))?).ok()?,
            properties: rest.split_off(..properties_len as usize)?,
            payload: rest,
        })
    }
}

fn checksum(seq: u64, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&seq.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtally_proto::packet::{Properties, Property};

    fn messages() -> Vec<(Uuid, Time, Message)> {
        let properties = Properties(vec![Property::UserProperty("a".into(), "b".into())]);
        let retained =
            Message { retain: true, properties, ..Message::new("温度", "21.5", Qos::ExactlyOnce) };
        let plain = Message::new("a/b", vec![0; 300], Qos::AtLeastOnce);
        let empty = Message::new("c", "", Qos::AtMostOnce);
        let named = |(n, message)| (Uuid([n; 16]), Time::from_ms(u64::from(n)), message);
        (1..).zip([plain, retained, empty]).map(named).collect()
    }

    fn packed(first: u64) -> Vec<u8> {
        let mut packed = b"of the pack before".to_vec();
        pack(first, 3, messages().iter().map(|(id, created, message)| (*id, *created, message)), &mut packed);
        packed
    }

    fn unpacked(first: u64, packed: &[u8]) -> Vec<Option<Stored>> {
        records(first, 3, packed).map(|record| record.stored()).collect()
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let stored = |(seq, (id, created, message))| Some(Stored { seq, id, created, message });
        assert_eq!(unpacked(7, &packed(7)), (7..).zip(messages()).map(stored).collect::<Vec<_>>());
        assert_eq!(unpacked(8, &packed(7)), [None, None, None], "another place");
    }

    #[test]
    fn a_damaged_byte_costs_one_message_or_where_the_list_is_hit_all() {
        let whole = unpacked(7, &packed(7));
        for at in 0..packed(7).len() {
            let mut packed = packed(7);
            packed[at] ^= 0x10;
            let found = unpacked(7, &packed);
            let missing = found.iter().filter(|stored| stored.is_none()).count();
            assert_eq!(missing, if at < 3 * SLOT_BYTES + 4 { 3 } else { 1 }, "byte {at}");
            assert!(found.iter().zip(&whole).all(|(found, whole)| found.is_none() || found == whole));
        }
    }

    #[test]
    fn a_torn_pack_gives_what_is_there() {
        let packed = packed(7);
        for length in 0..packed.len() {
            let found = unpacked(7, &packed[..length]);
            assert!(found.len() == 3 && found[2].is_none(), "{length} bytes");
        }
    }
}
