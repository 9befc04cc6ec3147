//! The reliable subscriber of a factory: each alert has one row in `factory.sub`, whatever dies meanwhile.
//!
//! `cargo run -p mqtally --example factory_subscriber -- mqtt://localhost`, and publish with
//! `mosquitto_pub -q 1 -t factory/line1/alert -m '{"message_id":1,"sender":"press-4","content":"too hot"}'`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to whoever runs it")]

use mqtally::handler::Handler;
use mqtally::inbox::key::Rule;
use mqtally::inbox::{Delivery, Outcome, RetryPolicy};
use mqtally::subscriber::Builder;
use mqtally_proto::packet::Qos;
use std::error::Error;

#[derive(serde::Deserialize)]
struct Alert {
    message_id: u64,
    sender: String,
    content: String,
}

/// The row and the end of the message are one transaction: neither is there without the other.
async fn record(alert: Alert, delivery: Delivery) -> Outcome {
    println!("{} {}#{}: {}", delivery.topic, alert.sender, alert.message_id, alert.content);
    Outcome::DoneWith(Box::new(move |transaction| {
        transaction.execute_batch("CREATE TABLE IF NOT EXISTS alert(sender, message_id, content)")?;
        let row = (&alert.sender, alert.message_id, &alert.content);
        transaction.execute("INSERT INTO alert VALUES (?1, ?2, ?3)", row).map(drop)
    }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let broker = std::env::args().nth(1).unwrap_or_else(|| "mqtt://localhost".to_owned());
    let keys = ["/sender", "/message_id"].map(str::to_owned).to_vec();
    let subscriber = Builder::new(broker.parse()?, "factory-subscriber")
        .subscribe("factory/#", Qos::AtLeastOnce)
        .dedup(vec![Rule::JsonPointers(keys)])
        .retry(RetryPolicy { attempts_max: 3, ..RetryPolicy::default() })
        .on("factory/+/alert", Handler::typed(record))
        .otherwise(Handler::from_fn(|delivery| async move {
            println!("{}: {} bytes", delivery.topic, delivery.payload.len());
            Outcome::Done
        }))
        .observer(|notice| eprintln!("{notice}"))
        .open("factory.sub")?;
    let ended = subscriber.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
    let s = ended.statistics.ok_or("the store cannot be read")?;
    let duplicates = s.redelivered + s.published_again;
    println!(
        "received {}, duplicates {duplicates}, failed {}, processed {}",
        s.received, s.failed, s.processed
    );
    Ok(())
}
