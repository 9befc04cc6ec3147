//! The lesson's envelope: JSON that a person can read, with a field more that says which message it is.

use bytes::Bytes;
use mqtally_history::marker::Marker;
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// Sender that the lesson's publisher names.
const SENDER: &str = "qos_publisher";

/// The payload of a lesson's message.
#[derive(Debug, Serialize)]
pub(crate) struct Envelope<'a> {
    message_id: u64,
    content: &'a str,
    message_type: &'a str,
    qos: u8,
    timestamp_ms: u128,
    sender: &'a str,
    mqtally: String,
}

impl<'a> Envelope<'a> {
    pub(crate) fn new(message_id: u64, content: &'a str, message_type: &'a str, marker: &Marker) -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp_ms = since_epoch.as_millis();
        let mqtally = marker.to_hex();
        Self { message_id, content, message_type, qos: marker.qos, timestamp_ms, sender: SENDER, mqtally }
    }

    /// The JSON object.
    pub(crate) fn to_bytes(&self) -> Bytes {
        // Strings and numbers alone: there is nothing in it that could fail to be written.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}
