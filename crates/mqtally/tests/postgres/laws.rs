//! What holds for one member as it holds for the SQLite inbox, and what only a database with buckets can break.

use crate::inbox_support::{
    accept, accept_all, done, in_lane, message, next, payloads, qos_2, retry, statistics,
};
use crate::postgres_support::Server;
use mqtally::inbox::dead_letter::{DeadLetters, Reason, Selection};
use mqtally::inbox::key::Scope;
use mqtally::inbox::{
    Cause, ConflictPolicy, Consumer, Copies, Delivery, Inbox, Outcome, RetryPolicy, Settings, SettleError,
    Statement, Value, Verdict, Window,
};
use std::time::Duration;

pub(crate) fn settings() -> Settings {
    Settings {
        poll_ms: 5,
        retry: RetryPolicy { attempts_max: 3, delay_ms: 20, delay_ms_max: 1_000 },
        ..Settings::default()
    }
}

pub(crate) fn open(server: &Server, member: &str, settings: Settings) -> Inbox {
    Inbox::open_shared(&server.url("inbox").parse().unwrap(), member, settings).unwrap().0
}

/// What can be claimed; waits for something.
pub(crate) async fn claim(inbox: &Inbox, max: usize) -> Vec<Delivery> {
    let claimed = tokio::time::timeout(Duration::from_secs(20), inbox.claim(0, max)).await;
    claimed.expect("nothing to claim for 20 s").unwrap()
}

/// What can be claimed within a moment.
pub(crate) async fn claim_soon(inbox: &Inbox, max: usize) -> Vec<Delivery> {
    tokio::time::timeout(Duration::from_millis(100), inbox.claim(0, max))
        .await
        .map_or(Vec::new(), Result::unwrap)
}

pub(crate) fn insert(key: &str) -> Outcome {
    let sql = "INSERT INTO public.effect(key) VALUES ($1)".into();
    Outcome::DoneWithStatements(vec![Statement { sql, values: vec![Value::Text(key.to_owned())] }])
}

#[tokio::test]
async fn a_known_key_is_a_duplicate_also_within_a_batch_and_after_a_restart() {
    let Some(server) = Server::start() else { return };
    let inbox = open(&server, "a", settings());
    assert_eq!(accept(&inbox, message("1", "x")).await, Verdict::New);
    let batch =
        vec![message("1", "x"), message("2", "x"), message("2", "x"), message("", "x"), message("", "x")];
    let verdicts: Vec<_> =
        accept_all(&inbox, batch).await.into_iter().map(|accepted| accepted.verdict).collect();
    let again = Verdict::Duplicate(Cause::PublishedAgain);
    assert_eq!(verdicts, [again, Verdict::New, again, Verdict::New, Verdict::New]);
    inbox.close().await;

    let inbox = open(&server, "a", settings());
    let mut redelivered = message("2", "x");
    redelivered.dup = true;
    assert_eq!(accept(&inbox, redelivered).await, Verdict::Duplicate(Cause::Redelivery));
    let counted = statistics(&inbox).await;
    assert_eq!((counted.received, counted.published_again, counted.redelivered), (7, 2, 1));
    assert_eq!((counted.unsettled, counted.keys), (4, 2));
    assert!(counted.oldest_unsettled_ms.is_some());
    inbox.close().await;
}

