//! Titles, paragraphs and lists.

use super::style::{DIM, Look, TITLE};
use super::table::{Cell, Column, Table};
use super::words::{self, times};
use mqtally_history::report::Finding;

/// A title and, faintly, what it is about.
pub(crate) fn title(look: Look, text: &str, about: &str) -> String {
    format!("{}  {}\n", look.paint(TITLE, text), look.paint(DIM, about))
}

/// What there is to know of a finding besides what happened, in one line.
pub(super) fn finding_facts(finding: &Finding) -> String {
    let [first, last] = finding.events;
    let fault = if finding.fault.is_empty() { "no fault" } else { &finding.fault };
    let facts = [
        format!("{:?}", finding.severity),
        format!("MQTT {}", finding.protocol),
        finding.group.clone(),
        fault.to_owned(),
        times(finding.count),
        format!("events {first}–{last}"),
    ];
    facts.join(" · ")
}

/// Paragraphs, one a line, wrapped to the terminal; a line that begins with a space is shown as it stands.
pub(crate) fn paragraphs(text: &str, look: Look) -> String {
    let mut shown = String::new();
    for line in text.lines() {
        if line.starts_with(' ') {
            shown += &format!("  {}\n", line.trim_end());
            continue;
        }
        shown.push_str(if shown.is_empty() { "" } else { "\n" });
        shown.extend(words::wrap(line, look.width - 2).iter().map(|line| format!("  {line}\n")));
    }
    shown
}

/// Names and what they are, below a heading.
pub(crate) fn list<'a>(look: Look, heading: &str, rows: impl Iterator<Item = (String, &'a str)>) -> String {
    let mut table = Table::bare([Column::Left, Column::Elastic]);
    for (name, about) in rows {
        table.row([name.into(), Cell::styled(about, DIM)]);
    }
    format!("{}\n{}", look.paint(TITLE, heading), table.render(look))
}
