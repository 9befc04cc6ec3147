//! The codec against `mqtt-proto`, a codec that others wrote.
//!
//! Lawful packets go through both: our bytes are read and written again by `mqtt-proto`, and what comes back is the
//! packet that went in. Where `mqtt-proto` 0.4 departs from the standard, [`known_departure`] says how.

mod support;

use bytes::BytesMut;
use mqtally_proto::packet::{Decoder, Packet, Properties, Property, Publish, Version, encode, observe};
use mqtt_proto::{QosPid, v3, v5};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn both_codecs_read_and_write_the_same((version, packet) in any_packet()) {
        prop_assume!(known_departure(version, &packet).is_none());
        let ours = encoded(&packet, version);
        let theirs = through_the_other_codec(&ours, version)?;
        prop_assert_eq!(in_order(decoded(&theirs, &packet, version)), in_order(packet));
    }

    #[test]
    fn both_codecs_see_the_same_publish(publish in support::publish(Version::V3_1_1, false)) {
        let wire = encoded(&Packet::Publish(publish.clone()), Version::V3_1_1);
        let Ok(Some(v3::Packet::Publish(theirs))) = v3::Packet::decode(&wire) else {
            return Err(TestCaseError::fail("not read as a PUBLISH"));
        };
        prop_assert_eq!(flags(theirs.dup, theirs.retain, theirs.qos_pid), our_flags(&publish));
        prop_assert_eq!(&theirs.topic_name[..], &publish.topic[..]);
        prop_assert_eq!(theirs.payload, publish.payload);
    }

    #[test]
    fn both_codecs_see_the_same_publish_in_5_0(publish in support::publish(Version::V5_0, false)) {
        let wire = encoded(&Packet::Publish(publish.clone()), Version::V5_0);
        let Ok(Some(v5::Packet::Publish(theirs))) = v5::Packet::decode(&wire) else {
            return Err(TestCaseError::fail("not read as a PUBLISH"));
        };
        prop_assert_eq!(flags(theirs.dup, theirs.retain, theirs.qos_pid), our_flags(&publish));
        prop_assert_eq!(&theirs.topic_name[..], &publish.topic[..]);
        prop_assert_eq!(theirs.payload, publish.payload);
        let properties = publish.properties;
        prop_assert_eq!(theirs.properties.topic_alias, properties.topic_alias());
        prop_assert_eq!(theirs.properties.message_expiry_interval, properties.message_expiry_interval());
        prop_assert_eq!(theirs.properties.correlation_data.as_ref(), properties.correlation_data());
    }
}

/// A property alone in each packet and in the will: both codecs take it at the same places (table 2-4).
#[test]
fn both_codecs_allow_each_property_in_the_same_packets() {
    let mut taken = 0;
    for property in one_of_each_property() {
        let list = [&[property.len() as u8], &property[..]].concat();
        for (place, frame) in with_property_list(&list) {
            let agreed = we_take(&frame) == they_take(&frame);
            assert!(agreed, "property 0x{:02X} in {place}: we take it: {}", property[0], we_take(&frame));
            taken += usize::from(we_take(&frame));
        }
    }
    assert_eq!(taken, 64, "places in table 2-4");
}

/// Every code in every packet that has one: both codecs take the same, but for 0x8C in DISCONNECT, which section 2.4
/// allows, while section 3.14.2.1 leaves it out.
#[test]
fn both_codecs_allow_the_same_reason_codes() {
    for code in 0..=u8::MAX {
        for (name, frame) in with_reason_code(code) {
            let disputed = (name, code) == ("DISCONNECT", 0x8C);
            assert_eq!(we_take(&frame), they_take(&frame) || disputed, "0x{code:02X} in {name}");
        }
    }
}

fn we_take(frame: &[u8]) -> bool {
    let observed = observe(&mut BytesMut::from(frame), Version::V5_0).expect("readable").expect("whole");
    observed.irregularities.is_empty()
}

