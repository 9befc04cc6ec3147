//! The engine's side of its connections: encoding and sending.

use super::Served;
use super::link::{End, Link};
use bytes::BytesMut;
use mqtally_proto::broker::ConnectionId;
use mqtally_proto::packet::{Packet, Qos, Version, encode};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Every open connection.
pub(super) struct Peers {
    peers: FxHashMap<ConnectionId, Peer>,
    /// Those with something in `out`.
    written: Vec<ConnectionId>,
    backlog_qos0_max: usize,
    backlog_max: usize,
}

struct Peer {
    link: Arc<Link>,
    version: Version,
    /// Encoded in this batch.
    out: BytesMut,
}

impl Peers {
    pub(super) fn new(backlog_qos0_max: usize, backlog_max: usize) -> Self {
        Self { peers: FxHashMap::default(), written: Vec::new(), backlog_qos0_max, backlog_max }
    }

    pub(super) fn open(&mut self, id: ConnectionId, link: Arc<Link>) {
        // Until CONNECT says otherwise: 3.1.1 is what a client of an unknown version can read.
        self.peers.insert(id, Peer { link, version: Version::V3_1_1, out: BytesMut::new() });
    }

    pub(super) fn contains(&self, id: ConnectionId) -> bool {
        self.peers.contains_key(&id)
    }

    /// Takes the connection out; false when it was out already.
    pub(super) fn forget(&mut self, id: ConnectionId) -> bool {
        self.peers.remove(&id).is_some()
    }

    /// Notes the version, if one was learned; false when the connection is not open.
    pub(super) fn learn_version(&mut self, id: ConnectionId, version: Option<Version>) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        peer.version = version.unwrap_or(peer.version);
        true
    }

    pub(super) fn mark_taken(&self, id: ConnectionId) {
        if let Some(peer) = self.peers.get(&id) {
            peer.link.mark_taken();
        }
    }

    /// Encodes a packet for the next [`Peers::flush`].
    pub(super) fn send(&mut self, id: ConnectionId, packet: &Packet, served: &mut Served) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if is_qos0(packet) && peer.out.len() + peer.link.backlog() > self.backlog_qos0_max {
            served.qos0_dropped += 1;
            return;
        }
        if peer.out.is_empty() {
            self.written.push(id);
        }
        match encode(packet, peer.version, &mut peer.out) {
            Ok(()) => served.packets_out += 1,
            // It can only be too long for the protocol, by the bytes that 5.0 adds to what came in as 3.1.1.
            Err(_) => peer.link.end(End::Abort),
        }
    }

    /// Sends what was encoded for the connection, and ends it.
    pub(super) fn close(&mut self, id: ConnectionId) {
        if let Some(mut peer) = self.peers.remove(&id) {
            peer.link.send(&mut peer.out);
            peer.link.end(End::Flush);
        }
    }

    /// Sends everything that was encoded, each connection's bytes at once.
    pub(super) fn flush(&mut self) {
        for id in self.written.drain(..) {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            peer.link.send(&mut peer.out);
            if peer.link.backlog() > self.backlog_max {
                peer.link.end(End::Abort);
            }
        }
    }
}

fn is_qos0(packet: &Packet) -> bool {
    matches!(packet, Packet::Publish(publish) if publish.qos == Qos::AtMostOnce)
}