#[tokio::test]
async fn a_look_from_outside_finds_keys_work_dead_letters_and_duplicates_of_all_members() {
    let Some(server) = Server::start() else { return };
    let consumer = Some(Consumer { name: "inbox".into(), scope: Scope::Consumer });
    let inbox = open(&server, "a", Settings { consumer, ..settings() });
    accept_all(&inbox, (1..=4).map(|n| message(&n.to_string(), "x")).collect()).await;
    accept_all(&inbox, vec![message("1", "x"), message("2", "x")]).await;
    let claimed = claim(&inbox, 1).await;
    let dead = Outcome::DeadLetter { error: "no".into() };
    inbox.settle(claimed[0].lease(), dead).await.unwrap().unwrap();
    inbox.close().await;
    let other = open(&server, "b", settings());
    let mut redelivered = message("3", "x");
    redelivered.dup = true;
    accept_all(&other, vec![redelivered, message("4", "x")]).await;

    let window = Window::attach_shared(&server.url("inbox").parse().unwrap()).unwrap();
    let copies = Copies { redelivered: 1, published_again: 3, replayed_again: 0 };
    assert_eq!((window.copies_dropped(), window.copies_by_topic()["t"]), (copies, copies));
    assert_eq!(window.consumers(), [Consumer { name: "inbox".into(), scope: Scope::Consumer }]);
    assert_eq!((window.window_ms(), window.has_purged()), (Some(settings().window_ms), false));
    let mut keys = Vec::new();
    window.each_key(|key| keys.push(key)).unwrap();
    keys.sort_unstable();
    let mut expect: Vec<_> = (1..=4).map(|n| message(&n.to_string(), "x").key.unwrap().id).collect();
    expect.sort_unstable();
    assert_eq!(keys, expect);
    let mut unsettled = Vec::new();
    window.each_unsettled(|found| unsettled.push((found.key.to_owned(), found.dead))).unwrap();
    unsettled.sort();
    let expect = [("1", true), ("2", false), ("3", false), ("4", false)];
    assert_eq!(unsettled, expect.map(|(key, dead)| (key.to_owned(), dead)));
    other.close().await;
}

#[tokio::test]
async fn a_key_is_found_in_the_next_bucket_and_gone_after_the_window() {
    let Some(server) = Server::start() else { return };
    // Eight buckets of 250 ms.
    let inbox = open(&server, "a", Settings { window_ms: 2_000, ..settings() });
    assert_eq!(accept(&inbox, message("1", "x")).await, Verdict::New);
    let first = server.count("SELECT bucket FROM inbox.clock");
    server.wait_until(&format!("(SELECT bucket FROM inbox.clock) >= {}", first + 2));
    let again = accept(&inbox, message("1", "x")).await;
    assert_eq!(
        again,
        Verdict::Duplicate(Cause::PublishedAgain),
        "its bucket is not the current one any more"
    );
    assert_eq!(accept(&inbox, message("1", "y")).await, Verdict::Conflict(ConflictPolicy::Process));
    let later = server.count("SELECT bucket FROM inbox.clock");
    server.wait_until(&format!("(SELECT bucket FROM inbox.clock) > {later}"));
    let again = accept(&inbox, message("1", "y")).await;
    assert_eq!(again, Verdict::Duplicate(Cause::PublishedAgain), "nor is that of the other body");

    server.wait_until(&format!("NOT EXISTS (SELECT FROM inbox.bucket WHERE number <= {first})"));
    assert_eq!(accept(&inbox, message("1", "x")).await, Verdict::New, "the window is over");
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'inbox.ids'::regclass";
    assert!(server.count(partitions) <= 10, "expired buckets are dropped");
    inbox.close().await;
}

#[tokio::test]
async fn a_known_key_with_another_body_is_a_conflict_once() {
    let Some(server) = Server::start() else { return };
    for (member, policy, unsettled, dead) in [
        ("process", ConflictPolicy::Process, 2, 0),
        ("dead", ConflictPolicy::DeadLetter, 1, 1),
        ("drop", ConflictPolicy::Drop, 1, 0),
    ] {
        let url = server.url(member).parse().unwrap();
        let (inbox, _) =
            Inbox::open_shared(&url, member, Settings { conflict: policy, ..settings() }).unwrap();
        let batch = vec![message("1", "x"), message("1", "y"), message("1", "y")];
        let verdicts: Vec<_> = accept_all(&inbox, batch).await.into_iter().map(|a| a.verdict).collect();
        let again = Verdict::Duplicate(Cause::PublishedAgain);
        assert_eq!(verdicts, [Verdict::New, Verdict::Conflict(policy), again]);
        assert_eq!(accept(&inbox, message("1", "y")).await, again);
        let counted = statistics(&inbox).await;
        assert_eq!((counted.unsettled, counted.dead, counted.conflicts), (unsettled, dead, 1), "{member}");
        if dead > 0 {
            let letter = DeadLetters::attach_shared(&url).unwrap();
            let page = letter.list(&Selection::default(), 0, 10).unwrap();
            assert_eq!(page.letters[0].reason, Reason::Conflict);
        }
        inbox.close().await;
    }
}

