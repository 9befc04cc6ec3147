//! From a packet of the wire to a packet of the history.
//!
//! A history keeps what judging needs and no more: a payload becomes its identity, length and checksum. Topic aliases
//! are resolved here, because their meaning hangs on the connection and the direction.

use bytestring::ByteString;
use mqtally_history::marker::Identity;
use mqtally_history::packet as seen;
use mqtally_proto::packet as wire;
use mqtally_proto::packet::Property;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Names kept for reuse on one direction of one connection; above it the table starts again.
const NAMES_MAX: usize = 1_024;

/// Converts the packets of one direction of one connection.
#[derive(Debug)]
pub struct Converter {
    run: u32,
    version: wire::Version,
    aliases: FxHashMap<u16, Arc<str>>,
    names: FxHashMap<ByteString, Arc<str>>,
}

impl Converter {
    /// A converter for a fresh connection of run `run` that speaks `version`; no alias is set up yet.
    pub fn new(run: u32, version: wire::Version) -> Self {
        Self { run, version, aliases: FxHashMap::default(), names: FxHashMap::default() }
    }

    /// What the history keeps of `packet`, which took `len` bytes on the wire.
    pub fn convert(&mut self, packet: &wire::Packet, len: usize) -> seen::Packet {
        match packet {
            wire::Packet::Connect(connect) => seen::Packet::Connect(convert_connect(self.run, connect)),
            wire::Packet::Connack(connack) => seen::Packet::Connack(convert_connack(connack)),
            wire::Packet::Publish(publish) => seen::Packet::Publish(self.convert_publish(publish, len)),
            wire::Packet::Puback(ack) => seen::Packet::Puback(ack.packet_id, ack.reason.0),
            wire::Packet::Pubrec(ack) => seen::Packet::Pubrec(ack.packet_id, ack.reason.0),
            wire::Packet::Pubrel(ack) => seen::Packet::Pubrel(ack.packet_id, ack.reason.0),
            wire::Packet::Pubcomp(ack) => seen::Packet::Pubcomp(ack.packet_id, ack.reason.0),
            wire::Packet::Subscribe(subscribe) => seen::Packet::Subscribe(convert_subscribe(subscribe)),
            wire::Packet::Suback(suback) => {
                seen::Packet::Suback(suback.packet_id, suback.reasons.iter().map(|reason| reason.0).collect())
            }
            wire::Packet::Unsubscribe(unsubscribe) => seen::Packet::Unsubscribe(
                unsubscribe.packet_id,
                unsubscribe.filters.iter().map(|filter| Arc::from(&**filter)).collect(),
            ),
            wire::Packet::Unsuback(unsuback) => seen::Packet::Unsuback(
                unsuback.packet_id,
                unsuback.reasons.iter().map(|reason| reason.0).collect(),
            ),
            wire::Packet::Pingreq => seen::Packet::Pingreq,
            wire::Packet::Pingresp => seen::Packet::Pingresp,
            wire::Packet::Disconnect(disconnect) => seen::Packet::Disconnect(
                disconnect.reason.0,
                find(&disconnect.properties, |property| match property {
                    Property::SessionExpiryInterval(seconds) => Some(*seconds),
                    _ => None,
                }),
            ),
            wire::Packet::Auth(auth) => seen::Packet::Auth(auth.reason.0),
        }
    }

    fn convert_publish(&mut self, publish: &wire::Publish, len: usize) -> seen::Publish {
        let topic_alias = find(&publish.properties, |property| match property {
            Property::TopicAlias(alias) => Some(*alias),
            _ => None,
        });
        let topic = self.topic(&publish.topic, topic_alias);
        seen::Publish {
            dup: publish.dup,
            qos: publish.qos as u8,
            retain: publish.retain,
            packet_id: publish.packet_id.unwrap_or(0),
            topic,
            identity: Identity::of(self.run, &publish.payload),
            packet_len: saturated(len),
            payload_len: saturated(publish.payload.len()),
            payload_crc: crc32fast::hash(&publish.payload),
            properties: forwarded_properties(&publish.properties),
            message_expiry: message_expiry(&publish.properties),
            subscription_ids: subscription_ids(&publish.properties),
            topic_alias: topic_alias.filter(|_| self.version == wire::Version::V5_0),
        }
    }

    /// The topic's name; an alias that was never set up resolves to the empty name, which no filter matches.
    fn topic(&mut self, topic: &ByteString, alias: Option<u16>) -> Arc<str> {
        match alias {
            Some(alias) if topic.is_empty() => self.aliases.get(&alias).cloned().unwrap_or_default(),
            Some(alias) => {
                let name = self.name(topic);
                self.aliases.insert(alias, name.clone());
                name
            }
            None => self.name(topic),
        }
    }

