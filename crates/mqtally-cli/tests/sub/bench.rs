//! A broker, a directory, and programs of ours that are watched while they run.

#![allow(dead_code, reason = "each test program uses its own part")]

use bytes::Bytes;
use mqtally::client::{Client, Event, Events, Settings};
use mqtally::endpoint::Endpoint;
use mqtally_proto::packet::{Property, Publish, Qos, ReasonCode, Version};
use mqtally_proto::session::{Event as SessionEvent, Options};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long something may take that happens by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The program, without the environment of whoever runs the tests.
pub(crate) fn mqtally(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtally"));
    in_directory(&mut command, directory);
    command
}

fn in_directory(command: &mut Command, directory: &Path) {
    command.current_dir(directory).stdin(Stdio::null()).env("NO_COLOR", "1");
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MQTALLY_")) {
        command.env_remove(name);
    }
}

/// The embedded broker; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Broker {
    pub(crate) fn start(directory: &Path, args: &[&str]) -> Self {
        Self::at("127.0.0.1:0", directory, args)
    }

    pub(crate) fn at(listen: &str, directory: &Path, args: &[&str]) -> Self {
        let mut command = mqtally(directory);
        command.args(["broker", "--listen", listen]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("an address");
        Self { child, address: line.trim().parse().expect("an address") }
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A broker, and a directory that the programs run in. Its store is `s.sub`.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
    pub(crate) broker: Broker,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(&["--volatile"])
    }

    /// With these flags of the broker.
    pub(crate) fn with(broker: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let broker = Broker::start(directory.path(), broker);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { directory, broker, runtime: runtime.expect("a runtime") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file of the directory; empty where there is none.
    pub(crate) fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_default()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).expect("UTF-8")
    }

    /// Runs the program to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Ended {
        Running::start(mqtally(self.directory.path()).args(args)).ended()
    }

    /// `mqtally sub` on our broker and store, with words separated by spaces and then `more` as it is.
    pub(crate) fn sub_command(&self, args: &str, more: &[&str]) -> Command {
        let mut command = mqtally(self.directory.path());
        command.args(sub_args(&self.broker.url(), args, more));
        command
    }

    pub(crate) fn start(&self, args: &str, more: &[&str]) -> Running {
        Running::start(&mut self.sub_command(args, more))
    }

    /// As [`start`](Self::start), and waits until it has subscribed.
    pub(crate) fn sub(&self, args: &str, more: &[&str]) -> Running {
        let running = self.start(args, more);
        running.says("mqtally: subscribed to");
        running
    }

    /// A subscriber of this name that goes away again: what is published from now on waits for it at the broker.
    pub(crate) fn leave_session(&self, args: &str) {
        assert_eq!(self.sub(args, &[]).terminate().code, Some(0));
    }

    /// Publishes, and returns when the broker has acknowledged all of it.
    pub(crate) fn publish(&self, messages: Vec<Publish>) {
        self.publish_to(&self.broker, messages);
    }

    pub(crate) fn publish_to(&self, broker: &Broker, messages: Vec<Publish>) {
        let endpoint: Endpoint = broker.url().parse().expect("a URL");
        self.with_client(endpoint, "publisher", async |client, mut events| {
            let mut open = 0;
            for (token, message) in (0..).zip(messages) {
                open += u32::from(message.qos != Qos::AtMostOnce);
                client.publish(token, message).await.expect("it can be sent");
            }
            while open > 0 {
                if let SessionEvent::Completed { reason, .. } = next(&mut events).await {
                    assert!(!reason.is_error(), "{reason}");
                    open -= 1;
                }
            }
        });
    }

    pub(crate) fn with_client<T>(
        &self,
        endpoint: Endpoint,
        client_id: &str,
        act: impl AsyncFnOnce(Client, Events) -> T,
    ) -> T {
        self.runtime.block_on(async {
            let (client, events) =
                Client::start(Settings::new(endpoint, Options::new(Version::V5_0, client_id)));
            client.connect().await.expect("the broker is there");
            let value = tokio::time::timeout(PATIENCE, act(client.clone(), events)).await.expect("in time");
            client.disconnect(ReasonCode::SUCCESS, None).await;
            value
        })
    }

    /// A number from our store; 0 where the store or the table is not there.
    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.count_in("s.sub", sql)
    }

    pub(crate) fn count_in(&self, store: &str, sql: &str) -> i64 {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = rusqlite::Connection::open_with_flags(self.path(store), flags);
        let counted = connection.and_then(|connection| connection.query_row(sql, [], |row| row.get(0)));
        counted.unwrap_or(0)
    }
}

