//! Where messages go: what a reliable subscriber does with each delivery.
//!
//! - [`Handler`]: takes a [`Delivery`], answers with an [`Outcome`]. **Start here.**
//! - [`Spec`]: a handler as it is typed, such as `exec:./page.sh`; [`Routes`]: which handler takes which topic.
//! - [`Options`]: what the handlers share: time limits, the inbox's file, where to print.
//! - [`identity`]: what a receiver can recognise a repeated delivery by.
//!
//! Each file of this module is one handler, and its head says what it promises. Common to all of them:
//!
//! - A handler runs **at least once** for each message. Only an effect in the inbox's own database happens once by itself;
//!   the others pass the [`identity`] on, so that the receiver can drop a repetition.
//! - Every wait ends after [`Options::time_max`], and a wait that ends this way is a [`Outcome::Retry`].
//!   The inbox's lease has to be longer, see [`Handler::time_max`].
//! - Nothing is remembered between two deliveries that a crash could take away.
//! - Dropping the future of [`Handler::handle`] is safe: the message counts as not handled. A program is killed then; a
//!   request, line or row that is already on its way may still arrive.
//! - A handler is shared by reference; how many deliveries it works on at once is the caller's choice, up to
//!   [`Handler::concurrency_max`]: more only queue.
//!
//! ```
//! use mqtally::handler::{Handler, Options, Routes};
//! use mqtally::inbox::Outcome;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let routes = Routes::parse(["alerts/+=exec:./page.sh"], Some("https://example.com/hook"))?;
//! assert_eq!(routes.position("alerts/door"), Some(0));
//! assert_eq!(routes.position("readings/door"), Some(1));
//! let handlers = routes.open(&Options::default())?;
//! assert_eq!(handlers[0].concurrency_max(), 16);
//!
//! #[derive(serde::Deserialize)]
//! struct Reading { celsius: f64 }
//! let _own = Handler::typed(|reading: Reading, _delivery| async move {
//!     if reading.celsius < -273.15 { Outcome::DeadLetter { error: "too cold".into() } } else { Outcome::Done }
//! });
//! # Ok(())
//! # }
//! ```

mod batch;
mod exec;
mod jsonl;
#[cfg(feature = "postgres")]
mod postgres;
mod print;
mod process;
mod record;
mod republish;
mod spec;
mod sqlite;
mod stdio;
mod webhook;

pub use print::{Format, Printer};
pub use record::{identity, rfc_3339};
pub use republish::Republish;
pub use spec::{Route, Routes, Spec, SpecError};
pub use webhook::WebhookOptions;

use crate::inbox::{Delivery, Outcome};
use crate::publisher::StartError;
use crate::tls::TlsError;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Deliveries that a handler with a process or a request for each works on at once.
const PARALLEL_MAX: usize = 16;
/// Deliveries that a handler which writes in batches takes at once.
const BATCHED_MAX: usize = 1_024;
/// Longest text of an error that a handler reports, in bytes.
const ERROR_BYTES_MAX: usize = 2_048;

/// Does something with each delivery. Made by [`Spec::open`], or from a function of yours.
pub struct Handler(Kind);

enum Kind {
    Print(Printer),
    Jsonl(jsonl::Jsonl),
    Exec(exec::Exec),
    Stdio(stdio::Stdio),
    Webhook(webhook::Webhook),
    Sqlite(sqlite::Sqlite),
    Republish(republish::Republisher),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Postgres),
    Function(Function),
}

type Function = Box<dyn Fn(Delivery) -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync>;

/// What the handlers of one subscriber share.
#[derive(Debug, Clone)]
pub struct Options {
    /// The inbox's own file: a table in it takes part in the inbox's transaction.
    pub store: Option<PathBuf>,
    /// The inbox's own database, where it is shared: a table in it takes part in the inbox's transaction.
    #[cfg(feature = "postgres")]
    pub shared_store: Option<crate::store::postgres::Url>,
    /// Where `print` prints; without it there is no `print`.
    pub printer: Option<Printer>,
    /// How long one delivery may take, in whatever handler.
    pub time_max: Duration,
    /// Whether what programs write to their standard output goes to ours; it is dropped otherwise.
    pub programs_print: bool,
    /// Whether `jsonl` files are synced to the disk before their messages count as done. Without it they survive the death of
    /// the process, and may be lost with the machine.
    pub sync_files: bool,
    /// For webhooks.
    pub webhook: WebhookOptions,
    /// Is told how brokers fare that messages are republished on.
    pub observer: Option<Observer>,
}

/// Is told what a person may want to know, a line at a time. It must not block.
#[derive(Clone)]
pub struct Observer(Arc<dyn Fn(&str) + Send + Sync>);

impl Observer {
    /// Tells `function`.
    pub fn new(function: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    fn tell(&self, line: &str) {
        (self.0)(line);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer(…)")
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store: None,
            #[cfg(feature = "postgres")]
            shared_store: None,
            printer: None,
            time_max: Duration::from_secs(30),
            programs_print: false,
            sync_files: true,
            webhook: WebhookOptions::default(),
            observer: None,
        }
    }
}

