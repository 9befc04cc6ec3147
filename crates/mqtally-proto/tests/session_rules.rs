//! The rules that a client's session holds to, one by one.
//!
//! Each test is a short script: what comes in, and what has to go out.

mod session_support;

use mqtally_proto::Time;
use mqtally_proto::packet::{Ack, Packet, Property, Publish, Qos, ReasonCode, Version};
use mqtally_proto::session::{Acknowledge, Event, Options, PublishError};
use session_support::{Bench, VERSIONS, ack, inbound, lasting, message, sent_ids};

#[test]
fn a_publish_completes_at_its_final_acknowledgement() {
    for version in VERSIONS {
        let mut bench = Bench::connected(lasting(version));
        bench.publish(1, Qos::AtLeastOnce);
        bench.publish(2, Qos::ExactlyOnce);
        bench.publish(3, Qos::AtMostOnce);
        assert_eq!(sent_ids(&bench.sent()), [Some(1), Some(2), None]);
        assert_eq!(bench.events(), [completed(3)]);
        bench.receive(Packet::Puback(ack(1)));
        assert_eq!(bench.events(), [completed(1)]);
        bench.receive(Packet::Pubrec(ack(2)));
        assert_eq!(
            (bench.events(), bench.sent()),
            (vec![Event::Received { token: 2 }], vec![Packet::Pubrel(ack(2))])
        );
        bench.receive(Packet::Pubcomp(ack(2)));
        assert_eq!(bench.events(), [completed(2)]);
        assert_eq!(bench.session.in_flight(), 0);
    }
}

#[test]
fn no_matching_subscribers_is_a_success() {
    let mut bench = Bench::connected(lasting(Version::V5_0));
    bench.publish(1, Qos::ExactlyOnce);
    bench.sent();
    bench.receive(Packet::Pubrec(Ack::with_reason(1, ReasonCode::NO_MATCHING_SUBSCRIBERS)));
    assert_eq!(bench.sent(), [Packet::Pubrel(ack(1))]);
}

#[test]
fn a_refusing_pubrec_ends_the_publish() {
    let mut bench = Bench::connected(lasting(Version::V5_0));
    bench.publish(1, Qos::ExactlyOnce);
    bench.sent();
    bench.receive(Packet::Pubrec(Ack::with_reason(1, ReasonCode::QUOTA_EXCEEDED)));
    assert_eq!(bench.events(), [Event::Completed { token: 1, reason: ReasonCode::QUOTA_EXCEEDED }]);
    assert_eq!((bench.sent(), bench.session.in_flight()), (vec![], 0));
}

/// Resumed publishes keep packet id and order, carry DUP, and are followed by what is new; PUBREL stands for those
/// that the server owns.
#[test]
fn a_resumed_session_sends_again_in_order_before_anything_new() {
    for version in VERSIONS {
        let mut bench = Bench::connected(lasting(version));
        for token in 1..=4 {
            bench.publish(token, Qos::ExactlyOnce);
        }
        bench.sent();
        bench.receive(Packet::Pubrec(ack(2)));
        bench.receive(Packet::Pubrec(ack(1)));
        bench.cut();
        bench.publish(5, Qos::ExactlyOnce);
        bench.publish(6, Qos::AtMostOnce);
        bench.connect(true);
        let sent = bench.sent();
        assert_eq!(
            sent[..2],
            [Packet::Pubrel(ack(2)), Packet::Pubrel(ack(1))],
            "in the order of the PUBRECs"
        );
        assert_eq!(sent_ids(&sent[2..]), [Some(3), Some(4), Some(5), None]);
        assert_eq!(dup_flags(&sent[2..]), [true, true, false, false]);
    }
}

#[test]
fn resending_never_exceeds_the_servers_receive_maximum() {
    let mut bench = Bench::connected(lasting(Version::V5_0));
    for token in 1..=5 {
        bench.publish(token, Qos::AtLeastOnce);
    }
    bench.sent();
    bench.cut();
    bench.connect_with(true, vec![Property::ReceiveMaximum(2)]);
    bench.events();
    assert_eq!(sent_ids(&bench.sent()), [Some(1), Some(2)]);
    assert_eq!(bench.session.publish(6, message(Qos::AtLeastOnce)), Err(PublishError::WindowFull));
    for packet_id in 1..=5 {
        bench.receive(Packet::Puback(ack(packet_id)));
        let next = (packet_id + 2 <= 5).then_some(Some(packet_id + 2));
        assert_eq!(sent_ids(&bench.sent()), Vec::from_iter(next));
        assert_eq!(bench.events(), [completed(u64::from(packet_id))]);
    }
    assert_eq!(bench.session.window(), 2);
}

