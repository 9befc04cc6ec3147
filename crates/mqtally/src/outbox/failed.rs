//! Messages that were given up: what can be done about them while no publisher runs.

use super::pack::pack;
use super::tables::{self, LAYOUT, Tally};
use super::{Failed, StoreError, Stored, held};
use crate::store::sqlite::{self, Store};
use mqtally_proto::Time;
use rusqlite::Transaction;
use std::path::{Path, PathBuf};

/// The failed messages of an outbox. Reading goes beside its owner; changing takes the outbox for this process as
/// long as it lasts, and fails with [`StoreError::InUse`] where a publisher has it: that one counts what is there.
#[derive(Debug)]
pub struct FailedMessages {
    path: PathBuf,
}

impl FailedMessages {
    /// Those of the outbox at `path`, which must be there.
    pub fn attach(path: &Path) -> Result<Self, StoreError> {
        sqlite::attach(path, &LAYOUT)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Those from number `from` on, oldest first, `limit` at most.
    pub fn list(&self, from: u64, limit: usize) -> Result<Vec<Failed>, StoreError> {
        let connection = sqlite::attach(&self.path, &LAYOUT)?;
        tables::failed(&connection, from, limit).map_err(|error| StoreError::from_sqlite(&self.path, error))
    }

    /// The one with this number.
    pub fn show(&self, seq: u64) -> Result<Option<Failed>, StoreError> {
        Ok(self.list(seq, 1)?.pop().filter(|failed| failed.seq == seq))
    }

    /// Puts these back, in their order, behind all that waits: under their ids, as if they were published `now`. Returns
    /// those that were there and whole.
    pub fn retry(&self, seqs: &[u64], now: Time) -> Result<Vec<u64>, StoreError> {
        self.change(seqs, |transaction, tally, Failed { seq, stored, .. }| {
            let Some(Stored { id, message, .. }) = stored else { return Ok(false) };
            let packed = pack(tally.next_seq, [(id, now, &message)].into_iter());
            held::append(transaction, tally.next_seq, 1, &packed)?;
            tally.next_seq += 1;
            tally.retried += 1;
            forget(transaction, tally, seq)?;
            Ok(true)
        })
    }

    /// Deletes these for good. Returns those that were there.
    pub fn purge(&self, seqs: &[u64]) -> Result<Vec<u64>, StoreError> {
        self.change(seqs, |transaction, tally, Failed { seq, stored, .. }| {
            let bytes = stored.map_or(0, |stored| stored.message.size());
            tally.rows = tally.rows.saturating_sub(1);
            tally.bytes = tally.bytes.saturating_sub(bytes);
            forget(transaction, tally, seq)?;
            Ok(true)
        })
    }

    /// One synced transaction that does `act` to each that is there; returns those to which it was done.
    fn change(
        &self,
        seqs: &[u64],
        mut act: impl FnMut(&Transaction<'_>, &mut Tally, Failed) -> rusqlite::Result<bool>,
    ) -> Result<Vec<u64>, StoreError> {
        let failed = |error| StoreError::from_sqlite(&self.path, error);
        let (mut store, _) = Store::open(&self.path, &LAYOUT, &sqlite::Options::default())?;
        let transaction = store.begin().map_err(failed)?;
        let mut tally = Tally::load(&transaction).map_err(failed)?;
        let mut done = Vec::new();
        for seq in seqs {
            let found = tables::failed(&transaction, *seq, 1).map_err(failed)?.pop();
            if let Some(found) = found.filter(|found| found.seq == *seq)
                && act(&transaction, &mut tally, found).map_err(failed)?
            {
                done.push(*seq);
            }
        }
        tally.commits += 1;
        tally.save(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        store.sync(tally.commits)?;
        Ok(done)
    }
}

fn forget(transaction: &Transaction<'_>, tally: &mut Tally, seq: u64) -> rusqlite::Result<()> {
    tally.failed = tally.failed.saturating_sub(1);
    tables::forget_failed(transaction, seq)
}
