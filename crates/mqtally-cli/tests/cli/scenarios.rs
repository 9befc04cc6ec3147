//! Scenarios through the program: green where needs can be met, red where not, and files that make no sense.

use crate::program::{Ended, Program};
use serde_json::Value;
use std::fs;

const FACTORY: &str = include_str!("../../../../scenarios/factory.toml");

fn json(program: &Program, name: &str) -> Value {
    let bytes = fs::read(program.directory().join(name)).expect(name);
    serde_json::from_slice(&bytes).expect("JSON")
}

/// The needs on either version, as `stream need verdict`.
fn needs(report: &Value) -> Vec<String> {
    let word = |need: &Value, key: &str| need[key].as_str().expect("a word").to_owned();
    let line = |need: &Value| ["stream", "need", "verdict"].map(|key| word(need, key)).join(" ");
    report["needs"].as_array().expect("needs").iter().map(line).collect()
}

#[test]
fn the_scenarios_that_come_with_the_program_are_kept_under_their_faults() {
    let program = Program::new();
    let ended = program.run("test factory smart-home --seed 11 --runs 2 --json report.json");
    assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    let report = json(&program, "report.json");
    let factory = [
        "temperature may-lose kept",
        "anomaly must-arrive kept",
        "cooling must-arrive kept",
        "cooling must-not-happen-twice kept",
    ];
    let home = [
        "lamp newest-only kept",
        "security must-arrive kept",
        "door must-arrive kept",
        "door must-not-happen-twice kept",
    ];
    assert_eq!(needs(&report), [factory, factory, home, home].concat());
    assert_eq!(report["advice"], Value::Array(Vec::new()));
    let faults = report["faults"].as_array().expect("faults").iter().map(|fault| fault["kind"].as_str());
    let faults: Vec<&str> = faults.map(|kind| kind.expect("a word")).collect();
    for kind in ["cut", "leave", "kill-broker", "terminate-broker"] {
        assert!(faults.contains(&kind), "{kind} is missing: {faults:?}");
    }
    let valves = report["needs"].as_array().expect("needs").iter();
    let valves = valves.filter(|need| need["stream"] == "cooling" && need["promise"] == "N3");
    for valve in valves {
        assert_eq!(valve["why"], "0 ran twice, position 60 of 60");
    }
}

#[test]
fn alerts_at_qos_0_are_lost_under_cuts_as_the_advisor_says_before() {
    let text = FACTORY.replace("qos = 1\nevery = \"3s\"", "qos = 0\nevery = \"1s\"");
    let program = Program::new().file("my.toml", &text);
    let ended = program.run("test my.toml --protocol 5 --seed 4 --history kept --json report.json");
    assert_eq!(ended.status, 1, "{}{}", ended.stdout, ended.stderr);
    let before = "a need cannot be met: factory: anomaly: it must arrive and is published at QoS 0, which may be lost; \
                  change: qos = 1";
    assert!(ended.stderr.starts_with(before), "{}", ended.stderr);
    for part in ["✘  anomaly      must-arrive", "✘ N2 broken", "takes on message", "explain N2"] {
        assert!(ended.stdout.contains(part), "{part} is missing: {}", ended.stdout);
    }
    let report = json(&program, "report.json");
    assert!(needs(&report).contains(&"anomaly must-arrive broken".to_owned()));
    assert!(needs(&report).contains(&"cooling must-arrive kept".to_owned()));
    assert_eq!(report["advice"][0]["change"], "qos = 1");
    let happened = report["advice"][0]["happened"].as_str().expect("a sentence");
    assert!(happened.starts_with("not met in this run; "), "{happened}");

    let again = program.run("check kept --json again.json");
    assert_eq!((again.status, &again.stdout), (1, &ended.stdout));
    let read = |name: &str| fs::read(program.directory().join(name)).expect(name);
    assert_eq!(read("report.json"), read("again.json"));
}

#[test]
fn what_arrives_by_luck_is_met_and_the_advice_stays() {
    let text = "name = \"lucky\"\nduration = \"1s\"\n\
                [[streams]]\nname = \"alert\"\ntopic = \"alert\"\nevery = \"100ms\"\nneeds = [\"must-arrive\"]\n\
                [[subscribers]]\nname = \"room\"\nfilters = [\"alert@1\"]\n";
    let program = Program::new().file("lucky.toml", text);
    let ended = program.run("test ./lucky.toml --protocol 3.1.1 --json report.json");
    assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    let told = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("met in this run, by luck; 10 of 10 arrived on MQTT 3.1.1"), "{}", ended.stdout);
}

#[test]
fn an_application_that_acts_on_what_comes_again_is_red() {
    // QoS 1 without dedup, many messages and many cuts: what is sent again comes again.
    let text = FACTORY
        .replace("qos = 2", "qos = 1")
        .replace("every = \"2s\"", "every = \"100ms\"")
        .replace("again-every = \"18s\"", "again-every = \"3s\"")
        .replace("again-every = \"15s\"", "again-every = \"5s\"");
    let program = Program::new().file("my.toml", &text);
    let ended = program.run("test my.toml --protocol 5 --seed 4 --json report.json");
    let report = json(&program, "report.json");
    let told = report["advice"].as_array().expect("advice").iter();
    let change = "qos = 2 (and @2 in its filters), or dedup = true";
    assert!(told.into_iter().any(|advice| advice["change"] == change), "{report}");
    assert_eq!(ended.status, 1, "{}", ended.stdout);
    assert!(needs(&report).contains(&"cooling must-not-happen-twice broken".to_owned()));
    // It is the application that acts twice; the broker may deliver twice.
    assert!(
        report["findings"].as_array().expect("findings").iter().all(|it| it["promise"] == "N3"),
        "{report}"
    );
}

