//! A client's connection: cut when the nemesis wants it, brought back when it may be.

use super::super::peer::Peer;
use super::super::subscriber::Subscriber;
use super::{Scene, Trouble};
use crate::scenario::FaultKind;
use mqtally::connection::Closing;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Between two attempts to come back.
const RETRY: Duration = Duration::from_millis(20);

/// What the nemesis does to the clients of a stream, or to a subscriber.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Plight {
    /// How often its connection was ended so far.
    pub(super) strikes: u64,
    /// How it was ended last.
    pub(super) leaves: bool,
    /// Faults in force that keep it away.
    pub(super) away: u32,
    /// Faults in force that keep it from reading.
    pub(super) stalled: u32,
}

/// Whose connection it is.
#[derive(Clone)]
pub(super) enum End {
    Device(Arc<Peer>),
    Subscriber(Arc<Subscriber>),
}

impl End {
    pub(super) fn peer(&self) -> &Peer {
        match self {
            Self::Device(peer) => peer,
            Self::Subscriber(subscriber) => &subscriber.peer,
        }
    }

    pub(super) fn into_peer(self) -> Arc<Peer> {
        match self {
            Self::Device(peer) => peer,
            Self::Subscriber(subscriber) => subscriber.peer.clone(),
        }
    }

    async fn back(&self) -> Result<(), Trouble> {
        match self {
            Self::Device(peer) => peer.connect().await.map(drop),
            Self::Subscriber(subscriber) => subscriber.back().await,
        }
    }
}

/// A client's connection.
pub(super) struct Link {
    scene: Scene,
    end: End,
    plight: watch::Receiver<Plight>,
    /// Whether the broker runs.
    up: watch::Receiver<bool>,
    random: fastrand::Rng,
    struck: u64,
    stalled: bool,
}

impl Link {
    pub(super) fn new(
        scene: &Scene,
        end: End,
        plight: watch::Receiver<Plight>,
        up: watch::Receiver<bool>,
    ) -> Self {
        let random = scene.random(&format!("link/{}", role(&end)));
        Self { scene: scene.clone(), end, plight, up, random, struck: 0, stalled: false }
    }

    /// Keeps the connection as it is to be, for ever.
    pub(super) async fn keep(mut self) -> Result<Infallible, Trouble> {
        let mut standing = self.end.peer().watch();
        loop {
            let plight = *self.plight.borrow_and_update();
            if plight.strikes > self.struck {
                self.struck = plight.strikes;
                self.end_connection(plight.leaves).await?;
            }
            if plight.away == 0 && standing.borrow_and_update().closed {
                self.come_back().await?;
            }
            self.stall(plight.stalled > 0).await;
            tokio::select! {
                _ = self.plight.changed() => {}
                _ = standing.changed() => {}
            }
        }
    }

    async fn end_connection(&mut self, leaves: bool) -> Result<(), Trouble> {
        let peer = self.end.peer();
        if peer.standing().closed {
            return Ok(());
        }
        let kind = if leaves { FaultKind::Leave } else { FaultKind::Cut };
        self.scene.recorder.fault(kind.word(), Some(&peer.name));
        self.stalled = false;
        match leaves {
            true => peer.disconnect().await,
            false => peer.client.cut(if self.random.bool() { Closing::Fin } else { Closing::Rst }).await,
        }
        peer.until_closed().await
    }

    async fn stall(&mut self, wanted: bool) {
        let peer = self.end.peer();
        if wanted == self.stalled || peer.standing().closed {
            return;
        }
        self.stalled = wanted;
        if wanted {
            self.scene.recorder.fault(FaultKind::Stall.word(), Some(&peer.name));
        }
        peer.client.pause_reading(wanted).await;
    }

    /// Tries until it is connected again; the time that it may take runs while the broker does.
    async fn come_back(&mut self) -> Result<(), Trouble> {
        self.stalled = false;
        let mut deadline = Instant::now() + self.scene.plan.answer_limit;
        loop {
            if !*self.up.borrow_and_update() {
                // Its sender lives as long as the story.
                let _ = self.up.wait_for(|up| *up).await;
                deadline = Instant::now() + self.scene.plan.answer_limit;
            }
            match self.end.back().await {
                Ok(()) => return Ok(()),
                Err(trouble @ (Trouble::Refused { .. } | Trouble::NotAccepted { .. })) => {
                    return Err(trouble);
                }
                Err(trouble) if Instant::now() >= deadline => return Err(trouble),
                Err(_) if self.plight.borrow().away > 0 => return Ok(()),
                Err(_) => sleep(RETRY).await,
            }
        }
    }
}

/// What a client is called in its scenario: its name without the run.
fn role(end: &End) -> &str {
    let name = &*end.peer().name;
    name.split_once('-').map_or(name, |(_, role)| role)
}
