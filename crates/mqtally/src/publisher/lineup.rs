//! Which message goes next, and what an answer means. Pure.
//!
//! Messages go in the order of `publish`. One that would overtake another of its topic waits: within one QoS the
//! session keeps the order, across two it cannot, so a topic has messages of one QoS in flight at a time.
//!
//! Only so many messages wait in memory; those behind them stay in the outbox and are read when it is their turn.

use super::receipt::Ticket;
use crate::outbox::{Failure, Message, Stored, Uuid};
use bytestring::ByteString;
use mqtally_proto::packet::{Qos, ReasonCode};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// What waits in memory where the rest can be read from an outbox.
const WAITING_MAX: usize = 4_096;
const WAITING_BYTES_MAX: u64 = 8 << 20;
/// Messages read at once, and how few wait when more are read.
pub(crate) const LOAD_MAX: usize = 512;

/// All messages that were accepted and are not settled, as far as they are known.
#[derive(Debug)]
pub(crate) struct Lineup {
    /// Whether there is an outbox.
    stored: bool,
    waiting: VecDeque<Waiting>,
    waiting_bytes: u64,
    /// The last message that was put in line.
    tail: u64,
    /// Whether there may be messages in the outbox behind `tail`.
    behind: bool,
    loading: bool,
    /// Who waits for an answer to messages that are only in the outbox, in their order.
    tickets: VecDeque<(u64, Ticket)>,
    flights: FxHashMap<u64, Flight>,
    /// What is in flight, by topic.
    lanes: FxHashMap<ByteString, Lane>,
}

/// Messages of one topic in flight.
#[derive(Debug)]
struct Lane {
    qos: Qos,
    in_flight: u32,
    /// The name that they share, so that it is not allocated for each.
    topic: ByteString,
}

/// A message in line, and who waits for an answer.
#[derive(Debug)]
struct Waiting {
    stored: Stored,
    ticket: Option<Ticket>,
}

/// A message that was given to the session; then one that has left the line for good.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) id: Uuid,
    pub(crate) topic: ByteString,
    pub(crate) qos: Qos,
    pub(crate) bytes: u64,
    pub(crate) ticket: Option<Ticket>,
}

impl Lineup {
    /// `stored`: whether there is an outbox, from which earlier messages are to be read first.
    pub(crate) fn new(stored: bool) -> Self {
        Self {
            stored,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            tail: 0,
            behind: stored,
            loading: false,
            tickets: VecDeque::new(),
            flights: FxHashMap::default(),
            lanes: FxHashMap::default(),
        }
    }

    /// A message became durable, in order.
    pub(crate) fn accept(&mut self, stored: Stored, ticket: Ticket) {
        self.behind |= self.stored && self.is_heavy();
        if self.behind {
            self.tickets.push_back((stored.seq, ticket));
        } else {
            self.line_up(stored, Some(ticket));
        }
    }

    /// Messages were read from the outbox; `end` when there were no more.
    pub(crate) fn loaded(&mut self, rows: impl IntoIterator<Item = Stored>, end: bool) {
        self.loading = false;
        self.behind = !end;
        for stored in rows {
            // What an earlier process had in flight may have been read before its session was known to be lost.
            if !self.flights.contains_key(&stored.seq) {
                let ticket = self.take_ticket(stored.seq);
                self.line_up(stored, ticket);
            }
        }
    }

    /// A message that cannot be read has no place in line, and keeps nobody behind it.
    pub(crate) fn skip(&mut self, seq: u64) -> Option<Ticket> {
        self.tail = self.tail.max(seq);
        self.take_ticket(seq)
    }

    /// Messages that are not settled, as far as they are in memory or somebody waits for them.
    pub(crate) fn len(&self) -> u64 {
        (self.waiting.len() + self.flights.len() + self.tickets.len()) as u64
    }

    /// Behind which message to read on in the outbox, if it is time to.
    pub(crate) fn wants(&mut self) -> Option<u64> {
        let wants = self.behind && !self.loading && self.waiting.len() < LOAD_MAX && !self.is_heavy();
        self.loading |= wants;
        wants.then_some(self.tail)
    }

