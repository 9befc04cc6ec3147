mod support;
use mqtally_harness::process::BrokerSource;
use mqtally_harness::run::Plan;
use std::time::Instant;
use support::play_until;
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debug() {
    let data = tempfile::tempdir().unwrap();
    let source = BrokerSource::Embedded {
        program: "/work/wt-run/target/release/mqtally".into(),
        data: data.path().into(),
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
}
