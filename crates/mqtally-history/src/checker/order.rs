//! O1, O3 and O4. O1: first copies arrive in the order in which the broker received the messages.
//!
//! Two messages of a stream are ordered at the broker when both were first sent in one lineage of their publisher, or
//! when the first was finally acknowledged before the second was sent. Retained copies, messages submitted anew or
//! received by the broker in no known order, overlapping and shared filters, and later copies are left out.

use super::excerpt::Line;
use super::ledger::{Evidence, Ledger, Scope};
use super::world::client::Copies;
use super::world::delivery::{Delivery, Known};
use super::world::{ClientIx, GroupIx, Place, StreamIx, World};
use crate::promise::PromiseId;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// Descents of one stream at one session that keep their evidence.
const DESCENTS_MAX: usize = 64;

/// What is remembered of each stream at each session.
#[derive(Debug, Default)]
pub(crate) struct Order {
    tracks: FxHashMap<(ClientIx, StreamIx, u8), Track>,
    descents: BTreeMap<(ClientIx, StreamIx), Vec<Descent>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Track {
    /// Lineage of the session.
    lineage: u32,
    publisher_lineage: u32,
    /// The latest first sending among first copies, within the publisher's lineage.
    latest: Sent,
    /// The same over all its lineages.
    latest_of_all: Sent,
    pairs: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    place: Place,
    sequence: u64,
}

#[derive(Debug)]
struct Descent {
    at: Place,
    sequence: u64,
    after: u64,
    lines: Vec<Line>,
}

impl Order {
    pub(crate) fn judge(&mut self, world: &World, delivery: &Delivery<'_>, ledger: &mut Ledger) {
        let Some(known) = delivery.known else { return };
        let message = known.message;
        self.judge_window_1(world, delivery, &known, ledger);
        // What is read from a connection that was taken over since was sent before what came on the new one.
        let first = delivery.is_live() && !known.copies.live && !world.is_superseded(delivery.connection);
        if !first || delivery.is_overlapped() || message.submissions > 1 || message.unordered {
            return;
        }
        let key = (delivery.client, known.stream, delivery.publish.qos);
        let track = self.tracks.entry(key).or_default();
        track.enter(world.client(delivery.client).lineage, message.lineage);
        let sent = Sent { place: message.first_sent, sequence: known.marker.message.sequence };
        let overtaken = track.overtaken(sent, message.acked);
        track.add(sent);
        let excused = world.excused_since(message.first_sent) || may_be_second(delivery, &known);
        if let Some(after) = overtaken.filter(|_| !excused) {
            let descents = self.descents.entry((delivery.client, known.stream)).or_default();
            if descents.len() < DESCENTS_MAX {
                let lines = world.out_of_order_lines(delivery, &known, after);
                descents.push(Descent { at: delivery.now.place, sequence: sent.sequence, after, lines });
            }
        }
    }

    /// O4: with one place at the receiver and one message at a time at the sender, nothing steps back.
    fn judge_window_1(&self, world: &World, delivery: &Delivery<'_>, known: &Known<'_>, ledger: &mut Ledger) {
        let connect = world.connection(delivery.connection).connect.as_ref();
        if connect.is_none_or(|connect| connect.receive_maximum != 1) || delivery.publish.qos == 0 {
            return;
        }
        let key = (delivery.client, known.stream, delivery.publish.qos);
        let lineage = world.client(delivery.client).lineage;
        let Some(track) = self.tracks.get(&key).filter(|track| track.lineage == lineage) else { return };
        let message = known.message;
        let one_at_a_time = message.acked > 0 && message.sends == 1 && !delivery.is_overlapped();
        if !one_at_a_time || !delivery.is_live() {
            return;
        }
        ledger.oblige(PromiseId::O4, delivery.version);
        // A first copy that steps back is O1's.
        if known.copies.live && message.acked < track.latest.place {
            ledger.warn(world, PromiseId::O4, world.scope(delivery), || Evidence {
                message: format!(
                    "{} came again to session {}, with receive maximum 1, behind message {}",
                    world.message_name(known),
                    world.client(delivery.client).name,
                    track.latest.sequence
                ),
                lines: world.out_of_order_lines(delivery, known, track.latest.sequence),
            });
        }
    }

    /// The message of a stream that was sent last among those that reached a session in its present lineage at this QoS.
    pub(crate) fn latest(&self, world: &World, client: ClientIx, stream: StreamIx, qos: u8) -> Option<u64> {
        let track = self.tracks.get(&(client, stream, qos))?;
        let here = track.lineage == world.client(client).lineage && track.latest_of_all.place > 0;
        here.then_some(track.latest_of_all.sequence)
    }

    /// Judges the messages of a stream below `end` before they are forgotten.
    pub(crate) fn retire(&mut self, world: &World, stream: StreamIx, end: u64, ledger: &mut Ledger) {
        judge_last_copies(world, stream, end, ledger);
        for (_, descents) in self.descents.iter_mut().filter(|((_, of), _)| *of == stream) {
            descents.retain(|it| !is_unordered(world, stream, it));
        }
    }

    /// Counts and reports at the end of a part, when it is known which messages the broker received in no known order.
    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        for ((client, ..), track) in &self.tracks {
            let client = world.client(*client);
            if client.group == group {
                ledger.oblige_many(PromiseId::O1, client.version, track.pairs);
            }
        }
        self.tracks.retain(|(client, ..), _| world.client(*client).group != group);
        for ix in 0..world.streams.len() as StreamIx {
            if world.stream(ix).group == group {
                judge_last_copies(world, ix, u64::MAX, ledger);
            }
        }
        for ((client, stream), descents) in std::mem::take(&mut self.descents) {
            report(world, client, stream, descents, ledger);
        }
    }
}

