//! `mqtally broker`: the embedded broker on its own.

use super::Global;
use crate::exit::{ExitStatus, Failure};

/// Run the embedded broker on its own
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args, _global: &Global) -> Result<ExitStatus, Failure> {
    Ok(ExitStatus::Success)
}
