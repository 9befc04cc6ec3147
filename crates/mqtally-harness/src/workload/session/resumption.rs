//! Handshakes that a cut interrupts: what was begun is taken up again, with the same packet ids.

use super::away::subscribed;
use crate::workload::probe::{pubcomp, pubrec, pubrel};
use crate::workload::scene::Lifetime;
use crate::workload::subscriber::Subscriber;
use crate::workload::{Probe, Publisher, Scene, Trouble};
use mqtally::connection::Closing;
use mqtally_proto::packet::{Ack, Packet, Publish, Qos};
use std::sync::Arc;
use std::time::Duration;

/// Messages that are held in each interrupted handshake, where the broker sends so many at a time.
const HELD: usize = 5;
/// How long a broker may take to close the connection of a client that was taken over.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(5);
/// How long a broker has to wait for acknowledgements.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Connections on which a PUBLISH is sent again before its PUBREL.
const SENT_AGAIN: usize = 3;
/// Connections that a broker may close over one packet before the client gives up.
const CLOSED_OVER: usize = 6;
/// A packet id that no stage uses.
const UNKNOWN_PACKET_ID: u16 = 4_711;

/// Received and not acknowledged at the cut: delivered again, with DUP and the same packet id.
pub(crate) async fn unacknowledged(scene: Scene) -> Result<(), Trouble> {
    let cases = [
        ("held-qos1-fin", Qos::AtLeastOnce, Closing::Fin),
        ("held-qos1-rst", Qos::AtLeastOnce, Closing::Rst),
        ("held-qos2-fin", Qos::ExactlyOnce, Closing::Fin),
        ("held-qos2-rst", Qos::ExactlyOnce, Closing::Rst),
    ];
    let [a, b, c, d] = cases.map(|(role, qos, how)| cut_unacknowledged(&scene, role, qos, how));
    tokio::try_join!(a, b, c, d)?;
    Ok(())
}

async fn cut_unacknowledged(scene: &Scene, role: &str, qos: Qos, how: Closing) -> Result<(), Trouble> {
    let mut act = Interrupted::begin(scene, role, qos).await?;
    act.subscriber.hold_up_to(HELD).await?;
    let owed = act.subscriber.held();
    act.end(scene, owed, |subscriber| subscriber.cut(how)).await
}

/// Released and not completed at the cut: PUBREL comes again, PUBLISH does not.
pub(crate) async fn unreleased(scene: Scene) -> Result<(), Trouble> {
    let [a, b] = [("release-fin", Closing::Fin), ("release-rst", Closing::Rst)]
        .map(|(role, how)| cut_before_pubcomp(&scene, role, how));
    tokio::try_join!(a, b)?;
    Ok(())
}

async fn cut_before_pubcomp(scene: &Scene, role: &str, how: Closing) -> Result<(), Trouble> {
    let mut act = Interrupted::begin(scene, role, Qos::ExactlyOnce).await?;
    let held = act.subscriber.hold_up_to(HELD).await?;
    let packet_ids: Vec<u16> = held.iter().filter_map(|publish| publish.packet_id).collect();
    for packet_id in &packet_ids {
        act.subscriber.send(Packet::Pubrec(Ack::success(*packet_id))).await?;
    }
    let mut released = Vec::new();
    while released.len() < packet_ids.len() {
        let fresh =
            |packet: &Packet| pubrel(packet).map(|ack| ack.packet_id).filter(|id| !released.contains(id));
        let packet_id = act.subscriber.expect("PUBREL of each PUBREC", fresh).await?;
        released.push(packet_id);
    }
    let owed = released.into_iter().map(|packet_id| Packet::Pubrel(Ack::success(packet_id))).collect();
    act.end(scene, owed, |subscriber| subscriber.cut(how)).await
}

/// Nothing is acknowledged for a while, and nothing is sent again meanwhile: TCP loses nothing.
pub(crate) async fn patience(scene: Scene) -> Result<(), Trouble> {
    let [a, b] = [("patience-qos1", Qos::AtLeastOnce), ("patience-qos2", Qos::ExactlyOnce)]
        .map(|(role, qos)| keep_waiting(&scene, role, qos));
    tokio::try_join!(a, b)?;
    Ok(())
}

