//! When to connect again, and when not to. Pure: the random number comes in.

use std::time::Duration;

const DELAY: Duration = Duration::from_millis(500);
const DELAY_MAX: Duration = Duration::from_secs(30);
/// A connection that the broker ends sooner than this after accepting it ended early.
const EARLY: Duration = Duration::from_secs(5);
/// A connection that lived this long makes all failures before it forgotten.
const SETTLED: Duration = Duration::from_secs(30);
/// Early ends in a row after which somebody else must be using our client id, or the broker does not want us.
pub(super) const EARLY_ENDS_MAX: u32 = 4;

/// What became of the connections so far.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    failures: u32,
    early_ends: u32,
}

impl Reconnect {
    /// No connection came about. Until the next attempt: between half and the whole of the doubled delay.
    pub(super) fn failed(&mut self, random: f64) -> Duration {
        let whole = DELAY.saturating_mul(1 << self.failures.min(16)).min(DELAY_MAX);
        self.failures += 1;
        whole / 2 + whole.mul_f64(random.clamp(0.0, 1.0) / 2.0)
    }

    /// A connection ended that was accepted `lived` ago. `None` when it is time to give up.
    pub(super) fn ended(&mut self, lived: Duration, by_peer: bool, random: f64) -> Option<Duration> {
        if lived >= SETTLED {
            *self = Self::default();
        }
        self.early_ends = if by_peer && lived < EARLY { self.early_ends + 1 } else { 0 };
        (self.early_ends < EARLY_ENDS_MAX).then(|| self.failed(random))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_delay_doubles_up_to_its_limit_and_jitter_keeps_at_least_half() {
        let mut reconnect = Reconnect::default();
        let delays: Vec<_> = (0..9).map(|_| reconnect.failed(1.0).as_millis()).collect();
        assert_eq!(delays, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(reconnect.failed(0.0), DELAY_MAX / 2);
        assert_eq!(reconnect.ended(SETTLED, true, 1.0), Some(DELAY), "a long connection settles it");
    }

    #[test]
    fn only_early_ends_by_the_broker_in_a_row_make_it_give_up() {
        let mut reconnect = Reconnect::default();
        let mut check = |lived, by_peer, goes_on| {
            assert_eq!(reconnect.ended(lived, by_peer, 0.5).is_some(), goes_on);
        };
        (0..3).for_each(|_| check(SECOND, true, true));
        check(SECOND * 6, true, true);
        (0..3).for_each(|_| check(SECOND, true, true));
        check(SECOND, false, true);
        (0..3).for_each(|_| check(SECOND, true, true));
        check(SECOND, true, false);
    }
}
