//! The laws of the inbox: what holds for each message, whatever happens around it.

mod inbox_support;

use inbox_support::*;
use mqtally::inbox::dead_letter::{DeadLetters, Reason, Selection};
use mqtally::inbox::{
    Arrival, Cause, ConflictPolicy, Inbox, InboxError, Outcome, RetryPolicy, Settings, SettleError, Verdict,
};
use std::time::Duration;

#[tokio::test]
async fn a_message_is_handed_out_until_it_is_settled() {
    let place = Place::new();
    let inbox = place.open();
    assert_eq!(accept(&inbox, message("1", "a")).await, Verdict::New);
    assert_eq!(payloads(&claim(&inbox, 9).await), ["a"]);
    inbox.close().await;
    let inbox = place.open();
    let again = claim(&inbox, 9).await;
    assert_eq!((payloads(&again), again[0].attempt), (vec!["a".into()], 2));
    done(&inbox, &again).await;
    inbox.close().await;
    let inbox = place.open();
    assert_eq!(claim(&inbox, 9).await, []);
    let counted = statistics(&inbox).await;
    assert_eq!((counted.processed, counted.unsettled, counted.received, counted.failed), (1, 0, 1, 1));
}

#[tokio::test]
async fn what_is_handed_out_is_what_arrived() {
    let place = Place::new();
    let inbox = place.open();
    let arrival = Arrival { retain: true, ..message("k1", "päyload\0") };
    accept(&inbox, arrival.clone()).await;
    let got = next(&inbox).await;
    assert_eq!(
        (got.topic, got.payload, got.properties),
        (arrival.topic, arrival.payload, arrival.properties)
    );
    assert_eq!((got.qos, got.retain, got.key.as_deref()), (arrival.qos, true, Some("k1")));
    assert_eq!((got.received_at, got.replay, got.attempt), (arrival.received_at, 0, 1));
}

#[tokio::test]
async fn a_duplicate_is_known_by_its_key_and_counted_by_its_cause() {
    let place = Place::new();
    let inbox = place.open();
    let first = message("1", "a");
    accept(&inbox, first.clone()).await;
    assert_eq!(accept(&inbox, first.clone()).await, Verdict::Duplicate(Cause::PublishedAgain));
    inbox.close().await;
    let inbox = place.open();
    let redelivered = Arrival { dup: true, ..first.clone() };
    assert_eq!(accept(&inbox, redelivered).await, Verdict::Duplicate(Cause::Redelivery));
    assert_eq!(accept(&inbox, Arrival { replay: 1, ..first }).await, Verdict::Duplicate(Cause::Replay));
    let counted = statistics(&inbox).await;
    assert_eq!((counted.redelivered, counted.published_again, counted.replayed_again), (1, 1, 1));
    assert_eq!((counted.received, counted.unsettled, counted.keys), (4, 1, 1));
}

#[tokio::test]
async fn a_duplicate_within_one_batch_is_a_duplicate() {
    let place = Place::new();
    let inbox = place.open();
    let batch = vec![message("1", "a"), message("1", "a"), message("1", "b"), message("1", "b")];
    let verdicts: Vec<_> = accept_all(&inbox, batch).await.iter().map(|accepted| accepted.verdict).collect();
    let again = Verdict::Duplicate(Cause::PublishedAgain);
    assert_eq!(verdicts, [Verdict::New, again, Verdict::Conflict(ConflictPolicy::Process), again]);
}

#[tokio::test]
async fn dup_does_not_make_a_duplicate_and_no_key_makes_none() {
    let place = Place::new();
    let inbox = place.open();
    assert_eq!(accept(&inbox, Arrival { dup: true, ..message("1", "a") }).await, Verdict::New);
    for _ in 0..2 {
        assert_eq!(accept(&inbox, message("", "same")).await, Verdict::New);
    }
}

#[tokio::test]
async fn keys_are_found_across_many_rows_and_a_restart() {
    let place = Place::new();
    let inbox = place.open();
    let batch = |from: u32, to: u32| (from..to).map(|n| message(&n.to_string(), "x")).collect::<Vec<_>>();
    for (from, to) in [(0, 7), (7, 500), (500, 501), (501, 900)] {
        accept_all(&inbox, batch(from, to)).await;
    }
    inbox.close().await;
    let inbox = place.open();
    accept_all(&inbox, batch(900, 1_000)).await;
    let again = accept_all(&inbox, batch(0, 1_000)).await;
    assert!(again.iter().all(|accepted| matches!(accepted.verdict, Verdict::Duplicate(_))));
    assert_eq!(statistics(&inbox).await.keys, 1_000);
}

