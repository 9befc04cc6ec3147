//! Retained messages.

use crate::bench::*;
use Version::V5_0;
use mqtally_proto::packet::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use mqtally_proto::packet::{
    Packet, Properties, Property, Publish, Qos, RetainHandling, Subscription, Version,
};

/// `(topic, payload, RETAIN)` of what a subscription to `filter` brings at once, by a new client.
fn found(bench: &mut Bench, filter: &str, qos: Qos) -> Vec<(String, String, Qos)> {
    let reader = bench.connect(clean(V5_0, "reader"));
    let answer = bench.subscribe_with(reader, vec![Subscription::new(filter, qos)], Properties::default());
    assert!(matches!(answer[0], Packet::Suback(_)), "SUBACK comes first");
    let copies = publishes_of(answer);
    bench.leave(reader);
    let copy = |copy: &Publish| {
        assert!(copy.retain, "[MQTT-3.3.1-8]");
        (copy.topic.to_string(), payloads(std::slice::from_ref(copy))[0].to_owned(), copy.qos)
    };
    copies.iter().map(copy).collect()
}

fn row(topic: &str, payload: &str, qos: Qos) -> (String, String, Qos) {
    (topic.to_owned(), payload.to_owned(), qos)
}

#[test]
fn a_new_subscription_gets_the_last_retained_message_also_after_a_restart() {
    // [MQTT-3.3.1-5], [MQTT-3.3.1-8]
    for version in VERSIONS {
        let mut bench = Bench::new();
        let publisher = bench.connect(clean(version, "publisher"));
        for (id, payload) in [(1, "old"), (2, "new")] {
            bench.send(publisher, retained("t", AtLeastOnce, id, payload));
        }
        bench.send(publisher, retained("u", AtMostOnce, 0, "zero"));
        bench.leave(publisher);
        bench.restart();
        assert_eq!(found(&mut bench, "t", ExactlyOnce), [row("t", "new", AtLeastOnce)]);
        assert_eq!(found(&mut bench, "t", AtMostOnce), [row("t", "new", AtMostOnce)]);
        assert_eq!(found(&mut bench, "u", ExactlyOnce), [row("u", "zero", AtMostOnce)]);
    }
}

#[test]
fn an_empty_payload_clears_and_is_forwarded() {
    // [MQTT-3.3.1-6], [MQTT-3.3.1-7]
    let mut bench = Bench::new();
    let client = bench.connect(clean(V5_0, "c"));
    bench.send(client, retained("t", AtLeastOnce, 1, "x"));
    bench.subscribe(client, "t", AtMostOnce);
    bench.send(client, retained("t", AtLeastOnce, 2, ""));
    assert_eq!(payloads(&bench.publishes(client)), [""]);
    assert_eq!(found(&mut bench, "t", AtLeastOnce), []);
    bench.restart();
    assert_eq!(found(&mut bench, "#", AtLeastOnce), []);
}

#[test]
fn a_message_without_retain_does_not_touch_the_retained_one() {
    // [MQTT-3.3.1-8] of 5.0
    let mut bench = Bench::new();
    let client = bench.connect(clean(V5_0, "c"));
    bench.send(client, retained("t", AtLeastOnce, 1, "kept"));
    bench.send(client, publish("t", AtLeastOnce, 2, "passing"));
    assert_eq!(found(&mut bench, "t", AtMostOnce), [row("t", "kept", AtMostOnce)]);
}

#[test]
fn an_established_subscription_sees_retain_only_as_published() {
    // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
    for (as_published, expected) in [(false, [false, false]), (true, [true, false])] {
        let mut bench = Bench::new();
        let client = bench.connect(clean(V5_0, "c"));
        let filter =
            Subscription { retain_as_published: as_published, ..Subscription::new("t", AtLeastOnce) };
        bench.subscribe_with(client, vec![filter], Properties::default());
        bench.send(client, retained("t", AtLeastOnce, 1, "x"));
        bench.send(client, publish("t", AtLeastOnce, 2, "x"));
        let flags: Vec<bool> = bench.publishes(client).iter().map(|publish| publish.retain).collect();
        assert_eq!(flags, expected);
    }
}

#[test]
fn retain_handling_decides_when_retained_messages_are_sent() {
    // [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
    for (handling, first, second) in
        [(RetainHandling::Send, 1, 1), (RetainHandling::SendIfNew, 1, 0), (RetainHandling::DoNotSend, 0, 0)]
    {
        let mut bench = Bench::new();
        let client = bench.connect(clean(V5_0, "c"));
        bench.send(client, retained("t", AtLeastOnce, 1, "x"));
        for expected in [first, second] {
            let filter = Subscription { retain_handling: handling, ..Subscription::new("t", AtMostOnce) };
            let answer = bench.subscribe_with(client, vec![filter], Properties::default());
            assert_eq!(publishes_of(answer).len(), expected, "{handling:?}");
        }
    }
}

#[test]
fn resuming_a_session_is_not_subscribing() {
    let mut bench = Bench::new();
    let client = bench.connect(durable(V5_0, "c"));
    bench.send(client, retained("t", AtLeastOnce, 1, "x"));
    bench.subscribe(client, "t", AtMostOnce);
    bench.cut(client);
    assert_eq!(bench.enter(durable(V5_0, "c")).2, []);
}

#[test]
fn retained_messages_are_found_by_filter() {
    let mut bench = Bench::new();
    let client = bench.connect(clean(V5_0, "c"));
    for topic in ["a", "a/b", "a/b/c", "a/bc", "ab", "b"] {
        bench.send(client, retained(topic, AtMostOnce, 0, "x"));
    }
    let table: [(&str, &[&str]); 7] = [
        ("a", &["a"]),
        ("a/#", &["a", "a/b", "a/b/c", "a/bc"]),
        ("a/+", &["a/b", "a/bc"]),
        ("+", &["a", "ab", "b"]),
        ("a/b/#", &["a/b", "a/b/c"]),
        ("+/+/c", &["a/b/c"]),
        ("$share/g/#", &[]),
    ];
    for (filter, expected) in table {
        let found: Vec<String> =
            found(&mut bench, filter, AtMostOnce).into_iter().map(|(topic, ..)| topic).collect();
        assert_eq!(found, expected, "{filter}");
    }
}

#[test]
fn an_expired_retained_message_is_not_sent() {
    // [MQTT-3.3.2-5]
    let mut bench = Bench::new();
    let client = bench.connect(clean(V5_0, "c"));
    let properties = properties([Property::MessageExpiryInterval(10)]);
    let message = Publish { retain: true, properties, ..message("t", AtLeastOnce, 1, "x") };
    bench.send(client, Packet::Publish(message));
    bench.pass_secs(9);
    assert_eq!(found(&mut bench, "t", AtMostOnce).len(), 1);
    bench.pass_secs(1);
    assert_eq!(found(&mut bench, "t", AtMostOnce).len(), 0);
}
