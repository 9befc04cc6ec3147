//! The report for people: what was run, what became of it, and the verdict last, where the eye ends up.

use super::Judged;
use super::comparison::Comparison;
use super::needs;
use super::over_time;
use super::prose::{finding_facts, title};
use super::streams;
use super::style::{BAD, DIM, DOUBT, GOOD, Look, PLAIN, TITLE};
use super::table::{Cell, Column, Table};
use super::topics;
use super::words::{self, NOTHING, count, counted, duration, milliseconds, share, times, visible};
use anstyle::Style;
use mqtally_history::event::BrokerKind;
use mqtally_history::profile::Measured;
use mqtally_history::report::{Excuse, Finding, Message, Promise, Report, Session, Subject, Verdict};

/// Rows of a table that a person reads; the JSON report has all of them.
const ROWS_MAX: usize = 32;
/// Promises that were not exercised and are rows of the table all the same.
const NOT_EXERCISED_MAX: usize = 12;
/// Findings that a person reads.
const FINDINGS_MAX: usize = 12;
/// Connections of a session that are drawn.
const CONNECTIONS_MAX: usize = 24;

/// The whole report.
pub(super) fn render(judged: &Judged, comparison: Option<&Comparison>, look: Look) -> String {
    let report = &judged.report;
    let parts = [
        header(report, look),
        messages(report, look),
        needs::section(report, look),
        streams::section(report, look),
        sessions(report, look),
        applications(report, look),
        over_time::section(&judged.timeline, look),
        faults(report, look),
        promises(report, look),
        findings(report, look),
        comparison.map(|comparison| compared(comparison, look)).unwrap_or_default(),
        tally(report, look),
        verdict(report, look),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The last part alone: the verdict, why, and what to do next.
pub(crate) fn verdict(report: &Report, look: Look) -> String {
    let word = words::verdict(report.verdict).to_uppercase();
    let room = look.width - word.len() - 2;
    let headline = words::flow(headline(report), "  ", room).join("\n  ");
    let mut text = format!("{}  {headline}\n", look.paint(words::style(report.verdict).bold(), &word));
    for reason in report.unknown_because.iter().take(ROWS_MAX) {
        text += &indented(words::wrap(&format!("because {}", visible(reason)), look.width - 2));
    }
    text.extend(rest(report.unknown_because.len(), ROWS_MAX, "reason").map(|line| line + "\n"));
    text.extend(next_step(report).map(|step| look.paint(DIM, &format!("  {step}")) + "\n"));
    text
}

/// The line that stands for what was left out, if anything was.
pub(super) fn rest(all: usize, shown: usize, thing: &str) -> Option<String> {
    let hidden = u64::try_from(all.saturating_sub(shown)).unwrap_or(u64::MAX);
    (hidden > 0).then(|| format!("  … and {} (--json has all)", counted(hidden, &format!("more {thing}"))))
}

fn header(report: &Report, look: Look) -> String {
    let broker = &report.broker;
    let kind = match broker.kind {
        BrokerKind::Embedded => "embedded broker",
        BrokerKind::Url => "broker at",
        BrokerKind::Command => "broker started by",
    };
    let mut facts = vec![
        "mqtally".to_owned(),
        format!("{kind} {}", visible(&broker.name)),
        format!("MQTT {}", broker.protocols.join(" and ")),
        format!("profile {}", broker.profile.name()),
        format!("seed {}", report.seed),
    ];
    let shared = topics::shared(report);
    if !shared.is_empty() {
        facts.push(format!("topics below {}", visible(shared)));
    }
    let title = look.paint(TITLE, &words::flow(facts, " · ", look.width).join("\n  ")) + "\n";
    let title = report.profile_measured.iter().fold(title, |text, found| text + &measured(found, look));
    report.subjects.iter().fold(title, |text, it| text + &subject(it, look))
}

/// A program under test.
fn subject(it: &Subject, look: Look) -> String {
    let ids = it.client_ids.iter().take(3).map(|id| visible(id));
    let more = it.client_ids.len().saturating_sub(3);
    let facts = [
        format!("{} under test: {}", words::side(it.side), visible(&it.command)),
        format!("MQTT {}", it.protocols.join(" and ")),
        format!("client id {}", ids.collect::<Vec<_>>().join(", ")),
        if more > 0 { format!("and {more} more") } else { String::new() },
        format!("its process ended {}", times(it.ends)),
        counted(it.reports, "report"),
    ];
    let facts = facts.into_iter().filter(|fact| !fact.is_empty());
    words::flow(facts, " · ", look.width.saturating_sub(2)).join("\n  ") + "\n"
}

/// What was found out about the broker's durability before the run.
fn measured(found: &Measured, look: Look) -> String {
    let profile = match found.profile {
        Some(profile) => format!("measured {}, and loss of power not tried", profile.name()),
        None => "durability not measured".to_owned(),
    };
    let line = format!("{profile}: {}", visible(&found.because));
    format!("  {}\n", words::wrap(&line, look.width - 2).join("\n  "))
}

fn messages(report: &Report, look: Look) -> String {
    if report.messages.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        (Column::Right, "id"),
        (Column::Elastic, "topic"),
        (Column::Right, "QoS"),
        (Column::Elastic, "type"),
        (Column::Left, "MQTT"),
        (Column::Left, "status"),
        (Column::Right, "acked"),
        (Column::Right, "arrived"),
        (Column::Right, "by"),
    ]);
    let shared = topics::shared(report);
    for message in report.messages.iter().take(ROWS_MAX) {
        table.row(message_row(message, shared));
    }
    let about = "ms until acknowledged, ms until first arrived, by how many";
    section(look, "QoS comparison", about, &table, rest(report.messages.len(), ROWS_MAX, "message"))
}

