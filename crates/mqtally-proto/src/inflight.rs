//! Packet ids and the QoS 1 and 2 handshakes, for either role.
//!
//! - [`Outbound`]: messages that this end has sent and the other has not finished: allocation of packet ids, PUBACK,
//!   PUBREC, PUBCOMP, and what has to be sent again on a new connection, in order.
//! - [`Inbound`]: the packet ids of QoS 2 messages that this end has received and that were not yet released.
//!
//! Both outlive a connection; the owner decides where they are stored. What happens for each packet takes constant time,
//! except that an allocation may have to step over ids that are still in use.

use crate::packet::Qos;
use rustc_hash::{FxHashMap, FxHashSet};

/// How far an outbound message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// PUBLISH was sent; PUBACK (QoS 1) or PUBREC (QoS 2) is awaited.
    Published,
    /// PUBREC came and PUBREL was sent; PUBCOMP is awaited. PUBLISH is never sent again `[MQTT-4.3.3-6]`.
    Released,
}

/// What a successful PUBREC meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pubrec {
    /// The message moved on to [`Stage::Released`]; PUBREL has to follow.
    Released,
    /// It was released before; PUBREL has to be repeated.
    Repeated,
    /// No QoS 2 message has this packet id.
    Unknown,
}

/// Outbound QoS 1 and 2 messages of a session, in the order in which they were first sent.
///
/// ```
/// use mqtally_proto::inflight::{Outbound, Pubrec};
/// use mqtally_proto::packet::Qos;
/// let mut outbound = Outbound::default();
/// let one = outbound.push(Qos::AtLeastOnce, "one").unwrap();
/// let two = outbound.push(Qos::ExactlyOnce, "two").unwrap();
/// assert_eq!(outbound.pubrec(two), Pubrec::Released);
/// outbound.resume(); // a new connection: PUBREL for two, PUBLISH for one
/// assert_eq!(outbound.released().collect::<Vec<_>>(), [two]);
/// assert_eq!(outbound.next_unsent(), Some((one, &"one")));
/// assert_eq!(outbound.next_unsent(), None);
/// ```
#[derive(Debug)]
pub struct Outbound<T> {
    /// By packet id; `before` and `after` thread the entries into a list in the order of sending.
    entries: FxHashMap<u16, Entry<T>>,
    /// Packet ids of requests (SUBSCRIBE, UNSUBSCRIBE), which come from the same space `[MQTT-2.2.1-3]`.
    reserved: FxHashSet<u16>,
    first: u16,
    last: u16,
    next_id: u16,
    /// The first entry that may still have to be sent on this connection; [`NONE`] when all were.
    unsent_from: u16,
    unsent: usize,
}

#[derive(Debug)]
struct Entry<T> {
    item: T,
    qos: Qos,
    stage: Stage,
    /// Whether this connection has carried its PUBLISH or PUBREL.
    sent: bool,
    before: u16,
    after: u16,
}

/// No entry: 0 is not a packet id `[MQTT-2.2.1-3]`.
const NONE: u16 = 0;

impl<T> Default for Outbound<T> {
    fn default() -> Self {
        Self {
            entries: FxHashMap::default(),
            reserved: FxHashSet::default(),
            first: NONE,
            last: NONE,
            next_id: 1,
            unsent_from: NONE,
            unsent: 0,
        }
    }
}

impl<T> Outbound<T> {
    /// Takes in a message that is sent now and gives it a packet id that is not in use; `None` when all are.
    ///
    /// Everything that [`Self::resume`] left to send goes first.
    pub fn push(&mut self, qos: Qos, item: T) -> Option<u16> {
        debug_assert!(self.unsent == 0, "messages of an earlier connection go before new ones");
        let id = self.unused_id()?;
        self.append(
            id,
            Entry { item, qos, stage: Stage::Published, sent: true, before: self.last, after: NONE },
        );
        Some(id)
    }

