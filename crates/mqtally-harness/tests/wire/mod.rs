//! A blocking client that says exactly what a test tells it to.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use bytes::BytesMut;
use mqtally_proto::packet::{
    Connack, Connect, Decoder, Packet, Properties, Property, Publish, Qos, Subscribe, Subscription, Version,
    encode,
};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A broker that is silent for this long does not answer.
const SILENCE_MAX: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
    version: Version,
}

impl Wire {
    /// A TCP connection on which nothing has been said.
    pub(crate) fn silent(broker: SocketAddr, version: Version) -> Result<Self> {
        let stream = TcpStream::connect(broker)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        Ok(Self { stream, decoder: Decoder::client(version, u32::MAX), input: BytesMut::new(), version })
    }

    /// Sends CONNECT and returns the answer with the connection.
    pub(crate) fn connect(broker: SocketAddr, connect: Connect) -> Result<(Self, Connack)> {
        let mut wire = Self::silent(broker, connect.version)?;
        wire.send(Packet::Connect(Box::new(connect)))?;
        match wire.receive()? {
            Packet::Connack(connack) => Ok((wire, connack)),
            other => Err(Error::other(format!("{other:?} in answer to CONNECT"))),
        }
    }

    pub(crate) fn send(&mut self, packet: Packet) -> Result<()> {
        self.send_all([packet])
    }

    /// Sends several packets in one write.
    pub(crate) fn send_all(&mut self, packets: impl IntoIterator<Item = Packet>) -> Result<()> {
        let mut bytes = BytesMut::new();
        for packet in packets {
            encode(&packet, self.version, &mut bytes).map_err(Error::other)?;
        }
        self.send_bytes(&bytes)
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next packet; an error of kind `UnexpectedEof` when the broker closed.
    pub(crate) fn receive(&mut self) -> Result<Packet> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Ok(packet);
            }
            self.fill()?;
        }
    }

    /// The next packet that has already been read.
    pub(crate) fn buffered(&mut self) -> Result<Option<Packet>> {
        self.decoder.decode(&mut self.input).map_err(Error::other)
    }

    /// Waits until the broker closes; what it still sends does not matter.
    pub(crate) fn wait_for_close(mut self) {
        while self.fill().is_ok() {}
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn fill(&mut self) -> Result<()> {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            size => {
                self.input.extend_from_slice(&chunk[..size]);
                Ok(())
            }
        }
    }
}

/// A CONNECT for a session that outlives its connections.
pub(crate) fn persistent(client_id: &str, version: Version) -> Connect {
    let expiry = vec![Property::SessionExpiryInterval(3_600)];
    Connect {
        version,
        clean_start: false,
        keep_alive: 0,
        client_id: client_id.into(),
        will: None,
        username: None,
        password: None,
        properties: Properties(if version == Version::V5_0 { expiry } else { Vec::new() }),
    }
}

/// A CONNECT for a session that ends with its connection.
pub(crate) fn fleeting(client_id: &str, version: Version) -> Connect {
    Connect { clean_start: true, properties: Properties::default(), ..persistent(client_id, version) }
}

pub(crate) fn subscribe(packet_id: u16, filter: &str, qos: Qos) -> Packet {
    let filters = vec![Subscription::new(filter, qos)];
    Packet::Subscribe(Subscribe { packet_id, properties: Properties::default(), filters })
}

pub(crate) fn publish(packet_id: u16, topic: &str, qos: Qos, payload: &[u8]) -> Packet {
    Packet::Publish(Publish {
        qos,
        topic: topic.into(),
        packet_id: (qos != Qos::AtMostOnce).then_some(packet_id),
        payload: payload.to_vec().into(),
        ..Publish::default()
    })
}
