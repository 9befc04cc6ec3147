//! `mqtally`: accounts for every MQTT message.
//!
//! The program's story: read what was typed, with the environment and the configuration file below it ([`config`]);
//! run one command ([`commands`]); end with one of the statuses that scripts rely on ([`exit`]).
//! [`history`] finds and judges what was recorded, [`report`] turns the judgement into bytes for people or programs,
//! [`output`] writes files whole, [`live`] shows what is going on in a browser, [`explain`] holds the words that `explain` knows.

mod broker_url;
mod commands;
mod config;
mod exit;
mod explain;
mod history;
mod live;
mod metrics;
mod nearest;
mod output;
mod report;

use config::Parsed;
use exit::{ExitStatus, Failure};
use std::process::ExitCode;

fn main() -> ExitCode {
    exit::guard(run).into()
}

fn run() -> Result<ExitStatus, Failure> {
    match config::parse(std::env::args_os())? {
        Parsed::Command(cli) => commands::run(&cli),
        Parsed::Answered(status) => Ok(status),
    }
}
