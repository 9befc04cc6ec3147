//! Files that are damaged, lost, foreign, full or in use: refused or repaired loudly, never silently short.

#![allow(clippy::print_stdout, reason = "seeds and counts, shown with --nocapture")]

mod inbox_support;

use inbox_support::*;
use mqtally::inbox::dead_letter::{DeadLetters, Reason, Selection};
use mqtally::inbox::key::Scope;
use mqtally::inbox::{
    Arrival, Availability, Consumer, Inbox, InboxError, Outcome, Settings, Verdict, Window,
};
use mqtally::store::StoreError;
use mqtally::store::sqlite::{Layout, Store};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn refusal(path: &Path, settings: Settings) -> StoreError {
    Inbox::open(path, settings).map(|_| ()).unwrap_err()
}

fn beside(path: &Path, suffix: &str) -> std::path::PathBuf {
    format!("{}{suffix}", path.display()).into()
}

/// The files of a store that was killed: copied while it is open.
fn killed_copy(from: &Path, to: &Path) {
    for suffix in ["", "-wal", ".mark"] {
        if beside(from, suffix).exists() {
            fs::copy(beside(from, suffix), beside(to, suffix)).unwrap();
        }
    }
}

const MESSAGES: usize = 40;

/// A killed store with unsettled messages, dedup keys, an exchange, a retry and a dead letter.
async fn killed_store(checkpointed: bool) -> Place {
    let place = Place::new();
    let alive = Place::new();
    let inbox = alive.open();
    accept_all(
        &inbox,
        (0..MESSAGES - 1).map(|n| message(&format!("key-{n}"), &format!("payload-{n}"))).collect(),
    )
    .await;
    accept(&inbox, qos_2(1, 9, message("last", "payload-last"))).await;
    let claimed = claim(&inbox, 2).await;
    inbox.settle(claimed[0].lease(), retry("later")).await.unwrap().unwrap();
    inbox.settle(claimed[1].lease(), Outcome::DeadLetter { error: "never".into() }).await.unwrap().unwrap();
    if checkpointed {
        let connection = rusqlite::Connection::open(alive.store()).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    }
    killed_copy(&alive.store(), &place.store());
    inbox.close().await;
    place
}

/// Opens and looks at everything. `Err` where that was refused loudly; otherwise how many of the messages, of the keys and of the
/// exchanges are there. A damaged message counts as there when it is shown as damaged.
async fn inspect(place: &Place) -> Result<(usize, usize, usize), String> {
    let (inbox, notices) =
        Inbox::open(&place.store(), place.settings()).map_err(|error| error.to_string())?;
    let inspected = look(place, &inbox).await;
    inbox.close().await;
    inspected.map_err(|error| format!("{error} {notices:?}"))
}

async fn look(place: &Place, inbox: &Inbox) -> Result<(usize, usize, usize), String> {
    place.clock.pass(1_000);
    let mut seen = BTreeSet::new();
    while inbox.statistics().await.map_err(|error| error.to_string())?.unsettled > 0 {
        let claimed = tokio::time::timeout(Duration::from_secs(10), inbox.claim(0, 64)).await;
        let Ok(claimed) = claimed else { break };
        for delivery in claimed.map_err(|error| error.to_string())? {
            seen.insert(delivery.sequence);
            inbox.settle(delivery.lease(), Outcome::Done).await.map_err(|error| error.to_string())?.ok();
        }
    }
    let letters = DeadLetters::attach(&place.store()).map_err(|error| error.to_string())?;
    let page = letters.list(&Selection::default(), 0, 1_000).map_err(|error| error.to_string())?;
    seen.extend(page.letters.iter().map(|letter| letter.sequence));
    let (_, exchanges) = inbox.session().await.map_err(|error| error.to_string())?;
    let mut keys = 0;
    for n in 0..MESSAGES - 1 {
        let again = inbox.accept(message(&format!("key-{n}"), &format!("payload-{n}"))).await;
        keys +=
            usize::from(matches!(again.map_err(|error| error.to_string())?.verdict, Verdict::Duplicate(_)));
    }
    Ok((seen.len(), keys, exchanges.len()))
}

const WHOLE: (usize, usize, usize) = (MESSAGES, MESSAGES - 1, 1);

