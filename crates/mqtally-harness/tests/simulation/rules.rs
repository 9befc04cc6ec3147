//! The rules of the fault proxy are those that strike between sockets, in the same words.

use mqtally_harness::nemesis::Faults;
use mqtally_harness::sim::{Simulated, Simulation};
use mqtally_history::event::{Event, EventKind};
use mqtally_history::report::Verdict;

const SEEDS: std::ops::Range<u64> = 0..12;

fn under(seed: u64, faults: &str) -> Simulated {
    Simulation::new(seed).under(Faults::read(faults).expect(faults)).run()
}

fn faults(simulated: &Simulated) -> Vec<&str> {
    let kind = |event| match event {
        &Event { kind: EventKind::Fault { ref kind, .. }, .. } => Some(&**kind),
        _ => None,
    };
    simulated.events.iter().filter_map(kind).collect()
}

/// The strike is recorded as this fault, in one of the runs at least, and nothing is broken by it.
fn check(strike: &str, kind: &str) {
    let mut has_struck = false;
    for seed in SEEDS {
        let simulated = under(seed, strike);
        let (report, seen) = (simulated.report(), faults(&simulated));
        assert!(seen.iter().all(|fault| *fault == kind), "{strike}: {seen:?}");
        assert_eq!(report.verdict, Verdict::Kept, "seed {seed}, {strike}: {:#?}", report.findings);
        has_struck |= !seen.is_empty();
    }
    assert!(has_struck, "{strike} never struck");
}

#[test]
fn the_words_of_a_strike_mean_the_same_in_virtual_time() {
    check("cut rst after s2c PUBREL 2", "cut-subscriber");
    check("cut fin inside c2s PUBLISH 3 bytes=5", "cut-publisher");
    check("abort-connect", "aborted-connect");
    check("storm 3 within 8ms client=sub-*", "connect-storm");
    check("delay s2c 80ms jitter 300ms seed 5", "segmentation");
    check("throttle c2s 300B/s", "segmentation");
    check("split c2s 1", "segmentation");
    check("coalesce s2c 40ms", "segmentation");
    check("stall both after c2s PUBLISH for 4s", "slow-consumer");
    check("black-hole both after s2c PUBLISH 2", "half-open");
    check("refuse rst times 3", "aborted-connect");
    check("takeover after s2c PUBLISH 2", "takeover");
    check("kill-client before c2s PUBREL", "kill-client");
}

#[test]
fn a_deed_at_a_packet_is_done_to_whoever_has_it() {
    let simulated: Vec<Simulated> = SEEDS.map(|seed| under(seed, "kill-broker after c2s PUBREC")).collect();
    let faults: Vec<_> = simulated.iter().flat_map(|it| it.report().faults).collect();
    assert!(faults.iter().any(|fault| fault.kind == "kill-broker"), "{faults:?}");
}

#[test]
fn nothing_strikes_where_no_fault_is_wanted() {
    for seed in SEEDS {
        let simulated = under(seed, "none");
        assert_eq!(faults(&simulated), Vec::<&str>::new());
        assert_eq!(simulated.report().verdict, Verdict::Kept);
    }
}

#[test]
fn every_kind_of_fault_can_be_simulated() {
    for kind in mqtally_harness::nemesis::KINDS {
        let report = under(1, kind.name).report();
        assert_eq!(report.verdict, Verdict::Kept, "{}: {:#?}", kind.name, report.findings);
        assert!(report.faults.iter().any(|fault| fault.count > 0), "{} never struck", kind.name);
    }
}
