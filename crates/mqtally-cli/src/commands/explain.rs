//! `mqtally explain`: what a word of the reports means, without leaving the terminal.

use crate::exit::{self, ExitStatus, Failure};
use crate::explain::{self, Explanation};
use crate::nearest;
use crate::report::{Look, prose};

/// Say what a promise, a normative id, a QoS level, a fault or a verdict means
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mqtally explain                      everything that can be explained
  mqtally explain D3                   a promise: what it says, when it must hold, when it need not
  mqtally explain 3.1.1:MQTT-4.3.3-1   the promises that rest on a normative statement
  mqtally explain qos1                 a level; 'choose' says which QoS is for what")]
pub(crate) struct Args {
    /// What to explain; everything that can be is listed when it is left out
    word: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitStatus, Failure> {
    let look = Look::of_stdout();
    let text = match &args.word {
        Some(word) => explained(word, look)?,
        None => list(look),
    };
    exit::print(text.as_bytes())?;
    Ok(ExitStatus::Success)
}

fn explained(word: &str, look: Look) -> Result<String, Failure> {
    let found = explain::find(word);
    if found.is_empty() {
        return Err(unknown(word));
    }
    Ok(found.iter().map(|explanation| shown(explanation, look)).collect::<Vec<_>>().join("\n"))
}

fn unknown(word: &str) -> Failure {
    let advice = match nearest::nearest(word, explain::words()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => "'mqtally explain' lists what can be explained".to_owned(),
    };
    Failure::usage(format!("nothing is known about '{word}'"), "mqtally explain", advice)
}

fn shown(explanation: &Explanation, look: Look) -> String {
    prose::title(look, explanation.name, explanation.title) + &prose::paragraphs(&explanation.text, look)
}

/// Everything on a line each, under the heading of its section.
fn list(look: Look) -> String {
    let promises = explain::promises().map(|(id, title)| (id.to_owned(), title));
    let mut sections = vec![prose::list(look, "Promises", promises)];
    for (heading, entries) in explain::SECTIONS {
        sections.push(prose::list(
            look,
            heading,
            entries.iter().map(|entry| (entry.words.join(", "), entry.title)),
        ));
    }
    sections.join("\n")
}
