//! Sparklines: what happened when, in a few lines of a terminal.

use super::prose::title;
use super::style::{BAD, DIM, Look};
use super::words::{count, duration, milliseconds};
use mqtally_history::timeline::{Bucket, Timeline};

/// Eighths of a character's height.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const NAMES: usize = 14;
const NUMBERS: usize = 18;
const COLUMNS_MAX: usize = 80;

/// Rates, latency and faults over the time of the run; nothing when there is nothing to see.
pub(super) fn section(timeline: &Timeline, look: Look) -> String {
    let columns = look.width.saturating_sub(NAMES + NUMBERS + 6).clamp(10, COLUMNS_MAX);
    let Some(stretches) = Stretches::of(timeline, columns) else { return String::new() };
    let about = format!("one character is {}", duration(stretches.width_ns / 1_000_000));
    let rate = |number: f64| format!("≤ {}/s", count(number as u64));
    let time = |us: f64| format!("≤ {} ms", milliseconds(us as u64));
    let line = |name: &str, sparks: String, number: String| {
        format!("  {name:<NAMES$}  {sparks}  {}\n", look.paint(DIM, &number))
    };
    let mut text = title(look, "Over time", &about);
    for (name, values, unit) in [
        ("published", stretches.rates(|it| it.published), &rate as &dyn Fn(f64) -> String),
        ("delivered", stretches.rates(|it| it.delivered), &rate),
        ("acked, p99", stretches.slowest(), &time),
    ] {
        let highest = values.iter().copied().fold(0.0, f64::max);
        text += &line(name, sparks(&values, highest), unit(highest));
    }
    let faults = stretches.faults(timeline);
    if faults.contains(['│', '█']) {
        text += &line("faults", look.paint(BAD, &faults), "│ fault  █ away".to_owned());
    }
    text
}

/// The run in as many stretches as there are characters.
struct Stretches<'a> {
    width_ns: u64,
    buckets: Vec<&'a [Bucket]>,
}

impl<'a> Stretches<'a> {
    fn of(timeline: &'a Timeline, columns: usize) -> Option<Stretches<'a>> {
        let all = timeline.buckets();
        let per_column = all.len().div_ceil(columns).max(1);
        let width_ns = timeline.bucket_ns() * per_column as u64;
        // One stretch has no shape.
        (all.len() > per_column).then(|| Stretches { width_ns, buckets: all.chunks(per_column).collect() })
    }

    #[expect(clippy::cast_precision_loss, reason = "eight heights are shown")]
    fn rates(&self, of: fn(&Bucket) -> u64) -> Vec<f64> {
        let seconds = self.width_ns as f64 / 1e9;
        self.buckets.iter().map(|buckets| buckets.iter().map(of).sum::<u64>() as f64 / seconds).collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "eight heights are shown")]
    fn slowest(&self) -> Vec<f64> {
        let slowest = |buckets: &&[Bucket]| {
            buckets.iter().filter_map(|it| it.acknowledged.quantile_us(0.99)).max().unwrap_or(0) as f64
        };
        self.buckets.iter().map(slowest).collect()
    }

    fn faults(&self, timeline: &Timeline) -> String {
        let mut signs = vec![' '; self.buckets.len()];
        let last = signs.len() - 1;
        let place = |at_ns: u64| usize::try_from(at_ns / self.width_ns).unwrap_or(last).min(last);
        for mark in timeline.marks() {
            signs[place(mark.at_ns)] = '│';
        }
        for outage in timeline.outages() {
            let to_ns = outage.to_ns.unwrap_or(timeline.elapsed_ns());
            signs[place(outage.from_ns)..=place(to_ns)].fill('█');
        }
        signs.into_iter().collect()
    }
}

/// The higher the bar the more; a dot where there was nothing at all.
fn sparks(values: &[f64], highest: f64) -> String {
    let bar = |value: &f64| match *value {
        0.0 => '·',
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 7")]
        value => BARS[((value / highest * 8.0).ceil() as usize).clamp(1, 8) - 1],
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_high_as_its_share_and_nothing_is_a_dot() {
        assert_eq!(sparks(&[0.0, 0.1, 4.0, 8.0], 8.0), "·▁▄█");
        assert_eq!(sparks(&[0.0], 0.0), "·");
    }
}
