//! What the subscriber holds to on the wire, with a scripted broker on the other side.

mod subscriber_support;

use mqtally::handler::Handler;
use mqtally::inbox::{self, Delivery, Outcome, RetryPolicy};
use mqtally::store::fail::Faults;
use mqtally::store::sqlite;
use mqtally::subscriber::{BuildError, Builder, Credit, Ended, Pause, SubscriberError};
use mqtally_proto::packet::{Packet, Publish, Qos, ReasonCode, Version};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use subscriber_support::{Peer, Place, Script, puback_of, publish, pubrel};
use tokio::sync::oneshot;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(10);

fn done() -> Handler {
    Handler::from_fn(|_| async { Outcome::Done })
}

/// Runs a subscriber beside a script; the script's end stops it.
async fn run<T>(builder: Builder, place: &Place, script: impl Future<Output = T>) -> (T, Ended) {
    let subscriber = builder.open(place.store()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let script = async {
        let value = timeout(PATIENCE, script).await.expect("the script ends");
        drop(stop);
        value
    };
    let running = subscriber.run(async { drop(stopped.await) });
    let (value, ended) = tokio::join!(script, running);
    (value, ended.unwrap())
}

#[tokio::test]
async fn each_message_is_acknowledged_once_in_the_order_received() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let builder = peer.builder().subscribe("#", Qos::ExactlyOnce).otherwise(done());
    let (answers, _) = run(builder, &place, async {
        let mut link = peer.accept(false).await;
        for packet_id in [3, 1, 2] {
            link.send(publish("a", packet_id, Qos::AtLeastOnce, "x")).await;
        }
        [link.read().await, link.read().await, link.read().await]
    })
    .await;
    assert_eq!(answers.map(|packet| puback_of(&packet)), [Some(3), Some(1), Some(2)]);
}

#[tokio::test]
async fn a_hanging_handler_holds_up_neither_acknowledgements_nor_pings() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let hang = Handler::from_fn(|_| std::future::pending());
    let builder = peer.builder().subscribe("#", Qos::AtLeastOnce).keep_alive(1).otherwise(hang);
    let builder = builder.grace(Duration::from_millis(10));
    let (_, ended) = run(builder, &place, async {
        let mut link = peer.accept(false).await;
        for packet_id in 1..=20 {
            link.send(publish("a", packet_id, Qos::AtLeastOnce, "x")).await;
        }
        for packet_id in 1..=20 {
            assert_eq!(puback_of(&link.read().await), Some(packet_id));
        }
        while link.read_raw().await != Packet::Pingreq {}
    })
    .await;
    assert_eq!((ended.settled, ended.unfinished), (0, 1), "one lane, one delivery at a time");
}

#[tokio::test]
async fn a_spent_backlog_stops_the_reading_and_not_the_pings() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let hang = Handler::from_fn(|_| std::future::pending());
    let builder = peer.builder().subscribe("#", Qos::AtLeastOnce).keep_alive(1).otherwise(hang);
    let builder = builder.backlog_max(1).grace(Duration::from_millis(10));
    run(builder, &place, async {
        let mut link = peer.accept(false).await;
        link.send(publish("a", 1, Qos::AtLeastOnce, "x")).await;
        assert_eq!(puback_of(&link.read().await), Some(1));
        // A look at the backlog comes at least once between two pings.
        while link.read_raw().await != Packet::Pingreq {}
        link.send(publish("a", 2, Qos::AtLeastOnce, "x")).await;
        // The answer to a ping is not read either, and not missed.
        for _ in 0..2 {
            assert_eq!(link.read_raw().await, Packet::Pingreq);
        }
    })
    .await;
}

#[tokio::test]
async fn spent_credit_delays_and_loses_nothing() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let credit = Credit { messages: 4, bytes: 100 };
    let builder = peer.builder().subscribe("#", Qos::AtLeastOnce).credit(credit).otherwise(done());
    let ((), ended) = run(builder.count(500), &place, async {
        let mut link = peer.accept(false).await;
        for packet_id in 1..=500 {
            link.send(publish("a", packet_id, Qos::AtLeastOnce, "a payload of some length")).await;
        }
        for packet_id in 1..=500 {
            assert_eq!(puback_of(&link.read().await), Some(packet_id));
        }
        // The count ends it.
        link.read_to_disconnect().await;
    })
    .await;
    assert_eq!(ended.settled, 500);
}

