//! Group `options`: what MQTT 5.0 lets clients ask for.
//!
//! - [`quota`]: receive maximum: never more, nothing else held up, and all of it again on the next connection.
//! - [`subscribing`]: No Local, subscription identifiers, shared subscriptions.
//! - [`messages`]: expiry, maximum packet size, topic aliases.
//! - [`refusing`]: reason codes of 0x80 and more, from the broker and from the subscriber.

pub(crate) mod messages;
pub(crate) mod quota;
pub(crate) mod refusing;
pub(crate) mod subscribing;