async fn keep_waiting(scene: &Scene, role: &str, qos: Qos) -> Result<(), Trouble> {
    let mut act = Interrupted::begin(scene, role, qos).await?;
    let held = act.subscriber.hold_up_to(HELD).await?;
    // Of QoS 2 one is released and waits for PUBCOMP.
    let released = held.iter().find(|it| it.qos == Qos::ExactlyOnce).and_then(|it| it.packet_id);
    if let Some(packet_id) = released {
        act.subscriber.send(Packet::Pubrec(Ack::success(packet_id))).await?;
        act.subscriber.expect_ack("PUBREL", packet_id, pubrel).await?;
    }
    act.subscriber.linger(PATIENCE).await?;
    // Each is answered from where it stands.
    drop(act.subscriber.held());
    act.subscriber.release().await?;
    for publish in held {
        match publish.packet_id.filter(|packet_id| Some(*packet_id) == released) {
            Some(packet_id) => act.subscriber.send(Packet::Pubcomp(Ack::success(packet_id))).await?,
            None => act.subscriber.answer(&Packet::Publish(publish)).await?,
        }
    }
    act.end(scene, Vec::new(), |subscriber| subscriber.cut(Closing::Fin)).await
}

/// A second CONNECT under the same client id: the first connection ends, the session and what is in flight go on.
pub(crate) async fn takeover(scene: Scene) -> Result<(), Trouble> {
    let [a, b] = [("takeover-qos1", Qos::AtLeastOnce), ("takeover-qos2", Qos::ExactlyOnce)]
        .map(|(role, qos)| take_over(&scene, role, qos));
    tokio::try_join!(a, b)?;
    Ok(())
}

async fn take_over(scene: &Scene, role: &str, qos: Qos) -> Result<(), Trouble> {
    let mut act = Interrupted::begin(scene, role, qos).await?;
    act.subscriber.hold_up_to(HELD).await?;
    let owed = act.subscriber.held();
    scene.recorder.fault("takeover", Some(act.subscriber.name()));
    let Interrupted { name, topic, subscriber: old, mut publisher, mut source, .. } = act;
    let mut new = scene.back(&name, &[(&topic, qos)]).await?;
    old.until_ended(TAKEOVER_LIMIT).await;
    let sentinel = publisher.send_and_settle(vec![source.sentinel()]).await?;
    let owed = if new.session_present() { owed } else { Vec::new() };
    new.take_again(&sentinel, &owed).await?;
    new.disconnect().await?;
    publisher.disconnect().await
}

/// A durable subscriber with messages on their way to it.
struct Interrupted {
    name: Arc<str>,
    topic: String,
    qos: Qos,
    subscriber: Probe,
    publisher: Publisher,
    source: crate::workload::Source,
}

impl Interrupted {
    async fn begin(scene: &Scene, role: &str, qos: Qos) -> Result<Self, Trouble> {
        let (name, topic) = (scene.client(role), scene.topic(role));
        let subscriber = subscribed(scene, &name, &[(&topic, qos)]).await?;
        let mut publisher = Publisher::connect(scene, &format!("{role}-publisher")).await?;
        let mut source = publisher.stream(&topic, qos);
        publisher.send_and_settle(source.loads(HELD)).await?;
        Ok(Self { name, topic, qos, subscriber, publisher, source })
    }

    /// Cuts, returns, and drains to a sentinel; what is `owed` again has time to come.
    async fn end<F: Future<Output = ()>>(
        mut self,
        scene: &Scene,
        owed: Vec<Packet>,
        cut: impl FnOnce(Probe) -> F,
    ) -> Result<(), Trouble> {
        cut(self.subscriber).await;
        let mut subscriber = scene.back(&self.name, &[(&self.topic, self.qos)]).await?;
        let sentinel = self.publisher.send_and_settle(vec![self.source.sentinel()]).await?;
        let owed = if subscriber.session_present() { owed } else { Vec::new() };
        subscriber.take_again(&sentinel, &owed).await?;
        subscriber.ping().await?;
        subscriber.disconnect().await?;
        self.publisher.disconnect().await
    }
}

