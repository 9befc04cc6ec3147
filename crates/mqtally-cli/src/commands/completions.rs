//! `mqtally completions`: what packagers and shells expect.

use super::Cli;
use crate::exit::{self, ExitStatus, Failure};
use clap::CommandFactory;
use clap_complete::Shell;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  mqtally completions bash > /usr/share/bash-completion/completions/mqtally")]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<ExitStatus, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "mqtally", &mut script);
    exit::print(&script)?;
    Ok(ExitStatus::Success)
}
