//! Syncing beside writing: what is committed reaches the disk while the next transaction is under way.
//!
//! A commit of SQLite's write-ahead log is whole for every other process, and for this one when it starts again; what makes
//! it survive the machine is the log's sync. So the writer commits without one, and hands over what waits for the disk,
//! in the order of the commits. This thread syncs once for all that has gathered, notes the last commit in the watermark,
//! and lets go, in order: nothing is let go of before all that was committed before it is on disk.
//!
//! After an error nothing is let go of any more. Whoever owns the store finds out with [`Syncer::has_failed`], and gets
//! back what still waits from [`Syncer::end`].

use super::StoreError;
use super::mark::Mark;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How far the watermark may be behind on a dead machine.
const MARK_INTERVAL: Duration = Duration::from_secs(1);

/// How soon somebody who waits for the disk sees that nothing gets there any more.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What waits for the disk.
pub type Waiting = Box<dyn FnOnce() + Send>;

/// How a store ended.
#[derive(Default)]
pub struct Ended {
    /// Why commits do not reach the disk any more.
    pub error: Option<StoreError>,
    /// What waits all the same, each with the commit that it stands behind, in order.
    pub waiting: Vec<(u64, Waiting)>,
}

/// The thread that syncs the log of one open store.
#[derive(Debug)]
pub(super) struct Syncer {
    /// Absent, like the thread, when it has ended.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<Option<Failure>>>,
    progress: Arc<Progress>,
}

/// What the thread tells of its work.
#[derive(Debug, Default)]
struct Progress {
    syncs: AtomicU64,
    /// Commits that wait for the disk.
    waiting: Mutex<usize>,
    fewer: Condvar,
}

struct Job {
    commit: u64,
    durable: bool,
    waiting: Waiting,
}

/// Where the thread stopped.
struct Failure {
    error: StoreError,
    gathered: Vec<Job>,
    jobs: Receiver<Job>,
}

impl Syncer {
    /// Starts the thread for the store at `path`, whose log has to be there.
    pub(super) fn start(path: &Path, mark: Mark, faults: Faults) -> Result<Self, StoreError> {
        let failed = |act| move |source| StoreError::from_io(path, act, source);
        let log = File::open(super::sqlite::beside(path, "-wal")).map_err(failed("open the log"))?;
        let (sender, jobs) = mpsc::channel();
        let progress = Arc::new(Progress::default());
        let (path, told) = (path.to_owned(), Arc::clone(&progress));
        let thread = Thread { path, log, mark, marked: Instant::now(), progress: told, faults };
        let thread = std::thread::Builder::new()
            .name("mqtally-sync".into())
            .spawn(move || thread.run(jobs))
            .map_err(failed("start a thread"))?;
        Ok(Self { jobs: Some(sender), thread: Some(thread), progress })
    }

    /// Lets go of `waiting` when all that was handed over before it was let go of and, if `durable`, `commit` is on disk.
    pub(super) fn release(&self, commit: u64, durable: bool, waiting: Waiting) {
        *self.progress.waiting() += usize::from(durable);
        // The receiver lives as long as the handle of the thread, whether or not that goes on.
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(Job { commit, durable, waiting }));
        debug_assert!(matches!(sent, Some(Ok(()))), "released after the end");
    }

    /// How often the log was synced.
    pub(super) fn syncs(&self) -> u64 {
        self.progress.syncs.load(Ordering::Relaxed)
    }

    /// Waits until at most `most` commits wait for the disk, or none gets there any more.
    pub(super) fn wait(&self, most: usize) {
        let mut waiting = self.progress.waiting();
        while *waiting > most && !self.has_failed() {
            let woken = self.progress.fewer.wait_timeout(waiting, LOOK_INTERVAL);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether nothing is let go of any more.
    pub(super) fn has_failed(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until all is let go of that can be, and the watermark is on disk.
    pub(super) fn end(&mut self) -> Ended {
        self.jobs = None;
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(None)) => Ended::default(),
            Some(Ok(Some(Failure { error, gathered, jobs }))) => {
                let left = gathered.into_iter().chain(jobs.try_iter());
                Ended { error: Some(error), waiting: left.map(|job| (job.commit, job.waiting)).collect() }
            }
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Progress {
    fn waiting(&self) -> MutexGuard<'_, usize> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.end();
        }
    }
}

/// Sync errors to come; nothing but in tests.
#[cfg(feature = "failpoints")]
pub(super) type Faults = Option<std::sync::Arc<super::fail::Faults>>;
#[cfg(not(feature = "failpoints"))]
pub(super) type Faults = ();

/// The thread's own.
struct Thread {
    path: PathBuf,
    log: File,
    mark: Mark,
    marked: Instant,
    progress: Arc<Progress>,
    #[cfg_attr(not(feature = "failpoints"), expect(dead_code, reason = "errors come from the disk alone"))]
    faults: Faults,
}

impl Thread {
    fn run(mut self, jobs: Receiver<Job>) -> Option<Failure> {
        let mut gathered = Vec::new();
        loop {
            let ended = self.gather(&jobs, &mut gathered).is_err();
            if let Err(error) = self.sync(&gathered, ended) {
                return Some(Failure { error, gathered, jobs });
            }
            gathered.drain(..).for_each(|job| (job.waiting)());
            if ended {
                return None;
            }
        }
    }

    /// Waits for a job, or until the watermark is due, and takes what else is there. An error says that no more will come.
    fn gather(&self, jobs: &Receiver<Job>, gathered: &mut Vec<Job>) -> Result<(), RecvTimeoutError> {
        let first = match self.mark.is_synced() {
            true => jobs.recv().map_err(RecvTimeoutError::from),
            false => jobs.recv_timeout(MARK_INTERVAL.saturating_sub(self.marked.elapsed())),
        };
        match first {
            Err(RecvTimeoutError::Timeout) => {}
            first => {
                gathered.push(first?);
                gathered.extend(jobs.try_iter());
            }
        }
        Ok(())
    }

    fn sync(&mut self, gathered: &[Job], ending: bool) -> Result<(), StoreError> {
        if let Some(last) = gathered.iter().rev().find(|job| job.durable) {
            self.sync_log().map_err(|error| StoreError::from_io(&self.path, "sync the log", error))?;
            self.mark.write(last.commit)?;
            *self.progress.waiting() -= gathered.iter().filter(|job| job.durable).count();
            self.progress.fewer.notify_all();
        }
        if ending || self.marked.elapsed() >= MARK_INTERVAL {
            self.marked = Instant::now();
            self.mark.sync()?;
        }
        Ok(())
    }

    fn sync_log(&self) -> std::io::Result<()> {
        #[cfg(feature = "failpoints")]
        if let Some(faults) = &self.faults {
            faults.take_sync()?;
        }
        self.progress.syncs.fetch_add(1, Ordering::Relaxed);
        self.log.sync_data()
    }
}
