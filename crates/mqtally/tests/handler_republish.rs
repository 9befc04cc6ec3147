//! `mqtt://…`: done is what the outbox has. What the other broker gets is tested with real ones, beside the program.

mod handler_support;

use handler_support::{delivery, handle, open_with, refused};
use mqtally::handler::{Observer, Options};
use mqtally::outbox;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn options(&self) -> Options {
        Options { store: Some(self.0.path().join("s.sub")), ..Options::default() }
    }

    fn outbox(&self) -> PathBuf {
        self.0.path().join("s.sub.outbox")
    }
}

/// Nobody listens there.
const NOBODY: &str = "mqtt://127.0.0.1:1";

#[tokio::test]
async fn done_means_that_it_is_on_the_disk_wherever_the_broker_is() {
    let place = Place::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let observer = Observer::new(move |line| heard.lock().unwrap().push(line.to_owned()));
    let handler = open_with(NOBODY, &Options { observer: Some(observer), ..place.options() });
    for number in 0..3 {
        assert_eq!(handle(&handler, &delivery(number, "x")).await, "done");
        assert_eq!(outbox::look(&place.outbox(), 0).unwrap().0.rows, number + 1);
    }
    handler_support::eventually(|| !told.lock().unwrap().is_empty()).await;
    handler.close().await;
    assert!(told.lock().unwrap()[0].contains("messages are kept in the outbox"));
    assert!(handle(&handler, &delivery(4, "x")).await.starts_with("retry: "));
    let again = open_with(NOBODY, &place.options());
    assert_eq!(handle(&again, &delivery(5, "x")).await, "done", "it lets go of the outbox");
}

#[tokio::test]
async fn a_topic_that_is_too_long_with_its_prefix_is_a_dead_letter() {
    let place = Place::new();
    let handler = open_with(&format!("{NOBODY}?prefix=plant7/"), &place.options());
    let mut long = delivery(1, "x");
    long.topic = "t".repeat(65_530).into();
    assert!(handle(&handler, &long).await.starts_with("dead: its topic with the prefix "));
}

#[tokio::test]
async fn it_needs_an_outbox_of_its_own() {
    let place = Place::new();
    assert_eq!(
        refused(NOBODY, &Options::default()),
        "a broker as handler needs an outbox; add ?outbox=FILE to its URL"
    );
    let _first = open_with(NOBODY, &place.options());
    let error = refused("mqtt://127.0.0.1:2", &place.options());
    assert!(error.ends_with("add ?outbox=FILE to this one's URL"), "{error}");
}

#[test]
fn it_needs_a_runtime() {
    let error = refused(NOBODY, &Place::new().options());
    assert_eq!(error, "a broker as handler needs a tokio runtime; open it inside of one");
}
