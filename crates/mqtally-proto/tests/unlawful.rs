//! Every kind of unlawful frame: the reason a strict reading answers with, and what a lenient reading makes of it.

use bytes::{Bytes, BytesMut};
use mqtally_proto::packet::{Decoder, Packet, ReasonCode, Version, observe};
use mqtally_proto::packet::{Version::V3_1_1 as V3, Version::V5_0 as V5};

const SIZE_MAX: u32 = 1_000;

/// Who sends the frame to whom.
#[derive(Debug, Clone, Copy)]
enum Sent {
    ToServer,
    ToClient,
    /// As the first packet of a connection.
    First,
}
use Sent::{First, ToClient, ToServer};

/// How much a lenient reading understands.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Seen {
    /// The packet, with the fault noted.
    Packet,
    /// No packet, and the fault says why.
    Nothing,
    /// The frame is lawful except for its direction or place, which a lenient reading does not judge.
    Lawful,
}

/// `(sent, version, frame in hex, reason, words, seen)`
type Row = (Sent, Version, &'static str, u8, &'static str, Seen);

#[test]
fn fixed_headers() {
    check(&[
        (ToServer, V3, "00 00", 0x81, "packet type 0", Seen::Nothing),
        (ToServer, V3, "F0 00", 0x81, "type 15 is reserved in 3.1.1", Seen::Nothing),
        (ToServer, V5, "C1 00", 0x81, "PINGREQ has flags 0001, not 0000", Seen::Packet),
        (ToServer, V5, "60 02 0001", 0x81, "PUBREL has flags 0000, not 0010", Seen::Packet),
        (ToServer, V3, "80 06 0001 0001 61 00", 0x81, "SUBSCRIBE has flags 0000", Seen::Packet),
        (ToServer, V3, "A0 05 0001 0001 61", 0x81, "UNSUBSCRIBE has flags 0000", Seen::Packet),
        (ToServer, V5, "C0 80 00", 0x81, "not encoded in the fewest bytes", Seen::Packet),
        (ToServer, V5, "C0 01 00", 0x81, "1 bytes follow the end of PINGREQ", Seen::Packet),
        (ToServer, V3, "40 03 0001 00", 0x81, "1 bytes follow the end of PUBACK", Seen::Packet),
        (ToClient, V3, "B0 03 0001 00", 0x81, "1 bytes follow the end of UNSUBACK", Seen::Packet),
        (ToServer, V5, "30 E6 07", 0x95, "PUBLISH of 1001 bytes is above the limit of 1000", Seen::Lawful),
    ]);
}

#[test]
fn directions() {
    let wrong_end = "came from the end that must not send it";
    check(&[
        (ToServer, V5, "20 03 00 00 00", 0x82, wrong_end, Seen::Lawful),
        (ToServer, V5, "90 04 0001 00 00", 0x82, wrong_end, Seen::Lawful),
        (ToServer, V3, "B0 02 0001", 0x82, wrong_end, Seen::Lawful),
        (ToServer, V3, "D0 00", 0x82, wrong_end, Seen::Lawful),
        (ToClient, V3, "10 0E 0004 4D515454 04 02 0000 0002 6162", 0x82, wrong_end, Seen::Lawful),
        (ToClient, V3, "82 06 0001 0001 61 00", 0x82, wrong_end, Seen::Lawful),
        (ToClient, V3, "A2 05 0001 0001 61", 0x82, wrong_end, Seen::Lawful),
        (ToClient, V5, "C0 00", 0x82, wrong_end, Seen::Lawful),
        (ToClient, V3, "E0 00", 0x82, wrong_end, Seen::Lawful),
        (
            ToClient,
            V5,
            "E0 07 00 05 11 00000001",
            0x82,
            "DISCONNECT from a server has a session expiry",
            Seen::Lawful,
        ),
        (
            ToServer,
            V5,
            "30 06 0001 61 02 0B 01",
            0x82,
            "PUBLISH from a client has a subscription identifier",
            Seen::Lawful,
        ),
        (First, V5, "C0 00", 0x82, "the first packet is PINGREQ, not CONNECT", Seen::Lawful),
    ]);
}