#[tokio::test]
async fn a_lane_comes_one_at_a_time_and_in_order() {
    let Some(server) = Server::start() else { return };
    let inbox = open(&server, "a", settings());
    let arrivals = ["1", "2", "3"].map(|n| in_lane("a", message("", n)));
    accept_all(
        &inbox,
        arrivals.into_iter().chain([in_lane("b", message("", "b")), message("", "free")]).collect(),
    )
    .await;
    let mut first = payloads(&claim(&inbox, 10).await);
    first.sort();
    assert_eq!(first, ["1", "b", "free"]);
    assert!(claim_soon(&inbox, 10).await.is_empty(), "its lane is busy");
    inbox.close().await;

    let inbox = open(&server, "a", settings());
    for expect in ["1", "2", "3"] {
        let found = loop {
            let delivery = next(&inbox).await;
            inbox.settle(delivery.lease(), Outcome::Done).await.unwrap().unwrap();
            if !["b", "free"].contains(&&*String::from_utf8_lossy(&delivery.payload)) {
                break delivery;
            }
        };
        assert_eq!(payloads(&[found]), [expect]);
    }
    inbox.close().await;
}

#[tokio::test]
async fn failures_wait_for_their_time_and_end_among_the_dead_letters() {
    let Some(server) = Server::start() else { return };
    let inbox = open(&server, "a", settings());
    accept(&inbox, message("k", "x")).await;
    for attempt in 1..=3 {
        let delivery = next(&inbox).await;
        assert_eq!(delivery.attempt, attempt);
        inbox.settle(delivery.lease(), retry(&format!("error {attempt}"))).await.unwrap().unwrap();
    }
    let counted = statistics(&inbox).await;
    assert_eq!((counted.retries, counted.failed, counted.dead_lettered), (2, 3, 1));
    assert_eq!((counted.unsettled, counted.dead), (0, 1));

    let mut letters = DeadLetters::attach_shared(&server.url("inbox").parse().unwrap()).unwrap();
    let letter = letters.list(&Selection::default(), 0, 10).unwrap().letters.remove(0);
    assert_eq!((letter.reason, letter.attempts, letter.errors.len()), (Reason::Exhausted, 3, 3));
    assert!(letters.edit(letter.sequence, b"better").unwrap());
    assert_eq!(letters.replay(&[letter.sequence, 99], true).unwrap(), [letter.sequence]);
    assert_eq!(letters.replay(&[letter.sequence], false).unwrap(), [letter.sequence]);
    let replayed = next(&inbox).await;
    assert_eq!((&replayed.payload[..], replayed.replay, replayed.attempt), (&b"better"[..], 1, 1));
    let hopeless = Outcome::DeadLetter { error: "no".into() };
    inbox.settle(replayed.lease(), hopeless).await.unwrap().unwrap();
    let page =
        letters.list(&Selection { reason: Some(Reason::Handler), ..Selection::default() }, 0, 10).unwrap();
    assert!(
        letters.show(page.letters[0].sequence).unwrap().unwrap().edited.eq(&false),
        "a replay is a new message"
    );
    assert_eq!(letters.purge(&[page.letters[0].sequence, 99]).unwrap(), 1);
    assert_eq!(statistics(&inbox).await.dead, 0);
    inbox.close().await;
}

#[tokio::test]
async fn a_fenced_lease_cannot_settle_and_its_effect_is_not_there() {
    let Some(server) = Server::start() else { return };
    server.value("CREATE TABLE effect(key text)");
    let inbox = open(&server, "a", Settings { lease_ms: 50, ..settings() });
    accept(&inbox, message("k", "x")).await;
    let late = next(&inbox).await;
    let second = next(&inbox).await;
    assert!(second.fence > late.fence && second.attempt == 2);
    for outcome in
        [Outcome::Done, insert("late"), retry("late"), Outcome::DeadLetter { error: "late".into() }]
    {
        assert_eq!(inbox.settle(late.lease(), outcome).await.unwrap(), Err(SettleError::Fenced));
    }
    assert_eq!(server.count("SELECT count(*) FROM effect"), 0);
    inbox.close().await;
}

