//! The fault proxy in the middle of each link: the real rules and relays, with a model of the sockets around them.
//!
//! It does what `proxy::link` and `proxy::listener` do with sockets: reads where the relay wants it, writes what it
//! polls, wakes it in time, makes the connections of a storm, and ends both sides where it says so.

use super::net::{LinkId, Net};
use super::tamper::Toward;
use super::way::Piece;
use super::{BEGINNING_MS, Happening, time};
use crate::nemesis::{Deed, Strike};
use crate::proxy::{self, Admission, Ending, Exit, Note, Place, Relay, RuleId, Rules, RulesError, Scope};
use bytes::{Bytes, BytesMut};
use mqtally_proto::Time;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a client's CONNECT waits for the broker to answer those of a storm.
const GREETING_MAX: Duration = Duration::from_millis(500);
/// How long an extra connection of a storm stays, if the broker does not end it.
const EXTRA_MAX: Duration = Duration::from_secs(5);

/// The proxy, as far as it is the same for all links.
pub(super) struct Proxy {
    rules: Rules,
    /// Strikes that were not looked at yet.
    told: Arc<Mutex<Vec<proxy::Strike>>>,
    watched: BTreeMap<RuleId, Watched>,
    /// Links in the order in which they were admitted: the numbers by which the proxy knows them.
    served: Vec<LinkId>,
}

/// What is to be done when a rule strikes.
#[derive(Debug, Clone, Copy)]
enum Watched {
    /// It is told under this name.
    Rule(&'static str),
    /// It holds the link still for a deed, at this place of its packet.
    Deed(Place),
}

/// What stands in the middle of a link.
#[derive(Debug)]
pub(super) enum Middle {
    /// Nobody has come so far.
    Vacant,
    Relayed(Box<Relayed>),
    /// It is one of a storm's, and begins here.
    Extra(Extra),
    Over,
}

#[derive(Debug)]
pub(super) struct Relayed {
    relay: Relay,
    wakes_at: Option<Duration>,
    /// Connections of a storm that the broker has not answered.
    greeting: usize,
}

/// A connection of a storm: it says CONNECT, reads whatever comes, and acknowledges nothing.
#[derive(Debug)]
pub(super) struct Extra {
    /// The link whose CONNECT waits for it.
    of: LinkId,
    is_answered: bool,
    until: Duration,
}

impl Proxy {
    pub(super) fn new() -> Self {
        let told = Arc::new(Mutex::new(Vec::new()));
        let teller = Arc::clone(&told);
        let watch = move |_: Time, note: &Note<'_>| {
            if let Note::Strike(strike) = note {
                teller.lock().unwrap_or_else(PoisonError::into_inner).push((*strike).clone());
            }
        };
        let rules = Rules::new(Some(Arc::new(watch)));
        Self { rules, told, watched: BTreeMap::new(), served: Vec::new() }
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("rules", &self.rules).finish_non_exhaustive()
    }
}

impl Middle {
    /// Whether all that comes is carried on as it comes.
    pub(super) fn is_calm(&self) -> bool {
        matches!(self, Self::Relayed(relayed) if relayed.relay.is_calm() && relayed.greeting == 0)
    }
}

impl Net {
    /// The proxy obeys this from now on.
    pub(super) fn obey(&mut self, strike: &Strike) -> Result<RuleId, RulesError> {
        let rule = strike.proxied().clone();
        let watched = match (&strike.deed, rule.moment()) {
            (Deed::Act(..), Some(moment)) => Watched::Deed(moment.place),
            _ => Watched::Rule(strike.kind().name),
        };
        let id = self.proxy.rules.add(rule, time(self.now))?;
        self.proxy.watched.insert(id, watched);
        self.look_around();
        Ok(id)
    }

    /// A rule is lifted, and what it put in force.
    pub(super) fn lift(&mut self, id: RuleId) {
        self.proxy.rules.remove(id);
        self.look_around();
    }

    /// Nothing strikes any more, and what was to last until somebody ends it has its end. A link that a packet let fall
    /// silent stays so until its ends notice.
    pub(super) fn calm_down(&mut self) {
        let listed = self.proxy.rules.list().into_iter();
        listed.filter(|it| !it.is_spent).for_each(|it| drop(self.proxy.rules.remove(it.id)));
        self.look_around();
    }

    /// Cuts what a client has open, now; a reset loses a tail of either direction.
    pub(super) fn cut(&mut self, client: &str, ending: Ending) {
        for link in self.open_links() {
            if ending == Ending::Rst && *self.name_of(link) == *client {
                let (it, random) = self.link_and_chance(link);
                it.outward(Toward::Broker).lose_tail(random);
            }
        }
        let scope = Scope { client: Some(client.to_owned()), ..Scope::default() };
        self.proxy.rules.cut(&scope, ending, time(self.now));
        self.look_around();
    }

