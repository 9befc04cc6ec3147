//! Runs and histories: statuses, files, and that the same history gives the same report.

use crate::program::{Ended, Program};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Stdio};

/// A run that takes a moment.
const SHORT: &str = "test qos --protocol 5 --messages 20 --in-flight 10 --seed 7";

fn fails(ended: &Ended, status: i32, expect: &str) {
    assert_eq!((ended.status, ended.stdout.as_str()), (status, ""), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.starts_with("mqtally: ") && ended.stderr.contains(expect), "{}", ended.stderr);
}

#[test]
fn a_history_judged_again_gives_the_same_bytes() {
    let program = Program::new();
    let first = program.run(&format!("{SHORT} --history kept --json first.json"));
    assert_eq!(first.status, 0, "{}{}", first.stdout, first.stderr);
    let again = program.run("check kept --json again.json");
    assert_eq!((again.status, &again.stdout), (0, &first.stdout));
    let read = |name: &str| fs::read(program.directory().join(name)).expect(name);
    assert_eq!(read("first.json"), read("again.json"));
    let printed = program.run("check kept/history.mqtally --json");
    assert_eq!((printed.status, printed.stdout.as_bytes()), (0, read("first.json").as_slice()));
    assert!(first.stdout.contains("KEPT  ") && first.stdout.contains("(seed 7)"), "{}", first.stdout);
}

#[test]
fn quiet_prints_the_verdict_alone() {
    let ended = Program::new().run(&format!("{SHORT} --quiet"));
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    assert!(ended.stdout.starts_with("KEPT  ") && ended.stdout.lines().count() <= 2, "{}", ended.stdout);
}

#[test]
fn a_broken_promise_ends_with_status_1() {
    // A broker that keeps nothing, held to keeping everything.
    let program = Program::new();
    let broker = format!(
        "{} broker --config /dev/null --volatile --listen 127.0.0.1:{{port}}",
        env!("CARGO_BIN_EXE_mqtally")
    );
    let mut command = program.command("test restart --protocol 5 --messages 50 --profile durable --quiet");
    let ended = Ended::from(command.args(["--broker-cmd", &broker]).output().expect("the program runs"));
    assert_eq!(ended.status, 1, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.starts_with("BROKEN  ") && ended.stdout.contains("explain S2"), "{}", ended.stdout);
    let mut command = program.command("test restart --protocol 5 --messages 50 --profile volatile --quiet");
    let ended = Ended::from(command.args(["--broker-cmd", &broker]).output().expect("the program runs"));
    assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.starts_with("KEPT  ") && ended.stdout.contains("excused"), "{}", ended.stdout);
}

#[test]
fn a_broker_that_is_started_is_used_up_to_the_qos_that_was_given() {
    let program = Program::new();
    let broker = format!(
        "{} broker --config /dev/null --volatile --listen 127.0.0.1:{{port}}",
        env!("CARGO_BIN_EXE_mqtally")
    );
    let mut command = program.command(&format!("{SHORT} --json report.json --quiet --max-qos 1"));
    let ended = Ended::from(command.args(["--broker-cmd", &broker]).output().expect("the program runs"));
    assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    let report = fs::read_to_string(program.directory().join("report.json")).expect("a report");
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let mut levels = report["streams"].as_array().expect("streams").iter().map(|stream| &stream["qos"]);
    assert!(levels.all(|qos| qos != 2), "{report}");
}

/// A run on a broker that is started by this command; its profile, what was measured, and the report on the terminal.
fn measured(command: &str) -> (serde_json::Value, serde_json::Value, String) {
    let program = Program::new();
    let broker = command.replace("MQTALLY", env!("CARGO_BIN_EXE_mqtally"));
    let mut command = program.command(&format!("{SHORT} --json report.json --history kept"));
    let ended = Ended::from(command.args(["--broker-cmd", &broker]).output().expect("the program runs"));
    assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    assert_eq!(program.run("check kept").stdout, ended.stdout);
    let report = fs::read_to_string(program.directory().join("report.json")).expect("a report");
    let mut report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    (report["broker"]["profile"].take(), report["profile_measured"].take(), ended.stdout)
}

