//! The outbox: what was published and is not settled, in one SQLite file.
//!
//! One thread writes. It takes what waits (at most 1,024 messages or 256 KiB), commits it in one transaction and lets
//! go of whoever waits for it; the next batch collects meanwhile, without a timer. What was acknowledged is removed
//! with the next commit that is needed anyway: a crash before it sends a message again that the receiver knows by its
//! id. That commit also notes the id: the last million of them at most, for seven days, so that
//! [`reconcile`](mod@crate::reconcile) can compare both ends.
//!
//! A QoS 2 message has its packet id and the epoch of the server's session on disk before its PUBLISH is written, and
//! its PUBREC before its PUBREL. So after a crash the same message goes on under the same packet id, and no other
//! message is mistaken for it. QoS 1 has nothing to remember: a crash gives two copies either way.
//!
//! | crash point | where the process dies | what must hold afterwards |
//! |---|---|---|
//! | 21 | a batch is drained, no transaction yet | nothing of it was promised |
//! | 22 | rows and steps are in the open transaction | the same |
//! | 23 | settled messages removed, before the commit | the same; settled ones are sent again |
//! | 24 | after the commit, before the watermark | stored, not promised: sent once or twice with one id |
//! | 25 | after the watermark, before anybody is told | the same; PUBLISH and PUBREL not written, packet id known |
//! | 26 | after everybody was told | promised: delivered |
//! | 27 | opened, what is in flight in other sessions forgotten, not committed | forgotten by the next opening |

mod failed;
mod held;
mod ledger;
mod message;
mod pack;
mod settled;
mod tables;
mod uuid;
mod writer;

pub use crate::store::StoreError;
pub use crate::store::sqlite::Notice;
pub use failed::FailedMessages;
pub use ledger::{Ledger, Published, Standing, ledger};
pub use message::{Message, Stored};
pub use settled::{SETTLED_AGE_MS_MAX, SETTLED_IDS_MAX};
pub use uuid::{Uuid, UuidError};

use crate::client::Steps;
use crate::store::sqlite::{self, Store};
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::inflight::Stage;
use mqtally_proto::packet::{Qos, ReasonCode};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tables::Tally;
use tokio::sync::{mpsc as tokio_mpsc, oneshot};
use writer::Writer;

/// The numbered crash points of this module.
#[cfg(feature = "failpoints")]
pub const CRASH_POINTS: std::ops::RangeInclusive<u32> = 21..=27;

/// Where an outbox is and how it is opened.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file; its `.mark` and `.lock` belong to it.
    pub path: PathBuf,
    /// How to open it.
    pub options: sqlite::Options,
}

/// Why a message was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The server's reason, or the one that says the same where it was found here; none where nothing was sent.
    pub reason: Option<ReasonCode>,
    /// In words.
    pub detail: String,
}

/// A message that was given up, and is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its place in the order of publishing.
    pub seq: u64,
    /// The message, unless its row is damaged.
    pub stored: Option<Stored>,
    /// When.
    pub failed_at: Time,
    /// Why.
    pub failure: Failure,
}

/// What is in an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Messages, those that were given up among them.
    pub rows: u64,
    /// Bytes of those messages, about.
    pub bytes: u64,
    /// Messages that were given up.
    pub failed: u64,
}

/// What is in the outbox at `path`, and its oldest `limit` failed messages. Its owner may be at work meanwhile.
pub fn look(path: &Path, limit: usize) -> Result<(Totals, Vec<Failed>), StoreError> {
    let connection = sqlite::attach(path, &tables::LAYOUT)?;
    let look = || Ok((Tally::load(&connection)?.totals(), tables::failed(&connection, 0, limit)?));
    look().map_err(|error| StoreError::from_sqlite(path, error))
}

