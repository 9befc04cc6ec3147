//! The broker is asked to stop and started again in the middle of a handshake.

use crate::nemesis::{Act, Draw, Kind, Strike};
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "terminate-broker",
    classes: &["F8"],
    about: "ask the broker to stop in the middle of a handshake and start it again (SIGTERM)",
    needs: Feature::Control,
    survived_by: Profile::Graceful,
    draw,
};

fn draw(draw: &mut Draw) -> Vec<Strike> {
    draw.some_phases(4).into_iter().map(|phase| draw.act(Act::TerminateBroker, phase)).collect()
}
