//! Which messages an outbox holds: packs, and what of them is done with.
//!
//! A pack lies in a row of `batch` and never changes. Which of its messages have left stands in a few bits, in a row of
//! `done` of its own; when the last one has left, both rows go.

use super::pack::{Record, records};
use super::{Stored, pack};
use rusqlite::{Connection, OptionalExtension, Transaction};
use std::collections::BTreeMap;

pub(super) const SCHEMA: &str = "
    CREATE TABLE batch(first INTEGER PRIMARY KEY, count INTEGER NOT NULL, packed BLOB NOT NULL);
    CREATE TABLE done(first INTEGER PRIMARY KEY, bits BLOB NOT NULL);";

/// Appends a pack of `count` messages from number `first` on.
pub(super) fn append(
    transaction: &Transaction<'_>,
    first: u64,
    count: usize,
    packed: &[u8],
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO batch(first, count, packed) VALUES (?1, ?2, ?3)";
    transaction.prepare_cached(sql)?.execute((first, count, packed))?;
    Ok(())
}

/// Messages that leave in one transaction. To be ended with [`Leaving::write`].
#[derive(Debug, Default)]
pub(super) struct Leaving(BTreeMap<u64, Bits>);

/// What of a pack has left.
#[derive(Debug)]
struct Bits {
    count: u64,
    left: u64,
    bits: Vec<u8>,
}

impl Leaving {
    /// The message leaves. False when it is not held.
    pub(super) fn take(&mut self, connection: &Connection, seq: u64) -> rusqlite::Result<bool> {
        if let Some(leaves) = self.pack_of(seq) {
            return Ok(leaves);
        }
        let sql = "SELECT first, count, (SELECT bits FROM done WHERE done.first = batch.first) FROM batch
                   WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
        let found = connection.prepare_cached(sql)?.query_row([seq], |row| {
            Ok((row.get(0)?, Bits::new(row.get(1)?, row.get::<_, Option<Vec<u8>>>(2)?)))
        });
        if let Some((first, bits)) = found.optional()?.filter(|(first, bits)| seq - first < bits.count) {
            self.0.insert(first, bits);
        }
        Ok(self.pack_of(seq).unwrap_or(false))
    }

    /// Whether the message leaves now, where its pack is known.
    fn pack_of(&mut self, seq: u64) -> Option<bool> {
        let (first, bits) = self.0.range_mut(..=seq).next_back()?;
        let at = seq - first;
        (at < bits.count).then(|| bits.set(at))
    }

    /// Writes down who has left.
    pub(super) fn write(self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for (first, Bits { count, left, bits }) in self.0 {
            if left < count {
                let sql = "INSERT OR REPLACE INTO done(first, bits) VALUES (?1, ?2)";
                transaction.prepare_cached(sql)?.execute((first, bits))?;
            } else {
                transaction.prepare_cached("DELETE FROM batch WHERE first = ?1")?.execute([first])?;
                transaction.prepare_cached("DELETE FROM done WHERE first = ?1")?.execute([first])?;
            }
        }
        Ok(())
    }
}

impl Bits {
    fn new(count: u64, bits: Option<Vec<u8>>) -> Self {
        let mut bits = bits.unwrap_or_default();
        bits.resize(count.div_ceil(8) as usize, 0);
        let left = bits.iter().map(|byte| u64::from(byte.count_ones())).sum();
        Self { count, left, bits }
    }

    fn has(&self, at: u64) -> bool {
        self.bits[(at / 8) as usize] & 1 << (at % 8) != 0
    }

    /// Whether it was not set before.
    fn set(&mut self, at: u64) -> bool {
        let new = !self.has(at);
        self.bits[(at / 8) as usize] |= 1 << (at % 8);
        self.left += u64::from(new);
        new
    }
}

