//! Rates and latencies over time, with the faults as bands and lines.

use super::scale::{Scale, powers_of_ten, px, round_numbers, short, short_s, short_us};
use super::tables::scroll;
use crate::report::words::{count, counted, visible};
use maud::{Markup, html};
use mqtally_history::timeline::{Bucket, Latencies, Mark, Timeline};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 948.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 196.0;
const HEIGHT: f64 = 218.0;
/// With more faults than that, lines over the whole height would hide the curves.
const TALL_MARKS_MAX: usize = 80;
const SHORT_MARK: f64 = 10.0;
/// Rows of the table that says the same in numbers.
const ROWS_MAX: usize = 24;

/// Messages a second.
pub(super) fn rates(timeline: &Timeline) -> Markup {
    let width_s = timeline.bucket_ns() as f64 / 1e9;
    let rate = |of: fn(&Bucket) -> u64| timeline.buckets().iter().map(move |it| of(it) as f64 / width_s);
    let (published, delivered): (Vec<f64>, Vec<f64>) =
        (rate(|it| it.published).collect(), rate(|it| it.delivered).collect());
    let highest = published.iter().chain(&delivered).copied().fold(0.0, f64::max);
    let ticks = round_numbers(highest, 4.0);
    let up = Scale::linear([0.0, ticks[ticks.len() - 1]], [BOTTOM, TOP]);
    let ticks: Vec<(f64, String)> = ticks.into_iter().map(|tick| (tick, short(tick))).collect();
    let across = across(timeline);
    let points = |values: &[f64]| steps(values, timeline.bucket_ns(), across, up);
    let sent = points(&published);
    let described =
        format!("At most {} a second, over {}.", short(highest), short_s(timeline.elapsed_ns() as f64));
    html! {
        figure {
            figcaption {
                "Messages a second"
                div .legend {
                    span { (key("curve one")) "published" } span { (key("curve two dashed")) "delivered" } (fault_keys(timeline))
                }
            }
            (picture("Messages a second over time", &described, &html! {
                (surroundings(timeline, across, up, &ticks))
                polygon .one-area points=(format!("{} {},{BOTTOM} {LEFT},{BOTTOM}", sent, last_x(&sent))) {}
                polyline .curve .one points=(sent) {}
                polyline .curve .two .dashed points=(points(&delivered)) {}
            }))
        }
    }
}

/// Latencies, by when they ended.
pub(super) fn latencies(timeline: &Timeline) -> Markup {
    let quantile = |of: fn(&Bucket) -> &Latencies, quantile: f64| -> Vec<Option<f64>> {
        timeline.buckets().iter().map(|it| of(it).quantile_us(quantile).map(|us| us as f64)).collect()
    };
    let curves = [
        ("one", "acknowledged p50", quantile(|it| &it.acknowledged, 0.5)),
        ("one dashed", "acknowledged p99", quantile(|it| &it.acknowledged, 0.99)),
        ("two", "first arrived p50", quantile(|it| &it.arrived, 0.5)),
        ("two dashed", "first arrived p99", quantile(|it| &it.arrived, 0.99)),
    ];
    let all = || curves.iter().flat_map(|(_, _, values)| values).flatten().copied();
    let (lowest, highest) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    let ticks = powers_of_ten(lowest.min(highest), highest);
    let up = Scale::logarithmic([ticks[0], ticks[ticks.len() - 1]], [BOTTOM, TOP]);
    let ticks: Vec<(f64, String)> = ticks.into_iter().map(|tick| (tick, short_us(tick))).collect();
    let across = across(timeline);
    let described =
        format!("From {} to {}, on a logarithmic scale.", short_us(lowest.min(highest)), short_us(highest));
    html! {
        figure {
            figcaption {
                "Latency from the first byte sent"
                div .legend {
                    @for (class, name, _) in &curves { span { (key(&format!("curve {class}"))) (name) } }
                    (fault_keys(timeline))
                }
            }
            (picture("Latency over time", &described, &html! {
                (surroundings(timeline, across, up, &ticks))
                @for (class, _, values) in &curves {
                    @for run in runs(values, timeline.bucket_ns(), across, up) {
                        polyline class={ "curve " (class) (dot(&run)) } points=(run) {}
                    }
                }
            }))
        }
    }
}

