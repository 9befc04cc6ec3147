//! Group `retained`: the last retained message of a topic is there for who comes later, and only for them.

use super::probe::Probe;
use super::publisher::Publisher;
use super::scene::{Lifetime, Scene};
use super::source::{Outgoing, Source};
use super::{Trouble, subscriber::Subscriber};
use mqtally_proto::packet::{Property, Qos, RetainHandling, Subscription};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

const LEVELS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
/// Of these topics a broker has to keep the retained message; one of QoS 0 it may discard.
const KEPT: usize = 2;

/// Expiry of a retained message that is waited for and of one that outlasts the wait, seconds; and how long it takes
/// until the first is gone for certain, given that brokers count whole seconds.
const SHORT_EXPIRY_S: u32 = 1;
const LONG_EXPIRY_S: u32 = 60;
const EXPIRY_WAIT: Duration = Duration::from_millis(2_300);

/// Two retained messages and one without RETAIN on a topic of each QoS: the second stays, also when its publisher has
/// left. Who was there before sees RETAIN=0 throughout; who comes later gets the second with RETAIN=1.
pub(crate) async fn last(scene: Scene) -> Result<(), Trouble> {
    let filter = scene.topic("state/+");
    let live_filters = [(filter.as_str(), Qos::ExactlyOnce)];
    let live = Subscriber::connect(&scene, "retained-live", Lifetime::CLEAN, &live_filters).await?;
    let mut publisher = Publisher::connect(&scene, "retained-publisher").await?;
    let topics = LEVELS.map(|qos| scene.topic(&format!("state/{}", qos as u8)));
    let mut streams = [0, 1, 2].map(|at| publisher.stream(&topics[at], LEVELS[at]));
    for topic in &topics {
        scene.leaves_retained(live.name(), topic);
    }
    for _ in 0..2 {
        publisher.send_and_settle(retained(&mut streams)).await?;
    }
    // Without RETAIN, so that nothing of what is kept changes.
    let passing = publisher.send_and_settle(streams.iter_mut().map(Source::sentinel).collect()).await?;
    let owed = passing.iter().skip(1).map(|message| (live.name().clone(), *message));
    scene.drain(owed.collect()).await?;
    publisher.disconnect().await?;

    let mut late = Vec::new();
    for (role, qos) in [("late-0", LEVELS[0]), ("late-1", LEVELS[1]), ("late-2", LEVELS[2])] {
        late.push(latecomer(&scene, role, &filter, qos).await?);
    }
    subscribe_again(&mut late[2], &filter).await?;
    resume_with_nothing_new(&scene, &filter).await?;
    end(&scene, "retained-last", late).await?;
    live.stay(&scene);
    Ok(())
}

fn retained(streams: &mut [Source]) -> Vec<Outgoing> {
    streams.iter_mut().map(|stream| stream.load(b"retained").retained()).collect()
}

/// Subscribes, and has what is kept for it. At a granted QoS of 0 nothing is owed.
async fn latecomer(scene: &Scene, role: &str, filter: &str, qos: Qos) -> Result<Probe, Trouble> {
    let mut late = Probe::open(scene, &scene.client(role), Lifetime::CLEAN).await?;
    late.subscribe(&[(filter, qos)]).await?;
    if qos > Qos::AtMostOnce {
        late.take_retained(KEPT).await?;
    }
    late.ping().await?;
    Ok(late)
}

/// The same subscription once more gets the retained messages once more [3.1.1:MQTT-3.8.4-3], [5.0:MQTT-3.3.1-9].
async fn subscribe_again(probe: &mut Probe, filter: &str) -> Result<(), Trouble> {
    probe.subscribe(&[(filter, Qos::ExactlyOnce)]).await?;
    probe.take_retained(KEPT).await?;
    probe.ping().await
}

/// A session that is taken up again subscribes to nothing, so nothing retained comes.
async fn resume_with_nothing_new(scene: &Scene, filter: &str) -> Result<(), Trouble> {
    let name = scene.client("retained-durable");
    let filters = [(filter, Qos::AtLeastOnce)];
    let mut before = scene.durable(&name).await?;
    before.subscribe(&filters).await?;
    before.take_retained(KEPT).await?;
    before.disconnect().await?;
    let mut after = scene.back(&name, &filters).await?;
    after.ping().await?;
    end(scene, "retained-resumed", vec![after]).await
}

/// What comes behind a message of another topic had every chance to come: sends one to all of `probes`, which then leave.
async fn end(scene: &Scene, role: &str, probes: Vec<Probe>) -> Result<(), Trouble> {
    let barrier = scene.topic(&format!("barrier/{role}"));
    let mut publisher = Publisher::connect(scene, role).await?;
    let mut source = publisher.stream(&barrier, Qos::AtLeastOnce);
    let mut waiting = probes;
    for probe in &mut waiting {
        probe.subscribe(&[(&barrier, Qos::AtLeastOnce)]).await?;
    }
    let sentinel = publisher.send_and_settle(vec![source.sentinel()]).await?;
    for mut probe in waiting {
        probe.take(&sentinel).await?;
        probe.disconnect().await?;
    }
    publisher.disconnect().await
}

