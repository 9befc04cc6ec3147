//! When there must be no session: after a clean start, after expiry, after a refusal.

use super::away::subscribed;
use crate::workload::probe::{Probe, connect};
use crate::workload::scene::{Lifetime, Scene};
use crate::workload::{Publisher, Trouble};
use bytestring::ByteString;
use mqtally_proto::packet::{Connect, Properties, Property, Qos, ReasonCode};
use std::time::Duration;
use tokio::time::sleep;

/// Expiry of the session that is waited for, seconds, and what a broker may take beyond it.
const SHORT_EXPIRY_S: u32 = 1;
const EXPIRY_GRACE: Duration = Duration::from_millis(2_500);
/// Expiry of the session that must still be there, seconds, and how much of it is spent away: more than half, and so
/// much less than all of it that a slow machine is back in time.
const LONG_EXPIRY_S: u32 = 10;
const LONG_AWAY: Duration = Duration::from_millis(5_500);
/// Expiry that nothing here waits for, seconds.
const LASTING_EXPIRY_S: u32 = 600;

/// A clean start discards the session with its subscriptions and what waits for it, and begins none.
pub(crate) async fn clean_start(scene: Scene) -> Result<(), Trouble> {
    let (name, topic, other) = (scene.client("clean-start"), scene.topic("old"), scene.topic("new"));
    let filters = [(topic.as_str(), Qos::ExactlyOnce)];
    let subscriber = subscribed(&scene, &name, &filters).await?;
    let mut publisher = Publisher::connect(&scene, "clean-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::AtLeastOnce);
    subscriber.disconnect().await?;
    publisher.send_and_settle(source.loads(10)).await?;

    let mut clean = Probe::open(&scene, &name, Lifetime::CLEAN).await?;
    clean.subscribe(&[(&other, Qos::AtLeastOnce)]).await?;
    publisher.send_and_settle(source.loads(10)).await?;
    // Nothing may come; what comes behind a message of another topic had every chance to.
    let mut barrier = publisher.stream(&other, Qos::AtLeastOnce);
    let barrier = publisher.send_and_settle(vec![barrier.sentinel()]).await?;
    clean.take(&barrier).await?;
    clean.ping().await?;
    clean.disconnect().await?;

    let after = scene.durable(&name).await?;
    after.disconnect().await?;
    publisher.disconnect().await
}

/// 5.0: the session is there before its expiry and gone after it.
pub(crate) async fn expiry(scene: Scene) -> Result<(), Trouble> {
    tokio::try_join!(back_in_time(&scene), back_too_late(&scene))?;
    Ok(())
}

async fn back_in_time(scene: &Scene) -> Result<(), Trouble> {
    let (name, topic) = (scene.client("expiry-long"), scene.topic("long"));
    let filters = [(topic.as_str(), Qos::AtLeastOnce)];
    let lifetime = Lifetime::lasting(LONG_EXPIRY_S);
    scene.leaves_session(&name);
    let mut subscriber = Probe::open(scene, &name, lifetime).await?;
    subscriber.subscribe(&filters).await?;
    subscriber.disconnect().await?;
    let mut publisher = Publisher::connect(scene, "expiry-long-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::AtLeastOnce);
    publisher.send_and_settle(source.loads(5)).await?;
    // Time itself is what is tested here, and below: nothing could be awaited instead.
    sleep(LONG_AWAY).await;
    let mut subscriber = Probe::open(scene, &name, lifetime).await?;
    if !subscriber.session_present() {
        subscriber.subscribe(&filters).await?;
    }
    let sentinel = publisher.send_and_settle(vec![source.sentinel()]).await?;
    subscriber.take(&sentinel).await?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

async fn back_too_late(scene: &Scene) -> Result<(), Trouble> {
    let (name, topic) = (scene.client("expiry-short"), scene.topic("short"));
    let lifetime = Lifetime::lasting(SHORT_EXPIRY_S);
    scene.leaves_session(&name);
    let mut subscriber = Probe::open(scene, &name, lifetime).await?;
    subscriber.subscribe(&[(&topic, Qos::AtLeastOnce)]).await?;
    subscriber.disconnect().await?;
    let mut publisher = Publisher::connect(scene, "expiry-short-publisher").await?;
    let mut source = publisher.stream(&topic, Qos::AtLeastOnce);
    publisher.send_and_settle(source.loads(5)).await?;
    publisher.disconnect().await?;
    sleep(Duration::from_secs(u64::from(SHORT_EXPIRY_S)) + EXPIRY_GRACE).await;
    let mut subscriber = Probe::open(scene, &name, lifetime).await?;
    subscriber.ping().await?;
    subscriber.disconnect().await
}

/// 5.0: the interval that DISCONNECT gives replaces the one of CONNECT, be it shorter or longer.
pub(crate) async fn overridden(scene: Scene) -> Result<(), Trouble> {
    let shorter = leave_for(&scene, "override-shorter", LASTING_EXPIRY_S, SHORT_EXPIRY_S);
    let longer = leave_for(&scene, "override-longer", SHORT_EXPIRY_S, LASTING_EXPIRY_S);
    tokio::try_join!(shorter, longer)?;
    Ok(())
}

/// Connects with one interval, leaves with another, and returns when the shorter one is over.
async fn leave_for(scene: &Scene, role: &str, connect_s: u32, disconnect_s: u32) -> Result<(), Trouble> {
    let (name, topic) = (scene.client(role), scene.topic(role));
    let filters = [(topic.as_str(), Qos::AtLeastOnce)];
    scene.leaves_session(&name);
    let mut subscriber = Probe::open(scene, &name, Lifetime::lasting(connect_s)).await?;
    subscriber.subscribe(&filters).await?;
    let instead = Properties::default().with(Property::SessionExpiryInterval(disconnect_s));
    subscriber.disconnect_with(ReasonCode::SUCCESS, instead).await?;
    let mut publisher = Publisher::connect(scene, &format!("{role}-publisher")).await?;
    let mut source = publisher.stream(&topic, Qos::AtLeastOnce);
    publisher.send_and_settle(source.loads(5)).await?;
    sleep(Duration::from_secs(u64::from(SHORT_EXPIRY_S)) + EXPIRY_GRACE).await;
    let mut subscriber = scene.back(&name, &filters).await?;
    subscriber.take(&publisher.send_and_settle(vec![source.sentinel()]).await?).await?;
    subscriber.disconnect().await?;
    publisher.disconnect().await
}

/// A CONNECT that has to be refused: session present is 0 and the connection ends.
pub(crate) async fn refused(scene: Scene) -> Result<(), Trouble> {
    let name = scene.client("refused");
    let lawful = connect(&scene, &name, Lifetime::CLEAN);
    let refused = if scene.is_v5() { with_unknown_authentication(lawful) } else { without_name(lawful) };
    match Probe::request(&scene, &name, refused).await {
        Ok((probe, connack)) if connack.reason.is_error() => {
            probe.until_ended(scene.plan.answer_limit).await;
            Ok(())
        }
        Ok((probe, _)) => probe.disconnect().await,
        // A broker may close without a word.
        Err(Trouble::Closed { .. } | Trouble::Failed { .. }) => Ok(()),
        Err(trouble) => Err(trouble),
    }
}

/// 3.1.1: no client id and a session that is to last [MQTT-3.1.3-8].
fn without_name(connect: Connect) -> Connect {
    Connect { client_id: ByteString::new(), clean_start: false, ..connect }
}

/// 5.0: an authentication method that no server has [MQTT-4.12.0-1].
fn with_unknown_authentication(mut connect: Connect) -> Connect {
    connect.properties.0.push(Property::AuthenticationMethod("mqtally-none".into()));
    connect
}
