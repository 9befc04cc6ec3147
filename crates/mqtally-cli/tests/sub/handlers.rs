//! Handlers that fail.

use crate::bench::{Bench, eventually, message};
use crate::hook::Hook;
use std::net::TcpListener;

const QUICKLY: &str = "--retries 2 --retry-delay 10ms --retry-max-delay 20ms";

/// The last error of the only dead letter.
fn error(bench: &Bench) -> String {
    let ended = bench.run(&["dead-letter", "ls", "--json", "--store", "s.sub"]);
    let letter: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("one line of JSON");
    assert_eq!((&letter["reason"], &letter["attempts"]), (&"exhausted".into(), &3.into()), "{letter}");
    letter["errors"][2]["error"].as_str().expect("a text").to_owned()
}

#[test]
fn a_webhook_that_nobody_answers_is_tried_again_and_then_kept_as_a_dead_letter() {
    let bench = Bench::new();
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let url = format!("http://{nobody}/");
    let running = bench.sub(&format!("-t # --count 1 {QUICKLY}"), &["--handler", &url]);
    bench.publish(vec![message("a", "x")]);
    let ended = running.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(error(&bench).contains("no answer"), "{}", error(&bench));
}

#[test]
fn a_webhook_that_comes_back_gets_what_it_missed() {
    let (bench, hook) = (Bench::new(), Hook::start(503));
    let args = "-t # --count 1 --retries 1000 --retry-delay 10ms --retry-max-delay 20ms";
    let running = bench.sub(args, &["--handler", &hook.url]);
    bench.publish(vec![message("a", "x")]);
    eventually("it was asked", || hook.requests().len() > 2);
    hook.answer(200);
    assert_eq!(running.ended().code, Some(0));
    let keys: Vec<_> =
        hook.requests().iter().map(|request| request.header("idempotency-key").map(str::to_owned)).collect();
    assert!(keys[0].is_some() && keys.windows(2).all(|pair| pair[0] == pair[1]), "{keys:?}");
}

/// The broker ends a connection that is silent for one and a half seconds; what hangs here hangs longer.
#[test]
fn a_handler_that_hangs_is_ended_and_holds_up_neither_others_nor_the_connection() {
    let hook = Hook::start(0);
    let start = |hangs: &str| {
        let bench = Bench::new();
        let on = format!("hangs={hangs}");
        let args = format!("-t # --keep-alive 1 --handler-timeout 700ms {QUICKLY}");
        let running = bench.sub(&args, &["--on", &on]);
        bench.publish(vec![message("hangs", "x"), message("a", "y")]);
        (bench, running)
    };
    // All at once, because each takes its time.
    let all = [
        ("exec:sleep 60", "killed after 700ms"),
        ("stdio:sleep 60", "the program did not answer; killed, because an answer took too long"),
        (hook.url.as_str(), "no answer"),
    ]
    .map(|(hangs, expect)| (hangs, expect, start(hangs)));
    for (hangs, expect, (bench, running)) in all {
        running.prints("a y");
        eventually("it is given up", || bench.count("SELECT n FROM dead_count") == 1);
        assert!(!running.said().contains("connecting again"), "{}", running.said());
        assert!(error(&bench).contains(expect), "{hangs}: {}", error(&bench));
        assert_eq!(running.terminate().code, Some(0));
    }
}

#[test]
fn what_cannot_be_written_is_kept_as_a_dead_letter() {
    let bench = Bench::new();
    let running = bench.sub(&format!("-t # --count 1 --handler jsonl:/dev/full {QUICKLY}"), &[]);
    bench.publish(vec![message("a", "x")]);
    assert_eq!(running.ended().code, Some(0));
    assert!(error(&bench).contains("cannot append: No space left"), "{}", error(&bench));
}

/// Whoever prints into a pipe that nobody reads any more would lose each message that is printed.
#[test]
fn a_reader_of_the_output_that_goes_away_loses_nothing() {
    let bench = Bench::new();
    bench.leave_session("-t #");
    bench.publish(vec![message("a", "x")]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = bench.sub_command(&format!("-t # --count 1 {QUICKLY}"), &[]);
    let status = command.stdout(writer).stderr(std::process::Stdio::null()).status().expect("it runs");
    assert_eq!(status.code(), Some(0));
    assert!(error(&bench).contains("cannot print"), "{}", error(&bench));
}

#[test]
fn a_handler_that_cannot_start_is_one_line_and_status_74() {
    let bench = Bench::new();
    let check = |handler: &str, expect: &str| {
        let ended = bench.start("-t #", &["--handler", handler]).ended();
        assert_eq!(ended.code, Some(74), "{}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    };
    check("jsonl:/nowhere/x", "cannot open it");
    check("sqlite:/nowhere/x?table=t", "check that its directory is there");
    check("sqlite:s.sub?table=inbox", "is the inbox's own");
    check("mqtt://127.0.0.1:1?outbox=/nowhere/x", "the directory is missing");
    check("mqtts://127.0.0.1:1?cafile=nothing", "cannot read the CA file nothing");
    let ended = bench.start("-t #", &["--handler", "mqtt://127.0.0.1:1?cafile=nothing"]).ended();
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(ended.stderr.contains("mqtt:// is not encrypted"), "{}", ended.stderr);
    std::fs::write(bench.path("letter"), "to a friend").expect("written");
    check("mqtts://127.0.0.1:1?outbox=letter", "not a store of mqtally");
}
