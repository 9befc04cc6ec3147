//! Group `subject-sub`: a subscribing program gets messages at each QoS that it asked for, and is cut in each phase.

use super::disturbing::{BrokerEnd, UNFINISHED_INWARD, moment};
use super::{Bench, Waited, told};
use crate::subject::{Standing, token};
use crate::workload::Trouble;
use crate::workload::publisher::Publisher;
use crate::workload::scene::Scene;
use crate::workload::source::{Outgoing, Source};
use mqtally_history::event::Side;
use mqtally_history::marker::{MessageId, Purpose};
use mqtally_proto::packet::Qos;
use std::time::Duration;
use tokio::time::timeout;

/// Messages of each stream in a round, unless the plan says otherwise.
const MESSAGES: u32 = 4;
/// Filters that are served.
const FILTERS_MAX: usize = 8;
/// How long its subscriptions may take.
const SUBSCRIBE_LIMIT: Duration = Duration::from_secs(20);
/// Without a further SUBSCRIBE for so long it has asked for everything.
const SUBSCRIBE_QUIET: Duration = Duration::from_millis(500);

/// Cuts at QoS 1; `K` is drawn, `E` is how.
const AT_QOS_1: [&str; 5] = [
    "cut E before s2c PUBLISH K qos=1",
    "cut E inside s2c PUBLISH K qos=1",
    "cut E after s2c PUBLISH K qos=1",
    "cut E before c2s PUBACK K",
    "cut E after c2s PUBACK K",
];
/// Cuts at QoS 2.
const AT_QOS_2: [&str; 8] = [
    "cut E before s2c PUBLISH K qos=2",
    "cut E after s2c PUBLISH K qos=2",
    "cut E before c2s PUBREC K",
    "cut E after c2s PUBREC K",
    "cut E before s2c PUBREL K",
    "cut E after s2c PUBREL K",
    "cut E before c2s PUBCOMP K",
    "cut E after c2s PUBCOMP K",
];
/// Moments at which the process is killed, by the QoS that has them.
const KILLS: [(&str, Qos); 4] = [
    ("cut fin after s2c PUBLISH K qos=1", Qos::AtLeastOnce),
    ("cut fin after c2s PUBACK K", Qos::AtLeastOnce),
    ("cut fin after c2s PUBREC K", Qos::ExactlyOnce),
    ("cut fin after s2c PUBREL K", Qos::ExactlyOnce),
];

