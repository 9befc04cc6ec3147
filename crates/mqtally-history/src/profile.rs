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

impl Profile {
    /// What people type and read.
    pub fn name(self) -> &'static str {
        match self {
            Self::Volatile => "volatile",
            Self::Graceful => "graceful",
            Self::Durable => "durable",
            Self::PowerSafe => "power-safe",
        }
    }
}

/// What a broker was seen to keep, before the run. Loss of power is not among it: ending a process does not show what a
/// disk holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Measured {
    /// What it amounts to; none when it could not be measured.
    pub profile: Option<Profile>,
    /// In words: what was seen, or why nothing was.
    pub because: String,
    /// After it was asked to stop (SIGTERM) and started again.
    pub stopped: Option<Survival>,
    /// After it was killed (SIGKILL) and started again.
    pub killed: Option<Survival>,
}

/// What became of the messages that a broker had acknowledged when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Survival {
    /// How many it had acknowledged: QoS 1 and 2 for a session that was offline, and a retained one.
    pub acknowledged: u64,
    /// How many of them were gone.
    pub lost: u64,
    /// How long before the end the oldest of the lost ones had been acknowledged, milliseconds; 0 when none was lost.
    pub lost_ms: u64,
    /// Whether the retained message was among them.
    pub retained_lost: bool,
    /// Whether the broker said that it had the session.
    pub session_present: bool,
}

impl Measured {
    /// What the survivals amount to.
    pub fn of(stopped: Survival, killed: Survival) -> Self {
        let profile = match (stopped.lost, killed.lost) {
            (0, 0) => Profile::Durable,
            (0, _) => Profile::Graceful,
            _ => Profile::Volatile,
        };
        let because = format!("{}; {}", stopped.said("SIGTERM"), killed.said("kill -9"));
        Self { profile: Some(profile), because, stopped: Some(stopped), killed: Some(killed) }
    }

    /// Nothing could be measured.
    pub fn nothing(because: String) -> Self {
        Self { profile: None, because, stopped: None, killed: None }
    }
}

impl Survival {
    /// Two ends of the same kind, taken together.
    pub fn and(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            lost: self.lost + other.lost,
            lost_ms: self.lost_ms.max(other.lost_ms),
            retained_lost: self.retained_lost || other.retained_lost,
            session_present: self.session_present && other.session_present,
        }
    }

    fn said(self, end: &str) -> String {
        let Self { acknowledged, lost, lost_ms, .. } = self;
        match lost {
            0 => format!("all {acknowledged} acknowledged messages survived {end}"),
            _ if lost == acknowledged => {
                format!("all {acknowledged} acknowledged messages were lost with {end}")
            }
            1 if self.retained_lost => {
                format!("of {acknowledged} acknowledged messages the retained one alone was lost with {end}")
            }
            _ => format!(
                "{lost} of {acknowledged} acknowledged messages were lost with {end}, the oldest acknowledged \
                 {lost_ms} ms before"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check((stopped, killed): (u64, u64), expect: Profile) {
        let survival = |lost| Survival {
            acknowledged: 9,
            lost,
            lost_ms: 40,
            retained_lost: false,
            session_present: true,
        };
        assert_eq!(Measured::of(survival(stopped), survival(killed)).profile, Some(expect));
    }

    #[test]
    fn a_profile_is_what_was_seen_and_never_more() {
        check((0, 0), Profile::Durable);
        check((0, 1), Profile::Graceful);
        check((9, 9), Profile::Volatile);
        // Some brokers clear their store when they are asked to stop.
        check((9, 0), Profile::Volatile);
    }
}
