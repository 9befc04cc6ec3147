//! The codec against `mqtt-proto`, a codec that others wrote.
//!
//! Lawful packets go through both: our bytes are read and written again by `mqtt-proto`, and what comes back is the
//! packet that went in. Where `mqtt-proto` 0.4 departs from the standard, [`known_departure`] says how.

mod support;

use bytes::BytesMut;
use mqtally_proto::packet::{Decoder, Packet, Properties, Property, Publish, Version, encode};
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