/// The id of the first message that waits in the outbox at `path`, or is in flight from it.
pub(crate) fn first(path: &Path) -> Result<Option<Uuid>, StoreError> {
    let connection = sqlite::attach(path, &tables::LAYOUT)?;
    let mut first = None;
    let looked = held::each(&connection, 0, |record| {
        first = record.head().map(|head| head.id);
        first.is_none()
    });
    looked.map(|_| first).map_err(|error| StoreError::from_sqlite(path, error))
}

/// Messages on their way in, which were published together, with what their publisher wants back.
#[derive(Debug)]
pub(crate) struct Accepted<T> {
    pub(crate) created: Time,
    pub(crate) messages: Vec<(Uuid, Message)>,
    pub(crate) tickets: T,
}

/// A message whose fate is known.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) seq: u64,
    /// As counted by [`Message::size`].
    pub(crate) bytes: u64,
    pub(crate) fate: Fate,
}

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Fate {
    /// The broker has it; what is remembered of it comes along.
    Delivered {
        id: Uuid,
        topic: ByteString,
        qos: Qos,
    },
    Failed(Failure),
}

/// What is asked of the writer.
pub(crate) enum Command<T> {
    /// Store these and say so; told to the publisher's task as [`Report::Stored`], in order.
    Insert(Accepted<T>, oneshot::Sender<()>),
    Record(Steps),
    /// The server has begun its n-th session of this life of the process.
    Began(u64),
    Settle(Vec<Settled>),
    /// Read messages behind this place; told as [`Report::Loaded`].
    Load {
        after: u64,
        limit: usize,
    },
    /// Commit what came before, and end.
    Stop,
}

/// What the writer tells the publisher's task.
#[derive(Debug)]
pub(crate) enum Report<T> {
    /// Durable from here on, numbered from `first`. The messages come along, so that they need not be read again.
    Stored { first: u64, accepted: Vec<Accepted<T>> },
    /// Waiting messages in order, a damaged one as its number; `end` when there are no more.
    Loaded { rows: Vec<(u64, Option<Stored>)>, end: bool },
    /// The store cannot be written, and is tried again; none when it can again.
    Trouble(Option<String>),
}

/// A QoS 2 message that was in flight when the last process ended.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) stored: Stored,
    pub(crate) packet_id: u16,
    pub(crate) stage: Stage,
}

/// What an outbox held when it was opened.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) totals: Totals,
    pub(crate) notices: Vec<Notice>,
    /// In the order of publishing.
    pub(crate) restored: Vec<Restored>,
    /// Whether packet ids are known for the session that is to be resumed; otherwise it has to be begun anew.
    pub(crate) resumes: bool,
}

