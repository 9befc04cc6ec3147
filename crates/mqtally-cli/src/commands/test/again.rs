//! The command that repeats a run.

use crate::exit::redact;
use std::path::Path;

/// Flags that say which runs, and where they go.
const WHICH_RUN: [&str; 3] = ["--seed", "--history", "--runs"];

/// How to see the same again, and where the evidence of this run is. Never a password.
pub(in crate::commands) fn hint(seed: u64, history: Option<&Path>) -> String {
    let typed: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let evidence = match history {
        Some(directory) => format!("evidence: mqtally check {}", quoted(&directory.to_string_lossy())),
        None => "to keep the evidence, add --history DIR".to_owned(),
    };
    format!("again: mqtally {}\n{evidence}", repeated(&typed, seed))
}

/// Flags that say which broker, each with a value.
const WHICH_BROKER: [&str; 8] = [
    "--broker",
    "--broker-cmd",
    "--broker-files",
    "--user",
    "--max-qos",
    "--profile",
    "--password-file",
    "--config",
];

/// The command for these strikes alone, on the same broker.
pub(super) fn with_faults(seed: u64, protocol: &str, strikes: &str) -> String {
    let typed: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    narrowed(&typed, seed, protocol, strikes)
}

fn narrowed(typed: &[String], seed: u64, protocol: &str, strikes: &str) -> String {
    let mut words = vec!["test faults".to_owned()];
    let mut rest = typed.iter();
    while let Some(word) = rest.next() {
        let flag = word.split_once('=').map_or(word.as_str(), |(flag, _)| flag);
        if !WHICH_BROKER.contains(&flag) {
            continue;
        }
        words.push(quoted(&redact(word)));
        if flag == word {
            words.extend(rest.next().map(|value| quoted(&redact(value))));
        }
    }
    words.push(format!("--protocol {protocol} --faults {} --seed {seed}", quoted(strikes)));
    words.join(" ")
}

fn repeated(typed: &[String], seed: u64) -> String {
    let mut words = Vec::new();
    let mut rest = typed.iter();
    while let Some(word) = rest.next() {
        match word.split_once('=') {
            _ if WHICH_RUN.contains(&word.as_str()) => drop(rest.next()),
            Some((flag, _)) if WHICH_RUN.contains(&flag) => {}
            _ => words.push(quoted(&redact(word))),
        }
    }
    words.push(format!("--seed {seed}"));
    words.join(" ")
}

/// As a shell wants it.
fn quoted(word: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(harmless) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_repeats_a_run_has_its_seed_and_no_password() {
        let check = |typed: &[&str], expect: &str| {
            let typed: Vec<String> = typed.iter().map(|&word| word.to_owned()).collect();
            assert_eq!(repeated(&typed, 42), expect);
        };
        check(&["test"], "test --seed 42");
        check(&["test", "--seed", "7", "qos"], "test qos --seed 42");
        check(&["test", "--seed=7", "--history", "h", "--only", "qos"], "test --only qos --seed 42");
        check(
            &["test", "--broker", "mqtt://ann:secret@host"],
            "test --broker 'mqtt://ann:***@host' --seed 42",
        );
        check(
            &["test", "--broker-cmd", "b -p {port} 'x'"],
            r"test --broker-cmd 'b -p {port} '\''x'\''' --seed 42",
        );
    }

    #[test]
    fn the_command_for_some_strikes_keeps_the_broker_and_nothing_else() {
        let check = |typed: &[&str], expect: &str| {
            let typed: Vec<String> = typed.iter().map(|&word| word.to_owned()).collect();
            let strikes = "cut rst after s2c PUBREL 2";
            assert_eq!(narrowed(&typed, 7, "5", strikes), expect);
        };
        let faults = "--protocol 5 --faults 'cut rst after s2c PUBREL 2' --seed 7";
        check(&["test"], &format!("test faults {faults}"));
        check(&["test", "qos", "faults", "--seed", "1", "--runs=9"], &format!("test faults {faults}"));
        check(
            &["test", "--broker", "mqtt://ann:secret@host", "--faults", "cut-publisher"],
            &format!("test faults --broker 'mqtt://ann:***@host' {faults}"),
        );
        check(
            &["test", "--broker-cmd=b -p {port}", "--profile", "durable"],
            &format!("test faults '--broker-cmd=b -p {{port}}' --profile durable {faults}"),
        );
    }
}
