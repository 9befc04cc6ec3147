//! The table of streams: what was sent, what came of it, and how long it took.

use super::prose::title;
use super::style::Look;
use super::table::{Cell, Column, Table};
use super::topics;
use super::words::{NOTHING, count, counted, milliseconds};
use mqtally_history::report::{Percentiles, Report, Stream};

/// More streams than this are folded.
const ROWS_MAX: usize = 12;

/// The table under its title; nothing when there are no streams.
pub(super) fn section(report: &Report, look: Look) -> String {
    if report.streams.is_empty() {
        return String::new();
    }
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
    let mut rows = 0;
    for part in report.streams.chunk_by(|a, b| (&a.group, a.protocol) == (&b.group, b.protocol)) {
        table.heading(&format!("{} on MQTT {}", part[0].group, part[0].protocol));
        for row in folded(part, report) {
            table.row(row.cells());
            rows += 1;
        }
    }
    let slowest = if rows < report.streams.len() { "; folded: the slowest" } else { "" };
    let about = format!("ms until acknowledged, QoS 0 until first arrived{slowest}");
    title(look, "Streams", &about) + &table.render(look)
}

/// What tells rows of a part of the run apart: a topic of its own, or else window and QoS.
type Key<'a> = (Option<&'a str>, Option<u32>, u8);

/// One stream, or several that were folded.
struct Row<'a> {
    key: Key<'a>,
    topic: String,
    streams: u64,
    published: u64,
    acknowledged: u64,
    delivered: u64,
    duplicates: u64,
    latency: Percentiles,
}

/// The rows of a part of the run: the lesson's streams before the rest, small windows first.
fn folded<'a>(part: &'a [Stream], report: &'a Report) -> Vec<Row<'a>> {
    let (shared, many) = (topics::shared(report), report.streams.len() > ROWS_MAX);
    let mut rows: Vec<Row<'_>> = Vec::new();
    for stream in part {
        let lesson = report.messages.iter().any(|message| message.topic == stream.topic);
        let own = (lesson || !many).then_some(stream.topic.as_str());
        let row = Row::new(stream, (own, topics::window(&stream.topic), stream.qos), shared);
        match rows.iter_mut().find(|other| other.key == row.key) {
            Some(other) => other.add(&row),
            None => rows.push(row),
        }
    }
    rows.sort_by_key(|row| (row.key.0.is_none(), row.key.1, row.key.2));
    rows
}

impl<'a> Row<'a> {
    fn new(stream: &Stream, key: Key<'a>, shared: &str) -> Row<'a> {
        Row {
            key,
            topic: topics::below(&stream.topic, shared).to_owned(),
            streams: 1,
            published: stream.published,
            acknowledged: stream.acknowledged,
            delivered: stream.delivered,
            duplicates: stream.duplicates,
            latency: if stream.qos == 0 { stream.end_to_end_us } else { stream.ack_latency_us },
        }
    }

    /// Percentiles of several streams cannot be merged; the slowest of each is an upper bound that holds for all.
    fn add(&mut self, other: &Row<'_>) {
        self.topic = topics::covering(&self.topic, &other.topic);
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
        let (_, _, qos) = self.key;
        let acknowledged = if qos == 0 { NOTHING.to_owned() } else { count(self.acknowledged) };
        [
            topic.into(),
            qos.to_string().into(),
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
