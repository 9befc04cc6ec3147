//! A client's connection ends around its CONNECT or the CONNACK: the broker may have taken its session over for a
//! client that never knew.

use super::CLIENTS;
use crate::nemesis::{Draw, Kind, Strike};
use crate::proxy::fault::{Cut, Fault};
use crate::proxy::{Direction, Ending, Moment, PacketKind, Place, Rule};
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "aborted-connect",
    classes: &["F6"],
    about: "end the connection inside or behind CONNECT, or around the CONNACK",
    needs: Feature::PlainTcp,
    survived_by: Profile::Volatile,
    draw,
};

fn draw(draw: &mut Draw) -> Vec<Strike> {
    let mut strikes = Vec::new();
    for client in CLIENTS {
        for (direction, kind, place) in [
            (Direction::ToServer, PacketKind::CONNECT, draw.inside(PacketKind::PUBLISH)),
            (Direction::ToServer, PacketKind::CONNECT, Place::After),
            (Direction::ToClient, PacketKind::CONNACK, Place::Before),
            (Direction::ToClient, PacketKind::CONNACK, draw.inside(PacketKind::CONNACK)),
            (Direction::ToClient, PacketKind::CONNACK, Place::After),
        ] {
            for ending in [Ending::Fin, Ending::Rst] {
                let moment = Moment { place, direction, kind: Some(kind), nth: 1 };
                let rule = Rule::new(Fault::Cut(Cut { ending })).at(moment);
                strikes.push(Strike::rule(rule.client(client)));
            }
        }
    }
    draw.random.shuffle(&mut strikes);
    strikes
}
