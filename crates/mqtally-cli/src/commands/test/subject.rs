//! `--subject-sub` and `--subject-pub`: somebody's own client program, met before the run.

use super::setup::Setup;
use crate::exit::{ExitStatus, Failure, redact};
use mqtally::endpoint::{Endpoint, Transport};
use mqtally_harness::process::ProcessError;
use mqtally_harness::subject::{Subject, SubjectError};
use mqtally_history::event::Side;
use std::fs;
use std::path::Path;

/// The flags of programs under test.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SubjectArgs {
    /// Judge this subscribing program behind the proxy; {url}, {host}, {port}, {topic}, {dir} are filled in and stand in
    /// its environment as MQTALLY_URL and so on; 'mqtally explain subject' has the rest
    #[arg(long, value_name = "COMMAND", help_heading = "Client under test")]
    subject_sub: Option<String>,
    /// Judge this publishing program, in the same way
    #[arg(long, value_name = "COMMAND", help_heading = "Client under test")]
    subject_pub: Option<String>,
    /// Judge it by its packets alone, and not by what it prints
    #[arg(long, help_heading = "Client under test")]
    subject_wire_only: bool,
}

impl SubjectArgs {
    /// The sides that are given, with their commands.
    pub(super) fn sides(&self) -> impl Iterator<Item = (Side, &str)> {
        let sides = [(Side::Subscriber, &self.subject_sub), (Side::Publisher, &self.subject_pub)];
        sides.into_iter().filter_map(|(side, command)| Some((side, command.as_deref()?)))
    }

    /// What makes no sense about them.
    pub(super) fn check(&self, broker: Option<&Endpoint>) -> Result<(), Failure> {
        if self.subject_wire_only && self.sides().next().is_none() {
            let advice = "give --subject-sub or --subject-pub too";
            let what = "--subject-wire-only is of no use without a program";
            return Err(Failure::usage(what, "mqtally test", advice));
        }
        let encrypted = broker.is_some_and(|broker| broker.transport() != Transport::Tcp);
        if encrypted && self.sides().next().is_some() {
            let advice = "name it as mqtt://HOST:PORT, or start one with --broker-cmd";
            let what = "the proxy before a program under test reaches a broker over plain TCP only";
            return Err(Failure::usage(what, "--broker", advice));
        }
        Ok(())
    }
}

/// Starts each program once to see who it is. Its data is in `scratch`.
pub(super) async fn introduce(
    setup: &Setup,
    broker: &Endpoint,
    scratch: &Path,
) -> Result<Vec<Subject>, Failure> {
    let mut subjects = Vec::new();
    for (side, command) in setup.subjects.sides() {
        let directory = scratch.join(flag(side));
        fs::create_dir_all(&directory).map_err(|error| {
            Failure::io(
                "cannot create a directory",
                &directory,
                &error,
                "set TMPDIR to one that can be written",
            )
        })?;
        let wire_only = setup.subjects.subject_wire_only;
        let met = Subject::introduce(side, command.to_owned(), directory, wire_only, broker).await;
        let mut subject = met.map_err(|error| unusable(side, &error))?;
        // From here on it is only shown.
        subject.name = redact(command);
        subjects.push(subject);
    }
    Ok(subjects)
}

fn unusable(side: Side, error: &SubjectError) -> Failure {
    let (status, advice) = match error {
        SubjectError::Process(ProcessError::Subject(_)) => (ExitStatus::Usage, "write it as for a shell"),
        SubjectError::Process(ProcessError::Spawn { .. }) => {
            (ExitStatus::Usage, "check the program's name and PATH; no shell runs: for one, write sh -c '…'")
        }
        SubjectError::Process(_) | SubjectError::Proxy(_) | SubjectError::Reports(_) => {
            (ExitStatus::Io, "free what is short and try again")
        }
    };
    Failure::new(status, error.to_string(), format!("--{}", flag(side)), advice)
}

fn flag(side: Side) -> &'static str {
    match side {
        Side::Subscriber => "subject-sub",
        Side::Publisher => "subject-pub",
    }
}
