//! Group `restart`: kill -9 of the broker in the middle of traffic, restart on the same data, everybody resumes.

use super::publisher::Publisher;
use super::scene::{Lifetime, Scene};
use super::source::Source;
use super::subscriber::Subscriber;
use super::{Probe, Trouble};
use crate::process::READY_LIMIT;
use crate::run::Feature;
use mqtally_history::event::BrokerEvent;
use mqtally_proto::packet::Qos;

/// How often the broker is killed.
const ROUNDS: usize = 4;
/// Messages of each round and QoS, unless the plan says otherwise.
const MESSAGES: u32 = 100;
/// Messages in flight when the broker dies.
const WINDOW: u16 = 20;

/// Traffic at QoS 1 and 2 to one subscriber that is there and one that is away; the broker is killed when a number
/// of acknowledgements that the seed chooses has come.
pub(crate) async fn kill(scene: Scene) -> Result<(), Trouble> {
    let filter = scene.topic("+");
    let filters = [(filter.as_str(), Qos::ExactlyOnce)];
    let present = Subscriber::connect(&scene, "restart-present", Lifetime::DURABLE, &filters).await?;
    let absent = Subscriber::connect(&scene, "restart-absent", Lifetime::DURABLE, &filters).await?;
    absent.peer.disconnect().await;
    let mut publisher = Publisher::with(&scene, "restart-publisher", Lifetime::DURABLE, WINDOW).await?;
    publisher.be_patient(READY_LIMIT);
    if scene.has(Feature::Retain) {
        retain(&scene, &mut publisher).await?;
    }
    let mut streams = [Qos::AtLeastOnce, Qos::ExactlyOnce]
        .map(|qos| publisher.stream(&scene.topic(&format!("qos{}", qos as u8)), qos));

    let mut random = scene.random("moments");
    for _ in 0..ROUNDS {
        let messages = 2 * u64::from(scene.plan.messages.unwrap_or(MESSAGES));
        let acknowledged = random.u64(..messages.saturating_sub(u64::from(WINDOW)).max(1));
        kill_mid_traffic(&scene, &mut publisher, &present, &mut streams, messages, acknowledged).await?;
    }
    absent.back().await?;
    if scene.has(Feature::Retain) {
        read_retained(&scene).await?;
    }
    let sentinels = publisher.send_and_settle(streams.iter_mut().map(Source::sentinel).collect()).await?;
    for subscriber in [&present, &absent] {
        subscriber.ask_aside(&scene).await?;
    }
    let owed =
        [&present, &absent].into_iter().flat_map(|to| sentinels.iter().map(|id| (to.name().clone(), *id)));
    scene.drain(owed.collect()).await?;
    present.stay(&scene);
    absent.stay(&scene);
    publisher.disconnect().await
}

/// Sends `messages` and kills the broker after `acknowledged` of them.
async fn kill_mid_traffic(
    scene: &Scene,
    publisher: &mut Publisher,
    subscriber: &Subscriber,
    streams: &mut [Source],
    messages: u64,
    acknowledged: u64,
) -> Result<(), Trouble> {
    let peer = publisher.peer.clone();
    let moment = peer.standing().completed + acknowledged;
    let traffic = async {
        for number in 0..messages {
            let stream = usize::try_from(number).unwrap_or_default() % streams.len();
            publisher.send(streams[stream].load(b"restart")).await?;
        }
        Ok::<(), Trouble>(())
    };
    let killing = async {
        peer.until("acknowledgement", |standing| standing.completed >= moment).await?;
        end_and_start(scene, false).await?;
        subscriber.peer.until_closed().await?;
        subscriber.back().await?;
        peer.until_closed().await?;
        peer.connect().await.map(drop)
    };
    // Whatever becomes of the traffic, the broker has to be there again afterwards.
    let (sent, killed) = tokio::join!(traffic, killing);
    killed?;
    sent?;
    publisher.settle().await
}

/// The broker ends, as it is asked to or by kill -9, and starts again on the same data.
pub(super) async fn end_and_start(scene: &Scene, asked: bool) -> Result<(), Trouble> {
    let mut broker = scene.broker.lock().await;
    // One that does not go when it is asked to has been killed.
    let went = asked && broker.terminate().await?;
    if !asked {
        broker.kill_9().await?;
    }
    scene.recorder.broker(if went { BrokerEvent::Terminated } else { BrokerEvent::Killed });
    broker.restart().await?;
    scene.recorder.broker(BrokerEvent::Started);
    Ok(())
}

/// A retained message that has to survive.
async fn retain(scene: &Scene, publisher: &mut Publisher) -> Result<(), Trouble> {
    let topic = scene.topic("retained/state");
    scene.leaves_retained(&publisher.peer.name, &topic);
    let message = publisher.stream(&topic, Qos::AtLeastOnce).load(b"retained").retained();
    publisher.send_and_settle(vec![message]).await.map(drop)
}

/// Subscribes anew, so that the history shows whether the retained message is still there. Brokers send it behind
/// the SUBACK, before they answer what comes next.
async fn read_retained(scene: &Scene) -> Result<(), Trouble> {
    let mut late = Probe::open(scene, &scene.client("restart-late"), Lifetime::CLEAN).await?;
    late.subscribe(&[(&scene.topic("retained/state"), Qos::AtLeastOnce)]).await?;
    late.ping().await?;
    late.disconnect().await
}
