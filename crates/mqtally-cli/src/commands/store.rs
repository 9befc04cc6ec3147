//! Where a store is: in a file of our own, or in a database that several share.

use crate::exit::Failure;
#[cfg(feature = "postgres")]
use mqtally::store::postgres::Url;
use std::fmt;
use std::path::{Path, PathBuf};

/// What `--store` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Store {
    File(PathBuf),
    #[cfg(feature = "postgres")]
    Shared(Url),
}

impl Store {
    pub(super) fn at(path: &Path) -> Result<Self, Failure> {
        match path.to_str() {
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => shared(url),
            _ => Ok(Self::File(path.to_owned())),
        }
    }
}

#[cfg(feature = "postgres")]
fn shared(url: &str) -> Result<Store, Failure> {
    let failed = |error| Failure::told(crate::exit::ExitStatus::Usage, &error, "--store");
    url.parse().map(Store::Shared).map_err(failed)
}

#[cfg(not(feature = "postgres"))]
fn shared(_: &str) -> Result<Store, Failure> {
    Err(Failure::usage("this program is built without PostgreSQL", "--store", "name a file"))
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            #[cfg(feature = "postgres")]
            Self::Shared(url) => write!(f, "{url}"),
        }
    }
}