/// What the curves show, in numbers.
pub(super) fn table(timeline: &Timeline) -> Markup {
    let per_row = timeline.buckets().len().div_ceil(ROWS_MAX).max(1);
    let worst = |buckets: &[Bucket], of: fn(&Bucket) -> &Latencies| {
        buckets.iter().filter_map(|it| of(it).quantile_us(0.99)).max()
    };
    let shown = |us: Option<u64>| us.map_or_else(|| "–".to_owned(), |us| short_us(us as f64));
    html! {
        details .more {
            summary { "The curves in numbers" }
            (scroll("The curves in numbers", &html! {
                thead { tr {
                    th scope="col" { "from" } th scope="col" .number { "published" }
                    th scope="col" .number { "delivered" } th scope="col" .number { "acknowledged, p99" }
                    th scope="col" .number { "first arrived, p99" }
                } }
                tbody { @for (row, buckets) in timeline.buckets().chunks(per_row).enumerate() { tr {
                    th scope="row" { (short_s((row * per_row) as f64 * timeline.bucket_ns() as f64)) }
                    td .number { (count(buckets.iter().map(|it| it.published).sum())) }
                    td .number { (count(buckets.iter().map(|it| it.delivered).sum())) }
                    td .number { (shown(worst(buckets, |it| &it.acknowledged))) }
                    td .number { (shown(worst(buckets, |it| &it.arrived))) }
                } } }
            }))
        }
    }
}

/// Time from left to right, the same in every picture.
pub(super) fn across(timeline: &Timeline) -> Scale {
    Scale::linear([0.0, (timeline.elapsed_ns() as f64).max(1.0)], [LEFT, RIGHT])
}

/// The time axis of a picture, at height `y`.
pub(super) fn time_axis(timeline: &Timeline, across: Scale, [top, bottom]: [f64; 2]) -> Markup {
    let ticks = round_numbers(timeline.elapsed_ns() as f64, 8.0);
    let ticks = ticks.into_iter().filter(|tick| *tick <= timeline.elapsed_ns() as f64);
    html! {
        @for tick in ticks {
            line .grid x1=(px(across.place(tick))) x2=(px(across.place(tick))) y1=(px(top)) y2=(px(bottom)) {}
            text .faint x=(px(across.place(tick))) y=(px(bottom + 14.0)) text-anchor="middle" { (short_s(tick)) }
        }
    }
}

/// When the broker was away, and the faults that are `drawn`.
pub(super) fn faults(
    timeline: &Timeline,
    across: Scale,
    [top, bottom]: [f64; 2],
    drawn: impl Fn(&Mark) -> bool,
) -> Markup {
    let height = px(bottom - top);
    let end = timeline.elapsed_ns();
    let mut last_x = f64::MIN;
    // Lines that fall on one another are drawn once.
    let marks: Vec<_> = timeline
        .marks()
        .iter()
        .filter(|mark| drawn(mark))
        .filter_map(|mark| {
            let x = across.place(mark.at_ns as f64);
            (x - last_x >= 1.0).then(|| {
                last_x = x;
                (x, mark)
            })
        })
        .collect();
    let mark_top = if marks.len() > TALL_MARKS_MAX { bottom - SHORT_MARK } else { top };
    html! {
        @for outage in timeline.outages() {
            @let from = across.place(outage.from_ns as f64);
            @let to = across.place(outage.to_ns.unwrap_or(end) as f64);
            rect .band x=(px(from)) y=(px(top)) width=(px((to - from).max(1.5))) height=(height) {
                title { "the broker was away from " (short_s(outage.from_ns as f64)) }
            }
        }
        @for (x, mark) in &marks {
            line .mark x1=(px(*x)) x2=(px(*x)) y1=(px(mark_top)) y2=(px(bottom)) {
                title {
                    (visible(&mark.kind)) " at " (short_s(mark.at_ns as f64))
                    @if let Some(client) = &mark.client { " to " (visible(client)) }
                }
            }
        }
    }
}

/// A picture as wide as the page, with words for those who do not see it.
pub(super) fn picture(title: &str, described: &str, inside: &Markup) -> Markup {
    sized(title, described, HEIGHT, inside)
}

/// A picture of a height of its own.
pub(super) fn sized(title: &str, described: &str, height: f64, inside: &Markup) -> Markup {
    html! {
        div .wide tabindex="0" role="region" aria-label=(title) {
            svg viewBox={ "0 0 " (WIDTH) " " (px(height)) } role="img" aria-label={ (title) ". " (described) } {
                (inside)
            }
        }
    }
}

