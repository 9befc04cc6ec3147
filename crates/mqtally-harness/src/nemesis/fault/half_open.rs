//! A link falls silent and nobody says so: the client gives up and connects again, while for the broker its old
//! connection is still open.

use crate::nemesis::{Act, Draw, Kind, Strike};
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "half-open",
    classes: &["F3"],
    about: "let a link fall silent in the middle of a handshake; the client returns, the broker knows of no end",
    needs: Feature::PlainTcp,
    survived_by: Profile::Volatile,
    draw,
};

fn draw(draw: &mut Draw) -> Vec<Strike> {
    draw.some_phases(8).into_iter().map(|phase| draw.act(Act::HalfOpen, phase)).collect()
}
