//! A schedule of strikes that breaks a promise, and the one strike of it that it takes.

mod support;

use mqtally_harness::nemesis::{Faults, Kind, Shrinking, Strike};
use mqtally_harness::run::{Group, Plan};
use mqtally_history::report::Verdict;
use mqtally_proto::packet::Version;
use support::mutant::{Mutant, Proxy};
use support::{Embedded, plan, play, url};

const TRIES_MAX: usize = 60;

fn faults(faults: Faults) -> Plan {
    let mut plan = plan(&[Group::Faults]);
    (plan.versions, plan.faults) = (vec![Version::V5_0], faults);
    plan
}

/// Whether a broker that loses a message behind a torn PUBREC is seen to lose one under these strikes.
async fn breaks(strikes: Vec<Strike>) -> bool {
    let plan = faults(Faults::exactly(strikes));
    let broker = Embedded::start().await;
    let proxy = Proxy::start(broker.address, Mutant::LoseBehindTornPubrec, plan.run).await;
    let report = play(plan, url(proxy.address)).await.report();
    report.promises.iter().any(|promise| promise.id == "D1" && promise.verdict == Verdict::Broken)
}

/// The defect shows only where a link ends inside a PUBREC of the subscriber's; two of the thirty-six cuts do that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_is_shrunk_to_the_one_cut_that_shows_the_defect() {
    let kind = Kind::from_name("cut-subscriber").expect("a kind");
    let schedule = faults(Faults::read("cut-subscriber,takeover").expect("a list")).strikes(Version::V5_0);
    assert!(breaks(schedule.clone()).await, "the defect does not show");
    let mut shrinking = Shrinking::suspecting(schedule, Some(kind), TRIES_MAX);
    while let Some(strikes) = shrinking.try_next() {
        let breaks = breaks(strikes).await;
        shrinking.tell(breaks);
    }
    let least: Vec<String> = shrinking.least().iter().map(ToString::to_string).collect();
    assert_eq!(least.len(), 1, "{least:#?}");
    assert!(least[0].contains(" inside c2s PUBREC"), "{least:#?}");
}