    /// Something has come to the proxy.
    pub(super) fn reached(&mut self, link: LinkId, toward: Toward) {
        let it = self.link_mut(link);
        it.inward(toward).arrive();
        match it.middle {
            Middle::Vacant => self.admit(link, toward),
            Middle::Relayed(_) => self.carry(link),
            Middle::Extra(_) => self.read_extra(link, toward),
            Middle::Over => {}
        }
    }

    /// The proxy may have something to do by now.
    pub(super) fn woken(&mut self, link: LinkId) {
        let now = self.now;
        match &mut self.link_mut(link).middle {
            Middle::Relayed(relayed) => {
                relayed.wakes_at.take_if(|at| *at <= now);
                self.carry(link);
            }
            Middle::Extra(extra) => {
                let is_over = extra.until <= now;
                self.answered(link);
                if is_over {
                    self.leave_extra(link);
                }
            }
            Middle::Vacant | Middle::Over => {}
        }
    }

    fn admit(&mut self, link: LinkId, toward: Toward) {
        let Some(Piece::Open(number)) = self.link_mut(link).inward(toward).take() else { return };
        match self.proxy.rules.admit(time(self.now)) {
            Admission::Serve(peer) => {
                self.proxy.served.push(link);
                let relay = Relay::new(peer, None);
                let relayed = Relayed { relay, wakes_at: None, greeting: 0 };
                self.link_mut(link).middle = Middle::Relayed(Box::new(relayed));
                self.pass(link, Toward::Broker, Piece::Open(number));
            }
            Admission::Refuse(ending) => {
                self.pass(link, Toward::Client, end(ending));
                self.close(link);
            }
        }
        self.tell();
    }

    /// Rules have changed: every link looks at them.
    fn look_around(&mut self) {
        self.tell();
        self.open_links().into_iter().for_each(|link| self.carry(link));
    }

    /// Carries on what can be carried on, as the loop around a pair of sockets does.
    fn carry(&mut self, link: LinkId) {
        while self.step(link) {}
        self.set_wake(link);
        self.tell();
    }

    /// Writes, and reads; whether there may be more to do.
    fn step(&mut self, link: LinkId) -> bool {
        let now = time(self.now);
        let Some((relayed, rules)) = self.relayed(link) else { return false };
        relayed.relay.refresh(now, rules);
        let replays: Vec<Bytes> = std::iter::from_fn(|| relayed.relay.poll_replay(now)).collect();
        replays.into_iter().for_each(|connect| self.open_extra(link, connect));
        for toward in [Toward::Broker, Toward::Client] {
            self.write(link, toward);
            self.end_if_over(link);
        }
        self.read(link)
    }

    fn write(&mut self, link: LinkId, toward: Toward) {
        let now = time(self.now);
        let mut out = BytesMut::new();
        loop {
            let Some((relayed, _)) = self.relayed(link) else { return };
            // Behind a storm, the client's own CONNECT is the last.
            if toward == Toward::Broker && relayed.greeting > 0 {
                return;
            }
            match relayed.relay.poll(toward.direction(), now, &mut out) {
                Some(Exit::Cut(ending)) => return self.cut_both(link, toward, ending),
                Some(Exit::HalfClose) => self.pass(link, toward, end(Ending::Fin)),
                None if out.is_empty() => return,
                None => self.pass(link, toward, Piece::Bytes(out.split().freeze())),
            }
        }
    }

    /// Both sides are told. What was carried `toward` is there before; a reset loses a tail of the other direction.
    fn cut_both(&mut self, link: LinkId, toward: Toward, ending: Ending) {
        if ending == Ending::Rst {
            let (it, random) = self.link_and_chance(link);
            it.outward(toward.opposite()).lose_tail(random);
        }
        for toward in [Toward::Broker, Toward::Client] {
            self.pass(link, toward, end(ending));
        }
    }

    fn read(&mut self, link: LinkId) -> bool {
        let now = time(self.now);
        let mut has_read = false;
        for toward in [Toward::Broker, Toward::Client] {
            let direction = toward.direction();
            loop {
                let Some((relayed, _)) = self.relayed(link) else { return has_read };
                let piece = relayed.relay.wants(direction).then(|| self.link_mut(link).inward(toward).take());
                let Some(piece) = piece.flatten() else { break };
                let Some((Relayed { relay, .. }, rules)) = self.relayed(link) else { return has_read };
                match piece {
                    Piece::Open(_) => {}
                    Piece::Bytes(bytes) => {
                        relay.input(direction).extend_from_slice(&bytes);
                        relay.receive(direction, now, rules);
                    }
                    Piece::End { reset } => {
                        relay.end(direction, if reset { Ending::Rst } else { Ending::Fin }, now);
                    }
                }
                has_read = true;
            }
        }
        has_read
    }

