//! MQTT 5.0 properties (2.2.2).

use bytes::Bytes;
use bytestring::ByteString;

/// One property, named as in the specification's table 2-4. Its comment gives the identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Property {
    /// 0x01: 0 unspecified bytes, 1 UTF-8.
    PayloadFormatIndicator(u8),
    /// 0x02: seconds.
    MessageExpiryInterval(u32),
    /// 0x03.
    ContentType(ByteString),
    /// 0x08.
    ResponseTopic(ByteString),
    /// 0x09.
    CorrelationData(Bytes),
    /// 0x0B: 1 to 268,435,455.
    SubscriptionIdentifier(u32),
    /// 0x11: seconds; 0xFFFF_FFFF never expires.
    SessionExpiryInterval(u32),
    /// 0x12.
    AssignedClientIdentifier(ByteString),
    /// 0x13: seconds.
    ServerKeepAlive(u16),
    /// 0x15.
    AuthenticationMethod(ByteString),
    /// 0x16.
    AuthenticationData(Bytes),
    /// 0x17.
    RequestProblemInformation(u8),
    /// 0x18: seconds.
    WillDelayInterval(u32),
    /// 0x19.
    RequestResponseInformation(u8),
    /// 0x1A.
    ResponseInformation(ByteString),
    /// 0x1C.
    ServerReference(ByteString),
    /// 0x1F.
    ReasonString(ByteString),
    /// 0x21: never 0.
    ReceiveMaximum(u16),
    /// 0x22.
    TopicAliasMaximum(u16),
    /// 0x23: never 0.
    TopicAlias(u16),
    /// 0x24: 0 or 1; absent means 2.
    MaximumQos(u8),
    /// 0x25.
    RetainAvailable(u8),
    /// 0x26: name and value; may stand more than once, order kept.
    UserProperty(ByteString, ByteString),
    /// 0x27: bytes; never 0.
    MaximumPacketSize(u32),
    /// 0x28.
    WildcardSubscriptionAvailable(u8),
    /// 0x29.
    SubscriptionIdentifierAvailable(u8),
    /// 0x2A.
    SharedSubscriptionAvailable(u8),
}

/// The properties of one packet, in the order in which they stand on the wire. Empty costs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties(pub Vec<Property>);
