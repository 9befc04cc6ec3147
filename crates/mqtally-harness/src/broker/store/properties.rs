//! Properties inside a row: their count, then each as its MQTT identifier and its value.

use super::rows::{Body, Reader};
use mqtally_proto::packet::{Properties, Property};

pub(super) fn write(body: &mut Body, properties: &Properties) {
    body.varint(properties.0.len() as u64);
    for property in &properties.0 {
        write_one(body, property);
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Properties> {
    let count = reader.varint()?;
    (0..count).map(|_| read_one(reader)).collect::<Option<_>>().map(Properties)
}

fn write_one(body: &mut Body, property: &Property) {
    use Property as P;
    body.u8(identifier(property));
    match property {
        P::PayloadFormatIndicator(value)
        | P::RequestProblemInformation(value)
        | P::RequestResponseInformation(value)
        | P::MaximumQos(value)
        | P::RetainAvailable(value)
        | P::WildcardSubscriptionAvailable(value)
        | P::SubscriptionIdentifierAvailable(value)
        | P::SharedSubscriptionAvailable(value) => body.u8(*value),
        P::ServerKeepAlive(value)
        | P::ReceiveMaximum(value)
        | P::TopicAliasMaximum(value)
        | P::TopicAlias(value) => body.u16(*value),
        P::MessageExpiryInterval(value)
        | P::SubscriptionIdentifier(value)
        | P::SessionExpiryInterval(value)
        | P::WillDelayInterval(value)
        | P::MaximumPacketSize(value) => body.u32(*value),
        P::ContentType(value)
        | P::ResponseTopic(value)
        | P::AssignedClientIdentifier(value)
        | P::AuthenticationMethod(value)
        | P::ResponseInformation(value)
        | P::ServerReference(value)
        | P::ReasonString(value) => body.text(value),
        P::CorrelationData(value) | P::AuthenticationData(value) => body.bytes(value),
        P::UserProperty(name, value) => {
            body.text(name);
            body.text(value);
        }
    }
}

fn read_one(reader: &mut Reader<'_>) -> Option<Property> {
    use Property as P;
    Some(match reader.u8()? {
        0x01 => P::PayloadFormatIndicator(reader.u8()?),
        0x02 => P::MessageExpiryInterval(reader.u32()?),
        0x03 => P::ContentType(reader.text()?),
        0x08 => P::ResponseTopic(reader.text()?),
        0x09 => P::CorrelationData(reader.bytes()?),
        0x0B => P::SubscriptionIdentifier(reader.u32()?),
        0x11 => P::SessionExpiryInterval(reader.u32()?),
        0x12 => P::AssignedClientIdentifier(reader.text()?),
        0x13 => P::ServerKeepAlive(reader.u16()?),
        0x15 => P::AuthenticationMethod(reader.text()?),
        0x16 => P::AuthenticationData(reader.bytes()?),
        0x17 => P::RequestProblemInformation(reader.u8()?),
        0x18 => P::WillDelayInterval(reader.u32()?),
        0x19 => P::RequestResponseInformation(reader.u8()?),
        0x1A => P::ResponseInformation(reader.text()?),
        0x1C => P::ServerReference(reader.text()?),
        0x1F => P::ReasonString(reader.text()?),
        0x21 => P::ReceiveMaximum(reader.u16()?),
        0x22 => P::TopicAliasMaximum(reader.u16()?),
        0x23 => P::TopicAlias(reader.u16()?),
        0x24 => P::MaximumQos(reader.u8()?),
        0x25 => P::RetainAvailable(reader.u8()?),
        0x26 => P::UserProperty(reader.text()?, reader.text()?),
        0x27 => P::MaximumPacketSize(reader.u32()?),
        0x28 => P::WildcardSubscriptionAvailable(reader.u8()?),
        0x29 => P::SubscriptionIdentifierAvailable(reader.u8()?),
        0x2A => P::SharedSubscriptionAvailable(reader.u8()?),
        _ => return None,
    })
}

fn identifier(property: &Property) -> u8 {
    use Property as P;
    match property {
        P::PayloadFormatIndicator(_) => 0x01,
        P::MessageExpiryInterval(_) => 0x02,
        P::ContentType(_) => 0x03,
        P::ResponseTopic(_) => 0x08,
        P::CorrelationData(_) => 0x09,
        P::SubscriptionIdentifier(_) => 0x0B,
        P::SessionExpiryInterval(_) => 0x11,
        P::AssignedClientIdentifier(_) => 0x12,
        P::ServerKeepAlive(_) => 0x13,
        P::AuthenticationMethod(_) => 0x15,
        P::AuthenticationData(_) => 0x16,
        P::RequestProblemInformation(_) => 0x17,
        P::WillDelayInterval(_) => 0x18,
        P::RequestResponseInformation(_) => 0x19,
        P::ResponseInformation(_) => 0x1A,
        P::ServerReference(_) => 0x1C,
        P::ReasonString(_) => 0x1F,
        P::ReceiveMaximum(_) => 0x21,
        P::TopicAliasMaximum(_) => 0x22,
        P::TopicAlias(_) => 0x23,
        P::MaximumQos(_) => 0x24,
        P::RetainAvailable(_) => 0x25,
        P::UserProperty(..) => 0x26,
        P::MaximumPacketSize(_) => 0x27,
        P::WildcardSubscriptionAvailable(_) => 0x28,
        P::SubscriptionIdentifierAvailable(_) => 0x29,
        P::SharedSubscriptionAvailable(_) => 0x2A,
    }
}
