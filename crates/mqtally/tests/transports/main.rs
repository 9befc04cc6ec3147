//! The client over every transport, with real sockets on loopback.

mod server;
mod tls;
#[cfg(unix)]
mod unix;
mod websocket;

use mqtally::client::{Client, ConnectError, Event, Events, Settings};
use mqtally::connection::{Closing, Connection};
use mqtally::endpoint::Endpoint;
use mqtally_proto::packet::{Packet, Properties, Publish, Qos, ReasonCode, Subscription, Version};
use mqtally_proto::session::{Event as SessionEvent, Options};
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::io::Interest;

const MESSAGES: u64 = 8;
/// More than the buffers of a socket and its layers hold.
const PAYLOAD_BYTES: usize = 5_000_000;

/// Subscribes, publishes, and takes back what was published, through the broker at `endpoint`.
///
/// One message at a time, because that broker does not read while it writes.
async fn round(endpoint: Endpoint) {
    let mut settings = settings(endpoint);
    settings.options.in_flight_max = 1;
    let (client, mut events) = Client::start(settings);
    client.connect().await.unwrap();
    client.subscribe(vec![Subscription::new("round/#", Qos::ExactlyOnce)], Properties::default()).unwrap();
    for number in 0..MESSAGES {
        client.publish(number, message(number)).await.unwrap();
    }
    let (mut completed, mut received) = (0, 0);
    while completed < MESSAGES || received < MESSAGES {
        match next(&mut events).await {
            SessionEvent::Completed { reason, .. } => {
                assert_eq!(reason, ReasonCode::SUCCESS);
                completed += 1;
            }
            SessionEvent::Message(publish) => {
                let expect = message(received);
                assert_eq!((publish.topic, publish.payload), (expect.topic, expect.payload));
                received += 1;
            }
            _ => {}
        }
    }
    client.disconnect(ReasonCode::SUCCESS, None).await;
}

/// Writes to a server that reads nothing until the kernel takes no more, then lets it read: the bytes that a layer holds
/// are counted, and arrive. `release` tells the server how many to expect before it answers.
async fn a_full_socket_loses_nothing(endpoint: Endpoint, release: Sender<usize>) {
    let limit = Duration::from_secs(10);
    let mut connection = Connection::dial(&endpoint, limit, Version::V5_0, 1024, 1, None).await.unwrap();
    let packet =
        Packet::Publish(Publish { topic: "t".into(), payload: vec![7; 10_000].into(), ..Publish::default() });
    let packet_bytes = server::bytes_of(&packet).len();
    let mut packets = 0;
    while connection.backlog() == 0 {
        connection.queue(&packet).unwrap();
        connection.flush().unwrap();
        packets += 1;
    }
    assert_eq!(connection.backlog(), 1, "a layer holds them");
    release.send(packets * packet_bytes).unwrap();
    while connection.backlog() > 0 {
        connection.ready(Interest::WRITABLE).await.unwrap();
        connection.flush().unwrap();
    }
    let answered = tokio::time::timeout(limit, connection.bytes_waiting()).await;
    assert!(answered.expect("some bytes are missing").unwrap());
    connection.close(Closing::Fin).await;
}

/// Every third is large.
fn message(number: u64) -> Publish {
    let bytes = if number % 3 == 1 { PAYLOAD_BYTES } else { number as usize };
    let payload = vec![number as u8; bytes].into();
    Publish { qos: Qos::ExactlyOnce, topic: "round/trip".into(), payload, ..Publish::default() }
}

fn settings(endpoint: Endpoint) -> Settings {
    Settings::new(endpoint, Options::new(Version::V5_0, "c"))
}

async fn connect_error(endpoint: Endpoint) -> ConnectError {
    let (client, _events) = Client::start(settings(endpoint));
    client.connect().await.unwrap_err()
}

async fn next(events: &mut Events) -> SessionEvent {
    match recv(events).await {
        Event::Session(event) => event,
        closed @ Event::Closed { .. } => panic!("{closed:?}"),
    }
}

async fn recv(events: &mut Events) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(20), events.recv());
    event.await.expect("no event").expect("the client is gone")
}
