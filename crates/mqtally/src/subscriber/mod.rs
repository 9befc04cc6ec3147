//! A subscriber that loses nothing it acknowledged: store, acknowledge, then handle.
//!
//! - [`Builder`]: who we are, what we want, where it goes. **Start here.**
//! - [`Subscriber`]: built and opened; [`Subscriber::run`] connects, and comes back when it is told to stop.
//! - [`Monitor`]: looks at it from outside while it runs.
//! - [`Notice`]: what a person may want to know, as it happens.
//!
//! One loop reads packets, has the [inbox](crate::inbox) store them, and answers with PUBACK or PUBREC after the commit,
//! in the order received. Handlers take their work from the inbox, never from the socket: one that is slow or
//! hangs delays its own lane, and neither the acknowledgements nor the keep-alive.
//!
//! What it holds to:
//!
//! - Nothing is acknowledged that is not on the disk. While the store cannot be written nothing is read and nothing is
//!   acknowledged, and the connection stays up; once it can be, one reconnect makes the broker send again what had
//!   been read and not stored (QoS 0 is not sent again).
//! - Memory is bounded: messages that were read and are not stored count against [`Builder::credit`], messages that
//!   are stored and not settled against [`Builder::backlog_max`]. When either is spent the socket is not read; PINGREQ
//!   goes on.
//! - Dropping the future of [`Subscriber::run`] is safe at any point: what was acknowledged is on the disk, what was not
//!   comes again. No DISCONNECT is sent then.
//!
//! ```no_run
//! use mqtally::handler::Handler;
//! use mqtally::inbox::Outcome;
//! use mqtally::subscriber::Builder;
//! use mqtally_proto::packet::Qos;
//!
//! #[derive(serde::Deserialize)]
//! struct Reading { celsius: f64 }
//!
//! # async fn subscribe() -> Result<(), Box<dyn std::error::Error>> {
//! let subscriber = Builder::new("mqtt://localhost".parse()?, "dashboard-1")
//!     .subscribe("readings/#", Qos::AtLeastOnce)
//!     .on("readings/+", Handler::typed(|reading: Reading, delivery| async move {
//!         println!("{}: {} °C", delivery.topic, reading.celsius);
//!         Outcome::Done
//!     }))
//!     .open("readings.db")?;
//! let ended = subscriber.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
//! println!("{} messages settled", ended.settled);
//! # Ok(())
//! # }
//! ```

mod builder;
mod dispatch;
mod link;
mod notice;
mod order;
mod reconnect;

pub use builder::{BuildError, Builder, Credit};
pub use notice::{Notice, Observer, Pause, Settled, SettledObserver};
pub use order::Order;

use crate::client::{Client, ConnectError};
use crate::inbox::{Inbox, InboxError, Statistics};
use builder::Config;
use dispatch::{Dispatcher, Progress};
use link::Link;
use mqtally_proto::packet::ReasonCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often it is looked whether too much is stored and not settled.
const BACKLOG_INTERVAL: Duration = Duration::from_millis(500);

/// A subscriber with its inbox open; not yet connected.
pub struct Subscriber {
    config: Arc<Config>,
    inbox: Inbox,
    status: watch::Sender<Status>,
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Messages that became done or dead letters in this run.
    pub settled: u64,
    /// Deliveries whose handlers had not finished at the deadline; they are handed out again by the next run.
    pub unfinished: usize,
    /// What was counted, since the store was made; `None` where the store could not be read at the end.
    pub statistics: Option<Statistics>,
}

/// Where a subscriber stands with its broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The broker has accepted the connection and all subscriptions.
    pub subscribed: bool,
    /// Why nothing is read at present.
    pub paused: Option<Pause>,
}

/// Why a run ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum SubscriberError {
    /// There was no connection at the start.
    #[error(transparent)]
    Unreachable(ConnectError),
    /// The broker does not want us, and asking again would not change that.
    #[error("the broker refused the connection: {reason}; {advice}")]
    Refused {
        /// What it says.
        reason: ReasonCode,
        /// What to do.
        advice: &'static str,
    },
    /// The broker refused a subscription.
    #[error(
        "the broker refused the subscription to {filter:?}: {reason}; check the filter and what this user may read"
    )]
    SubscriptionRefused {
        /// Topic filter.
        filter: String,
        /// What it says.
        reason: ReasonCode,
    },
    /// Another client took the session over.
    #[error(
        "another client with the id {client_id:?} took the session over; stop that one, or give each an id and a store of its own"
    )]
    TakenOver {
        /// Our client id.
        client_id: String,
    },
    /// The broker ends each connection soon after it accepted it.
    #[error(
        "the broker ended {times} connections in a row soon after it had accepted them; \
         is another client using the id {client_id:?}? stop that one, or look into the broker's log"
    )]
    Unwelcome {
        /// How many.
        times: u32,
        /// Our client id.
        client_id: String,
    },
    /// The inbox was closed, or its writer is gone.
    #[error("the inbox ended; start again")]
    Inbox,
}

