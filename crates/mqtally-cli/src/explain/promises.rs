//! The promises of the catalogue, by their ids and by the normative statements that they rest on.

use super::Explanation;
use mqtally_history::promise::{self, CATALOGUE, Promise};
use mqtally_history::report::Severity;

/// The promise of this id, or those that rest on this normative statement, with or without brackets.
pub(super) fn find(word: &str) -> Vec<Explanation> {
    let id = word.trim_matches(['[', ']']).to_uppercase();
    promise::find(&id).into_iter().chain(promise::find_by_spec(&id)).map(explanation).collect()
}

pub(super) fn ids() -> impl Iterator<Item = &'static str> {
    CATALOGUE.iter().map(|promise| promise.id.as_str())
}

fn explanation(promise: &Promise) -> Explanation {
    let spec = match promise.spec {
        [] => "no statement of the standard; it follows from what a broker is for".to_owned(),
        spec => spec.join(", "),
    };
    let lines = [
        format!("What puts it to the test: {}.", promise.tested_by),
        format!("When it need not hold: {}.", promise.lifted_when),
        format!("How to exercise it: {}.", promise.exercise),
        format!("Severity: {:?}, {}.", promise.severity, about(promise.severity)),
        format!("Rests on: {spec}"),
    ];
    Explanation { name: promise.id.as_str(), title: promise.title, text: lines.join("\n") }
}

fn about(severity: Severity) -> &'static str {
    match severity {
        Severity::S1 => "data is lost, duplicated, reordered, invented or corrupt",
        Severity::S2 => "session or flow state is wrong, which can cause S1",
        Severity::S3 => "a flag or book-keeping is wrong",
        Severity::S4 => "something takes for ever",
    }
}
