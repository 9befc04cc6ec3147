//! What became of published messages: a table of a few, a summary of many, or JSON.

use super::style::{BAD, DOUBT, GOOD, Look};
use super::table::{Cell, Column, Table};
use super::words::{NOTHING, count, counted, duration, milliseconds};
use super::{prose::title, words};
use hdrhistogram::Histogram;
use mqtally::publisher::{Failure, Message, Status, Uuid};
use mqtally_proto::packet::Qos;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// More messages than this are summed up.
const ROWS_MAX: usize = 20;
/// A minute of latency is told exactly to three digits; more is told as more.
const LATENCY_US_MAX: u64 = 60_000_000;

/// A message and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) standing: Standing,
}

#[derive(Debug, Clone)]
pub(crate) enum Standing {
    /// Finally, after this time.
    Acknowledged(Duration),
    Failed(Failure),
    /// Neither, when the program ended.
    Left,
}

/// All that is told at the end.
#[derive(Debug)]
pub(crate) struct Summary {
    topic: String,
    qos: Qos,
    message_type: String,
    store: Option<String>,
    /// Messages of earlier starts that were in the store.
    earlier: u64,
    pub(crate) accepted: u64,
    pub(crate) acknowledged: u64,
    pub(crate) failed: u64,
    /// Lines that were no messages.
    pub(crate) invalid: u64,
    /// Messages of this start and earlier ones that are still to be sent.
    left: u64,
    /// Whether it ended before all that was to be published had been read.
    cut_short: bool,
    sessions_lost: u64,
    resent: u64,
    elapsed: Duration,
    latency_us: Histogram<u64>,
    /// The first few messages, and then the failed ones among the rest.
    rows: Vec<Row>,
    failures: Vec<Row>,
}

