//! A client that somebody keeps alive: whenever its connection is gone it comes back.

use crate::process::READY_LIMIT;
use crate::workload::Trouble;
use crate::workload::peer::Peer;
use crate::workload::scene::Scene;
use crate::workload::subscriber::Subscriber;
use mqtally::connection::Closing;
use mqtally_history::event::EventKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};

/// Between two attempts to come back.
const RETRY: Duration = Duration::from_millis(5);
/// How long a client tries to come back; a broker that restarts may take a while.
const RETURN_LIMIT: Duration = READY_LIMIT.saturating_add(Duration::from_secs(5));

/// A client, and whether it is back.
pub(super) struct Client {
    who: Who,
    is_back: watch::Sender<bool>,
    has_forgotten: AtomicBool,
    /// Held while it comes back, and while something is done to it that has to be over before.
    returning: Mutex<()>,
}

enum Who {
    Publisher(Arc<Peer>),
    Subscriber(Subscriber),
}

impl Client {
    /// One that is connected.
    pub(super) fn publisher(peer: &Arc<Peer>) -> Self {
        Self::new(Who::Publisher(Arc::clone(peer)))
    }

    /// One that is connected and subscribed.
    pub(super) fn subscriber(subscriber: Subscriber) -> Self {
        Self::new(Who::Subscriber(subscriber))
    }

    fn new(who: Who) -> Self {
        Self {
            who,
            is_back: watch::Sender::new(true),
            has_forgotten: AtomicBool::new(false),
            returning: Mutex::default(),
        }
    }

    pub(super) fn peer(&self) -> &Peer {
        match &self.who {
            Who::Publisher(peer) => peer,
            Who::Subscriber(subscriber) => &subscriber.peer,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.peer().name
    }

    /// Hears an answer of the broker, where it subscribes to something. Who has lost its connection, and maybe has not
    /// noticed yet, asks when it is back.
    pub(super) async fn ask_aside(&self, scene: &Scene) -> Result<(), Trouble> {
        let Who::Subscriber(subscriber) = &self.who else { return Ok(()) };
        let before = self.peer().standing().connections;
        match subscriber.ask_aside(scene).await {
            Err(Trouble::Failed { .. } | Trouble::Closed { .. }) => {
                self.until_connected_since(before).await?;
                subscriber.ask_aside(scene).await
            }
            asked => asked,
        }
    }

    /// Its process dies, and its next one knows nothing of a session.
    pub(super) async fn forget(&self, scene: &Scene) -> Result<(), Trouble> {
        let before = self.peer().standing().connections;
        let returning = self.returning.lock().await;
        self.peer().client.cut(Closing::Rst).await;
        self.has_forgotten.store(true, Ordering::Relaxed);
        scene.recorder.record(EventKind::StateWiped { client: Arc::clone(self.name()) });
        drop(returning);
        self.until_connected_since(before).await
    }

    /// Ends its connection, and waits until it has another one.
    pub(super) async fn connect_again(&self, how: Closing) -> Result<(), Trouble> {
        let before = self.peer().standing().connections;
        self.peer().client.cut(how).await;
        self.until_connected_since(before).await
    }

    /// Waits for the next connection behind the first so many, and until it is back.
    pub(super) async fn until_connected_since(&self, before: u64) -> Result<(), Trouble> {
        self.peer()
            .until_across(RETURN_LIMIT, "connection", |standing| standing.connections > before)
            .await?;
        self.until_back().await
    }

    /// Brings it back whenever its connection is gone; ready when that fails for good.
    pub(super) async fn keep(&self, scene: &Scene) -> Trouble {
        loop {
            self.peer().gone().await;
            self.is_back.send_replace(false);
            if let Err(trouble) = self.come_back(scene).await {
                return trouble;
            }
            self.is_back.send_replace(true);
        }
    }

    /// Waits until it is connected, and back in its session.
    pub(super) async fn until_back(&self) -> Result<(), Trouble> {
        let mut is_back = self.is_back.subscribe();
        loop {
            // Whoever keeps it has a bound.
            let _ = is_back.wait_for(|is_back| *is_back).await;
            let connected = self.peer().until_across(RETURN_LIMIT, "connection", |it| !it.closed);
            connected.await?;
            if *is_back.borrow_and_update() {
                return Ok(());
            }
        }
    }

    async fn come_back(&self, scene: &Scene) -> Result<(), Trouble> {
        let deadline = Instant::now() + RETURN_LIMIT;
        loop {
            let returning = self.returning.lock().await;
            let tried = self.try_to_come_back(scene).await;
            drop(returning);
            match tried {
                Err(trouble) if Instant::now() >= deadline => return Err(trouble),
                Err(_) => sleep(RETRY).await,
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn try_to_come_back(&self, scene: &Scene) -> Result<(), Trouble> {
        if self.has_forgotten.load(Ordering::Relaxed) {
            self.begin_anew(scene).await?;
            self.has_forgotten.store(false, Ordering::Relaxed);
            return Ok(());
        }
        match &self.who {
            Who::Publisher(peer) => peer.connect().await.map(drop),
            Who::Subscriber(subscriber) => subscriber.back().await,
        }
    }

    /// A clean start. In 3.1.1 that is no lasting session yet, which takes a second connection.
    async fn begin_anew(&self, scene: &Scene) -> Result<(), Trouble> {
        let peer = self.peer();
        peer.client.set_clean_start(true);
        let begun = peer.connect().await;
        peer.client.set_clean_start(false);
        begun?;
        if !scene.is_v5() {
            peer.disconnect().await;
            peer.connect().await?;
        }
        match &self.who {
            Who::Publisher(_) => Ok(()),
            Who::Subscriber(subscriber) => subscriber.subscribe().await,
        }
    }
}
