//! A delivery as others see it: one JSON object, one identity, a time in words. Pure.

use crate::inbox::Delivery;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Property};
use serde::ser::{Serialize, SerializeMap, Serializer};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Characters of a key that its identity shows.
const KEY_SHOWN_MAX: usize = 64;

/// The JSON object of a message, but for its payload, in whose place stands an empty text.
pub(super) struct Frame<'a>(pub(super) &'a Delivery);

/// Bytes of a payload that are written at once; a multiple of 3, which base64 takes at a time.
const PIECE_BYTES: usize = 48 << 10;

/// A line, made piece by piece: a payload of many megabytes is not in memory a second time.
pub(super) struct Line {
    before: Vec<u8>,
    payload: Bytes,
    form: Form,
    after: Vec<u8>,
    over: bool,
}

/// How a payload stands in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    AsItIs,
    Text,
    Base64,
}

impl Line {
    /// The JSON object of a delivery. JSON escapes line ends within texts.
    pub(super) fn json(delivery: &Delivery) -> Self {
        Self::around(&Frame(delivery), delivery)
    }

    /// A JSON value in which the delivery's [`Frame`] stands, with its payload.
    pub(super) fn around(value: &impl Serialize, delivery: &Delivery) -> Self {
        let form = Form::of(&delivery.payload);
        let mut before =
            serde_json::to_vec(value).expect("plain values under string keys can always be written");
        // Within a JSON text a quotation mark has a backslash before it, so no other place looks like this.
        let gap = format!("\"{}\":\"\"", form.member());
        let at = before.windows(gap.len()).position(|window| window == gap.as_bytes());
        let mut after = before.split_off(at.map_or(before.len(), |at| at + gap.len() - 1));
        after.push(b'\n');
        Self { before, payload: delivery.payload.clone(), form, after, over: false }
    }

    /// The payload as it is, behind `before`.
    pub(super) fn plain(before: Vec<u8>, delivery: &Delivery) -> Self {
        let payload = delivery.payload.clone();
        Self { before, payload, form: Form::AsItIs, after: b"\n".to_vec(), over: false }
    }

    /// Where the next piece of the payload ends: never within a character of a text.
    fn cut(&self) -> usize {
        let mut end = self.payload.len().min(PIECE_BYTES);
        while self.form == Form::Text && self.payload.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
            end -= 1;
        }
        end
    }
}

impl Iterator for Line {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let mut piece = std::mem::take(&mut self.before);
        let end = self.cut();
        self.form.write(&self.payload.split_to(end), &mut piece);
        if self.payload.is_empty() {
            piece.append(&mut self.after);
            self.over = true;
        }
        Some(piece.into())
    }
}

impl Form {
    fn of(payload: &[u8]) -> Self {
        if std::str::from_utf8(payload).is_ok() { Self::Text } else { Self::Base64 }
    }

    fn member(self) -> &'static str {
        if self == Self::Base64 { "payload_base64" } else { "payload" }
    }

    fn write(self, bytes: &[u8], to: &mut Vec<u8>) {
        match self {
            Self::AsItIs => to.extend_from_slice(bytes),
            Self::Base64 => to.extend_from_slice(BASE64_STANDARD.encode(bytes).as_bytes()),
            Self::Text => {
                let quoted = serde_json::to_vec(&String::from_utf8_lossy(bytes)).unwrap_or_default();
                to.extend_from_slice(quoted.get(1..quoted.len() - 1).unwrap_or_default());
            }
        }
    }
}

