//! Group `session`: a session outlives its connections, and ends when it should.
//!
//! - [`away`]: the lesson's four messages; DISCONNECT, FIN and RST with messages sent meanwhile.
//! - [`ending`]: clean start, expiry, refusal: when there must be no session.
//! - [`resumption`]: handshakes cut half-way, on the subscriber's hop and on the publisher's; takeover.

pub(crate) mod away;
pub(crate) mod ending;
pub(crate) mod resumption;
