//! Both directions of one link, without sockets and without a clock.

use super::fault::Fault;
use super::flow::{Flow, Tail, Weather};
use super::framing::Piece;
use super::moment::Place;
use super::note::{Did, Note};
use super::rules::{InForce, RuleId, Rules, Struck};
use super::seen::{Peer, Seen};
use super::tamper::{Tamper, Tampered, Tamperer};
use super::{Direction, Ending};
use bytes::{Bytes, BytesMut};
use mqtally_proto::Time;
use mqtally_proto::packet::{Observed, Packet, observe};
use std::collections::VecDeque;

/// One link: bytes and ends come in from either side, and are polled for the other.
///
/// Whoever owns the transport does this, in this order, each time that something happens or [`deadline`] is reached:
/// [`refresh`]; for each direction that [`wants`] more, put what was read into [`input`] and call [`receive`], or
/// [`end`] at its end; for each direction [`poll`] until nothing comes; [`poll_replay`]; done when [`is_over`].
///
/// [`deadline`]: Self::deadline
/// [`refresh`]: Self::refresh
/// [`wants`]: Self::wants
/// [`input`]: Self::input
/// [`receive`]: Self::receive
/// [`end`]: Self::end
/// [`poll`]: Self::poll
/// [`poll_replay`]: Self::poll_replay
/// [`is_over`]: Self::is_over
#[derive(Debug)]
pub struct Relay {
    peer: Peer,
    flows: [Flow; 2],
    /// Faults that a packet of this link set off.
    set_off: Vec<InForce>,
    /// Rules of which the owner knows that they are in force here.
    announced: Vec<RuleId>,
    generation: Option<u64>,
    changes_at: Option<Time>,
    tamper: Tamperer,
    replays: VecDeque<(Time, Bytes)>,
    /// It ends now, whatever waits.
    cut: Option<Ending>,
}

/// What is to be done to the transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// No more bytes follow in this direction: FIN. The other one goes on.
    HalfClose,
    /// Both sides are to be closed, and the link is over.
    Cut(Ending),
}

impl Relay {
    /// A link that was admitted as `peer`.
    pub fn new(peer: Peer, tamper: Option<Box<dyn Tamper>>) -> Self {
        Self {
            peer,
            flows: [Flow::default(), Flow::default()],
            set_off: Vec::new(),
            announced: Vec::new(),
            generation: None,
            changes_at: None,
            tamper: Tamperer(tamper),
            replays: VecDeque::new(),
            cut: None,
        }
    }

    /// Whose link it is.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Looks whether something else is in force now.
    pub fn refresh(&mut self, now: Time, rules: &mut Rules) {
        let is_due = self.changes_at.is_some_and(|at| at <= now);
        if is_due || self.generation != Some(rules.generation()) {
            self.look_again(now, rules);
        }
    }

    /// Whether the sender of this direction is to be read.
    pub fn wants(&self, direction: Direction) -> bool {
        self.cut.is_none() && self.flow(direction).wants()
    }

    /// Where bytes of this direction go, at the end; [`receive`](Self::receive) takes them.
    pub fn input(&mut self, direction: Direction) -> &mut BytesMut {
        &mut self.flow_mut(direction).input
    }

    /// Takes what is in the input.
    pub fn receive(&mut self, direction: Direction, now: Time, rules: &mut Rules) {
        self.refresh(now, rules);
        let mut input = std::mem::take(self.input(direction));
        while let Some(piece) = self.next_piece(direction, &mut input) {
            self.take(direction, piece, now, rules);
        }
        *self.input(direction) = input;
    }

    /// The sender of this direction has ended: in order or by a reset.
    pub fn end(&mut self, direction: Direction, ending: Ending, now: Time) {
        self.flow_mut(direction).end(ending, now);
    }

    /// The receiver of this direction takes nothing more: it is gone, and its own direction is at its end.
    pub fn lose_sink(&mut self, direction: Direction, now: Time) {
        self.flow_mut(direction).lose_sink();
        self.flow_mut(direction.opposite()).end(Ending::Rst, now);
    }

    /// What may leave in this direction now: bytes into `out`, which is empty, or an exit when there are none.
    pub fn poll(&mut self, direction: Direction, now: Time, out: &mut BytesMut) -> Option<Exit> {
        let exit = match self.cut {
            Some(ending) => Some(Exit::Cut(ending)),
            None => self.flow_mut(direction).poll(now, out),
        };
        if let Some(Exit::Cut(ending)) = exit {
            self.cut = Some(ending);
        }
        exit
    }

    /// A CONNECT that is to reach the broker now on a connection of its own.
    pub fn poll_replay(&mut self, now: Time) -> Option<Bytes> {
        self.replays.pop_front_if(|(due, _)| *due <= now).map(|(_, connect)| connect)
    }

