//! kill -9 of `mqtally sub`, at random moments and at every numbered crash point: nothing that the broker acknowledged to
//! the publisher is lost, and every message has one effect.
//!
//! The effect is a row that the sqlite handler writes in the inbox's transaction. Messages of QoS 1 and 2 are queued for the
//! subscriber's session while it is dead and while it lives; at the end what was published and the rows are compared.
//! `MQTALLY_KILL_ROUNDS=500` for many kills, `MQTALLY_SEED` to repeat the choices of a run, `MQTALLY_KILL_BROKER=mosquitto`
//! for another broker than the embedded one.

#![expect(clippy::print_stdout, reason = "whoever repeats a run needs its seed")]

use bytes::Bytes;
use mqtally::client::{Client, Event, Settings};
use mqtally::endpoint::Endpoint;
use mqtally_proto::packet::{Properties, Publish, Qos, ReasonCode, Subscription, Version};
use mqtally_proto::session::{Event as SessionEvent, Options};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CLIENT_ID: &str = "tortured";
const PATIENCE: Duration = Duration::from_secs(60);
/// Published for each kill.
const BATCH: u64 = 60;

#[test]
fn random_kills_lose_nothing_and_do_nothing_twice() {
    let rounds: u32 = number("MQTALLY_KILL_ROUNDS").unwrap_or(8);
    let seed = number("MQTALLY_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("MQTALLY_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut killed = 0;
    for version in [Version::V5_0, Version::V3_1_1] {
        let mut bench = Bench::new(version);
        for _ in 0..rounds.div_ceil(2) {
            let early = random.bool();
            if early {
                bench.publish(BATCH);
            }
            let mut subscriber = bench.subscriber(&[]);
            if !early {
                bench.publish(BATCH);
            }
            std::thread::sleep(Duration::from_millis(random.u64(0..250)));
            subscriber.kill();
            killed += 1;
        }
        bench.drain();
        bench.judge("random kills");
        println!("{version}: {} messages", bench.published);
    }
    println!("{killed} kills, 0 lost, 0 done twice");
}

#[test]
fn every_crash_point_loses_nothing_and_does_nothing_twice() {
    let mut bench = Bench::new(Version::V5_0);
    assert!(!bench.crash("12:1").success());
    // With nothing left to do the first commit is that of what arrives; with work left over it is a claim's.
    for left_over in [false, true] {
        for point in
            ["1:1", "1:4", "2:1", "3:1", "3:3", "4:1", "4:3", "5:1", "6:1", "6:4", "7:1", "7:9", "8:1", "8:2"]
        {
            if !left_over {
                bench.drain();
            }
            bench.publish(BATCH);
            assert!(!bench.crash(point).success(), "crash point {point} was not reached");
            bench.judge_duplicates(point);
        }
    }
    bench.drain();
    bench.judge("crash points 1 to 8");
    assert!(bench.count("SELECT redelivered FROM tally") > 0, "nothing was stored and not acknowledged");

    bench.publish_to("bad", 3);
    assert!(!bench.crash("9:2").success(), "no message was given up");
    bench.drain();
    bench.wait_for("dead letters", |bench| bench.count("SELECT count(*) FROM dead") == 3);
    bench.replay_dead_letters();
    assert!(!bench.crash("10:2").success(), "no dead letter was replayed");
    bench.drain();
    bench.wait_for("replayed dead letters", |bench| {
        bench.count("SELECT count(*) FROM dead WHERE replay = 1 AND replay_asked = 0") == 3
    });

    bench.lose_session();
    assert!(!bench.crash("13:1").success(), "no session was lost");
    bench.make_session();
    bench.publish(BATCH);
    bench.drain();
    bench.judge("all crash points");
}

/// Crash point 11 needs keys that expire soon, and a key that has expired lets a duplicate through: here only losses are
/// judged, and that the keys go after all.
#[test]
fn a_crash_while_expired_keys_are_deleted_loses_nothing() {
    let mut bench = Bench { window: "400ms", ..Bench::new(Version::V5_0) };
    for point in ["11:1", "11:2"] {
        bench.publish(BATCH);
        // One deletion may take all the keys that there are: more of them have to follow.
        let crashed = bench.crash_beside(point, |bench| {
            let done = bench.count("SELECT count(DISTINCT key) FROM effect") >= bench.published;
            if done && bench.count("SELECT live_from = next_id FROM tally") == 1 {
                bench.publish(BATCH);
            }
        });
        assert!(!crashed.success(), "crash point {point} was not reached");
    }
    bench.publish(BATCH);
    bench.drain();
    bench.judge_losses("crash point 11");
    let _subscriber = bench.subscriber(&[]);
    bench.wait_for("the end of all keys", |bench| bench.count("SELECT live_from = next_id FROM tally") == 1);
    assert_eq!(bench.count("SELECT count(*) FROM ids"), 0);
}

/// A broker, a store, and what was published.
struct Bench {
    directory: TempDir,
    broker: Broker,
    version: Version,
    published: u64,
    window: &'static str,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new(version: Version) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let broker = match std::env::var("MQTALLY_KILL_BROKER").as_deref() {
            Ok("mosquitto") => Broker::mosquitto(directory.path()),
            _ => Broker::embedded(directory.path()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bench = Self { directory, broker, version, published: 0, window: "7d", runtime };
        bench.make_session();
        bench
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store.sub")
    }

    fn options(&self, client_id: &str) -> Options {
        // With more than 20 in flight, version 2.0.11 drops some of what it acknowledged to a 3.1.1 publisher; `mqtally
        // test` reports that as D1.
        Options { session_expiry_interval: 3_600, in_flight_max: 20, ..Options::new(self.version, client_id) }
    }

    /// Subscribes in the subscriber's name, so that messages wait for it before it has ever lived.
    fn make_session(&self) {
        let options = Options { clean_start: false, resume: true, ..self.options(CLIENT_ID) };
        self.with_client(options, async |client, mut events| {
            let filters = ["t/#", "bad/#"].map(|filter| Subscription::new(filter, Qos::ExactlyOnce)).to_vec();
            client.subscribe(filters, Properties::default()).unwrap();
            while !matches!(events.recv().await.unwrap(), Event::Session(SessionEvent::Subscribed(_))) {}
        });
    }

    fn lose_session(&self) {
        let options = Options { session_expiry_interval: 0, ..self.options(CLIENT_ID) };
        self.with_client(options, async |_, _| {});
    }

    fn with_client(&self, options: Options, act: impl AsyncFnOnce(Client, mqtally::client::Events)) {
        self.runtime.block_on(async {
            let (client, events) = Client::start(Settings::new(self.broker.endpoint(), options));
            client.connect().await.unwrap();
            act(client.clone(), events).await;
            client.disconnect(ReasonCode::SUCCESS, None).await;
        });
    }

    fn publish(&mut self, count: u64) {
        self.publish_to("t", count);
    }

    /// QoS 1 and 2 in turn; returns when the broker has acknowledged them all.
    fn publish_to(&mut self, topic: &str, count: u64) {
        let numbers = self.published..self.published + count;
        self.with_client(self.options("publisher"), async |client, mut events| {
            for number in numbers {
                let publish = Publish {
                    topic: format!("{topic}/{}", number % 7).into(),
                    qos: if number.is_multiple_of(2) { Qos::AtLeastOnce } else { Qos::ExactlyOnce },
                    payload: Bytes::from(format!(r#"{{"mqtally_id":"m{number}"}}"#)),
                    ..Publish::default()
                };
                client.publish(number, publish).await.unwrap();
            }
            for _ in 0..count {
                while !matches!(events.recv().await.unwrap(), Event::Session(SessionEvent::Completed { reason, .. }) if !reason.is_error()) {}
            }
        });
        if topic == "t" {
            self.published += count;
        }
    }

    fn subscriber(&self, environment: &[(&str, &str)]) -> Subscriber {
        let store = self.store();
        let handler = format!("sqlite:{}?table=effect", store.display());
        let protocol = if self.version == Version::V5_0 { "5" } else { "3.1.1" };
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtally"));
        command.args([
            "sub",
            "-t",
            "t/#@2",
            "-t",
            "bad/#@2",
            "--client-id",
            CLIENT_ID,
            "--protocol",
            protocol,
        ]);
        command.args(["--broker", &self.broker.url(), "--handler", &handler, "--on", "bad/#=exec:exit 1"]);
        command.args([
            "--dedup-window",
            self.window,
            "--retries",
            "1000000",
            "--retry-delay",
            "1ms",
            "--retry-max-delay",
            "5ms",
        ]);
        command.arg("--store").arg(store).current_dir(self.directory.path());
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
        let log = fs::OpenOptions::new().create(true).append(true).open(self.directory.path().join("log"));
        Subscriber(command.stderr(log.unwrap()).spawn().unwrap())
    }

    /// Runs a subscriber that is to die at a crash point.
    fn crash(&mut self, point: &str) -> ExitStatus {
        self.crash_beside(point, |_| ())
    }

    /// The same, doing `meanwhile` over and over until it has died.
    fn crash_beside(&mut self, point: &str, meanwhile: impl Fn(&mut Self)) -> ExitStatus {
        let mut subscriber = self.subscriber(&[("MQTALLY_CRASH_POINT", point)]);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = subscriber.0.try_wait().unwrap() {
                return status;
            }
            meanwhile(self);
            if Instant::now() > deadline {
                subscriber.kill();
                panic!("crash point {point} was not reached; {}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets a subscriber work until everything published has an effect and nothing is left to do, and stops it in order.
    fn drain(&self) {
        let mut subscriber = self.subscriber(&[]);
        self.wait_for("all effects", |bench| {
            let done = bench.count("SELECT count(DISTINCT key) FROM effect") >= bench.published
                && bench.count("SELECT count(*) FROM inbox") == 0
                && bench.count("SELECT count(*) FROM dead WHERE replay_asked = 1") == 0;
            assert!(subscriber.0.try_wait().unwrap().is_none(), "the subscriber ended: {}", bench.log());
            done
        });
        let status = subscriber.terminate();
        // SIGTERM before it listens for signals ends it as well.
        assert!(status.success() || status.signal() == Some(15), "{status}: {}", self.log());
    }

    fn wait_for(&self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(self) {
            assert!(Instant::now() < deadline, "waited in vain for {what}; {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn replay_dead_letters(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtally"));
        command.args(["dead-letter", "replay", "--all", "--store"]).arg(self.store());
        assert!(command.current_dir(self.directory.path()).output().unwrap().status.success());
    }

    /// Zero where the store or the table is not there yet.
    fn count(&self, sql: &str) -> u64 {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = rusqlite::Connection::open_with_flags(self.store(), flags);
        let counted =
            connection.and_then(|connection| connection.query_row(sql, [], |row| row.get::<_, i64>(0)));
        counted.map_or(0, |count| count.try_into().unwrap())
    }

    fn effects(&self) -> BTreeMap<u64, u64> {
        let connection = rusqlite::Connection::open(self.store()).unwrap();
        let mut statement = connection.prepare("SELECT key, count(*) FROM effect GROUP BY key").unwrap();
        let rows = statement.query_map([], |row| {
            let key: String = row.get(0)?;
            Ok((key[1..].parse().unwrap(), row.get::<_, i64>(1)?.try_into().unwrap()))
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn judge(&self, what: &str) {
        self.judge_losses(what);
        self.judge_duplicates(what);
    }

    fn judge_losses(&self, what: &str) {
        let effects = self.effects();
        let lost: Vec<_> = (0..self.published).filter(|number| !effects.contains_key(number)).collect();
        assert!(lost.is_empty(), "{what}: lost {lost:?}; {}", self.log());
        assert_eq!(effects.len() as u64, self.published, "{what}: more than was published");
    }

    fn judge_duplicates(&self, what: &str) {
        if self.count("SELECT count(*) FROM effect") > 0 {
            let twice: Vec<_> = self.effects().into_iter().filter(|(_, count)| *count > 1).collect();
            assert!(twice.is_empty(), "{what}: done twice {twice:?}; {}", self.log());
        }
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

struct Subscriber(Child);

impl Subscriber {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn terminate(&mut self) -> ExitStatus {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.0.wait().unwrap()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    fn embedded(directory: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mqtally"));
        command.args(["broker", "--listen", "127.0.0.1:0", "--data"]).arg(directory.join("broker"));
        let mut child =
            command.current_dir(directory).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let (_, port) = line.trim().rsplit_once(':').expect("an address");
        Self { child, port: port.parse().unwrap() }
    }

    fn mosquitto(directory: &Path) -> Self {
        // Nothing tells mosquitto to take a free port; this one was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = directory.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             max_queued_messages 0\nuser root\n",
            directory.display()
        );
        fs::write(&configuration, text).unwrap();
        let mut command = Command::new("mosquitto");
        let child = command.arg("-c").arg(configuration).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let broker = Self { child: child.unwrap(), port };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        broker
    }

    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    fn endpoint(&self) -> Endpoint {
        self.url().parse().unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}
