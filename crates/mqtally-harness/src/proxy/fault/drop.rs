//! `drop`: takes a packet out of a stream that goes on.
//!
//! MQTT runs over an ordered, lossless transport: no network does this, and whoever waits for ever for what is missing
//! is right. It is for robustness only, and what follows from it is worth a warning, never a broken promise.

/// Takes a packet out; which one is said by the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drop;
