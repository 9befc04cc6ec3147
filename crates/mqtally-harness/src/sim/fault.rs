//! What goes wrong in a run: strikes of the nemesis, and what befalls processes at no packet in particular.

use super::ClientIx;
use super::plan::{ClientPlan, RolePlan};
use crate::nemesis::{self, Deed, Draw, Faults, Kind, Strike, is_of_publisher};
use crate::proxy::fault::{
    BlackHole, Cut, Delay, Fault as Proxied, Jitter, Refusal, Refuse, Stall, Throttle, Way,
};
use crate::proxy::{Direction, Ending, Moment, PacketKind, Rule, Times};
use fastrand::Rng;
use std::time::Duration;

/// What goes wrong. Durations are how long it lasts.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// A rule of the proxy, or a deed at a packet.
    Strike(Strike),
    /// The proxy cuts what a client has open.
    Cut(ClientIx, Ending),
    /// The client gives its connection up.
    GiveUp(ClientIx),
    /// A second connection while the first is open.
    Takeover(ClientIx),
    /// DISCONNECT, and away.
    Leave(ClientIx, Duration),
    /// The filters are given up and asked for again.
    Unsubscribe(ClientIx, Duration),
    /// kill -9, with the machine or without.
    KillClient {
        client: ClientIx,
        silently: bool,
        down: Duration,
    },
    KillBroker(Duration),
    StopBroker(Duration),
    PauseBroker(Duration),
}

impl Fault {
    pub(super) fn awaits_connect(&self) -> bool {
        matches!(self, Self::Strike(strike) if strike.awaits_connect())
    }
}

/// Kinds of the nemesis, as often as they stand here. (`windows` is about the load, which the plan decides.)
const KINDS: [&str; 24] = [
    "cut-publisher",
    "cut-publisher",
    "cut-publisher",
    "cut-publisher",
    "cut-publisher",
    "cut-subscriber",
    "cut-subscriber",
    "cut-subscriber",
    "cut-subscriber",
    "cut-subscriber",
    "aborted-connect",
    "aborted-connect",
    "connect-storm",
    "half-open",
    "half-open",
    "takeover",
    "kill-client",
    "kill-client",
    "kill-client",
    "slow-consumer",
    "segmentation",
    "pause-broker",
    "terminate-broker",
    "kill-broker",
];

/// Packets of connecting and subscribing.
const ASKING: [(Direction, PacketKind); 5] = [
    (Direction::ToServer, PacketKind::SUBSCRIBE),
    (Direction::ToClient, PacketKind::SUBACK),
    (Direction::ToServer, PacketKind::UNSUBSCRIBE),
    (Direction::ToClient, PacketKind::UNSUBACK),
    (Direction::ToServer, PacketKind::PINGREQ),
];

/// Anything that can go wrong among these clients.
pub(super) fn fault(draw: &mut Draw, clients: &[ClientPlan], publishers: usize) -> Fault {
    let client = draw.random.usize(..clients.len());
    let subscriber = draw.random.usize(publishers..clients.len());
    let random = &mut draw.random;
    match random.u8(..100) {
        0..8 => Fault::Cut(client, draw.ending()),
        8..44 => struck(draw, clients).map_or(Fault::Takeover(client), Fault::Strike),
        44..58 => Fault::Strike(Strike::rule(weather(draw).client(&*clients[client].name))),
        58..60 => Fault::Strike(Strike::rule(refusal(draw))),
        60..64 => Fault::Takeover(client),
        64..70 => Fault::Leave(client, below_secs(random, 15)),
        70..78 => Fault::Unsubscribe(subscriber, below_secs(random, 4)),
        78..87 => Fault::KillClient { client, silently: random.bool(), down: below_secs(random, 6) },
        87..94 => Fault::KillBroker(below_secs(random, 3)),
        94..97 => Fault::StopBroker(below_secs(random, 3)),
        _ => Fault::PauseBroker(below_secs(random, 5)),
    }
}

/// What somebody chose, in the order of the kinds.
pub(super) fn chosen(faults: &Faults, draw: &mut Draw) -> Vec<Fault> {
    let strikes = nemesis::KINDS.into_iter().flat_map(|kind| faults.strikes(kind, draw));
    strikes.map(|strike| Fault::Strike(named(strike))).collect()
}

