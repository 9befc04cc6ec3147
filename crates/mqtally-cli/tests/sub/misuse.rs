//! What it says where it cannot do what it was asked to, and what it warns of.

use crate::bench::{Bench, Running, message, mqtally};

fn check(args: &str, status: i32, expect: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let ended = Running::start(mqtally(directory.path()).args(args.split_whitespace())).ended();
    assert_eq!(ended.code, Some(status), "{args}: {}", ended.stderr);
    assert!(ended.stderr.contains(expect), "{args}: {}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{args}: {}", ended.stderr);
    assert!(std::fs::read_dir(directory.path()).expect("there").next().is_none(), "{args} left a file");
}

#[test]
fn misuse_is_one_line_and_status_64() {
    check("sub", 64, "--topic");
    check("sub -t a", 64, "the broker keeps the session");
    check("sub -t a/#/b --client-id x", 64, "has a # at byte 2");
    check("sub -t a --client-id x --handler magic", 64, "is no handler");
    check("sub -t a --client-id x --on a=magic", 64, "--on; use print");
    check("sub -t a --client-id x --on a", 64, "is no route");
    check("sub -t a --client-id x --dedup-key magic", 64, "is no dedup key");
    check("sub -t a --client-id x --handlr print", 64, "--handler");
    check("sub -t a --client-id x --session-expiry 0", 64, "--session-expiry; give a number of seconds");
    check("sub -t a --client-id x --handler-timeout 0", 64, "no time at all");
    check("sub -t a --client-id x --concurrency 0", 64, "--concurrency");
    check("sub -t a --client-id x --backlog-max 0", 64, "--backlog-max");
    check("sub -t a --client-id x --count 0", 64, "--count");
    check("sub -t a --client-id x --retry-delay soon", 64, "is no time");
    check("sub -t a --client-id x --listen localhost:80", 64, "is no place to listen");
    check("sub -t a --client-id x --broker http://h", 64, "no transport for MQTT");
    check("sub -t a --client-id x --qos 3", 64, "is no QoS");
    check("sub -t a --client-id x --cafile ca.pem", 64, "mqtt:// is not encrypted");
}

#[test]
fn a_broker_that_is_not_there_is_status_69_and_a_store_that_cannot_be_74() {
    let bench = Bench::new();
    let ended = bench.start("-t a --broker mqtt://127.0.0.1:1", &[]).ended();
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot reach mqtt://127.0.0.1:1"), "{}", ended.stderr);
    check("sub -t a --client-id x --store /nonexistent/x", 74, "the directory is missing");
}

#[test]
fn a_window_shorter_than_the_session_is_warned_of_at_the_start() {
    let bench = Bench::new();
    let check = |args: &str, expect: Option<&str>| {
        let ended = bench.sub(&format!("-t # {args}"), &[]).terminate();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        match expect {
            Some(expect) => assert!(ended.stderr.contains(expect), "{}", ended.stderr),
            None => assert!(!ended.stderr.contains("dedup keys are kept"), "{}", ended.stderr),
        }
    };
    check("", None);
    check("--dedup-window 1h", Some("make --dedup-window at least as long"));
    check("--dedup-window 1h --session-expiry 3600", None);
    check("--dedup-window 1h --session-expiry 3601", Some("processed again"));
    check("--session-expiry 8d", Some("dedup keys are kept for 7d and the broker keeps the session for 8d"));
    check("--dedup-window 1s --dedup-key none", None);
}

#[test]
fn dead_letters_that_outlive_their_keys_are_warned_of_at_the_start() {
    let bench = Bench::new();
    bench.leave_session("-t #");
    bench.publish(vec![message("t", "x")]);
    let ended = bench.start("-t # --count 1", &["--handler", "exec:exit 1"]).ended();
    assert_eq!((ended.code, bench.count("SELECT count(*) FROM dead")), (Some(0), 1), "{}", ended.stderr);
    let said = |args: &str| bench.sub(&format!("-t # {args}"), &[]).terminate().stderr;
    let expect = "the oldest dead letter, of 1, was received";
    assert!(!said("").contains(expect));
    assert!(!said("--dedup-window 1ms --dedup-key none").contains(expect));
    let warned = said("--dedup-window 1ms");
    assert!(warned.contains(expect) && warned.contains("replay or purge what is older than 1ms"), "{warned}");
}

#[test]
fn a_broker_that_keeps_the_session_for_another_time_is_warned_of() {
    let bench = Bench::with(&["--volatile", "--session-expiry-max", "3600"]);
    let ended = bench.sub("-t #", &[]).terminate();
    let expect = "the broker keeps the session for 1h, 1d was asked for";
    assert!(ended.stderr.contains(expect), "{}", ended.stderr);
    let ended = bench.sub("-t # --session-expiry 1h", &[]).terminate();
    assert!(!ended.stderr.contains("was asked for"), "{}", ended.stderr);
}

#[test]
fn help_names_every_handler_and_every_exit_status() {
    let directory = tempfile::tempdir().expect("a directory");
    let help = |args: &[&str]| {
        let ended = Running::start(mqtally(directory.path()).args(args)).ended();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        String::from_utf8(ended.stdout).expect("UTF-8")
    };
    let text = help(&["sub", "--help"]);
    for word in
        ["jsonl:FILE", "exec:CMD", "stdio:CMD", "http(s)://", "sqlite:", "mqtt(s)://", "64 usage", "130"]
    {
        assert!(text.contains(word), "{word}");
    }
    let text = help(&["dead-letter", "--help"]);
    for word in ["ls", "show", "edit", "replay", "purge", "--dry-run", "--rate", "--json", "Exit status"] {
        assert!(text.contains(word), "{word}");
    }
}
