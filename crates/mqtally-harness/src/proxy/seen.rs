//! What rules can know of a packet, and of the link that it is on.

use super::Direction;
use bytestring::ByteString;
use mqtally_proto::packet::{Observed, Packet, Qos, Version};
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of topics that are remembered for the aliases of one direction; those beyond stay unknown.
const ALIAS_BYTES_MAX: usize = 256 << 10;

/// The type of a control packet, as the first byte of a packet says it; also of one that cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketKind(u8);

impl PacketKind {
    /// CONNECT.
    pub const CONNECT: Self = Self(1);
    /// CONNACK.
    pub const CONNACK: Self = Self(2);
    /// PUBLISH.
    pub const PUBLISH: Self = Self(3);
    /// PUBACK.
    pub const PUBACK: Self = Self(4);
    /// PUBREC.
    pub const PUBREC: Self = Self(5);
    /// PUBREL.
    pub const PUBREL: Self = Self(6);
    /// PUBCOMP.
    pub const PUBCOMP: Self = Self(7);
    /// SUBSCRIBE.
    pub const SUBSCRIBE: Self = Self(8);
    /// SUBACK.
    pub const SUBACK: Self = Self(9);
    /// UNSUBSCRIBE.
    pub const UNSUBSCRIBE: Self = Self(10);
    /// UNSUBACK.
    pub const UNSUBACK: Self = Self(11);
    /// PINGREQ.
    pub const PINGREQ: Self = Self(12);
    /// PINGRESP.
    pub const PINGRESP: Self = Self(13);
    /// DISCONNECT.
    pub const DISCONNECT: Self = Self(14);
    /// AUTH.
    pub const AUTH: Self = Self(15);

    /// The names, in the order of their numbers; type 0 is reserved and has none that a rule could say.
    pub const NAMES: [&'static str; 15] = [
        "CONNECT",
        "CONNACK",
        "PUBLISH",
        "PUBACK",
        "PUBREC",
        "PUBREL",
        "PUBCOMP",
        "SUBSCRIBE",
        "SUBACK",
        "UNSUBSCRIBE",
        "UNSUBACK",
        "PINGREQ",
        "PINGRESP",
        "DISCONNECT",
        "AUTH",
    ];

    /// The type that a packet's first byte says.
    pub const fn of_first_byte(first: u8) -> Self {
        Self(first >> 4)
    }

    /// The type with this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        let index = Self::NAMES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        u8::try_from(index + 1).ok().map(Self)
    }

    /// The name as the specification writes it; `RESERVED` for type 0.
    pub fn name(self) -> &'static str {
        let index = usize::from(self.0).checked_sub(1);
        index.and_then(|index| Self::NAMES.get(index)).copied().unwrap_or("RESERVED")
    }
}

impl fmt::Display for PacketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One packet, as far as rules and the packet log look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which way it goes.
    pub direction: Direction,
    /// Its type.
    pub kind: PacketKind,
    /// Bytes of the whole packet.
    pub len: usize,
    /// Packet id, for a packet that has one.
    pub packet_id: Option<u16>,
    /// QoS of a PUBLISH.
    pub qos: Option<Qos>,
    /// DUP of a PUBLISH.
    pub dup: bool,
    /// Topic of a PUBLISH; what its alias stands for, where it has only that.
    pub topic: Option<ByteString>,
    /// Client id of a CONNECT.
    pub client: Option<ByteString>,
    /// Each way in which it is unlawful, in words.
    pub irregularities: Vec<String>,
}

/// A link and its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The link's number, from 1, in the order of acceptance; never used twice.
    pub link: u64,
    /// The client id, once CONNECT was seen.
    pub client: Option<ByteString>,
    /// Which connection of this client it is, from 1. Unknown before CONNECT, and for a client beyond those that can
    /// be counted.
    pub connection: Option<u32>,
    /// The version that CONNECT asked for; 5.0 until then.
    pub version: Version,
}

impl Peer {
    /// A link on which nothing has been said.
    pub const fn new(link: u64) -> Self {
        Self { link, client: None, connection: None, version: Version::V5_0 }
    }
}

impl Seen {
    /// A packet of which nothing but its type is known.
    pub const fn bare(direction: Direction, kind: PacketKind, len: usize) -> Self {
        Self {
            direction,
            kind,
            len,
            packet_id: None,
            qos: None,
            dup: false,
            topic: None,
            client: None,
            irregularities: Vec::new(),
        }
    }

    /// The summary of an observed packet. Topic aliases are learned and looked up in `aliases`.
    pub(super) fn of(direction: Direction, observed: &Observed, aliases: &mut Aliases) -> Self {
        let first = observed.raw.first().copied().unwrap_or_default();
        let bare = Self::bare(direction, PacketKind::of_first_byte(first), observed.raw.len());
        let seen = Self { irregularities: observed.irregularities.clone(), ..bare };
        match &observed.packet {
            Some(Packet::Publish(publish)) => Self {
                packet_id: publish.packet_id,
                qos: Some(publish.qos),
                dup: publish.dup,
                topic: Some(aliases.resolve(&publish.topic, publish.properties.topic_alias())),
                ..seen
            },
            Some(Packet::Connect(connect)) => Self { client: Some(connect.client_id.clone()), ..seen },
            Some(packet) => Self { packet_id: packet.packet_id(), ..seen },
            None => seen,
        }
    }

    /// The summary of a packet of `len` bytes, too large to be read whole, by its `head`.
    pub(super) fn of_head(direction: Direction, len: usize, first: u8, body: &[u8]) -> Self {
        let seen = Self::bare(direction, PacketKind::of_first_byte(first), len);
        if seen.kind != PacketKind::PUBLISH {
            return seen;
        }
        let qos = Qos::from_u8(first >> 1 & 3);
        let topic = prefixed(body).and_then(|(text, rest)| {
            let topic = std::str::from_utf8(text).ok()?;
            Some((ByteString::from(topic), rest.first_chunk().map(|id| u16::from_be_bytes(*id))))
        });
        let (topic, packet_id) = topic.unzip();
        let packet_id = packet_id.flatten().filter(|_| qos != Some(Qos::AtMostOnce));
        Self { packet_id, qos, dup: first & 8 != 0, topic, ..seen }
    }
}

fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_be_bytes(*len).into())
}

/// What the topic aliases of one direction stand for.
#[derive(Debug, Default)]
pub(super) struct Aliases {
    topics: BTreeMap<u16, ByteString>,
    bytes: usize,
}

impl Aliases {
    fn resolve(&mut self, topic: &ByteString, alias: Option<u16>) -> ByteString {
        let Some(alias) = alias else { return topic.clone() };
        if topic.is_empty() {
            return self.topics.get(&alias).cloned().unwrap_or_default();
        }
        self.bytes -= self.topics.remove(&alias).map_or(0, |old| old.len());
        if self.bytes + topic.len() <= ALIAS_BYTES_MAX {
            self.bytes += topic.len();
            // A copy of its own: the packet's memory must not stay for it.
            self.topics.insert(alias, ByteString::from(&**topic));
        }
        topic.clone()
    }
}
