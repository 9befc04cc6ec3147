//! CONNECT, CONNACK and the end of connections.

use crate::bench::*;
use Version::{V3_1_1, V5_0};
use mqtally_proto::broker::{Config, Limits};
use mqtally_proto::packet::{
    Auth, Connack, Connect, DecodeError, Packet, Properties, Property, Qos, ReasonCode, Version,
};

/// Sends a CONNECT that is refused with `reason` and closed.
fn check_refused(bench: &mut Bench, connect: Connect, reason: u8) {
    let (client, connack, rest) = bench.enter(connect);
    let refusal =
        Connack { session_present: false, reason: ReasonCode(reason), properties: Properties::default() };
    assert_eq!((connack, rest), (refusal, vec![]));
    assert!(bench.is_closed(client));
}

#[test]
fn a_second_connection_takes_the_session_over() {
    // [MQTT-3.1.4-2] of 3.1.1, [MQTT-3.1.4-3] of 5.0
    for version in VERSIONS {
        let mut bench = Bench::new();
        let first = bench.connect(durable(version, "c"));
        let (second, connack, _) = bench.enter(durable(version, "c"));
        assert!(bench.is_closed(first) && !bench.is_closed(second));
        assert!(connack.session_present);
        match version {
            V3_1_1 => assert_eq!(bench.take(first), []),
            V5_0 => assert_eq!(bench.closed_with(first), ReasonCode::SESSION_TAKEN_OVER),
        }
        bench.cut(first);
        assert_eq!(bench.ask(second, Packet::Pingreq), [Packet::Pingresp]);
    }
}

#[test]
fn a_refused_connect_is_answered_and_closed() {
    // [MQTT-3.2.2-4], [MQTT-3.2.2-5] of 3.1.1; [MQTT-3.2.2-6], [MQTT-3.2.2-7] of 5.0
    let nameless = Connect { clean_start: false, ..clean(V3_1_1, "") };
    check_refused(&mut Bench::new(), nameless, 0x85);
    let method = properties([Property::AuthenticationMethod("SCRAM".into())]);
    check_refused(&mut Bench::new(), Connect { properties: method, ..clean(V5_0, "c") }, 0x8C);
    for version in VERSIONS {
        let connect = Connect { will: will("$SYS/x", "", Properties::default()), ..clean(version, "c") };
        check_refused(&mut Bench::new(), connect, 0x87);
    }
}

#[test]
fn one_session_too_many_is_refused() {
    for (version, reason) in [(V3_1_1, 0x88), (V5_0, 0x97)] {
        let mut bench = Bench::with(Limits { sessions_max: 1, ..Limits::default() });
        bench.connect(clean(version, "one"));
        check_refused(&mut bench, clean(version, "two"), reason);
        let again = bench.connect(clean(version, "one"));
        assert!(!bench.is_closed(again));
    }
}

#[test]
fn a_client_without_name_gets_one_that_nobody_has() {
    // [MQTT-3.1.3-6], [MQTT-3.2.2-16]
    let mut bench = Bench::new();
    bench.connect(durable(V5_0, "mqtally-1"));
    bench.restart();
    for expected in ["mqtally-2", "mqtally-3"] {
        let (_, connack, _) = bench.enter(durable(V5_0, ""));
        assert_eq!(connack.properties.assigned_client_identifier().map(|id| &**id), Some(expected));
    }
    let (client, connack, _) = bench.enter(clean(V3_1_1, ""));
    assert_eq!((connack.reason, bench.is_closed(client)), (ReasonCode::SUCCESS, false));
}

#[test]
fn connack_announces_what_is_allowed_to_5_0_only() {
    let limits = Limits {
        receive_maximum: 9,
        topic_alias_maximum: 8,
        packet_size_max: 7_000,
        session_expiry_max: 60,
        keep_alive_max: 30,
        ..Limits::default()
    };
    let (_, connack, _) = Bench::with(limits.clone()).enter(durable(V5_0, "c"));
    let announced = connack.properties;
    assert_eq!(announced.receive_maximum(), Some(9));
    assert_eq!(announced.topic_alias_maximum(), Some(8));
    assert_eq!(announced.maximum_packet_size(), Some(7_000));
    assert_eq!(announced.session_expiry_interval(), Some(60));
    assert_eq!(announced.server_keep_alive(), Some(30));
    let (_, connack, _) = Bench::with(limits).enter(durable(V3_1_1, "c"));
    assert_eq!(connack.properties, Properties::default());
}

/// A maximum packet size of 268,435,460, the largest packet that the format can express, made paho-mqtt 2.1 for Python
/// end its connection at CONNACK: it takes 268,435,455 for the highest lawful value. Nothing is lost by not saying it.
#[test]
fn a_limit_that_no_packet_can_exceed_is_not_announced() {
    let (_, connack, _) = Bench::new().enter(durable(V5_0, "c"));
    assert_eq!(connack.properties.maximum_packet_size(), None);
}

#[test]
fn connect_comes_first_and_once() {
    // [MQTT-3.1.0-1], [MQTT-3.1.0-2]
    for version in VERSIONS {
        let mut bench = Bench::new();
        let client = bench.open(version);
        assert_eq!(bench.ask(client, Packet::Pingreq), []);
        assert!(bench.is_closed(client));
        let client = bench.connect(clean(version, "c"));
        bench.send(client, Packet::Connect(Box::new(clean(version, "c"))));
        assert!(bench.is_closed(client));
    }
}

