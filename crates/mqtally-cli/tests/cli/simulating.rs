//! `mqtally sim`: the same seed gives the same bytes, in whatever process.

use crate::program::Program;
use std::fs;

#[test]
fn two_processes_give_the_same_bytes_for_the_same_seed() {
    let program = Program::new();
    for name in ["one", "two"] {
        let ended = program.run(&format!("sim --seed 11 --history {name} --json {name}.json --quiet"));
        assert_eq!((ended.status, ended.stderr.as_str()), (0, ""), "{}", ended.stdout);
    }
    let bytes = |name: &str| fs::read(program.directory().join(name)).expect("a file");
    assert_eq!(bytes("one/history.mqtally"), bytes("two/history.mqtally"));
    assert_eq!(bytes("one.json"), bytes("two.json"));
}

#[test]
fn a_simulated_history_is_judged_again_to_the_same_report() {
    let program = Program::new();
    let simulated = program.run("sim --seed 3 --history run --json");
    let checked = program.run("check run --json");
    assert_eq!((simulated.status, checked.status), (0, 0));
    assert_eq!(simulated.stdout, checked.stdout);
}

#[test]
fn many_runs_say_how_fast_they_were() {
    let ended = Program::new().run("sim --seed 1 --runs 3");
    assert_eq!(ended.status, 0, "{}", ended.stdout);
    assert!(
        ended.stderr.starts_with("3 runs: ") && ended.stderr.contains("times real time"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_history_that_is_there_is_not_overwritten() {
    let program = Program::new();
    assert_eq!(program.run("sim --seed 1 --history run --quiet").status, 0);
    let again = program.run("sim --seed 1 --history run");
    assert_eq!(again.status, 74);
    assert!(again.stderr.contains("there is a history already"), "{}", again.stderr);
}

#[test]
fn what_cannot_be_simulated_is_refused_and_not_passed_over() {
    let program = Program::new();
    for faults in ["windows", "refuse unlisten after c2s CONNECT", "cut rst after s2c PUBREL 2 window=50"] {
        let mut command = program.command("sim --seed 1 --faults");
        let ended = command.arg(faults).output().expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(64), "{faults}: {said}");
        assert!(said.contains("cannot be simulated") && said.contains("mqtally test"), "{faults}: {said}");
    }
}
