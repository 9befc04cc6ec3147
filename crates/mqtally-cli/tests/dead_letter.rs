//! `mqtally dead-letter`, while `mqtally sub` runs on the same store.

#[path = "sub/bench.rs"]
mod bench;

use bench::{Bench, Ended, Running, eventually, message, mqtally, named};
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Handles a message when the file `healed` is there, and gives it up otherwise.
const FRAIL: &str =
    "exec:test -e healed || { echo not healed >&2; exit 1; }; cat >> effects; echo >> effects";

fn run(bench: &Bench, args: &str) -> Ended {
    let words: Vec<&str> = ["dead-letter"].into_iter().chain(args.split_whitespace()).collect();
    bench.run(&[&words[..], &["--store", "s.sub"]].concat())
}

/// Its lines of JSON.
fn lines(ended: &Ended) -> Vec<Value> {
    let text = std::str::from_utf8(&ended.stdout).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn numbers(ended: &Ended) -> Vec<u64> {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    lines(ended).iter().map(|line| line["number"].as_u64().expect("a number")).collect()
}

fn listed(bench: &Bench, selection: &str) -> Vec<u64> {
    numbers(&run(bench, &format!("ls --json {selection}")))
}

fn wait_for_dead(bench: &Bench, expected: i64) {
    eventually("they are given up", || bench.count("SELECT n FROM dead_count") == expected);
}

/// A subscriber that has given up one message for each reason: 1 handler, 2 exhausted, 4 conflict.
fn with_one_of_each(bench: &Bench) -> Running {
    let on = ["--on", "handler/#=exec:echo too cold >&2; exit 3", "--on", "exhausted/#=jsonl:/dev/full"];
    let running = bench.sub("-t # --conflict dead-letter --retries 1 --retry-delay 1ms", &on);
    bench.publish(vec![
        named("handler/a", "1", "-300"),
        message("exhausted/b", "\u{ff}x".as_bytes().to_vec()),
        named("conflict/c", "2", "x"),
        named("conflict/c", "2", "other"),
    ]);
    wait_for_dead(bench, 3);
    running
}

#[test]
fn ls_selects_and_show_tells_everything() {
    let bench = Bench::new();
    let _running = with_one_of_each(&bench);
    assert_eq!(listed(&bench, ""), [1, 2, 4]);
    assert_eq!(listed(&bench, "--filter +/b"), [2]);
    assert_eq!(listed(&bench, "--reason handler"), [1]);
    assert_eq!(listed(&bench, "--reason exhausted"), [2]);
    assert_eq!(listed(&bench, "--reason conflict"), [4]);
    assert_eq!(listed(&bench, "--reason conflict --filter handler/#"), [0; 0]);
    assert_eq!(listed(&bench, "--older-than 1h"), [0; 0]);
    assert_eq!(listed(&bench, "--older-than 0s"), [1, 2, 4]);

    let text = String::from_utf8(run(&bench, "ls").stdout).expect("UTF-8");
    let first = text.lines().next().expect("a line");
    for part in ["  1  ", "handler", "handler/a", "-300", "exit status 3: too cold"] {
        assert!(first.contains(part), "no {part:?} in {first}");
    }
    let shown = run(&bench, "show 1 2 --json");
    let shown = lines(&shown);
    let expect = json!({"number": 1, "reason": "handler", "attempts": 1, "topic": "handler/a", "qos": 1, "retain": false,
        "key": "1", "replay": 0, "payload": "-300", "edited": false, "replay_asked": false, "damaged": false});
    for (name, value) in expect.as_object().expect("an object") {
        assert_eq!(&shown[0][name], value, "{name}");
    }
    assert_eq!(shown[0]["user_properties"], json!([["mqtally-id", "1"]]));
    assert_eq!((&shown[1]["attempts"], shown[1]["errors"].as_array().map(Vec::len)), (&json!(2), Some(2)));
    let text = String::from_utf8(run(&bench, "show 1").stdout).expect("UTF-8");
    assert!(text.contains("too cold") && text.ends_with("\n-300\n"), "{text}");
}

#[test]
fn what_is_no_text_is_base64_in_json_and_harmless_on_a_terminal() {
    let bench = Bench::new();
    let _running = bench.sub("-t #", &["--handler", "exec:exit 1"]);
    bench.publish(vec![message("a\u{1b}[2J", b"\xff\x1b[2Jx\ny\tz".to_vec())]);
    wait_for_dead(&bench, 1);
    for args in ["ls", "show 1"] {
        assert!(!run(&bench, args).stdout.contains(&0x1b), "{args}");
    }
    let text = String::from_utf8(run(&bench, "show 1").stdout).expect("UTF-8");
    assert!(text.ends_with("[2Jx\ny\tz\n"), "{text}");
    assert_eq!(lines(&run(&bench, "show 1 --json"))[0]["payload_base64"], "/xtbMkp4CnkJeg==");
}

/// Its dedup key is known by then, and so is that of a copy that its publisher sends once more.
#[test]
fn a_replay_passes_the_done_mark_and_a_copy_does_not() {
    let bench = Bench::new();
    let running = bench.sub("-t #", &["--handler", FRAIL]);
    bench.publish(vec![named("t", "k", "x")]);
    wait_for_dead(&bench, 1);
    assert_eq!(numbers(&run(&bench, "replay 1 --json")), [1]);
    eventually("it is given up again", || bench.count("SELECT max(replay) FROM dead") == 1);
    fs::write(bench.path("healed"), "").expect("written");
    let again = listed(&bench, "");
    let ended = run(&bench, &format!("replay {}", again[0]));
    assert!(ended.stderr.contains("1 to be replayed"), "{}", ended.stderr);
    eventually("it has its effect", || bench.text("effects") == "x\n");
    bench.publish(vec![named("t", "k", "x")]);
    eventually("the copy is dropped", || bench.count("SELECT published_again FROM tally") == 1);
    assert_eq!(running.terminate().code, Some(0));
    assert_eq!((bench.text("effects").as_str(), bench.count("SELECT n FROM dead_count")), ("x\n", 0));
}

#[test]
fn a_replay_waits_for_the_next_subscriber() {
    let bench = Bench::new();
    let running = bench.sub("-t #", &["--handler", FRAIL]);
    bench.publish(vec![message("t", "x")]);
    wait_for_dead(&bench, 1);
    assert_eq!(running.terminate().code, Some(0));
    assert_eq!(run(&bench, "replay --all").code, Some(0));
    assert_eq!(lines(&run(&bench, "show 1 --json"))[0]["replay_asked"], true);
    let ended = bench.start("-t # --count 1", &[]).ended();
    assert_eq!(ended.stdout, b"t x\n");
}

#[test]
fn an_edited_payload_is_what_is_replayed() {
    let bench = Bench::new();
    let running = bench.sub("-t #", &["--handler", FRAIL]);
    bench.publish(["a", "b", "c"].map(|topic| message(topic, "broken")).to_vec());
    wait_for_dead(&bench, 3);
    fs::write(bench.path("healed"), "").expect("written");
    fs::write(bench.path("payload"), "from a file").expect("written");
    assert_eq!(numbers(&run(&bench, "edit 1 --message typed --json")), [1]);
    assert_eq!(run(&bench, "edit 2 --file payload").code, Some(0));
    let mut piped = mqtally(bench.directory.path());
    piped.args(["dead-letter", "edit", "3", "-f", "-", "--store", "s.sub"]).stdin(Stdio::piped());
    let mut child = piped.stderr(Stdio::null()).spawn().expect("it starts");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), b"from a pipe").expect("taken");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(lines(&run(&bench, "show 1 --json"))[0]["edited"], true);
    assert_eq!(run(&bench, "replay --all").code, Some(0));
    eventually("all have their effect", || bench.text("effects").lines().count() == 3);
    let effects = bench.text("effects");
    for payload in ["typed", "from a file", "from a pipe"] {
        assert!(effects.contains(payload), "{effects}");
    }
    assert_eq!(running.terminate().code, Some(0));
}

