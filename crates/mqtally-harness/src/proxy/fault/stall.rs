//! `stall`: does not read the sender, whose window fills: a slow consumer, or a network that delivers later.
//!
//! Nothing is lost: when it is over, all of it arrives. While it lasts, the sender's end is not seen either.

use super::Way;

/// Does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Whose packets wait.
    pub way: Way,
}
