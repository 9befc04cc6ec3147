//! `mqtally sub`: the reliable subscriber.

mod broker;
mod live;
mod table;
pub(super) mod words;

use super::Global;
use super::store::Store;
use crate::exit::{self, ExitStatus, Failure};
use crate::live::{self as live_view, Access, TokenArgs};
use broker::BrokerArgs;
use clap::ValueEnum;
use live::{Heard, Live};
use mqtally::endpoint::Endpoint;
use mqtally::handler::{self, Format, Observer, OpenError, Printer, Routes, Spec, SpecError};
use mqtally::inbox::dead_letter::DeadLetters;
use mqtally::inbox::{self, ConflictPolicy, RetryPolicy, key::Scope};
use mqtally::store::{self, StoreError};
use mqtally::subscriber::{
    BuildError, Builder, Ended, Monitor, Notice, Order, Pause, Settled, Subscriber, SubscriberError,
};
use mqtally::tls::TlsError;
use mqtally_proto::packet::Qos;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use words::{DedupKey, Filter};

/// Subscribe, and lose nothing: store, acknowledge, then handle
///
/// A message is acknowledged to the broker only when it is in the store, on the disk. From there it goes to its
/// handler, until that has succeeded, or its retries are used up; then it is kept as a dead letter. kill -9, a power
/// failure, a broker that goes away lose nothing of it.
///
/// Each dedup key has one effect within the dedup window where the handler writes into the store itself
/// (sqlite:STORE?table=…, postgres://…?table=…). Other handlers run at least once, always with the same idempotency key.
///
/// Statistics go to standard error: regularly, at SIGUSR1 and at the end. SIGTERM and Ctrl-C stop it in order, a second
/// one at once.
#[derive(Debug, clap::Args)]
#[command(
    name = "sub",
    after_help = "\
Examples:
  mqtally sub -t 'factory/#' --client-id dashboard
  mqtally sub -t 'alerts/+@2' --client-id pager --handler exec:./page.sh
  mqtally sub -t 'readings/#' --client-id db --store db.sub --handler 'sqlite:db.sub?table=readings'
  mqtally sub -t '#' --client-id all --on 'alerts/+=https://example.com/hook' --dedup-key /sender,/message_id
  mqtally sub -t 'alerts/#' --client-id bridge --handler 'mqtts://cloud.example?prefix=plant7/'

Handlers: print, jsonl:FILE, exec:CMD (message on standard input; exit 0 done, 75 retry, else dead), stdio:CMD (one
program, lines of JSON), http(s)://URL (POST), sqlite:FILE?table=NAME, postgres://USER@HOST/DATABASE?table=NAME,
mqtt(s)://HOST:PORT (another broker).

A store at postgres:// is shared by all who name it: members of a '$share' group, each with its own --client-id and the
same routes. ?schema=NAME keeps several stores in one database apart, &sslmode=require (and &sslrootcert=FILE) encrypts the
connection. The URL may come from MQTALLY_STORE.

