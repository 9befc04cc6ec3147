//! The time that expiry and retries follow.
//!
//! Wall clocks jump: a machine boots in 1970, then the network corrects it. A key purged by such a jump lets a
//! duplicate through. So a store has a clock of its own: it starts at the wall clock's time, advances by elapsed time
//! while the store is open, and counts the time between two openings only up to a bound.

use mqtally_proto::Time;
use std::time::{Duration, Instant, SystemTime};

/// Where time comes from.
pub trait TimeSource: Send {
    /// The wall clock, which may jump.
    fn wall(&self) -> Time;
    /// Elapsed time from a fixed point; never jumps.
    fn elapsed(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemTimeSource {
    start: Instant,
}

impl Default for SystemTimeSource {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl TimeSource for SystemTimeSource {
    fn wall(&self) -> Time {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Time::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A long time as people say it, in its largest unit of which there are at least two, rounded down: `9 days`, `26 hours`.
///
/// ```
/// use mqtally::store::clock::age;
/// use std::time::Duration;
/// assert_eq!([47, 48].map(|hours| age(Duration::from_secs(hours * 3_600))), ["47 hours", "2 days"]);
/// ```
pub fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds >= 2 * unit).unwrap_or((1, "second"));
    let plural = if seconds / unit == 1 { "" } else { "s" };
    format!("{} {name}{plural}", seconds / unit)
}

/// A store's own clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreClock {
    base: Time,
    origin: Duration,
}

/// What a store keeps of its clock: its own time and the wall's at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) clock: Time,
    pub(crate) wall: Time,
}

impl StoreClock {
    /// The clock of a new store.
    pub(crate) fn start(source: &dyn TimeSource) -> Self {
        Self { base: source.wall(), origin: source.elapsed() }
    }

    /// The clock of a store that was closed at `saved`: the time since counts up to `downtime_ms_max`.
    pub(crate) fn resume(saved: Saved, source: &dyn TimeSource, downtime_ms_max: u64) -> Self {
        let downtime_ms = source.wall().ms_since(saved.wall).min(downtime_ms_max);
        Self { base: saved.clock.plus_ms(downtime_ms), origin: source.elapsed() }
    }

    pub(crate) fn now(&self, source: &dyn TimeSource) -> Time {
        let elapsed = source.elapsed().saturating_sub(self.origin);
        self.base.plus_ms(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(u64, u64);

    impl TimeSource for Fake {
        fn wall(&self) -> Time {
            Time::from_ms(self.0)
        }
        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.1)
        }
    }

    #[test]
    fn a_jump_of_the_wall_clock_does_not_move_a_running_store() {
        let clock = StoreClock::start(&Fake(1_000, 50));
        assert_eq!(clock.now(&Fake(9_999_999, 60)), Time::from_ms(1_010));
        assert_eq!(clock.now(&Fake(0, 70)), Time::from_ms(1_020));
    }

    #[test]
    fn time_between_two_openings_counts_up_to_its_bound_and_never_backward() {
        let saved = Saved { clock: Time::from_ms(5_000), wall: Time::from_ms(1_000) };
        let reopened_at = |wall| StoreClock::resume(saved, &Fake(wall, 7), 600).now(&Fake(wall, 7)).as_ms();
        assert_eq!(reopened_at(1_200), 5_200);
        assert_eq!(reopened_at(9_999_999), 5_600);
        assert_eq!(reopened_at(3), 5_000);
    }
}
