//! docs/brokers.md, from the reports and the readings.

use super::cases::Case;
use super::readings::{Kind, Reading, Readings};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write;

const HEAD: &str = "\
# What mqtally found

Brokers that are not ours, each in the configuration that it comes with and, where that differs, in one that keeps more;
one run each, with the seed that is shown. `just brokers` installs them, runs everything again and writes this page.

How to read it. A promise is *broken* when the packets prove it, and every finding here was read against the OASIS
specification before it was believed. That is not a ranking: a broker that was put to the test less often has fewer
findings, promises of severity S3 are flags and bookkeeping, and one cause can break several promises. **broken** is
something that the specification forbids; **limit** follows from a limit of the configuration, which MQTT 3.1.1 gives a
broker no way to announce; **documented** is what the broker's own documentation says, or a comment in its source. MQTT
promises no durability, so what a restart lost counts against the measured **profile** only. *n of m* says how often a
promise was broken, and how often it was put to the test. Everything here is about these versions; later ones may differ.

Each finding ends with the command that shows it again, in bash in this repository, behind those of its section, where
`.ci/install-brokers` has been run and `mqtally` is found (`cargo build --release; PATH=$PWD/target/release:$PATH`). What
depends on how a broker's tasks meet may take another seed. `mqtally explain D1` says what a promise is.

";

/// The whole page.
pub(crate) fn page(reports: &[(&Case, Value)], readings: &Readings, seed: &str) -> String {
    let mut page = HEAD.to_owned();
    for (case, report) in reports {
        page += &section(case, report, readings, seed);
    }
    page
}

fn section(case: &Case, report: &Value, readings: &Readings, seed: &str) -> String {
    let mut text = format!("## {}\n\n{} {}.\n\n", case.name, case.about, case.version);
    let prepared = case.preparation(seed);
    let _ = write!(text, "```bash\n{prepared}mqtally test --no-shrink \"${{broker[@]}}\"\n```\n\n");
    let measured = report["profile_measured"]["because"].as_str().unwrap_or("nothing was measured");
    let profile = report["broker"]["profile"].as_str().unwrap_or_default();
    let found = if report["profile_measured"]["profile"].is_null() { "not measured, held to " } else { "" };
    let tally = &report["tally"];
    let _ = write!(
        text,
        "Verdict: {}. Durability: {found}{profile} ({measured}; loss of power was not tried). {} messages, {} deliveries, {} \
         excused.\n\n",
        report["verdict"].as_str().unwrap_or_default(),
        tally["published"],
        tally["delivered"],
        tally["excused"]
    );
    text += &findings(case, report, readings);
    text + &untold(report)
}

fn findings(case: &Case, report: &Value, readings: &Readings) -> String {
    let broken: Vec<&Value> = promises(report, "broken").collect();
    if broken.is_empty() {
        return "No promise was broken.\n\n".to_owned();
    }
    let mut list = String::new();
    for promise in broken {
        let id = promise["id"].as_str().unwrap_or_default();
        let reading = readings.of(case, id);
        let _ = writeln!(
            list,
            "- **{id}, {}**: {}, {} of {}. {} *{}* {}  \n  `mqtally test {} \"${{broker[@]}}\"`",
            promise["title"].as_str().unwrap_or_default(),
            reading.map_or("not read yet", kind),
            promise["violations"],
            promise["obligations"],
            reading.map_or("", |it| it.says.as_str()),
            readings.rule(id).unwrap_or_default(),
            statements(promise),
            again(report, id)
        );
    }
    list + "\n"
}

fn kind(reading: &Reading) -> &'static str {
    match reading.kind {
        Kind::Broken => "broken",
        Kind::Limit => "limit",
        Kind::Documented => "documented",
        Kind::Profile => "profile",
    }
}

/// The normative statements, of the versions on which it was put to the test.
fn statements(promise: &Value) -> String {
    let tested =
        |version: usize| promise["obligations_by_protocol"][version].as_u64().unwrap_or_default() > 0;
    let spec = promise["spec"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let spoken = spec.filter(|id| if id.starts_with("5") { tested(1) } else { tested(0) });
    let ids: Vec<String> = spoken.map(|id| format!("[{id}]")).collect();
    ids.join(" ")
}

/// The groups that show it, as one gives them to `mqtally test`; of the strikes of `faults` those that come in the
/// findings, if nothing else shows it.
fn again(report: &Value, id: &str) -> String {
    let findings = report["findings"].as_array().into_iter().flatten();
    let here: Vec<&Value> = findings.filter(|it| it["promise"] == id && it["verdict"] == "broken").collect();
    let groups: BTreeSet<&str> = here.iter().filter_map(|it| it["group"].as_str()).collect();
    if !groups.iter().eq(["faults"].iter()) {
        let quick: Vec<&str> = groups.into_iter().filter(|group| *group != "faults").collect();
        return quick.join(" ");
    }
    let kind = |it: &&Value| it["fault"].as_str()?.split(' ').next().map(str::to_owned);
    let kinds: BTreeSet<String> = here.iter().filter_map(kind).filter(|kind| !kind.is_empty()).collect();
    match kinds.is_empty() {
        true => "faults --no-shrink".to_owned(),
        false => format!("faults --no-shrink --faults {}", kinds.into_iter().collect::<Vec<_>>().join(",")),
    }
}

/// What has no verdict, and why.
fn untold(report: &Value) -> String {
    let names =
        |verdict| promises(report, verdict).filter_map(|it| it["id"].as_str()).collect::<Vec<_>>().join(" ");
    let mut text = String::new();
    for (verdict, says) in [
        ("warn", "Odd, and not forbidden"),
        ("unknown", "Undecided"),
        ("not-exercised", "Not put to the test"),
    ] {
        let ids = names(verdict);
        if !ids.is_empty() {
            let _ = write!(text, "{says}: {ids}. ");
        }
    }
    let reasons = report["unknown_because"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reasons: Vec<&str> = reasons.collect();
    if !reasons.is_empty() {
        let _ = write!(text, "What kept the run from more: {}.", reasons.join("; "));
    }
    format!("{}\n\n", text.trim_end())
}

fn promises<'a>(report: &'a Value, verdict: &'a str) -> impl Iterator<Item = &'a Value> {
    report["promises"].as_array().into_iter().flatten().filter(move |it| it["verdict"] == verdict)
}
