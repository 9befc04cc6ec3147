//! The network: links between clients and the broker, how late what they carry arrives, and what becomes of it.
//!
//! A link is two legs with the fault proxy between them (`middle`), each of two ways. What is written to a way arrives
//! in order, late. An end that resets loses a tail of what it wrote, most often in the middle of a packet; all else that
//! goes wrong with a link is a rule of the proxy's.

use super::agenda::Agenda;
use super::middle::{Middle, Proxy};
use super::tamper::Toward;
use super::trace::Trace;
use super::way::{Piece, Way};
use super::{ClientIx, Happening};
use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use mqtally_history::event::Closing;
use mqtally_proto::packet::{Packet, Version, encode};
use std::sync::Arc;
use std::time::Duration;

/// Number of a link: its place in the list of all that there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LinkId(pub(super) usize);

/// A packet as it goes over a link; none for what cannot be encoded: only a hook can make up such a packet.
pub(super) fn frame(packet: &Packet, version: Version) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    encode(packet, version, &mut bytes).ok()?;
    Some(bytes.freeze())
}

#[derive(Debug)]
pub(super) struct Link {
    client: ClientIx,
    pub(super) middle: Middle,
    /// How its end is recorded, where the proxy had a hand in it.
    pub(super) ends_as: Option<Closing>,
    /// From an end to the middle.
    inward: [Way; 2],
    /// From the middle to an end.
    outward: [Way; 2],
}

impl Link {
    pub(super) fn inward(&mut self, toward: Toward) -> &mut Way {
        &mut self.inward[toward as usize]
    }

    pub(super) fn outward(&mut self, toward: Toward) -> &mut Way {
        &mut self.outward[toward as usize]
    }
}

/// Everything that the nodes share: the clock, chance, the wires, and the record of what happened.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) now: Duration,
    pub(super) agenda: Agenda<Happening>,
    pub(super) random: Rng,
    pub(super) trace: Trace,
    pub(super) proxy: Proxy,
    links: Vec<Link>,
    names: Vec<Arc<str>>,
    latency_us_max: u64,
    /// Whether the broker takes connections.
    pub(super) is_listening: bool,
}

impl Net {
    /// A network for the clients of these names, in their order.
    pub(super) fn new(random: Rng, trace: Trace, names: Vec<Arc<str>>, latency_us_max: u64) -> Self {
        Self {
            now: Duration::ZERO,
            agenda: Agenda::default(),
            random,
            trace,
            proxy: Proxy::new(),
            links: Vec::new(),
            names,
            latency_us_max,
            is_listening: true,
        }
    }

    /// The next thing that happens, with the clock set to it.
    pub(super) fn next(&mut self) -> Option<Happening> {
        let (at, what) = self.agenda.next()?;
        self.now = at;
        self.trace.now = at;
        Some(what)
    }

    /// Plans something for so much later.
    pub(super) fn after(&mut self, delay: Duration, what: Happening) {
        self.agenda.plan(self.now + delay, what);
    }

    /// A duration below `max`, evenly.
    pub(super) fn below(&mut self, max: Duration) -> Duration {
        let max = u64::try_from(max.as_micros()).unwrap_or(u64::MAX).max(1);
        Duration::from_micros(self.random.u64(..max))
    }

