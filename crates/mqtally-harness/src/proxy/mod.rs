//! The fault proxy: it sits between clients and a broker, understands MQTT both ways, and obeys rules.
//!
//! Start here:
//!
//! - [`Proxy`]: listens, forwards, and is the handle by which rules come and go while it runs.
//! - [`Rule`]: what to do, to which packet, of whom, how often; it reads and prints as text (`cut after c2s PUBREL 3`).
//! - [`fault`]: what can be done, one file a fault.
//! - [`Note`] and [`Strike`]: what the proxy saw and what it did.
//! - [`Tamper`]: a hook that may write other packets than it was given.
//!
//! Its core has no sockets and no clock: [`Rules`] decides, and a [`Relay`] carries the bytes of one connection from
//! either side to the other, late, slowly, in part or not at all. Bytes, ends and the time are arguments; what leaves
//! is polled. Around it stands a thin shell that owns the sockets. A simulation uses the core alone.
//!
//! With no rules the proxy is transparent to the byte. A packet that is unlawful passes as it came. Nothing is
//! random: a jitter follows from the number that its rule gives.
//!
//! Every buffer has a bound. A link holds up to [`BACKLOG_BYTES_MAX`] and one packet of up to
//! [`PACKET_BYTES_MAX`] in a direction; then its sender is not read any further. A larger packet is judged by its
//! beginning and streams through.

pub mod fault;
mod flow;
mod framing;
mod link;
mod listener;
mod moment;
mod note;
mod parse;
mod relay;
mod rule;
mod rules;
mod seen;
mod tamper;
mod words;

pub use listener::{Proxy, ProxyError, ProxyOptions};
pub use moment::{Moment, Place};
pub use note::{Did, Note, Strike, Watch};
pub use parse::RuleError;
pub use relay::{Exit, Relay};
pub use rule::{Rule, Scope, Times};
pub use rules::{Admission, Listed, RuleId, Rules, RulesError};
pub use seen::{PacketKind, Peer, Seen};
pub use tamper::{Tamper, TamperFactory, Tampered};

use std::fmt;

/// Bytes that wait in one direction of a link, above which its sender is not read.
pub const BACKLOG_BYTES_MAX: usize = 1 << 20;
/// The largest packet that is read whole before it goes on.
pub const PACKET_BYTES_MAX: usize = 1 << 20;

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the client to the broker; `c2s` in a rule.
    ToServer,
    /// From the broker to the client; `s2c` in a rule.
    ToClient,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ToServer, Self::ToClient];

    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ToServer => "c2s",
            Self::ToClient => "s2c",
        })
    }
}

/// How a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Ending {
    /// In order, by FIN; `fin` in a rule.
    #[default]
    Fin,
    /// By a reset, RST; `rst` in a rule.
    Rst,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fin => "fin",
            Self::Rst => "rst",
        })
    }
}
