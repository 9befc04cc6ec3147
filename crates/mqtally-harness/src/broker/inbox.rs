//! What waits for the engine.
//!
//! Bounded by its senders: a connection adds its next packets only after the engine took its last ones, and every
//! other kind of input comes at most once or twice a connection.

use super::link::Link;
use mqtally_proto::broker::ConnectionId;
use mqtally_proto::packet::{DecodeError, Packet, Version};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Most packets in a batch; the input that reaches it is still taken whole.
const BATCH_PACKETS_MAX: usize = 1_024;
/// Most bytes in a batch, as they came from the sockets; the input that reaches it is still taken whole.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// One thing that happened.
#[derive(Debug)]
pub(super) enum Input {
    /// A connection was accepted.
    Opened(ConnectionId, Arc<Link>),
    /// All whole packets of one read, and its size in bytes.
    Packets(ConnectionId, Vec<Packet>, usize),
    /// What came next was no packet; the answer has to be in this version.
    Malformed(ConnectionId, Option<Version>, DecodeError),
    /// The connection is gone.
    Closed(ConnectionId),
    /// Credentials were checked.
    Authenticated(ConnectionId, bool),
    /// Stop after what is already waiting.
    Shutdown,
}

impl Input {
    fn weight(&self) -> (usize, usize) {
        match self {
            Self::Packets(_, packets, bytes) => (packets.len(), *bytes),
            _ => (1, 0),
        }
    }
}

/// The engine's queue.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inputs: VecDeque<Input>,
    engine_waits: bool,
}

impl Inbox {
    /// Adds an input and wakes the engine if it waits.
    pub(super) fn push(&self, input: Input) {
        let mut state = self.lock();
        state.inputs.push_back(input);
        let wake = std::mem::take(&mut state.engine_waits);
        drop(state);
        if wake {
            self.filled.notify_one();
        }
    }

    /// Moves what waits, up to a batch, into `batch`; waits for it at most `timeout`.
    pub(super) fn take(&self, timeout: Option<Duration>, batch: &mut Vec<Input>) {
        let mut state = self.lock();
        if state.inputs.is_empty() {
            state = self.wait(state, timeout);
        }
        let (mut packets, mut bytes) = (0, 0);
        while packets < BATCH_PACKETS_MAX && bytes < BATCH_BYTES_MAX {
            let Some(input) = state.inputs.pop_front() else { break };
            let weight = input.weight();
            packets += weight.0;
            bytes += weight.1;
            batch.push(input);
        }
    }

    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, State> {
        state.engine_waits = true;
        let idle = |state: &mut State| state.inputs.is_empty();
        let mut state = match timeout {
            None => self.filled.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            Some(timeout) => {
                let waited = self.filled.wait_timeout_while(state, timeout, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.engine_waits = false;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave the queue half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
