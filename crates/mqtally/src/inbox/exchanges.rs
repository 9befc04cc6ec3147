//! The packet ids of QoS 2 exchanges that wait for PUBREL: a bit each, in pages that are written when they have changed.
//!
//! A client's packet ids go round, so those of one moment are neighbours: a page takes up a whole batch of them.

use super::record::crc_of;
use rusqlite::{Connection, Row, Transaction};

pub(super) const SCHEMA: &str =
    "CREATE TABLE qos2_in(page INTEGER PRIMARY KEY, bits BLOB NOT NULL, crc INTEGER NOT NULL);";

const PAGE_BYTES: usize = 64;
const PAGE_IDS: usize = PAGE_BYTES * 8;
const PAGES: usize = (1 << 16) / PAGE_IDS;

type Page = [u8; PAGE_BYTES];

/// All packet ids of the session.
#[derive(Debug)]
pub(super) struct Exchanges {
    pages: Box<[Page; PAGES]>,
    /// Pages that differ from those on disk, a bit each.
    changed: u128,
    open: u64,
}

impl Exchanges {
    /// Reads them; pages that are damaged are left out. Also says how many those are.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<(Self, usize)> {
        let (mut exchanges, mut damaged) = (Self::new(), 0);
        let mut statement = connection.prepare("SELECT page, bits, crc FROM qos2_in")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match read(row) {
                Some((page, bits)) => exchanges.pages[page] = bits,
                None => damaged += 1,
            }
        }
        let bytes = exchanges.pages.as_flattened();
        exchanges.open = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum();
        Ok((exchanges, damaged))
    }

    fn new() -> Self {
        Self { pages: Box::new([[0; PAGE_BYTES]; PAGES]), changed: 0, open: 0 }
    }

    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.open
    }

    /// In ascending order.
    pub(super) fn packet_ids(&self) -> Vec<u16> {
        (0..=u16::MAX).filter(|packet_id| self.contains(*packet_id)).collect()
    }

    fn contains(&self, packet_id: u16) -> bool {
        let (page, byte, bit) = place(packet_id);
        self.pages[page][byte] & bit != 0
    }

    /// Whether it was not there before.
    pub(super) fn insert(&mut self, packet_id: u16) -> bool {
        let is_new = !self.contains(packet_id);
        if is_new {
            self.open += 1;
            self.flip(packet_id);
        }
        is_new
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, packet_id: u16) -> bool {
        let was_there = self.contains(packet_id);
        if was_there {
            self.open -= 1;
            self.flip(packet_id);
        }
        was_there
    }

    fn flip(&mut self, packet_id: u16) {
        let (page, byte, bit) = place(packet_id);
        self.pages[page][byte] ^= bit;
        self.changed |= 1 << page;
    }

    /// Drops all, on disk as well. Returns how many there were.
    pub(super) fn clear(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
        transaction.execute("DELETE FROM qos2_in", [])?;
        Ok(std::mem::replace(self, Self::new()).open)
    }

    /// Writes what has changed.
    pub(super) fn write(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        if self.changed == 0 {
            return Ok(());
        }
        let sql = "INSERT OR REPLACE INTO qos2_in(page, bits, crc) VALUES (?1, ?2, ?3)";
        let mut statement = transaction.prepare_cached(sql)?;
        for (page, bits) in self.pages.iter().enumerate().filter(|(page, _)| self.changed & 1 << page != 0) {
            statement.execute((page, bits, crc(page, bits)))?;
        }
        self.changed = 0;
        Ok(())
    }
}

fn place(packet_id: u16) -> (usize, usize, u8) {
    let id = usize::from(packet_id);
    (id / PAGE_IDS, id % PAGE_IDS / 8, 1 << (id % 8))
}

fn read(row: &Row<'_>) -> Option<(usize, Page)> {
    let (page, bits, stored): (usize, Page, u32) = (row.get(0).ok()?, row.get(1).ok()?, row.get(2).ok()?);
    (page < PAGES && crc(page, &bits) == stored).then_some((page, bits))
}

fn crc(page: usize, bits: &Page) -> u32 {
    crc_of(&[page as u64, u64::from(crc32fast::hash(bits))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written_and_a_damaged_page_is_seen() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        let mut exchanges = Exchanges::new();
        let ids = [0, 1, 511, 512, 40_000, u16::MAX];
        let transaction = connection.transaction().unwrap();
        for id in ids {
            assert!(exchanges.insert(id) && !exchanges.insert(id));
        }
        exchanges.write(&transaction).unwrap();
        assert!(exchanges.remove(1) && !exchanges.remove(1) && !exchanges.remove(2));
        exchanges.write(&transaction).unwrap();
        transaction.commit().unwrap();
        let (read, damaged) = Exchanges::load(&connection).unwrap();
        assert_eq!((read.packet_ids(), read.len(), damaged), (vec![0, 511, 512, 40_000, u16::MAX], 5, 0));
        connection.execute("UPDATE qos2_in SET page = 5 WHERE page = 1", []).unwrap();
        let (read, damaged) = Exchanges::load(&connection).unwrap();
        assert_eq!((read.packet_ids(), damaged), (vec![0, 511, 40_000, u16::MAX], 1));
    }
}
