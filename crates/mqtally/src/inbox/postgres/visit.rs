//! A connection to a shared inbox from a process that is no member.

use super::schema;
use crate::store::StoreError;
use crate::store::postgres::{self, Problem, Url};
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

/// A connection of its own, and what drives it while somebody waits.
#[derive(Debug)]
pub(super) struct Visit {
    url: Url,
    /// Always there, until it is dropped.
    runtime: Option<Runtime>,
    client: Client,
}

/// A runtime must not wait for its end within another one.
impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Visit {
    pub(super) fn start(url: &Url) -> Result<Self, StoreError> {
        let started = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = started
            .map_err(|error| StoreError::postgres(url, Problem::Failed(format!("cannot start: {error}"))))?;
        let client = apart(|| {
            runtime.block_on(async {
                let client = postgres::connect(url).await?;
                schema::visit(&client, url).await?;
                Ok(client)
            })
        })?;
        Ok(Self { url: url.clone(), runtime: Some(runtime), client })
    }

    pub(super) fn query(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, StoreError> {
        let Some(runtime) = &self.runtime else { return Ok(Vec::new()) };
        let answer = apart(|| runtime.block_on(self.client.query(sql, parameters)));
        answer.map_err(|error| StoreError::from_postgres(&self.url, &error))
    }

    /// Statements without parameters or answers.
    pub(super) fn batch(&self, sql: &str) -> Result<(), StoreError> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let answer = apart(|| runtime.block_on(self.client.batch_execute(sql)));
        answer.map_err(|error| StoreError::from_postgres(&self.url, &error))
    }
}

/// On a thread of its own, because the caller's may belong to a runtime, which must not wait for another.
fn apart<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let joined = std::thread::scope(|scope| scope.spawn(act).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
