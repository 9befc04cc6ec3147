//! One batch, one transaction.

use super::pending::{Pending, PendingSession};
use super::rows::{Body, Flows};
use mqtally_proto::Time;
use mqtally_proto::broker::{Message, MessageId, SessionId, StoredDelivery};
use rusqlite::{Connection, Result};
use std::sync::Arc;

/// Writes and commits everything in `pending`, and empties it.
pub(super) fn write(
    connection: &Connection,
    pending: &mut Pending,
    flows: &Flows,
    commits: u64,
    now: Time,
) -> Result<()> {
    let transaction = connection.unchecked_transaction()?;
    let mut writer = Writer { connection: &transaction, body: Body::default() };
    writer.run("UPDATE meta SET commits = ?1, time_ms = ?2", (commits, now.as_ms()))?;
    for (&id, session) in &pending.sessions {
        writer.session(id, session)?;
        writer.flow(id, session, flows)?;
    }
    writer.messages(pending)?;
    writer.retained(pending)?;
    transaction.commit()?;
    pending.clear();
    Ok(())
}

struct Writer<'a> {
    connection: &'a Connection,
    body: Body,
}

impl Writer<'_> {
    fn session(&mut self, id: SessionId, session: &PendingSession) -> Result<()> {
        if session.removed {
            self.remove_session(id)?;
        }
        if let Some(row) = &session.row {
            let mut statement =
                self.connection.prepare_cached("INSERT OR REPLACE INTO session VALUES (?1, ?2)")?;
            statement.execute((id.0, self.body.session(row)))?;
        }
        self.subscriptions(id, session)?;
        self.deliveries(id, session)
    }

    fn remove_session(&self, id: SessionId) -> Result<()> {
        for sql in [
            "DELETE FROM session WHERE id = ?1",
            "DELETE FROM subscription WHERE session = ?1",
            "DELETE FROM delivery WHERE session = ?1",
            "DELETE FROM flow WHERE session = ?1",
        ] {
            self.run(sql, [id.0])?;
        }
        Ok(())
    }

    fn subscriptions(&mut self, id: SessionId, session: &PendingSession) -> Result<()> {
        for (filter, row) in &session.subscriptions {
            match row {
                Some(row) => self
                    .connection
                    .prepare_cached("INSERT OR REPLACE INTO subscription VALUES (?1, ?2, ?3)")?
                    .execute((id.0, &**filter, self.body.subscription(id, row)))?,
                None => self
                    .connection
                    .prepare_cached("DELETE FROM subscription WHERE session = ?1 AND filter = ?2")?
                    .execute((id.0, &**filter))?,
            };
        }
        Ok(())
    }

    fn deliveries(&mut self, id: SessionId, session: &PendingSession) -> Result<()> {
        let mut insert = self.connection.prepare_cached("INSERT INTO delivery VALUES (?1, ?2, ?3)")?;
        for (&sequence, row) in &session.deliveries {
            if let Some(row) = row {
                insert.execute((id.0, sequence, self.body.delivery(id, row)))?;
            }
        }
        let sql = "DELETE FROM delivery WHERE session = ?1 AND sequence BETWEEN ?2 AND ?3";
        let mut delete = self.connection.prepare_cached(sql)?;
        for (first, last) in runs(session.deliveries.iter().filter_map(removed::<u64, StoredDelivery>)) {
            delete.execute((id.0, first, last))?;
        }
        Ok(())
    }

    fn flow(&mut self, id: SessionId, session: &PendingSession, flows: &Flows) -> Result<()> {
        if !session.flow_changed {
            return Ok(());
        }
        match flows.get(&id).filter(|flow| !flow.is_empty()) {
            Some(flow) => self
                .connection
                .prepare_cached("INSERT OR REPLACE INTO flow VALUES (?1, ?2)")?
                .execute((id.0, self.body.flow(id, flow))),
            None => self.connection.prepare_cached("DELETE FROM flow WHERE session = ?1")?.execute([id.0]),
        }
        .map(drop)
    }

    fn messages(&mut self, pending: &Pending) -> Result<()> {
        let mut insert = self.connection.prepare_cached("INSERT INTO message VALUES (?1, ?2, ?3, ?4)")?;
        for (&id, message) in &pending.messages {
            if let Some(message) = message {
                let body = self.body.message(id, message);
                insert.execute((id.0, &*message.topic, &*message.payload, body))?;
            }
        }
        let mut delete = self.connection.prepare_cached("DELETE FROM message WHERE id BETWEEN ?1 AND ?2")?;
        let ids = pending.messages.iter().filter_map(removed::<MessageId, Arc<Message>>);
        for (first, last) in runs(ids.map(|id| id.0)) {
            delete.execute((first, last))?;
        }
        Ok(())
    }

    fn retained(&mut self, pending: &Pending) -> Result<()> {
        for (topic, message) in &pending.retained {
            match message {
                Some(message) => self
                    .connection
                    .prepare_cached("INSERT OR REPLACE INTO retained VALUES (?1, ?2, ?3)")?
                    .execute((&**topic, &*message.payload, self.body.retained(message)))?,
                None => self
                    .connection
                    .prepare_cached("DELETE FROM retained WHERE topic = ?1")?
                    .execute([&**topic])?,
            };
        }
        Ok(())
    }

    fn run(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<()> {
        self.connection.prepare_cached(sql)?.execute(parameters).map(drop)
    }
}

fn removed<K: Copy, V>((key, row): (&K, &Option<V>)) -> Option<K> {
    row.is_none().then_some(*key)
}

/// Neighbouring keys as ranges: acknowledgements come mostly in order, and one statement removes a whole run for
/// about the price of one row.
fn runs(keys: impl Iterator<Item = u64>) -> impl Iterator<Item = (u64, u64)> {
    let mut keys = keys.peekable();
    std::iter::from_fn(move || {
        let first = keys.next()?;
        let mut last = first;
        while let Some(next) = keys.next_if_eq(&(last + 1)) {
            last = next;
        }
        Some((first, last))
    })
}
