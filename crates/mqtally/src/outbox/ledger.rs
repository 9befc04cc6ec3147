//! All that an outbox knows of its messages, read beside its owner.

use super::pack::{Head, Record};
use super::settled::{self, Settled};
use super::tables::{self, LAYOUT, Tally};
use super::{Failed, StoreError, Stored, Uuid, held};
use crate::store::sqlite;
use bytestring::ByteString;
use mqtally_proto::packet::Qos;
use rusqlite::Connection;
use std::path::Path;

/// A message that was accepted, and is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Name.
    pub id: Uuid,
    /// Its place in the order of publishing.
    pub seq: u64,
    /// Topic name.
    pub topic: ByteString,
    /// Quality of service at which it was published.
    pub qos: Qos,
    /// What became of it.
    pub standing: Standing,
}

/// What became of a message, as far as its publisher knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits, or is in flight.
    Unsent,
    /// It was given up.
    Failed,
    /// It was finally acknowledged, or at QoS 0 sent.
    Settled {
        /// Its place in the order of settling.
        place: u64,
    },
}

/// What an outbox holds and remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Messages that it ever accepted.
    pub accepted: u64,
    /// Those of them that it neither holds nor remembers: settled too long ago, or damaged.
    pub forgotten: u64,
}

/// Gives `each` all messages that the outbox at `path` holds or remembers, as of one moment. Its owner may be at work
/// meanwhile.
pub fn ledger(path: &Path, each: impl FnMut(Published)) -> Result<Ledger, StoreError> {
    let mut connection = sqlite::attach(path, &LAYOUT)?;
    read(&mut connection, each).map_err(|error| StoreError::from_sqlite(path, error))
}

fn read(connection: &mut Connection, mut each: impl FnMut(Published)) -> rusqlite::Result<Ledger> {
    let snapshot = connection.transaction()?;
    let tally = Tally::load(&snapshot)?;
    let accepted = (tally.next_seq - 1).saturating_sub(tally.retried);
    let mut known = 0;
    let mut count = |published| {
        known += 1;
        each(published);
    };
    held::each(&snapshot, 0, |record| {
        unsent(&record).into_iter().for_each(&mut count);
        true
    })?;
    tables::failed(&snapshot, 0, usize::MAX)?.into_iter().filter_map(failed).for_each(&mut count);
    settled::each(&snapshot, |place, Settled { id, seq, topic, qos }| {
        count(Published { id, seq, topic, qos, standing: Standing::Settled { place } });
    })?;
    Ok(Ledger { accepted, forgotten: accepted.saturating_sub(known) })
}

fn unsent(record: &Record<'_>) -> Option<Published> {
    let Head { id, topic, qos, .. } = record.head()?;
    Some(Published { id, seq: record.seq, topic: topic.into(), qos, standing: Standing::Unsent })
}

fn failed(Failed { seq, stored, .. }: Failed) -> Option<Published> {
    let Stored { id, message, .. } = stored?;
    Some(Published { id, seq, topic: message.topic, qos: message.qos, standing: Standing::Failed })
}
