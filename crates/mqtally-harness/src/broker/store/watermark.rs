//! How many commits were made durable, kept outside the database.
//!
//! SQLite takes damage at the end of its log for the end of the log, so lost commits would go unnoticed. This file is
//! written after each commit has reached the disk and before anything of it is acknowledged, and it is not synced: on
//! the disk it may be behind the database and never ahead of it.

use super::{StoreError, StoreErrorKind};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

const LENGTH: usize = 12;

/// The open watermark file.
#[derive(Debug)]
pub(super) struct Watermark {
    path: PathBuf,
    file: File,
}

impl Watermark {
    /// Opens or creates the file and compares it with the `commits` that the database holds.
    pub(super) fn open(path: &Path, commits: u64) -> Result<Self, StoreError> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|source| StoreError::io("open", path, source))?;
        let mut watermark = Self { path: path.to_owned(), file };
        let acknowledged = watermark.read()?;
        if acknowledged > commits {
            let file = path.with_file_name(super::DATABASE_FILE);
            return Err(StoreError::new(&file, StoreErrorKind::Behind { commits, acknowledged }));
        }
        watermark.advance(commits)?;
        Ok(watermark)
    }

    /// Removes the file: commits that do not wait for the disk may lawfully be lost.
    pub(super) fn remove(path: &Path) -> Result<Option<Self>, StoreError> {
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(StoreError::io("remove", path, source))
            }
            _ => Ok(None),
        }
    }

    /// Notes that `commits` are durable.
    pub(super) fn advance(&mut self, commits: u64) -> Result<(), StoreError> {
        let mut record = [0; LENGTH];
        record[..8].copy_from_slice(&commits.to_le_bytes());
        record[8..].copy_from_slice(&crc32fast::hash(&commits.to_le_bytes()).to_le_bytes());
        self.file
            .rewind()
            .and_then(|()| self.file.write_all(&record))
            .map_err(|source| StoreError::io("write to", &self.path, source))
    }

    fn read(&mut self) -> Result<u64, StoreError> {
        let mut bytes = Vec::new();
        Read::by_ref(&mut self.file)
            .take(LENGTH as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| StoreError::io("read", &self.path, source))?;
        if bytes.is_empty() {
            return Ok(0);
        }
        parse(&bytes).ok_or_else(|| StoreError::damaged(&self.path, "its checksum does not match"))
    }
}

fn parse(record: &[u8]) -> Option<u64> {
    let (commits, crc) = record.split_first_chunk::<8>()?;
    let matches = crc == crc32fast::hash(commits).to_le_bytes();
    matches.then(|| u64::from_le_bytes(*commits))
}
