//! Reading the whole store at start, and refusing it when it is not whole.

use super::StoreError;
use super::rows::{self, Flows};
use mqtally_proto::Time;
use mqtally_proto::broker::{
    Message, MessageId, Phase, SessionId, Stored, StoredDelivery, StoredSession, StoredSubscription,
};
use rusqlite::{Connection, Row};
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// What a database holds.
pub(super) struct Loaded {
    pub(super) stored: Stored,
    pub(super) flows: Flows,
    pub(super) commits: u64,
    pub(super) time: Time,
}

type SessionRows = (StoredSession, Vec<StoredSubscription>, Vec<StoredDelivery>, Vec<u16>);

/// Reads everything, checking SQLite's structure, each row's checksum and that rows belong together.
pub(super) fn load(connection: &Connection, file: &Path) -> Result<Loaded, StoreError> {
    let loader = Loader { connection, file };
    loader.check_structure()?;
    let (commits, time) = loader.meta()?;
    let messages = loader.messages()?;
    let retained = loader.retained()?;
    let flows = loader.flows()?;
    let mut sessions = loader.sessions()?;
    loader.subscriptions(&mut sessions)?;
    loader.deliveries(&mut sessions)?;
    loader.join_flows(&mut sessions, &flows)?;
    loader.check_messages(&sessions, &messages)?;
    let stored = Stored { sessions: sessions.into_values().collect(), messages, retained };
    Ok(Loaded { stored, flows, commits, time })
}

struct Loader<'a> {
    connection: &'a Connection,
    file: &'a Path,
}

impl Loader<'_> {
    fn check_structure(&self) -> Result<(), StoreError> {
        let verdict: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|source| StoreError::sqlite("check", self.file, source))?;
        if verdict == "ok" { Ok(()) } else { Err(self.damaged(verdict)) }
    }

    fn meta(&self) -> Result<(u64, Time), StoreError> {
        let rows = self.rows("SELECT commits, time_ms FROM meta", |row| {
            Ok(Some((row.get(0)?, Time::from_ms(row.get(1)?))))
        })?;
        rows.first().copied().ok_or_else(|| self.damaged("the table meta is empty"))
    }

    fn messages(&self) -> Result<Vec<(MessageId, Arc<Message>)>, StoreError> {
        self.rows("SELECT id, topic, payload, body FROM message ORDER BY id", |row| {
            let id = MessageId(row.get(0)?);
            let message = rows::read_message(id, row.get(1)?, row.get(2)?, row.get_ref(3)?.as_blob()?);
            Ok(message.map(|message| (id, Arc::new(message))))
        })
    }

    fn retained(&self) -> Result<Vec<Arc<Message>>, StoreError> {
        self.rows("SELECT topic, payload, body FROM retained ORDER BY topic", |row| {
            Ok(rows::read_retained(row.get(0)?, row.get(1)?, row.get_ref(2)?.as_blob()?).map(Arc::new))
        })
    }

    fn flows(&self) -> Result<Flows, StoreError> {
        let rows = self.rows("SELECT session, body FROM flow", |row| {
            let id = SessionId(row.get(0)?);
            Ok(rows::read_flow(id, row.get_ref(1)?.as_blob()?).map(|flow| (id, flow)))
        })?;
        Ok(rows.into_iter().collect())
    }

    fn sessions(&self) -> Result<BTreeMap<SessionId, SessionRows>, StoreError> {
        let rows = self.rows("SELECT id, body FROM session", |row| {
            let id = SessionId(row.get(0)?);
            let session = rows::read_session(id, row.get_ref(1)?.as_blob()?);
            Ok(session.map(|session| (id, (session, Vec::new(), Vec::new(), Vec::new()))))
        })?;
        Ok(rows.into_iter().collect())
    }

    fn subscriptions(&self, sessions: &mut BTreeMap<SessionId, SessionRows>) -> Result<(), StoreError> {
        let rows = self.rows("SELECT session, filter, body FROM subscription", |row| {
            let id = SessionId(row.get(0)?);
            let subscription = rows::read_subscription(id, row.get(1)?, row.get_ref(2)?.as_blob()?);
            Ok(subscription.map(|subscription| (id, subscription)))
        })?;
        for (id, subscription) in rows {
            self.owner(sessions, id)?.1.push(subscription);
        }
        Ok(())
    }

    fn deliveries(&self, sessions: &mut BTreeMap<SessionId, SessionRows>) -> Result<(), StoreError> {
        let sql = "SELECT session, sequence, body FROM delivery ORDER BY session, sequence";
        let rows = self.rows(sql, |row| {
            let id = SessionId(row.get(0)?);
            let delivery = rows::read_delivery(id, row.get(1)?, row.get_ref(2)?.as_blob()?);
            Ok(delivery.map(|delivery| (id, delivery)))
        })?;
        for (id, delivery) in rows {
            self.owner(sessions, id)?.2.push(delivery);
        }
        Ok(())
    }

    fn join_flows(
        &self,
        sessions: &mut BTreeMap<SessionId, SessionRows>,
        flows: &Flows,
    ) -> Result<(), StoreError> {
        for (&id, flow) in flows {
            let (_, _, deliveries, received) = self.owner(sessions, id)?;
            received.extend(&flow.received);
            for (&sequence, &phase) in &flow.phases {
                let found = deliveries.binary_search_by_key(&sequence, |delivery| delivery.sequence);
                let at = found
                    .map_err(|_| self.damaged(format!("delivery {sequence} of session {} is gone", id.0)))?;
                deliveries[at].phase = phase;
            }
        }
        Ok(())
    }

    /// A delivery needs its message until PUBREL was sent.
    fn check_messages(
        &self,
        sessions: &BTreeMap<SessionId, SessionRows>,
        messages: &[(MessageId, Arc<Message>)],
    ) -> Result<(), StoreError> {
        let present: FxHashSet<MessageId> = messages.iter().map(|(id, _)| *id).collect();
        let mut deliveries = sessions.values().flat_map(|(_, _, deliveries, _)| deliveries);
        let orphan = deliveries.find(|delivery| {
            !matches!(delivery.phase, Phase::Released(_)) && !present.contains(&delivery.message)
        });
        orphan.map_or(Ok(()), |delivery| Err(self.damaged(format!("message {} is gone", delivery.message.0))))
    }

    fn owner<'a>(
        &self,
        sessions: &'a mut BTreeMap<SessionId, SessionRows>,
        id: SessionId,
    ) -> Result<&'a mut SessionRows, StoreError> {
        sessions.get_mut(&id).ok_or_else(|| self.damaged(format!("session {} is gone", id.0)))
    }

    /// All rows of a query; `None` from `read` is a row whose checksum does not match.
    fn rows<T>(
        &self,
        sql: &str,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Vec<T>, StoreError> {
        let failed = |source| StoreError::sqlite("read", self.file, source);
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let rows = statement.query_map([], |row| read(row)).map_err(failed)?;
        rows.map(|row| row.map_err(failed)?.ok_or_else(|| self.damaged(format!("a checksum fails: {sql}"))))
            .collect()
    }

    fn damaged(&self, detail: impl Into<String>) -> StoreError {
        StoreError::damaged(self.file, detail)
    }
}
