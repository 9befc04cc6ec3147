//! The gate of a client: nothing of a QoS 2 step is on the wire before it is recorded.

mod publisher_support;

use mqtally::client::{Client, Event, Gate, Settings, Step, Steps};
use mqtally_proto::packet::{Packet, Publish, Qos, Version};
use mqtally_proto::session::{Event as SessionEvent, Options};
use publisher_support::Broker;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

fn message(qos: Qos) -> Publish {
    Publish { qos, topic: "t".into(), payload: "x".into(), ..Publish::default() }
}

/// A connected client whose steps come out of the channel.
async fn gated(broker: &Broker) -> (Client, mqtally::client::Events, mpsc::UnboundedReceiver<Steps>) {
    let (steps, steps_out) = mpsc::unbounded_channel();
    let gate: Gate = Arc::new(move |step| drop(steps.send(step)));
    let options = Options { session_expiry_interval: 60, ..Options::new(Version::V5_0, "c") };
    let settings = Settings { gate: Some(gate), ..Settings::new(broker.endpoint(), options) };
    let (client, events) = Client::start(settings);
    client.connect().await.unwrap();
    client.set_clean_start(false);
    (client, events, steps_out)
}

fn sent(broker: &Broker) -> Vec<&'static str> {
    broker.state().frames.iter().map(Packet::name).filter(|name| *name != "CONNECT").collect()
}

/// Long enough for a packet to cross the loopback many times.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(30)).await;
}

#[tokio::test]
async fn publish_and_pubrel_wait_for_their_records_and_qos_1_behind_them_too() {
    let broker = Broker::start().await;
    let (client, mut events, mut gate) = gated(&broker).await;
    client.publish(70, message(Qos::ExactlyOnce)).await.unwrap();
    let Steps { steps, recorded } = gate.recv().await.unwrap();
    let step = Step { token: 70, packet_id: 1, begun: 1, released: false };
    assert_eq!(steps, [step]);
    client.publish(71, message(Qos::AtLeastOnce)).await.unwrap();
    settle().await;
    assert_eq!(sent(&broker), Vec::<&str>::new());

    recorded.send(()).unwrap();
    let Steps { steps, recorded } = gate.recv().await.unwrap();
    assert_eq!(steps, [Step { released: true, ..step }]);
    broker.until("both are sent", |state| state.arrivals.len() == 2).await;
    settle().await;
    assert_eq!(sent(&broker), ["PUBLISH", "PUBLISH"]);
    recorded.send(()).unwrap();
    loop {
        if let Event::Session(SessionEvent::Completed { token: 70, .. }) = events.recv().await.unwrap() {
            break;
        }
    }
    assert_eq!(sent(&broker), ["PUBLISH", "PUBLISH", "PUBREL"]);
}

#[tokio::test]
async fn a_step_that_is_not_recorded_ends_the_connection_unwritten() {
    let broker = Broker::start().await;
    let (client, mut events, mut gate) = gated(&broker).await;
    client.publish(70, message(Qos::ExactlyOnce)).await.unwrap();
    drop(gate.recv().await.unwrap());
    while !matches!(events.recv().await.unwrap(), Event::Closed { .. }) {}
    assert_eq!(sent(&broker), Vec::<&str>::new());
    client.connect().await.unwrap();
    let Steps { steps, recorded } = gate.recv().await.unwrap();
    assert_eq!(steps[0].token, 70, "the next connection tries again");
    recorded.send(()).unwrap();
    broker.until("sent", |state| state.arrivals.len() == 1).await;
}

#[tokio::test]
async fn an_orderly_end_waits_for_the_record() {
    let broker = Broker::start().await;
    let (client, mut events, mut gate) = gated(&broker).await;
    client.publish(70, message(Qos::ExactlyOnce)).await.unwrap();
    let Steps { recorded, .. } = gate.recv().await.unwrap();
    client.disconnect(mqtally_proto::packet::ReasonCode::SUCCESS, None).await;
    settle().await;
    assert_eq!(sent(&broker), Vec::<&str>::new());
    recorded.send(()).unwrap();
    while !matches!(events.recv().await.unwrap(), Event::Closed { .. }) {}
    broker.until("DISCONNECT", |state| matches!(state.frames.last(), Some(Packet::Disconnect(_)))).await;
    assert_eq!(sent(&broker)[0], "PUBLISH");
}
