//! A client's end of its connections: the session core of `mqtally-proto`, its codec, and the record of both ways.

use super::ClientIx;
use super::net::{LinkId, Net, frame};
use super::tamper::Toward;
use super::time;
use super::way::Piece;
use crate::convert::{self, Converter};
use bytes::BytesMut;
use mqtally_history::event::{Closing, ConnectionId, EventKind, Role};
use mqtally_proto::packet::{Decoder, PACKET_SIZE_MAX, Packet, Version};
use mqtally_proto::session::{Options, ProtocolError, Session};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) ix: ClientIx,
    pub(super) name: Arc<str>,
    pub(super) version: Version,
    pub(super) session: Session,
    wire: Option<Wire>,
    /// Connections that were left for another one without being closed.
    left: Vec<(LinkId, ConnectionId)>,
    dials: u32,
    /// Connections since the last CONNACK.
    unanswered_dials: u32,
}

#[derive(Debug)]
struct Wire {
    link: LinkId,
    id: ConnectionId,
    decoder: Decoder,
    buffer: BytesMut,
    sent: Converter,
    received: Converter,
}

/// What came of something that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// It was for nobody.
    Nothing,
    /// The session has taken packets.
    Packets,
    /// The connection is over.
    Ended,
}

impl Peer {
    pub(super) fn new(ix: ClientIx, name: Arc<str>, options: Options) -> Self {
        let version = options.version;
        let session = Session::new(options);
        Self { ix, name, version, session, wire: None, left: Vec::new(), dials: 0, unanswered_dials: 0 }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.wire.is_some()
    }

    /// A new connection, on which CONNECT is queued. One that is still there is left as it is.
    pub(super) fn dial(&mut self, net: &mut Net) {
        self.leave(net);
        self.dials += 1;
        self.unanswered_dials += 1;
        let (link, id) = (net.open(self.ix, self.dials), net.trace.connection());
        let version = convert::version(self.version);
        net.trace.record(EventKind::Opened {
            connection: id,
            client: self.name.clone(),
            version,
            role: Role::Own,
        });
        let converter = || Converter::new(net.trace.run, self.version);
        self.wire = Some(Wire {
            link,
            id,
            decoder: Decoder::client(self.version, PACKET_SIZE_MAX),
            buffer: BytesMut::new(),
            sent: converter(),
            received: converter(),
        });
        self.session.handle_opened(time(net.now));
    }

    /// CONNACK came. Whether a CONNECT before this one had none.
    pub(super) fn answered(&mut self) -> bool {
        let dials = std::mem::take(&mut self.unanswered_dials);
        dials > 1
    }

    /// Records packets and writes them.
    pub(super) fn write(&mut self, packets: &[Packet], net: &mut Net) {
        let Some(wire) = &mut self.wire else { return };
        let mut frames = Vec::with_capacity(packets.len());
        for packet in packets {
            // The session makes no packet that cannot be encoded: it has checked what it was given.
            let Some(frame) = frame(packet, self.version) else { continue };
            let seen = wire.sent.convert(packet, frame.len());
            net.trace.record(EventKind::Sent(wire.id, seen));
            frames.push(frame);
        }
        net.send(wire.link, Toward::Broker, &frames);
    }

    /// Something arrived on a link of this client's.
    pub(super) fn arrived(&mut self, link: LinkId, net: &mut Net) -> Arrived {
        let Some(piece) = net.take(link, Toward::Client) else { return Arrived::Nothing };
        if self.wire.as_ref().is_none_or(|wire| wire.link != link) {
            self.arrived_elsewhere(link, &piece, net);
            return Arrived::Nothing;
        }
        match piece {
            Piece::Open(_) => Arrived::Nothing,
            Piece::Bytes(bytes) => {
                if let Some(wire) = &mut self.wire {
                    wire.buffer.extend_from_slice(&bytes);
                }
                if let Err(error) = self.read(net) {
                    self.session.disconnect(error.reason, None);
                }
                Arrived::Packets
            }
            Piece::End { reset } => {
                self.gone(if reset { Closing::Broken } else { Closing::ByBroker }, net);
                net.finish(link, Toward::Broker);
                Arrived::Ended
            }
        }
    }

    /// Closes the connection in order.
    pub(super) fn finish(&mut self, net: &mut Net) {
        if let Some(link) = self.gone(Closing::Fin, net) {
            net.finish(link, Toward::Broker);
            net.ignore(link, Toward::Client);
        }
    }

    /// Closes it at once; what was written last may be lost.
    pub(super) fn reset(&mut self, net: &mut Net) {
        if let Some(link) = self.gone(Closing::Rst, net) {
            net.reset(link, Toward::Broker);
            net.ignore(link, Toward::Client);
        }
    }

    /// Closes it in one way or the other.
    pub(super) fn close(&mut self, net: &mut Net) {
        if net.random.bool() {
            self.finish(net);
        } else {
            self.reset(net);
        }
    }

    /// Is gone from the network, and nobody hears of it.
    pub(super) fn vanish(&mut self, net: &mut Net) {
        for link in self.gone(Closing::Vanished, net).into_iter().chain(self.forget_left(net)) {
            net.vanish(link);
        }
    }

    /// Closes the connections that were left open.
    pub(super) fn drop_left(&mut self, net: &mut Net) {
        for link in self.forget_left(net) {
            net.reset(link, Toward::Broker);
            net.ignore(link, Toward::Client);
        }
    }

    /// The link of the connection.
    pub(super) fn link(&self) -> Option<LinkId> {
        self.wire.as_ref().map(|wire| wire.link)
    }

    fn read(&mut self, net: &mut Net) -> Result<(), ProtocolError> {
        loop {
            let Some(wire) = &mut self.wire else { return Ok(()) };
            let len = wire.buffer.len();
            let decoded = wire.decoder.decode(&mut wire.buffer);
            let Some(packet) =
                decoded.map_err(|error| ProtocolError { reason: error.reason, detail: error.detail })?
            else {
                return Ok(());
            };
            let seen = wire.received.convert(&packet, len - wire.buffer.len());
            net.trace.received(&self.name, wire.id, seen);
            self.session.handle_packet(time(net.now), packet)?;
        }
    }

    fn arrived_elsewhere(&mut self, link: LinkId, piece: &Piece, net: &mut Net) {
        let left = self.left.iter().position(|(other, _)| *other == link);
        if let (Some(at), Piece::End { reset }) = (left, piece) {
            let (_, id) = self.left.swap_remove(at);
            let closing = if *reset { Closing::Broken } else { Closing::ByBroker };
            net.trace.record(EventKind::Closed(id, net.closing(link, closing)));
            net.finish(link, Toward::Broker);
        }
    }

    /// The connection is over for the session.
    fn gone(&mut self, closing: Closing, net: &mut Net) -> Option<LinkId> {
        let wire = self.wire.take()?;
        net.trace.record(EventKind::Closed(wire.id, net.closing(wire.link, closing)));
        self.session.handle_closed(time(net.now));
        Some(wire.link)
    }

    /// Leaves the connection open behind itself.
    fn leave(&mut self, net: &Net) {
        if let Some(wire) = self.wire.take() {
            self.left.push((wire.link, wire.id));
            self.session.handle_closed(time(net.now));
        }
    }

    fn forget_left(&mut self, net: &mut Net) -> Vec<LinkId> {
        let left = std::mem::take(&mut self.left);
        for (link, id) in &left {
            net.trace.record(EventKind::Closed(*id, net.closing(*link, Closing::Rst)));
        }
        left.into_iter().map(|(link, _)| link).collect()
    }
}
