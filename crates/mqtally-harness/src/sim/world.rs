//! A whole run: chaos, healing, draining.

use super::broker::BrokerNode;
use super::client::{Client, Role};
use super::net::{Net, Then};
use super::plan::{Fault, Plan, RolePlan};
use super::tamper::{Tamper, Toward};
use super::trace::Trace;
use super::{Happening, Simulated, Simulation};
use fastrand::Rng;
use mqtally_history::event::{BrokerEvent, BrokerKind, EventKind, Header};
use mqtally_history::marker::MessageId;
use mqtally_history::packet::Version as SeenVersion;
use mqtally_history::profile::Profile;
use mqtally_proto::broker::Config;
use mqtally_proto::packet::Version;
use mqtally_proto::topic;
use std::sync::Arc;
use std::time::Duration;

/// The only part of a simulated run.
const GROUP: &str = "simulation";
/// Between two looks at how far the run is.
const LOOK: Duration = Duration::from_millis(200);
/// Virtual time in which everybody has to come back, and everything to arrive, once nothing goes wrong any more.
const DRAIN_MAX: Duration = Duration::from_secs(600);
/// How long all has to be well before sentinels go out, and before the run is over: what is on its way arrives.
const REST: Duration = Duration::from_secs(2);

/// How far the run is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Chaos,
    /// Nothing goes wrong any more; everybody comes back, and all is well since then.
    Healing {
        since: Duration,
    },
    /// Sentinels are out.
    Draining,
    /// All have arrived.
    Resting(Duration),
    Over {
        drained: bool,
    },
}

pub(super) struct World<'a> {
    seed: u64,
    plan: Plan,
    net: Net,
    broker: BrokerNode,
    clients: Vec<Client>,
    tamper: &'a mut dyn Tamper,
    phase: Phase,
    /// Sentinels, and to whom they are owed.
    owed: Vec<(Arc<str>, MessageId)>,
}