    /// Takes in a message of an earlier life at the end of the order; gives it back when its id is 0 or taken.
    pub fn restore(&mut self, id: u16, qos: Qos, stage: Stage, item: T) -> Result<(), T> {
        if id == NONE || self.entries.contains_key(&id) {
            return Err(item);
        }
        let released = stage == Stage::Released;
        self.append(id, Entry { item, qos, stage, sent: released, before: self.last, after: NONE });
        self.unsent += usize::from(!released);
        self.next_id = following(id);
        Ok(())
    }

    /// A new connection begins, on which nothing has been sent: [`Self::released`] get a PUBREL, the others come out of
    /// [`Self::next_unsent`] `[MQTT-4.4.0-1]`.
    pub fn resume(&mut self) {
        self.unsent = 0;
        for entry in self.entries.values_mut() {
            entry.sent = entry.stage == Stage::Released;
            self.unsent += usize::from(!entry.sent);
        }
        self.unsent_from = self.first;
    }

    /// The next message of an earlier connection whose PUBLISH this connection has not carried; now it has.
    pub fn next_unsent(&mut self) -> Option<(u16, &T)> {
        while self.unsent_from != NONE {
            let id = self.unsent_from;
            let entry = self.entries.get_mut(&id)?;
            self.unsent_from = entry.after;
            if !entry.sent {
                entry.sent = true;
                self.unsent -= 1;
                return self.entries.get(&id).map(|entry| (id, &entry.item));
            }
        }
        None
    }

    /// The packet ids that are released and wait for PUBCOMP, in order.
    pub fn released(&self) -> impl Iterator<Item = u16> {
        self.iter().filter(|(_, stage, _)| *stage == Stage::Released).map(|(id, ..)| id)
    }

    /// PUBACK: the QoS 1 message is finished.
    pub fn puback(&mut self, id: u16) -> Option<T> {
        self.remove_if(id, |entry| entry.qos == Qos::AtLeastOnce)
    }

