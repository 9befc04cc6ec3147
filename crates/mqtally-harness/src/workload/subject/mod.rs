//! Groups `subject-sub` and `subject-pub`: somebody's own program behind the proxy, with a fault in each phase.
//!
//! [`Bench`] is what both have in common: the program, the proxy before it, what is known of it. A round sets one rule,
//! lets traffic run until it strikes, and waits until the program is back. Every wait has a bound; a program that does
//! not do what is waited for is no error of the broker's, and the run says so ([`Trouble::Subject`]).
//!
//! Stage `faults/kill-process` ([`processes`]) has programs of its own in the same place.

mod disturbing;
pub(super) mod processes;
pub(super) mod publisher;
pub(super) mod subscriber;

use super::scene::{Lifetime, Scene};
use super::{Probe, Trouble};
use crate::proxy::{Ending, Proxy, ProxyOptions, Rule, RuleId, Scope, TamperFactory};
use crate::subject::{CONNECT_LIMIT, LinkTap, Place, Program, Reports, Speech, Standing, Subject};
use mqtally_history::event::{EventKind, Side};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::time::sleep;

/// How long a program may take to connect again after its link was cut: many wait longer from time to time.
const RETURN_LIMIT: Duration = Duration::from_secs(45);
/// How long a program may take for what a round gave it.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long a rule may wait for its packet.
const STRIKE_LIMIT: Duration = Duration::from_secs(15);
/// How often a subscribing program may end by itself, which a subscriber does not do, and a publishing one.
const ENDS_MAX: [u32; 2] = [20, 500];

/// A program under test and everything around it.
struct Bench {
    scene: Scene,
    subject: Subject,
    /// What it is called in a sentence.
    called: String,
    proxy: Proxy,
    tap: LinkTap,
    speech: Speech,
    /// It reports here, if it does not print.
    _reports: Reports,
    place: Place,
    program: Option<Program>,
    /// How often it ended by itself.
    ends: u32,
    /// How long it may take for what a round gave it.
    answer_limit: Duration,
    /// Its half of the session is in a store that outlives it, unless somebody takes that away.
    keeps: bool,
    /// Packet ids that were waited for in vain.
    given_up: BTreeSet<u16>,
    random: fastrand::Rng,
}

/// What came of waiting.
#[derive(Debug, PartialEq, Eq)]
enum Waited {
    /// It is so.
    Met,
    /// It is not so in time.
    Late,
}

impl Bench {
    /// The proxy stands, the program under test does not run yet.
    async fn open(scene: &Scene, side: Side, tamper: Option<TamperFactory>) -> Result<Self, Trouble> {
        let subject = scene.plan.subject(side).cloned();
        let subject = subject.ok_or_else(|| Trouble::Subject("there is no program to judge".to_owned()))?;
        if let Err(reason) = &subject.introduction {
            return Err(Trouble::Subject(format!("{}: {reason}", subject.called())));
        }
        let topic = match side {
            Side::Subscriber => scene.topic("#"),
            Side::Publisher => scene.topic("load"),
        };
        let tap = LinkTap::new(&scene.recorder, side, Some(&subject.name));
        Self::before(scene, subject, tap, &topic, tamper).await
    }

    /// The proxy stands before the broker, and `tap` listens.
    async fn before(
        scene: &Scene,
        subject: Subject,
        tap: LinkTap,
        topic: &str,
        tamper: Option<TamperFactory>,
    ) -> Result<Self, Trouble> {
        let options = ProxyOptions {
            watch: Some(tap.watch()),
            tamper,
            ..ProxyOptions::new((Ipv4Addr::LOCALHOST, 0).into(), scene.endpoint().clone())
        };
        let proxy = Proxy::start(options).await.map_err(|error| Trouble::Subject(error.to_string()))?;
        let speech = Speech::new(&scene.recorder, subject.side);
        let reports = Reports::listen(hearing(&subject, &tap, &speech)).await;
        let reports = reports.map_err(|error| Trouble::Subject(format!("nowhere to report to: {error}")))?;
        let place = Place::new(&proxy, scene.endpoint(), topic, &reports);
        let random = scene.random("rounds");
        Ok(Self {
            scene: scene.clone(),
            called: subject.called().to_owned(),
            subject,
            proxy,
            tap,
            speech,
            _reports: reports,
            place,
            program: None,
            ends: 0,
            answer_limit: ANSWER_LIMIT,
            keeps: false,
            given_up: BTreeSet::new(),
            random,
        })
    }