fn they_take(frame: &[u8]) -> bool {
    matches!(v5::Packet::decode(frame), Ok(Some(_)))
}

/// Identifier and a lawful value of each property; authentication data brings the method that it needs.
fn one_of_each_property() -> Vec<Vec<u8>> {
    let bytes = [0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A].map(|id| vec![id, 1]);
    let shorts = [0x13, 0x21, 0x22, 0x23].map(|id| vec![id, 0, 1]);
    let longs = [0x02, 0x11, 0x18, 0x27].map(|id| vec![id, 0, 0, 0, 1]);
    let texts = [0x03, 0x08, 0x09, 0x12, 0x15, 0x1A, 0x1C, 0x1F].map(|id| vec![id, 0, 1, b'a']);
    let others =
        [vec![0x0B, 1], vec![0x26, 0, 1, b'a', 0, 1, b'b'], vec![0x16, 0, 1, b'a', 0x15, 0, 1, b'b']];
    [&bytes[..], &shorts, &longs, &texts, &others].concat()
}

/// One packet for each place where a property list may stand, with that `list` in it.
fn with_property_list(list: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let body = |first: u8, before: &[u8], after: &[u8]| {
        let length = (before.len() + list.len() + after.len()) as u8;
        [&[first, length], before, list, after].concat()
    };
    vec![
        ("CONNECT", body(0x10, b"\0\x04MQTT\x05\x02\0\0", b"\0\x01c")),
        ("the will", body(0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\x01c", b"\0\x01w\0\0")),
        ("CONNACK", body(0x20, &[0, 0], &[])),
        ("PUBLISH", body(0x30, b"\0\x01a", &[])),
        ("PUBACK", body(0x40, &[0, 1, 0], &[])),
        ("PUBREC", body(0x50, &[0, 1, 0], &[])),
        ("PUBREL", body(0x62, &[0, 1, 0], &[])),
        ("PUBCOMP", body(0x70, &[0, 1, 0], &[])),
        ("SUBSCRIBE", body(0x82, &[0, 1], b"\0\x01a\0")),
        ("SUBACK", body(0x90, &[0, 1], &[0])),
        ("UNSUBSCRIBE", body(0xA2, &[0, 1], b"\0\x01a")),
        ("UNSUBACK", body(0xB0, &[0, 1], &[0])),
        ("DISCONNECT", body(0xE0, &[0], &[])),
        ("AUTH", body(0xF0, &[0x18], &[])),
    ]
}

fn with_reason_code(code: u8) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("CONNACK", vec![0x20, 3, 0, code, 0]),
        ("PUBACK", vec![0x40, 4, 0, 1, code, 0]),
        ("PUBREC", vec![0x50, 4, 0, 1, code, 0]),
        ("PUBREL", vec![0x62, 4, 0, 1, code, 0]),
        ("PUBCOMP", vec![0x70, 4, 0, 1, code, 0]),
        ("SUBACK", vec![0x90, 4, 0, 1, 0, code]),
        ("UNSUBACK", vec![0xB0, 4, 0, 1, 0, code]),
        ("DISCONNECT", vec![0xE0, 2, code, 0]),
        ("AUTH", vec![0xF0, 2, code, 0]),
    ]
}

/// What `mqtt-proto` 0.4 cannot say or gets wrong, though the packet is lawful.
fn known_departure(version: Version, packet: &Packet) -> Option<&'static str> {
    match packet {
        Packet::Suback(suback)
            if version == Version::V3_1_1 && suback.reasons.iter().any(|it| it.is_error()) =>
        {
            Some("reads 3.1.1's failure 0x80 but writes 0x03")
        }
        Packet::Publish(publish) if publish.properties.subscription_identifiers().count() > 1 => {
            Some("refuses a second subscription identifier, which 3.3.2.3.8 allows")
        }
        _ => None,
    }
}

