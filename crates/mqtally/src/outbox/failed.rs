//! Messages that were given up: what can be done about them while no publisher runs.

use super::held::{Finder, Leaving};
use super::pack::{Record, pack};
use super::tables::{self, LAYOUT, Tally};
use super::{Failed, Failure, StoreError, Stored, held};
use crate::store::sqlite::{self, Store};
use mqtally_proto::Time;
use mqtally_proto::inflight::Stage;
use rusqlite::Transaction;
use std::path::{Path, PathBuf};

/// The failed messages of an outbox, and those that are to join them. Reading goes beside its owner; changing takes the outbox for this process as
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
            let mut packed = Vec::new();
            pack(tally.next_seq, 1, [(id, now, &message)].into_iter(), &mut packed);
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

    /// Gives up messages that wait, for the reason `why`: those that a broker refuses by ending the connection. Returns those
    /// that waited, and that no PUBREC had come for.
    ///
    /// One that was in flight at QoS 2 costs the session, because the broker may have its packet id: the next publisher begins
    /// another, in which others that were in flight are sent as new.
    pub fn give_up(&self, seqs: &[u64], now: Time, why: &str) -> Result<Vec<u64>, StoreError> {
        self.transact(|transaction, tally| {
            let flights = tables::flights(transaction, tally.session_epoch)?;
            let (mut leaving, mut finder, mut done) = (Leaving::default(), Finder::default(), Vec::new());
            for seq in seqs {
                let flight = flights.iter().find(|flight| flight.seq == *seq);
                let is_taken = flight.is_some_and(|flight| flight.stage == Stage::Released);
                if is_taken || !leaving.take(transaction, *seq)? {
                    continue;
                }
                if flight.is_some() {
                    tally.session_of.clear();
                }
                let record = finder.record(transaction, *seq)?;
                let record = record.unwrap_or(Record { seq: *seq, crc: 0, body: &[] });
                tables::fail(transaction, record, now, &Failure { reason: None, detail: why.into() })?;
                tally.failed += 1;
                done.push(*seq);
            }
            leaving.write(transaction)?;
            Ok(done)
        })
    }

    /// Does `act` to each that is there; returns those to which it was done.
    fn change(
        &self,
        seqs: &[u64],
        mut act: impl FnMut(&Transaction<'_>, &mut Tally, Failed) -> rusqlite::Result<bool>,
    ) -> Result<Vec<u64>, StoreError> {
        self.transact(|transaction, tally| {
            let mut done = Vec::new();
            for seq in seqs {
                let found = tables::failed(transaction, *seq, 1)?.pop();
                if let Some(found) = found.filter(|found| found.seq == *seq)
                    && act(transaction, tally, found)?
                {
                    done.push(*seq);
                }
            }
            Ok(done)
        })
    }

    /// One synced transaction.
    fn transact<T>(
        &self,
        act: impl FnOnce(&Transaction<'_>, &mut Tally) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let failed = |error| StoreError::from_sqlite(&self.path, error);
        let (mut store, _) = Store::open(&self.path, &LAYOUT, &sqlite::Options::default())?;
        let transaction = store.begin().map_err(failed)?;
        let mut tally = Tally::load(&transaction).map_err(failed)?;
        let done = act(&transaction, &mut tally).map_err(failed)?;
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
