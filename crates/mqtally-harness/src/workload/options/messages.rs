//! What a message can ask for, and what a client can refuse to take: expiry, topic aliases, maximum packet size.

use crate::workload::probe::{Probe, connect};
use crate::workload::scene::Lifetime;
use crate::workload::{Publisher, Scene, Source, Trouble};
use bytestring::ByteString;
use mqtally_proto::packet::{Property, Publish, Qos};
use std::time::Duration;
use tokio::time::sleep;

/// Expiry of the message that is waited for and of the one that outlasts the wait, seconds; and how long it takes until
/// the first is gone for certain, given that brokers count whole seconds.
const SHORT_EXPIRY_S: u32 = 1;
const LONG_EXPIRY_S: u32 = 60;
const EXPIRY_WAIT: Duration = Duration::from_millis(2_300);
/// How long after its end a broker certainly knows of a connection's end.
const NOTICE: Duration = Duration::from_millis(200);
/// Largest packet that a client takes, and payloads that make a smaller and a larger one, bytes.
const PACKET_SIZE_MAX: u32 = 512;
const SMALL: usize = 64;
const LARGE: usize = 1_024;

/// Messages for a client that is away: what expires meanwhile does not come, what does not says what is left.
pub(crate) async fn expiry(scene: Scene) -> Result<(), Trouble> {
    let (name, topic) = (scene.client("expiry-away"), scene.topic("expiry"));
    let filters = [(topic.as_str(), Qos::ExactlyOnce)];
    let mut subscriber = scene.durable(&name).await?;
    subscriber.subscribe(&filters).await?;
    subscriber.disconnect().await?;
    let mut publisher = Publisher::connect(&scene, "expiry-publisher").await?;
    let mut streams = [Qos::AtLeastOnce, Qos::ExactlyOnce].map(|qos| publisher.stream(&topic, qos));
    // Time itself is what is tested here, and below: nothing could be awaited instead.
    sleep(NOTICE).await;
    for seconds in [SHORT_EXPIRY_S, LONG_EXPIRY_S] {
        let messages = streams.iter_mut().map(|stream| stream.load(b"expiring"));
        let messages = messages.map(|message| message.with(Property::MessageExpiryInterval(seconds)));
        let messages = messages.collect();
        publisher.send_and_settle(messages).await?;
    }
    sleep(EXPIRY_WAIT).await;
    let mut subscriber = scene.back(&name, &filters).await?;
    let sentinels = streams.iter_mut().map(Source::sentinel).collect();
    subscriber.take(&publisher.send_and_settle(sentinels).await?).await?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

/// A client that takes small packets only: a larger message is not sent to it, those around it are.
pub(crate) async fn packet_size(scene: Scene) -> Result<(), Trouble> {
    let (name, topic) = (scene.client("small-packets"), scene.topic("size"));
    scene.leaves_session(&name);
    let mut asked = connect(&scene, &name, Lifetime::DURABLE);
    asked.properties.push(Property::MaximumPacketSize(PACKET_SIZE_MAX));
    let mut subscriber = Probe::admitted(&scene, &name, asked).await?;
    subscriber.subscribe(&[(&topic, Qos::ExactlyOnce)]).await?;
    let mut publisher = Publisher::connect(&scene, "size-publisher").await?;
    let levels = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
    let mut streams = levels.map(|qos| publisher.stream(&topic, qos));
    for length in [SMALL, LARGE, SMALL] {
        let messages = streams.iter_mut().map(|stream| stream.load(&vec![0; length])).collect();
        publisher.send_and_settle(messages).await?;
    }
    let sentinels = streams.iter_mut().skip(1).map(Source::sentinel).collect();
    subscriber.take(&publisher.send_and_settle(sentinels).await?).await?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

/// A publisher that says each topic once and its alias from then on, and gives the alias to another topic; toward a
/// subscriber that allows the broker a few aliases, and toward one that allows none.
pub(crate) async fn aliases(scene: Scene) -> Result<(), Trouble> {
    let (one, two) = (scene.topic("alias/one"), scene.topic("alias/two"));
    let filter = scene.topic("alias/+");
    let mut subscribers = Vec::new();
    for (role, aliases) in [("alias-taking", 2), ("alias-declining", 0)] {
        let name = scene.client(role);
        scene.leaves_session(&name);
        let mut asked = connect(&scene, &name, Lifetime::DURABLE);
        asked.properties.push(Property::TopicAliasMaximum(aliases));
        let mut subscriber = Probe::admitted(&scene, &name, asked).await?;
        subscriber.subscribe(&[(&filter, Qos::ExactlyOnce)]).await?;
        subscribers.push(subscriber);
    }
    let mut publisher = Probe::open(&scene, &scene.client("alias-publisher"), Lifetime::CLEAN).await?;
    let mut sources = [one, two].map(|topic| scene.source(&topic, Qos::AtLeastOnce));
    for source in &mut sources {
        // The first with the topic's name, the others without.
        for is_named in [true, false, false] {
            let message = source.load(b"alias");
            publisher.submit(&aliased(&message.publish, is_named)).await?;
        }
    }
    let sentinels = sources.each_mut().map(Source::sentinel);
    for sentinel in &sentinels {
        publisher.submit(&sentinel.publish).await?;
    }
    for mut subscriber in subscribers {
        subscriber.take(&sentinels.each_ref().map(|sentinel| sentinel.id)).await?;
        subscriber.disconnect().await?;
    }
    publisher.disconnect().await
}

/// The same under alias 1, with its topic's name or without.
fn aliased(publish: &Publish, is_named: bool) -> Publish {
    let topic = if is_named { publish.topic.clone() } else { ByteString::new() };
    let properties = publish.properties.clone().with(Property::TopicAlias(1));
    Publish { topic, properties, ..publish.clone() }
}
