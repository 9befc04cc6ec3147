//! What we sent and the server has not finished: packet ids and the sender's half of the QoS 1 and 2 handshakes.
//!
//! Every operation of the running state is O(1); only resuming after a reconnect looks at all entries.

use crate::packet::{Publish, Qos};
use rustc_hash::{FxHashMap, FxHashSet};

#[derive(Debug)]
struct Entry {
    token: u64,
    /// Kept after PUBREC too: a server that loses the session may not have passed the message on yet.
    publish: Publish,
    /// Place in the order of publishing.
    sequence: u64,
    phase: Phase,
    /// Given out for writing on some connection.
    sent: bool,
    /// Given out for writing on this connection.
    on_wire: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Published,
    /// PUBREC came; its place in the order of PUBRECs.
    Released(u64),
}

/// What an acknowledgement meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The handshake's next step, for the first time.
    Accepted,
    /// That step was taken already.
    Repeated,
    /// Nothing on this connection has this packet id.
    Unknown,
    /// There is a handshake under this packet id, and the answer does not belong to it.
    Unfit,
}

/// What a resumed session sends again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resend {
    Pubrel(u16),
    Publish(u16),
}

#[derive(Debug, Default)]
pub(super) struct Outbound {
    entries: FxHashMap<u16, Entry>,
    /// SUBSCRIBE and UNSUBSCRIBE take their packet ids from the same space.
    requests: FxHashSet<u16>,
    last_id: u16,
    sequence: u64,
    on_wire: usize,
}

impl Outbound {
    /// Publishes that have not completed.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Publishes that take a place in the server's receive maximum. A resumed PUBREL takes one too, which the
    /// specification would spare it: so no way of counting finds us above the limit.
    pub(super) fn on_wire(&self) -> usize {
        self.on_wire
    }

    pub(super) fn insert(&mut self, token: u64, mut publish: Publish) -> Option<u16> {
        let packet_id = self.unused_id()?;
        publish.packet_id = Some(packet_id);
        let sequence = self.next_sequence();
        let entry = Entry { token, publish, sequence, phase: Phase::Published, sent: false, on_wire: false };
        self.entries.insert(packet_id, entry);
        Some(packet_id)
    }

    pub(super) fn publish(&self, packet_id: u16) -> Option<&Publish> {
        self.entries.get(&packet_id).map(|entry| &entry.publish)
    }

    /// The PUBLISH to write: with DUP where an earlier connection may have carried it [MQTT-3.3.1-1].
    pub(super) fn send(&mut self, packet_id: u16) -> Option<Publish> {
        let entry = self.entries.get_mut(&packet_id)?;
        entry.publish.dup = std::mem::replace(&mut entry.sent, true);
        self.on_wire += usize::from(!std::mem::replace(&mut entry.on_wire, true));
        Some(entry.publish.clone())
    }

    pub(super) fn puback(&self, packet_id: u16) -> Answer {
        match self.on_connection(packet_id) {
            None => Answer::Unknown,
            Some(entry) if entry.publish.qos == Qos::AtLeastOnce => Answer::Accepted,
            Some(_) => Answer::Unfit,
        }
    }

    /// PUBREC: with `success` the server owns the message from here on.
    pub(super) fn pubrec(&mut self, packet_id: u16, success: bool) -> Answer {
        let sequence = self.next_sequence();
        match self.entries.get_mut(&packet_id).filter(|entry| entry.on_wire) {
            None => Answer::Unknown,
            Some(entry) if entry.publish.qos != Qos::ExactlyOnce => Answer::Unfit,
            Some(entry) if entry.phase != Phase::Published => Answer::Repeated,
            Some(entry) => {
                entry.phase = if success { Phase::Released(sequence) } else { entry.phase };
                Answer::Accepted
            }
        }
    }

    pub(super) fn pubcomp(&self, packet_id: u16) -> Answer {
        match self.on_connection(packet_id) {
            None => Answer::Unknown,
            Some(entry) if matches!(entry.phase, Phase::Released(_)) => Answer::Accepted,
            Some(_) => Answer::Unfit,
        }
    }

    pub(super) fn token(&self, packet_id: u16) -> Option<u64> {
        self.entries.get(&packet_id).map(|entry| entry.token)
    }

    pub(super) fn remove(&mut self, packet_id: u16) -> Option<u64> {
        let entry = self.entries.remove(&packet_id)?;
        self.on_wire -= usize::from(entry.on_wire);
        Some(entry.token)
    }

    pub(super) fn insert_request(&mut self) -> Option<u16> {
        let packet_id = self.unused_id()?;
        self.requests.insert(packet_id);
        Some(packet_id)
    }

    pub(super) fn remove_request(&mut self, packet_id: u16) {
        self.requests.remove(&packet_id);
    }

    pub(super) fn end_connection(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.on_wire = false);
        self.on_wire = 0;
        self.requests.clear();
    }

    /// What to send on a connection that resumes the session, in order. PUBRELs count as sent from here on.
    pub(super) fn resume(&mut self) -> Vec<Resend> {
        let mut order: Vec<_> = self.entries.iter_mut().map(|(id, entry)| resumption(*id, entry)).collect();
        self.on_wire = self.entries.values().filter(|entry| entry.on_wire).count();
        order.sort_unstable_by_key(|(place, _)| *place);
        order.into_iter().map(|(_, resend)| resend).collect()
    }

    /// Gives everything a new packet id, as if it had never been sent. Returns the ids in the order of publishing,
    /// and how many of them had been sent.
    pub(super) fn renew(&mut self) -> (Vec<u16>, usize) {
        let mut entries: Vec<Entry> = std::mem::take(&mut self.entries).into_values().collect();
        entries.sort_unstable_by_key(|entry| entry.sequence);
        let resent = entries.iter().filter(|entry| entry.sent).count();
        let packet_ids = entries.into_iter().filter_map(|entry| self.renew_entry(entry)).collect();
        (packet_ids, resent)
    }

    fn renew_entry(&mut self, mut entry: Entry) -> Option<u16> {
        let packet_id = self.unused_id()?;
        entry.publish.packet_id = Some(packet_id);
        entry.phase = Phase::Published;
        entry.sent = false;
        self.entries.insert(packet_id, entry);
        Some(packet_id)
    }

    fn on_connection(&self, packet_id: u16) -> Option<&Entry> {
        self.entries.get(&packet_id).filter(|entry| entry.on_wire)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn unused_id(&mut self) -> Option<u16> {
        for _ in 0..u16::MAX {
            self.last_id = self.last_id % u16::MAX + 1;
            if !self.entries.contains_key(&self.last_id) && !self.requests.contains(&self.last_id) {
                return Some(self.last_id);
            }
        }
        None
    }
}

/// PUBRELs come first, which changes no order within QoS 2: the server has sent PUBRECs in the order of PUBLISHes.
fn resumption(packet_id: u16, entry: &mut Entry) -> ((bool, u64), Resend) {
    match entry.phase {
        Phase::Released(place) => {
            entry.on_wire = true;
            ((false, place), Resend::Pubrel(packet_id))
        }
        Phase::Published => ((true, entry.sequence), Resend::Publish(packet_id)),
    }
}
