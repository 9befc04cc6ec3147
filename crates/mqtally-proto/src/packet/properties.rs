//! The property list of a packet (2.2.2).

use super::Version;
use super::judge::{DecodeError, EncodeError, Judge};
use super::property::{Place, Property};
use super::wire::{Length, Reader, Sink};
use bytes::Bytes;
use bytestring::ByteString;

/// The properties of one packet, in the order in which they stand on the wire. Empty costs nothing.
///
/// ```
/// use mqtally_proto::packet::{Properties, Property};
/// let properties = Properties::default().with(Property::ReceiveMaximum(10));
/// assert_eq!(properties.receive_maximum(), Some(10));
/// assert_eq!(properties.maximum_packet_size(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Properties(pub Vec<Property>);

impl Properties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a property at the end.
    pub fn push(&mut self, property: Property) {
        self.0.push(property);
    }

    /// These properties and one more at the end.
    #[must_use]
    pub fn with(mut self, property: Property) -> Self {
        self.push(property);
        self
    }

    /// All subscription identifiers, in order.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(identifier) => Some(*identifier),
            _ => None,
        })
    }

    /// All user properties, name and value, in order.
    pub fn user_properties(&self) -> impl Iterator<Item = (&ByteString, &ByteString)> {
        self.0.iter().filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// Reads a property list; 3.1.1 has none.
    #[inline]
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        if reader.judge.version == Version::V3_1_1 {
            return Ok(Self::default());
        }
        let len = reader.varint("the property length")? as usize;
        let outer = reader.enter(len, "the properties")?;
        let mut properties = Self::default();
        while !reader.is_at_end() {
            properties.push(Property::read(reader)?);
        }
        reader.leave(outer);
        Ok(properties)
    }

    /// Writes the property list; 3.1.1 has none.
    #[inline]
    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        if version == Version::V3_1_1 {
            return Ok(());
        }
        if self.is_empty() {
            // Most often; counting costs more than all the rest of a small packet.
            sink.u8(0);
            return Ok(());
        }
        let mut length = Length::default();
        self.write_each(&mut length)?;
        sink.varint(length.as_varint("the property length")?, "the property length")?;
        self.write_each(sink)
    }

    fn write_each(&self, sink: &mut impl Sink) -> Result<(), EncodeError> {
        self.0.iter().try_for_each(|property| property.write(sink))
    }

    /// Whether each property may stand at `place`, as often as it does and with its value.
    #[inline]
    pub(super) fn check(&self, place: Place, judge: &mut Judge) -> Result<(), DecodeError> {
        if !self.is_empty() && judge.version == Version::V3_1_1 {
            judge.malformed(format!("{} has properties, which 3.1.1 has not", place.name()))?;
        }
        let mut seen = 0_u64;
        for property in &self.0 {
            if !property.may_stand_at(place) {
                judge.malformed(format!(
                    "{} may not stand in {} (2.2.2.2)",
                    property.name(),
                    place.name()
                ))?;
            }
            let bit = 1 << property.id();
            if seen & bit != 0 && !property.may_repeat_at(place) {
                judge.protocol_error(format!("{} stands twice in {}", property.name(), place.name()))?;
            }
            seen |= bit;
            property.check_value(judge)?;
        }
        Ok(())
    }

    /// Authentication data without a method is a protocol error (3.1.2.11.10).
    pub(super) fn check_authentication(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        if self.authentication_data().is_some() && self.authentication_method().is_none() {
            judge.protocol_error("authentication data without an authentication method (3.1.2.11.10)")?;
        }
        Ok(())
    }
}

/// Accessors of the properties that stand at most once. Of an unlawful second one only the first is given.
macro_rules! accessors {
    ($value:ident => $given:expr; $($(#[$doc:meta])* $accessor:ident: $variant:ident -> $type:ty;)*) => {
        impl Properties {
            $($(#[$doc])*
            pub fn $accessor(&self) -> Option<$type> {
                self.0.iter().find_map(|property| match property {
                    Property::$variant($value) => Some($given),
                    _ => None,
                })
            })*
        }
    };
}

accessors! {
    number => *number;
    /// 0 unspecified bytes, 1 UTF-8.
    payload_format_indicator: PayloadFormatIndicator -> u8;
    /// Seconds that the message may wait.
    message_expiry_interval: MessageExpiryInterval -> u32;
    /// Seconds that the session outlives its connection; `u32::MAX` for ever.
    session_expiry_interval: SessionExpiryInterval -> u32;
    /// Keep-alive in seconds that the server imposes.
    server_keep_alive: ServerKeepAlive -> u16;
    /// Whether reason strings and user properties are wanted on failures; absent means 1.
    request_problem_information: RequestProblemInformation -> u8;
    /// Seconds between the end of the connection and the will.
    will_delay_interval: WillDelayInterval -> u32;
    /// Whether response information is wanted; absent means 0.
    request_response_information: RequestResponseInformation -> u8;
    /// QoS 1 and 2 messages taken unacknowledged; absent means 65,535.
    receive_maximum: ReceiveMaximum -> u16;
    /// Highest topic alias taken; absent means 0.
    topic_alias_maximum: TopicAliasMaximum -> u16;
    /// Number that stands for the topic name on this connection.
    topic_alias: TopicAlias -> u16;
    /// Highest QoS that the server takes; absent means 2.
    maximum_qos: MaximumQos -> u8;
    /// Whether the server retains; absent means 1.
    retain_available: RetainAvailable -> u8;
    /// Largest packet taken, in bytes; absent means no limit.
    maximum_packet_size: MaximumPacketSize -> u32;
    /// Whether filters may have wildcards; absent means 1.
    wildcard_subscription_available: WildcardSubscriptionAvailable -> u8;
    /// Whether the server takes subscription identifiers; absent means 1.
    subscription_identifier_available: SubscriptionIdentifierAvailable -> u8;
    /// Whether the server takes shared subscriptions; absent means 1.
    shared_subscription_available: SharedSubscriptionAvailable -> u8;
}

accessors! {
    slice => slice;
    /// What the payload is.
    content_type: ContentType -> &ByteString;
    /// Where the answer to a request goes.
    response_topic: ResponseTopic -> &ByteString;
    /// What ties an answer to its request.
    correlation_data: CorrelationData -> &Bytes;
    /// The client id that the server gave.
    assigned_client_identifier: AssignedClientIdentifier -> &ByteString;
    /// Name of the authentication method.
    authentication_method: AuthenticationMethod -> &ByteString;
    /// Data of the authentication method.
    authentication_data: AuthenticationData -> &Bytes;
    /// What to make response topics of.
    response_information: ResponseInformation -> &ByteString;
    /// Another server to use.
    server_reference: ServerReference -> &ByteString;
    /// The reason in words, for diagnosis.
    reason_string: ReasonString -> &ByteString;
}
