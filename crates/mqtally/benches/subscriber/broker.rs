//! The embedded broker, and messages queued at it.

use crate::{PAYLOAD_BYTES, Result};
use mqtally::client::{Client, Event, Settings};
use mqtally_proto::packet::{Properties, Publish, Qos, ReasonCode, Subscription, Version};
use mqtally_proto::session::{Event as SessionEvent, Options, PublishError};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A broker of ours in a process of its own.
pub(crate) struct Broker {
    child: Child,
    pub(crate) url: String,
}

impl Broker {
    /// Starts one that sends a client `in_flight` messages ahead of its acknowledgements at most.
    pub(crate) fn start(directory: &Path, in_flight: u16) -> Result<Self> {
        let beside = std::env::current_exe()?.with_file_name("..").join("mqtally");
        let program = std::env::var_os("MQTALLY_BIN").map_or(beside, PathBuf::from);
        let mut child = Command::new(program)
            // paho-mqtt refuses a broker that announces more than 268435455.
            .args(["broker", "--listen", "127.0.0.1:0", "--packet-size-max", "1000000"])
            .args(["--in-flight-max", &in_flight.to_string()])
            .arg("--data")
            .arg(directory.join(format!("broker-{in_flight}")))
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| {
                format!("no broker ({error}); run 'cargo build --release', or set MQTALLY_BIN")
            })?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self { child, url: format!("mqtt://{}", line.trim()) })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a session for `client_id`, and has the broker queue messages for it.
pub(crate) async fn queue(broker: &Broker, client_id: &str, qos: Qos, messages: u64) -> Result<()> {
    let options = Options { session_expiry_interval: 3_600, ..Options::new(Version::V5_0, client_id) };
    let (client, mut events) = Client::start(Settings::new(broker.url.parse()?, options));
    client.connect().await?;
    let filter = format!("{client_id}/#");
    client.subscribe(vec![Subscription::new(filter, qos)], Properties::default())?;
    while !matches!(events.recv().await, Some(Event::Session(SessionEvent::Subscribed(_))) | None) {}
    client.disconnect(ReasonCode::SUCCESS, None).await;

    let options = Options { in_flight_max: 1_000, ..Options::new(Version::V5_0, "publisher") };
    let (client, mut events) = Client::start(Settings::new(broker.url.parse()?, options));
    client.connect().await?;
    let publisher = client.clone();
    let topic = client_id.to_owned();
    let publishing = tokio::spawn(async move {
        for number in 0..messages {
            let mut payload = format!(r#"{{"mqtally_id":"{number}"}}"#).into_bytes();
            payload.resize(PAYLOAD_BYTES, b' ');
            let topic = format!("{topic}/{}", number % 50).into();
            publisher
                .publish(number, Publish { qos, topic, payload: payload.into(), ..Publish::default() })
                .await?;
        }
        Ok::<(), PublishError>(())
    });
    let mut completed = 0;
    while completed < messages {
        let event = events.recv().await.ok_or("the publisher ended")?;
        completed += u64::from(matches!(event, Event::Session(SessionEvent::Completed { .. })));
    }
    publishing.await??;
    client.disconnect(ReasonCode::SUCCESS, None).await;
    Ok(())
}