fn message_row(message: &Message, shared: &str) -> [Cell; 9] {
    let latency = |us: Option<u64>| us.map_or_else(|| NOTHING.to_owned(), milliseconds);
    let style = match message.status {
        "confirmed" => GOOD,
        "refused" => BAD,
        "pending" => DOUBT,
        _ => PLAIN,
    };
    [
        message.message_id.to_string().into(),
        topics::below(&message.topic, shared).into(),
        message.qos.to_string().into(),
        (&message.message_type).into(),
        message.protocol.into(),
        Cell::styled(message.status, style),
        latency(message.ack_latency_us).into(),
        latency(message.end_to_end_us).into(),
        count(message.received_by).into(),
    ]
}

fn sessions(report: &Report, look: Look) -> String {
    let (resuming, others): (Vec<_>, Vec<_>) =
        report.sessions.iter().partition(|session| session.resumed > 0);
    if resuming.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        (Column::Elastic, "client"),
        (Column::Right, "resumed"),
        (Column::Left, "its connections"),
    ]);
    let shared = topics::shared_by_clients(report);
    let alike = alike(&resuming);
    for sessions in alike.iter().take(ROWS_MAX) {
        let session = sessions[0];
        let client = topics::below(&session.client_id, shared);
        let client = match sessions.len() {
            1 => client.to_owned(),
            all => format!("{client} and {} more", all - 1),
        };
        table.row([client.into(), times(session.resumed).into(), connections(session).into()]);
    }
    let never = || {
        let clients = counted(others.len() as u64, "client");
        (!others.is_empty()).then(|| format!("  … and {clients} that never resumed a session"))
    };
    let more = rest(alike.len(), ROWS_MAX, "row").or_else(never);
    section(look, "Persistent sessions", "· new session   ✓ session present, resumed", &table, more)
}

/// Sessions that went the same way, each way where it first came.
fn alike<'a>(sessions: &[&'a Session]) -> Vec<Vec<&'a Session>> {
    let mut ways: Vec<Vec<&Session>> = Vec::new();
    for &session in sessions {
        let same = |way: &&mut Vec<&Session>| way[0].session_present == session.session_present;
        match ways.iter_mut().find(same) {
            Some(way) => way.push(session),
            None => ways.push(vec![session]),
        }
    }
    ways
}

fn connections(session: &Session) -> String {
    let present = &session.session_present;
    let signs: Vec<&str> =
        present.iter().take(CONNECTIONS_MAX).map(|present| if *present { "✓" } else { "·" }).collect();
    let ellipsis = if present.len() > CONNECTIONS_MAX { " …" } else { "" };
    signs.join(" ") + ellipsis
}

