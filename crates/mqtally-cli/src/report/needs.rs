//! What scenarios need: whether it was met, what the advisor says, and rates that were not met.

use super::prose::title;
use super::style::{DIM, DOUBT, Look};
use super::table::{Cell, Column, Table};
use super::words::{self, count, visible};
use mqtally_history::need::Weight;
use mqtally_history::report::{Advised, Rate, Report, Verdict};

/// Needs, advice and rates, for people; nothing in a run without scenarios.
pub(super) fn section(report: &Report, look: Look) -> String {
    let needs = &report.needs.needs;
    if needs.is_empty() && report.needs.advice.is_empty() && unmet_rates(report).next().is_none() {
        return String::new();
    }
    let mut table = Table::new([
        (Column::Left, ""),
        (Column::Left, "stream"),
        (Column::Left, "need"),
        (Column::Right, "QoS"),
        (Column::Right, "messages"),
        (Column::Elastic, "what happened"),
    ]);
    for part in needs.chunk_by(|a, b| (&a.scenario, a.protocol) == (&b.scenario, b.protocol)) {
        table.heading(&format!("{} on MQTT {}", part[0].scenario, part[0].protocol));
        for need in part {
            let style = words::style(need.verdict);
            table.row([
                Cell::styled(words::glyph(need.verdict), style),
                (&need.stream).into(),
                need.need.word().into(),
                need.qos.to_string().into(),
                count(need.messages).into(),
                Cell::styled(&outcome(need.verdict, &need.why), style),
            ]);
        }
    }
    let mut text = title(look, "Needs", "what each stream needs, and whether it was met");
    text += &table.render(look);
    let notes = report.needs.advice.iter().map(|it| (weight_style(it.weight), advised(it)));
    let rates = unmet_rates(report).map(|it| (DOUBT, unmet_rate(it)));
    for (style, note) in notes.chain(rates) {
        let lines = words::wrap(&visible(&note), look.width - 4);
        for (place, line) in lines.iter().enumerate() {
            let mark = if place == 0 { look.paint(style, "!") } else { " ".to_owned() };
            text += &format!("  {mark} {line}\n");
        }
    }
    text
}

fn weight_style(weight: Weight) -> anstyle::Style {
    match weight {
        Weight::Unmet => DOUBT,
        Weight::Hint => DIM,
    }
}

/// `met: 100 of 100 arrived`.
pub(super) fn outcome(verdict: Verdict, why: &str) -> String {
    let word = match verdict {
        Verdict::Kept => "met",
        Verdict::Broken => "not met",
        Verdict::NotExercised => "not exercised",
        Verdict::Warn | Verdict::Unknown => "unknown",
    };
    format!("{word}: {why}")
}

/// An advice with what to change, and what happened without the change.
pub(super) fn advised(it: &Advised) -> String {
    format!("{}; {}", advice(it), it.happened)
}

/// An advice with what to change.
pub(super) fn advice(it: &Advised) -> String {
    advice_text(&it.scenario, &it.stream, it.subscriber.as_deref(), &it.why, &it.change)
}

/// `factory: anomaly to control-room: why; change: what`.
pub(crate) fn advice_text(
    scenario: &str,
    stream: &str,
    subscriber: Option<&str>,
    why: &str,
    change: &str,
) -> String {
    let whom = subscriber.map(|subscriber| format!(" to {subscriber}")).unwrap_or_default();
    format!("{scenario}: {stream}{whom}: {why}; change: {change}")
}

/// The streams that were sent more slowly than planned.
pub(super) fn unmet_rates(report: &Report) -> impl Iterator<Item = &Rate> {
    report.needs.rates.iter().filter(|rate| !rate.met)
}

/// What was planned, and what came of it.
pub(super) fn unmet_rate(rate: &Rate) -> String {
    let unfinished = match rate.taken < rate.planned {
        true => format!(", and {} of {} messages were taken on", count(rate.taken), count(rate.planned)),
        false => String::new(),
    };
    format!(
        "{}: {} on MQTT {} was sent at {:.1} messages a second instead of {:.1}, up to {} ms late{unfinished}; its rate \
         could not be met: lower the speed, or send less",
        rate.scenario,
        rate.stream,
        rate.protocol,
        rate.achieved_per_s,
        rate.planned_per_s,
        count(rate.behind_ms_max),
    )
}
