//! The table of streams: what was sent, what came of it, and how long it took.

use super::prose::title;
use super::style::Look;
use super::table::{Cell, Column, Table};
use super::words::{count, counted, milliseconds};
use mqtally_history::report::{Percentiles, Report, Stream};

/// More streams than this are folded.
const ROWS_MAX: usize = 12;

/// The table under its title; nothing when there are no streams.
pub(super) fn section(report: &Report, look: Look) -> String {
    if report.streams.is_empty() {
        return String::new();
    }
    let rows = folded(&report.streams);
    let mut table = Table::new([
        (Column::Elastic, "topic"),
        (Column::Right, "QoS"),
        (Column::Right, "sent"),
        (Column::Right, "acked"),
        (Column::Right, "delivered"),
        (Column::Right, "dup"),
        (Column::Right, "p50"),
        (Column::Right, "p90"),
        (Column::Right, "p99"),
        (Column::Right, "max"),
    ]);
    let mut part = None;
    for row in &rows {
        if part.replace((row.group, row.protocol)) != Some((row.group, row.protocol)) {
            table.heading(&format!("{} on MQTT {}", row.group, row.protocol));
        }
        table.row(row.cells());
    }
    let slowest = if rows.len() < report.streams.len() { "; folded: the slowest" } else { "" };
    let about = format!("ms until acknowledged, QoS 0 until first arrived{slowest}");
    title(look, "Streams", &about) + &table.render(look)
}

/// One stream, or several that differ only in what folding hides.
struct Row<'a> {
    group: &'a str,
    protocol: &'a str,
    topic: String,
    qos: u8,
    streams: u64,
    published: u64,
    acknowledged: u64,
    delivered: u64,
    duplicates: u64,
    latency: Percentiles,
}

fn folded(streams: &[Stream]) -> Vec<Row<'_>> {
    let many = streams.len() > ROWS_MAX;
    let mut rows: Vec<Row<'_>> = Vec::new();
    for stream in streams {
        let row = Row::new(stream, many);
        match rows.iter_mut().find(|other| other.same(&row)) {
            Some(other) => other.add(&row),
            None => rows.push(row),
        }
    }
    rows
}

impl<'a> Row<'a> {
    fn new(stream: &'a Stream, fold: bool) -> Row<'a> {
        Row {
            group: &stream.group,
            protocol: stream.protocol,
            topic: if fold { shape(&stream.topic) } else { stream.topic.clone() },
            qos: stream.qos,
            streams: 1,
            published: stream.published,
            acknowledged: stream.acknowledged,
            delivered: stream.delivered,
            duplicates: stream.duplicates,
            latency: if stream.qos == 0 { stream.end_to_end_us } else { stream.ack_latency_us },
        }
    }

    fn same(&self, other: &Row<'_>) -> bool {
        let key = |row: &Row<'_>| (row.group.to_owned(), row.protocol.to_owned(), row.topic.clone(), row.qos);
        key(self) == key(other)
    }

    /// Percentiles of several streams cannot be merged; the slowest of each is an upper bound that holds for all.
    fn add(&mut self, other: &Row<'_>) {
        self.streams += 1;
        self.published += other.published;
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.duplicates += other.duplicates;
        self.latency = Percentiles {
            p50: self.latency.p50.max(other.latency.p50),
            p90: self.latency.p90.max(other.latency.p90),
            p99: self.latency.p99.max(other.latency.p99),
            max: self.latency.max.max(other.latency.max),
        };
    }

    fn cells(&self) -> [Cell; 10] {
        let topic = match self.streams {
            1 => self.topic.clone(),
            streams => format!("{} ({})", self.topic, counted(streams, "stream")),
        };
        let acknowledged = if self.qos == 0 { "–".to_owned() } else { count(self.acknowledged) };
        [
            topic.into(),
            self.qos.to_string().into(),
            count(self.published).into(),
            acknowledged.into(),
            count(self.delivered).into(),
            count(self.duplicates).into(),
            milliseconds(self.latency.p50).into(),
            milliseconds(self.latency.p90).into(),
            milliseconds(self.latency.p99).into(),
            milliseconds(self.latency.max).into(),
        ]
    }
}

/// The topic with every level that is numbered through made a `+`.
fn shape(topic: &str) -> String {
    let numbered = |level: &str| level.ends_with(|last: char| last.is_ascii_digit());
    topic.split('/').map(|level| if numbered(level) { "+" } else { level }).collect::<Vec<_>>().join("/")
}
