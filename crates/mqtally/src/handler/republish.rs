//! `mqtt://…`: publishes each message on another broker, through an outbox.
//!
//! A message is done when the outbox has it on the disk. From there the [`Publisher`] sends it until that broker has
//! acknowledged it, over lost connections and the death of the process.
//!
//! A message that comes again is put into the outbox and sent again, under the same message id: its dedup key where that is
//! such an id, else one that is made from its [`identity`](super::identity). A subscriber of this crate behind that
//! broker drops the second copy. A message that was replayed says so, and passes that subscriber's `done` mark too.
//!
//! Topic (behind a prefix), payload, QoS, retain flag and the application's properties are kept. A message expiry is
//! shortened by the time since reception, and is at least a second: an expired message is still that broker's to drop.
//!
//! A topic that is too long with its prefix makes a dead letter. A full or failing outbox is a retry. What that broker
//! refuses for good stays in the outbox as failed, and the [`Observer`](super::Observer) is told.
//!
//! Deliberately absent: 3.1.1 towards that broker, which has no place for the message id.

use super::{Observer, OpenError, Options, SpecError, dead, record, retry};
use crate::endpoint::{self, Endpoint};
use crate::inbox::key::{ID_PROPERTY, REPLAY_PROPERTY};
use crate::inbox::{Delivery, Outcome};
use crate::outbox::{Message, Uuid};
use crate::publisher::{Link, PublishError, Publisher, StartError, Status};
use crate::store::StoreError;
use crate::tls::{Identity, Roots, Tls};
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Property, Qos};
use mqtally_proto::topic;
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the broker may take for what is in the outbox when the handler is closed.
const CLOSING: Duration = Duration::from_secs(5);

/// Where and how messages are published again.
#[derive(Clone, PartialEq, Eq)]
pub struct Republish {
    /// The other broker.
    pub endpoint: Endpoint,
    /// Stands before each topic; a level of its own ends with `/`.
    pub prefix: String,
    /// QoS for all messages; absent, each keeps its own.
    pub qos: Option<Qos>,
    /// Our name there; empty for one that belongs to the outbox.
    pub client_id: String,
    /// The outbox; absent, it is the inbox's file with `.outbox` behind its name.
    pub outbox: Option<PathBuf>,
}

impl Republish {
    /// A broker's URL, with `prefix`, `qos`, `client-id`, `outbox`, `cafile`, `cert` and `key` in its query, percent-encoded
    /// where they hold `&` or `%`. The rest of a WebSocket's query is that WebSocket's.
    pub(super) fn parse(url: &str) -> Result<Self, SpecError> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let mut asked = Asked::default();
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if !asked.take(pair)? {
                others.push(pair);
            }
        }
        if let Some(other) = others.first().filter(|_| !address.starts_with("ws")) {
            let name = other.split('=').next().unwrap_or_default();
            return Err(SpecError::BrokerOption(name.to_owned()));
        }
        let rest = if others.is_empty() { String::new() } else { format!("?{}", others.join("&")) };
        let endpoint: Endpoint = format!("{address}{rest}").parse().map_err(SpecError::Broker)?;
        asked.republish(endpoint)
    }

    /// Whether messages from `broker` come back to it as they were.
    pub fn returns_to(&self, broker: &Endpoint) -> bool {
        let place =
            |endpoint: &Endpoint| (endpoint.host().to_owned(), endpoint.port(), endpoint.path().to_owned());
        self.prefix.is_empty() && place(&self.endpoint) == place(broker)
    }

    fn outbox_of(&self, store: Option<&Path>) -> Result<PathBuf, OpenError> {
        let beside = |store: &Path| {
            let mut name = store.as_os_str().to_owned();
            name.push(".outbox");
            PathBuf::from(name)
        };
        self.outbox.clone().or_else(|| store.map(beside)).ok_or(OpenError::NoOutbox)
    }
}

/// Without its secrets.
impl fmt::Display for Republish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = self.endpoint.to_string();
        let separator = if endpoint.contains('?') { '&' } else { '?' };
        match self.prefix.as_str() {
            "" => f.write_str(&endpoint),
            prefix => write!(f, "{endpoint}{separator}prefix={prefix}"),
        }
    }
}