fn any_packet() -> impl Strategy<Value = (Version, Packet)> {
    let connect = support::version()
        .prop_flat_map(support::connect)
        .prop_map(|connect| (connect.version, Packet::Connect(Box::new(connect))));
    prop_oneof![1 => connect, 4 => support::versioned_packet()]
}

fn through_the_other_codec(wire: &[u8], version: Version) -> Result<Vec<u8>, TestCaseError> {
    let fail = |error: &dyn std::fmt::Display| TestCaseError::fail(error.to_string());
    let written = match version {
        Version::V3_1_1 => v3::Packet::decode(wire)
            .map_err(|error| fail(&error))?
            .ok_or_else(|| fail(&"cut short"))?
            .encode(),
        Version::V5_0 => v5::Packet::decode(wire)
            .map_err(|error| fail(&error))?
            .ok_or_else(|| fail(&"cut short"))?
            .encode(),
    };
    Ok(written.map_err(|error| fail(&error))?.as_ref().to_vec())
}

fn encoded(packet: &Packet, version: Version) -> BytesMut {
    let mut wire = BytesMut::new();
    encode(packet, version, &mut wire).expect("lawful");
    wire
}

fn decoded(wire: &[u8], like: &Packet, version: Version) -> Packet {
    let mut decoder = match like {
        Packet::Connect(_) => Decoder::server(u32::MAX),
        Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::Pingreq | Packet::Disconnect(_) => {
            after_connect(version)
        }
        _ => Decoder::client(version, u32::MAX),
    };
    let read = decoder.decode(&mut BytesMut::from(wire));
    // Some DISCONNECTs are a server's.
    let read = read.or_else(|_| Decoder::client(version, u32::MAX).decode(&mut BytesMut::from(wire)));
    read.expect("lawful").expect("whole")
}

fn after_connect(version: Version) -> Decoder {
    let mut decoder = Decoder::server(u32::MAX);
    let connect = v3::Packet::Connect(v3::Connect::new("c".into(), 0)).encode().expect("lawful");
    let connect_5 = v5::Packet::Connect(v5::Connect::new("c".into(), 0)).encode().expect("lawful");
    let first = if version == Version::V3_1_1 { connect } else { connect_5 };
    decoder.decode(&mut BytesMut::from(first.as_ref())).expect("lawful");
    decoder
}

/// The packet with its properties sorted by identifier, for `mqtt-proto` keeps no order among them.
fn in_order(mut packet: Packet) -> Packet {
    match &mut packet {
        Packet::Connect(connect) => {
            sort(&mut connect.properties);
            connect.will.iter_mut().for_each(|will| sort(&mut will.properties));
        }
        Packet::Connack(connack) => sort(&mut connack.properties),
        Packet::Publish(publish) => sort(&mut publish.properties),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            sort(&mut ack.properties);
        }
        Packet::Subscribe(subscribe) => sort(&mut subscribe.properties),
        Packet::Suback(suback) => sort(&mut suback.properties),
        Packet::Unsubscribe(unsubscribe) => sort(&mut unsubscribe.properties),
        Packet::Unsuback(unsuback) => sort(&mut unsuback.properties),
        Packet::Disconnect(disconnect) => sort(&mut disconnect.properties),
        Packet::Auth(auth) => sort(&mut auth.properties),
        Packet::Pingreq | Packet::Pingresp => {}
    }
    packet
}

fn sort(properties: &mut Properties) {
    properties.0.sort_by_key(Property::id);
}

fn flags(dup: bool, retain: bool, qos_pid: QosPid) -> (bool, bool, u8, Option<u16>) {
    (dup, retain, qos_pid.qos() as u8, qos_pid.pid().map(mqtt_proto::Pid::value))
}

fn our_flags(publish: &Publish) -> (bool, bool, u8, Option<u16>) {
    (publish.dup, publish.retain, publish.qos.as_u8(), publish.packet_id)
}
