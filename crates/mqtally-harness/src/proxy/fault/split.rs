//! `split`: writes small pieces, such as single bytes. Each is a write of its own and, without Nagle's algorithm, a
//! segment of its own where the receiver keeps up.

use super::super::Direction;
use super::super::parse::{RuleError, direction};
use super::super::words::Words;
use std::fmt;

/// Writes small pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Which way.
    pub direction: Direction,
    /// Bytes of a piece at most, from 1.
    pub bytes: u32,
}

impl Split {
    pub(super) fn parse(words: &mut Words) -> Result<Self, RuleError> {
        Ok(Self { direction: direction(words)?, bytes: words.number("the number of bytes")? })
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.direction, self.bytes)
    }
}
