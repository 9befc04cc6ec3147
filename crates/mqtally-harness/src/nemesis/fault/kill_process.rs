//! kill -9 of a client's process in the middle of a handshake. With its store it goes on where it was; without it, it begins
//! anew.

use crate::nemesis::draw::{PUBLISHING, Phase, RECEIVING};
use crate::nemesis::{Act, Draw, Kind, Strike};
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "kill-process",
    classes: &["F11"],
    about: "kill -9 a client's process in the middle of a handshake; it returns with its store, or without",
    needs: Feature::Processes,
    survived_by: Profile::Volatile,
    draw,
};

/// Kills without the store, of the subscriber and of the publisher at each QoS.
const WIPES: [usize; 3] = [2, 1, 1];

/// Every phase with the store, some of each link without.
fn draw(draw: &mut Draw) -> Vec<Strike> {
    let (at_qos_2, at_qos_1): (Vec<Phase>, Vec<Phase>) =
        PUBLISHING.into_iter().partition(|phase| phase.is_of_qos_2);
    let mut strikes = Vec::new();
    for (phases, wipes) in [&RECEIVING[..], &at_qos_1, &at_qos_2].into_iter().zip(WIPES) {
        let killed = draw.some_of(phases, phases.len()).into_iter().map(|phase| (Act::KillProcess, phase));
        let wiped = draw.some_of(phases, wipes).into_iter().map(|phase| (Act::WipeProcess, phase));
        strikes.extend(killed.chain(wiped).map(|(act, phase)| draw.act(act, phase)));
    }
    strikes
}
