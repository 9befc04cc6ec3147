//! What the handlers' tests share.

#![allow(dead_code, reason = "each test file uses its own part")]

use mqtally::handler::{Handler, Options, Spec};
use mqtally::inbox::{Delivery, Outcome};
use mqtally_proto::Time;
use mqtally_proto::packet::{Properties, Qos};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The message with this number: its key, and the end of its topic.
pub(crate) fn delivery(number: u64, payload: impl AsRef<[u8]>) -> Delivery {
    Delivery {
        sequence: number,
        attempt: 1,
        fence: 1,
        topic: format!("t/{number}").into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: Properties::default(),
        payload: payload.as_ref().to_vec().into(),
        key: Some(number.to_string()),
        replay: 0,
        received_at: Time::from_ms(1_000),
    }
}

/// The handler that is typed like this, with little time.
pub(crate) fn open(spec: &str, time_max_ms: u64) -> Handler {
    open_with(spec, &Options { time_max: Duration::from_millis(time_max_ms), ..Options::default() })
}

pub(crate) fn open_with(spec: &str, options: &Options) -> Handler {
    spec.parse::<Spec>().unwrap().open(options).unwrap()
}

/// Why it does not start.
pub(crate) fn refused(spec: &str, options: &Options) -> String {
    spec.parse::<Spec>().unwrap().open(options).unwrap_err().to_string()
}

/// An outcome in short: `done`, `retry: why`, `retry in 2s: why`, `dead: why`.
pub(crate) fn short(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done => "done".into(),
        Outcome::DoneWith(_) | Outcome::DoneWithStatements(_) => "done with an effect".into(),
        Outcome::Retry { after: None, error } => format!("retry: {error}"),
        Outcome::Retry { after: Some(after), error } => format!("retry in {after:?}: {error}"),
        Outcome::DeadLetter { error } => format!("dead: {error}"),
    }
}

pub(crate) async fn handle(handler: &Handler, delivery: &Delivery) -> String {
    short(&handler.handle(delivery).await)
}

/// All at once; the outcomes in the order of the deliveries.
pub(crate) async fn handle_all(handler: Handler, deliveries: Vec<Delivery>) -> Vec<String> {
    let handler = std::sync::Arc::new(handler);
    let tasks: Vec<_> = deliveries
        .into_iter()
        .map(|delivery| {
            let handler = std::sync::Arc::clone(&handler);
            tokio::spawn(async move { handle(&handler, &delivery).await })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    outcomes
}

/// A script in `directory` with this text.
pub(crate) fn script(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("script.sh");
    std::fs::write(&path, text).unwrap();
    path
}

pub(crate) fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Waits until `what` holds, for at most ten seconds.
pub(crate) async fn eventually(what: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen within ten seconds");
}
