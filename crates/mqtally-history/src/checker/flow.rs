//! F1 to F5, in 5.0: no more unfinished deliveries than the client's receive maximum, and no fewer for good.
//!
//! What we count as unfinished is a lower bound of what the broker has to: an acknowledgement counts from when we
//! begin to send it. A PUBLISH repeated on its connection and a PUBREL take no place of their own. A request that is
//! sent while no place is free has five seconds, if nothing is acknowledged meanwhile; after that the broker held it back.
//!
//! A broker may have a window of its own that is smaller than the client's: while something is unfinished, only one that
//! has had more of it open is known to have places free.

use super::excerpt::{Direction, line, packet};
use super::ledger::{Evidence, Ledger};
use super::world::delivery::Delivery;
use super::world::{ClientIx, ConnIx, Moment, NEVER, World};
use crate::event::Closing;
use crate::packet::{Packet, Version};
use crate::promise::PromiseId;
use rustc_hash::FxHashMap;

/// The unfinished deliveries of each connection with a receive maximum.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    links: FxHashMap<ConnIx, Link>,
    /// Clients whose last connection ended with unfinished deliveries, and how many.
    interrupted: FxHashMap<ClientIx, usize>,
    /// Clients that gave their last connection up because nothing came on it, and when.
    given_up: FxHashMap<ClientIx, (Stall, u64)>,
}

/// Requests without their answer that are watched at a time.
const REQUESTS_MAX: usize = 16;
const PATIENCE_NS: u64 = 5_000_000_000;
/// A connected session that receives nothing for so long, and is owed something, is stalled.
pub(crate) const STALL_NS: u64 = 10_000_000_000;

#[derive(Debug)]
struct Link {
    maximum: usize,
    /// Packet ids, and whether PUBREC was sent.
    unfinished: FxHashMap<u16, bool>,
    /// How many of them have it.
    received: usize,
    /// Deliveries that were unfinished at the end of the connection before, if any; none since it has been full.
    before: Option<usize>,
    /// It was full, and a place became free since; nothing came yet.
    freed: bool,
    /// The same, and the place had been behind PUBREC until then.
    freed_by_pubcomp: bool,
    last_ns: u64,
    requests: Vec<Request>,
}

/// Something that was sent while no place was free.
#[derive(Debug)]
struct Request {
    answer: Answer,
    text: String,
    sent: Moment,
    /// When the first place became free since.
    freed_ns: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Pingresp,
    Suback(u16),
    Unsuback(u16),
}

/// What a connection on which nothing comes any more looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stall {
    /// Places are free.
    Free,
    /// It was full, and has places since.
    AfterQuota,
    /// It resumed a session with unfinished deliveries, and was never full.
    Resumed,
}

impl Flow {
    pub(crate) fn sent(&mut self, world: &World, at: ConnIx, it: &Packet) {
        if let Packet::Connect(connect) = it {
            self.given_up.remove(&world.connection(at).client);
            if connect.receive_maximum < u16::MAX {
                let before = self.interrupted.remove(&world.connection(at).client);
                self.links.insert(at, Link::new(connect.receive_maximum, before, world.now.at_ns));
            }
            return;
        }
        let Some(link) = self.links.get_mut(&at) else { return };
        match it {
            Packet::Puback(id, _) | Packet::Pubcomp(id, _) | Packet::Pubrec(id, 0x80..) => {
                link.finished(*id, world.now.at_ns);
            }
            Packet::Pingreq => link.asked(Answer::Pingresp, it, world.now),
            Packet::Subscribe(subscribe) => link.asked(Answer::Suback(subscribe.packet_id), it, world.now),
            Packet::Unsubscribe(id, _) => link.asked(Answer::Unsuback(*id), it, world.now),
            Packet::Pubrec(id, _) => {
                if let Some(received) = link.unfinished.get_mut(id) {
                    link.received += usize::from(!*received);
                    *received = true;
                }
            }
            _ => {}
        }
    }

    pub(crate) fn judge(&mut self, world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
        let Some(link) = self.links.get_mut(&delivery.connection) else { return };
        if delivery.publish.qos == 0 || delivery.version != Version::V5_0 {
            return;
        }
        link.unfinished.entry(delivery.publish.packet_id).or_insert(false);
        link.last_ns = world.now.at_ns;
        if std::mem::take(&mut link.freed) {
            ledger.oblige(PromiseId::F5, delivery.version);
        }
        if std::mem::take(&mut link.freed_by_pubcomp) {
            ledger.oblige(PromiseId::F2, delivery.version);
        }
        let unfinished = link.unfinished.len();
        if unfinished < link.maximum {
            return;
        }
        if link.before.take().is_some() {
            ledger.oblige(PromiseId::F4, delivery.version);
        }
        let without_received = unfinished - link.received;
        let id =
            if link.received > 0 && without_received <= link.maximum { PromiseId::F2 } else { PromiseId::F1 };
        ledger.oblige(id, delivery.version);
        if unfinished > link.maximum {
            let maximum = link.maximum;
            ledger.broken(world, id, world.client_scope(delivery.client), || Evidence {
                message: format!(
                    "session {} set a receive maximum of {maximum} and received {unfinished} messages that it had \
                     not finished, {} of them behind PUBREC",
                    world.client(delivery.client).name,
                    unfinished - without_received
                ),
                lines: vec![world.delivery_line(delivery)],
            });
        }
    }