#[test]
fn a_broker_that_declares_nothing_is_held_to_what_it_is_seen_to_keep() {
    let (profile, found, said) =
        measured("MQTALLY broker --config /dev/null --data {dir}/state --listen 127.0.0.1:{port}");
    assert_eq!((&profile, &found["profile"]), (&"durable".into(), &"durable".into()), "{found}");
    assert_eq!(found["killed"]["lost"], 0);
    // All that came one at a time, and the retained one; then a part of the burst.
    assert!(found["killed"]["acknowledged"].as_u64() > Some(61), "{found}");
    assert!(said.contains("measured durable, and loss of power not tried"), "{said}");
    let (profile, found, _) =
        measured("MQTALLY broker --config /dev/null --volatile --listen 127.0.0.1:{port}");
    assert_eq!((&profile, &found["profile"]), (&"volatile".into(), &"volatile".into()), "{found}");
    for end in ["stopped", "killed"] {
        assert!(found[end]["lost"].as_u64() > Some(61), "{found}");
        assert_eq!(found[end]["lost"], found[end]["acknowledged"]);
    }
}

#[test]
fn a_broker_that_cannot_be_measured_is_held_to_nothing_and_the_report_says_why() {
    let once = "sh -c 'test -e ran && exit 1; touch ran; exec MQTALLY broker --config /dev/null --volatile --listen 127.0.0.1:{port}'";
    let (profile, found, said) = measured(once);
    assert_eq!((&profile, &found["profile"]), (&"volatile".into(), &serde_json::Value::Null), "{found}");
    assert!(found["because"].as_str().expect("words").contains("ended before it accepted"), "{found}");
    assert!(said.contains("durability not measured"), "{said}");
}

#[test]
fn client_processes_are_killed_with_and_without_their_store() {
    let program = Program::new();
    let killed = |strikes: &str| {
        let mut command = program.command("test faults --protocol 5 --seed 7 --json report.json --quiet");
        let ended = Ended::from(command.args(["--faults", strikes]).output().expect("the program runs"));
        assert_eq!(ended.status, 0, "{strikes}: {}{}", ended.stdout, ended.stderr);
        let report = fs::read(program.directory().join("report.json")).expect("a report");
        let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
        let faults = report["faults"].as_array().expect("faults").iter();
        let faults = faults.map(|it| format!("{} {}", it["kind"].as_str().expect("a name"), it["count"]));
        faults.collect::<Vec<_>>().join(", ")
    };
    let all = "kill-process after c2s PUBREC 2,wipe-process before c2s PUBACK,kill-process after s2c PUBCOMP";
    assert_eq!(killed(all), "kill-process 2, wipe-process 1");
    // Each alone, too, is a run that can be judged.
    for strike in ["kill-process after s2c PUBACK", "wipe-process after c2s PUBREL"] {
        assert_eq!(killed(strike), format!("{} 1", strike.split(' ').next().unwrap_or_default()));
    }
}

#[test]
fn a_history_is_never_overwritten() {
    let program = Program::new();
    fs::create_dir(program.directory().join("old")).expect("a directory");
    let program = program.file("old/history.mqtally", "evidence");
    fails(&program.run("test --history old"), 74, "there is a history already");
    assert_eq!(fs::read(program.directory().join("old/history.mqtally")).expect("still there"), b"evidence");
}

#[test]
fn what_cannot_be_written_is_found_before_the_run() {
    let program = Program::new().file("file", "");
    fails(&program.run("test --history file/history"), 74, "cannot keep the history");
    fails(&program.run("test --json nowhere/report.json"), 74, "cannot write the report");
    fails(&program.run("test --json ."), 74, "is a directory");
    fails(
        &program.run("test --broker mqtt://ann@host --password-file nowhere"),
        74,
        "cannot read the password",
    );
}

