//! A subscriber does not read for a while: its window fills, and the others must not notice.

use super::CLIENTS;
use crate::nemesis::{Draw, Kind, Load, Strike};
use crate::proxy::fault::{Fault, Stall, Way};
use crate::proxy::{Direction, Moment, PacketKind, Place, Rule};
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "slow-consumer",
    classes: &["F13"],
    about: "let a subscriber read nothing for a while, with large messages on their way to it",
    needs: Feature::PlainTcp,
    survived_by: Profile::Volatile,
    draw,
};

const STALLED_MS: u64 = 150;
const LARGE_BYTES: u16 = 16_000;

fn draw(draw: &mut Draw) -> Vec<Strike> {
    let load = Load { payload_bytes: Some(LARGE_BYTES), ..Load::default() };
    let (direction, kind) = (Direction::ToClient, Some(PacketKind::PUBLISH));
    let stall = |_| {
        let moment = Moment { place: Place::After, direction, kind, nth: draw.nth() };
        let rule = Rule::new(Fault::Stall(Stall { way: Way::One(direction) })).at(moment);
        Strike::rule(rule.lasting_ms(STALLED_MS).client(CLIENTS[1])).under(load)
    };
    (0..2).map(stall).collect()
}
