//! What a subscriber is made of.

use super::{Notice, Observer, Order, Settled, SettledObserver, Status, Subscriber};
use crate::client;
use crate::endpoint::Endpoint;
use crate::handler::Handler;
use crate::inbox::key::{Key, Keys, Rule, Scope, View};
use crate::inbox::{self, Channel, ConflictPolicy, Inbox, Outcome, RetryPolicy};
use crate::store::StoreError;
use crate::store::sqlite::Notice as RepairNotice;
use mqtally_proto::packet::{Qos, RetainHandling, Subscription, Version};
use mqtally_proto::session::{Acknowledge, Options};
use mqtally_proto::topic::{self, Shared, TopicError};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Longest time that a function as handler may hold a message, unless told otherwise.
const TIME_MAX: Duration = Duration::from_secs(60);
/// By how much a lease outlives the handler's time: to settle, on a slow disk.
const LEASE_MARGIN: Duration = Duration::from_secs(30);
/// Channels that the inbox can tell apart; one is for topics that no handler takes.
const ROUTES_MAX: usize = 255;

/// What may have been read and not be stored yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// Messages.
    pub messages: usize,
    /// Bytes of payload. One message may be larger.
    pub bytes: usize,
}

impl Default for Credit {
    fn default() -> Self {
        Self { messages: 4_096, bytes: 8 << 20 }
    }
}

/// Why a subscriber cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Without a client id there is no session to come back to.
    #[error(
        "no client id: the broker keeps the session, and in it whatever is not acknowledged, under the client id; \
         give one that is this subscriber's alone and never changes"
    )]
    NoClientId,
    /// Nothing to subscribe to.
    #[error("no topic filter; name at least one")]
    NoFilter,
    /// A string is no topic filter.
    #[error("the topic filter {filter:?} {source}; correct it")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        source: TopicError,
    },
    /// The broker would forget what is not acknowledged.
    #[error(
        "session expiry 0: the broker would forget the session with the connection; give a number of seconds"
    )]
    NoSession,
    /// More handlers than can be told apart.
    #[error("more than 255 routes; merge some of them")]
    TooManyRoutes,
    /// The inbox cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Sets a subscriber up. What is not said has a default that is safe.
pub struct Builder {
    endpoint: Endpoint,
    options: Options,
    filters: Vec<Subscription>,
    inbox: inbox::Settings,
    scope: Scope,
    rules: Vec<Rule>,
    rules_on: Vec<(String, Vec<Rule>)>,
    order: Order,
    routes: Vec<(String, Arc<Handler>)>,
    otherwise: Option<Arc<Handler>>,
    concurrency: usize,
    credit: Credit,
    backlog_max: u64,
    grace: Duration,
    time_max: Duration,
    count: Option<u64>,
    observer: Option<Observer>,
    settled_observer: Option<SettledObserver>,
}

/// A [`Builder`] that was found to make sense.
pub(super) struct Config {
    pub(super) client: client::Settings,
    pub(super) filters: Vec<Subscription>,
    keys: Keys,
    keys_on: Vec<(String, Keys)>,
    pub(super) order: Order,
    /// By channel.
    pub(super) handlers: Vec<Arc<Handler>>,
    pub(super) retry: RetryPolicy,
    /// How long dedup keys are kept.
    window: Duration,
    pub(super) concurrency: usize,
    pub(super) credit: Credit,
    pub(super) backlog_max: u64,
    pub(super) grace: Duration,
    pub(super) time_max: Duration,
    pub(super) count: Option<u64>,
    observer: Option<Observer>,
    pub(super) settled_observer: Option<SettledObserver>,
}