#[test]
fn a_publish_of_a_lost_session_is_sent_again_as_new() {
    for version in VERSIONS {
        let mut bench = Bench::connected(lasting(version));
        for token in 1..=3 {
            bench.publish(token, Qos::ExactlyOnce);
        }
        bench.sent();
        bench.receive(Packet::Pubrec(ack(1)));
        bench.cut();
        bench.events();
        bench.connect(false);
        assert!(bench.events().contains(&Event::SessionLost { resent: 3 }));
        let sent = bench.sent();
        assert_eq!(sent_ids(&sent), [Some(4), Some(5), Some(6)]);
        assert_eq!(dup_flags(&sent), [false; 3]);
        for packet_id in 4..=6 {
            bench.receive(Packet::Pubrec(ack(packet_id)));
            bench.receive(Packet::Pubcomp(ack(packet_id)));
        }
        let tokens: Vec<Event> =
            bench.events().into_iter().filter(|e| matches!(e, Event::Completed { .. })).collect();
        assert_eq!(tokens, [completed(1), completed(2), completed(3)]);
    }
}

#[test]
fn answers_to_nothing_are_let_pass() {
    let mut bench = Bench::connected(lasting(Version::V5_0));
    for packet in [Packet::Puback(ack(9)), Packet::Pubcomp(ack(9))] {
        bench.receive(packet);
        assert_eq!(bench.sent(), []);
    }
    bench.receive(Packet::Pubrec(ack(9)));
    assert_eq!(bench.sent(), [Packet::Pubrel(Ack::with_reason(9, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND))]);
}

#[test]
fn an_answer_that_does_not_fit_its_handshake_is_a_protocol_error() {
    let wrong = [
        (Qos::AtLeastOnce, Packet::Pubrec(ack(1))),
        (Qos::AtLeastOnce, Packet::Pubcomp(ack(1))),
        (Qos::ExactlyOnce, Packet::Puback(ack(1))),
        (Qos::ExactlyOnce, Packet::Pubcomp(ack(1))),
    ];
    for (qos, packet) in wrong {
        let mut bench = Bench::connected(lasting(Version::V5_0));
        bench.publish(1, qos);
        let error = bench.session.handle_packet(bench.now, packet).unwrap_err();
        assert_eq!(error.reason, ReasonCode::PROTOCOL_ERROR, "{error}");
    }
}

#[test]
fn an_unknown_pubrel_is_answered_with_pubcomp() {
    let expect = [ReasonCode::SUCCESS, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND];
    for (version, reason) in VERSIONS.into_iter().zip(expect) {
        let mut bench = Bench::connected(lasting(version));
        bench.receive(Packet::Pubrel(ack(9)));
        assert_eq!(bench.sent(), [Packet::Pubcomp(Ack::with_reason(9, reason))]);
    }
}

#[test]
fn a_remembered_qos_2_message_is_not_handed_over_again() {
    for version in VERSIONS {
        let mut bench = Bench::connected(lasting(version));
        let first = inbound(Qos::ExactlyOnce, 5);
        let repeated = Publish { dup: true, ..first.clone() };
        bench.receive(Packet::Publish(first.clone()));
        assert_eq!(bench.events(), [Event::Message(first.clone())]);
        bench.cut();
        bench.connect(true);
        bench.receive(Packet::Publish(repeated.clone()));
        assert!(bench.events().contains(&Event::Duplicate(repeated)));
        bench.receive(Packet::Pubrel(ack(5)));
        assert_eq!(bench.sent(), [Packet::Pubrec(ack(5)), Packet::Pubcomp(ack(5))]);
        bench.receive(Packet::Publish(first.clone()));
        assert_eq!(
            bench.events(),
            [Event::Message(first)],
            "after PUBREL the packet id is free for another message"
        );
    }
}

#[test]
fn a_lost_session_forgets_the_remembered_packet_ids() {
    let mut bench = Bench::connected(lasting(Version::V5_0));
    bench.receive(Packet::Publish(inbound(Qos::ExactlyOnce, 5)));
    bench.cut();
    bench.events();
    bench.connect(false);
    bench.receive(Packet::Publish(inbound(Qos::ExactlyOnce, 5)));
    assert_eq!(bench.events().last(), Some(&Event::Message(inbound(Qos::ExactlyOnce, 5))));
}

