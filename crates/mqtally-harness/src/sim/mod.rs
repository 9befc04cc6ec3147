//! Whole runs in virtual time: no sockets, no threads, no clock, and every choice from one seed.
//!
//! - [`Simulation`]: what to simulate. **Start here.**
//! - [`Simulated`]: what came of it: a history like any other, to be given to [`mqtally_history::checker::check`].
//! - [`Tamper`]: a hook on every packet between the broker and its clients, to make it break a promise.
//! - [`Defect`]: promises of stores that can be broken on purpose.
//!
//! What is real: the broker core, the session core and the codec of `mqtally-proto`, the conversion into a history, and
//! the checker, and the fault proxy's rules and relays in the middle of each connection. What is a model: the network
//! (`net`), the sockets around the proxy (`middle`), the disk that loses what was not synced (`disk`), and the stores
//! around the cores (`broker`, `outbox`, `inbox`), which do in few lines what SQLite and threads do outside.
//!
//! ```
//! use mqtally_harness::sim::Simulation;
//! use mqtally_history::report::Verdict;
//! let simulated = Simulation::new(7).run();
//! assert_eq!(simulated.report().verdict, Verdict::Kept);
//! assert_eq!(simulated.history(), Simulation::new(7).run().history());
//! ```

mod agenda;
mod broker;
mod client;
mod disk;
mod ends;
mod fault;
mod inbox;
mod middle;
mod net;
mod outbox;
mod peer;
mod plan;
mod tamper;
mod trace;
mod way;
mod world;

pub use tamper::{Crossing, Passed, Tamper, Toward, Untouched};

use crate::nemesis::Faults;
use crate::proxy::RuleId;
use ends::Ends;
use mqtally_history::checker;
use mqtally_history::event::{Event, Header};
use mqtally_history::journal::Writer;
use mqtally_history::marker::MessageId;
use mqtally_history::report::Report;
use mqtally_proto::Time;
use net::LinkId;
use plan::Plan;
use std::sync::Arc;
use std::time::Duration;
use world::World;

/// A client's place among those of the run.
type ClientIx = usize;

/// The virtual clock at the beginning of every run, milliseconds since the Unix epoch.
const BEGINNING_MS: u64 = 1_700_000_000_000;

/// A promise of a store that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// The broker lets its answers out before the changes behind them are synced.
    BrokerAcknowledgesBeforeSync,
    /// The broker writes its changes and lets its answers out, and never asks for a sync: they are on the disk when the
    /// operating system thinks of it.
    BrokerNeverSyncs,
    /// A subscriber sends PUBACK and PUBREC before the message is synced.
    SubscriberAcknowledgesBeforeSync,
    /// A publisher says that a message is accepted before it is synced.
    PublisherAcceptsBeforeSync,
}

/// A run to be simulated: its seed decides everything.
#[derive(Debug, Clone)]
pub struct Simulation {
    seed: u64,
    faults: Faults,
    defect: Option<Defect>,
    power_fails: bool,
}

/// What came of a simulated run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simulated {
    /// What stands before the history.
    pub header: Header,
    /// Everything that happened, in order.
    pub events: Vec<Event>,
    /// How long it would have taken.
    pub elapsed: Duration,
    /// What publishers with a store were told is safe.
    accepted: Vec<MessageId>,
    /// Subscribers with a store.
    keepers: Vec<Arc<str>>,
}

impl Simulation {
    /// The run of this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, faults: Faults::All, defect: None, power_fails: false }
    }

    /// The same under these faults instead of those that the seed draws, each at a random time; see
    /// [`Faults::unsimulated`]. A deed is done to whoever's packet sets it off; a client that is killed forgets what its store
    /// does not keep.
    #[must_use]
    pub fn under(self, faults: Faults) -> Self {
        Self { faults, ..self }
    }

    /// The same where the power fails with whatever kills the broker: what it has written and not synced may be gone.
    #[must_use]
    pub fn without_power(self) -> Self {
        Self { power_fails: true, ..self }
    }

    /// The same with a broken store.
    #[must_use]
    pub fn with(self, defect: Defect) -> Self {
        Self { defect: Some(defect), ..self }
    }

    /// Simulates it.
    pub fn run(self) -> Simulated {
        self.run_through(&mut Untouched)
    }

    /// Simulates it with a hook on every packet.
    pub fn run_through(self, tamper: &mut dyn Tamper) -> Simulated {
        World::new(&self, Plan::new(self.seed, &self.faults), tamper).run()
    }
}

impl Simulated {
    /// The checker's report: the same as over a recorded history.
    pub fn report(&self) -> Report {
        checker::check(&self.header, self.events.iter().cloned())
    }

    /// What our own stores broke, in sentences: the wire does not show it. Nothing, unless they have a [`Defect`].
    ///
    /// An outbox has to bring what it accepted to its final acknowledgement, an inbox what it acknowledged to its handler.
    pub fn broken_stores(&self) -> Vec<String> {
        let ends = Ends::of(&self.events);
        let unsent = ends.unsent(&self.accepted).map(|message| {
            format!("{} was accepted by an outbox and never acknowledged by the broker", in_words(message))
        });
        let kept = ends.unprocessed().filter(|(client, _)| self.keepers.contains(client));
        let unprocessed = kept.map(|(client, message)| {
            format!("{} was acknowledged by {client} and never processed", in_words(*message))
        });
        unsent.chain(unprocessed).collect()
    }

    /// The history as a recorder would have written it to its file.
    pub fn history(&self) -> Vec<u8> {
        // A vector takes everything, and no simulated event is near the longest that a history holds.
        self.try_history().unwrap_or_default()
    }

    fn try_history(&self) -> Result<Vec<u8>, mqtally_history::journal::JournalError> {
        let mut writer = Writer::new(Vec::new(), &self.header)?;
        self.events.iter().try_for_each(|event| writer.append(event))?;
        writer.finish()
    }
}

fn in_words(message: MessageId) -> String {
    let MessageId { publisher, stream, sequence } = message;
    format!("message {publisher}/{stream}/{sequence}")
}

/// What can happen.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// A piece is in the middle of a link.
    Reached(LinkId, Toward),
    /// A piece is at an end of a link.
    Arrived(LinkId, Toward),
    /// The middle of a link may have something to do.
    Woken(LinkId),
    BrokerSynced(u64),
    BrokerTimer(u64),
    BrokerStarts,
    BrokerResumes(u64),
    /// An alarm of a client, in the life of its process that set it.
    Client(ClientIx, u64, Alarm),
    /// The fault of this place in the plan strikes.
    Fault(usize),
    /// A packet of this client's link set a deed off.
    Struck(RuleId, ClientIx),
    /// A look at how far the run is.
    Look,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy)]
enum Alarm {
    Starts,
    Dials,
    TimesOut,
    /// No CONNACK came on this link.
    GivesUp(LinkId),
    Synced,
    Burst,
    Handled,
    Subscribes,
    Returns,
    ClosesLeft,
}

/// The virtual clock as the cores are told it.
fn time(now: Duration) -> Time {
    Time::from_ms(BEGINNING_MS).plus_ms(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
