//! Scenarios on other brokers than the embedded one, and with fewer faults than they have.

use crate::program::{Ended, Program};
use crate::publishing::Broker;
use serde_json::Value;

/// Its alerts must survive the broker's end, and the broker ends.
const ENDS: &str = "name = \"ends\"\nduration = \"1s\"\n\
    [[streams]]\nname = \"alert\"\ntopic = \"alert\"\nqos = 1\nevery = \"100ms\"\nneeds = [\"must-arrive\"]\n\
    [[subscribers]]\nname = \"room\"\nfilters = [\"alert@1\"]\nsession = \"persistent\"\n\
    [[faults]]\nkind = \"cut\"\nof = \"room\"\nat = \"200ms\"\nlasts = \"100ms\"\n\
    [[faults]]\nkind = \"kill-broker\"\nat = \"500ms\"\n";

fn program() -> Program {
    Program::new().file("ends.toml", ENDS)
}

/// The kinds of faults that were injected, and the advice that stayed.
fn told(program: &Program, ended: &Ended) -> (Vec<String>, Value) {
    assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    let report = std::fs::read(program.directory().join("report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(report["needs"][0]["why"], "10 of 10 arrived", "{report:#}");
    let faults = report["faults"].as_array().expect("faults").iter();
    let faults = faults.map(|fault| fault["kind"].as_str().expect("a word").to_owned());
    (faults.collect(), report["advice"].clone())
}

#[test]
fn a_broker_that_is_not_ours_is_spared_and_that_is_said() {
    let program = program();
    let broker = Broker::start(&program, "127.0.0.1:0");
    let on_it = format!("test ends.toml --protocol 5 --broker mqtt://{} --json report.json", broker.socket());
    let ended = program.run(&on_it);
    // The broker does not end, so that nothing is to be advised against its end.
    assert_eq!(told(&program, &ended), (vec!["cut".to_owned()], Value::Array(Vec::new())));
    let left_out = "ends, faults of the broker on MQTT 5.0: left out, a broker given by URL cannot be killed; use \
                    --broker-cmd to judge restarts\n";
    assert_eq!(ended.stderr, left_out);
    let quiet = program.run(&format!("{on_it} --quiet"));
    assert_eq!((quiet.status, quiet.stderr.as_str()), (0, ""));
}

#[test]
fn without_faults_a_scenario_is_played_without_its_own() {
    let program = program();
    let ended =
        program.run("test ends.toml --faults none --protocol 5 --profile volatile --json report.json");
    assert_eq!(told(&program, &ended), (Vec::new(), Value::Array(Vec::new())));
    assert_eq!(ended.stderr, "");
}

#[test]
fn faults_that_nothing_would_play_are_refused() {
    let ended = program().run("test ends.toml --faults cut-publisher");
    assert_eq!((ended.status, ended.stdout.as_str()), (64, ""));
    let expect = "mqtally: nothing that is run has these faults: --faults; add group faults, or change the scenario's \
                  file; none leaves out its faults\n";
    assert_eq!(ended.stderr, expect);
}

#[test]
fn the_advice_rests_on_what_the_broker_was_seen_to_keep() {
    let program = program();
    let run = |more: &str| {
        let command = format!(
            "{} broker --config /dev/null {more} --listen 127.0.0.1:{{port}}",
            env!("CARGO_BIN_EXE_mqtally")
        );
        let mut test = program.command("test ends.toml --protocol 5 --json report.json --broker-cmd");
        Ended::from(test.arg(command).output().expect("the program runs"))
    };
    let durable = run("--data {dir}/data");
    assert_eq!(told(&program, &durable).1, Value::Array(Vec::new()));
    assert_eq!(durable.stderr, "");
    let advice =
        "a need cannot be met: ends: alert: it must arrive, and the broker ends, but declares to be volatile";
    let volatile = run("--volatile");
    assert!(volatile.stderr.starts_with(advice), "{}", volatile.stderr);
}
