//! `mqtally reconcile` over the stores of `mqtally pub` and `mqtally sub`.

use crate::program::{Ended, Program};
use crate::publishing::{Broker, NOBODY};
use mqtally::publisher::{Message, Publisher, Uuid};
use mqtally_proto::Time;
use mqtally_proto::packet::Qos;
use serde_json::Value;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

const PATIENCE: Duration = Duration::from_secs(60);
/// Lives of both ends, each ended by kill -9.
const LIVES: u32 = 6;

/// A process; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A broker, and both ends' stores.
struct Bench {
    program: Program,
    broker: Broker,
}

impl Bench {
    fn new() -> Bench {
        let program = Program::new();
        let broker = Broker::start(&program, "127.0.0.1:0");
        Bench { program, broker }
    }

    /// The effect of a message is a row, written in the transaction that settles it.
    fn subscriber(&self) -> Running {
        let arguments = format!(
            "sub --broker mqtt://{} -t a/#@2 --client-id pager --store in.db --handler sqlite:in.db?table=effect",
            self.broker.address
        );
        let mut command = self.program.command(&arguments);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    }

    /// A subscriber whose subscription stands: something that was published without a store has arrived.
    fn subscribed(&self) -> Running {
        let subscriber = self.subscriber();
        let before = self.effects("count(*)");
        until("the subscription", || {
            assert_eq!(self.broker.publish(&self.program, "-t a/first -m x").status, 0);
            self.effects("count(*)") > before
        });
        subscriber
    }

