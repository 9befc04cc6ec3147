//! The publisher's rules, each as a law, against a broker that does what the law needs.

mod publisher_support;

use mqtally::outbox::FailedMessages;
use mqtally::publisher::{Backoff, Builder, DeliveryError, Link, Message, OnFull, PublishError, Publisher};
use mqtally_proto::Time;
use mqtally_proto::packet::{Packet, Properties, Property, Publish, Qos, ReasonCode, Version};
use publisher_support::Broker;
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

struct Bench {
    broker: Broker,
    directory: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self { broker: Broker::start().await, directory: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("outbox.db")
    }

    fn builder(&self) -> Builder {
        let fast = Backoff { first: Duration::from_millis(2), longest: Duration::from_millis(20) };
        Publisher::builder(self.broker.endpoint()).backoff(fast)
    }

    fn stored(&self) -> Publisher {
        self.builder().store(self.store()).start().unwrap()
    }
}

/// Publishes `payloads` on one topic each and returns when all are safe.
async fn publish(publisher: &Publisher, topic: &str, qos: Qos, payloads: std::ops::Range<u32>) {
    for payload in payloads {
        drop(publisher.publish(topic, payload.to_string(), qos).await.unwrap());
    }
}

#[tokio::test]
async fn nothing_is_safe_at_once() {
    let bench = Bench::new().await;
    for publisher in [bench.stored(), bench.builder().start().unwrap()] {
        for _ in 0..100 {
            assert!(publisher.publish_all(Vec::new()).await.unwrap().is_empty());
        }
    }
}

#[tokio::test]
async fn ids_that_are_made_together_are_all_different() {
    let publisher = Bench::new().await.builder().start().unwrap();
    let mut ids = [publisher.next_ids(1_000), publisher.next_ids(1_000), vec![publisher.next_id()]].concat();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 2_001);
}

#[tokio::test]
async fn a_receipt_is_the_brokers_final_acknowledgement() {
    let bench = Bench::new().await;
    for (publisher, stored) in [(bench.builder().start().unwrap(), false), (bench.stored(), true)] {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let receipt = publisher.publish("a/b", "x", qos).await.unwrap();
            let id = receipt.id();
            let proof = receipt.await.unwrap();
            assert_eq!((proof.id, proof.qos, proof.reason), (id, qos, ReasonCode::SUCCESS));
            assert!(proof.acknowledged_after >= proof.stored_after);
            assert_eq!(proof.stored_after.is_zero(), !stored);
        }
        assert_eq!(publisher.close(PATIENCE).await, 0);
    }
    assert_eq!(bench.broker.state().arrivals.len(), 6);
    assert!(bench.broker.state().arrivals.iter().all(|arrival| arrival.id.is_some()));
}

#[tokio::test]
async fn what_was_accepted_offline_is_delivered_by_the_next_process() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| plan.refuse = Some(ReasonCode::SERVER_UNAVAILABLE));
    let publisher = bench.stored();
    publish(&publisher, "t", Qos::AtLeastOnce, 0..20).await;
    assert_eq!(publisher.close(Duration::ZERO).await, 20);
    bench.broker.plan(|plan| plan.refuse = None);
    assert_eq!(bench.stored().close(PATIENCE).await, 0);
    assert_eq!(bench.broker.payloads(), (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    let (totals, _) = mqtally::outbox::look(&bench.store(), 1).unwrap();
    assert_eq!(totals.rows, 0, "settled messages are removed");
}

#[tokio::test]
async fn with_the_session_a_message_goes_on_under_its_packet_id_and_with_dup() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| plan.mute = true);
    let publisher = bench.stored();
    publish(&publisher, "t", Qos::ExactlyOnce, 0..3).await;
    bench.broker.until("all sent", |state| state.arrivals.len() == 3).await;
    publisher.close(Duration::ZERO).await;
    bench.broker.plan(|plan| plan.mute = false);
    assert_eq!(bench.stored().close(PATIENCE).await, 0);
    let state = bench.broker.state();
    let sent: Vec<_> = state.frames.iter().filter_map(published).collect();
    assert_eq!(sent[..3].iter().map(|publish| publish.dup).collect::<Vec<_>>(), [false; 3]);
    let again: Vec<_> = sent[..3].iter().map(|publish| Publish { dup: true, ..(*publish).clone() }).collect();
    assert_eq!(sent[3..].iter().map(|publish| (*publish).clone()).collect::<Vec<_>>(), again);
    assert_eq!(state.arrivals.len(), 3, "and the broker takes each once");
}

