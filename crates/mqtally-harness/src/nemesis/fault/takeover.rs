//! Somebody else connects under a client's id in the middle of a handshake, and the client takes its session back.

use crate::nemesis::{Act, Draw, Kind, Strike};
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "takeover",
    classes: &["F4"],
    about: "connect a second time under a client's id in the middle of a handshake, and back again",
    needs: Feature::PlainTcp,
    survived_by: Profile::Volatile,
    draw,
};

fn draw(draw: &mut Draw) -> Vec<Strike> {
    draw.some_phases(8).into_iter().map(|phase| draw.act(Act::Takeover, phase)).collect()
}
