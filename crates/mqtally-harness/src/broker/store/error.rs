//! Why the store cannot be opened or written.

use rusqlite::ErrorCode;
use std::io;
use std::path::{Path, PathBuf};

/// Why the store cannot be opened or written, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{kind}: {}; {}", file.display(), kind.advice())]
pub struct StoreError {
    /// What is wrong.
    #[source]
    pub kind: StoreErrorKind,
    /// The file or directory that it is about.
    pub file: PathBuf,
}

/// What is wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreErrorKind {
    /// Another process, or another broker of this one, has it open.
    #[error("store in use by another broker")]
    Locked,
    /// A SQLite file that is not a broker's store.
    #[error("not a broker's store")]
    Foreign,
    /// Written by a later program.
    #[error("store has format {found}, this program knows {known}")]
    Newer {
        /// The format that it has.
        found: u32,
        /// The format that this program knows.
        known: u32,
    },
    /// A row, a page or the file does not read back as it was written.
    #[error("store damaged ({0})")]
    Damaged(String),
    /// The store reads well, but acknowledged commits are gone from its end.
    #[error("store has lost its newest state (commit {commits} of {acknowledged})")]
    Behind {
        /// The last commit found.
        commits: u64,
        /// The last commit that was acknowledged.
        acknowledged: u64,
    },
    /// The operating system refused.
    #[error("cannot {act} the store ({source})")]
    Io {
        /// What was tried.
        act: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// SQLite refused: disk full, I/O error and the like.
    #[error("cannot {act} the store ({source})")]
    Sqlite {
        /// What was tried.
        act: &'static str,
        /// Why not.
        source: rusqlite::Error,
    },
}

impl StoreErrorKind {
    /// What to do about it: a lower-case fragment.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Locked => "stop that one, or choose another data directory",
            Self::Foreign => "choose another data directory",
            Self::Newer { .. } => "use the program that wrote it, or another data directory",
            Self::Damaged(_) => "restore a copy of its directory, or move it away to start empty",
            Self::Behind { .. } => {
                "restore a copy of its directory, or delete broker.watermark beside it to go on without what is lost"
            }
            Self::Io { .. } | Self::Sqlite { .. } => "check the disk's space and the directory's permissions",
        }
    }
}

impl StoreError {
    pub(super) fn new(file: &Path, kind: StoreErrorKind) -> Self {
        Self { kind, file: file.to_owned() }
    }

    pub(super) fn io(act: &'static str, file: &Path, source: io::Error) -> Self {
        Self::new(file, StoreErrorKind::Io { act, source })
    }

    pub(super) fn damaged(file: &Path, detail: impl Into<String>) -> Self {
        Self::new(file, StoreErrorKind::Damaged(detail.into()))
    }

    /// Sorts SQLite's errors by what the user can do about them.
    pub(super) fn sqlite(act: &'static str, file: &Path, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::new(file, StoreErrorKind::Locked)
            }
            Some(ErrorCode::DatabaseCorrupt) => Self::damaged(file, source.to_string()),
            Some(ErrorCode::NotADatabase) => Self::damaged(file, "not a SQLite database"),
            // Not SQLite's verdict: a value has another type than was written, or a row is not there.
            None => Self::damaged(file, source.to_string()),
            Some(_) => Self::new(file, StoreErrorKind::Sqlite { act, source }),
        }
    }
}
