//! A PostgreSQL server of the test's own: a child process, on a Unix socket in a directory that goes away with it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
/// Settings of every server: nothing but the socket; crashes of the machine are no test's subject.
const SETTINGS: &[&str] =
    &["listen_addresses=", "fsync=off", "full_page_writes=off", "autovacuum_naptime=1s"];

pub struct Server {
    directory: TempDir,
    programs: PathBuf,
    settings: Vec<String>,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// `None` where there is no PostgreSQL, which is said aloud.
    #[allow(clippy::print_stderr, reason = "a test that did not run must not look like one that passed")]
    pub fn start() -> Option<Self> {
        Self::start_with(SETTINGS)
    }

    /// With the server's own defaults for what makes a commit last.
    pub fn start_durable() -> Option<Self> {
        Self::start_with(&SETTINGS[..1])
    }

    /// The same, and every statement's time is added up in `pg_stat_statements`.
    pub fn start_profiled() -> Option<Self> {
        let profile = ["shared_preload_libraries=pg_stat_statements", "pg_stat_statements.track_planning=on"];
        let server = Self::start_with(&[SETTINGS[0], profile[0], profile[1]])?;
        server.value("CREATE EXTENSION pg_stat_statements");
        Some(server)
    }

    /// On a port of this machine as well, with this certificate (PEM) for those who ask for TLS.
    pub fn start_encrypted(certificate: &str, key: &str) -> Option<Self> {
        let mut server = Self::start_with(SETTINGS)?;
        server.crash();
        for (name, content) in [("server.crt", certificate), ("server.key", key)] {
            let path = server.data().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = owner() {
                chown(&path, Some(user), Some(group)).unwrap();
            }
        }
        // Free a moment ago; the server itself can take none that it would tell.
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        server.port = free.unwrap().port();
        server.settings[0] = "listen_addresses=127.0.0.1".to_owned();
        server.settings.push("ssl=on".to_owned());
        server.resume();
        Some(server)
    }

    /// From here on it speaks no TLS.
    pub fn stop_encrypting(&mut self) {
        self.crash();
        self.settings.retain(|setting| setting != "ssl=on");
        self.resume();
    }

    /// Where it listens, where it was [started for that](Self::start_encrypted).
    pub fn port(&self) -> u16 {
        self.port
    }

    #[allow(clippy::print_stderr, reason = "a test that did not run must not look like one that passed")]
    fn start_with(settings: &[&str]) -> Option<Self> {
        let Some(programs) = programs() else {
            eprintln!(
                "\n*** SKIPPED: no PostgreSQL 15 or newer under /usr/lib/postgresql; apt-get install postgresql ***\n"
            );
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        if let Some((user, group)) = owner() {
            chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { directory, programs, settings, port: 5_432, child: None };
        let made = server
            .program("initdb")
            .args(["--no-sync", "--auth=trust", "--username=app", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(server.data())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.resume();
        Some(server)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn socket(&self) -> &Path {
        self.directory.path()
    }

    /// Of a schema of its own.
    pub fn url(&self, schema: &str) -> String {
        format!("postgres://app@/postgres?host={}&schema={schema}", self.socket().display())
    }

    /// A table for a handler, in the same database.
    pub fn table_url(&self, table: &str) -> String {
        format!("postgres://app@/postgres?host={}&table={table}", self.socket().display())
    }

    /// Starts the server where it is stopped, and waits until it answers.
    pub fn resume(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.path().join("log"));
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.socket()).args(["-p", &self.port.to_string()]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.unwrap()).spawn().unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while !self.psql("SELECT 1").status.success() {
            assert!(Instant::now() < deadline, "the server does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the server as a crash does: nothing is written back.
    pub fn crash(&mut self) {
        if let Some(mut child) = self.child.take() {
            let id = child.id().to_string();
            let signalled = Command::new("kill").args(["-QUIT", &id]).status();
            assert!(signalled.is_ok_and(|status| status.success()));
            child.wait().unwrap();
        }
    }

    pub fn psql(&self, sql: &str) -> Output {
        self.client().args(["-c", sql]).output().unwrap()
    }

    fn client(&self) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.args(["-X", "-U", "app", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-Atq", "-h"]);
        command.arg(self.socket()).args(["-p", &self.port.to_string()]);
        command
    }

    /// The only value of a query; what goes wrong is the test's end.
    pub fn value(&self, sql: &str) -> String {
        let output = self.psql(sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn count(&self, sql: &str) -> u64 {
        self.value(sql).parse().unwrap()
    }

    /// Waits until `condition` is true; nothing tells of what changes by the server's clock or in its other sessions.
    pub fn wait_until(&self, condition: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.value(&format!("SELECT {condition}")) != "t" {
            assert!(Instant::now() < deadline, "waited in vain for {condition}; {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A session of its own, which carries out what is written to its standard input.
    pub fn session(&self) -> Child {
        let mut command = self.client();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The server refuses to run as root.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match owner() {
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={user}"), format!("--regid={group}")]);
                command.args(["--clear-groups", "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(self.directory.path());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crash();
    }
}

fn programs() -> Option<PathBuf> {
    let mut found: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .ok()?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version: u32 = path.file_name()?.to_str()?.parse().ok()?;
            let programs = path.join("bin");
            (version >= 15 && programs.join("initdb").exists()).then_some((version, programs))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, programs)| programs)
}

/// Who the server runs as where we are root: `nobody`.
fn owner() -> Option<(u32, u32)> {
    (fs::metadata("/proc/self").ok()?.uid() == 0).then_some((65_534, 65_534))
}