/// What makes two deliveries the same one to whoever receives them, stable over attempts and restarts: key, topic, body and
/// replay epoch, or the place in the inbox where there is no key.
///
/// The body is part of it because a known key with another body is another message, which the default
/// [`ConflictPolicy`](crate::inbox::ConflictPolicy) hands out: a receiver that knew the key alone would drop it.
/// Letters, digits and `-_.%`, at most 97 bytes: fit for a header, a file name and an environment variable.
pub fn identity(delivery: &Delivery) -> String {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(delivery.topic.as_bytes());
    part(&delivery.replay.to_le_bytes());
    part(&delivery.payload);
    let mut shown = match &delivery.key {
        Some(key) => {
            part(key.as_bytes());
            encoded(key, KEY_SHOWN_MAX)
        }
        None => {
            part(&delivery.received_at.as_ms().to_le_bytes());
            part(&delivery.sequence.to_le_bytes());
            delivery.sequence.to_string()
        }
    };
    shown.push('.');
    hash.finalize().iter().take(16).for_each(|byte| {
        let _ = write!(shown, "{byte:02x}");
    });
    shown
}

/// `text` with everything but letters, digits and `-_.` percent-encoded, cut before it grows longer than `max`.
fn encoded(text: &str, max: usize) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        let before = encoded.len();
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => encoded.push(char::from(byte)),
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        if encoded.len() > max {
            encoded.truncate(before);
            break;
        }
    }
    encoded
}

