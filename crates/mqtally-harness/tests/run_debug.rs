mod support;
use mqtally_harness::process::BrokerSource;
use mqtally_harness::run::Plan;
use std::time::Instant;
use support::play_until;
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debug() {
    let data = tempfile::tempdir().unwrap();
    let source = if let Ok(t) = std::env::var("CMD") {
        BrokerSource::Command { template: t, directory: data.path().into() }
    } else {
        BrokerSource::Embedded {
            program: "/work/wt-run/target/release/mqtally".into(),
            data: data.path().into(),
        }
    };
    let p = Plan::new(fastrand::u32(..), 7);
    let t = Instant::now();
    let played = play_until(p, source, |e| {
        if !matches!(e, mqtally_harness::run::RunEvent::Progress { .. }) {
            println!("{:?} {e:?}", t.elapsed());
        }
        false
    })
    .await;
    println!("{:?} {:?} events {}", played.summary, played.troubles(), played.events.len());
    let t = Instant::now();
    let r = played.report();
    println!("judged in {:?}: {:?} {:?}", t.elapsed(), r.verdict, r.unknown_because);
    println!("{:?}", r.tally);
    for p in &r.promises {
        println!(
            "{:>4} {:?} {:?} {:?} {}",
            p.id, p.severity, p.verdict, p.obligations_by_protocol, p.violations
        );
    }
    for f in &r.findings {
        println!("{f:#?}");
    }
    for a in &r.applications {
        println!("{a:?}");
    }
    for a in &r.faults {
        println!("{a:?}");
    }
    for m in &r.messages {
        println!("{m:?}");
    }
}
