//! Bytes to packets and back, for both versions.

use super::{Packet, ReasonCode, Version};
use bytes::{Bytes, BytesMut};

/// Why bytes are not a lawful packet; an endpoint answers with `reason` and closes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail} (reason code 0x{:02X})", reason.0)]
pub struct DecodeError {
    /// What a 5.0 endpoint answers (0x81 malformed, 0x82 protocol error, 0x95 too large, 0x84, 0x85, …).
    pub reason: ReasonCode,
    /// What is wrong and where, in words.
    pub detail: String,
}

/// Why a packet cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct EncodeError {
    /// What does not fit, in words.
    pub detail: String,
}

/// Appends `packet` to `out`. On error `out` is as it was.
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    let _ = (packet, version, out);
    Err(EncodeError { detail: String::new() })
}

/// Strict decoding of one direction of one connection.
#[derive(Debug)]
pub struct Decoder {
    version: Option<Version>,
    packet_size_max: u32,
}

impl Decoder {
    /// A decoder for a server: the version is learned from CONNECT, which must come first.
    pub fn server(packet_size_max: u32) -> Self {
        Self { version: None, packet_size_max }
    }

    /// A decoder for a client that asked for `version`.
    pub fn client(version: Version, packet_size_max: u32) -> Self {
        Self { version: Some(version), packet_size_max }
    }

    /// The version, once known.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes the next packet off the front of `buffer`; `None` when it is not yet whole.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let _ = (buffer, self.packet_size_max);
        Ok(None)
    }
}

/// What a lenient reading found in one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The packet, as far as it can be understood.
    pub packet: Option<Packet>,
    /// The frame as it came.
    pub raw: Bytes,
    /// Each way in which the frame is unlawful, in words; empty for a lawful one.
    pub irregularities: Vec<String>,
}

/// Takes the next frame off the front of `buffer` leniently; `None` when it is not yet whole.
///
/// `version` is what the connection speaks; a CONNECT speaks for itself. Fails only when the frame's length itself
/// cannot be read, after which nothing on this stream can be understood.
pub fn observe(buffer: &mut BytesMut, version: Version) -> Result<Option<Observed>, DecodeError> {
    let _ = (buffer, version);
    Ok(None)
}
