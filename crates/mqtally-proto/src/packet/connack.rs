//! CONNACK.

use super::judge::{DecodeError, EncodeError, Judge};
use super::kind::Kind;
use super::reason::check_reason;
use super::wire::{Reader, Sink};
use super::{Properties, ReasonCode, Version};

/// CONNACK: the server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connack {
    /// Whether the server has a session for this client.
    pub session_present: bool,
    /// Success, or why not. 3.1.1's return codes 1 to 5 are read as the 5.0 reason of the same meaning.
    pub reason: ReasonCode,
    /// 5.0 properties: the server's limits.
    pub properties: Properties,
}

impl Connack {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let flags = reader.u8("the connect acknowledge flags")?;
        if flags > 1 {
            reader.judge.malformed(format!(
                "reserved connect acknowledge flags are set: {flags:08b} [MQTT-3.2.2-1]"
            ))?;
        }
        let reason = read_reason(reader)?;
        let properties = Properties::read(reader)?;
        Ok(Self { session_present: flags & 1 != 0, reason, properties })
    }

    pub(super) fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.u8(u8::from(self.session_present));
        sink.u8(match version {
            // The check has refused what has no return code.
            Version::V3_1_1 => self.reason.to_return_code().unwrap_or(self.reason.0),
            Version::V5_0 => self.reason.0,
        });
        self.properties.write(version, sink)
    }

    pub(super) fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        check_reason(self.reason, Kind::Connack, judge)?;
        if self.session_present && self.reason != ReasonCode::SUCCESS {
            judge.protocol_error(
                "a refused CONNECT has session present set [MQTT-3.2.2-6] (3.1.1: [MQTT-3.2.2-4])",
            )?;
        }
        self.properties.check(Kind::Connack.into(), judge)?;
        self.properties.check_authentication(judge)
    }
}

/// In 3.1.1 a reserved return code is no reason; a lenient reading shows it as it came.
fn read_reason(reader: &mut Reader) -> Result<ReasonCode, DecodeError> {
    let code = reader.u8("the reason code")?;
    if reader.judge.version == Version::V5_0 {
        return Ok(ReasonCode(code));
    }
    if let Some(reason) = ReasonCode::from_return_code(code) {
        return Ok(reason);
    }
    reader.judge.protocol_error(format!("CONNACK return code {code} is reserved (3.1.1: 3.2.2.3)"))?;
    Ok(ReasonCode(code))
}
