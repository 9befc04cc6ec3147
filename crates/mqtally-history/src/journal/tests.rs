//! Laws of the journal.

use super::*;
use crate::event::{
    BrokerEvent, BrokerKind, Closing, ConnectionId, Counters, Event, EventKind, Header, Outcome, Requirement,
    Role, Side,
};
use crate::marker::{Identity, Marker, MessageId, Purpose};
use crate::need::{Advice, Declaration, Need, Receiver, ReceiverKind, Weight};
use crate::packet::{
    Connack, Connect, Filter, Packet, Publish, PublishProperties, Subscribe, Unavailable, Version, Will,
};
use crate::profile::{Measured, Profile, Survival};
use proptest::prelude::*;
use std::sync::Arc;

fn header() -> Header {
    Header {
        program: "0.1.0".into(),
        run: 7,
        seed: u64::MAX,
        broker_kind: BrokerKind::Command,
        broker_name: "mosquitto".into(),
        profile: Profile::Durable,
        measured: Some(Measured::of(
            Survival { acknowledged: 9, lost: 0, lost_ms: 0, retained_lost: false, session_present: true },
            Survival { acknowledged: 9, lost: 2, lost_ms: 300, retained_lost: true, session_present: false },
        )),
        required: vec![Requirement { promise: "D3".into(), version: Version::V5_0 }],
    }
}

fn publish() -> Publish {
    let message = MessageId { publisher: 1, stream: 2, sequence: 300 };
    Publish {
        dup: true,
        qos: 2,
        retain: true,
        packet_id: 65_535,
        topic: "alerts/temperature_high".into(),
        identity: Identity::Ours(Marker { run: 7, message, attempt: 1, qos: 2, purpose: Purpose::Sentinel }),
        packet_len: 160,
        payload_len: 100,
        payload_crc: 0xdead_beef,
        properties: Some(Box::new(PublishProperties {
            payload_format_indicator: Some(1),
            content_type: Some("application/json".into()),
            response_topic: Some("".into()),
            correlation_data: Some(vec![0, 255]),
            user_properties: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
        })),
        message_expiry: Some(u32::MAX),
        subscription_ids: vec![1, 268_435_455],
        topic_alias: Some(u16::MAX),
    }
}

/// One event of every kind and one packet of every type.
fn samples() -> Vec<EventKind> {
    let connect = Connect {
        clean_start: true,
        session_expiry: u32::MAX,
        keep_alive: 30,
        receive_maximum: 65_535,
        maximum_packet_size: Some(u32::MAX),
        topic_alias_maximum: 10,
        will: Some(Box::new(Will {
            delay_s: 7,
            message: Publish { packet_id: 0, packet_len: 0, ..publish() },
        })),
        authenticated: false,
    };
    let connack = Connack {
        session_present: true,
        reason: 0x87,
        session_expiry: Some(0),
        receive_maximum: 10,
        maximum_qos: 1,
        maximum_packet_size: Some(1_024),
        topic_alias_maximum: u16::MAX,
        server_keep_alive: Some(0),
        unavailable: Unavailable { retain: true, wildcards: false, subscription_ids: true, shared: false },
    };
    let filter = Filter {
        filter: "sensors/+".into(),
        qos: 1,
        no_local: true,
        retain_as_published: false,
        retain_handling: 2,
    };
    let plain = Publish {
        properties: None,
        message_expiry: None,
        subscription_ids: vec![],
        topic_alias: None,
        identity: Identity::Foreign,
        ..publish()
    };
    let packets = [
        Packet::Connect(connect),
        Packet::Connack(connack),
        Packet::Publish(publish()),
        Packet::Publish(plain.clone()),
        Packet::Publish(Publish { identity: Identity::Corrupt, ..plain.clone() }),
        Packet::Publish(Publish { identity: Identity::Unmarked, ..plain }),
        Packet::Puback(1, 0x10),
        Packet::Pubrec(2, 0x80),
        Packet::Pubrel(3, 0),
        Packet::Pubcomp(4, 0x92),
        Packet::Subscribe(Subscribe { packet_id: 5, identifier: Some(9), filters: vec![filter] }),
        Packet::Suback(5, vec![1, 0x80]),
        Packet::Unsubscribe(6, vec!["sensors/+".into(), "#".into()]),
        Packet::Unsuback(6, vec![0, 0x11]),
        Packet::Pingreq,
        Packet::Pingresp,
        Packet::Disconnect(0x8e, Some(60)),
        Packet::Auth(0x18),
    ];
    let connection = ConnectionId(70_000);
    let message = MessageId { publisher: u32::MAX, stream: u16::MAX, sequence: u64::MAX };
    let counters = Counters { received: 5, duplicates: 1, conflicts: 1, errors: 1, processed: 3 };
    let mut kinds = vec![
        EventKind::GroupStarted { group: "qos".into(), version: Version::V3_1_1 },
        EventKind::Opened { connection, client: "sub-1".into(), version: Version::V5_0, role: Role::Subject },
        EventKind::Unlawful { connection, problem: "reserved bit".into(), bytes: vec![0xff; 256] },
        EventKind::Closed(connection, Closing::Rst),
        EventKind::Closed(connection, Closing::Vanished),
        EventKind::StateWiped { client: "sub-1".into() },
        EventKind::ProcessEnded { client: "sub-1".into() },
        EventKind::Broker(BrokerEvent::Killed),
        EventKind::Broker(BrokerEvent::Resumed),
        EventKind::Broker(BrokerEvent::PowerLost),
        EventKind::Fault { kind: "cut".into(), client: Some("sub-1".into()) },
        EventKind::Fault { kind: "cut".into(), client: None },
        EventKind::Labelled { message, label: "alert".into(), shown_id: 1 },
        EventKind::Settled { client: "sub-1".into(), message, outcome: Outcome::Conflict },
        EventKind::Claimed { client: "pub-1".into(), message },
        EventKind::Subject { side: Side::Publisher, command: "./pub {url}".into(), client: "pub-1".into() },
        EventKind::Statistics { client: "sub-1".into(), counters },
        EventKind::Declared(Box::new(declaration())),
        EventKind::Advised(Box::new(advice(Some("room".into())))),
        EventKind::Advised(Box::new(advice(None))),
        EventKind::Accepted { message, late_ns: 1_500 },
        EventKind::Position { client: "sub-1".into(), publisher: 7, stream: 1, value: -31 },
        EventKind::Gap { lost: 3 },
        EventKind::Aborted { reason: "interrupted".into() },
        EventKind::GroupEnded { group: "qos".into(), drained: true },
    ];
    kinds.extend(packets.iter().cloned().map(|packet| EventKind::Sent(connection, packet)));
    kinds.extend(packets.into_iter().map(|packet| EventKind::Received(connection, packet)));
    kinds
}

