//! The client over real sockets, against a peer that does what each test says.

use bytes::BytesMut;
use mqtally::client::{Client, ConnectError, Event, Events, Settings};
use mqtally::connection::{Closed, Closing, Tapped};
use mqtally::endpoint::Endpoint;
use mqtally_proto::packet::{
    Ack, Connack, Decoder, Packet, Properties, Publish, Qos, ReasonCode, Version, encode,
};
use mqtally_proto::session::{Acknowledge, Event as SessionEvent, Options};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const VERSION: Version = Version::V5_0;

/// The other end: reads whole packets, writes what it is told to.
struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        Self { stream, decoder: Decoder::server(1 << 20), input: BytesMut::new() }
    }

    /// Accepts and answers CONNECT.
    async fn welcome(listener: &TcpListener, session_present: bool) -> Self {
        let mut peer = Self::accept(listener).await;
        assert!(matches!(peer.read().await, Some(Packet::Connect(_))));
        peer.write(connack(session_present, ReasonCode::SUCCESS)).await;
        peer
    }

    /// `None` at the end of the stream.
    async fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.decoder.decode(&mut self.input).unwrap() {
                return Some(packet);
            }
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn write(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        encode(&packet, VERSION, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }
}

fn connack(session_present: bool, reason: ReasonCode) -> Packet {
    Packet::Connack(Connack { session_present, reason, properties: Properties::default() })
}

fn message(qos: Qos) -> Publish {
    Publish { qos, topic: "alerts/door".into(), payload: "open".into(), ..Publish::default() }
}

async fn listen() -> (TcpListener, Settings) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port());
    let options = Options { session_expiry_interval: 60, ..Options::new(VERSION, "c") };
    (listener, Settings::new(endpoint, options))
}

/// A connected client and its peer.
async fn pair(settings: Settings, listener: &TcpListener) -> (Client, Events, Peer) {
    let (client, mut events) = Client::start(settings);
    let (connected, peer) = tokio::join!(client.connect(), Peer::welcome(listener, false));
    assert!(!connected.unwrap().session_present);
    assert!(matches!(next(&mut events).await, SessionEvent::Connected { .. }));
    (client, events, peer)
}

async fn next(events: &mut Events) -> SessionEvent {
    match recv(events).await {
        Event::Session(event) => event,
        closed @ Event::Closed { .. } => panic!("{closed:?}"),
    }
}

async fn recv(events: &mut Events) -> Event {
    tokio::time::timeout(Duration::from_secs(10), events.recv())
        .await
        .expect("no event")
        .expect("the client is gone")
}

#[tokio::test]
async fn an_acknowledged_publish_completes() {
    let (listener, settings) = listen().await;
    let (client, mut events, mut peer) = pair(settings, &listener).await;
    client.publish(7, message(Qos::AtLeastOnce)).await.unwrap();
    let Some(Packet::Publish(publish)) = peer.read().await else { panic!() };
    peer.write(Packet::Puback(Ack::success(publish.packet_id.unwrap()))).await;
    assert_eq!(next(&mut events).await, SessionEvent::Completed { token: 7, reason: ReasonCode::SUCCESS });
    client.disconnect(ReasonCode::SUCCESS, None).await;
    assert!(matches!(peer.read().await, Some(Packet::Disconnect(_))));
    assert_eq!(peer.read().await, None);
    assert_eq!(recv(&mut events).await, Event::Closed { how: Closed::ByUs(Closing::Fin), error: None });
}

#[tokio::test]
async fn a_cut_publish_is_resumed_with_its_packet_id_and_dup() {
    for closing in [Closing::Fin, Closing::Rst] {
        let (listener, settings) = listen().await;
        let (client, mut events, mut peer) = pair(settings, &listener).await;
        client.publish(1, message(Qos::ExactlyOnce)).await.unwrap();
        let Some(Packet::Publish(first)) = peer.read().await else { panic!() };
        client.cut(closing).await;
        assert_eq!(peer.read().await, None);
        assert_eq!(recv(&mut events).await, Event::Closed { how: Closed::ByUs(closing), error: None });

        client.set_clean_start(false);
        let (connected, mut peer) = tokio::join!(client.connect(), Peer::welcome(&listener, true));
        assert!(connected.unwrap().session_present);
        assert_eq!(peer.read().await, Some(Packet::Publish(Publish { dup: true, ..first })));
    }
}