impl Builder {
    /// A subscriber for the broker at `endpoint`, known to it by `client_id`, which also names the consumer in dedup
    /// keys: it must be this subscriber's alone, and stay the same.
    ///
    /// MQTT 5.0; the session outlives a connection by a day, dedup keys are kept for a week.
    pub fn new(endpoint: Endpoint, client_id: &str) -> Self {
        let options = Options {
            clean_start: false,
            session_expiry_interval: 24 * 3_600,
            acknowledge: Acknowledge::EveryStep,
            resume: true,
            ..Options::new(Version::V5_0, client_id)
        };
        Self {
            endpoint,
            options,
            filters: Vec::new(),
            inbox: inbox::Settings { seed: fastrand::u64(..), ..inbox::Settings::default() },
            scope: Scope::default(),
            rules: vec![Rule::Own],
            rules_on: Vec::new(),
            order: Order::default(),
            routes: Vec::new(),
            otherwise: None,
            concurrency: 16,
            credit: Credit::default(),
            backlog_max: 1_000_000,
            grace: Duration::from_secs(10),
            time_max: TIME_MAX,
            count: None,
            observer: None,
            settled_observer: None,
        }
    }

    /// Subscribes to a topic filter.
    #[must_use]
    pub fn subscribe(mut self, filter: &str, qos: Qos) -> Self {
        self.filters.push(Subscription::new(filter, qos));
        self
    }

