//! The packet log: every packet both ways, and what was done to it, one JSON object a line.

use crate::exit::Failure;
use mqtally_harness::proxy::{Note, Peer, Watch};
use mqtally_proto::Time;
use serde::Serialize;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes of the latest lines that are kept in memory.
const RECENT_BYTES_MAX: usize = 4 << 20;
/// What is written is in the file after this time.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
const ADVICE: &str = "name a file in a directory that exists and has room";

/// Where the lines go.
pub(super) struct PacketLog {
    path: PathBuf,
    lines: Mutex<Lines>,
}

struct Lines {
    file: Option<BufWriter<File>>,
    recent: VecDeque<String>,
    recent_bytes: usize,
    /// The first failure; nothing more is written after it.
    failed: Option<io::Error>,
}

/// One line. What does not apply is left out.
#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    /// Since the proxy was started.
    at_ms: u64,
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qos: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet_id: Option<u16>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dup: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    unlawful: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    did: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// No network could have done it: what follows is worth a warning at most.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    robustness_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl PacketLog {
    /// Writes to this file, if there is one, from its beginning.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let file =
            path.map(|path| File::create(path).map_err(|error| unwritable(path, &error))).transpose()?;
        let lines =
            Lines { file: file.map(BufWriter::new), recent: VecDeque::new(), recent_bytes: 0, failed: None };
        Ok(Self { path: path.unwrap_or(Path::new("-")).to_owned(), lines: Mutex::new(lines) })
    }

    /// What the proxy calls.
    pub(super) fn watch(self: Arc<Self>) -> Watch {
        Arc::new(move |at, note| self.take(at, note))
    }

    /// The latest lines.
    pub(super) fn recent(&self) -> String {
        self.lock().recent.iter().map(String::as_str).collect()
    }

    /// Brings what was written to the file, now and then, until it is dropped.
    pub(super) async fn keep_flushed(self: Arc<Self>) {
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            self.lock().try_write(BufWriter::flush);
        }
    }

    /// Everything is in the file, or the reason why not is told.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        let mut lines = self.lock();
        lines.try_write(BufWriter::flush);
        lines.failed.take().map_or(Ok(()), |error| Err(unwritable(&self.path, &error)))
    }

    fn take(&self, at: Time, note: &Note<'_>) {
        let mut text = serde_json::to_string(&Line::of(at, note)).unwrap_or_default();
        text.push('\n');
        let mut lines = self.lock();
        lines.try_write(|file| file.write_all(text.as_bytes()));
        lines.remember(text);
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn try_write(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        let Some(file) = self.file.as_mut().filter(|_| self.failed.is_none()) else { return };
        self.failed = write(file).err();
    }

    fn remember(&mut self, line: String) {
        self.recent_bytes += line.len();
        self.recent.push_back(line);
        while self.recent_bytes > RECENT_BYTES_MAX
            && let Some(oldest) = self.recent.pop_front()
        {
            self.recent_bytes -= oldest.len();
        }
    }
}

impl<'a> Line<'a> {
    fn of(at: Time, note: &'a Note<'_>) -> Self {
        let line = Self { at_ms: at.as_ms(), ..Self::default() };
        match note {
            Note::Opened(peer) => Self { event: "opened", ..line }.on(peer),
            Note::Refused => Self { event: "refused", ..line },
            Note::Unreachable { peer, reason } => {
                Self { event: "unreachable", reason: Some(reason), ..line }.on(peer)
            }
            Note::Packet { peer, seen, did, .. } => Self {
                event: "packet",
                direction: Some(seen.direction.to_string()),
                packet: Some(seen.kind.name()),
                bytes: Some(seen.len),
                qos: seen.qos.map(mqtally_proto::packet::Qos::as_u8),
                packet_id: seen.packet_id,
                dup: seen.dup,
                topic: seen.topic.as_deref(),
                unlawful: &seen.irregularities,
                did: Some(did.to_string()),
                ..line
            }
            .on(peer),
            Note::Opaque { peer, direction, bytes } => {
                Self { event: "opaque", direction: Some(direction.to_string()), bytes: Some(*bytes), ..line }
                    .on(peer)
            }
            Note::Strike(strike) => {
                let line = Self {
                    event: "strike",
                    did: Some(strike.kind.to_owned()),
                    rule: strike.rule.map(|id| id.0),
                    text: Some(&strike.text),
                    robustness_only: !strike.is_lawful,
                    ..line
                };
                match &strike.peer {
                    Some(peer) => line.on(peer),
                    None => line,
                }
            }
            Note::Closed { peer, by } => {
                Self { event: "closed", did: by.map(|by| format!("cut-{by}")), ..line }.on(peer)
            }
        }
    }

    fn on(self, peer: &'a Peer) -> Self {
        Self { link: Some(peer.link), client: peer.client.as_deref(), connection: peer.connection, ..self }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::io("cannot write the packet log", path, error, ADVICE)
}