    /// Publishes line after line until it is killed, or its standard input is.
    fn publisher(&self, topic: &str, qos: u32) -> Running {
        let arguments = format!(
            "pub --broker mqtt://{} -t {topic} -q {qos} --lines --rate 1000 --store out.db",
            self.broker.address
        );
        let mut command = self.program.command(&arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        let mut input = child.stdin.take().expect("piped");
        std::thread::spawn(move || (0_u64..).try_for_each(|n| writeln!(input, "{n}")));
        Running(child)
    }

    fn publish(&self, arguments: &str) {
        let ended = self.broker.publish(&self.program, &format!("--store out.db {arguments}"));
        assert_eq!(ended.status, 0, "{}", ended.stderr);
    }

    fn reconcile(&self, arguments: &str) -> Ended {
        self.program.run(&format!("reconcile out.db in.db {arguments}"))
    }

    /// Until everything that arrived is processed and this is the status.
    fn reconciled(&self, arguments: &str, status: i32) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.reconcile(&format!("--json - {arguments}"));
            let found: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
            if ended.status == status && found["total"]["waiting"] == 0 {
                return found;
            }
            assert!(Instant::now() < deadline, "status {} instead of {status}: {found}", ended.status);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// 0 where nothing is there yet.
    fn effects(&self, what: &str) -> u64 {
        let connection = rusqlite::Connection::open(self.program.directory().join("in.db")).expect("opens");
        let sql = format!("SELECT {what} FROM effect");
        connection.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_or(0, i64::cast_unsigned)
    }
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn both_ends_killed_together_lose_nothing_and_do_nothing_twice() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let bench = Bench::new();
    drop(bench.subscribed());
    for life in 0..LIVES {
        let (subscriber, publisher) = (bench.subscriber(), bench.publisher("a/b", 1 + life % 2));
        std::thread::sleep(Duration::from_millis(random.u64(150..500)));
        let meanwhile = bench.reconcile("").status;
        assert!([0, 2].contains(&meanwhile), "seed {seed}: status {meanwhile} while both are at work");
        if random.bool() {
            drop((subscriber, publisher));
        } else {
            drop((publisher, subscriber));
        }
    }
    let _subscriber = bench.subscriber();
    bench.publish("--drain");
    let found = bench.reconciled("", 0);
    let total = &found["total"];
    let published = total["published"].as_u64().expect("a number");
    assert!(published > 100, "seed {seed}: {found}");
    for as_many in ["acknowledged", "delivered", "processed"] {
        assert_eq!(total[as_many], published, "seed {seed}: {found}");
    }
    let effects = bench.effects("count(*)");
    assert_eq!(effects, bench.effects("count(DISTINCT key)"), "seed {seed}: done twice");
    assert_eq!(effects, published + found["unexpected"].as_u64().expect("a number"), "seed {seed}");
}

#[test]
fn what_was_published_and_never_arrives_is_lost_once_a_later_one_has_arrived() {
    let bench = Bench::new();
    // Nobody has subscribed so far.
    bench.publish("-t a/b -m lost --count 2");
    let _subscriber = bench.subscribed();
    let found = bench.reconciled("", 2);
    assert_eq!((&found["verdict"], &found["total"]["not_yet_arrived"]), (&"undecided".into(), &2.into()));
    bench.publish("-t a/b -m kept --count 3");
    bench.publish("-t other -m x");
    let found = bench.reconciled("", 1);
    let total = &found["total"];
    assert_eq!((&total["lost"], &total["delivered"]), (&2.into(), &3.into()), "{found}");
    let ended = bench.reconcile("-t other");
    assert_eq!((ended.status, ended.stderr.as_str()), (2, ""));
    assert!(ended.stdout.contains("\n1 not yet arrived of 1 message acknowledged; "), "{}", ended.stdout);
}

#[test]
fn a_comparison_by_the_wrong_key_is_said_to_be_one() {
    let bench = Bench::new();
    let _subscriber = bench.subscribed();
    bench.publish("-t a/b -m x");
    bench.reconciled("", 0);
    assert_eq!(bench.reconcile("--client-id pager").status, 0);
    let ended = bench.reconcile("--client-id other");
    assert_eq!(ended.status, 2);
    assert!(ended.stderr.contains("check --client-id"), "{}", ended.stderr);
}

#[test]
fn what_cannot_be_compared_is_told_in_a_line() {
    let bench = Bench::new();
    let _subscriber = bench.subscribed();
    bench.publish("-t a/b -m x");
    let check = |arguments: &str, status: i32, expect: &str| {
        let ended = bench.program.run(&format!("reconcile {arguments}"));
        assert_eq!((ended.status, ended.stdout.as_str()), (status, ""), "{arguments}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{arguments}: {}", ended.stderr);
    };
    check("out.db", 64, "INBOX");
    check("out.db in.db --dedup-scope consumer", 64, "--client-id");
    check("out.db in.db -t a/#/b", 64, "not a topic filter");
    check("in.db out.db", 74, "holds an outbox, not an inbox");
    check("none.db in.db", 74, "not a store");
    check("out.db none.db", 74, "not a store");
    check("out.db postgres://u:secret@h/d?sslmode=no", 64, "sslmode=no");
    check("out.db postgres://u@127.0.0.1:1/d", 74, "cannot be reached");
    check("out.db postgres://u@h/d --client-id pager", 64, "leave it out");
    check("out.db in.db --json none/x", 74, "cannot write the report");
}

#[test]
fn copies_are_counted_by_topic_also_where_the_subscriber_was_killed_between_them() {
    let bench = Bench::new();
    let mut subscriber = bench.subscribed();
    for topic in ["a/b", "a/c"] {
        bench.publish(&format!("-t {topic} -m original"));
    }
    let of = |found: &Value, topic: &str, what: &str| {
        let topics = found["topics"].as_array().expect("topics");
        topics.iter().find(|found| found["topic"] == topic).expect("the topic")[what]
            .as_u64()
            .expect("a number")
    };
    let mut copies = 0;
    for life in 0..3 {
        for _ in 0..2 {
            // The id of our own publisher, where 3.1.1 has no properties.
            let arguments = "-t a/b -q 1 --protocol 3.1.1 -m {\"mqtally_id\":\"7\"}";
            assert_eq!(bench.broker.publish(&bench.program, arguments).status, 0);
            copies += 1;
            let expect = copies - 1;
            until("the copy", || of(&bench.reconciled("", 0), "a/b", "published_again") == expect);
        }
        drop(subscriber);
        if life == 0 {
            // Between two lives as well.
            assert_eq!(bench.reconcile("").status, 0);
        }
        subscriber = bench.subscriber();
    }
    drop(subscriber);
    let found = bench.reconciled("", 0);
    assert_eq!(of(&found, "a/b", "published_again"), 5, "{found}");
    // Killed between commit and PUBACK, a subscriber gets that copy once more, as a redelivery.
    let duplicated = of(&found, "a/b", "duplicated");
    assert_eq!(duplicated, 5 + of(&found, "a/b", "redelivered"), "{found}");
    assert_eq!(of(&found, "a/c", "duplicated"), 0, "{found}");
    let told = bench.reconcile("-t a/c").stdout;
    assert!(told.contains(&format!("0 duplicates dropped and {duplicated} on other topics")), "{told}");
}

/// Leaves a message in the outbox, published so long ago.
fn leave_unsent(bench: &Bench, age: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let endpoint = NOBODY.parse().expect("a URL");
        let store = bench.program.directory().join("out.db");
        let publisher = Publisher::builder(endpoint).store(store).start().expect("it starts");
        let published = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970") - age;
        let id = Uuid::new(Time::from_ms(published.as_millis() as u64), 7);
        let message = Message::new("a/b", "old", Qos::AtLeastOnce);
        drop(publisher.publish_all(vec![(id, message)]).await.expect("it is stored"));
        publisher.close(Duration::ZERO).await;
    });
}

#[test]
fn a_message_that_waits_for_longer_than_ids_are_kept_is_warned_of_at_both_ends() {
    const DAY: Duration = Duration::from_secs(86_400);
    let bench = Bench::new();
    let _subscriber = bench.subscribed();
    leave_unsent(&bench, 6 * DAY);
    assert_eq!(bench.reconcile("").stderr, "");
    leave_unsent(&bench, 9 * DAY);
    let warned = bench.reconcile("").stderr;
    let expect = "a message has waited in the outbox for 9 days, and the inbox keeps ids for 7 days";
    assert!(warned.contains(expect), "{warned}");
    let drained = bench.broker.publish(&bench.program, "--store out.db --drain");
    assert!(!drained.stderr.contains("published"), "the first one is not so old: {}", drained.stderr);
    leave_unsent(&bench, 9 * DAY);
    let drained = bench.broker.publish(&bench.program, "--store out.db --drain");
    let expect = "the first message that waits in the outbox was published 9 days ago";
    assert!(drained.status == 0 && drained.stderr.contains(expect), "{}", drained.stderr);
    bench.reconciled("", 0);
}