    /// The next message, if the session has room for its QoS and nothing of its topic would be overtaken.
    pub(crate) fn next(&mut self, has_room: impl FnOnce(Qos) -> bool) -> Option<Stored> {
        let Message { topic, qos, .. } = &self.waiting.front()?.stored.message;
        if !has_room(*qos) || self.lanes.get(topic).is_some_and(|lane| lane.qos != *qos) {
            return None;
        }
        let Waiting { mut stored, ticket } = self.waiting.pop_front()?;
        self.waiting_bytes -= stored.message.size();
        self.depart(&mut stored, ticket);
        Some(stored)
    }

    /// The session has this message.
    pub(crate) fn depart(&mut self, stored: &mut Stored, ticket: Option<Ticket>) {
        let Stored { seq, id, message, .. } = stored;
        match self.lanes.get_mut(&message.topic) {
            Some(lane) => {
                lane.in_flight += 1;
                message.topic = lane.topic.clone();
            }
            None => {
                let (topic, qos) = (message.topic.clone(), message.qos);
                self.lanes.insert(topic.clone(), Lane { qos, in_flight: 1, topic });
            }
        }
        let (topic, bytes) = (message.topic.clone(), message.size());
        self.flights.insert(*seq, Flight { id: *id, topic, qos: message.qos, bytes, ticket });
    }

    /// The first of the messages that the session has.
    pub(crate) fn first_in_flight(&self) -> Option<u64> {
        self.flights.keys().min().copied()
    }

    /// The session is done with this message.
    pub(crate) fn land(&mut self, seq: u64) -> Option<Flight> {
        let flight = self.flights.remove(&seq)?;
        if let Some(lane) = self.lanes.get_mut(&flight.topic) {
            lane.in_flight -= 1;
            if lane.in_flight == 0 {
                self.lanes.remove(&flight.topic);
            }
        }
        Some(flight)
    }

    /// Whether everything that was accepted is settled.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flights.is_empty() && !self.behind
    }

    /// They are asked for about in their order, so that it is one of the first.
    fn take_ticket(&mut self, seq: u64) -> Option<Ticket> {
        let at = self.tickets.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        self.tickets.remove(at).map(|(_, ticket)| ticket)
    }

    fn line_up(&mut self, stored: Stored, ticket: Option<Ticket>) {
        self.tail = stored.seq;
        self.waiting_bytes += stored.message.size();
        self.waiting.push_back(Waiting { stored, ticket });
    }

    fn is_heavy(&self) -> bool {
        self.waiting.len() >= WAITING_MAX || self.waiting_bytes >= WAITING_BYTES_MAX
    }
}

/// What the broker's final answer means for the message.
pub(crate) fn failure_of(reason: ReasonCode, subscribers_required: bool) -> Option<Failure> {
    let refused = reason.is_error() && reason != ReasonCode::PACKET_IDENTIFIER_NOT_FOUND;
    let unwanted = subscribers_required && reason == ReasonCode::NO_MATCHING_SUBSCRIBERS;
    (refused || unwanted).then(|| Failure { reason: Some(reason), detail: format!("refused: {reason}") })
}

#[cfg(test)]
mod tests {
    use super::super::receipt;
    use super::*;
    use mqtally_proto::Time;
    use std::time::Instant;

    fn stored(seq: u64, topic: &'static str, qos: Qos) -> Stored {
        let message = Message::new(topic, "x", qos);
        Stored { seq, id: Uuid([seq as u8; 16]), created: Time::from_ms(0), message }
    }

    fn ticket() -> Ticket {
        receipt::issue([Uuid([0; 16])].into_iter(), Instant::now()).1.next().unwrap()
    }

