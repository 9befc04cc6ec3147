//! What a session keeps, and for how long.

use crate::bench::*;
use Version::{V3_1_1, V5_0};
use mqtally_proto::broker::Limits;
use mqtally_proto::packet::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use mqtally_proto::packet::{Connect, Packet, Property, Publish, ReasonCode, Version};

#[test]
fn a_live_only_session_costs_no_change() {
    for version in VERSIONS {
        let mut bench = Bench::new();
        let client = bench.connect(clean(version, "c"));
        bench.subscribe(client, "t", ExactlyOnce);
        bench.send(client, publish("t", AtLeastOnce, 1, "x"));
        bench.send(client, puback(1));
        bench.send(client, publish("t", ExactlyOnce, 2, "x"));
        bench.send(client, pubrec(2));
        bench.send(client, pubrel(2));
        bench.unsubscribe(client, &["t"]);
        bench.cut(client);
        assert_eq!(bench.changes, 0);
    }
}

#[test]
fn a_live_delivery_to_a_durable_session_costs_four_changes_in_all() {
    let mut bench = Bench::new();
    let subscriber = bench.connect(durable(V5_0, "subscriber"));
    bench.subscribe(subscriber, "t", AtLeastOnce);
    let publisher = bench.connect(clean(V5_0, "publisher"));
    let before = bench.changes;
    bench.send(publisher, publish("t", AtLeastOnce, 1, "x"));
    assert_eq!(bench.changes - before, 2, "PutMessage, PutDelivery");
    bench.send(subscriber, puback(1));
    assert_eq!(bench.changes - before, 4, "RemoveDelivery, RemoveMessage");
}

#[test]
fn a_session_keeps_messages_for_a_client_that_is_away_except_qos_0() {
    // [MQTT-4.5.0-1]
    for version in VERSIONS {
        let mut bench = Bench::new();
        let subscriber = bench.connect(durable(version, "subscriber"));
        bench.subscribe(subscriber, "t", AtLeastOnce);
        bench.leave(subscriber);
        let publisher = bench.connect(clean(version, "publisher"));
        for id in 1..=3 {
            bench.send(publisher, publish("t", AtLeastOnce, id, &id.to_string()));
            bench.send(publisher, publish("t", AtMostOnce, 0, "gone"));
        }
        bench.restart();
        let (_, connack, received) = bench.enter(durable(version, "subscriber"));
        assert!(connack.session_present);
        assert_eq!(attempts(&publishes_of(received)), [(1, false, "1"), (2, false, "2"), (3, false, "3")]);
    }
}

#[test]
fn a_message_for_many_sessions_is_stored_once_until_the_last_has_it() {
    let mut bench = Bench::new();
    let subscribers = ["one", "two"].map(|name| bench.connect(durable(V5_0, name)));
    for subscriber in subscribers {
        bench.subscribe(subscriber, "t", AtLeastOnce);
    }
    let publisher = bench.connect(clean(V5_0, "publisher"));
    bench.send(publisher, publish("t", AtLeastOnce, 1, "x"));
    assert_eq!(bench.stored.messages.len(), 1);
    bench.restart();
    for (name, left) in [("one", 1), ("two", 0)] {
        let (subscriber, _, received) = bench.enter(durable(V5_0, name));
        assert_eq!(attempts(&publishes_of(received)), [(1, true, "x")]);
        bench.send(subscriber, puback(1));
        assert_eq!(bench.stored.messages.len(), left);
    }
}

