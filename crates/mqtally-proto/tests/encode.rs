//! What encoding writes, byte for byte, and what it refuses.

use bytes::{Bytes, BytesMut};
use mqtally_proto::packet::{
    Ack, Auth, Connack, Connect, Decoder, Disconnect, Packet, Properties, Property, Publish, Qos, ReasonCode,
    Suback, Subscribe, Subscription, Unsuback, Unsubscribe, Version, Will, encode,
};
use mqtally_proto::packet::{Version::V3_1_1 as V3, Version::V5_0 as V5};

#[test]
fn acknowledgements_take_their_shortest_form() {
    let explained =
        Ack { properties: reason_string("no"), ..Ack::with_reason(7, ReasonCode::NOT_AUTHORIZED) };
    let success = Ack { properties: reason_string(""), ..Ack::success(7) };
    check(V3, &Packet::Puback(Ack::success(7)), &[0x40, 2, 0, 7]);
    check(V5, &Packet::Pubrec(Ack::success(7)), &[0x50, 2, 0, 7]);
    check(V5, &Packet::Pubrel(Ack::with_reason(7, ReasonCode(0x92))), &[0x62, 3, 0, 7, 0x92]);
    check(V5, &Packet::Puback(explained), &[0x40, 9, 0, 7, 0x87, 5, 0x1F, 0, 2, b'n', b'o']);
    check(V5, &Packet::Pubcomp(success), &[0x70, 7, 0, 7, 0, 3, 0x1F, 0, 0]);
    check(V3, &disconnect(ReasonCode::SUCCESS), &[0xE0, 0]);
    check(V5, &disconnect(ReasonCode::SUCCESS), &[0xE0, 0]);
    check(V5, &disconnect(ReasonCode::SESSION_TAKEN_OVER), &[0xE0, 1, 0x8E]);
    check(V5, &Packet::Auth(auth(ReasonCode::SUCCESS)), &[0xF0, 0]);
}

#[test]
fn connect_has_its_flags_and_fields_in_order() {
    let mut connect = connect(V3);
    connect.username = Some("u".into());
    connect.password = Some(Bytes::from_static(b"p"));
    connect.will = Some(will("w"));
    let head = [0x10, 24, 0, 4, b'M', b'Q', b'T', b'T', 4, 0b1110_1110, 0, 60];
    let payload = [0, 1, b'c', 0, 1, b'w', 0, 0, 0, 1, b'u', 0, 1, b'p'];
    check(V3, &Packet::Connect(Box::new(connect)), &[&head[..], &payload[..]].concat());
}

/// 3.1.1's return codes mean what five of the 5.0 reasons mean (table 3.1).
#[test]
fn return_codes_of_3_1_1_are_read_and_written_as_reasons() {
    for (code, reason) in [(0, 0x00), (1, 0x84), (2, 0x85), (3, 0x88), (4, 0x86), (5, 0x87)] {
        let frame = [0x20, 2, 0, code];
        let packet = connack(ReasonCode(reason));
        check(V3, &packet, &frame);
        let read = Decoder::client(V3, u32::MAX).decode(&mut BytesMut::from(&frame[..]));
        assert_eq!(read, Ok(Some(packet)));
    }
}

#[test]
fn strings_and_payload_are_slices_of_the_input() {
    let mut wire = BytesMut::new();
    encode(&publish("some/topic", b"some payload"), V5, &mut wire).expect("lawful");
    let input = wire.as_ptr_range();
    let Ok(Some(Packet::Publish(publish))) = Decoder::client(V5, u32::MAX).decode(&mut wire) else {
        panic!("not a PUBLISH")
    };
    assert!(input.contains(&publish.topic.as_bytes().as_ptr()));
    assert!(input.contains(&publish.payload.as_ptr()));
}

#[test]
fn a_payload_of_any_length_class_has_the_fewest_length_bytes() {
    for (payload, header) in [(124, 2), (125, 3), (16_380, 3), (16_381, 4), (2_097_148, 4), (2_097_149, 5)] {
        let mut wire = BytesMut::new();
        encode(&publish("a", &vec![0; payload]), V3, &mut wire).expect("lawful");
        assert_eq!(wire.len(), header + 3 + payload);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let long = "a".repeat(65_536);
    refuse(V3, &publish(&long, b""), "the topic name has 65536 bytes, above 65535");
    refuse(V3, &publish("a", &vec![0; 268_435_453]), "the remaining length is 268435456, above 268435455");
    refuse(V3, &publish("a\0", b""), "the topic name contains U+0000");
    let properties = Properties::default().with(Property::UserProperty("k".into(), long.clone().into()));
    refuse(
        V5,
        &Packet::Puback(Ack { properties, ..Ack::success(1) }),
        "a user property's value has 65536 bytes",
    );
    refuse(V5, &subscribe("a", Some(268_435_456)), "subscription identifier is 268435456, above 268435455");
    let client_id = Connect { client_id: long.into(), ..connect(V3) };
    refuse(V3, &Packet::Connect(Box::new(client_id)), "the client id has 65536 bytes");
}

#[test]
fn what_only_5_0_can_say_is_refused_in_3_1_1() {
    refuse(V3, &Packet::Auth(auth(ReasonCode::SUCCESS)), "type 15 is reserved in 3.1.1");
    refuse(V3, &disconnect(ReasonCode::SESSION_TAKEN_OVER), "DISCONNECT may not carry 0x8E");
    refuse(V3, &Packet::Pubcomp(Ack::with_reason(1, ReasonCode(0x92))), "PUBCOMP may not carry 0x92");
    refuse(V3, &connack(ReasonCode::SERVER_BUSY), "CONNACK may not carry 0x89");
    refuse(V3, &suback(&[0x87]), "SUBACK may not carry 0x87");
    refuse(V3, &unsuback(&[0x00]), "UNSUBACK has reason codes");
    refuse(
        V3,
        &Packet::Puback(Ack { properties: reason_string(""), ..Ack::success(1) }),
        "PUBACK has properties",
    );
    let no_local = Subscription { no_local: true, ..Subscription::new("a", Qos::AtMostOnce) };
    let filters = vec![no_local];
    let packet = Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::default(), filters });
    refuse(V3, &packet, "a subscription has options that 3.1.1 has not");
    refuse(V3, &Packet::Connect(Box::new(connect(V5))), "CONNECT asks for 5.0, not 3.1.1");
    let password = Connect { password: Some(Bytes::new()), ..connect(V3) };
    refuse(V3, &Packet::Connect(Box::new(password)), "a password but no user name");
}

