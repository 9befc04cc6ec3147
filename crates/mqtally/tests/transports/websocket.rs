//! `ws://`: a round, and frames written and read by hand after RFC 6455.

use super::server::{answer_when_all_is_there, bytes_of, listen, serve, upgrade};
use super::{a_full_socket_loses_nothing, connect_error, next, recv, round, settings};
use mqtally::client::{Client, Event, Events};
use mqtally::connection::{Closed, Closing, Connection};
use mqtally_proto::packet::{Connack, Packet, Properties, Publish, Qos, ReasonCode, Subscription, Version};
use mqtally_proto::session::Event as SessionEvent;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::Duration;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FINAL: u8 = 0x80;

#[tokio::test]
async fn a_websocket_carries_a_round() {
    let (port, server) = listen(|stream| serve(upgrade(stream)));
    round(format!("ws://127.0.0.1:{port}").parse().unwrap()).await;
    server.join().unwrap();
}

/// The server's side of a WebSocket, by hand.
struct Peer(BufReader<TcpStream>);

impl Peer {
    /// Answers the request, which has to have the lines in `expect`, with 101.
    fn welcome(stream: TcpStream, expect: &[&str]) -> Self {
        Self::upgrade(stream, expect, &[])
    }

    /// The same, with more in the same write.
    fn upgrade(stream: TcpStream, expect: &[&str], more: &[u8]) -> Self {
        let mut peer = Self(BufReader::new(stream));
        let request = peer.request();
        for line in expect {
            assert!(request.iter().any(|found| found.eq_ignore_ascii_case(line)), "{line} in {request:#?}");
        }
        let key = request.iter().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nconnection: upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        peer.write(&[answer.as_bytes(), more].concat());
        peer
    }

    /// Takes CONNECT and accepts.
    fn accept(&mut self) {
        let (opcode, payload) = self.read();
        assert_eq!((opcode, payload[0]), (FINAL | BINARY, 0x10), "CONNECT");
        self.frame(FINAL | BINARY, &connack());
    }

    fn request(&mut self) -> Vec<String> {
        let lines = (&mut self.0).lines().map(Result::unwrap);
        lines.take_while(|line| !line.is_empty()).collect()
    }

    /// First byte and payload of a frame, which has to be masked.
    fn read(&mut self) -> (u8, Vec<u8>) {
        let [first, second] = self.take();
        assert!(second & 0x80 != 0, "a client masks its frames");
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes(self.take())),
            127 => u64::from_be_bytes(self.take()),
            length => u64::from(length),
        };
        let mask: [u8; 4] = self.take();
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).unwrap();
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        (first, payload)
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// A frame with a payload below 126 bytes.
    fn frame(&mut self, first: u8, payload: &[u8]) {
        assert!(payload.len() < 126);
        self.write(&[&[first, payload.len() as u8], payload].concat());
    }
}

fn connack() -> Vec<u8> {
    let properties = Properties::default();
    bytes_of(&Packet::Connack(Connack { session_present: false, reason: ReasonCode::SUCCESS, properties }))
}

fn publish(payload: &str) -> Vec<u8> {
    let payload = payload.to_owned().into();
    bytes_of(&Packet::Publish(Publish { topic: "t".into(), payload, ..Publish::default() }))
}

/// A client of a peer that welcomes it and then does `act`.
async fn client(act: impl FnOnce(Peer) + Send + 'static) -> (Client, Events, JoinHandle<()>) {
    let (port, server) = listen(move |stream| {
        let mut peer = Peer::welcome(stream, &[]);
        peer.accept();
        act(peer);
    });
    let (client, mut events) = Client::start(settings(format!("ws://127.0.0.1:{port}").parse().unwrap()));
    client.connect().await.unwrap();
    assert!(matches!(next(&mut events).await, SessionEvent::Connected { .. }));
    (client, events, server)
}

async fn expect_message(events: &mut Events, payload: &str) {
    let SessionEvent::Message(message) = next(events).await else { panic!() };
    assert_eq!(message.payload, payload);
}