fn applications(report: &Report, look: Look) -> String {
    if report.applications.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        (Column::Elastic, "subscriber"),
        (Column::Left, "MQTT"),
        (Column::Right, "received"),
        (Column::Right, "duplicates"),
        (Column::Right, "conflicts"),
        (Column::Right, "errors"),
        (Column::Right, "processed"),
    ]);
    let shared = topics::shared_by_clients(report);
    for application in report.applications.iter().take(ROWS_MAX) {
        let part =
            |number: u64| Cell::from(format!("{} {:>7}", count(number), share(number, application.received)));
        table.row([
            topics::below(&application.client_id, shared).into(),
            application.protocol.into(),
            count(application.received).into(),
            part(application.duplicates),
            part(application.conflicts),
            part(application.errors),
            part(application.processed),
        ]);
    }
    let more = rest(report.applications.len(), ROWS_MAX, "subscriber");
    section(
        look,
        "Subscribers' statistics",
        "as they counted themselves, with shares of received",
        &table,
        more,
    )
}

fn faults(report: &Report, look: Look) -> String {
    if report.faults.is_empty() {
        return String::new();
    }
    let faults = report.faults.iter().map(|fault| {
        format!("{} {} (first at {})", visible(&fault.kind), times(fault.count), duration(fault.at_ms))
    });
    title(look, "Faults", "injected on purpose") + &indented(words::flow(faults, " · ", look.width - 4))
}

fn promises(report: &Report, look: Look) -> String {
    let mut table = Table::new([
        (Column::Left, ""),
        (Column::Left, "id"),
        (Column::Elastic, "promise"),
        (Column::Left, "sev"),
        (Column::Right, "on 3.1.1"),
        (Column::Right, "on 5"),
        (Column::Left, "verdict"),
    ]);
    let (unmet, others): (Vec<_>, Vec<_>) =
        report.promises.iter().partition(|promise| promise.verdict == Verdict::NotExercised);
    let rows = if unmet.len() > NOT_EXERCISED_MAX { &others } else { &report.promises.iter().collect() };
    rows.iter().for_each(|promise| table.row(promise_row(promise)));
    let about = "how often each was exercised on which MQTT, and whether it held";
    let more = (unmet.len() > NOT_EXERCISED_MAX).then(|| not_exercised(&unmet, look.width));
    section(look, "Promises", about, &table, more)
}

/// Names them only: a run of one group leaves most of the catalogue alone.
fn not_exercised(promises: &[&Promise], width: usize) -> String {
    let head = format!("{} not exercised:", promises.len());
    let words = std::iter::once(head.as_str()).chain(promises.iter().map(|promise| promise.id));
    let lines = words::flow(words, " ", width.saturating_sub(4));
    format!("  {} {}", words::glyph(Verdict::NotExercised), lines.join("\n    "))
}

fn promise_row(promise: &Promise) -> [Cell; 7] {
    let style = words::style(promise.verdict);
    let word = match promise.violations {
        0 => words::verdict(promise.verdict).to_owned(),
        violations => format!("{}, {}", words::verdict(promise.verdict), times(violations)),
    };
    let [old, new] = promise.obligations_by_protocol;
    [
        Cell::styled(words::glyph(promise.verdict), style),
        promise.id.into(),
        promise.title.into(),
        format!("{:?}", promise.severity).into(),
        count(old).into(),
        count(new).into(),
        Cell::styled(&word, style),
    ]
}

fn findings(report: &Report, look: Look) -> String {
    if report.findings.is_empty() {
        return String::new();
    }
    let mut text = title(look, "Findings", "most severe first, with the packets that prove them");
    for finding in report.findings.iter().take(FINDINGS_MAX) {
        text.push_str(&one_finding(finding, topics::shared(report), look));
    }
    text.extend(rest(report.findings.len(), FINDINGS_MAX, "finding").map(|line| line + "\n"));
    text
}

fn one_finding(finding: &Finding, shared: &str, look: Look) -> String {
    let style = words::style(finding.verdict);
    let shown = |text: &str| visible(&text.replace(shared, ""));
    let head =
        format!("{} {} {}", words::glyph(finding.verdict), finding.promise, words::verdict(finding.verdict));
    let facts = visible(&finding_facts(finding));
    let mut lines = vec![format!("  {}  {}", look.paint(style, &head), look.paint(DIM, &facts))];
    lines.extend(
        words::wrap(&shown(&finding.message), look.width - 4).iter().map(|line| format!("    {line}")),
    );
    lines.extend(finding.excerpt.iter().map(|line| look.paint(DIM, &format!("    {}", shown(line)))));
    lines.join("\n") + "\n"
}

