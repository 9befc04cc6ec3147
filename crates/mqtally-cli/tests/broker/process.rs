//! The broker as a child process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A running broker; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// The program, away from whatever configuration lies around.
pub(crate) fn mqtally(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtally"));
    command.current_dir(std::env::temp_dir()).args(args);
    command
}

impl Broker {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(mqtally(&["broker", "--listen", "127.0.0.1:0"]).args(args))
    }

    pub(crate) fn start_on(data: &Path) -> Self {
        Self::start(&["--data", data.to_str().expect("UTF-8")])
    }

    /// No file of its may grow beyond `blocks` of 512 bytes.
    pub(crate) fn start_limited(data: &Path, blocks: u32) -> Self {
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let program = env!("CARGO_BIN_EXE_mqtally");
        let args = ["-c", &script, "sh", program, "broker", "--listen", "127.0.0.1:0", "--data"];
        Self::spawn(Command::new("sh").args(args).arg(data))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a first line");
        let Ok(address) = line.trim().parse() else {
            let mut stderr = String::new();
            let _ = child.stderr.take().expect("piped").read_to_string(&mut stderr);
            panic!("the first line is no address: '{line}'; {stderr}");
        };
        Self { child, address }
    }

    /// kill -9, and until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }

    pub(crate) fn terminate(mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        assert!(killed.success());
        self.child.wait().expect("it ended")
    }

    /// Waits until it ends by itself; with what it said on standard error.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let mut stderr = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("UTF-8");
        (self.child.wait().expect("it ended"), stderr)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
