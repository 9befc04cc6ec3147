//! The handshakes of QoS 1 and 2, toward clients and from them.

use crate::bench::*;
use Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use mqtally_proto::packet::{Ack, Packet, Publish, Qos, ReasonCode, Version};

fn ack(id: u16, reason: u8) -> Ack {
    Ack::with_reason(id, ReasonCode(reason))
}

#[test]
fn a_message_is_delivered_at_the_lower_of_its_qos_and_the_granted_one() {
    // [MQTT-3.8.4-6] of 3.1.1, [MQTT-3.8.4-8] of 5.0
    let levels = [AtMostOnce, AtLeastOnce, ExactlyOnce];
    for version in VERSIONS {
        for (granted, published) in
            levels.iter().flat_map(|granted| levels.map(|published| (*granted, published)))
        {
            let mut bench = Bench::new();
            let subscriber = bench.connect(clean(version, "subscriber"));
            let publisher = bench.connect(clean(version, "publisher"));
            bench.subscribe(subscriber, "t", granted);
            bench.send(publisher, publish("t", published, 7, "x"));
            let received = bench.publishes(subscriber);
            assert_eq!(received.len(), 1);
            assert_eq!((received[0].qos, received[0].dup), (granted.min(published), false));
        }
    }
}

#[test]
fn qos_2_is_routed_once_however_often_publish_is_repeated() {
    // [MQTT-4.3.3-10]
    for version in VERSIONS {
        let mut bench = Bench::new();
        let subscriber = bench.connect(clean(version, "subscriber"));
        bench.subscribe(subscriber, "t", ExactlyOnce);
        let publisher = bench.connect(durable(version, "publisher"));
        assert_eq!(bench.ask(publisher, publish("t", ExactlyOnce, 7, "x")), [pubrec(7)]);
        let again = Packet::Publish(Publish { dup: true, ..message("t", ExactlyOnce, 7, "x") });
        assert_eq!(bench.ask(publisher, again.clone()), [pubrec(7)]);
        bench.cut(publisher);
        bench.restart();
        let subscriber = bench.connect(clean(version, "subscriber"));
        bench.subscribe(subscriber, "t", ExactlyOnce);
        let publisher = bench.connect(durable(version, "publisher"));
        assert_eq!(bench.ask(publisher, again), [pubrec(7)]);
        assert_eq!(bench.publishes(subscriber), []);
        assert_eq!(bench.ask(publisher, pubrel(7)), [pubcomp(7)]);
        assert_eq!(bench.ask(publisher, publish("t", ExactlyOnce, 7, "y")), [pubrec(7)]);
        assert_eq!(payloads(&bench.publishes(subscriber)), ["y"]);
    }
}

#[test]
fn an_unknown_pubrel_is_answered_with_pubcomp() {
    // [MQTT-4.3.3-11]; 3.1.1 has no reason to give
    for (version, reason) in [(Version::V3_1_1, 0x00), (Version::V5_0, 0x92)] {
        let mut bench = Bench::new();
        let client = bench.connect(clean(version, "c"));
        assert_eq!(bench.ask(client, pubrel(9)), [Packet::Pubcomp(ack(9, reason))]);
        assert!(!bench.is_closed(client));
    }
}

#[test]
fn an_unknown_pubrec_is_answered_with_pubrel() {
    for (version, reason) in [(Version::V3_1_1, 0x00), (Version::V5_0, 0x92)] {
        let mut bench = Bench::new();
        let client = bench.connect(clean(version, "c"));
        assert_eq!(bench.ask(client, pubrec(9)), [Packet::Pubrel(ack(9, reason))]);
        assert!(!bench.is_closed(client));
    }
}

