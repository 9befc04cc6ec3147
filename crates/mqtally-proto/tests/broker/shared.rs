//! Shared subscriptions.

use crate::bench::*;
use Version::V5_0;
use mqtally_proto::broker::Limits;
use mqtally_proto::packet::Qos::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use mqtally_proto::packet::{Connect, Packet, Property, Publish, Qos, ReasonCode, Version};

/// Durable members of `$share/g/t` in this order, and a publisher.
fn group(bench: &mut Bench, members: &[&str], qos: Qos) -> (Vec<Client>, Client) {
    let join = |name: &&str| {
        let member = bench.connect(durable(V5_0, name));
        bench.subscribe(member, "$share/g/t", qos);
        member
    };
    let members = members.iter().map(join).collect();
    (members, bench.connect(clean(V5_0, "publisher")))
}

fn publish_all(bench: &mut Bench, publisher: Client, qos: Qos, ids: std::ops::RangeInclusive<u16>) {
    for id in ids {
        bench.send(publisher, publish("t", qos, id, &id.to_string()));
    }
}

#[test]
fn each_message_goes_to_one_member_in_turn() {
    let mut bench = Bench::new();
    let (members, publisher) = group(&mut bench, &["a", "b", "c"], AtLeastOnce);
    publish_all(&mut bench, publisher, AtLeastOnce, 1..=6);
    for (member, expected) in members.iter().zip([["1", "4"], ["2", "5"], ["3", "6"]]) {
        assert_eq!(payloads(&bench.publishes(*member)), expected);
    }
}

#[test]
fn each_group_and_each_ordinary_subscription_gets_its_copy() {
    let mut bench = Bench::new();
    let client = bench.connect(clean(V5_0, "c"));
    for filter in ["$share/g/t", "$share/h/t", "$share/g/+", "t", "#"] {
        bench.subscribe(client, filter, AtLeastOnce);
    }
    bench.send(client, publish("t", AtLeastOnce, 1, "x"));
    assert_eq!(bench.publishes(client).len(), 4, "three groups and one for what overlaps");
}

#[test]
fn the_granted_qos_of_the_member_counts() {
    // [MQTT-4.8.2-3]
    let mut bench = Bench::new();
    let (members, publisher) = group(&mut bench, &["a"], AtMostOnce);
    publish_all(&mut bench, publisher, ExactlyOnce, 1..=1);
    assert_eq!(bench.publishes(members[0])[0].qos, AtMostOnce);
}

#[test]
fn connected_members_go_before_those_that_are_away() {
    let mut bench = Bench::new();
    let (members, publisher) = group(&mut bench, &["a", "b"], AtLeastOnce);
    bench.cut(members[0]);
    publish_all(&mut bench, publisher, AtLeastOnce, 1..=3);
    assert_eq!(payloads(&bench.publishes(members[1])), ["1", "2", "3"]);
    bench.cut(members[1]);
    publish_all(&mut bench, publisher, AtLeastOnce, 4..=5);
    assert_eq!(bench.stored.messages.len(), 5, "kept for those that are away");
}

#[test]
fn a_member_with_a_full_window_is_passed_over() {
    let mut bench = Bench::with(Limits { in_flight_max: 1, ..Limits::default() });
    let (members, publisher) = group(&mut bench, &["a", "b"], AtLeastOnce);
    publish_all(&mut bench, publisher, AtLeastOnce, 1..=2);
    bench.send(members[1], puback(1));
    publish_all(&mut bench, publisher, AtLeastOnce, 3..=3);
    assert_eq!(payloads(&bench.publishes(members[1])), ["2", "3"]);
}

