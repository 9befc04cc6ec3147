//! A child process: its standard streams, its end.

use rustix::process::{Signal, kill_process};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Lines of standard error that are kept for messages.
const TAIL_LINES_MAX: usize = 20;
/// Bytes of a line that are kept.
const LINE_BYTES_MAX: u64 = 1_024;
/// The same of what a program says on standard output when every word counts.
const SPOKEN_BYTES_MAX: u64 = 64 << 10;
/// How long to wait for the last words of a process that is gone; a child of its own may keep the stream open.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);

/// A process of ours. It is killed when this value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Its process id where it leads a group, until the group is killed.
    leader: Option<rustix::process::Pid>,
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Tail,
    /// Ends with standard error.
    following: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `program` with `arguments` in `directory` (ours when `None`).
    pub(crate) fn spawn(
        program: &Path,
        arguments: &[String],
        directory: Option<&Path>,
    ) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        Self::begin(command, arguments, false)
    }

    /// The same in a process group of its own, with this on top of our environment.
    pub(crate) fn spawn_alone(
        program: &Path,
        arguments: &[String],
        environment: &[(String, String)],
    ) -> std::io::Result<Self> {
        let mut command = Command::new(program);
        command.process_group(0).envs(environment.iter().map(|(name, value)| (name, value)));
        Self::begin(command, arguments, true)
    }

    fn begin(mut command: Command, arguments: &[String], leads: bool) -> std::io::Result<Self> {
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // What configures whoever runs us is not for this one; what was set for it is.
        let set: Vec<OsString> = command.as_std().get_envs().map(|(name, _)| name.to_owned()).collect();
        let ours = |name: &OsString| name.to_string_lossy().starts_with("MQTALLY_") && !set.contains(name);
        for name in std::env::vars_os().map(|(name, _)| name).filter(ours) {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let leader = child.id().filter(|_| leads).and_then(pid);
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = Tail::default();
        let follow = |stream| tokio::spawn(stderr.clone().follow(BufReader::new(stream)));
        let following = child.stderr.take().map(follow);
        Ok(Self { child, leader, stdout, stderr, following })
    }

    /// The next line of standard output; `None` at its end. Call [`Self::discard_output`] when no more is wanted.
    pub(crate) async fn line(&mut self) -> std::io::Result<Option<String>> {
        match &mut self.stdout {
            Some(stream) => bounded_line(stream, LINE_BYTES_MAX).await,
            None => Ok(None),
        }
    }

    /// Tells each line of standard output from now on, until it ends.
    pub(crate) fn listen(&mut self, mut told: impl FnMut(&str) + Send + 'static) -> Option<JoinHandle<()>> {
        let mut stream = self.stdout.take()?;
        Some(tokio::spawn(async move {
            while let Ok(Some(line)) = bounded_line(&mut stream, SPOKEN_BYTES_MAX).await {
                told(&line);
            }
        }))
    }

    /// Reads the rest of standard output away, so that the process never waits for a reader.
    pub(crate) fn discard_output(&mut self) {
        if let Some(mut stream) = self.stdout.take() {
            tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
        }
    }

    /// Waits for its end, and for its last words.
    pub(crate) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        if let Some(following) = self.following.take() {
            let _ = timeout(LAST_WORDS_LIMIT, following).await;
        }
        Ok(status)
    }

    /// How it ended, if it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) async fn kill_9(&mut self) -> std::io::Result<()> {
        self.child.kill().await
    }

    /// SIGTERM; SIGKILL if it is not gone within `patience`. Whether it went by itself.
    pub(crate) async fn terminate(&mut self, patience: Duration) -> std::io::Result<bool> {
        self.signal(Signal::TERM)?;
        // One that is paused takes it when it goes on.
        self.signal(Signal::CONT)?;
        match timeout(patience, self.child.wait()).await {
            Ok(status) => status.map(|_| true),
            Err(_) => self.kill_9().await.map(|()| false),
        }
    }

    /// SIGKILL to the group that it leads, whatever is left of it.
    pub(crate) fn kill_group(&mut self) {
        if let Some(pid) = self.leader.take() {
            // Nobody there any more is what is wanted.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    }

    /// SIGTERM, then SIGKILL to whatever is left of its group: at once when it is gone, else after `patience`.
    pub(crate) async fn terminate_group(&mut self, patience: Duration) -> std::io::Result<()> {
        let stopped = self.terminate(patience).await;
        self.kill_group();
        stopped.map(drop)
    }

    /// Sends a signal, if it still runs.
    pub(crate) fn signal(&self, signal: Signal) -> std::io::Result<()> {
        self.child.id().and_then(pid).map_or(Ok(()), |pid| Ok(kill_process(pid, signal)?))
    }

    /// The last lines of its standard error, in one line.
    pub(crate) fn last_words(&self) -> String {
        self.stderr.text()
    }
}

fn pid(id: u32) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(i32::try_from(id).ok()?)
}

/// The last lines of a stream.
#[derive(Debug, Clone, Default)]
struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    async fn follow(self, mut stream: BufReader<impl AsyncRead + Unpin>) {
        while let Ok(Some(line)) = bounded_line(&mut stream, LINE_BYTES_MAX).await {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == TAIL_LINES_MAX {
                lines.pop_front();
            }
            lines.push_back(line);
        }
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
    }
}

/// Reads one line of at most `bytes_max` bytes; a longer one comes in pieces.
async fn bounded_line(
    stream: &mut BufReader<impl AsyncRead + Unpin>,
    bytes_max: u64,
) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let count = stream.take(bytes_max).read_until(b'\n', &mut line).await?;
    let text = String::from_utf8_lossy(&line);
    Ok((count > 0).then(|| text.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker that outlives its run would keep its port and be found by the next run.
    #[tokio::test]
    async fn a_dropped_process_is_killed() {
        let mut process =
            Process::spawn(Path::new("sh"), &["-c", "echo ready; exec sleep 60"].map(str::to_owned), None)
                .expect("sh cannot be started");
        assert_eq!(process.line().await.expect("no output"), Some("ready".to_owned()));
        let pid = process.child.id().expect("it runs");
        drop(process);
        let gone = async {
            while Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(5), gone).await.expect("it outlived its handle");
    }

    #[tokio::test]
    async fn a_process_that_ignores_sigterm_is_killed() {
        let script = "trap '' TERM; echo ready; while :; do sleep 0.1; done";
        let mut process = Process::spawn(Path::new("sh"), &["-c", script].map(str::to_owned), None)
            .expect("sh cannot be started");
        process.line().await.expect("no output");
        assert!(!process.terminate(Duration::from_millis(200)).await.expect("no signal"));
        let status = process.has_ended().expect("it still runs");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
}
