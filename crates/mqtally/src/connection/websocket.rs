//! MQTT in the binary frames of a WebSocket [MQTT-6.0.0-1..4].
//!
//! Where a frame begins and ends says nothing about packets [MQTT-6.0.0-2]. Pings are answered by the library.

use super::pipe::Pipe;
use super::socket::Socket;
use super::{DialError, READ_BYTES_MAX, Read, blocked};
use crate::endpoint::Endpoint;
use bytes::BytesMut;
use std::io;
use tokio::io::Interest;
use tungstenite::client::{ClientRequestBuilder, client_with_config};
use tungstenite::error::ProtocolError;
use tungstenite::handshake::HandshakeError;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message};

/// [MQTT-6.0.0-3].
const SUBPROTOCOL: &str = "mqtt";
/// What a message may hold besides one packet of the largest size, bytes.
const MESSAGE_BYTES_MORE: usize = 1 << 20;
/// Bytes that one read from the socket takes at most; every connection holds a buffer of this size.
const READ_BUFFER_BYTES: usize = 16 * 1024;

pub(super) struct WebSocket {
    inner: tungstenite::WebSocket<Pipe>,
    /// The kernel has not taken all that was framed.
    is_sending: bool,
    /// There may be whole frames that were read from the socket and not taken.
    holds_more: bool,
}

impl WebSocket {
    pub(super) async fn connect(
        pipe: Pipe,
        endpoint: &Endpoint,
        packet_size_max: u32,
    ) -> Result<Self, DialError> {
        let url = endpoint.websocket_url().parse();
        let url = url.map_err(|error| DialError::WebSocket(format!("its URL is not usable: {error}")))?;
        let request = ClientRequestBuilder::new(url).with_sub_protocol(SUBPROTOCOL);
        let mut shaking = client_with_config(request, pipe, Some(config(packet_size_max)));
        loop {
            match shaking {
                // What follows the answer may be in the buffer already.
                Ok((inner, _)) => return Ok(Self { inner, is_sending: false, holds_more: true }),
                Err(HandshakeError::Failure(error)) => return Err(refused(error)),
                Err(HandshakeError::Interrupted(rest)) => {
                    let pipe = rest.get_ref().get_ref();
                    let write = if pipe.is_sending() { Interest::WRITABLE } else { Interest::READABLE };
                    pipe.socket().ready(Interest::READABLE | write).await?;
                    shaking = rest.handshake();
                }
            }
        }
    }

    pub(super) fn socket(&self) -> &Socket {
        self.inner.get_ref().socket()
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket {
        self.inner.get_mut().socket_mut()
    }

    pub(super) fn is_sending(&self) -> bool {
        self.is_sending
    }

    pub(super) fn holds_more(&self) -> bool {
        self.holds_more
    }

    /// Appends the payloads that are there.
    pub(super) fn fill(&mut self, input: &mut BytesMut) -> io::Result<Read> {
        let limit = input.len() + READ_BYTES_MAX;
        self.holds_more = false;
        while input.len() < limit {
            match self.inner.read() {
                Ok(Message::Binary(payload)) => input.extend_from_slice(&payload),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Text(_)) => {
                    return Err(unlawful("a text frame came, and MQTT is in binary ones"));
                }
                Ok(Message::Close(_)) => {
                    let _ = self.flush(); // the answer that RFC 6455 asks for; the peer may be gone
                    return Ok(Read::End);
                }
                Err(error) => return end(error),
            }
        }
        self.holds_more = true;
        Ok(Read::Open)
    }

    /// Puts all of `output` in one frame, as soon as the frame before it is gone, and sends what can be sent now.
    pub(super) fn send(&mut self, output: &mut BytesMut) -> io::Result<()> {
        while self.flush()? && !output.is_empty() {
            let written = self.inner.write(Message::Binary(output.split().freeze()));
            not_now(written)?;
        }
        Ok(())
    }

    /// Says that nothing more will come from us. Follow it with [`WebSocket::send`].
    pub(super) fn say_goodbye(&mut self) -> io::Result<()> {
        not_now(self.inner.close(None)).map(drop)
    }

    fn flush(&mut self) -> io::Result<bool> {
        let flushed = not_now(self.inner.flush())?;
        self.is_sending = !flushed;
        Ok(flushed)
    }
}

fn config(packet_size_max: u32) -> WebSocketConfig {
    let message_size_max = (packet_size_max as usize).saturating_add(MESSAGE_BYTES_MORE);
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(message_size_max))
        .max_frame_size(Some(message_size_max))
}

/// False when the rest has to wait for the socket; what was given is kept.
fn not_now(done: Result<(), Error>) -> io::Result<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(Error::Io(error)) if blocked(&error) => Ok(false),
        Err(Error::Io(error)) => Err(error),
        Err(error) => Err(unlawful(error)),
    }
}

/// Why nothing more can be read, now or at all.
fn end(error: Error) -> io::Result<Read> {
    match error {
        Error::Io(error) if blocked(&error) => Ok(Read::Open),
        Error::Io(error) => Err(error),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ok(Read::End),
        error => Err(unlawful(error)),
    }
}

fn refused(error: Error) -> DialError {
    match error {
        Error::Io(error) => DialError::from_layer(error),
        Error::Http(answer) => DialError::WebSocket(format!("it answered HTTP {}", answer.status())),
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            DialError::WebSocket("it does not speak the subprotocol mqtt".to_owned())
        }
        error => DialError::WebSocket(error.to_string()),
    }
}

fn unlawful(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the WebSocket cannot go on: {what}"))
}