#[test]
fn what_only_servers_send_and_auth_are_protocol_errors() {
    // [MQTT-4.12.0-7]
    let auth = Auth { reason: ReasonCode::RE_AUTHENTICATE, properties: Properties::default() };
    for packet in [Packet::Auth(auth), Packet::Pingresp] {
        let mut bench = Bench::new();
        let client = bench.connect(clean(V5_0, "c"));
        bench.send(client, packet);
        assert_eq!(bench.closed_with(client), ReasonCode::PROTOCOL_ERROR);
    }
}

#[test]
fn a_connection_without_connect_is_closed_in_time() {
    let mut bench = Bench::new();
    let client = bench.open(V5_0);
    bench.pass_secs(9);
    assert!(!bench.is_closed(client));
    bench.pass_secs(1);
    assert!(bench.is_closed(client));
    assert_eq!(bench.broker.poll_timeout(), None);
}

#[test]
fn a_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    // [MQTT-3.1.2-24] of 3.1.1, [MQTT-3.1.2-22] of 5.0
    for version in VERSIONS {
        let mut bench = Bench::new();
        let client = bench.connect(Connect { keep_alive: 10, ..clean(version, "c") });
        for _ in 0..5 {
            bench.pass_secs(14);
            assert_eq!(bench.ask(client, Packet::Pingreq), [Packet::Pingresp]);
        }
        bench.pass_secs(14);
        assert!(!bench.is_closed(client));
        bench.pass_secs(1);
        assert!(bench.is_closed(client));
        assert_eq!(bench.broker.poll_timeout(), None);
    }
}

#[test]
fn keep_alive_0_allows_silence() {
    let mut bench = Bench::new();
    let client = bench.connect(clean(V5_0, "c"));
    bench.pass_secs(1_000_000);
    assert!(!bench.is_closed(client));
}

#[test]
fn malformed_bytes_are_answered_where_the_version_allows_it() {
    // [MQTT-4.13.1-1]
    let error = DecodeError { reason: ReasonCode::MALFORMED_PACKET, detail: String::new() };
    for (version, answers) in [(V3_1_1, 0), (V5_0, 1)] {
        let mut bench = Bench::new();
        let client = bench.connect(clean(version, "c"));
        bench.broker.handle_malformed(bench.now, client.0, &error);
        bench.settle();
        assert!(bench.is_closed(client));
        let received = bench.take(client);
        assert_eq!(received.len(), answers, "{received:?}");
        let client = bench.open(version);
        bench.broker.handle_malformed(bench.now, client.0, &error);
        bench.settle();
        assert!(bench.is_closed(client) && bench.take(client).is_empty());
    }
}

#[test]
fn an_unknown_protocol_version_is_refused_with_connack() {
    // [MQTT-3.1.2-2]
    let mut bench = Bench::new();
    let client = bench.open(V3_1_1);
    let error = DecodeError { reason: ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, detail: String::new() };
    bench.broker.handle_malformed(bench.now, client.0, &error);
    bench.settle();
    let [Packet::Connack(connack)] = &bench.take(client)[..] else { panic!("no CONNACK") };
    assert_eq!(connack.reason, ReasonCode::UNSUPPORTED_PROTOCOL_VERSION);
    assert!(bench.is_closed(client));
}

#[test]
fn shutdown_says_goodbye_and_keeps_the_sessions() {
    let mut bench = Bench::new();
    let old = bench.connect(durable(V3_1_1, "old"));
    let new = bench.connect(durable(V5_0, "new"));
    bench.broker.handle_shutdown(bench.now);
    bench.settle();
    assert!(bench.is_closed(old) && bench.take(old).is_empty());
    assert_eq!(bench.closed_with(new), ReasonCode::SERVER_SHUTTING_DOWN);
    bench.restart();
    for (version, name) in [(V3_1_1, "old"), (V5_0, "new")] {
        assert!(bench.enter(durable(version, name)).1.session_present);
    }
}

#[test]
fn credentials_are_checked_before_anything_else_happens() {
    let config = Config { authenticate: true, ..Config::default() };
    for version in VERSIONS {
        let mut bench = Bench::with_config(config.clone());
        let client = bench.apply(clean(version, "c"));
        // [MQTT-3.1.4-6]: the client need not wait for CONNACK.
        bench.send(client, Packet::Pingreq);
        assert_eq!((bench.take(client), &bench.asked[..]), (vec![], &[client.0][..]));
        bench.broker.handle_authenticated(bench.now, client.0, true);
        bench.settle();
        let received = bench.take(client);
        assert!(matches!(&received[..], [Packet::Connack(_), Packet::Pingresp]), "{received:?}");

        let refused = bench.apply(clean(version, "d"));
        bench.send(refused, Packet::Pingreq);
        bench.broker.handle_authenticated(bench.now, refused.0, false);
        bench.settle();
        let received = bench.take(refused);
        let [Packet::Connack(connack)] = &received[..] else { panic!("{received:?}") };
        assert_eq!(connack.reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
        assert!(bench.is_closed(refused));
    }
}

#[test]
fn a_client_that_floods_before_it_is_let_in_is_closed() {
    let large = "x".repeat(600_000);
    let floods = [vec![Packet::Pingreq; 65], vec![publish("t", Qos::AtMostOnce, 0, &large); 2]];
    for flood in floods {
        let mut bench = Bench::with_config(Config { authenticate: true, ..Config::default() });
        let client = bench.apply(clean(V5_0, "c"));
        for packet in flood {
            assert!(!bench.is_closed(client));
            bench.send(client, packet);
        }
        assert!(bench.is_closed(client));
        bench.broker.handle_authenticated(bench.now, client.0, true);
        bench.settle();
        assert_eq!(bench.take(client), []);
    }
}
