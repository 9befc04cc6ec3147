//! What scenarios need, on the page.

use super::tables::scroll;
use super::{class, word};
use crate::report::needs::{advised, unmet_rate, unmet_rates};
use crate::report::words::{count, visible};
use maud::{Markup, html};
use mqtally_history::report::{NeedMet, Rate, Report};

/// Needs, advice and rates; nothing in a run without scenarios.
pub(super) fn section(report: &Report) -> Markup {
    let notes: Vec<String> =
        report.needs.advice.iter().map(advised).chain(unmet_rates(report).map(unmet_rate)).collect();
    html! {
        @if !report.needs.needs.is_empty() {
            h2 #needs { "Needs" }
            p .faint { "What each stream needs, and whether it was met, from the device to the application." }
            (scroll("Needs", &html! {
                thead { tr {
                    th { "scenario" } th { "MQTT" } th { "stream" } th { "need" } th .number { "QoS" }
                    th .number { "messages" } th { "verdict" } th { "what happened" }
                } }
                tbody { @for need in &report.needs.needs { (need_row(need)) } }
            }))
        }
        @if !notes.is_empty() {
            ul { @for note in &notes { li { (visible(note)) } } }
        }
        @if !report.needs.rates.is_empty() {
            details { summary { "Rates: as planned, and as they were" }
                (scroll("Rates", &html! {
                    thead { tr {
                        th { "scenario" } th { "MQTT" } th { "stream" } th .number { "messages" }
                        th .number { "planned a second" } th .number { "achieved" } th .number { "at most late, ms" }
                    } }
                    tbody { @for rate in &report.needs.rates { (rate_row(rate)) } }
                }))
            }
        }
    }
}

fn need_row(need: &NeedMet) -> Markup {
    html! {
        tr .(class(need.verdict)) {
            td { (visible(&need.scenario)) }
            td { (need.protocol) }
            th scope="row" { (visible(&need.stream)) }
            td { (need.need.word()) }
            td .number { (need.qos) }
            td .number { (count(need.messages)) }
            td { (word(need.verdict)) }
            td { (visible(&need.why)) }
        }
    }
}

fn rate_row(rate: &Rate) -> Markup {
    html! {
        tr {
            td { (visible(&rate.scenario)) }
            td { (rate.protocol) }
            th scope="row" { (visible(&rate.stream)) }
            td .number { (count(rate.taken)) }
            td .number { (format!("{:.1}", rate.planned_per_s)) }
            td .number { (format!("{:.1}", rate.achieved_per_s)) }
            td .number { (count(rate.behind_ms_max)) }
        }
    }
}
