//! One connection's task: reads and decodes, writes what the engine could not, and sees the connection to its end.

use super::inbox::{Inbox, Input};
use super::link::{End, Link};
use bytes::BytesMut;
use mqtally_proto::broker::ConnectionId;
use mqtally_proto::packet::{Decoder, Packet};
use std::future;
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// Room for the first read, and for each one after a read that did not fill it.
const READ_MIN: usize = 8 << 10;
/// Room for the next read after one that was filled.
const READ_MAX: usize = 64 << 10;
/// How long the end of a connection may take.
const END_MAX: Duration = Duration::from_secs(1);

/// Runs the connection to its end and tells the engine.
pub(super) async fn run(id: ConnectionId, link: &Link, inbox: &Inbox, packet_size_max: u32) {
    let mut reader =
        Reader { id, link, inbox, decoder: Decoder::server(packet_size_max), buffer: BytesMut::new() };
    tokio::select! {
        // Whatever ended the reading, the peer is gone.
        _ = reader.run() => {}
        end = link.write_rest() => if matches!(end, Ok(End::Flush)) {
            let _ = timeout(END_MAX, finish(link)).await;
        },
    }
    inbox.push(Input::Closed(id));
}

struct Reader<'a> {
    id: ConnectionId,
    link: &'a Link,
    inbox: &'a Inbox,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Reader<'_> {
    async fn run(&mut self) -> io::Result<()> {
        let mut room = READ_MIN;
        loop {
            self.link.stream.readable().await?;
            self.buffer.reserve(room);
            let size = match self.link.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Ok(()),
                Ok(size) => size,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            room = if size < room { READ_MIN } else { READ_MAX };
            self.hand_over(size).await;
        }
    }

    /// Hands all whole packets to the engine and waits until it took them.
    async fn hand_over(&mut self, size: usize) {
        let mut packets: Vec<Packet> = Vec::new();
        let fault = loop {
            match self.decoder.decode(&mut self.buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            }
        };
        if !packets.is_empty() {
            self.inbox.push(Input::Packets(self.id, packets, size));
            self.link.taken().await;
        }
        if let Some(fault) = fault {
            self.inbox.push(Input::Malformed(self.id, self.decoder.version(), fault));
            // The engine ends the connection; nothing more is read from it.
            future::pending::<()>().await;
        }
    }
}

/// Writes what waits, and reads the peer's last bytes away until it closes: closing with unread bytes would send a
/// reset, which can overtake our last packet.
async fn finish(link: &Link) -> io::Result<()> {
    link.drain().await?;
    link.shut_down()?;
    let mut waste = [0; 4 << 10];
    loop {
        link.stream.readable().await?;
        match link.stream.try_read(&mut waste) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}