Exit status: 0 stopped in order, or --count reached; 64 usage; 69 broker not reachable at the start, refused us, or
another client has our id; 74 store or file; 130 stopped at once."
)]
pub(crate) struct Args {
    /// What to subscribe to, with its QoS if it is not --qos; may be given more than once
    #[arg(short, long = "topic", value_name = "FILTER[@QOS]", required = true)]
    topic: Vec<Filter>,
    /// QoS of the filters that name none
    #[arg(short, long, value_name = "QOS", default_value = "1", value_parser = words::qos)]
    qos: Qos,
    /// Stop after this many messages were settled: done, or given up
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    #[command(flatten)]
    broker: BrokerArgs,
    /// How long the broker keeps the session without us; a 3.1.1 broker decides itself: say what it is set to
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = words::duration, help_heading = "Broker")]
    session_expiry: Duration,

    /// Keep messages in this file, or in a database that several subscribers share: postgres://USER@HOST/DATABASE
    /// [default: ./mqtally-CLIENT_ID.sub]
    #[arg(long, value_name = "FILE|URL", help_heading = "Store")]
    store: Option<PathBuf>,
    /// Go on with a store that is damaged, or older than what was acknowledged: what is lost is lost
    #[arg(long, help_heading = "Store")]
    accept_loss: bool,
    /// Read no more while this many messages are stored and not settled
    #[arg(long, value_name = "N", default_value_t = 1_000_000, help_heading = "Store")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    backlog_max: u64,

    /// What makes two messages the same: /POINTER,/POINTER into a JSON payload, user-property:NAME, own (what 'mqtally
    /// pub' sends), cloudevents, correlation-data, content:TIME (equal topic and payload within TIME), or none
    #[arg(long, value_name = "[FILTER=]KEY", default_value = "own", help_heading = "Duplicates")]
    dedup_key: Vec<DedupKey>,
    /// How long dedup keys are kept
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = words::duration, help_heading = "Duplicates")]
    dedup_window: Duration,
    /// Whether equal keys on two topics are one message
    #[arg(long, value_enum, default_value = "topic", help_heading = "Duplicates")]
    dedup_scope: DedupScope,
    /// What to do with a message whose key is known with another body
    #[arg(long, value_enum, default_value = "process", help_heading = "Duplicates")]
    conflict: Conflict,

    /// Where messages go
    #[arg(long, value_name = "HANDLER", default_value = "print", help_heading = "Handling")]
    handler: String,
    /// Where messages of these topics go; may be given more than once, the first that matches decides
    #[arg(long, value_name = "FILTER=HANDLER", help_heading = "Handling")]
    on: Vec<String>,
    /// What 'print' prints: payload, topic (and payload) or json
    #[arg(long, value_name = "FORMAT", default_value = "topic", help_heading = "Handling")]
    format: Format,
    /// How long a handler may take for one message; then it counts as failed
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = words::some_time, help_heading = "Handling")]
    handler_timeout: Duration,
    /// Messages that each handler works on at once, at most
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Handling")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
    /// Which messages are handled one after the other: those of one topic, with equal JSON at /POINTER, or none
    #[arg(long, value_name = "topic|/POINTER|none", default_value = "topic", value_parser = words::order)]
    #[arg(help_heading = "Handling")]
    order: Order,
    /// How often a message that failed is tried again
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = "Handling")]
    retries: u32,
    /// Delay before the first retry; doubled for each further one
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = words::duration, help_heading = "Handling")]
    retry_delay: Duration,
    /// No delay is longer
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = words::duration, help_heading = "Handling")]
    retry_max_delay: Duration,
    /// How long handlers have to finish when it is stopped
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = words::duration, help_heading = "Handling")]
    grace: Duration,

    /// Print statistics this often; 0 only at the end
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = words::duration, help_heading = "Watching")]
    stats_every: Duration,
    /// Serve a live page with dead letters to replay, /metrics (Prometheus), /healthz and /readyz here; a port alone is
    /// one of this machine's own, 127.0.0.1; elsewhere the page needs a token
    #[arg(long, value_name = "[ADDR:]PORT", value_parser = live_view::place, help_heading = "Watching")]
    listen: Option<SocketAddr>,
    #[command(flatten, next_help_heading = "Watching")]
    live_token: TokenArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DedupScope {
    Topic,
    Consumer,
}

