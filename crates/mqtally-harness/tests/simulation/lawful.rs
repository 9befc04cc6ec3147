//! Whatever a seed does to our broker and our clients, every promise is kept.

use crate::seeds;
use mqtally_harness::sim::{Simulated, Simulation};
use mqtally_history::report::{Report, Verdict};
use std::collections::BTreeMap;

/// Promises that random runs put to the test; the others need a hand that aims.
const EXERCISED: [&str; 29] = [
    "D1", "D2", "D3", "D5", "D6", "D8", "D9", "D11", "O1", "R1", "R2", "R5", "R6", "R7", "R9", "R10", "S1",
    "S2", "S5", "S6", "S9", "F1", "T1", "T2", "T3", "T7", "T8", "E2", "A2",
];

#[test]
fn no_seed_breaks_a_promise_and_none_is_idle() {
    let mut obligations: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds("MQTALLY_SIM_SEEDS", 200) {
        let simulated = Simulation::new(seed).run();
        let report = simulated.report();
        assert_kept(seed, &simulated, &report);
        for promise in &report.promises {
            *obligations.entry(promise.id).or_default() += promise.obligations;
        }
    }
    let idle: Vec<&str> = EXERCISED.into_iter().filter(|id| obligations[id] == 0).collect();
    assert_eq!(idle, Vec::<&str>::new());
}

/// A failure says how to see it again.
fn assert_kept(seed: u64, simulated: &Simulated, report: &Report) {
    let (verdict, because) = (report.verdict, &report.unknown_because);
    let found: Vec<_> = report.findings.iter().filter(|finding| finding.verdict != Verdict::Warn).collect();
    assert_eq!(verdict, Verdict::Kept, "again: mqtally sim --seed {seed}\n{because:?} {found:#?}");
    assert_eq!(simulated.broken_stores(), Vec::<String>::new(), "again: mqtally sim --seed {seed}");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    let bytes = |seed| {
        let simulated = Simulation::new(seed).run();
        (simulated.history(), format!("{:?}", simulated.report()))
    };
    for seed in 0..10 {
        assert_eq!(bytes(seed), bytes(seed), "seed {seed}");
    }
    assert_ne!(bytes(1).0, bytes(2).0);
}

#[test]
fn a_simulated_history_is_read_back_as_it_was() {
    let simulated = Simulation::new(3).run();
    let history = simulated.history();
    let reader = mqtally_history::journal::Reader::new(history.as_slice()).expect("a history");
    assert_eq!(reader.header(), &simulated.header);
    let events: Result<Vec<_>, _> = reader.collect();
    assert_eq!(events.expect("whole events"), simulated.events);
}
