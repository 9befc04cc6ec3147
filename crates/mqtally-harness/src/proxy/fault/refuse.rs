//! `refuse`: lets nobody in. Links that are open stay.

use super::super::Ending;
use super::super::words::Words;
use std::fmt;

/// Lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refuse {
    /// What whoever connects sees.
    pub how: Refusal,
}

/// What whoever connects sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The connection is made and ended at once.
    Close(Ending),
    /// Nobody listens: connection refused. The port stays ours.
    Unlisten,
}

impl Refuse {
    pub(super) fn parse(words: &mut Words) -> Self {
        let how = if words.take("unlisten") { Refusal::Unlisten } else { Refusal::Close(Ending::Fin) };
        Self { how }
    }

    /// Whether the proxy knows how often it refused.
    pub(in super::super) fn is_counted(&self) -> bool {
        self.how != Refusal::Unlisten
    }
}

impl fmt::Display for Refuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            Refusal::Close(ending) => ending.fmt(f),
            Refusal::Unlisten => f.write_str("unlisten"),
        }
    }
}