/// Flips one byte at many places of one file and judges each outcome.
async fn flip_everywhere(checkpointed: bool, suffix: &str, flips: usize) {
    let original = killed_store(checkpointed).await;
    assert_eq!(inspect(&copy_of(&original)).await, Ok(WHOLE), "undamaged");
    let length = fs::metadata(beside(&original.store(), suffix)).unwrap().len() as usize;
    let (mut refused, mut whole) = (0, 0);
    let seed = std::env::var("MQTALLY_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(7);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..flips {
        let place = copy_of(&original);
        let at = random.usize(..length);
        let file = beside(&place.store(), suffix);
        let mut bytes = fs::read(&file).unwrap();
        bytes[at] ^= 1 << random.u32(..8);
        fs::write(&file, bytes).unwrap();
        match inspect(&place).await {
            Err(_) => refused += 1,
            Ok(found) => {
                assert_eq!(found, WHOLE, "silently short after a flip in {suffix:?} at {at}, seed {seed}");
                whole += 1;
            }
        }
    }
    println!("{suffix:?}: {refused} refused, {whole} whole or repaired");
}

fn copy_of(original: &Place) -> Place {
    let place = Place::new();
    killed_copy(&original.store(), &place.store());
    place
}

fn flips() -> usize {
    std::env::var("MQTALLY_FLIPS").ok().and_then(|n| n.parse().ok()).unwrap_or(20)
}

#[tokio::test]
async fn a_flipped_byte_in_the_database_is_never_silently_short() {
    flip_everywhere(true, "", flips()).await;
}

#[tokio::test]
async fn a_flipped_byte_in_the_wal_is_never_silently_short() {
    flip_everywhere(false, "-wal", flips()).await;
}

#[tokio::test]
async fn a_flipped_byte_in_the_watermark_is_never_silently_short() {
    flip_everywhere(true, ".mark", flips()).await;
}

#[tokio::test]
async fn damaged_numbers_and_names_are_refused_and_where_the_loss_is_accepted_begun_anew() {
    let check = async |text: &str, what: &str| {
        let place = Place::new();
        let settings = || {
            let consumer = Consumer { name: "consumer-x".into(), scope: Scope::Topic };
            let message = message("1", "x");
            (
                Settings { consumer: Some(consumer), ..place.settings() },
                Arrival { topic: "topic-x".into(), ..message },
            )
        };
        let inbox = place.open_with(settings().0);
        for _ in 0..3 {
            accept(&inbox, settings().1).await;
        }
        inbox.close().await;
        let connection = rusqlite::Connection::open(place.store()).unwrap();
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        drop(connection);
        let mut bytes = fs::read(place.store()).unwrap();
        let places: Vec<_> =
            bytes.windows(text.len()).enumerate().filter(|(_, window)| *window == text.as_bytes()).collect();
        let places: Vec<_> = places.into_iter().map(|(at, _)| at).collect();
        // In a row of a message the topic stands, too; its checksum is another matter.
        for at in places {
            bytes[at] ^= 1;
        }
        fs::write(place.store(), bytes).unwrap();
        let error = refusal(&place.store(), settings().0).to_string();
        assert!(error.contains(what), "{error}");
        assert!(Window::attach(&place.store()).unwrap_err().to_string().contains("damaged"));
        let mut accepting = settings().0;
        accepting.store.accept_loss = true;
        let (inbox, notices) = Inbox::open(&place.store(), accepting).unwrap();
        assert!(notices.iter().any(|notice| notice.0.contains(what)), "{notices:?}");
        inbox.close().await;
        let (inbox, notices) = Inbox::open(&place.store(), settings().0).unwrap();
        assert_eq!(notices, []);
        inbox.close().await;
        assert_eq!(Window::attach(&place.store()).unwrap().consumers().len(), 1);
    };
    check("topic-x", "duplicates by topic").await;
    check("consumer-x", "a consumer's name").await;
}

