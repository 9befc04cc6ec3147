//! Real stores compared: a publisher's outbox, and an inbox that is fed with what arrived at the broker.

mod publisher_support;

use mqtally::inbox::key::{Keys, View};
use mqtally::inbox::{self, Arrival, Inbox, Outcome};
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
        let (inbox, _) = Inbox::open(&directory.path().join("inbox.db"), inbox::Settings::default()).unwrap();
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
        let arrived = self.broker.state().arrivals.clone();
        for arrived in arrived.iter().filter(|arrived| payloads(arrived.payload.parse().unwrap())) {
            self.inbox.accept(arrival(arrived)).await.unwrap();
        }
    }

    async fn handle(&self, count: usize, outcome: fn() -> Outcome) {
        for delivery in self.inbox.claim(0, count).await.unwrap() {
            self.inbox.settle(delivery.lease(), outcome()).await.unwrap().unwrap();
        }
    }

    fn reconcile(&self, filter: Option<&str>) -> Reconciliation {
        let (outbox, inbox) = (self.path("outbox.db"), self.path("inbox.db"));
        reconcile(&outbox, &inbox, &Keys::new("pump"), filter).unwrap()
    }
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
    assert_eq!(found, Reconciliation { topics, duplicated: 2, unexpected: 0, forgotten: 0 });
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
    let (outbox, inbox) = (bench.path("outbox.db"), bench.path("inbox.db"));
    let refused = reconcile(&inbox, &outbox, &Keys::new("pump"), None).unwrap_err();
    assert!(matches!(refused, StoreError::OtherKind { .. }), "{refused}");
}
