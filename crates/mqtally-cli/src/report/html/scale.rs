//! From quantities to places on a picture, and the numbers that stand at its edge.

/// Where a quantity is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    from: f64,
    to: f64,
    first: f64,
    last: f64,
    logarithmic: bool,
}

impl Scale {
    /// `from` stands at `first` and `to` at `last`.
    pub(super) fn linear([from, to]: [f64; 2], [first, last]: [f64; 2]) -> Scale {
        Scale { from, to, first, last, logarithmic: false }
    }

    /// The same for logarithms; both ends are above 0.
    pub(super) fn logarithmic([from, to]: [f64; 2], [first, last]: [f64; 2]) -> Scale {
        Scale { from: from.log10(), to: to.log10(), first, last, logarithmic: true }
    }

    /// Where `value` stands; beyond the ends it stands at the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.logarithmic { value.log10() } else { value };
        let share = (value - self.from) / (self.to - self.from).max(f64::MIN_POSITIVE);
        self.first + share.clamp(0.0, 1.0) * (self.last - self.first)
    }
}

/// A length on the picture, as SVG takes it.
pub(super) fn px(length: f64) -> String {
    format!("{length:.1}")
}

/// Round numbers from 0 to `highest` or just above it, about `wanted` of them.
pub(super) fn round_numbers(highest: f64, wanted: f64) -> Vec<f64> {
    let rough = (highest / wanted).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let steps = (highest / step).ceil().clamp(1.0, 20.0);
    (0..=steps as u32).map(|number| f64::from(number) * step).collect()
}

/// Powers of ten that enclose `lowest` and `highest`.
pub(super) fn powers_of_ten(lowest: f64, highest: f64) -> Vec<f64> {
    let (first, last) = (lowest.max(1.0).log10().floor() as i32, highest.max(1.0).log10().ceil() as i32);
    (first..=last.max(first + 1)).map(|power| 10f64.powi(power)).collect()
}

/// `1,200`, `12k`, `3.4M`: at the edge of a chart there is little room.
pub(super) fn short(number: f64) -> String {
    match number {
        0.0..10_000.0 => super::words::count(number.round() as u64),
        10_000.0..1e6 => format!("{:.0}k", number / 1e3),
        _ => format!("{:.1}M", number / 1e6),
    }
}

/// Microseconds in the unit that fits.
pub(super) fn short_us(us: f64) -> String {
    match us {
        0.0..1e3 => format!("{us:.0} µs"),
        1e3..1e6 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.0} s", us / 1e6),
    }
}

/// Seconds since the run began.
pub(super) fn short_s(ns: f64) -> String {
    let s = ns / 1e9;
    let text = format!("{s:.2}");
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_at_the_edge_are_round_and_enclose_what_is_drawn() {
        assert_eq!(round_numbers(7.3, 4.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(round_numbers(0.0, 4.0).len(), 2);
        assert_eq!(round_numbers(48_000.0, 4.0), [0.0, 20_000.0, 40_000.0, 60_000.0]);
        assert_eq!(powers_of_ten(80.0, 31_400.0), [10.0, 100.0, 1e3, 1e4, 1e5]);
        assert_eq!(powers_of_ten(0.0, 0.0), [1.0, 10.0]);
    }

    #[test]
    fn a_place_stays_on_the_picture() {
        let up = Scale::linear([0.0, 10.0], [100.0, 0.0]);
        assert_eq!([-5.0, 0.0, 5.0, 99.0].map(|value| up.place(value)), [100.0, 100.0, 50.0, 0.0]);
        let log = Scale::logarithmic([10.0, 1_000.0], [0.0, 2.0]);
        assert!((log.place(100.0) - 1.0).abs() < 1e-9);
        assert_eq!(Scale::linear([0.0, 0.0], [0.0, 9.0]).place(0.0), 0.0);
    }
}
