//! The dead letters of a shared inbox, from any process.

use super::visit::Visit;
use super::work::qos;
use crate::inbox::dead_letter::{DeadLetter, DeadMessage, Page, Reason, Selection};
use crate::inbox::record::decode_properties;
use crate::store::StoreError;
use crate::store::postgres::Url;
use bytes::Bytes;
use mqtally_proto::Time;
use tokio_postgres::Row;

/// Dead letters that one page looks at.
const SCANNED_ROWS_MAX: usize = 256;
const COLUMNS: &str = "seq, received_ms, qos, retain, replay, key, topic, props, payload, died_ms, attempts, reason, \
                       errors, edited, replay_asked";

/// A connection of its own, in short transactions.
#[derive(Debug)]
pub(in crate::inbox) struct Letters(Visit);

impl Letters {
    pub(in crate::inbox) fn attach(url: &Url) -> Result<Self, StoreError> {
        Visit::start(url).map(Self)
    }

    pub(in crate::inbox) fn list(
        &self,
        selection: &Selection,
        from: u64,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM dead WHERE seq >= $1 ORDER BY seq LIMIT {}", SCANNED_ROWS_MAX + 1);
        let rows = self.0.query(&sql, &[&from.min(i64::MAX as u64).cast_signed()])?;
        let mut page = Page::default();
        for (scanned, row) in rows.iter().enumerate() {
            if page.letters.len() == limit || scanned == SCANNED_ROWS_MAX {
                page.next = Some(row.get::<_, i64>(0).cast_unsigned());
                break;
            }
            page.letters.extend(Some(letter(row)).filter(|letter| selection.takes(letter)));
        }
        Ok(page)
    }

    pub(in crate::inbox) fn show(&self, sequence: u64) -> Result<Option<DeadLetter>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM dead WHERE seq = $1");
        Ok(self.0.query(&sql, &[&sequence.cast_signed()])?.first().map(letter))
    }

    pub(in crate::inbox) fn edit(&self, sequence: u64, payload: &[u8]) -> Result<bool, StoreError> {
        let sql = "UPDATE dead SET payload = $2, edited = true WHERE seq = $1 RETURNING seq";
        Ok(!self.0.query(sql, &[&sequence.cast_signed(), &payload])?.is_empty())
    }

    pub(in crate::inbox) fn replay(&self, sequences: &[u64], dry_run: bool) -> Result<Vec<u64>, StoreError> {
        let sql = match dry_run {
            true => "SELECT seq FROM dead WHERE seq = ANY($1)",
            false => "UPDATE dead SET replay_asked = true WHERE seq = ANY($1) RETURNING seq",
        };
        let mut asked = self.numbers(sql, sequences)?;
        asked.sort_unstable();
        Ok(asked)
    }

    pub(in crate::inbox) fn purge(&self, sequences: &[u64]) -> Result<usize, StoreError> {
        // Counted under a member of its own, whom no client id can have.
        let sql = "WITH gone AS (DELETE FROM dead WHERE seq = ANY($1) RETURNING seq), counted AS (
                       INSERT INTO member(client_id, window_ms, seen_ms, purged)
                       SELECT '', 0, 0, count(*) FROM gone
                       ON CONFLICT (client_id) DO UPDATE SET purged = member.purged + excluded.purged)
                   SELECT seq FROM gone";
        Ok(self.numbers(sql, sequences)?.len())
    }

    fn numbers(&self, sql: &str, sequences: &[u64]) -> Result<Vec<u64>, StoreError> {
        let sequences: Vec<_> = sequences.iter().map(|sequence| sequence.cast_signed()).collect();
        let rows = self.0.query(sql, &[&sequences])?;
        Ok(rows.iter().map(|row| row.get::<_, i64>(0).cast_unsigned()).collect())
    }
}

fn letter(row: &Row) -> DeadLetter {
    let number = |at: usize| row.get::<_, i64>(at).max(0).cast_unsigned();
    DeadLetter {
        sequence: number(0),
        died_at: Time::from_ms(number(9)),
        attempts: row.get::<_, i32>(10).cast_unsigned(),
        reason: Reason::named(row.get(11)),
        errors: serde_json::from_str(row.get(12)).unwrap_or_default(),
        edited: row.get(13),
        replay_asked: row.get(14),
        message: Some(DeadMessage {
            topic: row.get(6),
            qos: qos(row.get(2)),
            retain: row.get(3),
            properties: decode_properties(row.get(7)),
            payload: Bytes::copy_from_slice(row.get(8)),
            key: row.get(5),
            replay: u32::try_from(number(4)).unwrap_or(u32::MAX),
            received_at: Time::from_ms(number(1)),
        }),
    }
}
