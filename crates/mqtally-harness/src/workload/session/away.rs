//! Away and back: what was sent meanwhile is there, in order, once.

use crate::workload::{Probe, Publisher, Scene, Source, Trouble};
use mqtally::connection::Closing;
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::Qos;
use std::sync::Arc;

/// The lesson's test of a persistent session: two messages while connected, two while offline, all four arrive.
pub(crate) async fn lesson(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.lesson_topic("important/messages");
    let filters = [(topic.as_str(), Qos::AtLeastOnce)];
    let name = scene.client("persistent-test-client");
    let mut subscriber = scene.durable(&name).await?;
    subscriber.subscribe(&filters).await?;

    let mut publisher = Publisher::connect(&scene, "qos-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::AtLeastOnce);
    let online = important(&scene, &mut source, 1, "while connected", "persistent_test");
    subscriber.take(&publisher.send_and_settle(online).await?).await?;
    subscriber.disconnect().await?;

    let offline = important(&scene, &mut source, 3, "while offline", "offline_test");
    let offline = publisher.send_and_settle(offline).await?;
    let mut subscriber = scene.back(&name, &filters).await?;
    if subscriber.session_present() {
        subscriber.take(&offline).await?;
    }
    let sentinel = publisher.send_and_settle(vec![source.sentinel()]).await?;
    subscriber.take(&sentinel).await?;
    publisher.disconnect().await?;
    subscriber.disconnect().await
}

fn important(
    scene: &Scene,
    source: &mut Source,
    first: u64,
    when: &str,
    message_type: &str,
) -> Vec<crate::workload::Outgoing> {
    let numbers = first..first + 2;
    let messages = numbers.map(|number| {
        let content = format!("Important message {number} - {when}");
        let message = source.envelope(number, message_type, &content);
        scene.label(message.id, message_type, number);
        message
    });
    messages.collect()
}

/// How a client goes away.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    Disconnect,
    Cut(Closing),
}

/// Three clients with two subscriptions each go away, each in its own way, while a connected publisher goes on at
/// QoS 1 and 2.
pub(crate) async fn away(scene: Scene) -> Result<(), Trouble> {
    let ways = [Leaving::Disconnect, Leaving::Cut(Closing::Fin), Leaving::Cut(Closing::Rst)];
    let roles = ["away-disconnect", "away-fin", "away-rst"];
    let (exact, wildcard) = (scene.topic("exact"), scene.topic("wild/+"));
    let filters = [(exact.as_str(), Qos::ExactlyOnce), (wildcard.as_str(), Qos::ExactlyOnce)];
    let names = roles.map(|role| scene.client(role));

    let mut subscribers = Vec::new();
    for name in &names {
        let mut subscriber = scene.durable(name).await?;
        subscriber.subscribe(&filters).await?;
        subscribers.push(subscriber);
    }
    let mut publisher = Publisher::connect(&scene, "away-publisher").await?;
    let mut streams = streams(&scene, &mut publisher);

    let before = send_all(&mut publisher, &mut streams, 10).await?;
    for (mut subscriber, way) in subscribers.into_iter().zip(ways) {
        subscriber.take(&before).await?;
        match way {
            Leaving::Disconnect => subscriber.disconnect().await?,
            Leaving::Cut(how) => subscriber.cut(how).await,
        }
    }
    let mut sent = send_all(&mut publisher, &mut streams, 40).await?;
    let mut subscribers = Vec::new();
    for name in &names {
        subscribers.push(scene.back(name, &filters).await?);
    }
    sent.extend(send_all(&mut publisher, &mut streams, 10).await?);
    let sentinels = streams.iter_mut().map(Source::sentinel).collect();
    let sentinels = publisher.send_and_settle(sentinels).await?;
    for mut subscriber in subscribers {
        subscriber.take(&sentinels).await?;
        subscriber.catch_up(&sent).await?;
        subscriber.disconnect().await?;
    }
    publisher.disconnect().await
}

/// Both QoS on both filters, so that after each return every filter is seen to deliver.
fn streams(scene: &Scene, publisher: &mut Publisher) -> Vec<Source> {
    let topics = [scene.topic("exact"), scene.topic("wild/one")];
    let levels = [Qos::AtLeastOnce, Qos::ExactlyOnce];
    let pairs = topics.iter().flat_map(|topic| levels.map(|qos| (topic, qos)));
    pairs.map(|(topic, qos)| publisher.stream(topic, qos)).collect()
}

async fn send_all(
    publisher: &mut Publisher,
    streams: &mut [Source],
    count: usize,
) -> Result<Vec<MessageId>, Trouble> {
    let messages =
        (0..count).flat_map(|_| streams.iter_mut().map(|stream| stream.load(b"away")).collect::<Vec<_>>());
    let messages = messages.collect();
    publisher.send_and_settle(messages).await
}

/// A durable subscriber on `filters` that is connected.
pub(super) async fn subscribed(
    scene: &Scene,
    name: &Arc<str>,
    filters: &[(&str, Qos)],
) -> Result<Probe, Trouble> {
    let mut probe = scene.durable(name).await?;
    probe.subscribe(filters).await?;
    Ok(probe)
}
