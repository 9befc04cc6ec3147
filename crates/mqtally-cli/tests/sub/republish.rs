//! `--handler mqtt://…`: from one broker to another.

use crate::bench::{Bench, Broker, Running, eventually, message, mqtally, named, next, sub_args};
use mqtally::client::{Client, Settings};
use mqtally_proto::packet::{Properties, Property, Publish, Qos, Subscription, Version};
use mqtally_proto::session::{Event, Options};

/// A subscriber behind the other broker, with a table of what came.
fn behind(bench: &Bench, other: &Broker) -> Running {
    let args = "-t # -q 2 --client-id behind --store behind.sub --handler sqlite:behind.sub?table=effect";
    let mut command = mqtally(bench.directory.path());
    let running = Running::start(command.args(sub_args(&other.url(), args, &[])));
    running.says("mqtally: subscribed to");
    running
}

/// Messages in the outbox that the other broker has not acknowledged.
fn waiting(bench: &Bench) -> u64 {
    let (totals, _) = mqtally::outbox::look(&bench.path("s.sub.outbox"), 0).expect("an outbox");
    totals.rows
}

fn effects(bench: &Bench) -> i64 {
    bench.count_in("behind.sub", "SELECT count(DISTINCT topic) FROM effect")
}

#[test]
fn topic_qos_retain_and_properties_are_kept_and_a_prefix_stands_before_the_topic() {
    let bench = Bench::new();
    let other = Broker::start(bench.directory.path(), &["--volatile"]);
    let handler = format!("{}?prefix=plant7/", other.url());
    let running = bench.sub("-t # -q 2", &["--handler", &handler]);
    let property = Property::ContentType("text/plain".into());
    let publish = |topic: &str, qos, retain| Publish {
        qos,
        retain,
        properties: Properties(vec![property.clone()]),
        ..message(topic, "x")
    };
    let messages = vec![
        publish("a", Qos::AtMostOnce, false),
        publish("b", Qos::AtLeastOnce, true),
        publish("c", Qos::ExactlyOnce, false),
    ];
    let watcher = other.url().parse().expect("a URL");
    let received = bench.with_client(watcher, "watcher", async |client, mut events| {
        let filter = Subscription { retain_as_published: true, ..Subscription::new("#", Qos::ExactlyOnce) };
        client.subscribe(vec![filter], Properties::default()).expect("connected");
        while !matches!(next(&mut events).await, Event::Subscribed(_)) {}
        let source = bench.broker.url().parse().expect("a URL");
        let (publisher, _events) = Client::start(Settings::new(source, Options::new(Version::V5_0, "p")));
        publisher.connect().await.expect("the broker is there");
        for (token, message) in (0..).zip(messages) {
            publisher.publish(token, message).await.expect("it can be sent");
        }
        let mut received = Vec::new();
        while received.len() < 3 {
            if let Event::Message(publish) = next(&mut events).await {
                received.push(publish);
            }
        }
        received
    });
    let mut seen: Vec<_> =
        received.iter().map(|publish| (publish.topic.to_string(), publish.qos, publish.retain)).collect();
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    let expect = [
        ("plant7/a".to_owned(), Qos::AtMostOnce, false),
        ("plant7/b".to_owned(), Qos::AtLeastOnce, true),
        ("plant7/c".to_owned(), Qos::ExactlyOnce, false),
    ];
    assert_eq!(seen, expect);
    assert!(
        received
            .iter()
            .all(|publish| publish.properties.content_type().map(|text| &**text) == Some("text/plain"))
    );
    assert_eq!(running.terminate().code, Some(0));
}

#[test]
fn what_the_other_broker_misses_waits_in_the_outbox() {
    let bench = Bench::new();
    let other = Broker::start(bench.directory.path(), &["--volatile"]);
    let (address, url) = (other.address.to_string(), other.url());
    drop(other);
    let handler = format!("{url}?qos=1");
    let running = bench.sub("-t #", &["--handler", &handler]);
    bench.publish((0..20).map(|number| message(&format!("t/{number}"), "x")).collect());
    running.says("messages are kept in the outbox, connecting again");
    eventually("the outbox has them", || bench.count("SELECT processed FROM tally") == 20);
    assert_eq!(running.terminate().code, Some(0));
    assert_eq!(waiting(&bench), 20);

    let other = Broker::at(&address, bench.directory.path(), &["--volatile"]);
    let behind = behind(&bench, &other);
    let running = bench.sub("-t #", &["--handler", &handler]);
    eventually("they arrive", || effects(&bench) == 20);
    assert_eq!((running.terminate().code, behind.terminate().code), (Some(0), Some(0)));
    assert_eq!(waiting(&bench), 0);
}

/// Dies at every point of the outbox's commit, also between that and the inbox's `done`: each message has one effect behind
/// the other broker, although some are sent twice.
#[test]
fn a_kill_between_outbox_and_inbox_loses_nothing_and_has_one_effect_behind() {
    let bench = Bench::new();
    let other = Broker::start(bench.directory.path(), &["--volatile"]);
    let behind = behind(&bench, &other);
    let args = ["--handler", &other.url()];
    bench.leave_session("-t # -q 2");
    let mut published = 0;
    for point in ["21:1", "22:1", "24:1", "25:1", "26:1", "26:2"] {
        let batch = (published..published + 10).map(|number| {
            let qos = if number % 2 == 0 { Qos::AtLeastOnce } else { Qos::ExactlyOnce };
            // Names of other publishers, and ids of ours.
            let name = match number % 3 {
                0 => format!("01985c96-23fa-7fff-bfff-{number:012}"),
                _ => format!("m{number}"),
            };
            Publish { qos, ..named(&format!("t/{number}"), &name, "x") }
        });
        let nameless = message(&format!("t/{}", published + 10), "nameless");
        bench.publish(batch.chain([nameless]).collect());
        published += 11;
        let mut dying = bench.sub_command("-t # -q 2", &args);
        let ended = Running::start(dying.env("MQTALLY_CRASH_POINT", point)).ended();
        assert_eq!(ended.code, None, "crash point {point} was not reached: {}", ended.stderr);
    }
    let running = bench.sub("-t # -q 2", &args);
    eventually("all arrive", || {
        effects(&bench) == published && bench.count("SELECT count(*) FROM inbox") == 0
    });
    assert_eq!(running.terminate().code, Some(0));
    assert_eq!(waiting(&bench), 0);
    assert_eq!(behind.terminate().code, Some(0));
    // What has no name, and is sent again by the first broker after a kill, is another message.
    let twice =
        "SELECT count(*) - count(DISTINCT topic) FROM effect WHERE payload <> CAST('nameless' AS BLOB)";
    assert_eq!(bench.count_in("behind.sub", twice), 0);
    let again = bench.count_in("behind.sub", "SELECT published_again + redelivered FROM tally");
    assert!(again > 0, "no message was sent twice: the kills missed");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let bench = Bench::new();
    let source = bench.broker.url();
    let check = |handlers: &[&str], code: i32, expect: &str| {
        let ended = bench.start("-t #", handlers).ended();
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    };
    check(&["--handler", &source], 64, "messages would come back to the broker that they come from");
    check(&["--on", "a=mqtt://h?qos=3"], 64, "is no option of a broker as handler");
    let two = ["--on", "a=mqtt://127.0.0.1:1", "--on", "b=mqtt://127.0.0.1:2"];
    check(&two, 74, "another handler or process publishes from it");
}