#[tokio::test]
async fn another_body_under_a_known_key_is_a_conflict_and_its_redelivery_a_duplicate() {
    for (policy, handed_out, dead) in
        [(ConflictPolicy::Process, 2, 0), (ConflictPolicy::DeadLetter, 1, 1), (ConflictPolicy::Drop, 1, 0)]
    {
        let place = Place::new();
        let inbox = place.open_with(Settings { conflict: policy, ..place.settings() });
        accept(&inbox, message("1", "a")).await;
        assert_eq!(accept(&inbox, message("1", "b")).await, Verdict::Conflict(policy));
        assert_eq!(accept(&inbox, message("1", "b")).await, Verdict::Duplicate(Cause::PublishedAgain));
        let counted = statistics(&inbox).await;
        assert_eq!((counted.conflicts, counted.unsettled, counted.dead), (1, handed_out, dead), "{policy:?}");
        assert_eq!(claim(&inbox, 9).await.len() as u64, handed_out);
    }
}

#[tokio::test]
async fn a_remembered_packet_id_needs_only_pubrec_until_it_is_released() {
    let place = Place::new();
    let inbox = place.open();
    let (session, none) = inbox.session().await.unwrap();
    assert!(none.is_empty());
    assert_eq!(accept(&inbox, qos_2(session, 7, message("", "a"))).await, Verdict::New);
    inbox.close().await;
    let inbox = place.open();
    assert_eq!(inbox.session().await.unwrap(), (session, vec![7]));
    assert_eq!(accept(&inbox, qos_2(session, 7, message("", "a"))).await, Verdict::ExchangeOpen);
    assert!(inbox.release(7).await.unwrap());
    assert!(!inbox.release(7).await.unwrap(), "an unknown PUBREL is no error");
    accept(&inbox, qos_2(session, 8, message("", "other"))).await;
    assert_eq!(inbox.release_all(vec![7, 8, 8]).await.unwrap(), [false, true, false]);
    assert_eq!(accept(&inbox, qos_2(session, 7, message("", "b"))).await, Verdict::New);
    assert_eq!(payloads(&claim(&inbox, 9).await), ["a", "other", "b"]);
}

#[tokio::test]
async fn a_lost_session_drops_packet_ids_and_keeps_messages_and_keys() {
    let place = Place::new();
    let inbox = place.open();
    let (old, _) = inbox.session().await.unwrap();
    accept_all(&inbox, vec![qos_2(old, 1, message("1", "a")), qos_2(old, 2, message("2", "b"))]).await;
    assert_eq!(inbox.session_lost().await.unwrap(), 2);
    inbox.close().await;
    let inbox = place.open();
    let (new, ids) = inbox.session().await.unwrap();
    assert!(new > old && ids.is_empty());
    let stale = accept(&inbox, qos_2(old, 1, message("3", "c"))).await;
    assert_eq!((stale, inbox.session().await.unwrap().1), (Verdict::New, vec![]));
    let known = accept(&inbox, qos_2(new, 1, message("1", "a"))).await;
    assert_eq!(known, Verdict::Duplicate(Cause::PublishedAgain));
    assert_eq!(inbox.session().await.unwrap().1, [1], "a duplicate's exchange is open as well");
    assert_eq!(statistics(&inbox).await.session_losses, 1);
    assert_eq!(claim(&inbox, 9).await.len(), 3);
}

#[tokio::test]
async fn a_lane_keeps_its_order_and_others_pass_it() {
    let place = Place::new();
    let inbox = place.open();
    let arrivals = ["a1", "a2", "b1", "a3"].map(|p| in_lane(&p[..1], message("", p)));
    accept_all(&inbox, arrivals.into()).await;
    let heads = claim(&inbox, 9).await;
    assert_eq!(payloads(&heads), ["a1", "b1"]);
    inbox.settle(heads[0].lease(), retry("busy")).await.unwrap().unwrap();
    assert_eq!(claim(&inbox, 9).await, [], "nobody overtakes a1 while it waits");
    inbox.close().await;
    let inbox = place.open();
    let other = claim(&inbox, 9).await;
    assert_eq!(payloads(&other), ["b1"]);
    done(&inbox, &other).await;
    place.clock.pass(200);
    for expect in ["a1", "a2", "a3"] {
        let head = next(&inbox).await;
        assert_eq!(payloads(std::slice::from_ref(&head)), [expect]);
        done(&inbox, &[head]).await;
    }
}

