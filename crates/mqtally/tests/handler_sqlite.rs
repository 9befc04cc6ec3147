//! `sqlite`: a row for each message, in a database of its own or in the inbox's transaction.

mod handler_support;

use handler_support::{delivery, handle, handle_all, open, open_with, refused};
use mqtally::handler::Options;
use mqtally::inbox::{Arrival, Inbox, Outcome, Settings, SettleError};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self) -> PathBuf {
        self.0.path().join("out.db")
    }
    fn spec(&self, table: &str) -> String {
        format!("sqlite:{}?table={table}", self.path().display())
    }
    fn connection(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
    /// What a query gives, as text.
    fn ask(&self, sql: &str) -> String {
        ask(&self.path(), sql)
    }
}

fn ask(path: &Path, sql: &str) -> String {
    let connection = Connection::open(path).unwrap();
    connection.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).unwrap().unwrap_or_default()
}

#[tokio::test]
async fn the_table_is_made_and_holds_the_message() {
    let place = Place::new();
    let handler = open(&place.spec("readings"), 10_000);
    let mut message = delivery(7, "21.5");
    message.key = Some("[\"p\",\"7\"]".into());
    assert_eq!(handle(&handler, &message).await, "done");
    let sql = "SELECT sql FROM sqlite_schema WHERE name = 'readings'";
    let columns =
        "(seq INTEGER PRIMARY KEY, key TEXT, topic TEXT, qos INTEGER, payload BLOB, received_at TEXT)";
    assert_eq!(place.ask(sql), format!("CREATE TABLE \"readings\"{columns}"));
    let sql = "SELECT concat_ws('|', seq, key, topic, qos, typeof(payload), CAST(payload AS TEXT), received_at) FROM readings";
    assert_eq!(place.ask(sql), "1|[\"p\",\"7\"]|t/7|1|blob|21.5|1970-01-01T00:00:01.000Z");
}

#[tokio::test]
async fn a_message_that_comes_again_has_no_second_row_and_another_message_has() {
    let place = Place::new();
    let first = delivery(7, "21.5");
    for _ in 0..2 {
        // Opened again each time: what it remembers is on disk.
        let handler = open(&place.spec("t"), 10_000);
        for attempt in 1..=2 {
            assert_eq!(
                handle(&handler, &mqtally::inbox::Delivery { attempt, ..first.clone() }).await,
                "done"
            );
        }
    }
    assert_eq!(place.ask("SELECT CAST(count(*) AS TEXT) FROM t"), "1");
    let handler = open(&place.spec("t"), 10_000);
    let other_body = delivery(7, "21.6");
    let other_topic = mqtally::inbox::Delivery { topic: "u".into(), ..first.clone() };
    let replay = mqtally::inbox::Delivery { replay: 1, ..first.clone() };
    let keyless = mqtally::inbox::Delivery { key: None, ..first.clone() };
    let later = mqtally::inbox::Delivery { sequence: 8, ..keyless.clone() };
    for message in [other_body, other_topic, replay, keyless.clone(), keyless, later] {
        assert_eq!(handle(&handler, &message).await, "done");
    }
    assert_eq!(place.ask("SELECT CAST(count(*) AS TEXT) FROM t"), "6");
}

#[tokio::test]
async fn only_the_columns_that_a_table_has_are_filled() {
    let place = Place::new();
    let sql =
        "CREATE TABLE \"odd \"\"name\"\"\"(extra TEXT DEFAULT 'd', PAYLOAD TEXT, Topic TEXT, seq INTEGER)";
    place.connection().execute_batch(sql).unwrap();
    let handler = open(&place.spec("odd \"name\""), 10_000);
    assert_eq!(handle(&handler, &delivery(7, "21.5")).await, "done");
    assert_eq!(handle(&handler, &delivery(8, b"\xff")).await, "done");
    let sql =
        "SELECT group_concat(concat_ws('|', extra, typeof(payload), topic, seq)) FROM \"odd \"\"name\"\"\"";
    assert_eq!(place.ask(sql), "d|text|t/7|7,d|blob|t/8|8");
}

#[tokio::test]
async fn a_row_that_the_table_cannot_take_is_a_dead_letter_and_costs_nobody_else() {
    let place = Place::new();
    place.connection().execute_batch("CREATE TABLE t(payload TEXT CHECK (payload <> '5'))").unwrap();
    let handler = open(&place.spec("t"), 10_000);
    let outcomes = handle_all(handler, (0..20).map(|n| delivery(n, n.to_string())).collect()).await;
    assert_eq!(outcomes[5], "dead: CHECK constraint failed: payload <> '5'");
    assert_eq!(outcomes.iter().filter(|outcome| *outcome == "done").count(), 19);
    assert_eq!(place.ask("SELECT CAST(count(*) AS TEXT) FROM t"), "19");
    // Its mark went with it: put right, it can come again.
    place.connection().execute_batch("DROP TABLE t").unwrap();
    let handler = open(&place.spec("t"), 10_000);
    assert_eq!(handle(&handler, &delivery(5, "5")).await, "done");
    assert_eq!(place.ask("SELECT CAST(count(*) AS TEXT) FROM t"), "1");
}

