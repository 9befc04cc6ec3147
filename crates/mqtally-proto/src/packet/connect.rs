//! CONNECT, CONNACK, DISCONNECT and AUTH: the packets that begin and end a connection.

use super::{Properties, Qos, ReasonCode, Version};
use bytes::Bytes;
use bytestring::ByteString;

/// CONNECT: a client asks to open (or resume) its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The version asked for; it governs every later packet of the connection.
    pub version: Version,
    /// Clean Session (3.1.1) or Clean Start (5.0).
    pub clean_start: bool,
    /// Keep-alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// The client's name; empty asks the server to assign one.
    pub client_id: ByteString,
    /// The message to publish if the connection ends without DISCONNECT.
    pub will: Option<Will>,
    /// User name, when given.
    pub username: Option<ByteString>,
    /// Password, when given.
    pub password: Option<Bytes>,
    /// 5.0 properties; empty in 3.1.1.
    pub properties: Properties,
}

/// The will of a CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic to publish to.
    pub topic: ByteString,
    /// Payload to publish.
    pub payload: Bytes,
    /// QoS to publish at.
    pub qos: Qos,
    /// Publish as a retained message.
    pub retain: bool,
    /// 5.0 will properties, among them the will delay interval.
    pub properties: Properties,
}

/// CONNACK: the server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connack {
    /// Whether the server has a session for this client.
    pub session_present: bool,
    /// Success, or why not. 3.1.1's return codes 1 to 5 are read as the 5.0 reason of the same meaning.
    pub reason: ReasonCode,
    /// 5.0 properties: the server's limits.
    pub properties: Properties,
}

/// DISCONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Why the connection ends; always success in 3.1.1.
    pub reason: ReasonCode,
    /// 5.0 properties.
    pub properties: Properties,
}

/// AUTH (5.0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Continue, re-authenticate or success.
    pub reason: ReasonCode,
    /// 5.0 properties: method and data.
    pub properties: Properties,
}
