//! The test bench: run a scenario against real or embedded parts.
//!
//! Start here:
//!
//! - [`broker`]: a listener and a store around the broker core of `mqtally-proto`.

pub mod broker;
