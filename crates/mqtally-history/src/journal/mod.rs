//! Events to bytes and back.
//!
//! A journal is: the magic `mqtallyj`, the format version (two bytes, network order), then records. A record is the
//! length of its body (varint), the CRC-32 of the body (four bytes, network order) and the body. The first record is
//! the [`Header`](crate::event::Header), each further one an [`Event`](crate::event::Event), the last one says that
//! the recorder finished. Integers are varints, times are differences, topics and client ids are written once and
//! then referred to by number; the module `codec` has the details.
//!
//! A reader takes no byte on trust: damage is told from truncation, nothing panics, and what it allocates is bounded
//! by what it really read.

mod codec;
mod reader;
mod writer;

pub use reader::Reader;
pub use writer::Writer;

use std::io;

const MAGIC: &[u8; 8] = b"mqtallyj";
const FORMAT: u16 = 3;
/// No record is longer; the recorder truncates frames long before.
const RECORD_LEN_MAX: usize = 4 << 20;

/// Why a journal cannot be read, or not any further. Offsets count bytes from its beginning.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The first bytes are something else's.
    #[error("not a history of mqtally: give the directory or file that `--history` wrote")]
    Foreign,
    /// The format is newer than this program.
    #[error(
        "format version {found} is newer than {FORMAT}, the newest that this version reads: update mqtally"
    )]
    Newer {
        /// Its version.
        found: u16,
    },
    /// The format is older than any that this program reads.
    #[error(
        "format version {found} is older than {FORMAT}, the oldest that this version reads: \
         judge it with the version that wrote it, or record it again"
    )]
    Older {
        /// Its version.
        found: u16,
    },
    /// A record's bytes are not those that were written.
    #[error(
        "damaged at byte {offset}, after {events} whole events: restore the file from a copy, or record it again"
    )]
    Damaged {
        /// Where the damaged record begins.
        offset: u64,
        /// Events before it.
        events: u64,
    },
    /// It ends before its end record: the recorder was killed, or the file was cut.
    #[error(
        "ends at byte {offset} before the recorder finished, after {events} whole events: \
         what is there can be judged, but not as a whole run"
    )]
    Truncated {
        /// Where the unfinished record begins.
        offset: u64,
        /// Events before it.
        events: u64,
    },
    /// An event does not fit into a record.
    #[error("an event of {len} bytes is longer than {RECORD_LEN_MAX}, the longest that a history holds")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The reader or writer below failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests;
