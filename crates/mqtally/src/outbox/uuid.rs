//! Message ids: UUIDs of version 7 (RFC 9562), so that ids sort by the time of their making.

use mqtally_proto::Time;
use std::fmt;
use std::str::FromStr;

/// Name of a message, unique without any registry: 48 bits of time and 74 random ones.
///
/// ```
/// use mqtally::outbox::Uuid;
/// use mqtally_proto::Time;
/// let id = Uuid::new(Time::from_ms(1_753_900_000_250), u128::MAX);
/// assert_eq!(id.to_string(), "01985c96-23fa-7fff-bfff-ffffffffffff");
/// assert_eq!(id.to_string().parse(), Ok(id));
/// assert_eq!(id.made_at(), Time::from_ms(1_753_900_000_250));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// A text that is no UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID; write 32 hexadecimal digits as 8-4-4-4-12")]
pub struct UuidError;

/// Where the hyphens stand.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const TEXT_BYTES: usize = 36;

impl Uuid {
    /// The id of a message that is made `now`; the caller brings the randomness.
    pub fn new(now: Time, random: u128) -> Self {
        let mut bytes = random.to_be_bytes();
        bytes[..6].copy_from_slice(&now.as_ms().to_be_bytes()[2..]);
        bytes[6] = 0x70 | bytes[6] & 0x0f;
        bytes[8] = 0x80 | bytes[8] & 0x3f;
        Self(bytes)
    }

    /// When it was made, by the wall clock of whoever made it.
    pub fn made_at(self) -> Time {
        Time::from_ms(self.0[..6].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte)))
    }

    pub(crate) fn text(self) -> [u8; TEXT_BYTES] {
        let mut text = [b'-'; TEXT_BYTES];
        let mut at = 0;
        for byte in self.0 {
            at += usize::from(HYPHENS.contains(&at));
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 0x0f)];
            at += 2;
        }
        text
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Self, UuidError> {
        let text = text.as_bytes();
        if text.len() != TEXT_BYTES || HYPHENS.iter().any(|at| text[*at] != b'-') {
            return Err(UuidError);
        }
        let mut digits =
            text.iter().enumerate().filter(|(at, _)| !HYPHENS.contains(at)).map(|(_, digit)| *digit);
        let mut bytes = [0; 16];
        for byte in &mut bytes {
            *byte = nibble(digits.next())? << 4 | nibble(digits.next())?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: Option<u8>) -> Result<u8, UuidError> {
    let value = digit.and_then(|digit| char::from(digit).to_digit(16)).ok_or(UuidError)?;
    Ok(value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_the_time_of_their_making() {
        let at = |ms, random| Uuid::new(Time::from_ms(ms), random);
        assert!(at(1, u128::MAX) < at(2, 0));
        assert!(at(1, u128::MAX).to_string() < at(2, 0).to_string());
    }

    #[test]
    fn what_is_no_uuid_is_refused() {
        for text in [
            "",
            "0198",
            "01985ce8xdbfa-7fff-bfff-ffffffffffff",
            "01985c96-23fa-7fff-bfff-fffffffffffg",
            "é1985ce8-dbfa-7fff-bfff-fffffffffff",
        ] {
            assert_eq!(text.parse::<Uuid>(), Err(UuidError), "{text}");
        }
    }
}
