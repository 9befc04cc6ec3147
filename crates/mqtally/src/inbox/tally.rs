//! The inbox's numbers: counters that go on over restarts, written in the transaction that they count.

use super::record::crc_of;
use rusqlite::{Connection, Transaction};

macro_rules! tally {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// The only row of the table `tally`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub(crate) struct Tally { $($(#[doc = $doc])* pub(crate) $name: u64,)* }

        const NAMES: &[&str] = &[$(stringify!($name),)*];

        impl Tally {
            fn values(&self) -> [u64; NAMES.len()] {
                [$(self.$name,)*]
            }

            fn from_values(values: [u64; NAMES.len()]) -> Self {
                let [$($name,)*] = values;
                Self { $($name,)* }
            }
        }
    };
}

tally! {
    /// Transactions since the store was made.
    commits,
    /// How often the log was synced, without the last times.
    synced,
    /// Next number of a message.
    next_seq,
    /// Next position of a dedup id.
    next_id,
    /// First position whose id has not expired.
    live_from,
    /// Messages in `inbox` that are not settled.
    unsettled,
    /// Packet ids in `qos2_in`.
    exchanges,
    /// Rows in `retry`.
    retrying,
    /// The store's own time.
    clock_ms,
    /// The wall clock at the same moment.
    wall_ms,
    /// How often the store was opened.
    opened,
    /// Which session of the client this is.
    session,
    received,
    redelivered,
    published_again,
    replayed_again,
    conflicts,
    retries,
    processed,
    failed,
    dead_lettered,
    damaged,
    replayed,
    session_losses,
    /// Dropped copies whose topic has a row in `copies`.
    copied,
}

/// The table's definition.
pub(crate) fn schema() -> String {
    let columns: Vec<_> = NAMES.iter().map(|name| format!("{name} INTEGER NOT NULL DEFAULT 0")).collect();
    let start = Tally { next_seq: 1, next_id: 1, live_from: 1, session: 1, ..Tally::default() };
    format!(
        "CREATE TABLE tally(id INTEGER PRIMARY KEY CHECK (id = 1), {}, crc INTEGER NOT NULL);
         INSERT INTO tally(id, next_seq, next_id, live_from, session, crc) VALUES (1, 1, 1, 1, 1, {});",
        columns.join(", "),
        crc_of(&start.values())
    )
}

impl Tally {
    /// The row, if its checksum holds.
    pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let sql = format!("SELECT {}, crc FROM tally WHERE id = 1", NAMES.join(", "));
        connection.query_row(&sql, [], |row| {
            let mut values = [0; NAMES.len()];
            for (at, value) in values.iter_mut().enumerate() {
                *value = row.get(at)?;
            }
            let crc: u32 = row.get(NAMES.len())?;
            Ok((crc == crc_of(&values)).then(|| Self::from_values(values)))
        })
    }

    /// Writes the row.
    pub(crate) fn save(&self, transaction: &Transaction<'_>, sql: &str) -> rusqlite::Result<()> {
        let values = self.values();
        let mut statement = transaction.prepare_cached(sql)?;
        for (at, value) in values.iter().enumerate() {
            statement.raw_bind_parameter(at + 1, *value)?;
        }
        statement.raw_bind_parameter(NAMES.len() + 1, crc_of(&values))?;
        statement.raw_execute().map(|_| ())
    }

    /// The statement for [`save`](Self::save).
    pub(crate) fn save_sql() -> String {
        let columns: Vec<_> = NAMES.iter().map(|name| format!("{name} = ?")).collect();
        format!("UPDATE tally SET {}, crc = ? WHERE id = 1", columns.join(", "))
    }
}