    /// When there is next something to do, if nothing comes before. What waits in a direction counts where its receiver
    /// `takes` it: for one that does not, no time will come.
    pub fn deadline(&self, takes: impl Fn(Direction) -> bool) -> Option<Time> {
        let flows = Direction::ALL.into_iter().filter(|direction| takes(*direction));
        let due = flows.filter_map(|direction| self.flow(direction).deadline());
        due.chain(self.changes_at).chain(self.replays.front().map(|(due, _)| *due)).min()
    }

    /// Whether there is nothing more to do.
    pub fn is_over(&self) -> bool {
        self.cut.is_some() || self.flows.iter().all(|flow| flow.is_finished)
    }

    /// How the proxy ended it, if it did.
    pub fn was_cut(&self) -> Option<Ending> {
        self.cut
    }

    /// Whether it carries on what comes as it comes: nothing is in force, and neither side has ended.
    pub fn is_calm(&self) -> bool {
        self.cut.is_none() && self.flows.iter().all(Flow::is_calm)
    }

    fn flow(&self, direction: Direction) -> &Flow {
        &self.flows[direction as usize]
    }

    fn flow_mut(&mut self, direction: Direction) -> &mut Flow {
        &mut self.flows[direction as usize]
    }

    fn next_piece(&mut self, direction: Direction, input: &mut BytesMut) -> Option<Piece> {
        let version = self.peer.version;
        self.flow_mut(direction).framing.next(input, version)
    }

    fn take(&mut self, direction: Direction, piece: Piece, now: Time, rules: &mut Rules) {
        match piece {
            Piece::Packet(observed) => self.take_packet(direction, observed, now, rules),
            Piece::Head { first, len, body, bytes } => {
                let seen = Seen::of_head(direction, len, first, &bytes[body..]);
                self.carry(&seen, bytes, None, now, rules);
            }
            Piece::Rest { bytes, is_last } => self.take_rest(direction, bytes, is_last, now, rules),
            Piece::Opaque(bytes) => {
                rules.note(now, &Note::Opaque { peer: &self.peer, direction, bytes: bytes.len() });
                self.flow_mut(direction).push(bytes, true, now);
            }
        }
    }

    fn take_packet(&mut self, direction: Direction, observed: Observed, now: Time, rules: &mut Rules) {
        self.identify(direction, &observed, now, rules);
        match self.tamper.on_packet(&self.peer, direction, &observed) {
            None => self.carry_packet(direction, observed, now, rules),
            Some(mut out) => {
                self.carry_tampered(direction, &mut out, now, rules);
                self.carry_tampered(direction.opposite(), &mut out, now, rules);
            }
        }
    }

    fn identify(&mut self, direction: Direction, observed: &Observed, now: Time, rules: &mut Rules) {
        let (Direction::ToServer, Some(Packet::Connect(connect))) = (direction, &observed.packet) else {
            return;
        };
        if self.peer.client.is_none() {
            self.peer.version = connect.version;
            rules.identify(&mut self.peer, &connect.client_id);
            self.look_again(now, rules);
        }
    }

    fn carry_tampered(&mut self, direction: Direction, out: &mut Tampered, now: Time, rules: &mut Rules) {
        let mut bytes = out.take(direction);
        while let Ok(Some(observed)) = observe(&mut bytes, self.peer.version) {
            self.carry_packet(direction, observed, now, rules);
        }
        self.flow_mut(direction).push_more(bytes.freeze());
    }

    fn carry_packet(&mut self, direction: Direction, observed: Observed, now: Time, rules: &mut Rules) {
        let seen = Seen::of(direction, &observed, &mut self.flow_mut(direction).aliases);
        self.carry(&seen, observed.raw, observed.packet.as_ref(), now, rules);
    }

    /// Does to a packet what the rules say. `bytes` may be its beginning only.
    fn carry(&mut self, seen: &Seen, bytes: Bytes, packet: Option<&Packet>, now: Time, rules: &mut Rules) {
        let is_over = self.cut.is_some() || self.flow(seen.direction).is_shut;
        let struck = if is_over { Vec::new() } else { rules.packet(&self.peer, seen, now) };
        self.set_off(&struck, |place| place != Place::After, now, rules);
        let at_once = struck.iter().find(|struck| !struck.fault.lasts());
        let is_whole = bytes.len() == seen.len;
        let did = self.fate(seen, at_once, is_whole);
        rules.note(now, &Note::Packet { peer: &self.peer, seen, packet, did });
        if let Some(Struck { fault: Fault::Storm(storm), .. }) = at_once {
            self.replays.extend(storm.offsets_ms().map(|ms| (now.plus_ms(ms), bytes.clone())));
            self.flow_mut(seen.direction).rest_until(now.plus_ms(storm.within_ms));
        }
        self.deliver(seen.direction, bytes, did, at_once, is_whole, now);
        if is_whole {
            self.follow(seen.direction, &struck, now, rules);
        } else {
            let passes = matches!(did, Did::Pass | Did::CutAfter);
            self.flow_mut(seen.direction).tail = Some(Tail { passes, then: struck });
        }
    }