    /// One allocation a topic rather than one a packet.
    fn name(&mut self, topic: &ByteString) -> Arc<str> {
        if let Some(name) = self.names.get(topic) {
            return name.clone();
        }
        if self.names.len() >= NAMES_MAX {
            self.names.clear();
        }
        let name: Arc<str> = Arc::from(&**topic);
        // A copy of its own: the key must not keep the network buffer alive that `topic` is a slice of.
        self.names.insert(ByteString::from(name.to_string()), name.clone());
        name
    }
}

/// The history's name for a version of the protocol.
pub fn version(version: wire::Version) -> seen::Version {
    match version {
        wire::Version::V3_1_1 => seen::Version::V3_1_1,
        wire::Version::V5_0 => seen::Version::V5_0,
    }
}

fn convert_connect(run: u32, connect: &wire::Connect) -> seen::Connect {
    let mut converted = seen::Connect {
        clean_start: connect.clean_start,
        keep_alive: connect.keep_alive,
        will: connect.will.as_ref().map(|will| Box::new(convert_will(run, will))),
        authenticated: connect.username.is_some(),
        ..seen::Connect::default()
    };
    if connect.version == wire::Version::V3_1_1 && !connect.clean_start {
        converted.session_expiry = u32::MAX;
    }
    for property in &connect.properties.0 {
        match property {
            Property::SessionExpiryInterval(seconds) => converted.session_expiry = *seconds,
            Property::ReceiveMaximum(maximum) => converted.receive_maximum = *maximum,
            Property::MaximumPacketSize(bytes) => converted.maximum_packet_size = Some(*bytes),
            Property::TopicAliasMaximum(maximum) => converted.topic_alias_maximum = *maximum,
            _ => {}
        }
    }
    converted
}

fn convert_will(run: u32, will: &wire::Will) -> seen::Will {
    let delay = find(&will.properties, |property| match property {
        Property::WillDelayInterval(seconds) => Some(*seconds),
        _ => None,
    });
    let message = seen::Publish {
        dup: false,
        qos: will.qos as u8,
        retain: will.retain,
        packet_id: 0,
        topic: Arc::from(&*will.topic),
        identity: Identity::of(run, &will.payload),
        packet_len: 0,
        payload_len: saturated(will.payload.len()),
        payload_crc: crc32fast::hash(&will.payload),
        properties: forwarded_properties(&will.properties),
        message_expiry: message_expiry(&will.properties),
        subscription_ids: Vec::new(),
        topic_alias: None,
    };
    seen::Will { delay_s: delay.unwrap_or(0), message }
}

fn convert_connack(connack: &wire::Connack) -> seen::Connack {
    let mut converted = seen::Connack {
        session_present: connack.session_present,
        reason: connack.reason.0,
        ..seen::Connack::default()
    };
    for property in &connack.properties.0 {
        match property {
            Property::SessionExpiryInterval(seconds) => converted.session_expiry = Some(*seconds),
            Property::ReceiveMaximum(maximum) => converted.receive_maximum = *maximum,
            Property::MaximumQos(qos) => converted.maximum_qos = *qos,
            Property::MaximumPacketSize(bytes) => converted.maximum_packet_size = Some(*bytes),
            Property::TopicAliasMaximum(maximum) => converted.topic_alias_maximum = *maximum,
            Property::ServerKeepAlive(seconds) => converted.server_keep_alive = Some(*seconds),
            Property::RetainAvailable(it) => converted.unavailable.retain = *it == 0,
            Property::WildcardSubscriptionAvailable(it) => converted.unavailable.wildcards = *it == 0,
            Property::SubscriptionIdentifierAvailable(it) => {
                converted.unavailable.subscription_ids = *it == 0;
            }
            Property::SharedSubscriptionAvailable(it) => converted.unavailable.shared = *it == 0,
            _ => {}
        }
    }
    converted
}

fn convert_subscribe(subscribe: &wire::Subscribe) -> seen::Subscribe {
    seen::Subscribe {
        packet_id: subscribe.packet_id,
        identifier: subscription_ids(&subscribe.properties).first().copied(),
        filters: subscribe.filters.iter().map(convert_filter).collect(),
    }
}

fn convert_filter(subscription: &wire::Subscription) -> seen::Filter {
    seen::Filter {
        filter: Arc::from(&*subscription.filter),
        qos: subscription.qos as u8,
        no_local: subscription.no_local,
        retain_as_published: subscription.retain_as_published,
        retain_handling: subscription.retain_handling as u8,
    }
}

/// The properties that a server must pass on unaltered; `None` when there is none of them.
fn forwarded_properties(properties: &wire::Properties) -> Option<Box<seen::PublishProperties>> {
    let mut forwarded = seen::PublishProperties::default();
    for property in &properties.0 {
        match property {
            Property::PayloadFormatIndicator(indicator) => {
                forwarded.payload_format_indicator = Some(*indicator);
            }
            Property::ContentType(kind) => forwarded.content_type = Some(kind.to_string()),
            Property::ResponseTopic(topic) => forwarded.response_topic = Some(topic.to_string()),
            Property::CorrelationData(data) => forwarded.correlation_data = Some(data.to_vec()),
            Property::UserProperty(name, value) => {
                forwarded.user_properties.push((name.to_string(), value.to_string()));
            }
            _ => {}
        }
    }
    (forwarded != seen::PublishProperties::default()).then(|| Box::new(forwarded))
}