#[tokio::test]
async fn a_window_smaller_than_the_inbox_hands_out_everything_in_order() {
    let place = Place::new();
    let inbox = place.open_with(Settings { lookahead_max: 10, ..place.settings() });
    accept_all(&inbox, (0..100).map(|n| message("", &n.to_string())).collect()).await;
    let mut seen = Vec::new();
    while seen.len() < 100 {
        let claimed = claim(&inbox, 7).await;
        assert!(!claimed.is_empty() && claimed.len() <= 7);
        seen.extend(payloads(&claimed));
        done(&inbox, &claimed).await;
    }
    assert_eq!(seen, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_batch_that_is_settled_in_part_hands_out_the_rest_over_restarts_and_then_is_gone() {
    let place = Place::new();
    let mut inbox = place.open();
    accept_all(&inbox, (0..20).map(|n| message("", &n.to_string())).collect()).await;
    let rows = |table: &str| -> i64 {
        let connection = rusqlite::Connection::open(place.store()).unwrap();
        connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    };
    let mut left: Vec<_> = (0..20).map(|n| n.to_string()).collect();
    for settled in [3, 1, 15, 7] {
        let held = claim(&inbox, 99).await;
        let wanted = left.remove(settled % left.len());
        let one = held.into_iter().find(|delivery| payloads(std::slice::from_ref(delivery)) == [&*wanted]);
        done(&inbox, &[one.unwrap()]).await;
        assert_eq!((rows("inbox"), rows("settled")), (1, 1));
        inbox.close().await;
        inbox = place.open_with(Settings {
            retry: RetryPolicy { delay_ms: 0, attempts_max: 9, ..RetryPolicy::default() },
            ..place.settings()
        });
        assert_eq!(statistics(&inbox).await.unsettled, left.len() as u64);
    }
    let rest = claim(&inbox, 99).await;
    assert_eq!(payloads(&rest), left);
    done(&inbox, &rest).await;
    assert_eq!((rows("inbox"), rows("settled")), (0, 0));
}

#[tokio::test]
async fn a_backlog_larger_than_memory_keeps_is_read_back_whole_and_in_order() {
    let place = Place::new();
    let inbox = place.open();
    let text = |n: u32| format!("{n}{}", "x".repeat(if n == 7 { 9 << 20 } else { 100_000 }));
    for n in 0..120 {
        accept_all(&inbox, (3 * n..3 * n + 3).map(|n| message("", &text(n))).collect()).await;
    }
    let mut seen = 0;
    while seen < 360 {
        let claimed = claim(&inbox, 50).await;
        for payload in payloads(&claimed) {
            assert!(payload == text(seen), "message {seen}");
            seen += 1;
        }
        done(&inbox, &claimed).await;
    }
}

#[tokio::test]
async fn channels_take_their_own_topics() {
    let place = Place::new();
    let channel_of = Box::new(|topic: &str| u8::from(topic.starts_with("alerts/")));
    let inbox = place.open_with(Settings { channel_of, ..place.settings() });
    accept(&inbox, Arrival { topic: "alerts/door".into(), ..message("", "alert") }).await;
    accept(&inbox, message("", "other")).await;
    assert_eq!(payloads(&inbox.claim(1, 9).await.unwrap()), ["alert"]);
    assert_eq!(payloads(&inbox.claim(0, 9).await.unwrap()), ["other"]);
}

#[tokio::test]
async fn an_expired_lease_is_handed_out_again_and_the_late_settler_is_fenced() {
    let place = Place::new();
    let inbox = place.open();
    accept(&inbox, message("", "a")).await;
    let slow = next(&inbox).await;
    place.clock.pass(60_000);
    let second = next(&inbox).await;
    assert_eq!((second.attempt, second.fence > slow.fence), (2, true));
    let late = inbox.settle(slow.lease(), Outcome::Done).await.unwrap();
    assert_eq!(late, Err(SettleError::Fenced));
    done(&inbox, &[second]).await;
}

#[tokio::test]
async fn a_retry_waits_for_its_time_over_a_restart_then_becomes_a_dead_letter_with_its_errors() {
    let place = Place::new();
    let inbox = place.open();
    accept(&inbox, message("1", "a")).await;
    inbox.settle(next(&inbox).await.lease(), retry("first")).await.unwrap().unwrap();
    inbox.close().await;
    let inbox = place.open();
    place.clock.pass(49);
    assert_eq!(claim(&inbox, 1).await, [], "half of 100 ms is the least");
    place.clock.pass(51);
    let second = next(&inbox).await;
    assert_eq!(second.attempt, 2);
    let asked = Outcome::Retry { after: Some(Duration::from_secs(30)), error: "second".into() };
    inbox.settle(second.lease(), asked).await.unwrap().unwrap();
    place.clock.pass(29_999);
    assert_eq!(claim(&inbox, 1).await, []);
    place.clock.pass(1);
    inbox.settle(next(&inbox).await.lease(), retry("third")).await.unwrap().unwrap();
    let letters = DeadLetters::attach(&place.store()).unwrap();
    let page = letters.list(&Selection::default(), 0, 10).unwrap();
    let letter = &page.letters[0];
    let errors: Vec<_> = letter.errors.iter().map(|note| note.error.as_str()).collect();
    assert_eq!(
        (letter.reason, letter.attempts, errors),
        (Reason::Exhausted, 3, vec!["first", "second", "third"])
    );
    let counted = statistics(&inbox).await;
    assert_eq!((counted.failed, counted.retries, counted.dead_lettered, counted.dead), (3, 2, 1, 1));
    assert_eq!(counted.unsettled, 0);
}

#[tokio::test]
async fn an_effect_commits_with_its_done_mark_or_not_at_all() {
    let place = Place::new();
    let inbox = place.open();
    accept(&inbox, message("", "a")).await;
    let delivery = next(&inbox).await;
    let effect = |sql: &'static str, fails: bool| {
        Outcome::DoneWith(Box::new(move |transaction| {
            transaction.execute_batch(sql)?;
            if fails { Err(rusqlite::Error::QueryReturnedNoRows) } else { Ok(()) }
        }))
    };
    let create = "CREATE TABLE effect(n); INSERT INTO effect VALUES (1)";
    let failed = inbox.settle(delivery.lease(), effect(create, true)).await.unwrap();
    assert!(matches!(failed, Err(SettleError::Effect(_))));
    let panics = Outcome::DoneWith(Box::new(|_| panic!("a handler's bug")));
    assert!(matches!(inbox.settle(delivery.lease(), panics).await.unwrap(), Err(SettleError::Effect(_))));
    inbox.settle(delivery.lease(), effect(create, false)).await.unwrap().unwrap();
    inbox.close().await;
    let found: i64 = rusqlite::Connection::open(place.store())
        .unwrap()
        .query_row("SELECT count(*) FROM effect", [], |row| row.get(0))
        .unwrap();
    assert_eq!(found, 1);
    assert_eq!(claim(&place.open(), 1).await, []);
}

#[tokio::test]
async fn an_effect_that_ends_the_transaction_is_refused_loudly_and_nothing_is_lost() {
    let place = Place::new();
    let inbox = place.open();
    accept(&inbox, message("", "a")).await;
    let effect = Outcome::DoneWith(Box::new(|transaction| transaction.execute_batch("COMMIT")));
    let refused = inbox.settle(next(&inbox).await.lease(), effect).await;
    assert!(matches!(refused, Err(InboxError::Unavailable(_))), "{refused:?}");
    assert_eq!(payloads(&[next_when_available(&inbox).await]), ["a"]);
}

async fn next_when_available(inbox: &Inbox) -> mqtally::inbox::Delivery {
    loop {
        match inbox.claim(0, 1).await {
            Ok(mut claimed) => return claimed.remove(0),
            Err(InboxError::Closed) => panic!("closed"),
            Err(InboxError::Unavailable(_)) => {
                let mut availability = inbox.availability();
                let available = mqtally::inbox::Availability::Available;
                availability.wait_for(|now| *now == available).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_claim_that_nobody_waits_for_leases_nothing() {
    let place = Place::new();
    let inbox = place.open();
    assert_eq!(claim(&inbox, 1).await, []);
    accept(&inbox, message("", "a")).await;
    assert_eq!(next(&inbox).await.attempt, 1);
}

#[tokio::test]
async fn dead_letters_are_listed_edited_replayed_and_purged_from_beside_a_running_consumer() {
    let place = Place::new();
    let inbox = place.open();
    for (key, payload) in [("1", "bad"), ("2", "worse"), ("3", "worst")] {
        accept(&inbox, message(key, payload)).await;
        let dead = Outcome::DeadLetter { error: "no".into() };
        inbox.settle(next(&inbox).await.lease(), dead).await.unwrap().unwrap();
    }
    let mut letters = DeadLetters::attach(&place.store()).unwrap();
    let page = letters.list(&Selection::default(), 0, 2).unwrap();
    assert_eq!((page.letters.len(), page.next), (2, Some(3)));
    assert_eq!(letters.list(&Selection::default(), 3, 2).unwrap().next, None);
    let elsewhere = Selection { filter: Some("else/#".into()), ..Selection::default() };
    assert_eq!(letters.list(&elsewhere, 0, 9).unwrap().letters, []);

    assert!(letters.edit(1, b"good").unwrap() && !letters.edit(99, b"").unwrap());
    assert_eq!(letters.replay(&[1, 99], true).unwrap(), [1], "a dry run asks for nothing");
    assert_eq!(claim(&inbox, 9).await, []);
    assert_eq!(letters.replay(&[1], false).unwrap(), [1]);
    let replayed = next(&inbox).await;
    assert_eq!((payloads(std::slice::from_ref(&replayed)), replayed.replay), (vec!["good".into()], 1));
    assert_eq!((replayed.key.as_deref(), replayed.attempt), (Some("1"), 1));
    assert_eq!(letters.show(1).unwrap(), None);
    assert!(letters.replay(&[1], false).unwrap().is_empty(), "once asked, once replayed");

    assert_eq!(letters.purge(&[2, 2, 99]).unwrap(), 1);
    let counted = statistics(&inbox).await;
    assert_eq!((counted.dead, counted.replayed, counted.unsettled), (1, 1, 1));
    inbox.close().await;
    assert_eq!(letters.replay(&[3], false).unwrap(), [3], "also while no consumer runs");
    let inbox = place.open();
    // The lease of the first replay died with the last consumer, so both are there.
    assert_eq!(claim(&inbox, 9).await.len(), 2);
    assert_eq!(accept(&inbox, message("1", "bad")).await, Verdict::Duplicate(Cause::PublishedAgain));
}

#[tokio::test]
async fn a_page_of_dead_letters_has_a_bound_in_bytes() {
    let place = Place::new();
    let inbox = place.open();
    for key in ["1", "2", "3"] {
        accept(&inbox, message(key, &"x".repeat(9 << 20))).await;
        let dead = Outcome::DeadLetter { error: "no".into() };
        inbox.settle(next(&inbox).await.lease(), dead).await.unwrap().unwrap();
    }
    let letters = DeadLetters::attach(&place.store()).unwrap();
    let page = letters.list(&Selection::default(), 0, 9).unwrap();
    assert_eq!((page.letters.len(), page.next), (2, Some(3)));
    assert_eq!(letters.list(&Selection::default(), 3, 9).unwrap().letters.len(), 1);
}

#[tokio::test]
async fn keys_expire_by_elapsed_time_and_never_by_a_jump_of_the_clock() {
    let place = Place::new();
    let settings = || Settings { window_ms: 8_000, ..place.settings() };
    let inbox = place.open_with(settings());
    let is_known = async |inbox: &Inbox| accept(inbox, message("1", "a")).await != Verdict::New;
    assert!(!is_known(&inbox).await);
    place.clock.jump_to(u64::from(u32::MAX) * 1_000);
    assert!(is_known(&inbox).await);
    inbox.close().await;
    place.clock.jump_to(9_000_000_000_000);
    let inbox = place.open_with(settings());
    assert!(is_known(&inbox).await, "downtime counts an eighth of the window at most");
    place.clock.pass(6_900);
    assert!(is_known(&inbox).await);
    for _ in 0..4 {
        place.clock.pass(1_000);
        statistics(&inbox).await;
    }
    assert!(!is_known(&inbox).await);
    // The purge is bounded per turn; give it one.
    statistics(&inbox).await;
    inbox.close().await;
    let rows: i64 = rusqlite::Connection::open(place.store())
        .unwrap()
        .query_row("SELECT count(*) FROM ids", [], |row| row.get(0))
        .unwrap();
    assert_eq!((rows, statistics(&place.open_with(settings())).await.keys), (1, 1));
}

#[tokio::test]
async fn an_attempt_that_kills_the_process_counts() {
    let place = Place::new();
    let retry = RetryPolicy { attempts_max: 2, delay_ms: 0, delay_ms_max: 0 };
    for opened in 1..=2 {
        let inbox = place.open_with(Settings { retry, ..place.settings() });
        if opened == 1 {
            accept(&inbox, message("", "poison")).await;
        }
        assert_eq!(next(&inbox).await.attempt, opened);
        inbox.close().await;
    }
    let inbox = place.open_with(Settings { retry, ..place.settings() });
    assert_eq!(claim(&inbox, 1).await, []);
    assert_eq!(statistics(&inbox).await.dead, 1);
}

#[tokio::test]
async fn after_close_everything_says_closed() {
    let place = Place::new();
    let inbox = place.open();
    inbox.close().await;
    assert_eq!(inbox.accept(message("", "a")).await, Err(InboxError::Closed));
    assert_eq!(inbox.claim(0, 1).await, Err(InboxError::Closed));
}