#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let bench = Bench::new();
    let _running = with_one_of_each(&bench);
    let before = run(&bench, "ls --json").stdout;
    for (args, expect) in [
        ("replay --all --dry-run", "3 would be replayed"),
        ("purge --filter conflict/# --dry-run", "1 would be purged"),
        ("edit 1 -m new --dry-run", "1 would be edited"),
    ] {
        let ended = run(&bench, args);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{args}: {}", ended.stderr);
    }
    let dry = run(&bench, "purge --all --dry-run --json");
    assert_eq!(lines(&dry)[0], json!({"number": 1, "dry_run": true}));
    assert!(run(&bench, "ls --json").stdout == before);
}

#[test]
fn purge_deletes_what_was_selected_and_nothing_else() {
    let bench = Bench::new();
    let _running = with_one_of_each(&bench);
    assert_eq!(numbers(&run(&bench, "purge --reason conflict --json")), [4]);
    assert_eq!(numbers(&run(&bench, "purge 1 --json")), [1]);
    assert_eq!(listed(&bench, ""), [2]);
}

#[test]
fn a_rate_is_kept_to() {
    let bench = Bench::new();
    let running = bench.sub("-t # --retries 0 --handler jsonl:/dev/full", &[]);
    bench.publish((0..80).map(|number| message(&format!("t/{number}"), "x")).collect());
    wait_for_dead(&bench, 80);
    assert_eq!(running.terminate().code, Some(0));
    let started = Instant::now();
    assert_eq!(numbers(&run(&bench, "replay --all --rate 100 --json")).len(), 80);
    assert!(started.elapsed() >= Duration::from_millis(700), "{:?}", started.elapsed());
    // A dry run that waited would take longer than it is waited for.
    assert_eq!(numbers(&run(&bench, "replay --all --rate 1 --json --dry-run")).len(), 80);
}

