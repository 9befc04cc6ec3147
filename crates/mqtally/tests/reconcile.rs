//! Real stores compared: a publisher's outbox, and an inbox that is fed with what arrived at the broker.

mod publisher_support;

use mqtally::inbox::key::{Keys, Scope, View};
use mqtally::inbox::{self, Arrival, Consumer, Copies, Inbox, Outcome, Window};
use mqtally::outbox::{self, Standing};
use mqtally::publisher::Publisher;
use mqtally::reconcile::{Counts, Reconciliation, Verdict, reconcile};
use mqtally::store::StoreError;
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Property, Qos, ReasonCode};
use publisher_support::{Arrival as Arrived, Broker};
use std::path::PathBuf;
use std::time::Duration;

struct Bench {
    directory: tempfile::TempDir,
    broker: Broker,
    inbox: Inbox,
}

impl Bench {
    async fn new() -> Self {
        let (directory, broker) = (tempfile::tempdir().unwrap(), Broker::start().await);
        let settings = inbox::Settings { consumer: Some(consumer("pump")), ..inbox::Settings::default() };
        let (inbox, _) = Inbox::open(&directory.path().join("inbox.db"), settings).unwrap();
        Self { directory, broker, inbox }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn publisher(&self) -> Publisher {
        Publisher::builder(self.broker.endpoint()).store(self.path("outbox.db")).start().unwrap()
    }

    async fn publish(&self, topic: &str, payloads: std::ops::Range<u32>, qos: Qos) {
        let publisher = self.publisher();
        for payload in payloads {
            let receipt = publisher.publish(topic, payload.to_string(), qos).await.unwrap();
            let _ = receipt.await; // a refusal is a result, too
        }
        publisher.close(Duration::from_secs(10)).await;
    }

    /// What the broker would hand on of these payloads.
    async fn deliver(&self, payloads: impl Fn(u32) -> bool) {
        self.deliver_to(&self.inbox, payloads).await;
    }

    async fn deliver_to(&self, inbox: &Inbox, payloads: impl Fn(u32) -> bool) {
        let arrived = self.broker.state().arrivals.clone();
        for arrived in arrived.iter().filter(|arrived| payloads(arrived.payload.parse().unwrap())) {
            inbox.accept(arrival(arrived)).await.unwrap();
        }
    }

    async fn handle(&self, count: usize, outcome: fn() -> Outcome) {
        for delivery in self.inbox.claim(0, count).await.unwrap() {
            self.inbox.settle(delivery.lease(), outcome()).await.unwrap().unwrap();
        }
    }

    fn reconcile(&self, filter: Option<&str>) -> Reconciliation {
        let inbox = Window::attach(&self.path("inbox.db")).unwrap();
        reconcile(&self.path("outbox.db"), &inbox, inbox.consumers(), filter).unwrap()
    }
}

fn consumer(name: &str) -> Consumer {
    Consumer { name: name.into(), scope: Scope::Topic }
}

fn arrival(arrived: &Arrived) -> Arrival {
    let id = arrived.id.as_deref().unwrap();
    let mut arrival = Arrival {
        topic: arrived.topic.as_str().into(),
        qos: arrived.qos,
        payload: arrived.payload.clone().into(),
        properties: Properties(vec![Property::UserProperty("mqtally-id".into(), id.into())]),
        ..Arrival::default()
    };
    let Arrival { topic, properties, payload, .. } = &arrival;
    let view = View { topic, properties, payload, received_at: Time::default() };
    arrival.key = Keys::new("pump").key_of(view);
    arrival
}

#[tokio::test]
async fn every_message_is_accounted_for_per_topic() {
    let bench = Bench::new().await;
    bench.publish("a", 0..10, Qos::AtLeastOnce).await;
    bench.publish("b", 10..15, Qos::ExactlyOnce).await;
    bench.publish("c", 15..18, Qos::AtMostOnce).await;
    bench.deliver(|n| n < 10).await;
    bench.deliver(|n| n < 2).await;
    bench.handle(1, || Outcome::DeadLetter { error: "no".into() }).await;
    for _ in 0..3 {
        bench.handle(1, || Outcome::Done).await;
    }
    bench.deliver(|n| n == 12).await;
    let found = bench.reconcile(None);
    let a = Counts {
        published: 10,
        acknowledged: 10,
        delivered: 10,
        duplicated: Copies { published_again: 2, ..Copies::default() },
        processed: 3,
        dead: 1,
        waiting: 6,
        ..Counts::default()
    };
    let b = Counts {
        published: 5,
        acknowledged: 5,
        delivered: 1,
        waiting: 1,
        lost: 2,
        not_yet_arrived: 2,
        ..Counts::default()
    };
    let c = Counts { published: 3, sent: 3, ..Counts::default() };
    let topics = [("a", a), ("b", b), ("c", c)].map(|(topic, counts)| (topic.into(), counts)).into();
    let duplicated = Copies { published_again: 2, ..Copies::default() };
    assert_eq!(found, Reconciliation { topics, duplicated, ..Reconciliation::default() });
    assert_eq!(found.verdict(), Verdict::Lost);
    assert_eq!(bench.reconcile(Some("a")).verdict(), Verdict::Complete);
}

#[tokio::test]
async fn what_is_unsent_or_failed_is_not_lost() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| plan.answer = Some(|_| ReasonCode::QUOTA_EXCEEDED));
    bench.publish("a", 0..2, Qos::AtLeastOnce).await;
    bench.broker.plan(|plan| plan.refuse = Some(ReasonCode::SERVER_BUSY));
    let publisher = bench.publisher();
    drop(publisher.publish("a", "2", Qos::AtLeastOnce).await.unwrap());
    // Its owner is at work meanwhile.
    let counts = bench.reconcile(None).total();
    assert_eq!((counts.published, counts.failed, counts.unsent), (3, 2, 1));
    assert_eq!(counts.verdict(), Verdict::Complete);
}

