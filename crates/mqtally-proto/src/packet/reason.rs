//! Reason codes (5.0 section 2.4).

use super::judge::{DecodeError, EncodeError, Judge};
use super::kind::Kind;
use super::wire::{Reader, Sink};
use super::{Properties, Version};

/// A reason code. Below 0x80 is success; in a SUBACK 0 to 2 is the granted QoS.
///
/// It is a number rather than an enumeration, so that a code nobody has assigned can still be seen and reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReasonCode(pub u8);

impl ReasonCode {
    /// Success (in SUBACK: granted QoS 0; in DISCONNECT: normal).
    pub const SUCCESS: Self = Self(0x00);
    /// Granted QoS 1.
    pub const GRANTED_QOS_1: Self = Self(0x01);
    /// Granted QoS 2.
    pub const GRANTED_QOS_2: Self = Self(0x02);
    /// Disconnect with will message.
    pub const DISCONNECT_WITH_WILL: Self = Self(0x04);
    /// No matching subscribers.
    pub const NO_MATCHING_SUBSCRIBERS: Self = Self(0x10);
    /// No subscription existed.
    pub const NO_SUBSCRIPTION_EXISTED: Self = Self(0x11);
    /// Continue authentication.
    pub const CONTINUE_AUTHENTICATION: Self = Self(0x18);
    /// Re-authenticate.
    pub const RE_AUTHENTICATE: Self = Self(0x19);
    /// Unspecified error.
    pub const UNSPECIFIED_ERROR: Self = Self(0x80);
    /// Malformed packet.
    pub const MALFORMED_PACKET: Self = Self(0x81);
    /// Protocol error.
    pub const PROTOCOL_ERROR: Self = Self(0x82);
    /// Implementation specific error.
    pub const IMPLEMENTATION_SPECIFIC_ERROR: Self = Self(0x83);
    /// Unsupported protocol version.
    pub const UNSUPPORTED_PROTOCOL_VERSION: Self = Self(0x84);
    /// Client identifier not valid.
    pub const CLIENT_IDENTIFIER_NOT_VALID: Self = Self(0x85);
    /// Bad user name or password.
    pub const BAD_USER_NAME_OR_PASSWORD: Self = Self(0x86);
    /// Not authorized.
    pub const NOT_AUTHORIZED: Self = Self(0x87);
    /// Server unavailable.
    pub const SERVER_UNAVAILABLE: Self = Self(0x88);
    /// Server busy.
    pub const SERVER_BUSY: Self = Self(0x89);
    /// Banned.
    pub const BANNED: Self = Self(0x8A);
    /// Server shutting down.
    pub const SERVER_SHUTTING_DOWN: Self = Self(0x8B);
    /// Bad authentication method.
    pub const BAD_AUTHENTICATION_METHOD: Self = Self(0x8C);
    /// Keep alive timeout.
    pub const KEEP_ALIVE_TIMEOUT: Self = Self(0x8D);
    /// Session taken over.
    pub const SESSION_TAKEN_OVER: Self = Self(0x8E);
    /// Topic filter invalid.
    pub const TOPIC_FILTER_INVALID: Self = Self(0x8F);
    /// Topic name invalid.
    pub const TOPIC_NAME_INVALID: Self = Self(0x90);
    /// Packet identifier in use.
    pub const PACKET_IDENTIFIER_IN_USE: Self = Self(0x91);
    /// Packet identifier not found.
    pub const PACKET_IDENTIFIER_NOT_FOUND: Self = Self(0x92);
    /// Receive maximum exceeded.
    pub const RECEIVE_MAXIMUM_EXCEEDED: Self = Self(0x93);
    /// Topic alias invalid.
    pub const TOPIC_ALIAS_INVALID: Self = Self(0x94);
    /// Packet too large.
    pub const PACKET_TOO_LARGE: Self = Self(0x95);
    /// Message rate too high.
    pub const MESSAGE_RATE_TOO_HIGH: Self = Self(0x96);
    /// Quota exceeded.
    pub const QUOTA_EXCEEDED: Self = Self(0x97);
    /// Administrative action.
    pub const ADMINISTRATIVE_ACTION: Self = Self(0x98);
    /// Payload format invalid.
    pub const PAYLOAD_FORMAT_INVALID: Self = Self(0x99);
    /// Retain not supported.
    pub const RETAIN_NOT_SUPPORTED: Self = Self(0x9A);
    /// QoS not supported.
    pub const QOS_NOT_SUPPORTED: Self = Self(0x9B);
    /// Use another server.
    pub const USE_ANOTHER_SERVER: Self = Self(0x9C);
    /// Server moved.
    pub const SERVER_MOVED: Self = Self(0x9D);
    /// Shared subscriptions not supported.
    pub const SHARED_SUBSCRIPTIONS_NOT_SUPPORTED: Self = Self(0x9E);
    /// Connection rate exceeded.
    pub const CONNECTION_RATE_EXCEEDED: Self = Self(0x9F);
    /// Maximum connect time.
    pub const MAXIMUM_CONNECT_TIME: Self = Self(0xA0);
    /// Subscription identifiers not supported.
    pub const SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED: Self = Self(0xA1);
    /// Wildcard subscriptions not supported.
    pub const WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED: Self = Self(0xA2);

    /// Whether the code says that something failed.
    pub const fn is_error(self) -> bool {
        self.0 >= 0x80
    }

