//! The HTML report: one file that needs nothing else, no network and no script.
//!
//! It is read from top to bottom: the verdict, the tally, what was found with its packets, when it happened, and every
//! promise. Colour says nothing that a word or a shape does not say too. Everything that comes from outside (topics,
//! client ids, names) goes through the template's escaping.

mod chart;
mod lanes;
mod needs;
mod scale;
mod sequence;
mod tables;

use super::comparison::Comparison;
use super::words::{self, count, counted, duration, visible};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use mqtally_history::report::{Finding, Report, Verdict};
use mqtally_history::timeline::Timeline;

const STYLE: &str = include_str!("style.css");
/// Findings with their packets; the JSON report has all.
const FINDINGS_MAX: usize = 50;

/// The report as a page.
pub(crate) fn render(report: &Report, timeline: &Timeline, comparison: Option<&Comparison>) -> Vec<u8> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "mqtally: " (words::verdict(report.verdict)) " · " (visible(&report.broker.name)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a .skip href="#verdict" { "Skip to the verdict" }
                header { (head(report)) (contents(report, comparison)) }
                main {
                    (tally(report))
                    (needs::section(report))
                    (findings(report))
                    @if let Some(comparison) = comparison { (tables::comparison(comparison)) }
                    (over_time(timeline, super::topics::shared_by_clients(report)))
                    (tables::promises(report))
                    (tables::streams(report))
                    (tables::messages(report))
                    (tables::applications(report))
                    (tables::faults(report))
                }
                footer {
                    p {
                        "Made by mqtally " (env!("CARGO_PKG_VERSION")) ". "
                        code { "--seed " (report.seed) } " makes the same random choices again; "
                        code { "mqtally check DIR" } " judges a kept history again; "
                        code { "mqtally explain ID" } " says what a promise means and when it must hold."
                    }
                }
            }
        }
    };
    page.into_string().into_bytes()
}

/// The class that gives a verdict its colour.
fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => "kept",
        Verdict::NotExercised => "not-exercised",
        Verdict::Warn => "warn",
        Verdict::Unknown => "unknown",
        Verdict::Broken => "broken",
    }
}

/// A verdict as a sign and a word.
fn word(verdict: Verdict) -> Markup {
    html! {
        span .word .(class(verdict)) {
            span aria-hidden="true" { (words::glyph(verdict)) " " } (words::verdict(verdict))
        }
    }
}

fn head(report: &Report) -> Markup {
    let broken = report.promises.iter().filter(|promise| promise.verdict == Verdict::Broken).count() as u64;
    let exercised = report.promises.iter().filter(|promise| promise.obligations > 0).count() as u64;
    html! {
        h1 { "mqtally · every message accounted for" }
        section #verdict .verdict .(class(report.verdict)) aria-label="Verdict" {
            strong { (words::verdict(report.verdict)) }
            p {
                (counted(report.tally.published, "message")) ", " (counted(exercised, "promise")) " exercised, "
                (count(broken)) " broken, in " (duration(report.elapsed_ms)) "."
            }
            @for reason in &report.unknown_because { p { "Unknown because " (visible(reason)) "." } }
            @for subject in &report.subjects {
                p { "Judged: the " (words::side(subject.side)) " " span .mono { (visible(&subject.command)) } }
            }
            p .faint {
                "Broker " span .mono { (visible(&report.broker.name)) }
                " · MQTT " (report.broker.protocols.join(" and "))
                " · held to the profile " (format!("{:?}", report.broker.profile).to_lowercase())
                " · seed " (report.seed)
            }
        }
    }
}

fn contents(report: &Report, comparison: Option<&Comparison>) -> Markup {
    let sections = [
        ("tally", "Tally", true),
        ("needs", "Needs", !report.needs.needs.is_empty()),
        ("findings", "Findings", !report.findings.is_empty()),
        ("comparison", "Comparison", comparison.is_some()),
        ("time", "Over time", true),
        ("promises", "Promises", true),
        ("streams", "Streams", !report.streams.is_empty()),
        ("faults", "Faults", !report.faults.is_empty()),
    ];
    html! {
        nav aria-label="Sections" {
            ul { @for (id, name, _) in sections.iter().filter(|(_, _, there)| *there) {
                li { a href={ "#" (id) } { (name) } }
            } }
        }
    }
}

fn tally(report: &Report) -> Markup {
    let t = &report.tally;
    let flow = [("published", t.published), ("acknowledged", t.acknowledged), ("delivered", t.delivered)];
    let anomalies = [
        ("lost", t.lost),
        ("duplicated", t.duplicated),
        ("reordered", t.reordered),
        ("unexpected", t.unexpected),
        ("corrupt", t.corrupt),
    ];
    let open = [("recovered", t.recovered), ("unresolved", t.unresolved), ("excused", t.excused)];
    let cell = |(word, number): (&str, u64), wrong: bool| {
        html! { div .wrong[wrong && number > 0] { dt { (word) } dd { (count(number)) } } }
    };
    html! {
        h2 #tally { "Tally" }
        p .faint { "Messages; from delivered on, messages × subscribers." }
        dl .tally {
            @for each in flow { (cell(each, false)) }
            @for each in anomalies { (cell(each, true)) }
            @for each in open { (cell(each, false)) }
        }
        @if !report.excuses.is_empty() {
            ul { @for excuse in &report.excuses {
                li { (count(excuse.count)) " excused because " (excuse.reason) }
            } }
        }
    }
}

fn findings(report: &Report) -> Markup {
    let shared = super::topics::shared(report);
    let left_out = report.findings.len().saturating_sub(FINDINGS_MAX) as u64;
    html! {
        @if !report.findings.is_empty() {
            h2 #findings { "Findings" }
            p .faint { "Most severe first, each with the packets that prove it." }
            @for (number, finding) in report.findings.iter().take(FINDINGS_MAX).enumerate() {
                (one_finding(finding, number, shared, title_of(report, finding)))
            }
            @if left_out > 0 { p { "… and " (counted(left_out, "more finding")) " in the JSON report." } }
        }
    }
}

fn title_of<'a>(report: &'a Report, finding: &Finding) -> &'a str {
    report.promises.iter().find(|promise| promise.id == finding.promise).map_or("", |promise| promise.title)
}

fn one_finding(finding: &Finding, number: usize, shared: &str, title: &str) -> Markup {
    html! {
        article .(class(finding.verdict)) aria-labelledby={ "finding-" (number) } {
            h3 id={ "finding-" (number) } { (finding.promise) " " (title) " " (word(finding.verdict)) }
            p { (visible(&finding.message.replace(shared, ""))) }
            p .faint { (visible(&super::prose::finding_facts(finding))) }
            (sequence::diagram(finding, shared))
            @if !finding.excerpt.is_empty() {
                details { summary { "The same as text" }
                    pre { @for line in &finding.excerpt { (visible(line)) "\n" } }
                }
            }
        }
    }
}

fn over_time(timeline: &Timeline, shared: &str) -> Markup {
    html! {
        h2 #time { "Over time" }
        (chart::rates(timeline))
        (chart::latencies(timeline))
        (chart::table(timeline))
        (lanes::sessions(timeline, shared))
    }
}
