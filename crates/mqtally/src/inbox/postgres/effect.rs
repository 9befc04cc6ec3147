//! Effects in the open transaction: all of a turn in one go, and each by itself where that fails.

use super::desk::{Desk, Error};
use crate::inbox::statement::{Statement, Value};
use crate::store::postgres::said;
use bytes::BytesMut;
use std::error::Error as StdError;
use std::pin::Pin;
use std::task::Poll;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

impl Desk {
    /// Runs the effects in order. What fails leaves nothing behind, and says why. The outer error ends the transaction.
    pub(super) async fn run_effects(
        &mut self,
        effects: &[Vec<Statement>],
    ) -> Result<Vec<Result<(), String>>, Error> {
        if effects.is_empty() {
            return Ok(Vec::new());
        }
        if self.run_together(effects).await?.is_ok() {
            return Ok(effects.iter().map(|_| Ok(())).collect());
        }
        let mut answers = Vec::with_capacity(effects.len());
        for effect in effects {
            answers.push(self.run_together(std::slice::from_ref(effect)).await?);
        }
        Ok(answers)
    }

    async fn run_together(&mut self, effects: &[Vec<Statement>]) -> Result<Result<(), String>, Error> {
        self.batch("SAVEPOINT effect").await?;
        match self.run_all(effects).await {
            Ok(()) => self.batch("RELEASE effect").await.map(Ok),
            Err(error) if ends_session(&error) => Err(error.into()),
            Err(error) => {
                self.batch("ROLLBACK TO effect; RELEASE effect").await?;
                Ok(Err(said(&error)))
            }
        }
    }

    /// One after the other, but without waiting for each answer before the next is sent.
    async fn run_all(&mut self, effects: &[Vec<Statement>]) -> Result<(), tokio_postgres::Error> {
        let mut prepared = Vec::new();
        for statement in effects.iter().flatten() {
            prepared.push((self.prepare(&statement.sql).await?, &statement.values));
        }
        let client = self.client();
        let sent = prepared.iter().map(|(statement, values)| client.execute_raw(statement, values.iter()));
        join_in_order(sent.map(Box::pin).collect()).await.into_iter().try_for_each(|answer| answer.map(drop))
    }
}

/// All answers, in order; every future is polled before the first answer is waited for, which is what sends it.
async fn join_in_order<T>(mut futures: Vec<Pin<Box<impl Future<Output = T>>>>) -> Vec<T> {
    let mut answers: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut waits = false;
        for (future, answer) in futures.iter_mut().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(ready) => *answer = Some(ready),
                Poll::Pending => waits = true,
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// Errors after which there is no transaction any more.
fn ends_session(error: &tokio_postgres::Error) -> bool {
    let shut_down =
        [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT];
    error.is_closed()
        || error.code().is_some_and(|code| shut_down.contains(code))
        || StdError::source(error).is_some_and(<dyn StdError>::is::<std::io::Error>)
}

impl ToSql for Value {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Integer(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bytes(bytes) if *kind == Type::BYTEA => out.extend_from_slice(bytes),
            Self::Bytes(bytes) => out.extend_from_slice(std::str::from_utf8(bytes)?.as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, kind: &Type) -> Format {
        match self {
            Self::Bytes(_) if *kind == Type::BYTEA => Format::Binary,
            _ => Format::Text,
        }
    }

    to_sql_checked!();
}
