//! What an inbox remembers, read beside its owner as of one moment.

use super::LAYOUT;
use super::consumer::{self, Consumer};
use super::copies::{self, Copies};
use super::key::KeyId;
use super::tally::Tally;
use super::{backlog, ids};
use crate::store::{StoreError, sqlite};
use bytestring::ByteString;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An inbox, as it was when this was opened. Until it is dropped a file's WAL cannot be reused, and a server cannot clear
/// what is deleted: be brief.
#[derive(Debug)]
pub struct Window {
    place: Place,
    facts: Facts,
}

/// What does not depend on single messages.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) has_purged: bool,
    /// Over all topics.
    pub(super) copies: Copies,
    pub(super) by_topic: BTreeMap<ByteString, Copies>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) window_ms: Option<u64>,
}

#[derive(Debug)]
enum Place {
    File(FileWindow),
    #[cfg(feature = "postgres")]
    Shared(Box<super::postgres::window::SharedWindow>),
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
        let (file, facts) = FileWindow::attach(path)?;
        Ok(Self { place: Place::File(file), facts })
    }

    /// Opens the shared inbox at `url` beside its members, who may be at work.
    #[cfg(feature = "postgres")]
    pub fn attach_shared(url: &crate::store::postgres::Url) -> Result<Self, StoreError> {
        let (shared, facts) = super::postgres::window::SharedWindow::attach(url)?;
        Ok(Self { place: Place::Shared(Box::new(shared)), facts })
    }

    /// Whether keys have expired: then one that is not here may have arrived all the same.
    pub fn has_purged(&self) -> bool {
        self.facts.has_purged
    }

    /// Arrivals that were dropped because their key was known, since the inbox was made.
    pub fn copies_dropped(&self) -> Copies {
        self.facts.copies
    }

    /// The same by topic, as far as topics are told apart: the first 1,024 of which a copy was dropped.
    pub fn copies_by_topic(&self) -> &BTreeMap<ByteString, Copies> {
        &self.facts.by_topic
    }

    /// In whose name its keys were made, the last one first; none where nobody has said so.
    pub fn consumers(&self) -> &[Consumer] {
        &self.facts.consumers
    }

    /// How long keys are kept, in milliseconds, by whoever opened it last.
    pub fn window_ms(&self) -> Option<u64> {
        self.facts.window_ms
    }

    /// Gives `each` all keys that arrived and have not expired. A key comes again where it arrived with another body. An error
    /// where one cannot be read: it would seem not to have arrived.
    pub fn each_key(&self, each: impl FnMut(KeyId)) -> Result<(), StoreError> {
        match &self.place {
            Place::File(file) => file.each_key(each),
            #[cfg(feature = "postgres")]
            Place::Shared(shared) => shared.each_key(each),
        }
    }

    /// Gives `each` all messages that have a key and are not done. One whose text is damaged is left out.
    pub fn each_unsettled(&self, each: impl FnMut(Unsettled<'_>)) -> Result<(), StoreError> {
        match &self.place {
            Place::File(file) => {
                file.unsettled(each).map_err(|error| StoreError::from_sqlite(&file.path, error))
            }
            #[cfg(feature = "postgres")]
            Place::Shared(shared) => shared.each_unsettled(each),
        }
    }
}

#[derive(Debug)]
struct FileWindow {
    connection: Connection,
    path: PathBuf,
    live: std::ops::Range<u64>,
}

impl FileWindow {
    fn attach(path: &Path) -> Result<(Self, Facts), StoreError> {
        let connection = sqlite::attach(path, &LAYOUT)?;
        let failed = |error| StoreError::from_sqlite(path, error);
        let damaged = |what: &str| StoreError::Damaged { path: path.to_owned(), what: what.into() };
        connection.execute_batch("BEGIN").map_err(failed)?;
        let tally = Tally::load(&connection).map_err(failed)?;
        let tally = tally.ok_or_else(|| damaged("the row of its counters"))?;
        let copies: Option<Vec<_>> = copies::read_all(&connection).map_err(failed)?.into_iter().collect();
        let by_topic = copies.ok_or_else(|| damaged("duplicates by topic"))?.into_iter().collect();
        let consumers: Option<Vec<_>> =
            consumer::read_all(&connection).map_err(failed)?.into_iter().collect();
        let consumers = consumers.ok_or_else(|| damaged("a consumer's name"))?;
        let facts = Facts {
            has_purged: tally.live_from > 1,
            copies: Copies {
                redelivered: tally.redelivered,
                published_again: tally.published_again,
                replayed_again: tally.replayed_again,
            },
            by_topic,
            window_ms: consumers.first().map(|(_, window_ms)| *window_ms),
            consumers: consumers.into_iter().map(|(consumer, _)| consumer).collect(),
        };
        Ok((Self { connection, path: path.to_owned(), live: tally.live_from..tally.next_id }, facts))
    }

    fn each_key(&self, each: impl FnMut(KeyId)) -> Result<(), StoreError> {
        match ids::each_live(&self.connection, self.live.clone(), each) {
            Ok(0) => Ok(()),
            Ok(lost) => {
                let what = format!("{lost} dedup keys cannot be read");
                Err(StoreError::Damaged { path: self.path.clone(), what })
            }
            Err(error) => Err(StoreError::from_sqlite(&self.path, error)),
        }
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
