//! Message expiry, and the properties that travel with a message.

use crate::bench::*;
use Version::V5_0;
use mqtally_proto::broker::Limits;
use mqtally_proto::packet::Qos::{AtLeastOnce, ExactlyOnce};
use mqtally_proto::packet::{Connect, Packet, Property, Publish, Qos, Version};

fn expiring(qos: Qos, id: u16, seconds: u32) -> Packet {
    let properties = properties([Property::MessageExpiryInterval(seconds)]);
    Packet::Publish(Publish { properties, ..message("t", qos, id, "x") })
}

/// A bench with an absent subscriber and a publisher.
fn absent_subscriber() -> (Bench, Client) {
    let mut bench = Bench::new();
    let subscriber = bench.connect(durable(V5_0, "subscriber"));
    bench.subscribe(subscriber, "t", ExactlyOnce);
    bench.leave(subscriber);
    let publisher = bench.connect(clean(V5_0, "publisher"));
    (bench, publisher)
}

#[test]
fn the_interval_is_what_is_left_of_it() {
    // [MQTT-3.3.2-6]
    let (mut bench, publisher) = absent_subscriber();
    bench.send(publisher, expiring(AtLeastOnce, 1, 100));
    bench.pass_secs(40);
    bench.restart();
    let received = publishes_of(bench.enter(durable(V5_0, "subscriber")).2);
    assert_eq!(received[0].properties, properties([Property::MessageExpiryInterval(60)]));
}

#[test]
fn a_message_that_expires_before_its_delivery_begins_is_dropped() {
    // [MQTT-3.3.2-5]
    for qos in [AtLeastOnce, ExactlyOnce] {
        let (mut bench, publisher) = absent_subscriber();
        bench.send(publisher, expiring(qos, 1, 100));
        bench.pass_secs(100);
        assert_eq!(bench.enter(durable(V5_0, "subscriber")).2, []);
        assert_eq!((bench.stored.messages.len(), bench.stored.sessions[0].2.len()), (0, 0));
    }
}

#[test]
fn qos_2_goes_on_after_its_expiry_once_it_has_begun() {
    // [MQTT-4.3.3-7]
    let mut bench = Bench::new();
    let subscriber = bench.connect(durable(V5_0, "subscriber"));
    bench.subscribe(subscriber, "t", ExactlyOnce);
    bench.send(subscriber, expiring(ExactlyOnce, 1, 10));
    bench.cut(subscriber);
    bench.pass_secs(20);
    let (subscriber, _, received) = bench.enter(durable(V5_0, "subscriber"));
    assert_eq!(attempts(&publishes_of(received)), [(1, true, "x")]);
    assert_eq!(bench.ask(subscriber, pubrec(1)), [pubrel(1)]);
}

#[test]
fn expired_messages_do_not_take_room() {
    let limits = Limits { queued_messages_max: 2, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let subscriber = bench.connect(durable(V5_0, "subscriber"));
    bench.subscribe(subscriber, "t", ExactlyOnce);
    bench.leave(subscriber);
    let publisher = bench.connect(clean(V5_0, "publisher"));
    for id in [1, 2] {
        assert_eq!(bench.ask(publisher, expiring(AtLeastOnce, id, 10)), [puback(id)]);
    }
    bench.pass_secs(10);
    for id in [3, 4] {
        assert_eq!(bench.ask(publisher, expiring(AtLeastOnce, id, 10)), [puback(id)]);
    }
    assert_eq!(bench.stored.messages.len(), 2);
}

#[test]
fn the_properties_of_a_message_are_passed_on_unaltered_and_in_order() {
    // [MQTT-3.3.2-4], [-15], [-16], [-17], [-18], [-20]
    let properties = properties([
        Property::UserProperty("b".into(), "1".into()),
        Property::PayloadFormatIndicator(1),
        Property::UserProperty("a".into(), "2".into()),
        Property::ResponseTopic("r".into()),
        Property::CorrelationData("c".into()),
        Property::UserProperty("b".into(), "1".into()),
        Property::ContentType("text".into()),
    ]);
    let (mut bench, publisher) = absent_subscriber();
    let sent = Publish { properties: properties.clone(), ..message("t", AtLeastOnce, 1, "x") };
    bench.send(publisher, Packet::Publish(sent));
    bench.restart();
    let received = publishes_of(bench.enter(durable(V5_0, "subscriber")).2);
    assert_eq!(received[0].properties, properties);
}

#[test]
fn a_packet_larger_than_the_client_takes_counts_as_sent() {
    // [MQTT-3.1.2-24], [MQTT-3.1.2-25]
    let mut bench = Bench::new();
    let mut connect = durable(V5_0, "c");
    connect.properties.push(Property::MaximumPacketSize(30));
    let client = bench.connect(connect.clone());
    bench.subscribe(client, "t", AtLeastOnce);
    let publisher = bench.connect(clean(V5_0, "publisher"));
    let large = "x".repeat(30);
    bench.send(publisher, publish("t", AtLeastOnce, 1, &large));
    bench.send(publisher, publish("t", AtLeastOnce, 2, "small"));
    assert_eq!(payloads(&bench.publishes(client)), ["small"]);
    bench.send(client, puback(1));
    assert_eq!(bench.stored.messages, []);
    bench.leave(client);
    bench.send(publisher, publish("t", AtLeastOnce, 3, &large));
    bench.send(publisher, publish("t", AtLeastOnce, 4, "small"));
    let (client, _, received) = bench.enter(connect.clone());
    assert_eq!(payloads(&publishes_of(received)), ["small"]);
    bench.cut(client);
    // Also one that was in flight on a connection that took it.
    let client = bench.connect(durable(V5_0, "c"));
    bench.send(publisher, publish("t", AtLeastOnce, 5, &large));
    bench.cut(client);
    let (_, _, received) = bench.enter(Connect { clean_start: false, ..connect });
    assert_eq!(payloads(&publishes_of(received)), ["small"]);
    assert_eq!(bench.stored.messages.len(), 1);
}
