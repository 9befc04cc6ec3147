//! kill -9 of `mqtally pub` at random moments against the embedded broker: nothing that was in its outbox is lost, nothing
//! is on the wire twice at QoS 2 while the broker keeps the session, and every other copy has the id of the first.
//!
//! A subscriber that is never away takes down what arrives. `MQTALLY_KILL_ROUNDS` is the number of lives of each
//! publisher, `MQTALLY_SEED` repeats the choices of a run.

#![expect(clippy::print_stdout, reason = "whoever repeats a run needs its seed")]

use mqtally::client::{Client, Event, Settings};
use mqtally::endpoint::Endpoint;
use mqtally::outbox::{self, Standing};
use mqtally_proto::packet::{Properties, Publish, Qos, ReasonCode, Subscription, Version};
use mqtally_proto::session::{Event as SessionEvent, Options};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const PUBLISHER: &str = "tortured";

#[test]
fn killed_publishers_lose_nothing_and_send_nothing_twice_without_saying_so() {
    let lives: u32 = number("MQTALLY_KILL_ROUNDS").unwrap_or(4);
    let seed = number("MQTALLY_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("MQTALLY_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        for kept in [true, false] {
            let mut bench = Bench::new(qos, kept);
            for life in 0..lives {
                bench.live(life, Duration::from_millis(random.u64(20..400)));
            }
            bench.drain();
            bench.judge(seed);
        }
    }
}

struct Bench {
    directory: tempfile::TempDir,
    broker: Running,
    endpoint: Endpoint,
    /// Ids under which each payload arrived.
    arrivals: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
    runtime: tokio::runtime::Runtime,
    qos: Qos,
    /// Whether the broker keeps the session between two lives.
    kept: bool,
}

/// A process; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bench {
    fn new(qos: Qos, kept: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = program(directory.path(), "broker --listen 127.0.0.1:0 --data broker");
        let mut broker = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(broker.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let endpoint: Endpoint = format!("mqtt://{}", line.trim()).parse().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let arrivals = Arc::default();
        let bench = Self { directory, broker, endpoint, arrivals, runtime, qos, kept };
        bench.subscribe();
        bench
    }

    /// Takes down what arrives, from now on.
    fn subscribe(&self) {
        let options = Options { receive_maximum: 1_000, ..Options::new(Version::V5_0, "witness") };
        let (endpoint, arrivals) = (self.endpoint.clone(), Arc::clone(&self.arrivals));
        let (ready, subscribed) = std::sync::mpsc::channel();
        self.runtime.spawn(async move {
            let (client, mut events) = Client::start(Settings::new(endpoint, options));
            client.connect().await.unwrap();
            let filter = Subscription::new("t/#", Qos::ExactlyOnce);
            client.subscribe(vec![filter], Properties::default()).unwrap();
            while let Some(event) = events.recv().await {
                match event {
                    Event::Session(SessionEvent::Subscribed(_)) => ready.send(()).unwrap(),
                    Event::Session(SessionEvent::Message(publish)) => take_down(&arrivals, &publish),
                    Event::Closed { .. } => return,
                    Event::Session(_) => {}
                }
            }
        });
        subscribed.recv_timeout(PATIENCE).unwrap();
    }

    fn live(&self, life: u32, lasts: Duration) {
        if life > 0 && !self.kept {
            self.lose_session();
        }
        let arguments = format!("pub -t t/{} --lines --rate 5000 {}", life % 3, self.delivery());
        let mut command = program(self.directory.path(), &arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut publisher = Running(command.spawn().unwrap());
        let mut input = publisher.0.stdin.take().unwrap();
        let writer = std::thread::spawn(move || (0..).try_for_each(|n: u64| writeln!(input, "{life}-{n}")));
        std::thread::sleep(lasts);
        drop(publisher);
        let _ = writer.join().unwrap(); // ended by the broken pipe
    }

    fn delivery(&self) -> String {
        let qos = self.qos as u8;
        format!("-q {qos} --store o.db --client-id {PUBLISHER} --broker {}", self.endpoint)
    }

    fn lose_session(&self) {
        let options = Options::new(Version::V5_0, PUBLISHER);
        self.runtime.block_on(async {
            let (client, _events) = Client::start(Settings::new(self.endpoint.clone(), options));
            client.connect().await.unwrap();
            client.disconnect(ReasonCode::SUCCESS, None).await;
        });
    }

    fn drain(&mut self) {
        let arguments = format!("pub --drain --timeout 60 --quiet {}", self.delivery());
        let mut command = program(self.directory.path(), &arguments);
        assert!(command.stdout(Stdio::null()).status().unwrap().success(), "the last life fails");
        assert!(self.broker.0.try_wait().unwrap().is_none(), "the broker has ended");
    }

    fn judge(&self, seed: u64) {
        let (qos, kept) = (self.qos, self.kept);
        let place = format!("{qos:?}, session kept: {kept}, seed {seed}");
        let mut accepted = Vec::new();
        let ledger = outbox::ledger(&self.directory.path().join("o.db"), |one| accepted.push(one)).unwrap();
        assert_eq!(ledger.forgotten, 0, "{place}");
        assert!(accepted.iter().all(|one| matches!(one.standing, Standing::Settled { .. })), "{place}");
        let deadline = Instant::now() + PATIENCE;
        let lost = || {
            let arrivals = self.arrivals.lock().unwrap();
            let ids: std::collections::BTreeSet<_> = arrivals.values().flatten().cloned().collect();
            accepted.iter().filter(|one| !ids.contains(&one.id.to_string())).count()
        };
        while lost() > 0 {
            assert!(Instant::now() < deadline, "{place}: {} of {} lost", lost(), accepted.len());
            std::thread::sleep(Duration::from_millis(20));
        }
        let arrivals = self.arrivals.lock().unwrap();
        let copies: usize = arrivals.values().map(|ids| ids.len() - 1).sum();
        for (payload, ids) in &*arrivals {
            assert!(ids.iter().all(|id| *id == ids[0]), "{place}: {payload} under {ids:?}");
        }
        assert!(copies == 0 || qos == Qos::AtLeastOnce || !kept, "{place}: {copies} copies");
        assert!(accepted.len() > 20, "{place}: hardly anything was published");
        println!(
            "{place}: {} accepted, 0 lost, {copies} copies, each under the id of the first",
            accepted.len()
        );
    }
}

fn take_down(arrivals: &Mutex<BTreeMap<String, Vec<String>>>, publish: &Publish) {
    let id = publish.properties.user_properties().find(|(name, _)| &***name == "mqtally-id");
    let id = id.map(|(_, id)| id.to_string()).unwrap_or_default();
    let payload = String::from_utf8(publish.payload.to_vec()).unwrap();
    arrivals.lock().unwrap().entry(payload).or_default().push(id);
}

fn program(directory: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtally"));
    command.args(arguments.split_whitespace()).current_dir(directory).stdin(Stdio::null());
    command
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}
