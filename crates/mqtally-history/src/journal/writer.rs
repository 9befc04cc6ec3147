//! Events to bytes.

use super::codec::Encoder;
use super::{FORMAT, JournalError, MAGIC, RECORD_LEN_MAX};
use crate::event::{Event, Header};
use std::io::Write;

/// Writes a journal. It makes one small write a record, so give it a buffered writer.
///
/// Drop it without [`finish`](Self::finish) and the journal reads as truncated, which it then is.
#[derive(Debug)]
pub struct Writer<W: Write> {
    inner: W,
    encoder: Encoder,
    record: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a journal with its header.
    ///
    /// # Errors
    /// What the writer below says.
    pub fn new(mut inner: W, header: &Header) -> Result<Self, JournalError> {
        inner.write_all(MAGIC)?;
        inner.write_all(&FORMAT.to_be_bytes())?;
        let mut writer = Self { inner, encoder: Encoder::default(), record: Vec::with_capacity(256) };
        writer.encoder.header(header);
        writer.write_record()?;
        Ok(writer)
    }

    /// Appends an event.
    ///
    /// # Errors
    /// What the writer below says, or [`JournalError::TooLong`]; the event is then not in the journal, and the
    /// journal must not be continued.
    pub fn append(&mut self, event: &Event) -> Result<(), JournalError> {
        self.encoder.event(event);
        self.write_record()
    }

    /// Writes the end record, flushes and gives the writer back.
    ///
    /// # Errors
    /// What the writer below says.
    pub fn finish(mut self) -> Result<W, JournalError> {
        self.encoder.end();
        self.write_record()?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn write_record(&mut self) -> Result<(), JournalError> {
        let body = self.encoder.body();
        if body.len() > RECORD_LEN_MAX {
            return Err(JournalError::TooLong { len: body.len() });
        }
        self.record.clear();
        super::codec::put_varint(&mut self.record, body.len() as u64);
        self.record.extend_from_slice(&crc32fast::hash(body).to_be_bytes());
        self.record.extend_from_slice(body);
        self.inner.write_all(&self.record)?;
        Ok(())
    }
}