    /// One in `n`.
    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.random.u32(..n) == 0
    }

    /// A new link from a client to the broker, its connection of this number.
    pub(super) fn open(&mut self, client: ClientIx, number: u32) -> LinkId {
        let link = self.add_link(client, Middle::Vacant);
        self.post(link, Toward::Broker, Piece::Open(number));
        link
    }

    pub(super) fn add_link(&mut self, client: ClientIx, middle: Middle) -> LinkId {
        let (inward, outward) = Default::default();
        self.links.push(Link { client, middle, ends_as: None, inward, outward });
        LinkId(self.links.len() - 1)
    }

    pub(super) fn client_of(&self, link: LinkId) -> ClientIx {
        self.links[link.0].client
    }

    pub(super) fn name_of(&self, link: LinkId) -> Arc<str> {
        self.names[self.client_of(link)].clone()
    }

    /// How a connection's end is recorded that its client sees as `seen`.
    pub(super) fn closing(&self, link: LinkId, seen: Closing) -> Closing {
        self.links[link.0].ends_as.unwrap_or(seen)
    }

    /// An end writes packets, together.
    pub(super) fn send(&mut self, link: LinkId, toward: Toward, frames: &[Bytes]) {
        if !frames.is_empty() {
            self.post(link, toward, Piece::Bytes(frames.concat().into()));
        }
    }

    /// An end says that it is done: what it wrote before arrives, then its end.
    pub(super) fn finish(&mut self, link: LinkId, toward: Toward) {
        self.post(link, toward, Piece::End { reset: false });
    }

    /// An end gives up at once: a tail of what it wrote is lost.
    pub(super) fn reset(&mut self, link: LinkId, toward: Toward) {
        let (it, random) = self.link_and_chance(link);
        it.inward(toward).lose_tail(random);
        self.post(link, toward, Piece::End { reset: true });
    }

    /// The end is gone that this direction leads to.
    pub(super) fn ignore(&mut self, link: LinkId, toward: Toward) {
        self.link_mut(link).outward(toward).swallow();
    }

    /// The client's machine is gone, and nobody is told.
    pub(super) fn vanish(&mut self, link: LinkId) {
        self.link_mut(link).inward(Toward::Broker).swallow();
        self.ignore(link, Toward::Client);
    }

    /// Whether what is written now arrives soon: nothing has broken the link, noticed or not, and nothing makes it late.
    pub(super) fn is_sound(&self, link: LinkId) -> bool {
        let Link { middle, inward, outward, .. } = &self.links[link.0];
        middle.is_calm() && inward.iter().chain(outward).all(Way::is_sound)
    }

    /// What has arrived at an end.
    pub(super) fn take(&mut self, link: LinkId, toward: Toward) -> Option<Piece> {
        let way = self.link_mut(link).outward(toward);
        way.arrive();
        way.take()
    }

    /// The middle writes.
    pub(super) fn pass(&mut self, link: LinkId, toward: Toward, piece: Piece) {
        let earliest = self.earliest();
        if let Some(at) = self.link_mut(link).outward(toward).post(piece, earliest) {
            self.agenda.plan(at, Happening::Arrived(link, toward));
        }
    }

    fn post(&mut self, link: LinkId, toward: Toward, piece: Piece) {
        let earliest = self.earliest();
        if let Some(at) = self.link_mut(link).inward(toward).post(piece, earliest) {
            self.agenda.plan(at, Happening::Reached(link, toward));
        }
    }

    /// When what leaves now is at the other end of its leg.
    fn earliest(&mut self) -> Duration {
        self.now + Duration::from_micros(10 + self.random.u64(..(self.latency_us_max / 2).max(1)))
    }

    /// From one end of a link to the other at most, where nothing makes it late.
    pub(super) fn latency_max(&self) -> Duration {
        Duration::from_micros(20 + self.latency_us_max)
    }

    pub(super) fn link_mut(&mut self, link: LinkId) -> &mut Link {
        &mut self.links[link.0]
    }

    pub(super) fn link_and_chance(&mut self, link: LinkId) -> (&mut Link, &mut Rng) {
        (&mut self.links[link.0], &mut self.random)
    }

    pub(super) fn links_and_proxy(&mut self) -> (&mut [Link], &mut Proxy) {
        (&mut self.links, &mut self.proxy)
    }

    /// Links with a relay in the middle.
    pub(super) fn open_links(&self) -> Vec<LinkId> {
        let is_open = |link: &LinkId| matches!(self.links[link.0].middle, Middle::Relayed(_));
        (0..self.links.len()).map(LinkId).filter(is_open).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtally_proto::packet::{Connect, Properties, Publish};

    const SEEDS: std::ops::Range<u64> = 0..50;

    fn net(seed: u64, rules: &[&str]) -> Net {
        let names = ["a", "b"].map(Arc::from).to_vec();
        let mut net = Net::new(Rng::with_seed(seed), Trace::default(), names, 1_000);
        for rule in rules {
            net.obey(&rule.parse().expect(rule)).expect("a rule that makes sense");
        }
        net
    }

    fn connect() -> Packet {
        Packet::Connect(Box::new(Connect {
            version: Version::V5_0,
            clean_start: true,
            keep_alive: 60,
            client_id: "a".into(),
            will: None,
            username: None,
            password: None,
            properties: Properties::default(),
        }))
    }

    /// A client has connected, and published that many messages in as many writes.
    fn busy(seed: u64, rules: &[&str], publishes: u8) -> (Net, LinkId, Vec<Bytes>) {
        let mut net = net(seed, rules);
        let link = net.open(0, 1);
        let publish = |n: u8| {
            Packet::Publish(Publish {
                topic: "topic".into(),
                payload: Bytes::from(vec![n; 5]),
                ..Publish::default()
            })
        };
        let packets = std::iter::once(connect()).chain((0..publishes).map(publish));
        let frames: Vec<Bytes> =
            packets.map(|packet| frame(&packet, Version::V5_0).expect("a lawful packet")).collect();
        frames.iter().for_each(|frame| net.send(link, Toward::Broker, std::slice::from_ref(frame)));
        (net, link, frames)
    }

    /// Everything that arrives at the broker's end of a link, to the end.
    fn arrivals(net: &mut Net, at: LinkId) -> (Vec<u8>, Vec<Piece>) {
        let (mut bytes, mut others) = (Vec::new(), Vec::new());
        while let Some(happening) = net.next() {
            match happening {
                Happening::Reached(link, toward) => net.reached(link, toward),
                Happening::Woken(link) => net.woken(link),
                Happening::Arrived(link, toward) => match net.take(link, toward) {
                    Some(Piece::Bytes(piece)) if link == at => bytes.extend_from_slice(&piece),
                    Some(other) if link == at && toward == Toward::Broker => others.push(other),
                    _ => {}
                },
                _ => {}
            }
        }
        (bytes, others)
    }

    const END: Piece = Piece::End { reset: false };

    #[test]
    fn what_is_written_arrives_in_order_whatever_the_weather() {
        let weather =
            ["split c2s 1", "delay c2s 5ms jitter 9ms seed 3", "throttle c2s 2kB/s", "coalesce c2s 7ms"];
        for seed in SEEDS {
            for rules in [&[][..], &weather] {
                let (mut net, link, frames) = busy(seed, rules, 5);
                net.finish(link, Toward::Broker);
                net.send(link, Toward::Broker, &[Bytes::from_static(b"too late")]);
                assert_eq!(arrivals(&mut net, link), (frames.concat(), vec![Piece::Open(1), END]));
            }
        }
    }

    #[test]
    fn an_end_that_resets_loses_a_tail_and_nothing_else() {
        let mut lost = 0;
        for seed in SEEDS {
            let (mut net, link, frames) = busy(seed, &[], 2);
            net.reset(link, Toward::Broker);
            let (bytes, _) = arrivals(&mut net, link);
            assert!(frames.concat().starts_with(&bytes));
            lost += usize::from(bytes.len() < frames.concat().len());
        }
        assert!((1..50).contains(&lost), "{lost} of 50 lost something");
    }

    #[test]
    fn a_cut_delivers_exactly_what_its_rule_says() {
        for seed in SEEDS {
            for (rule, whole, part) in [
                ("cut fin before c2s PUBLISH 2 client=a", 2, 0),
                ("cut rst after c2s PUBLISH 2", 3, 0),
                ("cut rst inside c2s PUBLISH 3 bytes=4", 3, 4),
            ] {
                let (mut net, link, frames) = busy(seed, &[rule], 5);
                let expected = [frames[..whole].concat(), frames[whole][..part].to_vec()].concat();
                let (bytes, others) = arrivals(&mut net, link);
                assert_eq!(bytes, expected, "{rule}, seed {seed}, {others:?}");
                assert_eq!(others, [Piece::Open(1), Piece::End { reset: rule.contains("rst") }], "{rule}");
                assert_eq!(net.closing(link, Closing::ByBroker), Closing::Rst);
            }
        }
    }

    #[test]
    fn a_hole_takes_bytes_and_ends_and_a_stall_neither() {
        for seed in SEEDS {
            let (mut net, link, frames) = busy(seed, &["black-hole both after c2s PUBLISH"], 5);
            net.finish(link, Toward::Broker);
            assert_eq!(arrivals(&mut net, link), (frames[..2].concat(), vec![Piece::Open(1)]));
            let (mut net, link, frames) = busy(seed, &["stall both after c2s PUBLISH for 3s"], 5);
            net.finish(link, Toward::Broker);
            assert_eq!(arrivals(&mut net, link), (frames.concat(), vec![Piece::Open(1), END]));
            assert!(net.now >= Duration::from_secs(3));
        }
    }

    #[test]
    fn nobody_gets_past_a_refusal() {
        let (mut net, link, _) = busy(1, &["refuse rst times 1"], 1);
        assert_eq!(arrivals(&mut net, link), (vec![], vec![]));
        assert!(!net.is_sound(link));
        let next = net.open(0, 2);
        assert_eq!(arrivals(&mut net, next).1, [Piece::Open(2)]);
    }

    #[test]
    fn the_connections_of_a_storm_come_before_the_clients_own() {
        let (mut net, link, frames) = busy(1, &["storm 3 within 9ms"], 1);
        let (bytes, others) = arrivals(&mut net, link);
        assert_eq!((bytes, others), (frames.concat(), vec![Piece::Open(1)]));
        let opened = net.links.len();
        assert_eq!(opened, 4, "the client's and three more");
    }
}
