//! PUBACK, PUBREC, PUBREL and PUBCOMP share one shape.

use super::{Properties, ReasonCode};

/// The body of PUBACK, PUBREC, PUBREL and PUBCOMP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The packet id that is acknowledged or released.
    pub packet_id: u16,
    /// 5.0 reason code; success in 3.1.1.
    pub reason: ReasonCode,
    /// 5.0 properties.
    pub properties: Properties,
}

impl Ack {
    /// A successful acknowledgement of `packet_id`, without properties.
    pub fn success(packet_id: u16) -> Self {
        Self::with_reason(packet_id, ReasonCode::SUCCESS)
    }

    /// An acknowledgement of `packet_id` with `reason`, without properties.
    pub fn with_reason(packet_id: u16, reason: ReasonCode) -> Self {
        Self { packet_id, reason, properties: Properties::default() }
    }
}
