//! Where packets begin and end in the bytes of one direction.

use super::PACKET_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use mqtally_proto::packet::{Observed, Version, observe};

/// Bytes of a large packet by which it is judged: its header, the longest topic and a packet id.
const HEAD_BYTES: usize = 5 + 2 + 65_535 + 2;

/// What the next bytes are.
#[derive(Debug)]
pub(super) enum Piece {
    /// A packet.
    Packet(Observed),
    /// The beginning of a packet that is too large to be read whole.
    Head {
        /// Type and flags.
        first: u8,
        /// Bytes of the whole packet.
        len: usize,
        /// Where its body begins in `bytes`.
        body: usize,
        /// As far as it has been read.
        bytes: Bytes,
    },
    /// More of that packet.
    Rest {
        /// The next bytes.
        bytes: Bytes,
        /// Nothing of it is to come.
        is_last: bool,
    },
    /// Bytes of a stream that is not MQTT, or not any more.
    Opaque(Bytes),
}

/// Takes bytes apart.
#[derive(Debug, Default)]
pub(super) struct Framing {
    /// What is to come of a large packet.
    rest: usize,
    lost: bool,
}

impl Framing {
    /// Takes the next piece off the front of `input`; `None` when more bytes have to come first.
    pub(super) fn next(&mut self, input: &mut BytesMut, version: Version) -> Option<Piece> {
        if input.is_empty() {
            return None;
        }
        if self.lost {
            return Some(Piece::Opaque(input.split().freeze()));
        }
        if self.rest > 0 {
            let bytes = input.split_to(input.len().min(self.rest)).freeze();
            self.rest -= bytes.len();
            return Some(Piece::Rest { bytes, is_last: self.rest == 0 });
        }
        match header(input) {
            Some((body, len)) if len > PACKET_BYTES_MAX => self.head(input, body, len),
            _ => match observe(input, version) {
                Ok(observed) => observed.map(Piece::Packet),
                Err(_) => {
                    self.lost = true;
                    Some(Piece::Opaque(input.split().freeze()))
                }
            },
        }
    }

    fn head(&mut self, input: &mut BytesMut, body: usize, len: usize) -> Option<Piece> {
        if input.len() < HEAD_BYTES {
            return None;
        }
        let bytes = input.split_to(input.len().min(len)).freeze();
        self.rest = len - bytes.len();
        Some(Piece::Head { first: bytes[0], len, body, bytes })
    }
}

/// Bytes of the fixed header and of the whole packet, once the header is whole and makes sense.
fn header(input: &[u8]) -> Option<(usize, usize)> {
    let mut remaining = 0;
    for (index, byte) in input.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            let header = index + 2;
            return Some((header, header + remaining));
        }
    }
    None
}
