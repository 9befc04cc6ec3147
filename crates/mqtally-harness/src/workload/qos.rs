//! Group `qos`: each QoS does what it says.
//!
//! First the lesson's three streams to a subscriber with the lesson's filters, then bulk streams at QoS 0, 1 and 2
//! through several in-flight windows to subscribers at different granted QoS.

use super::Trouble;
use super::publisher::Publisher;
use super::scene::{Lifetime, Scene};
use super::source::{Outgoing, Source};
use super::subscriber::Subscriber;
use bytes::Bytes;
use mqtally_history::marker::{MARKER_LEN, MessageId};
use mqtally_proto::packet::{Properties, Property, Qos};
use std::sync::Arc;
use tokio::task::JoinSet;

/// The lesson's subscriptions.
const LESSON_FILTERS: [(&str, Qos); 4] = [
    ("sensors/+", Qos::AtMostOnce),
    ("alerts/+", Qos::AtLeastOnce),
    ("actuators/+/+", Qos::ExactlyOnce),
    ("important/messages", Qos::AtLeastOnce),
];

/// The lesson's comparison: topic, QoS, content, message type.
const LESSON_MESSAGES: [(&str, Qos, &str, &str); 3] = [
    ("sensors/temperature", Qos::AtMostOnce, "23.5°C", "sensor_data"),
    ("alerts/temperature_high", Qos::AtLeastOnce, "Temperature exceeded threshold!", "alert"),
    ("actuators/valve/control", Qos::ExactlyOnce, "CLOSE_VALVE", "control_command"),
];

/// In-flight windows of the bulk publishers.
const WINDOWS: [u16; 4] = [1, 10, 50, 200];
/// Messages of each bulk stream through a window of 1, and through the others.
const MESSAGES_ONE_BY_ONE: u32 = 200;
const MESSAGES: u32 = 1_500;
/// Messages of a bulk stream before its publisher waits until they have arrived: many brokers keep no more than 1,000
/// messages for a client that is slower than its publishers.
const MESSAGES_AHEAD_MAX: u32 = 100;
/// Largest payload of the usual messages, and of the few large ones, bytes.
const PAYLOAD_BYTES_MAX: usize = 512;
const LARGE_PAYLOAD_BYTES: usize = 64 * 1_024;
/// One message in so many is large.
const LARGE_EVERY: u32 = 200;

/// The lesson's three streams, one message each, and the table that it prints.
pub(crate) async fn lesson(scene: Scene) -> Result<(), Trouble> {
    let filters: Vec<(String, Qos)> =
        LESSON_FILTERS.map(|(filter, qos)| (scene.lesson_topic(filter), qos)).into();
    let filters: Vec<(&str, Qos)> = filters.iter().map(|(filter, qos)| (filter.as_str(), *qos)).collect();
    let subscriber = Subscriber::connect(&scene, "reliable-subscriber", Lifetime::DURABLE, &filters).await?;
    let mut publisher = Publisher::connect(&scene, "qos-publisher").await?;
    let mut owed = Vec::new();
    for ((topic, qos, content, message_type), number) in LESSON_MESSAGES.into_iter().zip(1..) {
        let mut source = publisher.stream(&scene.lesson_topic(topic), qos);
        let mut message = source.envelope(number, message_type, content);
        if scene.is_v5() {
            message = message.with(Property::PayloadFormatIndicator(1));
        }
        scene.label(message.id, message_type, number);
        publisher.send_and_settle(vec![message]).await?;
        owed.extend(send_sentinel(&mut publisher, &mut source).await?);
    }
    publisher.settle().await?;
    scene.drain(owed.into_iter().map(|message| (subscriber.name().clone(), message)).collect()).await?;
    subscriber.stay(&scene);
    publisher.disconnect().await
}

/// Ends a stream. At QoS 0 nothing is owed, so nothing is waited for.
async fn send_sentinel(publisher: &mut Publisher, source: &mut Source) -> Result<Option<MessageId>, Trouble> {
    let sentinel = source.sentinel();
    let id = sentinel.id;
    publisher.send(sentinel).await?;
    Ok((source.qos() != Qos::AtMostOnce).then_some(id))
}

