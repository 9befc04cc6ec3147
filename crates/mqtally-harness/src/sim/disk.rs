//! A disk that loses what was not synced: the model of every store in the simulation.
//!
//! What is written waits until it is synced, a transaction at a time and in order. A crash keeps whole transactions
//! only, and of those that wait a prefix: some may have reached the disk without anybody having been told.

use fastrand::Rng;
use std::collections::VecDeque;

/// State that changes by transactions.
pub(super) trait Store {
    type Transaction;

    fn apply(&mut self, transaction: &Self::Transaction);
}

#[derive(Debug)]
pub(super) struct Disk<S: Store> {
    synced: S,
    waiting: VecDeque<S::Transaction>,
}

impl<S: Store + Default> Default for Disk<S> {
    fn default() -> Self {
        Self { synced: S::default(), waiting: VecDeque::new() }
    }
}

impl<S: Store> Disk<S> {
    /// What a crash cannot take.
    pub(super) fn synced(&self) -> &S {
        &self.synced
    }

    /// The same, for its owner to take out what it has to tell.
    pub(super) fn synced_mut(&mut self) -> &mut S {
        &mut self.synced
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn write(&mut self, transaction: S::Transaction) {
        self.waiting.push_back(transaction);
    }

    /// The oldest transaction that waited is durable.
    pub(super) fn sync(&mut self) -> Option<S::Transaction> {
        let transaction = self.waiting.pop_front()?;
        self.synced.apply(&transaction);
        Some(transaction)
    }

    /// The process, or its machine, is gone.
    pub(super) fn crash(&mut self, random: &mut Rng) {
        let kept = random.usize(..=self.waiting.len());
        for transaction in self.waiting.drain(..).take(kept) {
            self.synced.apply(&transaction);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Store for Vec<u8> {
        type Transaction = u8;

        fn apply(&mut self, transaction: &u8) {
            self.push(*transaction);
        }
    }

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut disk: Disk<Vec<u8>> = Disk::default();
            (1..=4).for_each(|number| disk.write(number));
            assert_eq!(disk.sync(), Some(1));
            disk.crash(&mut Rng::with_seed(seed));
            assert!(disk.is_idle() && [1, 2, 3, 4].starts_with(disk.synced()));
            lengths.insert(disk.synced().len());
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
}
