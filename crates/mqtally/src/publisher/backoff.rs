//! How long to wait before the next attempt to connect. Pure: the randomness comes in.

use std::time::Duration;

/// Pauses that double from the first to the longest, each shortened by up to half at random, so that many publishers
/// that lost the same broker do not come back at the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// First pause.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
}

impl Default for Backoff {
    /// From 100 ms to 30 s.
    fn default() -> Self {
        Self { first: Duration::from_millis(100), longest: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The pause after `failures` attempts that failed in a row; `random` is in 0..1.
    pub fn pause(&self, failures: u32, random: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(31));
        doubled.min(self.longest).mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_shortened_by_half_at_most() {
        let backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1) };
        let check = |failures, random, expect_ms| {
            assert_eq!(
                backoff.pause(failures, random),
                Duration::from_millis(expect_ms),
                "{failures} {random}"
            );
        };
        check(1, 0.0, 100);
        check(1, 1.0, 50);
        check(2, 0.0, 200);
        check(4, 0.5, 600);
        check(5, 0.0, 1_000);
        check(u32::MAX, 0.0, 1_000);
    }
}
