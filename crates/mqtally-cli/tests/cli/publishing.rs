//! `mqtally pub` against the embedded broker, which runs as another process.

use crate::program::{Ended, Program};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

/// The embedded broker; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    pub(crate) address: String,
}

impl Broker {
    pub(crate) fn start(program: &Program, listen: &str) -> Broker {
        let mut command = program.command(&format!("broker --volatile --listen {listen}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut address).expect("an address");
        Broker { child, address: address.trim().to_owned() }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> SocketAddr {
        self.address.parse().expect("an address")
    }

    pub(crate) fn publish(&self, program: &Program, arguments: &str) -> Ended {
        program.run(&format!("pub --broker mqtt://{} {arguments}", self.address))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens on.
pub(crate) const NOBODY: &str = "mqtt://127.0.0.1:9";

pub(crate) fn with_input(program: &Program, arguments: &str, input: &str) -> Ended {
    let mut command = program.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("taken");
    Ended::from(child.wait_with_output().expect("it ends"))
}

/// The output with what differs from run to run replaced: ids, times and rates.
pub(crate) fn steady(text: &str) -> String {
    let word = |word: &str| match word {
        _ if word.len() == 36 && word.matches('-').count() == 4 => "ID".to_owned(),
        _ if word.parse::<f64>().is_ok() && word.contains('.') => "TIME".to_owned(),
        _ => word.to_owned(),
    };
    let line = |line: &str| match line.split_once(", in ") {
        Some((before, _)) => format!("{before}, in TIME"),
        None => line.split_whitespace().map(word).collect::<Vec<_>>().join(" "),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_few_messages_are_told_one_by_one() {
    let program = Program::new();
    let broker = Broker::start(&program, "127.0.0.1:0");
    let ended =
        broker.publish(&program, "-t alerts/door -q 2 -m open --count 2 --envelope --message-type alarm");
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    insta::assert_snapshot!(steady(&ended.stdout), @r"
    Messages ms from publish to the final acknowledgement
    message id topic QoS type status latency
    ID alerts/door 2 alarm acknowledged TIME
    ID alerts/door 2 alarm acknowledged TIME
    2 acknowledged of 2 messages, in TIME
    ");
}

#[test]
fn many_messages_are_summed_up() {
    let program = Program::new();
    let broker = Broker::start(&program, "127.0.0.1:0");
    let ended = broker.publish(&program, "-t sensors/temperature -m 21.5 --count 500 --json sum.json");
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    assert!(ended.stdout.contains("acknowledged") && ended.stdout.contains("p99"), "{}", ended.stdout);
    assert!(ended.stdout.contains("500 acknowledged of 500 messages, in "), "{}", ended.stdout);
    let json = std::fs::read_to_string(program.directory().join("sum.json")).expect("written");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["schema"], &json["acknowledged"]), (&"mqtally.publish/1".into(), &500.into()));
    assert_eq!((&json["complete"], &json["left"]), (&true.into(), &0.into()));
}

#[test]
fn what_is_given_while_the_broker_is_away_is_sent_by_the_next_start() {
    let program = Program::new();
    let offline = format!("pub -t t --lines --store o.db --timeout 1 --broker {NOBODY}");
    let ended = with_input(&program, &offline, "one\ntwo\n");
    assert_eq!(ended.status, 1);
    insta::assert_snapshot!(steady(&ended.stdout), @r"
    Messages ms from publish to the final acknowledgement
    message id topic QoS type status latency
    ID t 1 message stored –
    ID t 1 message stored –
    0 acknowledged, 2 still stored of 2 messages, in TIME
    send what is left with: mqtally pub --drain --store o.db
    ");
    let offline = "mqtally: offline: cannot reach mqtt://127.0.0.1:9: ";
    assert!(ended.stderr.starts_with(offline), "{}", ended.stderr);
    assert!(ended.stderr.trim_end().ends_with("messages are kept in o.db, trying again"), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "not a line an attempt");

    let broker = Broker::start(&program, "127.0.0.1:0");
    let ended = broker.publish(&program, "--drain --store o.db");
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    assert_eq!(steady(&ended.stdout), "2 acknowledged of 2 messages, 2 of them from before, in TIME");
}

#[test]
fn a_malformed_line_is_named_and_the_rest_goes_on() {
    let program = Program::new();
    let broker = Broker::start(&program, "127.0.0.1:0");
    let arguments = format!("pub -t t --jsonl --broker mqtt://{}", broker.address);
    let ended = with_input(&program, &arguments, "{\"a\":1}\n{bad\n3\n");
    assert_eq!(ended.status, 1);
    assert_eq!(
        ended.stderr,
        "mqtally: line 2: not JSON (key must be a string at line 1 column 2); left out\n"
    );
    assert!(ended.stdout.contains("2 acknowledged, 1 left out of 2 messages"), "{}", ended.stdout);
}

#[test]
fn a_rate_is_kept_to() {
    let program = Program::new();
    let broker = Broker::start(&program, "127.0.0.1:0");
    let ended = broker.publish(&program, "-t t -m x --count 100 --rate 400 --json");
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert!(json["elapsed_ms"].as_u64().is_some_and(|ms| ms >= 247), "{}", ended.stdout);
}

/// It said "acknowledged" of the few that it had published, and ended with status 0.
#[test]
fn a_time_that_is_up_before_all_was_published_is_no_success() {
    let program = Program::new();
    let broker = Broker::start(&program, "127.0.0.1:0");
    let ended = broker.publish(&program, "-t t -m x --count 100 --rate 2 --timeout 1");
    assert_eq!(ended.status, 1, "{}", ended.stdout);
    assert!(ended.stdout.contains("the rest was not published"), "{}", ended.stdout);
}

#[test]
fn without_a_store_what_was_not_sent_is_lost_and_said_to_be() {
    let ended = Program::new().run(&format!("pub -t t -m x --timeout 1 --broker {NOBODY}"));
    assert_eq!(ended.status, 1);
    assert!(ended.stdout.contains("0 acknowledged, 1 lost of 1 message"), "{}", ended.stdout);
    assert!(ended.stderr.contains("messages wait in memory"), "{}", ended.stderr);
}

#[test]
fn a_refusal_that_is_final_ends_it() {
    let program = Program::new().file("users", "");
    let mut command = program.command("broker --users users --add-user ann");
    let mut child = command.stdin(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("piped").write_all(b"secret\n").expect("taken");
    assert!(child.wait().expect("it ends").success());
    let broker = Broker::start(&program, "127.0.0.1:0 --users users");
    let ended = broker.publish(&program, "-t t -m x --store o.db");
    assert_eq!(ended.status, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("the broker refused the connection"), "{}", ended.stderr);
    assert!(ended.stderr.contains("kept in o.db, check the user name and the password"), "{}", ended.stderr);
    assert!(ended.stdout.contains("1 still stored"), "{}", ended.stdout);
}

/// Both came back at once for as long as they ran, and took each other's session over.
#[test]
fn of_two_on_one_client_id_the_first_ends_and_says_why() {
    let program = Program::new();
    let broker = Broker::start(&program, "127.0.0.1:0");
    let mut command = program.command(&format!(
        "pub -t t --retain --lines --client-id same --store o.db --broker mqtt://{}",
        broker.address
    ));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut first = command.spawn().expect("it starts");
    let mut input = first.stdin.take().expect("piped");
    writeln!(input, "one").expect("taken");
    // Retained, it arrives when the first one is there, whoever was earlier.
    let watch = format!("sub -t t --count 1 --client-id w --store w.sub --broker mqtt://{}", broker.address);
    assert_eq!(program.run(&watch).status, 0);
    let second = broker.publish(&program, "-t t -m two --client-id same");
    assert_eq!(second.status, 0, "{}", second.stderr);
    let ended = Ended::from(first.wait_with_output().expect("it ends"));
    assert_eq!(ended.status, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("another client has our client id"), "{}", ended.stderr);
    assert!(ended.stdout.contains("the rest was not published"), "{}", ended.stdout);
    drop(input);
}

#[test]
fn a_store_is_used_by_one_at_a_time() {
    let program = Program::new();
    let holding = format!("pub -t t -m x --store o.db --timeout 20 --broker {NOBODY}");
    let mut child =
        program.command(&holding).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("starts");
    let mut line = String::new();
    BufReader::new(child.stderr.take().expect("piped"))
        .read_line(&mut line)
        .expect("it says that it is offline");
    let ended = program.run(&format!("pub -t t -m y --store o.db --broker {NOBODY}"));
    assert_eq!(ended.status, 74);
    assert!(ended.stderr.contains("in use by another process"), "{}", ended.stderr);
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn misuse_is_told_in_a_line() {
    let check = |arguments: &str, status: i32, expect: &str| {
        let ended = Program::new().run(&format!("pub {arguments}"));
        assert_eq!((ended.status, ended.stdout.as_str()), (status, ""), "{arguments}");
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{arguments}: {}", ended.stderr);
    };
    check("-t a/+ -m x", 64, "not a topic to publish to");
    check("-t a", 64, "nothing to publish");
    check("-m x", 64, "--topic");
    check("-t a -m x --lines", 64, "cannot be used with");
    check("-t a -m x -q 3", 64, "3");
    check("--drain", 64, "--store");
    check("--drain --store none.db", 74, "there is no store to drain");
    check("-t a -f none", 74, "cannot read the payload");
    check("-t a -m x --user-property x", 64, "NAME=VALUE");
    check("-t a -m x --protocol 3.1.1 --user-property x=y", 64, "no user properties");
    check("-t a -m x --broker http://h", 64, "no transport for MQTT");
    check("-t a -m x --protocol 3.1.1 --expiry 1m", 64, "no message expiry");
    check("-t a -m x --expiry 0s", 64, "--expiry");
    check("-t a -m x --will-topic a/#", 64, "not a topic to publish to");
    check("-t a -m x --will-payload gone", 64, "--will-topic");
    check("-t a -m x --cert ours.pem", 64, "--key");
    check("-t a -m x --broker mqtts://h --cafile none.pem", 74, "cannot read the CA file none.pem");
    check("-t a -m x --cafile none.pem", 64, "mqtt:// is not encrypted");
}

#[test]
fn a_reader_of_the_summary_that_goes_away_is_no_failure() {
    let program = Program::new();
    let broker = Broker::start(&program, "127.0.0.1:0");
    let mut command = program.command(&format!("pub -t t -m x --broker mqtt://{}", broker.address));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ended = command.stdout(writer).output().expect("the program runs");
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}
