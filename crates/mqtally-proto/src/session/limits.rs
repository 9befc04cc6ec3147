//! What the server announced, and whether a message keeps to it.

use super::PublishError;
use crate::packet::{Connack, PACKET_SIZE_MAX, Packet, Property, Publish, Qos, Version, encode};
use crate::topic;
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

/// The limits of one connection.
#[derive(Debug)]
pub(super) struct ServerLimits {
    pub(super) receive_maximum: u16,
    maximum_qos: Qos,
    retain_available: bool,
    maximum_packet_size: usize,
    /// Seconds; what the server imposes in place of ours.
    pub(super) keep_alive: Option<u16>,
    /// Seconds; what the server grants in place of what we asked for.
    pub(super) session_expiry: Option<u32>,
    pub(super) assigned_client_id: Option<ByteString>,
}

/// What holds where the server says nothing.
impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            maximum_qos: Qos::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: PACKET_SIZE_MAX as usize,
            keep_alive: None,
            session_expiry: None,
            assigned_client_id: None,
        }
    }
}

impl ServerLimits {
    pub(super) fn announced(connack: &Connack) -> Self {
        let mut limits = Self::default();
        connack.properties.0.iter().for_each(|property| limits.take(property));
        limits
    }

    fn take(&mut self, property: &Property) {
        match property {
            // 0 is a protocol error that the decoder refuses; were it let through, nothing could ever be sent.
            Property::ReceiveMaximum(messages) => self.receive_maximum = (*messages).max(1),
            Property::MaximumQos(qos) => self.maximum_qos = Qos::from_u8(*qos).unwrap_or(Qos::ExactlyOnce),
            Property::RetainAvailable(available) => self.retain_available = *available != 0,
            Property::MaximumPacketSize(bytes) => self.maximum_packet_size = *bytes as usize,
            Property::ServerKeepAlive(seconds) => self.keep_alive = Some(*seconds),
            Property::SessionExpiryInterval(seconds) => self.session_expiry = Some(*seconds),
            Property::AssignedClientIdentifier(id) => self.assigned_client_id = Some(id.clone()),
            _ => {}
        }
    }

    /// Whether `publish` may be sent [5.0:MQTT-3.2.2-11], [5.0:MQTT-3.2.2-14], [5.0:MQTT-3.2.2-15].
    pub(super) fn check(&self, publish: &Publish, version: Version) -> Result<(), PublishError> {
        topic::validate_name(&publish.topic)?;
        if publish.properties.0.iter().any(|property| matches!(property, Property::TopicAlias(_))) {
            return Err(PublishError::TopicAlias);
        }
        if publish.qos > self.maximum_qos {
            return Err(PublishError::QosNotSupported { max: self.maximum_qos as u8 });
        }
        if publish.retain && !self.retain_available {
            return Err(PublishError::RetainNotSupported);
        }
        let size = packet_size(publish, version)?;
        if size > self.maximum_packet_size {
            return Err(PublishError::TooLarge { size, max: self.maximum_packet_size });
        }
        Ok(())
    }
}

/// Bytes of the whole packet. Properties are rare and many-shaped: they are measured by writing them.
fn packet_size(publish: &Publish, version: Version) -> Result<usize, PublishError> {
    let payload = publish.payload.len();
    let packet_id = if publish.qos == Qos::AtMostOnce { 0 } else { 2 };
    let header = 2 + publish.topic.len() + packet_id;
    if publish.properties.0.is_empty() {
        return Ok(whole(header + usize::from(version == Version::V5_0) + payload));
    }
    let mut bytes = BytesMut::new();
    let probe = Publish { packet_id: (packet_id > 0).then_some(1), payload: Bytes::new(), ..publish.clone() };
    encode(&Packet::Publish(probe), version, &mut bytes)?;
    let length_bytes = 1 + bytes[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    Ok(whole(bytes.len() - 1 - length_bytes + payload))
}

fn whole(remaining: usize) -> usize {
    let length_bytes = match remaining {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4, // beyond the format's end the sum only has to be seen to be too large
    };
    1 + length_bytes + remaining
}
