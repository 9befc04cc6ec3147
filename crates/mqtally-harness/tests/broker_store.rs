//! What the broker's store promises: what was committed is loaded, and what is not whole is refused.

use bytes::Bytes;
use mqtally_harness::broker::store::{Store, StoreErrorKind, Sync};
use mqtally_proto::Time;
use mqtally_proto::broker::{
    Change, Message, MessageId, Phase, SessionId, Stored, StoredDelivery, StoredSession, StoredSubscription,
};
use mqtally_proto::packet::{Properties, Property, Qos, RetainHandling, Subscription, Version, Will};
use proptest::prelude::*;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const NOW: Time = Time::from_ms(1_000);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_loaded_is_what_the_changes_mean(steps in prop::collection::vec(step(), 1..80)) {
        let directory = directory();
        let mut expected = Stored::default();
        let mut writer = Writer::open(directory.path());
        for step in steps {
            match step {
                Step::Commit => writer.commit(),
                Step::Reopen => writer = writer.reopen(directory.path()),
                Step::Change(kind, a, b) => {
                    if let Some(change) = writer.lawful(kind, a, b, &expected) {
                        expected.apply(change.clone());
                        writer.store.apply(NOW, change);
                    }
                }
            }
        }
        let loaded = writer.reopen(directory.path()).loaded;
        prop_assert_eq!(sorted(loaded), sorted(expected));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Change(u8, u8, u8),
    Commit,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..13u8, any::<u8>(), any::<u8>()).prop_map(|(kind, a, b)| Step::Change(kind, a, b)),
        2 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ]
}

/// A store with what makes changes lawful: numbers are used once.
struct Writer {
    store: Store,
    loaded: Stored,
    last_number: u64,
}

impl Writer {
    fn open(directory: &Path) -> Self {
        let (store, loaded) = Store::open(directory, Sync::Off).expect("a sound store opens");
        Self { store, loaded, last_number: 0 }
    }

    fn commit(&mut self) {
        self.store.commit(NOW).expect("a sound disk takes it");
    }

    fn reopen(mut self, directory: &Path) -> Self {
        self.commit();
        let last_number = self.last_number;
        drop(self);
        Self { last_number, ..Self::open(directory) }
    }

    /// A change that the state machine could make in this state: nothing is added to what does not exist, and no
    /// message goes while a delivery needs it.
    fn lawful(&mut self, kind: u8, a: u8, b: u8, state: &Stored) -> Option<Change> {
        let id = SessionId(u64::from(a % 3));
        let filter = format!("filter/{}", b % 3);
        let (_, _, deliveries, received) = match state.sessions.iter().find(|(session, ..)| session.id == id)
        {
            Some(session) => session,
            None if matches!(kind, 2 | 6..=11) => return None,
            None => &(session_row(id, 0), Vec::new(), Vec::new(), Vec::new()),
        };
        let sequence =
            deliveries.get(usize::from(b) % deliveries.len().max(1)).map(|delivery| delivery.sequence);
        self.last_number += 1;
        match kind {
            0 => Some(Change::PutSession(session_row(id, b))),
            1 => b.is_multiple_of(4).then_some(Change::RemoveSession(id)),
            2 => Some(Change::PutSubscription(id, subscription(filter, b))),
            3 => Some(Change::RemoveSubscription(id, filter.into())),
            4 => Some(Change::PutMessage(MessageId(self.last_number), message(a, b))),
            5 => {
                let (message, _) = state.messages.first()?;
                (!is_needed(*message, state)).then_some(Change::RemoveMessage(*message))
            }
            6 | 7 => {
                let (message, _) = state.messages.last()?;
                Some(Change::PutDelivery(id, delivery_row(self.last_number, *message, b)))
            }
            8 => sequence.map(|sequence| Change::SetPhase(id, sequence, phase(b | 1))),
            9 => sequence.map(|sequence| Change::RemoveDelivery(id, sequence)),
            10 => (!received.contains(&b.into())).then(|| Change::PutReceived(id, b.into())),
            11 => received.first().map(|packet_id| Change::RemoveReceived(id, *packet_id)),
            _ if b.is_multiple_of(3) => Some(Change::RemoveRetained(message(a, b).topic.clone())),
            _ => Some(Change::PutRetained(message(a, b))),
        }
    }
}

fn is_needed(id: MessageId, state: &Stored) -> bool {
    let mut deliveries = state.sessions.iter().flat_map(|(_, _, deliveries, _)| deliveries);
    deliveries.any(|delivery| delivery.message == id)
}

