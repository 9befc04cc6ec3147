//! What a broker that we start keeps, measured before a run holds it to anything.
//!
//! Messages are acknowledged for a session that is offline, and one is retained; then, in the middle of a burst with
//! many messages under way, the broker ends, once asked to (SIGTERM) and once killed (SIGKILL). It is started again, and
//! of what it had acknowledged is counted what is still there. That shows what survives the end of a process. It shows
//! nothing about the loss of power, so nothing is ever called power-safe.

mod burst;

use crate::process::{BrokerSource, BrokerUnderTest};
use burst::Burst;
use bytes::Bytes;
use mqtally::client::{Client, Event, Events, Settings};
use mqtally::endpoint::Endpoint;
use mqtally_history::profile::{Measured, Survival};
use mqtally_proto::packet::{Properties, Publish, Qos, ReasonCode, Subscription, Version};
use mqtally_proto::session::{self, Options};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Messages for the session that is offline, one at a time and with a pause, so that they reach back far enough to tell
/// a broker that writes now and then from one that never writes. The burst follows.
const PACED: u32 = 60;
const PAUSE: Duration = Duration::from_millis(20);
/// How long the broker may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// When nothing has come for so long, nothing more will.
const SILENCE: Duration = Duration::from_secs(2);
/// For all of it, the broker's starts not counted in.
const ROUND_LIMIT: Duration = Duration::from_secs(30);
/// The retained message's number.
const RETAINED: u32 = u32::MAX;

/// When each message was acknowledged, by its number.
type Acknowledged = BTreeMap<u32, Instant>;

/// Kills at most, unless one of them shows a loss: it takes luck to strike between an acknowledgement and its write.
const KILLS: u32 = 4;
/// A broker that takes longer for its kills than this is killed no more.
const KILLING: Duration = Duration::from_secs(10);

/// How a round ends the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    Killed(u32),
}

/// Measures a broker of its own, started from `source`, that nobody else uses. `highest` is the highest QoS it has.
///
/// Takes a few seconds and up to six starts of the broker, of one that starts slowly three; each wait has a bound. What
/// cannot be measured says why.
pub async fn measure(source: BrokerSource, highest: Qos, run: u32) -> Measured {
    match both(source, highest, run).await {
        Ok((stopped, killed)) => Measured::of(stopped, killed),
        Err(why) => Measured::nothing(why),
    }
}

async fn both(source: BrokerSource, highest: Qos, run: u32) -> Result<(Survival, Survival), String> {
    let mut broker = BrokerUnderTest::start(source).await.map_err(|error| error.to_string())?;
    let stopped = round(&mut broker, End::Stopped, highest, run).await?;
    let began = Instant::now();
    let mut killed = round(&mut broker, End::Killed(0), highest, run).await?;
    for kill in 1..KILLS {
        if killed.lost > 0 || began.elapsed() > KILLING {
            break;
        }
        killed = killed.and(round(&mut broker, End::Killed(kill), highest, run).await?);
    }
    Ok((stopped, killed))
}

async fn round(broker: &mut BrokerUnderTest, end: End, highest: Qos, run: u32) -> Result<Survival, String> {
    let names = Names::new(broker, end, run).await;
    let within = |what: &str| format!("{what} took more than {} s", ROUND_LIMIT.as_secs());
    let publishing = async {
        let acknowledged = names.fill(highest).await?;
        let mut burst = Burst::start(&names, highest).await?;
        burst.is_under_way().await?;
        Ok::<_, String>((acknowledged, burst))
    };
    let (mut acknowledged, burst) =
        timeout(ROUND_LIMIT, publishing).await.map_err(|_| within("publishing"))??;
    let ended = Instant::now();
    let gone = match end {
        End::Stopped => broker.terminate().await,
        End::Killed(_) => broker.kill_9().await.map(|()| true),
    };
    if !gone.map_err(|error| error.to_string())? {
        return Err("the broker does not stop when it is asked to (SIGTERM)".to_owned());
    }
    acknowledged.extend(burst.acknowledged().await?);
    broker.restart().await.map_err(|error| error.to_string())?;
    let looking = names.look(highest, acknowledged.keys().copied().collect());
    let (session_present, found) = timeout(ROUND_LIMIT, looking).await.map_err(|_| within("reading"))??;
    let lost: Vec<&Instant> =
        acknowledged.iter().filter(|(number, _)| !found.contains(number)).map(|(_, at)| at).collect();
    let age = lost.iter().map(|at| ended.saturating_duration_since(**at).as_millis()).max();
    Ok(Survival {
        acknowledged: acknowledged.len() as u64,
        lost: lost.len() as u64,
        lost_ms: u64::try_from(age.unwrap_or_default()).unwrap_or(u64::MAX),
        retained_lost: acknowledged.contains_key(&RETAINED) && !found.contains(&RETAINED),
        session_present,
    })
}