fn message_expiry(properties: &wire::Properties) -> Option<u32> {
    find(properties, |property| match property {
        Property::MessageExpiryInterval(seconds) => Some(*seconds),
        _ => None,
    })
}

fn subscription_ids(properties: &wire::Properties) -> Vec<u32> {
    let identifiers = properties.0.iter().filter_map(|property| match property {
        Property::SubscriptionIdentifier(identifier) => Some(*identifier),
        _ => None,
    });
    identifiers.collect()
}

fn saturated(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn find<T>(properties: &wire::Properties, wanted: impl FnMut(&Property) -> Option<T>) -> Option<T> {
    properties.0.iter().find_map(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mqtally_proto::packet::{Properties, Publish, Qos, Version};

    fn publish(topic: &'static str, properties: Vec<Property>) -> wire::Packet {
        wire::Packet::Publish(Publish {
            qos: Qos::AtLeastOnce,
            topic: topic.into(),
            packet_id: Some(7),
            properties: Properties(properties),
            payload: Bytes::from_static(b"hello"),
            ..Publish::default()
        })
    }

    fn topic_of(packet: seen::Packet) -> String {
        match packet {
            seen::Packet::Publish(publish) => publish.topic.to_string(),
            other => panic!("expected a PUBLISH, got {other:?}"),
        }
    }

    #[test]
    fn an_alias_stands_for_the_topic_it_was_last_sent_with() {
        let mut converter = Converter::new(1, Version::V5_0);
        let alias = || vec![Property::TopicAlias(3)];
        assert_eq!(topic_of(converter.convert(&publish("a/b", alias()), 0)), "a/b");
        assert_eq!(topic_of(converter.convert(&publish("", alias()), 0)), "a/b");
        assert_eq!(topic_of(converter.convert(&publish("c", alias()), 0)), "c");
        assert_eq!(topic_of(converter.convert(&publish("", alias()), 0)), "c");
        assert_eq!(topic_of(converter.convert(&publish("", vec![Property::TopicAlias(9)]), 0)), "");
    }

    #[test]
    fn a_payload_without_a_marker_is_unmarked_and_has_its_checksum() {
        let packet = Converter::new(1, Version::V3_1_1).convert(&publish("a", Vec::new()), 9);
        let seen::Packet::Publish(publish) = packet else { panic!("expected a PUBLISH") };
        assert_eq!(publish.identity, Identity::Unmarked);
        assert_eq!((publish.payload_len, publish.payload_crc), (5, crc32fast::hash(b"hello")));
        assert_eq!(publish.properties, None);
    }

    #[test]
    fn user_properties_keep_their_order() {
        let pair = |name: &'static str| Property::UserProperty(name.into(), "v".into());
        let packet =
            Converter::new(1, Version::V5_0).convert(&publish("a", vec![pair("z"), pair("a"), pair("z")]), 0);
        let seen::Packet::Publish(publish) = packet else { panic!("expected a PUBLISH") };
        let names: Vec<_> =
            publish.properties.iter().flat_map(|all| &all.user_properties).map(|pair| &*pair.0).collect();
        assert_eq!(names, ["z", "a", "z"]);
    }

    #[test]
    fn a_will_is_what_the_server_is_to_publish_after_its_delay() {
        let will = wire::Will {
            topic: "last/words".into(),
            payload: Bytes::from_static(b"gone"),
            qos: Qos::ExactlyOnce,
            retain: true,
            properties: Properties(vec![Property::WillDelayInterval(5), Property::MessageExpiryInterval(60)]),
        };
        let will = convert_will(1, &will);
        assert_eq!((will.delay_s, will.message.message_expiry), (5, Some(60)));
        assert_eq!((will.message.qos, will.message.retain, &*will.message.topic), (2, true, "last/words"));
        assert_eq!(will.message.payload_crc, crc32fast::hash(b"gone"));
    }

    #[test]
    fn a_persistent_connect_of_3_1_1_never_expires_and_of_5_0_by_its_property() {
        let connect = |version, clean_start, properties| {
            let connect = wire::Connect {
                version,
                clean_start,
                keep_alive: 0,
                client_id: "c".into(),
                will: None,
                username: None,
                password: None,
                properties: Properties(properties),
            };
            convert_connect(1, &connect).session_expiry
        };
        assert_eq!(connect(Version::V3_1_1, false, vec![]), u32::MAX);
        assert_eq!(connect(Version::V3_1_1, true, vec![]), 0);
        assert_eq!(connect(Version::V5_0, false, vec![]), 0);
        assert_eq!(connect(Version::V5_0, true, vec![Property::SessionExpiryInterval(9)]), 9);
    }
}
