//! The Markdown report: fits a comment on a pull request, says the verdict first and folds the rest.

use super::comparison::Comparison;
use super::needs::{advised, outcome, unmet_rate, unmet_rates};
use super::prose::finding_facts;
use super::topics;
use super::words::{self, count, counted, duration, milliseconds, times, visible};
use mqtally_history::report::{Finding, Report, Stream, Verdict};
use std::fmt::Write;

/// GitHub refuses a comment of more than 65,536 characters.
const LEN_MAX: usize = 60_000;
const LEFT_OUT: &str = "\n*A part that is too long for this place is left out; the JSON report has it.*\n";
const FINDINGS_MAX: usize = 12;
const STREAMS_MAX: usize = 40;

/// The report as Markdown, at most 60,000 characters.
pub(crate) fn render(report: &Report, comparison: Option<&Comparison>) -> Vec<u8> {
    let head = headline(report) + &tally(report);
    let comparison = comparison.map(compared).unwrap_or_default();
    let parts =
        [needs(report), findings(report), comparison, promises(report), streams(report), footer(report)];
    let mut text = head;
    for part in parts {
        // A part is left out whole: half a table is worse than none.
        let fits = text.len() + part.len() <= LEN_MAX;
        text += if fits { &part } else { LEFT_OUT };
    }
    text.into_bytes()
}

fn headline(report: &Report) -> String {
    let having = |verdict| report.promises.iter().filter(|promise| promise.verdict == verdict).count() as u64;
    let exercised = report.promises.iter().filter(|promise| promise.obligations > 0).count() as u64;
    let mut text = format!(
        "## {} mqtally: {}\n\n**{}**, {} exercised, {} broken",
        sign(report.verdict),
        words::verdict(report.verdict),
        counted(report.tally.published, "message"),
        counted(exercised, "promise"),
        having(Verdict::Broken),
    );
    for (verdict, word) in [
        (Verdict::Unknown, "unknown"),
        (Verdict::NotExercised, "not exercised"),
        (Verdict::Warn, "with a warning"),
    ] {
        if having(verdict) > 0 {
            let _ = write!(text, ", {} {word}", having(verdict));
        }
    }
    let _ = writeln!(
        text,
        " · {} · MQTT {} · {} · seed {}\n",
        code(&report.broker.name),
        report.broker.protocols.join(" and "),
        duration(report.elapsed_ms),
        report.seed
    );
    for subject in &report.subjects {
        let _ = writeln!(text, "{} under test: {}\n", words::side(subject.side), code(&subject.command));
    }
    for reason in report.unknown_because.iter().take(FINDINGS_MAX) {
        let _ = writeln!(text, "- unknown because {}", plain(reason));
    }
    text
}

fn tally(report: &Report) -> String {
    let t = &report.tally;
    let counts = [
        ("published", t.published),
        ("acknowledged", t.acknowledged),
        ("delivered", t.delivered),
        ("lost", t.lost),
        ("duplicated", t.duplicated),
        ("reordered", t.reordered),
        ("unexpected", t.unexpected),
        ("corrupt", t.corrupt),
        ("recovered", t.recovered),
        ("unresolved", t.unresolved),
        ("excused", t.excused),
    ];
    let row = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    row(counts.map(|(word, _)| word.to_owned()).to_vec())
        + &row(counts.map(|_| "--:".to_owned()).to_vec())
        + &row(counts.map(|(_, number)| count(number)).to_vec())
}

fn needs(report: &Report) -> String {
    let mut text = String::new();
    if !report.needs.needs.is_empty() {
        text += "\n### Needs\n\n| | scenario | MQTT | stream | need | QoS | messages | what happened |\n\
                 |--|--|--|--|--|--:|--:|--|\n";
    }
    for need in &report.needs.needs {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} |",
            sign(need.verdict),
            plain(&need.scenario),
            need.protocol,
            plain(&need.stream),
            need.need.word(),
            need.qos,
            count(need.messages),
            plain(&outcome(need.verdict, &need.why)),
        );
    }
    let notes = report.needs.advice.iter().map(advised).chain(unmet_rates(report).map(unmet_rate));
    let notes: String = notes.map(|note| format!("- {}\n", plain(&note))).collect();
    if notes.is_empty() { text } else { format!("{text}\n{notes}") }
}