fn session_row(id: SessionId, b: u8) -> StoredSession {
    let will = Will {
        topic: "will".into(),
        payload: Bytes::from(vec![b; 3]),
        qos: Qos::ExactlyOnce,
        retain: b.is_multiple_of(2),
        properties: Properties(vec![Property::WillDelayInterval(7)]),
    };
    StoredSession {
        id,
        client_id: format!("client-{}", id.0).into(),
        version: if b.is_multiple_of(2) { Version::V5_0 } else { Version::V3_1_1 },
        expiry_interval: u32::MAX - u32::from(b),
        disconnected_at: b.is_multiple_of(3).then_some(Time::from_ms(u64::from(b))),
        will: b.is_multiple_of(5).then_some(will),
    }
}

fn subscription(filter: String, b: u8) -> StoredSubscription {
    let subscription = Subscription {
        filter: filter.into(),
        qos: qos(b),
        no_local: b & 4 != 0,
        retain_as_published: b & 8 != 0,
        retain_handling: if b & 16 == 0 { RetainHandling::DoNotSend } else { RetainHandling::SendIfNew },
    };
    StoredSubscription { subscription, identifier: b.is_multiple_of(2).then_some(u32::from(b) + 1) }
}

fn message(a: u8, b: u8) -> Arc<Message> {
    let every = [
        Property::PayloadFormatIndicator(1),
        Property::ContentType("text/plain".into()),
        Property::ResponseTopic("answer".into()),
        Property::CorrelationData(Bytes::from_static(b"\0\xFF")),
        Property::UserProperty("name".into(), "value".into()),
        Property::UserProperty("name".into(), "".into()),
    ];
    Arc::new(Message {
        topic: format!("topic/{}", a % 3).into(),
        payload: Bytes::from(vec![b; usize::from(b)]),
        qos: qos(a),
        retain: a.is_multiple_of(2),
        properties: Properties(every[..usize::from(b) % 7].to_vec()),
        expires_at: b.is_multiple_of(2).then_some(Time::from_ms(u64::from(b))),
        publisher: format!("publisher-{a}").into(),
    })
}

fn delivery_row(sequence: u64, message: MessageId, b: u8) -> StoredDelivery {
    let subscription_ids = (0..u32::from(b % 3)).collect();
    StoredDelivery {
        sequence,
        message,
        qos: qos(b | 1),
        retain: b & 4 != 0,
        subscription_ids,
        phase: phase(b),
    }
}

fn phase(b: u8) -> Phase {
    match b % 3 {
        0 => Phase::Queued,
        1 => Phase::Published(u16::from(b) + 1),
        _ => Phase::Released(u16::from(b) + 1),
    }
}

fn qos(a: u8) -> Qos {
    Qos::from_u8(a % 3).expect("below 3")
}

/// Without the orders that mean nothing.
fn sorted(mut stored: Stored) -> Stored {
    stored.sessions.sort_by_key(|(session, ..)| session.id);
    for (_, subscriptions, _, received) in &mut stored.sessions {
        subscriptions.sort_by(|a, b| a.subscription.filter.cmp(&b.subscription.filter));
        received.sort_unstable();
    }
    stored.retained.sort_by(|a, b| a.topic.cmp(&b.topic));
    stored
}

#[test]
fn what_undoes_itself_is_no_transaction() {
    let directory = directory();
    let mut writer = Writer::open(directory.path());
    let id = MessageId(1);
    writer.store.apply(NOW, Change::PutMessage(id, message(1, 1)));
    assert_eq!(writer.store.waiting_since(), Some(NOW));
    writer.store.apply(NOW, Change::RemoveMessage(id));
    assert!(!writer.store.commit(NOW).expect("nothing to write"));
    assert_eq!(writer.store.waiting_since(), None);
}

#[test]
fn the_time_of_the_last_commit_is_kept() {
    let directory = directory();
    let mut writer = Writer::open(directory.path());
    assert_eq!(writer.store.time(), Time::default());
    writer.store.apply(NOW, Change::PutRetained(message(0, 0)));
    assert_eq!(writer.reopen(directory.path()).store.time(), NOW);
}

#[test]
fn a_store_is_open_only_once() {
    let directory = filled();
    let _first = Writer::open(directory.path());
    refused(directory.path(), "a second opener", |kind| matches!(kind, StoreErrorKind::Locked));
}

#[test]
fn a_later_format_is_refused() {
    let directory = filled();
    sql(directory.path(), "UPDATE meta SET format = 2");
    refused(directory.path(), "format 2", |kind| {
        matches!(kind, StoreErrorKind::Newer { found: 2, known: 1 })
    });
}

#[test]
fn somebody_elses_database_is_refused() {
    let directory = directory();
    sql(directory.path(), "CREATE TABLE contacts(name TEXT)");
    refused(directory.path(), "a table of contacts", |kind| matches!(kind, StoreErrorKind::Foreign));
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let directory = directory();
    fs::write(database(directory.path()), "no database, but long enough to look at ".repeat(100))
        .expect("written");
    refused(directory.path(), "a text file", is_damaged);
}

#[test]
fn a_truncated_store_is_refused() {
    let directory = filled();
    cut(&database(directory.path()), 8_192);
    refused(directory.path(), "a truncated file", is_damaged);
}

