//! What the server sent: remembered QoS 2 packet ids, answers owed, topic aliases.

use bytestring::ByteString;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// How far an inbound QoS 2 handshake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Handed over; the application has not acknowledged it.
    Delivered,
    /// The application has acknowledged it: PUBREC may be sent, as often as the PUBLISH is repeated.
    Acknowledged,
    /// PUBREL came; PUBCOMP waits for the application.
    Released,
}

#[derive(Debug, Default)]
pub(super) struct Inbound {
    /// QoS 2 packet ids between PUBLISH and PUBCOMP. They belong to the session: at most 65,535.
    remembered: FxHashMap<u16, Phase>,
    pubacks: OwedQueue,
    pubrecs: OwedQueue,
    aliases: FxHashMap<u16, ByteString>,
}

impl Inbound {
    /// Answers and aliases belong to a connection; the server repeats what it has no answer to.
    pub(super) fn start_connection(&mut self) {
        self.pubacks = OwedQueue::default();
        self.pubrecs = OwedQueue::default();
        self.aliases.clear();
    }

    pub(super) fn forget_session(&mut self) {
        self.remembered.clear();
    }

    /// The topic that `alias` stands for; a topic that comes with it (re)defines it. `None` for an unknown alias.
    pub(super) fn resolve(&mut self, alias: u16, topic: ByteString) -> Option<ByteString> {
        if topic.is_empty() {
            return self.aliases.get(&alias).cloned();
        }
        self.aliases.insert(alias, topic.clone());
        Some(topic)
    }

    /// A QoS 1 PUBLISH came.
    pub(super) fn owe_puback(&mut self, packet_id: u16) {
        self.pubacks.owe(packet_id, false);
    }

    /// A QoS 2 PUBLISH came. True at its first time.
    pub(super) fn owe_pubrec(&mut self, packet_id: u16) -> bool {
        let known = self.remembered.get(&packet_id).copied();
        self.remembered.entry(packet_id).or_insert(Phase::Delivered);
        self.pubrecs.owe(packet_id, known.is_some_and(|phase| phase != Phase::Delivered));
        known.is_none()
    }

    pub(super) fn acknowledge(&mut self, packet_id: u16) {
        if let Some(phase @ Phase::Delivered) = self.remembered.get_mut(&packet_id) {
            *phase = Phase::Acknowledged;
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

    /// PUBREL came. Whether its packet id is remembered.
    pub(super) fn release(&mut self, packet_id: u16) -> bool {
        match self.remembered.get_mut(&packet_id) {
            Some(phase) => {
                *phase = Phase::Released;
                true
            }
            None => false,
        }
    }

    /// Forgets a released packet id. Whether it was one.
    pub(super) fn complete(&mut self, packet_id: u16) -> bool {
        let released = self.remembered.get(&packet_id) == Some(&Phase::Released);
        if released {
            self.remembered.remove(&packet_id);
        }
        released
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