#[tokio::test]
async fn no_more_is_read_than_the_credit_allows_while_nothing_can_be_stored() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let credit = Credit { messages: 4, bytes: 1 << 20 };
    let builder = peer.builder().subscribe("#", Qos::AtLeastOnce).credit(credit).otherwise(done());
    let subscriber = builder.count(100).open(place.store()).unwrap();
    let monitor = subscriber.monitor();
    let script = async {
        let mut link = peer.accept(false).await;
        // Another process writes to the store, and takes its time.
        let other = rusqlite::Connection::open(place.store()).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        for packet_id in 1..=100 {
            link.send(publish("a", packet_id, Qos::AtLeastOnce, "x")).await;
        }
        while monitor.status().paused != Some(Pause::Credit) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        other.execute_batch("ROLLBACK").unwrap();
        for packet_id in 1..=100 {
            assert_eq!(puback_of(&link.read().await), Some(packet_id));
        }
        link.read_to_disconnect().await;
    };
    let (script, ended) = tokio::join!(timeout(PATIENCE, script), subscriber.run(std::future::pending()));
    script.expect("the script ends");
    assert_eq!(ended.unwrap().settled, 100);
}

/// Each of the deliveries that were handed out at once could be a packet of the largest size: gigabytes in all.
#[tokio::test]
async fn huge_messages_are_handed_out_as_far_as_memory_allows_and_all_of_them_in_time() {
    const MESSAGES: u16 = 24;
    let (place, peer) = (Place::new(), Peer::bind().await);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    let (all_stored, stored) = tokio::sync::watch::channel(false);
    let slow = Handler::from_fn(move |_: Delivery| {
        let (now, peak, mut stored) = (Arc::clone(&now), Arc::clone(&peak), stored.clone());
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            stored.wait_for(|stored| *stored).await.unwrap();
            now.fetch_sub(1, Ordering::SeqCst);
            Outcome::Done
        }
    });
    let builder = peer.builder().subscribe("#", Qos::AtLeastOnce).dedup(Vec::new()).otherwise(slow);
    let builder = builder.keep_alive(0).concurrency(64).count(u64::from(MESSAGES));
    let ((), ended) = run(builder, &place, async {
        let mut link = peer.accept(false).await;
        let payload = "x".repeat(4 << 20);
        for packet_id in 1..=MESSAGES {
            link.send(publish(&packet_id.to_string(), packet_id, Qos::AtLeastOnce, &payload)).await;
        }
        for packet_id in 1..=MESSAGES {
            assert_eq!(puback_of(&link.read().await), Some(packet_id));
        }
        all_stored.send_replace(true);
        link.read_to_disconnect().await;
    })
    .await;
    assert_eq!(ended.settled, u64::from(MESSAGES));
    // 32 MiB, and what the last claim brought beyond that.
    let most = most.load(Ordering::SeqCst);
    assert!((2..=10).contains(&most), "{most} at once");
}

#[tokio::test]
async fn an_unknown_pubrel_is_answered_with_pubcomp() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let builder = peer.builder().subscribe("#", Qos::ExactlyOnce).otherwise(done());
    run(builder, &place, async {
        let mut link = peer.accept(false).await;
        link.send(pubrel(77)).await;
        let Packet::Pubcomp(ack) = link.read().await else { panic!("no PUBCOMP") };
        assert_eq!((ack.packet_id, ack.reason), (77, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND));
    })
    .await;
}

