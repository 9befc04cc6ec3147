//! MQTT 3.1.1 and 5.0 without I/O. The version is data: one model, one codec, one state machine a role.
//!
//! Start here:
//!
//! - [`packet`]: the 15 control packets, their properties and reason codes; strict decoding for endpoints and
//!   lenient reading for whoever judges the wire.
//! - [`topic`]: topic names and filters: validation and matching.
//! - [`inflight`]: packet ids and the QoS 1 and 2 handshakes, shared by both roles.
//! - [`session`]: the client's side of a session.
//! - [`broker`]: the server's side: sessions, subscriptions, retained messages, routing, expiry.
//!
//! Nothing here reads a clock, a random source, a file or a socket. Time comes in as [`Time`], bytes come in as
//! buffers, and what has to be sent or stored is drained by the caller, who decides when it happens.

pub mod broker;
pub mod inflight;
pub mod packet;
pub mod session;
pub mod topic;

/// A point in time: milliseconds since the Unix epoch, on a clock of the caller's that never goes backward.
///
/// Sessions outlive the process, so this is wall-clock based; the caller makes it monotonic.
///
/// ```
/// use mqtally_proto::Time;
/// assert_eq!(Time::from_ms(1_000).plus_ms(500), Time::from_ms(1_500));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The point `ms` milliseconds after the Unix epoch.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_ms(self) -> u64 {
        self.0
    }

    /// This point and `ms` milliseconds; saturates at the end of time.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This point and `seconds`; saturates at the end of time.
    #[must_use]
    pub const fn plus_secs(self, seconds: u64) -> Self {
        self.plus_ms(seconds.saturating_mul(1_000))
    }

    /// Milliseconds from `earlier` to this point, zero when `earlier` is later.
    pub const fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