/// One round.
#[derive(Debug, Clone, Copy)]
enum Round {
    Cut(&'static str),
    Kill(&'static str),
    AbortedConnect,
    ConnectStorm,
    LostSession,
    TakenOver(&'static str),
    StrayPubrel,
    BrokerEnds(BrokerEnd, &'static str),
}

impl Round {
    /// What rounds like this one are called.
    const fn name(self) -> &'static str {
        match self {
            Self::Cut(_) => "cut",
            Self::Kill(_) => "kill",
            Self::AbortedConnect => "aborted-connect",
            Self::ConnectStorm => "connect-storm",
            Self::LostSession => "lost-session",
            Self::TakenOver(_) => "taken-over",
            Self::StrayPubrel => "stray-pubrel",
            Self::BrokerEnds(..) => "broker-ends",
        }
    }
}

/// What is sent to it.
pub(super) struct Streams {
    pub(super) publisher: Publisher,
    sources: Vec<Source>,
    sent: u64,
}

pub(in crate::workload) async fn rounds(scene: Scene) -> Result<(), Trouble> {
    let played = play(&scene).await;
    told(&scene, played)
}

async fn play(scene: &Scene) -> Result<(), Trouble> {
    let mut bench = Bench::open(scene, Side::Subscriber, None).await?;
    bench.met().await?;
    bench.subscribed().await?;
    let mut streams = Streams::open(&bench).await?;
    let played = play_rounds(&mut bench, &mut streams).await;
    let closed = bench.close().await;
    played.and(closed).and_then(|()| bench.judge_speech())?;
    streams.publisher.disconnect().await
}

async fn play_rounds(bench: &mut Bench, streams: &mut Streams) -> Result<(), Trouble> {
    streams.settle(bench).await?;
    let mut rounds = drawn(bench, streams).await;
    bench.random.shuffle(&mut rounds);
    for round in rounds {
        let accepted = bench.tap.standing().accepted;
        bench.strike_within(round, streams).await?;
        bench.back_subscribed(accepted, matches!(round, Round::LostSession)).await?;
        streams.settle(bench).await?;
    }
    let speaks = bench.speech.has_said_anything();
    streams.hear_out(bench, speaks).await
}

/// The rounds that this program can have.
async fn drawn(bench: &Bench, streams: &Streams) -> Vec<Round> {
    let has = |qos| streams.sources.iter().any(|source| source.qos() == qos);
    let mut rounds = vec![Round::AbortedConnect, Round::ConnectStorm];
    if has(Qos::AtLeastOnce) {
        rounds.extend(AT_QOS_1.map(Round::Cut));
    }
    if has(Qos::ExactlyOnce) {
        rounds.extend(AT_QOS_2.map(Round::Cut));
    }
    rounds.extend(KILLS.iter().filter(|(_, qos)| has(*qos)).map(|(rule, _)| Round::Kill(rule)));
    if bench.subject.introduction.as_ref().is_ok_and(|it| it.persistent) {
        rounds.push(Round::LostSession);
        rounds.extend(has(Qos::ExactlyOnce).then_some(Round::StrayPubrel));
        if let Some(rule) = moment(&UNFINISHED_INWARD, has) {
            rounds.push(Round::TakenOver(rule));
            rounds.extend(bench.broker_ends().await.into_iter().map(|end| Round::BrokerEnds(end, rule)));
        }
    }
    rounds.retain(|round| bench.scene.plan.has_rounds(round.name()));
    rounds
}

impl Bench {
    /// Waits until the program has asked for everything that it wants to have.
    pub(super) async fn subscribed(&mut self) -> Result<(), Trouble> {
        let granted = |standing: &Standing| standing.filters.values().any(Option::is_some);
        if self.until(SUBSCRIBE_LIMIT, granted).await? == Waited::Late {
            let why = match self.tap.standing().filters.is_empty() {
                true => format!("it did not subscribe within {} s", SUBSCRIBE_LIMIT.as_secs()),
                false => "the broker grants none of its subscriptions".to_owned(),
            };
            return Err(self.trouble(&why));
        }
        loop {
            let known = self.tap.standing().filters.len();
            if self.until(SUBSCRIBE_QUIET, |standing| standing.filters.len() > known).await? == Waited::Late {
                return Ok(());
            }
        }
    }

    /// Waits until it is back, with its subscriptions.
    pub(super) async fn back_subscribed(&mut self, accepted: u64, lost: bool) -> Result<(), Trouble> {
        self.back(accepted).await?;
        if self.tap.standing().session_present {
            return Ok(());
        }
        let granted =
            |standing: &Standing| standing.connected && standing.filters.values().any(Option::is_some);
        if self.until(SUBSCRIBE_LIMIT, granted).await? == Waited::Met {
            return self.subscribed().await;
        }
        let when = if lost { "after the broker had lost its session" } else { "after its session had ended" };
        Err(self.trouble(&format!(
            "it did not subscribe again {when} (session present 0), and hears nothing any more; subscribe whenever \
             CONNACK says session present 0"
        )))
    }

    /// Sends a burst and lets a fault strike in it; returns before the program is back.
    async fn strike_within(&mut self, round: Round, streams: &mut Streams) -> Result<(), Trouble> {
        match round {
            Round::Cut(rule) => {
                let rule = self.drawn(rule)?;
                streams.burst(self).await?;
                if !self.struck(rule).await? {
                    self.cut(crate::proxy::Ending::Fin);
                }
            }
            Round::Kill(rule) => {
                // It must not come back before it is killed.
                let (rule, refuse) = (self.drawn(rule)?, self.rule("refuse rst")?);
                let sent = streams.burst(self).await;
                let struck = self.struck(rule).await;
                self.kill().await?;
                self.proxy.remove(refuse);
                sent.and(struck)?;
                self.start()?;
            }
            Round::AbortedConnect => {
                let rule = self.rule("abort-connect")?;
                self.cut(crate::proxy::Ending::Rst);
                streams.burst(self).await?;
                self.struck(rule).await?;
            }
            Round::ConnectStorm => {
                let storm = self.make_a_storm()?;
                self.cut(crate::proxy::Ending::Fin);
                streams.burst(self).await?;
                self.ride_out(storm).await?;
            }
            Round::TakenOver(rule) => {
                let accepted = self.tap.standing().accepted;
                let rule = self.drawn(rule)?;
                streams.burst(self).await?;
                self.strikes(rule).await?;
                self.take_over(accepted).await?;
            }
            Round::StrayPubrel => {
                self.send_away().await?;
                streams.burst(self).await?;
                self.take_up_to_pubrel().await?;
                self.let_in();
            }
            Round::BrokerEnds(end, rule) => {
                let rule = self.drawn(rule)?;
                streams.burst(self).await?;
                self.strikes(rule).await?;
                self.restart_broker(end).await?;
                streams.come_back().await?;
                self.let_in();
            }
            Round::LostSession => {
                self.send_away().await?;
                self.lose_session().await?;
                self.let_in();
            }
        }
        Ok(())
    }

    /// A rule with what the seed decides.
    fn drawn(&mut self, rule: &str) -> Result<crate::proxy::RuleId, Trouble> {
        self.rule_at(rule, MESSAGES.min(3))
    }

    /// Waits until it has answered everything, or had the time to.
    async fn answers(&mut self) -> Result<(), Trouble> {
        let given_up = self.given_up.clone();
        let answered = |standing: &Standing| standing.unanswered.is_subset(&given_up);
        self.until(self.answer_limit, answered).await?;
        self.given_up = self.tap.standing().unanswered;
        Ok(())
    }

    /// Cuts it off and keeps it out.
    async fn send_away(&mut self) -> Result<(), Trouble> {
        self.rule("refuse rst")?;
        self.cut(crate::proxy::Ending::Fin);
        let away = self.until(self.answer_limit, |standing| !standing.connected).await;
        away.map(drop)
    }
}

impl Streams {
    /// A stream for each filter and QoS that it was granted.
    pub(super) async fn open(bench: &Bench) -> Result<Self, Trouble> {
        let scene = &bench.scene;
        let mut publisher = Publisher::connect(scene, "subject-source").await?;
        let filters = bench.tap.standing().filters;
        let granted = filters.iter().filter_map(|(filter, qos)| Some((filter, (*qos)?)));
        let mut sources: Vec<Source> = Vec::new();
        for (filter, granted) in granted.take(FILTERS_MAX) {
            for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
                // One message lost at QoS 0 says nothing; it is sent where nothing else is wanted.
                let wanted = qos <= granted && (qos > Qos::AtMostOnce || granted == Qos::AtMostOnce);
                let topic = topic_of(filter, qos);
                let taken = |source: &Source| source.topic() == topic && source.qos() == qos;
                if wanted && !topic.starts_with('$') && !sources.iter().any(taken) {
                    sources.push(publisher.stream(&topic, qos));
                }
            }
        }
        Ok(Self { publisher, sources, sent: 0 })
    }

    /// A few messages of each stream, in turn.
    pub(super) async fn burst(&mut self, bench: &Bench) -> Result<(), Trouble> {
        for _ in 0..bench.scene.plan.messages.unwrap_or(MESSAGES) {
            for at in 0..self.sources.len() {
                let message = self.message(bench, at, Purpose::Load);
                self.publisher.send(message).await?;
            }
        }
        self.publisher.settle().await
    }

    /// A burst and sentinels; waits until they have come and were answered.
    pub(super) async fn settle(&mut self, bench: &mut Bench) -> Result<(), Trouble> {
        self.burst(bench).await?;
        let sentinels = self.sentinels(bench).await?;
        if let Some(client) = bench.tap.client() {
            let owed = sentinels.iter().map(|message| (client.clone(), *message));
            bench.scene.drain(owed.collect()).await?;
        }
        bench.answers().await
    }

    /// The broker has been started again.
    async fn come_back(&mut self) -> Result<(), Trouble> {
        self.publisher.peer.until_closed().await?;
        self.publisher.peer.connect().await.map(drop)
    }

    async fn sentinels(&mut self, bench: &Bench) -> Result<Vec<MessageId>, Trouble> {
        let mut sentinels = Vec::new();
        for at in 0..self.sources.len() {
            let message = self.message(bench, at, Purpose::Sentinel);
            if self.sources[at].qos() > Qos::AtMostOnce {
                sentinels.push(message.id);
            }
            self.publisher.send(message).await?;
        }
        self.publisher.settle().await?;
        Ok(sentinels)
    }

    /// Sends last messages, and waits until a program that speaks has said something of them.
    pub(super) async fn hear_out(&mut self, bench: &mut Bench, speaks: bool) -> Result<(), Trouble> {
        let sentinels = self.sentinels(bench).await?;
        if let Some(client) = bench.tap.client() {
            let owed = sentinels.iter().map(|message| (client.clone(), *message));
            bench.scene.drain(owed.collect()).await?;
        }
        bench.answers().await?;
        if speaks {
            // One that does not is known by what is missing.
            let _ = timeout(bench.answer_limit, bench.speech.until_said(&sentinels)).await;
        }
        Ok(())
    }

    fn message(&mut self, bench: &Bench, at: usize, purpose: Purpose) -> Outgoing {
        self.sent += 1;
        let content = token(bench.scene.plan.run, self.sent);
        let message = self.sources[at].enveloped(purpose, self.sent, "subject", &content);
        let names = bench.scene.recorder.names();
        names.call(self.sent.to_string(), message.id);
        names.call(content, message.id);
        message
    }
}

/// A topic that a filter matches, another for each QoS where the filter leaves room.
fn topic_of(filter: &str, qos: Qos) -> String {
    let filter = match filter.strip_prefix("$share/") {
        Some(shared) => shared.split_once('/').map_or(shared, |(_, filter)| filter),
        None => filter,
    };
    let name = format!("qos{}", qos as u8);
    let levels =
        filter.split('/').map(|level| if level == "+" || level == "#" { name.as_str() } else { level });
    levels.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::Rule;
    use mqtally_proto::topic::matches;

    #[test]
    fn a_topic_matches_the_filter_that_it_was_made_for() {
        for filter in ["a", "a/+", "a/+/+", "#", "a/#", "+", "/", "sensors/+/x"] {
            assert!(matches(filter, &topic_of(filter, Qos::AtLeastOnce)), "{filter}");
        }
        assert_eq!(topic_of("$share/g/a/+", Qos::ExactlyOnce), "a/qos2");
    }

    #[test]
    fn every_rule_can_be_read() {
        let all = AT_QOS_1.into_iter().chain(AT_QOS_2).chain(KILLS.map(|(rule, _)| rule));
        for rule in all.chain(["refuse rst", "abort-connect"]) {
            let text = rule.replace(" E ", " rst ").replace(" K", " 2");
            assert!(text.parse::<Rule>().is_ok(), "{text}");
        }
    }
}
