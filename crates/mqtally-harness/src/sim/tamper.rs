//! A hook between the broker and its clients, so that a broker, or a client, can be made to break one promise.

use crate::proxy::Direction;
use mqtally_proto::packet::{Packet, Version};
use std::time::Duration;

/// Whom a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toward {
    /// A client sent it.
    Broker,
    /// The broker sent it.
    Client,
}

impl Toward {
    pub(super) fn direction(self) -> Direction {
        match self {
            Self::Broker => Direction::ToServer,
            Self::Client => Direction::ToClient,
        }
    }

    pub(super) fn opposite(self) -> Self {
        match self {
            Self::Broker => Self::Client,
            Self::Client => Self::Broker,
        }
    }
}

/// Where and when a packet passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crossing<'a> {
    /// The client at the other end; its name begins with `pub` or `sub`.
    pub client: &'a str,
    /// The version that it speaks.
    pub version: Version,
    /// Which connection of this client it is, counted from 1 over the whole run; 0 for one that the proxy makes in a
    /// storm, of which the client knows nothing.
    pub connection: u32,
    /// Its direction.
    pub toward: Toward,
    /// Virtual time since the run began.
    pub at: Duration,
}

/// What goes on in place of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passed {
    /// To the one it was for, in this order.
    pub onward: Vec<Packet>,
    /// To the one it came from, as if the other had answered; what is sent back is not shown to the hook again.
    pub back: Vec<Packet>,
}

impl Passed {
    /// One packet goes on as it is.
    pub fn on(packet: Packet) -> Self {
        Self { onward: vec![packet], back: Vec::new() }
    }

    /// These go on.
    pub fn all(onward: Vec<Packet>) -> Self {
        Self { onward, back: Vec::new() }
    }

    /// Nothing goes on, and this comes back.
    pub fn answer(packet: Packet) -> Self {
        Self { onward: Vec::new(), back: vec![packet] }
    }
}

/// Sees every packet that the broker takes or gives, and decides what becomes of it.
///
/// It stands at the broker's door: what it does to the broker's packets the client takes for the broker's doing, and
/// the history shows it as such. A packet that cannot be encoded for its client is dropped. The implementor keeps to
/// what it is given: with a clock or a random source of its own the same seed would not give the same bytes.
pub trait Tamper {
    /// A packet passes.
    fn pass(&mut self, crossing: &Crossing<'_>, packet: Packet) -> Passed;
}

/// Leaves everything as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Untouched;

impl Tamper for Untouched {
    fn pass(&mut self, _: &Crossing<'_>, packet: Packet) -> Passed {
        Passed::on(packet)
    }
}
