//! What a connection reads and writes: bytes, or the frames of a WebSocket. An enum and not a trait object, because
//! the plain case is the one whose cost is measured.

use super::pipe::Pipe;
use super::socket::Socket;
use super::websocket::WebSocket;
use super::{DialError, Read};
use crate::endpoint::{Endpoint, Transport};
use bytes::BytesMut;
use std::io;
use tokio::io::{Interest, Ready};

pub(super) enum Stream {
    Pipe(Pipe),
    WebSocket(Box<WebSocket>),
}

impl Stream {
    pub(super) async fn connect(endpoint: &Endpoint, packet_size_max: u32) -> Result<Self, DialError> {
        let pipe = Pipe::connect(endpoint).await?;
        match endpoint.transport() {
            Transport::Tcp | Transport::Tls | Transport::Unix => Ok(Self::Pipe(pipe)),
            Transport::WebSocket | Transport::WebSocketTls => {
                let websocket = WebSocket::connect(pipe, endpoint, packet_size_max).await?;
                Ok(Self::WebSocket(Box::new(websocket)))
            }
        }
    }

    pub(super) fn socket(&self) -> &Socket {
        match self {
            Self::Pipe(pipe) => pipe.socket(),
            Self::WebSocket(websocket) => websocket.socket(),
        }
    }

    /// Whether a layer holds bytes that the kernel has not taken.
    pub(super) fn is_sending(&self) -> bool {
        match self {
            Self::Pipe(pipe) => pipe.is_sending(),
            Self::WebSocket(websocket) => websocket.is_sending(),
        }
    }

    /// Waits for the socket, unless there is something to read above it.
    pub(super) async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match self {
            Self::WebSocket(websocket) if websocket.holds_more() && interest.is_readable() => {
                Ok(Ready::READABLE)
            }
            _ => self.socket().ready(interest).await,
        }
    }

    /// Appends what is there, about [`super::READ_BYTES_MAX`] at most, without waiting. Something may have been appended
    /// before an end or an error.
    pub(super) fn fill(&mut self, input: &mut BytesMut) -> io::Result<Read> {
        match self {
            Self::Pipe(pipe) => pipe.fill(input),
            Self::WebSocket(websocket) => websocket.fill(input),
        }
    }

    /// Takes from `output` what can be sent now, and sends what a layer holds.
    pub(super) fn send(&mut self, output: &mut BytesMut) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.send(output),
            Self::WebSocket(websocket) => websocket.send(output),
        }
    }

    /// Sends `output` and then ends our direction of every layer.
    pub(super) async fn end(&mut self, output: &mut BytesMut) -> io::Result<()> {
        self.send_all(output).await?;
        match self {
            Self::Pipe(pipe) => pipe.say_goodbye(),
            Self::WebSocket(websocket) => websocket.say_goodbye()?,
        }
        self.send_all(output).await?;
        match self {
            Self::Pipe(pipe) => pipe.socket_mut().shutdown().await,
            Self::WebSocket(websocket) => websocket.socket_mut().shutdown().await,
        }
    }

    /// Reads until the peer's end, and throws away at most `bytes_max`.
    pub(super) async fn drain(&mut self, bytes_max: usize) -> io::Result<()> {
        let mut rest = BytesMut::new();
        let mut bytes = 0;
        while bytes < bytes_max && self.fill(&mut rest)? == Read::Open {
            if rest.is_empty() {
                self.ready(Interest::READABLE).await?;
            }
            bytes += rest.len();
            rest.clear();
        }
        Ok(())
    }

    async fn send_all(&mut self, output: &mut BytesMut) -> io::Result<()> {
        loop {
            self.send(output)?;
            if output.is_empty() && !self.is_sending() {
                return Ok(());
            }
            self.socket().ready(Interest::WRITABLE).await?;
        }
    }
}
