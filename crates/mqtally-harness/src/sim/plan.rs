//! What a seed decides before the first event: the broker, the clients, and what goes wrong when.

use super::ClientIx;
use super::fault::{self, Fault, fault};
use crate::nemesis::{Draw, Faults};
use bytestring::ByteString;
use fastrand::Rng;
use mqtally_proto::broker::Limits;
use mqtally_proto::packet::{Qos, RetainHandling, Subscription, Version};
use std::sync::Arc;
use std::time::Duration;

const TOPICS: [&str; 5] = ["sim/a", "sim/b", "sim/a/x", "sim/a/y", "sim/b/x/z"];
const FILTERS: [&str; 8] = ["sim/#", "#", "sim/+", "sim/a/#", "sim/+/x", "sim/a", "sim/b", "sim/a/x"];
/// QoS 2 has the most that can go wrong.
const LEVELS: [Qos; 5] =
    [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::ExactlyOnce];
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) run: u32,
    pub(super) limits: Limits,
    /// How long a commit takes at most, at the broker and at the clients.
    pub(super) sync_max: Duration,
    pub(super) latency_us_max: u64,
    /// How long faults strike.
    pub(super) chaos: Duration,
    pub(super) clients: Vec<ClientPlan>,
    pub(super) faults: Vec<(Duration, Fault)>,
}

#[derive(Debug, Clone)]
pub(super) struct ClientPlan {
    pub(super) name: Arc<str>,
    pub(super) version: Version,
    /// Seconds, above 0: a dead connection has to be noticed.
    pub(super) keep_alive: u16,
    /// Seconds that the session outlives a connection; 0 is a clean session on every connection.
    pub(super) session_expiry: u32,
    pub(super) receive_maximum: u16,
    pub(super) in_flight_max: u16,
    /// Whether it keeps what it has to over a crash.
    pub(super) store: bool,
    pub(super) role: RolePlan,
}

#[derive(Debug, Clone)]
pub(super) enum RolePlan {
    Publisher(PublisherPlan),
    Subscriber(SubscriberPlan),
}

#[derive(Debug, Clone)]
pub(super) struct PublisherPlan {
    pub(super) streams: Vec<(ByteString, Qos)>,
    pub(super) messages: u32,
    pub(super) burst_max: u32,
    /// Between two bursts at most.
    pub(super) pause_max: Duration,
    pub(super) retains: bool,
    pub(super) expires: bool,
}

#[derive(Debug, Clone)]
pub(super) struct SubscriberPlan {
    pub(super) filters: Vec<Subscription>,
    /// Without a store: acknowledge at hand-over, and not when the handler is done.
    pub(super) automatic: bool,
    pub(super) handling_max: Duration,
}

impl Plan {
    /// What this seed decides; the faults only where nobody has chosen any.
    pub(super) fn new(seed: u64, chosen: &Faults) -> Self {
        let random = &mut Rng::with_seed(seed);
        let run = random.u32(1..);
        let versions = pick(
            random,
            &[
                &[Version::V3_1_1][..],
                &[Version::V5_0],
                &[Version::V3_1_1, Version::V5_0],
                &[Version::V3_1_1, Version::V5_0],
            ],
        );
        let chaos = Duration::from_millis(random.u64(2_000..40_000));
        let publishers = random.usize(1..=3);
        let subscribers = random.usize(1..=4);
        let clients: Vec<ClientPlan> = (0..publishers + subscribers)
            .map(|ix| {
                let version = pick(random, versions);
                client(random, ix, (ix < publishers).then_some(chaos), version)
            })
            .collect();
        let calm = random.u8(..10) == 0;
        let count = if calm { 0 } else { random.usize(1..=30) };
        // A stream of its own: what is added there leaves the rest of the plan as it was.
        let mut draw = Draw {
            random: random.fork(),
            has_qos_2: true,
            receive_maximum: None,
            is_v5: versions.contains(&Version::V5_0),
        };
        let faults: Vec<Fault> = match chosen {
            Faults::All => (0..count).map(|_| fault(&mut draw, &clients, publishers)).collect(),
            Faults::Only(_) => fault::chosen(chosen, &mut draw),
        };
        let mut faults: Vec<(Duration, Fault)> =
            faults.into_iter().map(|fault| (below(random, chaos), fault)).collect();
        if *chosen != Faults::All {
            // Clients that nothing else befalls connect once.
            faults
                .iter_mut()
                .filter(|(_, fault)| fault.awaits_connect())
                .for_each(|(at, _)| *at = Duration::ZERO);
        }
        faults.sort_by_key(|(at, _)| *at);
        Self {
            run,
            limits: limits(random),
            sync_max: Duration::from_micros(pick(random, &[50, 5_000, 50_000, 200_000])),
            latency_us_max: pick(random, &[100, 2_000, 20_000, 80_000]),
            chaos,
            clients,
            faults,
        }
    }
}

