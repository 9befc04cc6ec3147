//! Group `duplicates`: lawful duplicates are recognised, and new messages are not taken for duplicates.
//!
//! At QoS 1 a publisher that never saw its PUBACK has to send again, and a broker may deliver both. The subscribing
//! application tells them apart by what the envelope says (`sender`, `message_id`), never by packet id or DUP.

use super::Trouble;
use super::application::Application;
use super::probe::{Probe, puback};
use super::publisher::Publisher;
use super::scene::{Lifetime, Scene};
use super::source::Outgoing;
use super::subscriber::Subscriber;
use mqtally::connection::Closing;
use mqtally_proto::packet::{Publish, Qos};
use std::sync::Arc;

/// Messages of the publisher whose acknowledgements get lost.
const MESSAGES: u64 = 60;
/// Messages of each life of the publisher that restarts.
const MESSAGES_PER_LIFE: u64 = 3;

/// What happens to a message on its way to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is acknowledged.
    Plain,
    /// It is acknowledged, and the application fails on it.
    FailsInHandler,
    /// Its PUBACK is lost; the session is resumed and the message sent again with DUP.
    LosesAcknowledgement,
    /// Its PUBACK is lost with the session; the message is submitted anew.
    LosesSession,
}

/// PUBACKs that are lost, in a session that goes on and in one that ends; and a handler that fails now and then.
pub(crate) async fn lost_acknowledgement(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("alerts/door");
    let (application, subscriber) = applying(&scene, "deduplicating", &topic).await?;
    let name = scene.client("unlucky-publisher");
    let mut source = scene.source(&topic, Qos::AtLeastOnce);
    let mut random = scene.random("fates");
    for number in 1..=MESSAGES {
        let message = source.envelope(number, "alert", "Door open");
        let fate = fate(number, &mut random);
        if fate == Fate::FailsInHandler {
            application.fail_on(message.id);
        }
        submit(&scene, &name, &message, fate).await?;
    }
    let sentinel = source.sentinel();
    submit(&scene, &name, &sentinel, Fate::Plain).await?;
    finish(&scene, &application, subscriber, &sentinel).await
}

/// Each fate is certain to be met; which message meets it the seed decides.
fn fate(number: u64, random: &mut fastrand::Rng) -> Fate {
    match number {
        1 => Fate::LosesAcknowledgement,
        2 => Fate::LosesSession,
        3 => Fate::FailsInHandler,
        _ => match random.u8(..10) {
            0..2 => Fate::LosesAcknowledgement,
            2..4 => Fate::LosesSession,
            4 => Fate::FailsInHandler,
            _ => Fate::Plain,
        },
    }
}

async fn submit(scene: &Scene, name: &Arc<str>, message: &Outgoing, fate: Fate) -> Result<(), Trouble> {
    let lifetime = if fate == Fate::LosesSession { Lifetime::CLEAN } else { Lifetime::DURABLE };
    scene.leaves_session(name);
    let mut publisher = Probe::open(scene, name, lifetime).await?;
    let packet_id = publisher.fresh_packet_id();
    publisher.publish(&message.publish, packet_id, false).await?;
    if matches!(fate, Fate::Plain | Fate::FailsInHandler) {
        publisher.expect_ack("PUBACK", packet_id, puback).await?;
        return publisher.disconnect().await;
    }
    publisher.answer_waits().await?;
    publisher.cut(Closing::Fin).await;
    let publisher = Probe::open(scene, name, lifetime).await?;
    send_again(publisher, &message.publish, packet_id).await
}

/// In the same session with DUP and the same packet id, in another one as new.
async fn send_again(mut publisher: Probe, publish: &Publish, packet_id: u16) -> Result<(), Trouble> {
    let resumed = publisher.session_present();
    publisher.publish(publish, packet_id, resumed).await?;
    publisher.expect_ack("PUBACK", packet_id, puback).await?;
    publisher.disconnect().await
}

/// The lesson's trap: a publisher restarts, and its counter begins at 1 again under the same sender.
pub(crate) async fn restarted_publisher(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("alerts/temperature_high");
    let (application, subscriber) = applying(&scene, "remembering", &topic).await?;
    for life in ["first", "second"] {
        let mut publisher = Publisher::connect(&scene, "restarting-publisher").await?;
        let mut source = publisher.stream(&topic, Qos::AtLeastOnce);
        let content = format!("Temperature exceeded threshold, {life} life");
        let messages = (1..=MESSAGES_PER_LIFE).map(|number| source.envelope(number, "alert", &content));
        publisher.send_and_settle(messages.collect()).await?;
        let sentinel = source.sentinel();
        publisher.send_and_settle(vec![sentinel.clone()]).await?;
        application.until_handled(sentinel.id).await?;
        publisher.disconnect().await?;
    }
    application.report();
    subscriber.stay(&scene);
    Ok(())
}

/// A subscriber with an application behind it.
async fn applying(scene: &Scene, role: &str, topic: &str) -> Result<(Application, Subscriber), Trouble> {
    let application = Application::new(scene, &scene.client(role));
    let filters = [(topic, Qos::AtLeastOnce)];
    let handler = application.handler();
    let subscriber = Subscriber::with(scene, role, Lifetime::DURABLE, &filters, handler).await?;
    Ok((application, subscriber))
}

async fn finish(
    scene: &Scene,
    application: &Application,
    subscriber: Subscriber,
    sentinel: &Outgoing,
) -> Result<(), Trouble> {
    scene.drain(vec![(subscriber.name().clone(), sentinel.id)]).await?;
    application.until_handled(sentinel.id).await?;
    application.report();
    subscriber.stay(scene);
    Ok(())
}
