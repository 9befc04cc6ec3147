//! The JUnit report: a test suite for each version of MQTT, a test case for each promise. CI systems read it.

use super::needs::outcome as outcome_of;
use super::prose::finding_facts;
use super::words::{count, visible};
use mqtally_history::report::{Finding, NeedMet, Promise, Report, Verdict};
use std::fmt::Write;

/// Findings told within one test case.
const FINDINGS_MAX: usize = 20;

/// The report as XML.
pub(crate) fn render(report: &Report) -> Vec<u8> {
    let promises = report.broker.protocols.iter().map(|protocol| suite(report, protocol));
    let suites: Vec<Suite> = promises.chain(needs(report)).collect();
    let sum = |of: fn(&Suite) -> usize| suites.iter().map(of).sum::<usize>() + of(&run(report));
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let (tests, failures, errors) =
        (sum(|it| it.cases.len()), sum(|it| it.having(Kind::Failure)), sum(|it| it.having(Kind::Error)));
    // Writing to a string cannot fail.
    let _ = writeln!(
        xml,
        "<testsuites name=\"mqtally\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" time=\"{}\">",
        seconds(report.elapsed_ms),
    );
    xml += &run(report).xml(report);
    suites.iter().for_each(|suite| xml += &suite.xml(report));
    xml += "</testsuites>\n";
    xml.into_bytes()
}

struct Suite {
    name: String,
    elapsed_ms: u64,
    cases: Vec<Case>,
}

struct Case {
    name: String,
    class: String,
    outcome: Option<Outcome>,
}

/// What a case says besides having passed.
struct Outcome {
    kind: Kind,
    message: String,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failure,
    Error,
    Skipped,
    /// It passed, and there is something to read.
    Note,
}

/// The verdict over the whole run: it can be unknown while every promise was kept.
fn run(report: &Report) -> Suite {
    let because = report.unknown_because.join("\n");
    let outcome = match report.verdict {
        Verdict::Unknown | Verdict::NotExercised => Some(Outcome {
            kind: Kind::Error,
            message: "the run could not be judged as a whole".to_owned(),
            text: because,
        }),
        _ => None,
    };
    let case = Case { name: "the run can be judged".to_owned(), class: "mqtally.run".to_owned(), outcome };
    Suite { name: "run".to_owned(), elapsed_ms: report.elapsed_ms, cases: vec![case] }
}

fn suite(report: &Report, protocol: &'static str) -> Suite {
    let groups = report.groups.iter().filter(|group| group.protocol == protocol);
    Suite {
        name: format!("promises on MQTT {protocol}"),
        elapsed_ms: groups.map(|group| group.elapsed_ms).sum(),
        cases: report.promises.iter().map(|promise| case(report, promise, protocol)).collect(),
    }
}

/// A suite for each scenario and version, a case for each need of a stream.
fn needs(report: &Report) -> impl Iterator<Item = Suite> {
    let same = |a: &NeedMet, b: &NeedMet| (&a.scenario, a.protocol) == (&b.scenario, b.protocol);
    report.needs.needs.chunk_by(same).map(|part| {
        let (scenario, protocol) = (&part[0].scenario, part[0].protocol);
        let group = report.groups.iter().find(|it| it.name == *scenario && it.protocol == protocol);
        Suite {
            name: format!("needs of {scenario} on MQTT {protocol}"),
            elapsed_ms: group.map_or(0, |group| group.elapsed_ms),
            cases: part.iter().map(need).collect(),
        }
    })
}

fn need(it: &NeedMet) -> Case {
    let kind = match it.verdict {
        Verdict::Kept => None,
        Verdict::NotExercised => Some(Kind::Skipped),
        Verdict::Warn | Verdict::Unknown => Some(Kind::Error),
        Verdict::Broken => Some(Kind::Failure),
    };
    let message = outcome_of(it.verdict, &it.why);
    let text = format!("{} messages at QoS {}; see {}", it.messages, it.qos, it.promise);
    Case {
        name: format!("{} {}", it.stream, it.need.word()),
        class: format!("mqtally.need.{}", it.scenario),
        outcome: kind.map(|kind| Outcome { kind, message, text }),
    }
}

