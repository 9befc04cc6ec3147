//! What goes out, in which order, and how much of it at once.

use super::{Event, Link, PublishError, Session};
use crate::inflight::Stage;
use crate::packet::{Ack, Packet, Publish, Qos, ReasonCode};

/// A QoS 1 or 2 message that was sent and has not completed.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) token: u64,
    /// Kept after PUBREC too: a server that loses the session may not have passed the message on.
    publish: Publish,
    /// Place among the PUBRECs that came, once this one's has.
    pub(super) pubrec: u64,
}

/// A message that was accepted and never sent.
#[derive(Debug)]
pub(super) struct Waiting {
    token: u64,
    publish: Publish,
}

#[derive(Debug)]
pub(super) enum Outgoing {
    Packet(Packet),
    /// At QoS 0 being taken for writing is the completion.
    AtMostOnce(Waiting),
}

impl Session {
    /// Accepts a message for sending, now or when there is a connection; `token` comes back in [`Event::Completed`].
    ///
    /// `dup` and `packet_id` of `publish` are ignored.
    pub fn publish(&mut self, token: u64, mut publish: Publish) -> Result<(), PublishError> {
        self.server.check(&publish, self.options.version)?;
        if !self.has_room(publish.qos) {
            return Err(PublishError::WindowFull);
        }
        publish.dup = false;
        publish.packet_id = None;
        *self.accepted(publish.qos) += 1;
        self.waiting.push_back(Waiting { token, publish });
        self.pump();
        Ok(())
    }

    /// Takes in a QoS 2 message that was in flight when an earlier life of the process ended; in their order, before
    /// the first connection. [`Options::resume`](super::Options::resume) belongs to it. Gives the message back where
    /// its packet id is 0 or taken.
    pub fn restore(
        &mut self,
        token: u64,
        packet_id: u16,
        stage: Stage,
        publish: Publish,
    ) -> Result<(), Publish> {
        let released = stage == Stage::Released;
        let message = InFlight { token, publish, pubrec: if released { self.pubrecs + 1 } else { 0 } };
        self.outbound
            .restore(packet_id, Qos::ExactlyOnce, stage, message)
            .map_err(|message| message.publish)?;
        self.pubrecs += u64::from(released);
        self.in_flight += 1;
        Ok(())
    }

    /// The token of the message that is in flight under this packet id.
    pub fn token(&self, packet_id: u16) -> Option<u64> {
        self.outbound.item(packet_id).map(|message| message.token)
    }

    /// The next packet to write.
    pub fn poll_transmit(&mut self) -> Option<Packet> {
        match self.transmit.pop_front()? {
            Outgoing::Packet(packet) => Some(packet),
            Outgoing::AtMostOnce(Waiting { token, publish }) => {
                self.complete_publish(Qos::AtMostOnce, token, ReasonCode::SUCCESS);
                Some(Packet::Publish(publish))
            }
        }
    }

    /// Whether a publish at `qos` is accepted now, as far as room goes.
    pub fn has_room(&self, qos: Qos) -> bool {
        match qos {
            Qos::AtMostOnce => self.at_most_once < usize::from(self.options.in_flight_max),
            Qos::AtLeastOnce | Qos::ExactlyOnce => self.window() > 0,
        }
    }

    /// How many QoS 1 and 2 publishes are accepted now.
    pub fn window(&self) -> usize {
        let limit = self.server.receive_maximum.min(self.options.in_flight_max);
        usize::from(limit).saturating_sub(self.in_flight)
    }

    /// QoS 1 and 2 publishes that were accepted and have not completed.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// PUBRELs in the order of their PUBRECs, then (in [`Self::pump`]) PUBLISHes in their order, then what was never
    /// sent [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-4.6.0-4].
    ///
    /// That PUBRELs come first changes no order within QoS 2, where PUBRECs follow the order of the PUBLISHes.
    pub(super) fn resume(&mut self) {
        self.outbound.resume();
        let place = |packet_id: &u16| self.outbound.item(*packet_id).map(|message| message.pubrec);
        let mut released: Vec<u16> = self.outbound.released().collect();
        released.sort_by_cached_key(place);
        released.into_iter().for_each(|packet_id| self.send(Packet::Pubrel(Ack::success(packet_id))));
    }

