//! The tables of the page. Those that are wide can be scrolled, with the keyboard too.

use super::{class, word};
use crate::report::comparison::Comparison;
use crate::report::topics;
use crate::report::words::{NOTHING, count, counted, duration, milliseconds, share, times, visible};
use maud::{Markup, html};
use mqtally_history::report::{Promise, Report, Stream, Verdict};

/// Rows of a table; the JSON report has all.
const ROWS_MAX: usize = 500;

/// What was broken first, and what the run left alone folded up.
pub(super) fn promises(report: &Report) -> Markup {
    let (idle, mut exercised): (Vec<&Promise>, Vec<&Promise>) =
        report.promises.iter().partition(|promise| promise.verdict == Verdict::NotExercised);
    exercised.sort_by_key(|promise| std::cmp::Reverse(promise.verdict));
    let idle_name = format!("{} not exercised", counted(idle.len() as u64, "promise"));
    html! {
        h2 #promises { "Promises" }
        p .faint { "How often each was put to the test on which MQTT, and whether it held. Zero is not exercised, never kept." }
        @if !exercised.is_empty() { (promise_table("Promises", &exercised)) }
        @if !idle.is_empty() {
            details .more open[exercised.is_empty()] {
                summary { (idle_name) }
                (promise_table(&idle_name, &idle))
            }
        }
    }
}

fn promise_table(name: &str, promises: &[&Promise]) -> Markup {
    scroll(
        name,
        &html! {
            thead { tr {
                th scope="col" { "id" } th scope="col" { "promise" } th scope="col" { "verdict" }
                th scope="col" .number { "on 3.1.1" } th scope="col" .number { "on 5" }
                th scope="col" { "severity" } th scope="col" { "normative statements" }
            } }
            tbody { @for promise in promises { (promise_row(promise)) } }
        },
    )
}

fn promise_row(promise: &Promise) -> Markup {
    let [old, new] = promise.obligations_by_protocol;
    html! {
        tr .(class(promise.verdict)) {
            th scope="row" { (promise.id) }
            td { (promise.title) }
            td { (word(promise.verdict)) @if promise.violations > 0 { ", " (times(promise.violations)) } }
            td .number { (count(old)) }
            td .number { (count(new)) }
            td { (format!("{:?}", promise.severity)) }
            td .faint .statements { (statements(&promise.spec)) }
        }
    }
}

/// `3.1.1: 4.3.3-1, 4.3.3-2 · 5.0: 4.3.3-10` of `3.1.1:MQTT-4.3.3-1` and so on.
fn statements(spec: &[&str]) -> String {
    let mut versions: Vec<(&str, Vec<&str>)> = Vec::new();
    for statement in spec {
        let (version, number) = statement.split_once(":MQTT-").unwrap_or(("", statement));
        match versions.iter_mut().find(|(known, _)| *known == version) {
            Some((_, numbers)) => numbers.push(number),
            None => versions.push((version, vec![number])),
        }
    }
    let told = versions.iter().map(|(version, numbers)| match *version {
        "" => numbers.join(", "),
        _ => format!("{version}: {}", numbers.join(", ")),
    });
    told.collect::<Vec<_>>().join(" · ")
}

pub(super) fn streams(report: &Report) -> Markup {
    let shared = topics::shared(report);
    html! {
        @if !report.streams.is_empty() {
            h2 #streams { "Streams" }
            p .faint {
                "Milliseconds until acknowledged; at QoS 0 until first arrived."
                @if !shared.is_empty() { " Topics below " span .mono { (visible(shared)) } "." }
            }
            (scroll("Streams", &html! {
                thead { tr {
                    th scope="col" { "part" } th scope="col" { "MQTT" } th scope="col" { "topic" } th scope="col" .number { "QoS" } th scope="col" .number { "sent" }
                    th scope="col" .number { "acked" } th scope="col" .number { "delivered" } th scope="col" .number { "dup" }
                    th scope="col" .number { "p50" } th scope="col" .number { "p90" } th scope="col" .number { "p99" } th scope="col" .number { "max" }
                } }
                tbody { @for stream in report.streams.iter().take(ROWS_MAX) { (stream_row(stream, shared)) } }
            }))
            (left_out(report.streams.len(), "stream"))
        }
    }
}

fn stream_row(stream: &Stream, shared: &str) -> Markup {
    let latency = if stream.qos == 0 { stream.end_to_end_us } else { stream.ack_latency_us };
    html! {
        tr {
            td { (visible(&stream.group)) }
            td { (stream.protocol) }
            td .mono .breaks { (visible(topics::below(&stream.topic, shared))) }
            td .number { (stream.qos) }
            td .number { (count(stream.published)) }
            td .number { @if stream.qos == 0 { (NOTHING) } @else { (count(stream.acknowledged)) } }
            td .number { (count(stream.delivered)) }
            td .number { (count(stream.duplicates)) }
            @for us in [latency.p50, latency.p90, latency.p99, latency.max] { td .number { (milliseconds(us)) } }
        }
    }
}

