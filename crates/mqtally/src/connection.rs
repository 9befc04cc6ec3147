//! The only socket loop's socket: dial, whole packets in and out, and a tap on both.
//!
//! - [`Connection::dial`] opens it; [`Connection::close`] ends it, in order or abruptly.
//! - [`Connection::queue`] and [`Connection::flush`] write: many packets, one system call.
//! - [`Connection::read`] takes whatever is there and parses all of it.
//! - A [`Tap`] sees every frame: outgoing ones before the bytes are handed to the kernel, incoming ones after they
//!   are parsed. So "a was received before b was sent" in a record is true of the wire.
//!
//! What differs between the transports (see [`Transport`](crate::endpoint::Transport)):
//!
//! | | TCP | TLS | WebSocket | Unix socket |
//! |---|---|---|---|---|
//! | [`Closing::Fin`] | FIN | close_notify, FIN | Close frame (close_notify), FIN | end of stream |
//! | [`Closing::Rst`] | RST | RST, no close_notify | RST, no Close frame | closed as it is: what was sent before may still be read |
//! | the peer's end | FIN | close_notify or FIN | Close frame or FIN | end of stream |
//!
//! "Bytes waiting" are bytes of MQTT on all of them: a TLS session ticket or a WebSocket ping are none.

mod pipe;
mod secured;
mod socket;
mod stream;
mod websocket;

use crate::endpoint::Endpoint;
use crate::tls::TlsError;
use bytes::BytesMut;
use mqtally_proto::packet::{
    DecodeError, Decoder, EncodeError, Observed, Packet, ReasonCode, Version, encode, observe,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stream::Stream;
use tokio::io::{Interest, Ready};

/// Bytes that one read takes, about.
const READ_BYTES_MAX: usize = 64 * 1024;
/// How long an orderly close waits for the peer to take what is queued and for its own end, and how much it reads
/// meanwhile.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 16 << 20;

/// Called with everything that happens on the connections of one client; the number says on which, from 1.
///
/// It runs inside the socket loop: it must not block. Many clients may share one.
pub type Tap = Arc<dyn Fn(u64, Tapped<'_>) + Send + Sync>;

/// What a [`Tap`] sees.
#[derive(Debug)]
pub enum Tapped<'a> {
    /// The transport is up. The peer of a Unix socket has no address.
    Opened(Option<SocketAddr>),
    /// The frame is about to be handed to the kernel. It may be lost from here on, wholly or in part.
    Sending(&'a Packet, &'a [u8]),
    /// A frame came, lawful or not.
    Received(&'a Observed),
    /// The transport is gone.
    Closed(&'a Closed),
}

/// How we end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Closing {
    /// In order: what was queued arrives before the end does.
    Fin,
    /// Abruptly: what the peer has not read yet is lost to it, too.
    Rst,
}

/// Why a connection is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// We ended it.
    ByUs(Closing),
    /// The peer ended it in order.
    ByPeer,
    /// It broke: reset, time-out, unreachable.
    Broken(io::ErrorKind),
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ByUs(_) => f.write_str("the connection was ended"),
            Self::ByPeer => f.write_str("the broker ended the connection"),
            Self::Broken(kind) => write!(f, "the connection broke ({kind})"),
        }
    }
}

/// What [`Connection::read`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// There may be more to come.
    Open,
    /// The peer has ended its direction. Packets before the end were taken.
    End,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The operating system says so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nobody answered, or not to the end of the handshakes.
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server is no WebSocket for MQTT.
    #[error("no WebSocket with the broker: {0}; check the URL's port and path")]
    WebSocket(String),
}

impl DialError {
    /// A layer above the socket reports its own errors in the disguise of the socket's.
    fn from_layer(error: io::Error) -> Self {
        match error.downcast::<TlsError>() {
            Ok(error) => Self::Tls(error),
            Err(error) => Self::Io(error),
        }
    }
}

/// Why a connection cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The operating system says so.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The peer sent what no endpoint may accept.
    #[error("the peer broke the protocol: {0}")]
    Decode(#[from] DecodeError),
}

/// A transport with whole packets on it.
pub struct Connection {
    stream: Stream,
    number: u64,
    version: Version,
    reading: Reading,
    input: BytesMut,
    /// What a fill came to whose bytes are in `input` and have not been taken.
    held: Option<io::Result<Read>>,
    output: BytesMut,
    tap: Option<Tap>,
}

/// With a tap the lenient reading is what is recorded, and the same reading decides what is lawful.
enum Reading {
    Strict(Decoder),
    Lenient { packet_size_max: u32 },
}

impl Connection {
    /// Dials `endpoint` within `timeout`, the handshakes of TLS and WebSocket included.
    ///
    /// `number` is what the tap is told. Packets above `packet_size_max` bytes are refused.
    pub async fn dial(
        endpoint: &Endpoint,
        timeout: Duration,
        version: Version,
        packet_size_max: u32,
        number: u64,
        tap: Option<Tap>,
    ) -> Result<Self, DialError> {
        let connecting = Stream::connect(endpoint, packet_size_max);
        let connected = tokio::time::timeout(timeout, connecting).await;
        let stream = connected.map_err(|_| DialError::TimedOut(timeout))??;
        let peer = stream.socket().peer()?;
        let reading = match tap {
            Some(_) => Reading::Lenient { packet_size_max },
            None => Reading::Strict(Decoder::client(version, packet_size_max).taking_any_failure()),
        };
        let (input, output) = (BytesMut::new(), BytesMut::new());
        let connection = Self { stream, number, version, reading, input, held: None, output, tap };
        connection.tapped(Tapped::Opened(peer));
        Ok(connection)
    }

