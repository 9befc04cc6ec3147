//! `storm`: a client that connects many times at once.
//!
//! The CONNECT is held back while so many others with the same bytes reach the broker, evenly spread over a short time;
//! then it goes on, so that the client's own connection is the last to ask for its session. The extra connections read
//! whatever comes and acknowledge nothing, until the broker closes them or the storm's rest is over.

use super::super::moment::{Moment, Place};
use super::super::parse::RuleError;
use super::super::words::{Ms, Words, is_duration};
use super::super::{Direction, PacketKind};
use std::fmt;

/// More connections at once are no storm of one client.
const EXTRA_MAX: u32 = 100;
const WITHIN_MS: u64 = 10;

/// Connects many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Storm {
    /// Connections beside the client's own.
    pub extra: u32,
    /// From the first to the client's own, in milliseconds.
    pub within_ms: u64,
}

impl Storm {
    pub(in super::super) const MOMENT: Moment = Moment {
        place: Place::Before,
        direction: Direction::ToServer,
        kind: Some(PacketKind::CONNECT),
        nth: 1,
    };

    pub(super) fn parse(words: &mut Words) -> Result<Self, RuleError> {
        let extra = words.number_up_to("how many connections", EXTRA_MAX)?;
        let within_ms = if words.take("within") { words.duration_ms("within how long")? } else { WITHIN_MS };
        Ok(Self { extra, within_ms })
    }

    pub(super) fn has_numbers_in_range(self) -> bool {
        (1..=EXTRA_MAX).contains(&self.extra) && is_duration(self.within_ms)
    }

    /// When each extra connection is made, in milliseconds from the CONNECT.
    pub(in super::super) fn offsets_ms(self) -> impl Iterator<Item = u64> {
        (0..u64::from(self.extra)).map(move |index| index * self.within_ms / u64::from(self.extra))
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} within {}", self.extra, Ms(self.within_ms))
    }
}
