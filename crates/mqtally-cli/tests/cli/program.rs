//! Runs the program as a shell would, without the environment of whoever runs the tests.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The program in a directory of its own.
pub(crate) struct Program {
    directory: TempDir,
    environment: Vec<(String, String)>,
}

/// What became of a run.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    pub(crate) fn new() -> Program {
        Program { directory: tempfile::tempdir().expect("a directory"), environment: Vec::new() }
    }

    /// With a file in its directory.
    pub(crate) fn file(self, name: &str, content: &str) -> Program {
        std::fs::write(self.directory.path().join(name), content).expect("a file");
        self
    }

    /// With an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Program {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where it runs.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs it with arguments, separated by spaces, to its end.
    pub(crate) fn run(&self, arguments: &str) -> Ended {
        Ended::from(self.command(arguments).output().expect("the program runs"))
    }

    /// The command, ready to be started.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtally"));
        command.args(arguments.split_whitespace()).current_dir(self.directory()).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MQTALLY_")) {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1").env("COLUMNS", "100");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Ended {
        Ended {
            status: output.status.code().expect("it ended by itself"),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}
