//! `exec:CMD`: the shell runs the command once for each message.
//!
//! The payload comes on standard input; a command that does not read it is none the worse. The environment has
//! `MQTALLY_TOPIC`, `MQTALLY_ID` (its [`identity`](super::identity)), `MQTALLY_KEY` (its dedup key, where it has one),
//! `MQTALLY_ATTEMPT` (from 1), `MQTALLY_QOS`, `MQTALLY_RETAIN` (0 or 1) and `MQTALLY_RECEIVED_AT` (RFC 3339).
//!
//! Exit status 0 is done, 75 (`EX_TEMPFAIL`) is retry, everything else a dead letter with the end of what it said on
//! standard error. A command that takes too long is killed with all that it started, and retried, as is one that a
//! signal ends: neither has decided anything. What a command leaves running behind it goes on.

use super::process::{Program, Tail, in_words};
use super::{Options, PARALLEL_MAX, dead, record, retry};
use crate::inbox::{Delivery, Outcome};
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long we listen to standard error after the command has ended: something that it left running may hold it open.
const LINGER: Duration = Duration::from_millis(100);
/// `EX_TEMPFAIL` of sysexits.h.
const TRY_AGAIN: i32 = 75;

pub(super) struct Exec {
    command: String,
    time_max: Duration,
    prints: bool,
    turns: Semaphore,
}

impl Exec {
    pub(super) fn new(command: &str, options: &Options) -> Self {
        Self {
            command: command.to_owned(),
            time_max: options.time_max,
            prints: options.programs_print,
            turns: Semaphore::new(PARALLEL_MAX),
        }
    }

    /// Waiting for its turn, then running.
    pub(super) fn time_max(&self) -> Duration {
        self.time_max * 2
    }

    pub(super) async fn handle(&self, delivery: &Delivery) -> Outcome {
        let Ok(Ok(_turn)) = timeout(self.time_max, self.turns.acquire()).await else {
            return retry(format!("it was not its turn within {:?}", self.time_max));
        };
        let stdout = if self.prints { Stdio::inherit() } else { Stdio::null() };
        let started = Program::start(&self.command, stdout, |command| describe(command, delivery));
        let mut program = match started {
            Ok(program) => program,
            Err(error) => return retry(format!("the shell cannot be started: {error}")),
        };
        let mut tail = Tail::default();
        match timeout(self.time_max, run(&mut program, &delivery.payload, &mut tail)).await {
            Ok(Ok(status)) => judge(status, &tail),
            Ok(Err(error)) => retry(format!("its end was not seen: {error}")),
            Err(_) => {
                program.kill();
                retry(tail.after(&format!("killed after {:?}", self.time_max)))
            }
        }
    }
}

fn describe(command: &mut Command, delivery: &Delivery) {
    command
        .env("MQTALLY_TOPIC", without_nul(&delivery.topic))
        .env("MQTALLY_ID", record::identity(delivery))
        .env("MQTALLY_ATTEMPT", delivery.attempt.to_string())
        .env("MQTALLY_QOS", (delivery.qos as u8).to_string())
        .env("MQTALLY_RETAIN", u8::from(delivery.retain).to_string())
        .env("MQTALLY_RECEIVED_AT", record::rfc_3339(delivery.received_at));
    match &delivery.key {
        Some(key) => command.env("MQTALLY_KEY", without_nul(key)),
        None => command.env_remove("MQTALLY_KEY"),
    };
}

/// A key may hold U+0000, an environment cannot.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// Feeds the command and listens to it until it has ended.
async fn run(program: &mut Program, payload: &[u8], tail: &mut Tail) -> io::Result<ExitStatus> {
    let (stdin, stderr) = (program.child().stdin.take(), program.child().stderr.take());
    let talk = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // An error says that it reads no further, which is its own affair.
                let _ = stdin.write_all(payload).await;
            }
        };
        let listen = async {
            if let Some(mut stderr) = stderr {
                tail.fill(&mut stderr).await;
            }
        };
        tokio::join!(feed, listen)
    };
    tokio::pin!(talk);
    let status = tokio::select! {
        status = program.ended() => status,
        _ = &mut talk => return program.ended().await,
    };
    // Most often the pipe is at its end too. What is not said by now goes unheard.
    let _ = timeout(LINGER, talk).await;
    status
}

fn judge(status: ExitStatus, tail: &Tail) -> Outcome {
    match status.code() {
        Some(0) => Outcome::Done,
        Some(TRY_AGAIN) | None => retry(tail.after(&in_words(status))),
        Some(_) => dead(tail.after(&in_words(status))),
    }
}
