//! One filter of one SUBSCRIBE as a reader of retained messages.

use crate::checker::world::subscription::End;
use crate::checker::world::topic;
use crate::checker::world::{ClientIx, Moment, NEVER, Place, World};
use crate::event::Closing;
use crate::marker::{Identity, MessageId};
use crate::packet::{Filter, Publish};
use std::sync::Arc;

/// What is missing behind SUBACK for this long will not come.
const PATIENCE_NS: u64 = 5_000_000_000;
/// The same where the broker has answered something that was sent behind SUBACK.
const PATIENCE_ANSWERED_NS: u64 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Ask {
    pub(super) client: ClientIx,
    /// Without `$share/NAME/`.
    pub(super) filter: Arc<str>,
    pub(super) asked: Moment,
    pub(super) packet_id: u16,
    /// SUBACK; `NEVER` until then.
    pub(super) answered: Moment,
    pub(super) refused: bool,
    pub(super) due: Due,
    /// Where something came that the broker did behind SUBACK.
    pub(super) settled: Place,
    /// What it should have read has been judged.
    pub(super) judged: bool,
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
    pub(super) count: u8,
    /// It was sent when the filter was established, so that only a live copy can excuse its RETAIN flag.
    pub(super) suspect: Option<MessageId>,
}

impl Ask {
    pub(super) fn new(world: &World, client: ClientIx, packet_id: u16, filter: &Filter) -> Self {
        let (plain, shared) = topic::unshared(&filter.filter);
        Self {
            client,
            filter: plain.into(),
            asked: world.now,
            packet_id,
            answered: Moment { place: NEVER, at_ns: u64::MAX },
            refused: false,
            due: due(world, client, filter, shared),
            settled: 0,
            judged: false,
            got: Vec::new(),
        }
    }

    pub(super) fn matches(&self, topic: &str) -> bool {
        topic::matches(&self.filter, topic)
    }

    pub(super) fn may_read(&self) -> bool {
        matches!(self.due, Due::Yes | Due::Unsure) && !self.refused
    }

    /// Whether everything that it reads must have come by `now`, on a connection that ended in this way.
    pub(super) fn is_over(&self, now: Moment, closing: Option<Closing>) -> bool {
        let waited_ns = now.at_ns.saturating_sub(self.answered.at_ns);
        let patience_ns = if self.settled > 0 { PATIENCE_ANSWERED_NS } else { PATIENCE_NS };
        let whole = !matches!(closing, Some(Closing::Broken | Closing::Vanished));
        self.answered.place < NEVER && !self.refused && whole && waited_ns >= patience_ns
    }

    /// Takes a copy in; how often this value came with it.
    pub(super) fn take(
        &mut self,
        register: usize,
        publish: &Publish,
        now: Moment,
        suspect: Option<MessageId>,
    ) -> u8 {
        let same = |got: &&mut Got| {
            got.register == register && got.identity == publish.identity && got.crc == publish.payload_crc
        };
        if let Some(got) = self.got.iter_mut().find(same) {
            got.count = got.count.saturating_add(1);
            return got.count;
        }
        let (identity, crc) = (publish.identity, publish.payload_crc);
        self.got.push(Got { register, identity, crc, at: now, count: 1, suspect });
        1
    }

    /// How often a value came.
    pub(super) fn count(&self, register: usize, publish: &Publish) -> u8 {
        let same = |got: &&Got| {
            got.register == register && got.identity == publish.identity && got.crc == publish.payload_crc
        };
        self.got.iter().find(same).map_or(0, |got| got.count)
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
