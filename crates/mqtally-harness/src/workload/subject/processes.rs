//! Stage `faults/kill-process`: processes of clients with a store, killed by SIGKILL in the middle of a handshake.
//!
//! The link is held still at the packet of the strike, the process is killed, and the link ends by a reset. Its next
//! process finds the store of the last one, or none.

use super::Bench;
use super::publisher::Witness;
use super::subscriber::Streams;
use crate::nemesis::{Act, Deed, Strike, is_of_publisher};
use crate::proxy::{Ending, PacketKind, Proxy, Rule, RuleId};
use crate::run::Programs;
use crate::subject::{Introduction, LinkTap, Subject};
use crate::workload::scene::Lifetime;
use crate::workload::subscriber::Subscriber;
use crate::workload::{Scene, Trouble};
use mqtally::endpoint::Endpoint;
use mqtally_history::event::Side;
use mqtally_proto::packet::Qos;
use std::path::Path;

/// A client whose processes are killed.
struct Cast {
    /// Its part in the client id, and the directory of its store.
    role: &'static str,
    side: Side,
    qos: Qos,
    /// What it had acknowledged and not yet processed is gone with its store, and that is nobody's fault: so it is not asked
    /// what it processed.
    unheard: bool,
    /// Its store has its half of the session. At QoS 1 that of a publisher need not: a crash gives two copies either way,
    /// and no broker remembers the packet ids.
    resumes: bool,
}

const CASTS: [Cast; 4] = [
    Cast {
        role: "subscribing",
        side: Side::Subscriber,
        qos: Qos::ExactlyOnce,
        unheard: false,
        resumes: true,
    },
    Cast { role: "forgetting", side: Side::Subscriber, qos: Qos::ExactlyOnce, unheard: true, resumes: true },
    Cast {
        role: "publishing-qos1",
        side: Side::Publisher,
        qos: Qos::AtLeastOnce,
        unheard: true,
        resumes: false,
    },
    Cast {
        role: "publishing-qos2",
        side: Side::Publisher,
        qos: Qos::ExactlyOnce,
        unheard: true,
        resumes: true,
    },
];

pub(in crate::workload) async fn killed(scene: Scene) -> Result<(), Trouble> {
    let Some(programs) = scene.plan.programs.clone() else { return Ok(()) };
    let directory = tempfile::tempdir().map_err(|error| unprepared(&error))?;
    let strikes = scene.strikes();
    for cast in &CASTS {
        let strikes: Vec<&Strike> = strikes.iter().filter(|strike| cast.is_struck_by(strike)).collect();
        // The one that is heard plays in any case: what the stage is there for is put to the test by whatever is chosen.
        if strikes.is_empty() && cast.unheard {
            continue;
        }
        let subject = cast.subject(&scene, &programs, directory.path())?;
        match cast.side {
            Side::Subscriber => at_subscriber(&scene, cast, subject, &strikes).await?,
            Side::Publisher => at_publisher(&scene, cast, subject, &strikes).await?,
        }
    }
    Ok(())
}

impl Cast {
    fn is_struck_by(&self, strike: &Strike) -> bool {
        let Deed::Act(act, rule) = &strike.deed else { return false };
        match side_of(rule) {
            Side::Subscriber => self.side == Side::Subscriber && self.unheard == (*act == Act::WipeProcess),
            Side::Publisher => self.side == Side::Publisher && self.qos == qos_of(rule),
        }
    }

    fn subject(&self, scene: &Scene, programs: &Programs, directory: &Path) -> Result<Subject, Trouble> {
        let command = match self.side {
            Side::Subscriber => &programs.subscriber,
            Side::Publisher => &programs.publisher,
        };
        let directory = directory.join(self.role);
        std::fs::create_dir(&directory).map_err(|error| unprepared(&error))?;
        Ok(Subject {
            side: self.side,
            command: command.clone(),
            name: self.role.to_owned(),
            directory,
            wire_only: self.unheard,
            introduction: Ok(Introduction { version: scene.version, persistent: true }),
        })
    }

    /// Everything but its process.
    async fn open(&self, scene: &Scene, subject: Subject, topic: &str) -> Result<Bench, Trouble> {
        let tap = LinkTap::new(&scene.recorder, self.side, None);
        let mut bench = Bench::before(scene, subject, tap, topic, None).await?;
        bench.called = format!("the client process '{}'", self.role);
        bench.keeps = self.resumes;
        // We know it, and that it answers at once.
        bench.answer_limit = scene.plan.answer_limit;
        let protocol = if scene.is_v5() { "5" } else { "3.1.1" };
        let qos = (scene.offered(self.qos) as u8).to_string();
        let place = bench.place.with("qos", qos).with("protocol", protocol);
        let broker = url_of(&bench.proxy, scene.endpoint());
        bench.place = place.with("broker", broker).with("client_id", &*scene.client(self.role));
        Ok(bench)
    }
}

