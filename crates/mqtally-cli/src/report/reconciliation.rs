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

const COLUMNS: [(Column, &str); 13] = [
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
    (Column::Right, "duplicated"),
];
const ALL: [usize; 13] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
/// The columns that are there even where they hold nothing.
const ALWAYS: [usize; 8] = [0, 1, 2, 5, 6, 8, 9, 12];

/// For people: what became of the messages of each topic.
pub(crate) fn table(found: &Reconciliation, look: Look) -> String {
    let total = found.total();
    let Counts { failed, unsent, waiting, not_yet_arrived, outside_window, .. } = total;
    let mut text = title(look, "Messages", "from the outbox to the inbox, by id");
    text += &match failed + unsent + waiting + not_yet_arrived + outside_window {
        0 => rows(found, &total, ALWAYS, look),
        _ => rows(found, &total, ALL, look),
    };
    if found.topics.len() > ROWS_MAX {
        let more = (found.topics.len() - ROWS_MAX) as u64;
        text += &format!("  and {}, in no worse state\n", counted(more, "more topic"));
    }
    text
}

fn rows<const N: usize>(found: &Reconciliation, total: &Counts, of: [usize; N], look: Look) -> String {
    let mut table = Table::new(of.map(|at| COLUMNS[at]));
    for (topic, counts) in worst_first(found).iter().take(ROWS_MAX) {
        let cells = row(topic, counts);
        table.row(of.map(|at| cells[at].clone()));
    }
    if found.topics.len() > 1 {
        let cells = row("all topics", total);
        table.row(of.map(|at| cells[at].clone()));
    }
    table.render(look)
}

fn worst_first(found: &Reconciliation) -> Vec<(&str, &Counts)> {
    let mut topics: Vec<_> = found.topics.iter().map(|(topic, counts)| (&**topic, counts)).collect();
    if topics.len() > ROWS_MAX {
        let missing = |counts: &Counts| (counts.lost, counts.not_yet_arrived, counts.outside_window);
        topics.sort_by_key(|(_, counts)| Reverse(missing(counts)));
    }
    topics
}

fn row(topic: &str, counts: &Counts) -> [Cell; 13] {
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
        number(counts.duplicated.total(), PLAIN),
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
    text += &format!("; {} dropped", counted(total.duplicated.total(), "duplicate"));
    let elsewhere = found.duplicated.total().saturating_sub(total.duplicated.total());
    if elsewhere > 0 {
        text += &format!(" and {} on other topics", count(elsewhere));
    }
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
        "duplicated": found.duplicated.total(),
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
        "duplicated": counts.duplicated.total(),
        "redelivered": counts.duplicated.redelivered,
        "published_again": counts.duplicated.published_again,
        "replayed_again": counts.duplicated.replayed_again,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtally::inbox::Copies;

    fn found() -> Reconciliation {
        let good = Counts { published: 12_000, acknowledged: 11_990, unsent: 10, ..Counts::default() };
        let good = Counts { delivered: 11_990, processed: 11_980, waiting: 10, ..good };
        let bad = Counts { published: 9, acknowledged: 7, failed: 2, delivered: 3, ..Counts::default() };
        let bad = Counts { processed: 2, dead: 1, lost: 2, not_yet_arrived: 1, outside_window: 1, ..bad };
        let bad =
            Counts { duplicated: Copies { redelivered: 3, published_again: 4, replayed_again: 5 }, ..bad };
        let sent = Counts { published: 5, sent: 5, delivered: 4, processed: 4, ..Counts::default() };
        let topics = [("sensors/temperature", good), ("alerts/door", bad), ("beats", sent)];
        let topics = topics.map(|(topic, counts)| (topic.into(), counts)).into();
        let duplicated = Copies { redelivered: 31, ..Copies::default() };
        Reconciliation { topics, duplicated, unexpected: 4, forgotten: 1_000, oldest_unsent: None }
    }

    #[test]
    fn both_ends_as_a_table() {
        let text = table(&found(), Look::PLAIN) + &closing(&found(), Look::PLAIN);
        insta::assert_snapshot!(text);
    }

    #[test]
    fn columns_that_hold_nothing_make_room() {
        let counts =
            Counts { published: 1, acknowledged: 1, delivered: 1, processed: 1, ..Counts::default() };
        let topics = [("t".into(), counts)].into();
        let found = Reconciliation { topics, ..Reconciliation::default() };
        insta::assert_snapshot!(table(&found, Look::PLAIN));
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