#[test]
fn what_an_ended_member_had_not_finished_goes_to_others_except_begun_qos_2() {
    // [MQTT-4.8.2-4], [MQTT-4.8.2-5]
    for (qos, moved) in [(AtLeastOnce, vec!["1", "2", "3"]), (ExactlyOnce, vec!["2", "3"])] {
        let mut bench = Bench::with(Limits { in_flight_max: 1, ..Limits::default() });
        let (members, publisher) = group(&mut bench, &["a"], qos);
        publish_all(&mut bench, publisher, qos, 1..=3);
        assert_eq!(payloads(&bench.publishes(members[0])), ["1"]);
        bench.cut(members[0]);
        let heir = bench.connect(durable(V5_0, "heir"));
        bench.subscribe(heir, "$share/g/t", qos);
        bench.connect(Connect { clean_start: true, ..durable(V5_0, "a") });
        let mut received = Vec::new();
        for _ in 0..3 {
            for publish in bench.publishes(heir) {
                let id = publish.packet_id.expect("QoS above 0");
                received.push(String::from_utf8(publish.payload.to_vec()).expect("text"));
                assert!(!publish.dup, "new to this client");
                bench.send(heir, puback(id));
                bench.send(heir, pubrec(id));
                bench.send(heir, pubcomp(id));
            }
        }
        assert_eq!(received, moved);
        assert_eq!(bench.stored.messages, []);
    }
}

#[test]
fn an_expired_message_is_not_moved() {
    // [MQTT-3.3.2-5]
    let mut bench = Bench::new();
    let (members, publisher) = group(&mut bench, &["a"], AtLeastOnce);
    bench.cut(members[0]);
    let properties = properties([Property::MessageExpiryInterval(5)]);
    bench.send(publisher, Packet::Publish(Publish { properties, ..message("t", AtLeastOnce, 1, "x") }));
    let heir = bench.connect(clean(V5_0, "heir"));
    bench.subscribe(heir, "$share/g/t", AtLeastOnce);
    bench.pass_secs(5);
    bench.connect(Connect { clean_start: true, ..durable(V5_0, "a") });
    assert_eq!(bench.publishes(heir), []);
}

#[test]
fn a_message_that_an_ordinary_subscription_accounts_for_is_not_moved() {
    let mut bench = Bench::new();
    let (members, publisher) = group(&mut bench, &["a"], AtLeastOnce);
    bench.unsubscribe(members[0], &["$share/g/t"]);
    bench.subscribe(members[0], "t", AtLeastOnce);
    bench.cut(members[0]);
    publish_all(&mut bench, publisher, AtLeastOnce, 1..=1);
    let heir = bench.connect(clean(V5_0, "heir"));
    bench.subscribe(heir, "$share/g/t", AtLeastOnce);
    bench.connect(Connect { clean_start: true, ..durable(V5_0, "a") });
    assert_eq!(bench.publishes(heir), []);
}

#[test]
fn a_group_without_room_refuses_the_publisher() {
    let mut bench = Bench::with(Limits { queued_messages_max: 1, ..Limits::default() });
    let (members, publisher) = group(&mut bench, &["a", "b"], AtLeastOnce);
    members.into_iter().for_each(|member| bench.cut(member));
    publish_all(&mut bench, publisher, AtLeastOnce, 1..=2);
    bench.take(publisher);
    let answer = bench.ask(publisher, publish("t", AtLeastOnce, 3, "3"));
    let [Packet::Puback(ack)] = &answer[..] else { panic!("{answer:?}") };
    assert_eq!(ack.reason, ReasonCode::QUOTA_EXCEEDED);
}

#[test]
fn groups_survive_a_restart() {
    let mut bench = Bench::new();
    let (_, _) = group(&mut bench, &["a", "b"], AtLeastOnce);
    bench.restart();
    let members = ["a", "b"].map(|name| bench.connect(durable(V5_0, name)));
    let publisher = bench.connect(clean(V5_0, "publisher"));
    publish_all(&mut bench, publisher, AtLeastOnce, 1..=2);
    assert_eq!(members.map(|member| bench.publishes(member).len()), [1, 1]);
}