#[tokio::test]
async fn after_pubrec_only_pubrel_is_sent_again() {
    let bench = Bench::new().await;
    // The third packet after CONNECT is PUBREL: it is read and not answered.
    bench
        .broker
        .plan(|plan| plan.cut_after = Some(|connection| if connection == 1 { 2 } else { usize::MAX }));
    let publisher = bench.stored();
    publish(&publisher, "t", Qos::ExactlyOnce, 0..1).await;
    bench.broker.until("released", |state| state.frames.iter().any(|f| matches!(f, Packet::Pubrel(_)))).await;
    publisher.close(Duration::ZERO).await;
    assert_eq!(bench.stored().close(PATIENCE).await, 0);
    let state = bench.broker.state();
    assert_eq!(state.frames.iter().filter_map(published).count(), 1);
    assert!(state.frames.iter().filter(|frame| matches!(frame, Packet::Pubrel(_))).count() >= 2);
}

#[tokio::test]
async fn without_the_session_everything_goes_again_as_new_under_its_id() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| plan.mute = true);
    let publisher = bench.stored();
    publish(&publisher, "q1", Qos::AtLeastOnce, 0..2).await;
    publish(&publisher, "q2", Qos::ExactlyOnce, 2..4).await;
    bench.broker.until("all sent", |state| state.arrivals.len() == 4).await;
    publisher.close(Duration::ZERO).await;
    bench.broker.plan(|plan| (plan.mute, plan.lose_session) = (false, true));
    assert_eq!(bench.stored().close(PATIENCE).await, 0);
    let state = bench.broker.state();
    assert!(state.frames.iter().filter_map(published).all(|publish| !publish.dup));
    drop(state);
    for (payload, ids) in bench.broker.copies() {
        assert_eq!(ids.len(), 2, "{payload}");
        assert_eq!(ids[0], ids[1], "{payload}");
    }
}

/// What the outbox knows of packet ids is of the session that the broker lost, until a step of the new one is recorded; and
/// the first may be a while in coming. A PUBREL of the lost session means nothing to the broker: its answer would settle a
/// message that the broker had not passed on.
#[tokio::test]
async fn a_new_session_is_noted_before_its_first_step() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| {
        plan.unanswered = Some("first");
        // Two PUBLISHes, and the PUBREL of the second, which is not answered.
        plan.cut_after = Some(|connection| if connection == 1 { 3 } else { usize::MAX });
        plan.at_connect = Some(|connection, plan| {
            if connection == 2 {
                plan.lose_session = true;
                plan.connack = Properties(vec![Property::ReceiveMaximum(1)]);
            }
        });
    });
    let publisher = bench.stored();
    let message = |topic: &'static str, qos| (publisher.next_id(), Message::new(topic, topic, qos));
    let both = vec![message("first", Qos::AtLeastOnce), message("second", Qos::ExactlyOnce)];
    drop(publisher.publish_all(both).await.unwrap());
    let mut status = publisher.status();
    let lost = tokio::time::timeout(PATIENCE, status.wait_for(|status| status.sessions_lost == 1));
    lost.await.unwrap().unwrap();
    publisher.close(Duration::ZERO).await;
    bench.broker.plan(|plan| plan.unanswered = None);
    assert_eq!(bench.stored().close(PATIENCE).await, 0);
    let copies = &bench.broker.copies()["second"];
    assert_eq!((copies.len(), &copies[0]), (2, &copies[1]), "it goes again as new, under its id");
}