#[test]
fn clean_start_discards_everything() {
    // [MQTT-3.1.2-6] of 3.1.1, [MQTT-3.1.2-4] of 5.0
    for version in VERSIONS {
        let mut bench = Bench::new();
        let client = bench.connect(durable(version, "c"));
        bench.subscribe(client, "t", AtLeastOnce);
        bench.send(client, publish("t", AtLeastOnce, 1, "old"));
        bench.send(client, publish("u", ExactlyOnce, 2, "old"));
        bench.cut(client);
        let (client, connack, received) = bench.enter(Connect { clean_start: true, ..durable(version, "c") });
        assert!(!connack.session_present);
        assert_eq!(received, []);
        bench.send(client, publish("t", AtLeastOnce, 3, "new"));
        assert_eq!(bench.publishes(client), []);
        assert_eq!(bench.stored.messages, []);
        // The old id is forgotten with the session: the same id is a new message.
        bench.subscribe(client, "u", ExactlyOnce);
        bench.send(client, publish("u", ExactlyOnce, 2, "new"));
        assert_eq!(payloads(&bench.publishes(client)), ["new"]);
    }
}

#[test]
fn a_session_is_there_until_it_expires_and_not_after() {
    // [MQTT-3.1.2-23], [MQTT-4.1.0-2]
    for restarted in [false, true] {
        for (away, present) in [(59, true), (60, false), (61, false)] {
            let mut bench = Bench::new();
            let expiring = Connect {
                properties: properties([Property::SessionExpiryInterval(60)]),
                ..durable(V5_0, "c")
            };
            let client = bench.connect(expiring.clone());
            bench.subscribe(client, "t", AtLeastOnce);
            bench.send(client, publish("t", AtLeastOnce, 1, "x"));
            bench.cut(client);
            if restarted {
                bench.restart();
            }
            // The clock alone moves: an expired session must not be resumed because no timer was served.
            bench.now = bench.now.plus_secs(away);
            let (_, connack, received) = bench.enter(expiring);
            assert_eq!(connack.session_present, present, "after {away} s");
            assert_eq!(received.len(), usize::from(present));
            assert_eq!(bench.stored.messages.len(), usize::from(present));
        }
    }
}

#[test]
fn an_expired_session_leaves_nothing_in_the_store() {
    let mut bench = Bench::new();
    let client = bench.connect(durable(V5_0, "c"));
    bench.subscribe(client, "t", AtLeastOnce);
    bench.cut(client);
    let publisher = bench.connect(clean(V5_0, "publisher"));
    bench.send(publisher, publish("t", AtLeastOnce, 1, "x"));
    bench.pass_secs(3_600);
    assert_eq!((bench.stored.sessions.len(), bench.stored.messages.len()), (0, 0));
}

#[test]
fn the_time_away_counts_from_the_end_of_the_connection_also_over_restarts() {
    let mut bench = Bench::new();
    let client = bench.connect(durable(V5_0, "c"));
    bench.cut(client);
    for _ in 0..3 {
        bench.pass_secs(1_000);
        bench.restart();
    }
    bench.pass_secs(599);
    assert_eq!(bench.stored.sessions.len(), 1);
    bench.pass_secs(1);
    assert_eq!(bench.stored.sessions.len(), 0);
}

#[test]
fn a_session_that_was_connected_when_the_broker_died_is_away_from_then_on() {
    let mut bench = Bench::new();
    bench.connect(durable(V5_0, "c"));
    bench.pass_secs(10_000);
    bench.restart();
    bench.pass_secs(1_800);
    bench.restart();
    bench.pass_secs(1_799);
    assert_eq!(bench.stored.sessions.len(), 1);
    bench.pass_secs(1);
    assert_eq!(bench.stored.sessions.len(), 0);
}

#[test]
fn a_3_1_1_session_lasts_as_long_as_configured() {
    let mut bench = Bench::with(Limits { session_expiry_v3: 60, ..Limits::default() });
    let client = bench.connect(durable(V3_1_1, "c"));
    bench.cut(client);
    bench.pass_secs(60);
    assert!(!bench.enter(durable(V3_1_1, "c")).1.session_present);
    let forever = &mut Bench::new();
    let client = forever.connect(durable(V3_1_1, "c"));
    forever.cut(client);
    assert_eq!(forever.broker.poll_timeout(), None);
}

