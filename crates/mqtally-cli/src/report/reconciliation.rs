//! Both ends compared: a table per topic, or JSON.

use super::prose::title;
use super::style::{BAD, DOUBT, GOOD, Look, PLAIN};
use super::table::{Cell, Column, Table};
use super::words::{NOTHING, count, counted};
use anstyle::Style;
use mqtally::reconcile::{Counts, Reconciliation, Verdict};
use serde_json::{Value, json};
use std::cmp::Reverse;

/// More topics than this are told only where something is missing, and as many of those at most.
const ROWS_MAX: usize = 40;

/// For people: what became of the messages of each topic.
pub(crate) fn table(found: &Reconciliation, look: Look) -> String {
    let mut table = Table::new([
        (Column::Elastic, "topic"),
        (Column::Right, "published"),
        (Column::Right, "acked"),
        (Column::Right, "failed"),
        (Column::Right, "unsent"),
        (Column::Right, "delivered"),
        (Column::Right, "processed"),
        (Column::Right, "waiting"),
        (Column::Right, "dead"),
        (Column::Right, "lost"),
        (Column::Right, "not yet"),
        (Column::Right, "outside"),
    ]);
    let topics = worst_first(found);
    for (topic, counts) in topics.iter().take(ROWS_MAX) {
        table.row(row(topic, counts));
    }
    if topics.len() > 1 {
        table.row(row("all topics", &found.total()));
    }
    let mut text = title(look, "Messages", "from the outbox to the inbox, by id") + &table.render(look);
    if topics.len() > ROWS_MAX {
        let more = (topics.len() - ROWS_MAX) as u64;
        text += &format!("  and {}, in no worse state\n", counted(more, "more topic"));
    }
    text
}

fn worst_first(found: &Reconciliation) -> Vec<(&str, &Counts)> {
    let mut topics: Vec<_> = found.topics.iter().map(|(topic, counts)| (&**topic, counts)).collect();
    if topics.len() > ROWS_MAX {
        let missing = |counts: &Counts| (counts.lost, counts.not_yet_arrived, counts.outside_window);
        topics.sort_by_key(|(_, counts)| Reverse(missing(counts)));
    }
    topics
}

fn row(topic: &str, counts: &Counts) -> [Cell; 12] {
    [
        topic.into(),
        number(counts.published, PLAIN),
        number(counts.acknowledged, PLAIN),
        number(counts.failed, BAD),
        number(counts.unsent, DOUBT),
        number(counts.delivered, PLAIN),
        number(counts.processed, PLAIN),
        number(counts.waiting, DOUBT),
        number(counts.dead, BAD),
        number(counts.lost, BAD),
        number(counts.not_yet_arrived, DOUBT),
        number(counts.outside_window, DOUBT),
    ]
}

fn number(number: u64, style: Style) -> Cell {
    if number == 0 { NOTHING.into() } else { Cell::styled(&count(number), style) }
}

/// What it comes to, and what neither end can say per topic.
pub(crate) fn closing(found: &Reconciliation, look: Look) -> String {
    let total = found.total();
    let mut missing = Vec::new();
    let mut part = |number: u64, what: &str| {
        if number > 0 {
            missing.push(format!("{} {what}", count(number)));
        }
    };
    part(total.lost, "lost");
    part(total.not_yet_arrived, "not yet arrived");
    part(total.outside_window, "outside the retention window");
    let style = match found.verdict() {
        Verdict::Complete => GOOD,
        Verdict::Undecided => DOUBT,
        Verdict::Lost => BAD,
    };
    let verdict = if missing.is_empty() { "nothing lost".to_owned() } else { missing.join(", ") };
    let verdict = look.paint(style, &verdict);
    let mut text = format!("{verdict} of {} acknowledged", counted(total.acknowledged, "message"));
    text += &format!("; {} dropped", counted(found.duplicated, "duplicate"));
    text += &format!(", {} unexpected\n", count(found.unexpected));
    text + &notes(found, &total)
}