impl From<DedupScope> for Scope {
    fn from(scope: DedupScope) -> Self {
        match scope {
            DedupScope::Topic => Self::Topic,
            DedupScope::Consumer => Self::Consumer,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Conflict {
    Process,
    DeadLetter,
    Drop,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitStatus, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_runtime)?;
    // Handlers of tokio's own need the runtime from here on.
    runtime.block_on(async {
        let signals = Signals::install().map_err(no_runtime)?;
        let heard = Arc::new(Heard::default());
        let subscriber = args.subscriber(global, &heard)?;
        let live = args.serve(&subscriber, heard).await?;
        let session = Session { monitor: subscriber.monitor(), live, quiet: global.quiet };
        session.run(subscriber, signals, args).await
    })
}

impl Args {
    /// Serves what there is to watch, if it is to be served.
    async fn serve(&self, subscriber: &Subscriber, heard: Arc<Heard>) -> Result<Option<Live>, Failure> {
        let Some(address) = self.listen else { return Ok(None) };
        let (bound, listener) = live_view::listen(address, "--listen").await?;
        let access = Access::new(bound, &self.live_token)?;
        exit::complain(&format!("mqtally: live view on {}", access.url(bound)));
        exit::complain(&format!("mqtally: metrics on http://{bound}/metrics"));
        let client_id = self.broker.client_id.clone().unwrap_or_default();
        let store = self.store(&client_id)?;
        let facts = vec![
            ("client", client_id),
            ("broker", exit::redact(&self.broker.broker)),
            ("subscribed to", self.topic.iter().map(|it| it.filter.as_str()).collect::<Vec<_>>().join(", ")),
            ("store", exit::redact(&store.to_string())),
        ];
        let attach = move || match &store {
            Store::File(path) => DeadLetters::attach(path),
            #[cfg(feature = "postgres")]
            Store::Shared(url) => DeadLetters::attach_shared(url),
        };
        Ok(Some(Live::serve(listener, access, subscriber.monitor(), (heard, facts, Box::new(attach)))))
    }

    fn subscriber(&self, global: &Global, heard: &Arc<Heard>) -> Result<Subscriber, Failure> {
        let client_id = self.broker.client_id.as_deref().unwrap_or_default();
        let store = self.store(client_id)?;
        let endpoint = self.broker.endpoint()?;
        let mut builder = Builder::new(endpoint.clone(), client_id)
            .version(self.broker.version())
            .keep_alive(self.broker.keep_alive)
            .session_expiry(u32::try_from(self.session_expiry.as_secs()).unwrap_or(u32::MAX))
            .inbox(self.inbox())
            .dedup_scope(self.dedup_scope.into())
            .order(self.order.clone())
            .concurrency(self.concurrency as usize)
            .backlog_max(self.backlog_max)
            .handler_time_max(self.handler_timeout)
            .grace(self.grace)
            .observer(observer(global, Arc::clone(heard)));
        if self.listen.is_some() {
            let heard = Arc::clone(heard);
            builder = builder.settled_observer(move |settled: &Settled| heard.settled(settled));
        }
        for Filter { filter, qos } in &self.topic {
            builder = builder.subscribe(filter, qos.unwrap_or(self.qos));
        }
        for DedupKey { filter, rules } in self.dedup_key.clone() {
            builder = match filter {
                Some(filter) => builder.dedup_on(&filter, rules),
                None => builder.dedup(rules),
            };
        }
        if let Some(count) = self.count {
            builder = builder.count(count);
        }
        let builder = self.with_handlers(builder, &endpoint, &store, global)?;
        let opened = match &store {
            Store::File(path) => builder.open(path),
            #[cfg(feature = "postgres")]
            Store::Shared(url) => builder.open_shared(url),
        };
        opened.map_err(|error| build_failure(&error))
    }

    fn with_handlers(
        &self,
        mut builder: Builder,
        broker: &Endpoint,
        store: &Store,
        global: &Global,
    ) -> Result<Builder, Failure> {
        let routes = self.routes(broker)?;
        let handlers =
            routes.open(&self.handler_options(store, global)?).map_err(|error| handler_failure(&error))?;
        let mut handlers = handlers.into_iter();
        for (route, handler) in routes.routes.iter().zip(handlers.by_ref()) {
            builder = builder.on(&route.filter, handler);
        }
        Ok(match handlers.next() {
            Some(otherwise) => builder.otherwise(otherwise),
            None => builder,
        })
    }

    fn routes(&self, broker: &Endpoint) -> Result<Routes, Failure> {
        let default = self.handler.parse().map_err(|error| spec_failure(&error, "--handler"))?;
        let routes = Routes::parse(self.on.iter().map(String::as_str), None)
            .map_err(|error| spec_failure(&error, "--on"))?;
        let routes = Routes { default: Some(default), ..routes };
        let returns = |spec: &Spec| matches!(spec, Spec::Republish(target) if target.returns_to(broker));
        let mut all = routes.routes.iter().map(|route| &route.handler).chain(&routes.default);
        match all.find(|spec| returns(spec)) {
            Some(spec) => Err(Failure::usage(
                "messages would come back to the broker that they come from",
                spec.to_string(),
                "name another broker, or add ?prefix=TEXT and subscribe to nothing under it",
            )),
            None => Ok(routes),
        }
    }

    fn handler_options(&self, store: &Store, global: &Global) -> Result<handler::Options, Failure> {
        let printer = Printer::new(io::stdout(), self.format, self.handler_timeout).map_err(no_runtime)?;
        let mut options = handler::Options {
            printer: Some(printer),
            time_max: self.handler_timeout,
            programs_print: true,
            observer: (!global.quiet).then(|| Observer::new(tell)),
            ..handler::Options::default()
        };
        match store {
            Store::File(path) => options.store = Some(path.clone()),
            #[cfg(feature = "postgres")]
            Store::Shared(url) => options.shared_store = Some(url.clone()),
        }
        Ok(options)
    }

    fn inbox(&self) -> inbox::Settings {
        inbox::Settings {
            store: store::sqlite::Options { accept_loss: self.accept_loss, ..Default::default() },
            window_ms: millis(self.dedup_window),
            conflict: match self.conflict {
                Conflict::Process => ConflictPolicy::Process,
                Conflict::DeadLetter => ConflictPolicy::DeadLetter,
                Conflict::Drop => ConflictPolicy::Drop,
            },
            retry: RetryPolicy {
                attempts_max: self.retries.saturating_add(1),
                delay_ms: millis(self.retry_delay),
                delay_ms_max: millis(self.retry_max_delay),
            },
            ..inbox::Settings::default()
        }
    }

    fn store(&self, client_id: &str) -> Result<Store, Failure> {
        self.store.as_deref().map_or_else(|| Ok(Store::File(default_store(client_id))), Store::at)
    }
}

/// A file for each client id: what is no plain character of a file name is percent-encoded.
fn default_store(client_id: &str) -> PathBuf {
    let mut name = String::from("mqtally-");
    for byte in client_id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    PathBuf::from(name + ".sub")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What a person should know goes to standard error; what is as it should be only when asked for.
fn observer(global: &Global, heard: Arc<Heard>) -> impl Fn(&Notice) + Send + Sync + 'static {
    let (quiet, verbose) = (global.quiet, global.verbose);
    move |notice| {
        heard.note(notice);
        let routine = match notice {
            Notice::Connected { .. } | Notice::Subscribed { .. } | Notice::Resumed => true,
            Notice::Paused(pause) => pause.is_brief() || *pause == Pause::Stopping,
            _ => false,
        };
        if !quiet && (verbose || !routine) {
            tell(&notice.to_string());
        }
    }
}

fn tell(line: &str) {
    exit::complain(&format!("mqtally: {}", exit::redact(line)));
}

/// One run, watched.
struct Session {
    monitor: Monitor,
    live: Option<Live>,
    quiet: bool,
}

impl Session {
    async fn run(
        self,
        subscriber: Subscriber,
        mut signals: Signals,
        args: &Args,
    ) -> Result<ExitStatus, Failure> {
        let (stop, stopped) = oneshot::channel();
        let mut stop = Some(stop);
        let running = subscriber.run(async { stopped.await.unwrap_or_default() });
        tokio::pin!(running);
        let mut every = tokio::time::interval(args.stats_every.max(Duration::from_millis(1)));
        every.tick().await;
        loop {
            tokio::select! {
                ended = &mut running => return self.ended(ended).await,
                signalled = signals.next() => match (signalled, stop.take()) {
                    (Signalled::Stop, Some(stop)) => {
                        if !self.quiet {
                            tell("stopping; a second signal ends it at once");
                        }
                        // It has ended by itself where nobody listens.
                        let _ = stop.send(());
                    }
                    (Signalled::Stop, None) => return Ok(ExitStatus::Interrupted),
                    (Signalled::Print, untouched) => {
                        stop = untouched;
                        self.print_now().await;
                    }
                },
                _ = every.tick(), if !args.stats_every.is_zero() => self.print_now().await,
            }
        }
    }

    async fn ended(&self, ended: Result<Ended, SubscriberError>) -> Result<ExitStatus, Failure> {
        if let Some(live) = &self.live {
            let last = ended.as_ref().map(|ended| ended.statistics);
            live.end(last.map_err(|error| exit::redact(&error.to_string()))).await;
        }
        let ended = ended.map_err(|error| subscriber_failure(&error))?;
        self.print(ended.statistics.as_ref());
        Ok(ExitStatus::Success)
    }

    async fn print_now(&self) {
        self.print(self.monitor.statistics().await.ok().as_ref());
    }

    /// While the store cannot be read there are no numbers, which is not to say that they are 0.
    fn print(&self, statistics: Option<&inbox::Statistics>) {
        if self.quiet {
            return;
        }
        match statistics {
            Some(statistics) => {
                exit::complain(&table::render(statistics, &self.monitor.status()).trim_end());
            }
            None => tell("no statistics: the store cannot be read"),
        }
    }
}

enum Signalled {
    Stop,
    Print,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    print: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            print: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Signalled {
        tokio::select! {
            _ = self.terminate.recv() => Signalled::Stop,
            _ = self.interrupt.recv() => Signalled::Stop,
            _ = self.print.recv() => Signalled::Print,
        }
    }
}

fn spec_failure(error: &SpecError, flag: &str) -> Failure {
    Failure::told(ExitStatus::Usage, error, flag)
}

fn handler_failure(error: &OpenError) -> Failure {
    let status = match error {
        OpenError::Tls(TlsError::Plain(_)) => ExitStatus::Usage,
        _ => ExitStatus::Io,
    };
    Failure::told(status, error, "handler")
}

fn build_failure(error: &BuildError) -> Failure {
    match error {
        BuildError::Store(error) => store_failure(error),
        BuildError::NoClientId => Failure::told(ExitStatus::Usage, error, "--client-id"),
        BuildError::NoFilter | BuildError::Filter { .. } => {
            Failure::told(ExitStatus::Usage, error, "--topic")
        }
        BuildError::NoSession => Failure::told(ExitStatus::Usage, error, "--session-expiry"),
        BuildError::TooManyRoutes => Failure::told(ExitStatus::Usage, error, "--on"),
    }
}

/// The store's file is the first thing in its messages already.
pub(super) fn store_failure(error: &StoreError) -> Failure {
    let loss = matches!(error, StoreError::Damaged { .. } | StoreError::Older { .. });
    let told = error.to_string();
    match told.rsplit_once("; ").filter(|_| loss) {
        Some((what, _)) => Failure::new(
            ExitStatus::Io,
            what,
            "--store",
            "keep a copy; then restore the newest store with its .mark, or go on without what is lost by --accept-loss",
        ),
        None => Failure::told(ExitStatus::Io, error, "--store"),
    }
}

fn subscriber_failure(error: &SubscriberError) -> Failure {
    match error {
        SubscriberError::Inbox => Failure::told(ExitStatus::Io, error, "--store"),
        _ => Failure::told(ExitStatus::Unavailable, error, "--broker"),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn no_runtime(error: io::Error) -> Failure {
    Failure::new(ExitStatus::Software, format!("cannot start ({error})"), "sub", "start it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_client_ids_never_share_a_store() {
        let check = |client_id, expect| assert_eq!(default_store(client_id), PathBuf::from(expect));
        check("dashboard-1", "mqtally-dashboard-1.sub");
        check("a/b", "mqtally-a%2Fb.sub");
        check("a%2Fb", "mqtally-a%252Fb.sub");
    }
}
