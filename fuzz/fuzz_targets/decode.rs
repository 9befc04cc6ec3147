//! Any bytes, both readings, both versions and directions: nothing panics, the readings agree, and what is taken can
//! be written and taken again.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mqtally_proto::packet::{Decoder, Packet, Version, encode, observe};

const SIZE_MAX: u32 = 268_435_460;

fuzz_target!(|bytes: &[u8]| {
    for version in [Version::V3_1_1, Version::V5_0] {
        read_all(Decoder::client(version, SIZE_MAX), bytes);
        observe_all(version, bytes);
    }
    read_all(Decoder::server(SIZE_MAX), bytes);
});

fn read_all(mut decoder: Decoder, bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    while let Ok(Some(packet)) = decoder.decode(&mut buffer) {
        let version = match &packet {
            Packet::Connect(connect) => connect.version,
            _ => decoder.version().expect("known after the first packet"),
        };
        let mut again = BytesMut::new();
        encode(&packet, version, &mut again).expect("what is taken can be written");
        let observed = observe(&mut again, version).expect("readable").expect("whole");
        assert_eq!(observed.packet, Some(packet));
        assert!(observed.irregularities.is_empty());
    }
}

fn observe_all(version: Version, bytes: &[u8]) {
    let mut buffer = BytesMut::from(bytes);
    let mut seen = 0;
    while let Ok(Some(observed)) = observe(&mut buffer, version) {
        assert_eq!(&observed.raw[..], &bytes[seen..seen + observed.raw.len()], "evidence was lost");
        assert!(observed.packet.is_some() || !observed.irregularities.is_empty());
        seen += observed.raw.len();
    }
}