#[tokio::test]
async fn the_handshake_asks_for_mqtt_at_the_path_of_the_url() {
    let (port, server) = listen(|stream| {
        let host = format!("Host: {}", stream.local_addr().unwrap());
        let expect = ["GET /a/b?c=d HTTP/1.1", &host, "Upgrade: websocket", "Sec-WebSocket-Protocol: mqtt"];
        Peer::welcome(stream, &expect).accept();
    });
    let url = format!("ws://user:secret@127.0.0.1:{port}/a/b?c=d");
    let (client, _events) = Client::start(settings(url.parse().unwrap()));
    client.connect().await.unwrap();
    server.join().unwrap();
}

/// [MQTT-6.0.0-2]: a frame may hold several packets or a part of one, and fragments with a ping between them.
#[tokio::test]
async fn packets_and_frames_begin_and_end_independently() {
    let (client, mut events, server) = client(|mut peer| {
        let bytes = [publish("one"), publish("two"), publish("three")].concat();
        let (one, rest) = bytes.split_at(4);
        let (two, three) = rest.split_at(12);
        peer.frame(BINARY, one);
        peer.frame(FINAL | PING, b"are you there");
        assert_eq!(peer.read(), (FINAL | PONG, b"are you there".to_vec()));
        peer.frame(CONTINUATION, &[]);
        peer.frame(FINAL | CONTINUATION, two);
        peer.frame(FINAL | BINARY, &[]);
        peer.frame(FINAL | PONG, b"unasked");
        for byte in three {
            peer.write(&[FINAL | BINARY]);
            peer.write(&[1]);
            peer.write(&[*byte]);
        }
        let long = publish(&"4".repeat(126));
        peer.write(&[&[FINAL | BINARY, 126, 0, long.len() as u8], &long[..]].concat());
        let (opcode, disconnect) = peer.read();
        assert_eq!((opcode, disconnect[0]), (FINAL | BINARY, 0xe0));
        assert_eq!(peer.read().0, FINAL | CLOSE);
    })
    .await;
    for payload in ["one", "two", "three"] {
        expect_message(&mut events, payload).await;
    }
    expect_message(&mut events, &"4".repeat(126)).await;
    client.disconnect(ReasonCode::SUCCESS, None).await;
    server.join().unwrap();
}

#[tokio::test]
async fn packets_that_are_queued_together_leave_in_one_frame() {
    let (port, server) = listen(|stream| {
        let mut peer = Peer::welcome(stream, &[]);
        assert_eq!(peer.read(), (FINAL | BINARY, [0xc0, 0].repeat(200)));
        assert_eq!(peer.read(), (FINAL | CLOSE, Vec::new()));
        peer.frame(FINAL | CLOSE, &[]);
    });
    let endpoint = format!("ws://127.0.0.1:{port}").parse().unwrap();
    let limit = Duration::from_secs(10);
    let mut connection = Connection::dial(&endpoint, limit, Version::V5_0, 1024, 1, None).await.unwrap();
    for _ in 0..200 {
        connection.queue(&Packet::Pingreq).unwrap();
    }
    connection.flush().unwrap();
    assert_eq!(connection.backlog(), 0);
    connection.close(Closing::Fin).await;
    server.join().unwrap();
}

#[tokio::test]
async fn what_the_kernel_does_not_take_is_held_and_sent_later() {
    let (release, released) = std::sync::mpsc::channel();
    let (port, server) = listen(move |stream| answer_when_all_is_there(upgrade(stream), &released));
    a_full_socket_loses_nothing(format!("ws://127.0.0.1:{port}").parse().unwrap(), release).await;
    server.join().unwrap();
}

/// What follows the answer to the handshake in the same segment is not lost.
#[tokio::test]
async fn frames_right_behind_the_handshake_are_taken() {
    let (port, server) = listen(|stream| {
        let frames = [connack(), publish("early")]
            .map(|packet| [&[FINAL | BINARY, packet.len() as u8], &packet[..]].concat());
        let mut peer = Peer::upgrade(stream, &[], &frames.concat());
        assert_eq!(peer.read().1[0], 0x10, "CONNECT");
        assert_eq!(peer.read().1[0], 0xe0, "DISCONNECT");
    });
    let (client, mut events) = Client::start(settings(format!("ws://127.0.0.1:{port}").parse().unwrap()));
    client.connect().await.unwrap();
    assert!(matches!(next(&mut events).await, SessionEvent::Connected { .. }));
    expect_message(&mut events, "early").await;
    client.disconnect(ReasonCode::SUCCESS, None).await;
    server.join().unwrap();
}

