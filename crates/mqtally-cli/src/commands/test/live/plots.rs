//! Rates and latencies of a run, as far as it has come.

use crate::live::{Curve, Figure, Plot};
use crate::report::words::{duration, milliseconds};
use mqtally_history::timeline::{Bucket, Latencies, Timeline};

/// Of the whole run: the median, and the 99th percentile below it.
pub(super) fn latency(name: &'static str, timeline: &Timeline, of: fn(&Bucket) -> &Latencies) -> Figure {
    let mut all = Latencies::default();
    timeline.buckets().iter().for_each(|bucket| all.merge(of(bucket)));
    let ms = |quantile| all.quantile_us(quantile).map(|us| format!("{} ms", milliseconds(us)));
    match (ms(0.5), ms(0.99)) {
        (Some(p50), Some(p99)) => Figure::new(name, p50, format!("p99 {p99}")),
        _ => Figure::new(name, "–", "nothing measured yet"),
    }
}

pub(super) fn plots(timeline: &Timeline) -> Vec<Plot> {
    let width_s = timeline.bucket_ns() as f64 / 1e9;
    let rate = |name, of: fn(&Bucket) -> u64| Curve {
        name,
        values: timeline.buckets().iter().map(|it| Some(of(it) as f64 / width_s)).collect(),
    };
    let quantile = |name, of: fn(&Bucket) -> &Latencies, quantile: f64| Curve {
        name,
        values: timeline
            .buckets()
            .iter()
            .map(|it| Some(of(it).quantile_us(quantile)? as f64 / 1e3))
            .collect(),
    };
    let plot = |name, unit, is_logarithmic, curves| Plot {
        name,
        unit,
        is_logarithmic,
        curves,
        points: timeline.buckets().len().max(2),
        ends: ["0 s".to_owned(), duration(timeline.elapsed_ns() / 1_000_000)],
        marks: marks(timeline),
        bands: bands(timeline),
    };
    let rates = vec![rate("published", |it| it.published), rate("delivered", |it| it.delivered)];
    let both = |of: fn(&Bucket) -> &Latencies| vec![quantile("p50", of, 0.5), quantile("p99", of, 0.99)];
    vec![
        plot("Messages a second", "a second", false, rates),
        plot("Milliseconds until acknowledged", "ms", true, both(|it| &it.acknowledged)),
        plot("Milliseconds until first arrived", "ms", true, both(|it| &it.arrived)),
    ]
}

/// Where faults were, in buckets; those that fall on one another are one.
fn marks(timeline: &Timeline) -> Vec<f64> {
    let quarter = |at_ns: u64| (at_ns as f64 / timeline.bucket_ns() as f64 * 4.0).round() / 4.0;
    let mut marks: Vec<f64> = timeline.marks().iter().map(|mark| quarter(mark.at_ns)).collect();
    marks.dedup();
    marks
}

fn bands(timeline: &Timeline) -> Vec<[f64; 2]> {
    let place = |ns: u64| ns as f64 / timeline.bucket_ns() as f64;
    let end = timeline.elapsed_ns();
    timeline.outages().iter().map(|it| [place(it.from_ns), place(it.to_ns.unwrap_or(end))]).collect()
}