#[tokio::test]
async fn the_tap_sees_every_frame_in_the_order_of_the_wire() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (listener, mut settings) = listen().await;
    let log = Arc::clone(&seen);
    settings.tap = Some(Arc::new(move |connection, tapped: Tapped<'_>| {
        let line = match tapped {
            Tapped::Opened(_) => "opened".to_owned(),
            Tapped::Sending(_, frame) => format!("> {:02x}", frame[0]),
            Tapped::Received(observed) => format!("< {:02x}", observed.raw[0]),
            Tapped::Closed(how) => format!("{how:?}"),
        };
        log.lock().unwrap().push(format!("{connection} {line}"));
    }));
    let (client, mut events, mut peer) = pair(settings, &listener).await;
    client.publish(1, message(Qos::AtLeastOnce)).await.unwrap();
    peer.read().await.unwrap();
    peer.write(Packet::Puback(Ack::success(1))).await;
    next(&mut events).await;
    client.cut(Closing::Rst).await;
    let expect = ["1 opened", "1 > 10", "1 < 20", "1 > 32", "1 < 40", "1 ByUs(Rst)"];
    assert_eq!(*seen.lock().unwrap(), expect);
}

#[tokio::test]
async fn an_answer_can_be_known_to_have_come_without_being_taken() {
    let (listener, settings) = listen().await;
    let (client, mut events, mut peer) = pair(settings, &listener).await;
    client.pause_reading(true).await;
    client.publish(1, message(Qos::AtLeastOnce)).await.unwrap();
    peer.read().await.unwrap();
    peer.write(Packet::Puback(Ack::success(1))).await;
    assert!(client.bytes_waiting().await);
    assert_eq!(client.in_flight(), 1);
    client.pause_reading(false).await;
    assert_eq!(next(&mut events).await, SessionEvent::Completed { token: 1, reason: ReasonCode::SUCCESS });
}

#[tokio::test]
async fn nobody_waits_for_bytes_of_a_connection_that_ended() {
    let (listener, settings) = listen().await;
    let (client, _events, peer) = pair(settings, &listener).await;
    client.pause_reading(true).await;
    drop(peer);
    assert!(!client.bytes_waiting().await);
    client.cut(Closing::Fin).await;
    assert!(!client.bytes_waiting().await);
}

#[tokio::test]
async fn a_full_window_holds_publish_back_until_an_acknowledgement_comes() {
    let (listener, mut settings) = listen().await;
    settings.options.in_flight_max = 1;
    let (client, _events, mut peer) = pair(settings, &listener).await;
    client.publish(1, message(Qos::AtLeastOnce)).await.unwrap();
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.publish(2, message(Qos::AtLeastOnce)).await }
    });
    let Some(Packet::Publish(first)) = peer.read().await else { panic!() };
    assert!(!held.is_finished() && !client.has_room(Qos::AtLeastOnce));
    peer.write(Packet::Puback(Ack::success(first.packet_id.unwrap()))).await;
    held.await.unwrap().unwrap();
    assert!(matches!(peer.read().await, Some(Packet::Publish(_))));
}

#[tokio::test]
async fn manual_acknowledgements_leave_when_they_are_given() {
    let (listener, mut settings) = listen().await;
    settings.options.acknowledge = Acknowledge::Manual;
    let (client, mut events, mut peer) = pair(settings, &listener).await;
    for packet_id in [5, 6] {
        peer.write(Packet::Publish(Publish { packet_id: Some(packet_id), ..message(Qos::AtLeastOnce) }))
            .await;
        assert!(matches!(next(&mut events).await, SessionEvent::Message(_)));
    }
    client.acknowledge(6);
    client.acknowledge(5);
    assert_eq!(peer.read().await, Some(Packet::Puback(Ack::success(5))));
    assert_eq!(peer.read().await, Some(Packet::Puback(Ack::success(6))));
}