/// The outbox forgot which packet ids were in use when it was opened for another broker, but not whose they were: back at the
/// first, it gave one of them to another message, which the broker dropped as a copy.
#[tokio::test]
async fn packet_ids_that_were_forgotten_for_another_broker_are_not_given_to_other_messages() {
    let (bench, other) = (Bench::new().await, Broker::start().await);
    let publisher = bench.stored();
    publisher.publish("t", "acknowledged", Qos::AtLeastOnce).await.unwrap().await.unwrap();
    bench.broker.plan(|plan| plan.mute = true);
    drop(publisher.publish("t", "in flight", Qos::ExactlyOnce).await.unwrap());
    bench.broker.until("sent", |state| state.arrivals.len() == 2).await;
    publisher.close(Duration::ZERO).await;
    bench.broker.plan(|plan| plan.mute = false);

    other.plan(|plan| plan.refuse = Some(ReasonCode::SERVER_UNAVAILABLE));
    let elsewhere = Publisher::builder(other.endpoint()).store(bench.store()).start().unwrap();
    elsewhere.close(Duration::ZERO).await;

    let publisher = bench.stored();
    drop(publisher.publish("t", "next", Qos::ExactlyOnce).await.unwrap());
    assert_eq!(publisher.close(PATIENCE).await, 0);
    assert!(bench.broker.payloads().contains(&"next".to_owned()), "{:?}", bench.broker.payloads());
}

#[tokio::test]
async fn a_refusal_is_a_failure_and_never_success() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| {
        plan.answer = Some(|publish| match &*publish.topic {
            "forbidden" => ReasonCode::NOT_AUTHORIZED,
            "full" => ReasonCode::QUOTA_EXCEEDED,
            "odd" => ReasonCode::PAYLOAD_FORMAT_INVALID,
            _ => ReasonCode::NO_MATCHING_SUBSCRIBERS,
        });
    });
    let publisher = bench.stored();
    let refused = [
        ("forbidden", ReasonCode::NOT_AUTHORIZED),
        ("full", ReasonCode::QUOTA_EXCEEDED),
        ("odd", ReasonCode::PAYLOAD_FORMAT_INVALID),
    ];
    for (topic, expect) in refused {
        for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
            let receipt = publisher.publish(topic, "x", qos).await.unwrap();
            let Err(DeliveryError::Failed { failure, .. }) = receipt.await else {
                panic!("{topic} at {qos}")
            };
            assert_eq!(failure.reason, Some(expect));
        }
    }
    let proof = publisher.publish("nobody", "x", Qos::AtLeastOnce).await.unwrap().await.unwrap();
    assert_eq!(proof.reason, ReasonCode::NO_MATCHING_SUBSCRIBERS);
    assert_eq!(publisher.close(PATIENCE).await, 0);

    let (totals, failed) = mqtally::outbox::look(&bench.store(), 10).unwrap();
    assert_eq!((totals.rows, totals.failed), (6, 6), "refused messages are kept");
    assert_eq!(failed[0].failure.reason, Some(ReasonCode::NOT_AUTHORIZED));
    assert_eq!(failed[0].stored.as_ref().unwrap().message.topic, "forbidden");

    let frames = bench.broker.state().frames.len();
    assert_eq!(bench.stored().close(PATIENCE).await, 0);
    let state = bench.broker.state();
    assert!(state.frames[frames..].iter().filter_map(published).next().is_none(), "and not tried for ever");
}

/// mosquitto 2.0 answers what is above its `message_size_limit` with 0x95, which PUBACK may not carry. The connection was ended
/// for it, and the message sent again, for ever, with all others behind it.
#[tokio::test]
async fn a_refusal_that_mqtt_does_not_list_is_a_failure_all_the_same() {
    let bench = Bench::new().await;
    let too_large = |publish: &Publish| match publish.payload.as_ref() {
        b"large" => ReasonCode::PACKET_TOO_LARGE,
        _ => ReasonCode::SUCCESS,
    };
    bench.broker.plan(|plan| plan.answer = Some(too_large));
    let publisher = bench.stored();
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let refused = publisher.publish("t", "large", qos).await.unwrap();
        let taken = publisher.publish("t", "small", qos).await.unwrap();
        let Err(DeliveryError::Failed { failure, .. }) = refused.await else { panic!("it was refused") };
        assert_eq!(failure.reason, Some(ReasonCode::PACKET_TOO_LARGE));
        taken.await.unwrap();
    }
    assert_eq!(publisher.close(PATIENCE).await, 0);
    assert_eq!((bench.broker.payloads(), bench.broker.state().connections), (vec!["small".to_owned(); 2], 1));
}

