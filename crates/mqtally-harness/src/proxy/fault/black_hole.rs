//! `black-hole`: reads and swallows while the sockets stay open, as behind a router that forgot the connection.
//!
//! The end of a side is swallowed too: the other one has a half-open connection. No network goes on with a stream of
//! which a part is missing, so a link that lost bytes is reset when the hole closes; `stall` is the fault after which
//! everything arrives.

use super::Way;

/// Reads and swallows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlackHole {
    /// What vanishes.
    pub way: Way,
}
