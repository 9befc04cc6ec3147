//! Ids of messages that left the outbox, so that both ends can be compared.
//!
//! A row of `settled` holds what one commit settled, in that order, with the names of its topics once each and a
//! checksum. It is written in the transaction that lets go of the messages. Rows are dropped whole when they are too many
//! or too old; nothing else has to be forgotten with them.

use super::Uuid;
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::packet::Qos;
use rusqlite::{Connection, Transaction};
use rustc_hash::FxHashMap;

pub(super) const SCHEMA: &str = "
    CREATE TABLE settled(first INTEGER PRIMARY KEY, settled_ms INTEGER NOT NULL, packed BLOB NOT NULL);";

/// Ids of settled messages that an outbox remembers at most.
pub const SETTLED_IDS_MAX: u64 = 1_000_000;
/// How long it remembers them: as long as an inbox does by default. By the wall clock; one that leaps makes it forget.
pub const SETTLED_AGE_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1_000;

/// Ids of one row; the number of a topic within it takes two bytes.
const ROW_IDS_MAX: usize = 1_024;
/// Rows that one commit drops because of their age.
const AGED_ROWS_MAX: u32 = 64;
const ENTRY_BYTES: usize = 27;

/// A message that left the outbox because it was delivered, or at QoS 0 sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) id: Uuid,
    pub(super) seq: u64,
    pub(super) topic: ByteString,
    pub(super) qos: Qos,
}

/// Remembers these, after the `before` that were settled before them, and forgets what is too old.
pub(super) fn append(
    transaction: &Transaction<'_>,
    before: u64,
    now: Time,
    settled: &[Settled],
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO settled(first, settled_ms, packed) VALUES (?1, ?2, ?3)";
    let mut insert = transaction.prepare_cached(sql)?;
    let firsts = (before..).step_by(ROW_IDS_MAX);
    for (first, row) in firsts.zip(settled.chunks(ROW_IDS_MAX)) {
        insert.execute((first, now.as_ms(), pack(first, row)))?;
    }
    forget(transaction, before + settled.len() as u64, now)
}

fn forget(transaction: &Transaction<'_>, next: u64, now: Time) -> rusqlite::Result<()> {
    let too_many = next.saturating_sub(SETTLED_IDS_MAX);
    transaction.prepare_cached("DELETE FROM settled WHERE first < ?1")?.execute([too_many])?;
    let too_old = now.as_ms().saturating_sub(SETTLED_AGE_MS_MAX);
    let sql = "DELETE FROM settled WHERE settled_ms < ?1
               AND first IN (SELECT first FROM settled ORDER BY first LIMIT ?2)";
    transaction.prepare_cached(sql)?.execute((too_old, AGED_ROWS_MAX)).map(|_| ())
}

/// All that is remembered, in the order of settling, each with its place in it. A damaged row is left out.
pub(super) fn each(connection: &Connection, mut each: impl FnMut(u64, Settled)) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT first, packed FROM settled ORDER BY first")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let first: u64 = row.get(0)?;
        let settled = row.get_ref(1)?.as_blob().ok().and_then(|packed| unpack(first, packed));
        (first..).zip(settled.unwrap_or_default()).for_each(|(place, settled)| each(place, settled));
    }
    Ok(())
}

fn pack(first: u64, settled: &[Settled]) -> Vec<u8> {
    let (mut numbers, mut names) = (FxHashMap::default(), Vec::new());
    let mut entries = Vec::with_capacity(settled.len() * ENTRY_BYTES);
    for Settled { id, seq, topic, qos } in settled {
        let number = *numbers.entry(topic).or_insert_with(|| {
            names.push(topic);
            names.len() as u16 - 1
        });
        entries.extend_from_slice(&id.0);
        entries.extend_from_slice(&seq.to_le_bytes());
        entries.extend_from_slice(&number.to_le_bytes());
        entries.push(*qos as u8);
    }
    let mut packed = (names.len() as u16).to_le_bytes().to_vec();
    for name in names {
        // A topic is at most 65,535 bytes long [MQTT-1.5.4-1].
        packed.extend_from_slice(&(name.len() as u16).to_le_bytes());
        packed.extend_from_slice(name.as_bytes());
    }
    packed.append(&mut entries);
    let crc = checksum(first, &packed);
    packed.extend_from_slice(&crc.to_le_bytes());
    packed
}