#[test]
fn connects() {
    check(&[
        (
            First,
            V3,
            "10 0C 0004 4D515458 04 02 0000 0000",
            0x84,
            "the protocol name is \"MQTX\"",
            Seen::Packet,
        ),
        (
            First,
            V3,
            "10 0E 0006 4D5149736470 03 02 0000 0000",
            0x84,
            "the protocol name is \"MQIsdp\"",
            Seen::Nothing,
        ),
        (First, V5, "10 0D 0004 4D515454 06 02 0000 00 0000", 0x84, "protocol level 6", Seen::Nothing),
        (First, V3, "10 0C 0004 4D515454 04 03 0000 0000", 0x81, "the reserved connect flag", Seen::Packet),
        (First, V3, "10 0C 0004 4D515454 04 0A 0000 0000", 0x81, "a will QoS without a will", Seen::Packet),
        (First, V3, "10 0C 0004 4D515454 04 22 0000 0000", 0x81, "will retain without a will", Seen::Packet),
        (
            First,
            V3,
            "10 11 0004 4D515454 04 1E 0000 0000 0001 61 0000",
            0x81,
            "the will has QoS 3",
            Seen::Nothing,
        ),
        (
            First,
            V3,
            "10 11 0004 4D515454 04 06 0000 0000 0001 23 0000",
            0x90,
            "will topic contains a wildcard",
            Seen::Packet,
        ),
        (
            First,
            V3,
            "10 10 0004 4D515454 04 06 0000 0000 0000 0000",
            0x90,
            "the will topic is empty",
            Seen::Packet,
        ),
        (
            First,
            V3,
            "10 0E 0004 4D515454 04 42 0000 0000 0000",
            0x81,
            "a password but no user name",
            Seen::Packet,
        ),
        (
            First,
            V3,
            "10 0C 0004 4D515454 04 82 0000 0000",
            0x81,
            "the packet ends inside the user name",
            Seen::Nothing,
        ),
        (First, V3, "10 0D 0004 4D515454 04 02 0000 0000 00", 0x81, "1 bytes follow the end", Seen::Packet),
        (
            First,
            V5,
            "10 10 0004 4D515454 05 02 0000 03 210000 0000",
            0x82,
            "receive maximum is 0",
            Seen::Packet,
        ),
        (
            First,
            V5,
            "10 10 0004 4D515454 05 02 0000 03 160000 0000",
            0x82,
            "without an authentication method",
            Seen::Packet,
        ),
    ]);
}

#[test]
fn publishes() {
    check(&[
        (ToServer, V3, "36 05 0001 61 0001", 0x81, "PUBLISH has QoS 3", Seen::Nothing),
        (ToServer, V3, "38 03 0001 61", 0x81, "PUBLISH at QoS 0 has DUP set", Seen::Packet),
        (ToServer, V3, "32 05 0001 61 0000", 0x82, "PUBLISH has packet id 0", Seen::Packet),
        (ToServer, V3, "32 04 0001 61 00", 0x81, "the packet ends inside the packet id", Seen::Nothing),
        (ToServer, V3, "30 02 0000", 0x81, "the topic name is empty", Seen::Packet),
        (ToServer, V5, "30 03 0000 00", 0x82, "there is no topic alias", Seen::Packet),
        (ToServer, V3, "30 03 0001 23", 0x90, "the topic name contains a wildcard at byte 0", Seen::Packet),
        (
            ToServer,
            V3,
            "30 05 0003 612F2B",
            0x90,
            "the topic name contains a wildcard at byte 2",
            Seen::Packet,
        ),
        (ToServer, V3, "30 03 0001 00", 0x81, "the topic name contains U+0000", Seen::Packet),
        (ToServer, V3, "30 03 0001 FF", 0x81, "the topic name is not UTF-8", Seen::Packet),
        (ToServer, V3, "30 05 0003 EDA080", 0x81, "the topic name is not UTF-8", Seen::Packet),
        (ToServer, V3, "30 03 0002 61", 0x81, "the packet ends inside the topic name", Seen::Nothing),
    ]);
}