fn declaration() -> Declaration {
    let receiver = |kind, dedup| Receiver { client: "sub-1".into(), kind, dedup };
    Declaration {
        stream: "cooling".into(),
        qos: 2,
        needs: Need::ALL.to_vec(),
        publisher: 9_000,
        devices: 20,
        messages: 60,
        every_ns: 50_000_000,
        step: Some(-1),
        receivers: vec![receiver(ReceiverKind::Steady, true), receiver(ReceiverKind::Late, false)],
    }
}

fn advice(subscriber: Option<Arc<str>>) -> Advice {
    let (why, change) = ("it may be lost".into(), "qos = 1".into());
    Advice {
        weight: Weight::Unmet,
        stream: "cooling".into(),
        subscriber,
        need: Need::MustArrive,
        why,
        change,
    }
}

fn events() -> Vec<Event> {
    let times = [0, 5, 3, u64::MAX, 0, 1 << 40].into_iter().cycle();
    samples().into_iter().zip(times).map(|(kind, at_ns)| Event { at_ns, kind }).collect()
}

fn written(events: &[Event]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header()).expect("a vector takes everything");
    for event in events {
        writer.append(event).expect("a vector takes everything");
    }
    writer.finish().expect("a vector takes everything")
}

/// The events before the first error, and the error.
fn read(bytes: &[u8]) -> (Vec<Event>, Option<JournalError>) {
    let mut events = Vec::new();
    let reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (events, Some(error)),
    };
    for event in reader {
        match event {
            Ok(event) => events.push(event),
            Err(error) => return (events, Some(error)),
        }
    }
    (events, None)
}

#[test]
fn every_kind_of_event_is_read_back() {
    let bytes = written(&events());
    let (back, error) = read(&bytes);
    assert!(error.is_none(), "{error:?}");
    assert_eq!(back, events());
    assert_eq!(*Reader::new(bytes.as_slice()).expect("it was just written").header(), header());
}

#[test]
fn a_journal_cut_anywhere_is_truncated_and_gives_what_is_whole() {
    let bytes = written(&events());
    for len in MAGIC.len() + 2..bytes.len() {
        let (back, error) = read(&bytes[..len]);
        let Some(JournalError::Truncated { events: whole, .. }) = error else {
            panic!("cut at {len}: {error:?}");
        };
        assert_eq!(whole, back.len() as u64);
        assert_eq!(back, events()[..back.len()]);
    }
}

#[test]
fn another_programs_file_and_another_format_are_told_apart() {
    assert!(matches!(read(b"").1, Some(JournalError::Foreign)));
    assert!(matches!(read(b"\x7fELF and more of it").1, Some(JournalError::Foreign)));
    assert!(matches!(read(b"mqtallyj\x00\x04").1, Some(JournalError::Newer { found: 4 })));
    assert!(matches!(read(b"mqtallyj\x00\x02").1, Some(JournalError::Older { found: 2 })));
}

#[test]
fn many_topics_and_long_ones_are_read_back() {
    let long = "t/".repeat(200);
    let topics = (0..70_000).map(|n| format!("t/{n}")).chain([long.clone(), long, "t/69999".into()]);
    let events: Vec<_> = topics
        .map(|topic| Event { at_ns: 0, kind: EventKind::StateWiped { client: topic.into() } })
        .collect();
    assert_eq!(read(&written(&events)).0, events);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A flipped byte is found where it is, or the journal reads as before.
    #[test]
    fn damage_is_never_read_as_an_event(at: prop::sample::Index, flip in 1..=255u8) {
        let mut bytes = written(&events());
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let (back, error) = read(&bytes);
        prop_assert!(error.is_some());
        prop_assert_eq!(&back[..], &events()[..back.len()]);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let _ = read(&bytes);
        let _ = read(&[MAGIC.as_slice(), &FORMAT.to_be_bytes(), &bytes].concat());
    }

    /// Bodies with a right checksum and wrong content.
    #[test]
    fn any_bodies_are_read_without_a_panic(bodies: Vec<Vec<u8>>, tag in 1..22u8) {
        // Behind the header, in the place of the end record.
        let mut bytes = written(&[]);
        bytes.truncate(bytes.len() - 6);
        for body in bodies {
            let body = [&[tag], body.as_slice()].concat();
            codec::put_varint(&mut bytes, body.len() as u64);
            bytes.extend(crc32fast::hash(&body).to_be_bytes());
            bytes.extend(body);
        }
        let _ = read(&bytes);
    }
}