/// What a round's clients and topics are called.
struct Names {
    endpoint: Endpoint,
    version: Version,
    prefix: String,
}

impl Names {
    async fn new(broker: &BrokerUnderTest, end: End, run: u32) -> Self {
        let end = match end {
            End::Stopped => "stop".to_owned(),
            End::Killed(kill) => format!("kill{kill}"),
        };
        let (endpoint, version) = (broker.endpoint().clone(), broker.version().await);
        Self { endpoint, version, prefix: format!("mqtally-{run:08x}-{end}") }
    }

    /// Publishes one at a time. Returns when each message was acknowledged.
    async fn fill(&self, highest: Qos) -> Result<Acknowledged, String> {
        let mut away = self.connect("away", false).await?;
        away.subscribe(&self.topic("away"), highest).await?;
        away.leave().await;
        let mut publisher = self.connect("publisher", true).await?;
        let mut acknowledged = Acknowledged::new();
        // Some brokers have no retained messages, and refuse them; then there is none to lose.
        if self.retain().await.is_ok() {
            acknowledged.insert(RETAINED, Instant::now());
        }
        for number in 0..PACED {
            publisher.publish(self.message(number, highest), number).await?;
            acknowledged.insert(number, Instant::now());
            sleep(PAUSE).await;
        }
        publisher.leave().await;
        Ok(acknowledged)
    }

    /// A message for the session that is offline: every other one at the highest QoS.
    fn message(&self, number: u32, highest: Qos) -> Publish {
        let qos = if number.is_multiple_of(2) { Qos::AtLeastOnce } else { highest };
        Publish { qos, ..message(&self.topic("away"), number) }
    }

    async fn retain(&self) -> Result<(), String> {
        let mut publisher = self.connect("retaining", true).await?;
        let retained = Publish { retain: true, ..message(&self.topic("retained"), RETAINED) };
        publisher.publish(retained, RETAINED).await?;
        publisher.leave().await;
        Ok(())
    }

    /// What is still there of `wanted`, and whether the session is said to be.
    async fn look(&self, highest: Qos, mut wanted: BTreeSet<u32>) -> Result<(bool, BTreeSet<u32>), String> {
        let mut away = self.connect("away", false).await?;
        let session_present = away.session_present;
        wanted.remove(&RETAINED);
        // Without its session it has no subscription, so that nothing is to be waited for.
        if !session_present {
            wanted.clear();
        }
        let mut found = away.numbers(&wanted).await;
        away.leave().await;
        let mut late = self.connect("late", true).await?;
        late.subscribe(&self.topic("retained"), highest).await?;
        found.extend(late.numbers(&BTreeSet::from([RETAINED])).await);
        late.leave().await;
        Ok((session_present, found))
    }

    fn topic(&self, tail: &str) -> String {
        format!("mqtally/{}/{tail}", self.prefix)
    }

    async fn connect(&self, role: &str, clean_start: bool) -> Result<Link, String> {
        self.connect_with(role, clean_start, 1).await
    }