/// O3: seen from the end, each message's last copy stands before those of the messages behind it.
fn judge_last_copies(world: &World, ix: StreamIx, end: u64, ledger: &mut Ledger) {
    let stream = world.stream(ix);
    if stream.qos != 1 {
        return;
    }
    let in_order = world.clients.iter().enumerate().filter(|(_, client)| !client.acks_out_of_order);
    for (client_ix, client) in in_order {
        let Some(copies) = client.copies.get(&ix) else { continue };
        let since = client.breaks.last().map_or(0, |it| it.place);
        let (mut earliest, mut lineage) = (Place::MAX, None);
        let all: Vec<(u64, &Copies)> =
            copies.below(end).filter(|(_, it)| it.live && it.max_qos == 1).collect();
        for (sequence, it) in all.into_iter().rev() {
            let Some(message) = stream.messages.at(sequence) else { continue };
            let plain = message.sends == 1 && !message.unordered && message.first_sent > since;
            if !plain || world.excused_since(message.first_sent) {
                continue;
            }
            if lineage != Some(message.lineage) {
                (earliest, lineage) = (Place::MAX, Some(message.lineage));
            }
            if it.packets > 1 {
                ledger.oblige(PromiseId::O3, client.version);
                if it.last > earliest {
                    last_copy_late(world, (client_ix as ClientIx, ix), sequence, it, ledger);
                }
            }
            earliest = earliest.min(it.last);
        }
    }
}

fn last_copy_late(
    world: &World,
    (client_ix, ix): (ClientIx, StreamIx),
    sequence: u64,
    it: &Copies,
    ledger: &mut Ledger,
) {
    let client = world.client(client_ix);
    let scope = Scope { cause: u64::from(client_ix) << 32 | u64::from(ix), ..world.client_scope(client_ix) };
    ledger.warn(world, PromiseId::O3, scope, || Evidence {
        message: format!(
            "message {sequence} of {} came to session {} {} times, at last (event {}) behind the last copy of a \
             message that was sent later",
            world.stream(ix).topic,
            client.name,
            it.packets,
            it.last
        ),
        lines: world.control_lines(client_ix, it.first),
    });
}

/// The broker may have taken a QoS 1 message twice, and what it made of the first may rightly not have come: at QoS 0
/// it may get lost, and a younger filter did not ask for it.
fn may_be_second(delivery: &Delivery<'_>, known: &Known<'_>) -> bool {
    let taken_twice = known.marker.qos == 1 && known.message.sends > 1;
    taken_twice && (delivery.publish.qos == 0 || delivery.routes.certain == 0)
}

impl Track {
    fn enter(&mut self, lineage: u32, publisher_lineage: u32) {
        if self.lineage != lineage {
            *self = Self { lineage, pairs: self.pairs, ..Self::default() };
        }
        if self.publisher_lineage != publisher_lineage {
            self.publisher_lineage = publisher_lineage;
            self.latest = Sent::default();
        }
    }

    /// The message that came before its turn, if one did.
    fn overtaken(&mut self, sent: Sent, acked: Place) -> Option<u64> {
        self.pairs += u64::from(self.latest_of_all.place > 0);
        if sent.place < self.latest.place {
            Some(self.latest.sequence)
        } else if acked > 0 && acked < self.latest_of_all.place {
            Some(self.latest_of_all.sequence)
        } else {
            None
        }
    }

    fn add(&mut self, sent: Sent) {
        for latest in [&mut self.latest, &mut self.latest_of_all] {
            if sent.place > latest.place {
                *latest = sent;
            }
        }
    }
}

/// The broker received one of the two in no known order.
fn is_unordered(world: &World, stream: StreamIx, it: &Descent) -> bool {
    let messages = &world.stream(stream).messages;
    let unordered = |sequence| messages.at(sequence).is_some_and(|message| message.unordered);
    unordered(it.sequence) || unordered(it.after)
}

fn report(world: &World, client: ClientIx, stream: StreamIx, descents: Vec<Descent>, ledger: &mut Ledger) {
    let it = world.stream(stream);
    let certain: Vec<Descent> = descents.into_iter().filter(|it| !is_unordered(world, stream, it)).collect();
    let count = certain.len();
    if count == 0 {
        return;
    }
    let moved = fewest_moved(world, client, stream).max(1);
    ledger.tally.reordered += moved;
    let (topic, qos, session) = (&it.topic, it.qos, &world.client(client).name);
    let scope = Scope {
        group: it.group,
        version: world.client(client).version,
        cause: u64::from(client) << 32 | u64::from(stream),
    };
    for descent in certain {
        let (late, early) = (descent.sequence, descent.after);
        ledger.broken_by(world, PromiseId::O1, scope, descent.at, || Evidence {
            message: format!(
                "{topic} at QoS {qos} reached session {session} out of order: message {early} before message \
                 {late}, which was sent first; {count} steps back, and {moved} messages would have to be moved"
            ),
            lines: descent.lines,
        });
    }
}

/// The number of first copies less the longest run among them that is in order.
fn fewest_moved(world: &World, client: ClientIx, stream: StreamIx) -> u64 {
    let Some(copies) = world.client(client).copies.get(&stream) else { return 0 };
    let mut arrivals: Vec<(Place, u64)> =
        copies.iter().filter(|(_, it)| it.live).map(|(sequence, it)| (it.first, sequence)).collect();
    arrivals.sort_unstable();
    let mut ends: Vec<u64> = Vec::new();
    for (_, sequence) in &arrivals {
        let at = ends.partition_point(|end| end < sequence);
        match ends.get_mut(at) {
            Some(end) => *end = *sequence,
            None => ends.push(*sequence),
        }
    }
    (arrivals.len() - ends.len()) as u64
}
