mod support;
use mqtally_harness::run::Group;
use support::{plan, play, url};
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debug() {
    let mut p = plan(&[Group::Qos]);
    p.versions.truncate(1);
    p.drain_limit = std::time::Duration::from_secs(2);
    let played = play(p, url(([127, 0, 0, 1], 18883).into())).await;
    println!("{:?} {:?}", played.summary, played.troubles());
    for (n, e) in played.events.iter().enumerate() {
        println!("{n} {e:?}");
    }
}
