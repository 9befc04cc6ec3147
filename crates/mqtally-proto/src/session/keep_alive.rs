//! PINGREQ and the silence that ends a connection.

use super::ProtocolError;
use crate::Time;
use crate::packet::ReasonCode;

/// A tick every half keep-alive interval: whoever sent nothing, or heard nothing, since the last one pings. So no
/// gap between two packets of ours exceeds the interval [MQTT-3.1.2-23 in 3.1.1, MQTT-3.1.2-20 in 5.0], and sending
/// or receiving a packet costs a flag instead of a look at the clock.
#[derive(Debug, Default)]
pub(super) struct KeepAlive {
    tick_ms: u64,
    deadline: Option<Time>,
    sent: bool,
    received: bool,
    /// Ticks since the PINGREQ that nothing has come after.
    unanswered: Option<u8>,
}

impl KeepAlive {
    /// A connection was accepted; `seconds` 0 means no keep-alive.
    pub(super) fn start(&mut self, now: Time, seconds: u16) {
        let tick_ms = u64::from(seconds) * 500;
        *self = Self { tick_ms, ..Self::default() };
        self.deadline = (seconds > 0).then(|| now.plus_ms(tick_ms));
    }

    pub(super) fn stop(&mut self) {
        self.deadline = None;
    }

    pub(super) fn sent(&mut self) {
        self.sent = true;
    }

    /// Anything that comes shows that the server lives; its PINGRESP may stand behind a long row of messages.
    pub(super) fn received(&mut self) {
        self.received = true;
        self.unanswered = None;
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Whether a PINGREQ is due.
    pub(super) fn handle_timeout(&mut self, now: Time) -> Result<bool, ProtocolError> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return Ok(false);
        }
        self.deadline = Some(now.plus_ms(self.tick_ms));
        let idle = !(std::mem::take(&mut self.sent) & std::mem::take(&mut self.received));
        self.unanswered = self.unanswered.map(|ticks| ticks + 1);
        if self.unanswered.is_some_and(|ticks| ticks >= 2) {
            self.unanswered = None;
            let detail = format!("the server sent nothing for {} ms after a PINGREQ", self.tick_ms * 2);
            return Err(ProtocolError::new(ReasonCode::KEEP_ALIVE_TIMEOUT, detail));
        }
        let ping = idle && self.unanswered.is_none();
        self.unanswered = if ping { Some(0) } else { self.unanswered };
        Ok(ping)
    }
}
