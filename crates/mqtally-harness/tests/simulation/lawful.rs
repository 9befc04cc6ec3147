//! Whatever a seed does to our broker and our clients, every promise is kept.

use mqtally_harness::sim::Simulation;
use mqtally_history::report::Verdict;

/// Seeds of an ordinary test; `MQTALLY_SIM_SEEDS` asks for more.
const SEEDS: u64 = 60;

#[test]
fn no_seed_breaks_a_promise() {
    let seeds = std::env::var("MQTALLY_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let began = std::time::Instant::now();
    let mut virt = std::time::Duration::ZERO;
    let mut bad = Vec::new();
    let mut events = 0;
    for seed in 0..seeds {
        let r = std::panic::catch_unwind(|| Simulation::new(seed).run());
        let Ok(simulated) = r else { bad.push((seed, "panic".to_owned())); continue };
        virt += simulated.elapsed;
        events += simulated.events.len();
        let report = simulated.report();
        if report.verdict != Verdict::Kept {
            bad.push((seed, format!("{:?} {:?}", report.unknown_because, report.findings.iter().filter(|f| f.verdict != Verdict::Warn).map(|f| (f.promise, &f.message)).take(3).collect::<Vec<_>>())));
        }
    }
    eprintln!("{virt:?} in {:?}, {} events; {} bad", began.elapsed(), events, bad.len());
    for b in bad.iter().take(12) { eprintln!("{b:?}"); }
    assert!(bad.is_empty());
}
