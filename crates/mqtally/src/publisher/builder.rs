//! How a publisher is set up and started.

use super::capacity::{Capacity, Room};
use super::lineup::Lineup;
use super::outgoing::Outgoing;
use super::task::Task;
use super::{Backoff, Publisher, Shared, Sink, Status, wall_clock};
use crate::client::{Client, Gate, Settings};
use crate::endpoint::Endpoint;
use crate::inbox;
use crate::outbox::{self, Command, Found, Message, Notice, Outbox, Restored, StoreError, Totals, Uuid};
use crate::store::clock::age;
use crate::store::sqlite;
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::packet::{Version, Will};
use mqtally_proto::session::{Options, Session};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long the broker is asked to keep the session of a publisher that is away, seconds: seven days, as long as a
/// subscriber remembers message ids by default.
const SESSION_EXPIRY: u32 = 7 * 24 * 60 * 60;
/// What is accepted and not settled at most, unless told otherwise.
const MESSAGES_MAX: u64 = 1_000_000;
const BYTES_MAX: u64 = 1 << 30;

/// What `publish` does when as much is unsettled as allowed, or the outbox cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFull {
    /// It waits.
    #[default]
    Wait,
    /// It fails.
    Fail,
}

/// Why a publisher did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The outbox.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no name that a session could be found again under.
    #[error("an MQTT 3.1.1 publisher without an outbox needs a client id; give it one")]
    NoClientId,
}

/// Sets up a [`Publisher`].
#[derive(Clone)]
pub struct Builder {
    settings: Settings,
    store: Option<outbox::Settings>,
    backoff: Backoff,
    room: Room,
    on_full: OnFull,
    subscribers_required: bool,
}

impl Builder {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let options = Options { session_expiry_interval: SESSION_EXPIRY, ..Options::new(Version::V5_0, "") };
        Self::with_connection(Settings::new(endpoint, options))
    }

    /// A publisher with these connection options. Whether the session is begun anew or resumed is seen to; it is kept
    /// over lost connections only where its expiry interval is above 0.
    pub fn with_connection(settings: Settings) -> Self {
        Self {
            settings,
            store: None,
            backoff: Backoff::default(),
            room: Room { messages: MESSAGES_MAX, bytes: BYTES_MAX },
            on_full: OnFull::default(),
            subscribers_required: false,
        }
    }

    /// Keeps what is accepted in the outbox at `path`, which is created when absent.
    #[must_use]
    pub fn store(self, path: impl Into<PathBuf>) -> Self {
        self.store_with(outbox::Settings { path: path.into(), options: sqlite::Options::default() })
    }

    /// As [`store`](Self::store), with everything that can be said about it.
    #[must_use]
    pub fn store_with(mut self, store: outbox::Settings) -> Self {
        self.store = Some(store);
        self
    }

    /// Changes the connection options: version, client id, keep-alive, window, credentials.
    ///
    /// An empty client id means one that belongs to the outbox: the same at every start with it.
    #[must_use]
    pub fn connection(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// The name under which the broker knows the publisher.
    #[must_use]
    pub fn client_id(self, client_id: impl Into<ByteString>) -> Self {
        let client_id = client_id.into();
        self.connection(|settings| settings.options.client_id = client_id)
    }

    /// What the broker publishes if this publisher goes away without a word.
    #[must_use]
    pub fn will(self, message: Message) -> Self {
        let Message { topic, payload, qos, retain, properties } = message;
        let will = Will { topic, payload, qos, retain, properties };
        self.connection(|settings| settings.options.will = Some(will))
    }

    /// Pauses between attempts to connect.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How much may be accepted and not settled, and what `publish` does above it. Messages that were given up take
    /// room until somebody deals with them.
    #[must_use]
    pub fn limit(mut self, messages: u64, bytes: u64, on_full: OnFull) -> Self {
        self.room = Room { messages, bytes };
        self.on_full = on_full;
        self
    }

    /// Whether a message that nobody subscribes to counts as failed, where a 5.0 broker says so.
    #[must_use]
    pub fn require_subscribers(mut self, required: bool) -> Self {
        self.subscribers_required = required;
        self
    }

    /// Opens the outbox and starts on the current tokio runtime. The broker need not be there.
    pub fn start(mut self) -> Result<Publisher, StartError> {
        let (reports, reports_out) = mpsc::unbounded_channel();
        let opened = match &self.store {
            None => None,
            Some(store) => {
                let options = &mut self.settings.options;
                let endpoint = &self.settings.endpoint;
                let session_of = |store_id| session_of(options, endpoint, store_id);
                Some(Outbox::open(store, session_of, reports)?)
            }
        };
        let (outbox, mut found) = match opened {
            Some((outbox, found)) => (Some(outbox), found),
            None => (None, Found::default()),
        };
        if let Some(store) = self.store.as_ref().filter(|_| found.totals.rows > found.totals.failed) {
            found
                .notices
                .extend(outbox::first(&store.path)?.and_then(|id| outlives_window(id, wall_clock())));
        }
        self.prepare_session(&found)?;
        Ok(self.spawn(outbox, found, reports_out))
    }

    /// Anew, unless the outbox knows the packet ids of the session.
    fn prepare_session(&mut self, found: &Found) -> Result<(), StartError> {
        let options = &mut self.settings.options;
        if options.client_id.is_empty()
            && options.version == Version::V3_1_1
            && options.session_expiry_interval > 0
        {
            return Err(StartError::NoClientId);
        }
        options.resume = found.resumes;
        options.clean_start = !found.resumes;
        Ok(())
    }

    fn spawn(
        mut self,
        outbox: Option<Outbox<super::Tickets>>,
        found: Found,
        reports: mpsc::UnboundedReceiver<outbox::Report<super::Tickets>>,
    ) -> Publisher {
        let Found { totals, notices, restored, resumes } = found;
        self.settings.gate = outbox.as_ref().map(gate);
        let options = &self.settings.options;
        let version = options.version;
        let cleansing = version == Version::V3_1_1 && options.session_expiry_interval > 0 && !resumes;
        let mut lineup = Lineup::new(outbox.is_some());
        let mut outgoing = Outgoing::new(version);
        let (client, events) =
            Client::resume(self.settings, |session| restore(session, restored, &mut outgoing, &mut lineup));
        let Totals { rows, bytes, failed } = totals;
        let capacity = Arc::new(Capacity::new(self.room, Room { messages: rows, bytes }));
        let (status, status_out) = watch::channel(Status { failed_kept: failed, ..Status::default() });
        let (inputs, inputs_out) = mpsc::unbounded_channel();
        let sink = outbox.as_ref().map_or(Sink::Memory, |outbox| Sink::Outbox(outbox.commands().clone()));
        let task = Task {
            client,
            events,
            inputs: inputs_out,
            reports,
            outbox,
            lineup,
            capacity: Arc::clone(&capacity),
            status,
            outgoing,
            backoff: self.backoff,
            subscribers_required: self.subscribers_required,
            cleansing,
            random: fastrand::Rng::new(),
        };
        tokio::spawn(task.run());
        let random = Mutex::new(fastrand::Rng::new());
        let (on_full, status, closed) = (self.on_full, status_out, AtomicBool::new(false));
        Publisher {
            shared: Arc::new(Shared {
                sink,
                inputs,
                capacity,
                on_full,
                status,
                closed,
                earlier: rows - failed,
                notices,
                random,
            }),
        }
    }
}

