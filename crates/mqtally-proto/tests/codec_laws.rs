//! Laws of the codec over generated packets and over bytes of any kind.

mod support;

use bytes::BytesMut;
use mqtally_proto::packet::{Connect, Decoder, Packet, Properties, Version, encode, observe};
use proptest::collection::vec;
use proptest::prelude::*;

const SIZE_MAX: u32 = 268_435_460;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_a_client_encodes_a_server_decodes((packets, version) in session(support::from_client)) {
        let wire = encode_all(&packets, version);
        prop_assert_eq!(decode_coalesced(Decoder::server(SIZE_MAX), &wire), Ok(packets));
    }

    #[test]
    fn what_a_server_encodes_a_client_decodes((packets, version) in packets(support::from_server)) {
        let wire = encode_all(&packets, version);
        prop_assert_eq!(decode_coalesced(Decoder::client(version, SIZE_MAX), &wire), Ok(packets));
    }

    #[test]
    fn bytes_one_by_one_decode_like_bytes_at_once((packets, version) in session(support::from_client)) {
        let wire = encode_all(&packets, version);
        let mut decoder = Decoder::server(SIZE_MAX);
        let mut buffer = BytesMut::new();
        let mut decoded = Vec::new();
        for byte in wire {
            buffer.extend_from_slice(&[byte]);
            decoded.extend(decoder.decode(&mut buffer).expect("lawful"));
        }
        prop_assert_eq!(decoded, packets);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn a_lawful_frame_is_observed_as_it_is_decoded((version, packet) in support::versioned_packet()) {
        let wire = encode_all(std::slice::from_ref(&packet), version);
        let observed = observe(&mut wire.clone(), version).expect("a frame").expect("a whole one");
        prop_assert_eq!(observed.irregularities, Vec::<String>::new());
        prop_assert_eq!(observed.packet, Some(packet));
        prop_assert_eq!(&observed.raw[..], &wire[..]);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..64), version in support::version()) {
        check_any_bytes(&bytes, version)?;
    }

    #[test]
    fn no_mutation_makes_a_decoder_panic(
        (version, packet) in support::versioned_packet(),
        mutations in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut wire = encode_all(&[packet], version).to_vec();
        for (index, byte) in mutations {
            let at = index.index(wire.len());
            wire[at] = byte;
        }
        wire.truncate(cut.index(wire.len()) + 1);
        check_any_bytes(&wire, version)?;
    }
}

/// Neither reading panics. What is observed as lawful, one end or the other takes as the same packet; what an end
/// takes is observed as lawful, and encodes to something that it takes again.
fn check_any_bytes(bytes: &[u8], version: Version) -> Result<(), TestCaseError> {
    let observed = observe(&mut BytesMut::from(bytes), version);
    let taken = taken_by_either_end(bytes, version);
    let lawful = observed.ok().flatten().filter(|seen| seen.irregularities.is_empty());
    prop_assert_eq!(lawful.and_then(|seen| seen.packet), taken.clone());
    if let Some(packet) = taken {
        let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
        let again = encode_all(std::slice::from_ref(&packet), version);
        prop_assert_eq!(taken_by_either_end(&again, version), Some(packet));
    }
    Ok(())
}

fn taken_by_either_end(bytes: &[u8], version: Version) -> Option<Packet> {
    let mut server = Decoder::server(SIZE_MAX);
    let connect = Packet::Connect(Box::new(empty_connect(version)));
    server.decode(&mut encode_all(&[connect], version)).expect("lawful");
    [Decoder::client(version, SIZE_MAX), server]
        .into_iter()
        .find_map(|mut decoder| decoder.decode(&mut BytesMut::from(bytes)).ok().flatten())
}

fn empty_connect(version: Version) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id: "".into(),
        will: None,
        username: None,
        password: None,
        properties: Properties::default(),
    }
}

/// A CONNECT and up to five packets after it, as one client's end of a connection.
fn session(after: fn(Version) -> BoxedStrategy<Packet>) -> impl Strategy<Value = (Vec<Packet>, Version)> {
    let connect = support::version().prop_flat_map(support::connect);
    connect.prop_flat_map(move |connect: Connect| {
        let version = connect.version;
        let first = Packet::Connect(Box::new(connect));
        vec(after(version), 0..6).prop_map(move |mut packets| {
            packets.insert(0, first.clone());
            (packets, version)
        })
    })
}

fn packets(of: fn(Version) -> BoxedStrategy<Packet>) -> impl Strategy<Value = (Vec<Packet>, Version)> {
    support::version().prop_flat_map(move |version| (vec(of(version), 1..6), Just(version)))
}

fn encode_all(packets: &[Packet], version: Version) -> BytesMut {
    let mut wire = BytesMut::new();
    for packet in packets {
        encode(packet, version, &mut wire).expect("lawful");
    }
    wire
}

fn decode_coalesced(mut decoder: Decoder, wire: &[u8]) -> Result<Vec<Packet>, String> {
    let mut buffer = BytesMut::from(wire);
    let mut packets = Vec::new();
    while let Some(packet) = decoder.decode(&mut buffer).map_err(|error| error.to_string())? {
        packets.push(packet);
    }
    if buffer.is_empty() { Ok(packets) } else { Err(format!("{} bytes left", buffer.len())) }
}