fn limits(random: &mut Rng) -> Limits {
    Limits {
        receive_maximum: pick(random, &[1, 2, 10, 1_024]),
        in_flight_max: pick(random, &[1, 3, 20, 1_024]),
        ..Limits::default()
    }
}

/// A publisher for so long, or a subscriber.
fn client(random: &mut Rng, ix: ClientIx, publishes: Option<Duration>, version: Version) -> ClientPlan {
    let (kind, role) = match publishes {
        Some(chaos) => ("pub", RolePlan::Publisher(publisher(random, chaos))),
        None => ("sub", RolePlan::Subscriber(subscriber(random, version))),
    };
    let store = random.bool();
    let session_expiry = match random.u8(..10) {
        // What is stored is about a session that lasts.
        0..2 if !store => 0,
        2 => random.u32(1..10),
        3 => random.u32(10..120),
        _ => u32::MAX,
    };
    ClientPlan {
        name: format!("{kind}-{ix}").into(),
        version,
        keep_alive: random.u16(2..=20),
        session_expiry,
        receive_maximum: pick(random, &[1, 2, 5, 100, u16::MAX]),
        in_flight_max: pick(random, &[1, 2, 10, 100]),
        store,
        role,
    }
}

fn publisher(random: &mut Rng, chaos: Duration) -> PublisherPlan {
    let mut streams: Vec<(ByteString, Qos)> = Vec::new();
    for _ in 0..random.usize(1..=4) {
        let stream = (ByteString::from_static(pick(random, &TOPICS)), pick(random, &LEVELS));
        if !streams.contains(&stream) {
            streams.push(stream);
        }
    }
    let (messages, burst_max) = (random.u32(5..80), pick(random, &[1, 3, 12]));
    // Mostly the load lasts as long as the faults do.
    let lasts = if random.u8(..4) == 0 { chaos / 10 } else { chaos };
    PublisherPlan {
        streams,
        messages,
        burst_max,
        pause_max: lasts * (burst_max + 1) / messages,
        retains: random.u8(..3) == 0,
        expires: random.bool(),
    }
}

fn subscriber(random: &mut Rng, version: Version) -> SubscriberPlan {
    let mut filters: Vec<Subscription> = Vec::new();
    for _ in 0..random.usize(1..=3) {
        let filter = pick(random, &FILTERS);
        if filters.iter().all(|other| &*other.filter != filter) {
            filters.push(subscription(random, filter, version));
        }
    }
    SubscriberPlan {
        filters,
        automatic: random.u8(..3) == 0,
        handling_max: Duration::from_millis(pick(random, &[1, 10, 60])),
    }
}

fn subscription(random: &mut Rng, filter: &'static str, version: Version) -> Subscription {
    let mut subscription = Subscription::new(filter, pick(random, &LEVELS));
    if version == Version::V5_0 {
        let handlings = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
        subscription.retain_handling = pick(random, &handlings);
    }
    subscription
}

fn below(random: &mut Rng, max: Duration) -> Duration {
    Duration::from_micros(random.u64(..u64::try_from(max.as_micros()).unwrap_or(u64::MAX)))
}

fn pick<T: Copy>(random: &mut Rng, among: &[T]) -> T {
    among[random.usize(..among.len())]
}