#[test]
fn properties() {
    check(&[
        (ToServer, V5, "30 07 0001 61 03 23 0000", 0x94, "topic alias is 0", Seen::Packet),
        (ToServer, V5, "30 06 0001 61 02 01 02", 0x82, "payload format indicator is 2", Seen::Packet),
        (
            ToServer,
            V5,
            "30 08 0001 61 04 01 00 01 00",
            0x82,
            "payload format indicator stands twice in PUBLISH",
            Seen::Packet,
        ),
        (
            ToServer,
            V5,
            "30 07 0001 61 03 21 0001",
            0x81,
            "receive maximum may not stand in PUBLISH",
            Seen::Packet,
        ),
        (ToServer, V5, "30 06 0001 61 02 7F 00", 0x81, "there is no property 0x7F", Seen::Nothing),
        (ToServer, V5, "30 05 0001 61 02 01", 0x81, "the packet ends inside the properties", Seen::Nothing),
        (
            ToServer,
            V5,
            "30 05 0001 61 01 01",
            0x81,
            "ends inside the payload format indicator",
            Seen::Nothing,
        ),
        (
            ToServer,
            V5,
            "30 05 0001 61 80 00",
            0x81,
            "the property length is not encoded in the fewest bytes",
            Seen::Packet,
        ),
        (
            ToServer,
            V5,
            "30 08 0001 61 FFFFFFFF 01",
            0x81,
            "the property length is longer than four bytes",
            Seen::Nothing,
        ),
        (
            ToServer,
            V5,
            "30 08 0001 61 04 08 0001 2B",
            0x82,
            "the response topic contains a wildcard",
            Seen::Packet,
        ),
        (ToServer, V5, "82 09 0001 02 0B 00 0001 61 00", 0x82, "subscription identifier is 0", Seen::Packet),
        (
            ToServer,
            V5,
            "82 0B 0001 04 0B 01 0B 02 0001 61 00",
            0x82,
            "stands twice in SUBSCRIBE",
            Seen::Packet,
        ),
        (ToClient, V5, "20 08 00 00 05 27 00000000", 0x82, "maximum packet size is 0", Seen::Packet),
        (ToClient, V5, "20 05 00 00 02 24 02", 0x82, "maximum QoS is 2", Seen::Packet),
        (ToClient, V5, "20 05 00 00 02 25 02", 0x82, "retain available is 2", Seen::Packet),
        (
            ToClient,
            V5,
            "20 07 00 00 04 26 0001 61",
            0x81,
            "ends inside a user property's value",
            Seen::Nothing,
        ),
    ]);
}

#[test]
fn acknowledgements() {
    check(&[
        (ToServer, V3, "40 02 0000", 0x82, "PUBACK has packet id 0", Seen::Packet),
        (ToServer, V5, "62 02 0000", 0x82, "PUBREL has packet id 0", Seen::Packet),
        (
            ToServer,
            V5,
            "40 03 0001 92",
            0x82,
            "PUBACK may not carry 0x92 packet identifier not found",
            Seen::Packet,
        ),
        (ToServer, V5, "70 03 0001 10", 0x82, "PUBCOMP may not carry 0x10", Seen::Packet),
        (ToServer, V5, "50 01 00", 0x81, "the packet ends inside the packet id", Seen::Nothing),
        (ToServer, V5, "50 05 0001 00 00 00", 0x81, "1 bytes follow the end of PUBREC", Seen::Packet),
        (ToClient, V3, "20 02 02 00", 0x81, "reserved connect acknowledge flags", Seen::Packet),
        (ToClient, V3, "20 02 01 05", 0x82, "a refused CONNECT has session present", Seen::Packet),
        (ToClient, V3, "20 02 00 06", 0x82, "CONNACK return code 6 is reserved", Seen::Packet),
        (ToClient, V3, "20 02 00 84", 0x82, "CONNACK return code 132 is reserved", Seen::Packet),
        (ToClient, V5, "20 03 00 01 00", 0x82, "CONNACK may not carry 0x01", Seen::Packet),
        (ToClient, V3, "90 03 0001 87", 0x82, "SUBACK may not carry 0x87", Seen::Packet),
        (ToClient, V5, "90 04 0001 00 03", 0x82, "SUBACK may not carry 0x03", Seen::Packet),
        (ToClient, V3, "90 02 0001", 0x82, "SUBACK has no reason code", Seen::Packet),
        (ToClient, V5, "B0 03 0001 00", 0x82, "UNSUBACK has no reason code", Seen::Packet),
        (ToClient, V5, "B0 04 0000 00 00", 0x82, "UNSUBACK has packet id 0", Seen::Packet),
    ]);
}

