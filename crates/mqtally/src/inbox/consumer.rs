//! Whose inbox it is: names that are part of every dedup key, kept so that others can compute the keys.

use super::key::{Keys, Rule, Scope};
use super::record::crc_of;
use rusqlite::{Connection, Row, Transaction};

pub(super) const SCHEMA: &str = "
    CREATE TABLE consumer(
        name TEXT NOT NULL, scope TEXT NOT NULL, window_ms INTEGER NOT NULL, opened INTEGER NOT NULL,
        crc INTEGER NOT NULL, PRIMARY KEY (name, scope)) WITHOUT ROWID;";

/// Names that are kept: those that opened the inbox last.
const CONSUMERS_MAX: u64 = 16;

/// A consumer of an inbox, as its dedup keys know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// How far its keys reach.
    pub scope: Scope,
}

impl Consumer {
    /// Its keys for messages of this crate's publisher.
    pub fn own_keys(&self) -> Keys {
        Keys { consumer: self.name.clone(), scope: self.scope, rules: vec![Rule::Own] }
    }

    /// Notes that it opened the inbox, for the `opened`-th time.
    pub(super) fn note(
        &self,
        transaction: &Transaction<'_>,
        window_ms: u64,
        opened: u64,
    ) -> rusqlite::Result<()> {
        let sql = "INSERT OR REPLACE INTO consumer(name, scope, window_ms, opened, crc) VALUES (?1, ?2, ?3, ?4, ?5)";
        let window_ms = window_ms.min(i64::MAX as u64);
        let crc = self.crc(window_ms, opened);
        transaction.execute(sql, (&self.name, self.scope.name(), window_ms, opened, crc))?;
        let sql = "DELETE FROM consumer WHERE opened NOT IN (SELECT opened FROM consumer ORDER BY opened DESC LIMIT ?1)";
        transaction.execute(sql, [CONSUMERS_MAX]).map(|_| ())
    }

    fn crc(&self, window_ms: u64, opened: u64) -> u32 {
        let name = u64::from(crc32fast::hash(self.name.as_bytes()));
        crc_of(&[name, self.scope as u64, window_ms, opened])
    }
}

impl Scope {
    /// Its name in the store.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Consumer => "consumer",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Topic, Self::Consumer].into_iter().find(|scope| scope.name() == name)
    }
}

/// Who opened the inbox and how long it then kept keys, in milliseconds; the last one first. Nothing where a row is damaged.
pub(super) fn read_all(connection: &Connection) -> rusqlite::Result<Vec<Option<(Consumer, u64)>>> {
    let sql = "SELECT name, scope, window_ms, opened, crc FROM consumer ORDER BY opened DESC";
    connection.prepare(sql)?.query_map([], |row| Ok(read(row).ok().flatten()))?.collect()
}

fn read(row: &Row<'_>) -> rusqlite::Result<Option<(Consumer, u64)>> {
    let Some(scope) = Scope::named(row.get_ref(1)?.as_str()?) else { return Ok(None) };
    let consumer = Consumer { name: row.get(0)?, scope };
    let (window_ms, opened, crc): (u64, u64, u32) = (row.get(2)?, row.get(3)?, row.get(4)?);
    Ok((consumer.crc(window_ms, opened) == crc).then_some((consumer, window_ms)))
}

/// Deletes all names, after a loss was accepted.
pub(super) fn forget(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM consumer", []).map(|_| ())
}
