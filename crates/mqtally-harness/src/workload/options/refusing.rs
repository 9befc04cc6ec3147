//! Reason codes of 0x80 and more: they end a message, whoever says them.

use crate::workload::scene::Lifetime;
use crate::workload::{Probe, Publisher, Scene, Source, Trouble};
use mqtally::connection::Closing;
use mqtally_proto::packet::{Ack, Packet, Qos, ReasonCode};

/// Publishes where no client may, below `$SYS`: a broker that refuses says so, and delivers nothing.
pub(crate) async fn refused(scene: Scene) -> Result<(), Trouble> {
    let topic = format!("$SYS/{}", scene.topic("refused"));
    let barrier = scene.topic("refused-barrier");
    let mut witness = scene.durable(&scene.client("refused-witness")).await?;
    witness.subscribe(&[(&barrier, Qos::AtLeastOnce)]).await?;
    // A broker may refuse this, too; then nothing could be delivered in any case.
    match witness.subscribe(&[(&topic, Qos::ExactlyOnce)]).await {
        Ok(()) | Err(Trouble::NotAccepted { .. }) => {}
        Err(trouble) => return Err(trouble),
    }
    for (role, qos) in [("refused-qos1", Qos::AtLeastOnce), ("refused-qos2", Qos::ExactlyOnce)] {
        publish_in_vain(&scene, role, &topic, qos).await?;
    }
    let mut publisher = Publisher::connect(&scene, "refused-publisher").await?;
    let sentinel = publisher.stream(&barrier, Qos::AtLeastOnce).sentinel();
    witness.take(&publisher.send_and_settle(vec![sentinel]).await?).await?;
    witness.disconnect().await?;
    publisher.disconnect().await
}

async fn publish_in_vain(scene: &Scene, role: &str, topic: &str, qos: Qos) -> Result<(), Trouble> {
    let message = scene.source(topic, qos).load(b"refused");
    let mut publisher = Probe::open(scene, &scene.client(role), Lifetime::CLEAN).await?;
    match publisher.submit(&message.publish).await {
        Ok(_) => publisher.disconnect().await,
        // A broker may close instead of answering.
        Err(Trouble::Closed { .. } | Trouble::Failed { .. }) => Ok(()),
        Err(trouble) => Err(trouble),
    }
}

/// The subscriber answers with an error, and comes back: what it would not have is not sent again.
pub(crate) async fn declined(scene: Scene) -> Result<(), Trouble> {
    let (name, topic) = (scene.client("declining"), scene.topic("declined"));
    let filters = [(topic.as_str(), Qos::ExactlyOnce)];
    let mut subscriber = scene.durable(&name).await?;
    subscriber.subscribe(&filters).await?;
    let mut publisher = Publisher::connect(&scene, "declined-publisher").await?;
    let mut streams = [Qos::AtLeastOnce, Qos::ExactlyOnce].map(|qos| publisher.stream(&topic, qos));
    let messages = streams.iter_mut().flat_map(|stream| stream.loads(2)).collect();
    let sent = publisher.send_and_settle(messages).await?;
    for publish in subscriber.hold_up_to(sent.len()).await? {
        let no = Ack::with_reason(publish.packet_id.unwrap_or(0), ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR);
        let answer = if publish.qos == Qos::AtLeastOnce { Packet::Puback(no) } else { Packet::Pubrec(no) };
        subscriber.send(answer).await?;
    }
    // The broker has taken the answers.
    subscriber.ping().await?;
    subscriber.cut(Closing::Fin).await;
    let mut subscriber = scene.back(&name, &filters).await?;
    subscriber.ping().await?;
    let sentinels = streams.iter_mut().map(Source::sentinel).collect();
    subscriber.take(&publisher.send_and_settle(sentinels).await?).await?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}
