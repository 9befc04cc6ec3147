//! A subscriber's inbox and handler: what it stores before it acknowledges.
//!
//! A model of `mqtally`'s inbox and subscriber (which are SQLite, threads and tokio) around the real session: PUBACK and
//! PUBREC go out when the message is stored, PUBCOMP when its packet id is forgotten; a message that is known by its id
//! is a duplicate; the handler's effect is part of the transaction that settles its message. A crash keeps what the
//! disk kept; a subscriber without a store forgets.

use super::disk::{Disk, Store};
use mqtally_history::event::Outcome;
use mqtally_history::marker::{Identity, MessageId};
use mqtally_proto::packet::{Publish, Qos};
use std::collections::{BTreeSet, VecDeque};

/// What the inbox holds.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    known: BTreeSet<MessageId>,
    /// QoS 2 packet ids between PUBLISH and PUBREL.
    exchanges: BTreeSet<u16>,
    unsettled: VecDeque<MessageId>,
    /// Decisions that are durable and were not told.
    decided: Vec<(MessageId, Outcome)>,
}

#[derive(Debug)]
pub(super) struct Arrival {
    message: Option<MessageId>,
    packet_id: Option<u16>,
    exchange: Option<u16>,
}

#[derive(Debug)]
pub(super) enum Written {
    Accepted(Arrival),
    /// PUBREL came, or the id of an earlier life came again for another message.
    Released {
        packet_id: u16,
        pubcomp: bool,
    },
    SessionLost,
    Handled(MessageId),
}

impl Store for Inbox {
    type Transaction = Written;

    fn apply(&mut self, written: &Written) {
        match written {
            Written::Accepted(arrival) => self.accept(arrival),
            Written::Released { packet_id, .. } => drop(self.exchanges.remove(packet_id)),
            Written::SessionLost => self.exchanges.clear(),
            Written::Handled(message) => {
                self.unsettled.retain(|other| other != message);
                self.decided.push((*message, Outcome::Processed));
            }
        }
    }
}

impl Inbox {
    fn accept(&mut self, arrival: &Arrival) {
        let redelivered = arrival.exchange.is_some_and(|packet_id| !self.exchanges.insert(packet_id));
        let Some(message) = arrival.message.filter(|_| !redelivered) else { return };
        if self.known.insert(message) {
            self.unsettled.push_back(message);
        } else {
            self.decided.push((message, Outcome::Duplicate));
        }
    }
}

#[derive(Debug)]
pub(super) struct Subscriber {
    run: u32,
    pub(super) disk: Disk<Inbox>,
    /// Packet ids of an earlier life of the process that nothing came for yet.
    inherited: BTreeSet<u16>,
    /// The message that the handler has.
    pub(super) handling: Option<MessageId>,
    /// SUBACK came for everything, in this session.
    pub(super) is_subscribed: bool,
    /// The SUBSCRIBE that was not answered.
    pub(super) asked: Option<u16>,
}

impl Subscriber {
    pub(super) fn new(run: u32) -> Self {
        Self {
            run,
            disk: Disk::default(),
            inherited: BTreeSet::new(),
            handling: None,
            is_subscribed: false,
            asked: None,
        }
    }

    /// The process begins on what the disk kept; returns the packet ids that its session has to remember.
    pub(super) fn restore(&mut self) -> Vec<u16> {
        self.inherited = self.disk.synced().exchanges.clone();
        self.handling = None;
        (self.is_subscribed, self.asked) = (false, None);
        self.inherited.iter().copied().collect()
    }

    /// The process died and left nothing.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.run);
    }

    /// What has to be stored because this came, before it is acknowledged.
    pub(super) fn arrive(&mut self, publish: &Publish, first: bool) -> Vec<Written> {
        let mut written = Vec::new();
        if let Some(packet_id) = publish.packet_id.filter(|id| first && self.inherited.remove(id)) {
            written.push(Written::Released { packet_id, pubcomp: false });
        }
        let message = match Identity::of(self.run, &publish.payload) {
            Identity::Ours(marker) => Some(marker.message),
            Identity::Foreign | Identity::Corrupt | Identity::Unmarked => None,
        };
        let exchange = publish.packet_id.filter(|_| publish.qos == Qos::ExactlyOnce);
        written.push(Written::Accepted(Arrival { message, packet_id: publish.packet_id, exchange }));
        written
    }

    /// PUBREL came.
    pub(super) fn release(&mut self, packet_id: u16) -> Written {
        self.inherited.remove(&packet_id);
        Written::Released { packet_id, pubcomp: true }
    }

    /// The broker has no session: packet ids mean nothing.
    pub(super) fn lose_session(&mut self) -> Written {
        self.inherited.clear();
        self.is_subscribed = false;
        Written::SessionLost
    }

    /// The message that the handler is to take next.
    pub(super) fn next(&mut self) -> Option<MessageId> {
        if self.handling.is_none() {
            self.handling = self.disk.synced().unsettled.front().copied();
            return self.handling;
        }
        None
    }

    /// Decisions that became durable.
    pub(super) fn decided(&mut self) -> Vec<(MessageId, Outcome)> {
        std::mem::take(&mut self.disk.synced_mut().decided)
    }

    /// Everything is handled and on disk.
    pub(super) fn is_settled(&self) -> bool {
        self.disk.synced().unsettled.is_empty() && self.disk.is_idle()
    }
}

impl Written {
    /// The packet id that may be acknowledged now.
    pub(super) fn acknowledges(&self) -> Option<u16> {
        match self {
            Self::Accepted(arrival) => arrival.packet_id,
            _ => None,
        }
    }
}
