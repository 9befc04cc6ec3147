//! A packet as the recorder saw it, reduced to what judging needs.

use crate::marker::Identity;
use std::sync::Arc;

/// The version of MQTT that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1.1.
    V3_1_1,
    /// MQTT 5.0.
    V5_0,
}

impl Version {
    /// As reports print it: `3.1.1` or `5`.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V3_1_1 => "3.1.1",
            Version::V5_0 => "5",
        }
    }
}

/// An observed control packet. Reason codes are those of 5.0; a 3.1.1 packet without one shows 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// CONNECT.
    Connect(Connect),
    /// CONNACK.
    Connack(Connack),
    /// PUBLISH.
    Publish(Publish),
    /// PUBACK with packet id and reason.
    Puback(u16, u8),
    /// PUBREC with packet id and reason.
    Pubrec(u16, u8),
    /// PUBREL with packet id and reason.
    Pubrel(u16, u8),
    /// PUBCOMP with packet id and reason.
    Pubcomp(u16, u8),
    /// SUBSCRIBE.
    Subscribe(Subscribe),
    /// SUBACK: packet id and one code a filter.
    Suback(u16, Vec<u8>),
    /// UNSUBSCRIBE: packet id and filters.
    Unsubscribe(u16, Vec<Arc<str>>),
    /// UNSUBACK: packet id and codes (none in 3.1.1).
    Unsuback(u16, Vec<u8>),
    /// PINGREQ.
    Pingreq,
    /// PINGRESP.
    Pingresp,
    /// DISCONNECT with reason and, when the packet overrides it, session expiry interval (seconds).
    Disconnect(u8, Option<u32>),
    /// AUTH with reason.
    Auth(u8),
}

/// CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Clean Session or Clean Start.
    pub clean_start: bool,
    /// Session expiry interval in seconds: 5.0's property (absent is 0); in 3.1.1 0 with Clean Session 1 and
    /// `u32::MAX` with 0.
    pub session_expiry: u32,
    /// Keep-alive, seconds; 0 is off.
    pub keep_alive: u16,
    /// The client's receive maximum (65,535 where absent).
    pub receive_maximum: u16,
    /// The client's maximum packet size, when it sets one.
    pub maximum_packet_size: Option<u32>,
    /// How many topic aliases the client accepts; 0 is none.
    pub topic_alias_maximum: u16,
    /// The will, when one is set.
    pub will: Option<Box<Will>>,
    /// Whether a user name is given.
    pub authenticated: bool,
}

impl Default for Connect {
    /// What a CONNECT without a single property means, with Clean Start 0 and no keep-alive.
    fn default() -> Self {
        Self {
            clean_start: false,
            session_expiry: 0,
            keep_alive: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            will: None,
            authenticated: false,
        }
    }
}

/// The will of a CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Seconds that the server waits before it publishes it.
    pub delay_s: u32,
    /// What the server is to publish. It has no packet id (0), no length as a packet (0) and DUP 0.
    pub message: Publish,
}

/// CONNACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connack {
    /// Session present.
    pub session_present: bool,
    /// Reason code.
    pub reason: u8,
    /// The server's session expiry interval, when it overrides the client's.
    pub session_expiry: Option<u32>,
    /// The server's receive maximum (65,535 where absent).
    pub receive_maximum: u16,
    /// The server's maximum QoS (2 where absent).
    pub maximum_qos: u8,
    /// The server's maximum packet size, bytes, when it sets one.
    pub maximum_packet_size: Option<u32>,
    /// How many topic aliases the server accepts; 0 is none.
    pub topic_alias_maximum: u16,
    /// The keep-alive, seconds, that the client has to use instead of its own.
    pub server_keep_alive: Option<u16>,
    /// What of MQTT the server does not have.
    pub unavailable: Unavailable,
}

impl Default for Connack {
    /// What a CONNACK that accepts without a single property means: no session present, everything available.
    fn default() -> Self {
        Self {
            session_present: false,
            reason: 0,
            session_expiry: None,
            receive_maximum: u16::MAX,
            maximum_qos: 2,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            server_keep_alive: None,
            unavailable: Unavailable::default(),
        }
    }
}

/// What a server of 5.0 says in its CONNACK that it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unavailable {
    /// Retained messages.
    pub retain: bool,
    /// Wildcards in topic filters.
    pub wildcards: bool,
    /// Subscription identifiers.
    pub subscription_ids: bool,
    /// Shared subscriptions.
    pub shared: bool,
}

/// PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// DUP flag.
    pub dup: bool,
    /// QoS of this hop.
    pub qos: u8,
    /// RETAIN flag.
    pub retain: bool,
    /// Packet id; 0 at QoS 0.
    pub packet_id: u16,
    /// Topic name, with a topic alias already resolved by the recorder; empty when the alias was never set up.
    pub topic: Arc<str>,
    /// Which message it carries.
    pub identity: Identity,
    /// Length of the whole packet on the wire, in bytes; 0 where it is not known.
    pub packet_len: u32,
    /// Payload length in bytes.
    pub payload_len: u32,
    /// CRC-32 (IEEE) of the payload.
    pub payload_crc: u32,
    /// The 5.0 properties that must arrive unaltered, when any is set.
    pub properties: Option<Box<PublishProperties>>,
    /// Message expiry interval, seconds.
    pub message_expiry: Option<u32>,
    /// Subscription identifiers.
    pub subscription_ids: Vec<u32>,
    /// Topic alias that stood in the packet.
    pub topic_alias: Option<u16>,
}

/// The properties of a PUBLISH that a server must forward unaltered [5.0:MQTT-3.3.2-4, -15 to -20].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishProperties {
    /// Payload format indicator.
    pub payload_format_indicator: Option<u8>,
    /// Content type.
    pub content_type: Option<String>,
    /// Response topic.
    pub response_topic: Option<String>,
    /// Correlation data.
    pub correlation_data: Option<Vec<u8>>,
    /// User properties, in order.
    pub user_properties: Vec<(String, String)>,
}

/// SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet id.
    pub packet_id: u16,
    /// Subscription identifier, when set.
    pub identifier: Option<u32>,
    /// What is asked for.
    pub filters: Vec<Filter>,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Topic filter as written, with `$share/NAME/` where shared.
    pub filter: Arc<str>,
    /// QoS asked for.
    pub qos: u8,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling, 0 to 2.
    pub retain_handling: u8,
}
