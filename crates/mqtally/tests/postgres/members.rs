//! Several members, and what happens to their work when one of them or the server dies.

use crate::inbox_support::{accept_all, message, next, statistics};
use crate::laws::{claim, claim_soon, insert, open, settings};
use crate::postgres_support::Server;
use mqtally::inbox::{Availability, Inbox, InboxError, Outcome, Settings, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Names the server and the member of a process that is to be killed.
const VICTIM: &str = "MQTALLY_TEST_VICTIM";
/// Other sessions at the server.
const ACTIVITY: &str = "pg_stat_activity WHERE pid <> pg_backend_pid()";
/// For work of seconds, which takes minutes where others keep the machine busy.
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn members_share_keys_and_never_run_one_message_or_lane_at_once() {
    let Some(server) = Server::start() else { return };
    let members = ["a", "b", "c"].map(|name| open(&server, name, settings()));
    // Every message is sent to every member, as a group's broker does that lost track.
    let arrivals: Vec<_> = (0..300)
        .map(|n| crate::inbox_support::in_lane(&format!("{}", n % 7), message(&format!("{n}"), "x")))
        .collect();
    let mut news = 0;
    for batch in arrivals.chunks(30) {
        let sent: Vec<_> = members.iter().map(|member| accept_all(member, batch.to_vec())).collect();
        let [a, b, c]: [_; 3] = sent.try_into().unwrap_or_else(|_| unreachable!());
        let (a, b, c) = tokio::join!(a, b, c);
        news += [a, b, c].iter().flatten().filter(|accepted| accepted.verdict == Verdict::New).count();
    }
    assert_eq!(news, 300, "each is new to one member");

    let running = Arc::new(Mutex::new((BTreeSet::new(), BTreeMap::<String, u32>::new())));
    let work = members.clone().map(|member| tokio::spawn(work(member, Arc::clone(&running))));
    for worker in work {
        tokio::time::timeout(PATIENCE, worker).await.expect("all is handled in time").unwrap();
    }
    let done = running.lock().unwrap().1.clone();
    assert_eq!((done.len(), done.values().copied().max()), (300, Some(1)));
    assert_eq!(statistics(&members[0]).await.processed, 300);
    for member in members {
        member.close().await;
    }
}

/// A member that had chosen a message waited for the one that was just done with it, which waited for the first one's lock: the
/// server ended one of them, and with it everything that its member was about to acknowledge.
#[tokio::test]
async fn members_at_full_speed_never_wait_for_each_other_in_a_circle() {
    let Some(server) = Server::start() else { return };
    let members = ["a", "b", "c"].map(|name| open(&server, name, settings()));
    let mut work = tokio::task::JoinSet::new();
    for (at, member) in members.clone().into_iter().enumerate() {
        let feeder = member.clone();
        work.spawn(async move {
            for n in 0..150 {
                let batch = (0..8).map(|k| message(&format!("{at} {n} {k}"), "x")).collect();
                accept_all(&feeder, batch).await;
            }
        });
        work.spawn(async move {
            let mut done = 0;
            while done < 150 * 8 {
                let deliveries = member.claim(0, 8).await.unwrap();
                done += deliveries.len();
                crate::inbox_support::done(&member, &deliveries).await;
                if statistics(&member).await.processed == 3 * 150 * 8 {
                    return;
                }
            }
        });
    }
    // In a circle they would never be done.
    let finished = tokio::time::timeout(PATIENCE, async {
        while let Some(ended) = work.join_next().await {
            ended.unwrap();
            if statistics(&members[0]).await.processed == 3 * 150 * 8 {
                return;
            }
        }
    });
    finished.await.expect("they are done in time");
    assert_eq!(statistics(&members[0]).await.processed, 3 * 150 * 8);
    assert!(!server.log().contains("deadlock detected"), "{}", server.log());
}

type Running = Arc<Mutex<(BTreeSet<u64>, BTreeMap<String, u32>)>>;

/// Handles what comes until nothing comes any more.
async fn work(member: Inbox, running: Running) {
    loop {
        let deliveries = claim_soon(&member, 5).await;
        if deliveries.is_empty() && statistics(&member).await.unsettled == 0 {
            return;
        }
        let lane = |key: &str| key.parse::<u64>().unwrap() % 7;
        for delivery in &deliveries {
            let key = delivery.key.clone().unwrap();
            let mut running = running.lock().unwrap();
            assert!(running.0.insert(lane(&key)), "lane {} runs twice", lane(&key));
            *running.1.entry(key).or_default() += 1;
        }
        // The work itself: time for another member to run one of the same lane, if it were handed that.
        tokio::time::sleep(Duration::from_millis(1)).await;
        for delivery in &deliveries {
            running.lock().unwrap().0.remove(&lane(delivery.key.as_deref().unwrap()));
        }
        let settlements = deliveries.iter().map(|delivery| (delivery.lease(), Outcome::Done)).collect();
        assert!(member.settle_all(settlements).await.unwrap().iter().all(Result::is_ok));
    }
}

#[tokio::test]
async fn who_comes_second_with_a_key_waits_until_the_first_has_committed() {
    let Some(server) = Server::start() else { return };
    let inbox = open(&server, "a", settings());
    let key = message("1", "x").key.unwrap().id;
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    // The first: a transaction by hand that remembers the key, and does not end.
    let mut first = server.session();
    let script = format!(
        "BEGIN; SELECT pg_advisory_xact_lock_shared((SELECT oid FROM pg_namespace WHERE nspname = 'inbox')::int, 0);
         INSERT INTO inbox.ids SELECT bucket, '{hex}', 0 FROM inbox.clock;"
    );
    writeln!(first.stdin.as_ref().unwrap(), "{script}").unwrap();
    let is_there =
        format!("EXISTS (SELECT FROM {ACTIVITY} AND state LIKE 'idle in tra%' AND query LIKE '%{hex}%')");
    server.wait_until(&is_there);
    let second = inbox.submit(vec![message("1", "x")]).await.unwrap();
    server.wait_until(&format!("EXISTS (SELECT FROM {ACTIVITY} AND wait_event = 'transactionid')"));
    writeln!(first.stdin.take().unwrap(), "ROLLBACK;").unwrap();
    assert!(first.wait().unwrap().success());
    assert_eq!(second.durable().await.unwrap()[0].verdict, Verdict::New, "the first was rolled back");
    inbox.close().await;
}

#[tokio::test]
async fn a_member_is_one_process_and_what_it_held_comes_back_at_once() {
    let Some(server) = Server::start() else { return };
    server.value("CREATE TABLE effect(key text)");
    let inbox = open(&server, "survivor", settings());
    accept_all(&inbox, (0..20).map(|n| message(&format!("{n}"), "x")).collect()).await;
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "members::victim", "--ignored", "--nocapture"])
        .env(VICTIM, server.url("inbox"))
        .spawn()
        .unwrap();
    // Its effects are in an open transaction, which waits in the last one of them.
    server.wait_until("EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')");
    assert!(victim.try_wait().unwrap().is_none(), "the victim ended");
    let refused =
        Inbox::open_shared(&server.url("inbox").parse().unwrap(), "victim", settings()).unwrap_err();
    assert!(refused.to_string().contains("another process works on it as \"victim\""), "{refused}");
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert_eq!(server.count("SELECT count(*) FROM effect"), 0, "nothing of it is committed");
    server.value("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");

    let again = open(&server, "victim", settings());
    for _ in 0..20 {
        let delivery = next(&inbox).await;
        assert_eq!(delivery.attempt, 2, "the lost attempt counts");
        let outcome = insert(delivery.key.as_deref().unwrap());
        inbox.settle(delivery.lease(), outcome).await.unwrap().unwrap();
    }
    assert_eq!(server.value("SELECT count(*) || ' ' || count(DISTINCT key) FROM effect"), "20 20");
    again.close().await;
    inbox.close().await;
}

