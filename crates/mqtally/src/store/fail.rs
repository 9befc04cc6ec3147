//! Numbered crash points and injected write errors.
//!
//! Compiled only with the feature `failpoints`; without it both are nothing. `MQTALLY_CRASH_POINT=n` aborts the process
//! when point `n` is reached, `n:k` when it is reached the `k`-th time.
//!
//! | point | where the process dies | what must hold afterwards |
//! |---|---|---|
//! | 1 | a batch is drained, no transaction yet | nothing of it acknowledged; redelivered |
//! | 2 | rows are in the open transaction | the same |
//! | 3 | before the commit, everything applied | the same; effects rolled back with it |
//! | 4 | after the commit, before its sync | committed, not acknowledged: the redelivery is a duplicate |
//! | 5 | after the watermark, before any answer | the same |
//! | 6 | a delivery was claimed, not yet handed out | its attempt counts; claimed again |
//! | 7 | an effect ran in the open transaction | rolled back, run again: one effect |
//! | 8 | after the answers | acknowledged: resumes from the store |
//! | 9 | a message was moved to the dead letters, not committed | still in the inbox |
//! | 10 | a replay was moved back to the inbox, not committed | still a dead letter, still asked for |
//! | 11 | expired keys were deleted, not committed | deleted by the next tick |
//! | 12 | a new store's schema is committed, no watermark yet | opens as a new store |
//! | 13 | the session's packet ids were dropped, not committed | dropped by the next connection |

/// Dies here when this crash point was asked for.
macro_rules! crash_point {
    ($point:literal) => {
        #[cfg(feature = "failpoints")]
        $crate::store::fail::reach($point);
    };
}
pub(crate) use crash_point;

/// The crash points, for a test that goes through all of them.
#[cfg(feature = "failpoints")]
pub const CRASH_POINTS: std::ops::RangeInclusive<u32> = 1..=13;

/// Aborts the process when `MQTALLY_CRASH_POINT` names `point` and its count is used up.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(point: u32) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static ASKED: OnceLock<Option<(u32, AtomicU32)>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("MQTALLY_CRASH_POINT").ok()?;
        let (point, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((point.parse().ok()?, AtomicU32::new(count.parse().ok()?)))
    });
    if let Some((wanted, left)) = asked
        && *wanted == point
        && left.fetch_sub(1, Ordering::SeqCst) == 1
    {
        // The other threads go on for a moment, so that an answer that came too early is acted upon.
        std::thread::sleep(std::time::Duration::from_millis(30));
        std::process::abort();
    }
}

/// Write errors to come, shared between a test and the store that it breaks.
#[cfg(feature = "failpoints")]
#[derive(Debug, Default)]
pub struct Faults {
    commits: std::sync::atomic::AtomicU32,
    opens: std::sync::atomic::AtomicU32,
    syncs: std::sync::atomic::AtomicU32,
    meeting: std::sync::Mutex<Meeting>,
    moved: std::sync::Condvar,
}

/// Where a sync is that fails beside a later commit.
#[cfg(feature = "failpoints")]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Meeting {
    #[default]
    None,
    /// The next sync is going to wait, and whether the commit that it waits for fails as well.
    Planned { commit_fails: bool },
    /// A sync waits.
    Waiting { commit_fails: bool },
}

#[cfg(feature = "failpoints")]
impl Faults {
    /// Makes the next `count` commits fail as on a full disk.
    pub fn fail_commits(&self, count: u32) {
        self.commits.store(count, std::sync::atomic::Ordering::SeqCst);
    }

    /// Makes the next `count` openings fail as a broken disk does.
    pub fn fail_opens(&self, count: u32) {
        self.opens.store(count, std::sync::atomic::Ordering::SeqCst);
    }

    /// Makes the next `count` syncs of the log fail as a broken disk does.
    pub fn fail_syncs(&self, count: u32) {
        self.syncs.store(count, std::sync::atomic::Ordering::SeqCst);
    }

    /// Makes the next sync of the log wait for the next commit after it, ten seconds at most, and fail. The commit fails with it
    /// if `commit_fails`.
    pub fn fail_sync_beside_commit(&self, commit_fails: bool) {
        *self.meeting() = Meeting::Planned { commit_fails };
    }

    /// Blocks until a sync waits for the commit that it is to fail beside; ten seconds at most. Whether one does.
    pub fn is_sync_waiting(&self) -> bool {
        let planned = |meeting: &mut Meeting| matches!(meeting, Meeting::Planned { .. });
        let meeting = self.wait_while(planned);
        matches!(*meeting, Meeting::Waiting { .. })
    }

    pub(crate) fn take_commit(&self) -> rusqlite::Result<()> {
        let mut meeting = self.meeting();
        if let Meeting::Waiting { commit_fails } = *meeting {
            *meeting = Meeting::None;
            self.moved.notify_all();
            if commit_fails {
                return Err(sqlite_error(rusqlite::ffi::SQLITE_FULL));
            }
        }
        drop(meeting);
        Self::take_sqlite(&self.commits, rusqlite::ffi::SQLITE_FULL)
    }

    pub(crate) fn take_open(&self) -> rusqlite::Result<()> {
        Self::take_sqlite(&self.opens, rusqlite::ffi::SQLITE_IOERR)
    }

    pub(crate) fn take_sync(&self) -> std::io::Result<()> {
        if self.meet() || Self::take(&self.syncs) {
            // EIO.
            return Err(std::io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    /// Waits for a commit, if that was asked for.
    fn meet(&self) -> bool {
        let mut meeting = self.meeting();
        let Meeting::Planned { commit_fails } = *meeting else { return false };
        *meeting = Meeting::Waiting { commit_fails };
        self.moved.notify_all();
        drop(meeting);
        *self.wait_while(|meeting| matches!(meeting, Meeting::Waiting { .. })) = Meeting::None;
        true
    }

    fn meeting(&self) -> std::sync::MutexGuard<'_, Meeting> {
        self.meeting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wait_while(&self, condition: impl FnMut(&mut Meeting) -> bool) -> std::sync::MutexGuard<'_, Meeting> {
        let waited =
            self.moved.wait_timeout_while(self.meeting(), std::time::Duration::from_secs(10), condition);
        waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }

    fn take_sqlite(counter: &std::sync::atomic::AtomicU32, code: i32) -> rusqlite::Result<()> {
        if Self::take(counter) { Err(sqlite_error(code)) } else { Ok(()) }
    }

    fn take(counter: &std::sync::atomic::AtomicU32) -> bool {
        use std::sync::atomic::Ordering::SeqCst;
        counter.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

#[cfg(feature = "failpoints")]
fn sqlite_error(code: i32) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)
}
