//! Group `subject-pub`: a publishing program publishes to a witness, and is cut in each phase.
//!
//! What it publishes, where and how often, is its own affair; one that ends is started again. On 5.0 the proxy tells it a
//! small receive maximum, which it has to keep to.

use super::disturbing::{BrokerEnd, UNFINISHED_OUTWARD, moment};
use super::{Bench, Waited, told};
use crate::process::BrokerUnderTest;
use crate::proxy::{Direction, Peer, Tamper, TamperFactory, Tampered};
use crate::subject::Standing;
use crate::workload::Trouble;
use crate::workload::scene::{Lifetime, Scene};
use crate::workload::subscriber::Subscriber;
use mqtally_history::event::Side;
use mqtally_proto::packet::{Observed, Packet, Property, Qos, Version};
use mqtally_proto::topic::matches;
use std::sync::Arc;
use std::time::Duration;

/// How long it may take to its first message.
const FIRST_LIMIT: Duration = Duration::from_secs(30);
/// How long it is watched before the first fault, unless it has shown QoS 1 and 2 before.
const WARM_UP: Duration = Duration::from_secs(8);
/// How long a resumed program has to send again what it owes: a second more than the checker wants to see.
const DEBT_LIMIT: Duration = Duration::from_secs(6);
/// The receive maximum that a 5.0 program is told.
const RECEIVE_MAXIMUM: u16 = 4;
/// A packet is one of the first so many.
const PACKETS_MAX: u32 = 3;

/// Faults at QoS 1; `K` is drawn, `E` is how.
const AT_QOS_1: [&str; 5] = [
    "cut E before c2s PUBLISH K qos=1",
    "cut E inside c2s PUBLISH K qos=1",
    "cut E after c2s PUBLISH K qos=1",
    "cut E before s2c PUBACK K",
    "cut E after s2c PUBACK K",
];
/// Faults at QoS 2.
const AT_QOS_2: [&str; 8] = [
    "cut E before c2s PUBLISH K qos=2",
    "cut E after c2s PUBLISH K qos=2",
    "cut E before s2c PUBREC K",
    "cut E after s2c PUBREC K",
    "cut E before c2s PUBREL K",
    "cut E after c2s PUBREL K",
    "cut E before s2c PUBCOMP K",
    "cut E after s2c PUBCOMP K",
];
/// Moments at which the process is killed, or its session lost, by the QoS that has them.
const MOMENTS: [(&str, Qos); 2] =
    [("cut fin before s2c PUBACK K", Qos::AtLeastOnce), ("cut fin after s2c PUBREC K", Qos::ExactlyOnce)];
/// Moments at which it is owed an answer that does not come, by the QoS that has them.
const UNANSWERED: [(&str, Qos); 2] =
    [("cut fin before s2c PUBACK K", Qos::AtLeastOnce), ("cut fin before s2c PUBREC K", Qos::ExactlyOnce)];
/// The broker's answers are late: what is said meanwhile is said without them.
const LATE: [(&str, Qos); 2] = [
    ("stall s2c after c2s PUBLISH 1 qos=1 for 1500ms", Qos::AtLeastOnce),
    ("stall s2c after c2s PUBLISH 1 qos=2 for 1500ms", Qos::ExactlyOnce),
];

