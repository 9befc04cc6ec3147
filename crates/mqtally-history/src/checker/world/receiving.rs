//! The subscriber's side: what each packet id that a client received stands for.

use super::client::{Inbound, PATIENT_NS, Phase, Subject};
use super::{ClientIx, ConnIx, World};
use crate::packet::Publish;

impl World {
    pub(super) fn inbound_acked(&mut self, at: ConnIx, id: u16, phase: Phase) {
        let now = self.now;
        let connection = &mut self.connections[at as usize];
        connection.last_acked_ns = now.at_ns;
        let client = &mut self.clients[connection.client as usize];
        let Some(entry) = client.inbound.get_mut(&id) else { return };
        if entry.qos == 1 && entry.connection == at {
            client.acks_out_of_order |= entry.last.place < connection.acked_up_to;
            connection.acked_up_to = connection.acked_up_to.max(entry.last.place);
        }
        entry.answered_again |= phase == Phase::Acked && entry.acked > 0;
        entry.acked = now.place;
        let waited_ns = now.at_ns.saturating_sub(entry.last.at_ns);
        client.waited += u64::from(entry.connection == at && waited_ns >= PATIENT_NS);
        match (entry.phase, phase) {
            (Phase::Publish, Phase::Acked) | (Phase::Release, Phase::Complete) => entry.phase = phase,
            _ => {}
        }
    }

    /// A delivery that its receiver refuses is none that it accepted.
    pub(super) fn refused(&mut self, client: ClientIx, id: u16, reason: u8) {
        let client = &mut self.clients[client as usize];
        let Some(Inbound { subject: Subject::Ours(stream, sequence), .. }) = client.inbound.get(&id) else {
            return;
        };
        if reason >= 0x80
            && let Some(copies) = client.copies.get_mut(stream)
        {
            let copies = copies.entry(*sequence);
            copies.accepted = copies.accepted.saturating_sub(1);
        }
    }

    pub(super) fn inbound_released(&mut self, at: ConnIx, id: u16) {
        let now = self.now;
        let connection = &mut self.connections[at as usize];
        let Some(entry) = self.clients[connection.client as usize].inbound.get_mut(&id) else { return };
        // What our PUBREC did not ask for is no answer: it is wrong, and the exchange stands where it stood.
        if entry.qos == 2 && entry.phase != Phase::Publish {
            if let Subject::Ours(stream, _) = entry.subject
                && entry.phase == Phase::Acked
                && entry.connection == at
            {
                let latest = connection.released_up_to.entry(stream).or_default();
                *latest = entry.acked.max(*latest);
            }
            entry.phase = Phase::Release;
            entry.last = now;
            entry.connection = at;
        }
    }

    /// Holds what a delivery began or repeated.
    pub(super) fn hold_inbound(&mut self, at: ConnIx, publish: &Publish, subject: Subject, overlapped: bool) {
        let now = self.now;
        let accepted = |it: &Inbound| self.connection(it.connection).accepted;
        let client = self.connection(at).client;
        let held = self.client(client).inbound.get(&publish.packet_id).map(accepted);
        // It is late: what a newer connection said about the id is what counts.
        if held.is_some_and(|newer| newer > self.connection(at).accepted) {
            return;
        }
        let inbound = &mut self.clients[client as usize].inbound;
        let before = inbound.get(&publish.packet_id).filter(|it| it.subject == subject);
        // Repeated on the connection that carries our acknowledgement: it may have crossed.
        let crossed = before.is_some_and(|it| it.connection == at && it.phase == Phase::Acked);
        let phase = if crossed { Phase::Acked } else { Phase::Publish };
        let began = before.map_or(now, |it| it.began);
        inbound.insert(
            publish.packet_id,
            Inbound {
                subject,
                qos: publish.qos,
                phase,
                began,
                last: now,
                connection: at,
                expires: publish.message_expiry.is_some(),
                overlapped,
                acked: 0,
                answered_again: false,
            },
        );
    }
}
