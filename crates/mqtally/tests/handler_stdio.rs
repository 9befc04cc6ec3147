//! `stdio`: one long-running program for all messages. The programs are in shell, which can just about take the number
//! from a line: `id=${line#*:}; id=${id%%,*}`.

#![cfg(unix)]

mod handler_support;

use handler_support::{delivery, eventually, handle, handle_all, open, read, script};
use std::path::Path;

/// A program that runs `text` for each line, with `$id` in it.
fn each_line(directory: &Path, text: &str) -> String {
    let program = format!("while read -r line; do id=${{line#*:}}; id=${{id%%,*}}; {text}; done");
    command(directory, &program)
}

fn command(directory: &Path, text: &str) -> String {
    format!("stdio:sh {}", script(directory, text).display())
}

async fn check(text: &str, expect: &str) {
    let directory = tempfile::tempdir().unwrap();
    let handler = open(&each_line(directory.path(), text), 10_000);
    assert_eq!(handle(&handler, &delivery(1, "x")).await, expect, "{text}");
}

#[tokio::test]
async fn the_answer_decides() {
    let answer = |rest: &str| format!("echo '{{\"id\":'$id',{rest}}}'");
    check(&answer(r#""outcome":"done""#), "done").await;
    check(&answer(r#""outcome":"done","error":null,"more":1"#), "done").await;
    check(&answer(r#""outcome":"retry""#), "retry: the program gave no reason").await;
    check(&answer(r#""outcome":"retry","error":"busy","retry_after_ms":1500"#), "retry in 1.5s: busy").await;
    check(
        &answer(r#""outcome":"retry","error":"busy","retry_after_ms":99999999999"#),
        "retry in 3600s: busy",
    )
    .await;
    check(&answer(r#""outcome":"dead","error":"no such customer""#), "dead: no such customer").await;
}

#[tokio::test]
async fn the_request_is_a_line_with_the_message() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let text = format!(
        "printf '%s\\n' \"$line\" >> {}; echo '{{\"id\":'$id',\"outcome\":\"done\"}}'",
        out.display()
    );
    let handler = open(&each_line(directory.path(), &text), 10_000);
    for number in [1, 2] {
        assert_eq!(handle(&handler, &delivery(number, "two\nlines")).await, "done");
    }
    let text = read(&out);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[1]["id"], &lines[1]["attempt"]), (&2.into(), &1.into()));
    assert_eq!(
        (&lines[1]["message"]["topic"], &lines[1]["message"]["payload"]),
        (&"t/2".into(), &"two\nlines".into())
    );
}

#[tokio::test]
async fn answers_come_in_any_order() {
    let directory = tempfile::tempdir().unwrap();
    // Answers a pair backwards.
    let text = "read -r other; o=${other#*:}; o=${o%%,*}
        echo '{\"id\":'$o',\"outcome\":\"dead\",\"error\":\"second\"}'
        echo '{\"id\":'$id',\"outcome\":\"dead\",\"error\":\"first\"}'";
    let handler = open(&each_line(directory.path(), text), 10_000);
    let outcomes = handle_all(handler, vec![delivery(1, ""), delivery(2, "")]).await;
    assert_eq!(outcomes, ["dead: first", "dead: second"]);
}

#[tokio::test]
async fn a_program_that_ends_is_started_again_and_its_messages_are_retried() {
    let directory = tempfile::tempdir().unwrap();
    let runs = directory.path().join("runs");
    let text = format!(
        "echo run >> {}; read -r line; echo '{{\"id\":1,\"outcome\":\"done\"}}'; read -r line; echo broken >&2; exit 3",
        runs.display()
    );
    let handler = open(&command(directory.path(), &text), 10_000);
    assert_eq!(handle(&handler, &delivery(1, "")).await, "done");
    let outcome = handle(&handler, &delivery(2, "")).await;
    assert_eq!(outcome, "retry: the program did not answer; it ended (exit status 3): broken");
    // It asks with an id that this program does not answer; what counts is that it runs again.
    let outcome = handle(&handler, &delivery(3, "")).await;
    assert!(
        outcome.starts_with("retry: the program did not answer; killed, because it answered id 1"),
        "{outcome}"
    );
    assert_eq!(read(&runs).lines().count(), 2);
}

#[tokio::test]
async fn a_program_that_cannot_start_is_a_retry_that_says_why() {
    let handler = open("stdio:/nowhere/worker", 10_000);
    let outcome = handle(&handler, &delivery(1, "")).await;
    assert!(
        outcome.starts_with("retry: the program did not answer; it ended (exit status 127): "),
        "{outcome}"
    );
}

#[tokio::test]
async fn what_is_no_answer_ends_the_program() {
    for (text, why) in [
        ("echo hello", "killed, because \"hello\" is no answer: "),
        ("echo '{\"id\":'$id'}'", "is no answer: missing field `outcome`"),
        (
            "echo '{\"id\":'$id',\"outcome\":\"ok\"}'",
            "unknown variant `ok`, expected one of `done`, `retry`, `dead`",
        ),
        ("echo '{\"id\":99,\"outcome\":\"done\"}'", "it answered id 99, which was not asked"),
        ("yes | tr -d '\\n'", "an answer has more than 65536 bytes"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let handler = open(&each_line(directory.path(), text), 10_000);
        let outcome = handle(&handler, &delivery(1, "x")).await;
        assert!(outcome.starts_with("retry: ") && outcome.contains(why), "{text}: {outcome}");
    }
}

#[tokio::test]
async fn a_program_that_does_not_answer_in_time_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let text = "echo thinking >&2; sleep 600 & wait";
    let handler = open(&each_line(directory.path(), text), 300);
    let outcome = handle(&handler, &delivery(1, "x")).await;
    let expect =
        "retry: the program did not answer; killed, because an answer took too long (signal 9): thinking";
    assert_eq!(outcome, expect);
}

#[tokio::test]
async fn a_program_that_does_not_read_is_killed_and_does_not_block_us() {
    let directory = tempfile::tempdir().unwrap();
    let handler = open(&command(directory.path(), "sleep 600"), 300);
    let outcome = handle(&handler, &delivery(1, vec![b'x'; 4 << 20])).await;
    assert!(outcome.contains("an answer took too long"), "{outcome}");
}

#[tokio::test]
async fn closing_lets_it_finish_and_later_messages_are_retried() {
    let directory = tempfile::tempdir().unwrap();
    let [got, out] = ["got", "out"].map(|name| directory.path().join(name));
    let text = format!("head -n 1 > {}; cat > /dev/null; echo finished > {}", got.display(), out.display());
    let handler = std::sync::Arc::new(open(&command(directory.path(), &text), 10_000));
    let waiting = tokio::spawn({
        let handler = std::sync::Arc::clone(&handler);
        async move { handle(&handler, &delivery(1, "")).await }
    });
    eventually(|| !read(&got).is_empty()).await;
    handler.close().await;
    assert_eq!(read(&out), "finished\n");
    let outcome = waiting.await.unwrap();
    assert!(outcome.starts_with("retry: the program did not answer; the handler was closed"), "{outcome}");
    assert_eq!(handle(&handler, &delivery(2, "")).await, "retry: the handler was closed");
}

#[tokio::test]
async fn dropping_the_handler_ends_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let text = format!(
        "read -r line; echo '{{\"id\":1,\"outcome\":\"done\"}}'; cat > /dev/null; echo finished > {}",
        out.display()
    );
    let handler = open(&command(directory.path(), &text), 10_000);
    assert_eq!(handle(&handler, &delivery(1, "")).await, "done");
    drop(handler);
    eventually(|| read(&out) == "finished\n").await;
}