/// The options of a URL.
#[derive(Default)]
struct Asked {
    prefix: String,
    qos: Option<Qos>,
    client_id: String,
    outbox: Option<PathBuf>,
    cafile: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Asked {
    /// Whether `pair` is an option.
    fn take(&mut self, pair: &str) -> Result<bool, SpecError> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = || endpoint::decode(value, "handler's option").map_err(SpecError::Broker);
        match name {
            "prefix" => self.prefix = text()?,
            "qos" => self.qos = Some(qos(value)?),
            "client-id" => self.client_id = text()?,
            "outbox" => self.outbox = Some(text()?.into()),
            "cafile" => self.cafile = Some(text()?.into()),
            "cert" => self.cert = Some(text()?.into()),
            "key" => self.key = Some(text()?.into()),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn republish(self, endpoint: Endpoint) -> Result<Republish, SpecError> {
        let Self { prefix, qos, client_id, outbox, cafile, cert, key } = self;
        topic::validate_name(&format!("{prefix}t"))
            .map_err(|error| SpecError::Prefix(prefix.clone(), error))?;
        let identity = match (cert, key) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (None, None) => None,
            _ => return Err(SpecError::BrokerOption("cert without key, or key without cert".to_owned())),
        };
        let roots = cafile.map_or(Roots::System, Roots::CaFile);
        let endpoint = endpoint.with_tls(Tls { roots, identity });
        Ok(Republish { endpoint, prefix, qos, client_id, outbox })
    }
}

fn qos(value: &str) -> Result<Qos, SpecError> {
    let level = value.parse().ok().and_then(Qos::from_u8);
    level.ok_or_else(|| SpecError::BrokerOption(format!("qos={value}")))
}

pub(super) struct Republisher {
    publisher: Publisher,
    prefix: String,
    qos: Option<Qos>,
    time_max: Duration,
}

impl Republisher {
    /// Opens the outbox, and starts to send what is left in it.
    pub(super) fn open(target: &Republish, options: &Options) -> Result<Self, OpenError> {
        let outbox = target.outbox_of(options.store.as_deref())?;
        Handle::try_current().map_err(|_| OpenError::NoRuntime)?;
        target.endpoint.check_tls().map_err(OpenError::Tls)?;
        let publisher = Publisher::builder(target.endpoint.clone())
            .client_id(target.client_id.as_str())
            .store(&outbox)
            .start()
            .map_err(|error| match error {
                StartError::Store(StoreError::InUse { path }) => OpenError::OutboxInUse { path },
                error => OpenError::Outbox(error),
            })?;
        if let Some(observer) = &options.observer {
            let name = format!("{} ({})", target.endpoint, outbox.display());
            publisher.notices().iter().for_each(|notice| observer.tell(&format!("{name}: {}", notice.0)));
            tokio::spawn(watch(publisher.status(), observer.clone(), name));
        }
        let Republish { prefix, qos, .. } = target.clone();
        Ok(Self { publisher, prefix, qos, time_max: options.time_max })
    }

    pub(super) fn time_max(&self) -> Duration {
        self.time_max
    }

    pub(super) async fn handle(&self, delivery: &Delivery) -> Outcome {
        let message = Message {
            topic: format!("{}{}", self.prefix, delivery.topic).into(),
            payload: delivery.payload.clone(),
            qos: self.qos.unwrap_or(delivery.qos),
            retain: delivery.retain,
            properties: properties(delivery, wall_clock()),
        };
        let stored = self.publisher.publish_as(message_id(delivery), message);
        match timeout(self.time_max, stored).await {
            // Who sends it from here on is the outbox; its receipt is of no use to the inbox.
            Ok(Ok(_)) => Outcome::Done,
            Ok(Err(PublishError::InvalidTopic(error))) => dead(format!("its topic with the prefix {error}")),
            Ok(Err(error)) => retry(error.to_string()),
            Err(_) => retry(format!("the outbox did not take it within {:?}", self.time_max)),
        }
    }

