//! What a shared inbox remembers, as of one moment: one transaction with one snapshot.

use super::intake::Id;
use super::visit::Visit;
use crate::inbox::consumer::Consumer;
use crate::inbox::copies::Copies;
use crate::inbox::key::{KeyId, Scope};
use crate::inbox::window::{Facts, Unsettled};
use crate::store::StoreError;
use crate::store::postgres::Url;
use tokio_postgres::Row;

/// The snapshot lasts as long as the outbox takes to read. Everything is read from end to end here, so no index is wanted.
const BEGIN: &str = "
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
    SET LOCAL idle_in_transaction_session_timeout = '10min'; SET LOCAL enable_seqscan = on";
const FACTS: &str = "
    SELECT coalesce(sum(redelivered), 0)::bigint, coalesce(sum(published_again), 0)::bigint,
           coalesce(sum(replayed_again), 0)::bigint, max(window_ms) FILTER (WHERE client_id <> ''),
           (SELECT bucket FROM clock) > 0 AND NOT EXISTS (SELECT FROM bucket WHERE number = 1)
    FROM member";
const BY_TOPIC: &str = "
    SELECT topic, sum(redelivered)::bigint, sum(published_again)::bigint, sum(replayed_again)::bigint
    FROM copies GROUP BY topic";
const SCOPES: &str =
    "SELECT scope FROM member WHERE scope IS NOT NULL GROUP BY scope ORDER BY max(seen_ms) DESC";
const KEYS: &str = "DECLARE keys NO SCROLL CURSOR FOR SELECT id FROM ids";
const UNSETTLED: &str = "
    DECLARE unsettled NO SCROLL CURSOR FOR
    SELECT topic, key, false FROM inbox WHERE key IS NOT NULL
    UNION ALL SELECT topic, key, true FROM dead WHERE key IS NOT NULL";
const ROWS_MAX: u32 = 10_000;

#[derive(Debug)]
pub(in crate::inbox) struct SharedWindow(Visit);

impl SharedWindow {
    pub(in crate::inbox) fn attach(url: &Url) -> Result<(Self, Facts), StoreError> {
        let visit = Visit::start(url)?;
        visit.batch(BEGIN)?;
        let mut facts = Facts::default();
        for row in visit.query(FACTS, &[])? {
            facts.copies = copies(&row, 0);
            facts.window_ms = row.get::<_, Option<i64>>(3).map(|ms| ms.max(0).cast_unsigned());
            facts.has_purged = row.get(4);
        }
        let by_topic = visit.query(BY_TOPIC, &[])?;
        facts.by_topic = by_topic.iter().map(|row| (row.get::<_, &str>(0).into(), copies(row, 1))).collect();
        let named =
            |row: &Row| Some(Consumer { name: url.schema().to_owned(), scope: Scope::named(row.get(0))? });
        facts.consumers = visit.query(SCOPES, &[])?.iter().filter_map(named).collect();
        Ok((Self(visit), facts))
    }

    pub(in crate::inbox) fn each_key(&self, mut each: impl FnMut(KeyId)) -> Result<(), StoreError> {
        self.each_row(KEYS, "keys", |row| each(row.get::<_, Id>(0).0))
    }

    pub(in crate::inbox) fn each_unsettled(
        &self,
        mut each: impl FnMut(Unsettled<'_>),
    ) -> Result<(), StoreError> {
        self.each_row(UNSETTLED, "unsettled", |row| {
            each(Unsettled { topic: row.get(0), key: row.get(1), dead: row.get(2) });
        })
    }

    /// A part at a time, so that it need not all be in memory.
    fn each_row(&self, declare: &str, cursor: &str, mut each: impl FnMut(&Row)) -> Result<(), StoreError> {
        self.0.batch(declare)?;
        let fetch = format!("FETCH {ROWS_MAX} FROM {cursor}");
        loop {
            let rows = self.0.query(&fetch, &[])?;
            rows.iter().for_each(&mut each);
            if rows.len() < ROWS_MAX as usize {
                return self.0.batch(&format!("CLOSE {cursor}"));
            }
        }
    }
}

fn copies(row: &Row, first: usize) -> Copies {
    let number = |at: usize| row.get::<_, i64>(first + at).max(0).cast_unsigned();
    Copies { redelivered: number(0), published_again: number(1), replayed_again: number(2) }
}
