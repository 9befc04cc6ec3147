//! What can be done about messages that were given up.

mod publisher_support;

use mqtally::outbox::{self, FailedMessages, Published, Standing, Totals};
use mqtally::publisher::{DeliveryError, Message, Publisher, StoreError};
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Property, Qos, ReasonCode};
use publisher_support::Broker;
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    broker: Broker,
    directory: tempfile::TempDir,
}

impl Bench {
    /// With an outbox in which the messages `refuse-…` of these have failed; they became safe together.
    async fn new(payloads: &[&str]) -> Self {
        let bench = Self { broker: Broker::start().await, directory: tempfile::tempdir().unwrap() };
        bench.broker.plan(|plan| {
            plan.answer = Some(|publish| match publish.payload.starts_with(b"refuse") {
                true => ReasonCode::QUOTA_EXCEEDED,
                false => ReasonCode::SUCCESS,
            });
        });
        let publisher = bench.publisher();
        let message = |payload: &&str| {
            (publisher.next_id(), Message::new("a/b", payload.to_string(), Qos::AtLeastOnce))
        };
        for receipt in publisher.publish_all(payloads.iter().map(message).collect()).await.unwrap() {
            let _ = receipt.await; // a refusal is a result, too
        }
        publisher.close(PATIENCE).await;
        bench
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("outbox.db")
    }

    fn publisher(&self) -> Publisher {
        Publisher::builder(self.broker.endpoint()).store(self.store()).start().unwrap()
    }

    fn failed(&self) -> FailedMessages {
        FailedMessages::attach(&self.store()).unwrap()
    }

    fn totals(&self) -> Totals {
        outbox::look(&self.store(), 0).unwrap().0
    }

    fn ledger(&self) -> (outbox::Ledger, Vec<Published>) {
        let mut published = Vec::new();
        let ledger = outbox::ledger(&self.store(), |one| published.push(one)).unwrap();
        (ledger, published)
    }
}

#[tokio::test]
async fn a_failed_message_keeps_no_other_in_the_outbox() {
    let bench = Bench::new(&["one", "refuse", "three"]).await;
    let packs = rusqlite::Connection::open(bench.store()).unwrap();
    let packs: i64 = packs.query_row("SELECT count(*) FROM batch", [], |row| row.get(0)).unwrap();
    assert_eq!((packs, bench.totals().rows, bench.totals().failed), (0, 1, 1));
    let failed = bench.failed().show(2).unwrap().unwrap();
    assert_eq!(failed.stored.unwrap().message.payload, "refuse");
    assert_eq!(failed.failure.reason, Some(ReasonCode::QUOTA_EXCEEDED));
    assert!(bench.failed().show(1).unwrap().is_none());
}

#[tokio::test]
async fn what_is_retried_goes_again_under_its_id_and_behind_all_others() {
    let bench = Bench::new(&["refuse-1", "two", "refuse-3"]).await;
    let ids: Vec<_> = bench.failed().list(0, 9).unwrap().into_iter().map(|f| f.stored.unwrap().id).collect();
    bench.broker.plan(|plan| plan.answer = None);
    assert_eq!(bench.failed().retry(&[1, 2, 3], Time::from_ms(7)).unwrap(), [1, 3], "what is there");
    assert_eq!((bench.totals().rows, bench.totals().failed), (2, 0));
    let publisher = bench.publisher();
    publisher.publish("a/b", "later", Qos::AtLeastOnce).await.unwrap().await.unwrap();
    assert_eq!(publisher.close(PATIENCE).await, 0);
    let arrivals = bench.broker.state().arrivals.clone();
    let payloads: Vec<_> = arrivals.iter().map(|arrival| &*arrival.payload).collect();
    assert_eq!(payloads, ["two", "refuse-1", "refuse-3", "later"]);
    assert_eq!(arrivals[1].id.as_deref(), Some(&*ids[0].to_string()));
    let (ledger, published) = bench.ledger();
    assert_eq!((ledger.accepted, ledger.forgotten, published.len()), (4, 0, 4), "counted once");
    assert!(published.iter().all(|one| matches!(one.standing, Standing::Settled { .. })));
}

#[tokio::test]
async fn what_is_purged_is_gone_and_takes_no_room() {
    let bench = Bench::new(&["refuse-1", "refuse-2"]).await;
    assert_eq!(bench.failed().purge(&[2, 9]).unwrap(), [2]);
    assert_eq!((bench.totals().rows, bench.totals().failed), (1, 1));
    assert_eq!(bench.failed().purge(&[1]).unwrap(), [1]);
    assert_eq!(bench.totals(), Totals::default());
}

#[tokio::test]
async fn failed_messages_are_read_beside_a_publisher_and_changed_only_without_one() {
    let bench = Bench::new(&["refuse"]).await;
    let publisher = bench.publisher();
    assert_eq!(bench.failed().list(0, 9).unwrap().len(), 1);
    let refused = bench.failed().retry(&[1], Time::default()).unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    publisher.close(PATIENCE).await;
    assert_eq!(bench.failed().retry(&[1], Time::default()).unwrap(), [1]);
}

#[tokio::test]
async fn what_expired_in_the_outbox_fails_and_counts_anew_when_it_is_retried() {
    let bench = Bench::new(&[]).await;
    bench.broker.plan(|plan| plan.refuse = Some(ReasonCode::SERVER_BUSY));
    let publisher = bench.publisher();
    let properties = Properties(vec![Property::MessageExpiryInterval(1)]);
    let message = Message { properties, ..Message::new("a/b", "x", Qos::AtLeastOnce) };
    let receipt = publisher.publish_message(message).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    bench.broker.plan(|plan| plan.refuse = None);
    let expired = receipt.await.unwrap_err();
    assert!(matches!(&expired, DeliveryError::Failed { failure, .. } if failure.detail.contains("expired")));
    publisher.close(PATIENCE).await;
    // From ten seconds ahead on, so that however slow the next start is, it has its second.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    bench.failed().retry(&[1], Time::from_ms(now.as_millis() as u64 + 10_000)).unwrap();
    assert_eq!(bench.publisher().close(PATIENCE).await, 0);
    assert_eq!(bench.broker.payloads(), ["x"]);
}