    /// PUBREC with a reason below 0x80.
    pub fn pubrec(&mut self, id: u16) -> Pubrec {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.qos == Qos::ExactlyOnce) else {
            return Pubrec::Unknown;
        };
        if entry.stage == Stage::Released {
            return Pubrec::Repeated;
        }
        entry.stage = Stage::Released;
        self.unsent -= usize::from(!entry.sent);
        entry.sent = true;
        Pubrec::Released
    }

    /// PUBREC with a reason of 0x80 or more: the QoS 2 message is finished, unless it had been received before.
    pub fn pubrec_error(&mut self, id: u16) -> Option<T> {
        self.remove_if(id, |entry| entry.qos == Qos::ExactlyOnce && entry.stage == Stage::Published)
    }

    /// PUBCOMP: the QoS 2 message is finished.
    pub fn pubcomp(&mut self, id: u16) -> Option<T> {
        self.remove_if(id, |entry| entry.stage == Stage::Released)
    }

    /// Gives a message up, whatever its stage.
    pub fn remove(&mut self, id: u16) -> Option<T> {
        self.remove_if(id, |_| true)
    }

    /// Keeps an unused packet id from messages until [`Self::unreserve`]; `None` when all are in use.
    pub fn reserve(&mut self) -> Option<u16> {
        let id = self.unused_id()?;
        self.reserved.insert(id);
        Some(id)
    }

    /// Frees a packet id that [`Self::reserve`] gave; false when it was not one.
    pub fn unreserve(&mut self, id: u16) -> bool {
        self.reserved.remove(&id)
    }

    /// Frees all of them: a request ends with its connection.
    pub fn unreserve_all(&mut self) {
        self.reserved.clear();
    }

    /// The message with this packet id, to change.
    pub fn item_mut(&mut self, id: u16) -> Option<&mut T> {
        self.entries.get_mut(&id).map(|entry| &mut entry.item)
    }

    /// The message with this packet id.
    pub fn item(&self, id: u16) -> Option<&T> {
        self.entries.get(&id).map(|entry| &entry.item)
    }

    /// All messages in the order in which they were first sent.
    pub fn iter(&self) -> impl Iterator<Item = (u16, Stage, &T)> {
        let mut next = self.first;
        std::iter::from_fn(move || {
            let id = next;
            let entry = self.entries.get(&id)?;
            next = entry.after;
            Some((id, entry.stage, &entry.item))
        })
    }

    /// Messages in all.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Messages of an earlier connection whose PUBLISH is still to be sent on this one.
    pub fn unsent(&self) -> usize {
        self.unsent
    }

    /// Places of the other end's receive maximum that are taken on this connection.
    ///
    /// A PUBREL that was sent again counts: to its receiver the message is as unfinished as before.
    pub fn window_used(&self) -> usize {
        self.entries.len() - self.unsent
    }

    fn unused_id(&mut self) -> Option<u16> {
        if self.entries.len() + self.reserved.len() >= usize::from(u16::MAX) {
            return None;
        }
        while self.entries.contains_key(&self.next_id) || self.reserved.contains(&self.next_id) {
            self.next_id = following(self.next_id);
        }
        let id = self.next_id;
        self.next_id = following(id);
        Some(id)
    }

    fn append(&mut self, id: u16, entry: Entry<T>) {
        match self.entries.get_mut(&self.last) {
            Some(last) => last.after = id,
            None => self.first = id,
        }
        self.last = id;
        self.entries.insert(id, entry);
    }

    fn remove_if(&mut self, id: u16, condition: impl FnOnce(&Entry<T>) -> bool) -> Option<T> {
        self.entries.get(&id).filter(|entry| condition(entry))?;
        let entry = self.entries.remove(&id)?;
        match self.entries.get_mut(&entry.before) {
            Some(before) => before.after = entry.after,
            None => self.first = entry.after,
        }
        match self.entries.get_mut(&entry.after) {
            Some(after) => after.before = entry.before,
            None => self.last = entry.before,
        }
        if self.unsent_from == id {
            self.unsent_from = entry.after;
        }
        self.unsent -= usize::from(!entry.sent);
        Some(entry.item)
    }
}

/// The packet id after `id`; 65,535 is followed by 1.
const fn following(id: u16) -> u16 {
    if id == u16::MAX { 1 } else { id + 1 }
}

/// Packet ids of received QoS 2 messages whose PUBREL has not come.
///
/// The message is taken in when its id is new; until PUBREL the same id is the same message `[MQTT-4.3.3-10]`.
#[derive(Debug, Clone, Default)]
pub struct Inbound {
    ids: FxHashSet<u16>,
}

impl Inbound {
    /// Remembers an id; false when it was known, so that the PUBLISH is a repetition.
    pub fn insert(&mut self, id: u16) -> bool {
        self.ids.insert(id)
    }

    /// PUBREL: forgets an id; false when it was not known.
    pub fn release(&mut self, id: u16) -> bool {
        self.ids.remove(&id)
    }

    /// Whether the id is known.
    pub fn contains(&self, id: u16) -> bool {
        self.ids.contains(&id)
    }

