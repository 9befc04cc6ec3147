//! The durability that a broker declares. MQTT itself promises none (3.1.1 section 4.1).

/// What a broker claims to keep across its own end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// P0: nothing survives a restart.
    Volatile,
    /// P1: everything acknowledged survives a restart in order (SIGTERM).
    Graceful,
    /// P3: everything acknowledged survives SIGKILL.
    Durable,
    /// P4: everything acknowledged survives loss of power.
    PowerSafe,
}