fn compared(comparison: &Comparison, look: Look) -> String {
    let about = format!("beside {}", visible(&comparison.name));
    if comparison.changes.is_empty() {
        return title(look, "Comparison", &about) + "  no difference that is worth a line\n";
    }
    let mut table = Table::new([
        (Column::Left, ""),
        (Column::Elastic, "what"),
        (Column::Right, "before"),
        (Column::Right, "now"),
    ]);
    for change in comparison.changes.iter().take(ROWS_MAX) {
        let sign = Cell::styled(change.sign(), change.style());
        table.row([sign, (&change.what).into(), (&change.before).into(), (&change.now).into()]);
    }
    section(look, "Comparison", &about, &table, rest(comparison.changes.len(), ROWS_MAX, "difference"))
}

fn tally(report: &Report, look: Look) -> String {
    let t = &report.tally;
    let counts: [(&str, u64, Style); 11] = [
        ("published", t.published, PLAIN),
        ("acknowledged", t.acknowledged, PLAIN),
        ("delivered", t.delivered, PLAIN),
        ("lost", t.lost, BAD),
        ("duplicated", t.duplicated, BAD),
        ("reordered", t.reordered, BAD),
        ("unexpected", t.unexpected, BAD),
        ("corrupt", t.corrupt, BAD),
        ("recovered", t.recovered, PLAIN),
        ("unresolved", t.unresolved, DOUBT),
        ("excused", t.excused, DOUBT),
    ];
    let (flow, outcomes) = counts.split_at(3);
    let (anomalies, indeterminate) = outcomes.split_at(5);
    let line = |counts: &[(&str, u64, Style)]| {
        let words = counts.iter().map(|(word, number, style)| {
            look.paint(if *number == 0 { PLAIN } else { *style }, &format!("{word} {}", count(*number)))
        });
        format!("  {}\n", words.collect::<Vec<_>>().join(" · "))
    };
    title(look, "Tally", "messages; from delivered on, message × subscriber")
        + &line(flow)
        + &line(anomalies)
        + &line(indeterminate)
        + &excuses(report, look)
}

fn excuses(report: &Report, look: Look) -> String {
    let line = |it: &Excuse| {
        let text = format!("excused {} because {}", count(it.count), it.reason);
        indented(words::wrap(&text, look.width - 2))
    };
    report.excuses.iter().map(line).collect()
}

/// What the verdict rests on, and what it does not cover.
fn headline(report: &Report) -> [String; 3] {
    let having =
        |verdict: Verdict| report.promises.iter().filter(|promise| promise.verdict == verdict).count() as u64;
    let exercised = report.promises.iter().filter(|promise| promise.obligations > 0).count() as u64;
    let mut facts = vec![
        counted(report.tally.published, "message"),
        format!("{} exercised", counted(exercised, "promise")),
        format!("{} broken", having(Verdict::Broken)),
    ];
    let caveats = [
        (having(Verdict::Unknown), "unknown"),
        (having(Verdict::NotExercised), "not exercised"),
        (having(Verdict::Warn), "with a warning"),
        (report.tally.unresolved, "unresolved"),
        (report.tally.excused, "excused"),
    ];
    let caveats = caveats.iter().filter(|(number, _)| *number > 0);
    facts.extend(caveats.map(|(number, word)| format!("{} {word}", count(*number))));
    [facts.join(", "), format!("in {}", duration(report.elapsed_ms)), format!("(seed {})", report.seed)]
}

fn next_step(report: &Report) -> Option<String> {
    match report.findings.first() {
        Some(finding) => {
            Some(format!("what it says, and when it must hold: mqtally explain {}", finding.promise))
        }
        None => (report.verdict == Verdict::Unknown)
            .then(|| "what that means: mqtally explain unknown".to_owned()),
    }
}

fn section<const N: usize>(
    look: Look,
    name: &str,
    about: &str,
    table: &Table<N>,
    more: Option<String>,
) -> String {
    let more = more.map(|line| look.paint(DIM, &line) + "\n").unwrap_or_default();
    title(look, name, about) + &table.render(look) + &more
}

fn indented(lines: Vec<String>) -> String {
    lines.into_iter().map(|line| format!("  {line}\n")).collect()
}
