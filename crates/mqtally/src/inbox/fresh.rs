//! What has just arrived, as it arrived: a claim that comes soon need not read it back. Pure and bounded.
//!
//! It is only a shortcut. The row on disk is written all the same, and whatever was handed out once or has become old is
//! read from there.

use super::record::Record;
use std::collections::VecDeque;

/// A message may share the memory of everything that was read from the socket with it, so their number is bounded, too.
const MESSAGES_MAX: usize = 4_096;
const BYTES_MAX: usize = 8 << 20;

/// The newest messages that were not handed out, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    records: VecDeque<(u64, Option<Record>)>,
    bytes: usize,
}

impl Fresh {
    /// Keeps a message, whose number is above all others, and forgets the oldest where there are too many.
    pub(super) fn push(&mut self, sequence: u64, record: Record) {
        self.bytes += size(&record);
        self.records.push_back((sequence, Some(record)));
        while self.records.len() > MESSAGES_MAX
            || self.bytes > BYTES_MAX
            || matches!(self.records.front(), Some((_, None)))
        {
            self.pop();
        }
    }

    /// The message with this number, if it is still here; it is not afterwards.
    pub(super) fn take(&mut self, sequence: u64) -> Option<Record> {
        let at = match self.records.front() {
            Some((first, _)) if *first == sequence => 0,
            _ => self.records.binary_search_by_key(&sequence, |(sequence, _)| *sequence).ok()?,
        };
        let record = self.records.get_mut(at)?.1.take()?;
        self.bytes -= size(&record);
        if at == 0 {
            self.records.pop_front();
        }
        Some(record)
    }

    fn pop(&mut self) {
        if let Some((_, Some(record))) = self.records.pop_front() {
            self.bytes -= size(&record);
        }
    }
}

fn size(record: &Record) -> usize {
    record.topic.len() + record.properties.len() + record.payload.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn record(payload: usize) -> Record {
        Record::damaged(Bytes::from(vec![0; payload]))
    }

    #[test]
    fn each_is_taken_once_in_any_order() {
        let mut fresh = Fresh::default();
        [3, 5, 6, 9].into_iter().for_each(|sequence| fresh.push(sequence, record(sequence as usize)));
        assert!(fresh.take(4).is_none() && fresh.take(10).is_none());
        for sequence in [6, 3, 9, 5] {
            assert_eq!(fresh.take(sequence), Some(record(sequence as usize)));
            assert_eq!(fresh.take(sequence), None);
        }
        assert_eq!(fresh.bytes, 0);
    }

    #[test]
    fn the_oldest_are_forgotten_by_number_and_by_size() {
        let mut fresh = Fresh::default();
        (0..2 * MESSAGES_MAX as u64).for_each(|sequence| fresh.push(sequence, record(1)));
        assert_eq!((fresh.records.len(), fresh.bytes), (MESSAGES_MAX, MESSAGES_MAX));
        assert!(fresh.take(MESSAGES_MAX as u64 - 1).is_none() && fresh.take(MESSAGES_MAX as u64).is_some());
        let next = 2 * MESSAGES_MAX as u64;
        fresh.push(next, record(BYTES_MAX));
        assert_eq!((fresh.records.len(), fresh.bytes), (1, BYTES_MAX));
        fresh.push(next + 1, record(BYTES_MAX + 1));
        assert_eq!((fresh.records.len(), fresh.bytes), (0, 0), "read from the disk: rare, and slow anyway");
    }

    #[test]
    fn those_that_were_handed_out_are_no_burden() {
        let mut fresh = Fresh::default();
        for sequence in 0..3 * MESSAGES_MAX as u64 {
            fresh.push(sequence, record(1));
            fresh.take(sequence.saturating_sub(1));
        }
        assert!(fresh.records.len() <= 2, "{}", fresh.records.len());
    }
}
