//! Bytes to events.

use super::codec::{Decoder, Record};
use super::{FORMAT, JournalError, MAGIC, RECORD_LEN_MAX};
use crate::event::{Event, Header};
use std::io::{self, ErrorKind, Read};

/// Reads a journal: an iterator over its events that ends at the end record, or after the first error. It reads a
/// few bytes at a time, so give it a buffered reader.
#[derive(Debug)]
pub struct Reader<R: Read> {
    inner: R,
    decoder: Decoder,
    header: Header,
    body: Vec<u8>,
    offset: u64,
    events: u64,
    over: bool,
}

impl<R: Read> Reader<R> {
    /// Reads magic, version and header.
    ///
    /// # Errors
    /// [`JournalError::Foreign`], [`JournalError::Newer`] and [`JournalError::Older`]; or the header cannot be read.
    pub fn new(mut inner: R) -> Result<Self, JournalError> {
        read_format(&mut inner)?;
        let mut reader = Self {
            inner,
            decoder: Decoder::default(),
            header: Header::default(),
            body: Vec::new(),
            offset: (MAGIC.len() + 2) as u64,
            events: 0,
            over: false,
        };
        let start = reader.offset;
        reader.header = match reader.read_record()? {
            Record::Header(header) => *header,
            Record::Event(_) | Record::End => return Err(reader.damaged(start)),
        };
        Ok(reader)
    }

    /// What stands before the events.
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn read_event(&mut self) -> Result<Option<Event>, JournalError> {
        let start = self.offset;
        match self.read_record()? {
            Record::Event(event) => {
                self.events += 1;
                Ok(Some(*event))
            }
            Record::End => Ok(None),
            Record::Header(_) => Err(self.damaged(start)),
        }
    }

    fn read_record(&mut self) -> Result<Record, JournalError> {
        let start = self.offset;
        let len = self.read_len(start)?;
        let mut crc = [0; 4];
        self.fill(&mut crc, start)?;
        self.body.clear();
        // Grows with what is really there, so a damaged length allocates nothing that the file does not hold.
        let read = (&mut self.inner).take(len as u64).read_to_end(&mut self.body)?;
        self.offset += read as u64;
        if read < len {
            return Err(self.truncated(start));
        }
        if crc32fast::hash(&self.body).to_be_bytes() != crc {
            return Err(self.damaged(start));
        }
        self.decoder.record(&self.body).ok_or_else(|| self.damaged(start))
    }

    fn read_len(&mut self, start: u64) -> Result<usize, JournalError> {
        let mut len = 0;
        for shift in (0..28).step_by(7) {
            let mut byte = [0];
            self.fill(&mut byte, start)?;
            len |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return if len <= RECORD_LEN_MAX { Ok(len) } else { Err(self.damaged(start)) };
            }
        }
        Err(self.damaged(start))
    }

    fn fill(&mut self, bytes: &mut [u8], start: u64) -> Result<(), JournalError> {
        self.inner.read_exact(bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => self.truncated(start),
            _ => JournalError::Io(error),
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn truncated(&self, offset: u64) -> JournalError {
        JournalError::Truncated { offset, events: self.events }
    }

    fn damaged(&self, offset: u64) -> JournalError {
        JournalError::Damaged { offset, events: self.events }
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = Result<Event, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let event = self.read_event().transpose();
        self.over = !matches!(event, Some(Ok(_)));
        event
    }
}

fn read_format(inner: &mut impl Read) -> Result<(), JournalError> {
    let mut magic = [0; MAGIC.len()];
    let mut format = [0; 2];
    let foreign = |error: io::Error| match error.kind() {
        ErrorKind::UnexpectedEof => JournalError::Foreign,
        _ => JournalError::Io(error),
    };
    inner.read_exact(&mut magic).map_err(foreign)?;
    if magic != *MAGIC {
        return Err(JournalError::Foreign);
    }
    inner.read_exact(&mut format).map_err(foreign)?;
    match u16::from_be_bytes(format) {
        FORMAT => Ok(()),
        found if found > FORMAT => Err(JournalError::Newer { found }),
        found => Err(JournalError::Older { found }),
    }
}
