//! SUBSCRIBE, UNSUBSCRIBE, and what subscriptions do to messages.

use crate::bench::*;
use Version::{V3_1_1, V5_0};
use mqtally_proto::broker::Limits;
use mqtally_proto::packet::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use mqtally_proto::packet::{Packet, Properties, Property, ReasonCode, Subscription, Unsuback, Version};

fn codes<const N: usize>(codes: [u8; N]) -> Vec<ReasonCode> {
    codes.map(ReasonCode).into()
}

#[test]
fn suback_has_one_code_a_filter_in_order() {
    // [MQTT-3.8.4-6], [MQTT-3.9.3-1]
    for (version, invalid) in [(V3_1_1, 0x80), (V5_0, 0x8F)] {
        let mut bench = Bench::new();
        let client = bench.connect(clean(version, "c"));
        let filters = vec![
            Subscription::new("a", ExactlyOnce),
            Subscription::new("a/#/b", AtLeastOnce),
            Subscription::new("$share/g", AtLeastOnce),
            Subscription::new("b", AtMostOnce),
            Subscription::new("c", AtLeastOnce),
        ];
        assert_eq!(bench.suback(client, filters), codes([2, invalid, invalid, 0, 1]));
    }
}

#[test]
fn one_subscription_too_many_is_refused_but_a_replacement_is_not() {
    for (version, refused) in [(V3_1_1, 0x80), (V5_0, 0x97)] {
        let mut bench = Bench::with(Limits { subscriptions_max: 1, ..Limits::default() });
        let client = bench.connect(durable(version, "c"));
        let filters = ["a", "b", "a"].map(|filter| Subscription::new(filter, AtLeastOnce)).into();
        assert_eq!(bench.suback(client, filters), codes([1, refused, 1]));
        assert_eq!(bench.stored.sessions[0].1.len(), 1);
    }
}

#[test]
fn a_second_subscription_to_a_filter_replaces_the_first() {
    // [MQTT-3.8.4-3]
    let mut bench = Bench::new();
    let client = bench.connect(clean(V5_0, "c"));
    bench.subscribe(client, "t", ExactlyOnce);
    bench.subscribe(client, "t", AtMostOnce);
    bench.send(client, publish("t", AtLeastOnce, 1, "x"));
    let received = bench.publishes(client);
    assert_eq!((received.len(), received[0].qos), (1, AtMostOnce));
}

#[test]
fn unsubscribe_tells_5_0_which_filters_were_there() {
    // [MQTT-3.10.4-4], [MQTT-3.11.3-1]
    for (version, expected) in [(V3_1_1, vec![]), (V5_0, codes([0x00, 0x11, 0x11]))] {
        let mut bench = Bench::new();
        let client = bench.connect(durable(version, "c"));
        bench.subscribe(client, "a", AtLeastOnce);
        let unsuback = Unsuback { packet_id: 2, properties: Properties::default(), reasons: expected };
        assert_eq!(bench.unsubscribe(client, &["a", "a", "+"]), [Packet::Unsuback(unsuback)]);
        assert_eq!(bench.stored.sessions[0].1, []);
    }
}

#[test]
fn nothing_comes_after_unsuback_but_what_had_begun_is_finished() {
    // [MQTT-3.10.4-2], [MQTT-3.10.4-3]
    for version in VERSIONS {
        let mut bench = Bench::new();
        let client = bench.connect(durable(version, "c"));
        bench.subscribe(client, "t", ExactlyOnce);
        bench.send(client, publish("t", ExactlyOnce, 1, "before"));
        assert_eq!(payloads(&bench.publishes(client)), ["before"]);
        bench.unsubscribe(client, &["t"]);
        bench.send(client, publish("t", ExactlyOnce, 2, "after"));
        assert_eq!(bench.publishes(client), []);
        assert_eq!(bench.ask(client, pubrec(1)), [pubrel(1)]);
    }
}

