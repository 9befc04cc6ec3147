//! Bytes, in the clear or over TLS.

use super::secured::Secured;
use super::socket::Socket;
use super::{DialError, READ_BYTES_MAX, Read, blocked};
use crate::endpoint::{Endpoint, Transport};
use bytes::BytesMut;
use std::io;

pub(super) enum Pipe {
    Plain(Socket),
    Secured(Box<Secured>),
}

impl Pipe {
    pub(super) async fn connect(endpoint: &Endpoint) -> Result<Self, DialError> {
        let socket = Socket::connect(endpoint).await?;
        match endpoint.transport() {
            Transport::Tcp | Transport::WebSocket | Transport::Unix => Ok(Self::Plain(socket)),
            Transport::Tls | Transport::WebSocketTls => {
                let secured = Secured::connect(socket, endpoint.tls(), endpoint.host()).await?;
                Ok(Self::Secured(Box::new(secured)))
            }
        }
    }

    pub(super) fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Secured(secured) => secured.socket(),
        }
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Secured(secured) => secured.socket_mut(),
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Secured(secured) => secured.is_sending(),
        }
    }

    /// Appends what is there.
    pub(super) fn fill(&mut self, input: &mut BytesMut) -> io::Result<Read> {
        match self {
            Self::Plain(socket) => {
                input.reserve(READ_BYTES_MAX);
                match socket.read_buf(input) {
                    Ok(0) => Ok(Read::End),
                    Ok(_) => Ok(Read::Open),
                    Err(error) if blocked(&error) => Ok(Read::Open),
                    Err(error) => Err(error),
                }
            }
            Self::Secured(secured) => secured.fill(input),
        }
    }

    /// Takes from `output` what can be sent now.
    pub(super) fn send(&mut self, output: &mut BytesMut) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.send(output),
            Self::Secured(secured) => secured.send(output),
        }
    }

    pub(super) fn say_goodbye(&mut self) {
        if let Self::Secured(secured) = self {
            secured.say_goodbye();
        }
    }
}

/// For a WebSocket on top.
impl io::Read for Pipe {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => (&*socket).read(bytes),
            Self::Secured(secured) => secured.read(bytes),
        }
    }
}

impl io::Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => io::Write::write(&mut &*socket, bytes),
            Self::Secured(secured) => secured.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Secured(secured) => secured.flush(),
        }
    }
}