    /// The server has no session: forget what it sent, and send all that is in flight as new.
    pub(super) fn start_anew(&mut self) {
        self.inbound.forget_session();
        let packet_ids: Vec<u16> = self.outbound.iter().map(|(packet_id, ..)| packet_id).collect();
        let resent = packet_ids.len();
        for packet_id in packet_ids.into_iter().rev() {
            if let Some(InFlight { token, publish, .. }) = self.outbound.remove(packet_id) {
                self.waiting.push_front(Waiting { token, publish });
            }
        }
        if resent > 0 {
            self.events.push_back(Event::SessionLost { resent });
        }
    }

    /// Sends what waits, in order, as far as the server's receive maximum allows [5.0:MQTT-3.3.4-7].
    pub(super) fn pump(&mut self) {
        while self.link == Link::Open && (self.outbound.unsent() > 0 || !self.waiting.is_empty()) {
            let full = self.outbound.window_used() >= usize::from(self.server.receive_maximum);
            let sent =
                if self.outbound.unsent() > 0 { !full && self.send_again() } else { self.send_new(full) };
            if !sent {
                return;
            }
        }
    }

    /// The oldest message of an earlier connection, with DUP [MQTT-3.3.1-1]. False when there is none.
    fn send_again(&mut self) -> bool {
        let Some((packet_id, message)) = self.outbound.next_unsent() else { return false };
        let publish = Publish { dup: true, packet_id: Some(packet_id), ..message.publish.clone() };
        match self.server.check(&publish, self.options.version) {
            Ok(()) => self.send(Packet::Publish(publish)),
            Err(error) => {
                if let Some(message) = self.outbound.remove(packet_id) {
                    self.complete_publish(message.publish.qos, message.token, error.reason());
                }
            }
        }
        true
    }

    /// The oldest message that was never sent. False when it has to wait.
    fn send_new(&mut self, full: bool) -> bool {
        let Some(next) = self.waiting.pop_front_if(|next| next.publish.qos == Qos::AtMostOnce || !full)
        else {
            return false;
        };
        match self.server.check(&next.publish, self.options.version) {
            Ok(()) if next.publish.qos == Qos::AtMostOnce => {
                self.keep_alive.sent();
                self.transmit.push_back(Outgoing::AtMostOnce(next));
                true
            }
            Ok(()) => self.send_in_flight(next),
            Err(error) => {
                self.complete_publish(next.publish.qos, next.token, error.reason());
                true
            }
        }
    }

    /// False when every packet id is in use; then the message waits on.
    fn send_in_flight(&mut self, Waiting { token, publish }: Waiting) -> bool {
        let mut sent = publish.clone();
        sent.packet_id = self.outbound.push(publish.qos, InFlight { token, publish, pubrec: 0 });
        let has_id = sent.packet_id.is_some();
        match has_id {
            true => self.send(Packet::Publish(sent)),
            false => self.waiting.push_front(Waiting { token, publish: sent }),
        }
        has_id
    }

    /// Queues a packet, if there is a connection for it.
    pub(super) fn send(&mut self, packet: Packet) {
        if matches!(self.link, Link::Open | Link::Opening) {
            self.keep_alive.sent();
            self.transmit.push_back(Outgoing::Packet(packet));
        }
    }

    /// What an acknowledgement took out of flight is complete. False when it was nothing.
    pub(super) fn finish(&mut self, message: Option<InFlight>, reason: ReasonCode) -> bool {
        let Some(message) = message else { return false };
        self.complete_publish(message.publish.qos, message.token, reason);
        self.pump();
        true
    }

    /// QoS 0 publishes that nobody has taken for writing were not sent; they wait like the others.
    pub(super) fn keep_untaken(&mut self) {
        for outgoing in std::mem::take(&mut self.transmit).into_iter().rev() {
            if let Outgoing::AtMostOnce(waiting) = outgoing {
                self.waiting.push_front(waiting);
            }
        }
    }

    fn complete_publish(&mut self, qos: Qos, token: u64, reason: ReasonCode) {
        *self.accepted(qos) -= 1;
        self.events.push_back(Event::Completed { token, reason });
    }

    fn accepted(&mut self, qos: Qos) -> &mut usize {
        match qos {
            Qos::AtMostOnce => &mut self.at_most_once,
            Qos::AtLeastOnce | Qos::ExactlyOnce => &mut self.in_flight,
        }
    }
}
