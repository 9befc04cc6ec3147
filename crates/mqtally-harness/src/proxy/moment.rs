//! At which packet a rule strikes.

use super::{Direction, PacketKind, Seen};
use std::fmt;

/// The packet at which a rule strikes: the `nth` that matches.
///
/// Packets are counted over all links in the rule's scope, from when the rule was added or struck last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Before, after or inside the packet.
    pub place: Place,
    /// Which way the packet goes.
    pub direction: Direction,
    /// Its type; any when absent.
    pub kind: Option<PacketKind>,
    /// Which one of those that match, from 1.
    pub nth: u32,
}

/// Where at its packet a rule strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The packet is not delivered.
    Before,
    /// It is delivered.
    After,
    /// So many of its bytes are delivered, and at least one is not.
    Inside(u32),
}

impl Moment {
    /// Whether it speaks of such packets.
    pub fn matches(&self, seen: &Seen) -> bool {
        self.direction == seen.direction && self.kind.is_none_or(|kind| kind == seen.kind)
    }

    /// `c2s PUBREL 3`, without the place.
    pub(super) fn write_packet(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.direction, self.kind.map_or("any", PacketKind::name))?;
        if self.nth != 1 { write!(f, " {}", self.nth) } else { Ok(()) }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.place {
            Place::Before => "before ",
            Place::After => "after ",
            Place::Inside(_) => "inside ",
        })?;
        self.write_packet(f)?;
        if let Place::Inside(bytes) = self.place { write!(f, " bytes={bytes}") } else { Ok(()) }
    }
}