#[test]
fn a_rate_that_cannot_be_met_is_said() {
    let text = "name = \"fast\"\nduration = \"1h\"\nspeed = 10000\n\
                [[streams]]\nname = \"flood\"\ntopic = \"flood\"\nqos = 1\nevery = \"100ms\"\n\
                needs = [\"must-arrive\"]\n\
                [[subscribers]]\nname = \"room\"\nfilters = [\"flood@1\"]\n";
    let program = Program::new().file("fast.toml", text);
    let ended = program.run("test fast.toml --protocol 5 --json report.json");
    assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    let rate = &json(&program, "report.json")["rates"][0];
    assert_eq!(
        (&rate["planned"], &rate["taken"], &rate["met"]),
        (&36_000.into(), &36_000.into(), &false.into())
    );
    let told = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("instead of 100000.0") && told.contains("could not be met"), "{}", ended.stdout);
}

#[test]
fn a_group_and_a_scenario_can_be_played_in_one_run() {
    let text = "name = \"small\"\nduration = \"1s\"\n\
                [[streams]]\nname = \"state\"\ntopic = \"state\"\nqos = 1\nevery = \"200ms\"\nretained = true\n\
                needs = [\"newest-only\"]\n";
    let program = Program::new().file("small.toml", text);
    let arguments = "test qos small.toml --protocol 5 --messages 20 --in-flight 10 --json report.json";
    let ended = program.run(arguments);
    assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    let groups = json(&program, "report.json")["groups"].clone();
    assert_eq!((&groups[0]["name"], &groups[1]["name"]), (&"qos".into(), &"small".into()));
}

#[test]
fn what_can_be_played_is_listed() {
    let listed = Program::new().run("test --list");
    assert_eq!(listed.status, 0);
    for name in ["Groups", "  qos", "Scenarios", "  factory", "  smart-home"] {
        assert!(listed.stdout.contains(name), "{name} is missing: {}", listed.stdout);
    }
}

fn told(text: &str) -> String {
    let program = Program::new().file("my.toml", text);
    let Ended { status, stdout, stderr } = program.run("test my.toml");
    assert_eq!((status, stdout.as_str(), stderr.lines().count()), (64, "", 1), "{stderr}");
    stderr
}

#[test]
fn a_file_that_makes_no_sense_is_told_with_its_place_and_what_to_do() {
    let wrong = |from: &str, to: &str| {
        assert!(FACTORY.contains(from), "{from}");
        told(&FACTORY.replacen(from, to, 1))
    };
    let all = [
        wrong("duration =", "duraton ="),
        wrong("speed = 20", "speed = \"fast\""),
        wrong("needs = [\"may-lose\"]", "needs = [\"may-loose\"]"),
        wrong("needs = [\"may-lose\"]", "needs = [\"may-lose\", \"must-arrive\"]"),
        wrong("of = \"control-room\"", "of = \"control-rom\""),
        wrong("kind = \"kill-broker\"", "kind = \"kill-broker\"\nof = \"cooling\""),
        wrong("every = \"1s\"", "every = \"1ms\"\ncount = 60000"),
        wrong("every = \"1s\"", "every = \"1ms\""),
        wrong("duration = \"60s\"", "duration = \"90d\""),
        wrong("again-every = \"20s\"", "again-every = \"9ms\""),
        wrong("lasts = \"8s\"\nagain-every = \"20s\"", "lasts = \"0s\"\nagain-every = \"9ms\""),
        wrong("expiry = \"1h\"", "expiry = \"5s\""),
        wrong("step = \"open_valve_by\"", "step = \"valve\""),
        wrong("'{\"message_id\": {number}, \"open_valve_by\": 1}'", "'{\"message_id\": {number}'"),
        wrong("factory/+/alert@1", "$share/g/factory/+/alert@1"),
        wrong("factory/+/alert@1", "factory/+/alert@7"),
        wrong("name = \"factory\"", "name = \"factory"),
        told(""),
    ];
    insta::assert_snapshot!(all.concat());
}

#[test]
fn what_is_no_scenario_is_said_to_be_none() {
    let program = Program::new().file("binary.toml", "").file("same.toml", FACTORY);
    fs::write(program.directory().join("binary.toml"), b"name = \"\xff\"").expect("a file");
    let check = |arguments: &str, status: i32, expect: &str| {
        let ended = program.run(arguments);
        assert_eq!((ended.status, ended.stdout.as_str()), (status, ""), "{}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{}", ended.stderr);
    };
    check("test nowhere.toml", 74, "cannot read the scenario (no such file or directory): nowhere.toml;");
    check("test binary.toml", 64, "the scenario is no text: binary.toml, byte 8; write it in UTF-8");
    check("test factry", 64, "did you mean 'factory'?");
    check("test factory ./same.toml", 64, "two scenarios are called 'factory'");
}
