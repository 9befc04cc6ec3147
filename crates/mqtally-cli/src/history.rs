//! A recorded history: where it is, and what it comes to.

use crate::exit::{ExitStatus, Failure};
use mqtally_harness::recorder::HISTORY_FILE;
use mqtally_history::journal::{JournalError, Reader};
use mqtally_history::report::Report;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Judges the history at `place`: the directory that `--history` named, or the file in it.
///
/// The report is a function of the history alone.
pub(crate) fn judge(place: &Path) -> Result<Report, Failure> {
    let path = file(place);
    let unreadable = |error: &JournalError| unreadable(&path, error);
    let file = File::open(&path).map_err(|error| unreadable(&JournalError::from(error)))?;
    let mut reader = Reader::new(BufReader::new(file)).map_err(|error| unreadable(&error))?;
    let header = reader.header().clone();
    let mut stopped = None;
    let events = reader.by_ref().map_while(|event| event.map_err(|error| stopped = Some(error)).ok());
    let report = mqtally_history::check(&header, events);
    match stopped {
        None => Ok(report),
        Some(error) => Err(unreadable(&error)),
    }
}

/// The file of a history that is, or is to be, at `place`.
pub(crate) fn file(place: &Path) -> PathBuf {
    if place.is_dir() { place.join(HISTORY_FILE) } else { place.to_owned() }
}
