//! The nemesis: which fault strikes, when, and in which order.
//!
//! Start here:
//!
//! - [`KINDS`]: the kinds of fault that a run knows, one file each in `fault/`. To add one, write its file and name it in
//!   the table; its stage stands in `workload::STAGES`.
//! - [`Strike`]: one blow. It reads and prints as text, so that a schedule can be typed.
//! - [`Faults`]: what somebody asked for: everything, some kinds, some strikes.
//! - [`Shrinking`]: the search for the fewest strikes that still break something.
//!
//! Nothing here has a socket or a clock. Everything that is drawn is drawn from the stream of random numbers that the
//! caller derives from the run's seed; who carries a strike out is `workload::faults`.

mod chosen;
mod draw;
mod fault;
mod load;
mod shrink;
mod strike;

pub use chosen::{Choice, ChoiceError, Faults};
pub use shrink::Shrinking;
pub use strike::Strike;

pub(crate) use draw::Draw;
pub(crate) use load::Load;
pub(crate) use strike::{Act, Deed, is_of_publisher};

use crate::run::Feature;
use mqtally_history::profile::Profile;

/// A kind of fault.
pub struct Kind {
    /// The name that people type and read, in `--faults` and in the report's list.
    pub name: &'static str,
    /// Its classes, such as `F1`.
    pub classes: &'static [&'static str],
    /// What it does, in one line.
    pub about: &'static str,
    /// What it needs of the broker or of the way to it.
    pub(crate) needs: Feature,
    /// A broker that promises less may lose what it likes.
    pub(crate) survived_by: Profile,
    /// Draws what it does in a run.
    pub(crate) draw: fn(&mut Draw) -> Vec<Strike>,
}

/// Every kind, in the order in which a run plays them.
pub static KINDS: [&Kind; 14] = [
    &fault::cut_publisher::KIND,
    &fault::cut_subscriber::KIND,
    &fault::aborted_connect::KIND,
    &fault::connect_storm::KIND,
    &fault::half_open::KIND,
    &fault::takeover::KIND,
    &fault::kill_client::KIND,
    &fault::kill_process::KIND,
    &fault::slow_consumer::KIND,
    &fault::segmentation::KIND,
    &fault::windows::KIND,
    &fault::pause_broker::KIND,
    &fault::terminate_broker::KIND,
    &fault::kill_broker::KIND,
];

impl Kind {
    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        KINDS.iter().copied().find(|kind| kind.name == name)
    }

    /// The kind whose strikes a run records under this name.
    pub fn of_fault(name: &str) -> Option<&'static Self> {
        match Act::from_name(name) {
            Some(act) => Self::from_name(act.kind_name()),
            None => Self::from_name(name),
        }
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Kind {}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