#[test]
fn manual_answers_leave_in_the_order_of_arrival_per_qos() {
    let mut bench = Bench::connected(manual(Acknowledge::Manual));
    for (qos, packet_id) in
        [(Qos::AtLeastOnce, 1), (Qos::ExactlyOnce, 2), (Qos::AtLeastOnce, 3), (Qos::ExactlyOnce, 4)]
    {
        bench.receive(Packet::Publish(inbound(qos, packet_id)));
    }
    assert_eq!(bench.sent(), []);
    bench.session.acknowledge(3);
    bench.session.acknowledge(4);
    assert_eq!(bench.sent(), [], "1 and 2 are owed first");
    bench.session.acknowledge(2);
    assert_eq!(bench.sent(), [Packet::Pubrec(ack(2)), Packet::Pubrec(ack(4))]);
    bench.session.acknowledge(1);
    assert_eq!(bench.sent(), [Packet::Puback(ack(1)), Packet::Puback(ack(3))]);
}

/// A PUBREC before the application has the message safe would let the server drop it.
#[test]
fn a_repeated_message_that_was_not_acknowledged_is_not_answered() {
    let mut bench = Bench::connected(manual(Acknowledge::Manual));
    bench.receive(Packet::Publish(inbound(Qos::ExactlyOnce, 1)));
    bench.receive(Packet::Publish(inbound(Qos::ExactlyOnce, 2)));
    bench.session.acknowledge(1);
    bench.cut();
    bench.connect(true);
    bench.receive(Packet::Publish(inbound(Qos::ExactlyOnce, 1)));
    bench.receive(Packet::Publish(inbound(Qos::ExactlyOnce, 2)));
    assert_eq!(bench.sent(), [Packet::Pubrec(ack(1))]);
    bench.session.acknowledge(2);
    assert_eq!(bench.sent(), [Packet::Pubrec(ack(2))]);
}

#[test]
fn every_step_holds_pubcomp_back_and_keeps_the_packet_id_until_it_leaves() {
    let mut bench = Bench::connected(manual(Acknowledge::EveryStep));
    bench.receive(Packet::Publish(inbound(Qos::ExactlyOnce, 1)));
    bench.session.acknowledge(1);
    bench.receive(Packet::Pubrel(ack(1)));
    assert_eq!(bench.sent(), [Packet::Pubrec(ack(1))]);
    assert_eq!(bench.events().last(), Some(&Event::Released { packet_id: 1 }));
    bench.cut();
    bench.session.complete(1);
    bench.connect(true);
    bench.receive(Packet::Pubrel(ack(1)));
    bench.session.complete(1);
    bench.session.complete(1);
    assert_eq!(bench.sent(), [Packet::Pubcomp(ack(1))], "known, and answered once");
}

#[test]
fn a_topic_alias_stands_for_the_topic_that_defined_it_on_this_connection() {
    let options = Options { topic_alias_maximum: 2, ..lasting(Version::V5_0) };
    let mut bench = Bench::connected(options);
    bench.receive(aliased("t/1", 1));
    bench.receive(aliased("", 1));
    let topics: Vec<String> = bench.messages().iter().map(|publish| publish.topic.to_string()).collect();
    assert_eq!(topics, ["t/1", "t/1"]);
    for (topic, alias) in [("", 2), ("t/1", 3), ("t/1", 0)] {
        let error = bench.session.handle_packet(bench.now, aliased(topic, alias)).unwrap_err();
        assert_eq!(error.reason, ReasonCode::TOPIC_ALIAS_INVALID, "{topic} {alias}");
    }
    bench.cut();
    bench.connect(true);
    assert!(
        bench.session.handle_packet(bench.now, aliased("", 1)).is_err(),
        "aliases end with their connection"
    );
}

#[test]
fn a_session_that_only_the_server_has_is_refused_in_5_0() {
    let options = |version, resume| Options { resume, ..lasting(version) };
    for (version, resume, refused) in
        [(Version::V5_0, false, true), (Version::V5_0, true, false), (Version::V3_1_1, false, false)]
    {
        let mut bench = Bench::new(options(version, resume));
        bench.session.handle_opened(bench.now);
        assert_eq!(
            bench.session.handle_packet(bench.now, session_support::connack(true, vec![])).is_err(),
            refused
        );
    }
}

