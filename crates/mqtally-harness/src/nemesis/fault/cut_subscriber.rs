//! The subscriber's link is cut in every phase of its handshakes: before, inside and after each packet.

use crate::nemesis::Kind;
use crate::nemesis::draw::RECEIVING;
use crate::run::Feature;
use mqtally_history::profile::Profile;

pub(in crate::nemesis) const KIND: Kind = Kind {
    name: "cut-subscriber",
    classes: &["F1", "F5"],
    about: "cut the subscriber's link before, inside and after each packet of both handshakes, by FIN and RST",
    needs: Feature::PlainTcp,
    survived_by: Profile::Volatile,
    draw: |draw| draw.every_cut(&RECEIVING),
};
