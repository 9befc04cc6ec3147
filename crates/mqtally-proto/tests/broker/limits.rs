//! Flow control, topic aliases, and what happens when a queue is full.

use crate::bench::*;
use Version::{V3_1_1, V5_0};
use mqtally_proto::broker::Limits;
use mqtally_proto::packet::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use mqtally_proto::packet::{Ack, Connect, Packet, Property, Publish, ReasonCode, Subscription, Version};

fn narrow(window: u16) -> Connect {
    let mut connect = durable(V5_0, "subscriber");
    connect.properties.push(Property::ReceiveMaximum(window));
    connect
}

fn quota(id: u16) -> Ack {
    Ack::with_reason(id, ReasonCode::QUOTA_EXCEEDED)
}

#[test]
fn the_receive_maximum_holds_and_frees_at_the_end_of_the_handshake() {
    // [MQTT-3.3.4-9], [MQTT-4.9.0-1], [MQTT-4.9.0-2]
    let mut bench = Bench::new();
    let subscriber = bench.connect(narrow(2));
    bench.subscribe(subscriber, "t", ExactlyOnce);
    let publisher = bench.connect(clean(V5_0, "publisher"));
    for id in 1..=4 {
        bench.send(publisher, publish("t", ExactlyOnce, id, &id.to_string()));
    }
    assert_eq!(payloads(&bench.publishes(subscriber)), ["1", "2"]);
    // [MQTT-3.3.4-10]: only PUBLISH waits; QoS 0 has no quota
    bench.send(publisher, publish("t", AtMostOnce, 0, "zero"));
    assert_eq!(payloads(&bench.publishes(subscriber)), ["zero"]);
    assert_eq!(bench.ask(subscriber, Packet::Pingreq), [Packet::Pingresp]);
    assert_eq!(bench.ask(subscriber, pubrec(1)), [pubrel(1)]);
    bench.send(subscriber, pubcomp(1));
    assert_eq!(payloads(&bench.publishes(subscriber)), ["3"]);
    bench.send(subscriber, Packet::Pubrec(Ack::with_reason(2, ReasonCode::UNSPECIFIED_ERROR)));
    assert_eq!(payloads(&bench.publishes(subscriber)), ["4"]);
}

#[test]
fn the_receive_maximum_holds_on_resume_too() {
    // [MQTT-4.9.0-1]: a fresh quota for each connection, smaller than what is unfinished
    for restarted in [false, true] {
        let mut bench = Bench::new();
        let subscriber = bench.connect(narrow(4));
        bench.subscribe(subscriber, "t", ExactlyOnce);
        let publisher = bench.connect(clean(V5_0, "publisher"));
        for id in 1..=5 {
            bench.send(publisher, publish("t", ExactlyOnce, id, &id.to_string()));
        }
        bench.send(subscriber, pubrec(3));
        bench.cut(subscriber);
        if restarted {
            bench.restart();
        }
        let (subscriber, _, received) = bench.enter(narrow(2));
        assert_eq!(received[0], pubrel(3));
        assert_eq!(attempts(&publishes_of(received)), [(1, true, "1")]);
        bench.send(subscriber, pubcomp(3));
        assert_eq!(attempts(&bench.publishes(subscriber)), [(2, true, "2")]);
        for (finished, next) in [(1, (4, true, "4")), (2, (5, false, "5"))] {
            bench.send(subscriber, pubrec(finished));
            bench.send(subscriber, pubcomp(finished));
            assert_eq!(attempts(&bench.publishes(subscriber)), [next]);
        }
    }
}

#[test]
fn the_brokers_own_window_bounds_what_a_client_allows() {
    let mut bench = Bench::with(Limits { in_flight_max: 3, ..Limits::default() });
    for version in VERSIONS {
        let client = bench.connect(clean(version, "c"));
        bench.subscribe(client, "t", AtLeastOnce);
        for id in 1..=5 {
            bench.send(client, publish("t", AtLeastOnce, id, "x"));
        }
        assert_eq!(bench.publishes(client).len(), 3);
        bench.leave(client);
    }
}

