//! Duplicates by topic: how many were dropped of which, and whose copies they were.
//!
//! A row is written only in a transaction that drops a copy. At most [`TOPICS_MAX`] topics have one, those with names of at
//! most [`TOPIC_BYTES_MAX`]; the copies of all others are in the inbox's totals and nowhere else.

use super::arrival::Cause;
use super::record::crc_of;
use bytestring::ByteString;
use rusqlite::{Connection, Row, Transaction};
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::AddAssign;

pub(super) const SCHEMA: &str = "
    CREATE TABLE copies(
        topic TEXT PRIMARY KEY, redelivered INTEGER NOT NULL, published_again INTEGER NOT NULL,
        replayed_again INTEGER NOT NULL, crc INTEGER NOT NULL) WITHOUT ROWID;";

/// Topics that are told apart.
pub(super) const TOPICS_MAX: usize = 1_024;
/// Longer names are not told apart. An index of PostgreSQL takes no more than 2,704 bytes.
const TOPIC_BYTES_MAX: usize = 1_024;

/// Copies that were dropped because their key was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copies {
    /// The broker's own.
    pub redelivered: u64,
    /// The publisher's.
    pub published_again: u64,
    /// A replay's.
    pub replayed_again: u64,
}

impl Copies {
    /// Whosesoever they were.
    pub fn total(&self) -> u64 {
        self.redelivered + self.published_again + self.replayed_again
    }

    fn count(&mut self, cause: Cause) {
        match cause {
            Cause::Redelivery => self.redelivered += 1,
            Cause::PublishedAgain => self.published_again += 1,
            Cause::Replay => self.replayed_again += 1,
        }
    }
}

impl AddAssign for Copies {
    fn add_assign(&mut self, other: Self) {
        self.redelivered += other.redelivered;
        self.published_again += other.published_again;
        self.replayed_again += other.replayed_again;
    }
}

/// All of them in memory, and which differ from the store's.
#[derive(Debug, Default)]
pub(super) struct CopiesByTopic {
    topics: FxHashMap<ByteString, Copies>,
    changed: FxHashSet<ByteString>,
}

impl FromIterator<(ByteString, Copies)> for CopiesByTopic {
    fn from_iter<T: IntoIterator<Item = (ByteString, Copies)>>(rows: T) -> Self {
        Self { topics: rows.into_iter().collect(), changed: FxHashSet::default() }
    }
}

impl CopiesByTopic {
    /// Reads them. Rows that are damaged are left out.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(read_all(connection)?.into_iter().flatten().collect())
    }

    /// Counts a copy. Says whether its topic has a row.
    pub(super) fn count(&mut self, topic: &ByteString, cause: Cause) -> bool {
        let room = self.topics.len() < TOPICS_MAX && topic.len() <= TOPIC_BYTES_MAX;
        if let Some(copies) = self.topics.get_mut(topic) {
            copies.count(cause);
        } else if room {
            self.topics.entry(topic.clone()).or_default().count(cause);
        } else {
            return false;
        }
        if !self.changed.contains(topic) {
            self.changed.insert(topic.clone());
        }
        true
    }

    /// All copies that have a row.
    pub(super) fn total(&self) -> u64 {
        self.topics.values().map(Copies::total).sum()
    }

    /// Those that were counted since the last time.
    pub(super) fn take_changed(&mut self) -> impl Iterator<Item = (ByteString, Copies)> {
        self.changed.drain().filter_map(|topic| self.topics.get(&topic).map(|copies| (topic, *copies)))
    }

    /// Writes them; the last step before the commit.
    pub(super) fn write(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for (topic, copies) in self.take_changed() {
            let sql =
                "INSERT OR REPLACE INTO copies(topic, redelivered, published_again, replayed_again, crc)
                       VALUES (?1, ?2, ?3, ?4, ?5)";
            let Copies { redelivered, published_again, replayed_again } = copies;
            let crc = crc(&topic, &copies);
            let values = (&*topic, redelivered, published_again, replayed_again, crc);
            transaction.prepare_cached(sql)?.execute(values)?;
        }
        Ok(())
    }

    /// Writes all of them anew, after a loss was accepted.
    pub(super) fn rewrite(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute("DELETE FROM copies", [])?;
        self.changed = self.topics.keys().cloned().collect();
        Ok(())
    }
}

/// Every row, in the order of the topics; nothing where the row is damaged.
pub(super) fn read_all(connection: &Connection) -> rusqlite::Result<Vec<Option<(ByteString, Copies)>>> {
    let sql = "SELECT topic, redelivered, published_again, replayed_again, crc FROM copies ORDER BY topic";
    let mut statement = connection.prepare(sql)?;
    statement.query_map([], |row| Ok(read(row).ok().flatten()))?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Option<(ByteString, Copies)>> {
    let topic = ByteString::from(row.get::<_, String>(0)?);
    let copies =
        Copies { redelivered: row.get(1)?, published_again: row.get(2)?, replayed_again: row.get(3)? };
    let whole = row.get::<_, u32>(4)? == crc(&topic, &copies);
    Ok(whole.then_some((topic, copies)))
}

fn crc(topic: &str, copies: &Copies) -> u32 {
    let Copies { redelivered, published_again, replayed_again } = *copies;
    crc_of(&[u64::from(crc32fast::hash(topic.as_bytes())), redelivered, published_again, replayed_again])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_topics_are_told_apart_and_no_more() {
        let mut copies = CopiesByTopic::default();
        for n in 0..TOPICS_MAX {
            assert!(copies.count(&n.to_string().into(), Cause::Redelivery));
        }
        assert!(!copies.count(&"one more".into(), Cause::Redelivery));
        assert!(copies.count(&"7".into(), Cause::Replay), "a known one is still counted");
        assert_eq!(copies.total(), TOPICS_MAX as u64 + 1);
        assert_eq!(copies.take_changed().count(), TOPICS_MAX);
        assert_eq!(copies.take_changed().count(), 0);
    }

    #[test]
    fn a_topic_too_long_for_an_index_is_not_told_apart() {
        let mut copies = CopiesByTopic::default();
        assert!(copies.count(&"x".repeat(TOPIC_BYTES_MAX).into(), Cause::PublishedAgain));
        assert!(!copies.count(&"x".repeat(TOPIC_BYTES_MAX + 1).into(), Cause::PublishedAgain));
    }
}
