//! The broker is killed and started again in the middle of a handshake.

use crate::nemesis::{Act, Draw, Kind, Strike};
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "kill-broker",
    classes: &["F9"],
    about: "kill the broker in the middle of a handshake and start it again (SIGKILL)",
    needs: Feature::Control,
    survived_by: Profile::Durable,
    draw,
};

fn draw(draw: &mut Draw) -> Vec<Strike> {
    draw.some_phases(4).into_iter().map(|phase| draw.act(Act::KillBroker, phase)).collect()
}
