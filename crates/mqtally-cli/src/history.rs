//! A recorded history: where it is, and what it comes to.

use crate::exit::{ExitStatus, Failure};
use crate::report::Judged;
use mqtally_harness::recorder::HISTORY_FILE;
use mqtally_history::checker::Checker;
use mqtally_history::event::{Event, EventKind};
use mqtally_history::journal::{JournalError, Reader};
use mqtally_history::timeline::Timeline;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

const NAME_ONE: &str = "name a directory that 'mqtally test --history' wrote";

/// Judges the history at `place`: the directory that `--history` named, or the file in it.
///
/// The report is a function of the history alone. A history that ends before its recorder finished, or that is damaged,
/// is judged up to where it is whole; its report says so, and so does the failure beside it.
///
/// # Errors
/// It is not a history, or cannot be read at all.
pub(crate) fn judge(place: &Path) -> Result<(Judged, Option<Failure>), Failure> {
    let path = file(place);
    let unreadable = |error: &JournalError| unreadable(&path, error);
    let file = File::open(&path).map_err(|error| unreadable(&JournalError::from(error)))?;
    let reader = Reader::new(BufReader::new(file)).map_err(|error| unreadable(&error))?;
    let (mut checker, mut timeline) = (Checker::new(reader.header()), Timeline::default());
    let mut observe = |event: &Event| {
        checker.observe(event);
        timeline.observe(event);
    };
    let (mut stopped, mut at_ns) = (None, 0);
    for event in reader {
        match event {
            Ok(event) => {
                at_ns = event.at_ns;
                observe(&event);
            }
            Err(error) => {
                observe(&Event { at_ns, kind: EventKind::Aborted { reason: error.to_string() } });
                stopped = Some(unreadable(&error));
                break;
            }
        }
    }
    Ok((Judged { report: checker.finish(), timeline }, stopped))
}

/// The file of a history that is, or is to be, at `place`.
pub(crate) fn file(place: &Path) -> PathBuf {
    if place.is_dir() { place.join(HISTORY_FILE) } else { place.to_owned() }
}

fn unreadable(path: &Path, error: &JournalError) -> Failure {
    let (what, advice) = match error {
        JournalError::Io(error) => return Failure::io("cannot read the history", path, error, NAME_ONE),
        // Only a writer meets this one.
        JournalError::Foreign | JournalError::TooLong { .. } => {
            ("not a history of mqtally".to_owned(), NAME_ONE)
        }
        JournalError::Newer { found } => (
            format!("a history of a newer mqtally (format {found})"),
            "judge it with that version or a later one",
        ),
        JournalError::Older { found } => (
            format!("a history of an older mqtally (format {found})"),
            "judge it with the version that wrote it, or record it again",
        ),
        JournalError::Damaged { offset, events } => (
            format!("the history is damaged at byte {offset}, after {events} whole events"),
            "restore it from a copy, or record it again",
        ),
        JournalError::Truncated { offset, events } => (
            format!("the history ends at byte {offset}, after {events} whole events, before its run did"),
            "restore it from a copy, or record it again",
        ),
    };
    Failure::new(ExitStatus::Io, what, path.display().to_string(), advice)
}
