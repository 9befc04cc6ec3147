//! Signals.

use crate::bench::{Bench, eventually, message};

#[test]
fn usr1_prints_the_statistics_now() {
    let bench = Bench::new();
    let running = bench.sub("-t #", &[]);
    bench.publish(vec![message("a", "x")]);
    running.prints("a x");
    eventually("it is settled", || bench.count("SELECT processed FROM tally") == 1);
    running.signal("USR1");
    running.says("session losses");
    let said = running.said();
    assert!(said.contains("received                   1  100.0 %"), "{said}");
    assert_eq!(running.terminate().code, Some(0));
}

#[test]
fn the_table_comes_by_itself() {
    let bench = Bench::new();
    let running = bench.start("-t # --stats-every 50ms", &[]);
    running.says_times("session losses", 3);
}

#[test]
fn term_lets_handlers_finish_and_keeps_what_they_did() {
    let bench = Bench::new();
    let running = bench.sub("-t #", &["--handler", "exec:echo begun >> log; sleep 1; echo finished >> log"]);
    bench.publish(vec![message("a", "x")]);
    eventually("it runs", || bench.text("log") == "begun\n");
    let ended = running.terminate();
    assert_eq!((ended.code, bench.text("log").as_str()), (Some(0), "begun\nfinished\n"), "{}", ended.stderr);
    assert_eq!(bench.count("SELECT count(*) FROM inbox"), 0);
}

#[test]
fn a_handler_that_outlasts_the_grace_is_killed_and_its_message_comes_again() {
    let bench = Bench::new();
    let hangs = "exec:echo begun >> log; sleep 50; echo finished >> log";
    let running = bench.sub("-t # --grace 200ms", &["--handler", hangs]);
    bench.publish(vec![message("a", "x")]);
    eventually("it runs", || bench.text("log") == "begun\n");
    let ended = running.terminate();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("not finished at the deadline: 1 delivery"), "{}", ended.stderr);
    let again = bench.start("-t # --count 1 --handler print", &[]).ended();
    assert_eq!((again.code, again.stdout), (Some(0), b"a x\n".to_vec()));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let bench = Bench::new();
    let running = bench.sub("-t # --grace 50s", &["--handler", "exec:echo begun >> log; sleep 50"]);
    bench.publish(vec![message("a", "x")]);
    eventually("it runs", || bench.text("log") == "begun\n");
    running.signal("TERM");
    running.says("stopping");
    running.signal("INT");
    assert_eq!(running.ended().code, Some(130));
    let again = bench.start("-t # --count 1 --handler print", &[]).ended();
    assert_eq!((again.code, again.stdout), (Some(0), b"a x\n".to_vec()), "it was acknowledged, and kept");
}
