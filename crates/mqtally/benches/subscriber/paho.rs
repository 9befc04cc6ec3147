//! A subscriber in Python (paho-mqtt) that commits each message to SQLite before it acknowledges it.

use crate::Result;
use crate::broker::Broker;
use mqtally_proto::packet::Qos;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether paho-mqtt is installed.
pub(crate) fn is_there() -> bool {
    let found =
        Command::new(interpreter()).args(["-c", "import paho.mqtt.client"]).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// Messages a second of `messages` that were queued for the client `python`.
pub(crate) fn receive(broker: &Broker, store: &Path, qos: Qos, messages: u64) -> Result<f64> {
    let port = broker.url.rsplit(':').next().unwrap_or_default();
    let output = Command::new(interpreter())
        .args(["-c", PYTHON, port, &messages.to_string(), &qos.as_u8().to_string()])
        .arg(store)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let seconds: f64 =
        text.trim().parse().map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(messages as f64 / seconds)
}

fn interpreter() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/referees/bin/python");
    let found = if installed.exists() { installed } else { "python3".into() };
    std::env::var_os("MQTALLY_BENCH_PYTHON").map_or(found, PathBuf::from)
}

const PYTHON: &str = r#"
import sqlite3, sys, time
import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes
port, messages, qos, path = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
store = sqlite3.connect(path)
store.execute("PRAGMA journal_mode=WAL")
store.execute("PRAGMA synchronous=FULL")
store.execute("CREATE TABLE message(id TEXT PRIMARY KEY, topic TEXT, payload BLOB)")
taken, started = 0, 0.0
def on_message(client, _, message):
    global taken
    store.execute("INSERT OR IGNORE INTO message VALUES (?, ?, ?)", (str(message.payload), message.topic, message.payload))
    store.commit()
    client.ack(message.mid, message.qos)
    taken += 1
    if taken == messages:
        print(time.monotonic() - started)
        client.disconnect()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "python", protocol=mqtt.MQTTv5, manual_ack=True)
client.on_message = on_message
properties = Properties(PacketTypes.CONNECT)
properties.SessionExpiryInterval = 3600
started = time.monotonic()
client.connect("127.0.0.1", port, clean_start=False, properties=properties)
client.loop_forever()
"#;
