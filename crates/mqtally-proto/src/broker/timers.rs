//! What happens when time passes: connections that say nothing, wills and sessions that come due.
//!
//! Each timer stands once in an ordered set, and its owner knows where; so it is removed when it is no longer wanted
//! and the set is never larger than what there is to wait for. Packets do not touch it: a keep-alive that comes due looks
//! when its client was last heard and waits for the rest.

use super::Broker;
use super::config::ConnectionId;
use super::sessions::SessionKey;
use crate::Time;
use crate::packet::ReasonCode;
use std::collections::BTreeSet;

/// What comes due. The order decides between those of the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A connection has sent nothing for too long, or no CONNECT.
    Silence(ConnectionId),
    /// A will's delay is over.
    Will(SessionKey),
    /// A session has expired.
    SessionEnd(SessionKey),
}

#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Time, Timer)>,
}

impl Timers {
    pub(super) fn start(&mut self, at: Option<Time>, timer: Timer) {
        self.due.extend(at.map(|at| (at, timer)));
    }

    pub(super) fn stop(&mut self, at: Option<Time>, timer: Timer) {
        if let Some(at) = at {
            self.due.remove(&(at, timer));
        }
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.due.first().map(|(at, _)| *at)
    }

    fn pop_due(&mut self, now: Time) -> Option<Timer> {
        self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.pop_first().map(|(_, timer)| timer)
    }
}

impl Broker {
    /// Does what is due at `now`; earlier than [`Self::poll_timeout`] nothing is.
    pub fn handle_timeout(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Silence(connection) => self.check_silence(now, connection),
                Timer::Will(session) => self.publish_delayed_will(now, session),
                Timer::SessionEnd(session) => self.end_session(now, session),
            }
        }
    }

    /// When [`Self::handle_timeout`] should be called next.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    fn check_silence(&mut self, now: Time, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.timer_at = None;
        let Some(deadline) = connection.silent_until() else { return };
        if deadline > now {
            connection.timer_at = Some(deadline);
            self.timers.start(connection.timer_at, Timer::Silence(id));
        } else {
            self.fail(now, id, ReasonCode::KEEP_ALIVE_TIMEOUT);
        }
    }
}