    fn fate(&self, seen: &Seen, at_once: Option<&Struck>, is_whole: bool) -> Did {
        match at_once.map(|struck| (&struck.fault, struck.place)) {
            Some((Fault::Cut(_), Place::Before)) => Did::CutBefore,
            Some((Fault::Cut(_), Place::Inside(_))) => Did::CutInside,
            Some((Fault::Drop(_), _)) => Did::Drop,
            _ if self.flow(seen.direction).is_deaf() => Did::Swallow,
            Some((Fault::Cut(_), Place::After)) => Did::CutAfter,
            Some((Fault::Swap(_), _)) if is_whole => Did::Swap,
            _ => Did::Pass,
        }
    }

    fn deliver(
        &mut self,
        direction: Direction,
        bytes: Bytes,
        did: Did,
        at_once: Option<&Struck>,
        is_whole: bool,
        now: Time,
    ) {
        let flow = self.flow_mut(direction);
        match did {
            Did::Pass | Did::CutAfter | Did::Swallow => flow.push(bytes, is_whole, now),
            Did::CutBefore | Did::Drop => {}
            Did::CutInside => flow.push(part_of(&bytes, at_once), false, now),
            Did::Swap => flow.hold(bytes),
        }
        if let (Did::CutBefore | Did::CutInside, Some(ending)) = (did, ending_of(at_once)) {
            flow.cut(ending);
        }
    }

    /// What comes after a packet that has passed whole.
    fn follow(&mut self, direction: Direction, struck: &[Struck], now: Time, rules: &mut Rules) {
        let cut = struck.iter().find(|struck| struck.place == Place::After && !struck.fault.lasts());
        if let Some(ending) = ending_of(cut) {
            self.flow_mut(direction).cut(ending);
        }
        self.set_off(struck, |place| place == Place::After, now, rules);
    }

    fn take_rest(&mut self, direction: Direction, bytes: Bytes, is_last: bool, now: Time, rules: &mut Rules) {
        let flow = self.flow_mut(direction);
        if flow.tail.as_ref().is_none_or(|tail| tail.passes) {
            flow.push_more(bytes);
        }
        if !is_last {
            return;
        }
        flow.release();
        let tail = flow.tail.take();
        self.follow(direction, &tail.map(|tail| tail.then).unwrap_or_default(), now, rules);
    }

    fn set_off(&mut self, struck: &[Struck], is_time: impl Fn(Place) -> bool, now: Time, rules: &mut Rules) {
        let before = self.set_off.len();
        let lasting = struck.iter().filter(|struck| struck.fault.lasts() && is_time(struck.place));
        self.set_off.extend(lasting.map(|struck| InForce {
            rule: struck.rule,
            fault: struck.fault.clone(),
            until: struck.until,
        }));
        if self.set_off.len() > before {
            self.look_again(now, rules);
        }
    }

    fn look_again(&mut self, now: Time, rules: &mut Rules) {
        self.set_off.retain(|it| rules.has(it.rule) && it.until.is_none_or(|until| until > now));
        let standing = rules.standing(&self.peer, now);
        self.announce(&standing, now, rules);
        let in_force = || self.set_off.iter().chain(&standing);
        let weather = Direction::ALL.map(|direction| Weather::of(direction, in_force()));
        self.changes_at = in_force().filter_map(|it| it.until).min();
        for (flow, weather) in self.flows.iter_mut().zip(weather) {
            flow.weather = weather;
        }
        let is_torn = self.flows.iter().any(|flow| flow.has_swallowed && !flow.weather.is_hole);
        self.cut = self.cut.or(rules.cut_of(&self.peer)).or(is_torn.then_some(Ending::Rst));
        self.generation = Some(rules.generation());
    }

    fn announce(&mut self, standing: &[InForce], now: Time, rules: &mut Rules) {
        self.announced.retain(|id| rules.has(*id));
        for InForce { rule, fault, .. } in standing {
            if !matches!(fault, Fault::Refuse(_)) && !self.announced.contains(rule) {
                self.announced.push(*rule);
                rules.strike(*rule, Some(&self.peer), now);
            }
        }
    }
}

fn ending_of(struck: Option<&Struck>) -> Option<Ending> {
    match struck.map(|struck| &struck.fault) {
        Some(Fault::Cut(cut)) => Some(cut.ending),
        _ => None,
    }
}

fn part_of(bytes: &Bytes, struck: Option<&Struck>) -> Bytes {
    let asked = match struck.map(|struck| struck.place) {
        Some(Place::Inside(bytes)) => bytes as usize,
        _ => 0,
    };
    bytes.slice(..asked.min(bytes.len().saturating_sub(1)))
}
