//! `mqtally check`: judge a recorded history again.

use super::Global;
use crate::exit::{ExitStatus, Failure};
use crate::history;
use crate::report::Targets;
use std::path::PathBuf;

/// Judge a recorded history again: the same history gives the same report
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mqtally test --history run1          record
  mqtally check run1                   judge again, with this version's checkers
  mqtally check run1 --json -          the same for programs

A history that was cut or damaged is judged up to where it is whole; the report says so, and the exit status is 74.")]
pub(crate) struct Args {
    /// Directory that `mqtally test --history` wrote, or the file in it
    #[arg(value_name = "DIR")]
    history: PathBuf,
    #[command(flatten)]
    results: Targets,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitStatus, Failure> {
    let outputs = args.results.prepare()?;
    let (judged, stopped) = history::judge(&args.history)?;
    outputs.publish(&judged, None, global.quiet)?;
    stopped.map_or(Ok(judged.report.verdict.into()), Err)
}