fn unpack(first: u64, packed: &[u8]) -> Option<Vec<Settled>> {
    let (mut body, crc) = packed.split_last_chunk::<4>()?;
    (checksum(first, body) == u32::from_le_bytes(*crc)).then_some(())?;
    let names = (0..take_u16(&mut body)?).map(|_| take_name(&mut body)).collect::<Option<Vec<_>>>()?;
    let (entries, rest) = body.as_chunks::<ENTRY_BYTES>();
    rest.is_empty().then_some(())?;
    entries.iter().map(|entry| unpack_entry(entry, &names)).collect()
}

fn unpack_entry(entry: &[u8; ENTRY_BYTES], names: &[ByteString]) -> Option<Settled> {
    let (id, rest) = entry.split_first_chunk()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    Some(Settled {
        id: Uuid(*id),
        seq: u64::from_le_bytes(*seq),
        topic: names.get(usize::from(u16::from_le_bytes(*number)))?.clone(),
        qos: Qos::from_u8(*rest.first()?)?,
    })
}

fn take_u16(body: &mut &[u8]) -> Option<u16> {
    body.split_off(..2).and_then(|bytes| Some(u16::from_le_bytes(*bytes.first_chunk()?)))
}

fn take_name(body: &mut &[u8]) -> Option<ByteString> {
    let length = take_u16(body)?;
    let name = body.split_off(..usize::from(length))?;
    std::str::from_utf8(name).ok().map(ByteString::from)
}

fn checksum(first: u64, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&first.to_le_bytes());
    crc.update(body);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(seq: u64, topic: &str) -> Settled {
        Settled { id: Uuid([seq as u8; 16]), seq, topic: topic.into(), qos: Qos::AtLeastOnce }
    }

    fn store() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        connection
    }

    fn append_at(connection: &mut Connection, before: u64, now_ms: u64, settled: &[Settled]) {
        let transaction = connection.transaction().unwrap();
        append(&transaction, before, Time::from_ms(now_ms), settled).unwrap();
        transaction.commit().unwrap();
    }

    fn remembered(connection: &Connection) -> Vec<u64> {
        let mut places = Vec::new();
        each(connection, |place, _| places.push(place)).unwrap();
        places
    }

    #[test]
    fn what_was_packed_is_unpacked_and_damage_is_seen() {
        let row = [settled(1, "a/b"), settled(3, "温度"), settled(2, "a/b")];
        let mut packed = pack(7, &row);
        assert_eq!(unpack(7, &packed).as_deref(), Some(&row[..]));
        assert_eq!(unpack(8, &packed), None);
        for at in 0..packed.len() {
            packed[at] ^= 1;
            assert_eq!(unpack(7, &packed), None, "byte {at}");
            packed[at] ^= 1;
        }
    }

    #[test]
    fn ids_are_kept_in_order_over_rows() {
        let mut connection = store();
        let many: Vec<_> = (0..2_500).map(|seq| settled(seq, "t")).collect();
        append_at(&mut connection, 0, 0, &many);
        append_at(&mut connection, 2_500, 0, &[settled(9_999, "u")]);
        let mut seqs = Vec::new();
        each(&connection, |_, settled| seqs.push(settled.seq)).unwrap();
        assert_eq!(seqs, (0..2_500).chain([9_999]).collect::<Vec<_>>());
        assert_eq!(remembered(&connection), (0..=2_500).collect::<Vec<_>>());
    }

    #[test]
    fn the_oldest_are_forgotten_when_they_are_too_many() {
        let mut connection = store();
        append_at(&mut connection, 0, 0, &[settled(1, "t"), settled(2, "t")]);
        append_at(&mut connection, 2, 0, &[settled(3, "t")]);
        append_at(&mut connection, SETTLED_IDS_MAX, 0, &[settled(4, "t")]);
        assert_eq!(remembered(&connection), [2, SETTLED_IDS_MAX]);
    }

    #[test]
    fn the_oldest_are_forgotten_when_they_are_too_old() {
        let mut connection = store();
        append_at(&mut connection, 0, 1_000, &[settled(1, "t")]);
        append_at(&mut connection, 1, 2_000, &[settled(2, "t")]);
        append_at(&mut connection, 2, 2_000 + SETTLED_AGE_MS_MAX, &[settled(3, "t")]);
        assert_eq!(remembered(&connection), [1, 2]);
    }
}
