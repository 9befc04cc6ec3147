//! The `postgres://` handler in another database than the inbox's, and what it makes of tables.

use crate::inbox_support::{accept, message, next};
use crate::laws::{open, settings};
use crate::postgres_support::Server;
use mqtally::handler::{Handler, Options, Spec};
use mqtally::inbox::{Delivery, Outcome};

fn opened(typed: &str, options: &Options) -> Handler {
    typed.parse::<Spec>().unwrap().open(options).unwrap()
}

async fn delivery(server: &Server, payload: &str) -> Delivery {
    let inbox = open(server, "a", settings());
    accept(&inbox, message("k'1", payload)).await;
    let delivery = next(&inbox).await;
    inbox.close().await;
    delivery
}

#[tokio::test]
async fn a_message_that_comes_again_has_no_second_row_in_another_database() {
    let Some(server) = Server::start() else { return };
    let delivery = delivery(&server, "21.5").await;
    let handler = opened(&server.table_url("readings"), &Options::default());
    for _ in 0..2 {
        assert!(matches!(handler.handle(&delivery).await, Outcome::Done));
    }
    let row =
        "SELECT key || ' ' || topic || ' ' || qos || ' ' || convert_from(payload, 'UTF8') FROM readings";
    assert_eq!(server.value(row), "k'1 t 1 21.5");
    assert_eq!(server.value("SELECT received_at AT TIME ZONE 'UTC' FROM readings"), "1970-01-01 00:16:40");
}

#[tokio::test]
async fn columns_of_a_table_that_is_there_take_their_own_types_and_bad_rows_are_dead() {
    let Some(server) = Server::start() else { return };
    server.value("CREATE TABLE typed(seq numeric, payload double precision NOT NULL, topic varchar(3), own int DEFAULT 7)");
    let good = delivery(&server, "21.5").await;
    let handler = opened(&server.table_url("typed"), &Options::default());
    let bad = Delivery { payload: "hot".into(), sequence: 2, key: None, ..good.clone() };
    let worse = Delivery { payload: vec![0xff].into(), sequence: 3, key: None, ..good.clone() };
    let (a, b, c) = tokio::join!(handler.handle(&good), handler.handle(&bad), handler.handle(&worse));
    assert!(matches!(a, Outcome::Done), "{a:?}");
    assert!(matches!(&b, Outcome::DeadLetter { error } if error.contains("double precision")), "{b:?}");
    assert!(matches!(&c, Outcome::DeadLetter { .. }), "{c:?}");
    assert_eq!(server.value("SELECT payload || ' ' || topic || ' ' || own FROM typed"), "21.5 t 7");
}

#[tokio::test]
async fn in_the_inboxs_own_database_the_row_is_an_effect() {
    let Some(server) = Server::start() else { return };
    let delivery = delivery(&server, "x").await;
    let options = Options { shared_store: Some(server.url("inbox").parse().unwrap()), ..Options::default() };
    let handler = opened(&server.table_url("readings"), &options);
    assert!(matches!(handler.handle(&delivery).await, Outcome::DoneWithStatements(_)));
    let own = server.url("inbox") + "&table=inbox";
    let refused = own.parse::<Spec>().unwrap().open(&options).unwrap_err().to_string();
    assert!(refused.contains("the schema is the inbox's own"), "{refused}");
}
