//! `throttle`: delivers no faster than a rate. What does not get through keeps the sender from being read.
//!
//! It holds for what has not left the proxy yet, the packet that set it off included.

use super::super::Direction;
use super::super::parse::{RuleError, direction};
use super::super::words::Words;
use std::fmt;

/// Pieces are so long in time, where the rate allows.
const PIECE_MS: u64 = 20;
const UNITS: [(&str, u64); 3] = [("MB/s", 1_000_000), ("kB/s", 1_000), ("B/s", 1)];

/// Delivers slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Which way.
    pub direction: Direction,
    /// Bytes a second, from 1.
    pub bytes_per_s: u64,
}

impl Throttle {
    pub(super) fn parse(words: &mut Words) -> Result<Self, RuleError> {
        let direction = direction(words)?;
        let word = words.expect("the rate", &[])?;
        let rate = rate(&word.text).ok_or_else(|| word.error("no rate such as 500B/s, 64kB/s or 1MB/s:"))?;
        Ok(Self { direction, bytes_per_s: rate })
    }

    /// Bytes of one piece.
    pub(in super::super) fn piece(&self) -> usize {
        usize::try_from(self.bytes_per_s.saturating_mul(PIECE_MS) / 1_000).unwrap_or(usize::MAX).max(1)
    }

    /// Rest after so many bytes, in milliseconds.
    pub(in super::super) fn rest_ms(&self, bytes: usize) -> u64 {
        (bytes as u64).saturating_mul(1_000).div_ceil(self.bytes_per_s.max(1))
    }
}

fn rate(text: &str) -> Option<u64> {
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    number.parse::<u64>().ok()?.checked_mul(*unit).filter(|rate| *rate > 0)
}

impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) =
            UNITS.into_iter().find(|(_, unit)| self.bytes_per_s.is_multiple_of(*unit)).unwrap_or(("B/s", 1));
        write!(f, "{} {}{name}", self.direction, self.bytes_per_s / unit)
    }
}
