//! DISCONNECT and AUTH: a reason and properties.

use super::judge::{DecodeError, EncodeError, Judge, Sender};
use super::kind::Kind;
use super::reason::{check_reason, read_reason_and_properties, write_reason_and_properties};
use super::wire::{Reader, Sink};
use super::{Properties, ReasonCode, Version};

/// DISCONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Why the connection ends; always success in 3.1.1.
    pub reason: ReasonCode,
    /// 5.0 properties.
    pub properties: Properties,
}

/// AUTH (5.0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Continue, re-authenticate or success.
    pub reason: ReasonCode,
    /// 5.0 properties: method and data.
    pub properties: Properties,
}

impl Disconnect {
    /// A DISCONNECT with `reason`, without properties.
    pub fn with_reason(reason: ReasonCode) -> Self {
        Self { reason, properties: Properties::default() }
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let (reason, properties) = read_reason_and_properties(reader)?;
        Ok(Self { reason, properties })
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        write_reason_and_properties(self.reason, &self.properties, version, sink)
    }

    /// [MQTT-3.14.2-1] [MQTT-3.14.2-2]
    pub(super) fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        check_reason(self.reason, Kind::Disconnect, judge)?;
        if judge.sender == Sender::Server && self.properties.session_expiry_interval().is_some() {
            judge.protocol_error("DISCONNECT from a server has a session expiry interval [MQTT-3.14.2-2]")?;
        }
        self.properties.check(Kind::Disconnect.into(), judge)
    }
}

impl Auth {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let (reason, properties) = read_reason_and_properties(reader)?;
        Ok(Self { reason, properties })
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        write_reason_and_properties(self.reason, &self.properties, version, sink)
    }

    /// [MQTT-3.15.2-1]. A missing method is left to the exchange, which has to compare it anyway.
    pub(super) fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        check_reason(self.reason, Kind::Auth, judge)?;
        self.properties.check(Kind::Auth.into(), judge)?;
        self.properties.check_authentication(judge)
    }
}
