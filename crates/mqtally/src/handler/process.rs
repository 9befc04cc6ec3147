//! Programs: a shell command in a process group of its own, and the end of what it says on standard error.

use std::io;
use std::process::{ExitStatus, Stdio};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// How much of a program's standard error is kept, in bytes: the end says why.
const TAIL_BYTES_MAX: usize = 1_024;

/// A running command. Dropped before it has ended, it is killed with everything that it started, but for what left its
/// process group; outside Unix only the command itself is.
pub(super) struct Program {
    child: Child,
    running: bool,
}

impl Program {
    /// Has the shell run `command`, with pipes for standard input and standard error.
    pub(super) fn start(command: &str, stdout: Stdio, more: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let mut shell = shell(command);
        shell.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped()).kill_on_drop(true);
        more(&mut shell);
        Ok(Self { child: shell.spawn()?, running: true })
    }

    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Resolves when it has ended. What it left running goes on.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.running = false;
        status
    }

    pub(super) fn kill(&mut self) {
        if self.running {
            kill_group(&mut self.child);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(unix)]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    // A group of its own also keeps a terminal's Ctrl-C from it: we decide when it ends.
    shell.arg("-c").arg(command).process_group(0);
    shell
}

#[cfg(not(unix))]
fn shell(command: &str) -> Command {
    let mut shell = Command::new("cmd");
    shell.arg("/C").arg(command);
    shell
}

/// The child is not reaped yet, so its number cannot be somebody else's.
#[cfg(unix)]
fn kill_group(child: &mut Child) {
    let pid = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    if let Some(pid) = pid {
        // An error says that it has just ended.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

#[cfg(not(unix))]
fn kill_group(child: &mut Child) {
    // An error says that it has just ended.
    let _ = child.start_kill();
}

/// How a program ended, in words.
pub(super) fn in_words(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("signal {signal}");
    }
    status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"))
}

/// The end of a program's standard error.
#[derive(Debug, Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let surplus = self.0.len().saturating_sub(TAIL_BYTES_MAX);
        self.0.drain(..surplus);
    }

    /// Reads `from` to its end.
    pub(super) async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) {
        let mut chunk = [0; 4_096];
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            self.push(&chunk[..length]);
        }
    }

    /// `what`, and what the program said.
    pub(super) fn after(&self, what: &str) -> String {
        match String::from_utf8_lossy(&self.0).trim() {
            "" => what.to_owned(),
            said => format!("{what}: {said}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_said_is_kept() {
        let mut tail = Tail::default();
        (0..1_000).for_each(|line| tail.push(format!("line {line}\n").as_bytes()));
        let said = tail.after("exit status 1");
        assert!(said.ends_with("line 999") && said.starts_with("exit status 1: "), "{said}");
        assert!(said.len() <= TAIL_BYTES_MAX + 20);
        assert_eq!(Tail::default().after("exit status 1"), "exit status 1");
    }
}