#[tokio::test]
#[ignore = "a process that another test starts and kills"]
async fn victim() {
    let Ok(url) = std::env::var(VICTIM) else { return };
    let (inbox, _) = Inbox::open_shared(&url.parse().unwrap(), "victim", settings()).unwrap();
    let deliveries = claim(&inbox, 20).await;
    let mut settlements: Vec<_> = deliveries
        .iter()
        .map(|delivery| (delivery.lease(), insert(delivery.key.as_deref().unwrap())))
        .collect();
    if let Some((_, Outcome::DoneWithStatements(statements))) = settlements.last_mut() {
        statements[0].sql = "INSERT INTO public.effect SELECT $1 FROM pg_sleep(60)".into();
    }
    drop(inbox.settle_all(settlements).await);
}

#[tokio::test]
async fn the_leases_of_a_member_that_does_not_come_back_expire() {
    let Some(server) = Server::start() else { return };
    let gone = open(&server, "gone", Settings { lease_ms: 100, ..settings() });
    let stays = open(&server, "stays", settings());
    accept_all(&gone, vec![message("1", "x")]).await;
    let lost = next(&gone).await;
    // Nobody at that desk looks any more.
    server.value("UPDATE inbox.lease SET member = 99");
    let found = next(&stays).await;
    assert_eq!((found.sequence, found.attempt), (lost.sequence, 2));
    gone.close().await;
    stays.close().await;
}

