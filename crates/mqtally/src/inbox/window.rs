//! What an inbox remembers, read beside its owner as of one moment.

use super::LAYOUT;
use super::backlog;
use super::ids;
use super::key::KeyId;
use super::tally::Tally;
use crate::store::{StoreError, sqlite};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

/// The inbox at a path, as it was when this was opened. Until it is dropped the inbox's WAL cannot be reused: be brief.
#[derive(Debug)]
pub struct Window {
    connection: Connection,
    path: PathBuf,
    tally: Tally,
}

/// An unsettled message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsettled<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Text of its dedup key.
    pub key: &'a str,
    /// Whether it was given up; else it waits for a handler, is in its hands, or waits for a retry.
    pub dead: bool,
}

impl Window {
    /// Opens the inbox at `path` beside its owner, who may be at work.
    pub fn attach(path: &Path) -> Result<Self, StoreError> {
        let connection = sqlite::attach(path, &LAYOUT)?;
        let load = || {
            connection.execute_batch("BEGIN")?;
            Tally::load(&connection)
        };
        let tally = load().map_err(|error| StoreError::from_sqlite(path, error))?;
        let path = path.to_owned();
        match tally {
            Some(tally) => Ok(Self { connection, path, tally }),
            None => Err(StoreError::Damaged { path, what: "the row of its counters".into() }),
        }
    }

    /// Whether keys have expired: then one that is not here may have arrived all the same.
    pub fn has_purged(&self) -> bool {
        self.tally.live_from > 1
    }

    /// Arrivals that were dropped because their key was known, since the inbox was made.
    pub fn copies_dropped(&self) -> u64 {
        self.tally.redelivered + self.tally.published_again + self.tally.replayed_again
    }

    /// Gives `each` all keys that arrived and have not expired, in the order of arrival. A key comes again where it
    /// arrived with another body. An error where one cannot be read: it would seem not to have arrived.
    pub fn each_key(&self, each: impl FnMut(KeyId)) -> Result<(), StoreError> {
        let live = self.tally.live_from..self.tally.next_id;
        match ids::each_live(&self.connection, live, each) {
            Ok(0) => Ok(()),
            Ok(lost) => {
                let what = format!("{lost} dedup keys cannot be read");
                Err(StoreError::Damaged { path: self.path.clone(), what })
            }
            Err(error) => Err(StoreError::from_sqlite(&self.path, error)),
        }
    }

    /// Gives `each` all messages that have a key and are not done. One whose text is damaged is left out.
    pub fn each_unsettled(&self, each: impl FnMut(Unsettled<'_>)) -> Result<(), StoreError> {
        self.unsettled(each).map_err(|error| StoreError::from_sqlite(&self.path, error))
    }

    fn unsettled(&self, mut each: impl FnMut(Unsettled<'_>)) -> rusqlite::Result<()> {
        let sql = "SELECT topic, key FROM dead WHERE key IS NOT NULL";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let (Ok(topic), Ok(key)) = (row.get_ref(0)?.as_str(), row.get_ref(1)?.as_str()) {
                each(Unsettled { topic, key, dead: true });
            }
        }
        backlog::each_unsettled(&self.connection, |record| {
            if let Some(key) = &record.key {
                each(Unsettled { topic: &record.topic, key, dead: false });
            }
        })
    }
}
