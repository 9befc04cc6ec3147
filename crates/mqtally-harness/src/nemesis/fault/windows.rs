//! Windows below and above the broker's limits, with both links cut while they are full. On 5.0 a broker announces how
//! much it takes at a time; on 3.1.1 nobody does, and brokers are known to have 10, 20 or 100. What a broker sends at a
//! time the subscriber says on 5.0: little, and much.

use crate::nemesis::draw::{PUBLISHING, RECEIVING, cut};
use crate::nemesis::{Draw, Kind, Load, Strike};
use crate::proxy::Place;
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "windows",
    classes: &["F1", "F2"],
    about: "publish with windows below and above the broker's limits, and cut both links while they are full",
    needs: Feature::PlainTcp,
    survived_by: Profile::Volatile,
    draw,
};

/// Limits that brokers have and do not announce.
const USUAL_LIMITS: [u16; 3] = [10, 20, 100];
/// A window beyond is a load test.
const WINDOW_MAX: u16 = 250;
/// What subscribers let the broker send at a time, by turns.
const RECEIVE_MAXIMA: [u16; 4] = [1, 4, 32, 1_000];

fn draw(draw: &mut Draw) -> Vec<Strike> {
    let limits = match draw.receive_maximum {
        Some(limit) if limit < WINDOW_MAX => vec![limit],
        _ => USUAL_LIMITS.to_vec(),
    };
    let around = limits.into_iter().flat_map(|limit| [limit.saturating_sub(1).max(1), limit + 1]);
    let windows = [1].into_iter().chain(around).chain([WINDOW_MAX]);
    let mut strikes = Vec::new();
    for (window, receive) in windows.zip(RECEIVE_MAXIMA.into_iter().cycle()) {
        let receive_maximum = draw.is_v5.then_some(receive);
        let load = Load { window: Some(window), receive_maximum, ..Load::default() };
        for phases in [&PUBLISHING, &RECEIVING] {
            let phases = draw.phases(phases);
            let phase = phases[draw.random.usize(..phases.len())];
            // Before the first, so that all others are in flight.
            strikes.push(cut(draw.ending(), phase, Place::Before, 1).under(load));
        }
    }
    strikes
}
