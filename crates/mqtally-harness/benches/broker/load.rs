//! A client that costs little: it reads whatever is there and answers once a read.

use bytes::BytesMut;
use mqtally_proto::packet::{
    Ack, Connect, Decoder, Disconnect, Packet, Properties, Publish, Qos, ReasonCode, Subscribe, Subscription,
    Version, encode,
};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TOPIC: &str = "bench/topic";
const VERSION: Version = Version::V3_1_1;
/// A broker that is silent for this long is stuck.
const SILENCE_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
    output: BytesMut,
}

impl Client {
    /// Connects; a session that is not clean is resumed.
    pub(crate) fn connect(broker: SocketAddr, client_id: &'static str, clean_start: bool) -> Result<Self> {
        let stream = TcpStream::connect(broker)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let decoder = Decoder::client(VERSION, u32::MAX);
        let mut client = Self { stream, decoder, input: BytesMut::new(), output: BytesMut::new() };
        client.put(&Packet::Connect(Box::new(Connect {
            version: VERSION,
            clean_start,
            keep_alive: 0,
            client_id: client_id.into(),
            will: None,
            username: None,
            password: None,
            properties: Properties::default(),
        })))?;
        client.flush()?;
        match client.next()? {
            Packet::Connack(connack) if connack.reason == ReasonCode::SUCCESS => Ok(client),
            other => Err(Error::other(format!("{other:?} in answer to CONNECT"))),
        }
    }

    pub(crate) fn subscribe(&mut self, qos: Qos) -> Result<()> {
        let filters = vec![Subscription::new(TOPIC, qos)];
        self.put(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::default(), filters }))?;
        self.flush()?;
        self.next().map(drop)
    }

    pub(crate) fn disconnect(mut self) -> Result<()> {
        let goodbye = Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() };
        self.put(&Packet::Disconnect(goodbye))?;
        self.flush()?;
        // The end of the stream, in whatever way, says that the broker has seen it.
        let _ = self.stream.read(&mut [0]);
        Ok(())
    }

    /// Publishes `count` messages with at most `window` unacknowledged, until all are acknowledged.
    pub(crate) fn publish(
        &mut self,
        qos: Qos,
        count: u64,
        window: u16,
        payload: &'static [u8],
    ) -> Result<()> {
        let (mut sent, mut done, mut free) = (0, 0, (1..=window).collect::<Vec<u16>>());
        while done < count {
            while sent < count
                && let Some(packet_id) = free.pop()
            {
                let publish = Publish {
                    qos,
                    topic: TOPIC.into(),
                    packet_id: Some(packet_id),
                    payload: payload.into(),
                    ..Publish::default()
                };
                self.put(&Packet::Publish(publish))?;
                sent += 1;
            }
            self.flush()?;
            self.fill()?;
            while let Some(packet) = self.buffered()? {
                match packet {
                    Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                        free.push(ack.packet_id);
                        done += 1;
                    }
                    Packet::Pubrec(ack) => self.put(&Packet::Pubrel(Ack::success(ack.packet_id)))?,
                    other => return Err(Error::other(format!("{other:?} while publishing"))),
                }
            }
        }
        Ok(())
    }

    /// Receives and acknowledges until `count` messages have been completed.
    pub(crate) fn receive(&mut self, count: u64) -> Result<()> {
        let mut done = 0;
        while done < count {
            self.fill()?;
            while let Some(packet) = self.buffered()? {
                match packet {
                    Packet::Publish(publish) => {
                        let ack = Ack::success(publish.packet_id.unwrap_or_default());
                        match publish.qos {
                            Qos::AtMostOnce => done += 1,
                            Qos::AtLeastOnce => {
                                done += 1;
                                self.put(&Packet::Puback(ack))?;
                            }
                            Qos::ExactlyOnce => self.put(&Packet::Pubrec(ack))?,
                        }
                    }
                    Packet::Pubrel(ack) => {
                        done += 1;
                        self.put(&Packet::Pubcomp(Ack::success(ack.packet_id)))?;
                    }
                    other => return Err(Error::other(format!("{other:?} while receiving"))),
                }
            }
            self.flush()?;
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Packet> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Ok(packet);
            }
            self.fill()?;
        }
    }

    fn buffered(&mut self) -> Result<Option<Packet>> {
        self.decoder.decode(&mut self.input).map_err(Error::other)
    }

    fn fill(&mut self) -> Result<()> {
        let start = self.input.len();
        self.input.resize(start + (64 << 10), 0);
        let size = self.stream.read(&mut self.input[start..])?;
        self.input.truncate(start + size);
        if size == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn put(&mut self, packet: &Packet) -> Result<()> {
        encode(packet, VERSION, &mut self.output).map_err(Error::other)
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }
}
