//! `swap`: delivers a packet behind the next one of its direction.
//!
//! The transport keeps the order, so this makes one side an unlawful peer (acknowledgements out of order, say). It is
//! for robustness only, and what follows from it is worth a warning, never a broken promise.

/// Exchanges a packet with its successor; which one is said by the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swap;
