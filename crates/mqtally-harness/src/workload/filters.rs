//! Group `qos`, subscriptions: overlapping filters, one subscribed again, one given up; what wildcards do not match.

use super::Trouble;
use super::probe::Probe;
use super::probe::pubrel;
use super::publisher::Publisher;
use super::scene::{Lifetime, Scene};
use super::source::Source;
use mqtally_proto::packet::{Ack, Packet, Properties, Publish, Qos, Subscription};

/// Messages that flow whenever a subscription is replaced, and how often it is.
const FLOWING: usize = 20;
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
    publisher.disconnect().await?;
    asked_for_again(&scene).await
}

/// Of two filters one is given up, and the other goes on; then it is asked for once more, and alone brings everything.
async fn asked_for_again(scene: &Scene) -> Result<(), Trouble> {
    let (topic, wildcard) = (scene.topic("again"), scene.topic("+"));
    let mut subscriber = scene.durable(&scene.client("asking-again")).await?;
    let mut publisher = Publisher::connect(scene, "again-publisher").await?;
    let mut streams = [Qos::AtLeastOnce, Qos::ExactlyOnce].map(|qos| publisher.stream(&topic, qos));
    for (given_up, other) in [(&topic, &wildcard), (&wildcard, &topic)] {
        subscriber.subscribe(&[(given_up, Qos::ExactlyOnce), (other, Qos::ExactlyOnce)]).await?;
        subscriber.unsubscribe(&[given_up]).await?;
        let other_goes_on = until_taken(&mut subscriber, &mut publisher, &mut streams).await;
        subscriber.subscribe(&[(given_up, Qos::ExactlyOnce)]).await?;
        // What is missing by then is lost.
        until_taken(&mut subscriber, &mut publisher, &mut streams).await?;
        other_goes_on?;
        subscriber.unsubscribe(&[other]).await?;
        until_taken(&mut subscriber, &mut publisher, &mut streams).await?;
        subscriber.unsubscribe(&[given_up]).await?;
    }
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

/// A few messages, and what ends the streams this far.
async fn until_taken(
    subscriber: &mut Probe,
    publisher: &mut Publisher,
    streams: &mut [Source],
) -> Result<(), Trouble> {
    publisher.send_and_settle(streams.iter_mut().flat_map(|stream| stream.loads(5)).collect()).await?;
    let sentinels = streams.iter_mut().map(Source::sentinel).collect();
    subscriber.take(&publisher.send_and_settle(sentinels).await?).await.map(drop)
}

/// Filters that match, of which brokers are known to think otherwise. What did not come through one of them is shown to
/// be missing by what comes through another.
pub(crate) async fn matching(scene: Scene) -> Result<(), Trouble> {
    let cases = [
        ("#", ""),
        ("a/#", "a"),
        ("b/+", "b/"),
        ("+/c", "/c"),
        ("d/+/e", "d//e"),
        ("+", "f g"),
        ("H/+", "H/\u{e9}"),
    ];
    let mut subscriber = scene.durable(&scene.client("matching")).await?;
    let mut publisher = Publisher::connect(&scene, "matching-publisher").await?;
    publish_beside(&scene, &mut subscriber, &mut publisher).await?;
    for (at, (filter, topic)) in cases.into_iter().enumerate() {
        let [filter, topic] = [filter, topic].map(|tail| scene.topic(&format!("{at}/{tail}")));
        let mut streams = [Qos::AtLeastOnce, Qos::ExactlyOnce].map(|qos| publisher.stream(&topic, qos));
        subscriber.subscribe(&[(&filter, Qos::ExactlyOnce)]).await?;
        publisher.send_and_settle(streams.iter_mut().flat_map(|stream| stream.loads(2)).collect()).await?;
        subscriber.subscribe(&[(&topic, Qos::ExactlyOnce)]).await?;
        let sentinels = streams.iter_mut().map(Source::sentinel).collect();
        subscriber.take(&publisher.send_and_settle(sentinels).await?).await?;
    }
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

/// Topics that are another than the filter's by a case, an empty level or the form of a letter: nothing may come of them.
/// What comes behind had every chance to.
async fn publish_beside(
    scene: &Scene,
    subscriber: &mut Probe,
    publisher: &mut Publisher,
) -> Result<(), Trouble> {
    let cases = [
        ("A", "a"),
        ("b", "b/"),
        ("c/", "c"),
        ("d/+", "d"),
        ("e/+", "e/f/g"),
        ("\u{e9}", "e\u{301}"),
        ("h i", "h  i"),
    ];
    for (filter, topic) in cases {
        let [filter, topic] = [filter, topic].map(|tail| scene.topic(&format!("beside/{tail}")));
        subscriber.subscribe(&[(&filter, Qos::ExactlyOnce)]).await?;
        let mut source = publisher.stream(&topic, Qos::AtLeastOnce);
        publisher.send_and_settle(source.loads(2)).await?;
    }
    Ok(())
}

/// The same filter is subscribed again and again, at one QoS and at another, while messages flow: none is lost.
pub(crate) async fn replaced(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("replaced");
    let mut subscriber = scene.durable(&scene.client("replacing")).await?;
    subscriber.subscribe(&[(&topic, Qos::AtLeastOnce)]).await?;
    let mut publisher = Publisher::connect(&scene, "replaced-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::ExactlyOnce);
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce].into_iter().cycle().take(REPLACED) {
        for message in source.loads(FLOWING / 2) {
            publisher.send(message).await?;
        }
        let filters = vec![Subscription::new(topic.as_str(), qos)];
        let asked = subscriber.ask_for(Properties::default(), filters).await?;
        // Whoever is quicker: these are under way while it has not read its answer.
        publisher.send_and_settle(source.loads(FLOWING / 2)).await?;
        subscriber.granted(asked).await?;
    }
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
    publisher.send_and_settle(source.loads(BEGUN)).await?;
    let begun: Vec<u16> = subscriber.hold_up_to(BEGUN).await?.iter().filter_map(packet_id).collect();
    let (released, published) = begun.split_at(RELEASED.min(begun.len() / 2));
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
