//! What the run's tests share: brokers to run against, and a run in one call.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod mutant;

use mqtally::endpoint::Endpoint;
use mqtally_harness::broker::{Durability, Options, serve};
use mqtally_harness::process::{BrokerSource, BrokerUnderTest};
use mqtally_harness::recorder::{HISTORY_FILE, Recorder};
use mqtally_harness::run::{Group, Offer, Plan, RunEvent, Summary, header, run};
use mqtally_history::checker::check;
use mqtally_history::event::{Event, Header};
use mqtally_history::journal::Reader;
use mqtally_history::profile::Profile;
use mqtally_history::report::Report;
use std::fs::File;
use std::io::BufReader;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// The embedded broker in this process, volatile, on a free port. It ends with its handle.
pub(crate) struct Embedded {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Embedded {
    pub(crate) async fn start() -> Self {
        Self::with(Durability::Volatile).await
    }

    /// The same that keeps what it is told to.
    pub(crate) async fn with(durability: Durability) -> Self {
        Self::serving(Options::new((Ipv4Addr::LOCALHOST, 0).into(), durability)).await
    }

    /// The same with these options.
    pub(crate) async fn serving(options: Options) -> Self {
        let (ready, address) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let ready = |address| ready.send(address).expect("nobody waits for the embedded broker");
            serve(options, ready, std::future::pending()).await.expect("the embedded broker failed");
        });
        Self { address: address.await.expect("the embedded broker did not start"), serving }
    }

    pub(crate) fn source(&self) -> BrokerSource {
        url(self.address)
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A broker that listens at `address`.
pub(crate) fn url(address: SocketAddr) -> BrokerSource {
    BrokerSource::Url(Endpoint::new(address.ip().to_string(), address.port()))
}

/// A plan of a few small groups with short limits.
pub(crate) fn plan(groups: &[Group]) -> Plan {
    let mut plan = Plan::new(fastrand::u32(..), 42);
    plan.groups = groups.to_vec();
    plan.messages = Some(60);
    plan
}

/// A run and what it left.
pub(crate) struct Played {
    pub(crate) summary: Summary,
    pub(crate) told: Vec<RunEvent>,
    pub(crate) header: Header,
    pub(crate) events: Vec<Event>,
}

impl Played {
    /// What the checker says to it.
    pub(crate) fn report(&self) -> Report {
        check(&self.header, self.events.iter().cloned())
    }

    pub(crate) fn troubles(&self) -> Vec<String> {
        let troubles = self.told.iter().filter_map(|event| match event {
            RunEvent::Trouble { stage, version, reason } => Some(format!("{stage} on {version:?}: {reason}")),
            _ => None,
        });
        troubles.collect()
    }
}

/// Plays `plan` on a durable broker.
pub(crate) async fn play(plan: Plan, source: BrokerSource) -> Played {
    play_until(plan, source, Profile::Durable, |_| false).await
}

/// Plays `plan` on a broker with this profile; cancelled with the first event that `enough` accepts.
pub(crate) async fn play_until(
    plan: Plan,
    source: BrokerSource,
    profile: Profile,
    mut enough: impl FnMut(&RunEvent) -> bool,
) -> Played {
    let directory = tempfile::tempdir().expect("no directory for the history");
    let broker = BrokerUnderTest::start(source).await.expect("the broker did not start");
    let plan = plan.adapted_to(Offer::of(&broker).await);
    let header = header(&plan, &broker, profile);
    let recorder = Recorder::create(directory.path(), &header).expect("no history");
    let mut told = Vec::new();
    let cancelled = Notify::new();
    let observe = |event| {
        if enough(&event) {
            cancelled.notify_one();
        }
        told.push(event);
    };
    let played = run(plan, broker, &recorder, observe, cancelled.notified()).await;
    let summary = played.expect("the history could not be written");
    let file = BufReader::new(File::open(directory.path().join(HISTORY_FILE)).expect("no history"));
    let reader = Reader::new(file).expect("not a history");
    let events = reader.map(|event| event.expect("a damaged history")).collect();
    Played { summary, told, header, events }
}
