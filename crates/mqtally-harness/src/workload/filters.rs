//! Group `qos`, subscriptions: overlapping filters, one subscribed again, one given up; what wildcards do not match.

use super::Trouble;
use super::probe::Probe;
use super::probe::pubrel;
use super::publisher::Publisher;
use super::scene::{Lifetime, Scene};
use mqtally_proto::packet::{Ack, Packet, Publish, Qos};

/// Messages that flow while a subscription is replaced, and how often it is.
const FLOWING: usize = 200;
const REPLACED: usize = 10;
/// Messages whose handshake is under way when their filter is given up, and of these the ones that are released.
const BEGUN: usize = 5;
const RELEASED: usize = 2;

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

/// The same filter is subscribed again and again, at one QoS and at another, while messages flow: none is lost.
pub(crate) async fn replaced(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("replaced");
    let mut subscriber = scene.durable(&scene.client("replacing")).await?;
    subscriber.subscribe(&[(&topic, Qos::AtLeastOnce)]).await?;
    let mut publisher = Publisher::connect(&scene, "replaced-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::ExactlyOnce);
    let messages = source.loads(FLOWING);
    let replacing = async {
        for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce].into_iter().cycle().take(REPLACED) {
            subscriber.subscribe(&[(&topic, qos)]).await?;
        }
        Ok(subscriber)
    };
    let (_, mut subscriber) = tokio::try_join!(publisher.send_and_settle(messages), replacing)?;
    // At which of the two a message was delivered cannot be known: what is lost is proved by a sentinel at each.
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        subscriber.subscribe(&[(&topic, qos)]).await?;
        subscriber.take(&publisher.send_and_settle(vec![source.sentinel()]).await?).await?;
    }
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

/// A filter is given up in the middle of QoS 2 handshakes: those go on to their end.
pub(crate) async fn unfinished(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("unfinished");
    let mut subscriber = scene.durable(&scene.client("unfinished")).await?;
    subscriber.subscribe(&[(&topic, Qos::ExactlyOnce)]).await?;
    let mut publisher = Publisher::connect(&scene, "unfinished-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::ExactlyOnce);
    let sent = publisher.send_and_settle(source.loads(BEGUN)).await?;
    subscriber.hold();
    let begun: Vec<u16> = subscriber.take(&sent).await?.iter().filter_map(packet_id).collect();
    let (released, published) = begun.split_at(RELEASED.min(begun.len()));
    for packet_id in released {
        subscriber.send(Packet::Pubrec(Ack::success(*packet_id))).await?;
        subscriber.expect_ack("PUBREL", *packet_id, pubrel).await?;
    }
    subscriber.unsubscribe(&[&topic]).await?;
    for packet_id in released {
        subscriber.send(Packet::Pubcomp(Ack::success(*packet_id))).await?;
    }
    for packet_id in published {
        subscriber.send(Packet::Pubrec(Ack::success(*packet_id))).await?;
        subscriber.expect_ack_or_pong("PUBREL", *packet_id, pubrel).await?;
        subscriber.send(Packet::Pubcomp(Ack::success(*packet_id))).await?;
    }
    subscriber.ping().await?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

/// A level that begins with `$` is matched by no wildcard [MQTT-4.7.2-1]: neither what clients publish there, nor what
/// the broker says of itself.
pub(crate) async fn wildcards(scene: Scene) -> Result<(), Trouble> {
    let barrier = scene.topic("barrier");
    let own = scene.topic("#").replacen("mqtally/", "+/", 1);
    let mut filters = vec![(own.as_str(), Qos::AtMostOnce), ("+/broker/#", Qos::AtMostOnce)];
    // Elsewhere everybody's messages would come.
    if scene.broker.lock().await.can_restart() {
        filters.push(("#", Qos::AtMostOnce));
    }
    filters.push((&barrier, Qos::AtLeastOnce));
    let mut subscriber = Probe::open(&scene, &scene.client("wildcards"), Lifetime::CLEAN).await?;
    subscriber.subscribe(&filters).await?;
    publish_aside(&scene).await?;
    // What comes behind a later message had every chance to.
    let mut publisher = Publisher::connect(&scene, "wildcards-publisher").await?;
    let mut source = publisher.stream(&barrier, Qos::AtLeastOnce);
    subscriber.take(&publisher.send_and_settle(vec![source.sentinel()]).await?).await?;
    subscriber.ping().await?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

/// A message below `$`, at QoS 0, since a broker may do with it whatever it likes: also hang up over it.
async fn publish_aside(scene: &Scene) -> Result<(), Trouble> {
    let aside = format!("${}", scene.topic("aside"));
    let mut publisher = Probe::open(scene, &scene.client("aside-publisher"), Lifetime::CLEAN).await?;
    publisher.submit(&scene.source(&aside, Qos::AtMostOnce).load(b"aside").publish).await?;
    match publisher.ping().await {
        Ok(()) => publisher.disconnect().await,
        Err(Trouble::Closed { .. } | Trouble::Failed { .. }) => {
            publisher.ended();
            Ok(())
        }
        Err(trouble) => Err(trouble),
    }
}

fn packet_id(publish: &Publish) -> Option<u16> {
    publish.packet_id
}