/// A strike that the nemesis drew for one side of its stage, for that side here.
fn named(strike: Strike) -> Strike {
    let client = strike.proxied().scope().client.as_deref();
    let pattern = match client {
        Some("*-publisher") => "pub-*",
        Some("*-subscriber") => "sub-*",
        _ => return strike,
    };
    for_client(strike, pattern)
}

/// One of the strikes that the nemesis draws of a kind, at one of the clients that it is for, if there is one.
fn struck(draw: &mut Draw, clients: &[ClientPlan]) -> Option<Strike> {
    let name = pick(&mut draw.random, &KINDS);
    let mut strikes = Kind::from_name(name).map(|kind| (kind.draw)(draw)).unwrap_or_default();
    let strike = strikes.swap_remove(draw.random.usize(..strikes.len()));
    let publishes = of_publisher(strike.proxied());
    let is_storm = matches!(strike.proxied().fault(), Proxied::Storm(_));
    let able: Vec<&ClientPlan> = clients
        .iter()
        .filter(|it| publishes.is_none_or(|publishes| publishes == matches!(it.role, RolePlan::Publisher(_))))
        .filter(|it| !is_storm || survives_a_storm(it))
        .collect();
    let client = draw.random.choice(able)?;
    Some(for_client(strike, &client.name))
}

/// Where a session has expired, a storm's connections begin another one, which the client takes for its own: it waits for
/// ever for what it had subscribed to.
fn survives_a_storm(client: &ClientPlan) -> bool {
    matches!(client.session_expiry, 0 | u32::MAX)
}

/// Whether a strike at a handshake is for a publisher, where it is for one side only.
fn of_publisher(rule: &Rule) -> Option<bool> {
    let moment = rule.moment()?;
    let is_connecting = matches!(moment.kind, Some(PacketKind::CONNECT | PacketKind::CONNACK));
    (!is_connecting).then(|| is_of_publisher(moment.direction, moment.kind))
}

fn for_client(strike: Strike, pattern: &str) -> Strike {
    let Strike { deed, load } = strike;
    let deed = match deed {
        Deed::Rule(rule) => Deed::Rule(rule.client(pattern)),
        Deed::Act(act, rule) => Deed::Act(act, rule.client(pattern)),
    };
    Strike { deed, load }
}

/// What a network does to a link beside cutting it, and cuts that no kind of the nemesis has.
fn weather(draw: &mut Draw) -> Rule {
    let direction = if draw.random.bool() { Direction::ToServer } else { Direction::ToClient };
    let way = if draw.random.bool() { Way::Both } else { Way::One(direction) };
    let lasting_ms = draw.random.u64(1..8_000);
    let (ms, seed) = (draw.random.u64(1..400), draw.random.u32(1..));
    let lasting = |fault: Proxied| Rule::new(fault).lasting_ms(lasting_ms);
    match draw.random.u8(..12) {
        0..2 => lasting(Proxied::Delay(Delay { direction, ms, jitter: None })),
        2..4 => lasting(Proxied::Delay(Delay { direction, ms, jitter: Some(Jitter { ms_max: ms, seed }) })),
        4..6 => lasting(Proxied::Throttle(Throttle { direction, bytes_per_s: 200 + 20 * ms })),
        6..8 => lasting(Proxied::Stall(Stall { way })),
        8..10 => lasting(Proxied::BlackHole(BlackHole { way })),
        _ => {
            let (direction, kind) = pick(&mut draw.random, &ASKING);
            let (place, ending) = (draw.side(), draw.ending());
            let moment = Moment { place, direction, kind: Some(kind), nth: 1 };
            Rule::new(Proxied::Cut(Cut { ending })).at(moment)
        }
    }
}

/// Nobody gets in: for a while, or so often.
fn refusal(draw: &mut Draw) -> Rule {
    let refuse = Rule::new(Proxied::Refuse(Refuse { how: Refusal::Close(draw.ending()) }));
    if draw.random.bool() {
        refuse.lasting_ms(draw.random.u64(1..4_000))
    } else {
        refuse.times(Times::Limited(draw.random.u32(1..=6)))
    }
}

fn below_secs(random: &mut Rng, max: u64) -> Duration {
    Duration::from_micros(random.u64(..max * 1_000_000))
}

fn pick<T: Copy>(random: &mut Rng, among: &[T]) -> T {
    among[random.usize(..among.len())]
}
