//! The client over every transport, with real sockets on loopback.

mod server;
mod tls;
#[cfg(unix)]
mod unix;
mod websocket;

use mqtally::client::{Client, ConnectError, Event, Events, Settings};
use mqtally::endpoint::Endpoint;
use mqtally_proto::packet::{Properties, Publish, Qos, ReasonCode, Subscription, Version};
use mqtally_proto::session::{Event as SessionEvent, Options};
use std::time::Duration;

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
