//! PUBLISH.

use super::{Properties, Qos};
use bytes::Bytes;
use bytestring::ByteString;

/// PUBLISH: an application message on one hop.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Publish {
    /// Whether this may be a copy of an earlier attempt on this hop.
    pub dup: bool,
    /// Quality of service on this hop.
    pub qos: Qos,
    /// Retain flag.
    pub retain: bool,
    /// Topic name; empty in 5.0 where a topic alias stands for it.
    pub topic: ByteString,
    /// Packet id, present exactly when `qos` is above 0. A lenient reading may show the unlawful 0.
    pub packet_id: Option<u16>,
    /// 5.0 properties.
    pub properties: Properties,
    /// Application payload.
    pub payload: Bytes,
}
