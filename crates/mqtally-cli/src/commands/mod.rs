//! One file a command: its `Args`, whose comments are the help text, and `run`. This file only dispatches.

mod broker;
mod check;
mod completions;
mod dead_letter;
mod explain;
mod man;
mod outbox;
mod proxy;
mod publish;
mod reconcile;
mod report;
mod sim;
mod store;
mod subscribe;
mod test;

use crate::exit::{ExitStatus, Failure};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Accounts for every MQTT message: runs publishers and subscribers against a broker and says, with evidence,
/// which promises of MQTT were kept, broken, or never put to the test.
#[derive(Debug, Parser)]
#[command(name = "mqtally", version, max_term_width = 100, arg_required_else_help = true)]
#[command(subcommand_required = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command understands.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// Print nothing but the result itself: no progress, no diagnostics
    #[arg(long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say on standard error what is being done
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Read flags from this TOML file instead of ./mqtally.toml
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Test(Box<test::Args>),
    Check(check::Args),
    Report(report::Args),
    Explain(explain::Args),
    #[command(name = "pub")]
    Publish(Box<publish::Args>),
    #[command(name = "sub")]
    Subscribe(Box<subscribe::Args>),
    DeadLetter(Box<dead_letter::Args>),
    Outbox(outbox::Args),
    Reconcile(reconcile::Args),
    Sim(sim::Args),
    Broker(broker::Args),
    Proxy(Box<proxy::Args>),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs the command that was typed.
pub(crate) fn run(cli: &Cli) -> Result<ExitStatus, Failure> {
    match &cli.command {
        Command::Test(args) => test::run(args, &cli.global),
        Command::Check(args) => check::run(args, &cli.global),
        Command::Report(args) => report::run(args, &cli.global),
        Command::Explain(args) => explain::run(args),
        Command::Publish(args) => publish::run(args, &cli.global),
        Command::Subscribe(args) => subscribe::run(args, &cli.global),
        Command::DeadLetter(args) => dead_letter::run(args, &cli.global),
        Command::Outbox(args) => outbox::run(args),
        Command::Reconcile(args) => reconcile::run(args, &cli.global),
        Command::Sim(args) => sim::run(args, &cli.global),
        Command::Broker(args) => broker::run(args, &cli.global),
        Command::Proxy(args) => proxy::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

const EXAMPLES: &str = "\
Examples:
  mqtally test                                  judge the embedded broker, whole suite
  mqtally test qos --broker mqtt://localhost    judge QoS 0, 1 and 2 on yours
  mqtally explain D3                            what a promise says, and when it holds

Every flag can be set by MQTALLY_<FLAG> or in ./mqtally.toml; flags win over environment over file.
Exit status: 0 kept, 1 broken, 2 unknown, 64 usage, 69 unreachable, 70 our fault, 74 file, 130 interrupted.";
