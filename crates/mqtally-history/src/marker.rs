//! Message identity. A packet id never identifies a message; a marker inside the payload does.

/// Identity of a message that a run published.
///
/// `sequence` is dense for each publisher and stream, from 0, so that what is missing has a number. A stream is one
/// topic at one QoS of one publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The publishing process of this run; a restarted publisher is a new one.
    pub publisher: u32,
    /// The publisher's stream.
    pub stream: u16,
    /// Place in the stream.
    pub sequence: u64,
}

/// What a payload carries to be recognised: 32 bytes in front of a binary payload, or the same in hexadecimal as the
/// value of `"mqtally"` in a JSON envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Marker {
    /// The run, so that what an earlier run left behind is foreign and not a phantom.
    pub run: u32,
    /// Which message.
    pub message: MessageId,
    /// How often it was submitted anew (not: re-sent in its session) before this copy.
    pub attempt: u16,
    /// QoS it was published at.
    pub qos: u8,
    /// What the message is for.
    pub purpose: Purpose,
}

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// Part of the workload.
    Load = 0,
    /// Ends a stream: what was completed before it and is missing when it arrives is lost.
    Sentinel = 1,
    /// Probes that a subscription is alive.
    Canary = 2,
}

/// What a received payload says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identity {
    /// It carries a whole marker of this run.
    Ours(Marker),
    /// It carries a whole marker of another run.
    Foreign,
    /// It begins as a marker does and is damaged.
    Corrupt,
    /// It carries no marker.
    Unmarked,
}

/// Bytes of an encoded marker.
pub const MARKER_LEN: usize = 32;

const MAGIC: [u8; 4] = *b"mQt1";
const CRC_AT: usize = MARKER_LEN - 4;
/// The JSON key whose string value is a marker in hexadecimal.
const JSON_KEY: &[u8] = b"\"mqtally\"";

impl Marker {
    /// The marker's 32 bytes, integers in network order:
    ///
    /// | bytes | field |
    /// |---|---|
    /// | 0–3 | `mQt1`: magic and version of this layout |
    /// | 4–7 | run |
    /// | 8–11 | publisher |
    /// | 12–19 | sequence |
    /// | 20–21 | attempt |
    /// | 22–23 | stream |
    /// | 24 | QoS |
    /// | 25 | purpose |
    /// | 26–27 | zero |
    /// | 28–31 | CRC-32 (IEEE) of bytes 0–27 |
    pub fn encode(&self) -> [u8; MARKER_LEN] {
        let mut bytes = [0; MARKER_LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&self.run.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.message.publisher.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.message.sequence.to_be_bytes());
        bytes[20..22].copy_from_slice(&self.attempt.to_be_bytes());
        bytes[22..24].copy_from_slice(&self.message.stream.to_be_bytes());
        bytes[24] = self.qos;
        bytes[25] = self.purpose as u8;
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// The same in 64 lower-case hexadecimal digits, for the value of `"mqtally"` in a JSON envelope.
    pub fn to_hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let nibbles = self.encode().into_iter().flat_map(|byte| [byte >> 4, byte & 15]);
        nibbles.map(|nibble| char::from(DIGITS[usize::from(nibble)])).collect()
    }
}

impl Identity {
    /// What `payload` says about itself to the run with the number `run`.
    ///
    /// A marker stands in front of the payload, or as a hexadecimal string behind the key `"mqtally"` of a payload
    /// that begins with `{`. A damaged magic in front of an otherwise whole marker is damage, not absence.
    pub fn of(run: u32, payload: &[u8]) -> Identity {
        match payload.first() {
            Some(b'{') => Self::of_json(run, payload),
            _ => Self::of_binary(run, payload),
        }
    }

    fn of_binary(run: u32, payload: &[u8]) -> Identity {
        match payload.first_chunk::<MARKER_LEN>() {
            Some(bytes) => Self::of_marker(run, bytes),
            None if payload.starts_with(&MAGIC) => Identity::Corrupt,
            None => Identity::Unmarked,
        }
    }

    fn of_json(run: u32, payload: &[u8]) -> Identity {
        let Some(value) = json_value(payload) else { return Identity::Unmarked };
        match decode_hex(value) {
            // In this place nothing but a marker can stand, so an unknown magic is damage too.
            Some(bytes) => match Self::of_marker(run, &bytes) {
                Identity::Unmarked => Identity::Corrupt,
                identity => identity,
            },
            None => Identity::Corrupt,
        }
    }

    fn of_marker(run: u32, bytes: &[u8; MARKER_LEN]) -> Identity {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&MAGIC);
        hasher.update(&bytes[4..CRC_AT]);
        let whole = hasher.finalize().to_be_bytes() == bytes[CRC_AT..];
        let magic = bytes.starts_with(&MAGIC);
        match (magic, whole) {
            (true, true) => Self::of_fields(run, bytes),
            (false, false) => Identity::Unmarked,
            _ => Identity::Corrupt,
        }
    }

    fn of_fields(run: u32, bytes: &[u8; MARKER_LEN]) -> Identity {
        let (_, rest) = take::<4>(bytes);
        let (theirs, rest) = take::<4>(rest);
        let (publisher, rest) = take::<4>(rest);
        let (sequence, rest) = take::<8>(rest);
        let (attempt, rest) = take::<2>(rest);
        let (stream, rest) = take::<2>(rest);
        if u32::from_be_bytes(theirs) != run {
            return Identity::Foreign;
        }
        let (qos, purpose) = match (rest[0], Purpose::from_byte(rest[1])) {
            (qos @ 0..=2, Some(purpose)) => (qos, purpose),
            _ => return Identity::Corrupt,
        };
        let message = MessageId {
            publisher: u32::from_be_bytes(publisher),
            stream: u16::from_be_bytes(stream),
            sequence: u64::from_be_bytes(sequence),
        };
        Identity::Ours(Marker { run, message, attempt: u16::from_be_bytes(attempt), qos, purpose })
    }
}

