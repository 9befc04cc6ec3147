//! S1 to S4, S7 to S11 and S13: what CONNACK says, and one connection a client.
//!
//! Whether a session exists follows from what was acknowledged: it does after an accepted persistent connection until
//! its expiry, and does not where there never was one or it ended with its clean connection. In between — an
//! unanswered CONNECT, an expiry that is about over, two connections at once, an end of the broker that its profile
//! does not cover — either answer is right.

use super::excerpt::{Direction, line, packet, seconds};
use super::ledger::{Evidence, Ledger};
use super::world::client::Expected;
use super::world::{ClientIx, ConnIx, GroupIx, Moment, NEVER, World};
use crate::event::Closing;
use crate::packet::{Connack, Packet, Version};
use crate::promise::PromiseId;

/// A connection that was taken over has to be closed by then.
const TAKEOVER_NS_MAX: u64 = 5_000_000_000;

/// Connections that have been taken over and are not closed.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    taken_over: Vec<TakenOver>,
}

#[derive(Debug, Clone, Copy)]
struct TakenOver {
    client: ClientIx,
    old: ConnIx,
    new: ConnIx,
    at: Moment,
}

impl Sessions {
    pub(crate) fn received(&mut self, world: &World, at: ConnIx, it: &Packet, ledger: &mut Ledger) {
        judge_first(world, at, it, ledger);
        match it {
            Packet::Connack(connack) if world.connection(at).accepted == NEVER => {
                self.judge_connack(world, at, it, connack, ledger);
            }
            Packet::Publish(publish) => self.judge_taken_over(world, at, publish, ledger),
            _ => {}
        }
    }

    fn judge_connack(
        &mut self,
        world: &World,
        at: ConnIx,
        it: &Packet,
        connack: &Connack,
        ledger: &mut Ledger,
    ) {
        let connection = world.connection(at);
        let Some(connect) = &connection.connect else { return };
        if connack.reason != 0 {
            ledger.oblige(PromiseId::S3, connection.version);
            if connack.session_present {
                broken(
                    world,
                    at,
                    PromiseId::S3,
                    it,
                    "was refused and told that its session is present",
                    ledger,
                );
            }
            return;
        }
        if connect.clean_start {
            ledger.oblige(PromiseId::S1, connection.version);
            if connack.session_present {
                let what = "asked for a clean start and was told that its session is present";
                broken(world, at, PromiseId::S1, it, what, ledger);
            }
        } else {
            judge_presence(world, at, it, connack.session_present, ledger);
        }
        match world.taken_over(at) {
            Some(old) if world.connection(old).closed.is_none() => {
                self.taken_over.push(TakenOver { client: connection.client, old, new: at, at: world.now });
            }
            Some(_) => ledger.oblige(PromiseId::S9, connection.version),
            None => {}
        }
    }

    /// A message that was sent after the takeover has no business on the old connection.
    fn judge_taken_over(
        &mut self,
        world: &World,
        at: ConnIx,
        it: &crate::packet::Publish,
        ledger: &mut Ledger,
    ) {
        let Some(place) = self.taken_over.iter().position(|taken| taken.old == at) else { return };
        let crate::marker::Identity::Ours(marker) = it.identity else { return };
        let message = world.message(marker.message).map(|(_, message)| message.first_sent);
        let overdue = world.now.at_ns.saturating_sub(self.taken_over[place].at.at_ns) > TAKEOVER_NS_MAX;
        if overdue || message.is_some_and(|sent| sent > self.taken_over[place].at.place) {
            let taken = self.taken_over.swap_remove(place);
            still_open(world, taken, ledger);
        }
    }

    /// A connection is over.
    pub(crate) fn closed(&mut self, world: &World, at: ConnIx, closing: Closing, ledger: &mut Ledger) {
        if let Some(place) = self.taken_over.iter().position(|taken| taken.old == at) {
            let taken = self.taken_over.swap_remove(place);
            match closing {
                Closing::ByBroker | Closing::Broken => {
                    ledger.oblige(PromiseId::S9, world.connection(at).version);
                }
                // Its client closed it itself, which shows nothing but how long the broker had not.
                _ if overdue(world, taken) => still_open(world, taken, ledger),
                _ => {}
            }
        }
        // A connection that nobody holds any more cannot show what it would have closed.
        self.taken_over.retain(|taken| taken.new != at || overdue(world, *taken));
    }

    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        let (here, rest): (Vec<TakenOver>, Vec<TakenOver>) = std::mem::take(&mut self.taken_over)
            .into_iter()
            .partition(|taken| world.client(taken.client).group == group);
        self.taken_over = rest;
        for taken in here.into_iter().filter(|taken| overdue(world, *taken)) {
            still_open(world, taken, ledger);
        }
    }
}

fn overdue(world: &World, taken: TakenOver) -> bool {
    world.now.at_ns.saturating_sub(taken.at.at_ns) > TAKEOVER_NS_MAX
}

fn still_open(world: &World, taken: TakenOver, ledger: &mut Ledger) {
    let client = world.client(taken.client);
    ledger.oblige(PromiseId::S9, client.version);
    ledger.broken(world, PromiseId::S9, world.client_scope(taken.client), || Evidence {
        message: format!(
            "{} was connected a second time at {}, and its first connection is still open",
            client.name,
            seconds(taken.at.at_ns)
        ),
        lines: world.control_lines(taken.client, 0),
    });
}

