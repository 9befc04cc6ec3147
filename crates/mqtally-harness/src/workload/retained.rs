//! Group `retained`: the last retained message of a topic is there for who comes later, and only for them.
//!
//! Retained messages may come behind SUBACK and in their own time. So nobody here waits for one that has to come: each
//! subscriber makes sure that the broker has dealt with its SUBSCRIBE and stays for a while, and what has come by then
//! the history tells.

use super::Trouble;
use super::probe::Probe;
use super::publisher::Publisher;
use super::scene::{Lifetime, Scene};
use super::source::{Outgoing, Source};
use super::subscriber::Subscriber;
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::{Property, Qos, RetainHandling, Subscription};
use std::time::Duration;
use tokio::time::sleep;

const LEVELS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
/// How long a subscriber stays behind its last PINGRESP: after a second, what has not come is missing.
const STAY: Duration = Duration::from_millis(1_200);

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
    publisher.send_and_settle(retained(&mut streams)).await?;
    let last = publisher.send_and_settle(retained(&mut streams)).await?;
    // Without RETAIN, so that nothing of what is kept changes.
    let passing = publisher.send_and_settle(streams.iter_mut().map(Source::sentinel).collect()).await?;
    let owed = passing.iter().skip(1).map(|message| (live.name().clone(), *message));
    scene.drain(owed.collect()).await?;
    publisher.disconnect().await?;

    let mut late = vec![resumed(&scene, &filter, &last).await?];
    for qos in LEVELS {
        let name = scene.client(&format!("retained-late-{}", qos as u8));
        let mut subscriber = Probe::open(&scene, &name, Lifetime::CLEAN).await?;
        subscriber.subscribe(&[(&filter, qos)]).await?;
        subscriber.ping().await?;
        // The same subscription once more gets the retained messages once more [3.1.1:MQTT-3.8.4-3],
        // [5.0:MQTT-3.3.1-9].
        subscriber.subscribe(&[(&filter, qos)]).await?;
        late.push(subscriber);
    }
    stay(late).await?;
    live.stay(&scene);
    Ok(())
}

fn retained(streams: &mut [Source]) -> Vec<Outgoing> {
    streams.iter_mut().map(|stream| stream.load(b"retained").retained()).collect()
}

/// Somebody who subscribed, left and came back: a session that is taken up again subscribes to nothing, so nothing
/// retained comes.
async fn resumed(scene: &Scene, filter: &str, last: &[MessageId]) -> Result<Probe, Trouble> {
    let name = scene.client("retained-resumed");
    let filters = [(filter, Qos::AtLeastOnce)];
    let mut before = scene.durable(&name).await?;
    before.subscribe(&filters).await?;
    // What was still on its way at the end of the connection would come again, and lawfully.
    before.ping().await?;
    before.catch_up(last).await?;
    before.disconnect().await?;
    scene.back(&name, &filters).await
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

    let mut late = Probe::open(&scene, &scene.client("cleared-late"), Lifetime::CLEAN).await?;
    late.subscribe(&[(&topic, Qos::AtLeastOnce)]).await?;
    let sentinel = source.sentinel();
    publisher.submit(&sentinel.publish).await?;
    for subscriber in [&mut live, &mut late] {
        subscriber.take(&[sentinel.id]).await?;
    }
    stay(vec![live, late, publisher]).await
}

/// 5.0: what a subscription says about retained messages, at SUBSCRIBE and afterwards.
pub(crate) async fn handling(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("handling");
    let mut publisher = Publisher::connect(&scene, "handling-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::AtLeastOnce);
    scene.leaves_retained(&publisher.peer.name, &topic);
    publisher.send_and_settle(vec![source.load(b"retained").retained()]).await?;

    use RetainHandling::{DoNotSend, Send, SendIfNew};
    let mut asking = Probe::open(&scene, &scene.client("handling-asking"), Lifetime::CLEAN).await?;
    subscribe_each(&mut asking, &topic, &[SendIfNew, SendIfNew, DoNotSend, Send]).await?;
    let mut declining = Probe::open(&scene, &scene.client("handling-declining"), Lifetime::CLEAN).await?;
    subscribe_each(&mut declining, &topic, &[DoNotSend, SendIfNew]).await?;

    let mut new = Probe::open(&scene, &scene.client("handling-new"), Lifetime::CLEAN).await?;
    subscribe_each(&mut new, &topic, &[SendIfNew]).await?;

    let mut publishing = Probe::open(&scene, &scene.client("as-published"), Lifetime::CLEAN).await?;
    let as_published = Subscription {
        retain_as_published: true,
        retain_handling: DoNotSend,
        ..Subscription::new(topic.as_str(), Qos::AtLeastOnce)
    };
    publishing.subscribe_to(vec![as_published]).await?;
    let mut subscribers = vec![asking, declining, new, publishing];
    // Only a message of a later time can be told from a late copy of the one that was asked for.
    let live = [source.load(b"retained").retained(), source.sentinel()];
    let live = publisher.send_and_settle(live.into()).await?;
    for subscriber in &mut subscribers {
        subscriber.take(&live).await?;
    }
    stay(subscribers).await?;
    publisher.disconnect().await
}

/// Subscribes to the same topic with one handling after the other.
async fn subscribe_each(probe: &mut Probe, topic: &str, each: &[RetainHandling]) -> Result<(), Trouble> {
    for retain_handling in each.iter().copied() {
        let filter = Subscription { retain_handling, ..Subscription::new(topic, Qos::AtLeastOnce) };
        probe.subscribe_to(vec![filter]).await?;
        probe.ping().await?;
    }
    Ok(())
}

/// 5.0: a retained message whose interval is over is not sent; one whose interval lasts says what is left of it.
pub(crate) async fn expiry(scene: Scene) -> Result<(), Trouble> {
    let mut publisher = Publisher::connect(&scene, "retained-expiry-publisher").await?;
    for (tail, seconds) in [("expiry/short", SHORT_EXPIRY_S), ("expiry/long", LONG_EXPIRY_S)] {
        let topic = scene.topic(tail);
        scene.leaves_retained(&publisher.peer.name, &topic);
        let message = publisher.stream(&topic, Qos::AtLeastOnce).load(b"retained").retained();
        publisher.send_and_settle(vec![message.with(Property::MessageExpiryInterval(seconds))]).await?;
    }
    // Time itself is what is tested here: nothing could be awaited instead.
    sleep(EXPIRY_WAIT).await;
    let mut late = Probe::open(&scene, &scene.client("retained-expiry-late"), Lifetime::CLEAN).await?;
    late.subscribe(&[(&scene.topic("expiry/+"), Qos::AtLeastOnce)]).await?;
    stay(vec![late]).await?;
    publisher.disconnect().await
}

/// Lets everybody stay until what was going to come has come, and leave.
async fn stay(mut probes: Vec<Probe>) -> Result<(), Trouble> {
    for probe in &mut probes {
        probe.ping().await?;
    }
    // Together they need hardly longer than one of them: what came meanwhile waits to be taken.
    for (probe, time) in probes.iter_mut().zip([STAY].into_iter().chain(std::iter::repeat(Duration::ZERO))) {
        probe.linger(time).await?;
    }
    for probe in probes {
        probe.disconnect().await?;
    }
    Ok(())
}
