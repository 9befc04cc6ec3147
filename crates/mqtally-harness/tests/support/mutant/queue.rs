//! Brokers that keep packets back and let them go at the wrong moment.

use super::{Link, Mutant, State};
use mqtally_history::marker::{Identity, Purpose};
use mqtally_proto::packet::{Ack, Packet, Publish, Qos};

/// Deliveries that come again at once, in the stage that holds some.
const AGAIN: usize = 5;
/// The receive maximum of the slow client.
const PLACES: usize = 3;
/// Messages that are acknowledged and that only memory has.
const UNSTORED: usize = 5;

impl Link {
    /// A delivery on its way to the client; whether it waits here.
    pub(super) fn holds(&mut self, publish: &Publish, state: &mut State) -> bool {
        match state.mutant {
            Mutant::SendAgainReversed if self.is("held-qos1-fin") && self.number == 2 && publish.dup => {
                self.waiting.push_back(publish.clone());
                self.let_out_reversed(state);
            }
            Mutant::FreeAtPubrec if self.is("slow") => {
                self.waiting.push_back(publish.clone());
                self.fill_places(PLACES);
            }
            Mutant::WindowOfOne if publish.qos > Qos::AtMostOnce => {
                self.waiting.push_back(publish.clone());
                self.fill_places(1);
                state.strikes += u32::from(!self.waiting.is_empty());
            }
            _ => return false,
        }
        true
    }

    /// The client has finished a delivery.
    pub(super) fn finish_one(&mut self, mutant: Mutant) {
        if mutant == Mutant::WindowOfOne {
            self.taken = self.taken.saturating_sub(1);
            self.fill_places(1);
        }
    }

    fn let_out_reversed(&mut self, state: &mut State) {
        if self.waiting.len() == AGAIN {
            state.strikes += 1;
            for publish in std::mem::take(&mut self.waiting).into_iter().rev() {
                self.client(&Packet::Publish(publish));
            }
        }
    }

    fn fill_places(&mut self, places: usize) {
        while self.taken < places
            && let Some(publish) = self.waiting.pop_front()
        {
            self.taken += 1;
            self.client(&Packet::Publish(publish));
        }
    }

    /// The client answered with PUBREC, and its place is given away too early.
    pub(super) fn free_place(&mut self, state: &mut State) {
        if state.mutant == Mutant::FreeAtPubrec && self.is("slow") {
            self.taken = self.taken.saturating_sub(1);
            state.strikes += u32::from(!self.waiting.is_empty());
            self.fill_places(PLACES);
        }
    }

    /// A QoS 1 message that is acknowledged while only memory has it; whether the packet is dealt with.
    pub(super) fn acknowledges_early(&mut self, packet: &Packet, state: &mut State) -> bool {
        if !self.is_early(state.mutant) {
            return false;
        }
        match packet {
            Packet::Publish(publish) if publish.qos == Qos::AtLeastOnce => {
                self.client(&Packet::Puback(Ack::success(publish.packet_id.unwrap_or_default())));
                self.waiting.push_back(publish.clone());
                self.store_all_but(if is_sentinel(publish, state.run) { 0 } else { UNSTORED });
                true
            }
            Packet::Disconnect(_) => {
                self.store_all_but(0);
                false
            }
            _ => false,
        }
    }

    pub(super) fn is_early(&self, mutant: Mutant) -> bool {
        mutant == Mutant::AcknowledgeEarly && self.is("restart-publisher")
    }

    fn store_all_but(&mut self, unstored: usize) {
        while self.waiting.len() > unstored
            && let Some(publish) = self.waiting.pop_front()
        {
            self.broker(&Packet::Publish(publish));
        }
    }
}

fn is_sentinel(publish: &Publish, run: u32) -> bool {
    matches!(Identity::of(run, &publish.payload), Identity::Ours(marker) if marker.purpose == Purpose::Sentinel)
}