/// One round.
#[derive(Debug, Clone, Copy)]
enum Round {
    Cut(&'static str),
    Late(&'static str),
    Kill(&'static str),
    LostSession(&'static str),
    AbortedConnect(&'static str),
    ConnectStorm(&'static str),
    TakenOver(&'static str),
    BrokerEnds(BrokerEnd, &'static str),
}

impl Round {
    /// What rounds like this one are called.
    const fn name(self) -> &'static str {
        match self {
            Self::Cut(_) => "cut",
            Self::Late(_) => "late",
            Self::Kill(_) => "kill",
            Self::LostSession(_) => "lost-session",
            Self::AbortedConnect(_) => "aborted-connect",
            Self::ConnectStorm(_) => "connect-storm",
            Self::TakenOver(_) => "taken-over",
            Self::BrokerEnds(..) => "broker-ends",
        }
    }
}

/// Who is owed what the program publishes.
pub(super) struct Witness {
    pub(super) subscriber: Subscriber,
    pub(super) filter: String,
}

impl Witness {
    /// Everything that was acknowledged so far has to arrive.
    pub(super) async fn drain(&self, bench: &Bench) -> Result<(), Trouble> {
        let owed = bench.tap.standing().acknowledged.into_iter();
        let owed = owed.filter(|(topic, _)| matches(&self.filter, topic));
        let name = self.subscriber.name();
        bench.scene.drain(owed.map(|(_, message)| (name.clone(), message)).collect()).await
    }
}

pub(in crate::workload) async fn rounds(scene: Scene) -> Result<(), Trouble> {
    scene.recorder.names().begin(scene.publisher_number());
    let played = play(&scene).await;
    scene.recorder.names().end();
    told(&scene, played)
}

async fn play(scene: &Scene) -> Result<(), Trouble> {
    let filter = witnessed(&*scene.broker.lock().await, scene);
    let filters = [(filter.as_str(), Qos::ExactlyOnce)];
    // Its session has to survive the broker, where that is to end.
    let subscriber = Subscriber::connect(scene, "witness", Lifetime::DURABLE, &filters).await?;
    let witness = Witness { subscriber, filter };
    let tamper =
        scene.is_v5().then(|| Arc::new(|| Box::new(SmallWindow) as Box<dyn Tamper>) as TamperFactory);
    let mut bench = Bench::open(scene, Side::Publisher, tamper).await?;
    bench.met().await?;
    let played = play_rounds(&mut bench, &witness).await;
    let closed = bench.close().await;
    played.and(closed)?;
    witness.drain(&bench).await?;
    witness.subscriber.stay(scene);
    bench.judge_speech()
}

/// Everything, or at a broker that others use what the program is asked to publish to.
fn witnessed(broker: &BrokerUnderTest, scene: &Scene) -> String {
    if broker.can_restart() { "#".to_owned() } else { scene.topic("#") }
}

async fn play_rounds(bench: &mut Bench, witness: &Witness) -> Result<(), Trouble> {
    bench.warm_up().await?;
    let mut rounds = drawn(bench).await;
    bench.random.shuffle(&mut rounds);
    for round in rounds {
        let accepted = bench.tap.standing().accepted;
        let struck = bench.strike(round, witness).await?;
        if struck && !matches!(round, Round::Late(_)) {
            bench.back(accepted).await?;
        }
        bench.pay_debts().await?;
    }
    Ok(())
}

/// The rounds that a program with these QoS can have.
async fn drawn(bench: &Bench) -> Vec<Round> {
    let published = bench.tap.standing().published;
    let has = |qos: Qos| published[qos as usize] > 0;
    let persistent = bench.subject.introduction.as_ref().is_ok_and(|it| it.persistent);
    let mut rounds = Vec::new();
    if has(Qos::AtLeastOnce) {
        rounds.extend(AT_QOS_1.map(Round::Cut));
    }
    if has(Qos::ExactlyOnce) {
        rounds.extend(AT_QOS_2.map(Round::Cut));
    }
    rounds.extend(LATE.iter().filter(|(_, qos)| has(*qos)).map(|(rule, _)| Round::Late(rule)));
    let unanswered = moment(&UNANSWERED, has);
    rounds.extend(unanswered.map(Round::AbortedConnect));
    rounds.extend(unanswered.map(Round::ConnectStorm));
    let moments = || MOMENTS.iter().filter(|(_, qos)| has(*qos));
    rounds.extend(moments().map(|(rule, _)| Round::Kill(rule)));
    if persistent {
        rounds.extend(moments().map(|(rule, _)| Round::LostSession(rule)));
        if let Some(rule) = moment(&UNFINISHED_OUTWARD, has) {
            rounds.push(Round::TakenOver(rule));
            rounds.extend(bench.broker_ends().await.into_iter().map(|end| Round::BrokerEnds(end, rule)));
        }
    }
    rounds.retain(|round| bench.scene.plan.has_rounds(round.name()));
    rounds
}

impl Bench {
    /// Watches what it does undisturbed.
    async fn warm_up(&mut self) -> Result<(), Trouble> {
        let first = |standing: &Standing| standing.published.iter().sum::<u64>() > 0;
        if self.until(FIRST_LIMIT, first).await? == Waited::Late {
            let seconds = FIRST_LIMIT.as_secs();
            return Err(self.trouble(&format!("it connected and published nothing within {seconds} s")));
        }
        let both = |standing: &Standing| standing.published[1] > 0 && standing.published[2] > 0;
        self.until(WARM_UP, both).await?;
        let [at_0, at_1, at_2] = self.tap.standing().published;
        match at_1 + at_2 {
            0 => Err(self.trouble(&format!(
                "it published {at_0} messages, all at QoS 0, of which nothing is promised; let it publish at QoS 1 or 2"
            ))),
            _ => Ok(()),
        }
    }

    /// Lets a fault strike; whether it did.
    async fn strike(&mut self, round: Round, witness: &Witness) -> Result<bool, Trouble> {
        match round {
            Round::Cut(rule) => {
                let rule = self.rule_drawn(rule)?;
                self.struck(rule).await
            }
            Round::Late(rule) => {
                let rule = self.rule(rule)?;
                let struck = self.until(super::STRIKE_LIMIT, |now| now.struck.contains_key(&rule)).await?;
                // It is over when the answers have come.
                self.pay_debts().await?;
                self.proxy.remove(rule);
                Ok(struck == Waited::Met)
            }
            Round::Kill(rule) => {
                let (rule, refuse) = (self.rule_drawn(rule)?, self.rule("refuse rst")?);
                let struck = self.struck(rule).await;
                self.kill().await?;
                self.proxy.remove(refuse);
                self.start()?;
                // Whatever it was at, it is a new life.
                struck.map(|_| true)
            }
            Round::LostSession(rule) => {
                let (rule, refuse) = (self.rule_drawn(rule)?, self.rule("refuse rst")?);
                let struck = self.struck(rule).await;
                if struck.as_ref().is_ok_and(|struck| *struck) {
                    self.until(DEBT_LIMIT, |standing| !standing.connected).await?;
                    self.lose_session().await?;
                }
                self.proxy.remove(refuse);
                struck
            }
            Round::AbortedConnect(rule) => {
                let (rule, aborted) = (self.rule_drawn(rule)?, self.rule("abort-connect")?);
                self.struck(rule).await?;
                self.struck(aborted).await
            }
            Round::ConnectStorm(rule) => {
                let (rule, storm) = (self.rule_drawn(rule)?, self.make_a_storm()?);
                self.struck(rule).await?;
                self.ride_out(storm).await?;
                Ok(true)
            }
            Round::TakenOver(rule) => {
                let accepted = self.tap.standing().accepted;
                let rule = self.rule_drawn(rule)?;
                self.strikes(rule).await?;
                self.take_over(accepted).await?;
                Ok(true)
            }
            Round::BrokerEnds(end, rule) => {
                let rule = self.rule_drawn(rule)?;
                self.strikes(rule).await?;
                // Nothing more reaches the broker, and what it has acknowledged is safe.
                witness.drain(self).await?;
                self.restart_broker(end).await?;
                witness.subscriber.peer.until_closed().await?;
                witness.subscriber.back().await?;
                self.let_in();
                Ok(true)
            }
        }
    }

    fn rule_drawn(&mut self, rule: &str) -> Result<crate::proxy::RuleId, Trouble> {
        self.rule_at(rule, PACKETS_MAX)
    }

    /// Waits until it has finished what is unfinished now, or had the time to.
    pub(super) async fn pay_debts(&mut self) -> Result<(), Trouble> {
        let debts = self.tap.standing().unfinished;
        let paid = move |standing: &Standing| standing.unfinished.is_disjoint(&debts);
        self.until(DEBT_LIMIT, paid).await.map(drop)
    }
}

/// Tells a 5.0 client that the broker takes few messages at a time.
struct SmallWindow;

impl Tamper for SmallWindow {
    fn on_packet(&mut self, peer: &Peer, direction: Direction, packet: &Observed, out: &mut Tampered) {
        let (Some(Packet::Connack(connack)), Version::V5_0) = (&packet.packet, peer.version) else {
            return out.pass(direction, packet);
        };
        let mut connack = connack.clone();
        connack.properties.0.retain(|property| !matches!(property, Property::ReceiveMaximum(_)));
        connack.properties.push(Property::ReceiveMaximum(RECEIVE_MAXIMUM));
        if out.send(direction, &Packet::Connack(connack)).is_err() {
            out.pass(direction, packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Rule;

    #[test]
    fn every_rule_can_be_read() {
        let all = AT_QOS_1.into_iter().chain(AT_QOS_2);
        for rule in all
            .chain(MOMENTS.into_iter().chain(UNANSWERED).map(|(rule, _)| rule))
            .chain(LATE.map(|(rule, _)| rule))
        {
            let text = rule.replace(" E ", " rst ").replace(" K", " 2");
            assert!(text.parse::<Rule>().is_ok(), "{text}");
        }
    }
}
