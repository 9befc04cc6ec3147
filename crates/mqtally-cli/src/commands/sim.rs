//! `mqtally sim`: whole runs in virtual time, judged as any other.

use super::{Global, test};
use crate::exit::{self, ExitStatus, Failure};
use crate::report::{Judged, Outputs, Targets};
use clap::builder::RangedU64ValueParser;
use mqtally_harness::recorder::HISTORY_FILE;
use mqtally_harness::sim::{Simulated, Simulation};
use mqtally_history::timeline::Timeline;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Simulate whole runs of our publishers, broker and subscribers under faults, in virtual time, and judge them
///
/// No sockets, no threads, no clock: the seed decides everything, and the same seed gives the same history and the same
/// report, to the byte. Stores lose what was not synced, the fault proxy stands in the middle of each connection, processes
/// are killed at any step. The report is that of the last run, which is the first that is not kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  mqtally sim --runs 2000              two thousand seeds, from a random one on
  mqtally sim --seed 42 --history run  one seed; 'mqtally check run' judges it again
  mqtally sim --faults 'cut rst after s2c PUBREL 2,storm 3'   these strikes alone

Exit status: 0 kept, 1 broken, 2 unknown.")]
pub(crate) struct Args {
    /// Decides everything; a random one when left out, and printed always
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Repeat with the seeds that follow, until a run is not kept
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000_000))]
    runs: u64,
    /// What strikes instead of what the seed draws: names of faults and strikes such as 'cut rst after s2c PUBREL 2', each
    /// at a random time; none leaves out every fault
    #[arg(long, value_name = "FAULT,…|none")]
    faults: Option<String>,
    /// Keep the history of the last run in this directory, for 'mqtally check'
    #[arg(long, value_name = "DIR")]
    history: Option<PathBuf>,
    #[command(flatten)]
    results: Targets,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitStatus, Failure> {
    let outputs = args.results.prepare()?;
    let faults = test::faults(args.faults.as_deref())?;
    if let Some(fault) = faults.unsimulated() {
        let advice = "mqtally test plays it; a simulation has no listening sockets, and its seed decides how much is sent";
        return Err(Failure::usage(format!("'{fault}' cannot be simulated"), "--faults", advice));
    }
    args.history.as_deref().map(test::fresh_history).transpose()?;
    let seed = args.seed.unwrap_or_else(|| test::random().into());
    let (began, mut elapsed) = (Instant::now(), Duration::ZERO);
    for index in 0..args.runs {
        let last = Played::of(Simulation::new(seed.wrapping_add(index)).under(faults.clone()));
        elapsed += last.simulated.elapsed;
        if last.status() == ExitStatus::Success && index + 1 < args.runs {
            continue;
        }
        if !global.quiet {
            exit::complain(&pace(index + 1, elapsed, began.elapsed()));
        }
        return last.publish(args, outputs, global.quiet);
    }
    // `--runs` is at least 1.
    Ok(ExitStatus::Success)
}

/// A simulated run and what it came to.
struct Played {
    simulated: Simulated,
    judged: Judged,
    /// What our own stores broke, which no history shows.
    broken_stores: Vec<String>,
}

impl Played {
    fn of(simulation: Simulation) -> Self {
        let simulated = simulation.run();
        let mut timeline = Timeline::default();
        simulated.events.iter().for_each(|event| timeline.observe(event));
        let judged = Judged { report: simulated.report(), timeline };
        Self { judged, broken_stores: simulated.broken_stores(), simulated }
    }

    fn status(&self) -> ExitStatus {
        if self.broken_stores.is_empty() { self.judged.report.verdict.into() } else { ExitStatus::Broken }
    }

    fn publish(&self, args: &Args, outputs: Outputs, quiet: bool) -> Result<ExitStatus, Failure> {
        if let Some(directory) = &args.history {
            keep(directory, &self.simulated.history())?;
        }
        outputs.publish(&self.judged, None, quiet)?;
        for broken in &self.broken_stores {
            exit::complain(&format!("broken: {broken}"));
        }
        let status = self.status();
        if status != ExitStatus::Success && !quiet {
            exit::complain(&test::hint(self.judged.report.seed, args.history.as_deref()));
        }
        Ok(status)
    }
}

fn keep(directory: &Path, history: &[u8]) -> Result<(), Failure> {
    let path = directory.join(HISTORY_FILE);
    fs::write(&path, history).map_err(|error| {
        Failure::io("cannot keep the history", &path, &error, "name a directory with room in it")
    })
}

/// How much faster than the clock on the wall.
fn pace(runs: u64, elapsed: Duration, real: Duration) -> String {
    let ratio = elapsed.as_secs_f64() / real.as_secs_f64().max(1e-6);
    format!(
        "{runs} runs: {:.0} s of virtual time in {:.1} s, {ratio:.0} times real time",
        elapsed.as_secs_f64(),
        real.as_secs_f64()
    )
}
