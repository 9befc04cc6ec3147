//! The retained value of a topic: a regular register. A reader may see the last value that was complete before it
//! began, and each that was being written since.

use crate::checker::world::{ClientIx, ConnIx, Moment, NEVER, Place};
use crate::marker::{Identity, MessageId};
use crate::packet::Publish;
use std::sync::Arc;

/// Writes of one topic that are remembered.
const WRITES_MAX: usize = 64;

/// What was published with RETAIN to one topic.
#[derive(Debug)]
pub(super) struct Register {
    pub(super) topic: Arc<str>,
    pub(super) writes: Vec<Write>,
    /// The first message without RETAIN since the last write.
    pub(super) plain: Option<MessageId>,
    /// Writes were forgotten that may still count.
    blurred: bool,
}

/// One PUBLISH with RETAIN, or a will with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write {
    pub(super) identity: Identity,
    pub(super) crc: u32,
    pub(super) len: u32,
    pub(super) qos: u8,
    pub(super) sent: Moment,
    /// The final acknowledgement; `NEVER` where none came.
    pub(super) acked: Moment,
    pub(super) expiry: Option<u32>,
    pub(super) client: ClientIx,
    pub(super) connection: ConnIx,
    pub(super) will: bool,
}

/// What a subscription may find.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found {
    /// This value, for certain.
    Value(Write),
    /// One of several, none of which clears the topic.
    OneOf(Write),
    /// Nothing, for certain.
    Nothing,
    /// Nothing or something.
    Unsure,
}

impl Write {
    pub(super) fn of(publish: &Publish, client: ClientIx, connection: ConnIx, now: Moment) -> Self {
        Self {
            identity: publish.identity,
            crc: publish.payload_crc,
            len: publish.payload_len,
            qos: publish.qos,
            sent: now,
            acked: Moment { place: NEVER, at_ns: u64::MAX },
            expiry: publish.message_expiry,
            client,
            connection,
            will: false,
        }
    }

    pub(super) fn clears(&self) -> bool {
        self.len == 0
    }

    /// Once it is written, nothing but another write ends it.
    fn is_lasting(&self) -> bool {
        self.qos > 0 && !self.clears() && !self.will && self.expiry.is_none()
    }

    pub(super) fn is_complete_before(&self, place: Place) -> bool {
        self.acked.place < place
    }

    /// Whether the broker took this one before the other: it was acknowledged before the other was sent, or both went
    /// over one connection at one QoS. QoS 2 may be taken at PUBREL.
    fn is_before(&self, other: &Write) -> bool {
        let in_line = self.connection == other.connection && self.qos == other.qos && self.qos == 1;
        self.acked.place < other.sent.place || (in_line && self.sent.place < other.sent.place)
    }

    /// Whether a publication carries this value.
    pub(super) fn is(&self, publish: &Publish) -> bool {
        let same_body = self.crc == publish.payload_crc && self.len == publish.payload_len;
        match (self.identity, publish.identity) {
            (Identity::Ours(mine), Identity::Ours(theirs)) => mine.message == theirs.message,
            (mine, theirs) => mine == theirs && same_body,
        }
    }
}

impl Register {
    pub(super) fn new(topic: &Arc<str>) -> Self {
        Self { topic: Arc::clone(topic), writes: Vec::new(), plain: None, blurred: false }
    }

    /// Adds a write. Those that no reader since `oldest_reader` can see any more are forgotten.
    pub(super) fn add(&mut self, write: Write, oldest_reader: Place) {
        self.plain = None;
        self.prune(oldest_reader);
        if self.writes.len() == WRITES_MAX {
            self.writes.remove(0);
            self.blurred = true;
        }
        self.writes.push(write);
    }

    fn prune(&mut self, oldest_reader: Place) {
        let visible = |write: &Write| !self.replaced(write, oldest_reader);
        let keep: Vec<Write> = self.writes.iter().copied().filter(visible).collect();
        self.blurred &= keep.len() > 1;
        self.writes = keep;
    }

    /// Whether another write replaced this one, for certain, before `reader` began.
    fn replaced(&self, write: &Write, reader: Place) -> bool {
        self.writes.iter().any(|later| later.is_complete_before(reader) && write.is_before(later))
    }

    /// A write that certainly came behind what was finally acknowledged at `acked`, and before `reader` began.
    pub(super) fn later_than(&self, acked: Place, reader: Place) -> Option<&Write> {
        let later = |write: &&Write| write.sent.place > acked && write.is_complete_before(reader);
        self.writes.iter().rev().find(later)
    }

    /// What a subscription that began at `reader` may find.
    pub(super) fn found(&self, reader: Place) -> Found {
        let visible: Vec<&Write> = self.writes.iter().filter(|write| !self.replaced(write, reader)).collect();
        let (Some(first), false) = (visible.first(), self.blurred) else { return Found::Unsure };
        let complete = |write: &&&Write| write.is_complete_before(reader);
        let base = visible.iter().filter(complete).count();
        match visible.as_slice() {
            [only] if base == 1 && only.clears() => Found::Nothing,
            [only] if base == 1 => Found::Value(**only),
            // QoS 0 may be discarded and may be lost on its way; what was never acknowledged may be both; what expires goes.
            all if base > 0 && all.iter().all(|write| write.is_lasting()) => Found::OneOf(**first),
            _ => Found::Unsure,
        }
    }
}
