//! One MQTT 5.0 property: its identifier, its form on the wire, where it may stand and what it may say (2.2.2).

use super::ReasonCode;
use super::judge::{DecodeError, EncodeError, Judge};
use super::kind::Kind;
use super::wire::{Reader, Sink};
use crate::topic;
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

impl Property {
    /// The identifier (table 2-4).
    pub const fn id(&self) -> u8 {
        self.row().0
    }

    /// The specification's words for the property, in lower case.
    pub const fn name(&self) -> &'static str {
        self.row().1
    }

    /// Table 2-4: identifier, name, and the places where the property may stand.
    const fn row(&self) -> (u8, &'static str, Places) {
        match self {
            Self::PayloadFormatIndicator(_) => (0x01, "payload format indicator", MESSAGE),
            Self::MessageExpiryInterval(_) => (0x02, "message expiry interval", MESSAGE),
            Self::ContentType(_) => (0x03, "content type", MESSAGE),
            Self::ResponseTopic(_) => (0x08, "response topic", MESSAGE),
            Self::CorrelationData(_) => (0x09, "correlation data", MESSAGE),
            Self::SubscriptionIdentifier(_) => (0x0B, "subscription identifier", PUBLISH | SUBSCRIBE),
            Self::SessionExpiryInterval(_) => {
                (0x11, "session expiry interval", CONNECT | CONNACK | DISCONNECT)
            }
            Self::AssignedClientIdentifier(_) => (0x12, "assigned client identifier", CONNACK),
            Self::ServerKeepAlive(_) => (0x13, "server keep alive", CONNACK),
            Self::AuthenticationMethod(_) => (0x15, "authentication method", CONNECT | CONNACK | AUTH),
            Self::AuthenticationData(_) => (0x16, "authentication data", CONNECT | CONNACK | AUTH),
            Self::RequestProblemInformation(_) => (0x17, "request problem information", CONNECT),
            Self::WillDelayInterval(_) => (0x18, "will delay interval", WILL),
            Self::RequestResponseInformation(_) => (0x19, "request response information", CONNECT),
            Self::ResponseInformation(_) => (0x1A, "response information", CONNACK),
            Self::ServerReference(_) => (0x1C, "server reference", CONNACK | DISCONNECT),
            Self::ReasonString(_) => (0x1F, "reason string", ANSWERS),
            Self::ReceiveMaximum(_) => (0x21, "receive maximum", CONNECT | CONNACK),
            Self::TopicAliasMaximum(_) => (0x22, "topic alias maximum", CONNECT | CONNACK),
            Self::TopicAlias(_) => (0x23, "topic alias", PUBLISH),
            Self::MaximumQos(_) => (0x24, "maximum QoS", CONNACK),
            Self::RetainAvailable(_) => (0x25, "retain available", CONNACK),
            Self::UserProperty(..) => (0x26, "user property", EVERYWHERE),
            Self::MaximumPacketSize(_) => (0x27, "maximum packet size", CONNECT | CONNACK),
            Self::WildcardSubscriptionAvailable(_) => (0x28, "wildcard subscription available", CONNACK),
            Self::SubscriptionIdentifierAvailable(_) => (0x29, "subscription identifier available", CONNACK),
            Self::SharedSubscriptionAvailable(_) => (0x2A, "shared subscription available", CONNACK),
        }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        // Identifiers are variable byte integers, but none above 0x7F is assigned.
        Ok(match reader.u8("a property identifier")? {
            0x01 => Self::PayloadFormatIndicator(reader.u8("the payload format indicator")?),
            0x02 => Self::MessageExpiryInterval(reader.u32("the message expiry interval")?),
            0x03 => Self::ContentType(reader.text("the content type")?),
            0x08 => Self::ResponseTopic(reader.text("the response topic")?),
            0x09 => Self::CorrelationData(reader.binary("the correlation data")?),
            0x0B => Self::SubscriptionIdentifier(reader.varint("the subscription identifier")?),
            0x11 => Self::SessionExpiryInterval(reader.u32("the session expiry interval")?),
            0x12 => Self::AssignedClientIdentifier(reader.text("the assigned client identifier")?),
            0x13 => Self::ServerKeepAlive(reader.u16("the server keep alive")?),
            0x15 => Self::AuthenticationMethod(reader.text("the authentication method")?),
            0x16 => Self::AuthenticationData(reader.binary("the authentication data")?),
            0x17 => Self::RequestProblemInformation(reader.u8("the request problem information")?),
            0x18 => Self::WillDelayInterval(reader.u32("the will delay interval")?),
            0x19 => Self::RequestResponseInformation(reader.u8("the request response information")?),
            0x1A => Self::ResponseInformation(reader.text("the response information")?),
            0x1C => Self::ServerReference(reader.text("the server reference")?),
            0x1F => Self::ReasonString(reader.text("the reason string")?),
            0x21 => Self::ReceiveMaximum(reader.u16("the receive maximum")?),
            0x22 => Self::TopicAliasMaximum(reader.u16("the topic alias maximum")?),
            0x23 => Self::TopicAlias(reader.u16("the topic alias")?),
            0x24 => Self::MaximumQos(reader.u8("the maximum QoS")?),
            0x25 => Self::RetainAvailable(reader.u8("retain available")?),
            0x26 => Self::UserProperty(
                reader.text("a user property's name")?,
                reader.text("a user property's value")?,
            ),
            0x27 => Self::MaximumPacketSize(reader.u32("the maximum packet size")?),
            0x28 => Self::WildcardSubscriptionAvailable(reader.u8("wildcard subscription available")?),
            0x29 => Self::SubscriptionIdentifierAvailable(reader.u8("subscription identifier available")?),
            0x2A => Self::SharedSubscriptionAvailable(reader.u8("shared subscription available")?),
            id => return Err(DecodeError::malformed(format!("there is no property 0x{id:02X} (2.2.2.2)"))),
        })
    }

    pub(super) fn write(&self, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.u8(self.id());
        match self {
            Self::PayloadFormatIndicator(value)
            | Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::MaximumQos(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value) => sink.u8(*value),
            Self::ServerKeepAlive(value)
            | Self::ReceiveMaximum(value)
            | Self::TopicAliasMaximum(value)
            | Self::TopicAlias(value) => sink.u16(*value),
            Self::MessageExpiryInterval(value)
            | Self::SessionExpiryInterval(value)
            | Self::WillDelayInterval(value)
            | Self::MaximumPacketSize(value) => sink.u32(*value),
            Self::SubscriptionIdentifier(value) => return sink.varint(*value, self.name()),
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientIdentifier(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => return sink.text(text, self.name()),
            Self::CorrelationData(bytes) | Self::AuthenticationData(bytes) => {
                return sink.binary(bytes, self.name());
            }
            Self::UserProperty(name, value) => {
                sink.text(name, "a user property's name")?;
                return sink.text(value, "a user property's value");
            }
        }
        Ok(())
    }

    /// Whether the property may stand at `place`.
    pub(super) const fn may_stand_at(&self, place: Place) -> bool {
        self.row().2 & place.0 != 0
    }

    /// Whether the property may stand at `place` more than once.
    pub(super) fn may_repeat_at(&self, place: Place) -> bool {
        match self {
            Self::UserProperty(..) => true,
            Self::SubscriptionIdentifier(_) => place == Place::from(Kind::Publish),
            _ => false,
        }
    }

    pub(super) fn check_value(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        match self {
            Self::PayloadFormatIndicator(value)
            | Self::RequestProblemInformation(value)
            | Self::RequestResponseInformation(value)
            | Self::MaximumQos(value)
            | Self::RetainAvailable(value)
            | Self::WildcardSubscriptionAvailable(value)
            | Self::SubscriptionIdentifierAvailable(value)
            | Self::SharedSubscriptionAvailable(value)
                if *value > 1 =>
            {
                judge.protocol_error(format!("{} is {value}, neither 0 nor 1", self.name()))
            }
            Self::SubscriptionIdentifier(0) | Self::ReceiveMaximum(0) | Self::MaximumPacketSize(0) => {
                judge.protocol_error(format!("{} is 0", self.name()))
            }
            Self::TopicAlias(0) => {
                judge.fault(ReasonCode::TOPIC_ALIAS_INVALID, "topic alias is 0 [MQTT-3.3.2-8]")
            }
            Self::ResponseTopic(name) => match topic::validate_name(name) {
                Ok(()) => Ok(()),
                Err(error) => judge.protocol_error(format!("the response topic {error} [MQTT-3.3.2-14]")),
            },
            _ => Ok(()),
        }
    }
}

