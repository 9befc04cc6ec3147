//! `exec`: a program for each message.

#![cfg(unix)]

mod handler_support;

use handler_support::{delivery, eventually, handle, handle_all, open, read, script};
use std::time::Duration;

fn command(directory: &std::path::Path, text: &str) -> String {
    format!("exec:sh {}", script(directory, text).display())
}

async fn check(text: &str, expect: &str) {
    let directory = tempfile::tempdir().unwrap();
    let handler = open(&command(directory.path(), text), 10_000);
    assert_eq!(handle(&handler, &delivery(1, "payload")).await, expect, "{text}");
}

#[tokio::test]
async fn the_exit_status_decides() {
    check("exit 0", "done").await;
    check("exit 75", "retry: exit status 75").await;
    check("echo later >&2; exit 75", "retry: exit status 75: later").await;
    check("echo no such customer >&2; exit 1", "dead: exit status 1: no such customer").await;
    check("exit 127", "dead: exit status 127").await;
    check("exit 255", "dead: exit status 255").await;
}

#[tokio::test]
async fn a_signal_decides_nothing() {
    let handler = open("exec:kill -9 $$", 10_000);
    assert_eq!(handle(&handler, &delivery(1, "")).await, "retry: signal 9");
    check("exit 137", "retry: exit status 137").await;
}

#[tokio::test]
async fn the_message_comes_on_stdin_and_in_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let names =
        "$MQTALLY_TOPIC $MQTALLY_KEY $MQTALLY_ATTEMPT $MQTALLY_QOS $MQTALLY_RETAIN $MQTALLY_RECEIVED_AT";
    let text = format!("{{ echo \"{names}\"; cat; }} > {}", out.display());
    let handler = open(&command(directory.path(), &text), 10_000);
    let mut message = delivery(1, "pay\0load");
    message.topic = "a b/$(touch pwned)".into();
    message.key = Some("k\0'\"".into());
    assert_eq!(handle(&handler, &message).await, "done");
    let expect = "a b/$(touch pwned) k\u{FFFD}'\" 1 1 0 1970-01-01T00:00:01.000Z\npay\0load";
    assert_eq!(read(&out), expect);
}

#[tokio::test]
async fn a_program_that_does_not_read_its_stdin_is_none_the_worse() {
    let directory = tempfile::tempdir().unwrap();
    let large = delivery(1, vec![b'x'; 4 << 20]);
    for text in ["exit 0", "exec <&-; sleep 0.05", "head -c 1 > /dev/null"] {
        let handler = open(&command(directory.path(), text), 10_000);
        assert_eq!(handle(&handler, &large).await, "done", "{text}");
    }
}

#[tokio::test]
async fn what_it_says_is_kept_within_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let text = "yes filler | head -n 500000 >&2; echo the end >&2; exit 1";
    let outcome = handle(&open(&command(directory.path(), text), 20_000), &delivery(1, "")).await;
    assert!(outcome.ends_with("filler\nthe end") && outcome.len() < 1_100, "{outcome}");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let text = format!("sleep 600 & echo $! > {}; echo waiting >&2; wait", pids.display());
    let command = command(directory.path(), &text);
    // On a busy machine a shell that has half a second may not come as far as its first line.
    for time_max_ms in [500, 2_000, 8_000] {
        let outcome = handle(&open(&command, time_max_ms), &delivery(1, "")).await;
        let killed = format!("retry: killed after {:?}", Duration::from_millis(time_max_ms));
        if outcome == format!("{killed}: waiting") {
            return eventually(|| is_gone(&pids)).await;
        }
        assert_eq!(outcome, killed);
    }
    panic!("the shell never came to its first line");
}

#[tokio::test]
async fn whoever_stops_waiting_ends_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let text = format!("sleep 600 & echo $! > {}; wait", pids.display());
    let handler = open(&command(directory.path(), &text), 60_000);
    let message = delivery(1, "");
    tokio::select! {
        outcome = handler.handle(&message) => panic!("{outcome:?}"),
        () = eventually(|| read(&pids).ends_with('\n')) => {}
    }
    eventually(|| is_gone(&pids)).await;
}

/// Whether the process in this file has ended; a zombie has.
fn is_gone(pids: &std::path::Path) -> bool {
    let pid = read(pids).trim().to_owned();
    let status = read(format!("/proc/{pid}/stat").as_ref());
    !pid.is_empty() && (status.is_empty() || status.contains(") Z "))
}

#[tokio::test]
async fn what_a_program_leaves_behind_does_not_hold_it_up() {
    // It holds standard error open for longer than the program may take: who waited for it would kill, not be done.
    check("sleep 20 & exit 0", "done").await;
}

#[tokio::test]
async fn programs_run_side_by_side_up_to_a_bound() {
    let directory = tempfile::tempdir().unwrap();
    let running = directory.path().join("running");
    std::fs::create_dir(&running).unwrap();
    let text = format!(
        "touch {0}/$MQTALLY_KEY; ls {0} | wc -l >&2; sleep 0.2; rm {0}/$MQTALLY_KEY; exit 1",
        running.display()
    );
    let handler = open(&command(directory.path(), &text), 20_000);
    let allowed = handler.concurrency_max();
    let outcomes = handle_all(handler, (0..40).map(|number| delivery(number, "")).collect()).await;
    let seen = |outcome: &String| outcome.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
    let most = outcomes.iter().map(seen).max().unwrap();
    assert!((2..=allowed).contains(&most), "{most} at once");
}