impl<'a> World<'a> {
    pub(super) fn new(simulation: Simulation, plan: Plan, tamper: &'a mut dyn Tamper) -> Self {
        let Simulation { seed, defect, .. } = simulation;
        // Another stream than the plan's: a change there leaves what happens here as it was.
        let random = Rng::with_seed(seed ^ 0x9E37_79B9_7F4A_7C15);
        let trace = Trace::new(plan.run);
        let names = plan.clients.iter().map(|client| client.name.clone()).collect();
        let config = Config { limits: plan.limits.clone(), authenticate: false };
        let client = |(ix, client): (usize, &super::plan::ClientPlan)| {
            Client::new(ix, client.clone(), plan.run, plan.sync_max, defect)
        };
        Self {
            seed,
            net: Net::new(random, trace, names, plan.latency_us_max),
            broker: BrokerNode::new(config, plan.sync_max, simulation),
            clients: plan.clients.iter().enumerate().map(client).collect(),
            plan,
            tamper,
            phase: Phase::Chaos,
            owed: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Simulated {
        self.begin();
        let drained = loop {
            if let Phase::Over { drained } = self.phase {
                break drained;
            }
            // There always is a next look.
            if let Some(happening) = self.net.next() {
                self.happen(happening);
            }
        };
        self.net.trace.record(EventKind::GroupEnded { group: GROUP.into(), drained });
        let (mut accepted, mut keepers) = (Vec::new(), Vec::new());
        for client in self.clients.iter().filter(|client| client.plan.store) {
            match &client.role {
                Role::Publisher(it) => accepted.extend(&it.accepted),
                Role::Subscriber(_) => keepers.push(client.peer.name.clone()),
            }
        }
        Simulated {
            header: self.header(),
            elapsed: self.net.now,
            events: self.net.trace.events,
            accepted,
            keepers,
        }
    }

    fn header(&self) -> Header {
        Header {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            run: self.plan.run,
            seed: self.seed,
            broker_kind: BrokerKind::Embedded,
            broker_name: "simulated".to_owned(),
            profile: Profile::PowerSafe,
            measured: None,
            required: Vec::new(),
        }
    }

    fn begin(&mut self) {
        let v5 = self.plan.clients.iter().any(|client| client.version == Version::V5_0);
        let version = if v5 { SeenVersion::V5_0 } else { SeenVersion::V3_1_1 };
        self.net.trace.broker(BrokerEvent::Started);
        self.net.trace.record(EventKind::GroupStarted { group: GROUP.into(), version });
        for client in &mut self.clients {
            client.start(&mut self.net);
        }
        for (at, (when, _)) in self.plan.faults.iter().enumerate() {
            self.net.agenda.plan(*when, Happening::Fault(at));
        }
        self.net.agenda.plan(self.plan.chaos, Happening::Look);
    }

    fn happen(&mut self, happening: Happening) {
        let Self { net, broker, clients, tamper, .. } = self;
        match happening {
            Happening::Arrived(link, Toward::Broker) => broker.arrived(link, net, &mut **tamper),
            Happening::Arrived(link, Toward::Client) => clients[net.client_of(link)].arrived(link, net),
            Happening::BrokerSynced(life) => broker.synced(life, net, &mut **tamper),
            Happening::BrokerTimer(life) => broker.timer(life, net, &mut **tamper),
            Happening::BrokerStarts => broker.start(net, &mut **tamper),
            Happening::BrokerResumes(life) => broker.resume(life, net, &mut **tamper),
            Happening::Client(ix, life, alarm) => clients[ix].alarm(life, alarm, net),
            Happening::Fault(at) => self.strike(self.plan.faults[at].1),
            Happening::Sprung(client, Then::KillClient(down)) => {
                self.strike(Fault::KillClient { client, silently: false, down });
            }
            Happening::Sprung(_, Then::KillBroker(down)) => broker.kill(down, net),
            // The network cuts by itself.
            Happening::Sprung(_, Then::Cut) => {}
            Happening::Look => {
                self.look();
                self.net.after(LOOK, Happening::Look);
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        let Self { net, broker, clients, tamper, .. } = self;
        let (client, kind) = match fault {
            Fault::Cut(ix, how) => (ix, clients[ix].cut(how, net).then_some("cut-link")),
            Fault::Trap(ix, trap) => {
                net.traps.insert(ix, trap);
                return;
            }
            Fault::Stall(ix, toward, delay) => {
                let link = clients[ix].peer.link();
                link.into_iter().for_each(|link| net.stall(link, toward, delay));
                (ix, link.map(|_| "stall"))
            }
            Fault::Takeover(ix) => (ix, clients[ix].take_over(net).then_some("takeover")),
            Fault::AbortedConnects(ix, count) => {
                let kind = if count > 1 { "connect-storm" } else { "aborted-connect" };
                (ix, clients[ix].abort_connects(count, net).then_some(kind))
            }
            Fault::Leave(ix, away) => (ix, clients[ix].leave(away, net).then_some("leave")),
            Fault::Unsubscribe(ix, pause) => {
                (ix, clients[ix].unsubscribe(pause, net).then_some("unsubscribe"))
            }
            Fault::KillClient { client, silently, down } => {
                (client, clients[client].kill(silently, down, net).then_some("kill-client"))
            }
            Fault::KillBroker(down) => return broker.kill(down, net),
            Fault::StopBroker(down) => return broker.stop(down, net, &mut **tamper),
            Fault::PauseBroker(pause) => return broker.pause(pause, net),
        };
        if let Some(kind) = kind {
            net.trace.fault(kind, Some(&clients[client].peer.name));
        }
    }

    /// Goes on to the next phase where the one before is through.
    fn look(&mut self) {
        let now = self.net.now;
        let ready = self.broker.is_ready() && self.clients.iter().all(|client| client.is_ready(&self.net));
        let settled = self.clients.iter().all(Client::is_settled);
        match self.phase {
            Phase::Chaos => {
                self.net.traps.clear();
                self.phase = Phase::Healing { since: now };
            }
            Phase::Healing { since } if ready && settled && now >= since + REST => {
                self.send_sentinels();
                self.phase = Phase::Draining;
            }
            Phase::Healing { .. } if !(ready && settled) => self.phase = Phase::Healing { since: now },
            Phase::Draining if ready && settled && self.has_arrived() => {
                self.phase = Phase::Resting(now + REST);
            }
            Phase::Resting(until) if now >= until && settled => {
                self.phase = Phase::Over { drained: true };
            }
            _ => {}
        }
        if now > self.plan.chaos + DRAIN_MAX {
            self.phase = Phase::Over { drained: false };
        }
    }

    fn send_sentinels(&mut self) {
        for at in 0..self.clients.len() {
            let Role::Publisher(publisher) = &mut self.clients[at].role else { continue };
            let sentinels = publisher.sentinels(&mut self.net.random);
            for (row, topic) in &sentinels {
                let readers = self.plan.clients.iter().filter(|client| match &client.role {
                    RolePlan::Subscriber(it) => it.filters.iter().any(|it| topic::matches(&it.filter, topic)),
                    RolePlan::Publisher(_) => false,
                });
                self.owed.extend(readers.map(|reader| (reader.name.clone(), row.id)));
            }
            let rows = sentinels.into_iter().map(|(row, _)| row).collect();
            self.clients[at].insert(rows, &mut self.net);
        }
    }

    fn has_arrived(&self) -> bool {
        self.owed.iter().all(|(client, sentinel)| self.net.trace.has_arrived(client, *sentinel))
    }
}