impl Purpose {
    /// The purpose whose encoding is `byte`.
    pub(crate) fn from_byte(byte: u8) -> Option<Purpose> {
        [Purpose::Load, Purpose::Sentinel, Purpose::Canary].into_iter().find(|purpose| *purpose as u8 == byte)
    }
}

/// Splits `N` bytes off a slice of the marker, which is long enough by construction.
fn take<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    let mut head = [0; N];
    head.copy_from_slice(&bytes[..N]);
    (head, &bytes[N..])
}

/// The text between the quotes behind the key; empty when something else than a string stands there.
fn json_value(payload: &[u8]) -> Option<&[u8]> {
    let value = behind_key(payload)?.trim_ascii_start().strip_prefix(b"\"").unwrap_or_default();
    let end = value.iter().position(|byte| *byte == b'"').unwrap_or(value.len());
    Some(&value[..end])
}

/// What follows the colon behind the key. A quote is rare enough in an envelope to look for it alone.
fn behind_key(payload: &[u8]) -> Option<&[u8]> {
    let mut rest = payload;
    loop {
        let quote = rest.iter().position(|byte| *byte == b'"')?;
        rest = &rest[quote..];
        let colon = rest.strip_prefix(JSON_KEY).map(<[u8]>::trim_ascii_start);
        if let Some(value) = colon.and_then(|rest| rest.strip_prefix(b":")) {
            return Some(value);
        }
        rest = &rest[1..];
    }
}

fn decode_hex(text: &[u8]) -> Option<[u8; MARKER_LEN]> {
    if text.len() != 2 * MARKER_LEN {
        return None;
    }
    let mut bytes = [0; MARKER_LEN];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_marker() -> impl Strategy<Value = Marker> {
        let purpose = prop_oneof![Just(Purpose::Load), Just(Purpose::Sentinel), Just(Purpose::Canary)];
        (any::<(u32, u32, u16, u64, u16)>(), 0..=2u8, purpose).prop_map(
            |((run, publisher, stream, sequence, attempt), qos, purpose)| Marker {
                run,
                message: MessageId { publisher, stream, sequence },
                attempt,
                qos,
                purpose,
            },
        )
    }

    fn json(marker: &Marker) -> Vec<u8> {
        format!(r#"{{"message_id":1,"content":"a\"b","mqtally": "{}","qos":1}}"#, marker.to_hex())
            .into_bytes()
    }

    fn binary(marker: &Marker, rest: &[u8]) -> Vec<u8> {
        [marker.encode().as_slice(), rest].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_marker_is_read_back(marker in any_marker(), rest: Vec<u8>) {
            prop_assert_eq!(Identity::of(marker.run, &binary(&marker, &rest)), Identity::Ours(marker));
            prop_assert_eq!(Identity::of(marker.run, &json(&marker)), Identity::Ours(marker));
        }

        #[test]
        fn a_marker_of_another_run_is_foreign(marker in any_marker()) {
            let run = marker.run.wrapping_add(1);
            prop_assert_eq!(Identity::of(run, &binary(&marker, b"")), Identity::Foreign);
            prop_assert_eq!(Identity::of(run, &json(&marker)), Identity::Foreign);
        }

        #[test]
        fn one_flipped_bit_of_a_marker_is_damage(marker in any_marker(), bit in 0..MARKER_LEN * 8) {
            let mut payload = binary(&marker, b"body");
            payload[bit / 8] ^= 1 << (bit % 8);
            // A flip can make the first byte `{`-like only if the magic allowed it; it does not.
            prop_assert_eq!(Identity::of(marker.run, &payload), Identity::Corrupt);
        }

        #[test]
        fn one_flipped_bit_of_an_envelope_never_makes_another_message(marker in any_marker(), at: usize) {
            let mut payload = json(&marker);
            let bit = at % (payload.len() * 8);
            payload[bit / 8] ^= 1 << (bit % 8);
            if let Identity::Ours(read) = Identity::of(marker.run, &payload) {
                prop_assert_eq!(read, marker);
            }
        }

        #[test]
        fn any_bytes_have_an_identity(payload: Vec<u8>, run: u32) {
            let unmarked = matches!(Identity::of(run, &payload), Identity::Unmarked | Identity::Corrupt);
            prop_assert!(unmarked);
        }
    }

    #[test]
    fn the_layout_stands() {
        let message = MessageId { publisher: 2, stream: 3, sequence: 4 };
        let marker = Marker { run: 1, message, attempt: 5, qos: 2, purpose: Purpose::Canary };
        let hex = marker.to_hex();
        assert_eq!(&hex[..56], "6d517431000000010000000200000000000000040005000302020000");
    }

    #[test]
    fn what_carries_no_marker_is_unmarked_and_a_cut_marker_is_corrupt() {
        let message = MessageId { publisher: 0, stream: 0, sequence: 0 };
        let marker = Marker { run: 1, message, attempt: 0, qos: 0, purpose: Purpose::Load };
        assert_eq!(Identity::of(1, b""), Identity::Unmarked);
        assert_eq!(Identity::of(1, b"22.5"), Identity::Unmarked);
        assert_eq!(Identity::of(1, br#"{"content":"mqtally"}"#), Identity::Unmarked);
        assert_eq!(Identity::of(1, br#"{"mqtally":7}"#), Identity::Corrupt);
        assert_eq!(Identity::of(1, br#"{"mqtally"#), Identity::Unmarked);
        assert_eq!(Identity::of(1, &marker.encode()[..20]), Identity::Corrupt);
    }
}
