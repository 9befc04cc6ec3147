//! All that an outbox knows of its messages, read beside its owner.

use super::settled::{self, Settled};
use super::tables::{self, LAYOUT, Tally};
use super::{StoreError, Uuid};
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
    let accepted = Tally::load(&snapshot)?.next_seq - 1;
    let mut known = 0;
    let mut count = |published| {
        known += 1;
        each(published);
    };
    tables::each_held(&snapshot, &mut count)?;
    settled::each(&snapshot, |place, Settled { id, seq, topic, qos }| {
        count(Published { id, seq, topic, qos, standing: Standing::Settled { place } });
    })?;
    Ok(Ledger { accepted, forgotten: accepted.saturating_sub(known) })
}
