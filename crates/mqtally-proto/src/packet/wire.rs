//! The data representations of section 1.5, read from a frame and written to a sink.

use super::judge::{DecodeError, EncodeError, Judge};
use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;

/// The largest variable byte integer, and so the largest remaining length.
pub(super) const VARINT_MAX: u32 = 268_435_455;

/// A cursor on one frame. Strings and binary data are slices of the frame.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) judge: Judge,
    frame: Bytes,
    at: usize,
    end: usize,
}

impl Reader {
    /// A reader of `frame` from byte `at`.
    pub(super) fn new(frame: Bytes, at: usize, judge: Judge) -> Self {
        let end = frame.len();
        Self { judge, frame, at, end }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.end
    }

    pub(super) fn remaining_len(&self) -> usize {
        self.end - self.at
    }

    #[inline]
    pub(super) fn u8(&mut self, what: &str) -> Result<u8, DecodeError> {
        let at = self.advance(1, what)?;
        Ok(self.frame[at])
    }

    #[inline]
    pub(super) fn u16(&mut self, what: &str) -> Result<u16, DecodeError> {
        let at = self.advance(2, what)?;
        Ok(u16::from_be_bytes([self.frame[at], self.frame[at + 1]]))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, DecodeError> {
        let high = self.u16(what)?;
        let low = self.u16(what)?;
        Ok(u32::from(high) << 16 | u32::from(low))
    }

    /// A variable byte integer inside a 5.0 packet, where it must be minimal [MQTT-1.5.5-1].
    pub(super) fn varint(&mut self, what: &str) -> Result<u32, DecodeError> {
        let bytes = &self.frame[self.at..self.end];
        match read_varint(bytes) {
            Varint::Value { value, len } => {
                self.at += len;
                if len > varint_len(value) {
                    self.judge
                        .malformed(format!("{what} is not encoded in the fewest bytes [MQTT-1.5.5-1]"))?;
                }
                Ok(value)
            }
            Varint::Incomplete => Err(self.cut_short(what)),
            Varint::Overlong => Err(DecodeError::malformed(format!("{what} is longer than four bytes"))),
        }
    }

    /// Two bytes of length and as many bytes as they say.
    #[inline]
    pub(super) fn binary(&mut self, what: &str) -> Result<Bytes, DecodeError> {
        let len = usize::from(self.u16(what)?);
        let at = self.advance(len, what)?;
        Ok(self.frame.slice(at..at + len))
    }

    /// A UTF-8 encoded string [MQTT-1.5.4-1] [MQTT-1.5.4-2] (3.1.1: [MQTT-1.5.3-1] [MQTT-1.5.3-2]).
    #[inline]
    pub(super) fn text(&mut self, what: &str) -> Result<ByteString, DecodeError> {
        let bytes = self.binary(what)?;
        let len = bytes.len();
        if contains_nul(&bytes) {
            self.judge.malformed(format!("{what} contains U+0000 [MQTT-1.5.4-2]"))?;
        }
        match ByteString::try_from(bytes) {
            Ok(text) => Ok(text),
            Err(error) => {
                self.judge.malformed(format!("{what} is not UTF-8: {error} [MQTT-1.5.4-1]"))?;
                Ok(String::from_utf8_lossy(&self.frame[self.at - len..self.at]).into_owned().into())
            }
        }
    }

    /// Everything up to the end of the frame.
    #[inline]
    pub(super) fn rest(&mut self) -> Bytes {
        let mut rest = std::mem::take(&mut self.frame);
        rest.advance(self.at);
        (self.at, self.end) = (0, 0);
        rest
    }

    /// Narrows the reader to the next `len` bytes; [`Self::leave`] with the returned end widens it again.
    pub(super) fn enter(&mut self, len: usize, what: &str) -> Result<usize, DecodeError> {
        if len > self.remaining_len() {
            return Err(self.cut_short(what));
        }
        Ok(std::mem::replace(&mut self.end, self.at + len))
    }

    /// See [`Self::enter`].
    pub(super) fn leave(&mut self, end: usize) {
        self.end = end;
    }

    /// Steps over `len` bytes and returns where they begin.
    #[inline]
    fn advance(&mut self, len: usize, what: &str) -> Result<usize, DecodeError> {
        if len > self.remaining_len() {
            return Err(self.cut_short(what));
        }
        let at = self.at;
        self.at += len;
        Ok(at)
    }

    #[cold]
    fn cut_short(&self, what: &str) -> DecodeError {
        let left = self.remaining_len();
        DecodeError::malformed(format!("the packet ends inside {what}, {left} bytes after byte {}", self.at))
    }
}

/// Where a packet is written: to a buffer, or to a [`Length`] that only counts.
pub(super) trait Sink {
    fn put(&mut self, bytes: &[u8]);

    fn u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    fn u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    fn varint(&mut self, value: u32, what: &str) -> Result<(), EncodeError> {
        if value > VARINT_MAX {
            return Err(EncodeError::new(format!("{what} is {value}, above {VARINT_MAX}")));
        }
        let mut rest = value;
        while rest >= 0x80 {
            self.u8(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.u8(rest as u8);
        Ok(())
    }

    #[inline]
    fn binary(&mut self, bytes: &[u8], what: &str) -> Result<(), EncodeError> {
        let Ok(len) = u16::try_from(bytes.len()) else {
            return Err(EncodeError::new(format!("{what} has {} bytes, above 65535", bytes.len())));
        };
        self.u16(len);
        self.put(bytes);
        Ok(())
    }

    #[inline]
    fn text(&mut self, text: &str, what: &str) -> Result<(), EncodeError> {
        self.binary(text.as_bytes(), what)
    }
}

impl Sink for BytesMut {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// A sink that counts, and so is the first to see what cannot be written.
#[derive(Debug, Default)]
pub(super) struct Length(pub(super) usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline]
    fn text(&mut self, text: &str, what: &str) -> Result<(), EncodeError> {
        if contains_nul(text.as_bytes()) {
            return Err(EncodeError::new(format!("{what} contains U+0000 [MQTT-1.5.4-2]")));
        }
        self.binary(text.as_bytes(), what)
    }
}

impl Length {
    /// The counted length as a variable byte integer can say it.
    pub(super) fn as_varint(&self, what: &str) -> Result<u32, EncodeError> {
        let fits = u32::try_from(self.0).ok().filter(|len| *len <= VARINT_MAX);
        fits.ok_or_else(|| EncodeError::new(format!("{what} is {}, above {VARINT_MAX}", self.0)))
    }
}

/// A pass over all bytes is vectorised; one that stops early is not.
fn contains_nul(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |found, byte| found | u8::from(*byte == 0)) != 0
}

/// A variable byte integer at the front of some bytes.
pub(super) enum Varint {
    Value { value: u32, len: usize },
    Incomplete,
    Overlong,
}

pub(super) fn read_varint(bytes: &[u8]) -> Varint {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Varint::Value { value, len: index + 1 };
        }
    }
    if bytes.len() < 4 { Varint::Incomplete } else { Varint::Overlong }
}

/// The fewest bytes in which a variable byte integer can say `value`.
pub(super) const fn varint_len(value: u32) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}
