//! Wills: when they are published, and when not.

use crate::bench::*;
use Version::{V3_1_1, V5_0};
use mqtally_proto::packet::{Connect, Packet, Properties, Property, Qos, ReasonCode, Version};

/// How the connection with the will ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Cut,
    Leave,
    LeaveWithWill,
    LeaveWithError,
    ProtocolError,
    KeepAlive,
    Takeover,
    Shutdown,
}

fn witness(bench: &mut Bench) -> Client {
    let witness = bench.connect(durable(V5_0, "witness"));
    bench.subscribe(witness, "w", Qos::AtLeastOnce);
    witness
}

/// A durable client with a will that waits `delay` seconds.
fn willing(delay: u32) -> Connect {
    let delay = properties([Property::WillDelayInterval(delay)]);
    Connect { will: will("w", "bye", delay), ..durable(V5_0, "c") }
}

fn check(version: Version, end: End, published: bool) {
    let mut bench = Bench::new();
    let witness = witness(&mut bench);
    let connect =
        Connect { keep_alive: 10, will: will("w", "bye", Properties::default()), ..clean(version, "c") };
    let client = bench.connect(connect);
    match end {
        End::Cut => bench.cut(client),
        End::Leave => bench.leave(client),
        End::LeaveWithWill => {
            bench.disconnect(client, ReasonCode::DISCONNECT_WITH_WILL, Properties::default());
        }
        End::LeaveWithError => bench.disconnect(client, ReasonCode::UNSPECIFIED_ERROR, Properties::default()),
        End::ProtocolError => bench.send(client, Packet::Pingresp),
        End::KeepAlive => bench.pass_secs(15),
        End::Takeover => drop(bench.connect(clean(version, "c"))),
        End::Shutdown => {
            bench.broker.handle_shutdown(bench.now);
            bench.settle();
        }
    }
    bench.pass_secs(10);
    let mut received = bench.publishes(witness);
    if end == End::Shutdown {
        bench.restart();
        received = publishes_of(bench.enter(durable(V5_0, "witness")).2);
    }
    assert_eq!(payloads(&received), vec!["bye"; usize::from(published)], "{version:?} {end:?}");
}

#[test]
fn a_will_is_published_unless_the_client_takes_leave() {
    // [MQTT-3.1.2-8], [MQTT-3.1.2-10], [MQTT-3.14.4-3]
    use End::*;
    for end in [Cut, ProtocolError, KeepAlive, Takeover, Shutdown] {
        for version in VERSIONS {
            check(version, end, true);
        }
    }
    check(V3_1_1, Leave, false);
    check(V5_0, Leave, false);
    check(V5_0, LeaveWithWill, true);
    check(V5_0, LeaveWithError, true);
}

#[test]
fn a_will_waits_for_its_delay_over_a_restart_and_comes_once() {
    // [MQTT-3.1.2-8]
    for restarted in [false, true] {
        let mut bench = Bench::new();
        let witness = witness(&mut bench);
        let client = bench.connect(willing(30));
        bench.cut(client);
        bench.pass_secs(29);
        assert_eq!(bench.publishes(witness), []);
        let mut witness = witness;
        if restarted {
            bench.restart();
            witness = bench.connect(durable(V5_0, "witness"));
        }
        bench.pass_secs(1);
        assert_eq!(payloads(&bench.publishes(witness)), ["bye"]);
        bench.restart();
        bench.pass_secs(100);
        let received = publishes_of(bench.enter(durable(V5_0, "witness")).2);
        assert_eq!(attempts(&received), [(1, true, "bye")], "only what was not acknowledged");
    }
}

#[test]
fn a_will_is_not_published_when_the_session_is_resumed_in_time() {
    // [MQTT-3.1.3-9]
    for taken_over in [false, true] {
        let mut bench = Bench::new();
        let witness = witness(&mut bench);
        let client = bench.connect(willing(30));
        if !taken_over {
            bench.cut(client);
            bench.pass_secs(29);
        }
        bench.connect(durable(V5_0, "c"));
        bench.pass_secs(100);
        assert_eq!(bench.publishes(witness), []);
    }
}

#[test]
fn the_end_of_the_session_does_not_wait_for_the_delay() {
    // [MQTT-3.1.2-8]: expiry, clean start, and a session that ends with its connection
    let short = properties([Property::SessionExpiryInterval(10)]);
    for (connect, seconds) in [
        (Connect { properties: short, ..willing(30) }, 10),
        (Connect { properties: Properties::default(), ..willing(30) }, 0),
    ] {
        let mut bench = Bench::new();
        let witness = witness(&mut bench);
        let client = bench.connect(connect);
        bench.cut(client);
        bench.pass_secs(seconds);
        assert_eq!(payloads(&bench.publishes(witness)), ["bye"], "after {seconds} s");
    }
    let mut bench = Bench::new();
    let witness = witness(&mut bench);
    bench.connect(willing(30));
    bench.connect(Connect { clean_start: true, ..durable(V5_0, "c") });
    assert_eq!(payloads(&bench.publishes(witness)), ["bye"]);
}

#[test]
fn the_will_of_a_client_that_was_connected_when_the_broker_died_is_published() {
    let mut bench = Bench::new();
    witness(&mut bench);
    bench.connect(willing(5));
    bench.connect(Connect { will: will("w", "at once", Properties::default()), ..durable(V3_1_1, "d") });
    bench.restart();
    let (witness, _, received) = bench.enter(durable(V5_0, "witness"));
    assert_eq!(payloads(&publishes_of(received)), ["at once"]);
    bench.pass_secs(5);
    assert_eq!(payloads(&bench.publishes(witness)), ["bye"]);
}

#[test]
fn a_will_is_retained_when_it_asks_for_it() {
    // [MQTT-3.1.2-17] of 3.1.1, [MQTT-3.1.2-15] of 5.0
    let mut bench = Bench::new();
    let mut last = will("w", "bye", Properties::default());
    last.as_mut().expect("a will").retain = true;
    let client = bench.connect(Connect { will: last, ..clean(V5_0, "c") });
    bench.cut(client);
    bench.restart();
    let witness = witness(&mut bench);
    bench.subscribe_with(witness, vec![], Properties::default());
    assert_eq!(bench.stored.retained.len(), 1);
}

#[test]
fn a_will_keeps_its_message_properties_and_loses_the_delay() {
    let mut bench = Bench::new();
    let witness = witness(&mut bench);
    let all = properties([
        Property::WillDelayInterval(3),
        Property::ContentType("text".into()),
        Property::MessageExpiryInterval(60),
    ]);
    let client = bench.connect(Connect { will: will("w", "bye", all), ..durable(V5_0, "c") });
    bench.cut(client);
    bench.pass_secs(3);
    let expected = properties([Property::ContentType("text".into()), Property::MessageExpiryInterval(60)]);
    assert_eq!(bench.publishes(witness)[0].properties, expected);
}
