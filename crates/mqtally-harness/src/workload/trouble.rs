//! Why a stage could not go on.

use crate::process::ProcessError;
use crate::proxy::ProxyError;
use mqtally_proto::packet::ReasonCode;

/// Why a stage could not go on, or did not drain. It decides nothing about promises: the history does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error("{client}: the broker cannot be reached: {error}")]
    Unreachable { client: String, error: String },
    #[error("{client}: the broker refused the connection: {reason}")]
    Refused { client: String, reason: ReasonCode },
    #[error("{client}: no {awaited} within {seconds} s")]
    Silent { client: String, awaited: &'static str, seconds: u64 },
    #[error("{client}: the broker closed the connection while {awaited} was awaited")]
    Closed { client: String, awaited: &'static str },
    #[error("{client}: {connections} connections in a row, and no {awaited}")]
    Fruitless { client: String, awaited: &'static str, connections: u64 },
    #[error("{client}: the connection failed: {error}")]
    Failed { client: String, error: String },
    #[error("{client}: the broker did not accept {what}: {reason}")]
    NotAccepted { client: String, what: &'static str, reason: ReasonCode },
    #[error("{missing} awaited deliveries did not arrive; the first is message {sequence} of {client}")]
    Undrained { missing: usize, client: String, sequence: u64 },
    #[error("{client} still waits for {pending} acknowledgements after {seconds} s")]
    Unacknowledged { client: String, pending: u64, seconds: u64 },
    /// A program under test cannot be judged any further.
    #[error("{0}")]
    Subject(String),
    #[error("'{strike}' never struck: {why}")]
    NotStruck { strike: String, why: String },
    #[error("the fault proxy did not start: {0}")]
    Proxy(#[from] ProxyError),
    #[error(transparent)]
    Broker(#[from] ProcessError),
}
