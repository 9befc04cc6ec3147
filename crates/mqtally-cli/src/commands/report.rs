//! `mqtally report`: make the reports of a recorded history again, and compare it with others.

use super::Global;
use crate::exit::{ExitStatus, Failure};
use crate::history;
use crate::report::{Comparison, Targets};
use std::path::PathBuf;

/// Make the reports of a recorded history again, and compare it with an earlier one
///
/// Unlike 'mqtally check' it judges nobody: the exit status is 0 when the reports were made.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mqtally report run1 --html run1.html              one file, to be opened without a network
  mqtally report run1 --markdown - >> comment.md    for a pull request
  mqtally report run2 --baseline run1               what got better and what got worse")]
pub(crate) struct Args {
    /// Directory that `mqtally test --history` wrote, or the file in it
    #[arg(value_name = "DIR")]
    history: PathBuf,
    /// An earlier history to compare it with
    #[arg(long, value_name = "DIR")]
    baseline: Option<PathBuf>,
    #[command(flatten)]
    results: Targets,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitStatus, Failure> {
    let outputs = args.results.prepare()?;
    let (judged, stopped) = history::judge(&args.history)?;
    let comparison = args.baseline.as_ref().map(|place| {
        let (before, stopped) = history::judge(place)?;
        let name = place.display().to_string();
        stopped.map_or(Ok(Comparison::new(name, &before.report, &judged.report)), Err)
    });
    outputs.publish(&judged, comparison.transpose()?.as_ref(), global.quiet)?;
    stopped.map_or(Ok(ExitStatus::Success), Err)
}
