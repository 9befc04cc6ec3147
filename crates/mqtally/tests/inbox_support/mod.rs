//! What the inbox's tests share: a directory with one store, a clock in the test's hand, short ways to say things.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use mqtally::inbox::key::{Keys, Rule, View};
use mqtally::inbox::{
    Accepted, Arrival, Delivery, Exchange, Inbox, Lane, Outcome, RetryPolicy, Settings, Statistics, Verdict,
};
use mqtally::store::clock::TimeSource;
use mqtally::store::fail::Faults;
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Property, Qos};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// A directory with one store in it.
pub struct Place {
    pub directory: tempfile::TempDir,
    pub clock: Clock,
    pub faults: Arc<Faults>,
}

/// Wall clock and elapsed time, moved by hand.
#[derive(Clone, Default)]
pub struct Clock {
    wall_ms: Arc<AtomicU64>,
    elapsed_ms: Arc<AtomicU64>,
}

impl Clock {
    pub fn pass(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, SeqCst);
        self.elapsed_ms.fetch_add(ms, SeqCst);
    }

    pub fn jump_to(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, SeqCst);
    }
}

impl TimeSource for Clock {
    fn wall(&self) -> Time {
        Time::from_ms(self.wall_ms.load(SeqCst))
    }
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(SeqCst))
    }
}

impl Place {
    pub fn new() -> Self {
        let clock = Clock::default();
        clock.jump_to(1_000_000);
        Self { directory: tempfile::tempdir().unwrap(), clock, faults: Arc::default() }
    }

    pub fn store(&self) -> PathBuf {
        self.directory.path().join("inbox.db")
    }

    pub fn settings(&self) -> Settings {
        let mut settings = Settings { time: Box::new(self.clock.clone()), poll_ms: 5, ..Settings::default() };
        settings.retry = RetryPolicy { attempts_max: 3, delay_ms: 100, delay_ms_max: 1_000 };
        settings.store.faults = Some(Arc::clone(&self.faults));
        settings
    }

    pub fn open(&self) -> Inbox {
        self.open_with(self.settings())
    }

    pub fn open_with(&self, settings: Settings) -> Inbox {
        let (inbox, notices) = Inbox::open(&self.store(), settings).unwrap();
        assert_eq!(notices, []);
        inbox
    }
}

/// A QoS 1 message with a key, or without where it is empty.
pub fn message(key: &str, payload: &str) -> Arrival {
    let properties = Properties(vec![Property::UserProperty("k".into(), key.into())]);
    let keys = Keys { rules: vec![Rule::UserProperty("k".into())], ..Keys::new("test") };
    let view = View {
        topic: "t",
        properties: &properties,
        payload: payload.as_bytes(),
        received_at: Time::default(),
    };
    Arrival {
        topic: "t".into(),
        qos: Qos::AtLeastOnce,
        key: keys.key_of(view),
        properties,
        payload: payload.to_owned().into(),
        received_at: Time::from_ms(1_000_000),
        ..Arrival::default()
    }
}

pub fn in_lane(lane: &str, arrival: Arrival) -> Arrival {
    Arrival { lane: Some(Lane::of(lane)), ..arrival }
}

pub fn qos_2(session: u32, packet_id: u16, arrival: Arrival) -> Arrival {
    Arrival { qos: Qos::ExactlyOnce, exchange: Some(Exchange { session, packet_id }), ..arrival }
}

pub async fn accept(inbox: &Inbox, arrival: Arrival) -> Verdict {
    inbox.accept(arrival).await.unwrap().verdict
}

pub async fn accept_all(inbox: &Inbox, arrivals: Vec<Arrival>) -> Vec<Accepted> {
    inbox.submit(arrivals).await.unwrap().durable().await.unwrap()
}

/// What can be claimed now, or within a moment; nothing, where nothing can.
pub async fn claim(inbox: &Inbox, max: usize) -> Vec<Delivery> {
    let mut claiming = std::pin::pin!(inbox.claim(0, max));
    // Answers come in the order of the questions: by this one the claim was looked at, however slow the machine is.
    tokio::select! {
        biased;
        claimed = &mut claiming => return claimed.unwrap(),
        _ = inbox.statistics() => {}
    }
    tokio::time::timeout(Duration::from_millis(40), claiming).await.map_or(Vec::new(), Result::unwrap)
}

/// Waits for one delivery.
pub async fn next(inbox: &Inbox) -> Delivery {
    let claimed = tokio::time::timeout(Duration::from_secs(10), inbox.claim(0, 1)).await;
    claimed.expect("nothing to claim for 10 s").unwrap().remove(0)
}

pub fn payloads(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| String::from_utf8(delivery.payload.to_vec()).unwrap()).collect()
}

pub async fn done(inbox: &Inbox, deliveries: &[Delivery]) {
    let settlements = deliveries.iter().map(|delivery| (delivery.lease(), Outcome::Done)).collect();
    let settled = inbox.settle_all(settlements).await.unwrap();
    assert!(settled.iter().all(Result::is_ok), "{settled:?}");
}

pub fn retry(error: &str) -> Outcome {
    Outcome::Retry { after: None, error: error.into() }
}

pub async fn statistics(inbox: &Inbox) -> Statistics {
    inbox.statistics().await.unwrap()
}