/// Why a handler cannot start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is nowhere to print.
    #[error("print has nowhere to print here; use jsonl:FILE")]
    NoPrinter,
    /// A file cannot be opened.
    #[error("{}: cannot {act}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        act: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// Another process writes to the file.
    #[error("{}: another process writes to it; stop that one, or give each its own file", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A database cannot be used.
    #[error("{}: {why}", .path.display())]
    Database {
        /// Its file.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// A database server cannot be used.
    #[cfg(feature = "postgres")]
    #[error("{url}: {why}")]
    Server {
        /// Its URL, without the password.
        url: String,
        /// Why, and what to do.
        why: String,
    },
    /// The webhook cannot be called at all.
    #[error("the webhook cannot be called: {0}")]
    Webhook(String),
    /// There is no inbox's file that an outbox could stand beside.
    #[error("a broker as handler needs an outbox; add ?outbox=FILE to its URL")]
    NoOutbox,
    /// Somebody has the outbox already.
    #[error("{}: another handler or process publishes from it; add ?outbox=FILE to this one's URL", .path.display())]
    OutboxInUse {
        /// The outbox.
        path: PathBuf,
    },
    /// The outbox cannot be opened.
    #[error(transparent)]
    Outbox(StartError),
    /// The files for TLS towards a broker cannot be used.
    #[error(transparent)]
    Tls(TlsError),
    /// It was opened outside of a tokio runtime.
    #[error("a broker as handler needs a tokio runtime; open it inside of one")]
    NoRuntime,
}

impl Handler {
    /// A function of yours: it gets each delivery and decides. It should end within the inbox's lease.
    pub fn from_fn<F, R>(function: F) -> Self
    where
        F: Fn(Delivery) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        Self(Kind::Function(Box::new(move |delivery| Box::pin(function(delivery)))))
    }

    /// A function of yours that gets the JSON payload as a value. What is not such a value becomes a dead letter.
    pub fn typed<T, F, R>(function: F) -> Self
    where
        T: DeserializeOwned + Send + 'static,
        F: Fn(T, Delivery) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        let function = Arc::new(function);
        Self::from_fn(move |delivery: Delivery| {
            let function = Arc::clone(&function);
            async move {
                match serde_json::from_slice(&delivery.payload) {
                    Ok(value) => function(value, delivery).await,
                    Err(error) => dead(format!("the payload is not what the handler takes: {error}")),
                }
            }
        })
    }

    /// Does what is to be done with a delivery, and says what became of it.
    pub async fn handle(&self, delivery: &Delivery) -> Outcome {
        match &self.0 {
            Kind::Print(printer) => printer.handle(delivery).await,
            Kind::Jsonl(jsonl) => jsonl.handle(delivery).await,
            Kind::Exec(exec) => exec.handle(delivery).await,
            Kind::Stdio(stdio) => stdio.handle(delivery).await,
            Kind::Webhook(webhook) => webhook.handle(delivery).await,
            Kind::Sqlite(sqlite) => sqlite.handle(delivery).await,
            Kind::Republish(republisher) => republisher.handle(delivery).await,
            #[cfg(feature = "postgres")]
            Kind::Postgres(postgres) => postgres.handle(delivery).await,
            Kind::Function(function) => function(delivery.clone()).await,
        }
    }

    /// How many deliveries it works on at once; more than these wait for their turn. A function takes any number.
    pub fn concurrency_max(&self) -> usize {
        match &self.0 {
            Kind::Exec(_) | Kind::Stdio(_) | Kind::Webhook(_) => PARALLEL_MAX,
            Kind::Print(_) | Kind::Jsonl(_) | Kind::Sqlite(_) | Kind::Republish(_) => BATCHED_MAX,
            #[cfg(feature = "postgres")]
            Kind::Postgres(_) => BATCHED_MAX,
            Kind::Function(_) => usize::MAX,
        }
    }

    /// How long one delivery takes at most, from the call of [`handle`](Self::handle) on. The inbox's lease has to be longer.
    /// `None`: nobody knows, it is a function.
    pub fn time_max(&self) -> Option<Duration> {
        match &self.0 {
            Kind::Print(printer) => Some(printer.time_max()),
            Kind::Jsonl(jsonl) => Some(jsonl.time_max()),
            Kind::Exec(exec) => Some(exec.time_max()),
            Kind::Stdio(stdio) => Some(stdio.time_max()),
            Kind::Webhook(webhook) => Some(webhook.time_max()),
            Kind::Sqlite(sqlite) => Some(sqlite.time_max()),
            Kind::Republish(republisher) => Some(republisher.time_max()),
            #[cfg(feature = "postgres")]
            Kind::Postgres(postgres) => Some(postgres.time_max()),
            Kind::Function(_) => None,
        }
    }

    /// Whether it makes use of the retain flag as the publisher set it.
    pub(crate) fn keeps_retain(&self) -> bool {
        matches!(self.0, Kind::Republish(_))
    }

    /// Ends what works in the background: closes a long-running program's standard input, and kills it where it goes on
    /// after that; lets go of an outbox. The others have nothing to end. Deliveries that come after it are retried.
    pub async fn close(&self) {
        match &self.0 {
            Kind::Stdio(stdio) => stdio.close().await,
            Kind::Republish(republisher) => republisher.close().await,
            _ => {}
        }
    }
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Print(_) => "print",
            Kind::Jsonl(_) => "jsonl",
            Kind::Exec(_) => "exec",
            Kind::Stdio(_) => "stdio",
            Kind::Webhook(_) => "webhook",
            Kind::Sqlite(_) => "sqlite",
            Kind::Republish(_) => "republish",
            #[cfg(feature = "postgres")]
            Kind::Postgres(_) => "postgres",
            Kind::Function(_) => "function",
        };
        f.debug_tuple("Handler").field(&kind).finish()
    }
}

fn retry(error: impl Into<String>) -> Outcome {
    Outcome::Retry { after: None, error: bounded(error.into()) }
}

fn dead(error: impl Into<String>) -> Outcome {
    Outcome::DeadLetter { error: bounded(error.into()) }
}

fn bounded(mut error: String) -> String {
    error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX));
    error
}

/// `error` with what lies behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