    /// Adds a packet to what is written next; the tap sees it now. Follow it with [`Connection::flush`] before
    /// anything else is awaited.
    pub fn queue(&mut self, packet: &Packet) -> Result<(), EncodeError> {
        let start = self.output.len();
        encode(packet, self.version, &mut self.output)?;
        self.tapped(Tapped::Sending(packet, &self.output[start..]));
        Ok(())
    }

    /// Bytes that are queued and that the kernel has not taken; those that TLS or a WebSocket hold count as one.
    pub fn backlog(&self) -> usize {
        self.output.len() + usize::from(self.stream.is_sending())
    }

    /// Hands the queued bytes to the kernel, as many as it takes now.
    pub fn flush(&mut self) -> io::Result<()> {
        self.stream.send(&mut self.output)
    }

    /// Forgets the queued bytes that the kernel has not taken: the connection can only be closed after it.
    pub fn discard(&mut self) {
        self.output.clear();
    }

    /// Waits until the connection can be used as `interest` says. Cancel-safe.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        if self.held.is_some() && interest.is_readable() {
            return Ok(Ready::READABLE);
        }
        self.stream.ready(interest).await
    }

    /// Waits until there is something to read, and leaves it there; false at the peer's end. Cancel-safe.
    ///
    /// So one can know that an answer has arrived without having taken it: neither the tap nor the caller has seen it.
    pub async fn bytes_waiting(&mut self) -> io::Result<bool> {
        loop {
            if let Some(waiting) = self.are_bytes_waiting()? {
                return Ok(waiting);
            }
            self.ready(Interest::READABLE).await?;
        }
    }

    /// Like [`Connection::bytes_waiting`]; `None` instead of waiting.
    pub fn are_bytes_waiting(&mut self) -> io::Result<Option<bool>> {
        if self.held.is_some() {
            return Ok(Some(true));
        }
        let taken = self.input.len();
        let filled = self.stream.fill(&mut self.input);
        if self.input.len() > taken {
            self.held = Some(filled);
            return Ok(Some(true));
        }
        Ok(if filled? == Read::End { Some(false) } else { None })
    }

    /// Reads what is there without waiting and appends the packets to `packets`; an error comes after the lawful
    /// packets before it.
    pub fn read(&mut self, packets: &mut Vec<Packet>) -> Result<Read, ConnectionError> {
        let held = self.held.take();
        let filled = held.unwrap_or_else(|| self.stream.fill(&mut self.input));
        while let Some(packet) = self.next_packet()? {
            packets.push(packet);
        }
        Ok(filled?)
    }

    /// Ends our direction and leaves the other open. A WebSocket's peer will end its own direction then.
    pub async fn half_close(&mut self) -> io::Result<()> {
        let ended = tokio::time::timeout(LINGER, self.stream.end(&mut self.output)).await;
        ended.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Ends the connection. [`Closing::Fin`] waits (bounded) for the peer's end, because a socket that is closed
    /// with unread input resets the connection; what comes meanwhile is thrown away.
    pub async fn close(mut self, closing: Closing) {
        self.tapped(Tapped::Closed(&Closed::ByUs(closing)));
        match closing {
            Closing::Rst => {
                // Zero linger time turns the close on drop into a reset; a failure leaves an orderly close.
                let _ = self.stream.socket().reset_on_drop();
            }
            Closing::Fin => {
                let _ = tokio::time::timeout(LINGER, self.end_in_order()).await;
            }
        }
    }

    /// The peer has ended the connection, or it broke: forget it.
    pub fn closed(self, how: &Closed) {
        self.tapped(Tapped::Closed(how));
    }

    async fn end_in_order(&mut self) -> io::Result<()> {
        self.stream.end(&mut self.output).await?;
        self.stream.drain(LINGER_BYTES_MAX).await
    }

    fn next_packet(&mut self) -> Result<Option<Packet>, DecodeError> {
        match &mut self.reading {
            Reading::Strict(decoder) => decoder.decode(&mut self.input),
            Reading::Lenient { packet_size_max } => {
                let packet_size_max = *packet_size_max;
                let Some(observed) = observe(&mut self.input, self.version)? else {
                    return check_size(self.input.len(), packet_size_max).map(|()| None);
                };
                self.tapped(Tapped::Received(&observed));
                lawful(observed, packet_size_max).map(Some)
            }
        }
    }

    fn tapped(&self, tapped: Tapped<'_>) {
        if let Some(tap) = &self.tap {
            tap(self.number, tapped);
        }
    }
}

/// The packet of a lawful frame; otherwise what is wrong with it.
fn lawful(observed: Observed, packet_size_max: u32) -> Result<Packet, DecodeError> {
    check_size(observed.raw.len(), packet_size_max)?;
    match observed.packet {
        Some(packet) if observed.irregularities.is_empty() => Ok(packet),
        _ => Err(DecodeError {
            reason: ReasonCode::MALFORMED_PACKET,
            detail: observed.irregularities.join("; "),
        }),
    }
}

fn check_size(size: usize, packet_size_max: u32) -> Result<(), DecodeError> {
    if size <= packet_size_max as usize {
        return Ok(());
    }
    let detail = format!("a packet of {size} bytes or more came and {packet_size_max} are allowed");
    Err(DecodeError { reason: ReasonCode::PACKET_TOO_LARGE, detail })
}

fn blocked(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("number", &self.number)
            .field("socket", self.stream.socket())
            .finish_non_exhaustive()
    }
}
