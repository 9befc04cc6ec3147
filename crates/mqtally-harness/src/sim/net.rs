//! The network: what each link carries, how late it arrives, and what becomes of it when the link breaks.
//!
//! A link is two ways. What is written to a way is cut into pieces, each of which arrives after the one before it: one
//! byte at a time, in a few parts, or whole, as the link's habit is. A cut loses a tail of what is on its way, most
//! often in the middle of a packet.

use super::agenda::Agenda;
use super::tamper::Toward;
use super::trace::Trace;
use super::{ClientIx, Happening};
use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use mqtally_proto::packet::{Packet, Version, encode};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Number of a link: its place in the list of all that there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LinkId(pub(super) usize);

/// What arrives at an end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Somebody wants to talk, on its connection of this number: the first thing that a broker sees.
    Open(u32),
    Bytes(Bytes),
    /// The other end is done, in order or not.
    End {
        reset: bool,
    },
}

/// A packet as it goes over a link.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    kind: &'static str,
    bytes: Bytes,
}

impl Frame {
    /// None for what cannot be encoded: only a hook can make up such a packet.
    pub(super) fn of(packet: &Packet, version: Version) -> Option<Self> {
        let mut bytes = BytesMut::new();
        encode(packet, version, &mut bytes).ok()?;
        Some(Self { kind: packet.name(), bytes: bytes.freeze() })
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// How a link breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Both ends are told; a tail of what is on its way is lost.
    Reset,
    /// Both ends see an orderly end; nothing on its way is lost.
    Finish,
    /// Nobody is told, and nothing arrives any more.
    Hole,
}

/// Something that goes wrong when a packet passes: everything before it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trap {
    pub(super) toward: Toward,
    /// Name of the packet, as `PUBREC`.
    pub(super) kind: &'static str,
    /// Whether the packet itself still arrives.
    pub(super) delivered: bool,
    pub(super) then: Then,
}

/// What a packet sets off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Cut,
    /// The client's process is killed, and is away for so long.
    KillClient(Duration),
    KillBroker(Duration),
}

/// How a link cuts what is written into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    Whole,
    Parts,
    Bytewise,
}

#[derive(Debug)]
struct Link {
    client: ClientIx,
    habit: Habit,
    ways: [Way; 2],
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    pieces: VecDeque<Piece>,
    /// Nothing that is written later arrives before.
    clear_at: Duration,
    /// Nothing more can be written.
    ended: bool,
    /// A process is about to be killed: what it would still write is not.
    muted: bool,
    /// What is written is never seen again.
    hole: bool,
}

