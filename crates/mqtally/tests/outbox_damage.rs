//! What the outbox does when the disk or the file is not what it was.

mod publisher_support;

use mqtally::outbox;
use mqtally::publisher::{DeliveryError, OnFull, PublishError, Publisher, StartError, StoreError};
use mqtally::store::fail::Faults;
use mqtally::store::sqlite::Options;
use mqtally_proto::packet::{Qos, ReasonCode};
use publisher_support::Broker;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    broker: Broker,
    directory: tempfile::TempDir,
    faults: Arc<Faults>,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { broker: Broker::start().await, directory, faults: Arc::default() }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("outbox.db")
    }

    fn publisher(&self, on_full: OnFull) -> Publisher {
        let options = Options { faults: Some(Arc::clone(&self.faults)), ..Options::default() };
        let store = outbox::Settings { path: self.store(), options };
        let builder = Publisher::builder(self.broker.endpoint()).limit(100, 1 << 20, on_full);
        builder.store_with(store).start().unwrap()
    }

    /// Leaves messages behind that the broker has not been given.
    async fn leave(&self, payloads: &[&str]) {
        self.broker.plan(|plan| plan.refuse = Some(ReasonCode::SERVER_BUSY));
        let publisher = self.publisher(OnFull::Wait);
        for payload in payloads {
            drop(publisher.publish("t", payload.to_string(), Qos::AtLeastOnce).await.unwrap());
        }
        publisher.close(Duration::ZERO).await;
        self.broker.plan(|plan| plan.refuse = None);
    }

    fn spoil(&self, sql: &str) {
        let connection = rusqlite::Connection::open(self.store()).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}

/// Nothing is promised while the disk fails, and everything is sent when it heals.
async fn trouble_passes(fail: impl Fn(&Faults, u32)) {
    let bench = Bench::new().await;
    let publisher = bench.publisher(OnFull::Wait);
    publisher.publish("t", "before", Qos::ExactlyOnce).await.unwrap().await.unwrap();
    fail(&bench.faults, u32::MAX);
    let mut status = publisher.status();
    let publishing = tokio::spawn({
        let publisher = publisher.clone();
        async move { Some(publisher.publish("t", "during", Qos::ExactlyOnce).await.unwrap()) }
    });
    // More than one attempt, so that somebody who was promised something had the time to say so.
    for _ in 0..3 {
        status.wait_for(|status| status.trouble.is_some()).await.unwrap();
        status.changed().await.unwrap();
    }
    assert!(!publishing.is_finished(), "it was promised");
    assert_eq!(bench.broker.payloads(), ["before"]);
    fail(&bench.faults, 0);
    publishing.await.unwrap().unwrap().await.unwrap();
    status.wait_for(|status| status.trouble.is_none()).await.unwrap();
    assert_eq!(publisher.close(PATIENCE).await, 0);
    assert_eq!(bench.broker.payloads(), ["before", "during"]);
}

#[tokio::test]
async fn a_full_disk_promises_nothing_and_goes_on_by_itself() {
    trouble_passes(|faults, count| {
        faults.fail_commits(count);
        faults.fail_opens(count.min(1));
    })
    .await;
}

#[tokio::test]
async fn a_sync_that_fails_promises_nothing_until_what_was_written_is_on_disk() {
    trouble_passes(Faults::fail_syncs).await;
}

/// The system may take pages for clean that it could not write: what is in the log has to reach the file by another way.
#[tokio::test]
async fn after_a_sync_that_failed_the_log_is_emptied() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| plan.mute = true);
    let publisher = bench.publisher(OnFull::Wait);
    // While somebody else has the file open, closing it leaves the log as it is.
    let reader = rusqlite::Connection::open(bench.store()).unwrap();
    let _: i64 = reader.query_row("SELECT commits FROM tally", [], |row| row.get(0)).unwrap();
    bench.faults.fail_syncs(1);
    let long = "x".repeat(200 << 10);
    drop(publisher.publish("t", long.clone(), Qos::AtLeastOnce).await.unwrap());
    let log = std::fs::metadata(bench.directory.path().join("outbox.db-wal")).unwrap().len();
    assert!(log < long.len() as u64, "{log}");
    publisher.close(Duration::ZERO).await;
}