#[test]
fn a_session_that_ended_with_its_connection_is_not_resumed() {
    let mut bench = Bench::connected(Options { session_expiry_interval: 0, ..lasting(Version::V5_0) });
    bench.cut();
    bench.session.handle_opened(bench.now);
    assert!(bench.session.handle_packet(bench.now, session_support::connack(true, vec![])).is_err());
}

/// The server may have carried out a clean start whose CONNACK never came.
#[test]
fn a_clean_start_without_an_answer_still_ends_the_session() {
    let mut bench = Bench::connected(lasting(Version::V5_0));
    bench.receive(Packet::Publish(inbound(Qos::ExactlyOnce, 5)));
    bench.cut();
    bench.session.set_clean_start(true);
    bench.session.handle_opened(bench.now);
    bench.cut();
    bench.session.set_clean_start(false);
    bench.events();
    bench.connect(true);
    bench.receive(Packet::Publish(inbound(Qos::ExactlyOnce, 5)));
    assert_eq!(bench.messages().len(), 1, "a packet id of the new session is not an old one's");
}

#[test]
fn the_servers_limits_are_kept() {
    let large = Publish { payload: vec![0; 100].into(), ..message(Qos::AtLeastOnce) };
    let cases = [
        (Property::MaximumQos(1), message(Qos::ExactlyOnce), ReasonCode::QOS_NOT_SUPPORTED),
        (
            Property::RetainAvailable(0),
            Publish { retain: true, ..message(Qos::AtMostOnce) },
            ReasonCode::RETAIN_NOT_SUPPORTED,
        ),
        (Property::MaximumPacketSize(100), large, ReasonCode::PACKET_TOO_LARGE),
    ];
    for (property, publish, reason) in cases {
        let mut bench = Bench::new(lasting(Version::V5_0));
        bench.session.publish(1, publish.clone()).unwrap();
        bench.connect_with(false, vec![property]);
        assert_eq!(
            bench.events().last(),
            Some(&Event::Completed { token: 1, reason }),
            "accepted before it was known"
        );
        assert_eq!(bench.session.publish(2, publish).unwrap_err().reason(), reason);
        assert_eq!(bench.sent(), []);
    }
}

#[test]
fn a_packet_of_the_largest_size_that_the_server_takes_is_sent() {
    for properties in [vec![], vec![Property::UserProperty("a".into(), "b".into())]] {
        let mut publish = Publish { payload: vec![0; 200].into(), ..message(Qos::AtLeastOnce) };
        publish.properties.0 = properties;
        let mut bytes = bytes::BytesMut::new();
        let probe = Publish { packet_id: Some(1), ..publish.clone() };
        mqtally_proto::packet::encode(&Packet::Publish(probe), Version::V5_0, &mut bytes).unwrap();
        for (max, fits) in [(bytes.len() as u32, true), (bytes.len() as u32 - 1, false)] {
            let mut bench = Bench::new(lasting(Version::V5_0));
            bench.connect_with(false, vec![Property::MaximumPacketSize(max)]);
            assert_eq!(bench.session.publish(1, publish.clone()).is_ok(), fits, "{max}");
        }
    }
}

#[test]
fn what_cannot_be_sent_is_not_accepted() {
    let mut bench = Bench::connected(lasting(Version::V3_1_1));
    let topic = |topic: &str| Publish { topic: topic.into(), ..message(Qos::AtMostOnce) };
    for publish in [topic(""), topic("a/+"), topic("#")] {
        assert!(matches!(bench.session.publish(1, publish), Err(PublishError::InvalidTopic(_))));
    }
    let mut with_property = message(Qos::AtMostOnce);
    with_property.properties.0.push(Property::ContentType("text/plain".into()));
    assert!(matches!(bench.session.publish(1, with_property.clone()), Err(PublishError::Unencodable(_))));
    with_property.properties.0 = vec![Property::TopicAlias(1)];
    assert_eq!(bench.session.publish(1, with_property), Err(PublishError::TopicAlias));
}

#[test]
fn an_assigned_client_id_is_used_from_then_on() {
    let mut bench = Bench::new(Options { client_id: "".into(), ..lasting(Version::V5_0) });
    bench.connect_with(false, vec![Property::AssignedClientIdentifier("srv-1".into())]);
    bench.cut();
    bench.session.handle_opened(bench.now);
    let Some(Packet::Connect(connect)) = bench.session.poll_transmit() else { panic!() };
    assert_eq!(connect.client_id, "srv-1");
}

