//! The application's properties of a message, inside a row.

use bytes::Bytes;
use bytestring::ByteString;
use mqtally_proto::packet::{Properties, Property};

/// The properties that belong to the application, as bytes: identifier, length, value. The others end at this hop.
pub(crate) fn encode(properties: &Properties) -> Vec<u8> {
    let mut bytes = Vec::new();
    for property in &properties.0 {
        match property {
            Property::PayloadFormatIndicator(value) => field(&mut bytes, 0x01, &[*value]),
            Property::MessageExpiryInterval(value) => field(&mut bytes, 0x02, &value.to_le_bytes()),
            Property::ContentType(text) => field(&mut bytes, 0x03, text.as_bytes()),
            Property::ResponseTopic(text) => field(&mut bytes, 0x08, text.as_bytes()),
            Property::CorrelationData(data) => field(&mut bytes, 0x09, data),
            Property::UserProperty(name, value) => {
                let length = (name.len() as u32).to_le_bytes();
                field(&mut bytes, 0x26, &[&length[..], name.as_bytes(), value.as_bytes()].concat());
            }
            _ => {}
        }
    }
    bytes
}

fn field(bytes: &mut Vec<u8>, identifier: u8, value: &[u8]) {
    bytes.push(identifier);
    bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    bytes.extend_from_slice(value);
}

/// Reads what [`encode`] wrote; stops at anything else, which the row's checksum excludes.
pub(crate) fn decode(mut bytes: &[u8]) -> Properties {
    let mut properties = Vec::new();
    while let Some((property, rest)) = decode_one(bytes) {
        properties.push(property);
        bytes = rest;
    }
    Properties(properties)
}

fn decode_one(bytes: &[u8]) -> Option<(Property, &[u8])> {
    let (identifier, rest) = bytes.split_first()?;
    let (value, rest) = sized(rest)?;
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(ByteString::from);
    let property = match identifier {
        0x01 => Property::PayloadFormatIndicator(*value.first()?),
        0x02 => Property::MessageExpiryInterval(u32::from_le_bytes(value.try_into().ok()?)),
        0x03 => Property::ContentType(text(value)?),
        0x08 => Property::ResponseTopic(text(value)?),
        0x09 => Property::CorrelationData(Bytes::copy_from_slice(value)),
        0x26 => {
            let (name, value) = sized(value)?;
            Property::UserProperty(text(name)?, text(value)?)
        }
        _ => return None,
    };
    Some((property, rest))
}

fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_applications_properties_come_back_and_the_hops_do_not() {
        let application = vec![
            Property::UserProperty("a".into(), "1".into()),
            Property::ContentType("text/plain".into()),
            Property::UserProperty("a".into(), "".into()),
            Property::CorrelationData(Bytes::from_static(b"\0\xff")),
            Property::MessageExpiryInterval(70_000),
            Property::PayloadFormatIndicator(1),
            Property::ResponseTopic("r".into()),
        ];
        let mut all = application.clone();
        all.insert(2, Property::TopicAlias(7));
        all.push(Property::SubscriptionIdentifier(3));
        assert_eq!(decode(&encode(&Properties(all))), Properties(application));
        assert_eq!(encode(&Properties::default()), b"");
    }

    #[test]
    fn any_cut_of_the_bytes_is_survived() {
        let bytes = encode(&Properties(vec![Property::UserProperty("name".into(), "value".into()); 2]));
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).0.len() < 2);
        }
    }
}