/// Whoever waits when it is closed learns that his message was stored, also where that took another attempt.
#[tokio::test]
async fn a_sync_that_fails_while_it_is_closed_breaks_no_promise() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| plan.refuse = Some(ReasonCode::SERVER_BUSY));
    let publisher = bench.publisher(OnFull::Wait);
    // While the first one is tried again, the second one and the end gather: they are one turn then.
    bench.faults.fail_commits(1);
    let first = tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.publish("t", "first", Qos::AtLeastOnce).await.map(drop) }
    });
    publisher.status().wait_for(|status| status.trouble.is_some()).await.unwrap();
    bench.faults.fail_syncs(2);
    let (second, left) =
        tokio::join!(publisher.publish("t", "second", Qos::AtLeastOnce), publisher.close(Duration::ZERO));
    first.await.unwrap().unwrap();
    second.unwrap();
    assert!(left <= 2);
    bench.broker.plan(|plan| plan.refuse = None);
    assert_eq!(bench.publisher(OnFull::Wait).close(PATIENCE).await, 0);
    assert_eq!(bench.broker.payloads(), ["first", "second"]);
}

#[tokio::test]
async fn a_full_disk_is_an_error_where_that_was_asked_for() {
    let bench = Bench::new().await;
    let publisher = bench.publisher(OnFull::Fail);
    bench.faults.fail_commits(u32::MAX);
    let first = tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.publish("t", "x", Qos::AtLeastOnce).await.map(drop) }
    });
    publisher.status().wait_for(|status| status.trouble.is_some()).await.unwrap();
    let refused = publisher.publish("t", "y", Qos::AtLeastOnce).await;
    assert!(matches!(refused, Err(PublishError::Store(_))));
    publisher.close(Duration::ZERO).await;
    assert!(
        matches!(first.await.unwrap(), Err(PublishError::Closed)),
        "what was not stored was not promised"
    );
}

#[tokio::test]
async fn a_damaged_message_is_kept_as_failed_and_stops_no_other() {
    let bench = Bench::new().await;
    bench.leave(&["one", "two", "three"]).await;
    bench.spoil("UPDATE batch SET packed = CAST(replace(packed, 'two', 'tvo') AS BLOB) WHERE first = 2");
    let publisher = bench.publisher(OnFull::Wait);
    assert_eq!(publisher.close(PATIENCE).await, 0);
    assert_eq!(bench.broker.payloads(), ["one", "three"]);
    let (totals, failed) = outbox::look(&bench.store(), 9).unwrap();
    assert_eq!((totals.rows, totals.failed), (1, 1));
    assert!(failed[0].stored.is_none() && failed[0].failure.detail.contains("damaged"));
}

#[tokio::test]
async fn an_outbox_that_went_back_in_time_is_refused() {
    let bench = Bench::new().await;
    bench.leave(&["one"]).await;
    bench.spoil("UPDATE tally SET commits = 0");
    let refused = Publisher::builder(bench.broker.endpoint()).store(bench.store()).start().err().unwrap();
    assert!(matches!(refused, StartError::Store(StoreError::Older { .. })), "{refused}");
}

#[tokio::test]
async fn an_outbox_of_an_earlier_format_is_refused_and_left_as_it_is() {
    let bench = Bench::new().await;
    bench.leave(&["one"]).await;
    bench.spoil("PRAGMA user_version = 1");
    let refused = Publisher::builder(bench.broker.endpoint()).store(bench.store()).start().err().unwrap();
    assert!(matches!(refused, StartError::Store(StoreError::OlderFormat { found: 1, .. })), "{refused}");
    bench.spoil("PRAGMA user_version = 2");
    assert_eq!(outbox::look(&bench.store(), 0).unwrap().0.rows, 1);
}

#[tokio::test]
async fn an_inbox_is_no_outbox() {
    let bench = Bench::new().await;
    let (inbox, _) =
        mqtally::inbox::Inbox::open(&bench.store(), mqtally::inbox::Settings::default()).unwrap();
    inbox.close().await;
    let refused = Publisher::builder(bench.broker.endpoint()).store(bench.store()).start().err().unwrap();
    assert!(matches!(refused, StartError::Store(StoreError::OtherKind { .. })), "{refused}");
}

#[tokio::test]
async fn a_receipt_whose_publisher_ended_says_so() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| plan.mute = true);
    let publisher = bench.publisher(OnFull::Wait);
    let receipt = publisher.publish("t", "x", Qos::AtLeastOnce).await.unwrap();
    assert_eq!(publisher.close(Duration::ZERO).await, 1);
    assert!(matches!(receipt.await, Err(DeliveryError::Unsettled { .. })));
}