#[test]
fn a_failure_that_is_not_listed_is_a_failure_where_that_was_asked_for() {
    let read = |version, frame: &str| {
        let mut decoder = Decoder::client(version, SIZE_MAX).taking_any_failure();
        decoder.decode(&mut bytes(frame).into())
    };
    for frame in ["40 03 0001 95", "50 03 0001 95", "90 04 0001 00 95", "20 03 00 8D 00", "E0 01 91"] {
        assert!(matches!(read(Version::V5_0, frame), Ok(Some(_))), "{frame}");
        assert!(client(Version::V5_0, SIZE_MAX).decode(&mut bytes(frame).into()).is_err(), "{frame}");
    }
    assert!(read(Version::V3_1_1, "90 03 0001 87").is_ok());
    // No failure, or none that ends what it answers.
    for frame in ["40 03 0001 01", "62 03 0001 95", "70 03 0001 95", "90 04 0001 00 03"] {
        assert!(read(Version::V5_0, frame).is_err(), "{frame}");
    }
}

#[test]
fn subscriptions() {
    check(&[
        (ToServer, V3, "82 02 0001", 0x82, "SUBSCRIBE has no topic filter", Seen::Packet),
        (ToServer, V5, "A2 03 0001 00", 0x82, "UNSUBSCRIBE has no topic filter", Seen::Packet),
        (ToServer, V3, "82 06 0000 0001 61 00", 0x82, "SUBSCRIBE has packet id 0", Seen::Packet),
        (ToServer, V3, "A2 05 0000 0001 61", 0x82, "UNSUBSCRIBE has packet id 0", Seen::Packet),
        (ToServer, V3, "82 06 0001 0001 61 03", 0x82, "asks for QoS 3", Seen::Nothing),
        (ToServer, V3, "82 06 0001 0001 61 04", 0x81, "reserved subscription options", Seen::Packet),
        (ToServer, V5, "82 07 0001 00 0001 61 40", 0x81, "reserved subscription options", Seen::Packet),
        (ToServer, V5, "82 07 0001 00 0001 61 30", 0x82, "retain handling 3", Seen::Nothing),
        (ToServer, V3, "82 05 0001 0000 00", 0x8F, "the topic filter \"\" is empty", Seen::Packet),
        (ToServer, V3, "82 08 0001 0003 612F23 00", 0x00, "", Seen::Lawful),
        (ToServer, V3, "82 08 0001 0003 232F61 00", 0x8F, "has a # at byte 0", Seen::Packet),
        (ToServer, V3, "A2 06 0001 0002 612B", 0x8F, "has a + at byte 1", Seen::Packet),
        (ToServer, V3, "82 05 0001 0001 61", 0x81, "ends inside the subscription options", Seen::Nothing),
        (ToServer, V5, "82 0F 0001 00 0009 2473686172652F2F61 00", 0x8F, "an empty share name", Seen::Packet),
        (ToServer, V3, "82 0E 0001 0009 2473686172652F2F61 00", 0x00, "", Seen::Lawful),
        (ToServer, V5, "82 10 0001 00 000A 2473686172652F672F61 04", 0x82, "No Local", Seen::Packet),
    ]);
}