/// An empty retained message clears the topic: it reaches who is there, and nothing waits for who comes later.
pub(crate) async fn cleared(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("cleared");
    let mut live = Probe::open(&scene, &scene.client("cleared-live"), Lifetime::CLEAN).await?;
    live.subscribe(&[(&topic, Qos::AtLeastOnce)]).await?;
    let mut publisher = Probe::open(&scene, &scene.client("clearing"), Lifetime::CLEAN).await?;
    let mut source = scene.source(&topic, Qos::AtLeastOnce);
    let message = source.load(b"retained").retained();
    scene.leaves_retained(publisher.name(), &topic);
    publisher.submit(&message.publish).await?;
    live.take(&[message.id]).await?;
    publisher.clear_retained(&topic).await?;
    live.ping().await?;

    let mut late = Probe::open(&scene, &scene.client("cleared-late"), Lifetime::CLEAN).await?;
    late.subscribe(&[(&topic, Qos::AtLeastOnce)]).await?;
    let sentinel = source.sentinel();
    publisher.submit(&sentinel.publish).await?;
    for mut subscriber in [live, late] {
        subscriber.take(&[sentinel.id]).await?;
        subscriber.ping().await?;
        subscriber.disconnect().await?;
    }
    publisher.disconnect().await
}

/// 5.0: what a subscription says about retained messages, at SUBSCRIBE and afterwards.
pub(crate) async fn handling(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("handling");
    let mut publisher = Publisher::connect(&scene, "handling-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::AtLeastOnce);
    scene.leaves_retained(&publisher.peer.name, &topic);
    publisher.send_and_settle(vec![source.load(b"retained").retained()]).await?;

    let mut asking = Probe::open(&scene, &scene.client("handling-asking"), Lifetime::CLEAN).await?;
    subscribe_for(&mut asking, &topic, RetainHandling::SendIfNew, 1).await?;
    subscribe_for(&mut asking, &topic, RetainHandling::SendIfNew, 0).await?;
    subscribe_for(&mut asking, &topic, RetainHandling::DoNotSend, 0).await?;
    subscribe_for(&mut asking, &topic, RetainHandling::Send, 1).await?;
    let mut declining = Probe::open(&scene, &scene.client("handling-declining"), Lifetime::CLEAN).await?;
    subscribe_for(&mut declining, &topic, RetainHandling::DoNotSend, 0).await?;
    subscribe_for(&mut declining, &topic, RetainHandling::SendIfNew, 0).await?;

    let mut publishing = Probe::open(&scene, &scene.client("as-published"), Lifetime::CLEAN).await?;
    let as_published = Subscription {
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
        ..Subscription::new(topic.as_str(), Qos::AtLeastOnce)
    };
    publishing.subscribe_to(vec![as_published]).await?;
    let live = [source.load(b"retained").retained(), source.sentinel()];
    let live = publisher.send_and_settle(live.into()).await?;
    for mut subscriber in [asking, declining, publishing] {
        subscriber.take(&live).await?;
        subscriber.disconnect().await?;
    }
    publisher.disconnect().await
}

/// Subscribes and waits for so many retained copies.
async fn subscribe_for(
    probe: &mut Probe,
    topic: &str,
    retain_handling: RetainHandling,
    copies: usize,
) -> Result<(), Trouble> {
    let filter = Subscription { retain_handling, ..Subscription::new(topic, Qos::AtLeastOnce) };
    probe.subscribe_to(vec![filter]).await?;
    probe.take_retained(copies).await?;
    probe.ping().await
}

/// 5.0: a retained message whose interval is over is not sent; one whose interval lasts says what is left of it.
pub(crate) async fn expiry(scene: Scene) -> Result<(), Trouble> {
    let mut publisher = Publisher::connect(&scene, "retained-expiry-publisher").await?;
    let name: Arc<str> = publisher.peer.name.clone();
    for (tail, seconds) in [("expiry/short", SHORT_EXPIRY_S), ("expiry/long", LONG_EXPIRY_S)] {
        let topic = scene.topic(tail);
        scene.leaves_retained(&name, &topic);
        let message = publisher.stream(&topic, Qos::AtLeastOnce).load(b"retained").retained();
        publisher.send_and_settle(vec![message.with(Property::MessageExpiryInterval(seconds))]).await?;
    }
    // Time itself is what is tested here: nothing could be awaited instead.
    sleep(EXPIRY_WAIT).await;
    let mut late = Probe::open(&scene, &scene.client("retained-expiry-late"), Lifetime::CLEAN).await?;
    late.subscribe(&[(&scene.topic("expiry/+"), Qos::AtLeastOnce)]).await?;
    late.take_retained(1).await?;
    late.ping().await?;
    end(&scene, "retained-expired", vec![late]).await?;
    publisher.disconnect().await
}
