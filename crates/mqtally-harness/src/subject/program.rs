//! The process of a program under test: what it is told, how it is ended.
//!
//! It runs in a process group of its own, and a kill strikes the whole group: a wrapper script may stand around it.

use super::{Reports, Subject};
use crate::process::{ProcessError, Started, command_words};
use crate::proxy::Proxy;
use mqtally::endpoint::Endpoint;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long a program that was asked to stop may take, before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How long to wait for what a program that is gone has said; a child of its own may keep the stream open.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// Where a program finds what it needs: for its environment as `MQTALLY_…`, for its command in braces.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    values: Vec<(&'static str, String)>,
    address: String,
}

impl Place {
    /// The place behind `proxy` of a broker with these credentials, on this topic.
    pub(crate) fn new(proxy: &Proxy, broker: &Endpoint, topic: &str, reports: &Reports) -> Self {
        let address = proxy.address();
        let values = vec![
            ("url", format!("mqtt://{address}")),
            ("host", address.ip().to_string()),
            ("port", address.port().to_string()),
            ("topic", topic.to_owned()),
            ("report_url", reports.url()),
            ("username", broker.username().unwrap_or_default().to_owned()),
            ("password", broker.password().unwrap_or_default().to_owned()),
        ];
        Self { values, address: address.to_string() }
    }

    /// The same with one more.
    #[must_use]
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.values.push((name, value.into()));
        self
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn environment(&self, directory: &str) -> Vec<(String, String)> {
        let named = self.values.iter().filter(|(_, value)| !value.is_empty());
        let mut environment: Vec<(String, String)> =
            named.map(|(name, value)| (format!("MQTALLY_{}", name.to_uppercase()), value.clone())).collect();
        environment.push(("MQTALLY_BROKER".to_owned(), self.values[0].1.clone()));
        environment.push(("MQTALLY_DIR".to_owned(), directory.to_owned()));
        // Lines that wait in a buffer die with the process, and broken lines cannot be read.
        environment.push(("PYTHONUNBUFFERED".to_owned(), "1".to_owned()));
        environment.push(("PYTHONIOENCODING".to_owned(), "utf-8".to_owned()));
        environment.push(("COLUMNS".to_owned(), "500".to_owned()));
        environment
    }
}

/// A program that runs. Whatever is left of it is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    process: Started,
    /// Ends with its standard output.
    hearing: Option<JoinHandle<()>>,
}

impl Program {
    /// Starts it; each line that it prints is told.
    pub(crate) fn start(
        subject: &Subject,
        place: &Place,
        told: impl FnMut(&str) + Send + 'static,
    ) -> Result<Self, ProcessError> {
        let directory = subject.directory.to_string_lossy();
        let mut values = place.values.clone();
        values.push(("dir", directory.clone().into_owned()));
        let words = command_words(&subject.command, &values)?;
        let mut process = Started::new(&words, &place.environment(&directory))?;
        let hearing = process.listen(told);
        Ok(Self { process, hearing })
    }

    /// Waits for its end; how it was, with its last words.
    pub(crate) async fn until_ended(&mut self) -> String {
        self.process.until_ended().await
    }

    /// SIGKILL; returns when it is gone and everything that it said was heard.
    pub(crate) async fn kill_9(&mut self) -> Result<(), ProcessError> {
        self.process.kill_9().await?;
        self.hear_out().await;
        Ok(())
    }

    /// SIGTERM, and SIGKILL where that does not help.
    pub(crate) async fn stop(&mut self) -> Result<(), ProcessError> {
        self.process.terminate(STOP_LIMIT).await?;
        self.hear_out().await;
        Ok(())
    }

    /// Waits until everything that a program that is gone said was heard.
    pub(crate) async fn hear_out(&mut self) {
        if let Some(hearing) = self.hearing.take() {
            let _ = timeout(LAST_WORDS_LIMIT, hearing).await;
        }
    }
}
