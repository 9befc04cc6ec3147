//! The publisher of a small factory: a reading that may be lost, an alert that must arrive, a command that must not
//! arrive twice. Run it with a broker's URL, kill it, cut the network, run it again: what it accepted arrives.
//!
//! `cargo run --example factory_publisher -- mqtt://localhost`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use mqtally::publisher::{Message, Publisher};
use mqtally_proto::packet::Qos;
use serde::Serialize;
use std::time::Duration;

#[derive(Serialize)]
struct Reading {
    sensor: &'static str,
    celsius: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://localhost".into());
    let gone = Message::new("factory/line-1/state", "gone", Qos::AtLeastOnce);
    let publisher = Publisher::builder(url.parse()?).store("factory.db").will(gone).start()?;

    let reading = Reading { sensor: "oven", celsius: 212.5 };
    let receipts = vec![
        // The next reading replaces it: QoS 0.
        ("reading", publisher.publish_json("sensors/temperature", &reading, Qos::AtMostOnce).await?),
        // Must arrive, and the receiver knows a copy by its id: QoS 1.
        ("alert", publisher.publish_json("alerts/temperature_high", &reading, Qos::AtLeastOnce).await?),
        // Toward a valve that knows nothing of ids: QoS 2.
        ("command", publisher.publish("actuators/valve/control", "open", Qos::ExactlyOnce).await?),
    ];
    println!("all three are safe: delivering them is the publisher's task now");

    for (what, receipt) in receipts {
        match tokio::time::timeout(Duration::from_secs(10), receipt).await {
            Ok(Ok(proof)) => println!("{what} {}: {}", proof.id, proof.reason),
            Ok(Err(error)) => println!("{what}: {error}"),
            Err(_) => println!("{what}: not yet; the next start goes on with it"),
        }
    }
    publisher.close(Duration::from_secs(2)).await;
    Ok(())
}
