//! One lane a session: its connections, whether each resumed it, and how each ended.

use super::chart::{across, faults, sized, time_axis};
use super::scale::{px, short_s};
use crate::report::topics::below;
use crate::report::words::{counted, visible};
use maud::{Markup, html};
use mqtally_history::event::Closing;
use mqtally_history::timeline::{Lane, Stay, Timeline};

const LANE: f64 = 20.0;
const TOP: f64 = 6.0;
/// Lanes of one picture; those of clients that came back most often are chosen.
const SHOWN: usize = 40;
const FOLDED_MAX: usize = 200;

/// The lanes, first of the sessions that had several connections, then, folded, of the others.
pub(super) fn sessions(timeline: &Timeline, shared: &str) -> Markup {
    let (mut several, mut others): (Vec<&Lane>, Vec<&Lane>) =
        timeline.lanes().iter().partition(|lane| lane.stays.len() > 1);
    // Those with most to show, then again in the order in which they came.
    several.sort_by_key(|lane| std::cmp::Reverse(lane.stays.len()));
    let mut more = several.split_off(several.len().min(SHOWN));
    for lanes in [&mut several, &mut more] {
        lanes.sort_by_key(|lane| lane.stays.first().map(|stay| stay.from_ns));
    }
    others.splice(0..0, more);
    let left_out = timeline.lanes_left_out() + others.len().saturating_sub(FOLDED_MAX) as u64;
    others.truncate(FOLDED_MAX);
    html! {
        @if !timeline.lanes().is_empty() {
            figure {
                figcaption {
                    "Sessions and their connections"
                    div .legend {
                        span { (key("stay")) "session resumed" }
                        span { (key("stay new")) "new session" }
                        span { (key("stay refused")) "never accepted" }
                        span { svg width="22" height="10" aria-hidden="true" { (end_sign(11.0, 0.0, 10.0)) } "cut, reset or broken" }
                        span { (super::chart::key("mark")) "fault" }
                    }
                }
                @if !several.is_empty() { (picture(timeline, &several, shared)) }
                @if !others.is_empty() {
                    details { summary { (counted(others.len() as u64, "more client")) }
                        (picture(timeline, &others, shared))
                    }
                }
                @if left_out > 0 { p .faint { (counted(left_out, "more connection")) " not drawn." } }
            }
        }
    }
}

fn picture(timeline: &Timeline, lanes: &[&Lane], shared: &str) -> Markup {
    let across = across(timeline);
    let bottom = TOP + LANE * lanes.len() as f64;
    let described = format!("{}.", counted(lanes.len() as u64, "client"));
    sized(
        "Sessions and their connections",
        &described,
        bottom + 22.0,
        &html! {
            (time_axis(timeline, across, [TOP, bottom]))
            // Faults of a client stand in its lane alone.
        (faults(timeline, across, [TOP, bottom], |mark| mark.client.is_none()))
            @for (number, lane) in lanes.iter().enumerate() {
                @let y = TOP + LANE * number as f64;
                @for stay in &lane.stays { (drawn(timeline, stay, y)) }
            @for mark in timeline.marks().iter().filter(|mark| mark.client.as_ref() == Some(&lane.client)) {
                @let x = px(across.place(mark.at_ns as f64));
                line .mark x1=(x) x2=(x) y1=(px(y + 9.0)) y2=(px(y + LANE)) {
                    title { (visible(&mark.kind)) " at " (short_s(mark.at_ns as f64)) }
                }
            }
                text .faint x="66" y=(px(y + 13.0)) pointer-events="none" { (visible(below(&lane.client, shared))) }
            }
        },
    )
}

fn drawn(timeline: &Timeline, stay: &Stay, y: f64) -> Markup {
    let across = across(timeline);
    let from = across.place(stay.from_ns as f64);
    let to = across.place(stay.to_ns.unwrap_or(timeline.elapsed_ns()) as f64);
    let (class, told) = match stay.session_present {
        Some(true) => ("stay", "session resumed"),
        Some(false) => ("stay new", "new session"),
        None => ("stay refused", "never accepted"),
    };
    let abrupt = matches!(stay.closing, Some(Closing::Rst | Closing::Broken | Closing::Vanished));
    html! {
        rect class=(class) x=(px(from)) y=(px(y + 16.0)) width=(px((to - from).max(2.0))) height="3.5" {
            title { (told) ", from " (short_s(stay.from_ns as f64)) (ended(stay)) }
        }
        @if abrupt { (end_sign(to, y + 12.5, 10.0)) }
    }
}

fn ended(stay: &Stay) -> String {
    let how = match stay.closing {
        Some(Closing::ByBroker) => "closed by the broker",
        Some(Closing::Fin) => "closed by the client",
        Some(Closing::Rst) => "reset by the client",
        Some(Closing::Broken) => "broken",
        Some(Closing::Vanished) => "silent",
        None => return String::new(),
    };
    stay.to_ns.map(|at| format!(" until {}, {how}", short_s(at as f64))).unwrap_or_default()
}

/// A cross at the end of a connection.
fn end_sign(x: f64, y: f64, size: f64) -> Markup {
    let (left, right) = (px(x - size * 0.35), px(x + size * 0.35));
    let (top, bottom) = (px(y + size * 0.15), px(y + size * 0.85));
    html! {
        line .cut x1=(left) x2=(right) y1=(top) y2=(bottom) {}
        line .cut x1=(left) x2=(right) y1=(bottom) y2=(top) {}
    }
}

fn key(class: &str) -> Markup {
    html! { svg width="22" height="10" aria-hidden="true" { rect class=(class) x="1" y="3" width="20" height="4" {} } }
}
