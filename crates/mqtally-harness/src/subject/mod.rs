//! Somebody's own client program, run behind the fault proxy and judged.
//!
//! Start here:
//!
//! - [`Subject`]: what is known of a program before the run, and [`Subject::introduce`], which finds it out.
//! - `program`: its process, what it is told by its environment, and what it says (`protocol`) on standard output or by
//!   HTTP (`reports`).
//! - `tap`: the packets of its links on their way into the history, and what a stage has to know of them.
//! - `names`: what its messages are called.
//!
//! What is done to it stands in `workload::subject`; what it did wrong the checker says.

mod names;
mod program;
mod protocol;
mod reports;
mod speech;
mod tap;

pub(crate) use names::Names;
pub(crate) use program::{Place, Program};
pub(crate) use protocol::token;
pub(crate) use reports::Reports;
pub(crate) use speech::Speech;
pub(crate) use tap::{LinkTap, Standing};

use crate::process::ProcessError;
use crate::proxy::{Direction, Note, PacketKind, Proxy, ProxyError, ProxyOptions, Rule, Times, fault::Fault};
use mqtally::endpoint::Endpoint;
use mqtally_history::event::Side;
use mqtally_proto::packet::{Connect, Packet, Property, Version};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a program may take from its start to its CONNECT.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A program under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// What it is to the broker.
    pub side: Side,
    /// The command that starts it; words are cut as in a shell, but no shell runs.
    pub command: String,
    /// What reports call it: the command, with passwords taken out.
    pub name: String,
    /// What `{dir}` stands for: a directory for its data, which has to exist and outlives its processes.
    pub directory: PathBuf,
    /// Whether it is judged by its packets alone, and not by what it says.
    pub wire_only: bool,
    /// What its first CONNECT said, or why there was none.
    pub introduction: Result<Introduction, String>,
}

/// What the first CONNECT of a program says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Introduction {
    /// The version of MQTT that it speaks.
    pub version: Version,
    /// Its session outlives its connections.
    pub persistent: bool,
}

/// Why a program cannot be run at all.
#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    /// The command cannot be understood, or its program not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The proxy cannot stand before this broker.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// There is no port to report to.
    #[error("the subject has nowhere to report to: {0}")]
    Reports(#[from] std::io::Error),
}

impl Subject {
    /// Starts the program once, up to its CONNECT, which never reaches the broker: so nothing is left there.
    ///
    /// # Errors
    /// It cannot be started, or the broker not be proxied. That it ends or never connects is no error: it is what the
    /// run will say of it.
    pub async fn introduce(
        side: Side,
        command: String,
        directory: PathBuf,
        wire_only: bool,
        broker: &Endpoint,
    ) -> Result<Self, SubjectError> {
        let introduction = Err("it was never started".to_owned());
        let mut subject = Self { side, name: command.clone(), command, directory, wire_only, introduction };
        let met = Arc::new(Meeting::default());
        let watch = Arc::clone(&met);
        let proxy = Proxy::start(ProxyOptions {
            watch: Some(Arc::new(move |_, note| watch.note(note))),
            ..ProxyOptions::new((Ipv4Addr::LOCALHOST, 0).into(), broker.clone())
        });
        let proxy = proxy.await?;
        let silence =
            Rule::new(Fault::cut()).before(Direction::ToServer, PacketKind::CONNECT, 1).times(Times::Always);
        // One rule among none is within every limit.
        let _ = proxy.add(silence);
        // What it says before it is connected is about nothing.
        let reports = Reports::listen(|_| true).await?;
        let place = Place::new(&proxy, broker, "mqtally/introduction", &reports);
        let mut program = Program::start(&subject, &place, |_| {})?;
        subject.introduction = tokio::select! {
            introduction = met.connect() => introduction,
            how = program.until_ended() => Err(format!("it ended before it connected ({how})")),
            () = tokio::time::sleep(CONNECT_LIMIT) => {
                Err(format!("it did not connect to {} within {} s", place.address(), CONNECT_LIMIT.as_secs()))
            }
        };
        let _ = program.kill_9().await;
        Ok(subject)
    }

    /// What the program is called in a sentence.
    pub(crate) fn called(&self) -> &'static str {
        match self.side {
            Side::Subscriber => "the subscribing subject",
            Side::Publisher => "the publishing subject",
        }
    }

    /// The version that it speaks, or the one in which its silence is recorded.
    pub fn version(&self) -> Version {
        self.introduction.as_ref().map_or(Version::V3_1_1, |it| it.version)
    }

    /// The promises that a run with it has to exercise.
    pub(crate) fn required(&self) -> Vec<&'static str> {
        let persistent = self.introduction.as_ref().is_ok_and(|it| it.persistent);
        let (spoken, wire) = match self.side {
            Side::Subscriber => ("A3", Some("O5")),
            // A publisher without a session has nothing to resume.
            Side::Publisher => ("A4", (persistent || self.wire_only).then_some("R12")),
        };
        wire.into_iter().chain((!self.wire_only).then_some(spoken)).collect()
    }
}

/// The first CONNECT.
#[derive(Debug, Default)]
struct Meeting {
    met: Mutex<Option<Result<Introduction, String>>>,
    connected: Notify,
}

impl Meeting {
    fn note(&self, note: &Note<'_>) {
        let met = match note {
            Note::Packet { packet: Some(Packet::Connect(connect)), .. } => Ok(introduction(connect)),
            Note::Opaque { .. } | Note::Packet { packet: None, .. } => {
                Err("it sends bytes that are no MQTT".to_owned())
            }
            _ => return,
        };
        self.met.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(met);
        self.connected.notify_one();
    }

    async fn connect(&self) -> Result<Introduction, String> {
        loop {
            let met = self.met.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(met) = met {
                return met;
            }
            self.connected.notified().await;
        }
    }
}

fn introduction(connect: &Connect) -> Introduction {
    let expiry = connect.properties.0.iter().find_map(|property| match property {
        Property::SessionExpiryInterval(seconds) => Some(*seconds),
        _ => None,
    });
    let persistent = match connect.version {
        Version::V3_1_1 => !connect.clean_start,
        Version::V5_0 => expiry.unwrap_or(0) > 0,
    };
    Introduction { version: connect.version, persistent }
}
