//! TLS over a socket, driven by the socket's readiness and not by wakers, as everything in this module.

use super::socket::Socket;
use super::{DialError, READ_BYTES_MAX, Read, blocked};
use crate::tls::{self, Tls, TlsError};
use bytes::{Buf, BytesMut};
use rustls::ClientConnection;
use std::io::{self, BufRead, Write as _};
use tokio::io::Interest;

pub(super) struct Secured {
    tls: ClientConnection,
    socket: Socket,
    host: String,
}

impl Secured {
    /// Shakes hands as a client of `host`.
    pub(super) async fn connect(socket: Socket, tls: &Tls, host: &str) -> Result<Self, DialError> {
        let (settings, name) = (tls.clone(), host.to_owned());
        let building = tokio::task::spawn_blocking(move || tls::client(&settings, &name));
        let tls = building.await.map_err(io::Error::other)??;
        let mut secured = Self { tls, socket, host: host.to_owned() };
        while secured.tls.is_handshaking() {
            secured.shake_hands().await.map_err(DialError::from_layer)?;
        }
        Ok(secured)
    }

    /// One turn: what we have to say, then whatever comes.
    async fn shake_hands(&mut self) -> io::Result<()> {
        while !self.flush_sealed()? {
            self.socket.ready(Interest::WRITABLE).await?;
        }
        if !self.tls.is_handshaking() {
            return Ok(());
        }
        self.socket.ready(Interest::READABLE).await?;
        match self.receive() {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if !blocked(&error) => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Whether the kernel has not taken all that we sealed.
    pub(super) fn is_sending(&self) -> bool {
        self.tls.wants_write()
    }

    /// Appends what is there, and leaves nothing opened behind.
    pub(super) fn fill(&mut self, input: &mut BytesMut) -> io::Result<Read> {
        let limit = input.len() + READ_BYTES_MAX;
        loop {
            let received = self.receive();
            if self.take(input)? == Read::End {
                return Ok(Read::End);
            }
            match received {
                Ok(0) => return Ok(Read::End),
                Ok(_) if input.len() < limit => {}
                Ok(_) => return Ok(Read::Open),
                Err(error) if blocked(&error) => return Ok(Read::Open),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes from `output` what can be sealed and sent now.
    pub(super) fn send(&mut self, output: &mut BytesMut) -> io::Result<()> {
        while self.flush_sealed()? && !output.is_empty() {
            let sealed = self.tls.writer().write(output)?;
            output.advance(sealed);
        }
        Ok(())
    }

    /// Says that nothing more will come from us. Follow it with [`Secured::send`].
    pub(super) fn say_goodbye(&mut self) {
        self.tls.send_close_notify();
    }

    /// Moves the opened bytes to `input`; the end is close_notify.
    fn take(&mut self, input: &mut BytesMut) -> io::Result<Read> {
        loop {
            let mut reader = self.tls.reader();
            let chunk = match reader.fill_buf() {
                Ok([]) => return Ok(Read::End),
                Ok(chunk) => chunk,
                // MQTT frames its packets: an end without close_notify loses no more than any lost connection.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Read::End),
                Err(error) if blocked(&error) => return Ok(Read::Open),
                Err(error) => return Err(error),
            };
            input.extend_from_slice(chunk);
            let taken = chunk.len();
            reader.consume(taken);
        }
    }

    /// Reads once from the socket and opens what is whole; 0 at the end of the socket.
    fn receive(&mut self) -> io::Result<usize> {
        let bytes = self.tls.read_tls(&mut &self.socket)?;
        let opened = self.tls.process_new_packets();
        // Opening may give something to say: an answer to a key update, or what is wrong.
        let flushed = self.flush_sealed();
        opened.map_err(|error| invalid(tls::explained(error, &self.host)))?;
        flushed.map(|_| bytes)
    }

    /// True when the kernel has taken everything.
    fn flush_sealed(&mut self) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut &self.socket) {
                Ok(_) => {}
                Err(error) if blocked(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn invalid(error: TlsError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// For a WebSocket on top.
impl io::Read for Secured {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(bytes) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if blocked(&error) => {}
                taken => return taken,
            }
            self.receive()?;
        }
    }
}

impl io::Write for Secured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let sealed = self.tls.writer().write(bytes)?;
        self.flush_sealed()?;
        Ok(sealed)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.flush_sealed()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }
}
