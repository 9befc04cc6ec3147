//! What people read, line by line, and what programs rely on.

use super::comparison::Comparison;
use super::{Judged, Look, fixture, html, json, junit, markdown, terminal};
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
fn most_of_the_catalogue_left_alone_is_a_list_of_names() {
    let text = plain(&fixture::one_group(), 80);
    let promises = text.split("\n\n").find(|part| part.starts_with("Promises")).expect("a section");
    insta::assert_snapshot!(promises);
}

#[test]
fn what_scenarios_need_is_told_with_advice_and_rates() {
    insta::assert_snapshot!(super::needs::section(&fixture::needy(), Look { width: 100, colour: false }));
    assert_eq!(super::needs::section(&fixture::kept(), Look { width: 100, colour: false }), "");
}

#[test]
fn what_scenarios_need_is_in_every_report() {
    let report = fixture::needy();
    let page = String::from_utf8(html::render(&report, &fixture::timeline(), None)).expect("UTF-8");
    let markdown = String::from_utf8(markdown::render(&report, None)).expect("UTF-8");
    let junit = String::from_utf8(junit::render(&report)).expect("UTF-8");
    for part in ["must-arrive", "1174 of 1200 arrived", "change: qos = 1", "310.2 messages a second"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(page.contains("door &lt;open&gt;"), "{page}");
    let section = markdown.split("### ").find(|part| part.starts_with("Needs")).expect("the section");
    insta::assert_snapshot!(section.split("<details>").next().unwrap_or_default());
    let suite = junit.split("<testsuite ").find(|part| part.contains("needs of factory")).expect("the suite");
    insta::assert_snapshot!(suite);
    let json: serde_json::Value = serde_json::from_slice(&json::render(&report)).expect("JSON");
    assert_eq!(json["needs"][1]["verdict"], "broken");
    assert_eq!(json["needs"][1]["need"], "must-arrive");
    assert_eq!(json["advice"][0]["weight"], "unmet");
    assert_eq!((&json["rates"][0]["met"], &json["rates"][0]["planned"]), (&false.into(), &1_200.into()));
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
        for report in [fixture::kept(), fixture::unknown(), fixture::not_exercised(), fixture::one_group()] {
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
    let whole = "schema verdict unknown_because seed broker profile_measured subjects tally excuses promises findings streams messages applications \
                 faults sessions groups elapsed_ms needs advice rates";
    check("", &words(whole));
    check("/broker", &words("kind name protocols profile anonymous"));
    check("/profile_measured", &words("profile because stopped killed"));
    check("/profile_measured/killed", &words("acknowledged lost lost_ms retained_lost session_present"));
    check("/subjects/0", &words("side command protocols client_ids ends reports"));
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

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("UTF-8")
}

fn page(report: &Report) -> String {
    text(html::render(report, &fixture::timeline(), None))
}

/// What can be read on the page: text, without style sheet and pictures.
fn words_of(page: &str) -> String {
    let without = |page: &str, from: &str, to: &str| -> String {
        let parts = page.split(from).enumerate();
        parts.map(|(n, part)| if n == 0 { part } else { part.split_once(to).map_or("", |it| it.1) }).collect()
    };
    let page = without(&without(page, "<style", "</style>"), "<svg", "</svg>");
    let tags = [
        "</h1>",
        "</h2>",
        "</h3>",
        "</p>",
        "</li>",
        "</tr>",
        "</summary>",
        "</dd>",
        "</figcaption>",
        "</caption>",
    ];
    let page = tags.iter().fold(page, |page, tag| page.replace(tag, "\n"));
    let page =
        page.replace("</td>", " | ").replace("</th>", " | ").replace("</dt>", ": ").replace("</span>", " ");
    without(&page, "<", ">").lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_junit_report_of_a_broken_run() {
    insta::assert_snapshot!(text(junit::render(&fixture::broken())));
}

#[test]
fn the_junit_report_of_a_run_that_cannot_be_judged_has_an_error() {
    let xml = text(junit::render(&fixture::unknown()));
    assert!(xml.contains("<error type=\"unknown\""), "{xml}");
    assert!(text(junit::render(&fixture::not_exercised())).contains("<skipped message=\"not exercised\"/>"));
}

#[test]
fn the_markdown_report_of_a_broken_run_beside_a_kept_one() {
    let broken = fixture::broken();
    let comparison = Comparison::new("yesterday".into(), &fixture::kept(), &broken);
    insta::assert_snapshot!(text(markdown::render(&broken, Some(&comparison))));
}

#[test]
fn a_comment_on_a_pull_request_has_room_for_the_markdown_report() {
    let mut report = fixture::broken();
    for finding in &mut report.findings {
        finding.excerpt = vec!["x".repeat(2_000); 10];
    }
    report.promises = report.promises.iter().cycle().take(1_000).cloned().collect();
    let markdown = text(markdown::render(&report, None));
    assert!(markdown.chars().count() < 65_536, "{}", markdown.len());
    assert!(markdown.contains("the JSON report has it"), "{markdown}");
}

#[test]
fn the_page_of_a_broken_run() {
    insta::assert_snapshot!(words_of(&page(&fixture::broken())));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = page(&fixture::kept());
    for outside in ["http:", "https:", "<script", "@import", "url(", " src="] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn no_name_from_outside_becomes_markup() {
    let hostile = "<script>alert(1)</script>\u{1}]]>&\"`|";
    let mut report = fixture::broken();
    report.broker.name = hostile.into();
    report.findings[0].message = hostile.into();
    report.findings[0].excerpt = vec![format!("  1.0 ms  {hostile}  >  {hostile}")];
    report.streams[0].topic = hostile.into();
    let comparison = Comparison::new(hostile.into(), &fixture::kept(), &report);
    let page = text(html::render(&report, &fixture::timeline(), Some(&comparison)));
    assert!(!page.contains("<script") && page.contains("&lt;script"), "escaped in HTML");
    let xml = text(junit::render(&report));
    assert!(!xml.contains("<script") && !xml.contains('\u{1}'), "escaped in XML");
    let markdown = text(markdown::render(&report, Some(&comparison)));
    let finding = markdown.lines().find(|line| line.contains("**D3")).expect("the finding");
    assert!(
        finding.contains("\\<script\\>") && !finding.contains(" <script"),
        "escaped in Markdown: {finding}"
    );
}
