//! What happens to a subscriber that a person may want to know.

use crate::store::clock::age;
use mqtally_proto::Time;
use mqtally_proto::packet::Qos;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Is told each [`Notice`]. It runs inside the loop: it must not block.
pub type Observer = Arc<dyn Fn(&Notice) + Send + Sync>;

/// Is told each [`Settled`]. It runs inside the loop: it must not block.
pub type SettledObserver = Arc<dyn Fn(&Settled) + Send + Sync>;

/// A delivery whose outcome is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Wall clock at the message's reception.
    pub received_at: Time,
    /// How long the handler took for this attempt.
    pub handled: Duration,
    /// The message is done or dead; otherwise there is another attempt.
    pub ends: bool,
}

/// Something that happened; as text, one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The store was repaired when it was opened.
    Repaired(String),
    /// Dedup keys are forgotten before the broker stops sending their messages again.
    WindowTooShort {
        /// How long keys are kept.
        window: Duration,
        /// How long the broker keeps the session; `None` is for ever.
        session_expiry: Option<Duration>,
    },
    /// Dead letters are kept for longer than the keys of their messages.
    DeadLettersOutliveWindow {
        /// How many there are.
        dead: u64,
        /// How long ago the first of them was received.
        oldest: Duration,
        /// How long keys are kept.
        window: Duration,
    },
    /// The broker keeps the session for another time than it was asked to.
    OtherExpiry {
        /// What was asked for.
        asked: Duration,
        /// For how long it keeps it.
        granted: Duration,
    },
    /// The connection is up.
    Connected {
        /// Whether the broker had kept the session.
        session_present: bool,
    },
    /// All subscriptions are granted.
    Subscribed {
        /// How many.
        filters: usize,
    },
    /// The broker kept a session that this store knows nothing about.
    SessionOfAnotherStore,
    /// The broker had lost the session: messages published meanwhile may be missing.
    SessionLost {
        /// QoS 2 exchanges that were open.
        exchanges: u64,
    },
    /// The broker granted less than was asked for.
    GrantedLess {
        /// Topic filter.
        filter: String,
        /// What was asked for.
        asked: Qos,
        /// What was granted.
        granted: u8,
    },
    /// No connection, or none any more; the next attempt comes after the delay.
    Disconnected {
        /// Why.
        why: String,
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// Nothing is read from here on.
    Paused(Pause),
    /// Reading goes on.
    Resumed,
    /// Handlers that had not finished at the deadline; their messages are handed out again by the next run.
    Unfinished(usize),
}

/// Why the socket is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pause {
    /// Enough was read that is not stored yet.
    Credit,
    /// Enough is stored that is not settled yet.
    Backlog(u64),
    /// The store cannot be written.
    Store(Arc<str>),
    /// The end is near.
    Stopping,
}

impl Pause {
    /// Whether it is of the everyday kind that comes and goes many times a second.
    pub fn is_brief(&self) -> bool {
        matches!(self, Self::Credit | Self::Stopping)
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repaired(what) => f.write_str(what),
            Self::WindowTooShort { window, session_expiry: Some(expiry) } => write!(
                f,
                "dedup keys are kept for {window} and the broker keeps the session for {expiry}: a message that \
                 comes again after {window} is processed again; make --dedup-window at least as long",
                window = short(*window),
                expiry = short(*expiry),
            ),
            Self::WindowTooShort { window, session_expiry: None } => write!(
                f,
                "dedup keys are kept for {window} and the broker keeps the session for ever: a message that comes \
                 again after {window} is processed again; set --session-expiry",
                window = short(*window),
            ),
            Self::DeadLettersOutliveWindow { dead, oldest, window } => write!(
                f,
                "the oldest dead letter, of {dead}, was received {oldest} ago and dedup keys are kept for {window}: a copy of it that \
                 comes now is processed, and its replay as well; replay or purge what is older than {window}, or make \
                 --dedup-window longer",
                oldest = age(*oldest),
                window = short(*window),
            ),
            Self::OtherExpiry { asked, granted } => write!(
                f,
                "the broker keeps the session for {granted}, {asked} was asked for: what is published while we are \
                 away for longer than {granted} is lost",
                granted = short(*granted),
                asked = short(*asked),
            ),
            Self::Connected { session_present: true } => f.write_str("connected; the broker kept the session"),
            Self::Connected { session_present: false } => f.write_str("connected; the session is new"),
            Self::Subscribed { filters: 1 } => f.write_str("subscribed to 1 filter"),
            Self::Subscribed { filters } => write!(f, "subscribed to {filters} filters"),
            Self::SessionOfAnotherStore => f.write_str(
                "the broker kept a session of this client id that this store knows nothing of: what an earlier \
                 store had processed and not acknowledged is processed again",
            ),
            Self::SessionLost { exchanges } => write!(
                f,
                "the broker had lost the session ({exchanges} QoS 2 exchanges were open): subscribed again; \
                 messages published meanwhile may be missing"
            ),
            Self::GrantedLess { filter, asked, granted } => {
                write!(f, "the broker granted QoS {granted} for {filter:?}, {asked} was asked for")
            }
            Self::Disconnected { why, retry_in } => {
                write!(f, "{why}; connecting again in {:.1} s", retry_in.as_secs_f64())
            }
            Self::Paused(pause) => write!(f, "not reading: {pause}"),
            Self::Resumed => f.write_str("reading again"),
            Self::Unfinished(count) => {
                let deliveries = if *count == 1 { "delivery" } else { "deliveries" };
                write!(
                    f,
                    "not finished at the deadline: {count} {deliveries}; the next run hands them out again"
                )
            }
        }
    }
}

/// A time in its largest whole unit, as it may have been typed: `7d`, `90s`, `1500ms`.
fn short(time: Duration) -> String {
    let ms = time.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.into_iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credit => f.write_str("what was read is not stored yet"),
            Self::Backlog(unsettled) => write!(f, "{unsettled} messages are stored and not settled"),
            Self::Store(why) => write!(f, "the store cannot be written: {why}"),
            Self::Stopping => f.write_str("stopping"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_in_its_largest_whole_unit() {
        let check = |ms, expect: &str| assert_eq!(short(Duration::from_millis(ms)), expect);
        check(604_800_000, "7d");
        check(5_400_000, "90m");
        check(3_601_000, "3601s");
        check(1_500, "1500ms");
        check(0, "0ms");
    }
}