#[tokio::test]
async fn unlawful_frames_break_the_connection_after_what_came_before_them() {
    for (first, second, expect) in [
        (FINAL | TEXT, 2, "a text frame came"),
        (FINAL | BINARY, 0x80, "masked"),
        (FINAL | BINARY | 0x40, 0, "Reserved bits"),
        (FINAL | CONTINUATION, 0, "nothing to continue"),
    ] {
        let (_client, mut events, server) = client(move |mut peer| {
            let before = publish("before");
            let head = [FINAL | BINARY, before.len() as u8];
            peer.write(&[&head, &before[..], &[first, second, b'h', b'i', 0, 0]].concat());
            let _ = peer.0.read(&mut [0; 64]);
        })
        .await;
        expect_message(&mut events, "before").await;
        let Event::Closed { how: Closed::Broken(_), error: Some(error) } = recv(&mut events).await else {
            panic!("{expect}")
        };
        assert!(error.detail.contains(expect), "{} {expect}", error.detail);
        server.join().unwrap();
    }
}

/// A ping is no answer, and is answered although nothing is taken.
#[tokio::test]
async fn only_bytes_of_mqtt_are_waiting_bytes() {
    let (client, mut events, server) = client(|mut peer| {
        assert_eq!(peer.read().1[0], 0x82, "SUBSCRIBE");
        peer.frame(FINAL | PING, b"x");
        assert_eq!(peer.read(), (FINAL | PONG, b"x".to_vec()));
        peer.frame(FINAL | BINARY, &publish("waits"));
        let _ = peer.0.read(&mut [0; 64]);
    })
    .await;
    client.pause_reading(true).await;
    client.subscribe(vec![Subscription::new("t", Qos::AtMostOnce)], Properties::default()).unwrap();
    assert!(client.bytes_waiting().await);
    assert!(client.bytes_waiting().await, "it was left there");
    client.pause_reading(false).await;
    expect_message(&mut events, "waits").await;
    client.cut(Closing::Rst).await;
    server.join().unwrap();
}

#[tokio::test]
async fn a_close_frame_is_the_peers_end() {
    let (_client, mut events, server) = client(|mut peer| {
        peer.frame(FINAL | BINARY, &publish("last"));
        peer.frame(FINAL | CLOSE, &[]);
        assert_eq!(peer.read().0, FINAL | CLOSE);
    })
    .await;
    expect_message(&mut events, "last").await;
    assert_eq!(recv(&mut events).await, Event::Closed { how: Closed::ByPeer, error: None });
    server.join().unwrap();
}

#[tokio::test]
async fn a_reset_leaves_no_close_frame() {
    let (client, _events, server) = client(|mut peer| {
        let end = peer.0.read(&mut [0; 64]);
        assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    })
    .await;
    client.cut(Closing::Rst).await;
    server.join().unwrap();
}

/// What the client makes of a server that answers its request with `answer`.
async fn check_answer(answer: &'static str, expect: &str) {
    let (port, server) = listen(move |stream| {
        let mut peer = Peer(BufReader::new(stream));
        let request = peer.request();
        let key = request.iter().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        peer.write(answer.replace("{accept}", &accept).as_bytes());
    });
    let error = connect_error(format!("ws://127.0.0.1:{port}").parse().unwrap()).await.to_string();
    let expect = format!(
        "cannot reach ws://127.0.0.1:{port}/mqtt: no WebSocket with the broker: {expect}; check the URL's port and path"
    );
    assert_eq!(error, expect);
    server.join().unwrap();
}

#[tokio::test]
async fn a_server_without_mqtt_is_recognised() {
    let not_found = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    check_answer(not_found, "it answered HTTP 404 Not Found").await;
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Accept: {accept}\r\n\r\n";
    check_answer(upgrade, "it does not speak the subprotocol mqtt").await;
}