/// Each acknowledgement made all failures before it forgotten: two publishers on one client id took each other's session over ten times
/// a second, and neither said why.
#[tokio::test]
async fn connections_that_end_early_are_told_of_and_come_less_and_less_often() {
    let bench = Bench::new().await;
    // The first of two messages is acknowledged, on each connection.
    bench.broker.plan(|plan| plan.cut_after = Some(|_| 2));
    let publisher = bench.stored();
    publish(&publisher, "t", Qos::AtLeastOnce, 0..50).await;
    let told = |status: &mqtally::publisher::Status| matches!(&status.link, Link::Offline { why, .. } if why.contains("is another client using our client id?"));
    let mut status = publisher.status();
    tokio::time::timeout(PATIENCE, status.wait_for(told)).await.unwrap().unwrap();
    let connections = bench.broker.state().connections;
    assert!(connections >= 4 && !bench.broker.payloads().is_empty(), "{connections}");
    bench.broker.plan(|plan| plan.cut_after = None);
    assert_eq!(publisher.close(PATIENCE).await, 0);
}

/// The only refusal that 3.1.1 has. All that was behind such a message waited for ever, and nobody was told why.
#[tokio::test]
async fn a_message_that_the_broker_ends_each_connection_for_is_named_and_can_be_set_aside() {
    for (version, qos) in [
        (Version::V3_1_1, Qos::AtLeastOnce),
        (Version::V3_1_1, Qos::ExactlyOnce),
        (Version::V5_0, Qos::ExactlyOnce),
    ] {
        let bench = Bench::new().await;
        bench.broker.plan(|plan| plan.poison = Some("1"));
        let start = || {
            let builder =
                bench.builder().client_id("me").connection(|settings| settings.options.version = version);
            builder.store(bench.store()).start().unwrap()
        };
        let publisher = start();
        publish(&publisher, "t", qos, 0..4).await;
        let mut status = publisher.status();
        let suspect = tokio::time::timeout(PATIENCE, status.wait_for(|status| status.suspect.is_some()));
        assert_eq!(suspect.await.unwrap().unwrap().suspect, Some(2), "{version:?} {qos:?}");
        publisher.close(Duration::ZERO).await;
        let outbox = FailedMessages::attach(&bench.store()).unwrap();
        assert_eq!(outbox.give_up(&[2, 9], Time::from_ms(1), "by hand").unwrap(), [2]);
        assert_eq!(outbox.give_up(&[2], Time::from_ms(1), "by hand").unwrap(), [0; 0], "once");
        let publisher = start();
        assert_eq!(publisher.close(PATIENCE).await, 0);
        let copies = bench.broker.copies();
        assert_eq!(copies.keys().collect::<Vec<_>>(), ["0", "2", "3"], "{version:?} {qos:?}");
        let kept = outbox.show(2).unwrap().unwrap();
        assert_eq!(
            (kept.failure.detail.as_str(), kept.stored.unwrap().message.payload.as_ref()),
            ("by hand", &b"1"[..])
        );
    }
}

#[tokio::test]
async fn no_subscribers_is_a_failure_where_that_was_asked_for() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| plan.answer = Some(|_| ReasonCode::NO_MATCHING_SUBSCRIBERS));
    let publisher = bench.builder().require_subscribers(true).start().unwrap();
    let receipt = publisher.publish("t", "x", Qos::AtLeastOnce).await.unwrap();
    assert!(matches!(receipt.await, Err(DeliveryError::Failed { .. })));
}

