//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK.

use super::{Properties, Qos, ReasonCode};
use bytestring::ByteString;

/// SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Packet id, answered by SUBACK.
    pub packet_id: u16,
    /// 5.0 properties, among them the subscription identifier.
    pub properties: Properties,
    /// What is subscribed to; at least one.
    pub filters: Vec<Subscription>,
}

/// One topic filter of a SUBSCRIBE and how to deliver what matches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Topic filter, possibly `$share/NAME/FILTER`.
    pub filter: ByteString,
    /// Highest QoS asked for.
    pub qos: Qos,
    /// 5.0: do not send back what this client published.
    pub no_local: bool,
    /// 5.0: keep the publisher's retain flag on forwarded messages.
    pub retain_as_published: bool,
    /// 5.0: whether retained messages are sent at subscribe.
    pub retain_handling: RetainHandling,
}

impl Subscription {
    /// A subscription at `qos` with the options that 3.1.1 implies.
    pub fn new(filter: impl Into<ByteString>, qos: Qos) -> Self {
        Self {
            filter: filter.into(),
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }
}

/// 5.0 retain handling option (3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// Send retained messages at subscribe.
    #[default]
    Send = 0,
    /// Send them only if the subscription is new.
    SendIfNew = 1,
    /// Never send them at subscribe.
    DoNotSend = 2,
}

/// SUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suback {
    /// Packet id of the SUBSCRIBE.
    pub packet_id: u16,
    /// 5.0 properties.
    pub properties: Properties,
    /// One code a filter, in the order of the SUBSCRIBE: the granted QoS, or a failure.
    pub reasons: Vec<ReasonCode>,
}

/// UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Packet id, answered by UNSUBACK.
    pub packet_id: u16,
    /// 5.0 properties.
    pub properties: Properties,
    /// The filters to end, as they were subscribed.
    pub filters: Vec<ByteString>,
}

/// UNSUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsuback {
    /// Packet id of the UNSUBSCRIBE.
    pub packet_id: u16,
    /// 5.0 properties.
    pub properties: Properties,
    /// One code a filter in 5.0; empty in 3.1.1.
    pub reasons: Vec<ReasonCode>,
}
