//! CONNECT and its will.

use super::judge::{DecodeError, EncodeError, Judge};
use super::kind::Kind;
use super::property::Place;
use super::wire::{Reader, Sink};
use super::{Properties, Qos, ReasonCode, Version};
use crate::topic;
use bytes::Bytes;
use bytestring::ByteString;

/// CONNECT: a client asks to open (or resume) its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The version asked for; it governs every later packet of the connection.
    pub version: Version,
    /// Clean Session (3.1.1) or Clean Start (5.0).
    pub clean_start: bool,
    /// Keep-alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// The client's name; empty asks the server to assign one.
    pub client_id: ByteString,
    /// The message to publish if the connection ends without DISCONNECT.
    pub will: Option<Will>,
    /// User name, when given.
    pub username: Option<ByteString>,
    /// Password, when given.
    pub password: Option<Bytes>,
    /// 5.0 properties; empty in 3.1.1.
    pub properties: Properties,
}

/// The will of a CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic to publish to.
    pub topic: ByteString,
    /// Payload to publish.
    pub payload: Bytes,
    /// QoS to publish at.
    pub qos: Qos,
    /// Publish as a retained message.
    pub retain: bool,
    /// 5.0 will properties, among them the will delay interval.
    pub properties: Properties,
}

const USERNAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;

impl Connect {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = read_version(reader)?;
        reader.judge.version = version;
        let flags = reader.u8("the connect flags")?;
        check_flags(flags, &mut reader.judge)?;
        let keep_alive = reader.u16("the keep-alive")?;
        let properties = Properties::read(reader)?;
        let client_id = reader.text("the client id")?;
        let will = if flags & WILL == 0 { None } else { Some(Will::read(flags, reader)?) };
        let username = if flags & USERNAME == 0 { None } else { Some(reader.text("the user name")?) };
        let password = if flags & PASSWORD == 0 { None } else { Some(reader.binary("the password")?) };
        let clean_start = flags & CLEAN_START != 0;
        Ok(Self { version, clean_start, keep_alive, client_id, will, username, password, properties })
    }

    pub(super) fn write(&self, sink: &mut impl Sink) -> Result<(), EncodeError> {
        sink.text("MQTT", "the protocol name")?;
        sink.u8(self.version.level());
        sink.u8(self.flags());
        sink.u16(self.keep_alive);
        self.properties.write(self.version, sink)?;
        sink.text(&self.client_id, "the client id")?;
        if let Some(will) = &self.will {
            will.write(self.version, sink)?;
        }
        if let Some(username) = &self.username {
            sink.text(username, "the user name")?;
        }
        self.password.as_ref().map_or(Ok(()), |password| sink.binary(password, "the password"))
    }

    pub(super) fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        if self.version != judge.version {
            let detail = format!("CONNECT asks for {}, not {}", self.version, judge.version);
            judge.fault(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, detail)?;
        }
        if self.version == Version::V3_1_1 && self.password.is_some() && self.username.is_none() {
            judge.malformed("CONNECT has a password but no user name (3.1.1: [MQTT-3.1.2-22])")?;
        }
        self.properties.check(Kind::Connect.into(), judge)?;
        self.properties.check_authentication(judge)?;
        self.will.as_ref().map_or(Ok(()), |will| will.check(judge))
    }

    fn flags(&self) -> u8 {
        let flag = |bit: u8, set: bool| if set { bit } else { 0 };
        flag(USERNAME, self.username.is_some())
            | flag(PASSWORD, self.password.is_some())
            | flag(CLEAN_START, self.clean_start)
            | self.will.as_ref().map_or(0, Will::flags)
    }
}

impl Will {
    fn flags(&self) -> u8 {
        let retain = if self.retain { WILL_RETAIN } else { 0 };
        WILL | self.qos.as_u8() << 3 | retain
    }

    fn read(flags: u8, reader: &mut Reader) -> Result<Self, DecodeError> {
        let Some(qos) = Qos::from_u8(will_qos(flags)) else {
            return Err(DecodeError::malformed(
                "the will has QoS 3 [MQTT-3.1.2-12] (3.1.1: [MQTT-3.1.2-14])",
            ));
        };
        let properties = Properties::read(reader)?;
        let topic = reader.text("the will topic")?;
        let payload = reader.binary("the will payload")?;
        Ok(Self { topic, payload, qos, retain: flags & WILL_RETAIN != 0, properties })
    }

    fn write(&self, version: Version, sink: &mut impl Sink) -> Result<(), EncodeError> {
        self.properties.write(version, sink)?;
        sink.text(&self.topic, "the will topic")?;
        sink.binary(&self.payload, "the will payload")
    }

    fn check(&self, judge: &mut Judge) -> Result<(), DecodeError> {
        self.properties.check(Place::WILL, judge)?;
        match topic::validate_name(&self.topic) {
            Ok(()) => Ok(()),
            Err(error) => judge.fault(ReasonCode::TOPIC_NAME_INVALID, format!("the will topic {error}")),
        }
    }
}

const fn will_qos(flags: u8) -> u8 {
    flags >> 3 & 0b11
}

/// Protocol name and level [MQTT-3.1.2-1] [MQTT-3.1.2-2].
fn read_version(reader: &mut Reader) -> Result<Version, DecodeError> {
    let name = reader.text("the protocol name")?;
    let level = reader.u8("the protocol level")?;
    // Whatever is refused from here on is answered in the version that the client is likeliest to understand.
    reader.judge.version = if level < 5 { Version::V3_1_1 } else { Version::V5_0 };
    if name != "MQTT" {
        let detail = format!("the protocol name is {name:?}, not \"MQTT\" [MQTT-3.1.2-1]");
        reader.judge.fault(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, detail)?;
    }
    Version::from_level(level).ok_or_else(|| {
        let detail = format!("protocol level {level} is neither 4 (3.1.1) nor 5 (5.0) [MQTT-3.1.2-2]");
        DecodeError::new(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, detail)
    })
}

/// [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-13] (3.1.1: [MQTT-3.1.2-3] [MQTT-3.1.2-13] [MQTT-3.1.2-15])
fn check_flags(flags: u8, judge: &mut Judge) -> Result<(), DecodeError> {
    if flags & RESERVED != 0 {
        judge.malformed("the reserved connect flag is set [MQTT-3.1.2-3]")?;
    }
    if flags & WILL == 0 && will_qos(flags) != 0 {
        judge.malformed("a will QoS without a will [MQTT-3.1.2-11]")?;
    }
    if flags & WILL == 0 && flags & WILL_RETAIN != 0 {
        judge.malformed("will retain without a will [MQTT-3.1.2-13]")?;
    }
    Ok(())
}
