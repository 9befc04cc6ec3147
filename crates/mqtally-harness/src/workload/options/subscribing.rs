//! What a subscription can ask for: nothing of its own, a number on each copy, a share.

use crate::workload::probe::Probe;
use crate::workload::scene::Lifetime;
use crate::workload::{Outgoing, Publisher, Scene, Source, Trouble};
use mqtally::connection::Closing;
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::{Properties, Property, Qos, ReasonCode, Subscription};
use std::time::Duration;
use tokio::time::Instant;

/// Messages of each QoS that a shared subscription has to spread.
const SPREAD: usize = 30;
/// How long the members wait before they ask the broker again.
const MOMENT: Duration = Duration::from_millis(20);

/// What a client publishes itself does not come back to it.
pub(crate) async fn no_local(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("echo");
    let mut both = scene.durable(&scene.client("no-local")).await?;
    let filter = Subscription { no_local: true, ..Subscription::new(topic.as_str(), Qos::ExactlyOnce) };
    both.subscribe_to(vec![filter]).await?;
    let mut own = scene.source(&topic, Qos::ExactlyOnce);
    let mut publisher = Publisher::connect(&scene, "no-local-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::ExactlyOnce);
    // Also in the session that is taken up again.
    for again in [false, true] {
        if again {
            both.cut(Closing::Fin).await;
            both = scene.durable(&scene.client("no-local")).await?;
        }
        if both.session_present() || !again {
            both.submit(&own.load(b"own").publish).await?;
            publisher.send_and_settle(source.loads(1)).await?;
            both.take(&publisher.send_and_settle(vec![source.sentinel()]).await?).await?;
        }
    }
    both.disconnect().await?;
    publisher.disconnect().await
}

/// Two numbered subscriptions and one without a number match; then one of them gets another number.
pub(crate) async fn identifiers(scene: Scene) -> Result<(), Trouble> {
    let (exact, wildcard, all) = (scene.topic("n/a"), scene.topic("n/+"), scene.topic("n/#"));
    let mut subscriber = scene.durable(&scene.client("numbering")).await?;
    subscribe_as(&mut subscriber, 1, &exact).await?;
    subscribe_as(&mut subscriber, 268_435_455, &wildcard).await?;
    subscriber.subscribe(&[(&all, Qos::AtLeastOnce)]).await?;
    let mut publisher = Publisher::connect(&scene, "numbered-publisher").await?;
    let topics = [exact.clone(), scene.topic("n/b"), scene.topic("n/c/d")];
    let mut streams = topics.map(|topic| publisher.stream(&topic, Qos::AtLeastOnce));
    for number in [1, 7] {
        subscribe_as(&mut subscriber, number, &exact).await?;
        let messages = streams.iter_mut().flat_map(|stream| stream.loads(3)).collect();
        subscriber.take(&publisher.send_and_settle(messages).await?).await?;
        let sentinels = streams.iter_mut().map(Source::sentinel).collect();
        subscriber.take(&publisher.send_and_settle(sentinels).await?).await?;
    }
    // What waits for a session that is away is numbered, too, and what comes to one that is taken up again.
    subscriber.disconnect().await?;
    publisher.send_and_settle(streams.iter_mut().flat_map(|stream| stream.loads(3)).collect()).await?;
    let mut subscriber = scene.durable(&scene.client("numbering")).await?;
    if subscriber.session_present() {
        let sentinels = streams.iter_mut().map(Source::sentinel).collect();
        subscriber.take(&publisher.send_and_settle(sentinels).await?).await?;
    }
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

async fn subscribe_as(probe: &mut Probe, identifier: u32, filter: &str) -> Result<(), Trouble> {
    let properties = Properties::default().with(Property::SubscriptionIdentifier(identifier));
    probe.subscribe_with(properties, vec![Subscription::new(filter, Qos::ExactlyOnce)]).await
}

/// Three members of a group and a witness: each message comes to one of the members.
pub(crate) async fn shared(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("spread");
    let group = format!("$share/group/{topic}");
    let mut witness = scene.durable(&scene.client("spread-witness")).await?;
    witness.subscribe(&[(&topic, Qos::ExactlyOnce)]).await?;
    let mut members = Vec::new();
    for (role, qos) in
        [("member-a", Qos::ExactlyOnce), ("member-b", Qos::ExactlyOnce), ("member-c", Qos::AtLeastOnce)]
    {
        let mut member = scene.durable(&scene.client(role)).await?;
        member.subscribe(&[(&group, qos)]).await?;
        members.push(member);
    }
    let mut publisher = Publisher::connect(&scene, "spread-publisher").await?;
    let mut streams = [Qos::AtLeastOnce, Qos::ExactlyOnce].map(|qos| publisher.stream(&topic, qos));
    // What is missing of the first round is lost where each member has got something of the second.
    let mut spread = Ok(());
    for _ in 0..2 {
        let messages: Vec<Outgoing> = streams.iter_mut().flat_map(|stream| stream.loads(SPREAD)).collect();
        let sent = publisher.send_and_settle(messages).await?;
        spread = spread.and(until_spread(&scene, &mut members, &sent).await);
    }
    let sentinels = streams.iter_mut().map(Source::sentinel).collect();
    let sentinels = publisher.send_and_settle(sentinels).await?;
    spread = spread.and(until_spread(&scene, &mut members, &sentinels).await);
    witness.take(&sentinels).await?;
    for probe in members.into_iter().chain([witness]) {
        probe.disconnect().await?;
    }
    publisher.disconnect().await?;
    spread
}

/// Lets the members take what comes until each of `messages` has reached one of them.
async fn until_spread(scene: &Scene, members: &mut [Probe], messages: &[MessageId]) -> Result<(), Trouble> {
    let deadline = Instant::now() + scene.plan.drain_limit;
    loop {
        for member in members.iter_mut() {
            member.ping().await?;
        }
        let arrived =
            |message: &MessageId| members.iter().any(|it| scene.recorder.has_arrived(it.name(), *message));
        let Some(first) = messages.iter().find(|message| !arrived(message)) else { return Ok(()) };
        if Instant::now() > deadline {
            let missing = messages.iter().filter(|message| !arrived(message)).count();
            let client = members[0].name().to_string();
            return Err(Trouble::Undrained { missing, client, sequence: first.sequence });
        }
        members[0].linger(MOMENT).await?;
    }
}

/// A member that is in the middle of a delivery is cut and comes back: the delivery goes on with it. One whose session
/// ends in the middle: what was QoS 2 is sent to nobody else.
pub(crate) async fn unfinished_share(scene: Scene) -> Result<(), Trouble> {
    let topic = scene.topic("unfinished");
    let group = [(format!("$share/unfinished/{topic}"), Qos::ExactlyOnce)];
    let group = [(group[0].0.as_str(), group[0].1)];
    let name = scene.client("holder");
    let mut holder = scene.durable(&name).await?;
    holder.subscribe(&group).await?;
    let mut publisher = Publisher::connect(&scene, "unfinished-share-publisher").await?;
    // QoS 2 first, for a broker that sends one at a time.
    let mut streams = [Qos::ExactlyOnce, Qos::AtLeastOnce].map(|qos| publisher.stream(&topic, qos));
    let mut held = 0;
    for stream in &mut streams {
        held += publisher.send_and_settle(stream.loads(3)).await?.len();
    }
    holder.hold_up_to(held).await?;
    let mut other = Probe::open(&scene, &scene.client("other-member"), Lifetime::CLEAN).await?;
    other.subscribe(&group).await?;

    holder.cut(Closing::Fin).await;
    other.ping().await?;
    let mut holder = scene.back(&name, &group).await?;
    holder.hold();
    holder.ping().await?;
    let end_now = Properties::default().with(Property::SessionExpiryInterval(0));
    holder.disconnect_with(ReasonCode::SUCCESS, end_now).await?;
    other.ping().await?;
    let sentinels = streams.iter_mut().map(Source::sentinel).collect();
    let sentinels = publisher.send_and_settle(sentinels).await?;
    other.take(&sentinels).await?;
    other.disconnect().await?;
    publisher.disconnect().await
}