#[test]
fn every_report_that_cannot_be_written_is_found_before_the_broker_is_started() {
    // A broker that cannot be started would end it with 69.
    let program = Program::new().file("file", "");
    for flag in ["--json", "--junit", "--html", "--markdown"] {
        for place in ["nowhere/report", "file/report", "."] {
            let ended = program.run(&format!("test qos --broker-cmd none {flag} {place}"));
            fails(&ended, 74, &format!("cannot write the report ({}", reason(place)));
            for command in ["check none", "report none"] {
                fails(&program.run(&format!("{command} {flag} {place}")), 74, "cannot write the report");
            }
        }
    }
    let ended = program.run("test qos --broker-cmd none --history file/history --html report.html");
    fails(&ended, 74, "cannot keep the history");
    let left: Vec<_> = fs::read_dir(program.directory()).expect("a directory").flatten().collect();
    assert_eq!(left.len(), 1, "nothing is left behind: {left:?}");
}

fn reason(place: &str) -> &'static str {
    match place {
        "." => "is a directory",
        "file/report" => "not a directory",
        _ => "no such file or directory",
    }
}

#[test]
fn a_broker_that_is_not_there_is_unreachable() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let ended = Program::new().run(&format!("test --broker mqtt://ann:secret@127.0.0.1:{port}"));
    fails(&ended, 69, &format!("mqtt://ann:***@127.0.0.1:{port}; check the URL"));
    fails(&Program::new().run("test --broker-cmd nonexistent"), 69, "cannot be started");
    fails(&Program::new().run("test --broker-cmd false"), 69, "ended before it accepted a connection");
}

#[test]
fn a_broker_that_hangs_up_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    // It ends with the process, and accepts no more than the program dials.
    std::thread::spawn(move || listener.incoming().take(10).for_each(drop));
    fails(
        &Program::new().run(&format!("test --broker mqtt://127.0.0.1:{port}")),
        69,
        "no MQTT broker answers",
    );
}

#[test]
fn a_restart_cannot_be_judged_on_a_broker_by_url() {
    fails(&Program::new().run("test restart --broker mqtt://127.0.0.1"), 64, "cannot be restarted");
}

#[test]
fn what_is_no_history_is_said_to_be_none() {
    let program = Program::new().file("foreign", "#!/bin/sh\n").file("empty", "");
    fails(&program.run("check nowhere"), 74, "cannot read the history");
    fails(&program.run("check foreign"), 74, "not a history of mqtally: foreign;");
    fails(&program.run("check empty"), 74, "empty;");
    fails(&program.run("check ."), 74, "./history.mqtally;");
}

#[test]
fn a_history_that_is_cut_or_damaged_is_judged_up_to_where_it_is_whole() {
    let program = Program::new();
    assert_eq!(program.run(&format!("{SHORT} --history whole --quiet")).status, 0);
    let whole = fs::read(program.directory().join("whole/history.mqtally")).expect("a history");
    let spoil = |bytes: &[u8]| fs::write(program.directory().join("spoilt"), bytes).expect("written");
    let check = |bytes: &[u8], expect: &str| {
        spoil(bytes);
        let ended = program.run("check spoilt");
        assert_eq!(ended.status, 74, "{}", ended.stdout);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{}", ended.stderr);
        for part in ["\nUNKNOWN  ", "because the run was cut short", "Promises"] {
            assert!(ended.stdout.contains(part), "{part} is missing: {}", ended.stdout);
        }
    };
    check(&whole[..whole.len() / 2], "whole events, before its run did: spoilt;");
    // As a browser shows it, and wherever it was cut.
    spoil(&whole[..whole.len() / 2]);
    let ended = program.run("report spoilt --quiet --html spoilt.html --json spoilt.json");
    assert_eq!(ended.status, 74, "{}", ended.stderr);
    let page = fs::read_to_string(program.directory().join("spoilt.html")).expect("the page");
    assert!(page.contains("the run was cut short") && page.contains("Promises"), "{page}");
    assert!(program.directory().join("spoilt.json").exists());
    for twelfth in 0..12 {
        spoil(&whole[..whole.len() * twelfth / 12 + twelfth]);
        let ended = program.run("check spoilt --quiet");
        assert_eq!((ended.status, ended.stderr.lines().count()), (74, 1), "{twelfth}: {}", ended.stderr);
    }
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0x40;
    check(&damaged, "the history is damaged at byte");
    let mut newer = whole.clone();
    newer[9] += 1;
    spoil(&newer);
    fails(&program.run("check spoilt"), 74, "a history of a newer mqtally (format 4): spoilt;");
    let mut older = whole;
    older[9] -= 1;
    spoil(&older);
    fails(&program.run("check spoilt"), 74, "judge it with the version that wrote it, or record it again");
}

