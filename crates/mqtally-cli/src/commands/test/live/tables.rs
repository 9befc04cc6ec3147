//! What a run came to so far, in rows.

use super::{LINES_MAX, PartSeen};
use crate::live::{Column, Row, Table};
use crate::report::words::{self, count, counted, duration, visible};
use mqtally_history::report::{Finding, Promise, Verdict};
use mqtally_history::timeline::Timeline;

pub(super) fn parts(parts: &[PartSeen]) -> Table {
    let row = |part: &PartSeen| Row {
        key: format!("{} {}", part.name, part.version),
        cells: vec![visible(&part.name), part.version.clone(), part.word.to_owned(), visible(&part.note)],
        tone: part.tone,
        ..Row::default()
    };
    Table {
        id: "parts",
        name: "Parts of the run",
        note: String::new(),
        columns: vec![
            Column::Text("part"),
            Column::Text("MQTT"),
            Column::Word("state"),
            Column::Text("note"),
        ],
        rows: parts.iter().map(row).collect(),
        empty: "None.",
    }
}

pub(super) fn promises(promises: &[Promise]) -> Table {
    let (mut exercised, idle): (Vec<_>, Vec<_>) =
        promises.iter().partition(|it| it.verdict != Verdict::NotExercised);
    exercised.sort_by_key(|it| std::cmp::Reverse(it.verdict));
    let row = |it: &&Promise| {
        let [old, new] = it.obligations_by_protocol.map(count);
        Row {
            key: it.id.to_owned(),
            cells: vec![
                it.id.to_owned(),
                it.title.to_owned(),
                words::verdict(it.verdict).to_owned(),
                old,
                new,
                count(it.violations),
                format!("{:?}", it.severity),
            ],
            tone: it.verdict.into(),
            ..Row::default()
        }
    };
    Table {
        id: "promises",
        name: "Promises",
        note: format!(
            "How often each was put to the test, and whether it held so far; {} not put to the test.",
            counted(idle.len() as u64, "other")
        ),
        columns: vec![
            Column::Text("id"),
            Column::Text("promise"),
            Column::Word("verdict"),
            Column::Number("on 3.1.1"),
            Column::Number("on 5"),
            Column::Number("violations"),
            Column::Text("severity"),
        ],
        rows: exercised.iter().map(row).collect(),
        empty: "None was put to the test yet.",
    }
}

pub(super) fn findings(findings: &[Finding]) -> Table {
    let row = |(number, it): (usize, &Finding)| Row {
        key: number.to_string(),
        cells: vec![
            it.promise.to_owned(),
            words::verdict(it.verdict).to_owned(),
            visible(&it.message),
            words::times(it.count),
            it.protocol.to_owned(),
        ],
        tone: it.verdict.into(),
        ..Row::default()
    };
    Table {
        id: "findings",
        name: "Findings",
        note: String::new(),
        columns: vec![
            Column::Text("promise"),
            Column::Word("verdict"),
            Column::Text("what"),
            Column::Time("seen"),
            Column::Text("MQTT"),
        ],
        rows: findings.iter().take(LINES_MAX).enumerate().map(row).collect(),
        empty: "None.",
    }
}

pub(super) fn faults(timeline: &Timeline) -> Table {
    // In the order in which they came first.
    let mut kinds: Vec<(&str, u64, u64)> = Vec::new();
    for mark in timeline.marks() {
        match kinds.iter_mut().find(|(kind, ..)| *kind == &*mark.kind) {
            Some((_, count, last_ns)) => (*count, *last_ns) = (*count + 1, mark.at_ns),
            None => kinds.push((&mark.kind, 1, mark.at_ns)),
        }
    }
    let row = |(kind, times, last_ns): &(&str, u64, u64)| Row {
        key: (*kind).to_owned(),
        cells: vec![visible(kind), count(*times), duration(last_ns / 1_000_000)],
        ..Row::default()
    };
    let note = match timeline.marks_left_out() {
        0 => "Injected on purpose.".to_owned(),
        more => format!("Injected on purpose; {} not listed.", counted(more, "more fault")),
    };
    Table {
        id: "faults",
        name: "Faults",
        note,
        columns: vec![Column::Text("fault"), Column::Number("times"), Column::Number("last at")],
        rows: kinds.iter().map(row).collect(),
        empty: "None yet.",
    }
}

pub(super) fn troubles(troubles: &[String]) -> Table {
    let row = |(number, line): (usize, &String)| Row {
        key: number.to_string(),
        cells: vec![(number + 1).to_string(), visible(line)],
        ..Row::default()
    };
    Table {
        id: "troubles",
        name: "Left out, or in trouble",
        note: String::new(),
        columns: vec![Column::Number("number"), Column::Text("what")],
        rows: troubles.iter().enumerate().map(row).collect(),
        empty: "Nothing.",
    }
}
