//! Messages that a publisher gave up: a table, everything about one, or JSON.

use super::style::Look;
use super::table::{Column, Table};
use super::words::{NOTHING, visible};
use mqtally::handler::rfc_3339;
use mqtally::outbox::{Failed, Stored};
use mqtally_proto::packet::Property;
use serde_json::{Value, json};
use std::fmt::Write;

/// Characters of a payload that a table shows.
const SHOWN_MAX: usize = 40;

/// For people: one a line.
pub(crate) fn table(failed: &[Failed], look: Look) -> String {
    let mut table = Table::new([
        (Column::Right, "number"),
        (Column::Left, "given up"),
        (Column::Elastic, "topic"),
        (Column::Right, "QoS"),
        (Column::Elastic, "payload"),
        (Column::Elastic, "why"),
    ]);
    for Failed { seq, stored, failed_at, failure } in failed {
        let message = stored.as_ref().map(|stored| &stored.message);
        table.row([
            seq.to_string().into(),
            rfc_3339(*failed_at).into(),
            message.map_or(NOTHING, |message| &message.topic).into(),
            message.map_or(NOTHING.to_owned(), |message| (message.qos as u8).to_string()).into(),
            message.map_or(NOTHING.to_owned(), |message| shortened(&message.payload)).into(),
            failure.detail.as_str().into(),
        ]);
    }
    table.render(look)
}

/// For people: everything about one.
pub(crate) fn details(failed: &Failed) -> String {
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(text, "{:<12}{}", format!("{name}:"), visible(value));
    };
    field("number", &failed.seq.to_string());
    field("given up", &rfc_3339(failed.failed_at));
    field("why", &failed.failure.detail);
    let Some(Stored { id, created, message, .. }) = &failed.stored else {
        return text + "\nits row is damaged\n";
    };
    field("message id", &id.to_string());
    field("published", &rfc_3339(*created));
    field("topic", &message.topic);
    field("qos", &(message.qos as u8).to_string());
    field("retain", &message.retain.to_string());
    for property in &message.properties.0 {
        match property {
            Property::UserProperty(name, value) => field("property", &format!("{name}={value}")),
            other => field("property", &format!("{other:?}")),
        }
    }
    text + "\n" + &String::from_utf8_lossy(&message.payload) + "\n"
}

/// For programs: one object.
pub(crate) fn json(failed: &Failed) -> Value {
    let Failed { seq, stored, failed_at, failure } = failed;
    let mut object = json!({
        "number": seq,
        "failed_at": rfc_3339(*failed_at),
        "reason": failure.reason.map(|reason| reason.0),
        "detail": failure.detail,
        "damaged": stored.is_none(),
    });
    if let Some(Stored { id, created, message, .. }) = stored {
        object["id"] = json!(id.to_string());
        object["published_at"] = json!(rfc_3339(*created));
        object["topic"] = json!(&*message.topic);
        object["qos"] = json!(message.qos as u8);
        object["retain"] = json!(message.retain);
        match std::str::from_utf8(&message.payload) {
            Ok(text) => object["payload"] = json!(text),
            Err(_) => object["payload_hex"] = json!(hex(&message.payload)),
        }
    }
    object
}

fn shortened(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(4 * SHOWN_MAX)]);
    let mut shown: String = text.chars().take(SHOWN_MAX).collect();
    if shown.len() < payload.len() {
        shown.push('…');
    }
    shown
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}
