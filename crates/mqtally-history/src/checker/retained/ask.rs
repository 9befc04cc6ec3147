//! One filter of one SUBSCRIBE as a reader of retained messages.

use crate::checker::world::subscription::End;
use crate::checker::world::topic;
use crate::checker::world::{ClientIx, ConnIx, Moment, NEVER, Place, World};
use crate::marker::{Identity, MessageId};
use crate::packet::{Filter, Publish};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A connection on which nothing came for so long, and nothing was unfinished, has nothing more to come.
const REST_NS: u64 = 5_000_000_000;
/// The same where the broker has answered something that was sent behind SUBACK.
const REST_ANSWERED_NS: u64 = 1_000_000_000;
/// The writes that a reader may see are kept for so long.
const STALE_NS: u64 = 60_000_000_000;

#[derive(Debug)]
pub(super) struct Ask {
    pub(super) connection: ConnIx,
    /// The session's.
    pub(super) lineage: u32,
    /// Without `$share/NAME/`.
    pub(super) filter: Arc<str>,
    pub(super) asked: Moment,
    pub(super) packet_id: u16,
    /// SUBACK; `NEVER` until then.
    pub(super) answered: Moment,
    /// What SUBACK granted.
    pub(super) granted: u8,
    pub(super) refused: bool,
    pub(super) due: Due,
    /// UNSUBSCRIBE was sent behind it; then, UNSUBACK came.
    pub(super) leaving: bool,
    pub(super) left: bool,
    /// Where something came first that the broker did behind SUBACK, and when last; 0 where nothing did.
    pub(super) settled: Place,
    settled_again: Place,
    /// From here on everything that it reads has come, and what it should have read is judged.
    pub(super) rested: Place,
    /// Registers of which a copy came to its session since.
    pub(super) seen: BTreeSet<usize>,
    pub(super) got: Vec<Got>,
}

/// Whether retained messages are to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Yes,
    /// Retain Handling 1, and nobody knows whether it exists.
    Unsure,
    /// The subscription is shared.
    Shared,
    /// Retain Handling 1, and the subscription exists.
    NotAgain,
    /// Retain Handling 2.
    Never,
}

/// A retained copy that came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Got {
    pub(super) register: usize,
    pub(super) identity: Identity,
    pub(super) crc: u32,
    pub(super) at: Moment,
    /// It was sent when the filter was established, so that only a live copy can excuse its RETAIN flag.
    pub(super) suspect: Option<MessageId>,
}

impl Ask {
    pub(super) fn new(world: &World, connection: ConnIx, packet_id: u16, filter: &Filter) -> Self {
        let client = world.connection(connection).client;
        let (plain, shared) = topic::unshared(&filter.filter);
        Self {
            connection,
            lineage: world.client(client).lineage,
            filter: plain.into(),
            asked: world.now,
            packet_id,
            answered: Moment { place: NEVER, at_ns: u64::MAX },
            granted: filter.qos,
            refused: false,
            due: due(world, client, filter, shared),
            leaving: false,
            left: false,
            settled: 0,
            settled_again: 0,
            rested: NEVER,
            seen: BTreeSet::new(),
            got: Vec::new(),
        }
    }

    pub(super) fn matches(&self, topic: &str) -> bool {
        topic::matches(&self.filter, topic)
    }

    /// Whether it may read what was first sent at `sent`.
    pub(super) fn may_read(&self, sent: Place) -> bool {
        matches!(self.due, Due::Yes | Due::Unsure) && !self.refused && sent < self.rested
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.place < NEVER
    }

    pub(super) fn has_rested(&self) -> bool {
        self.rested < NEVER
    }

    /// Whether it has been going on for so long that what it should have read is not remembered.
    pub(super) fn is_stale(&self, now: Moment) -> bool {
        now.at_ns.saturating_sub(self.asked.at_ns) > STALE_NS
    }

    /// A copy of this register came to its session.
    pub(super) fn sees(&mut self, register: usize) {
        self.seen.insert(register);
    }

    /// Something came that the broker did behind what stands at `behind`, on this connection.
    pub(super) fn settle(&mut self, world: &World, at: ConnIx, behind: Place) {
        let answered =
            if self.connection == at { self.answered.place } else { world.connection(at).accepted };
        if answered < behind {
            self.settled_again = world.now.place;
            if self.settled == 0 {
                self.settled = world.now.place;
            }
        }
    }

    /// Whether everything that it reads must have come, as seen from its session's open connection: the broker had
    /// room, and sent nothing, for as long as no fault of ours explains.
    pub(super) fn rests(&self, world: &World, at: ConnIx) -> bool {
        let connection = world.connection(at);
        if (self.connection == at && !self.is_answered()) || connection.accepted == NEVER {
            return false;
        }
        let since = connection.accepted.max(self.settled_again);
        let since = if self.connection == at { since.max(self.answered.place) } else { since };
        let begun_ns = if self.connection == at { self.answered.at_ns } else { connection.accepted_ns };
        let last_ns = begun_ns.max(connection.last_publish_ns).max(connection.last_acked_ns);
        let answered = self.settled_again > connection.accepted;
        let rest_ns = if answered { REST_ANSWERED_NS } else { REST_NS };
        world.now.at_ns.saturating_sub(last_ns) >= rest_ns
            && !world.disturbed_since(connection.client, since)
            && !world.client(connection.client).is_busy()
    }

    /// Takes a copy in.
    pub(super) fn take(
        &mut self,
        register: usize,
        publish: &Publish,
        now: Moment,
        suspect: Option<MessageId>,
    ) {
        let (identity, crc) = (publish.identity, publish.payload_crc);
        self.got.push(Got { register, identity, crc, at: now, suspect });
    }

    /// Whether this value came for it.
    pub(super) fn has(&self, register: usize, publish: &Publish) -> bool {
        self.got.iter().any(|got| {
            got.register == register && got.identity == publish.identity && got.crc == publish.payload_crc
        })
    }
}

fn due(world: &World, client: ClientIx, filter: &Filter, shared: bool) -> Due {
    let it = world.client(client);
    let mut same = it.subscriptions.iter().filter(|it| it.filter == filter.filter);
    match filter.retain_handling {
        _ if shared => Due::Shared,
        0 => Due::Yes,
        2 => Due::Never,
        _ if same.clone().any(|it| it.until == NEVER && it.active < NEVER) => Due::NotAgain,
        _ if same.all(|it| matches!(it.end, End::Unsubscribed | End::Refused | End::Discarded)) => Due::Yes,
        _ => Due::Unsure,
    }
}