    /// Starts the program.
    fn start(&mut self) -> Result<(), Trouble> {
        let hear = hearing(&self.subject, &self.tap, &self.speech);
        let told = move |line: &str| {
            // Other lines are for people.
            hear(line);
        };
        self.program = Some(Program::start(&self.subject, &self.place, told)?);
        Ok(())
    }

    /// Waits until the program's standing is as `wanted`. A program that ends by itself meanwhile is started again.
    async fn until(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Standing) -> bool,
    ) -> Result<Waited, Trouble> {
        let late = sleep(limit);
        tokio::pin!(late);
        loop {
            let met = |standing: &Standing| standing.garbage || wanted(standing);
            let Some(program) = &mut self.program else { return Ok(Waited::Late) };
            let how = tokio::select! {
                biased;
                standing = self.tap.until(met) => {
                    if standing.garbage {
                        return Err(self.trouble("it sends bytes that are no MQTT"));
                    }
                    return Ok(Waited::Met);
                }
                how = program.until_ended() => how,
                () = &mut late => return Ok(Waited::Late),
            };
            self.ended(self.keeps).await;
            // Its last packets may still be on their way through the proxy.
            if self.tap.standing().connects == 0 {
                return Err(self.trouble(&format!("it ended before it connected ({how})")));
            }
            self.ends += 1;
            if self.ends > ENDS_MAX[self.subject.side as usize] {
                return Err(self.trouble(&format!("it ended {} times by itself ({how})", self.ends)));
            }
            self.start()?;
        }
    }

    /// The program has ended. Unless its store is `kept`, what its next life knows of its session is its own affair.
    async fn ended(&mut self, kept: bool) {
        if let Some(mut program) = self.program.take() {
            program.hear_out().await;
        }
        if let Some(client) = self.tap.client() {
            self.scene.recorder.record(match kept {
                true => EventKind::ProcessEnded { client },
                false => EventKind::StateWiped { client },
            });
        }
    }

    /// kill -9.
    async fn kill(&mut self) -> Result<(), Trouble> {
        self.kill_as("kill-client", false).await
    }

    /// kill -9, which the report calls so.
    async fn kill_as(&mut self, fault: &str, keeps: bool) -> Result<(), Trouble> {
        let Some(program) = &mut self.program else { return Ok(()) };
        program.kill_9().await?;
        self.scene.recorder.fault(fault, self.tap.client().as_deref());
        self.ended(keeps).await;
        Ok(())
    }

    /// Waits until it is connected behind its `accepted` connections so far.
    async fn back(&mut self, accepted: u64) -> Result<(), Trouble> {
        let there = |standing: &Standing| standing.accepted > accepted && standing.connected;
        if self.until(RETURN_LIMIT, there).await? == Waited::Met {
            return Ok(());
        }
        let standing = self.tap.standing();
        let seconds = RETURN_LIMIT.as_secs();
        Err(self.trouble(&match standing.refused {
            Some(reason) => format!("the broker refuses it: {reason}"),
            None if standing.connects == 0 => {
                format!("it did not connect to {} within {seconds} s", self.place.address())
            }
            None => format!(
                "it did not come back within {seconds} s after its connection was cut; connect again until it works"
            ),
        }))
    }

    /// Waits for its first connection.
    async fn met(&mut self) -> Result<(), Trouble> {
        self.start()?;
        let there = |standing: &Standing| standing.connected || standing.refused.is_some();
        if self.until(CONNECT_LIMIT, there).await? == Waited::Met && self.tap.standing().connected {
            return Ok(());
        }
        self.back(0).await
    }

    fn rule(&self, text: &str) -> Result<RuleId, Trouble> {
        // The rules are made here, so that one that cannot be read is our fault and shows in the first test.
        let rule: Rule = text.parse().map_err(|_| self.trouble(&format!("no rule: {text}")))?;
        self.proxy.add(rule).map_err(|error| self.trouble(&error.to_string()))
    }

    /// Waits until the rule has struck; a rule whose packet does not come is taken back.
    async fn struck(&mut self, rule: RuleId) -> Result<bool, Trouble> {
        let waited = self.until(STRIKE_LIMIT, |standing| standing.struck.contains_key(&rule)).await;
        self.proxy.remove(rule);
        Ok(waited? == Waited::Met)
    }

    /// Waits until the rule has struck, and leaves it, since what it does lasts.
    async fn strikes(&mut self, rule: RuleId) -> Result<bool, Trouble> {
        let struck = self.until(STRIKE_LIMIT, |standing| standing.struck.contains_key(&rule)).await;
        struck.map(|waited| waited == Waited::Met)
    }

    /// Waits until a rule has struck so often, and takes it back.
    async fn struck_times(&mut self, rule: RuleId, times: u32) -> Result<(), Trouble> {
        let often = |now: &Standing| now.struck.get(&rule).is_some_and(|strikes| *strikes >= times);
        let waited = self.until(STRIKE_LIMIT, often).await;
        self.proxy.remove(rule);
        waited.map(drop)
    }

    /// A rule in which the seed says which packet.
    fn rule_at(&mut self, rule: &str, packets_max: u32) -> Result<RuleId, Trouble> {
        let ending = self.ending();
        let packet = self.random.u32(1..=packets_max);
        self.rule(&rule.replace(" E ", &format!(" {ending} ")).replace(" K", &format!(" {packet}")))
    }

    /// Takes every rule back.
    fn let_in(&self) {
        self.proxy.rules().iter().for_each(|listed| drop(self.proxy.remove(listed.id)));
    }

    /// Cuts all its links.
    fn cut(&self, ending: Ending) {
        self.proxy.cut(&Scope::default(), ending);
    }

    /// The broker forgets the program's session, while the program is away.
    async fn lose_session(&mut self) -> Result<(), Trouble> {
        let Some(client) = self.tap.client() else { return Ok(()) };
        self.scene.recorder.fault("lose-session", Some(&client));
        Probe::open(&self.scene, &client, Lifetime::CLEAN).await?.disconnect().await
    }

    /// In order or by a reset, as the seed says.
    fn ending(&mut self) -> &'static str {
        if self.random.bool() { "fin" } else { "rst" }
    }

    /// Stops the program, and leaves its sessions to be cleaned up.
    async fn close(&mut self) -> Result<(), Trouble> {
        if let Some(program) = &mut self.program {
            program.stop().await?;
            self.program = None;
        }
        // Its FIN may still be on its way through the proxy.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.tap.until(|now| !now.connected)).await;
        if self.subject.introduction.as_ref().is_ok_and(|it| it.persistent) {
            self.scene.leaves_strangers(self.tap.clients());
        }
        Ok(())
    }

    /// Tells when what it says names nothing that was seen.
    fn judge_speech(&self) -> Result<(), Trouble> {
        match self.speech.unfounded() {
            0 => Ok(()),
            lines => Err(self.trouble(&format!(
                "{lines} lines of its output name a message that was never seen; 'mqtally explain subject' says what \
                 can name one"
            ))),
        }
    }

    fn trouble(&self, what: &str) -> Trouble {
        Trouble::Subject(format!("{}: {what}", self.called))
    }
}

/// Takes in a line that the program says; whether it says anything of a message, and anybody listens.
fn hearing(
    subject: &Subject,
    tap: &LinkTap,
    speech: &Speech,
) -> impl Fn(&str) -> bool + Send + Sync + 'static {
    let (listens, tap, speech) = (!subject.wire_only, tap.clone(), speech.clone());
    move |line| listens && tap.client().is_some_and(|client| speech.hear(&client, line))
}

/// What a program did not do is a reason for the verdict.
fn told(scene: &Scene, played: Result<(), Trouble>) -> Result<(), Trouble> {
    if let Err(Trouble::Subject(reason)) = &played {
        scene.recorder.record(EventKind::Aborted { reason: reason.clone() });
    }
    played
}