/// A subscriber that has forgotten a message takes its second copy for a new one; how long it remembers is not known here, so
/// that what it does by default counts.
fn outlives_window(first: Uuid, now: Time) -> Option<Notice> {
    let waited = Duration::from_millis(now.ms_since(first.made_at()));
    (waited > Duration::from_millis(inbox::WINDOW_MS)).then(|| {
        Notice(format!(
            "the first message that waits in the outbox was published {} ago: a subscriber that keeps dedup keys for less \
             processes a second copy of it, too; give it a longer --dedup-window",
            age(waited)
        ))
    })
}

/// Whose session it is: packet ids mean something only there. Also names a client that was given no name.
fn session_of(options: &mut Options, endpoint: &Endpoint, store_id: [u8; 16]) -> String {
    if options.client_id.is_empty() {
        let mut name = String::from("mqtally-");
        for byte in &store_id[..7] {
            let _ = write!(name, "{byte:02x}"); // a String takes everything
        }
        options.client_id = name.into();
    }
    format!("{}@{}:{}{}", options.client_id, endpoint.host(), endpoint.port(), endpoint.path())
}

fn gate(outbox: &Outbox<super::Tickets>) -> Gate {
    let commands = outbox.commands().clone();
    Arc::new(move |steps| {
        // A thread that has ended drops the steps, and with them the connection.
        let _ = commands.send(Command::Record(steps));
    })
}

/// What was in flight goes on under its packet ids.
fn restore(session: &mut Session, restored: Vec<Restored>, outgoing: &mut Outgoing, lineup: &mut Lineup) {
    let now = wall_clock();
    for Restored { mut stored, packet_id, stage } in restored {
        lineup.depart(&mut stored, None);
        let seq = stored.seq;
        // Packet ids are unique in the outbox.
        let _ = session.restore(seq, packet_id, stage, outgoing.publish_again(stored, now));
    }
}
