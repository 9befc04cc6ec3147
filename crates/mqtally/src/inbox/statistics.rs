//! What the inbox counts.

/// Counters since the store was made, kept in the same transaction as what they count, and what is in it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Statistics {
    /// Messages that arrived, duplicates included.
    pub received: u64,
    /// Duplicates that the broker sent again: with DUP, or in an open QoS 2 exchange.
    pub redelivered: u64,
    /// Duplicates that the publisher sent again.
    pub published_again: u64,
    /// Duplicates of a replay.
    pub replayed_again: u64,
    /// Messages whose key was known with another body.
    pub conflicts: u64,
    /// Attempts that were scheduled after a failure.
    pub retries: u64,
    /// Messages done.
    pub processed: u64,
    /// Attempts that failed; expired leases and deaths of the process included.
    pub failed: u64,
    /// Messages that became dead letters.
    pub dead_lettered: u64,
    /// Rows whose checksum did not hold.
    pub damaged: u64,
    /// Dead letters that came back by replay.
    pub replayed: u64,
    /// How often the broker had lost the session.
    pub session_losses: u64,
    /// Messages in the store that are neither done nor dead.
    pub unsettled: u64,
    /// Of these, known to wait for a retry.
    pub waiting: u64,
    /// Of these, in a handler's hands.
    pub leased: u64,
    /// Dead letters in the store.
    pub dead: u64,
    /// Dedup keys in the retention window.
    pub keys: u64,
    /// Memory of their index.
    pub key_bytes: u64,
    /// QoS 2 exchanges that wait for PUBREL.
    pub exchanges: u64,
    /// Age of the oldest unsettled message by the wall clock, in milliseconds.
    pub oldest_unsettled_ms: Option<u64>,
    /// The same of the dead letter that arrived first.
    pub oldest_dead_ms: Option<u64>,
}
