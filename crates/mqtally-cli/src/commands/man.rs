//! `mqtally man`: manual pages, made from the same text as `--help`.

use super::Cli;
use crate::exit::{self, ExitStatus, Failure};
use clap::CommandFactory;
use clap_mangen::Man;
use std::io;
use std::path::{Path, PathBuf};

/// Print the manual page, or write one page a command
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mqtally man | man -l -
  mqtally man --dir /usr/share/man/man1")]
pub(crate) struct Args {
    /// Write mqtally.1, mqtally-test.1, … into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitStatus, Failure> {
    match &args.dir {
        Some(dir) => write_all(dir)?,
        None => exit::print(&page().map_err(|error| unwritable(Path::new("standard output"), &error))?)?,
    }
    Ok(ExitStatus::Success)
}

fn write_all(dir: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Cli::command(), dir).map_err(|error| unwritable(dir, &error))
}

fn page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(Cli::command()).render(&mut page)?;
    Ok(page)
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::io("cannot write the manual", path, error, "name a directory that exists and can be written")
}