/// What `mqtally sub` is called with: as verbose as it can be, and with the bench's place where none is given.
pub(crate) fn sub_args(url: &str, args: &str, more: &[&str]) -> Vec<String> {
    let given = |flag: &str| args.split_whitespace().chain(more.iter().copied()).any(|arg| arg == flag);
    let defaults = [("--stats-every", "0"), ("--broker", url), ("--client-id", "c"), ("--store", "s.sub")];
    let missing = defaults.into_iter().filter(|(flag, _)| !given(flag));
    let mut all: Vec<String> = ["sub", "-v"].map(str::to_owned).to_vec();
    all.extend(missing.flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()]));
    all.extend(args.split_whitespace().map(str::to_owned));
    all.extend(more.iter().map(|arg| (*arg).to_owned()));
    all
}

pub(crate) async fn next(events: &mut Events) -> SessionEvent {
    match events.recv().await.expect("the client runs") {
        Event::Session(event) => event,
        Event::Closed { how, error } => panic!("the connection ended: {how:?} {error:?}"),
    }
}

/// A message of QoS 1.
pub(crate) fn message(topic: &str, payload: impl Into<Bytes>) -> Publish {
    let payload = payload.into();
    Publish { topic: topic.into(), qos: Qos::AtLeastOnce, payload, ..Publish::default() }
}

/// A message with an id that the default dedup key is.
pub(crate) fn named(topic: &str, id: &str, payload: &'static str) -> Publish {
    let mut publish = message(topic, payload);
    publish.properties.0.push(Property::UserProperty("mqtally-id".into(), id.into()));
    publish
}

/// Waits until it holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program that runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Said,
    stderr: Said,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None where a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let stdout = Said::listen(child.stdout.take().expect("piped"));
        let stderr = Said::listen(child.stderr.take().expect("piped"));
        Self { child, stdout, stderr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until this stands in what it said on standard error.
    pub(crate) fn says(&self, part: &str) {
        self.stderr.wait_for(part, &|text| text.contains(part));
    }

    /// The same, `times` times.
    pub(crate) fn says_times(&self, part: &str, times: usize) {
        self.stderr.wait_for(part, &|text| text.matches(part).count() >= times);
    }

    pub(crate) fn prints(&self, part: &str) {
        self.stdout.wait_for(part, &|text| text.contains(part));
    }

    pub(crate) fn said(&self) -> String {
        self.stderr.text()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill runs");
        assert!(sent.success());
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_none()
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(mut self) -> Ended {
        let status = self.wait();
        Ended {
            code: status.code(),
            stdout: self.stdout.all(),
            stderr: String::from_utf8_lossy(&self.stderr.all()).into_owned(),
        }
    }

    /// SIGTERM, and until it has ended.
    pub(crate) fn terminate(self) -> Ended {
        self.signal("TERM");
        self.ended()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ended");
    }

    /// Most memory that it ever had, in bytes, where the system tells.
    pub(crate) fn memory_peak(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib << 10)
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end; it said: {}", self.stderr.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a stream brought so far.
struct Said {
    shared: Arc<(Mutex<Vec<u8>>, Condvar)>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl Said {
    fn listen(mut stream: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let heard = Arc::clone(&shared);
        let listener = std::thread::spawn(move || {
            let mut chunk = vec![0; 64 << 10];
            while let Ok(length @ 1..) = stream.read(&mut chunk) {
                heard.0.lock().expect("nobody panicked").extend_from_slice(&chunk[..length]);
                heard.1.notify_all();
            }
        });
        Self { shared, listener: Some(listener) }
    }

    fn wait_for(&self, what: &str, holds: &dyn Fn(&str) -> bool) {
        let text = self.shared.0.lock().expect("nobody panicked");
        let waited =
            self.shared.1.wait_timeout_while(text, PATIENCE, |text| !holds(&String::from_utf8_lossy(text)));
        let (text, timed_out) = waited.expect("nobody panicked");
        assert!(!timed_out.timed_out(), "waited in vain for {what:?} in: {}", String::from_utf8_lossy(&text));
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.0.lock().expect("nobody panicked")).into_owned()
    }

    /// After its end.
    fn all(&mut self) -> Vec<u8> {
        if let Some(listener) = self.listener.take() {
            let deadline = Instant::now() + Duration::from_secs(2);
            // A program that it left running may hold the stream open.
            while !listener.is_finished() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        self.shared.0.lock().expect("nobody panicked").clone()
    }
}
