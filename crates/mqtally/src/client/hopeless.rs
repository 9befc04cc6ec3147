//! What to do about a refusal that does not pass by itself.

use mqtally_proto::packet::ReasonCode;

/// What somebody has to do before another attempt makes sense; `None` where it may succeed as it is.
pub fn hopeless(reason: ReasonCode) -> Option<&'static str> {
    match reason {
        ReasonCode::BAD_USER_NAME_OR_PASSWORD => Some("check the user name and the password"),
        ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED => {
            Some("check the user name and the password, and what this user may do")
        }
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => Some("choose another client id"),
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => Some("try the other protocol version"),
        ReasonCode::BAD_AUTHENTICATION_METHOD => Some("use a user that needs only a password"),
        ReasonCode::SESSION_TAKEN_OVER => {
            Some("another client has our client id: stop that one, or give each its own")
        }
        _ => None,
    }
}