/// The publisher's hop: a PUBLISH sent again before PUBREL is answered again and forwarded once; a PUBREL sent again,
/// or for an id nobody knows, is answered with PUBCOMP. A QoS 2 witness that is never disturbed counts the copies.
pub(crate) async fn publisher(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("witnessed");
    let filters = [(topic.as_str(), Qos::ExactlyOnce)];
    let witness = Subscriber::connect(&scene, "witness", Lifetime::CLEAN, &filters).await?;
    let name = scene.client("resuming-publisher");
    let mut source = scene.source(&topic, Qos::ExactlyOnce);

    let messages = source.loads(2);
    for (message, lost) in messages.iter().zip([LostAnswer::Pubrec, LostAnswer::Pubcomp]) {
        publish_interrupted(&scene, &name, &message.publish, lost).await?;
    }
    let publisher = scene.durable(&name).await?;
    let unknown = Packet::Pubrel(Ack::success(UNKNOWN_PACKET_ID));
    let awaited = ("PUBCOMP for an unknown packet id", UNKNOWN_PACKET_ID);
    let mut publisher = insist(&scene, publisher, unknown, awaited, pubcomp).await?;
    let sentinel = source.sentinel();
    publish_whole(&mut publisher, &sentinel.publish, 99).await?;
    scene.drain(vec![(witness.name().clone(), sentinel.id)]).await?;
    witness.stay(&scene);
    publisher.disconnect().await
}

/// Which answer the publisher never gets to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LostAnswer {
    Pubrec,
    Pubcomp,
}

/// Publishes once, but loses one answer on the way, returns, and goes on from what it knows.
async fn publish_interrupted(
    scene: &Scene,
    name: &Arc<str>,
    publish: &Publish,
    lost: LostAnswer,
) -> Result<(), Trouble> {
    let mut publisher = scene.durable(name).await?;
    let packet_id = if lost == LostAnswer::Pubrec { 11 } else { 12 };
    publisher.publish(publish, packet_id, false).await?;
    if lost == LostAnswer::Pubcomp {
        publisher.expect_ack("PUBREC", packet_id, pubrec).await?;
        publisher.send(Packet::Pubrel(Ack::success(packet_id))).await?;
    }
    publisher.answer_waits().await?;
    publisher.cut(Closing::Fin).await;

    let mut publisher = scene.durable(name).await?;
    if !publisher.session_present() {
        // Without the session the packet id means nothing any more, and what became of the message is unknown.
        return publisher.disconnect().await;
    }
    if lost == LostAnswer::Pubrec {
        for _ in 1..SENT_AGAIN {
            send_again(scene, publisher, publish, packet_id).await?.cut(Closing::Fin).await;
            publisher = scene.durable(name).await?;
        }
        publisher = send_again(scene, publisher, publish, packet_id).await?;
    }
    let release = Packet::Pubrel(Ack::success(packet_id));
    insist(scene, publisher, release, ("PUBCOMP", packet_id), pubcomp).await?.disconnect().await
}

/// A publisher that knows of no PUBREC sends PUBLISH again, however often that happens to it.
async fn send_again(
    scene: &Scene,
    publisher: Probe,
    publish: &Publish,
    packet_id: u16,
) -> Result<Probe, Trouble> {
    let again = Publish { dup: true, packet_id: Some(packet_id), ..publish.clone() };
    insist(scene, publisher, Packet::Publish(again), ("PUBREC", packet_id), pubrec).await
}

/// Sends a packet until it is answered: on a new connection where the broker closes over it, as any client would.
async fn insist(
    scene: &Scene,
    mut publisher: Probe,
    packet: Packet,
    (awaited, packet_id): (&'static str, u16),
    kind: fn(&Packet) -> Option<&Ack>,
) -> Result<Probe, Trouble> {
    let mut closed = 0;
    loop {
        match publisher.ask(packet.clone(), awaited, packet_id, kind).await {
            Ok(()) => return Ok(publisher),
            Err(Trouble::Closed { .. }) if closed < CLOSED_OVER => {
                closed += 1;
                let name = publisher.name().clone();
                publisher.ended();
                publisher = scene.durable(&name).await?;
            }
            Err(trouble) => return Err(trouble),
        }
    }
}

async fn publish_whole(publisher: &mut Probe, publish: &Publish, packet_id: u16) -> Result<(), Trouble> {
    publisher.publish(publish, packet_id, false).await?;
    publisher.expect_ack("PUBREC", packet_id, pubrec).await?;
    publisher.send(Packet::Pubrel(Ack::success(packet_id))).await?;
    publisher.expect_ack("PUBCOMP", packet_id, pubcomp).await?;
    Ok(())
}
