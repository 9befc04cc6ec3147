//! `mqtally sub` as a shell sees it: what it says and how it ends where it cannot do what it was asked to.

use std::process::{Command, Output};

fn mqtally(args: &str) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtally"));
    command.current_dir(&directory).args(args.split_whitespace()).output().expect("it runs")
}

fn check(args: &str, status: i32, expect: &str) {
    let ended = mqtally(args);
    let stderr = String::from_utf8(ended.stderr).expect("UTF-8");
    assert_eq!(ended.status.code(), Some(status), "{args}: {stderr}");
    assert!(stderr.contains(expect), "{args}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args}: {stderr}");
}

#[test]
fn misuse_is_one_line_and_status_64() {
    check("sub -t a", 64, "the broker keeps the session");
    check("sub -t a/#/b --client-id x", 64, "has a # at byte 2");
    check("sub -t a --client-id x --handler magic", 64, "is no handler");
    check("sub -t a --client-id x --dedup-key magic", 64, "is no dedup key");
    check(
        "sub -t a --client-id x --store postgres://u:secret@h/d?sslmode=require",
        64,
        "TLS to the database",
    );
    check("sub -t a --client-id x --handler postgres://h/d", 64, "needs a table");
    check("dead-letter replay --store x", 64, "nothing selected");
    check("dead-letter purge 1 --all --store x", 64, "both numbers and a selection");
}

#[test]
fn a_broker_that_is_not_there_is_status_69_and_a_store_that_cannot_be_74() {
    check("sub -t a --client-id x --broker mqtt://127.0.0.1:1", 69, "cannot reach");
    check("sub -t a --client-id x --store /nonexistent/x", 74, "the directory is missing");
    check("sub -t a --client-id x --store postgres://u@127.0.0.1:1/d", 74, "cannot be reached");
}