/// Gives `each` the messages that are held after number `after`, in order, until it has enough.
pub(super) fn each(
    connection: &Connection,
    after: u64,
    mut each: impl FnMut(Record<'_>) -> bool,
) -> rusqlite::Result<()> {
    let sql = "SELECT first, count, packed, (SELECT bits FROM done WHERE done.first = batch.first) FROM batch
               WHERE first >= coalesce((SELECT max(first) FROM batch WHERE first <= ?1), 0) ORDER BY first";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([after])?;
    while let Some(row) = rows.next()? {
        let (first, count): (u64, u32) = (row.get(0)?, row.get(1)?);
        let bits = Bits::new(u64::from(count), row.get(3)?);
        let packed = row.get_ref(2)?.as_blob().unwrap_or_default();
        let held = records(first, count, packed).filter(|record| !bits.has(record.seq - first));
        if !held.filter(|record| record.seq > after).all(&mut each) {
            break;
        }
    }
    Ok(())
}

/// Finds single messages; those of one pack one after the other without reading it again.
#[derive(Debug, Default)]
pub(super) struct Finder {
    pack: Option<(u64, u32, Vec<u8>)>,
}

impl Finder {
    /// The message with this number, where its checksum holds, and where it is still in a pack.
    pub(super) fn stored(&mut self, connection: &Connection, seq: u64) -> rusqlite::Result<Option<Stored>> {
        Ok(self.record(connection, seq)?.and_then(|record| record.stored()))
    }

    /// As it lies there.
    pub(super) fn record(
        &mut self,
        connection: &Connection,
        seq: u64,
    ) -> rusqlite::Result<Option<Record<'_>>> {
        if self
            .pack
            .as_ref()
            .is_none_or(|(first, count, _)| !(*first..first + u64::from(*count)).contains(&seq))
        {
            let sql = "SELECT first, count, packed FROM batch WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
            let mut statement = connection.prepare_cached(sql)?;
            self.pack =
                statement.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
        }
        let Some((first, count, packed)) = &self.pack else { return Ok(None) };
        Ok(pack::records(*first, *count, packed).find(|record| record.seq == seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::{Message, Uuid};
    use mqtally_proto::Time;
    use mqtally_proto::packet::Qos;

    /// Packs of these lengths, one after the other.
    fn store(packs: &[u64]) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let transaction = connection.transaction().unwrap();
        let message = Message::new("t", "x", Qos::AtLeastOnce);
        let mut first = 1;
        for count in packs {
            let named = |seq| (Uuid([seq as u8; 16]), Time::from_ms(seq), &message);
            let messages: Vec<_> = (first..first + count).map(named).collect();
            let mut packed = Vec::new();
            pack::pack(first, messages.len(), messages.iter().copied(), &mut packed);
            append(&transaction, first, messages.len(), &packed).unwrap();
            first += count;
        }
        transaction.commit().unwrap();
        connection
    }

    fn leave(connection: &mut Connection, seqs: &[u64]) -> Vec<bool> {
        let transaction = connection.transaction().unwrap();
        let mut leaving = Leaving::default();
        let left = seqs.iter().map(|seq| leaving.take(&transaction, *seq).unwrap()).collect();
        leaving.write(&transaction).unwrap();
        transaction.commit().unwrap();
        left
    }

    fn held(connection: &Connection, after: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        each(connection, after, |record| {
            seqs.push(record.seq);
            true
        })
        .unwrap();
        seqs
    }

    fn rows(connection: &Connection) -> (u64, u64) {
        let sql = "SELECT (SELECT count(*) FROM batch), (SELECT count(*) FROM done)";
        connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    }

    #[test]
    fn a_message_leaves_once_and_a_pack_with_its_last() {
        let mut connection = store(&[3, 1, 2]);
        assert_eq!(leave(&mut connection, &[2, 2, 4, 9, 0]), [true, false, true, false, false]);
        assert_eq!((held(&connection, 0), rows(&connection)), (vec![1, 3, 5, 6], (2, 1)));
        assert_eq!(leave(&mut connection, &[4, 2, 3, 1, 6]), [false, false, true, true, true]);
        assert_eq!((held(&connection, 0), rows(&connection)), (vec![5], (1, 1)));
        assert_eq!(leave(&mut connection, &[5]), [true]);
        assert_eq!((held(&connection, 0), rows(&connection)), (vec![], (0, 0)));
    }

    #[test]
    fn what_is_held_is_read_from_any_place_on() {
        let mut connection = store(&[4, 4]);
        leave(&mut connection, &[3, 5]);
        for (after, expect) in
            [(0, vec![1, 2, 4, 6, 7, 8]), (2, vec![4, 6, 7, 8]), (6, vec![7, 8]), (8, vec![])]
        {
            assert_eq!(held(&connection, after), expect, "after {after}");
        }
    }

    #[test]
    fn single_messages_are_found() {
        let connection = store(&[2, 2]);
        let mut finder = Finder::default();
        for seq in [1, 2, 4, 3] {
            assert_eq!(finder.stored(&connection, seq).unwrap().map(|stored| stored.seq), Some(seq));
        }
        assert_eq!(finder.stored(&connection, 5).unwrap(), None);
    }
}