#[test]
fn endings() {
    check(&[
        (ToServer, V3, "E0 01 00", 0x81, "1 bytes follow the end of DISCONNECT", Seen::Packet),
        (ToServer, V5, "E0 01 92", 0x82, "DISCONNECT may not carry 0x92", Seen::Packet),
        (ToServer, V5, "F0 01 01", 0x82, "AUTH may not carry 0x01", Seen::Packet),
        (ToServer, V5, "F0 06 18 04 16 0001 61", 0x82, "without an authentication method", Seen::Packet),
    ]);
}

#[test]
fn a_fault_in_the_fixed_header_is_refused_before_the_body_comes() {
    for (header, reason) in [("30 E7 07", 0x95), ("D0 7F", 0x82), ("C1 7F", 0x81), ("00 7F", 0x81)] {
        let mut buffer = BytesMut::from(&bytes(header)[..]);
        let refused = server(V5).decode(&mut buffer).expect_err(header);
        assert_eq!(refused.reason, ReasonCode(reason), "{header}: {refused}");
    }
}

#[test]
fn a_packet_of_exactly_the_limit_is_taken() {
    let frame = BytesMut::from(&bytes("30 06 0001 61 00 6162")[..]);
    assert!(matches!(client(V5, 8).decode(&mut frame.clone()), Ok(Some(_))));
    let refused = client(V5, 7).decode(&mut frame.clone()).expect_err("too large");
    assert_eq!(refused.reason, ReasonCode::PACKET_TOO_LARGE);
}

#[test]
fn a_length_of_five_bytes_ends_both_readings() {
    let buffer = BytesMut::from(&bytes("30 FFFFFFFF 7F")[..]);
    let strict = client(V5, SIZE_MAX).decode(&mut buffer.clone()).expect_err("overlong");
    assert_eq!(strict.reason, ReasonCode::MALFORMED_PACKET);
    assert_eq!(observe(&mut buffer.clone(), V5), Err(strict));
}

#[test]
fn a_longer_length_than_needed_is_lawful_in_3_1_1() {
    let mut decoder = server(V3);
    assert_eq!(decoder.decode(&mut BytesMut::from(&bytes("C0 80 00")[..])), Ok(Some(Packet::Pingreq)));
    let observed =
        observe(&mut BytesMut::from(&bytes("C0 80 00")[..]), V3).expect("readable").expect("whole");
    assert_eq!(observed.irregularities, Vec::<String>::new());
}

#[test]
fn a_refused_connect_still_tells_the_version_to_answer_in() {
    let rows = [
        ("10 0C 0004 4D515454 04 03 0000 0000", V3),
        ("10 0D 0004 4D515454 05 03 0000 00 0000", V5),
        ("10 0D 0004 4D515454 06 02 0000 00 0000", V5),
        ("10 0E 0006 4D5149736470 03 02 0000 0000", V3),
        ("10 02 0009", V3),
    ];
    for (frame, version) in rows {
        let mut decoder = Decoder::server(SIZE_MAX);
        decoder.decode(&mut BytesMut::from(&bytes(frame)[..])).expect_err(frame);
        assert_eq!(decoder.version(), Some(version), "{frame}");
    }
}

#[test]
fn a_second_connect_is_decoded_and_changes_no_version() {
    let mut decoder = server(V5);
    let second = decoder.decode(&mut BytesMut::from(&bytes(CONNECT_V3)[..]));
    assert!(matches!(second, Ok(Some(Packet::Connect(connect))) if connect.version == V3));
    assert_eq!(decoder.version(), Some(V5));
}

#[test]
fn a_lenient_reading_shows_the_unlawful_value_itself() {
    let Some(Packet::Publish(publish)) = seen("32 05 0001 61 0000", V3).0 else { panic!("no PUBLISH") };
    assert_eq!(publish.packet_id, Some(0));
    let Some(Packet::Publish(publish)) = seen("30 04 0002 61FF", V3).0 else { panic!("no PUBLISH") };
    assert_eq!(publish.topic, "a\u{FFFD}");
    let Some(Packet::Connack(connack)) = seen("20 02 00 06", V3).0 else { panic!("no CONNACK") };
    assert_eq!(connack.reason, ReasonCode(6));
    let Some(Packet::Publish(publish)) = seen("30 0D 0001 61 09 01 00 01 05 21 0000 25 09", V5).0 else {
        panic!("no PUBLISH")
    };
    assert_eq!(publish.properties.0.len(), 4);
}

