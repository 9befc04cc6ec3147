//! `delay`: delivers each packet later; the order stays.

use super::super::Direction;
use super::super::parse::{RuleError, direction};
use super::super::words::{Ms, Words, is_duration};
use std::fmt;

/// Delivers later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// Which way.
    pub direction: Direction,
    /// By how long at least.
    pub ms: u64,
    /// And by how much more.
    pub jitter: Option<Jitter>,
}

/// A delay that differs from packet to packet, and is the same for the same packets again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter {
    /// At most so much.
    pub ms_max: u64,
    /// Decides how much it is for each.
    pub seed: u32,
}

impl Delay {
    pub(super) fn parse(words: &mut Words) -> Result<Self, RuleError> {
        let (direction, ms) = (direction(words)?, words.duration_ms("the delay")?);
        let jitter = if words.take("jitter") { Some(Jitter::parse(words)?) } else { None };
        Ok(Self { direction, ms, jitter })
    }

    pub(super) fn has_numbers_in_range(&self) -> bool {
        let has_jitter = |jitter: Jitter| is_duration(jitter.ms_max) && jitter.seed > 0;
        is_duration(self.ms) && self.jitter.is_none_or(has_jitter)
    }

    /// By how much the packet with this number on its link is late, in milliseconds.
    pub(in super::super) fn ms_of(&self, packet: u64) -> u64 {
        self.ms + self.jitter.map_or(0, |jitter| mix(u64::from(jitter.seed), packet) % (jitter.ms_max + 1))
    }
}

impl Jitter {
    fn parse(words: &mut Words) -> Result<Self, RuleError> {
        let ms_max = words.duration_ms("the jitter")?;
        let word = words.expect("'seed' and its number", &["seed"])?;
        if word.text != "seed" {
            return Err(word.unknown("word", &["seed"]));
        }
        Ok(Self { ms_max, seed: words.number("the seed")? })
    }
}

/// One step of SplitMix64 from a state that both numbers decide.
fn mix(seed: u64, packet: u64) -> u64 {
    let mut z = (seed << 32 ^ packet).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.direction, Ms(self.ms))?;
        match self.jitter {
            Some(Jitter { ms_max, seed }) => write!(f, " jitter {} seed {seed}", Ms(ms_max)),
            None => Ok(()),
        }
    }
}
