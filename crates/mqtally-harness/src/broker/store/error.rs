//! Why the store cannot be opened or written.

use rusqlite::ErrorCode;
use std::path::{Path, PathBuf};

/// Why the store cannot be opened or written. Each message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process (or another broker of this one) has it open.
    #[error("{} is in use by another broker; stop that one or choose another data directory", file.display())]
    Locked {
        /// The database.
        file: PathBuf,
    },
    /// A SQLite file that is not a broker's store.
    #[error("{} is not a broker's store; choose another data directory", file.display())]
    Foreign {
        /// The database.
        file: PathBuf,
    },
    /// Written by a later program.
    #[error(
        "{} has format {found}, this program knows {known}; use the program that wrote it, or another data directory",
        file.display()
    )]
    Newer {
        /// The database.
        file: PathBuf,
        /// The format that it has.
        found: u32,
        /// The format that this program knows.
        known: u32,
    },
    /// A row, a page or the file does not read back as it was written.
    #[error("{} is damaged ({detail}); restore a copy of its directory, or move it away to start empty", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The store reads well, but acknowledged commits are gone from its end.
    #[error(
        "{} holds {commits} commits but {acknowledged} were acknowledged: the newest are lost; restore a copy of its \
         directory, or delete {} beside it to go on without them", file.display(), super::WATERMARK_FILE
    )]
    Behind {
        /// The database.
        file: PathBuf,
        /// Commits found.
        commits: u64,
        /// Commits that were acknowledged.
        acknowledged: u64,
    },
    /// The operating system refused.
    #[error("cannot {act} {}: {source}", file.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// On what.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// SQLite refused: disk full, I/O error and the like.
    #[error("cannot {act} {}: {source}", file.display())]
    Sqlite {
        /// What was tried.
        act: &'static str,
        /// On what.
        file: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
}

impl StoreError {
    pub(super) fn io(act: &'static str, file: &Path, source: std::io::Error) -> Self {
        Self::Io { act, file: file.to_owned(), source }
    }

    pub(super) fn damaged(file: &Path, detail: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), detail: detail.into() }
    }

    /// Sorts SQLite's errors by what the user can do about them.
    pub(super) fn sqlite(act: &'static str, file: &Path, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Locked { file: file.to_owned() }
            }
            Some(ErrorCode::DatabaseCorrupt) => Self::damaged(file, source.to_string()),
            Some(ErrorCode::NotADatabase) => Self::damaged(file, "it is not a SQLite database"),
            _ => Self::Sqlite { act, file: file.to_owned(), source },
        }
    }
}