/// Where a client finds `broker` behind `proxy`.
fn url_of(proxy: &Proxy, broker: &Endpoint) -> String {
    let address = proxy.address();
    let endpoint = Endpoint::new(address.ip().to_string(), address.port());
    let endpoint = match broker.username() {
        Some(username) => endpoint.with_username(username),
        None => endpoint,
    };
    endpoint.to_string()
}

/// On whose link such a packet is.
fn side_of(rule: &Rule) -> Side {
    let is_publisher = rule.moment().is_some_and(|moment| is_of_publisher(moment.direction, moment.kind));
    if is_publisher { Side::Publisher } else { Side::Subscriber }
}

/// In which handshake a packet is: where a rule leaves it open, in that of QoS 1.
fn qos_of(rule: &Rule) -> Qos {
    match rule.moment().and_then(|moment| moment.kind) {
        Some(PacketKind::PUBREC | PacketKind::PUBREL | PacketKind::PUBCOMP) => Qos::ExactlyOnce,
        _ => rule.scope().qos.unwrap_or(Qos::AtLeastOnce),
    }
}

async fn at_subscriber(
    scene: &Scene,
    cast: &Cast,
    subject: Subject,
    strikes: &[&Strike],
) -> Result<(), Trouble> {
    let mut bench = cast.open(scene, subject, &scene.topic(&format!("{}/#", cast.role))).await?;
    bench.met().await?;
    bench.subscribed().await?;
    let mut streams = Streams::open(&bench).await?;
    let played = async {
        streams.hear_out(&mut bench, !cast.unheard).await?;
        for strike in strikes {
            let accepted = bench.tap.standing().accepted;
            let rule = bench.lie_in_wait(strike)?;
            streams.burst(&bench).await?;
            bench.kill_at(strike, rule).await?;
            bench.back_subscribed(accepted, false).await?;
            streams.settle(&mut bench).await?;
        }
        streams.hear_out(&mut bench, !cast.unheard).await
    };
    let played = played.await;
    let closed = bench.close().await;
    played.and(closed).and_then(|()| bench.judge_speech())?;
    streams.publisher.disconnect().await
}

async fn at_publisher(
    scene: &Scene,
    cast: &Cast,
    subject: Subject,
    strikes: &[&Strike],
) -> Result<(), Trouble> {
    let topic = scene.topic(&format!("{}/load", cast.role));
    let filters = [(topic.as_str(), Qos::ExactlyOnce)];
    let role = format!("{}-witness", cast.role);
    let subscriber = Subscriber::connect(scene, &role, Lifetime::DURABLE, &filters).await?;
    let witness = Witness { subscriber, filter: topic.clone() };
    scene.recorder.names().begin(scene.publisher_number());
    let played = async {
        let mut bench = cast.open(scene, subject, &topic).await?;
        bench.met().await?;
        let played = async {
            for strike in strikes {
                let accepted = bench.tap.standing().accepted;
                let rule = bench.lie_in_wait(strike)?;
                bench.kill_at(strike, rule).await?;
                bench.back(accepted).await?;
                bench.pay_debts().await?;
            }
            Ok(())
        };
        let played: Result<(), Trouble> = played.await;
        let closed = bench.close().await;
        played.and(closed)?;
        witness.drain(&bench).await
    };
    let played = played.await;
    scene.recorder.names().end();
    played?;
    witness.subscriber.stay(scene);
    Ok(())
}

impl Bench {
    /// Lets the link stand still at the packet of a strike.
    fn lie_in_wait(&self, strike: &Strike) -> Result<RuleId, Trouble> {
        let added = self.proxy.add(strike.proxied().clone());
        added.map_err(|error| not_struck(strike, &error.to_string()))
    }

    /// Waits until it does, kills the process, and starts it again.
    async fn kill_at(&mut self, strike: &Strike, rule: RuleId) -> Result<(), Trouble> {
        let Deed::Act(act, _) = &strike.deed else { return Ok(()) };
        let struck = self.strikes(rule).await;
        self.kill_as(act.name(), self.keeps && *act == Act::KillProcess).await?;
        self.cut(Ending::Rst);
        self.proxy.remove(rule);
        if !struck? {
            return Err(not_struck(strike, "its packet did not come"));
        }
        if *act == Act::WipeProcess {
            self.wipe().map_err(|error| unprepared(&error))?;
        }
        self.start()
    }

    fn wipe(&self) -> std::io::Result<()> {
        std::fs::remove_dir_all(&self.subject.directory)?;
        std::fs::create_dir(&self.subject.directory)
    }
}

fn not_struck(strike: &Strike, why: &str) -> Trouble {
    Trouble::NotStruck { strike: strike.to_string(), why: why.to_owned() }
}

fn unprepared(error: &std::io::Error) -> Trouble {
    Trouble::Subject(format!("no place for its store: {error}"))
}
