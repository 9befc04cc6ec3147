//! Receive maximum: the broker sends no more than the client takes at a time, and lets nothing else wait for it.

use crate::workload::probe::{Probe, connect, pubrel};
use crate::workload::scene::Lifetime;
use crate::workload::{Publisher, Scene, Trouble};
use mqtally::connection::Closing;
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::{Ack, Packet, Property, Publish, Qos};
use std::sync::Arc;

/// Messages that the broker may have unacknowledged toward the slow client.
const RECEIVE_MAXIMUM: usize = 3;

/// A durable client that takes so many at a time.
async fn taking(scene: &Scene, name: &Arc<str>, receive_maximum: usize) -> Result<Probe, Trouble> {
    scene.leaves_session(name);
    let mut asked = connect(scene, name, Lifetime::DURABLE);
    asked.properties.push(Property::ReceiveMaximum(u16::try_from(receive_maximum).unwrap_or(u16::MAX)));
    Probe::admitted(scene, name, asked).await
}

/// The client with all of its places taken, and how many those are: a broker with a smaller window of its own gets to
/// know a client that takes as few.
async fn filled(scene: &Scene, name: &Arc<str>, mut subscriber: Probe) -> Result<(Probe, usize), Trouble> {
    let mut maximum = RECEIVE_MAXIMUM;
    loop {
        let held = subscriber.hold_up_to(maximum).await?.len();
        if held >= maximum {
            return Ok((subscriber, maximum));
        }
        maximum = held;
        subscriber.cut(Closing::Fin).await;
        subscriber = taking(scene, name, maximum).await?;
    }
}

