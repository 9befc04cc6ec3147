//! A client connects several times within milliseconds: the last connection wins, and the session survives.

use super::CLIENTS;
use crate::nemesis::{Draw, Kind, Strike};
use crate::proxy::Rule;
use crate::proxy::fault::{Fault, Storm};
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "connect-storm",
    classes: &["F7"],
    about: "connect three to six times with one client id within 10 ms",
    needs: Feature::PlainTcp,
    survived_by: Profile::Volatile,
    draw,
};

fn draw(draw: &mut Draw) -> Vec<Strike> {
    let storm = |client: &str| {
        let (extra, within_ms) = (draw.random.u32(2..=5), draw.random.u64(1..=10));
        Strike::rule(Rule::new(Fault::Storm(Storm { extra, within_ms })).client(client))
    };
    [CLIENTS, CLIENTS].concat().into_iter().map(storm).collect()
}
