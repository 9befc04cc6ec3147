//! Frames: bytes to packets and back, for both versions.

use super::judge::{DecodeError, EncodeError, Judge, Sender};
use super::kind::Kind;
use super::wire::{Length, Reader, Sink, Varint, read_varint, varint_len};
use super::{Packet, ReasonCode, Version};
use bytes::{Bytes, BytesMut};

/// Appends `packet` to `out`. On error `out` is as it was.
///
/// What this accepts, a [`Decoder`] of the receiving end accepts and reads as the same packet. So besides what does
/// not fit (a string above 65,535 bytes, a packet above the largest remaining length) it refuses whatever is
/// unlawful in `version`: a property that does not belong, a reason code that 3.1.1 cannot say, packet id 0.
///
/// ```
/// use mqtally_proto::packet::{Ack, Packet, Version, encode};
/// let mut out = bytes::BytesMut::new();
/// encode(&Packet::Puback(Ack::success(7)), Version::V5_0, &mut out)?;
/// assert_eq!(out[..], [0x40, 2, 0, 7]);
/// # Ok::<(), mqtally_proto::packet::EncodeError>(())
/// ```
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) -> Result<(), EncodeError> {
    let mut judge = Judge::strict(version, Sender::Unknown);
    packet.kind().check(packet.first_byte(), &mut judge)?;
    packet.check(&mut judge)?;
    // Counting first finds everything that does not fit before a byte is written.
    let mut length = Length::default();
    packet.write(version, &mut length)?;
    let remaining = length.as_varint("the remaining length")?;
    out.reserve(1 + varint_len(remaining) + length.0);
    out.u8(packet.first_byte());
    out.varint(remaining, "the remaining length")?;
    packet.write(version, out)
}

/// Strict decoding of one direction of one connection.
///
/// Not checked here, because they take more than one packet to see: a second CONNECT, whether a topic alias is known
/// or above the maximum, whether an AUTH is expected, what an empty client id asks for.
#[derive(Debug)]
pub struct Decoder {
    version: Option<Version>,
    sender: Sender,
    packet_size_max: u32,
    takes_any_failure: bool,
}

impl Decoder {
    /// A decoder for a server: the version is learned from CONNECT, which must come first [MQTT-3.1.0-1].
    pub fn server(packet_size_max: u32) -> Self {
        Self { version: None, sender: Sender::Client, packet_size_max, takes_any_failure: false }
    }

    /// A decoder for a client that asked for `version`.
    pub fn client(version: Version, packet_size_max: u32) -> Self {
        Self { version: Some(version), sender: Sender::Server, packet_size_max, takes_any_failure: false }
    }

    /// Takes a failure code (from 0x80) for a failure also in a packet that may not carry it. Brokers in use answer a
    /// PUBLISH with 0x95; a client that ends the connection for it would send the same message again, for ever.
    #[must_use]
    pub fn taking_any_failure(self) -> Self {
        Self { takes_any_failure: true, ..self }
    }

    /// The version, once known.
    ///
    /// For a server it is that of the first CONNECT, also when that was refused: the one to answer in. A CONNECT of
    /// an unknown version counts as the nearest known one.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Takes the next packet off the front of `buffer`; `None` when it is not yet whole.
    ///
    /// What the fixed header already tells (type, direction, size) is refused before the body has come.
    ///
    /// # Errors
    /// On the first fault. The stream is then of no further use: the endpoint answers and closes.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some(header) = Header::peek(buffer)? else { return Ok(None) };
        let mut judge = Judge::strict(self.version.unwrap_or(Version::V3_1_1), self.sender);
        judge.takes_any_failure = self.takes_any_failure;
        let kind = Kind::from_first_byte(header.first)?;
        self.admit(kind, &header)?;
        kind.check(header.first, &mut judge)?;
        let Some(frame) = header.split_frame(buffer) else { return Ok(None) };
        let mut reader = Reader::new(frame, header.len, judge);
        let packet = read_packet(kind, &header, &mut reader);
        self.version.get_or_insert(reader.judge.version);
        packet.map(Some)
    }

    fn admit(&self, kind: Kind, header: &Header) -> Result<(), DecodeError> {
        if self.version.is_none() && kind != Kind::Connect {
            let detail = format!("the first packet is {}, not CONNECT [MQTT-3.1.0-1]", kind.name());
            return Err(DecodeError::new(ReasonCode::PROTOCOL_ERROR, detail));
        }
        if header.frame_len() > self.packet_size_max as usize {
            let (name, size, max) = (kind.name(), header.frame_len(), self.packet_size_max);
            let detail =
                format!("{name} of {size} bytes is above the limit of {max} (3.1.2.11.4, 3.2.2.3.6)");
            return Err(DecodeError::new(ReasonCode::PACKET_TOO_LARGE, detail));
        }
        Ok(())
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
/// `version` is what the connection speaks; a CONNECT speaks for itself. Packets of either direction are taken.
/// A frame without irregularities gives the same packet as a [`Decoder`]. The caller bounds the buffer.
///
/// # Errors
/// Only when the frame's length itself cannot be read, after which nothing on this stream can be understood.
pub fn observe(buffer: &mut BytesMut, version: Version) -> Result<Option<Observed>, DecodeError> {
    let Some(header) = Header::peek(buffer)? else { return Ok(None) };
    let Some(raw) = header.split_frame(buffer) else { return Ok(None) };
    let mut reader = Reader::new(raw.clone(), header.len, Judge::lenient(version));
    let read = Kind::from_first_byte(header.first).and_then(|kind| {
        kind.check(header.first, &mut reader.judge)?;
        read_packet(kind, &header, &mut reader)
    });
    let (packet, end) = match read {
        Ok(packet) => (Some(packet), None),
        Err(fault) => (None, Some(fault)),
    };
    Ok(Some(Observed { packet, raw, irregularities: reader.judge.into_irregularities(end) }))
}

fn read_packet(kind: Kind, header: &Header, reader: &mut Reader) -> Result<Packet, DecodeError> {
    let packet = Packet::read(kind, header.first, reader)?;
    if !reader.is_at_end() {
        let (extra, name) = (reader.remaining_len(), kind.name());
        reader.judge.malformed(format!("{extra} bytes follow the end of {name}"))?;
    }
    // 3.1.1 does not ask for the fewest bytes.
    if header.len > 1 + varint_len(header.remaining) && reader.judge.version == Version::V5_0 {
        reader.judge.malformed("the remaining length is not encoded in the fewest bytes [MQTT-1.5.5-1]")?;
    }
    packet.check(&mut reader.judge)?;
    Ok(packet)
}

/// The fixed header (2.1).
struct Header {
    first: u8,
    /// Bytes of the header itself.
    len: usize,
    /// Bytes that follow it.
    remaining: u32,
}

impl Header {
    /// The header at the front of `buffer`, once it is whole.
    fn peek(buffer: &[u8]) -> Result<Option<Self>, DecodeError> {
        let Some((first, rest)) = buffer.split_first() else { return Ok(None) };
        match read_varint(rest) {
            Varint::Value { value, len } => Ok(Some(Self { first: *first, len: 1 + len, remaining: value })),
            Varint::Incomplete => Ok(None),
            Varint::Overlong => Err(DecodeError::malformed("the remaining length is longer than four bytes")),
        }
    }

    fn frame_len(&self) -> usize {
        self.len + self.remaining as usize
    }

    fn split_frame(&self, buffer: &mut BytesMut) -> Option<Bytes> {
        (buffer.len() >= self.frame_len()).then(|| buffer.split_to(self.frame_len()).freeze())
    }
}
