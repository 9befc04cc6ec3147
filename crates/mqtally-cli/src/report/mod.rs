//! A report as bytes: one file a format. Somebody else writes them.

mod comparison;
pub(crate) mod failed;
#[cfg(test)]
mod fixture;
mod html;
mod json;
mod junit;
mod markdown;
pub(crate) mod needs;
mod over_time;
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
pub(crate) mod words;

pub(crate) use comparison::Comparison;
pub(crate) use style::Look;

use crate::exit::{self, ExitStatus, Failure};
use crate::output::{Output, Target};
use mqtally_history::report::{Report, Verdict};
use mqtally_history::timeline::Timeline;

/// What a history comes to.
pub(crate) struct Judged {
    pub(crate) report: Report,
    pub(crate) timeline: Timeline,
}

/// Where reports go, as it was typed. Only one of them can go to standard output.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Results")]
pub(crate) struct Targets {
    /// Write the report as JSON to this file, or to standard output instead of the report for people
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    json: Option<Target>,
    /// Write a JUnit report for CI systems
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    junit: Option<Target>,
    /// Write a report in Markdown that fits a comment on a pull request
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    markdown: Option<Target>,
    /// Write the report as one HTML file with its pictures
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    html: Option<Target>,
}

/// Targets that can be written, which is found out before the work is done whose results they take.
pub(crate) struct Outputs {
    json: Option<Output>,
    junit: Option<Output>,
    markdown: Option<Output>,
    html: Option<Output>,
}

impl Targets {
    pub(crate) fn prepare(&self) -> Result<Outputs, Failure> {
        let all = [&self.json, &self.junit, &self.markdown, &self.html];
        if all.iter().filter(|target| matches!(target, Some(Target::Stdout))).count() > 1 {
            let advice = "give all but one of them a file";
            return Err(Failure::usage(
                "two reports cannot share standard output",
                "--json, --junit, --markdown, --html",
                advice,
            ));
        }
        let prepare = |target: &Option<Target>| target.as_ref().map(Output::prepare).transpose();
        Ok(Outputs {
            json: prepare(&self.json)?,
            junit: prepare(&self.junit)?,
            markdown: prepare(&self.markdown)?,
            html: prepare(&self.html)?,
        })
    }
}

impl Outputs {
    /// Gives a report to people on standard output, and to programs where they asked for it.
    ///
    /// Where programs read standard output, people get nothing; with `quiet` they get the verdict alone.
    pub(crate) fn publish(
        self,
        judged: &Judged,
        comparison: Option<&Comparison>,
        quiet: bool,
    ) -> Result<(), Failure> {
        let Judged { report, timeline } = judged;
        if !self.take_stdout() {
            let look = Look::of_stdout();
            let text = match quiet {
                true => terminal::verdict(report, look),
                false => terminal::render(judged, comparison, look),
            };
            exit::print(text.as_bytes())?;
        }
        let Outputs { json, junit, markdown, html } = self;
        write(json, || json::render(report))?;
        write(junit, || junit::render(report))?;
        write(markdown, || markdown::render(report, comparison))?;
        write(html, || html::render(report, timeline, comparison))
    }

    fn take_stdout(&self) -> bool {
        let all = [&self.json, &self.junit, &self.markdown, &self.html];
        all.into_iter().any(|output| matches!(output, Some(Output::Stdout)))
    }
}

fn write(output: Option<Output>, render: impl FnOnce() -> Vec<u8>) -> Result<(), Failure> {
    output.map_or(Ok(()), |output| output.write(&render()))
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