pub(super) fn messages(report: &Report) -> Markup {
    let shared = topics::shared(report);
    let latency = |us: Option<u64>| us.map_or_else(|| NOTHING.to_owned(), milliseconds);
    html! {
        @if !report.messages.is_empty() {
            h2 { "QoS comparison" }
            p .faint { "Single messages: milliseconds until acknowledged, until first arrived, and by how many." }
            (scroll("QoS comparison", &html! {
                thead { tr {
                    th scope="col" .number { "id" } th scope="col" { "topic" } th scope="col" .number { "QoS" } th scope="col" { "type" } th scope="col" { "MQTT" } th scope="col" { "status" }
                    th scope="col" .number { "acked" } th scope="col" .number { "arrived" } th scope="col" .number { "by" }
                } }
                tbody { @for message in report.messages.iter().take(ROWS_MAX) { tr {
                    td .number { (message.message_id) }
                    td .mono .breaks { (visible(topics::below(&message.topic, shared))) }
                    td .number { (message.qos) }
                    td { (visible(&message.message_type)) }
                    td { (message.protocol) }
                    td { (message.status) }
                    td .number { (latency(message.ack_latency_us)) }
                    td .number { (latency(message.end_to_end_us)) }
                    td .number { (count(message.received_by)) }
                } } }
            }))
            (left_out(report.messages.len(), "message"))
        }
    }
}

pub(super) fn applications(report: &Report) -> Markup {
    html! {
        @if !report.applications.is_empty() {
            h2 { "Subscribers' statistics" }
            p .faint { "As they counted themselves, with shares of received." }
            (scroll("Subscribers' statistics", &html! {
                thead { tr {
                    th scope="col" { "subscriber" } th scope="col" { "MQTT" } th scope="col" .number { "received" } th scope="col" .number { "duplicates" }
                    th scope="col" .number { "conflicts" } th scope="col" .number { "errors" } th scope="col" .number { "processed" }
                } }
                tbody { @for it in report.applications.iter().take(ROWS_MAX) { tr {
                    th scope="row" .mono { (visible(&it.client_id)) }
                    td { (it.protocol) }
                    td .number { (count(it.received)) }
                    @for part in [it.duplicates, it.conflicts, it.errors, it.processed] {
                        td .number { (count(part)) " · " (share(part, it.received)) }
                    }
                } } }
            }))
            (left_out(report.applications.len(), "subscriber"))
        }
    }
}

pub(super) fn faults(report: &Report) -> Markup {
    html! {
        @if !report.faults.is_empty() {
            h2 #faults { "Faults" }
            p .faint { "Injected on purpose." }
            ul { @for fault in &report.faults {
                li { (visible(&fault.kind)) ", " (times(fault.count)) ", first at " (duration(fault.at_ms)) }
            } }
        }
    }
}

pub(super) fn comparison(comparison: &Comparison) -> Markup {
    html! {
        h2 #comparison { "Beside " (visible(&comparison.name)) }
        @if comparison.changes.is_empty() {
            p { "No difference in verdicts, counts or latencies that is worth a line." }
        } @else {
            (scroll("Comparison", &html! {
                thead { tr { th scope="col" { span .hidden { "better or worse" } span aria-hidden="true" { "▲▼" } } th scope="col" { "what" } th scope="col" { "before" } th scope="col" { "now" } } }
                tbody { @for change in &comparison.changes { tr .(class(match change.kind {
                    crate::report::comparison::Kind::Better => Verdict::Kept,
                    crate::report::comparison::Kind::Worse => Verdict::Broken,
                    crate::report::comparison::Kind::Other => Verdict::NotExercised,
                })) {
                    td { span .word { (change.sign()) } }
                    td .breaks { (visible(&change.what)) }
                    td { (visible(&change.before)) }
                    td { (visible(&change.now)) }
                } } }
            }))
        }
    }
}

/// A table that scrolls by itself where the window is narrow.
pub(super) fn scroll(name: &str, rows: &Markup) -> Markup {
    html! {
        div .scroll tabindex="0" role="region" aria-label=(name) {
            table { caption .hidden { (name) } (rows) }
        }
    }
}

fn left_out(all: usize, thing: &str) -> Markup {
    let more = all.saturating_sub(ROWS_MAX) as u64;
    html! { @if more > 0 { p { "… and " (counted(more, &format!("more {thing}"))) " in the JSON report." } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_grouped_by_version() {
        let check = |spec: &[&str], expect: &str| assert_eq!(statements(spec), expect);
        check(
            &["3.1.1:MQTT-4.3.3-1", "3.1.1:MQTT-4.3.3-2", "5.0:MQTT-4.3.3-10"],
            "3.1.1: 4.3.3-1, 4.3.3-2 · 5.0: 4.3.3-10",
        );
        check(&["ours"], "ours");
        check(&[], "");
    }
}
