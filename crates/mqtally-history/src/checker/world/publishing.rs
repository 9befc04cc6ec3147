//! The publisher's side: which message each packet id that a client sent stands for.

use super::client::Outbound;
use super::message::{State, Stream};
use super::{ClientIx, StreamIx, World, paged};
use crate::marker::{Identity, Marker, Purpose};
use crate::packet::Publish;
use std::sync::Arc;

/// Bodies without a marker that are remembered.
const UNMARKED_MAX: usize = 65_536;

impl World {
    /// Remembers what can arrive without a marker.
    pub(super) fn note_unmarked(&mut self, publish: &Publish) {
        match self.unmarked.len() {
            UNMARKED_MAX.. => self.many_unmarked = true,
            _ => drop(self.unmarked.insert(unmarked_key(publish))),
        }
    }

    /// Whether somebody in this run sent this body without a marker, or declared it as a will.
    pub(crate) fn sent_unmarked(&self, publish: &Publish) -> bool {
        self.many_unmarked || self.unmarked.contains(&unmarked_key(publish))
    }

    pub(super) fn publish_sent(&mut self, client_ix: ClientIx, publish: &Publish) {
        let Identity::Ours(marker) = publish.identity else {
            self.note_unmarked(publish);
            return self.hold_outbound(client_ix, publish, None);
        };
        let stream_ix = match self.stream_of(marker.message) {
            Some(stream) => stream,
            None => self.new_stream(client_ix, &marker, publish),
        };
        let stream = &mut self.streams[stream_ix as usize];
        if stream.is_forgotten(marker.message.sequence) {
            return self.hold_outbound(client_ix, publish, None);
        }
        if marker.purpose == Purpose::Sentinel && !stream.sentinels.contains(&marker.message.sequence) {
            stream.sentinels.push(marker.message.sequence);
        }
        let now = self.now;
        let client = &mut self.clients[client_ix as usize];
        let carried = Some((stream_ix, marker.message.sequence));
        let held = publish.qos > 0
            && client
                .outbound
                .get(&publish.packet_id)
                .is_some_and(|it| it.message == carried && !it.released);
        let message = self.streams[stream_ix as usize].messages.entry(marker.message.sequence);
        message.sent(now, publish, &marker, client.lineage, held);
        message.shadowed |= publish.qos == 2 && client.shadows.contains(&publish.packet_id);
        let sent_up_to = client.sent_up_to.entry(stream_ix).or_default();
        if let Some(due_ns) = self.due_ns.remove(&marker.message) {
            message.was_due(due_ns);
        }
        message.unordered |= message.first_sent < *sent_up_to;
        *sent_up_to = (*sent_up_to).max(message.first_sent);
        if !held {
            self.hold_outbound(client_ix, publish, carried);
        }
    }

    pub(super) fn hold_outbound(
        &mut self,
        client: ClientIx,
        publish: &Publish,
        message: Option<(StreamIx, u64)>,
    ) {
        if publish.qos > 0 {
            let entry = Outbound { message, qos: publish.qos, released: false };
            self.clients[client as usize].outbound.insert(publish.packet_id, entry);
        }
    }

    pub(super) fn new_stream(&mut self, client: ClientIx, marker: &Marker, publish: &Publish) -> StreamIx {
        let stream = self.streams.len() as StreamIx;
        let version = self.client(client).version;
        let group = self.group_here(version);
        let id = marker.message;
        self.stream_of_id.insert((id.publisher, id.stream), stream);
        self.streams.push(Stream {
            publisher: id.publisher,
            number: id.stream,
            topic: Arc::clone(&publish.topic),
            qos: marker.qos,
            version,
            group,
            client,
            messages: paged::Paged::default(),
            pubrec_up_to: 0,
            over: false,
            retired: 0,
            sentinels: Vec::new(),
        });
        stream
    }

    /// PUBACK, or PUBCOMP, which has no refusal.
    pub(super) fn outbound_acked(&mut self, client: ClientIx, id: u16, qos: u8, reason: u8) {
        let outbound = &mut self.clients[client as usize].outbound;
        let Some(entry) = outbound.get(&id).copied().filter(|it| it.qos == qos) else { return };
        if qos == 2 && !entry.released {
            return;
        }
        outbound.remove(&id);
        let Some((stream, sequence)) = entry.message else { return };
        let now = self.now;
        let message = self.streams[stream as usize].messages.entry(sequence);
        match reason {
            0x80.. => message.state = State::Refused,
            _ => message.acknowledged(now),
        }
    }

    pub(super) fn outbound_received(&mut self, client: ClientIx, id: u16, reason: u8) {
        let outbound = &mut self.clients[client as usize].outbound;
        let Some(entry) = outbound.get(&id).copied().filter(|it| it.qos == 2) else { return };
        if reason >= 0x80 {
            outbound.remove(&id);
        }
        let Some((stream, sequence)) = entry.message else { return };
        let stream = &mut self.streams[stream as usize];
        let message = stream.messages.entry(sequence);
        // A broker that takes a message at PUBREL takes them in the order of its PUBRECs.
        message.unordered |= message.first_sent < stream.pubrec_up_to;
        stream.pubrec_up_to = stream.pubrec_up_to.max(message.first_sent);
        match (reason, message.state) {
            (0x80.., _) => message.state = State::Refused,
            (_, State::Indeterminate) => message.state = State::Owned,
            _ => {}
        }
    }
}

fn unmarked_key(publish: &Publish) -> (Arc<str>, u32, u32) {
    (Arc::clone(&publish.topic), publish.payload_crc, publish.payload_len)
}