#[tokio::test]
async fn other_publishers_messages_are_counted_and_no_more() {
    let bench = Bench::new().await;
    bench.publish("a", 0..1, Qos::AtLeastOnce).await;
    bench.deliver(|_| true).await;
    let stranger =
        Arrived { topic: "a".into(), payload: "x".into(), qos: Qos::AtLeastOnce, id: Some("x".into()) };
    bench.inbox.accept(arrival(&stranger)).await.unwrap();
    let found = bench.reconcile(None);
    assert_eq!((found.unexpected, found.verdict()), (1, Verdict::Complete));
}

#[tokio::test]
async fn a_settled_id_outlives_its_message() {
    let bench = Bench::new().await;
    bench.publish("a", 0..1_500, Qos::AtLeastOnce).await;
    let mut places = Vec::new();
    let ledger = outbox::ledger(&bench.path("outbox.db"), |published| match published.standing {
        Standing::Settled { place } => places.push((published.seq, place)),
        other => panic!("{other:?}"),
    });
    let ledger = ledger.unwrap();
    assert_eq!((ledger.accepted, ledger.forgotten), (1_500, 0));
    assert_eq!(places, (0..1_500).map(|place| (place + 1, place)).collect::<Vec<_>>());
}

#[tokio::test]
async fn stores_in_the_wrong_order_are_told_apart() {
    let bench = Bench::new().await;
    bench.publish("a", 0..1, Qos::AtLeastOnce).await;
    let refused = Window::attach(&bench.path("outbox.db")).unwrap_err();
    assert!(matches!(refused, StoreError::OtherKind { .. }), "{refused}");
    let inbox = Window::attach(&bench.path("inbox.db")).unwrap();
    let refused = reconcile(&bench.path("inbox.db"), &inbox, inbox.consumers(), None).unwrap_err();
    assert!(matches!(refused, StoreError::OtherKind { .. }), "{refused}");
}

#[tokio::test]
async fn duplicates_are_counted_by_topic_and_cause_and_outlive_the_process() {
    let bench = Bench::new().await;
    bench.publish("a", 0..3, Qos::AtLeastOnce).await;
    bench.publish("b", 3..6, Qos::AtLeastOnce).await;
    bench.deliver(|_| true).await;
    bench.deliver(|n| n > 0).await;
    let redelivered = bench.broker.state().arrivals[0].clone();
    bench.inbox.accept(Arrival { dup: true, ..arrival(&redelivered) }).await.unwrap();
    bench.inbox.close().await;
    let (reopened, _) = Inbox::open(&bench.path("inbox.db"), inbox::Settings::default()).unwrap();
    bench.deliver_to(&reopened, |n| n == 1).await;
    let found = bench.reconcile(Some("a"));
    let a = Copies { redelivered: 1, published_again: 3, ..Copies::default() };
    assert_eq!((found.topics["a"].duplicated, found.topics.len()), (a, 1));
    assert_eq!(found.duplicated, Copies { redelivered: 1, published_again: 6, ..Copies::default() });
}

#[tokio::test]
async fn an_inbox_is_compared_for_everybody_in_whose_name_it_was_opened() {
    let bench = Bench::new().await;
    bench.publish("a", 0..2, Qos::AtLeastOnce).await;
    bench.deliver(|n| n == 0).await;
    // What waits is known by the text of its key, whosesoever it is.
    bench.handle(1, || Outcome::Done).await;
    bench.inbox.close().await;
    let scope = Scope::Consumer;
    let other = Consumer { name: "other".into(), scope };
    let settings = inbox::Settings { consumer: Some(other.clone()), ..inbox::Settings::default() };
    let (reopened, _) = Inbox::open(&bench.path("inbox.db"), settings).unwrap();
    let arrived = bench.broker.state().arrivals[1].clone();
    let keys = other.own_keys();
    let Arrival { topic, properties, payload, .. } = arrival(&arrived);
    let view =
        View { topic: &topic, properties: &properties, payload: &payload, received_at: Time::default() };
    reopened.accept(Arrival { key: keys.key_of(view), ..arrival(&arrived) }).await.unwrap();
    let delivery = reopened.claim(0, 1).await.unwrap().remove(0);
    reopened.settle(delivery.lease(), Outcome::Done).await.unwrap().unwrap();
    let inbox = Window::attach(&bench.path("inbox.db")).unwrap();
    assert_eq!(inbox.consumers(), [other.clone(), consumer("pump")]);
    assert_eq!(inbox.window_ms(), Some(inbox::Settings::default().window_ms));
    let delivered = |consumers: &[Consumer]| {
        reconcile(&bench.path("outbox.db"), &inbox, consumers, None).unwrap().total().delivered
    };
    assert_eq!((delivered(inbox.consumers()), delivered(&[other]), delivered(&[])), (2, 1, 0));
}

#[tokio::test]
async fn the_age_of_what_waits_is_known_by_its_id() {
    let bench = Bench::new().await;
    bench.publish("a", 0..1, Qos::AtLeastOnce).await;
    assert_eq!(bench.reconcile(None).oldest_unsent, None);
    bench.broker.plan(|plan| plan.refuse = Some(ReasonCode::SERVER_BUSY));
    let publisher = bench.publisher();
    let now = || Time::from_ms(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64);
    let before = now();
    for n in 1..4 {
        drop(publisher.publish("a", n.to_string(), Qos::AtLeastOnce).await.unwrap());
    }
    let oldest = bench.reconcile(None).oldest_unsent.unwrap();
    assert!(before <= oldest && oldest <= now(), "{oldest:?}");
}
