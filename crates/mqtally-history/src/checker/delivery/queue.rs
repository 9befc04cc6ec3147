//! Queues that were full: what a broker may drop of the messages that wait for a session.

use super::missing::{Missing, Owed, broken_off};
use crate::checker::world::message::Message;
use crate::checker::world::{ClientIx, Place, World};
use std::collections::{BTreeMap, BTreeSet};

/// The excuse of what did not fit into a queue.
pub(super) const QUEUE_FULL: &str =
    "the queue of a session that was away was full: it kept as many as at another time";

/// A queue that keeps fewer than this is no limit but a loss.
pub(super) const QUEUE_MIN: u64 = 10;

/// Messages of one time away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue {
    pub(super) kept: u64,
    pub(super) first: Place,
    pub(super) last: Place,
}

/// The times away whose losses are those of a full queue: it kept the first of them or the last, and as many as in
/// another time away, of this session or of another.
pub(super) fn limited(
    world: &World,
    missing: &[Missing],
    queued: &BTreeMap<(ClientIx, usize), Queue>,
) -> BTreeSet<Option<(ClientIx, usize)>> {
    let mut lost: BTreeMap<(ClientIx, usize), (Place, Place)> = BTreeMap::new();
    for it in missing.iter().filter(|it| it.why == Owed::Acknowledged && broken_off(world, it).is_none()) {
        if let Some(away) = away(world, it.client, &it.message) {
            let sent = it.message.first_sent;
            let range = lost.entry(away).or_insert((sent, sent));
            *range = (range.0.min(sent), range.1.max(sent));
        }
    }
    let shaped = lost.iter().filter_map(|(away, (first, last))| {
        let queue = queued.get(away)?;
        let one_end = *first > queue.last || *last < queue.first;
        (one_end && queue.kept >= QUEUE_MIN).then_some((*away, queue.kept))
    });
    let shaped: Vec<_> = shaped.collect();
    let again = |kept: u64| shaped.iter().filter(|(_, other)| *other == kept).count() > 1;
    shaped.iter().filter(|(_, kept)| again(*kept)).map(|(away, _)| Some(*away)).collect()
}

/// The time away in which a message was sent: the session, and how often it had been online before.
pub(super) fn away(world: &World, client: ClientIx, message: &Message) -> Option<(ClientIx, usize)> {
    let online = &world.client(client).online;
    let before = online.partition_point(|(from, _)| *from <= message.first_sent);
    let is_away = before > 0 && online[before - 1].1 <= message.first_sent;
    is_away.then_some((client, before))
}
