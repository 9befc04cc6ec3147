//! Drawing from the seed.

use super::strike::{Act, Strike};
use crate::proxy::fault::{Cut, Fault};
use crate::proxy::{Direction, Ending, Moment, PacketKind, Place, Rule, Scope};
use mqtally_proto::packet::Qos;

/// Bytes of a PUBLISH of which a part may be delivered, and of the other packets of a handshake.
const PUBLISH_BYTES: u32 = 40;
const ACK_BYTES: u32 = 3;
/// At most so many packets of a kind pass before one is struck.
const NTH_MAX: u32 = 3;

/// What draws strikes: a stream of random numbers, and what there is to strike at.
pub(crate) struct Draw {
    pub(crate) random: fastrand::Rng,
    /// The broker takes QoS 2.
    pub(crate) has_qos_2: bool,
    /// What the broker announced that it takes at a time (5.0).
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) is_v5: bool,
}

/// A packet of a handshake on one link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    pub(super) direction: Direction,
    pub(super) kind: PacketKind,
    qos: Option<Qos>,
    pub(super) is_of_qos_2: bool,
}

const fn phase(direction: Direction, kind: PacketKind, qos: Option<Qos>, is_of_qos_2: bool) -> Phase {
    Phase { direction, kind, qos, is_of_qos_2 }
}

/// Both handshakes as the publisher sees them.
pub(super) const PUBLISHING: [Phase; 6] = [
    phase(Direction::ToServer, PacketKind::PUBLISH, Some(Qos::AtLeastOnce), false),
    phase(Direction::ToClient, PacketKind::PUBACK, None, false),
    phase(Direction::ToServer, PacketKind::PUBLISH, Some(Qos::ExactlyOnce), true),
    phase(Direction::ToClient, PacketKind::PUBREC, None, true),
    phase(Direction::ToServer, PacketKind::PUBREL, None, true),
    phase(Direction::ToClient, PacketKind::PUBCOMP, None, true),
];

/// Both handshakes as the subscriber sees them.
pub(super) const RECEIVING: [Phase; 6] = [
    phase(Direction::ToClient, PacketKind::PUBLISH, Some(Qos::AtLeastOnce), false),
    phase(Direction::ToServer, PacketKind::PUBACK, None, false),
    phase(Direction::ToClient, PacketKind::PUBLISH, Some(Qos::ExactlyOnce), true),
    phase(Direction::ToServer, PacketKind::PUBREC, None, true),
    phase(Direction::ToClient, PacketKind::PUBREL, None, true),
    phase(Direction::ToServer, PacketKind::PUBCOMP, None, true),
];

impl Draw {
    /// The phases of `all` that this broker has.
    pub(super) fn phases(&self, all: &[Phase]) -> Vec<Phase> {
        all.iter().copied().filter(|phase| self.has_qos_2 || !phase.is_of_qos_2).collect()
    }

    /// Which packet of its kind.
    pub(super) fn nth(&mut self) -> u32 {
        self.random.u32(1..=NTH_MAX)
    }

    pub(crate) fn ending(&mut self) -> Ending {
        if self.random.bool() { Ending::Fin } else { Ending::Rst }
    }

    /// Before or after a packet.
    pub(crate) fn side(&mut self) -> Place {
        if self.random.bool() { Place::Before } else { Place::After }
    }

    /// In the middle of a packet of this kind.
    pub(super) fn inside(&mut self, kind: PacketKind) -> Place {
        let max = if kind == PacketKind::PUBLISH { PUBLISH_BYTES } else { ACK_BYTES };
        Place::Inside(self.random.u32(1..=max))
    }

    /// Before, after and inside of each phase, by FIN and by RST.
    pub(super) fn every_cut(&mut self, phases: &[Phase]) -> Vec<Strike> {
        let mut strikes = Vec::new();
        for phase in self.phases(phases) {
            for ending in [Ending::Fin, Ending::Rst] {
                for place in [Place::Before, Place::After, self.inside(phase.kind)] {
                    let nth = self.nth();
                    strikes.push(cut(ending, phase, place, nth));
                }
            }
        }
        self.random.shuffle(&mut strikes);
        strikes
    }

    /// A deed before or after a packet of this phase.
    pub(super) fn act(&mut self, act: Act, phase: Phase) -> Strike {
        let (place, nth) = (self.side(), self.nth());
        Strike::act(act, |rule| at(rule, phase, place, nth))
    }

    /// `count` of the phases of both links, each another one.
    pub(super) fn some_phases(&mut self, count: usize) -> Vec<Phase> {
        self.some_of(&[PUBLISHING, RECEIVING].concat(), count)
    }

    /// The same of these phases.
    pub(super) fn some_of(&mut self, phases: &[Phase], count: usize) -> Vec<Phase> {
        let mut phases = self.phases(phases);
        self.random.shuffle(&mut phases);
        phases.truncate(count);
        phases
    }
}

/// Cuts the link at a packet of this phase.
pub(super) fn cut(ending: Ending, phase: Phase, place: Place, nth: u32) -> Strike {
    Strike::rule(at(Rule::new(Fault::Cut(Cut { ending })), phase, place, nth))
}

fn at(rule: Rule, phase: Phase, place: Place, nth: u32) -> Rule {
    let moment = Moment { place, direction: phase.direction, kind: Some(phase.kind), nth };
    rule.at(moment).within(Scope { qos: phase.qos, ..Scope::default() })
}
