//! Group `qos`, what subscriptions can ask for: overlapping filters, a filter given up, receive maximum, No Local.

use super::probe::{Probe, connect, pubcomp, pubrec, pubrel};
use super::publisher::Publisher;
use super::scene::{Lifetime, Scene};
use super::{Source, Trouble};
use mqtally_proto::packet::{Ack, Packet, Property, Qos, Subscription};

/// Messages that the broker may have unacknowledged toward the slow client.
const RECEIVE_MAXIMUM: u16 = 3;

/// Two filters match; then both are given up, and nothing new may come through them.
pub(crate) async fn filters(scene: Scene) -> Result<(), Trouble> {
    let (exact, wildcard, other) = (scene.topic("a/b"), scene.topic("a/+"), scene.topic("c"));
    let mut subscriber = scene.durable(&scene.client("overlapping")).await?;
    let filters = [(exact.as_str(), Qos::AtMostOnce), (wildcard.as_str(), Qos::ExactlyOnce)];
    subscriber.subscribe(&filters).await?;
    let mut publisher = Publisher::connect(&scene, "overlapping-publisher").await?;
    let mut source = publisher.stream(&exact, Qos::ExactlyOnce);
    publisher.send_and_settle(source.loads(10)).await?;
    subscriber.take(&publisher.send_and_settle(vec![source.sentinel()]).await?).await?;

    subscriber.unsubscribe(&[&exact, &wildcard]).await?;
    subscriber.subscribe(&[(&other, Qos::AtLeastOnce)]).await?;
    publisher.send_and_settle(source.loads(10)).await?;
    // Nothing may come; what comes behind a message of another topic had every chance to.
    let mut barrier = publisher.stream(&other, Qos::AtLeastOnce);
    subscriber.take(&publisher.send_and_settle(vec![barrier.sentinel()]).await?).await?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

/// 5.0: a client that takes three at a time, and is slow.
pub(crate) async fn receive_maximum(scene: Scene) -> Result<(), Trouble> {
    let (name, topic) = (scene.client("slow"), scene.topic("slow"));
    scene.leaves_session(&name);
    let mut asked = connect(&scene, &name, Lifetime::DURABLE);
    asked.properties.0.push(Property::ReceiveMaximum(RECEIVE_MAXIMUM));
    let (mut subscriber, _) = Probe::request(&scene, &name, asked).await?;
    subscriber.subscribe(&[(&topic, Qos::ExactlyOnce)]).await?;
    let mut publisher = Publisher::connect(&scene, "slow-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::ExactlyOnce);
    let sent = publisher.send_and_settle(source.loads(10)).await?;

    subscriber.hold();
    subscriber.take(&sent[..usize::from(RECEIVE_MAXIMUM)]).await?;
    // A broker that sends more has had the time to.
    subscriber.ping().await?;
    let first: Vec<u16> = subscriber.held().iter().filter_map(packet_id).collect();
    for packet_id in &first {
        subscriber.send(Packet::Pubrec(Ack::success(*packet_id))).await?;
        subscriber.expect_ack("PUBREL", *packet_id, pubrel).await?;
    }
    subscriber.ping().await?;
    // Each PUBCOMP makes room for one more, while the others are still between PUBREC and PUBCOMP.
    for (packet_id, next) in first.iter().zip(usize::from(RECEIVE_MAXIMUM)..) {
        subscriber.send(Packet::Pubcomp(Ack::success(*packet_id))).await?;
        subscriber.take(&sent[..=next]).await?;
    }
    subscriber.release().await?;
    subscriber.take(&sent).await?;
    subscriber.take(&publisher.send_and_settle(vec![source.sentinel()]).await?).await?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

fn packet_id(packet: &Packet) -> Option<u16> {
    if let Packet::Publish(publish) = packet { publish.packet_id } else { None }
}

/// 5.0: what a client publishes itself does not come back to it.
pub(crate) async fn no_local(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("echo");
    let mut both = scene.durable(&scene.client("no-local")).await?;
    let filter = Subscription { no_local: true, ..Subscription::new(topic.as_str(), Qos::ExactlyOnce) };
    both.subscribe_to(vec![filter]).await?;
    let own = scene.source(&topic, Qos::ExactlyOnce).load(b"own");
    let packet_id = both.fresh_packet_id();
    both.publish(&own.publish, packet_id, false).await?;
    both.expect_ack("PUBREC", packet_id, pubrec).await?;
    both.send(Packet::Pubrel(Ack::success(packet_id))).await?;
    both.expect_ack("PUBCOMP", packet_id, pubcomp).await?;
    let mut publisher = Publisher::connect(&scene, "no-local-publisher").await?;
    let mut source: Source = publisher.stream(&topic, Qos::ExactlyOnce);
    publisher.send_and_settle(source.loads(1)).await?;
    both.take(&publisher.send_and_settle(vec![source.sentinel()]).await?).await?;
    both.disconnect().await?;
    publisher.disconnect().await
}
