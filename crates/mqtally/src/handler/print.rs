//! `print`: one line a message, to a writer of the caller's. A batch is one write and one flush.

use super::batch::{Batcher, Sink, write_lines};
use super::record::Line;
use super::retry;
use crate::inbox::{Delivery, Outcome};
use std::io::{self, Write};
use std::str::FromStr;
use std::time::Duration;

/// What a printed line holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The payload as it is, whatever bytes these are (`payload`).
    Payload,
    /// Topic, a space, payload (`topic`).
    #[default]
    Topic,
    /// The JSON object that `jsonl` writes (`json`).
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "payload" => Ok(Self::Payload),
            "topic" => Ok(Self::Topic),
            "json" => Ok(Self::Json),
            other => Err(format!("{other:?} is no print format; use payload, topic or json")),
        }
    }
}

/// Prints messages; clones share one writer, which all `print` handlers of a subscriber use.
#[derive(Debug, Clone)]
pub struct Printer(Batcher);

impl Printer {
    /// Prints to `writer`. A write that blocks for longer than `time_max` is a retry for those who wait for it.
    pub fn new(writer: impl Write + Send + 'static, format: Format, time_max: Duration) -> io::Result<Self> {
        Batcher::start("print", Lines { writer, format }, time_max).map(Self)
    }

    pub(super) fn time_max(&self) -> Duration {
        self.0.time_max()
    }

    pub(super) async fn handle(&self, delivery: &Delivery) -> Outcome {
        self.0.handle(delivery).await
    }
}

struct Lines<W> {
    writer: W,
    format: Format,
}

impl<W: Write + Send + 'static> Sink for Lines<W> {
    fn write(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        let lines = batch.iter().map(|delivery| line(delivery, self.format));
        let written = write_lines(&mut self.writer, lines).and_then(|()| self.writer.flush());
        let outcome = || match &written {
            Ok(()) => Outcome::Done,
            Err(error) => retry(format!("cannot print: {error}")),
        };
        batch.iter().map(|_| outcome()).collect()
    }
}

fn line(delivery: &Delivery, format: Format) -> Line {
    match format {
        Format::Payload => Line::plain(Vec::new(), delivery),
        Format::Topic => Line::plain([&delivery.topic.as_bytes()[..], b" "].concat(), delivery),
        Format::Json => Line::json(delivery),
    }
}