    /// The version to speak.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.options.version = version;
        self
    }

    /// Seconds that the broker keeps the session without a connection; `u32::MAX` for ever. 3.1.1 has no number for it:
    /// say what the broker is set to.
    #[must_use]
    pub fn session_expiry(mut self, seconds: u32) -> Self {
        self.options.session_expiry_interval = seconds;
        self
    }

    /// Keep-alive in seconds; 0 turns it off.
    #[must_use]
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.options.keep_alive = seconds;
        self
    }

    /// Largest packet that is taken, in bytes. A 5.0 broker drops larger ones; a 3.1.1 broker's connection is ended.
    #[must_use]
    pub fn packet_size_max(mut self, bytes: u32) -> Self {
        self.options.packet_size_max = bytes;
        self
    }

    /// How the inbox behaves. [`inbox::Settings::channel_of`], the consumer and the lease are the subscriber's and
    /// are set by it.
    #[must_use]
    pub fn inbox(mut self, settings: inbox::Settings) -> Self {
        self.inbox = settings;
        self
    }

    /// How long dedup keys are kept.
    #[must_use]
    pub fn dedup_window(mut self, window: Duration) -> Self {
        self.inbox.window_ms = millis(window);
        self
    }

    /// Where dedup keys come from, tried in order; none turns dedup off.
    #[must_use]
    pub fn dedup(mut self, rules: Vec<Rule>) -> Self {
        self.rules = rules;
        self
    }

    /// Where the dedup keys of some topics come from; the first filter that matches decides.
    #[must_use]
    pub fn dedup_on(mut self, filter: &str, rules: Vec<Rule>) -> Self {
        self.rules_on.push((filter.to_owned(), rules));
        self
    }

    /// How far dedup keys reach.
    #[must_use]
    pub fn dedup_scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// What happens to a message whose key is known with another body.
    #[must_use]
    pub fn conflict(mut self, policy: ConflictPolicy) -> Self {
        self.inbox.conflict = policy;
        self
    }

    /// How failures are tried again.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.inbox.retry = policy;
        self
    }

    /// What messages are kept in order by.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Messages whose topic matches `filter` go to `handler`; the first filter that matches decides.
    #[must_use]
    pub fn on(mut self, filter: &str, handler: impl Into<Arc<Handler>>) -> Self {
        self.routes.push((filter.to_owned(), handler.into()));
        self
    }

    /// All other messages go to `handler`. Without one they become dead letters.
    #[must_use]
    pub fn otherwise(mut self, handler: impl Into<Arc<Handler>>) -> Self {
        self.otherwise = Some(handler.into());
        self
    }

    /// Deliveries that each handler works on at once, at most; those of one lane come one at a time.
    #[must_use]
    pub fn concurrency(mut self, deliveries: usize) -> Self {
        self.concurrency = deliveries.max(1);
        self
    }

    /// What may have been read and not be stored yet.
    #[must_use]
    pub fn credit(mut self, credit: Credit) -> Self {
        self.credit = credit;
        self
    }

    /// Messages that may be stored and not settled before nothing more is read.
    #[must_use]
    pub fn backlog_max(mut self, messages: u64) -> Self {
        self.backlog_max = messages.max(1);
        self
    }

    /// How long a function may hold a message. Then it is dropped, and the delivery counts as failed.
    #[must_use]
    pub fn handler_time_max(mut self, time: Duration) -> Self {
        self.time_max = time;
        self
    }

    /// How long handlers have to finish when it stops.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Stops after this many messages became done or dead letters. With several handlers those that are in their hands by
    /// then are finished, too.
    #[must_use]
    pub fn count(mut self, messages: u64) -> Self {
        self.count = Some(messages);
        self
    }

    /// Is told what happens.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Is told of each delivery whose outcome is on the disk.
    #[must_use]
    pub fn settled_observer(mut self, observer: impl Fn(&Settled) + Send + Sync + 'static) -> Self {
        self.settled_observer = Some(Arc::new(observer));
        self
    }

    /// Opens the inbox at `path`, or makes it; see [`Inbox::open`]. Connecting is for [`Subscriber::run`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Subscriber, BuildError> {
        let consumer = self.options.client_id.to_string();
        self.open_by(&consumer, |settings| Inbox::open(path.as_ref(), settings))
    }

    /// Joins the shared inbox at `url`, or makes it; see [`Inbox::open_shared`]. Dedup keys belong to the inbox, not to this
    /// member. All members need the same routes: the last one that starts decides where stored messages go.
    #[cfg(feature = "postgres")]
    pub fn open_shared(self, url: &crate::store::postgres::Url) -> Result<Subscriber, BuildError> {
        let member = self.options.client_id.to_string();
        self.open_by(url.schema(), |settings| Inbox::open_shared(url, &member, settings))
    }

    fn open_by(
        mut self,
        consumer: &str,
        open: impl FnOnce(inbox::Settings) -> Result<(Inbox, Vec<RepairNotice>), StoreError>,
    ) -> Result<Subscriber, BuildError> {
        self.check()?;
        let routes: Vec<String> = self.routes.iter().map(|(filter, _)| filter.clone()).collect();
        self.inbox.channel_of = Box::new(move |topic| channel_of(&routes, topic));
        let settings = std::mem::take(&mut self.inbox);
        let config = self.config(consumer, &settings);
        let lease_ms = millis(config.time_max + LEASE_MARGIN);
        let consumer = Some(inbox::Consumer { name: consumer.to_owned(), scope: config.keys.scope });
        let (inbox, repaired) = open(inbox::Settings { lease_ms, consumer, ..settings })?;
        repaired.into_iter().for_each(|notice| config.tell(&Notice::Repaired(notice.0)));
        config.warn_of_short_window(config.client.options.session_expiry_interval);
        Ok(Subscriber { config: Arc::new(config), inbox, status: watch::Sender::new(Status::default()) })
    }

    fn check(&self) -> Result<(), BuildError> {
        if self.options.client_id.is_empty() {
            return Err(BuildError::NoClientId);
        }
        if self.filters.is_empty() {
            return Err(BuildError::NoFilter);
        }
        if self.options.session_expiry_interval == 0 {
            return Err(BuildError::NoSession);
        }
        if self.routes.len() >= ROUTES_MAX {
            return Err(BuildError::TooManyRoutes);
        }
        let subscribed = self.filters.iter().map(|subscription| &*subscription.filter);
        let routed = self.routes.iter().map(|(filter, _)| filter.as_str());
        let keyed = self.rules_on.iter().map(|(filter, _)| filter.as_str());
        subscribed.chain(routed).chain(keyed).try_for_each(check_filter)
    }

    fn config(mut self, consumer: &str, inbox: &inbox::Settings) -> Config {
        // Every connection subscribes; what was retained is wanted once. 3.1.1 has no word for that.
        if self.options.version == Version::V5_0 {
            self.filters.iter_mut().for_each(|filter| filter.retain_handling = RetainHandling::SendIfNew);
        }
        let keys = |rules: Vec<Rule>| Keys { consumer: consumer.to_owned(), scope: self.scope, rules };
        let keys_on = self.rules_on.into_iter().map(|(filter, rules)| (filter, keys(rules))).collect();
        let keys = keys(self.rules);
        let otherwise = self.otherwise.unwrap_or_else(|| Arc::new(Handler::from_fn(nobody_takes_it)));
        let handlers: Vec<_> =
            self.routes.into_iter().map(|(_, handler)| handler).chain([otherwise]).collect();
        // 3.1.1 has no word for that either, and no bit to spare.
        if self.options.version == Version::V5_0 && handlers.iter().any(|handler| handler.keeps_retain()) {
            self.filters.iter_mut().for_each(|filter| filter.retain_as_published = true);
        }
        let own = handlers.iter().filter_map(|handler| handler.time_max()).max();
        Config {
            client: client::Settings::new(self.endpoint, self.options),
            filters: self.filters,
            keys,
            keys_on,
            order: self.order,
            time_max: own.map_or(self.time_max, |own| own.max(self.time_max)),
            handlers,
            retry: inbox.retry,
            window: Duration::from_millis(inbox.window_ms),
            concurrency: self.concurrency,
            credit: self.credit,
            backlog_max: self.backlog_max,
            grace: self.grace,
            count: self.count,
            observer: self.observer,
            settled_observer: self.settled_observer,
        }
    }
}

