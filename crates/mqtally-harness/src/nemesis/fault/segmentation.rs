//! Packets come byte by byte, or many at once. TCP is a stream: where its segments end means nothing.

use crate::nemesis::{Draw, Kind, Strike};
use crate::proxy::fault::{Coalesce, Fault, Split};
use crate::proxy::{Direction, Rule};
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "segmentation",
    classes: &["F14"],
    about: "write one byte, or a few, at a time; collect packets and write them at once; both ways",
    needs: Feature::PlainTcp,
    survived_by: Profile::Volatile,
    draw,
};

fn draw(draw: &mut Draw) -> Vec<Strike> {
    let mut faults = Vec::new();
    for direction in Direction::ALL {
        faults.push(Fault::Split(Split { direction, bytes: 1 }));
        faults.push(Fault::Split(Split { direction, bytes: draw.random.u32(2..=7) }));
        faults.push(Fault::Coalesce(Coalesce { direction, ms: draw.random.u64(5..=20) }));
    }
    draw.random.shuffle(&mut faults);
    faults.into_iter().map(|fault| Strike::rule(Rule::new(fault))).collect()
}