#[tokio::test]
async fn a_remembered_exchange_survives_the_process_and_its_message_is_handled_once() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let handled = Arc::new(AtomicUsize::new(0));
    let builder = || {
        let handled = Arc::clone(&handled);
        peer.builder().subscribe("#", Qos::ExactlyOnce).otherwise(Handler::from_fn(move |_: Delivery| {
            handled.fetch_add(1, Ordering::SeqCst);
            async { Outcome::Done }
        }))
    };
    run(builder(), &place, async {
        let mut link = peer.accept(false).await;
        link.send(publish("a", 7, Qos::ExactlyOnce, "x")).await;
        assert!(matches!(link.read().await, Packet::Pubrec(ack) if ack.packet_id == 7));
    })
    .await;
    run(builder(), &place, async {
        let mut link = peer.accept(true).await;
        let mut again = publish("a", 7, Qos::ExactlyOnce, "x");
        again.dup = true;
        link.send(again).await;
        assert!(matches!(link.read().await, Packet::Pubrec(ack) if ack.packet_id == 7));
        link.send(pubrel(7)).await;
        let Packet::Pubcomp(ack) = link.read().await else { panic!("no PUBCOMP") };
        assert_eq!((ack.packet_id, ack.reason), (7, ReasonCode::SUCCESS), "it was known");
        // A new message under the freed id.
        link.send(publish("a", 7, Qos::ExactlyOnce, "y")).await;
        assert!(matches!(link.read().await, Packet::Pubrec(_)));
    })
    .await;
    assert_eq!(handled.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn while_the_store_fails_nothing_is_acknowledged_and_the_connection_stays_up() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let faults = Arc::new(Faults::default());
    let store = sqlite::Options { faults: Some(Arc::clone(&faults)), ..sqlite::Options::default() };
    let inbox = inbox::Settings { store, ..inbox::Settings::default() };
    let builder =
        peer.builder().inbox(inbox).subscribe("#", Qos::ExactlyOnce).keep_alive(1).otherwise(done());
    let (_, ended) = run(builder.count(2), &place, async {
        let mut link = peer.accept(false).await;
        faults.fail_opens(4);
        faults.fail_commits(1);
        link.send(publish("a", 1, Qos::AtLeastOnce, "x")).await;
        link.send(publish("a", 2, Qos::ExactlyOnce, "y")).await;
        assert_eq!(link.read_raw().await, Packet::Pingreq, "no acknowledgement, no end");
        let mut link = peer.accept(true).await;
        for (packet_id, qos, payload) in [(1, Qos::AtLeastOnce, "x"), (2, Qos::ExactlyOnce, "y")] {
            link.send(Publish { dup: true, ..publish("a", packet_id, qos, payload) }).await;
        }
        assert_eq!(puback_of(&link.read().await), Some(1));
        assert!(matches!(link.read().await, Packet::Pubrec(ack) if ack.packet_id == 2));
        link.read_to_disconnect().await;
    })
    .await;
    assert_eq!((ended.settled, ended.statistics.unwrap().received), (2, 2));
}

/// The broker lost the session, and the subscriber died before it could note that: the broker says that it keeps the new
/// session, and gives its first packet ids to new messages. Taken for redeliveries, these were lost.
#[tokio::test]
async fn a_remembered_packet_id_without_dup_means_another_message() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let builder = || peer.builder().subscribe("#", Qos::ExactlyOnce).otherwise(done());
    for payload in ["x", "y"] {
        run(builder(), &place, async {
            let mut link = peer.accept(payload == "y").await;
            link.send(publish("a", 1, Qos::ExactlyOnce, payload)).await;
            assert!(matches!(link.read().await, Packet::Pubrec(_)));
        })
        .await;
    }
    let (_, ended) = run(builder(), &place, async { drop(peer.accept(true).await) }).await;
    assert_eq!(ended.statistics.unwrap().processed, 2);
}

#[tokio::test]
async fn a_lost_session_is_subscribed_again_counted_and_its_packet_ids_mean_nothing() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let builder = peer.builder().subscribe("#", Qos::ExactlyOnce).otherwise(done());
    let ((), ended) = run(builder.count(2), &place, async {
        let mut link = peer.accept(false).await;
        link.send(publish("a", 1, Qos::ExactlyOnce, "x")).await;
        assert!(matches!(link.read().await, Packet::Pubrec(_)));
        drop(link);
        let mut link = peer.accept(false).await;
        link.send(publish("a", 1, Qos::ExactlyOnce, "another message")).await;
        assert!(matches!(link.read().await, Packet::Pubrec(_)));
        link.read_to_disconnect().await;
    })
    .await;
    assert_eq!((ended.settled, ended.statistics.unwrap().session_losses), (2, 1));
}