/// S4, and the half of S3 that nothing follows a refusal.
fn judge_first(world: &World, at: ConnIx, it: &Packet, ledger: &mut Ledger) {
    let connection = world.connection(at);
    let answered = connection.accepted != NEVER || connection.refused;
    match it {
        Packet::Auth(_) => {}
        Packet::Connack(_) if !answered => ledger.oblige(PromiseId::S4, connection.version),
        Packet::Connack(_) => {
            ledger.oblige(PromiseId::S4, connection.version);
            broken(world, at, PromiseId::S4, it, "received a second CONNACK", ledger);
        }
        _ if connection.refused => {
            ledger.oblige(PromiseId::S3, connection.version);
            broken(world, at, PromiseId::S3, it, "received a packet after a refusal", ledger);
        }
        _ if !answered => {
            ledger.oblige(PromiseId::S4, connection.version);
            broken(world, at, PromiseId::S4, it, &format!("received {} before CONNACK", packet(it)), ledger);
        }
        _ => {}
    }
}

fn judge_presence(world: &World, at: ConnIx, it: &Packet, present: bool, ledger: &mut Ledger) {
    let connection = world.connection(at);
    let Some(expected) = world.expected(connection) else { return };
    judge_expiry(world, at, it, (expected, present), ledger);
    let overrode = connection.previous.is_some_and(|at| world.connection(at).overrode_expiry);
    let (id, wrong) = match expected {
        Expected::Present if overrode => (PromiseId::S11, !present),
        Expected::AbsentEnded if overrode => (PromiseId::S11, present),
        Expected::Either | Expected::AbsentExpired => return,
        Expected::Present => (PromiseId::S2, !present),
        Expected::AbsentNever => (PromiseId::S2, present),
        Expected::AbsentEnded if connection.version == Version::V3_1_1 => (PromiseId::S13, present),
        Expected::AbsentEnded => (PromiseId::S2, present),
    };
    // That a client is new says little: it counts where it goes wrong, and tests nothing where it does not.
    if expected != Expected::AbsentNever || wrong {
        ledger.oblige(id, connection.version);
    }
    let taken_over = expected == Expected::Present && world.taken_over(at).is_some();
    if taken_over {
        ledger.oblige(PromiseId::S10, connection.version);
    }
    if wrong && taken_over {
        let what = "took over its own connection and was told that there is no session";
        broken(world, at, PromiseId::S10, it, what, ledger);
    }
    if wrong {
        let what = match expected {
            _ if id == PromiseId::S11 && present => {
                "was told that its session is present, which its DISCONNECT had ended"
            }
            Expected::Present if id == PromiseId::S11 => {
                "came back within the expiry interval that its DISCONNECT had set, and its session is gone"
            }
            Expected::Present => "came back to its session and was told that there is none",
            Expected::AbsentNever => "connected for the first time and was told that its session is present",
            _ => "was told that its session is present, which had ended with its connection",
        };
        broken(world, at, id, it, what, ledger);
    }
}

/// S7 and S8: where time decides.
fn judge_expiry(
    world: &World,
    at: ConnIx,
    it: &Packet,
    (expected, present): (Expected, bool),
    ledger: &mut Ledger,
) {
    let connection = world.connection(at);
    let client = world.client(connection.client);
    let Some(away) = client.away.filter(|_| client.expiry != u32::MAX && connection.version == Version::V5_0)
    else {
        return;
    };
    let overrode = connection.previous.is_some_and(|at| world.connection(at).overrode_expiry);
    let gone_ns = connection.connect_sent.at_ns.saturating_sub(away.earliest_ns);
    let long_enough = gone_ns.saturating_mul(4) > u64::from(client.expiry) * 1_000_000_000;
    match expected {
        // S11 judges what DISCONNECT set.
        Expected::Present if long_enough && !overrode => {
            ledger.oblige(PromiseId::S7, connection.version);
            if !present {
                let what = format!(
                    "was away for {} of the {} s that its session had to live, and it is gone",
                    seconds(gone_ns),
                    client.expiry
                );
                broken(world, at, PromiseId::S7, it, &what, ledger);
            }
        }
        Expected::AbsentExpired => {
            let id = if overrode { PromiseId::S11 } else { PromiseId::S8 };
            ledger.oblige(id, connection.version);
            if present {
                ledger.warn(world, id, world.client_scope(connection.client), || {
                    evidence(world, at, it, "came back after its session had expired and found it")
                });
            }
        }
        _ => {}
    }
}

fn broken(world: &World, at: ConnIx, id: PromiseId, it: &Packet, what: &str, ledger: &mut Ledger) {
    let scope = world.client_scope(world.connection(at).client);
    ledger.broken(world, id, scope, || evidence(world, at, it, what));
}

fn evidence(world: &World, at: ConnIx, it: &Packet, what: &str) -> Evidence {
    let ix = world.connection(at).client;
    let client = world.client(ix);
    let restart = world.after_restart(client.online.last().map_or(NEVER, |(from, _)| *from));
    let mut lines = world.control_lines(ix, 0);
    lines.push(line(world.now, &client.name, Direction::In, packet(it)));
    Evidence { message: format!("{} {what}{restart}", client.name), lines }
}
