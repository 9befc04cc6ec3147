//! `print` and `jsonl`.

mod handler_support;

use handler_support::{delivery, eventually, handle, handle_all, open, open_with, read, refused};
use mqtally::handler::{Format, Options, Printer};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn printing(writer: impl Write + Send + 'static, format: Format, time_max: Duration) -> Options {
    Options { printer: Some(Printer::new(writer, format, time_max).unwrap()), ..Options::default() }
}

async fn printed(format: Format) -> Vec<u8> {
    let shared = Shared::default();
    let handler = open_with("print", &printing(shared.clone(), format, Duration::from_secs(10)));
    assert_eq!(handle(&handler, &delivery(1, b"x\xff")).await, "done");
    shared.0.lock().unwrap().clone()
}

#[tokio::test]
async fn a_printed_line_is_the_payload_the_topic_and_payload_or_json() {
    assert_eq!(printed("payload".parse().unwrap()).await, b"x\xff\n");
    assert_eq!(printed("topic".parse().unwrap()).await, b"t/1 x\xff\n");
    let json = String::from_utf8(printed("json".parse().unwrap()).await).unwrap();
    assert!(
        json.starts_with(
            r#"{"topic":"t/1","qos":1,"retain":false,"payload_base64":"eP8=","key":"1","id":"1."#
        )
    );
    assert!("xml".parse::<Format>().unwrap_err().contains("use payload, topic or json"));
}

#[tokio::test]
async fn a_writer_that_blocks_or_fails_is_a_retry() {
    struct Stuck(mpsc::Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (sender, receiver) = mpsc::channel();
    let handler = open_with("print", &printing(Stuck(receiver), Format::Topic, Duration::from_millis(50)));
    assert_eq!(handle(&handler, &delivery(1, "x")).await, "retry: not written within 50ms");
    drop(sender);
    let failing = Stuck(mpsc::channel().1);
    let handler = open_with("print", &printing(failing, Format::Topic, Duration::from_secs(10)));
    assert_eq!(handle(&handler, &delivery(2, "x")).await, "retry: cannot print: broken pipe");
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_written() {
    struct Held(Arc<AtomicBool>, mpsc::Receiver<()>, Shared);
    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.store(true, SeqCst);
            let _ = self.1.recv();
            self.2.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let ((sender, receiver), shared) = (mpsc::channel(), Shared::default());
    let writing = Arc::<AtomicBool>::default();
    let writer = Held(writing.clone(), receiver, shared.clone());
    let handler = open_with("print", &printing(writer, Format::Payload, Duration::from_secs(10)));
    // The first is being written, the second is queued behind it, when both are given up.
    for number in [1, 2] {
        let message = delivery(number, number.to_string());
        tokio::select! {
            biased;
            outcome = handler.handle(&message) => panic!("{outcome:?}"),
            () = eventually(|| writing.load(SeqCst)) => {}
        }
    }
    drop(sender);
    assert_eq!(handle(&handler, &delivery(3, "3")).await, "done");
    assert_eq!(*shared.0.lock().unwrap(), b"1\n3\n");
}

fn jsonl(path: &Path) -> String {
    format!("jsonl:{}", path.display())
}

#[tokio::test]
async fn a_message_is_a_line_and_the_file_is_appended_to() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    for number in [1, 2] {
        let handler = open(&jsonl(&path), 10_000);
        assert_eq!(handle(&handler, &delivery(number, "two\nlines")).await, "done");
        drop(handler);
        // The lock goes with the writer's thread.
        handler_support::eventually(|| unlocked(&path)).await;
    }
    let lines: Vec<serde_json::Value> =
        read(&path).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["topic"], "t/2");
    assert_eq!(lines[1]["payload"], "two\nlines");
    assert_eq!(lines[1]["received_at"], "1970-01-01T00:00:01.000Z");
}

fn unlocked(path: &Path) -> bool {
    std::fs::File::open(path).unwrap().try_lock().is_ok()
}

#[tokio::test]
async fn many_at_once_are_all_written_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    let deliveries = (0..3_000).map(|number| delivery(number, "x".repeat(100))).collect();
    let outcomes = handle_all(open(&jsonl(&path), 30_000), deliveries).await;
    assert!(outcomes.iter().all(|outcome| outcome == "done"));
    let text = read(&path);
    let topics: std::collections::BTreeSet<&str> =
        text.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
    assert_eq!((topics.len(), text.lines().count()), (3_000, 3_000));
}

async fn check_repair(before: &[u8], expect: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    std::fs::write(&path, before).unwrap();
    let handler = open(&jsonl(&path), 10_000);
    assert_eq!(handle(&handler, &delivery(7, "new")).await, "done");
    let text = read(&path);
    let (kept, new) = text.split_at(text.rfind(r#"{"topic":"t/7""#).unwrap());
    assert_eq!(kept, expect);
    assert!(new.ends_with("}\n"));
}

#[tokio::test]
async fn a_torn_last_line_of_ours_is_cut_and_any_other_is_completed() {
    check_repair(b"", "").await;
    check_repair(b"{\"a\":1}\n", "{\"a\":1}\n").await;
    check_repair(b"{\"a\":1}\n{\"topic\":\"x\",\"pay", "{\"a\":1}\n").await;
    check_repair(b"{\"a\":1}\n{\"to", "{\"a\":1}\n").await;
    check_repair(b"{\"topic\":\"torn", "").await;
    check_repair(b"{\"topic\":\"x\"}", "{\"topic\":\"x\"}\n").await;
    check_repair(b"notes of a person", "notes of a person\n").await;
    let long = [b"{\"a\":1}\n{\"topic\":\"".to_vec(), vec![b'x'; 200_000]].concat();
    check_repair(&long, "{\"a\":1}\n").await;
}

#[tokio::test]
async fn a_file_has_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out.jsonl");
    let _first = open(&jsonl(&path), 1_000);
    let message = refused(&jsonl(&path), &Options::default());
    assert!(message.contains("another process writes to it"), "{message}");
    let message = refused("jsonl:/nowhere/x.jsonl", &Options::default());
    assert!(message.starts_with("/nowhere/x.jsonl: cannot open it: "), "{message}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_device_is_a_retry() {
    let handler = open("jsonl:/dev/full", 10_000);
    let outcome = handle(&handler, &delivery(1, "x")).await;
    assert!(outcome.starts_with("retry: cannot append: "), "{outcome}");
}
