//! What the proxy tells its owner.

use super::{Direction, Ending, Peer, Rule, RuleId, Seen};
use mqtally_history::event::Closing;
use mqtally_proto::Time;
use mqtally_proto::packet::Packet;
use std::fmt;
use std::sync::Arc;

/// Told of everything that happens, at once and in order, before its effect leaves the proxy.
///
/// It is called with the rules locked: it must return soon and must not call the proxy.
pub type Watch = Arc<dyn Fn(Time, &Note<'_>) + Send + Sync>;

/// Something that happened.
#[derive(Debug)]
pub enum Note<'a> {
    /// A link was opened, with the broker too.
    Opened(&'a Peer),
    /// A connection was closed as soon as it was accepted.
    Refused,
    /// The broker could not be reached; the client's connection was reset.
    Unreachable {
        /// Whose.
        peer: &'a Peer,
        /// Why not.
        reason: String,
    },
    /// A packet came.
    Packet {
        /// On which link.
        peer: &'a Peer,
        /// The packet in short.
        seen: &'a Seen,
        /// The packet, where it could be understood and was read whole.
        packet: Option<&'a Packet>,
        /// What was done to it, before what lasts on the link is done.
        did: Did,
    },
    /// Bytes came that are no packet, after which nothing in this direction is.
    Opaque {
        /// On which link.
        peer: &'a Peer,
        /// Which way.
        direction: Direction,
        /// How many.
        bytes: usize,
    },
    /// A rule struck.
    Strike(&'a Strike),
    /// A link is over.
    Closed {
        /// Which.
        peer: &'a Peer,
        /// Ended by us, or by its sides.
        by: Option<Ending>,
    },
}

/// A rule that struck: once for each packet, link or connection that it did something to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// When.
    pub at: Time,
    /// Which rule; `None` for a cut by hand.
    pub rule: Option<RuleId>,
    /// A name for lists of faults, such as `cut-before`.
    pub kind: &'static str,
    /// The rule as text, for whoever wants to do it again.
    pub text: String,
    /// Whether a network or a peer could do this; if not, it is for robustness, and worth a warning at most.
    pub is_lawful: bool,
    /// Whom it struck; `None` where that is not known yet.
    pub peer: Option<Peer>,
}

impl Strike {
    pub(super) fn new(at: Time, id: RuleId, rule: &Rule, peer: Option<&Peer>) -> Self {
        Self {
            at,
            rule: Some(id),
            kind: rule.kind(),
            text: rule.to_string(),
            is_lawful: rule.is_lawful(),
            peer: peer.cloned(),
        }
    }

    /// How the end of its client's connection is recorded, whatever the client sees of it: it is our doing, and the
    /// broker must not be accused of it.
    pub(crate) fn ends_as(&self) -> Option<Closing> {
        match self.kind {
            kind if kind.starts_with("cut") || kind == "aborted-connect" => Some(Closing::Rst),
            "black-hole" => Some(Closing::Vanished),
            _ => None,
        }
    }
}

/// What was done to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// It goes on.
    Pass,
    /// It goes on, and then the link is cut.
    CutAfter,
    /// It does not go on: the link is cut before it.
    CutBefore,
    /// A part of it goes on, and then the link is cut.
    CutInside,
    /// It is taken out of the stream.
    Drop,
    /// It goes on after its successor.
    Swap,
    /// The black hole took it, or the link was cut already.
    Swallow,
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::CutAfter => "cut-after",
            Self::CutBefore => "cut-before",
            Self::CutInside => "cut-inside",
            Self::Drop => "drop",
            Self::Swap => "swap",
            Self::Swallow => "swallow",
        })
    }
}