/// What is replayed and dies at once has a higher number then. A replay of all took it up again, for ever.
#[test]
fn a_replay_of_all_ends_although_what_it_replays_dies_again() {
    let bench = Bench::new();
    let _running = bench.sub("-t # --retries 0 --handler jsonl:/dev/full", &[]);
    bench.publish((0..300).map(|number| message(&format!("t/{number}"), "x")).collect());
    wait_for_dead(&bench, 300);
    let ended = run(&bench, "replay --all --rate 300 --json");
    assert_eq!(numbers(&ended).len(), 300);
}

#[test]
fn numbers_that_are_not_there_are_named_and_the_others_are_done() {
    let bench = Bench::new();
    let _running = with_one_of_each(&bench);
    for action in ["show 99", "edit 99 -m x", "replay 99", "purge 99", "replay 99 --dry-run", "show 3 --json"]
    {
        let ended = run(&bench, action);
        assert_eq!(ended.code, Some(1), "{action}: {}", ended.stderr);
        assert!(ended.stderr.contains(": no such dead letter"), "{action}: {}", ended.stderr);
    }
    let ended = run(&bench, "purge 99 1 --json");
    assert_eq!((ended.code, lines(&ended).len()), (Some(1), 1));
    assert_eq!(listed(&bench, ""), [2, 4]);
}

#[test]
fn misuse_is_one_line() {
    let bench = Bench::new();
    let check = |args: &str, status: i32, expect: &str| {
        let ended = run(&bench, args);
        assert_eq!(ended.code, Some(status), "{args}: {}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{args}: {}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{args}: {}", ended.stderr);
    };
    check("ls", 74, "cannot open the store");
    check("list", 64, "ls");
    check("show", 64, "no dead letter named");
    check("show --all", 64, "take no selection");
    check("show one", 64, "one");
    check("show -1", 64, "-1");
    check("show 9223372036854775808", 64, "9223372036854775808");
    check("ls 1", 64, "ls takes no numbers");
    check("ls --dry-run", 64, "nothing would change");
    check("ls --filter a/#/b", 64, "has a # at byte 2");
    check("edit 1", 64, "no new payload");
    check("edit 1 2 -m x", 64, "edit takes one dead letter");
    check("edit 1 -m x -f y", 64, "cannot be used with");
    check("replay", 64, "nothing selected");
    check("replay 1 --all", 64, "both numbers and a selection");
    check("replay 1 --rate 0", 64, "0");
    check("replay 1 -m x", 64, "a new payload is for edit");
    check("purge 1 --rate 5", 64, "--rate is for replay");
}
