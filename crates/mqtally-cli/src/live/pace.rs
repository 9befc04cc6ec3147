//! Rates out of counters, and latencies, over the last minutes, a point a second.

use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::Duration;

/// Points that are kept.
const POINTS_MAX: usize = 300;
/// Longer than that is as long as that: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// What a counter did: its growth a second, at each point.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<u64>,
    per_second: VecDeque<Option<f64>>,
}

impl Pace {
    pub(crate) const POINTS: usize = POINTS_MAX;

    /// The counter, so long after the last time.
    pub(crate) fn tick(&mut self, counter: u64, since: Duration) {
        let seconds = since.as_secs_f64().max(1e-3);
        let rate = self.last.map(|last| counter.saturating_sub(last) as f64 / seconds);
        self.last = Some(counter);
        push(&mut self.per_second, rate);
    }

    /// It could not be read.
    pub(crate) fn skip(&mut self) {
        push(&mut self.per_second, None);
    }

    pub(crate) fn points(&self) -> Vec<Option<f64>> {
        self.per_second.iter().copied().collect()
    }

    pub(crate) fn now(&self) -> Option<f64> {
        self.per_second.back().copied().flatten()
    }
}

/// Latencies, of each point and of all.
#[derive(Debug)]
pub(crate) struct Window {
    current: Histogram<u64>,
    all: Histogram<u64>,
    /// Median and 99th percentile, milliseconds.
    points: VecDeque<Option<[f64; 2]>>,
}

impl Default for Window {
    fn default() -> Self {
        Self { current: histogram(), all: histogram(), points: VecDeque::new() }
    }
}

impl Window {
    /// Takes one in.
    pub(crate) fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.current.saturating_record(us);
    }

    /// A point is over.
    pub(crate) fn tick(&mut self) {
        push(&mut self.points, quantiles_ms(&self.current));
        // Both have the same bounds.
        let _ = self.all.add(&self.current);
        self.current.reset();
    }

    /// At each point: the median (0) or the 99th percentile (1), milliseconds.
    pub(crate) fn points(&self, which: usize) -> Vec<Option<f64>> {
        self.points.iter().map(|point| point.map(|point| point[which])).collect()
    }

    /// Median and 99th percentile of all, milliseconds.
    pub(crate) fn overall_ms(&self) -> Option<[f64; 2]> {
        quantiles_ms(&self.all)
    }
}

fn quantiles_ms(histogram: &Histogram<u64>) -> Option<[f64; 2]> {
    (!histogram.is_empty()).then(|| [0.5, 0.99].map(|it| histogram.value_at_quantile(it) as f64 / 1e3))
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 2).expect("the bounds are constants")
}

fn push<T>(points: &mut VecDeque<T>, point: T) {
    if points.len() == POINTS_MAX {
        points.pop_front();
    }
    points.push_back(point);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_what_a_counter_grew_by_in_a_second() {
        let mut pace = Pace::default();
        for (counter, ms) in [(100, 1_000), (150, 500), (150, 1_000), (40, 1_000)] {
            pace.tick(counter, Duration::from_millis(ms));
        }
        pace.skip();
        assert_eq!(pace.points(), [None, Some(100.0), Some(0.0), Some(0.0), None]);
        assert_eq!(pace.now(), None);
    }

    #[test]
    fn a_point_has_its_own_latencies_and_all_have_theirs() {
        let mut window = Window::default();
        window.record(Duration::from_millis(10));
        window.tick();
        window.tick();
        window.record(Duration::from_secs(1_000_000));
        window.tick();
        let rounded =
            |points: Vec<Option<f64>>| points.into_iter().map(|it| it.map(f64::round)).collect::<Vec<_>>();
        assert_eq!(rounded(window.points(0))[..2], [Some(10.0), None]);
        let overall = window.overall_ms().unwrap();
        assert!(overall[0] < 11.0 && overall[1] >= 3_600_000.0, "{overall:?}");
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let (mut pace, mut window) = (Pace::default(), Window::default());
        for counter in 0..1_000 {
            pace.tick(counter, Duration::from_secs(1));
            window.tick();
        }
        assert_eq!((pace.points().len(), window.points(0).len()), (POINTS_MAX, POINTS_MAX));
    }
}
