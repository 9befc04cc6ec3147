//! Two subscribers of one `$share` group with one inbox in PostgreSQL, killed again and again while messages flow: nothing that
//! the broker acknowledged to the publisher is lost, and every message has one effect, a row in the same database.
//!
//! `MQTALLY_KILL_ROUNDS=200` for many kills, `MQTALLY_SEED` to repeat the choices of a run.

#![expect(clippy::print_stdout, reason = "whoever repeats a run needs its seed")]

#[path = "../../mqtally/tests/postgres_support/mod.rs"]
mod postgres_support;

use postgres_support::Server;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MEMBERS: [&str; 2] = ["member-a", "member-b"];
const PATIENCE: Duration = Duration::from_secs(60);
/// Published for each kill.
const BATCH: u64 = 100;

#[test]
fn kills_of_members_and_of_the_server_lose_nothing_and_do_nothing_twice() {
    let Some(server) = Server::start() else { return };
    let rounds = number("MQTALLY_KILL_ROUNDS").unwrap_or(12);
    let seed = number("MQTALLY_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("MQTALLY_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bench = Bench::new(server);
    let mut members = MEMBERS.map(|member| bench.subscriber(member));
    // Whoever has no session yet has no claim to a message.
    bench.wait_for("two sessions", |bench| bench.said("mqtally: subscribed to") == 2);
    bench.start_publishing(BATCH).join().unwrap();
    for round in 1..=rounds {
        let publishing = bench.start_publishing(BATCH);
        std::thread::sleep(Duration::from_millis(random.u64(0..80)));
        if round % 6 == 0 {
            bench.server.crash();
            std::thread::sleep(Duration::from_millis(random.u64(0..500)));
            bench.server.resume();
        } else {
            let victim = random.usize(0..2);
            members[victim].end();
            members[victim] = bench.subscriber(MEMBERS[victim]);
        }
        publishing.join().unwrap();
    }
    bench.drain(&mut members);
    let published = bench.published;
    assert_eq!(
        bench.server.value("SELECT count(*) || ' ' || count(DISTINCT key) FROM effect"),
        format!("{published} {published}"),
        "{}",
        bench.log()
    );
    bench.reconciled();
    let cut_short = bench.count("SELECT sum(failed) FROM mqtally.member");
    println!("{rounds} kills, {published} messages, {cut_short} attempts cut short: 0 lost, 0 done twice");
    bench.dead_letters();
}

/// A broker, a database, and what was published.
struct Bench {
    directory: TempDir,
    #[expect(dead_code, reason = "lives as long as this")]
    broker: Process,
    port: u16,
    server: Server,
    published: u64,
}

impl Bench {
    fn new(server: Server) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = program(directory.path());
        command.args(["broker", "--listen", "127.0.0.1:0", "--data", "broker"]).stdout(Stdio::piped());
        let mut broker = Process(command.stderr(Stdio::null()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(broker.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let (_, port) = line.trim().rsplit_once(':').expect("an address");
        Self { port: port.parse().unwrap(), directory, broker, server, published: 0 }
    }

    fn broker(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    fn store(&self) -> String {
        format!("postgres://app@/postgres?host={}", self.server.socket().display())
    }

    fn subscriber(&self, member: &str) -> Process {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.path().join("log"));
        let mut command = program(self.directory.path());
        command.args([
            "sub",
            "-v",
            "-t",
            "$share/group/t/#@1",
            "-t",
            "$share/group/bad/#@1",
            "--client-id",
            member,
        ]);
        command.args([
            "--handler",
            &self.server.table_url("effect"),
            "--on",
            "bad/#=exec:exit 1",
            "--order",
            "none",
        ]);
        command.args(["--broker", &self.broker(), "--store", &self.store(), "--retry-delay", "10ms"]);
        command.args(["--retries", "1000000", "--retry-max-delay", "50ms"]);
        Process(command.stdout(Stdio::null()).stderr(log.unwrap()).spawn().unwrap())
    }

    fn start_publishing(&mut self, count: u64) -> JoinHandle<()> {
        let lines: String = (0..count).map(|at| format!("{}\n", self.published + at)).collect();
        self.published += count;
        self.publish_to("t/x", lines)
    }

    /// Ends when the broker has acknowledged them all.
    fn publish_to(&self, topic: &str, lines: String) -> JoinHandle<()> {
        let mut command = program(self.directory.path());
        command.args([
            "pub",
            "-t",
            topic,
            "-q",
            "1",
            "--lines",
            "--quiet",
            "--store",
            "out.db",
            "--timeout",
            "120",
        ]);
        command.args(["--broker", &self.broker()]).stdin(Stdio::piped()).stdout(Stdio::null());
        std::thread::spawn(move || {
            let mut child = command.spawn().unwrap();
            child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
            assert!(child.wait().unwrap().success());
        })
    }

    /// Waits until everything published has an effect. A member that started while the server was away has ended and said so:
    /// whoever supervises it starts it again.
    fn drain(&self, members: &mut [Process; 2]) {
        self.wait_for("all effects", |bench| {
            for (member, name) in members.iter_mut().zip(MEMBERS) {
                if member.0.try_wait().unwrap().is_some() {
                    *member = bench.subscriber(name);
                }
            }
            bench.count("SELECT count(DISTINCT key) FROM effect") >= bench.published
                && bench.count("SELECT count(*) FROM mqtally.inbox") == 0
        });
    }

    fn wait_for(&self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            assert!(Instant::now() < deadline, "waited in vain for {what}; {}; {}", self.state(), self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Zero where the table is not there yet.
    fn count(&self, sql: &str) -> u64 {
        let output = self.server.psql(sql);
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or(0)
    }

    /// The publisher's outbox and the shared inbox agree, too.
    fn reconciled(&self) {
        let mut command = program(self.directory.path());
        let ended = command.args(["reconcile", "out.db", &self.store(), "--json"]).output().unwrap();
        let found: serde_json::Value = serde_json::from_slice(&ended.stdout).unwrap_or_default();
        let log = || format!("{found} {}", String::from_utf8_lossy(&ended.stderr));
        assert_eq!(ended.status.code(), Some(0), "{}", log());
        for what in ["published", "acknowledged", "delivered", "processed"] {
            assert_eq!(found["topics"][0][what], self.published, "{what}: {}", log());
        }
        let sql = "SELECT sum(redelivered + published_again) FROM mqtally.member";
        assert_eq!(found["topics"][0]["duplicated"], self.count(sql), "{}", log());
    }

    /// Given up, listed, replayed and purged, while the members run.
    fn dead_letters(&self) {
        self.publish_to("bad/x", "1\n2\n".to_owned()).join().unwrap();
        self.wait_for("dead letters", |bench| bench.count("SELECT count(*) FROM mqtally.dead") == 2);
        let listed = self.dead_letter(&["ls", "--json"]);
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert_eq!((listed.status.code(), text.lines().count()), (Some(0), 2), "{text}");
        assert!(text.contains(r#""reason":"handler""#), "{text}");
        assert!(self.dead_letter(&["replay", "--all"]).status.success());
        self.wait_for("replays", |bench| {
            bench.count("SELECT count(*) FROM mqtally.dead WHERE replay = 1") == 2
        });
        assert!(self.dead_letter(&["purge", "--all"]).status.success());
        assert_eq!(self.count("SELECT count(*) FROM mqtally.dead"), 0);
    }

    fn dead_letter(&self, arguments: &[&str]) -> Output {
        let mut command = program(self.directory.path());
        command.arg("dead-letter").args(arguments).args(["--store", &self.store()]).output().unwrap()
    }

    fn state(&self) -> String {
        let sql = "SELECT (SELECT count(*) FROM effect), (SELECT count(*) FROM mqtally.inbox),
                   (SELECT json_agg(l) FROM mqtally.lease l), (SELECT json_agg(r) FROM mqtally.retry r),
                   (SELECT json_agg(m) FROM mqtally.member m), mqtally.wall_ms()";
        format!("{} published; {}", self.published, String::from_utf8_lossy(&self.server.psql(sql).stdout))
    }

    /// How many lines of the members begin with it.
    fn said(&self, what: &str) -> usize {
        self.whole_log().lines().filter(|line| line.starts_with(what)).count()
    }

    fn whole_log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn log(&self) -> String {
        let log = self.whole_log();
        let lines: Vec<_> = log.lines().rev().filter(|line| line.starts_with("mqtally")).take(30).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

struct Process(Child);

impl Process {
    /// kill -9.
    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtally"));
    command.current_dir(directory).stdin(Stdio::null());
    command
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
