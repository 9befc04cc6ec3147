//! A finding's packets as a sequence diagram: clients, the broker between them, time downwards.

use super::scale::px;
use crate::report::words::visible;
use maud::{Markup, html};
use mqtally_history::report::{Direction, Finding, Step};

const TIME: f64 = 78.0;
/// Columns are as far apart as the longest text between them wants, within these.
const APART: [f64; 2] = [180.0, 440.0];
const CHARACTER: f64 = 6.8;
const TOP: f64 = 34.0;
const ROW: f64 = 30.0;
/// What fits between two columns.
const TEXT_MAX: usize = 62;

/// The diagram; nothing when the finding has no packets.
pub(super) fn diagram(finding: &Finding, shared: &str) -> Markup {
    let steps: Vec<Step<'_>> = finding.excerpt.iter().filter_map(|line| Step::read(line)).collect();
    let columns = Columns::of(&steps, shared);
    let height = TOP + ROW * steps.len() as f64 + 12.0;
    let title = format!("The packets of this finding, {} in order", steps.len());
    html! {
        @if !steps.is_empty() {
            div .wide .diagram tabindex="0" role="region" aria-label=(title) {
                svg width=(px(columns.width)) height=(px(height)) viewBox={ "0 0 " (px(columns.width)) " " (px(height)) }
                    role="img" aria-label={ (title) ". They follow as text." } {
                    (columns.drawn(height))
                    @for (number, step) in steps.iter().enumerate() {
                        (drawn(step, &columns, TOP + ROW * (number as f64 + 0.75), shared))
                    }
                }
            }
        }
    }
}

/// Who stands where: the first client on the left, the broker, then the other clients.
struct Columns<'a> {
    clients: Vec<&'a str>,
    apart: f64,
    width: f64,
}

impl<'a> Columns<'a> {
    fn of(steps: &[Step<'a>], shared: &str) -> Columns<'a> {
        let mut clients: Vec<&str> = Vec::new();
        for step in steps {
            if !clients.contains(&step.client) {
                clients.push(step.client);
            }
        }
        let between = steps.iter().filter(|step| step.direction != Direction::Nowhere);
        let longest = between.map(|step| text_width(step, shared)).fold(0.0, f64::max);
        let columns = Columns { clients, apart: (longest + 28.0).clamp(APART[0], APART[1]), width: 0.0 };
        // A note beside the last column is no narrower for it.
        let notes = steps.iter().filter(|step| step.direction == Direction::Nowhere);
        let notes = notes.map(|step| columns.of_client(step.client) + text_width(step, shared) + 16.0);
        let last = columns.apart * (columns.clients.len() as f64 - 1.0).max(0.0);
        let width = notes.fold(columns.broker() + last + 90.0, f64::max);
        Columns { width, ..columns }
    }

    fn broker(&self) -> f64 {
        TIME + 60.0 + self.apart
    }

    fn of_client(&self, client: &str) -> f64 {
        match self.clients.iter().position(|it| *it == client).unwrap_or_default() {
            0 => TIME + 60.0,
            place => self.broker() + self.apart * place as f64,
        }
    }

    fn drawn(&self, height: f64) -> Markup {
        let all = self.clients.iter().map(|client| (self.of_client(client), *client));
        html! {
            @for (x, name) in all.chain([(self.broker(), "broker")]) {
                line .life x1=(px(x)) x2=(px(x)) y1=(px(TOP - 8.0)) y2=(px(height)) {}
                text x=(px(x)) y="16" text-anchor="middle" font-weight="600" { (shortened(&visible(name))) }
            }
        }
    }
}

fn drawn(step: &Step<'_>, columns: &Columns<'_>, y: f64, shared: &str) -> Markup {
    let (client, broker) = (columns.of_client(step.client), columns.broker());
    let text = visible(&step.text.replace(shared, ""));
    let (from, to) = match step.direction {
        Direction::ToBroker => (client, broker),
        Direction::ToClient => (broker, client),
        Direction::Nowhere => return note(step, client, y, &text),
    };
    // The head points where the line goes and ends just before the column.
    let back = if to > from { -8.0 } else { 8.0 };
    html! {
        text .faint .mono x="4" y=(px(y + 4.0)) { (step.at_ms) " ms" }
        line .arrow x1=(px(from)) x2=(px(to + back / 2.0)) y1=(px(y)) y2=(px(y)) {}
        polygon .head points={ (px(to)) "," (px(y)) " " (px(to + back)) "," (px(y - 4.0)) " " (px(to + back)) "," (px(y + 4.0)) } {}
        text .mono x=(px(from.midpoint(to))) y=(px(y - 5.0)) text-anchor="middle" {
            title { (text) } (shortened(&text))
        }
    }
}

fn note(step: &Step<'_>, x: f64, y: f64, text: &str) -> Markup {
    let shown = shortened(text);
    let width = CHARACTER * shown.chars().count() as f64 + 16.0;
    html! {
        text .faint .mono x="4" y=(px(y + 4.0)) { (step.at_ms) " ms" }
        rect .note x=(px(x - 8.0)) y=(px(y - 10.0)) width=(px(width)) height="20" rx="4" {}
        text .mono x=(px(x)) y=(px(y + 4.0)) { title { (text) } (shown) }
    }
}

fn text_width(step: &Step<'_>, shared: &str) -> f64 {
    let characters = visible(&step.text.replace(shared, "")).chars().count();
    characters.min(TEXT_MAX) as f64 * CHARACTER
}

fn shortened(text: &str) -> String {
    match text.chars().count() > TEXT_MAX {
        true => text.chars().take(TEXT_MAX - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn a_packet_is_an_arrow_between_its_client_and_the_broker() {
        let svg = diagram(&fixture::broken().findings[0], "session/").into_string();
        insta::assert_snapshot!(
            svg.replace("<line", "\n<line").replace("<text", "\n<text").replace("<rect", "\n<rect")
        );
    }

    #[test]
    fn a_finding_without_packets_has_no_diagram() {
        assert_eq!(diagram(&fixture::broken().findings[1], "").into_string(), "");
    }
}