/// SQLite reads a flipped bit inside a row without a word.
#[test]
fn a_flipped_bit_in_any_row_is_refused() {
    for needle in
        [&b"client-1"[..], b"filter/1", &[0xAB; 64], b"publisher-170", &[0xAC; 64], b"publisher-171"]
    {
        let directory = filled();
        flip(&database(directory.path()), needle);
        refused(directory.path(), &format!("a flipped bit in {needle:?}"), is_damaged);
    }
}

#[test]
fn rows_that_do_not_belong_together_are_refused() {
    for change in [
        "UPDATE flow SET body = substr(body, 1, length(body) - 1) || x'77'",
        "UPDATE delivery SET body = substr(body, 1, length(body) - 1) || x'77'",
        "UPDATE delivery SET sequence = sequence + 1",
        "DELETE FROM delivery",
        "DELETE FROM message",
        "DELETE FROM session",
        "DELETE FROM meta",
    ] {
        let directory = filled();
        sql(directory.path(), change);
        refused(directory.path(), change, is_damaged);
    }
}

/// SQLite takes a log that was cut for one that ends there; the watermark beside it knows better.
#[test]
fn a_log_that_lost_its_end_is_refused() {
    let running = directory();
    let (mut store, _) = Store::open(running.path(), Sync::Full).expect("an empty store opens");
    for number in 1..=3 {
        store.apply(NOW, Change::PutRetained(message(number, number)));
        store.commit(NOW).expect("a sound disk takes it");
    }
    let killed = copy(running.path());
    cut(&killed.path().join("broker.sqlite-wal"), 100);
    let error = Store::open(killed.path(), Sync::Full).expect_err("a commit is gone");
    assert!(matches!(error.kind, StoreErrorKind::Behind { commits: 2, acknowledged: 3 }), "{error}");
    fs::remove_file(killed.path().join("broker.watermark")).expect("removed, as the error advises");
    let (_, stored) = Store::open(killed.path(), Sync::Full).expect("opens with what is left");
    assert_eq!(stored.retained.len(), 2);
}

#[test]
fn a_damaged_watermark_is_refused() {
    let directory = filled();
    fs::write(directory.path().join("broker.watermark"), [1; 12]).expect("written");
    let error = Store::open(directory.path(), Sync::Full).expect_err("its checksum is wrong");
    assert!(is_damaged(&error.kind), "{error}");
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A closed store with a row in every table.
fn filled() -> TempDir {
    let directory = directory();
    let (mut store, _) = Store::open(directory.path(), Sync::Full).expect("an empty store opens");
    let (session, kept) = (SessionId(1), MessageId(1));
    for change in [
        Change::PutSession(session_row(session, 1)),
        Change::PutSubscription(session, subscription("filter/1".to_owned(), 1)),
        Change::PutReceived(session, 9),
        Change::PutMessage(kept, message(0xAA, 0xAB)),
        Change::PutDelivery(
            session,
            StoredDelivery { phase: Phase::Published(3), ..delivery_row(1, kept, 1) },
        ),
        Change::PutRetained(message(0xAB, 0xAC)),
    ] {
        store.apply(NOW, change);
    }
    store.commit(NOW).expect("a sound disk takes it");
    store.close().expect("closed");
    directory
}

/// The directory as kill -9 would leave it now: the log is there, nothing was moved into the main file.
fn copy(from: &Path) -> TempDir {
    let to = directory();
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("listed");
        fs::copy(entry.path(), to.path().join(entry.file_name())).expect("copied");
    }
    to
}

fn refused(directory: &Path, what: &str, expected: impl Fn(&StoreErrorKind) -> bool) {
    match Store::open(directory, Sync::Off) {
        Ok(_) => panic!("{what} went unnoticed"),
        Err(error) => assert!(expected(&error.kind), "{what}: {error}"),
    }
}

fn is_damaged(kind: &StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Damaged(_))
}

fn sql(directory: &Path, statement: &str) {
    let connection = rusqlite::Connection::open(database(directory)).expect("SQLite opens it");
    connection.execute_batch(statement).expect("SQLite takes it");
}

/// Flips one bit of the first place in the file that holds `needle`.
fn flip(file: &Path, needle: &[u8]) {
    let content = fs::read(file).expect("read");
    let at = content.windows(needle.len()).position(|window| window == needle).expect("it is in the file");
    let mut file = OpenOptions::new().write(true).open(file).expect("opened");
    file.seek(SeekFrom::Start(at as u64)).expect("found");
    file.write_all(&[content[at] ^ 1]).expect("written");
}

fn cut(file: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(file).expect("opened");
    let length = file.metadata().expect("it has a length").len();
    file.set_len(length - bytes).expect("cut");
}

fn database(directory: &Path) -> PathBuf {
    directory.join("broker.sqlite")
}
