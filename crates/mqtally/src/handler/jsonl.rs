//! `jsonl:FILE`: appends one JSON object a line.
//!
//! A batch is one write, or a few where it is long, then one sync of the data, and only then are its messages done; without
//! [`sync_files`](super::Options::sync_files) the sync is left to the operating system. Lines are never torn: a write that
//! fails is taken back, and the torn end that a crash leaves is cut when the file is opened. Its message was not done, and
//! comes again. A last line that somebody else left without a line end is completed, not cut.
//!
//! A message whose `done` was lost in a crash has two lines with the same `id`. The file belongs to one process at a time.
//! To rotate it, copy and truncate it, or restart: a renamed file is written to under its new name.
//! A pipe or device can stand for the file; then there is nothing to repair, to lock or to sync.

use super::batch::{Batcher, Sink, write_lines};
use super::record::Line;
use super::{OpenError, retry};
use crate::inbox::{Delivery, Outcome};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

/// How every line of this crate begins.
const OURS: &[u8] = b"{\"topic\":";
/// Bytes that are read at once on the way back to the last line's start.
const CHUNK_BYTES: u64 = 64 << 10;

pub(super) struct Jsonl(Batcher);

impl Jsonl {
    /// Opens the file, or makes it, and repairs its end.
    pub(super) fn open(path: &Path, sync: bool, time_max: Duration) -> Result<Self, OpenError> {
        let failed = |act| move |source| OpenError::Io { path: path.to_owned(), act, source };
        let there = path.exists();
        let mut file =
            File::options().read(true).append(true).create(true).open(path).map_err(failed("open it"))?;
        let regular = file.metadata().map_err(failed("open it"))?.is_file();
        if regular {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned() }),
                Err(TryLockError::Error(error)) => return Err(failed("lock it")(error)),
            }
            repair(&mut file).map_err(failed("repair its end"))?;
        }
        if !there && sync {
            sync_directory(path).map_err(failed("sync its directory"))?;
        }
        let appender = Appender { file, regular, sync: sync && regular, torn: false };
        Batcher::start("jsonl", appender, time_max).map(Self).map_err(failed("start its writer"))
    }

    pub(super) fn time_max(&self) -> Duration {
        self.0.time_max()
    }

    pub(super) async fn handle(&self, delivery: &Delivery) -> Outcome {
        self.0.handle(delivery).await
    }
}

struct Appender {
    file: File,
    regular: bool,
    sync: bool,
    /// A write failed and could not be taken back.
    torn: bool,
}

impl Sink for Appender {
    fn write(&mut self, batch: &[Delivery]) -> Vec<Outcome> {
        let written = self.append(batch);
        let outcome = || match &written {
            Ok(()) => Outcome::Done,
            Err(error) => retry(format!("cannot append: {error}")),
        };
        batch.iter().map(|_| outcome()).collect()
    }
}

impl Appender {
    fn append(&mut self, batch: &[Delivery]) -> io::Result<()> {
        let lines = batch.iter().map(Line::json);
        if !self.regular {
            return write_lines(&mut self.file, lines);
        }
        if self.torn {
            repair(&mut self.file)?;
            self.torn = false;
        }
        let end = self.file.metadata()?.len();
        let written = write_lines(&mut self.file, lines).and_then(|()| self.synced());
        if written.is_err() {
            self.torn = self.file.set_len(end).is_err();
        }
        written
    }

    fn synced(&self) -> io::Result<()> {
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }
}

/// Makes the file end with a whole line.
fn repair(file: &mut File) -> io::Result<()> {
    let end = file.metadata()?.len();
    let start = last_line_start(file, end)?;
    if start == end {
        return Ok(());
    }
    let mut beginning = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    Read::take(&mut *file, OURS.len() as u64).read_to_end(&mut beginning)?;
    let ours = OURS.starts_with(&beginning);
    if ours && !is_json(file, start)? { file.set_len(start) } else { file.write_all(b"\n") }
}

/// Where what follows the last line end begins.
fn last_line_start(file: &mut File, end: u64) -> io::Result<u64> {
    let mut upper = end;
    while upper > 0 {
        let lower = upper.saturating_sub(CHUNK_BYTES);
        let mut chunk = Vec::new();
        file.seek(SeekFrom::Start(lower))?;
        Read::take(&mut *file, upper - lower).read_to_end(&mut chunk)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(lower + at as u64 + 1);
        }
        upper = lower;
    }
    Ok(0)
}

/// Whether a whole JSON value stands from `start` to the end.
fn is_json(file: &mut File, start: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(start))?;
    let parsed = serde_json::from_reader::<_, serde::de::IgnoredAny>(io::BufReader::new(file));
    match parsed {
        Err(error) if error.is_io() => Err(error.into()),
        parsed => Ok(parsed.is_ok()),
    }
}

/// Makes a new file's name survive the machine.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) { fs::File::open(parent)?.sync_all() } else { Ok(()) }
}