/// An open outbox. Its thread ends, after a last commit, when nobody can ask it for anything any more.
pub(crate) struct Outbox<T> {
    commands: mpsc::Sender<Command<T>>,
    abandoned: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Outbox<T> {
    /// Opens the outbox for the session that `session_of` names, given the outbox's id. A packet id of another session
    /// means nothing: those messages are sent as new.
    pub(crate) fn open(
        settings: &Settings,
        session_of: impl FnOnce([u8; 16]) -> String,
        reports: tokio_mpsc::UnboundedSender<Report<T>>,
    ) -> Result<(Self, Found), StoreError> {
        let (store, notices) = Store::open(&settings.path, &tables::LAYOUT, &settings.options)?;
        let session_of = session_of(store.id());
        let (commands, commands_out) = mpsc::channel();
        let abandoned = Arc::new(AtomicBool::new(false));
        let (writer, found) =
            Writer::start(store, notices, session_of, commands_out, reports, Arc::clone(&abandoned))?;
        let thread =
            std::thread::Builder::new().name("mqtally-outbox".into()).spawn(move || writer.run()).map_err(
                |source| StoreError::Io { path: settings.path.clone(), act: "start a thread", source },
            )?;
        Ok((Self { commands, abandoned, thread }, found))
    }

    /// The writer's queue.
    pub(crate) fn commands(&self) -> &mpsc::Sender<Command<T>> {
        &self.commands
    }

    /// Commits what is still to be committed within `timeout` and lets go of the file. Gives up after it: a disk that
    /// is full for ever would keep the thread for ever.
    pub(crate) async fn close(self, timeout: Duration) {
        let _ = self.commands.send(Command::Stop);
        let joined = tokio::task::spawn_blocking(move || self.thread.join());
        if tokio::time::timeout(timeout, joined).await.is_err() {
            self.abandoned.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Step;

    struct Bench {
        directory: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            Self { directory: tempfile::tempdir().unwrap() }
        }

        fn open(&self, session_of: &str) -> (Outbox<()>, Found) {
            let settings =
                Settings { path: self.directory.path().join("o.db"), options: sqlite::Options::default() };
            let (reports, _) = tokio_mpsc::unbounded_channel();
            Outbox::open(&settings, |_| session_of.to_owned(), reports).unwrap()
        }

        /// Two messages, and these steps, all on disk when it returns.
        async fn leave(&self, steps: Vec<Step>) {
            let (outbox, found) = self.open("me");
            assert!(!found.resumes);
            let message = |n: u8| (Uuid([n; 16]), Message::new("t", vec![n], Qos::ExactlyOnce));
            let messages = vec![message(1), message(2)];
            let accepted = Accepted { created: Time::from_ms(0), messages, tickets: () };
            let (durable, _) = oneshot::channel();
            outbox.commands().send(Command::Insert(accepted, durable)).unwrap();
            for step in steps {
                let (recorded, _) = oneshot::channel();
                outbox.commands().send(Command::Record(Steps { steps: vec![step], recorded })).unwrap();
            }
            outbox.close(Duration::from_secs(10)).await;
        }
    }

    fn step(token: u64, packet_id: u16, begun: u64, released: bool) -> Step {
        Step { token, packet_id, begun, released }
    }

    fn restored(found: &Found) -> Vec<(u64, u16, Stage)> {
        found.restored.iter().map(|r| (r.stored.seq, r.packet_id, r.stage)).collect()
    }

    #[tokio::test]
    async fn steps_come_back_for_the_same_session_and_for_no_other() {
        let bench = Bench::new();
        bench.leave(vec![step(1, 5, 1, false), step(2, 6, 1, false), step(1, 5, 1, true)]).await;
        let (outbox, found) = bench.open("me");
        assert_eq!(restored(&found), [(1, 5, Stage::Released), (2, 6, Stage::Published)]);
        outbox.close(Duration::from_secs(10)).await;
        let (outbox, found) = bench.open("somebody else");
        assert_eq!((restored(&found), found.resumes, found.totals.rows), (vec![], false, 2));
        outbox.close(Duration::from_secs(10)).await;
    }

    #[tokio::test]
    async fn packet_ids_of_a_session_that_the_broker_lost_mean_nothing() {
        let bench = Bench::new();
        bench.leave(vec![step(1, 5, 1, false), step(1, 5, 1, true), step(2, 5, 2, false)]).await;
        let (_outbox, found) = bench.open("me");
        assert_eq!((restored(&found), found.totals.rows), (vec![(2, 5, Stage::Published)], 2));
    }

    #[tokio::test]
    async fn a_packet_id_that_was_given_on_says_that_the_former_message_is_done() {
        let bench = Bench::new();
        bench.leave(vec![step(1, 5, 1, false), step(1, 5, 1, true), step(2, 5, 1, false)]).await;
        let (_outbox, found) = bench.open("me");
        assert_eq!((restored(&found), found.totals.rows), (vec![(2, 5, Stage::Published)], 1));
    }

    #[tokio::test]
    async fn a_refused_message_whose_packet_id_was_given_on_waits_again() {
        let bench = Bench::new();
        bench.leave(vec![step(1, 5, 1, false), step(2, 5, 1, false)]).await;
        let (_outbox, found) = bench.open("me");
        assert_eq!((restored(&found), found.totals.rows), (vec![(2, 5, Stage::Published)], 2));
    }
}
