//! The bytes of a row of the inbox: messages that arrived together. Pure.
//!
//! First the messages one behind the other, then an entry a message (where it ends, its checksum), then the checksum of
//! the entries. A damaged message costs itself; damaged entries cost the row, because nothing tells its messages apart.

use super::record::Record;
use bytes::Bytes;

/// A row that has this many bytes takes no further message. Reading one message reads its row.
const BYTES_MAX: usize = 64 << 10;
/// A row holds no more messages.
pub(super) const MESSAGES_MAX: usize = 1_024;
const ENTRY_BYTES: usize = 8;
const CRC_BYTES: usize = 4;

/// A row that is being filled.
#[derive(Debug, Default)]
pub(super) struct Pack {
    first: u64,
    bytes: Vec<u8>,
    entries: Vec<u8>,
}

/// A row that was sealed.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    first: u64,
    count: usize,
    bytes: Bytes,
    /// Where the entries begin; absent when they are damaged.
    entries: Option<usize>,
}

impl Pack {
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn count(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }

    /// Whether the message with this number can be put behind the others.
    pub(super) fn takes(&self, sequence: u64) -> bool {
        let count = self.count();
        count == 0 || (self.first + count as u64 == sequence && !self.is_full(count))
    }

    fn is_full(&self, count: usize) -> bool {
        count == MESSAGES_MAX || self.bytes.len() >= BYTES_MAX
    }

    pub(super) fn push(&mut self, sequence: u64, record: &Record) {
        if self.count() == 0 {
            self.first = sequence;
        }
        let start = self.bytes.len();
        record.encode(&mut self.bytes);
        let crc = crc(sequence, &self.bytes[start..]);
        self.entries.extend_from_slice(&(self.bytes.len() as u32).to_le_bytes());
        self.entries.extend_from_slice(&crc.to_le_bytes());
    }

    /// Ends the row; the next one is empty.
    pub(super) fn seal(&mut self) -> Packed {
        let (first, count, start) = (self.first, self.count(), self.bytes.len());
        self.bytes.extend_from_slice(&self.entries);
        self.bytes.extend_from_slice(&crc(first, &self.entries).to_le_bytes());
        let bytes = Bytes::copy_from_slice(&self.bytes);
        self.bytes.clear();
        self.bytes.shrink_to(2 * BYTES_MAX);
        self.entries.clear();
        Packed { first, count, bytes, entries: Some(start) }
    }
}

impl Packed {
    /// A row as it was read.
    pub(super) fn read(first: u64, count: usize, bytes: Bytes) -> Self {
        let entries = checked_entries(first, count, &bytes);
        Self { first, count, bytes, entries }
    }

    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The message with this number; where it is not what was written, the bytes that were found. Those of a row that
    /// cannot be taken apart are its first message's.
    pub(super) fn message(&self, sequence: u64) -> Result<Record, Bytes> {
        let Some((range, stored)) = self.place(sequence) else {
            return Err(if sequence == self.first { self.bytes.clone() } else { Bytes::new() });
        };
        let bytes = self.bytes.slice(range);
        let record = (crc(sequence, &bytes) == stored).then(|| Record::decode(&bytes)).flatten();
        record.ok_or(bytes)
    }

    fn place(&self, sequence: u64) -> Option<(std::ops::Range<usize>, u32)> {
        let entries = self.entries?;
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok().filter(|at| *at < self.count)?;
        let number = |at: usize| {
            let bytes = self.bytes.get(entries + at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let start = if at == 0 { 0 } else { number((at - 1) * ENTRY_BYTES)? as usize };
        let end = number(at * ENTRY_BYTES)? as usize;
        (start <= end && end <= entries).then_some((start..end, number(at * ENTRY_BYTES + 4)?))
    }
}

fn checked_entries(first: u64, count: usize, bytes: &[u8]) -> Option<usize> {
    let (rest, stored) = bytes.split_last_chunk::<CRC_BYTES>()?;
    let start = rest.len().checked_sub(count.checked_mul(ENTRY_BYTES)?)?;
    (crc(first, &rest[start..]) == u32::from_le_bytes(*stored)).then_some(start)
}

/// Checksum of bytes in their place: those of another message or row are damage.
pub(super) fn crc(number: u64, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::super::arrival::Lane;
    use super::*;
    use mqtally_proto::Time;
    use mqtally_proto::packet::Qos;

    fn record(n: u64) -> Record {
        Record {
            received_at: Time::from_ms(n * 1_000),
            qos: [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][(n % 3) as usize],
            retain: !n.is_multiple_of(2),
            replay: n as u32,
            lane: (!n.is_multiple_of(4)).then_some(Lane(u64::MAX - n)),
            key: (!n.is_multiple_of(3)).then(|| "k".repeat(n as usize)),
            topic: format!("t/{n}").into(),
            properties: vec![7; n as usize].into(),
            payload: vec![n as u8; 3 * n as usize].into(),
        }
    }

    fn packed(count: u64) -> Packed {
        let mut pack = Pack::default();
        (50..50 + count).for_each(|sequence| pack.push(sequence, &record(sequence - 50)));
        pack.seal()
    }

    #[test]
    fn what_is_read_is_what_was_packed() {
        let sealed = packed(12);
        let read = Packed::read(50, 12, sealed.bytes().clone());
        for sequence in 50..62 {
            assert_eq!(read.message(sequence), Ok(record(sequence - 50)));
            assert_eq!(sealed.message(sequence), Ok(record(sequence - 50)));
        }
        assert!(read.message(49).is_err() && read.message(62).is_err());
    }

    #[test]
    fn a_flipped_bit_costs_one_message_or_all_and_never_changes_one() {
        let sealed = packed(5);
        for bit in 0..sealed.bytes().len() * 8 {
            let mut bytes = sealed.bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = Packed::read(50, 5, bytes.into());
            let whole: Vec<_> =
                (50..55).filter(|sequence| read.message(*sequence) == Ok(record(sequence - 50))).collect();
            let changed = (50..55).filter(|sequence| read.message(*sequence).is_ok()).count();
            assert!(whole.len() == changed && (whole.len() == 4 || whole.is_empty()), "bit {bit}");
        }
        for (first, count) in [(51, 5), (50, 4), (50, 6), (50, usize::MAX)] {
            assert!(Packed::read(first, count, sealed.bytes().clone()).message(52).is_err());
        }
    }

    #[test]
    fn a_row_ends_where_the_numbers_do_or_when_it_is_full() {
        let mut pack = Pack::default();
        assert!(pack.takes(7));
        pack.push(7, &record(1));
        assert!(pack.takes(8) && !pack.takes(9));
        pack.push(8, &Record { payload: vec![0; BYTES_MAX].into(), ..record(1) });
        assert!(!pack.takes(9));
        assert_eq!((pack.seal().count(), pack.count()), (2, 0));
        (0..MESSAGES_MAX as u64).for_each(|sequence| pack.push(sequence, &record(0)));
        assert!(!pack.takes(MESSAGES_MAX as u64));
    }
}