#[test]
fn more_than_the_announced_receive_maximum_ends_a_5_0_connection() {
    // [MQTT-3.3.4-8]; what is sent again is forgiven, and 3.1.1 was not told a limit
    for (version, dup, closed) in [(V5_0, false, true), (V5_0, true, false), (V3_1_1, false, false)] {
        let mut bench = Bench::with(Limits { receive_maximum: 2, ..Limits::default() });
        let client = bench.connect(clean(version, "c"));
        for id in [1, 2, 1] {
            bench.send(client, publish("t", ExactlyOnce, id, "x"));
        }
        assert!(!bench.is_closed(client));
        bench.send(client, Packet::Publish(Publish { dup, ..message("t", ExactlyOnce, 3, "x") }));
        assert_eq!(bench.is_closed(client), closed, "{version:?} {dup}");
        if closed {
            assert_eq!(bench.closed_with(client), ReasonCode::RECEIVE_MAXIMUM_EXCEEDED);
        }
    }
}

#[test]
fn a_full_queue_refuses_the_publisher_and_nobody_gets_the_message() {
    for by_bytes in [false, true] {
        let mut limits = Limits { queued_messages_max: 1, ..Limits::default() };
        if by_bytes {
            limits = Limits { queued_bytes_max: 3, ..Limits::default() };
        }
        for version in VERSIONS {
            let mut bench = Bench::with(limits.clone());
            let witness = bench.connect(clean(version, "witness"));
            bench.subscribe(witness, "t", AtLeastOnce);
            let subscriber = bench.connect(durable(version, "subscriber"));
            bench.subscribe(subscriber, "t", AtLeastOnce);
            bench.leave(subscriber);
            let publisher = bench.connect(durable(version, "publisher"));
            assert_eq!(bench.ask(publisher, publish("t", AtLeastOnce, 1, "1")), [puback(1)]);
            bench.take(witness);
            let answer = bench.ask(publisher, publish("t", AtLeastOnce, 2, "2"));
            match version {
                V5_0 => {
                    assert_eq!(answer, [Packet::Puback(quota(2))]);
                    assert_eq!(
                        bench.ask(publisher, publish("t", ExactlyOnce, 3, "3")),
                        [Packet::Pubrec(quota(3))]
                    );
                    let unknown = Ack::with_reason(3, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
                    assert_eq!(bench.ask(publisher, pubrel(3)), [Packet::Pubcomp(unknown)]);
                }
                V3_1_1 => {
                    assert_eq!(answer, []);
                    assert!(bench.is_closed(publisher));
                }
            }
            assert_eq!(bench.publishes(witness), []);
            // There is room again when the subscriber has taken what waited.
            let subscriber = bench.connect(durable(version, "subscriber"));
            bench.send(subscriber, puback(1));
            let publisher = bench.connect(durable(version, "publisher"));
            assert_eq!(bench.ask(publisher, publish("t", AtLeastOnce, 4, "4")), [puback(4)]);
            assert_eq!(payloads(&bench.publishes(witness)), ["4"]);
        }
    }
}

#[test]
fn qos_0_is_neither_queued_nor_refused() {
    let mut bench = Bench::with(Limits { queued_messages_max: 0, retained_max: 0, ..Limits::default() });
    let subscriber = bench.connect(durable(V3_1_1, "subscriber"));
    bench.subscribe(subscriber, "t", AtLeastOnce);
    bench.leave(subscriber);
    let publisher = bench.connect(clean(V3_1_1, "publisher"));
    bench.send(publisher, retained("t", AtMostOnce, 0, "x"));
    assert!(!bench.is_closed(publisher));
    assert_eq!((bench.stored.retained.len(), bench.stored.messages.len()), (0, 0));
}

#[test]
fn one_retained_message_too_many_is_refused_but_a_replacement_is_not() {
    let mut bench = Bench::with(Limits { retained_max: 1, ..Limits::default() });
    let client = bench.connect(clean(V5_0, "c"));
    bench.subscribe(client, "#", AtMostOnce);
    let expiring = Publish {
        retain: true,
        properties: properties([Property::MessageExpiryInterval(5)]),
        ..message("a", AtLeastOnce, 1, "1")
    };
    bench.send(client, Packet::Publish(expiring));
    assert_eq!(publishes_of(bench.take(client)).len(), 1);
    assert_eq!(bench.ask(client, retained("b", AtLeastOnce, 2, "2")), [Packet::Puback(quota(2))]);
    bench.pass_secs(5);
    bench.send(client, retained("b", AtLeastOnce, 3, "3"));
    bench.send(client, retained("b", AtLeastOnce, 4, "4"));
    assert_eq!(payloads(&bench.publishes(client)), ["3", "4"]);
    assert_eq!(bench.stored.retained.len(), 1);
}

#[test]
fn a_subscription_whose_retained_messages_do_not_fit_is_refused_whole() {
    let mut bench = Bench::with(Limits { queued_messages_max: 2, ..Limits::default() });
    let client = bench.connect(clean(V5_0, "c"));
    for (id, topic) in [(1, "a/1"), (2, "a/2"), (3, "b")] {
        bench.send(client, retained(topic, AtLeastOnce, id, "x"));
    }
    bench.take(client);
    let filters = ["a/#", "b"].map(|filter| Subscription::new(filter, AtLeastOnce)).into();
    assert_eq!(bench.suback(client, filters), [ReasonCode::GRANTED_QOS_1, ReasonCode::QUOTA_EXCEEDED]);
    bench.send(client, publish("b", AtLeastOnce, 4, "x"));
    assert_eq!(bench.publishes(client), []);
}

fn aliased(topic: &str, alias: u16, id: u16) -> Packet {
    let properties = properties([Property::TopicAlias(alias)]);
    Packet::Publish(Publish { properties, ..message(topic, ExactlyOnce, id, topic) })
}

#[test]
fn a_topic_alias_stands_for_its_topic_until_the_connection_ends() {
    // [MQTT-3.3.2-7], [MQTT-3.3.2-8]
    let mut bench = Bench::new();
    let subscriber = bench.connect(clean(V3_1_1, "subscriber"));
    bench.subscribe(subscriber, "#", AtMostOnce);
    let client = bench.connect(durable(V5_0, "c"));
    for (id, topic) in [(1, "a"), (2, ""), (3, "b"), (4, "")] {
        bench.send(client, aliased(topic, 64, id));
    }
    let topics: Vec<String> = bench.publishes(subscriber).iter().map(|it| it.topic.to_string()).collect();
    assert_eq!(topics, ["a", "a", "b", "b"]);
    // A repetition sets the alias as its original did.
    bench.send(client, aliased("a", 64, 1));
    bench.send(client, aliased("", 64, 5));
    assert_eq!(&*bench.publishes(subscriber)[0].topic, "a");
    let client = bench.connect(durable(V5_0, "c"));
    bench.send(client, aliased("", 64, 6));
    assert_eq!(bench.closed_with(client), ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn an_alias_beyond_the_announced_ones_is_invalid() {
    // [MQTT-3.3.2-9], [MQTT-3.3.2-10]
    for alias in [0, 65] {
        let mut bench = Bench::new();
        let client = bench.connect(clean(V5_0, "c"));
        bench.send(client, aliased("a", alias, 1));
        assert_eq!(bench.closed_with(client), ReasonCode::TOPIC_ALIAS_INVALID);
    }
}

#[test]
fn a_client_must_not_send_subscription_identifiers() {
    // [MQTT-3.3.4-6]
    let mut bench = Bench::new();
    let client = bench.connect(clean(V5_0, "c"));
    let properties = properties([Property::SubscriptionIdentifier(1)]);
    bench.send(client, Packet::Publish(Publish { properties, ..message("t", AtMostOnce, 0, "x") }));
    assert_eq!(bench.closed_with(client), ReasonCode::PROTOCOL_ERROR);
}