/// Everything that the nodes share: the clock, chance, the wires, and the record of what happened.
#[derive(Debug)]
pub(super) struct Net {
    pub(super) now: Duration,
    pub(super) agenda: Agenda<Happening>,
    pub(super) random: Rng,
    pub(super) trace: Trace,
    /// What waits for a packet, at most one a client.
    pub(super) traps: BTreeMap<ClientIx, Trap>,
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
            traps: BTreeMap::new(),
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
        let habit = match self.random.u8(..20) {
            0 => Habit::Bytewise,
            1..8 => Habit::Parts,
            _ => Habit::Whole,
        };
        self.links.push(Link { client, habit, ways: [Way::default(), Way::default()] });
        let link = LinkId(self.links.len() - 1);
        self.post(link, Toward::Broker, Piece::Open(number));
        link
    }

    pub(super) fn client_of(&self, link: LinkId) -> ClientIx {
        self.links[link.0].client
    }

    pub(super) fn name_of(&self, link: LinkId) -> Arc<str> {
        self.names[self.client_of(link)].clone()
    }

    /// Writes packets to one way of a link. A trap that one of them springs cuts the link there.
    pub(super) fn send(&mut self, link: LinkId, toward: Toward, frames: &[Frame]) {
        let client = self.client_of(link);
        let trap = self.traps.get(&client).copied().filter(|trap| trap.toward == toward);
        let sprung = trap.and_then(|trap| Some((trap, frames.iter().position(|it| it.kind == trap.kind)?)));
        let Some((trap, at)) = sprung else { return self.write(link, toward, frames) };
        self.traps.remove(&client);
        self.write(link, toward, &frames[..at + usize::from(trap.delivered)]);
        self.spring(link, toward, trap.then);
    }

    /// One end says that it is done: what it wrote before arrives, then its end.
    pub(super) fn finish(&mut self, link: LinkId, toward: Toward) {
        self.post(link, toward, Piece::End { reset: false });
        self.way(link, toward).ended = true;
    }

    /// One end gives up at once: a tail of what it wrote is lost.
    pub(super) fn reset(&mut self, link: LinkId, toward: Toward) {
        self.lose_tail(link, toward);
        self.post(link, toward, Piece::End { reset: true });
        self.way(link, toward).ended = true;
    }

    /// Nothing arrives on this way any more, and nobody is told.
    pub(super) fn swallow(&mut self, link: LinkId, toward: Toward) {
        let way = self.way(link, toward);
        way.pieces.clear();
        way.hole = true;
    }

    /// Breaks a link in between.
    pub(super) fn cut(&mut self, link: LinkId, how: Cut) {
        for toward in [Toward::Broker, Toward::Client] {
            match how {
                Cut::Reset => self.reset(link, toward),
                Cut::Finish => self.finish(link, toward),
                Cut::Hole => self.swallow(link, toward),
            }
        }
    }

    /// Nothing that is written from now on arrives before this has passed.
    pub(super) fn stall(&mut self, link: LinkId, toward: Toward, delay: Duration) {
        let until = self.now + delay;
        let way = self.way(link, toward);
        way.clear_at = way.clear_at.max(until);
    }

    /// Whether what is written now arrives soon: nothing has broken the link, noticed or not, and nothing is late.
    pub(super) fn is_sound(&self, link: LinkId) -> bool {
        let soon = self.now + Duration::from_micros(2 * self.latency_us_max);
        let sound = |way: &Way| !way.ended && !way.muted && !way.hole && way.clear_at <= soon;
        self.links[link.0].ways.iter().all(sound)
    }

    /// What has arrived.
    pub(super) fn take(&mut self, link: LinkId, toward: Toward) -> Option<Piece> {
        self.way(link, toward).pieces.pop_front()
    }

    fn way(&mut self, link: LinkId, toward: Toward) -> &mut Way {
        &mut self.links[link.0].ways[toward as usize]
    }

    /// What was written before arrives, and nothing after it; of a cut link the other way loses a tail.
    fn spring(&mut self, link: LinkId, toward: Toward, then: Then) {
        if then != Then::Cut {
            self.way(link, toward).muted = true;
            let client = self.client_of(link);
            return self.agenda.plan(self.now, Happening::Sprung(client, then));
        }
        let name = self.name_of(link);
        self.trace.fault("cut-at-packet", Some(&name));
        self.finish(link, toward);
        let other = if toward == Toward::Broker { Toward::Client } else { Toward::Broker };
        self.reset(link, other);
    }

    /// Many packets are one write, which the link's habit cuts into pieces.
    fn write(&mut self, link: LinkId, toward: Toward, frames: &[Frame]) {
        if self.way(link, toward).muted {
            return;
        }
        let habit = self.links[link.0].habit;
        let mut bytes =
            Bytes::from(frames.iter().flat_map(|frame| &frame.bytes).copied().collect::<Vec<u8>>());
        while !bytes.is_empty() {
            let len = match habit {
                Habit::Whole => bytes.len(),
                // A large packet byte by byte would only be slow.
                Habit::Bytewise if bytes.len() <= 256 => 1,
                Habit::Parts | Habit::Bytewise => self.random.usize(1..=bytes.len()),
            };
            let piece = bytes.split_to(len);
            self.post(link, toward, Piece::Bytes(piece));
        }
    }

    fn post(&mut self, link: LinkId, toward: Toward, piece: Piece) {
        let latency = Duration::from_micros(20 + self.random.u64(..self.latency_us_max));
        let earliest = self.now + latency;
        let way = self.way(link, toward);
        if way.ended || way.hole {
            return;
        }
        way.pieces.push_back(piece);
        way.clear_at = way.clear_at.max(earliest);
        let at = way.clear_at;
        self.agenda.plan(at, Happening::Arrived(link, toward));
    }

    fn lose_tail(&mut self, link: LinkId, toward: Toward) {
        let len = self.way(link, toward).pieces.len();
        let kept = self.random.usize(..=len);
        self.way(link, toward).pieces.truncate(kept);
        if self.random.bool()
            && let Some(Piece::Bytes(last)) = self.links[link.0].ways[toward as usize].pieces.back_mut()
        {
            last.truncate(self.random.usize(1..=last.len()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(seed: u64) -> Net {
        let names = ["a", "b", "c", "d"].map(Arc::from).to_vec();
        Net::new(Rng::with_seed(seed), Trace::default(), names, 1_000)
    }

    fn frame(bytes: &'static [u8]) -> Frame {
        Frame { kind: "PUBLISH", bytes: Bytes::from_static(bytes) }
    }

    /// Everything that arrives at the broker's end, to the end.
    fn arrivals(net: &mut Net) -> (Vec<u8>, Vec<Piece>) {
        let (mut bytes, mut others) = (Vec::new(), Vec::new());
        while let Some(Happening::Arrived(link, toward)) = net.next() {
            match net.take(link, toward) {
                Some(Piece::Bytes(piece)) => bytes.extend_from_slice(&piece),
                Some(other) if toward == Toward::Broker => others.push(other),
                _ => {}
            }
        }
        (bytes, others)
    }

    #[test]
    fn what_is_written_arrives_in_order_however_it_is_cut_into_pieces() {
        for seed in 0..50 {
            let mut net = net(seed);
            let link = net.open(0, 1);
            net.write(link, Toward::Broker, &[frame(b"hello"), frame(b" ")]);
            net.write(link, Toward::Broker, &[frame(b"world")]);
            net.finish(link, Toward::Broker);
            net.write(link, Toward::Broker, &[frame(b"too late")]);
            let (bytes, others) = arrivals(&mut net);
            assert_eq!(
                (bytes.as_slice(), others.as_slice()),
                (&b"hello world"[..], &[Piece::Open(1), Piece::End { reset: false }][..])
            );
        }
    }

    #[test]
    fn a_reset_loses_a_tail_and_nothing_else() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut net = net(seed);
            let link = net.open(0, 1);
            net.write(link, Toward::Broker, &[frame(b"hello world")]);
            net.cut(link, Cut::Reset);
            let (bytes, _) = arrivals(&mut net);
            assert!(b"hello world".starts_with(&bytes));
            lost += usize::from(bytes.len() < 11);
        }
        assert!((1..50).contains(&lost));
    }

    #[test]
    fn a_trap_cuts_before_or_behind_its_packet() {
        for delivered in [false, true] {
            let mut net = net(7);
            let link = net.open(3, 1);
            net.traps.insert(3, Trap { toward: Toward::Broker, kind: "PINGREQ", delivered, then: Then::Cut });
            let ping = Frame::of(&Packet::Pingreq, Version::V5_0).expect("a lawful packet");
            net.send(link, Toward::Broker, &[ping.clone(), ping]);
            let (bytes, others) = arrivals(&mut net);
            assert_eq!(bytes.len(), if delivered { 2 } else { 0 });
            assert_eq!(others.last(), Some(&Piece::End { reset: false }));
            assert!(net.traps.is_empty());
        }
    }
}