    /// A client with at most `window` messages under way.
    async fn connect_with(&self, role: &str, clean_start: bool, window: u16) -> Result<Link, String> {
        let name = format!("{}-{role}", self.prefix);
        let options = Options {
            clean_start,
            session_expiry_interval: if clean_start { 0 } else { 3_600 },
            in_flight_max: window,
            ..Options::new(self.version, name.clone())
        };
        let settings =
            Settings { connect_timeout: ANSWER_LIMIT, ..Settings::new(self.endpoint.clone(), options) };
        let (client, events) = Client::start(settings);
        let connected = client.connect().await.map_err(|error| format!("{name}: {error}"))?;
        Ok(Link { name, client, events, session_present: connected.session_present, read: BTreeSet::new() })
    }
}

fn message(topic: &str, number: u32) -> Publish {
    Publish {
        qos: Qos::AtLeastOnce,
        topic: topic.into(),
        payload: Bytes::copy_from_slice(&number.to_be_bytes()),
        ..Publish::default()
    }
}

/// A client with what it has received.
struct Link {
    name: String,
    client: Client,
    events: Events,
    session_present: bool,
    read: BTreeSet<u32>,
}

impl Link {
    async fn subscribe(&mut self, filter: &str, qos: Qos) -> Result<(), String> {
        let asked = self.client.subscribe(vec![Subscription::new(filter, qos)], Properties::default());
        asked.map_err(|error| format!("{}: {error}", self.name))?;
        let granted = self.until("SUBACK", |event| match event {
            session::Event::Subscribed(suback) => {
                Some(suback.reasons.iter().all(|reason| !reason.is_error()))
            }
            _ => None,
        });
        if granted.await? { Ok(()) } else { Err(format!("{}: the subscription was refused", self.name)) }
    }

    async fn publish(&mut self, publish: Publish, number: u32) -> Result<(), String> {
        let accepted = timeout(ANSWER_LIMIT, self.client.publish(number.into(), publish)).await;
        accepted
            .map_err(|_| self.silent("room for a message"))?
            .map_err(|error| format!("{}: {error}", self.name))?;
        let answer = self.until("acknowledgement", |event| match event {
            session::Event::Completed { reason, .. } => Some(*reason),
            _ => None,
        });
        let reason = answer.await?;
        if reason.is_error() {
            Err(format!("{}: a message was refused: {reason}", self.name))
        } else {
            Ok(())
        }
    }

    /// The numbers of the messages that come, until all that are wanted have, or none for a while.
    async fn numbers(&mut self, wanted: &BTreeSet<u32>) -> BTreeSet<u32> {
        let mut found = std::mem::take(&mut self.read);
        while !wanted.is_subset(&found) {
            match timeout(SILENCE, self.events.recv()).await {
                Ok(Some(Event::Session(session::Event::Message(publish)))) => found.extend(number(&publish)),
                Ok(Some(Event::Closed { .. }) | None) | Err(_) => break,
                Ok(Some(Event::Session(_))) => {}
            }
        }
        found
    }

    async fn until<T>(
        &mut self,
        awaited: &str,
        wanted: impl Fn(&session::Event) -> Option<T>,
    ) -> Result<T, String> {
        loop {
            match timeout(ANSWER_LIMIT, self.events.recv()).await {
                Ok(Some(Event::Session(event))) => {
                    if let Some(found) = wanted(&event) {
                        return Ok(found);
                    }
                    if let session::Event::Message(publish) = event {
                        self.read.extend(number(&publish));
                    }
                }
                Ok(Some(Event::Closed { .. }) | None) => {
                    return Err(format!("{}: the connection ended while {awaited} was awaited", self.name));
                }
                Err(_) => return Err(self.silent(awaited)),
            }
        }
    }

    async fn leave(self) {
        self.client.disconnect(ReasonCode::SUCCESS, None).await;
    }

    fn silent(&self, awaited: &str) -> String {
        format!("{}: no {awaited} within {} s", self.name, ANSWER_LIMIT.as_secs())
    }
}

fn number(publish: &Publish) -> Option<u32> {
    publish.payload.as_ref().try_into().ok().map(u32::from_be_bytes)
}
