//! A connection of a client that does what it likes: blocking sockets, packets in and out.

use bytes::BytesMut;
use mqtally_proto::packet::{Connack, Connect, Packet, Properties, Property, Version, encode, observe};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

/// One packet that does not come in this time is not waited for.
const READ_LIMIT: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_millis(50);

pub(crate) struct Wire {
    stream: TcpStream,
    version: Version,
    input: BytesMut,
    pub(crate) session_present: bool,
    pub(crate) receive_maximum: usize,
    /// A CONNECT before this one got no answer.
    pub(crate) was_ignored: bool,
}

impl Wire {
    /// Connects, again and again until it works.
    pub(crate) fn connect(address: &str, version: Version, client_id: &str, clean_start: bool) -> Self {
        let mut was_ignored = false;
        loop {
            match Self::try_connect(address, version, client_id, clean_start) {
                Ok(wire) => return Self { was_ignored, ..wire },
                Err(error) => was_ignored |= error.kind() == ErrorKind::UnexpectedEof,
            }
            sleep(RETRY);
        }
    }

    fn try_connect(address: &str, version: Version, client_id: &str, clean_start: bool) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_LIMIT))?;
        let mut wire = Self {
            stream,
            version,
            input: BytesMut::new(),
            session_present: false,
            receive_maximum: 65_535,
            was_ignored: false,
        };
        let expiry = (version == Version::V5_0).then_some(Property::SessionExpiryInterval(3_600));
        wire.send(&Packet::Connect(Box::new(Connect {
            version,
            clean_start,
            keep_alive: 60,
            client_id: client_id.to_owned().into(),
            will: None,
            username: None,
            password: None,
            properties: Properties(expiry.into_iter().collect()),
        })))?;
        loop {
            if let Some(Packet::Connack(connack)) = wire.next()? {
                wire.accepted(&connack);
                return Ok(wire);
            }
        }
    }

    fn accepted(&mut self, connack: &Connack) {
        self.session_present = connack.session_present;
        for property in &connack.properties.0 {
            if let Property::ReceiveMaximum(maximum) = property {
                self.receive_maximum = usize::from(*maximum);
            }
        }
    }

    pub(crate) fn send(&mut self, packet: &Packet) -> io::Result<()> {
        let mut out = BytesMut::new();
        encode(packet, self.version, &mut out).expect("a lawful packet");
        self.stream.write_all(&out)
    }

    /// The next packet, or none within a moment.
    pub(crate) fn next(&mut self) -> io::Result<Option<Packet>> {
        loop {
            let observed = observe(&mut self.input, self.version).map_err(io::Error::other)?;
            if let Some(observed) = observed {
                return Ok(observed.packet);
            }
            let mut bytes = [0; 4_096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.input.extend_from_slice(&bytes[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
