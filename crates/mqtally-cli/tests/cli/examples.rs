//! The library's examples, as a reader runs them.

use crate::program::{Ended, Program};
use crate::publishing::Broker;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Builds the library's example and answers where it is.
fn example(name: &str) -> PathBuf {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mqtally");
    let source = std::fs::read_to_string(library.join(format!("examples/{name}.rs"))).expect("an example");
    assert!(source.lines().count() <= 60, "{name} is too long to be read");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--message-format=json", "--example", name]).current_dir(&library);
    let built = cargo.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(built.status.success(), "{name} cannot be built");
    let messages = String::from_utf8(built.stdout).expect("UTF-8");
    let mut executables = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executables.next_back().expect("an executable")
}

fn url(broker: &Broker) -> String {
    format!("mqtt://{}", broker.address)
}

#[test]
fn the_factory_publisher_delivers_all_three() {
    let program = Program::new();
    let broker = Broker::start(&program, "127.0.0.1:0");
    let mut command = Command::new(example("factory_publisher"));
    let ended = command.arg(url(&broker)).current_dir(program.directory()).output().expect("it runs");
    let ended = Ended::from(ended);
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
    assert!(ended.stdout.contains("all three are safe"), "{}", ended.stdout);
    // Nobody has subscribed, and the broker says so where it is asked to answer.
    let proves = |line: &&str| {
        [": 0x00 success", ": 0x10 no matching subscribers"].iter().any(|end| line.ends_with(end))
    };
    assert_eq!(ended.stdout.lines().filter(proves).count(), 3, "{}", ended.stdout);
}

struct Running(Child);

impl Running {
    /// The factory's subscriber, when it has subscribed; and what it prints.
    fn start(executable: &Path, program: &Program, broker: &Broker) -> Running {
        let mut command = Command::new(executable);
        command.arg(url(broker)).current_dir(program.directory()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let said = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = said.lines().map_while(Result::ok);
        assert!(said.any(|line| line.starts_with("subscribed to")), "it never subscribed");
        // Whatever it says further is read, so that it never waits.
        std::thread::spawn(move || said.for_each(drop));
        Running(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_factory_subscriber_has_one_row_for_an_alert_that_came_twice_and_through_a_kill() {
    let (program, executable) = (Program::new(), example("factory_subscriber"));
    let broker = Broker::start(&program, "127.0.0.1:0");
    let alert = r#"-q 1 -t factory/line1/alert -m {"message_id":1,"sender":"press-4","content":"hot"}"#;
    drop(Running::start(&executable, &program, &broker));
    assert_eq!(broker.publish(&program, alert).status, 0);
    let mut running = Running::start(&executable, &program, &broker);
    assert_eq!(broker.publish(&program, alert).status, 0);
    assert_eq!(broker.publish(&program, "-q 1 -t factory/line1/count -m 12").status, 0);
    let mut printed = BufReader::new(running.0.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let seen: Vec<_> = printed.by_ref().take(2).collect();
    assert_eq!(seen, ["factory/line1/alert press-4#1: hot", "factory/line1/count: 2 bytes"]);
    let interrupted = Command::new("kill").args(["-s", "INT", &running.0.id().to_string()]).status();
    assert!(interrupted.expect("kill runs").success());
    assert_eq!(printed.last().as_deref(), Some("received 3, duplicates 1, failed 0, processed 2"));
    assert!(running.0.wait().expect("it ends").success());
    let store = rusqlite::Connection::open(program.directory().join("factory.sub")).expect("a store");
    let rows: i64 = store.query_row("SELECT count(*) FROM alert", [], |row| row.get(0)).expect("a table");
    assert_eq!(rows, 1);
}