#[tokio::test]
async fn an_effect_commits_with_its_done_mark_and_a_failing_one_harms_no_other() {
    let Some(server) = Server::start() else { return };
    server.value("CREATE TABLE effect(key text CHECK (key <> 'bad'))");
    let inbox = open(&server, "a", settings());
    accept_all(&inbox, ["good", "bad", "fine"].map(|key| message(key, "x")).to_vec()).await;
    let deliveries = claim(&inbox, 10).await;
    assert_eq!(deliveries.len(), 3);
    let settlements = deliveries
        .iter()
        .map(|delivery| (delivery.lease(), insert(delivery.key.as_deref().unwrap())))
        .collect();
    let settled = inbox.settle_all(settlements).await.unwrap();
    assert!(settled[0].is_ok() && settled[2].is_ok());
    assert!(
        matches!(&settled[1], Err(SettleError::Effect(why)) if why.contains("check constraint")),
        "{settled:?}"
    );
    assert_eq!(server.value("SELECT string_agg(key, ',' ORDER BY key) FROM effect"), "fine,good");
    inbox.settle(deliveries[1].lease(), Outcome::Done).await.unwrap().expect("the lease goes on");
    assert_eq!(statistics(&inbox).await.unsettled, 0);
    inbox.close().await;
}

#[tokio::test]
async fn packet_ids_belong_to_the_member_and_its_session() {
    let Some(server) = Server::start() else { return };
    let (a, b) = (open(&server, "a", settings()), open(&server, "b", settings()));
    let (session, open_ids) = a.session().await.unwrap();
    assert_eq!((session, open_ids), (1, vec![]));
    assert_eq!(accept(&a, qos_2(1, 7, message("1", "x"))).await, Verdict::New);
    assert_eq!(accept(&a, qos_2(1, 7, message("1", "x"))).await, Verdict::ExchangeOpen);
    assert_eq!(accept(&b, qos_2(1, 7, message("2", "x"))).await, Verdict::New);
    a.close().await;

    let a = open(&server, "a", settings());
    assert_eq!(a.session().await.unwrap(), (1, vec![7]));
    assert!(a.release(7).await.unwrap());
    assert!(!a.release(7).await.unwrap(), "an unknown PUBREL is answered, too");
    accept(&a, qos_2(1, 8, message("3", "x"))).await;
    assert_eq!(a.session_lost().await.unwrap(), 1);
    assert_eq!(a.session().await.unwrap(), (2, vec![]));
    assert_eq!(b.session().await.unwrap(), (1, vec![7]));
    a.close().await;
    b.close().await;
}

#[tokio::test]
async fn what_the_wire_allows_comes_back_as_it_went_in() {
    let Some(server) = Server::start() else { return };
    let inbox = open(&server, "a", settings());
    let mut arrival = message("k\u{0}ey ключ", "x");
    arrival.topic = "töpic/'\"\\/$/🦀".into();
    arrival.payload = (0..=255u8).collect::<Vec<_>>().into();
    arrival.retain = true;
    let (topic, payload, properties) =
        (arrival.topic.clone(), arrival.payload.clone(), arrival.properties.clone());
    accept(&inbox, arrival).await;
    let delivery = next(&inbox).await;
    assert_eq!(
        (delivery.topic.clone(), delivery.payload.clone(), delivery.properties.clone()),
        (topic, payload, properties)
    );
    assert!(delivery.retain && delivery.key.as_deref() == Some("k\u{2400}ey ключ"));
    done(&inbox, &[delivery]).await;
    let mut large = message("", "");
    large.payload = vec![7; 20 << 20].into();
    accept_all(&inbox, vec![large.clone(), large]).await;
    let claimed = claim(&inbox, 10).await;
    assert_eq!(claimed.len(), 1, "no more bytes at once than the bound");
    inbox.close().await;
}