#[test]
fn a_lenient_reading_names_every_fault() {
    let (_, faults) = seen("38 0B 0001 2B 07 01 02 01 00 21 0000", V5);
    let expected = ["DUP set", "is 2, neither", "stands twice", "may not stand", "is 0", "wildcard"];
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for (fault, words) in faults.iter().zip(expected) {
        assert!(fault.contains(words), "{words}: {faults:?}");
    }
}

#[test]
fn a_fault_does_not_hide_the_frame_after_it() {
    let mut buffer = BytesMut::from(&bytes("30 06 0001 61 02 7F 00 C0 00")[..]);
    let first = observe(&mut buffer, V5).expect("readable").expect("whole");
    assert_eq!((first.packet, first.raw), (None, bytes("30 06 0001 61 02 7F 00")));
    let second = observe(&mut buffer, V5).expect("readable").expect("whole");
    assert_eq!(second.packet, Some(Packet::Pingreq));
}

const CONNECT_V3: &str = "10 0C 0004 4D515454 04 02 0000 0000";
const CONNECT_V5: &str = "10 0D 0004 4D515454 05 02 0000 00 0000";

fn check(rows: &[Row]) {
    for (sent, version, frame, reason, words, seen) in rows {
        check_strict(*sent, *version, frame, *reason, words);
        check_lenient(*version, frame, words, *seen);
    }
}

fn check_strict(sent: Sent, version: Version, frame: &str, reason: u8, words: &str) {
    let mut decoder = match sent {
        ToServer => server(version),
        ToClient => client(version, SIZE_MAX),
        First => Decoder::server(SIZE_MAX),
    };
    match decoder.decode(&mut BytesMut::from(&bytes(frame)[..])) {
        Ok(packet) => assert!(packet.is_some() && reason == 0, "{frame}: taken as {packet:?}"),
        Err(refused) => {
            assert_eq!(refused.reason, ReasonCode(reason), "{frame}: {refused}");
            assert!(refused.detail.contains(words), "{frame}: {refused}");
        }
    }
}

fn check_lenient(version: Version, frame: &str, words: &str, expected: Seen) {
    let Ok(Some(observed)) = observe(&mut BytesMut::from(&bytes(frame)[..]), version) else {
        // A frame of which only the header is given.
        return assert_eq!(expected, Seen::Lawful, "{frame}");
    };
    assert_eq!(observed.raw, bytes(frame));
    assert_eq!(observed.packet.is_some(), expected != Seen::Nothing, "{frame}: {observed:?}");
    match expected {
        Seen::Lawful => assert_eq!(observed.irregularities, Vec::<String>::new(), "{frame}"),
        Seen::Packet | Seen::Nothing => {
            assert!(observed.irregularities.iter().any(|it| it.contains(words)), "{frame}: {observed:?}");
        }
    }
}

fn seen(frame: &str, version: Version) -> (Option<Packet>, Vec<String>) {
    let observed =
        observe(&mut BytesMut::from(&bytes(frame)[..]), version).expect("readable").expect("whole");
    (observed.packet, observed.irregularities)
}

/// A server's decoder that has seen a CONNECT of `version`.
fn server(version: Version) -> Decoder {
    let mut decoder = Decoder::server(SIZE_MAX);
    let connect = if version == V3 { CONNECT_V3 } else { CONNECT_V5 };
    let packet = decoder.decode(&mut BytesMut::from(&bytes(connect)[..])).expect("lawful");
    assert!(matches!(packet, Some(Packet::Connect(_))));
    decoder
}

fn client(version: Version, packet_size_max: u32) -> Decoder {
    Decoder::client(version, packet_size_max)
}

/// Bytes from hex digits; spaces are for the reader.
fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.chars().filter_map(|it| it.to_digit(16)).map(|it| it as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