fn case(report: &Report, promise: &Promise, protocol: &'static str) -> Case {
    let findings: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|finding| finding.promise == promise.id && finding.protocol == protocol)
        .collect();
    Case {
        name: format!("{} {}", promise.id, promise.title),
        class: format!("mqtally.{:?}", promise.severity),
        outcome: outcome(promise, protocol, &findings),
    }
}

fn outcome(promise: &Promise, protocol: &str, findings: &[&Finding]) -> Option<Outcome> {
    let worst = findings.iter().map(|finding| finding.verdict).max();
    let kind = match worst {
        Some(Verdict::Broken) => Kind::Failure,
        Some(Verdict::Unknown) => Kind::Error,
        Some(_) => Kind::Note,
        None if promise.obligations_by_protocol[usize::from(protocol != "3.1.1")] == 0 => {
            let message = "not exercised".to_owned();
            return Some(Outcome { kind: Kind::Skipped, message, text: String::new() });
        }
        None => return None,
    };
    let message = findings.first().map_or_else(String::new, |finding| finding.message.clone());
    let mut text: String = findings.iter().take(FINDINGS_MAX).map(|finding| told(finding)).collect();
    if let Some(more) = findings.len().checked_sub(FINDINGS_MAX).filter(|more| *more > 0) {
        let _ = writeln!(text, "… and {} more", count(more as u64));
    }
    Some(Outcome { kind, message, text })
}

fn told(finding: &Finding) -> String {
    let lines = finding.excerpt.iter().map(|line| format!("  {line}\n"));
    format!("{}\n{}\n{}", finding_facts(finding), finding.message, lines.collect::<String>())
}

impl Suite {
    fn having(&self, kind: Kind) -> usize {
        self.cases.iter().filter(|case| case.outcome.as_ref().is_some_and(|it| it.kind == kind)).count()
    }

    fn xml(&self, report: &Report) -> String {
        let mut xml = String::new();
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{}\">",
            escaped(&self.name),
            self.cases.len(),
            self.having(Kind::Failure),
            self.having(Kind::Error),
            self.having(Kind::Skipped),
            seconds(self.elapsed_ms),
        );
        let properties = [("seed", report.seed.to_string()), ("broker", report.broker.name.clone())];
        xml += "    <properties>\n";
        for (name, value) in properties {
            let _ = writeln!(xml, "      <property name=\"{name}\" value=\"{}\"/>", escaped(&value));
        }
        xml += "    </properties>\n";
        self.cases.iter().for_each(|case| xml += &case.xml());
        xml + "  </testsuite>\n"
    }
}

impl Case {
    fn xml(&self) -> String {
        let head = format!(
            "    <testcase name=\"{}\" classname=\"{}\" time=\"0\"",
            escaped(&self.name),
            escaped(&self.class)
        );
        let Some(it) = &self.outcome else { return format!("{head}/>\n") };
        let (message, text) = (escaped(&it.message), escaped(&it.text));
        let inner = match it.kind {
            Kind::Failure => format!("<failure type=\"broken\" message=\"{message}\">{text}</failure>"),
            Kind::Error => format!("<error type=\"unknown\" message=\"{message}\">{text}</error>"),
            Kind::Skipped => format!("<skipped message=\"{message}\"/>"),
            Kind::Note => format!("<system-out>{text}</system-out>"),
        };
        format!("{head}>\n      {inner}\n    </testcase>\n")
    }
}

/// As text or attribute. What XML 1.0 cannot hold at all is made visible.
fn escaped(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(visible).collect();
    let mut out = String::with_capacity(text.len());
    for c in lines.join("\n").chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' => out += "&#10;",
            // Neither is a character of XML 1.0.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}