/// A point in time by RFC 3339, UTC, with milliseconds: `2026-11-22T21:53:29.120Z`.
pub fn rfc_3339(time: Time) -> String {
    let (ms, seconds) = (time.as_ms() % 1_000, time.as_ms() / 1_000);
    let (year, month, day) = date_of(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The Gregorian date of a day counted from 1970-01-01, reckoned in years that begin in March, so that leap days come last.
fn date_of(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

impl Serialize for Frame<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let delivery = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", &*delivery.topic)?;
        map.serialize_entry("qos", &(delivery.qos as u8))?;
        map.serialize_entry("retain", &delivery.retain)?;
        map.serialize_entry(Form::of(&delivery.payload).member(), "")?;
        map.serialize_entry("key", &delivery.key)?;
        map.serialize_entry("id", &identity(delivery))?;
        map.serialize_entry("received_at", &rfc_3339(delivery.received_at))?;
        if !delivery.properties.is_empty() {
            map.serialize_entry("properties", &Members(&delivery.properties))?;
        }
        map.end()
    }
}

struct Members<'a>(&'a Properties);

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for property in &self.0.0 {
            match property {
                Property::PayloadFormatIndicator(value) => {
                    map.serialize_entry("payload_format_indicator", value)?;
                }
                Property::MessageExpiryInterval(value) => {
                    map.serialize_entry("message_expiry_interval", value)?;
                }
                Property::ContentType(text) => map.serialize_entry("content_type", &**text)?,
                Property::ResponseTopic(text) => map.serialize_entry("response_topic", &**text)?,
                Property::CorrelationData(data) => {
                    map.serialize_entry("correlation_data_base64", &BASE64_STANDARD.encode(data))?;
                }
                _ => {}
            }
        }
        // Pairs, because their order counts and a name may stand twice.
        let user: Vec<_> = self.0.user_properties().map(|(name, value)| (&**name, &**value)).collect();
        if !user.is_empty() {
            map.serialize_entry("user", &user)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtally_proto::packet::Qos;

    fn delivery(payload: &'static [u8]) -> Delivery {
        Delivery {
            sequence: 7,
            attempt: 1,
            fence: 1,
            topic: "a/b".into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: Properties::default(),
            payload: payload.into(),
            key: Some("k/1".into()),
            replay: 0,
            received_at: Time::from_ms(1_000),
        }
    }

    fn json_line(delivery: &Delivery) -> Vec<u8> {
        Line::json(delivery).flatten().collect()
    }

    #[test]
    fn a_long_payload_comes_in_pieces_that_make_the_same_line() {
        let texts = ["x", "\u{1}\"\\\n", "é", "温", "\u{1F600}"];
        let texts = texts.map(|text| text.repeat(2 * PIECE_BYTES / text.len() + 7).into_bytes());
        let shifted = texts.iter().flat_map(|text| (0..4).map(|by| [&vec![b'-'; by][..], text].concat()));
        let bytes = (0..4).map(|by| vec![0xff; 2 * PIECE_BYTES + by]);
        for payload in shifted.chain(bytes).chain([vec![], vec![b'x'; PIECE_BYTES]]) {
            let message = Delivery { payload: payload.clone().into(), ..delivery(b"") };
            let pieces: Vec<Bytes> = Line::json(&message).collect();
            assert!(pieces.iter().all(|piece| piece.len() < 7 * PIECE_BYTES));
            assert!(pieces.len() > payload.len().div_ceil(PIECE_BYTES).saturating_sub(1));
            let found: serde_json::Value = serde_json::from_slice(&pieces.concat()).unwrap();
            let back = match String::from_utf8(payload.clone()) {
                Ok(text) => found["payload"] == text,
                Err(_) => found["payload_base64"] == BASE64_STANDARD.encode(&payload),
            };
            assert!(back, "{} bytes", payload.len());
            assert_eq!(found["id"], identity(&message));
        }
    }

    #[test]
    fn a_topic_that_looks_like_the_payloads_place_is_no_such_place() {
        let topic = r#""payload":"""#;
        let message = Delivery { topic: topic.into(), ..delivery(b"x") };
        let found: serde_json::Value = serde_json::from_slice(&json_line(&message)).unwrap();
        assert_eq!((&found["topic"], &found["payload"]), (&topic.into(), &"x".into()));
    }

    #[test]
    fn times_are_written_by_rfc_3339() {
        let check = |ms, expect: &str| assert_eq!(rfc_3339(Time::from_ms(ms)), expect);
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399_999, "2000-02-28T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(1_709_251_199_001, "2024-02-29T23:59:59.001Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
        check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
        let _ = rfc_3339(Time::from_ms(u64::MAX));
    }

    #[test]
    fn an_object_holds_text_as_text_and_bytes_as_base64() {
        let text = |payload| String::from_utf8(json_line(&delivery(payload))).unwrap();
        let found = text(b"two\nlines \"quoted\"");
        assert!(found.starts_with(
            r#"{"topic":"a/b","qos":1,"retain":false,"payload":"two\nlines \"quoted\"","key":"k/1","#
        ));
        assert!(found.ends_with("\"received_at\":\"1970-01-01T00:00:01.000Z\"}\n"), "{found}");
        assert!(text(b"\xff\x00").contains(r#""payload_base64":"/wA=""#));
    }

    #[test]
    fn properties_keep_order_and_repetition() {
        let mut message = delivery(b"");
        message.properties = Properties(vec![
            Property::UserProperty("a".into(), "1".into()),
            Property::ContentType("text/plain".into()),
            Property::UserProperty("a".into(), "2".into()),
        ]);
        let found = String::from_utf8(json_line(&message)).unwrap();
        let expect = r#""properties":{"content_type":"text/plain","user":[["a","1"],["a","2"]]}"#;
        assert!(found.contains(expect), "{found}");
    }

    #[test]
    fn an_identity_outlives_attempts_and_tells_messages_apart() {
        let first = delivery(b"x");
        let of = |change: fn(&mut Delivery)| {
            let mut other = first.clone();
            change(&mut other);
            identity(&other)
        };
        let same = identity(&first);
        assert!(same.starts_with("k%2F1.") && same.len() < 97, "{same}");
        assert_eq!(same, of(|d| (d.attempt, d.fence, d.sequence) = (2, 9, 8)));
        assert_ne!(same, of(|d| d.topic = "a/c".into()));
        assert_ne!(same, of(|d| d.payload = "y".into()));
        assert_ne!(same, of(|d| d.replay = 1));
        assert_ne!(same, of(|d| d.key = Some("k/2".into())));
        let keyless = of(|d| d.key = None);
        assert_eq!(keyless, of(|d| (d.key, d.attempt) = (None, 2)));
        assert_ne!(keyless, of(|d| (d.key, d.sequence) = (None, 8)));
        assert_ne!(keyless, of(|d| (d.key, d.received_at) = (None, Time::from_ms(2))));
        assert!(of(|d| d.key = Some("é\0".repeat(4_000))).len() <= 97);
    }
}