#[tokio::test]
async fn a_restart_of_the_server_in_mid_stream_loses_nothing() {
    let Some(mut server) = Server::start() else { return };
    server.value("CREATE TABLE effect(key text)");
    let inbox = open(&server, "a", settings());
    let held = {
        accept_all(&inbox, vec![message("held", "x")]).await;
        next(&inbox).await
    };
    let worker = tokio::spawn(effects(inbox.clone()));
    let (mut sent, mut crashes) = (0, 0);
    while sent < 400 {
        let batch: Vec<_> = (sent..sent + 20).map(|n| message(&format!("{n}"), "x")).collect();
        // Not acknowledged: sent again, as a broker does.
        let outcome = match inbox.submit(batch).await {
            Ok(submitted) => submitted.durable().await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(_) => sent += 20,
            Err(InboxError::Unavailable(_)) => available(&inbox).await,
            Err(InboxError::Closed) => panic!("it does not close"),
        }
        if sent / 100 > crashes && crashes < 3 {
            crashes += 1;
            let mut availability = inbox.availability();
            server.crash();
            drop(inbox.submit(vec![message("0", "x")]).await.unwrap().durable().await);
            let gone = availability.wait_for(|now| matches!(now, Availability::Unavailable(_)));
            tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap().unwrap();
            server.resume();
            available(&inbox).await;
        }
    }
    assert_eq!(crashes, 3);
    inbox.settle(held.lease(), insert("held")).await.unwrap().expect("what was in hand stays in hand");
    let deadline = Instant::now() + PATIENCE;
    while statistics(&inbox).await.unsettled > 0 {
        assert!(Instant::now() < deadline, "{:?}", statistics(&inbox).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.abort();
    assert_eq!(server.value("SELECT count(*) || ' ' || count(DISTINCT key) FROM effect"), "401 401");
    inbox.close().await;
}

/// Waits until the server can be used again.
async fn available(inbox: &Inbox) {
    let mut availability = inbox.availability();
    let back = availability.wait_for(|now| *now == Availability::Available);
    tokio::time::timeout(Duration::from_secs(30), back).await.unwrap().unwrap();
}

async fn effects(inbox: Inbox) {
    loop {
        let Ok(deliveries) = inbox.claim(0, 16).await else {
            available(&inbox).await;
            continue;
        };
        let settlements = deliveries
            .iter()
            .map(|delivery| (delivery.lease(), insert(delivery.key.as_deref().unwrap())))
            .collect();
        drop(inbox.settle_all(settlements).await);
    }
}