#[tokio::test]
async fn a_refusal_says_why() {
    let (listener, settings) = listen().await;
    let (client, _events) = Client::start(settings);
    let refuse = async {
        let mut peer = Peer::accept(&listener).await;
        peer.read().await;
        peer.write(connack(false, ReasonCode::NOT_AUTHORIZED)).await;
        assert_eq!(peer.read().await, None);
    };
    let (connected, ()) = tokio::join!(client.connect(), refuse);
    let error = connected.unwrap_err();
    assert_eq!(error.to_string(), "the broker refused the connection: 0x87 not authorized");
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named() {
    let (listener, settings) = listen().await;
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (client, _events) = Client::start(settings);
    let error = client.connect().await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot reach mqtt://127.0.0.1:{port}: ")), "{error}");
}

#[tokio::test]
async fn a_broker_that_does_not_answer_is_given_up() {
    let (listener, mut settings) = listen().await;
    settings.connect_timeout = Duration::from_millis(50);
    let (client, _events) = Client::start(settings);
    let (connected, _peer) = tokio::join!(client.connect(), Peer::accept(&listener));
    assert!(matches!(connected, Err(ConnectError::NoAnswer(_))));
}

#[tokio::test]
async fn what_no_endpoint_may_accept_ends_the_connection_with_the_reason() {
    let (listener, settings) = listen().await;
    let (_client, mut events, mut peer) = pair(settings, &listener).await;
    peer.stream.write_all(&[0x34, 3, 0, 1, b'a']).await.unwrap(); // a QoS 2 PUBLISH that ends before its packet id
    let Some(Packet::Disconnect(disconnect)) = peer.read().await else { panic!() };
    assert_eq!(disconnect.reason, ReasonCode::MALFORMED_PACKET);
    let Event::Closed { how: Closed::ByUs(Closing::Fin), error: Some(error) } = recv(&mut events).await
    else {
        panic!()
    };
    assert_eq!(error.reason, ReasonCode::MALFORMED_PACKET);
}

#[tokio::test]
async fn an_unlawful_frame_is_evidence_for_the_tap_and_an_error_for_the_session() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (listener, mut settings) = listen().await;
    let log = Arc::clone(&seen);
    settings.tap = Some(Arc::new(move |_, tapped: Tapped<'_>| {
        if let Tapped::Received(observed) = tapped {
            log.lock().unwrap().push((observed.raw.to_vec(), observed.irregularities.len()));
        }
    }));
    let (_client, mut events, mut peer) = pair(settings, &listener).await;
    seen.lock().unwrap().clear();
    let frame = [0x32, 5, 0, 1, b't', 0, 0]; // packet id 0
    peer.stream.write_all(&frame).await.unwrap();
    assert!(matches!(recv(&mut events).await, Event::Closed { error: Some(_), .. }));
    let seen = seen.lock().unwrap();
    assert!(matches!(&seen[..], [(raw, 1..)] if raw[..] == frame), "{seen:?}");
}

#[tokio::test]
async fn a_half_closed_connection_still_takes_what_comes() {
    let (listener, settings) = listen().await;
    let (client, mut events, mut peer) = pair(settings, &listener).await;
    client.publish(1, message(Qos::AtLeastOnce)).await.unwrap();
    peer.read().await.unwrap();
    client.half_close().await;
    assert_eq!(peer.read().await, None);
    peer.write(Packet::Puback(Ack::success(1))).await;
    assert_eq!(next(&mut events).await, SessionEvent::Completed { token: 1, reason: ReasonCode::SUCCESS });
}

#[tokio::test]
async fn packets_before_the_end_of_the_stream_are_taken() {
    let (listener, settings) = listen().await;
    let (client, mut events, mut peer) = pair(settings, &listener).await;
    client.publish(1, message(Qos::AtLeastOnce)).await.unwrap();
    peer.read().await.unwrap();
    peer.write(Packet::Puback(Ack::success(1))).await;
    drop(peer);
    assert!(matches!(next(&mut events).await, SessionEvent::Completed { .. }));
    assert_eq!(recv(&mut events).await, Event::Closed { how: Closed::ByPeer, error: None });
}

#[tokio::test]
async fn a_publish_given_up_while_it_waited_is_never_sent() {
    let (listener, mut settings) = listen().await;
    settings.options.in_flight_max = 1;
    let (client, _events, mut peer) = pair(settings, &listener).await;
    client.publish(1, message(Qos::AtLeastOnce)).await.unwrap();
    {
        let given_up = std::pin::pin!(client.publish(2, message(Qos::AtLeastOnce)));
        assert!(poll_once(given_up).await.is_none());
    }
    let Some(Packet::Publish(first)) = peer.read().await else { panic!() };
    peer.write(Packet::Puback(Ack::success(first.packet_id.unwrap()))).await;
    client.publish(3, Publish { payload: "third".into(), ..message(Qos::AtLeastOnce) }).await.unwrap();
    let Some(Packet::Publish(second)) = peer.read().await else { panic!() };
    assert_eq!(second.payload, "third");
}

/// The output of a future that is ready at once.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn events_that_nobody_takes_stop_the_reading_and_are_not_lost() {
    let (listener, settings) = listen().await;
    let (client, mut events, mut peer) = pair(settings, &listener).await;
    let messages: u32 = 5_000;
    let flood = tokio::spawn(async move {
        for number in 0..messages {
            peer.write(Packet::Publish(Publish {
                payload: number.to_string().into(),
                ..message(Qos::AtMostOnce)
            }))
            .await;
        }
        peer
    });
    let _peer = flood.await.unwrap();
    for number in 0..messages {
        let SessionEvent::Message(publish) = next(&mut events).await else { panic!() };
        assert_eq!(publish.payload, number.to_string());
    }
    drop(client);
    assert_eq!(recv(&mut events).await, Event::Closed { how: Closed::ByUs(Closing::Fin), error: None });
    assert_eq!(events.recv().await, None);
}

#[tokio::test]
async fn a_server_that_goes_away_is_noticed() {
    let (listener, settings) = listen().await;
    let (_client, mut events, peer) = pair(settings, &listener).await;
    drop(peer);
    assert_eq!(recv(&mut events).await, Event::Closed { how: Closed::ByPeer, error: None });
}