#[tokio::test]
async fn a_table_without_any_of_the_columns_is_a_dead_letter_that_says_so() {
    let place = Place::new();
    place.connection().execute_batch("CREATE TABLE t(a)").unwrap();
    let outcome = handle(&open(&place.spec("t"), 10_000), &delivery(1, "")).await;
    let expect = "dead: the table has none of the columns seq, key, topic, qos, payload, received_at; name another table";
    assert_eq!(outcome, expect);
}

#[tokio::test]
async fn a_locked_database_is_a_retry_and_goes_on_afterwards() {
    let place = Place::new();
    let handler = open(&place.spec("t"), 400);
    let other = place.connection();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_eq!(handle(&handler, &delivery(1, "")).await, "retry: somebody else has the database locked");
    other.execute_batch("COMMIT").unwrap();
    assert_eq!(handle(&handler, &delivery(1, "")).await, "done");
}

#[test]
fn what_is_no_database_is_refused() {
    let place = Place::new();
    std::fs::write(
        place.path(),
        "something else entirely, and long enough to be looked at as a database header........",
    )
    .unwrap();
    let message = refused(&place.spec("t"), &Options::default());
    assert!(message.ends_with("out.db: is no SQLite database; name another file"), "{message}");
    let message = refused("sqlite:/nowhere/x.db?table=t", &Options::default());
    assert_eq!(message, "/nowhere/x.db: cannot be opened; check that its directory is there");
}

#[tokio::test]
async fn in_the_inboxs_file_the_row_commits_with_the_done_mark() {
    let place = Place::new();
    let (inbox, _) = Inbox::open(&place.path(), Settings::default()).unwrap();
    let options = Options { store: Some(place.path()), ..Options::default() };
    let handler = open_with(&place.spec("t"), &options);
    for payload in ["1", "2"] {
        inbox
            .accept(Arrival { topic: "a".into(), payload: payload.into(), ..Arrival::default() })
            .await
            .unwrap();
    }
    let deliveries = inbox.claim(0, 2).await.unwrap();
    let outcome = handler.handle(&deliveries[0]).await;
    assert!(matches!(outcome, Outcome::DoneWith(_)));
    assert_eq!(inbox.settle(deliveries[0].lease(), outcome).await.unwrap(), Ok(()));
    // A lease that is not there any more leaves no row.
    let outcome = handler.handle(&deliveries[0]).await;
    assert_eq!(inbox.settle(deliveries[0].lease(), outcome).await.unwrap(), Err(SettleError::Fenced));
    assert_eq!(inbox.statistics().await.unwrap().unsettled, 1);
    inbox.close().await;
    assert_eq!(
        place.ask("SELECT group_concat(concat_ws('|', seq, topic, CAST(payload AS TEXT))) FROM t"),
        "1|a|1"
    );
}

#[tokio::test]
async fn a_row_that_fails_in_the_inboxs_transaction_leaves_the_message_unsettled() {
    let place = Place::new();
    let (inbox, _) = Inbox::open(&place.path(), Settings::default()).unwrap();
    place.connection().execute_batch("CREATE TABLE t(payload TEXT CHECK (payload <> '5'))").unwrap();
    let options = Options { store: Some(place.path()), ..Options::default() };
    let handler = open_with(&place.spec("t"), &options);
    inbox.accept(Arrival { topic: "a".into(), payload: "5".into(), ..Arrival::default() }).await.unwrap();
    let delivery = inbox.claim(0, 1).await.unwrap().remove(0);
    let outcome = handler.handle(&delivery).await;
    let settled = inbox.settle(delivery.lease(), outcome).await.unwrap();
    assert!(
        matches!(&settled, Err(SettleError::Effect(why)) if why.contains("CHECK constraint")),
        "{settled:?}"
    );
    assert_eq!(inbox.statistics().await.unwrap().unsettled, 1);
}

#[tokio::test]
async fn the_inboxs_own_tables_and_other_stores_are_refused() {
    let place = Place::new();
    let (inbox, _) = Inbox::open(&place.path(), Settings::default()).unwrap();
    let options = Options { store: Some(place.path()), ..Options::default() };
    let tables = place.ask(
        "SELECT group_concat(name) FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    );
    assert!(tables.split(',').count() >= 8, "{tables}");
    for table in tables.split(',') {
        let message = refused(&place.spec(&table.to_uppercase()), &options);
        assert!(message.ends_with("is the inbox's own; use another name"), "{message}");
    }
    let message = refused(&place.spec("t"), &Options::default());
    assert!(
        message.ends_with("is a store of mqtally, but not this subscriber's inbox; name another file"),
        "{message}"
    );
    inbox.close().await;
}

#[tokio::test]
async fn the_inboxs_file_is_known_by_whatever_path() {
    let place = Place::new();
    let (inbox, _) = Inbox::open(&place.path(), Settings::default()).unwrap();
    let options = Options { store: Some(place.path()), ..Options::default() };
    let round_about = place.0.path().join("..").join(place.0.path().file_name().unwrap()).join("out.db");
    let handler = open_with(&format!("sqlite:{}?table=t", round_about.display()), &options);
    assert!(matches!(handler.handle(&delivery(1, "")).await, Outcome::DoneWith(_)));
    inbox.close().await;
}
