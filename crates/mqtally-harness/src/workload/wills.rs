//! Group `wills`: a client that ends without leave has its will published, once, as it said; one that takes leave not.

use super::Trouble;
use super::probe::{Probe, connect};
use super::publisher::Publisher;
use super::scene::{Lifetime, Scene};
use super::source::Outgoing;
use super::subscriber::Subscriber;
use crate::run::Feature;
use mqtally::connection::Closing;
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::{Connect, Packet, Properties, Property, Qos, ReasonCode, Will};
use std::sync::Arc;
use std::time::Duration;

/// How long somebody stays who subscribes where a retained will is: after a second, what has not come is missing.
const STAY: Duration = Duration::from_millis(1_200);
/// Shortest keep-alive, seconds; and how long a broker may take to close a client that is silent. One and a half times
/// the keep-alive is due, some look only every few seconds.
const KEEP_ALIVE_S: u16 = 1;
const SILENCE_LIMIT: Duration = Duration::from_secs(10);
/// How long a broker may take to close a connection for another reason.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Delay of the will that is waited for and of the one that the session's end overtakes, seconds.
const SHORT_DELAY_S: u32 = 3;
const LONG_DELAY_S: u32 = 60;
/// Expiry of the session that ends before its will's delay, and of those that outlast it, seconds.
const SHORT_EXPIRY_S: u32 = 1;
const LONG_EXPIRY_S: u32 = 60;
/// By then the will of a session that was resumed would have come.
const DELAY_WAIT: Duration = Duration::from_millis(4_000);

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Cut(Closing),
    /// A second CONNECT on the same connection.
    ProtocolError,
    /// Another connection with the same client id.
    Takeover,
    Disconnect,
    /// 5.0: DISCONNECT that asks for the will.
    DisconnectWithWill,
}

/// A will for each way to go, and who is to see it.
struct Case {
    role: &'static str,
    ending: Ending,
    qos: Qos,
    retain: bool,
    lifetime: Lifetime,
}

const CASES: [Case; 9] = [
    Case::new("will-fin", Ending::Cut(Closing::Fin), Qos::AtLeastOnce),
    Case::new("will-rst", Ending::Cut(Closing::Rst), Qos::ExactlyOnce),
    Case::new("will-fin-qos0", Ending::Cut(Closing::Fin), Qos::AtMostOnce),
    Case::new("will-retained", Ending::Cut(Closing::Fin), Qos::AtLeastOnce).retained(),
    Case::new("will-protocol-error", Ending::ProtocolError, Qos::AtLeastOnce),
    Case::new("will-takeover", Ending::Takeover, Qos::AtLeastOnce),
    Case::new("will-takeover-resumed", Ending::Takeover, Qos::AtLeastOnce).durable(),
    Case::new("will-disconnect", Ending::Disconnect, Qos::AtLeastOnce),
    Case::new("will-on-request", Ending::DisconnectWithWill, Qos::AtLeastOnce),
];

impl Case {
    const fn new(role: &'static str, ending: Ending, qos: Qos) -> Self {
        Self { role, ending, qos, retain: false, lifetime: Lifetime::CLEAN }
    }

    const fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    const fn durable(mut self) -> Self {
        self.lifetime = Lifetime::DURABLE;
        self
    }

    /// Whether its will has to arrive; at QoS 0 none has to.
    fn is_owed(&self) -> bool {
        self.ending != Ending::Disconnect && self.qos > Qos::AtMostOnce
    }
}