#[tokio::test]
async fn what_the_broker_cannot_take_fails_alone() {
    let bench = Bench::new().await;
    let limits = [Property::MaximumQos(1), Property::RetainAvailable(0), Property::MaximumPacketSize(200)];
    bench.broker.plan(|plan| plan.connack = Properties(limits.into()));
    let publisher = bench.stored();
    let big = "x".repeat(300);
    let check = async |message: Message, expect: Option<ReasonCode>| {
        let answer = publisher.publish_message(message).await.unwrap().await;
        let reason = answer.err().map(|error| match error {
            DeliveryError::Failed { failure, .. } => failure.reason.unwrap(),
            DeliveryError::Unsettled { .. } => panic!("unsettled"),
        });
        assert_eq!(reason, expect);
    };
    check(Message::new("t", "x", Qos::AtLeastOnce), None).await;
    check(Message::new("t", "x", Qos::ExactlyOnce), Some(ReasonCode::QOS_NOT_SUPPORTED)).await;
    check(Message::new("t", big, Qos::AtLeastOnce), Some(ReasonCode::PACKET_TOO_LARGE)).await;
    let retained = Message { retain: true, ..Message::new("t", "x", Qos::AtLeastOnce) };
    check(retained, Some(ReasonCode::RETAIN_NOT_SUPPORTED)).await;
    check(Message::new("t", "y", Qos::AtLeastOnce), None).await;
    assert_eq!(publisher.close(PATIENCE).await, 0);
}

#[tokio::test]
async fn never_more_than_the_receive_maximum_is_in_flight() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| {
        plan.connack = Properties(vec![Property::ReceiveMaximum(3)]);
        plan.mute = true;
    });
    let publisher = bench.stored();
    publish(&publisher, "t", Qos::AtLeastOnce, 0..10).await;
    bench.broker.until("the window is full", |state| state.arrivals.len() == 3).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bench.broker.state().arrivals.len(), 3);
}

/// A broker may pass a QoS 2 message on with its PUBREL: a QoS 1 message that was sent behind its PUBLISH overtakes it.
#[tokio::test]
async fn a_topic_keeps_its_order_over_cuts_and_mixed_qos() {
    for passes_on_released in [false, true] {
        let bench = Bench::new().await;
        bench.broker.plan(|plan| {
            plan.passes_on_released = passes_on_released;
            plan.cut_after = Some(|connection| (connection as usize * 7) % 23 + 3);
        });
        let publisher = bench.stored();
        publish_mixed(&publisher, 300).await;
        assert_eq!(publisher.close(Duration::from_secs(30)).await, 0);
        assert_in_order(&bench.broker, 300);
    }
}

/// The next process takes up what is in flight at QoS 2, and what was in flight at QoS 1 comes out of the outbox behind it.
#[tokio::test]
async fn a_topic_keeps_its_order_over_the_death_of_the_process_and_mixed_qos() {
    let bench = Bench::new().await;
    // All that is handed to the session at once is recorded before the first byte of it is sent.
    bench.broker.plan(|plan| plan.poison = Some("0000"));
    let publisher = bench.stored();
    publish_mixed(&publisher, 8).await;
    bench.broker.until("nothing was taken", |state| state.connections > 1).await;
    publisher.close(Duration::ZERO).await;
    bench.broker.plan(|plan| plan.poison = None);
    assert_eq!(bench.stored().close(PATIENCE).await, 0);
    assert_in_order(&bench.broker, 8);
}

/// On four topics in turn, each with both QoS, safe together.
async fn publish_mixed(publisher: &Publisher, count: usize) {
    let message = |n: usize| {
        let qos = [Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::AtLeastOnce][n % 3];
        (publisher.next_id(), Message::new(format!("t/{}", n % 4), format!("{n:04}"), qos))
    };
    drop(publisher.publish_all((0..count).map(message).collect()).await.unwrap());
}