#[test]
fn what_a_receiver_must_refuse_is_not_written() {
    refuse(V5, &publish("a/+", b""), "the topic name contains a wildcard at byte 2");
    refuse(V5, &publish("", b""), "there is no topic alias");
    let at_qos = |qos, packet_id| Publish { qos, packet_id, topic: "a".into(), ..Publish::default() };
    refuse(V5, &Packet::Publish(at_qos(Qos::AtLeastOnce, None)), "above QoS 0 has no packet id");
    refuse(V5, &Packet::Publish(at_qos(Qos::AtLeastOnce, Some(0))), "PUBLISH has packet id 0");
    refuse(V5, &Packet::Publish(at_qos(Qos::AtMostOnce, Some(1))), "at QoS 0 has a packet id");
    let dup = Publish { dup: true, ..at_qos(Qos::AtMostOnce, None) };
    refuse(V5, &Packet::Publish(dup), "DUP set");
    refuse(V5, &subscribe("a/#/b", None), "has a # at byte 2");
    refuse(V5, &subscribe("a", Some(0)), "subscription identifier is 0");
    refuse(V5, &suback(&[]), "SUBACK has no reason code");
    let filters = vec![];
    let empty = Unsubscribe { packet_id: 1, properties: Properties::default(), filters };
    refuse(V5, &Packet::Unsubscribe(empty), "UNSUBSCRIBE has no topic filter");
    let alias = Properties::default().with(Property::TopicAlias(1));
    refuse(
        V5,
        &Packet::Puback(Ack { properties: alias, ..Ack::success(1) }),
        "topic alias may not stand in PUBACK",
    );
    let will = Connect { will: Some(will("#")), ..connect(V5) };
    refuse(V5, &Packet::Connect(Box::new(will)), "the will topic contains a wildcard");
}

fn check(version: Version, packet: &Packet, expected: &[u8]) {
    let mut out = BytesMut::from(&b"before"[..]);
    encode(packet, version, &mut out).expect("lawful");
    assert_eq!(&out[..6], b"before");
    assert_eq!(out[6..], *expected, "{packet:?}");
}

fn refuse(version: Version, packet: &Packet, words: &str) {
    let mut out = BytesMut::from(&b"before"[..]);
    let refused = encode(packet, version, &mut out).expect_err(words);
    assert!(refused.detail.contains(words), "{words}: {refused}");
    assert_eq!(out[..], b"before"[..]);
}

fn publish(topic: &str, payload: &[u8]) -> Packet {
    let payload = Bytes::copy_from_slice(payload);
    Packet::Publish(Publish { topic: topic.into(), payload, ..Publish::default() })
}

fn subscribe(filter: &str, identifier: Option<u32>) -> Packet {
    let properties = Properties(identifier.map(Property::SubscriptionIdentifier).into_iter().collect());
    let filters = vec![Subscription::new(filter, Qos::AtMostOnce)];
    Packet::Subscribe(Subscribe { packet_id: 1, properties, filters })
}

fn suback(codes: &[u8]) -> Packet {
    let reasons = codes.iter().copied().map(ReasonCode).collect();
    Packet::Suback(Suback { packet_id: 1, properties: Properties::default(), reasons })
}

fn unsuback(codes: &[u8]) -> Packet {
    let reasons = codes.iter().copied().map(ReasonCode).collect();
    Packet::Unsuback(Unsuback { packet_id: 1, properties: Properties::default(), reasons })
}

fn connack(reason: ReasonCode) -> Packet {
    Packet::Connack(Connack { session_present: false, reason, properties: Properties::default() })
}

fn disconnect(reason: ReasonCode) -> Packet {
    Packet::Disconnect(Disconnect::with_reason(reason))
}

fn auth(reason: ReasonCode) -> Auth {
    Auth { reason, properties: Properties::default() }
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: "c".into(),
        will: None,
        username: None,
        password: None,
        properties: Properties::default(),
    }
}

fn will(topic: &str) -> Will {
    Will {
        topic: topic.into(),
        payload: Bytes::new(),
        qos: Qos::AtLeastOnce,
        retain: true,
        properties: Properties::default(),
    }
}

fn reason_string(words: &str) -> Properties {
    Properties::default().with(Property::ReasonString(words.to_owned().into()))
}