impl Config {
    pub(super) fn tell(&self, notice: &Notice) {
        if let Some(observer) = &self.observer {
            observer(notice);
        }
    }

    pub(super) fn key_of(&self, view: View<'_>) -> Option<Key> {
        let own = self.keys_on.iter().find(|(filter, _)| topic::matches(filter, view.topic));
        own.map_or(&self.keys, |(_, keys)| keys).key_of(view)
    }

    pub(super) fn client_id(&self) -> String {
        self.client.options.client_id.to_string()
    }

    /// The broker keeps the session for another time than it was asked to, in seconds.
    pub(super) fn tell_of_expiry(&self, granted: Option<u32>) {
        let asked = self.client.options.session_expiry_interval;
        let Some(granted) = granted.filter(|granted| *granted != asked) else { return };
        if granted > asked {
            return self.warn_of_short_window(granted);
        }
        let [asked, granted] = [asked, granted].map(|seconds| Duration::from_secs(seconds.into()));
        self.tell(&Notice::OtherExpiry { asked, granted });
    }

    fn dedups(&self) -> bool {
        !self.keys.rules.is_empty() || !self.keys_on.is_empty()
    }

    /// A dead letter can be replayed for as long as it is kept.
    pub(super) fn warn_of_old_dead_letters(&self, counted: &inbox::Statistics) {
        if let Some(oldest) = counted.oldest_dead_ms.map(Duration::from_millis)
            && self.dedups()
            && oldest > self.window
        {
            let (dead, window) = (counted.dead, self.window);
            self.tell(&Notice::DeadLettersOutliveWindow { dead, oldest, window });
        }
    }

    fn warn_of_short_window(&self, expiry: u32) {
        let forever = expiry == u32::MAX;
        let expiry = Duration::from_secs(expiry.into());
        if self.dedups() && (forever || self.window < expiry) {
            let session_expiry = (!forever).then_some(expiry);
            self.tell(&Notice::WindowTooShort { window: self.window, session_expiry });
        }
    }
}

/// The first route that takes the topic, else the channel behind them all.
fn channel_of(routes: &[String], topic: &str) -> Channel {
    let route = routes.iter().position(|filter| topic::matches(filter, topic)).unwrap_or(routes.len());
    Channel::try_from(route).unwrap_or(Channel::MAX)
}

fn check_filter(filter: &str) -> Result<(), BuildError> {
    let checked = topic::validate_filter(filter).and_then(|()| Shared::parse(filter).map(drop));
    checked.map_err(|source| BuildError::Filter { filter: filter.to_owned(), source })
}

async fn nobody_takes_it(delivery: inbox::Delivery) -> Outcome {
    Outcome::DeadLetter { error: format!("no handler takes the topic {:?}", &*delivery.topic) }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("endpoint", &self.endpoint)
            .field("client_id", &self.options.client_id)
            .field("filters", &self.filters)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("endpoint", &self.config.client.endpoint).finish_non_exhaustive()
    }
}
