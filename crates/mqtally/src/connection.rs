//! The only socket loop's socket: dial, whole packets in and out, and a tap on both.
//!
//! - [`Connection::dial`] opens it; [`Connection::close`] ends it, in order or abruptly.
//! - [`Connection::queue`] and [`Connection::flush`] write: many packets, one system call.
//! - [`Connection::read`] takes whatever is there and parses all of it.
//! - A [`Tap`] sees every frame: outgoing ones before the bytes are handed to the kernel, incoming ones after they
//!   are parsed. So "a was received before b was sent" in a record is true of the wire.

use crate::endpoint::Endpoint;
use bytes::{Buf, BytesMut};
use mqtally_proto::packet::{
    DecodeError, Decoder, EncodeError, Observed, Packet, ReasonCode, Version, encode, observe,
};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, Ready};
use tokio::net::TcpStream;

/// Bytes that one read takes at most.
const READ_BYTES_MAX: usize = 64 * 1024;
/// How long an orderly close waits for the peer's own end, and how much it reads meanwhile.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 16 << 20;

/// Called with everything that happens on the connections of one client; the number says on which, from 1.
///
/// It runs inside the socket loop: it must not block. Many clients may share one.
pub type Tap = Arc<dyn Fn(u64, Tapped<'_>) + Send + Sync>;

/// What a [`Tap`] sees.
#[derive(Debug)]
pub enum Tapped<'a> {
    /// The transport is up.
    Opened(SocketAddr),
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

/// What [`Connection::read`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// There may be more to come.
    Open,
    /// The peer has ended its direction. Packets before the end were taken.
    End,
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
    stream: TcpStream,
    number: u64,
    version: Version,
    reading: Reading,
    input: BytesMut,
    output: BytesMut,
    tap: Option<Tap>,
}

/// With a tap the lenient reading is what is recorded, and the same reading decides what is lawful.
enum Reading {
    Strict(Decoder),
    Lenient { packet_size_max: u32 },
}

impl Connection {
    /// Dials `endpoint` within `timeout`.
    ///
    /// `number` is what the tap is told. Packets above `packet_size_max` bytes are refused.
    pub async fn dial(
        endpoint: &Endpoint,
        timeout: Duration,
        version: Version,
        packet_size_max: u32,
        number: u64,
        tap: Option<Tap>,
    ) -> io::Result<Self> {
        let connecting = TcpStream::connect((endpoint.host(), endpoint.port()));
        let timed_out =
            |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {timeout:?}"));
        let stream = tokio::time::timeout(timeout, connecting).await.map_err(timed_out)??;
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        let reading = match tap {
            Some(_) => Reading::Lenient { packet_size_max },
            None => Reading::Strict(Decoder::client(version, packet_size_max)),
        };
        let (input, output) = (BytesMut::new(), BytesMut::new());
        let connection = Self { stream, number, version, reading, input, output, tap };
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

    /// Bytes that are queued and that the kernel has not taken.
    pub fn backlog(&self) -> usize {
        self.output.len()
    }

    /// Hands the queued bytes to the kernel, as many as it takes now.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(written) => self.output.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Forgets the queued bytes that the kernel has not taken: the connection can only be closed after it.
    pub fn discard(&mut self) {
        self.output.clear();
    }

    /// Waits until the socket can be used as `interest` says. Cancel-safe.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        self.stream.ready(interest).await
    }

    /// Waits until there is something to read, and leaves it there; false at the peer's end. Cancel-safe.
    ///
    /// So one can know that an answer has arrived without having taken it.
    pub async fn bytes_waiting(&self) -> io::Result<bool> {
        self.stream.peek(&mut [0]).await.map(|bytes| bytes > 0)
    }

    /// Reads what is there without waiting and appends the packets to `packets`; an error comes after the lawful
    /// packets before it.
    pub fn read(&mut self, packets: &mut Vec<Packet>) -> Result<Read, ConnectionError> {
        self.input.reserve(READ_BYTES_MAX);
        let end = match self.stream.try_read_buf(&mut self.input) {
            Ok(0) => Read::End,
            Ok(_) => Read::Open,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Read::Open),
            Err(error) => return Err(error.into()),
        };
        while let Some(packet) = self.next_packet()? {
            packets.push(packet);
        }
        Ok(end)
    }

    /// Ends our direction and leaves the other open. What is queued must have been flushed.
    pub async fn half_close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Ends the connection. [`Closing::Fin`] waits (bounded) for the peer's end, because a socket that is closed
    /// with unread input resets the connection; what comes meanwhile is thrown away.
    pub async fn close(mut self, closing: Closing) {
        self.tapped(Tapped::Closed(&Closed::ByUs(closing)));
        match closing {
            Closing::Rst => {
                // Zero linger time turns the close on drop into a reset; a failure leaves an orderly close.
                let _ = self.stream.set_zero_linger();
            }
            Closing::Fin => {
                let _ = tokio::time::timeout(LINGER, end_in_order(&mut self.stream, &self.output)).await;
            }
        }
    }

    /// The peer has ended the connection, or it broke: forget it.
    pub fn closed(self, how: &Closed) {
        self.tapped(Tapped::Closed(how));
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

async fn end_in_order(stream: &mut TcpStream, output: &[u8]) -> io::Result<()> {
    stream.write_all(output).await?;
    stream.shutdown().await?;
    let mut rest = vec![0; READ_BYTES_MAX];
    let mut bytes = 0;
    while bytes < LINGER_BYTES_MAX {
        match stream.read(&mut rest).await? {
            0 => break,
            read => bytes += read,
        }
    }
    Ok(())
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("number", &self.number)
            .field("stream", &self.stream)
            .finish_non_exhaustive()
    }
}