    fn lineup(messages: &[(&'static str, Qos)]) -> Lineup {
        let mut lineup = Lineup::new(false);
        for (seq, (topic, qos)) in (1..).zip(messages) {
            lineup.accept(stored(seq, topic, *qos), ticket());
        }
        lineup
    }

    fn next(lineup: &mut Lineup) -> Option<u64> {
        lineup.next(|_| true).map(|stored| stored.seq)
    }

    #[test]
    fn messages_go_in_order_while_there_is_room() {
        let mut lineup = lineup(&[("a", Qos::AtLeastOnce), ("b", Qos::ExactlyOnce), ("a", Qos::AtLeastOnce)]);
        assert_eq!(lineup.next(|_| false), None);
        assert_eq!([next(&mut lineup), next(&mut lineup), next(&mut lineup)], [Some(1), Some(2), Some(3)]);
        assert!(!lineup.is_empty(), "they are in flight");
        assert!((1..=3).all(|seq| lineup.land(seq).is_some()) && lineup.is_empty());
        assert!(lineup.land(1).is_none(), "once");
    }

    #[test]
    fn a_topic_has_one_qos_in_flight_at_a_time() {
        let mut lineup = lineup(&[("a", Qos::AtLeastOnce), ("a", Qos::AtLeastOnce), ("a", Qos::ExactlyOnce)]);
        assert_eq!([next(&mut lineup), next(&mut lineup), next(&mut lineup)], [Some(1), Some(2), None]);
        lineup.land(2);
        assert_eq!(next(&mut lineup), None);
        lineup.land(1);
        assert_eq!(next(&mut lineup), Some(3));
    }

    #[test]
    fn what_memory_has_no_place_for_is_read_from_the_outbox_in_order() {
        let mut lineup = Lineup::new(true);
        let topic = "a";
        lineup.accept(stored(3, topic, Qos::AtLeastOnce), ticket());
        assert_eq!((lineup.wants(), lineup.wants()), (Some(0), None), "asked for once");
        assert_eq!(next(&mut lineup), None, "earlier messages come first");
        lineup.loaded((1..=3).map(|seq| stored(seq, topic, Qos::AtLeastOnce)), true);
        lineup.accept(stored(4, topic, Qos::AtLeastOnce), ticket());
        assert_eq!((1..=4).map(|_| next(&mut lineup)).collect::<Vec<_>>(), [1, 2, 3, 4].map(Some));
        for seq in 5..WAITING_MAX as u64 + 10 {
            lineup.accept(stored(seq, topic, Qos::AtLeastOnce), ticket());
        }
        assert_eq!((lineup.waiting.len(), lineup.wants()), (WAITING_MAX, None), "there is enough to do");
        while next(&mut lineup).is_some() {}
        assert_eq!(lineup.wants(), Some(WAITING_MAX as u64 + 4));
    }

    #[test]
    fn who_waits_for_a_message_that_is_only_in_the_outbox_is_known_when_it_is_read() {
        let mut lineup = Lineup::new(true);
        lineup.wants();
        for seq in 1..=4 {
            lineup.accept(stored(seq, "a", Qos::AtLeastOnce), ticket());
        }
        lineup.loaded([1, 3].map(|seq| stored(seq, "a", Qos::AtLeastOnce)), false);
        assert!(lineup.skip(2).is_some() && lineup.skip(2).is_none(), "once");
        lineup.loaded([stored(4, "a", Qos::AtLeastOnce)], true);
        while next(&mut lineup).is_some() {}
        for seq in [1, 3, 4] {
            assert!(lineup.land(seq).unwrap().ticket.is_some(), "{seq}");
        }
        assert_eq!(lineup.len(), 0);
    }

    #[test]
    fn a_damaged_message_is_passed_over() {
        let mut lineup = Lineup::new(true);
        lineup.wants();
        lineup.loaded([stored(1, "a", Qos::AtLeastOnce)], false);
        assert!(lineup.skip(2).is_none());
        assert_eq!(lineup.wants(), Some(2));
    }

    #[test]
    fn only_what_the_broker_took_is_success() {
        let check = |reason, required, expect: bool| {
            assert_eq!(failure_of(reason, required).is_none(), expect, "{reason} {required}");
        };
        check(ReasonCode::SUCCESS, true, true);
        check(ReasonCode::NO_MATCHING_SUBSCRIBERS, false, true);
        check(ReasonCode::NO_MATCHING_SUBSCRIBERS, true, false);
        check(ReasonCode::QUOTA_EXCEEDED, false, false);
        check(ReasonCode::UNSPECIFIED_ERROR, false, false);
        // PUBREL was answered: the broker has released it before.
        check(ReasonCode::PACKET_IDENTIFIER_NOT_FOUND, false, true);
    }
}