    /// F3: an answer to something that was sent while no place was free.
    pub(crate) fn received(&mut self, world: &World, at: ConnIx, it: &Packet, ledger: &mut Ledger) {
        let answer = match it {
            Packet::Pingresp => Answer::Pingresp,
            Packet::Suback(id, _) => Answer::Suback(*id),
            Packet::Unsuback(id, _) => Answer::Unsuback(*id),
            _ => return,
        };
        let Some(link) = self.links.get_mut(&at) else { return };
        let Some(place) = link.requests.iter().position(|request| request.answer == answer) else { return };
        let request = link.requests.remove(place);
        match request.freed_ns {
            None => ledger.oblige(PromiseId::F3, Version::V5_0),
            Some(freed_ns) => held_back(world, at, &request, freed_ns, ledger),
        }
    }

    /// A connection is over.
    pub(crate) fn closed(&mut self, world: &World, at: ConnIx, closing: Closing, ledger: &mut Ledger) {
        if matches!(closing, Closing::Fin | Closing::Rst)
            && let Some(stall) = self.stalled(world, at)
        {
            self.given_up.insert(world.connection(at).client, (stall, world.now.at_ns));
        }
        let Some(link) = self.links.remove(&at) else { return };
        if !link.unfinished.is_empty() {
            self.interrupted.insert(world.connection(at).client, link.unfinished.len());
        }
        if !matches!(closing, Closing::Broken | Closing::Vanished) {
            let now_ns = world.now.at_ns;
            link.requests
                .iter()
                .for_each(|it| held_back(world, at, it, it.freed_ns.unwrap_or(now_ns), ledger));
        }
    }

    /// What a client's connection looks like, or looked like when the client gave it up, if nothing came on it for
    /// [`STALL_NS`] though places were free; and when that was.
    pub(crate) fn stall(&self, world: &World, client: ClientIx) -> Option<(Stall, u64)> {
        match world.client(client).current {
            Some(at) => self.stalled(world, at).map(|stall| (stall, world.now.at_ns)),
            None => self.given_up.get(&client).copied(),
        }
    }

    fn stalled(&self, world: &World, at: ConnIx) -> Option<Stall> {
        let connection = world.connection(at);
        if connection.accepted == NEVER {
            return None;
        }
        let still = |since_ns: u64| world.now.at_ns.saturating_sub(since_ns) >= STALL_NS;
        let Some(link) = self.links.get(&at) else {
            let still = still(connection.accepted_ns) && still(connection.last_publish_ns);
            return (still && !world.client(connection.client).is_busy()).then_some(Stall::Free);
        };
        let unfinished = link.unfinished.len();
        match (link.freed, link.before) {
            _ if unfinished >= link.maximum || !still(link.last_ns) => None,
            (true, _) => Some(Stall::AfterQuota),
            (_, Some(before)) if unfinished == 0 || unfinished < before => Some(Stall::Resumed),
            _ => (unfinished == 0).then_some(Stall::Free),
        }
    }
}

impl Link {
    fn new(maximum: u16, before: Option<usize>, now_ns: u64) -> Self {
        Self {
            maximum: usize::from(maximum),
            unfinished: FxHashMap::default(),
            received: 0,
            before,
            freed: false,
            freed_by_pubcomp: false,
            last_ns: now_ns,
            requests: Vec::new(),
        }
    }

    fn finished(&mut self, id: u16, now_ns: u64) {
        let full = self.unfinished.len() >= self.maximum;
        let received = self.unfinished.remove(&id) == Some(true);
        self.freed |= full;
        self.freed_by_pubcomp |= full && received;
        self.received -= usize::from(received);
        self.last_ns = now_ns;
        for request in &mut self.requests {
            request.freed_ns.get_or_insert(now_ns);
        }
    }

    fn asked(&mut self, answer: Answer, it: &Packet, now: Moment) {
        if self.unfinished.len() >= self.maximum && self.requests.len() < REQUESTS_MAX {
            self.requests.push(Request { answer, text: packet(it), sent: now, freed_ns: None });
        }
    }
}

/// F3, broken: nothing came until a place became free.
fn held_back(world: &World, at: ConnIx, request: &Request, until_ns: u64, ledger: &mut Ledger) {
    let connection = world.connection(at);
    let waited_ns = until_ns.saturating_sub(request.sent.at_ns);
    // What a link swallows or delays after a fault, nobody held back.
    if waited_ns < PATIENCE_NS || world.disturbed_since(connection.client, connection.accepted) {
        return;
    }
    let name = &world.client(connection.client).name;
    ledger.oblige(PromiseId::F3, connection.version);
    ledger.broken(world, PromiseId::F3, world.client_scope(connection.client), || Evidence {
        message: format!(
            "{name} had no place for another delivery and sent {}; it was not answered within {} s",
            request.text,
            waited_ns / 1_000_000_000
        ),
        lines: vec![line(request.sent, name, Direction::Out, &request.text)],
    });
}