/// A sample of a line, for a legend.
pub(super) fn key(class: &str) -> Markup {
    html! { svg width="22" height="8" aria-hidden="true" { line class=(class) x1="0" x2="22" y1="4" y2="4" {} } }
}

fn fault_keys(timeline: &Timeline) -> Markup {
    html! {
        @if !timeline.marks().is_empty() { span { (key("mark")) "fault" } }
        @if !timeline.outages().is_empty() {
            span {
                svg width="22" height="10" aria-hidden="true" { rect .band width="22" height="10" {} }
                "broker away"
            }
        }
        @if timeline.marks_left_out() > 0 {
            span { (counted(timeline.marks_left_out(), "more fault")) " not drawn" }
        }
    }
}

/// Parts of the run, faults, and both axes.
fn surroundings(timeline: &Timeline, across: Scale, up: Scale, ticks: &[(f64, String)]) -> Markup {
    let end = timeline.elapsed_ns();
    html! {
        @for (number, part) in timeline.parts().iter().enumerate() {
            @let from = across.place(part.span.from_ns as f64);
            @let width = across.place(part.span.to_ns.unwrap_or(end) as f64) - from;
            @if number % 2 == 0 {
                rect .part x=(px(from)) y=(px(TOP)) width=(px(width)) height=(px(BOTTOM - TOP)) {}
            }
            // Narrower than this a name would run into the next.
            @if width > 34.0 {
                text .faint x=(px(from + 3.0)) y="12" { (fitting(&visible(&part.name), width)) }
                text .faint x=(px(from + 3.0)) y="23" { (fitting(&format!("MQTT {}", part.version.as_str()), width)) }
            }
        }
        @for (value, name) in ticks {
            line .grid x1=(px(LEFT)) x2=(px(RIGHT)) y1=(px(up.place(*value))) y2=(px(up.place(*value))) {}
            text .faint x=(px(LEFT - 6.0)) y=(px(up.place(*value) + 4.0)) text-anchor="end" { (name) }
        }
        (time_axis(timeline, across, [TOP, BOTTOM]))
        (faults(timeline, across, [TOP, BOTTOM], |_| true))
    }
}

/// What goes nowhere has to be thicker to be seen.
fn dot(points: &str) -> &'static str {
    match points.split_once(' ') {
        Some((from, to)) if from == to => " dot",
        _ => "",
    }
}

/// As much of a name as there is room for.
fn fitting(name: &str, width: f64) -> String {
    let room = (width / 6.2) as usize;
    match name.chars().count() > room {
        true => name.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// A value that holds over the whole of its bucket.
fn steps(values: &[f64], bucket_ns: u64, across: Scale, up: Scale) -> String {
    let corners = values.iter().enumerate().flat_map(|(number, value)| {
        let (from, to) = (number as u64 * bucket_ns, (number as u64 + 1) * bucket_ns);
        let y = px(up.place(*value));
        [from, to].map(|at| format!("{},{y}", px(across.place(at as f64))))
    });
    corners.collect::<Vec<_>>().join(" ")
}

fn last_x(points: &str) -> &str {
    points.rsplit(' ').next().and_then(|point| point.split(',').next()).unwrap_or("0")
}

/// Curves through the middle of the buckets that have a value; where one has none, the curve is interrupted.
fn runs(values: &[Option<f64>], bucket_ns: u64, across: Scale, up: Scale) -> Vec<String> {
    let point = |number: usize, value: f64| {
        let at = (number as f64 + 0.5) * bucket_ns as f64;
        format!("{},{}", px(across.place(at)), px(up.place(value)))
    };
    let mut runs: Vec<Vec<String>> = vec![Vec::new()];
    for (number, value) in values.iter().enumerate() {
        match value {
            Some(value) => runs.last_mut().expect("never empty").push(point(number, *value)),
            None => runs.push(Vec::new()),
        }
    }
    // A single point has no length: it is drawn as a dot by going nowhere.
    let drawn = runs.into_iter().filter(|run| !run.is_empty()).map(|run| match run.len() {
        1 => format!("{0} {0}", run[0]),
        _ => run.join(" "),
    });
    drawn.collect()
}
