//! What a session keeps, and for how long.

use crate::bench::*;
use mqtally_proto::packet::Qos::{AtLeastOnce, AtMostOnce};

#[test]
fn a_live_only_session_costs_no_change() {
    for version in VERSIONS {
        let mut bench = Bench::new();
        let client = bench.connect(clean(version, "c"));
        bench.subscribe(client, "t", AtLeastOnce);
        bench.send(client, publish("t", AtLeastOnce, 1, "x"));
        bench.send(client, puback(1));
        bench.cut(client);
        assert_eq!(bench.changes, 0);
    }
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
