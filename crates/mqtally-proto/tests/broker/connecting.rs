//! CONNECT, CONNACK and the end of connections.

use crate::bench::*;
use mqtally_proto::packet::{Packet, ReasonCode};

#[test]
fn a_second_connection_takes_the_session_over() {
    // [MQTT-3.1.4-2] of 3.1.1, [MQTT-3.1.4-3] of 5.0
    for version in VERSIONS {
        let mut bench = Bench::new();
        let first = bench.connect(durable(version, "c"));
        let (second, connack, _) = bench.enter(durable(version, "c"));
        assert!(bench.is_closed(first) && !bench.is_closed(second));
        assert!(connack.session_present);
        let goodbye = bench.take(first);
        match version {
            mqtally_proto::packet::Version::V3_1_1 => assert_eq!(goodbye, []),
            mqtally_proto::packet::Version::V5_0 => {
                let [Packet::Disconnect(disconnect)] = &goodbye[..] else { panic!("{goodbye:?}") };
                assert_eq!(disconnect.reason, ReasonCode::SESSION_TAKEN_OVER);
            }
        }
    }
}
