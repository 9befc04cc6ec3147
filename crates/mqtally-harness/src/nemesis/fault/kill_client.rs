//! A client dies in the middle of a handshake. With its store it goes on where it was; without one it begins anew.

use crate::nemesis::{Act, Draw, Kind, Strike};
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "kill-client",
    classes: &["F11"],
    about: "kill a client in the middle of a handshake; it returns with its session, or has forgotten it",
    needs: Feature::PlainTcp,
    survived_by: Profile::Volatile,
    draw,
};

fn draw(draw: &mut Draw) -> Vec<Strike> {
    let acts = [Act::KillClient, Act::WipeClient].into_iter().cycle();
    draw.some_phases(8).into_iter().zip(acts).map(|(phase, act)| draw.act(act, phase)).collect()
}