/// Bulk streams: a publisher for each window, each with a stream at every QoS.
pub(crate) async fn bulk(scene: Scene) -> Result<(), Trouble> {
    let (all, one) = (scene.topic("+/#"), scene.topic("window-50/2"));
    let subscribers = [
        Subscriber::connect(&scene, "bulk-granted-0", Lifetime::CLEAN, &[(&all, Qos::AtMostOnce)]).await?,
        Subscriber::connect(&scene, "bulk-granted-1", Lifetime::CLEAN, &[(&all, Qos::AtLeastOnce)]).await?,
        Subscriber::connect(&scene, "bulk-granted-2", Lifetime::CLEAN, &[(&all, Qos::ExactlyOnce)]).await?,
    ];
    let exact =
        Subscriber::connect(&scene, "bulk-exact", Lifetime::CLEAN, &[(&one, Qos::ExactlyOnce)]).await?;
    let receivers = Receivers {
        acknowledging: [subscribers[1].name().clone(), subscribers[2].name().clone()],
        exact: (one.clone(), exact.name().clone()),
    };
    let windows = scene.plan.in_flight.map_or(WINDOWS.to_vec(), |window| vec![window.max(1)]);
    let mut publishers = JoinSet::new();
    for window in windows {
        publishers.spawn(publish_through(scene.clone(), window, receivers.clone()));
    }
    while let Some(published) = publishers.join_next().await {
        // A panic in there is a fault of ours and must not look like one of the broker's.
        published.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    }
    for subscriber in subscribers.into_iter().chain([exact]) {
        subscriber.stay(&scene);
    }
    Ok(())
}

/// Who is owed what.
#[derive(Clone)]
struct Receivers {
    /// Owed every message above QoS 0.
    acknowledging: [Arc<str>; 2],
    /// Owed the messages of one topic.
    exact: (String, Arc<str>),
}

impl Receivers {
    fn owed(&self, topic: &str, message: MessageId) -> impl Iterator<Item = (Arc<str>, MessageId)> {
        let exact = (self.exact.0 == topic).then_some(&self.exact.1);
        self.acknowledging.iter().chain(exact).map(move |name| (name.clone(), message))
    }
}

/// One publisher's three streams, interleaved.
async fn publish_through(scene: Scene, window: u16, receivers: Receivers) -> Result<(), Trouble> {
    let role = format!("bulk-window-{window}");
    let mut random = scene.random(&role);
    let mut publisher = Publisher::with(&scene, &role, Lifetime::CLEAN, window).await?;
    let mut streams = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]
        .map(|qos| publisher.stream(&scene.topic(&format!("window-{window}/{}", qos as u8)), qos));
    let usual = if window == 1 { MESSAGES_ONE_BY_ONE } else { MESSAGES };
    let messages = scene.plan.messages.unwrap_or(usual);
    for number in 0..messages {
        for stream in &mut streams {
            let body = body(&scene, number, &mut random);
            publisher.send(decorated(&scene, stream.load(&body), &mut random)).await?;
        }
        if (number + 1) % MESSAGES_AHEAD_MAX == 0 || number + 1 == messages {
            drain(&scene, &mut publisher, &mut streams, &receivers).await?;
        }
    }
    publisher.disconnect().await
}

/// Waits until everything sent so far has arrived where it is owed.
async fn drain(
    scene: &Scene,
    publisher: &mut Publisher,
    streams: &mut [Source],
    receivers: &Receivers,
) -> Result<(), Trouble> {
    // First the messages: a sentinel that goes through the same rush as its stream may share its fate, and then
    // proves nothing.
    publisher.settle().await?;
    let mut owed = Vec::new();
    for stream in streams {
        let sentinel = send_sentinel(publisher, stream).await?;
        owed.extend(sentinel.into_iter().flat_map(|message| receivers.owed(stream.topic(), message)));
    }
    publisher.settle().await?;
    scene.drain(owed).await
}

/// What stands behind the marker: of the size that was asked for, else mostly small, sometimes nothing, rarely large.
fn body(scene: &Scene, number: u32, random: &mut fastrand::Rng) -> Vec<u8> {
    let length = match scene.plan.payload_bytes {
        Some(bytes) => bytes.saturating_sub(MARKER_LEN),
        None if number % LARGE_EVERY == LARGE_EVERY - 1 => LARGE_PAYLOAD_BYTES,
        None if random.u8(..) < 16 => 0,
        None => random.usize(..PAYLOAD_BYTES_MAX),
    };
    let mut body = vec![0; length];
    random.fill(&mut body);
    body
}

/// 5.0: the properties that have to arrive unaltered, on some of the messages.
fn decorated(scene: &Scene, mut message: Outgoing, random: &mut fastrand::Rng) -> Outgoing {
    if scene.is_v5() && random.u8(..) < 64 {
        let mut data = [0; 8];
        random.fill(&mut data);
        message.publish.properties = Properties(vec![
            Property::ContentType("application/octet-stream".into()),
            Property::ResponseTopic(scene.topic("reply").into()),
            Property::CorrelationData(Bytes::copy_from_slice(&data)),
            // The same name twice, and not in alphabetical order: a server must keep all of it [MQTT-3.3.2-17].
            Property::UserProperty("z-unit".into(), "celsius".into()),
            Property::UserProperty("a-site".into(), "plant 7".into()),
            Property::UserProperty("z-unit".into(), "kelvin".into()),
        ]);
    }
    message
}
