//! A broker that does what a test says.

use bytes::BytesMut;
use mqtally::subscriber::Builder;
use mqtally_proto::packet::{
    Ack, Connack, Decoder, Disconnect, Packet, Properties, Publish, Qos, ReasonCode, Suback, Version, encode,
};
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.0.path().join("store.sub")
    }
}

pub(crate) struct Peer(TcpListener);

/// One connection of the scripted broker.
pub(crate) struct Script {
    stream: TcpStream,
    version: Version,
    decoder: Decoder,
    input: BytesMut,
}

impl Peer {
    pub(crate) async fn bind() -> Self {
        Self(TcpListener::bind(("127.0.0.1", 0)).await.unwrap())
    }

    pub(crate) fn builder(&self) -> Builder {
        let url = format!("mqtt://{}", self.0.local_addr().unwrap());
        Builder::new(url.parse().unwrap(), "subscriber")
    }

    /// Takes a connection and the SUBSCRIBE on it.
    pub(crate) async fn accept(&self, session_present: bool) -> Script {
        let mut script = self.open().await;
        script.connack(session_present, ReasonCode::SUCCESS).await;
        let Packet::Subscribe(subscribe) = script.read_raw().await else { panic!("no SUBSCRIBE") };
        let reasons = subscribe.filters.iter().map(|filter| ReasonCode(filter.qos.as_u8())).collect();
        let suback = Suback { packet_id: subscribe.packet_id, properties: Properties::default(), reasons };
        script.send(suback).await;
        script
    }

    pub(crate) async fn refuse(&self, reason: ReasonCode) {
        self.open().await.connack(false, reason).await;
    }

    async fn open(&self) -> Script {
        let (stream, _) = self.0.accept().await.unwrap();
        // CONNECT is read for its version.
        let decoder = Decoder::server(u32::MAX);
        let mut script = Script { stream, version: Version::V5_0, decoder, input: BytesMut::new() };
        let Packet::Connect(connect) = script.read_raw().await else { panic!("no CONNECT") };
        script.version = connect.version;
        script
    }
}

impl Script {
    async fn connack(&mut self, session_present: bool, reason: ReasonCode) {
        self.send(Connack { session_present, reason, properties: Properties::default() }).await;
    }

    pub(crate) async fn send(&mut self, packet: impl Into<Sent>) {
        let mut bytes = BytesMut::new();
        encode(&packet.into().0, self.version, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next packet that is no PINGREQ.
    pub(crate) async fn read(&mut self) -> Packet {
        loop {
            match self.read_raw().await {
                Packet::Pingreq => self.send(Sent(Packet::Pingresp)).await,
                packet => return packet,
            }
        }
    }

    pub(crate) async fn read_raw(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.input).unwrap() {
                return packet;
            }
            assert!(self.stream.read_buf(&mut self.input).await.unwrap() > 0, "the subscriber hung up");
        }
    }

    pub(crate) async fn read_to_disconnect(&mut self) {
        while !matches!(self.read().await, Packet::Disconnect(_)) {}
    }

    pub(crate) fn disconnect(reason: ReasonCode) -> Sent {
        Sent(Packet::Disconnect(Disconnect { reason, properties: Properties::default() }))
    }
}

/// A packet to send.
pub(crate) struct Sent(pub(crate) Packet);

impl From<Publish> for Sent {
    fn from(publish: Publish) -> Self {
        Self(Packet::Publish(publish))
    }
}

impl From<Connack> for Sent {
    fn from(connack: Connack) -> Self {
        Self(Packet::Connack(connack))
    }
}

impl From<Suback> for Sent {
    fn from(suback: Suback) -> Self {
        Self(Packet::Suback(suback))
    }
}

pub(crate) fn publish(topic: &str, packet_id: u16, qos: Qos, payload: &str) -> Publish {
    let payload = payload.to_owned().into();
    Publish { topic: topic.into(), packet_id: Some(packet_id), qos, payload, ..Publish::default() }
}

pub(crate) fn pubrel(packet_id: u16) -> Sent {
    Sent(Packet::Pubrel(Ack::success(packet_id)))
}

pub(crate) fn puback_of(packet: &Packet) -> Option<u16> {
    match packet {
        Packet::Puback(ack) => Some(ack.packet_id),
        _ => None,
    }
}
