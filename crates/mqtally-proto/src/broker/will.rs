//! Wills: the message that a client leaves for the case that its connection ends without leave.
//!
//! A will is published once, when its delay is over or when the session ends, whichever is first, and not at all when the
//! session is resumed before `[MQTT-3.1.2-8]`, `[MQTT-3.1.3-9]`. It is kept with its session, so a durable session's will
//! survives a restart. There is nobody to refuse it to: a subscriber whose queue is full does not get it.

use super::Broker;
use super::publish::Content;
use super::sessions::SessionKey;
use super::stored::{Change, Message};
use super::timers::Timer;
use crate::Time;
use crate::packet::Will;
use bytestring::ByteString;
use std::sync::Arc;

impl Broker {
    /// Publishes the will of a session that lives on.
    pub(super) fn publish_delayed_will(&mut self, now: Time, key: SessionKey) {
        let session = &mut self.sessions[key];
        self.timers.stop(session.will_at.take(), Timer::Will(key));
        let Some(will) = session.will.take() else { return };
        let client_id = session.client_id.clone();
        self.ledger.changes.push(Change::PutSession(session.row()));
        self.publish_will(now, client_id, will);
    }

    /// Publishes a will in the name of `client_id`.
    pub(super) fn publish_will(&mut self, now: Time, client_id: ByteString, will: Will) {
        let content = Content::new(will.properties);
        let message = Arc::new(Message {
            topic: will.topic,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            properties: content.properties,
            expires_at: content.expiry_interval.map(|seconds| now.plus_secs(seconds.into())),
            publisher: client_id,
        });
        self.route_to_those_with_room(now, &message);
    }
}

/// Seconds between the end of the connection and the will's publication, unless the session ends before.
pub(super) fn will_delay_secs(will: &Will) -> u32 {
    will.properties.will_delay_interval().unwrap_or(0)
}