/// Every way to go, each with a will of its own, and a client that has none any more.
pub(crate) async fn endings(scene: Scene) -> Result<(), Trouble> {
    let witness = witness(&scene, "will-witness", "will/+").await?;
    let mut owed = Vec::new();
    for case in CASES.iter().filter(|case| scene.has(Feature::Retain) || !case.retain) {
        if case.ending == Ending::DisconnectWithWill && !scene.is_v5() {
            continue;
        }
        let will = end_with_will(&scene, case).await?;
        owed.extend(case.is_owed().then(|| (witness.name().clone(), will)));
    }
    cut_without_will(&scene).await?;
    until_read(&scene, owed).await;
    let mut late = Probe::open(&scene, &scene.client("will-late"), Lifetime::CLEAN).await?;
    // Who comes later gets a retained will like any other retained message.
    late.subscribe(&[(&scene.topic("will/+"), Qos::ExactlyOnce)]).await?;
    late.ping().await?;
    late.linger(STAY).await?;
    late.disconnect().await?;
    finish(&scene, witness, "will/end").await
}

/// A client with a will ends as the case says. Returns what its will is called.
async fn end_with_will(scene: &Scene, case: &Case) -> Result<MessageId, Trouble> {
    let (name, topic) = (scene.client(case.role), scene.topic(&format!("will/{}", case.role)));
    let mut message = scene.source(&topic, case.qos).load(b"will");
    message.publish.retain = case.retain;
    if case.retain {
        scene.leaves_retained(&name, &topic);
    }
    if case.lifetime != Lifetime::CLEAN {
        scene.leaves_session(&name);
    }
    let mut probe = Probe::admitted(scene, &name, willing(scene, &name, case.lifetime, &message, 0)).await?;
    match case.ending {
        Ending::Cut(how) => probe.cut(how).await,
        Ending::ProtocolError => {
            let again = connect(scene, &name, Lifetime::CLEAN);
            probe.send(Packet::Connect(Box::new(again))).await?;
            probe.until_ended(END_LIMIT).await;
        }
        Ending::Takeover => {
            scene.recorder.fault("takeover", Some(&name));
            let new = Probe::open(scene, &name, case.lifetime).await?;
            probe.until_ended(END_LIMIT).await;
            new.disconnect().await?;
        }
        Ending::Disconnect => probe.disconnect().await?,
        Ending::DisconnectWithWill => {
            probe.disconnect_with(ReasonCode::DISCONNECT_WITH_WILL, Properties::default()).await?;
        }
    }
    Ok(message.id)
}

/// A client that had a will and took leave, and has none the next time: it is the last connection that counts.
async fn cut_without_will(scene: &Scene) -> Result<(), Trouble> {
    let earlier = Case::new("will-given-up", Ending::Disconnect, Qos::AtLeastOnce);
    end_with_will(scene, &earlier).await?;
    let name = scene.client(earlier.role);
    Probe::open(scene, &name, Lifetime::CLEAN).await?.cut(Closing::Fin).await;
    Ok(())
}

/// Waits for the wills that have to come. One that does not is no reason to stop: the history tells.
async fn until_read(scene: &Scene, owed: Vec<(Arc<str>, MessageId)>) {
    let _ = scene.recorder.await_arrivals(owed, scene.plan.answer_limit).await;
}

/// A client that falls silent is closed and its will published; one that pings is not.
pub(crate) async fn keep_alive(scene: Scene) -> Result<(), Trouble> {
    let witness = witness(&scene, "keep-alive-witness", "silent/+").await?;
    tokio::try_join!(fall_silent(&scene, &witness), keep_pinging(&scene))?;
    finish(&scene, witness, "silent/end").await
}

async fn fall_silent(scene: &Scene, witness: &Subscriber) -> Result<(), Trouble> {
    let (name, topic) = (scene.client("silent"), scene.topic("silent/will"));
    let message = scene.source(&topic, Qos::AtLeastOnce).load(b"will");
    let willing = willing(scene, &name, Lifetime::CLEAN, &message, 0);
    let (probe, connack) =
        Probe::request(scene, &name, Connect { keep_alive: KEEP_ALIVE_S, ..willing }).await?;
    if connack.properties.server_keep_alive().is_some_and(|seconds| seconds > KEEP_ALIVE_S) {
        // The broker wants another keep-alive, too long to wait for.
        return probe.disconnect().await;
    }
    probe.until_ended(SILENCE_LIMIT).await;
    until_read(scene, vec![(witness.name().clone(), message.id)]).await;
    Ok(())
}

