//! `mqtally check`: judge a recorded history again.

use super::Global;
use crate::exit::{ExitStatus, Failure};
use crate::history;
use crate::output::{Output, Target};
use crate::report;
use std::path::PathBuf;

/// Judge a recorded history again: the same history gives the same report
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mqtally test --history run1          record
  mqtally check run1                   judge again, with this version's checkers
  mqtally check run1 --json -          the same for programs")]
pub(crate) struct Args {
    /// Directory that `mqtally test --history` wrote, or the file in it
    #[arg(value_name = "DIR")]
    history: PathBuf,
    /// Write the report as JSON to this file, or to standard output instead of the report for people
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    json: Option<Target>,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitStatus, Failure> {
    let json = args.json.as_ref().map(Output::prepare).transpose()?;
    let report = history::judge(&args.history)?;
    report::publish(&report, json, global.quiet)?;
    Ok(report.verdict.into())
}
