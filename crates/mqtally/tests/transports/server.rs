//! The other end: one connection, on a thread of its own, with blocking sockets.

use bytes::{Bytes, BytesMut};
use mqtally_proto::Time;
use mqtally_proto::broker::{Broker, Config, ConnectionId, Output};
use mqtally_proto::packet::{Decoder, Packet, Version, encode};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::{Message, WebSocket};

/// What brings bytes of MQTT.
pub(crate) trait Carrier {
    /// `None` at the end.
    fn receive(&mut self) -> Option<Bytes>;
    fn send(&mut self, bytes: Bytes);
}

/// A stream of bytes is its own carrier.
pub(crate) struct Bare<S>(pub(crate) S);

impl<S: Read + Write> Carrier for Bare<S> {
    fn receive(&mut self) -> Option<Bytes> {
        let mut chunk = vec![0; 64 * 1024];
        match self.0.read(&mut chunk) {
            Ok(0) | Err(_) => None,
            Ok(bytes) => Some(Bytes::copy_from_slice(&chunk[..bytes])),
        }
    }

    fn send(&mut self, bytes: Bytes) {
        self.0.write_all(&bytes).unwrap();
        self.0.flush().unwrap();
    }
}

impl<S: Read + Write> Carrier for WebSocket<S> {
    fn receive(&mut self) -> Option<Bytes> {
        loop {
            match self.read() {
                Ok(Message::Binary(payload)) => return Some(payload),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// In frames that know nothing of packets.
    fn send(&mut self, bytes: Bytes) {
        for part in bytes.chunks(10_007) {
            WebSocket::send(self, Message::Binary(Bytes::copy_from_slice(part))).unwrap();
        }
    }
}

/// Takes the WebSocket's handshake and offers `mqtt`.
#[expect(clippy::result_large_err, reason = "the callback's signature is the library's")]
pub(crate) fn upgrade<S: Read + Write>(stream: S) -> WebSocket<S> {
    let subprotocol = |request: &Request, mut response: Response| {
        assert_eq!(request.uri(), "/mqtt");
        assert_eq!(request.headers()["sec-websocket-protocol"], "mqtt");
        response.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().unwrap());
        Ok(response)
    };
    tungstenite::accept_hdr(stream, subprotocol).unwrap_or_else(|error| panic!("{error}"))
}

/// A broker for one connection, until that ends.
pub(crate) fn serve(mut carrier: impl Carrier) {
    let mut broker = Broker::new(Config::default());
    let (now, connection) = (Time::from_ms(0), ConnectionId(1));
    let (mut decoder, mut input, mut output) = (Decoder::server(1 << 24), BytesMut::new(), BytesMut::new());
    broker.handle_opened(now, connection);
    while let Some(bytes) = carrier.receive() {
        input.extend_from_slice(&bytes);
        while let Some(packet) = decoder.decode(&mut input).unwrap() {
            broker.handle_packet(now, connection, packet);
        }
        broker.changes().for_each(drop);
        for answer in broker.outputs() {
            match answer {
                Output::Send(_, packet) => encode(&packet, Version::V5_0, &mut output).unwrap(),
                Output::Close(_) => return,
                Output::Authenticate(..) => unreachable!("nobody is asked to"),
            }
        }
        if !output.is_empty() {
            carrier.send(output.split().freeze());
        }
    }
}

/// Reads nothing until it is told how many bytes there will be; answers when they have come.
pub(crate) fn answer_when_all_is_there(mut carrier: impl Carrier, release: &Receiver<usize>) {
    let mut bytes = release.recv().unwrap();
    while bytes > 0 {
        bytes -= carrier.receive().unwrap().len();
    }
    carrier.send(bytes_of(&Packet::Pingresp).into());
    while carrier.receive().is_some() {}
}

/// Accepts one connection on a port of its own and gives it to `serve`.
pub(crate) fn listen(serve: impl FnOnce(TcpStream) + Send + 'static) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, std::thread::spawn(move || serve(listener.accept().unwrap().0)))
}

/// A packet's bytes.
pub(crate) fn bytes_of(packet: &Packet) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    encode(packet, Version::V5_0, &mut bytes).unwrap();
    bytes.to_vec()
}