/// A set of [`Place`]s.
type Places = u16;

/// Where properties may stand: in a packet of some type, or in the will of a CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(Places);

impl Place {
    pub(super) const WILL: Self = Self(WILL);

    pub(super) fn name(self) -> &'static str {
        if self == Self::WILL {
            return "the will";
        }
        // One bit, and not that of the will: the bit's number is the packet's type.
        Kind::from_first_byte((self.0.trailing_zeros() as u8) << 4).map_or("", Kind::name)
    }
}

impl From<Kind> for Place {
    fn from(kind: Kind) -> Self {
        Self(at(kind))
    }
}

const fn at(kind: Kind) -> Places {
    1 << kind as u8
}

const WILL: Places = 1;
const CONNECT: Places = at(Kind::Connect);
const CONNACK: Places = at(Kind::Connack);
const PUBLISH: Places = at(Kind::Publish);
const SUBSCRIBE: Places = at(Kind::Subscribe);
const DISCONNECT: Places = at(Kind::Disconnect);
const AUTH: Places = at(Kind::Auth);
const MESSAGE: Places = PUBLISH | WILL;
const ANSWERS: Places = CONNACK
    | at(Kind::Puback)
    | at(Kind::Pubrec)
    | at(Kind::Pubrel)
    | at(Kind::Pubcomp)
    | at(Kind::Suback)
    | at(Kind::Unsuback)
    | DISCONNECT
    | AUTH;
const EVERYWHERE: Places = ANSWERS | MESSAGE | CONNECT | SUBSCRIBE | at(Kind::Unsubscribe);
