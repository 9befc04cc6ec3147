//! A message as it goes out: with its name, and with less of its time to live. Pure.

use crate::inbox::key::ID_PROPERTY;
use crate::outbox::{Failure, Message, Stored, Uuid};
use bytes::BytesMut;
use bytestring::ByteString;
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Property, Publish, Version};

/// Names of messages that share an allocation, bytes: about a hundred.
const NAMES_BYTES: usize = 4_096;

/// Makes PUBLISHes of messages.
#[derive(Debug)]
pub(super) struct Outgoing {
    version: Version,
    names: BytesMut,
}

impl Outgoing {
    pub(super) fn new(version: Version) -> Self {
        Self { version, names: BytesMut::new() }
    }

    /// The message as it goes out `now`; a failure when it has outlived its message expiry interval.
    ///
    /// The interval is shortened by the time since `publish`, as a server shortens it by the time that a message has
    /// waited there \[5.0:MQTT-3.3.2-6\].
    pub(super) fn publish(&mut self, stored: Stored, now: Time) -> Result<Publish, Failure> {
        let waited = now.ms_since(stored.created);
        let interval = stored.message.properties.message_expiry_interval();
        if interval.is_some_and(|seconds| u64::from(seconds) * 1_000 <= waited) {
            let detail = "expired in the outbox before it could be sent".into();
            return Err(Failure { reason: None, detail });
        }
        Ok(self.publish_again(stored, now))
    }

    /// As [`publish`](Self::publish), of one that is in flight: it goes on to its end, expired or not.
    pub(super) fn publish_again(&mut self, stored: Stored, now: Time) -> Publish {
        let Stored { id, created, message, .. } = stored;
        let Message { topic, payload, qos, retain, mut properties } = message;
        match self.version {
            Version::V5_0 => {
                shorten(&mut properties, now.ms_since(created));
                properties.0.reserve_exact(1);
                properties.push(Property::UserProperty(ByteString::from_static(ID_PROPERTY), self.name(id)));
            }
            Version::V3_1_1 => properties.0.clear(),
        }
        Publish { dup: false, qos, retain, topic, packet_id: None, properties, payload }
    }

    fn name(&mut self, id: Uuid) -> ByteString {
        let text = id.text();
        if self.names.capacity() < text.len() {
            self.names = BytesMut::with_capacity(NAMES_BYTES);
        }
        self.names.extend_from_slice(&text);
        ByteString::try_from(self.names.split()).unwrap_or_default() // hexadecimal digits are UTF-8
    }
}

/// What is left of the message expiry interval, in whole seconds begun.
fn shorten(properties: &mut Properties, waited_ms: u64) {
    for property in &mut properties.0 {
        if let Property::MessageExpiryInterval(seconds) = property {
            let left_ms = (u64::from(*seconds) * 1_000).saturating_sub(waited_ms);
            *seconds = left_ms.div_ceil(1_000).max(1) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mqtally_proto::packet::Qos;

    fn stored(properties: Vec<Property>) -> Stored {
        let message = Message::new("t", "x", Qos::AtLeastOnce);
        let message = Message { properties: Properties(properties), ..message };
        Stored { seq: 1, id: Uuid([0x5a; 16]), created: Time::from_ms(1_000), message }
    }

    fn published(version: Version, now_ms: u64) -> Result<Properties, Failure> {
        let stored = stored(vec![Property::MessageExpiryInterval(10)]);
        Outgoing::new(version).publish(stored, Time::from_ms(now_ms)).map(|publish| publish.properties)
    }

    #[test]
    fn the_time_in_the_outbox_shortens_the_message_expiry_interval() {
        for (now_ms, left) in [(0, 10), (1_000, 10), (1_001, 10), (2_001, 9), (10_500, 1), (10_999, 1)] {
            let interval = published(Version::V5_0, now_ms).unwrap().message_expiry_interval();
            assert_eq!(interval, Some(left), "at {now_ms} ms");
        }
    }

    #[test]
    fn what_expired_is_not_sent_unless_it_is_in_flight() {
        for version in [Version::V5_0, Version::V3_1_1] {
            assert!(published(version, 11_000).unwrap_err().detail.contains("expired"));
        }
        let again = Outgoing::new(Version::V5_0)
            .publish_again(stored(vec![Property::MessageExpiryInterval(10)]), Time::from_ms(99_000));
        assert_eq!(again.properties.message_expiry_interval(), Some(1));
    }

    #[test]
    fn each_message_has_its_own_name_however_many_share_an_allocation() {
        let mut outgoing = Outgoing::new(Version::V5_0);
        for n in 0..300_u16 {
            let id = Uuid([n as u8; 16]);
            let publish = outgoing.publish_again(Stored { id, ..stored(Vec::new()) }, Time::from_ms(0));
            let named: Vec<_> = publish.properties.user_properties().collect();
            assert_eq!(named, [(&ID_PROPERTY.into(), &id.to_string().into())]);
        }
    }
}
