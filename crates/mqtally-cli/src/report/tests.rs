//! What people read, line by line, and what programs rely on.

use super::{Judged, Look, fixture, json, terminal};
use mqtally_history::report::Report;
use std::collections::BTreeSet;
use unicode_width::UnicodeWidthStr;

fn judged(report: &Report) -> Judged {
    Judged { report: report.clone(), timeline: fixture::timeline() }
}

fn plain(report: &Report, width: usize) -> String {
    terminal::render(&judged(report), None, Look { width, colour: false })
}

#[test]
fn a_kept_report_at_100_columns() {
    insta::assert_snapshot!(plain(&fixture::kept(), 100));
}

#[test]
fn a_kept_report_at_80_columns() {
    insta::assert_snapshot!(plain(&fixture::kept(), 80));
}

#[test]
fn a_broken_report_shows_its_findings() {
    insta::assert_snapshot!(plain(&fixture::broken(), 100));
}

#[test]
fn an_unknown_report_says_why() {
    insta::assert_snapshot!(plain(&fixture::unknown(), 100));
}

#[test]
fn what_was_not_exercised_is_not_kept() {
    insta::assert_snapshot!(plain(&fixture::not_exercised(), 100));
}

#[test]
fn colour_changes_nothing_but_colour() {
    let report = fixture::broken();
    let coloured = terminal::render(&judged(&report), None, Look { width: 100, colour: true });
    assert!(coloured.contains("\u{1b}[1m\u{1b}[31mBROKEN\u{1b}[0m"), "{coloured}");
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain(&report, 100));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [80, 90, 120] {
        for report in [fixture::kept(), fixture::unknown(), fixture::not_exercised()] {
            for line in plain(&report, width).lines() {
                assert!(line.width() <= width, "{} columns: {line}", line.width());
            }
        }
    }
}

#[test]
fn the_json_report_has_the_fields_of_the_contract() {
    let bytes = json::render(&fixture::broken());
    assert!(bytes.ends_with(b"}\n"));
    let value: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
    let check = |pointer: &str, contract: &[&str]| {
        let object = value.pointer(pointer).and_then(serde_json::Value::as_object).expect(pointer);
        let fields: BTreeSet<&str> = object.keys().map(String::as_str).collect();
        assert_eq!(fields, contract.iter().copied().collect(), "{pointer}");
    };
    let whole = "schema verdict unknown_because seed broker tally excuses promises findings streams messages applications \
                 faults sessions groups elapsed_ms";
    check("", &words(whole));
    check("/broker", &words("kind name protocols profile"));
    let tally = "published acknowledged delivered lost duplicated reordered unexpected corrupt recovered unresolved \
                 excused";
    check("/tally", &words(tally));
    check("/excuses/0", &words("reason count"));
    check(
        "/promises/0",
        &words("id title severity verdict obligations violations obligations_by_protocol spec"),
    );
    check(
        "/findings/0",
        &words("promise severity verdict protocol group message fault count events excerpt"),
    );
    let stream =
        "group protocol topic qos published acknowledged delivered duplicates ack_latency_us end_to_end_us";
    check("/streams/0", &words(stream));
    check("/streams/0/ack_latency_us", &words("p50 p90 p99 max"));
    check("/faults/0", &words("kind at_ms count"));
    check("/sessions/0", &words("client_id resumed session_present"));
}

#[test]
fn the_json_report_uses_the_words_of_the_contract() {
    let text = String::from_utf8(json::render(&fixture::broken())).expect("UTF-8");
    for word in [
        r#""schema": "mqtally.report/1""#,
        r#""verdict": "broken""#,
        r#""verdict": "warn""#,
        r#""kind": "url""#,
        r#""profile": "volatile""#,
        r#""severity": "S1""#,
    ] {
        assert!(text.contains(word), "{word}");
    }
    let text = String::from_utf8(json::render(&fixture::not_exercised())).expect("UTF-8");
    assert!(text.contains(r#""verdict": "not-exercised""#));
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').filter(|word| !word.is_empty()).collect()
}
