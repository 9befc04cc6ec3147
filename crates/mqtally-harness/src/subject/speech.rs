//! What a program says, put into the history as it says it.

use super::protocol::{self, Said, Verb};
use crate::recorder::Recorder;
use mqtally_history::event::{EventKind, Outcome, Side};
use mqtally_history::marker::MessageId;
use rustc_hash::FxHashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Messages of which it is remembered that they were spoken of.
const SPOKEN_MAX: usize = 1 << 20;

/// Hears what a program says.
#[derive(Clone)]
pub(crate) struct Speech(Arc<Shared>);

struct Shared {
    recorder: Recorder,
    side: Side,
    /// It speaks in the words of the protocol, so that other lines are for people.
    outright: AtomicBool,
    /// Lines that name no message of this run.
    unfounded: AtomicU64,
    spoken: Mutex<FxHashSet<MessageId>>,
    heard: Notify,
}

impl Speech {
    pub(crate) fn new(recorder: &Recorder, side: Side) -> Self {
        Self(Arc::new(Shared {
            recorder: recorder.clone(),
            side,
            outright: AtomicBool::new(false),
            unfounded: AtomicU64::new(0),
            spoken: Mutex::default(),
            heard: Notify::new(),
        }))
    }

    /// Takes a line in that `client` printed or posted; whether it says anything of a message.
    pub(crate) fn hear(&self, client: &Arc<str>, line: &str) -> bool {
        let Some(said) = protocol::read(line) else { return false };
        self.0.outright.fetch_or(said.outright, Ordering::Relaxed);
        let word = said.outright || !self.0.outright.load(Ordering::Relaxed);
        match self.0.side {
            Side::Subscriber if word && said.verb != Verb::Published => self.settled(client, &said),
            Side::Publisher if said.verb == Verb::Published => self.claimed(client, &said),
            _ => {}
        }
        true
    }

    /// Whether anything was said of any message.
    pub(crate) fn has_said_anything(&self) -> bool {
        !self.spoken().is_empty()
    }

    /// Lines that name no message that was seen.
    pub(crate) fn unfounded(&self) -> u64 {
        match self.0.side {
            Side::Subscriber => self.0.unfounded.load(Ordering::Relaxed),
            Side::Publisher => self.0.recorder.names().unfounded_claims() as u64,
        }
    }

    /// Waits, without a bound, until all of `messages` were spoken of.
    pub(crate) async fn until_said(&self, messages: &[MessageId]) {
        loop {
            let heard = self.0.heard.notified();
            tokio::pin!(heard);
            heard.as_mut().enable();
            if messages.iter().all(|message| self.spoken().contains(message)) {
                return;
            }
            heard.await;
        }
    }

    fn settled(&self, client: &Arc<str>, said: &Said) {
        let Some(message) = self.0.recorder.names().find(&said.word) else {
            self.0.unfounded.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let outcome = match said.verb {
            Verb::Duplicate => Outcome::Duplicate,
            Verb::Failed => Outcome::Failed,
            Verb::Processed | Verb::Published => Outcome::Processed,
        };
        self.0.recorder.record(EventKind::Settled { client: client.clone(), message, outcome });
        self.note(message);
    }

    fn claimed(&self, client: &Arc<str>, said: &Said) {
        if let Some(message) = self.0.recorder.names().claim(&said.word) {
            self.0.recorder.record(EventKind::Claimed { client: client.clone(), message });
            self.note(message);
        }
    }

    fn note(&self, message: MessageId) {
        let mut spoken = self.spoken();
        if spoken.len() < SPOKEN_MAX {
            spoken.insert(message);
        }
        drop(spoken);
        self.0.heard.notify_waiters();
    }

    fn spoken(&self) -> std::sync::MutexGuard<'_, FxHashSet<MessageId>> {
        self.0.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
