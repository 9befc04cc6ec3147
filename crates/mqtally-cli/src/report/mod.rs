//! A report as bytes: one file a format. Somebody else writes them.

pub(crate) mod failed;
#[cfg(test)]
mod fixture;
pub(crate) mod json;
pub(crate) mod prose;
pub(crate) mod receipts;
pub(crate) mod reconciliation;
mod streams;
mod style;
mod table;
pub(crate) mod terminal;
#[cfg(test)]
mod tests;
mod topics;
mod words;

pub(crate) use style::Look;

use crate::exit::{self, ExitStatus, Failure};
use crate::output::Output;
use mqtally_history::report::{Report, Verdict};

/// Gives a report to people on standard output, and to programs where they asked for it.
///
/// Where programs read standard output, people get nothing; with `quiet` they get the verdict alone.
pub(crate) fn publish(report: &Report, json: Option<Output>, quiet: bool) -> Result<(), Failure> {
    let look = Look::of_stdout();
    if !matches!(json, Some(Output::Stdout)) {
        let text = if quiet { terminal::verdict(report, look) } else { terminal::render(report, look) };
        exit::print(text.as_bytes())?;
    }
    json.map_or(Ok(()), |json| json.write(&json::render(report)))
}

impl From<Verdict> for ExitStatus {
    /// A warning is no broken promise; a run of which nothing was exercised cannot be judged.
    fn from(verdict: Verdict) -> ExitStatus {
        match verdict {
            Verdict::Kept | Verdict::Warn => ExitStatus::Success,
            Verdict::Unknown | Verdict::NotExercised => ExitStatus::Unknown,
            Verdict::Broken => ExitStatus::Broken,
        }
    }
}