#[tokio::test]
async fn a_damaged_message_is_set_aside_and_shown_not_handed_out() {
    let place = killed_store(true).await;
    let mut bytes = fs::read(place.store()).unwrap();
    let at = bytes.windows(10).position(|window| window == b"payload-17").unwrap();
    bytes[at] ^= 1;
    fs::write(place.store(), bytes).unwrap();
    let inbox = place.open();
    assert!(!payloads(&claim(&inbox, 64).await).iter().any(|payload| payload.ends_with("-17")));
    assert_eq!(statistics(&inbox).await.damaged, 1);
    let letters = DeadLetters::attach(&place.store()).unwrap();
    let damaged = Selection { reason: Some(Reason::Damaged), ..Selection::default() };
    let page = letters.list(&damaged, 0, 9).unwrap();
    assert_eq!((page.letters.len(), page.letters[0].sequence, &page.letters[0].message), (1, 18, &None));
}

#[tokio::test]
async fn a_batch_that_cannot_be_taken_apart_is_set_aside_whole() {
    let place = killed_store(true).await;
    let connection = rusqlite::Connection::open(place.store()).unwrap();
    let first: i64 = connection
        .query_row("SELECT first_seq FROM inbox ORDER BY messages DESC LIMIT 1", [], |row| row.get(0))
        .unwrap();
    let cut = "UPDATE inbox SET packed = substr(packed, 1, length(packed) - 1) WHERE first_seq = ?1";
    connection.execute(cut, [first]).unwrap();
    drop(connection);
    assert_eq!(inspect(&place).await, Ok(WHOLE), "each counts as there: it is shown as damaged");
    let inbox = place.open();
    assert_eq!(statistics(&inbox).await.damaged, MESSAGES as u64 - 2);
    let letters = DeadLetters::attach(&place.store()).unwrap();
    let damaged = Selection { reason: Some(Reason::Damaged), ..Selection::default() };
    assert_eq!(letters.list(&damaged, 0, 99).unwrap().letters.len(), MESSAGES - 2);
}

#[tokio::test]
async fn damaged_done_marks_are_refused_and_where_the_loss_is_accepted_the_batch_is_handled_again() {
    let place = killed_store(true).await;
    let connection = rusqlite::Connection::open(place.store()).unwrap();
    assert_eq!(connection.execute("UPDATE settled SET bits = zeroblob(length(bits))", []).unwrap(), 1);
    drop(connection);
    let error = refusal(&place.store(), place.settings());
    assert!(matches!(&error, StoreError::Damaged { what, .. } if what.contains("done marks")), "{error}");
    let mut settings = place.settings();
    settings.store.accept_loss = true;
    let (inbox, notices) = Inbox::open(&place.store(), settings).unwrap();
    assert!(notices.iter().any(|notice| notice.0.contains("done marks")), "{notices:?}");
    assert_eq!(statistics(&inbox).await.unsettled, MESSAGES as u64);
}

#[tokio::test]
async fn a_store_older_than_its_watermark_is_refused_unless_the_loss_is_accepted() {
    let place = Place::new();
    let inbox = place.open();
    accept(&inbox, message("1", "a")).await;
    let older = Place::new();
    killed_copy(&place.store(), &older.store());
    accept(&inbox, message("2", "b")).await;
    fs::copy(beside(&place.store(), ".mark"), beside(&older.store(), ".mark")).unwrap();
    assert!(matches!(refusal(&older.store(), older.settings()), StoreError::Older { .. }));
    let mut settings = older.settings();
    settings.store.accept_loss = true;
    let (inbox, notices) = Inbox::open(&older.store(), settings).unwrap();
    assert_eq!(notices.len(), 1);
    inbox.close().await;
    assert_eq!(payloads(&claim(&older.open(), 9).await), ["a"]);
}

#[tokio::test]
async fn marks_that_were_not_synced_may_be_lost_with_the_machine_and_nothing_else() {
    let place = Place::new();
    let inbox = place.open();
    accept_all(&inbox, vec![message("1", "a"), message("2", "b")]).await;
    let power_lost = Place::new();
    killed_copy(&place.store(), &power_lost.store());
    // Claims and done marks are not synced; a loss of power may undo them, whatever the watermark kept.
    let claimed = claim(&inbox, 9).await;
    done(&inbox, &claimed).await;
    fs::copy(beside(&place.store(), ".mark"), beside(&power_lost.store(), ".mark")).unwrap();
    let inbox = power_lost.open();
    assert_eq!(payloads(&claim(&inbox, 9).await), ["a", "b"]);
    assert!(matches!(accept(&inbox, message("1", "a")).await, Verdict::Duplicate(_)));
}

