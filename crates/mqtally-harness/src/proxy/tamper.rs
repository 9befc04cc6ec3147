//! A hook that may write other packets than it was given: for proxies that break a promise on purpose.

use super::{Direction, Peer};
use bytes::BytesMut;
use mqtally_proto::packet::{EncodeError, Observed, Packet, Version, encode};
use std::fmt;
use std::sync::Arc;

/// Looks at each packet of one link and decides what goes on in its stead.
///
/// It stands before the rules: these, and the packet log, see what it wrote. It does not see packets above
/// [`PACKET_BYTES_MAX`](super::PACKET_BYTES_MAX), which pass as they are.
pub trait Tamper: Send {
    /// One packet on its way in `direction`. What is not put into `out` does not arrive: begin with
    /// [`Tampered::pass`] for every packet that is none of your business.
    ///
    /// `peer` already knows the client of a CONNECT.
    fn on_packet(&mut self, peer: &Peer, direction: Direction, packet: &Observed, out: &mut Tampered);
}

/// Makes the [`Tamper`] of a new link; state that links share belongs into it.
pub type TamperFactory = Arc<dyn Fn() -> Box<dyn Tamper> + Send + Sync>;

/// What goes on, in order.
#[derive(Debug)]
pub struct Tampered {
    version: Version,
    bytes: [BytesMut; 2],
}

impl Tampered {
    pub(super) fn new(version: Version) -> Self {
        Self { version, bytes: [BytesMut::new(), BytesMut::new()] }
    }

    /// Passes `packet` on as it came.
    pub fn pass(&mut self, direction: Direction, packet: &Observed) {
        self.send_raw(direction, &packet.raw);
    }

    /// Sends a packet, in either direction.
    ///
    /// # Errors
    /// It cannot be written, or is unlawful; unlawful ones are sent by [`send_raw`](Self::send_raw).
    pub fn send(&mut self, direction: Direction, packet: &Packet) -> Result<(), EncodeError> {
        encode(packet, self.version, &mut self.bytes[direction as usize])
    }

    /// Sends whole packets as bytes, in either direction.
    pub fn send_raw(&mut self, direction: Direction, packets: &[u8]) {
        self.bytes[direction as usize].extend_from_slice(packets);
    }

    pub(super) fn take(&mut self, direction: Direction) -> BytesMut {
        std::mem::take(&mut self.bytes[direction as usize])
    }
}

/// A tamper of a link, or none.
pub(super) struct Tamperer(pub(super) Option<Box<dyn Tamper>>);

impl fmt::Debug for Tamperer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tamperer" } else { "none" })
    }
}

impl Tamperer {
    /// What goes on for `packet`; `None` when there is nobody to tamper with it.
    pub(super) fn on_packet(
        &mut self,
        peer: &Peer,
        direction: Direction,
        packet: &Observed,
    ) -> Option<Tampered> {
        let tamper = self.0.as_mut()?;
        let mut out = Tampered::new(peer.version);
        tamper.on_packet(peer, direction, packet, &mut out);
        Some(out)
    }
}
