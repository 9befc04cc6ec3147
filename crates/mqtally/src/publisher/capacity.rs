//! How much may be accepted and not settled: messages and bytes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Room that was taken, or is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Room {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Capacity {
    max: Room,
    used: Mutex<Room>,
    freed: Notify,
}

impl Capacity {
    pub(crate) fn new(max: Room, used: Room) -> Self {
        Self { max, used: Mutex::new(used), freed: Notify::new() }
    }

    /// Whether `asked` can ever be had beside `kept` messages that never leave by themselves.
    pub(crate) fn could_fit(&self, asked: Room, kept: u64) -> bool {
        kept + asked.messages <= self.max.messages && asked.bytes <= self.max.bytes
    }

    /// Takes the room if it is there.
    pub(crate) fn try_take(&self, asked: Room) -> bool {
        let mut used = self.used();
        let room =
            used.messages + asked.messages <= self.max.messages && used.bytes + asked.bytes <= self.max.bytes;
        if room {
            used.messages += asked.messages;
            used.bytes += asked.bytes;
        }
        room
    }

    /// Takes the room as soon as it is there. Cancel-safe: dropped before it is ready, it has taken nothing.
    pub(crate) async fn take(&self, asked: Room) {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.try_take(asked) {
                return;
            }
            freed.await;
        }
    }

    pub(crate) fn free(&self, room: Room) {
        let mut used = self.used();
        used.messages = used.messages.saturating_sub(room.messages);
        used.bytes = used.bytes.saturating_sub(room.bytes);
        drop(used);
        self.freed.notify_waiters();
    }

    fn used(&self) -> MutexGuard<'_, Room> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