fn findings(report: &Report) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    let (shared, mut text) = (topics::shared(report), String::from("\n### Findings\n"));
    for finding in report.findings.iter().take(FINDINGS_MAX) {
        text += &one_finding(finding, shared);
    }
    if let Some(more) = report.findings.len().checked_sub(FINDINGS_MAX).filter(|more| *more > 0) {
        let _ = writeln!(text, "\n… and {} more in the JSON report", count(more as u64));
    }
    text
}

fn one_finding(finding: &Finding, shared: &str) -> String {
    let shown = |text: &str| text.replace(shared, "");
    let mut text = format!(
        "\n{} **{} {}** {}\n\n<sub>{}</sub>\n",
        sign(finding.verdict),
        finding.promise,
        words::verdict(finding.verdict),
        plain(&shown(&finding.message)),
        plain(&finding_facts(finding)),
    );
    if !finding.excerpt.is_empty() {
        let lines: Vec<String> =
            finding.excerpt.iter().map(|line| visible(&shown(line)).replace("```", "'''")).collect();
        let _ = writeln!(text, "\n```text\n{}\n```", lines.join("\n"));
    }
    text
}

fn promises(report: &Report) -> String {
    let rows = report.promises.iter().map(|promise| {
        let [old, new] = promise.obligations_by_protocol;
        let broken = match promise.violations {
            0 => String::new(),
            violations => format!(", {}", times(violations)),
        };
        format!(
            "| {} | {} | {} | {:?} | {} | {} | {}{broken} |\n",
            sign(promise.verdict),
            promise.id,
            plain(promise.title),
            promise.severity,
            count(old),
            count(new),
            words::verdict(promise.verdict),
        )
    });
    folded(
        "Promises: how often each was exercised, and whether it held",
        "| | id | promise | sev | on 3.1.1 | on 5 | verdict |\n|--|--|--|--|--:|--:|--|\n",
        rows,
    )
}

fn streams(report: &Report) -> String {
    let shared = topics::shared(report);
    let rows = report.streams.iter().take(STREAMS_MAX).map(|stream| stream_row(stream, shared));
    let left_out = report.streams.len().saturating_sub(STREAMS_MAX);
    let title = match left_out {
        0 => "Streams: ms until acknowledged (QoS 0: until first arrived)".to_owned(),
        more => format!("Streams: the first {STREAMS_MAX}, {} more in the JSON report", count(more as u64)),
    };
    folded(
        &title,
        "| part | MQTT | topic | QoS | sent | acked | delivered | dup | p50 | p99 | max |\n\
         |--|--|--|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        rows,
    )
}

fn stream_row(stream: &Stream, shared: &str) -> String {
    let latency = if stream.qos == 0 { stream.end_to_end_us } else { stream.ack_latency_us };
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        plain(&stream.group),
        stream.protocol,
        code(topics::below(&stream.topic, shared)),
        stream.qos,
        count(stream.published),
        count(stream.acknowledged),
        count(stream.delivered),
        count(stream.duplicates),
        milliseconds(latency.p50),
        milliseconds(latency.p99),
        milliseconds(latency.max),
    )
}

fn compared(comparison: &Comparison) -> String {
    let mut text = format!("\n### Beside {}\n\n", plain(&comparison.name));
    if comparison.changes.is_empty() {
        text += "No difference in verdicts, counts or latencies that is worth a line.\n";
        return text;
    }
    text += "| | before | now |\n|--|--|--|\n";
    for change in &comparison.changes {
        let _ = writeln!(
            text,
            "| {} {} | {} | {} |",
            change.sign(),
            plain(&change.what),
            plain(&change.before),
            plain(&change.now)
        );
    }
    text
}

fn footer(report: &Report) -> String {
    format!(
        "\n<sub>`--seed {}` makes the same random choices again · `mqtally explain ID` says what a promise means</sub>\n",
        report.seed
    )
}

fn folded(title: &str, head: &str, rows: impl Iterator<Item = String>) -> String {
    let rows: String = rows.collect();
    match rows.is_empty() {
        true => String::new(),
        false => format!("\n<details><summary>{title}</summary>\n\n{head}{rows}\n</details>\n"),
    }
}

fn sign(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Kept => "✅",
        Verdict::NotExercised => "➖",
        Verdict::Warn => "⚠️",
        Verdict::Unknown => "❓",
        Verdict::Broken => "❌",
    }
}

/// Text from outside, in which nothing is markup.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in visible(text).chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '@' | '&') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A topic or name as code within a table.
fn code(text: &str) -> String {
    format!("`{}`", visible(text).replace('`', "'").replace('|', "\\|"))
}