/// What arrived first of each message of [`publish_mixed`].
fn assert_in_order(broker: &Broker, count: usize) {
    for topic in 0..4 {
        let mut first_arrivals = Vec::new();
        for arrival in &broker.state().arrivals {
            if arrival.topic == format!("t/{topic}") && !first_arrivals.contains(&arrival.payload) {
                first_arrivals.push(arrival.payload.clone());
            }
        }
        let expect: Vec<_> = (0..count).filter(|n| n % 4 == topic).map(|n| format!("{n:04}")).collect();
        assert_eq!(first_arrivals, expect, "topic {topic}");
    }
}

#[tokio::test]
async fn an_old_session_of_a_fresh_outbox_is_discarded_in_both_versions() {
    for version in [Version::V3_1_1, Version::V5_0] {
        let bench = Bench::new().await;
        let publisher = |store: &str| {
            let store = bench.directory.path().join(store);
            let builder = bench.builder().store(store).client_id("same");
            builder.connection(|settings| settings.options.version = version).start().unwrap()
        };
        bench.broker.plan(|plan| plan.mute = true);
        let first = publisher("one.db");
        publish(&first, "t", Qos::ExactlyOnce, 0..1).await;
        bench.broker.until("sent", |state| state.arrivals.len() == 1).await;
        first.close(Duration::ZERO).await;
        // The broker remembers packet id 1; another outbox must not have its first message taken for that one.
        bench.broker.plan(|plan| plan.mute = false);
        let second = publisher("two.db");
        publish(&second, "t", Qos::ExactlyOnce, 1..2).await;
        assert_eq!(second.close(PATIENCE).await, 0);
        assert_eq!(bench.broker.payloads(), ["0", "1"], "{version}");
        assert!(published_in_lasting_sessions(&bench.broker.state().frames), "{version}");
    }
}

/// A clean session of 3.1.1 ends with its connection, and with it what is known of packet ids.
fn published_in_lasting_sessions(frames: &[Packet]) -> bool {
    let mut lasts = false;
    frames.iter().all(|frame| match frame {
        Packet::Connect(connect) => {
            lasts = connect.version == Version::V5_0 || !connect.clean_start;
            true
        }
        Packet::Publish(_) => lasts,
        _ => true,
    })
}

#[tokio::test]
async fn a_dropped_receipt_changes_nothing() {
    let bench = Bench::new().await;
    let publisher = bench.stored();
    drop(publisher.publish("t", "x", Qos::ExactlyOnce).await.unwrap());
    publisher.post(Message::new("t", "y", Qos::AtLeastOnce)).unwrap();
    assert_eq!(publisher.close(PATIENCE).await, 0);
    assert_eq!(bench.broker.payloads(), ["x", "y"]);
}

#[tokio::test]
async fn a_full_publisher_waits_or_fails_as_it_was_told() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| plan.mute = true);
    let failing = bench.builder().limit(2, 1 << 20, OnFull::Fail).start().unwrap();
    publish(&failing, "t", Qos::AtLeastOnce, 0..2).await;
    assert!(matches!(failing.publish("t", "x", Qos::AtLeastOnce).await, Err(PublishError::Full)));
    assert!(matches!(failing.post(Message::new("t", "x", Qos::AtLeastOnce)), Err(PublishError::Full)));
    failing.close(Duration::ZERO).await;

    let waiting = bench.builder().limit(2, 1 << 20, OnFull::Wait).client_id("w").start().unwrap();
    publish(&waiting, "t", Qos::AtLeastOnce, 0..2).await;
    let third =
        tokio::time::timeout(Duration::from_millis(30), waiting.publish("t", "2", Qos::AtLeastOnce)).await;
    assert!(third.is_err(), "it waits");
    assert!(matches!(
        waiting.publish_all((0..3).map(|_| (waiting.next_id(), Message::default())).collect()).await,
        Err(PublishError::InvalidTopic(_))
    ));
    let too_much = (0..3).map(|_| (waiting.next_id(), Message::new("t", "x", Qos::AtLeastOnce))).collect();
    assert!(matches!(waiting.publish_all(too_much).await, Err(PublishError::TooMuch)));
}

