//! The broker is stopped and continued: everything is late, nothing is lost.

use crate::nemesis::{Act, Draw, Kind, Strike};
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "pause-broker",
    classes: &["F12"],
    about: "stop the broker in the middle of a handshake and continue it (SIGSTOP, SIGCONT)",
    needs: Feature::Control,
    survived_by: Profile::Volatile,
    draw,
};

fn draw(draw: &mut Draw) -> Vec<Strike> {
    draw.some_phases(3).into_iter().map(|phase| draw.act(Act::PauseBroker, phase)).collect()
}
