//! `cut`: closes both sides of a link at a packet.
//!
//! What was before the packet has been delivered, and nothing after it is; what the other direction still held in the
//! proxy is lost, as it is when a network breaks.

use super::super::Ending;

/// How a link is cut; where is said by the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// By FIN or RST, toward both sides.
    pub ending: Ending,
}
