//! A whole run: chaos, healing, draining.

use super::broker::BrokerNode;
use super::client::{Client, Role};
use super::fault::Fault;
use super::net::Net;
use super::plan::{Plan, RolePlan};
use super::tamper::{Tamper, Toward};
use super::trace::Trace;
use super::{ClientIx, Happening, Simulated, Simulation};
use crate::nemesis::{Act, Deed, Strike};
use crate::proxy::RuleId;
use fastrand::Rng;
use mqtally_history::event::{BrokerEvent, BrokerKind, EventKind, Header};
use mqtally_history::marker::MessageId;
use mqtally_history::packet::Version as SeenVersion;
use mqtally_history::profile::Profile;
use mqtally_proto::broker::Config;
use mqtally_proto::packet::Version;
use mqtally_proto::topic;
use std::collections::BTreeMap;
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

/// How long a process is away that a packet was the end of.
const DOWN_MAX: Duration = Duration::from_secs(3);

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
    /// Deeds whose packet is awaited.
    deeds: BTreeMap<RuleId, Strike>,
    /// Sentinels, and to whom they are owed.
    owed: Vec<(Arc<str>, MessageId)>,
}

impl<'a> World<'a> {
    pub(super) fn new(simulation: &Simulation, plan: Plan, tamper: &'a mut dyn Tamper) -> Self {
        let Simulation { seed, defect, .. } = *simulation;
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
            deeds: BTreeMap::new(),
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
            Happening::Reached(link, toward) => net.reached(link, toward),
            Happening::Woken(link) => net.woken(link),
            Happening::Arrived(link, Toward::Broker) => broker.arrived(link, net, &mut **tamper),
            Happening::Arrived(link, Toward::Client) => clients[net.client_of(link)].arrived(link, net),
            Happening::BrokerSynced(life) => broker.synced(life, net, &mut **tamper),
            Happening::BrokerTimer(life) => broker.timer(life, net, &mut **tamper),
            Happening::BrokerStarts => broker.start(net, &mut **tamper),
            Happening::BrokerResumes(life) => broker.resume(life, net, &mut **tamper),
            Happening::Client(ix, life, alarm) => clients[ix].alarm(life, alarm, net),
            Happening::Fault(at) => self.strike(self.plan.faults[at].1.clone()),
            Happening::Struck(rule, client) => self.struck(rule, client),
            Happening::Look => {
                self.look();
                self.net.after(LOOK, Happening::Look);
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        let Self { net, broker, clients, tamper, .. } = self;
        let (client, kind) = match fault {
            Fault::Strike(strike) => return self.obey(strike),
            // The proxy tells of it.
            Fault::Cut(ix, ending) => return net.cut(&clients[ix].peer.name, ending),
            Fault::GiveUp(ix) => (ix, clients[ix].give_up(net).then_some("half-open")),
            Fault::Takeover(ix) => (ix, clients[ix].take_over(net).then_some("takeover")),
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

    fn obey(&mut self, strike: Strike) {
        // A plan has far fewer rules than a proxy takes, and draws none that it refuses.
        if let Ok(id) = self.net.obey(&strike)
            && matches!(strike.deed, Deed::Act(..))
        {
            self.deeds.insert(id, strike);
        }
    }

    /// Does the deed for which a rule holds a client's link still.
    fn struck(&mut self, rule: RuleId, client: ClientIx) {
        let Some(Deed::Act(act, held)) = self.deeds.remove(&rule).map(|strike| strike.deed) else { return };
        let down = self.net.below(DOWN_MAX);
        self.strike(match act {
            Act::HalfOpen => Fault::GiveUp(client),
            Act::Takeover => Fault::Takeover(client),
            Act::KillClient | Act::WipeClient | Act::KillProcess | Act::WipeProcess => {
                Fault::KillClient { client, silently: false, down }
            }
            Act::PauseBroker => Fault::PauseBroker(held.duration_ms().map_or(down, Duration::from_millis)),
            Act::TerminateBroker => Fault::StopBroker(down),
            Act::KillBroker => Fault::KillBroker(down),
        });
        // What was given up stays open for the broker.
        if act != Act::HalfOpen {
            self.net.lift(rule);
        }
    }

    /// Goes on to the next phase where the one before is through.
    fn look(&mut self) {
        let now = self.net.now;
        let ready = self.broker.is_ready() && self.clients.iter().all(|client| client.is_ready(&self.net));
        let settled = self.clients.iter().all(Client::is_settled);
        match self.phase {
            Phase::Chaos => {
                self.net.calm_down();
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