    fn end_if_over(&mut self, link: LinkId) {
        let now = time(self.now);
        let Some((Relayed { relay, .. }, rules)) = self.relayed(link) else { return };
        if relay.is_over() {
            rules.closed(relay.peer(), relay.was_cut(), now);
            self.close(link);
        }
    }

    /// Nobody is in the middle any more: what comes is thrown away.
    fn close(&mut self, link: LinkId) {
        let it = self.link_mut(link);
        it.middle = Middle::Over;
        for toward in [Toward::Broker, Toward::Client] {
            it.inward(toward).swallow();
        }
    }

    fn set_wake(&mut self, link: LinkId) {
        let now = self.now;
        let Some((relayed, _)) = self.relayed(link) else { return };
        let takes = |direction| direction != Toward::Broker.direction() || relayed.greeting == 0;
        let Some(at) = relayed.relay.deadline(takes) else { return };
        // A relay counts in milliseconds, and what was due at this one is done.
        let at = Duration::from_millis(at.ms_since(Time::from_ms(BEGINNING_MS)));
        let at = at.max(now + Duration::from_micros(1));
        if relayed.wakes_at.is_none_or(|planned| at < planned) {
            relayed.wakes_at = Some(at);
            self.agenda.plan(at, Happening::Woken(link));
        }
    }

    /// What the proxy says of its strikes is recorded, before any of their effects is seen.
    fn tell(&mut self) {
        let told = std::mem::take(&mut *self.proxy.told.lock().unwrap_or_else(PoisonError::into_inner));
        for strike in told {
            let link = strike.peer.as_ref().and_then(|peer| {
                let place = usize::try_from(peer.link).ok()?.checked_sub(1)?;
                self.proxy.served.get(place).copied()
            });
            self.record(&strike, link);
            if let Some((link, closing)) = link.zip(strike.ends_as()) {
                self.link_mut(link).ends_as = Some(closing);
            }
        }
    }

    fn record(&mut self, strike: &proxy::Strike, link: Option<LinkId>) {
        let watched = strike.rule.and_then(|id| Some((id, *self.proxy.watched.get(&id)?)));
        let name = match (watched, link) {
            (Some((id, Watched::Deed(place))), Some(link)) => return self.plan_deed(id, link, place),
            (Some((_, Watched::Rule(name))), _) => name,
            _ => strike.kind,
        };
        let client = link.map(|link| self.name_of(link));
        self.trace.fault(name, client.as_ref());
    }

    /// Before its packet it is done at once; behind it while the packet is on its way or has just arrived.
    fn plan_deed(&mut self, id: RuleId, link: LinkId, place: Place) {
        let is_before = place == Place::Before;
        let delay = if is_before { Duration::ZERO } else { self.below(2 * self.latency_max()) };
        let client = self.client_of(link);
        self.after(delay, Happening::Struck(id, client));
    }

    fn open_extra(&mut self, of: LinkId, connect: Bytes) {
        let until = self.now + EXTRA_MAX;
        let extra = Extra { of, is_answered: false, until };
        let link = self.add_link(self.client_of(of), Middle::Extra(extra));
        if let Some((relayed, _)) = self.relayed(of) {
            relayed.greeting += 1;
        }
        self.pass(link, Toward::Broker, Piece::Open(0));
        self.pass(link, Toward::Broker, Piece::Bytes(connect));
        self.after(GREETING_MAX, Happening::Woken(link));
        self.agenda.plan(until, Happening::Woken(link));
    }

    fn read_extra(&mut self, link: LinkId, toward: Toward) {
        let piece = self.link_mut(link).inward(toward).take();
        if piece.is_some() {
            self.answered(link);
        }
        if let Some(Piece::End { .. }) = piece {
            self.leave_extra(link);
        }
    }

    /// The CONNECT that waits for this one waits no longer.
    fn answered(&mut self, link: LinkId) {
        let Middle::Extra(extra) = &mut self.link_mut(link).middle else { return };
        let of = extra.of;
        if std::mem::replace(&mut extra.is_answered, true) {
            return;
        }
        if let Some((relayed, _)) = self.relayed(of) {
            relayed.greeting -= 1;
            self.carry(of);
        }
    }

    fn leave_extra(&mut self, link: LinkId) {
        self.pass(link, Toward::Broker, end(Ending::Fin));
        self.close(link);
    }

    fn relayed(&mut self, link: LinkId) -> Option<(&mut Relayed, &mut Rules)> {
        let (links, proxy) = self.links_and_proxy();
        match &mut links[link.0].middle {
            Middle::Relayed(relayed) => Some((relayed, &mut proxy.rules)),
            Middle::Vacant | Middle::Extra(_) | Middle::Over => None,
        }
    }
}

fn end(ending: Ending) -> Piece {
    Piece::End { reset: ending == Ending::Rst }
}