    /// The specification's words for the code.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0x00 => "success",
            0x01 => "granted QoS 1",
            0x02 => "granted QoS 2",
            0x04 => "disconnect with will message",
            0x10 => "no matching subscribers",
            0x11 => "no subscription existed",
            0x18 => "continue authentication",
            0x19 => "re-authenticate",
            0x80 => "unspecified error",
            0x81 => "malformed packet",
            0x82 => "protocol error",
            0x83 => "implementation specific error",
            0x84 => "unsupported protocol version",
            0x85 => "client identifier not valid",
            0x86 => "bad user name or password",
            0x87 => "not authorized",
            0x88 => "server unavailable",
            0x89 => "server busy",
            0x8A => "banned",
            0x8B => "server shutting down",
            0x8C => "bad authentication method",
            0x8D => "keep alive timeout",
            0x8E => "session taken over",
            0x8F => "topic filter invalid",
            0x90 => "topic name invalid",
            0x91 => "packet identifier in use",
            0x92 => "packet identifier not found",
            0x93 => "receive maximum exceeded",
            0x94 => "topic alias invalid",
            0x95 => "packet too large",
            0x96 => "message rate too high",
            0x97 => "quota exceeded",
            0x98 => "administrative action",
            0x99 => "payload format invalid",
            0x9A => "retain not supported",
            0x9B => "QoS not supported",
            0x9C => "use another server",
            0x9D => "server moved",
            0x9E => "shared subscriptions not supported",
            0x9F => "connection rate exceeded",
            0xA0 => "maximum connect time",
            0xA1 => "subscription identifiers not supported",
            0xA2 => "wildcard subscriptions not supported",
            _ => "unassigned reason code",
        }
    }
}

impl std::fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "0x{:02X} {}", self.0, self.name())
    }
}

/// 3.1.1's CONNACK return codes 0 to 5 (table 3.1), in order, as the 5.0 reasons of the same meaning.
const RETURN_CODES: [ReasonCode; 6] = [
    ReasonCode::SUCCESS,
    ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
    ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
    ReasonCode::SERVER_UNAVAILABLE,
    ReasonCode::BAD_USER_NAME_OR_PASSWORD,
    ReasonCode::NOT_AUTHORIZED,
];

impl ReasonCode {
    /// The reason that 3.1.1's CONNACK return code stands for; `None` for a reserved one.
    pub(super) fn from_return_code(code: u8) -> Option<Self> {
        RETURN_CODES.get(usize::from(code)).copied()
    }

    /// The 3.1.1 CONNACK return code for this reason, if it has one.
    pub(super) fn to_return_code(self) -> Option<u8> {
        RETURN_CODES.iter().position(|reason| *reason == self).map(|code| code as u8)
    }

    /// Whether a packet of this type may carry the code (2.4, and table 3.1 of 3.1.1).
    fn may_stand_in(self, kind: Kind, version: Version) -> bool {
        match version {
            Version::V3_1_1 => match kind {
                Kind::Connack => self.to_return_code().is_some(),
                Kind::Suback => matches!(self.0, 0x00..=0x02 | 0x80),
                _ => self == Self::SUCCESS,
            },
            Version::V5_0 => match kind {
                Kind::Connack => matches!(self.0,
                    0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F),
                Kind::Puback | Kind::Pubrec => {
                    matches!(self.0, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
                }
                Kind::Pubrel | Kind::Pubcomp => matches!(self.0, 0x00 | 0x92),
                Kind::Suback => matches!(
                    self.0,
                    0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2
                ),
                Kind::Unsuback => matches!(self.0, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
                Kind::Disconnect => matches!(self.0,
                    0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90 | 0x93..=0xA2),
                Kind::Auth => matches!(self.0, 0x00 | 0x18 | 0x19),
                _ => false,
            },
        }
    }
}

/// A code that does not belong in the packet is a protocol error.
pub(super) fn check_reason(reason: ReasonCode, kind: Kind, judge: &mut Judge) -> Result<(), DecodeError> {
    let is_failure = reason.is_error() && judge.takes_any_failure && is_answer(kind);
    if !is_failure && !reason.may_stand_in(kind, judge.version) {
        judge.protocol_error(format!("{} may not carry {reason} (2.4)", kind.name()))?;
    }
    Ok(())
}

/// Whether the packet ends with a failure what it answers, whatever the failure is called.
fn is_answer(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Connack | Kind::Puback | Kind::Pubrec | Kind::Suback | Kind::Unsuback | Kind::Disconnect
    )
}

/// Reads the end that PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT and AUTH share.
///
/// 5.0 lets the properties be left out when there are none, and then the reason too when it is success (3.4.2.1).
pub(super) fn read_reason_and_properties(
    reader: &mut Reader,
) -> Result<(ReasonCode, Properties), DecodeError> {
    if reader.judge.version == Version::V3_1_1 || reader.is_at_end() {
        return Ok((ReasonCode::SUCCESS, Properties::default()));
    }
    let reason = ReasonCode(reader.u8("the reason code")?);
    let properties = if reader.is_at_end() { Properties::default() } else { Properties::read(reader)? };
    Ok((reason, properties))
}

/// Writes the shortest form that [`read_reason_and_properties`] reads.
pub(super) fn write_reason_and_properties(
    reason: ReasonCode,
    properties: &Properties,
    version: Version,
    sink: &mut impl Sink,
) -> Result<(), EncodeError> {
    if version == Version::V3_1_1 || (reason == ReasonCode::SUCCESS && properties.is_empty()) {
        return Ok(());
    }
    sink.u8(reason.0);
    if properties.is_empty() { Ok(()) } else { properties.write(version, sink) }
}