/// Looks at a subscriber from outside.
#[derive(Debug, Clone)]
pub struct Monitor {
    inbox: Inbox,
    status: watch::Receiver<Status>,
}

impl Monitor {
    /// What is counted, and what is in the store.
    pub async fn statistics(&self) -> Result<Statistics, InboxError> {
        self.inbox.statistics().await
    }

    /// Where it stands, now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until all subscriptions are granted; false when that cannot happen any more.
    pub async fn subscribed(&mut self) -> bool {
        self.status.wait_for(|status| status.subscribed).await.is_ok()
    }
}

impl Subscriber {
    /// A look at it from outside, also while it runs.
    pub fn monitor(&self) -> Monitor {
        Monitor { inbox: self.inbox.clone(), status: self.status.subscribe() }
    }

    /// Connects and works until `stop` is ready, the [count](Builder::count) is reached, or it cannot go on.
    ///
    /// Then, also after an error, it ends in order: it reads nothing more, gives the handlers the
    /// [grace](Builder::grace) to finish, settles what they decided, sends the acknowledgements that are due, says
    /// DISCONNECT and closes the inbox.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Ended, SubscriberError> {
        let progress = Progress::new(self.config.count, self.config.handlers.len());
        let (stopping, stopped) = watch::channel(false);
        let mut workers = self.start_workers(&progress, &stopped);
        let (backlog_sender, backlog) = watch::channel(0);
        let mut helpers = JoinSet::new();
        helpers.spawn(watch_backlog(self.inbox.clone(), backlog_sender));

        let mut link = Link::open(&self.config, self.inbox.clone(), self.status, backlog).await?;
        let outcome = tokio::select! {
            ended = link.run() => ended,
            () = stop => Ok(()),
            () = progress.reached() => Ok(()),
        };
        link.pause().await;
        stopping.send_replace(true);
        let unfinished = finish(&mut workers, self.config.grace).await;
        if unfinished > 0 {
            self.config.tell(&Notice::Unfinished(unfinished));
        }
        link.close().await;
        for handler in &self.config.handlers {
            handler.close().await;
        }
        let statistics = self.inbox.statistics().await.ok();
        self.inbox.close().await;
        outcome.map(|()| Ended { settled: progress.settled(), unfinished, statistics })
    }

    fn start_workers(&self, progress: &Arc<Progress>, stopped: &watch::Receiver<bool>) -> JoinSet<usize> {
        let mut workers = JoinSet::new();
        for (channel, handler) in (0..).zip(&self.config.handlers) {
            let dispatcher = Dispatcher::new(
                &self.config,
                self.inbox.clone(),
                channel,
                Arc::clone(handler),
                Arc::clone(progress),
            );
            workers.spawn(dispatcher.run(stopped.clone()));
        }
        workers
    }
}

/// Waits for the workers, which have been told to stop. Returns how many deliveries were left unfinished.
async fn finish(workers: &mut JoinSet<usize>, grace: Duration) -> usize {
    // Dispatchers keep to the grace by themselves; this is for one that waits for a disk.
    let patience = grace + Duration::from_secs(5);
    let mut unfinished = 0;
    let all = async {
        while let Some(left) = workers.join_next().await {
            unfinished += left.unwrap_or_default();
        }
    };
    // Whoever is late is handed out again by the next run, as after a crash.
    drop(tokio::time::timeout(patience, all).await);
    unfinished
}

async fn watch_backlog(inbox: Inbox, backlog: watch::Sender<u64>) {
    loop {
        if let Ok(statistics) = inbox.statistics().await {
            backlog.send_replace(statistics.unsettled);
        }
        tokio::time::sleep(BACKLOG_INTERVAL).await;
    }
}

/// Used where a client has to be set up from a configuration.
fn start_client(config: &Config, remembered: Vec<u16>) -> (Client, crate::client::Events) {
    let mut settings = config.client.clone();
    settings.options.remembered = remembered;
    Client::start(settings)
}
