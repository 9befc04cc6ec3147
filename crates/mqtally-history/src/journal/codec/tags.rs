//! The numbers that stand for variants. They are part of the format: a number is never given a second meaning.

use crate::event::{BrokerEvent, BrokerKind, Closing, Outcome, Role, Side};
use crate::marker::Purpose;
use crate::need::{Need, ReceiverKind, Weight};
use crate::packet::Version;
use crate::profile::Profile;

pub(super) const END: u8 = 0;
pub(super) const HEADER: u8 = 1;
pub(super) const GROUP_STARTED: u8 = 2;
pub(super) const GROUP_ENDED: u8 = 3;
pub(super) const OPENED: u8 = 4;
pub(super) const SENT: u8 = 5;
pub(super) const RECEIVED: u8 = 6;
pub(super) const UNLAWFUL: u8 = 7;
pub(super) const CLOSED: u8 = 8;
pub(super) const STATE_WIPED: u8 = 9;
pub(super) const BROKER: u8 = 10;
pub(super) const FAULT: u8 = 11;
pub(super) const LABELLED: u8 = 12;
pub(super) const SETTLED: u8 = 13;
pub(super) const STATISTICS: u8 = 14;
pub(super) const GAP: u8 = 15;
pub(super) const ABORTED: u8 = 16;
pub(super) const CLAIMED: u8 = 17;
pub(super) const DECLARED: u8 = 18;
pub(super) const ADVISED: u8 = 19;
pub(super) const ACCEPTED: u8 = 20;
pub(super) const POSITION: u8 = 21;
pub(super) const SUBJECT: u8 = 22;
pub(super) const PROCESS_ENDED: u8 = 23;

/// Packets go by the numbers that MQTT gives them.
pub(super) mod packet {
    pub(in super::super) const CONNECT: u8 = 1;
    pub(in super::super) const CONNACK: u8 = 2;
    pub(in super::super) const PUBLISH: u8 = 3;
    pub(in super::super) const PUBACK: u8 = 4;
    pub(in super::super) const PUBREC: u8 = 5;
    pub(in super::super) const PUBREL: u8 = 6;
    pub(in super::super) const PUBCOMP: u8 = 7;
    pub(in super::super) const SUBSCRIBE: u8 = 8;
    pub(in super::super) const SUBACK: u8 = 9;
    pub(in super::super) const UNSUBSCRIBE: u8 = 10;
    pub(in super::super) const UNSUBACK: u8 = 11;
    pub(in super::super) const PINGREQ: u8 = 12;
    pub(in super::super) const PINGRESP: u8 = 13;
    pub(in super::super) const DISCONNECT: u8 = 14;
    pub(in super::super) const AUTH: u8 = 15;
}

pub(super) mod identity {
    pub(in super::super) const OURS: u8 = 0;
    pub(in super::super) const FOREIGN: u8 = 1;
    pub(in super::super) const CORRUPT: u8 = 2;
    pub(in super::super) const UNMARKED: u8 = 3;
}

/// A type without fields: its number is its place here.
pub(super) trait Plain: Copy + PartialEq + 'static {
    const ALL: &'static [Self];
}

impl Plain for Version {
    const ALL: &'static [Self] = &[Self::V3_1_1, Self::V5_0];
}
impl Plain for BrokerKind {
    const ALL: &'static [Self] = &[Self::Embedded, Self::Url, Self::Command];
}
impl Plain for Profile {
    const ALL: &'static [Self] = &[Self::Volatile, Self::Graceful, Self::Durable, Self::PowerSafe];
}
impl Plain for Role {
    const ALL: &'static [Self] = &[Self::Own, Self::Subject];
}
impl Plain for Side {
    const ALL: &'static [Self] = &[Self::Subscriber, Self::Publisher];
}
impl Plain for Closing {
    const ALL: &'static [Self] = &[Self::ByBroker, Self::Fin, Self::Rst, Self::Broken, Self::Vanished];
}
impl Plain for BrokerEvent {
    const ALL: &'static [Self] = &[
        Self::Started,
        Self::Terminated,
        Self::Killed,
        Self::Exited,
        Self::Paused,
        Self::Resumed,
        Self::PowerLost,
    ];
}
impl Plain for Outcome {
    const ALL: &'static [Self] = &[Self::Processed, Self::Duplicate, Self::Conflict, Self::Failed];
}
impl Plain for Purpose {
    const ALL: &'static [Self] = &[Self::Load, Self::Sentinel, Self::Canary];
}
impl Plain for Need {
    const ALL: &'static [Self] = &Self::ALL;
}
impl Plain for ReceiverKind {
    const ALL: &'static [Self] = &[Self::Steady, Self::Late];
}
impl Plain for Weight {
    const ALL: &'static [Self] = &[Self::Hint, Self::Unmet];
}
