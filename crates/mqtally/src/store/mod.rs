//! The files that messages survive in: how they are opened, owned and distrusted.
//!
//! - [`sqlite`]: a store in one SQLite file: format, version, owner, synced commits.
//! - [`clock`]: the time that expiry follows; it never goes backward and never leaps.
#![cfg_attr(
    feature = "postgres",
    doc = "- [`postgres`]: a store in a PostgreSQL database, for several processes."
)]
//! - [`fail`]: numbered crash points and injected write errors, compiled only for tests.
//!
//! Three files belong together and must be kept, moved and restored together: `FILE` (with SQLite's own `FILE-wal` and
//! `FILE-shm` while it is open), `FILE.mark` and `FILE.lock`. The mark holds the number of the last commit that
//! anybody was told about. A store that has not reached its mark has lost something, and opening it fails.

pub mod clock;
pub mod fail;
mod mark;
#[cfg(feature = "postgres")]
pub mod postgres;
pub(crate) mod properties;
pub mod sqlite;
mod syncer;

use std::io;
use std::path::{Path, PathBuf};

/// Why a store could not be opened, or why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory of the store is missing.
    #[error("{}: the directory is missing; create it, or name another file", .path.display())]
    NoDirectory {
        /// The store's file.
        path: PathBuf,
    },
    /// The store or its directory cannot be written.
    #[error("{}: cannot be written; check the owner and mode of the file and of its directory", .path.display())]
    ReadOnly {
        /// The store's file.
        path: PathBuf,
    },
    /// The file is something else.
    #[error("{}: not a store of mqtally; it was left as it is, name another file", .path.display())]
    Foreign {
        /// The store's file.
        path: PathBuf,
    },
    /// The file is a store for another purpose.
    #[error("{}: holds an {found}, not an {expected}; name another file", .path.display())]
    OtherKind {
        /// The store's file.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What was asked for.
        expected: &'static str,
    },
    /// A newer program wrote the file.
    #[error("{}: has format {found}, this program reads up to {supported}; use the newer program", .path.display())]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// Its format version.
        found: i32,
        /// The newest that is understood.
        supported: i32,
    },
    /// An older program wrote the file, in a form that this one does not read.
    #[error(
        "{}: has format {found}, this program reads format {expected}; let the program that wrote it work it off, or name another file",
        .path.display()
    )]
    OlderFormat {
        /// The store's file.
        path: PathBuf,
        /// Its format version.
        found: i32,
        /// The format version that this program reads.
        expected: i32,
    },
    /// Another process holds the store.
    #[error("{}: in use by another process; stop that one, or give each its own file", .path.display())]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// Something in the files is not what was written.
    #[error(
        "{}: damaged: {what}; keep a copy, then restore the store with its .mark from a backup, or accept the loss explicitly",
        .path.display()
    )]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The store ends before what was acknowledged.
    #[error(
        "{}: older than its watermark: commit {acknowledged} was acknowledged, the store ends at {found}; \
         find the newer copy of FILE, FILE-wal and FILE.mark, or accept the loss explicitly",
        .path.display()
    )]
    Older {
        /// The store's file.
        path: PathBuf,
        /// The last commit that was acknowledged.
        acknowledged: u64,
        /// The last commit that is there.
        found: u64,
    },
    /// No room to write.
    #[error("{}: no space left; free some, it goes on by itself", .path.display())]
    Full {
        /// The store's file.
        path: PathBuf,
    },
    /// A shared store cannot be used.
    #[cfg(feature = "postgres")]
    #[error("{store}: {problem}")]
    Postgres {
        /// Its URL, without the password.
        store: String,
        /// Why, and what to do.
        problem: postgres::Problem,
    },
    /// SQLite failed otherwise.
    #[error("{}: {source}", .path.display())]
    Sqlite {
        /// The store's file.
        path: PathBuf,
        /// The engine's error.
        source: rusqlite::Error,
    },
    /// A file operation failed otherwise.
    #[error("{}: cannot {act}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        act: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl StoreError {
    /// The error for `source` at `path`, told apart by what the user can do about it.
    pub fn from_sqlite(path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{
            CannotOpen, DatabaseCorrupt, DiskFull, NotADatabase, PermissionDenied, ReadOnly,
        };
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(DiskFull) => Self::Full { path },
            Some(ReadOnly | CannotOpen | PermissionDenied) => Self::ReadOnly { path },
            Some(NotADatabase) => Self::Foreign { path },
            Some(DatabaseCorrupt) => Self::Damaged { path, what: source.to_string() },
            _ => Self::Sqlite { path, source },
        }
    }

    fn from_io(path: &Path, act: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, act, source },
        }
    }

    /// Whether trying again cannot help: somebody has to look at the files.
    pub fn needs_a_person(&self) -> bool {
        #[cfg(feature = "postgres")]
        if let Self::Postgres { problem, .. } = self {
            return !matches!(problem, postgres::Problem::Unreachable(_) | postgres::Problem::Failed(_));
        }
        !matches!(self, Self::Full { .. } | Self::Sqlite { .. } | Self::Io { .. } | Self::ReadOnly { .. })
    }
}
