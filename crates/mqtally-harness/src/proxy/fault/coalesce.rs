//! `coalesce`: collects packets for a while and writes them at once.

use super::super::Direction;
use super::super::parse::{RuleError, direction};
use super::super::words::{Ms, Words};
use std::fmt;

/// Writes large pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coalesce {
    /// Which way.
    pub direction: Direction,
    /// How long it collects, from the first packet that comes.
    pub ms: u64,
}

impl Coalesce {
    pub(super) fn parse(words: &mut Words) -> Result<Self, RuleError> {
        Ok(Self { direction: direction(words)?, ms: words.duration_ms("how long it collects")? })
    }
}

impl fmt::Display for Coalesce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.direction, Ms(self.ms))
    }
}