#[tokio::test]
async fn a_takeover_ends_the_run_and_says_why() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let subscriber = peer.builder().subscribe("#", Qos::AtLeastOnce).open(place.store()).unwrap();
    let script = async {
        let mut link = peer.accept(false).await;
        link.send(Script::disconnect(ReasonCode::SESSION_TAKEN_OVER)).await;
    };
    let ((), ended) = tokio::join!(script, subscriber.run(std::future::pending()));
    let error = ended.unwrap_err();
    assert!(matches!(error, SubscriberError::TakenOver { .. }), "{error}");
    assert!(error.to_string().contains("\"subscriber\""), "{error}");
}

#[tokio::test]
async fn a_broker_that_ends_each_connection_after_accepting_it_ends_the_run() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let builder = peer.builder().version(Version::V3_1_1).subscribe("#", Qos::AtLeastOnce);
    let subscriber = builder.open(place.store()).unwrap();
    let script = async {
        for _ in 0..4 {
            drop(peer.accept(false).await);
        }
    };
    let ended = timeout(Duration::from_secs(20), async {
        tokio::join!(script, subscriber.run(std::future::pending()))
    });
    let ((), ended) = ended.await.unwrap();
    assert!(matches!(ended, Err(SubscriberError::Unwelcome { times: 4, .. })), "{ended:?}");
}

#[tokio::test]
async fn wrong_credentials_are_an_error_at_once() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let subscriber = peer.builder().subscribe("#", Qos::AtLeastOnce).open(place.store()).unwrap();
    let script = peer.refuse(ReasonCode::BAD_USER_NAME_OR_PASSWORD);
    let ((), ended) = tokio::join!(script, subscriber.run(std::future::pending()));
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("check the user name and the password"), "{error}");
}

#[tokio::test]
async fn what_fails_is_tried_again_and_then_given_up() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let panics = Handler::from_fn(|delivery: Delivery| async move {
        assert!(delivery.attempt > 1, "the first attempt panics");
        Outcome::Retry { after: None, error: "again".into() }
    });
    let retry = RetryPolicy { attempts_max: 3, delay_ms: 1, delay_ms_max: 1 };
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let builder = peer.builder().subscribe("#", Qos::AtLeastOnce).retry(retry).otherwise(panics).count(1);
    let builder = builder.settled_observer(move |settled| tell.lock().unwrap().push(settled.ends));
    let ((), ended) = run(builder, &place, async {
        let mut link = peer.accept(false).await;
        link.send(publish("a", 1, Qos::AtLeastOnce, "x")).await;
        link.read_to_disconnect().await;
    })
    .await;
    let counted = ended.statistics.unwrap();
    assert_eq!((counted.failed, counted.retries, counted.dead_lettered), (3, 2, 1));
    assert_eq!(*told.lock().unwrap(), [false, false, true], "each attempt was told of");
}

#[tokio::test]
async fn a_topic_that_no_handler_takes_becomes_a_dead_letter() {
    let (place, peer) = (Place::new(), Peer::bind().await);
    let builder = peer.builder().subscribe("#", Qos::AtLeastOnce).on("b/+", done()).count(1);
    let ((), ended) = run(builder, &place, async {
        let mut link = peer.accept(false).await;
        link.send(publish("a", 1, Qos::AtLeastOnce, "x")).await;
        link.read_to_disconnect().await;
    })
    .await;
    assert_eq!(ended.statistics.unwrap().dead, 1);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_opened() {
    let place = Place::new();
    let check = |builder: Builder, expect: &str| {
        let error = builder.open(place.store()).err().map(|error: BuildError| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains(expect)), "{error:?}");
    };
    let builder = |client_id| Builder::new("mqtt://localhost".parse().unwrap(), client_id);
    check(builder("").subscribe("a", Qos::AtLeastOnce), "under the client id");
    check(builder("x"), "no topic filter");
    check(builder("x").subscribe("a/#/b", Qos::AtLeastOnce), "has a # at byte 2");
    check(builder("x").subscribe("a", Qos::AtLeastOnce).session_expiry(0), "forget the session");
    check(builder("x").subscribe("a", Qos::AtLeastOnce).on("+b", done()), "has a + at byte 0");
    assert!(!place.store().exists());
}

#[test]
fn a_run_may_be_spawned() {
    fn spawnable<T: Send>(_: T) {}
    let place = Place::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let builder = Builder::new("mqtt://localhost".parse().unwrap(), "x").subscribe("a", Qos::AtLeastOnce);
    spawnable(builder.open(place.store()).unwrap().run(async {}));
}