async fn keep_pinging(scene: &Scene) -> Result<(), Trouble> {
    let name = scene.client("pinging");
    let lively = Connect { keep_alive: KEEP_ALIVE_S, ..connect(scene, &name, Lifetime::CLEAN) };
    let mut probe = Probe::admitted(scene, &name, lively).await?;
    for _ in 0..4 {
        probe.linger(Duration::from_millis(500)).await?;
        probe.ping().await?;
    }
    probe.disconnect().await
}

/// 5.0: a will waits for its delay or the session's end, whichever is first, and is gone when the session is resumed
/// before.
pub(crate) async fn delay(scene: Scene) -> Result<(), Trouble> {
    let witness = witness(&scene, "delay-witness", "delay/+").await?;
    let delayed = cut_with_delay(&scene, "delay-over", SHORT_DELAY_S, LONG_EXPIRY_S).await?;
    let overtaken = cut_with_delay(&scene, "delay-overtaken", LONG_DELAY_S, SHORT_EXPIRY_S).await?;
    cut_with_delay(&scene, "delay-resumed", SHORT_DELAY_S, LONG_EXPIRY_S).await?;
    let name = scene.client("delay-resumed");
    let mut resumed = Probe::open(&scene, &name, Lifetime::lasting(LONG_EXPIRY_S)).await?;
    resumed.linger(DELAY_WAIT).await?;
    resumed.disconnect().await?;
    let owed = [delayed, overtaken].map(|will| (witness.name().clone(), will));
    until_read(&scene, owed.into()).await;
    finish(&scene, witness, "delay/end").await
}

async fn cut_with_delay(
    scene: &Scene,
    role: &str,
    delay_s: u32,
    expiry_s: u32,
) -> Result<MessageId, Trouble> {
    let (name, topic) = (scene.client(role), scene.topic(&format!("delay/{role}")));
    scene.leaves_session(&name);
    let message = scene.source(&topic, Qos::AtLeastOnce).load(b"will");
    let willing = willing(scene, &name, Lifetime::lasting(expiry_s), &message, delay_s);
    Probe::admitted(scene, &name, willing).await?.cut(Closing::Fin).await;
    Ok(message.id)
}

/// A CONNECT with `message` for its will.
fn willing(scene: &Scene, name: &Arc<str>, lifetime: Lifetime, message: &Outgoing, delay_s: u32) -> Connect {
    let delay = (delay_s > 0).then_some(Property::WillDelayInterval(delay_s));
    let publish = message.publish.clone();
    let will = Will {
        topic: publish.topic,
        payload: publish.payload,
        qos: publish.qos,
        retain: publish.retain,
        properties: Properties(delay.into_iter().collect()),
    };
    Connect { will: Some(will), ..connect(scene, name, lifetime) }
}

/// Somebody who sees every will at the QoS it was left with.
async fn witness(scene: &Scene, role: &str, filter: &str) -> Result<Subscriber, Trouble> {
    let filter = scene.topic(filter);
    Subscriber::connect(scene, role, Lifetime::CLEAN, &[(&filter, Qos::ExactlyOnce)]).await
}

/// A last message to the witness, who stays.
async fn finish(scene: &Scene, witness: Subscriber, tail: &str) -> Result<(), Trouble> {
    let role = format!("{}-publisher", tail.replace('/', "-"));
    let mut publisher = Publisher::connect(scene, &role).await?;
    let sentinel = publisher.stream(&scene.topic(tail), Qos::AtLeastOnce).sentinel();
    let sentinel = publisher.send_and_settle(vec![sentinel]).await?;
    scene.drain(sentinel.into_iter().map(|message| (witness.name().clone(), message)).collect()).await?;
    witness.stay(scene);
    publisher.disconnect().await
}
