//! What the server sent: remembered QoS 2 packet ids, answers owed, topic aliases.

use crate::inflight;
use bytestring::ByteString;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// QoS 2 packet ids between PUBLISH and PUBCOMP. They belong to the session.
    remembered: inflight::Inbound,
    /// Those of them that an earlier life of the process left, and that nothing came for yet.
    inherited: FxHashSet<u16>,
    /// Those of them that the application has not acknowledged: PUBREC must wait, also where PUBLISH is repeated.
    undecided: FxHashSet<u16>,
    /// Those of them whose PUBREL came and whose PUBCOMP waits for the application.
    released: FxHashSet<u16>,
    pubacks: OwedQueue,
    pubrecs: OwedQueue,
    aliases: FxHashMap<u16, ByteString>,
}

impl Inbound {
    /// With the QoS 2 packet ids of an earlier life, all of them answered.
    pub(super) fn remembering(packet_ids: &[u16]) -> Self {
        let mut inbound = Self::default();
        for packet_id in packet_ids {
            inbound.remembered.insert(*packet_id);
        }
        inbound.inherited.extend(packet_ids);
        inbound
    }

    /// Answers and aliases belong to a connection; the server repeats what it has no answer to.
    pub(super) fn start_connection(&mut self) {
        self.pubacks = OwedQueue::default();
        self.pubrecs = OwedQueue::default();
        self.aliases.clear();
    }

    pub(super) fn forget_session(&mut self) {
        self.remembered = inflight::Inbound::default();
        self.inherited.clear();
        self.undecided.clear();
        self.released.clear();
    }

    /// The topic that `alias` stands for; a topic that comes with it (re)defines it. `None` for an unknown alias.
    pub(super) fn resolve(&mut self, alias: u16, topic: ByteString) -> Option<ByteString> {
        if topic.is_empty() {
            return self.aliases.get(&alias).cloned();
        }
        self.aliases.insert(alias, topic.clone());
        Some(topic)
    }

    /// A QoS 1 PUBLISH came that the application is to acknowledge.
    pub(super) fn owe_puback(&mut self, packet_id: u16) {
        self.pubacks.owe(packet_id, false);
    }

    /// Remembers a QoS 2 packet id; false when it was remembered already.
    ///
    /// What is sent again has DUP [MQTT-3.3.1-1]. An inherited id without it means another message: the server had lost the
    /// session, and the earlier life died before it had noted that.
    pub(super) fn remember(&mut self, packet_id: u16, dup: bool) -> bool {
        let anew = self.inherited.remove(&packet_id) && !dup;
        self.remembered.insert(packet_id) || anew
    }

    /// A QoS 2 PUBLISH came, for the `first` time or not, that the application is to acknowledge once.
    pub(super) fn owe_pubrec(&mut self, packet_id: u16, first: bool) {
        if first {
            self.undecided.insert(packet_id);
        }
        self.pubrecs.owe(packet_id, !self.undecided.contains(&packet_id));
    }

    pub(super) fn acknowledge(&mut self, packet_id: u16) {
        if self.undecided.remove(&packet_id) {
            self.pubrecs.settle(packet_id);
        } else {
            self.pubacks.settle(packet_id);
        }
    }

    pub(super) fn next_puback(&mut self) -> Option<u16> {
        self.pubacks.next_settled()
    }

    pub(super) fn next_pubrec(&mut self) -> Option<u16> {
        self.pubrecs.next_settled()
    }

    /// PUBREL came, and PUBCOMP follows at once: forgets the packet id. False when it was not remembered.
    pub(super) fn release(&mut self, packet_id: u16) -> bool {
        self.inherited.remove(&packet_id);
        self.undecided.remove(&packet_id);
        self.remembered.release(packet_id)
    }

    /// PUBREL came, and PUBCOMP waits. False when the packet id is not remembered.
    pub(super) fn hold_release(&mut self, packet_id: u16) -> bool {
        let known = self.remembered.contains(packet_id);
        if known {
            self.released.insert(packet_id);
        }
        known
    }

    /// Forgets a packet id whose PUBCOMP waited. False when it did not.
    pub(super) fn complete(&mut self, packet_id: u16) -> bool {
        self.released.remove(&packet_id) && self.release(packet_id)
    }
}

/// Answers owed in the order of arrival; one goes out when it and all before it are settled.
#[derive(Debug, Default)]
struct OwedQueue {
    slots: VecDeque<Owed>,
    /// Packet id to place, counted from the queue's first ever slot.
    places: FxHashMap<u16, u64>,
    removed: u64,
}

#[derive(Debug)]
struct Owed {
    packet_id: u16,
    settled: bool,
}

impl OwedQueue {
    /// A packet id that is owed already is owed once: the server awaits one answer.
    fn owe(&mut self, packet_id: u16, settled: bool) {
        let place = self.removed + self.slots.len() as u64;
        if *self.places.entry(packet_id).or_insert(place) == place {
            self.slots.push_back(Owed { packet_id, settled });
        }
    }

    fn settle(&mut self, packet_id: u16) {
        if let Some(place) = self.places.get(&packet_id) {
            self.slots[(place - self.removed) as usize].settled = true;
        }
    }

    fn next_settled(&mut self) -> Option<u16> {
        let owed = self.slots.pop_front_if(|owed| owed.settled)?;
        self.removed += 1;
        self.places.remove(&owed.packet_id);
        Some(owed.packet_id)
    }
}
