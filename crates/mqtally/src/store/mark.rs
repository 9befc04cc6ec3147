//! The watermark: the last commit that anybody was told about, kept outside of the database.
//!
//! It is written after every synced commit and before the answers, and synced about once a second. So after the death
//! of the process it is exact, and after the death of the machine it is at most a second behind; it is never ahead of
//! what is on disk. Two slots are written in turn, so that one of them is whole whenever the power goes.

use super::StoreError;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 4] = b"mqmk";
const SLOT_BYTES: usize = 4 + 16 + 8 + 4;
/// One sector apart, so that one torn write cannot hit both.
const SLOT_OFFSETS: [u64; 2] = [0, 512];

/// The open watermark file of a store.
#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
    path: PathBuf,
    store: [u8; 16],
    turn: usize,
    unsynced: bool,
}

/// What the file said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// No file, or an empty one.
    Absent,
    /// Nothing in it can be read.
    Damaged,
    /// The last acknowledged commit of store `store`; `whole` unless one slot could not be read.
    At { store: [u8; 16], commit: u64, whole: bool },
}

impl Mark {
    pub(crate) fn path_of(store: &Path) -> PathBuf {
        super::sqlite::beside(store, ".mark")
    }

    /// Reads without opening for writing.
    pub(crate) fn read(store: &Path) -> Result<Reading, StoreError> {
        let path = Self::path_of(store);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => file.take(4096).read_to_end(&mut bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Reading::Absent),
            Err(error) => Err(error),
        }
        .map_err(|error| StoreError::from_io(&path, "read the watermark", error))?;
        Ok(parse(&bytes))
    }

    /// Opens the file of `store` for writing and writes `commit` into both slots.
    pub(crate) fn open(store: &Path, id: [u8; 16], commit: u64) -> Result<Self, StoreError> {
        let path = Self::path_of(store);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| StoreError::from_io(&path, "open the watermark", error))?;
        let mut mark = Self { file, path, store: id, turn: 0, unsynced: false };
        mark.write(commit)?;
        mark.write(commit)?;
        mark.sync()?;
        Ok(mark)
    }

    /// Notes that `commit` is about to be acknowledged. The death of the process cannot undo it.
    pub(crate) fn write(&mut self, commit: u64) -> Result<(), StoreError> {
        let slot = encode(self.store, commit);
        let offset = SLOT_OFFSETS[self.turn];
        self.turn = 1 - self.turn;
        self.unsynced = true;
        let written = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.write_all(&slot));
        written.map_err(|error| StoreError::from_io(&self.path, "write the watermark", error))
    }

    /// Whether the last note survives the machine.
    pub(crate) fn is_synced(&self) -> bool {
        !self.unsynced
    }

    /// Makes the last note survive the machine.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced {
            self.file
                .sync_data()
                .map_err(|error| StoreError::from_io(&self.path, "sync the watermark", error))?;
            self.unsynced = false;
        }
        Ok(())
    }
}

fn encode(store: [u8; 16], commit: u64) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..4].copy_from_slice(MAGIC);
    slot[4..20].copy_from_slice(&store);
    slot[20..28].copy_from_slice(&commit.to_le_bytes());
    let crc = crc32fast::hash(&slot[..28]);
    slot[28..].copy_from_slice(&crc.to_le_bytes());
    slot
}

fn parse(bytes: &[u8]) -> Reading {
    if bytes.is_empty() {
        return Reading::Absent;
    }
    let slots = SLOT_OFFSETS.map(|offset| decode(bytes.get(offset as usize..).unwrap_or_default()));
    let whole = slots.iter().all(Option::is_some);
    match slots.into_iter().flatten().max_by_key(|(_, commit)| *commit) {
        Some((store, commit)) => Reading::At { store, commit, whole },
        None => Reading::Damaged,
    }
}

fn decode(bytes: &[u8]) -> Option<([u8; 16], u64)> {
    let slot = bytes.get(..SLOT_BYTES)?;
    let crc = u32::from_le_bytes(slot[28..].try_into().ok()?);
    (slot[..4] == *MAGIC && crc32fast::hash(&slot[..28]) == crc).then_some(())?;
    Some((slot[4..20].try_into().ok()?, u64::from_le_bytes(slot[20..28].try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_byte_costs_one_slot_and_the_other_still_speaks() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("s.db");
        let mut mark = Mark::open(&store, [7; 16], 41).unwrap();
        mark.write(42).unwrap();
        let good = std::fs::read(Mark::path_of(&store)).unwrap();
        assert_eq!(parse(&good), Reading::At { store: [7; 16], commit: 42, whole: true });
        for at in (0..SLOT_BYTES).chain(512..512 + SLOT_BYTES) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let commit = if at < 512 { 41 } else { 42 };
            assert_eq!(parse(&bad), Reading::At { store: [7; 16], commit, whole: false }, "byte {at}");
        }
        assert_eq!(parse(&[0; 600]), Reading::Damaged);
        assert_eq!(parse(&[]), Reading::Absent);
    }
}