fn notes(found: &Reconciliation, total: &Counts) -> String {
    let mut text = String::new();
    if total.sent > 0 {
        text += &format!("{} of QoS 0: sent, and acknowledged by nobody\n", counted(total.sent, "message"));
    }
    if found.forgotten > 0 {
        let forgotten = counted(found.forgotten, "earlier message");
        text += &format!("{forgotten} of the outbox: no longer remembered there, not compared\n");
    }
    text
}

/// For programs; schema `mqtally.reconcile/1`.
pub(crate) fn json(found: &Reconciliation) -> Vec<u8> {
    let topics: Vec<_> = found.topics.iter().map(|(topic, counts)| with_topic(topic, counts)).collect();
    let value = json!({
        "schema": "mqtally.reconcile/1",
        "verdict": match found.verdict() {
            Verdict::Complete => "complete",
            Verdict::Undecided => "undecided",
            Verdict::Lost => "lost",
        },
        "total": fields(&found.total()),
        "duplicated": found.duplicated,
        "unexpected": found.unexpected,
        "forgotten": found.forgotten,
        "topics": topics,
    });
    let mut bytes = value.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

fn with_topic(topic: &str, counts: &Counts) -> Value {
    let mut value = fields(counts);
    value["topic"] = topic.into();
    value
}

fn fields(counts: &Counts) -> Value {
    json!({
        "published": counts.published,
        "acknowledged": counts.acknowledged,
        "sent": counts.sent,
        "failed": counts.failed,
        "unsent": counts.unsent,
        "delivered": counts.delivered,
        "processed": counts.processed,
        "waiting": counts.waiting,
        "dead": counts.dead,
        "lost": counts.lost,
        "not_yet_arrived": counts.not_yet_arrived,
        "outside_window": counts.outside_window,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Reconciliation {
        let good = Counts { published: 12_000, acknowledged: 11_990, unsent: 10, ..Counts::default() };
        let good = Counts { delivered: 11_990, processed: 11_980, waiting: 10, ..good };
        let bad = Counts { published: 9, acknowledged: 7, failed: 2, delivered: 3, ..Counts::default() };
        let bad = Counts { processed: 2, dead: 1, lost: 2, not_yet_arrived: 1, outside_window: 1, ..bad };
        let sent = Counts { published: 5, sent: 5, delivered: 4, processed: 4, ..Counts::default() };
        let topics = [("sensors/temperature", good), ("alerts/door", bad), ("beats", sent)];
        let topics = topics.map(|(topic, counts)| (topic.into(), counts)).into();
        Reconciliation { topics, duplicated: 31, unexpected: 4, forgotten: 1_000 }
    }

    #[test]
    fn both_ends_as_a_table() {
        let text = table(&found(), Look::PLAIN) + &closing(&found(), Look::PLAIN);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn nothing_missing_is_said_in_a_line() {
        let found = Reconciliation::default();
        assert_eq!(
            closing(&found, Look::PLAIN),
            "nothing lost of 0 messages acknowledged; 0 duplicates dropped, 0 unexpected\n"
        );
    }

    #[test]
    fn of_many_topics_the_worst_are_told() {
        let complete =
            Counts { published: 1, acknowledged: 1, delivered: 1, processed: 1, ..Counts::default() };
        let lost = Counts { delivered: 0, processed: 0, lost: 1, ..complete };
        let topic = |n: usize| (format!("t/{n:03}").into(), if n == 77 { lost } else { complete });
        let found = Reconciliation { topics: (0..100).map(topic).collect(), ..Reconciliation::default() };
        let text = table(&found, Look::PLAIN);
        assert!(text.lines().nth(2).is_some_and(|line| line.contains("t/077")), "{text}");
        assert!(text.ends_with("and 60 more topics, in no worse state\n"), "{text}");
    }
}