#[test]
fn subscriptions_live_as_long_as_the_session() {
    // [MQTT-3.1.2-5]
    for version in VERSIONS {
        let mut bench = Bench::new();
        let client = bench.connect(durable(version, "c"));
        for filter in ["a", "b", "c/+"] {
            bench.subscribe(client, filter, AtLeastOnce);
        }
        bench.unsubscribe(client, &["b"]);
        bench.restart();
        let client = bench.connect(durable(version, "c"));
        for (id, topic) in [(1, "a"), (2, "b"), (3, "c/d")] {
            bench.send(client, publish(topic, AtLeastOnce, id, topic));
        }
        assert_eq!(payloads(&bench.publishes(client)), ["a", "c/d"]);
    }
}

#[test]
fn overlapping_subscriptions_give_one_copy_at_the_highest_qos_with_all_identifiers() {
    // [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4]
    for restarted in [false, true] {
        let mut bench = Bench::new();
        let client = bench.connect(durable(V5_0, "c"));
        for (filter, qos, identifier) in
            [("#", AtMostOnce, 1), ("a/+", ExactlyOnce, 2), ("b", AtLeastOnce, 3)]
        {
            let identifier = properties([Property::SubscriptionIdentifier(identifier)]);
            bench.subscribe_with(client, vec![Subscription::new(filter, qos)], identifier);
        }
        bench.subscribe(client, "a/b", AtLeastOnce);
        let publisher = bench.connect(clean(V5_0, "publisher"));
        let mut received = Vec::new();
        if restarted {
            bench.cut(client);
            bench.send(publisher, publish("a/b", ExactlyOnce, 1, "x"));
            bench.restart();
            received = bench.enter(durable(V5_0, "c")).2;
        } else {
            bench.send(publisher, publish("a/b", ExactlyOnce, 1, "x"));
            received.extend(bench.take(client));
        }
        let received = publishes_of(received);
        assert_eq!((received.len(), received[0].qos), (1, ExactlyOnce));
        let mut identifiers: Vec<u32> = received[0].properties.subscription_identifiers().collect();
        identifiers.sort_unstable();
        assert_eq!(identifiers, [1, 2]);
    }
}

#[test]
fn no_local_keeps_a_client_from_hearing_itself() {
    // [MQTT-3.8.3-3]
    let mut bench = Bench::new();
    let client = bench.connect(durable(V5_0, "c"));
    let filter = Subscription { no_local: true, ..Subscription::new("t", AtLeastOnce) };
    bench.subscribe_with(client, vec![filter.clone()], Properties::default());
    bench.send(client, retained("t", AtLeastOnce, 1, "own"));
    assert_eq!(bench.publishes(client), []);
    assert_eq!(publishes_of(bench.subscribe_with(client, vec![filter], Properties::default())), []);
    let other = bench.connect(clean(V5_0, "other"));
    bench.send(other, publish("t", AtLeastOnce, 1, "other"));
    assert_eq!(payloads(&bench.publishes(client)), ["other"]);
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    // [MQTT-3.8.3-4]
    let mut bench = Bench::new();
    let client = bench.connect(clean(V5_0, "c"));
    let filter = Subscription { no_local: true, ..Subscription::new("$share/g/t", AtLeastOnce) };
    bench.subscribe_with(client, vec![filter], Properties::default());
    assert!(bench.is_closed(client));
}

#[test]
fn the_end_of_a_session_ends_its_subscriptions() {
    let mut bench = Bench::new();
    let client = bench.connect(clean(V5_0, "c"));
    bench.subscribe(client, "t", AtLeastOnce);
    bench.cut(client);
    let publisher = bench.connect(clean(V5_0, "publisher"));
    let answer = bench.ask(publisher, publish("t", AtLeastOnce, 1, "x"));
    let [Packet::Puback(ack)] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!(ack.reason, ReasonCode::NO_MATCHING_SUBSCRIBERS);
}