#[tokio::test]
async fn a_missing_file_of_a_store_is_refused() {
    let place = killed_store(true).await;
    fs::remove_file(beside(&place.store(), ".mark")).unwrap();
    assert!(matches!(refusal(&place.store(), place.settings()), StoreError::Damaged { .. }));
    let place = killed_store(true).await;
    fs::remove_file(place.store()).unwrap();
    let error = refusal(&place.store(), place.settings());
    assert!(matches!(error, StoreError::Older { found: 0, .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_inbox_of_ours_is_refused_and_left_as_it_was() {
    let place = Place::new();
    let store = place.store();
    let gone = place.directory.path().join("no/such/inbox.db");
    assert!(matches!(refusal(&gone, place.settings()), StoreError::NoDirectory { .. }));
    fs::write(&store, "a text that somebody wrote").unwrap();
    assert!(matches!(refusal(&store, place.settings()), StoreError::Foreign { .. }));
    assert_eq!(fs::read_to_string(&store).unwrap(), "a text that somebody wrote");
    fs::remove_file(&store).unwrap();
    rusqlite::Connection::open(&store).unwrap().execute_batch("CREATE TABLE theirs(x)").unwrap();
    let before = fs::read(&store).unwrap();
    assert!(matches!(refusal(&store, place.settings()), StoreError::Foreign { .. }));
    assert_eq!(fs::read(&store).unwrap(), before);
    assert!(matches!(
        DeadLetters::attach(&gone).unwrap_err(),
        StoreError::Foreign { .. } | StoreError::NoDirectory { .. }
    ));
}

#[tokio::test]
async fn another_version_and_another_kind_are_refused() {
    let place = Place::new();
    place.open().close().await;
    rusqlite::Connection::open(place.store()).unwrap().execute_batch("PRAGMA user_version=4").unwrap();
    let error = refusal(&place.store(), place.settings());
    assert!(matches!(error, StoreError::Newer { found: 4, supported: 3, .. }), "{error}");
    rusqlite::Connection::open(place.store()).unwrap().execute_batch("PRAGMA user_version=1").unwrap();
    let error = refusal(&place.store(), place.settings());
    assert!(matches!(error, StoreError::OlderFormat { found: 1, expected: 3, .. }), "{error}");

    let other = Place::new();
    let schema = || "CREATE TABLE tally(commits); INSERT INTO tally VALUES (0);".to_owned();
    let layout = Layout { kind: "outbox", version: 1, cache_bytes: 1 << 20, schema };
    drop(Store::open(&other.store(), &layout, &other.settings().store).unwrap());
    let error = refusal(&other.store(), other.settings());
    assert!(error.to_string().contains("holds an outbox, not an inbox"), "{error}");
}

#[tokio::test]
async fn a_second_consumer_is_refused_until_the_first_has_gone() {
    let place = Place::new();
    let inbox = place.open();
    assert!(matches!(refusal(&place.store(), place.settings()), StoreError::InUse { .. }));
    inbox.close().await;
    place.open();
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_cannot_be_written_is_refused() {
    // Not writable even for root.
    let error = refusal(Path::new("/sys/mqtally-inbox.db"), Settings::default());
    assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
}

#[tokio::test]
async fn nothing_is_acknowledged_after_a_write_error_until_the_store_was_opened_again() {
    let place = Place::new();
    let inbox = place.open();
    accept(&inbox, message("1", "a")).await;
    place.faults.fail_opens(1);
    place.faults.fail_commits(1);
    let refused = inbox.accept(message("2", "b")).await;
    assert!(matches!(refused, Err(InboxError::Unavailable(_))), "{refused:?}");
    assert!(matches!(inbox.accept(message("2", "b")).await, Err(InboxError::Unavailable(_))));
    let mut availability = inbox.availability();
    availability.wait_for(|now| *now == Availability::Available).await.unwrap();
    assert_eq!(accept(&inbox, message("2", "b")).await, Verdict::New);
    assert_eq!(payloads(&claim(&inbox, 9).await), ["a", "b"]);
}

#[tokio::test]
async fn nothing_is_acknowledged_after_a_sync_that_failed_until_the_log_was_settled() {
    let place = Place::new();
    let inbox = place.open();
    accept(&inbox, message("1", "a")).await;
    let long = "b".repeat(200 << 10);
    // While somebody else has the file open, closing it leaves the log as it is.
    let _reader = reading(&place.store());
    place.faults.fail_syncs(1);
    let (first, second) = tokio::join!(inbox.accept(message("2", &long)), inbox.accept(message("3", "c")));
    for refused in [first, second] {
        assert!(matches!(refused, Err(InboxError::Unavailable(_))), "{refused:?}");
    }
    let mut availability = inbox.availability();
    availability.wait_for(|now| *now == Availability::Available).await.unwrap();
    let log = fs::metadata(beside(&place.store(), "-wal")).unwrap().len();
    assert!(log < long.len() as u64, "the log was emptied: {log}");
    // It was committed, and nobody was told: sent again, it is known.
    assert!(matches!(accept(&inbox, message("2", &long)).await, Verdict::Duplicate(_)));
    accept(&inbox, message("3", "c")).await;
    assert_eq!(payloads(&claim(&inbox, 9).await), ["a", &long, "c"]);
}

/// One message whose sync fails while the next one is committed, which fails as well if `commit_fails`.
async fn a_sync_fails_beside_a_commit(commit_fails: bool) -> (Place, Inbox) {
    let place = Place::new();
    let inbox = place.open();
    accept(&inbox, message("1", "a")).await;
    place.faults.fail_sync_beside_commit(commit_fails);
    let first = inbox.submit(vec![message("2", "b")]).await.unwrap();
    let faults = Arc::clone(&place.faults);
    // Committed, and on its way to the disk: what comes now has a transaction of its own.
    assert!(tokio::task::spawn_blocking(move || faults.is_sync_waiting()).await.unwrap());
    let second = inbox.submit(vec![message("3", "c")]).await.unwrap();
    for submitted in [first, second] {
        let refused = submitted.durable().await;
        assert!(matches!(refused, Err(InboxError::Unavailable(_))), "{refused:?}");
    }
    let mut availability = inbox.availability();
    availability.wait_for(|now| *now == Availability::Available).await.unwrap();
    assert!(matches!(accept(&inbox, message("2", "b")).await, Verdict::Duplicate(_)), "it was committed");
    (place, inbox)
}

#[tokio::test]
async fn a_commit_and_the_sync_before_it_that_fail_together_acknowledge_neither() {
    let (_place, inbox) = a_sync_fails_beside_a_commit(true).await;
    assert_eq!(accept(&inbox, message("3", "c")).await, Verdict::New, "nothing of it was kept");
    assert_eq!(payloads(&claim(&inbox, 9).await), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_commit_behind_a_sync_that_fails_is_not_acknowledged_either() {
    let (_place, inbox) = a_sync_fails_beside_a_commit(false).await;
    assert!(matches!(accept(&inbox, message("3", "c")).await, Verdict::Duplicate(_)), "it was committed");
    assert_eq!(payloads(&claim(&inbox, 9).await), ["a", "b", "c"]);
}

/// Another process that has the store open.
fn reading(store: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(store).unwrap();
    let _: i64 = connection.query_row("SELECT commits FROM tally", [], |row| row.get(0)).unwrap();
    connection
}

#[tokio::test]
async fn a_full_store_takes_nothing_until_room_was_made_and_loses_nothing() {
    let place = Place::new();
    let mut settings = place.settings();
    settings.store.bytes_max = Some(400 << 10);
    let inbox = place.open_with(settings);
    let large = |n: usize| message(&n.to_string(), &"x".repeat(20_000));
    let mut taken = 0;
    while inbox.accept(large(taken)).await.is_ok() {
        taken += 1;
        assert!(taken < 100, "the limit does not bind");
    }
    let mut availability = inbox.availability();
    availability.wait_for(|now| *now == Availability::Available).await.unwrap();
    let held = claim(&inbox, 1_000).await;
    assert_eq!(held.len(), taken);
    done(&inbox, &held).await;
    assert_eq!(accept(&inbox, large(taken)).await, Verdict::New, "the same message, sent again");
}