#[tokio::test]
async fn what_is_no_topic_name_is_refused_at_once() {
    let bench = Bench::new().await;
    let publisher = bench.builder().start().unwrap();
    for topic in ["", "a/+", "#", "a\0b"] {
        let refused = publisher.publish(topic, "x", Qos::AtLeastOnce).await;
        assert!(matches!(refused, Err(PublishError::InvalidTopic(_))), "{topic:?}");
    }
}

#[tokio::test]
async fn an_outbox_belongs_to_one_publisher() {
    let bench = Bench::new().await;
    let publisher = bench.stored();
    let second = bench.builder().store(bench.store()).start().err().unwrap();
    assert!(second.to_string().contains("in use by another process"), "{second}");
    publisher.close(PATIENCE).await;
    bench.stored().close(PATIENCE).await;
}

#[tokio::test]
async fn a_refused_connection_is_shown_and_tried_again() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| plan.refuse = Some(ReasonCode::NOT_AUTHORIZED));
    let publisher = bench.stored();
    let mut status = publisher.status();
    let offline =
        |link: &Link| matches!(link, Link::Offline { reason: Some(ReasonCode::NOT_AUTHORIZED), .. });
    tokio::time::timeout(PATIENCE, status.wait_for(|status| offline(&status.link))).await.unwrap().unwrap();
    bench.broker.plan(|plan| plan.refuse = None);
    let online = |link: &Link| matches!(link, Link::Online { .. });
    tokio::time::timeout(PATIENCE, status.wait_for(|status| online(&status.link))).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_will_is_in_the_connect() {
    let bench = Bench::new().await;
    let gone = Message { retain: true, ..Message::new("state", "gone", Qos::AtLeastOnce) };
    let publisher = bench.builder().will(gone).start().unwrap();
    bench.broker.until("connected", |state| state.connections == 1).await;
    let Some(Packet::Connect(connect)) = bench.broker.state().frames.first().cloned() else { panic!() };
    let will = connect.will.unwrap();
    assert_eq!(
        (&*will.topic, &*will.payload, will.qos, will.retain),
        ("state", &b"gone"[..], Qos::AtLeastOnce, true)
    );
    publisher.close(PATIENCE).await;
}

#[tokio::test]
async fn a_publish_that_is_dropped_is_accepted_wholly_or_not_at_all() {
    let bench = Bench::new().await;
    let publisher = bench.builder().store(bench.store()).limit(5, 1 << 20, OnFull::Wait).start().unwrap();
    for n in 0..200 {
        let publish = publisher.publish("t", n.to_string(), Qos::AtLeastOnce);
        let _ = tokio::time::timeout(Duration::from_micros(n * 5), publish).await;
    }
    assert_eq!(publisher.close(PATIENCE).await, 0, "no room was lost on the way");
    assert!(bench.broker.copies().values().all(|copies| copies.len() == 1));
}

#[tokio::test]
async fn a_closed_publisher_accepts_nothing() {
    let bench = Bench::new().await;
    for publisher in [bench.builder().start().unwrap(), bench.stored()] {
        publisher.close(PATIENCE).await;
        let refused = publisher.publish("t", "x", Qos::AtLeastOnce).await;
        assert!(matches!(refused, Err(PublishError::Closed)));
    }
}

#[tokio::test]
async fn a_long_backlog_is_read_from_the_outbox_in_order() {
    let bench = Bench::new().await;
    bench.broker.plan(|plan| plan.refuse = Some(ReasonCode::SERVER_BUSY));
    let publisher = bench.stored();
    for start in (0..6_000).step_by(1_000) {
        let message = |n: u32| (publisher.next_id(), Message::new("t", n.to_string(), Qos::AtLeastOnce));
        drop(publisher.publish_all((start..start + 1_000).map(message).collect()).await.unwrap());
    }
    bench.broker.plan(|plan| plan.refuse = None);
    assert_eq!(publisher.close(Duration::from_secs(30)).await, 0);
    assert_eq!(bench.broker.payloads(), (0..6_000).map(|n| n.to_string()).collect::<Vec<_>>());
}

fn published(packet: &Packet) -> Option<&Publish> {
    match packet {
        Packet::Publish(publish) => Some(publish),
        _ => None,
    }
}