#[test]
fn a_request_takes_no_packet_id_of_a_message() {
    let mut bench = Bench::connected(lasting(Version::V5_0));
    bench.publish(1, Qos::AtLeastOnce);
    assert_eq!(bench.session.unsubscribe(vec!["a".into()], Default::default()), Ok(2));
    bench.publish(2, Qos::AtLeastOnce);
    assert_eq!(sent_ids(&bench.sent()), [Some(1), None, Some(3)]);
}

#[test]
fn silence_is_pinged_and_then_ends_the_connection() {
    let mut bench = Bench::connected(Options { keep_alive: 10, ..lasting(Version::V5_0) });
    let pings = |bench: &mut Bench| {
        bench.sleep().unwrap();
        bench.sent() == [Packet::Pingreq]
    };
    assert!(pings(&mut bench));
    bench.receive(Packet::Pingresp);
    assert!(
        !pings(&mut bench) && pings(&mut bench),
        "a packet in every whole interval, looked after twice in each"
    );
    assert!(!pings(&mut bench));
    assert_eq!(bench.sleep().unwrap_err().reason, ReasonCode::KEEP_ALIVE_TIMEOUT);
    assert_eq!(bench.now, Time::from_ms(1_000 + 5 * 5_000));
}

#[test]
fn traffic_in_both_directions_needs_no_ping() {
    let mut bench = Bench::connected(Options { keep_alive: 10, ..lasting(Version::V5_0) });
    for _ in 0..4 {
        bench.receive(Packet::Pubrel(ack(9)));
        bench.sent();
        bench.sleep().unwrap();
        assert_eq!(bench.sent(), []);
    }
}

#[test]
fn a_qos_0_publish_that_was_not_taken_for_writing_waits_for_the_next_connection() {
    let mut bench = Bench::connected(lasting(Version::V5_0));
    bench.publish(1, Qos::AtMostOnce);
    bench.publish(2, Qos::AtMostOnce);
    assert!(bench.session.poll_transmit().is_some());
    bench.cut();
    bench.connect(true);
    assert_eq!(bench.sent().len(), 1);
    let completions = bench.events().into_iter().filter(|event| matches!(event, Event::Completed { .. }));
    assert_eq!(Vec::from_iter(completions), [completed(1), completed(2)]);
}

#[test]
fn the_servers_keep_alive_replaces_ours() {
    let mut bench = Bench::new(Options { keep_alive: 10, ..lasting(Version::V5_0) });
    bench.connect_with(false, vec![Property::ServerKeepAlive(4)]);
    assert_eq!(bench.session.poll_timeout(), Some(bench.now.plus_ms(2_000)));
}

#[test]
fn nothing_leaves_after_disconnect() {
    let mut bench = Bench::connected(lasting(Version::V5_0));
    bench.session.disconnect(ReasonCode::SUCCESS, Some(0));
    bench.publish(1, Qos::AtLeastOnce);
    bench.receive(Packet::Pubrel(ack(9)));
    assert!(matches!(bench.sent()[..], [Packet::Disconnect(_)]));
    assert!(bench.session.is_closing());
}

/// A 3.1.1 DISCONNECT would take the will back.
#[test]
fn an_error_closes_a_3_1_1_connection_without_disconnect() {
    let mut bench = Bench::connected(lasting(Version::V3_1_1));
    bench.session.disconnect(ReasonCode::PROTOCOL_ERROR, None);
    assert_eq!((bench.sent(), bench.session.is_closing()), (vec![], true));
}

#[test]
fn only_connack_may_come_first_and_once() {
    let mut bench = Bench::new(lasting(Version::V5_0));
    bench.session.handle_opened(bench.now);
    assert!(bench.session.handle_packet(bench.now, Packet::Pingresp).is_err());
    let mut bench = Bench::connected(lasting(Version::V5_0));
    assert!(bench.session.handle_packet(bench.now, session_support::connack(false, vec![])).is_err());
}

fn completed(token: u64) -> Event {
    Event::Completed { token, reason: ReasonCode::SUCCESS }
}

fn manual(acknowledge: Acknowledge) -> Options {
    Options { acknowledge, ..lasting(Version::V5_0) }
}

fn aliased(topic: &str, alias: u16) -> Packet {
    let mut publish = Publish { topic: topic.into(), ..message(Qos::AtMostOnce) };
    publish.properties.0.push(Property::TopicAlias(alias));
    Packet::Publish(publish)
}

fn dup_flags(packets: &[Packet]) -> Vec<bool> {
    packets
        .iter()
        .filter_map(|packet| if let Packet::Publish(publish) = packet { Some(publish.dup) } else { None })
        .collect()
}