#[test]
fn pubrec_0x10_goes_on_and_pubrec_0x80_ends_the_delivery() {
    // [MQTT-4.3.3-4]
    for (reason, answer) in [(0x10, vec![pubrel(1)]), (0x80, vec![])] {
        let mut bench = Bench::new();
        let client = bench.connect(durable(Version::V5_0, "c"));
        bench.subscribe(client, "t", ExactlyOnce);
        bench.send(client, publish("t", ExactlyOnce, 7, "x"));
        bench.take(client);
        assert_eq!(bench.ask(client, Packet::Pubrec(ack(1, reason))), answer);
        assert_eq!(bench.stored.sessions[0].2.len(), answer.len(), "{reason:x}");
        bench.send(client, pubcomp(1));
        assert_eq!((bench.stored.sessions[0].2.len(), bench.stored.messages.len()), (0, 0));
    }
}

#[test]
fn nobody_to_receive_is_a_success_that_5_0_tells() {
    for (version, reason) in [(Version::V3_1_1, 0x00), (Version::V5_0, 0x10)] {
        let mut bench = Bench::new();
        let client = bench.connect(clean(version, "c"));
        let puback = Packet::Puback(ack(1, reason));
        assert_eq!(bench.ask(client, publish("t", AtLeastOnce, 1, "x")), [puback]);
        let pubrec = Packet::Pubrec(ack(2, reason));
        assert_eq!(bench.ask(client, publish("t", ExactlyOnce, 2, "x")), [pubrec]);
        assert_eq!(bench.ask(client, pubrel(2)), [pubcomp(2)]);
        assert_eq!(bench.ask(client, publish("t", AtMostOnce, 0, "x")), []);
    }
}

#[test]
fn topics_of_the_server_cannot_be_published_to() {
    for (version, reason) in [(Version::V3_1_1, 0x00), (Version::V5_0, 0x87)] {
        let mut bench = Bench::new();
        let client = bench.connect(clean(version, "c"));
        bench.subscribe(client, "$SYS/#", AtLeastOnce);
        let answer = bench.ask(client, publish("$SYS/x", AtLeastOnce, 1, "x"));
        assert_eq!(answer, [Packet::Puback(ack(1, reason))]);
    }
}

#[test]
fn unfinished_deliveries_are_resumed_in_order_with_the_same_ids_across_a_restart() {
    // [MQTT-4.4.0-1], [MQTT-4.6.0-1], [MQTT-3.3.1-1]
    for version in VERSIONS {
        for restarted in [false, true] {
            let mut bench = Bench::new();
            let subscriber = bench.connect(durable(version, "subscriber"));
            bench.subscribe(subscriber, "#", ExactlyOnce);
            let publisher = bench.connect(clean(version, "publisher"));
            for (id, qos) in [(1, AtLeastOnce), (2, ExactlyOnce), (3, ExactlyOnce), (4, AtLeastOnce)] {
                bench.send(publisher, publish("t", qos, id, &id.to_string()));
            }
            bench.send(subscriber, pubrec(2));
            bench.send(subscriber, puback(4));
            bench.take(subscriber);
            bench.cut(subscriber);
            bench.send(publisher, publish("t", AtLeastOnce, 5, "5"));
            if restarted {
                bench.restart();
            }
            let (subscriber, connack, received) = bench.enter(durable(version, "subscriber"));
            assert!(connack.session_present);
            assert_eq!(received[0], pubrel(2));
            let received = publishes_of(received);
            // What id comes next is not stored: any unused one will do.
            let fresh = if restarted { 4 } else { 5 };
            assert_eq!(attempts(&received), [(1, true, "1"), (3, true, "3"), (fresh, false, "5")]);
            assert_eq!(bench.ask(subscriber, pubcomp(2)), []);
            assert_eq!(bench.ask(subscriber, pubrec(3)), [pubrel(3)]);
            for last in [puback(1), pubcomp(3), puback(fresh)] {
                bench.send(subscriber, last);
            }
            assert_eq!((bench.stored.sessions[0].2.len(), bench.stored.messages.len()), (0, 0));
        }
    }
}
