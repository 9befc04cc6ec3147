//! A program of somebody else's that is neither a broker nor ours: in a process group of its own.

use super::child::Process;
use super::{ProcessError, command_line};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Cuts `template` into words and puts `values` in, each for its name in braces.
pub(crate) fn command_words(template: &str, values: &[(&str, String)]) -> Result<Vec<String>, ProcessError> {
    command_line::expand_with(template, values).map_err(ProcessError::Subject)
}

/// A running program. Its group is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Started(Process);

impl Started {
    /// Starts the program that is the first of `words`, where we are, with `environment` on top of ours.
    pub(crate) fn new(words: &[String], environment: &[(String, String)]) -> Result<Self, ProcessError> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| ProcessError::Subject("it is empty".to_owned()))?;
        let started = Process::spawn_alone(Path::new(program), arguments, environment);
        started.map(Self).map_err(|error| ProcessError::Spawn { program: program.clone(), error })
    }

    /// Tells each line of its standard output.
    pub(crate) fn listen(&mut self, told: impl FnMut(&str) + Send + 'static) -> Option<JoinHandle<()>> {
        self.0.listen(told)
    }

    /// Waits for its end; how it was, with its last words.
    pub(crate) async fn until_ended(&mut self) -> String {
        let ended = self.0.ended().await;
        self.0.kill_group();
        match ended {
            Ok(status) => self.end(&status.to_string()),
            Err(error) => error.to_string(),
        }
    }

    fn end(&self, status: &str) -> String {
        match self.0.last_words() {
            words if words.is_empty() => format!("{status}; it said nothing on standard error"),
            words => format!("{status}; it said: {words}"),
        }
    }

    /// SIGKILL to the whole group.
    pub(crate) async fn kill_9(&mut self) -> Result<(), ProcessError> {
        self.0.kill_group();
        self.0.kill_9().await.map_err(|error| ProcessError::System { act: "killing the subject", error })
    }

    /// SIGTERM to the program, and SIGKILL to the whole group after `patience` or when it has gone.
    pub(crate) async fn terminate(&mut self, patience: Duration) -> Result<(), ProcessError> {
        let stopped = self.0.terminate_group(patience).await;
        stopped.map_err(|error| ProcessError::System { act: "stopping the subject", error })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.0.kill_group();
    }
}
