//! When to try again: exponential backoff with jitter. Pure: the random number comes in.

use std::time::Duration;

/// How often and how soon a failed delivery is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts, the first included, before a message becomes a dead letter; at least 1.
    pub attempts_max: u32,
    /// Delay after the first failure; doubled for each further one.
    pub delay_ms: u64,
    /// No delay is longer, unless the handler itself asks for it.
    pub delay_ms_max: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts_max: 6, delay_ms: 2_000, delay_ms_max: 300_000 }
    }
}

impl RetryPolicy {
    /// The delay after `attempts` failed attempts: between half and the whole of the doubled delay, by `random`.
    /// Failures of one moment are so spread over time.
    pub fn delay(&self, attempts: u32, random: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(63);
        let whole = self.delay_ms.saturating_mul(1 << doublings).min(self.delay_ms_max);
        let half = whole / 2;
        let jitter = u128::from(whole - half) * u128::from(random) / u128::from(u32::MAX);
        Duration::from_millis(half + u64::try_from(jitter).unwrap_or(0))
    }

    /// Whether `attempts` failed attempts were the last ones.
    pub fn is_exhausted(&self, attempts: u32) -> bool {
        attempts >= self.attempts_max.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_its_limit_and_jitter_keeps_at_least_half() {
        let policy = RetryPolicy { attempts_max: 5, delay_ms: 100, delay_ms_max: 1_000 };
        let check = |attempts, random, expect_ms| {
            assert_eq!(policy.delay(attempts, random).as_millis(), expect_ms, "{attempts} {random}");
        };
        check(1, u32::MAX, 100);
        check(1, 0, 50);
        check(2, u32::MAX, 200);
        check(4, u32::MAX, 800);
        check(5, u32::MAX, 1_000);
        check(u32::MAX, u32::MAX, 1_000);
        check(3, u32::MAX / 2, 299);
        assert!(!policy.is_exhausted(4) && policy.is_exhausted(5));
        assert!(RetryPolicy { attempts_max: 0, ..policy }.is_exhausted(1));
    }
}
