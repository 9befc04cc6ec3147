//! The fewest strikes that still break what a run of group `faults` broke, and the command for it.

use super::setup::Setup;
use super::{again, random, unavailable, unrecorded};
use crate::exit::{Failure, complain};
use crate::history;
use mqtally_harness::nemesis::{Faults, Kind, Shrinking, Strike};
use mqtally_harness::process::BrokerUnderTest;
use mqtally_harness::recorder::Recorder;
use mqtally_harness::run::{self, Group, Offer, Plan};
use mqtally_history::report::{Finding, Report, Severity, Verdict};
use mqtally_proto::packet::Version;
use std::future::pending;
use std::time::{Duration, Instant};

/// Runs that a search may take.
const TRIES_MAX: usize = 40;
/// After so long no other run is begun.
const TIME_MAX: Duration = Duration::from_secs(90);

/// Searches for the fewest strikes that break what the worst finding of group `faults` is about, and says what it found;
/// nothing where there is no such finding. Ends early when `cancel` is ready.
pub(super) async fn shrink(
    setup: &Setup,
    report: &Report,
    cancel: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let Some(finding) = report.findings.iter().find(|finding| is_worth_it(finding)) else { return Ok(()) };
    let mut search = Search::begin(setup, report, finding).await?;
    let all = search.shrinking.least().len();
    if all < 2 {
        return Ok(());
    }
    let protocol = finding.protocol;
    complain(&format!(
        "shrinking: which of the {all} strikes of group faults on MQTT {protocol} break {}? (--no-shrink leaves it)",
        finding.promise
    ));
    let ended = tokio::select! {
        ended = search.run() => ended,
        () = cancel => Ok(()),
    };
    complain(&search.outcome(all, protocol, report.seed));
    ended
}

/// Whether it is broken, matters, and strikes may have caused it.
fn is_worth_it(finding: &Finding) -> bool {
    finding.verdict == Verdict::Broken
        && matches!(finding.severity, Severity::S1 | Severity::S2)
        && finding.group == Group::Faults.name()
}

struct Search<'a> {
    setup: &'a Setup,
    plan: Plan,
    promise: &'static str,
    shrinking: Shrinking<Strike>,
    tries: usize,
}

impl<'a> Search<'a> {
    async fn begin(setup: &'a Setup, report: &Report, finding: &Finding) -> Result<Search<'a>, Failure> {
        let version = if finding.protocol == "5" { Version::V5_0 } else { Version::V3_1_1 };
        let scratch = setup.scratch()?;
        let broker = BrokerUnderTest::start(setup.source(&scratch)?).await;
        let broker = broker.map_err(|error| unavailable(&error, setup))?;
        let mut plan = setup.plan(0, Offer::of(&broker).await)?;
        (plan.groups, plan.versions, plan.scenarios) = (vec![Group::Faults], vec![version], Vec::new());
        plan.seed = report.seed;
        let suspect = Kind::of_fault(finding.fault.split(' ').next().unwrap_or_default());
        let shrinking = Shrinking::suspecting(plan.strikes(version), suspect, TRIES_MAX);
        Ok(Search { setup, plan, promise: finding.promise, shrinking, tries: 0 })
    }

    async fn run(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + TIME_MAX;
        while Instant::now() < deadline
            && let Some(strikes) = self.shrinking.try_next()
        {
            let breaks = self.breaks(strikes).await?;
            self.tries += 1;
            self.shrinking.tell(breaks);
        }
        Ok(())
    }

    /// Whether these strikes, on a broker that begins anew, break the same promise.
    async fn breaks(&self, strikes: Vec<Strike>) -> Result<bool, Failure> {
        let mut plan = self.plan.clone();
        (plan.run, plan.faults) = (random(), Faults::exactly(strikes));
        let scratch = self.setup.scratch()?;
        let place = scratch.path();
        let broker = BrokerUnderTest::start(self.setup.source(&scratch)?).await;
        let broker = broker.map_err(|error| unavailable(&error, self.setup))?;
        let recorder = Recorder::create(place, &run::header(&plan, &broker, self.setup.profile))
            .map_err(|error| unrecorded(place, error))?;
        let played = run::run(plan, broker, &recorder, |_| (), pending()).await;
        played.map_err(|error| unrecorded(place, error))?;
        let (judged, _) = history::judge(place)?;
        let promises = &judged.report.promises;
        Ok(promises.iter().any(|it| it.id == self.promise && it.verdict == Verdict::Broken))
    }

    fn outcome(&self, all: usize, protocol: &str, seed: u64) -> String {
        let least = self.shrinking.least();
        let (promise, tries) = (self.promise, self.tries);
        if !self.shrinking.has_shrunk() {
            return format!("shrunk: no part of the {all} strikes broke {promise} again, in {tries} runs");
        }
        let list: Vec<String> = least.iter().map(ToString::to_string).collect();
        let (are, break_) = if least.len() == 1 { ("is", "breaks") } else { ("are", "break") };
        format!(
            "shrunk: {} of {all} strikes {are} enough, and {break_} {promise} on MQTT {protocol} ({tries} runs)\n  {}\n\
             again: mqtally {}",
            least.len(),
            list.join("\n  "),
            again::with_faults(seed, protocol, &list.join(","))
        )
    }
}