/// A client that takes three at a time, and is slow.
pub(crate) async fn receive_maximum(scene: Scene) -> Result<(), Trouble> {
    let (name, topic) = (scene.client("slow"), scene.topic("slow"));
    let mut subscriber = taking(&scene, &name, RECEIVE_MAXIMUM).await?;
    subscriber.subscribe(&[(&topic, Qos::ExactlyOnce)]).await?;
    let mut publisher = Publisher::connect(&scene, "slow-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::ExactlyOnce);
    let sent = publisher.send_and_settle(source.loads(10)).await?;

    let (mut subscriber, maximum) = filled(&scene, &name, subscriber).await?;
    // A broker that sends more has had the time to.
    subscriber.ping().await?;
    let first: Vec<u16> = subscriber.held().iter().filter_map(packet_id).collect();
    for packet_id in &first {
        subscriber.send(Packet::Pubrec(Ack::success(*packet_id))).await?;
        subscriber.expect_ack("PUBREL", *packet_id, pubrel).await?;
    }
    subscriber.ping().await?;
    // Each PUBCOMP makes room for one more, while the others are still between PUBREC and PUBCOMP.
    for (packet_id, next) in first.iter().zip(maximum..) {
        subscriber.send(Packet::Pubcomp(Ack::success(*packet_id))).await?;
        // A broker that sends more than it may has nothing left.
        subscriber.take_some(&sent, (next + 1).min(sent.len())).await?;
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

/// A client whose quota is used up: everything else still flows. It returns with a fresh quota, and each acknowledgement
/// lets one more come.
pub(crate) async fn used_up(scene: Scene) -> Result<(), Trouble> {
    let (name, topic) = (scene.client("used-up"), scene.topic("used-up"));
    let mut subscriber = taking(&scene, &name, RECEIVE_MAXIMUM).await?;
    subscriber.subscribe(&[(&topic, Qos::AtLeastOnce)]).await?;
    let mut publisher = Publisher::connect(&scene, "used-up-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::AtLeastOnce);
    let sent = publisher.send_and_settle(source.loads(10)).await?;
    let (mut subscriber, maximum) = filled(&scene, &name, subscriber).await?;
    everything_else(&scene, &mut publisher, &mut subscriber).await?;
    subscriber.cut(Closing::Fin).await;

    let mut subscriber = taking(&scene, &name, maximum).await?;
    if !subscriber.session_present() {
        subscriber.subscribe(&[(&topic, Qos::AtLeastOnce)]).await?;
    } else {
        acknowledge_one_by_one(&scene, &mut subscriber, (maximum, &sent)).await?;
    }
    let sentinel = publisher.send_and_settle(vec![source.sentinel()]).await?;
    subscriber.take(&sentinel).await?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

/// With no quota left: PINGRESP, SUBACK, UNSUBACK, the acknowledgements of what this client publishes, and QoS 0.
async fn everything_else(
    scene: &Scene,
    publisher: &mut Publisher,
    subscriber: &mut Probe,
) -> Result<(), Trouble> {
    let (own, unacknowledged) = (scene.topic("used-up-own"), scene.topic("used-up-qos0"));
    subscriber.ping().await?;
    subscriber.subscribe(&[(&unacknowledged, Qos::AtMostOnce)]).await?;
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        subscriber.submit(&scene.source(&own, qos).load(b"own").publish).await?;
    }
    let mut stream = publisher.stream(&unacknowledged, Qos::AtMostOnce);
    publisher.send_and_settle(vec![stream.load(b"flows")]).await?;
    subscriber.ping().await?;
    subscriber.unsubscribe(&[&unacknowledged]).await
}

/// The quota is full again; each PUBACK makes room for one more.
async fn acknowledge_one_by_one(
    scene: &Scene,
    subscriber: &mut Probe,
    (maximum, sent): (usize, &[MessageId]),
) -> Result<(), Trouble> {
    subscriber.hold();
    let (mut held, mut next) = (Vec::new(), maximum);
    while held.len() < next {
        match subscriber.expect("redelivery", publish_of).await {
            Ok(publish) => held.push(publish),
            // Only a long silence is a stall.
            Err(silent @ Trouble::Silent { .. }) => {
                return subscriber.linger(scene.plan.drain_limit).await.and(Err(silent));
            }
            Err(trouble) => return Err(trouble),
        }
    }
    for publish in &held {
        subscriber.send(Packet::Puback(Ack::success(publish.packet_id.unwrap_or(0)))).await?;
        next = (next + 1).min(sent.len());
        subscriber.take_some(sent, next).await?;
    }
    subscriber.release().await?;
    subscriber.take(sent).await.map(drop)
}

fn publish_of(packet: &Packet) -> Option<Publish> {
    if let Packet::Publish(publish) = packet { Some(publish.clone()) } else { None }
}

/// One message at a time on both hops, and a cut in front of every acknowledgement: what comes again comes next.
pub(crate) async fn one_by_one(scene: Scene) -> Result<(), Trouble> {
    let (name, topic) = (scene.client("one-by-one"), scene.topic("one-by-one"));
    let mut subscriber = taking(&scene, &name, 1).await?;
    subscriber.subscribe(&[(&topic, Qos::AtLeastOnce)]).await?;
    let mut publisher = Publisher::with(&scene, "one-by-one-publisher", Lifetime::CLEAN, 1).await?;
    let mut source = publisher.stream(&topic, Qos::AtLeastOnce);
    let sent = publisher.send_and_settle(source.loads(6)).await?;
    for message in &sent[..3] {
        subscriber.hold();
        subscriber.take(&[*message]).await?;
        subscriber.cut(Closing::Fin).await;
        subscriber = taking(&scene, &name, 1).await?;
        if !subscriber.session_present() {
            subscriber.subscribe(&[(&topic, Qos::AtLeastOnce)]).await?;
            break;
        }
        let again = subscriber.expect("redelivery", publish_of).await?;
        subscriber.answer(&Packet::Publish(again)).await?;
    }
    let sentinel = publisher.send_and_settle(vec![source.sentinel()]).await?;
    subscriber.take(&sentinel).await?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}