#[test]
fn a_report_is_made_again_in_every_format() {
    let program = Program::new();
    let formats =
        |name: &str| format!("--json {name}.json --junit {name}.xml --markdown {name}.md --html {name}.html");
    assert_eq!(program.run(&format!("{SHORT} --history kept --quiet {}", formats("first"))).status, 0);
    let again = program.run(&format!("report kept --baseline kept {}", formats("again")));
    assert_eq!(again.status, 0, "{}", again.stderr);
    assert!(again.stdout.contains("no difference that is worth a line"), "{}", again.stdout);
    let read = |name: &str| fs::read_to_string(program.directory().join(name)).expect(name);
    for format in ["json", "xml"] {
        assert_eq!(read(&format!("first.{format}")), read(&format!("again.{format}")));
    }
    assert!(read("again.md").contains("### Beside kept") && read("again.html").contains("Beside kept"));
}

#[test]
fn two_reports_cannot_share_standard_output() {
    let program = Program::new();
    fails(&program.run("test --json --html"), 64, "two reports cannot share standard output");
    fails(&program.run("test --junit nowhere/report.xml"), 74, "cannot write the report");
}

#[test]
fn an_interrupted_run_is_reported_as_far_as_it_went() {
    let program = Program::new();
    let mut command =
        program.command("test qos --protocol 5 --messages 1000000 --in-flight 10 -v --json report.json");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("a line");
    assert!(line.contains("started"), "{line}");
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(interrupt.success());
    stderr.read_to_string(&mut line).expect("UTF-8");
    let ended = child.wait_with_output().expect("it ends");
    let stdout = String::from_utf8(ended.stdout).expect("UTF-8");
    assert_eq!(ended.status.code(), Some(130), "{stdout}{line}");
    assert!(stdout.contains("UNKNOWN  ") && stdout.contains("interrupted"), "{stdout}");
    let json = fs::read_to_string(program.directory().join("report.json")).expect("a report");
    assert!(json.contains(r#""verdict": "unknown""#) && json.ends_with("}\n"), "{json}");
}

#[test]
fn the_embedded_broker_is_not_configured_by_what_is_around() {
    let file = Program::new().file("mqtally.toml", "[broker]\nusers = 'nowhere'\n");
    for program in [file, Program::new().env("MQTALLY_USERS", "nowhere")] {
        assert_eq!(program.run("broker --listen 127.0.0.1:0").status, 74, "a broker of the user's own is");
        let ended = program.run(&format!("{SHORT} --quiet"));
        assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    }
}

#[test]
fn several_runs_count_their_seeds_up() {
    let ended = Program::new().run(&format!("{SHORT} --runs 2"));
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("(seed 7)") && ended.stdout.contains("(seed 8)"),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
}

#[test]
fn the_scenarios_are_listed() {
    let ended = Program::new().run("test --list");
    assert_eq!(ended.status, 0);
    for scenario in ["qos", "session", "duplicates", "restart"] {
        assert!(ended.stdout.contains(&format!("  {scenario} ")), "{}", ended.stdout);
    }
}