impl Summary {
    pub(crate) fn new(message: &Message, message_type: &str, store: Option<&Path>, earlier: u64) -> Summary {
        Summary {
            topic: message.topic.to_string(),
            qos: message.qos,
            message_type: message_type.to_owned(),
            store: store.map(|store| store.display().to_string()),
            earlier,
            accepted: 0,
            acknowledged: 0,
            failed: 0,
            invalid: 0,
            left: 0,
            cut_short: false,
            sessions_lost: 0,
            resent: 0,
            elapsed: Duration::ZERO,
            latency_us: Histogram::new_with_max(LATENCY_US_MAX, 3).expect("the bounds are constants"),
            rows: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, row: Row) {
        match &row.standing {
            Standing::Acknowledged(after) => {
                self.acknowledged += 1;
                self.latency_us.saturating_record(us(*after));
            }
            Standing::Failed(_) => {
                self.failed += 1;
                if self.failures.len() < ROWS_MAX {
                    self.failures.push(row.clone());
                }
            }
            Standing::Left => {}
        }
        if self.rows.len() <= ROWS_MAX {
            self.rows.push(row);
        }
    }

    pub(crate) fn end(&mut self, elapsed: Duration, status: &Status, cut_short: bool) {
        self.cut_short = cut_short;
        let settled = status.acknowledged + status.failed;
        self.left = (self.earlier + self.accepted).saturating_sub(settled);
        self.acknowledged = status.acknowledged;
        self.failed = status.failed;
        self.sessions_lost = status.sessions_lost;
        self.resent = status.resent;
        self.elapsed = elapsed;
    }

    /// Whether every message that there was reached its final acknowledgement.
    pub(crate) fn is_complete(&self) -> bool {
        !self.cut_short && self.left == 0 && self.failed == 0 && self.invalid == 0
    }

    fn percentile(&self, percent: f64) -> u64 {
        self.latency_us.value_at_percentile(percent)
    }
}

/// For people.
pub(crate) fn render(summary: &Summary, look: Look) -> String {
    let mut text = String::new();
    if (1..=ROWS_MAX).contains(&summary.rows.len()) {
        text += &title(look, "Messages", "ms from publish to the final acknowledgement");
        text += &table(summary, look);
    } else if !summary.rows.is_empty() {
        text += &title(
            look,
            &summary.topic,
            &format!("{}, ms from publish to the final acknowledgement", summary.qos),
        );
        text += &percentiles(summary, look);
        text += &failures(summary, look);
    }
    text + &closing(summary, look)
}

fn table(summary: &Summary, look: Look) -> String {
    let mut table = Table::new([
        (Column::Left, "message id"),
        (Column::Elastic, "topic"),
        (Column::Right, "QoS"),
        (Column::Elastic, "type"),
        (Column::Elastic, "status"),
        (Column::Right, "latency"),
    ]);
    for Row { id, standing } in &summary.rows {
        let latency = match standing {
            Standing::Acknowledged(after) => milliseconds(us(*after).max(1)),
            Standing::Failed(_) | Standing::Left => NOTHING.to_owned(),
        };
        table.row([
            id.to_string().into(),
            summary.topic.as_str().into(),
            (summary.qos as u8).to_string().into(),
            summary.message_type.as_str().into(),
            status(summary, standing),
            latency.into(),
        ]);
    }
    table.render(look)
}

fn percentiles(summary: &Summary, look: Look) -> String {
    let mut table = Table::new([
        (Column::Right, "acknowledged"),
        (Column::Right, "p50"),
        (Column::Right, "p90"),
        (Column::Right, "p99"),
        (Column::Right, "max"),
    ]);
    table.row([
        count(summary.latency_us.len()).into(),
        milliseconds(summary.percentile(50.0)).into(),
        milliseconds(summary.percentile(90.0)).into(),
        milliseconds(summary.percentile(99.0)).into(),
        milliseconds(summary.latency_us.max()).into(),
    ]);
    table.render(look)
}

fn failures(summary: &Summary, look: Look) -> String {
    let mut table = Table::bare([Column::Left, Column::Elastic]);
    for Row { id, standing } in &summary.failures {
        table.row([id.to_string().into(), status(summary, standing)]);
    }
    table.render(look)
}

fn status(summary: &Summary, standing: &Standing) -> Cell {
    match standing {
        // QoS 0 has no acknowledgement: it was handed to the network, and that is all.
        Standing::Acknowledged(_) if summary.qos == Qos::AtMostOnce => "sent".into(),
        Standing::Acknowledged(_) => Cell::styled("acknowledged", GOOD),
        Standing::Failed(failure) => Cell::styled(&format!("failed: {failure}"), BAD),
        Standing::Left if summary.store.is_some() => Cell::styled("stored", DOUBT),
        Standing::Left => Cell::styled("lost", BAD),
    }
}

/// One sentence on the whole, and one on what the reader may have to do.
pub(crate) fn closing(summary: &Summary, look: Look) -> String {
    let verb = if summary.qos == Qos::AtMostOnce { "sent" } else { "acknowledged" };
    let mut parts = vec![format!("{} {verb}", count(summary.acknowledged))];
    let mut part = |number: u64, what: &str| {
        if number > 0 {
            parts.push(format!("{} {what}", count(number)));
        }
    };
    part(summary.failed, "failed");
    part(summary.left, if summary.store.is_some() { "still stored" } else { "lost" });
    part(summary.invalid, "left out");
    part(summary.resent, "sent again because the broker had lost the session");
    let style = if summary.is_complete() { GOOD } else { BAD };
    let mut text = look.paint(style, &parts.join(", "));
    text += &format!(" of {}", counted(summary.accepted + summary.earlier, "message"));
    if summary.earlier > 0 {
        text += &format!(", {} of them from before", count(summary.earlier));
    }
    text += &format!(", in {}\n", duration(summary.elapsed.as_millis() as u64));
    text + &advice(summary)
}

fn advice(summary: &Summary) -> String {
    let mut text = String::new();
    if summary.cut_short {
        text += "it ended before all that there was to publish had been read: the rest was not published\n";
    }
    let Some(store) = &summary.store else { return text };
    let store = words::visible(store);
    if summary.left > 0 {
        text += &format!("send what is left with: mqtally pub --drain --store {store}\n");
    }
    if summary.failed > 0 {
        text += &format!(
            "failed messages are kept, and not sent again unless you say so: mqtally outbox ls --store {store}\n"
        );
    }
    text
}

/// For programs; schema `mqtally.publish/1`.
pub(crate) fn json(summary: &Summary) -> Vec<u8> {
    let few = summary.rows.len() <= ROWS_MAX;
    let messages = if few { &summary.rows } else { &summary.failures };
    let value = json!({
        "schema": "mqtally.publish/1",
        "complete": summary.is_complete(),
        "topic": summary.topic,
        "qos": summary.qos as u8,
        "accepted": summary.accepted,
        "earlier": summary.earlier,
        "acknowledged": summary.acknowledged,
        "failed": summary.failed,
        "left": summary.left,
        "cut_short": summary.cut_short,
        "invalid": summary.invalid,
        "sessions_lost": summary.sessions_lost,
        "resent": summary.resent,
        "latency_us": {
            "p50": summary.percentile(50.0), "p90": summary.percentile(90.0), "p99": summary.percentile(99.0),
            "max": summary.latency_us.max(),
        },
        "elapsed_ms": summary.elapsed.as_millis() as u64,
        "messages": messages.iter().map(|row| message(summary, row)).collect::<Vec<_>>(),
    });
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

fn message(summary: &Summary, Row { id, standing }: &Row) -> Value {
    let id = id.to_string();
    match standing {
        Standing::Acknowledged(after) => {
            let status = if summary.qos == Qos::AtMostOnce { "sent" } else { "acknowledged" };
            json!({ "id": id, "status": status, "latency_us": us(*after) })
        }
        Standing::Failed(failure) => {
            let reason = failure.reason.map(|reason| reason.0);
            json!({ "id": id, "status": "failed", "reason": reason, "detail": failure.detail })
        }
        Standing::Left => {
            json!({ "id": id, "status": if summary.store.is_some() { "stored" } else { "lost" } })
        }
    }
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
