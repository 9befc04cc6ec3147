//! What can be done to packets and links, one file a fault.

mod black_hole;
mod coalesce;
mod cut;
mod delay;
mod drop;
mod refuse;
mod split;
mod stall;
mod storm;
mod swap;
mod throttle;

pub use black_hole::BlackHole;
pub use coalesce::Coalesce;
pub use cut::Cut;
pub use delay::{Delay, Jitter};
pub use drop::Drop;
pub use refuse::{Refusal, Refuse};
pub use split::Split;
pub use stall::Stall;
pub use storm::Storm;
pub use swap::Swap;
pub use throttle::Throttle;

use super::parse::{RuleError, direction};
use super::words::{Words, is_duration};
use super::{Direction, Ending};
use std::fmt;

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Closes both sides.
    Cut(Cut),
    /// Takes a packet out of the stream.
    Drop(Drop),
    /// Delivers a packet behind its successor.
    Swap(Swap),
    /// Connects many times.
    Storm(Storm),
    /// Delivers later.
    Delay(Delay),
    /// Delivers slowly.
    Throttle(Throttle),
    /// Writes small pieces.
    Split(Split),
    /// Writes large pieces.
    Coalesce(Coalesce),
    /// Does not read.
    Stall(Stall),
    /// Reads and swallows.
    BlackHole(BlackHole),
    /// Lets nobody in.
    Refuse(Refuse),
}

/// One direction, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// That one.
    One(Direction),
    /// Both.
    Both,
}

const NAMES: [&str; 12] = [
    "cut",
    "abort-connect",
    "drop",
    "swap",
    "storm",
    "delay",
    "throttle",
    "split",
    "coalesce",
    "stall",
    "black-hole",
    "refuse",
];

impl Fault {
    /// A cut in order.
    pub fn cut() -> Self {
        Self::Cut(Cut { ending: Ending::Fin })
    }

    /// A cut by a reset.
    pub fn reset() -> Self {
        Self::Cut(Cut { ending: Ending::Rst })
    }

    /// The word that a rule begins with.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cut(_) => "cut",
            Self::Drop(_) => "drop",
            Self::Swap(_) => "swap",
            Self::Storm(_) => "storm",
            Self::Delay(_) => "delay",
            Self::Throttle(_) => "throttle",
            Self::Split(_) => "split",
            Self::Coalesce(_) => "coalesce",
            Self::Stall(_) => "stall",
            Self::BlackHole(_) => "black-hole",
            Self::Refuse(_) => "refuse",
        }
    }

    /// Whether it is in force for a while, rather than done at a packet.
    pub fn lasts(&self) -> bool {
        !matches!(self, Self::Cut(_) | Self::Drop(_) | Self::Swap(_) | Self::Storm(_))
    }

    /// Whether its packet stands directly behind its name.
    pub(super) fn names_its_packet(&self) -> bool {
        matches!(self, Self::Drop(_) | Self::Swap(_))
    }

    /// Whether a rule can say its numbers.
    pub(super) fn has_numbers_in_range(&self) -> bool {
        match self {
            Self::Storm(storm) => storm.has_numbers_in_range(),
            Self::Delay(delay) => delay.has_numbers_in_range(),
            Self::Throttle(throttle) => throttle.bytes_per_s > 0,
            Self::Split(split) => split.bytes > 0,
            Self::Coalesce(coalesce) => is_duration(coalesce.ms),
            Self::Cut(_)
            | Self::Drop(_)
            | Self::Swap(_)
            | Self::Stall(_)
            | Self::BlackHole(_)
            | Self::Refuse(_) => true,
        }
    }

    /// Sets how connections end, where it ends any.
    pub(super) fn end_by(&mut self, ending: Ending) -> bool {
        match self {
            Self::Cut(cut) => cut.ending = ending,
            Self::Refuse(Refuse { how: Refusal::Close(how) }) => *how = ending,
            _ => return false,
        }
        true
    }

    pub(super) fn parse(words: &mut Words) -> Result<Self, RuleError> {
        let word = words.expect("its fault", &NAMES)?;
        Ok(match word.text.as_str() {
            "cut" => Self::cut(),
            "drop" => Self::Drop(Drop),
            "swap" => Self::Swap(Swap),
            "storm" => Self::Storm(Storm::parse(words)?),
            "delay" => Self::Delay(Delay::parse(words)?),
            "throttle" => Self::Throttle(Throttle::parse(words)?),
            "split" => Self::Split(Split::parse(words)?),
            "coalesce" => Self::Coalesce(Coalesce::parse(words)?),
            "stall" => Self::Stall(Stall { way: Way::parse(words)? }),
            "black-hole" => Self::BlackHole(BlackHole { way: Way::parse(words)? }),
            "refuse" => Self::Refuse(Refuse::parse(words)),
            _ => return Err(word.unknown("fault", &NAMES)),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Cut(cut) => write!(f, " {}", cut.ending),
            Self::Drop(_) | Self::Swap(_) => Ok(()),
            Self::Storm(storm) => write!(f, " {storm}"),
            Self::Delay(delay) => write!(f, " {delay}"),
            Self::Throttle(throttle) => write!(f, " {throttle}"),
            Self::Split(split) => write!(f, " {split}"),
            Self::Coalesce(coalesce) => write!(f, " {coalesce}"),
            Self::Stall(stall) => write!(f, " {}", stall.way),
            Self::BlackHole(hole) => write!(f, " {}", hole.way),
            Self::Refuse(refuse) => write!(f, " {refuse}"),
        }
    }
}

impl Way {
    /// Whether this direction is concerned.
    pub fn has(self, direction: Direction) -> bool {
        match self {
            Self::One(one) => one == direction,
            Self::Both => true,
        }
    }

    fn parse(words: &mut Words) -> Result<Self, RuleError> {
        if words.take("both") { Ok(Self::Both) } else { direction(words).map(Self::One) }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(direction) => direction.fmt(f),
            Self::Both => f.write_str("both"),
        }
    }
}
