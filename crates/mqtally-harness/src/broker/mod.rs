//! The embedded broker: sockets, a clock and a disk around [`mqtally_proto::broker::Broker`].
//!
//! - [`serve`]: bind, run, stop; its [`Options`], what it says at the end ([`Served`]), why it fails ([`BrokerError`]).
//! - [`store`]: the durable state on disk.
//! - [`users`]: who may connect.
//!
//! One thread, the engine, owns the state machine and the store. It takes everything that waits, applies it, commits
//! all changes in one transaction, and only then lets the answers out. While the disk works the next batch collects:
//! there is no timer for batching. Each connection is a task that reads whatever is there and hands it over whole.
//!
//! Every queue is bounded. A connection has at most one read's worth of packets waiting for the engine and is not read
//! further until they are taken. Toward a client that does not read, QoS 0 messages are dropped above
//! [`Options::backlog_qos0_max`]; what else there can be is bounded by its window and its queue limit in bytes, and a
//! connection above both (answers to a flood that never reads) is closed.

mod connection;
mod engine;
mod inbox;
mod link;
mod listener;
mod peers;
pub mod store;
pub mod users;

pub use listener::serve;

pub use mqtally_proto::broker::Limits;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use store::{StoreError, Sync};
use users::Users;

/// How a broker is to run.
#[derive(Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the state is kept.
    pub durability: Durability,
    /// Who may connect; `None` lets everybody in.
    pub users: Option<Users>,
    /// What the protocol allows.
    pub limits: Limits,
    /// Connections open at once; one more is closed as soon as it is accepted.
    pub connections_max: usize,
    /// Bytes waiting for one connection above which QoS 0 messages for it are dropped.
    pub backlog_qos0_max: usize,
}

/// Where a broker keeps its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durability {
    /// In memory: everything ends with the process.
    Volatile,
    /// In a directory, created when absent; a commit counts when `sync` says so.
    Durable {
        /// The directory.
        directory: PathBuf,
        /// When a commit counts.
        sync: Sync,
    },
}

impl Options {
    /// Options with every limit at its default, and no users file.
    pub fn new(listen: SocketAddr, durability: Durability) -> Self {
        Self {
            listen,
            durability,
            users: None,
            limits: Limits::default(),
            connections_max: 10_000,
            backlog_qos0_max: 16 << 20,
        }
    }

    /// Bytes waiting for one connection above which it is closed. Lawful traffic stays below: QoS 0 up to its limit,
    /// and above QoS 0 no more than a session may hold.
    fn backlog_max(&self) -> usize {
        self.backlog_qos0_max.saturating_mul(2).saturating_add(self.limits.queued_bytes_max)
    }
}

/// What a broker did, told when it stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Served {
    /// Connections accepted.
    pub connections: u64,
    /// Packets received.
    pub packets_in: u64,
    /// Packets sent.
    pub packets_out: u64,
    /// QoS 0 messages dropped because a client did not read.
    pub qos0_dropped: u64,
    /// Transactions committed.
    pub commits: u64,
}

/// Why a broker did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The store refused: at the start, or while running, after which nothing more was acknowledged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine's thread could not be started.
    #[error("cannot start the engine: {0}")]
    Start(io::Error),
    /// The engine panicked; a fault of ours.
    #[error("the engine stopped unexpectedly")]
    Engine,
}