#[test]
fn a_session_exists_even_when_it_is_empty() {
    // 3.1.1 section 3.1.2.4: its existence is state.
    for version in VERSIONS {
        let mut bench = Bench::new();
        let client = bench.connect(durable(version, "c"));
        bench.leave(client);
        assert!(bench.enter(durable(version, "c")).1.session_present);
    }
}

#[test]
fn a_session_without_expiry_ends_with_its_connection() {
    for version in VERSIONS {
        for taken_over in [false, true] {
            let mut bench = Bench::new();
            let client = bench.connect(clean(version, "c"));
            if !taken_over {
                bench.cut(client);
            }
            assert!(!bench.enter(durable(version, "c")).1.session_present);
        }
    }
}

#[test]
fn a_session_may_be_resumed_to_end_with_the_connection() {
    let mut bench = Bench::new();
    let client = bench.connect(durable(V5_0, "c"));
    bench.subscribe(client, "t", AtLeastOnce);
    bench.send(client, publish("t", AtLeastOnce, 1, "x"));
    bench.cut(client);
    let (client, connack, received) = bench.enter(Connect { clean_start: false, ..clean(V5_0, "c") });
    assert!(connack.session_present);
    assert_eq!(attempts(&publishes_of(received)), [(1, true, "x")]);
    assert_eq!(bench.stored, Default::default());
    bench.send(client, puback(1));
    bench.cut(client);
    assert!(!bench.enter(durable(V5_0, "c")).1.session_present);
}

#[test]
fn disconnect_may_change_the_expiry_unless_it_was_0() {
    for (connected_with, left_with, expected) in [(100, 10, Some(10)), (100, 0, None), (10, 100, Some(100))] {
        let mut bench = Bench::new();
        let expiry = |seconds| properties([Property::SessionExpiryInterval(seconds)]);
        let client = bench.connect(Connect { properties: expiry(connected_with), ..durable(V5_0, "c") });
        bench.disconnect(client, ReasonCode::SUCCESS, expiry(left_with));
        assert!(bench.is_closed(client));
        assert_eq!(bench.broker.poll_timeout(), expected.map(|seconds| bench.now.plus_secs(seconds)));
    }
    let mut bench = Bench::new();
    let client = bench.connect(clean(V5_0, "c"));
    bench.disconnect(client, ReasonCode::SUCCESS, properties([Property::SessionExpiryInterval(1)]));
    assert_eq!(bench.closed_with(client), ReasonCode::PROTOCOL_ERROR);
}

#[test]
fn a_takeover_goes_on_where_the_old_connection_stood() {
    for version in VERSIONS {
        let mut bench = Bench::new();
        let first = bench.connect(durable(version, "c"));
        bench.subscribe(first, "t", ExactlyOnce);
        bench.send(first, publish("t", ExactlyOnce, 7, "x"));
        let (second, _, received) = bench.enter(durable(version, "c"));
        assert_eq!(attempts(&publishes_of(received)), [(1, true, "x")]);
        let again = Packet::Publish(Publish { dup: true, ..message("t", ExactlyOnce, 7, "x") });
        assert_eq!(bench.ask(second, again), [pubrec(7)]);
    }
}

#[test]
fn a_session_may_change_its_version() {
    let mut bench = Bench::new();
    let client = bench.connect(durable(V5_0, "c"));
    let identifier = properties([Property::SubscriptionIdentifier(5)]);
    bench.subscribe_with(
        client,
        vec![mqtally_proto::packet::Subscription::new("t", AtLeastOnce)],
        identifier,
    );
    bench.cut(client);
    let (client, connack, _) = bench.enter(durable(V3_1_1, "c"));
    assert!(connack.session_present);
    bench.send(client, publish("t", AtLeastOnce, 1, "x"));
    assert_eq!(payloads(&bench.publishes(client)), ["x"]);
}