    /// Gives a broker that is there a moment for what is in the outbox; the rest waits there for the next start.
    pub(super) async fn close(&self) {
        let offline = matches!(self.publisher.status().borrow().link, Link::Offline { .. });
        self.publisher.close(if offline { Duration::ZERO } else { CLOSING }).await;
    }
}

/// The id under which a message is published each time it comes.
fn message_id(delivery: &Delivery) -> Uuid {
    let own = delivery.key.as_deref().and_then(|key| key.parse().ok());
    own.unwrap_or_else(|| {
        let hash = Sha256::digest(record::identity(delivery));
        let mut bytes: [u8; 16] = std::array::from_fn(|at| hash[at]);
        // Version 8 of RFC 9562: made in a way of one's own.
        bytes[6] = 0x80 | bytes[6] & 0x0f;
        bytes[8] = 0x80 | bytes[8] & 0x3f;
        Uuid(bytes)
    })
}

/// The application's properties; the publisher adds the message id.
fn properties(delivery: &Delivery, now: Time) -> Properties {
    let mut properties = delivery.properties.clone();
    properties.0.retain(|property| {
        !matches!(property, Property::UserProperty(name, _) if matches!(&**name, ID_PROPERTY | REPLAY_PROPERTY))
    });
    for property in &mut properties.0 {
        if let Property::MessageExpiryInterval(seconds) = property {
            let waited = now.as_ms().saturating_sub(delivery.received_at.as_ms()) / 1_000;
            *seconds = seconds.saturating_sub(u32::try_from(waited).unwrap_or(u32::MAX)).max(1);
        }
    }
    if delivery.replay > 0 {
        properties.push(Property::UserProperty(REPLAY_PROPERTY.into(), delivery.replay.to_string().into()));
    }
    properties
}

fn wall_clock() -> Time {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::from_ms(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}

/// Tells what changes with the connection, until the publisher ends.
async fn watch(mut status: watch::Receiver<Status>, observer: Observer, name: String) {
    let mut told = Status::default();
    loop {
        let now = status.borrow_and_update().clone();
        news(&told, &now).iter().for_each(|news| observer.tell(&format!("{name}: {news}")));
        told = now;
        if status.changed().await.is_err() {
            return;
        }
    }
}

/// What a person should know, once for each change.
fn news(told: &Status, now: &Status) -> Vec<String> {
    let mut news = Vec::new();
    match (&told.link, &now.link) {
        (Link::Offline { .. }, Link::Online { .. }) => news.push("connected again".to_owned()),
        (Link::Connecting | Link::Online { .. }, Link::Offline { why, .. }) => {
            news.push(format!("{why}; messages are kept in the outbox, connecting again"));
        }
        _ => {}
    }
    if now.failed > told.failed {
        news.push(format!("{} messages were refused for good; they stay in the outbox", now.failed));
    }
    if let Some(trouble) = now.trouble.as_ref().filter(|_| now.trouble != told.trouble) {
        news.push(trouble.clone());
    }
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(key: Option<&str>) -> Delivery {
        Delivery {
            sequence: 7,
            attempt: 1,
            fence: 1,
            topic: "a/b".into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            properties: Properties::default(),
            payload: "x".into(),
            key: key.map(str::to_owned),
            replay: 0,
            received_at: Time::from_ms(1_000),
        }
    }

    #[test]
    fn a_message_id_outlives_attempts_and_a_key_that_is_one_is_kept() {
        let uuid = "01985c96-23fa-7fff-bfff-ffffffffffff";
        assert_eq!(message_id(&delivery(Some(uuid))).to_string(), uuid);
        for key in [Some("k"), None] {
            let (first, mut again) = (delivery(key), delivery(key));
            (again.attempt, again.fence) = (2, 9);
            assert_eq!(message_id(&first), message_id(&again));
            again.payload = "y".into();
            assert_ne!(message_id(&first), message_id(&again));
        }
    }

    #[test]
    fn properties_travel_but_for_the_id_and_a_replay_says_so() {
        let user = |name: &str, value: &str| Property::UserProperty(name.into(), value.into());
        let mut message = delivery(None);
        message.properties = Properties(vec![
            user(ID_PROPERTY, "old"),
            user("site", "north"),
            user(REPLAY_PROPERTY, "1"),
            Property::MessageExpiryInterval(60),
        ]);
        let at = |message: &Delivery, ms| properties(message, Time::from_ms(ms)).0;
        let expiry = Property::MessageExpiryInterval;
        assert_eq!(at(&message, 11_999), [user("site", "north"), expiry(50)]);
        assert_eq!(at(&message, 999_000), [user("site", "north"), expiry(1)], "it is not ours to drop");
        message.replay = 2;
        assert_eq!(at(&message, 0), [user("site", "north"), expiry(60), user(REPLAY_PROPERTY, "2")]);
    }

    #[test]
    fn each_change_is_told_once() {
        let offline = Link::Offline { why: "gone".into(), reason: None };
        let status = |link: &Link, failed| Status { link: link.clone(), failed, ..Status::default() };
        let online = Link::Online { session_present: true };
        assert!(news(&Status::default(), &status(&online, 0)).is_empty());
        assert_eq!(news(&status(&online, 0), &status(&offline, 2)).len(), 2);
        assert!(news(&status(&offline, 2), &status(&offline, 2)).is_empty());
        assert_eq!(news(&status(&offline, 2), &status(&online, 2)), ["connected again"]);
    }
}