    /// Ids known.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// The ids in ascending order.
    pub fn to_sorted(&self) -> Vec<u16> {
        let mut ids: Vec<u16> = self.ids.iter().copied().collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(outbound: &Outbound<u32>) -> Vec<u16> {
        outbound.iter().map(|(id, ..)| id).collect()
    }

    #[test]
    fn ids_wrap_around_and_step_over_those_in_use() {
        let mut outbound = Outbound::default();
        outbound.restore(1, Qos::AtLeastOnce, Stage::Published, 0).unwrap();
        outbound.restore(u16::MAX - 1, Qos::AtLeastOnce, Stage::Published, 1).unwrap();
        outbound.resume();
        while outbound.next_unsent().is_some() {}
        assert_eq!(outbound.push(Qos::AtLeastOnce, 2), Some(u16::MAX));
        assert_eq!(outbound.push(Qos::AtLeastOnce, 3), Some(2));
        assert_eq!(ids(&outbound), [1, u16::MAX - 1, u16::MAX, 2]);
    }

    #[test]
    fn no_id_is_given_when_all_are_in_use() {
        let mut outbound = Outbound::default();
        for item in 0..u32::from(u16::MAX) {
            assert!(outbound.push(Qos::AtLeastOnce, item).is_some());
        }
        assert_eq!(outbound.push(Qos::AtLeastOnce, 0), None);
        assert_eq!(outbound.puback(77), Some(76));
        assert_eq!(outbound.push(Qos::AtLeastOnce, 0), Some(77));
    }

    #[test]
    fn a_reserved_id_is_given_to_no_message() {
        let mut outbound = Outbound::default();
        assert_eq!(outbound.reserve(), Some(1));
        for item in 1..u32::from(u16::MAX) {
            assert_ne!(outbound.push(Qos::AtLeastOnce, item), Some(1));
        }
        assert_eq!((outbound.push(Qos::AtLeastOnce, 0), outbound.reserve()), (None, None));
        assert!(outbound.unreserve(1) && !outbound.unreserve(1));
        assert_eq!(outbound.push(Qos::AtLeastOnce, 0), Some(1));
    }

    #[test]
    fn order_survives_removals_at_either_end_and_in_the_middle() {
        let mut outbound = Outbound::default();
        for item in 0..5 {
            outbound.push(Qos::AtLeastOnce, item);
        }
        for (removed, left) in
            [(3, vec![1, 2, 4, 5]), (1, vec![2, 4, 5]), (5, vec![2, 4]), (2, vec![4]), (4, vec![])]
        {
            assert!(outbound.puback(removed).is_some());
            assert_eq!(ids(&outbound), left);
        }
        assert!(outbound.is_empty());
    }

    #[test]
    fn a_handshake_takes_only_its_own_acknowledgements() {
        let mut outbound = Outbound::default();
        let one = outbound.push(Qos::AtLeastOnce, 1).unwrap();
        let two = outbound.push(Qos::ExactlyOnce, 2).unwrap();
        assert_eq!((outbound.pubrec(one), outbound.pubcomp(one)), (Pubrec::Unknown, None));
        assert_eq!((outbound.puback(two), outbound.pubcomp(two)), (None, None));
        assert_eq!(outbound.pubrec(two), Pubrec::Released);
        assert_eq!(outbound.pubrec(two), Pubrec::Repeated);
        assert_eq!(outbound.pubrec_error(two), None);
        assert_eq!(outbound.pubcomp(two), Some(2));
        assert_eq!(outbound.puback(one), Some(1));
    }

    #[test]
    fn an_acknowledgement_before_the_second_sending_counts_once() {
        let mut outbound = Outbound::default();
        for item in 0..3 {
            outbound.push(Qos::ExactlyOnce, item);
        }
        outbound.resume();
        assert_eq!((outbound.unsent(), outbound.window_used()), (3, 0));
        assert_eq!(outbound.remove(1), Some(0));
        assert_eq!(outbound.pubrec(2), Pubrec::Released);
        assert_eq!((outbound.unsent(), outbound.window_used()), (1, 1));
        assert_eq!(outbound.next_unsent(), Some((3, &2)));
        assert_eq!(outbound.next_unsent(), None);
        assert_eq!((outbound.unsent(), outbound.window_used()), (0, 2));
    }

    #[test]
    fn an_inbound_id_is_new_once_until_it_is_released() {
        let mut inbound = Inbound::default();
        assert!(inbound.insert(7) && !inbound.insert(7));
        assert!(inbound.release(7) && !inbound.release(7));
        assert!(inbound.insert(7));
    }
}
