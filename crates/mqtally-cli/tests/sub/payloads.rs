//! Payloads and topics that nobody asked for.

use crate::bench::{Bench, Running, eventually, message};
use crate::hook::Hook;

/// Answers each request with `done`, and keeps the requests in `stdio.out`.
/// The shell itself would read a long line byte by byte.
const WORKER: &str = r#"tee -a stdio.out | grep --line-buffered -o '^{"id":[0-9]*' |
while read -r asked; do printf '%s,"outcome":"done"}\n' "$asked"; done"#;

/// A huge payload, and a larger one for handlers that hand it on: a build without optimisation takes its time over each byte.
const HUGE_BYTES: usize = 8 << 20;
const HUGEST_BYTES: usize = 32 << 20;

fn huge(handler: &str) -> usize {
    if matches!(handler, "exec" | "stdio" | "hook") { HUGEST_BYTES } else { HUGE_BYTES }
}

const HANDLERS: [&str; 6] = ["print", "jsonl", "exec", "stdio", "hook", "sqlite"];

/// A subscriber with every local handler, each with a topic of its own.
fn with_every_handler(bench: &Bench, hook: &Hook, format: &str) -> Running {
    let on = [
        "+/print=print".to_owned(),
        "+/jsonl=jsonl:out.jsonl".to_owned(),
        "+/exec=exec:cat > exec.out; printf %s \"$MQTALLY_TOPIC\" > exec.topic".to_owned(),
        format!("+/stdio=stdio:{WORKER}"),
        format!("+/hook={}", hook.url),
        "+/sqlite=sqlite:s.sub?table=effect".to_owned(),
    ];
    let more: Vec<&str> = on.iter().flat_map(|on| ["--on", on]).collect();
    bench.sub(&format!("-t # --format {format} --count 6 --retries 0"), &more)
}

fn publish_to_all(bench: &Bench, level: &str, payload: &[u8]) {
    let messages = HANDLERS.map(|handler| message(&format!("{level}/{handler}"), payload.to_vec()));
    bench.publish(messages.to_vec());
}

fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn what_has_no_key_is_processed_each_time_it_comes() {
    let bench = Bench::new();
    let running = bench.sub("-t # --dedup-key /id --count 7", &[]);
    let payloads = ["no JSON", "{\"other\":1}", "{\"id\":1.5}", "{\"id\":7}"];
    bench.publish(payloads.iter().chain(&payloads).map(|payload| message("t", *payload)).collect());
    let ended = running.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let printed = String::from_utf8(ended.stdout).expect("UTF-8");
    assert_eq!(printed.matches("no JSON").count(), 2, "{printed}");
    assert_eq!(printed.matches("{\"id\":7}").count(), 1, "{printed}");
    assert_eq!(bench.count("SELECT published_again FROM tally"), 1);
}

#[test]
fn bytes_that_are_no_utf_8_reach_every_handler_as_they_are() {
    let (bench, hook) = (Bench::new(), Hook::start(200));
    let payload = b"\xff\xfe\x00\x80\n{\xc3\x28}";
    let running = with_every_handler(&bench, &hook, "payload");
    publish_to_all(&bench, "t", payload);
    let ended = running.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(bench.count("SELECT count(*) FROM dead"), 0);

    assert_eq!(ended.stdout, [&payload[..], b"\n"].concat());
    assert_eq!(bench.bytes("exec.out"), payload);
    assert_eq!(hook.requests()[0].body, payload);
    assert_eq!(bench.count("SELECT payload = x'fffe00800a7bc3287d' FROM effect"), 1);
    let encoded = "//4AgAp7wyh9";
    assert_eq!(json_lines(&bench.text("out.jsonl"))[0]["payload_base64"], encoded);
    assert_eq!(json_lines(&bench.text("stdio.out"))[0]["message"]["payload_base64"], encoded);
}

#[test]
fn every_legal_character_of_a_topic_arrives_and_does_nothing_else() {
    let (bench, hook) = (Bench::new(), Hook::start(200));
    // A shell, a path, a header, a terminal, a format string, SQL and XML would each take some of these for theirs.
    let level = "a$(touch shell)`touch shell`;touch shell|&<>'\"\\ \t..%2F%s\r\nX-Evil: 1\u{1}\u{1b}[31m\u{7f}é\u{feff}\u{1F600}{}[]#"
        .replace('#', "~");
    let running = with_every_handler(&bench, &hook, "json");
    publish_to_all(&bench, &level, b"x");
    let ended = running.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(bench.count("SELECT count(*) FROM dead"), 0);

    let topic = |handler: &str| format!("{level}/{handler}");
    let printed = String::from_utf8(ended.stdout).expect("UTF-8");
    assert_eq!(json_lines(&printed)[0]["topic"], topic("print"));
    assert_eq!(json_lines(&bench.text("out.jsonl"))[0]["topic"], topic("jsonl"));
    assert_eq!(bench.text("exec.topic"), topic("exec"));
    assert_eq!(json_lines(&bench.text("stdio.out"))[0]["message"]["topic"], topic("stdio"));
    let request = hook.requests()[0].clone();
    assert_eq!(request.header("x-evil"), None);
    let subject = request.header("ce-subject").expect("a subject");
    assert_eq!(percent_decoded(subject), topic("hook"));
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = rusqlite::Connection::open_with_flags(bench.path("s.sub"), flags).expect("there");
    let found: String =
        connection.query_row("SELECT topic FROM effect", [], |row| row.get(0)).expect("a row");
    assert_eq!(found, topic("sqlite"));
    assert!(!bench.path("shell").exists(), "a topic ran as a command");
}

fn percent_decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("digits"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn the_longest_topic_reaches_a_program() {
    let bench = Bench::new();
    let running =
        bench.sub("-t # --count 1", &["--handler", "exec:printf %s \"$MQTALLY_TOPIC\" | wc -c > length"]);
    bench.publish(vec![message(&"t".repeat(65_535), "x")]);
    assert_eq!(running.ended().code, Some(0));
    assert_eq!(bench.text("length").trim(), "65535");
}

#[test]
fn a_huge_message_reaches_every_handler_in_bounded_memory() {
    let (bench, hook) = (Bench::new(), Hook::start(200));
    let on = [
        "+/jsonl=jsonl:out.jsonl".to_owned(),
        "+/exec=exec:wc -c > exec.out".to_owned(),
        "+/stdio=stdio:".to_owned() + WORKER,
        format!("+/hook={}", hook.url),
        "+/sqlite=sqlite:s.sub?table=effect".to_owned(),
    ];
    let more: Vec<&str> = on.iter().flat_map(|on| ["--on", on]).collect();
    let running = bench.sub("-t # --retries 0 --handler-timeout 60s --format payload", &more);
    for (handler, number) in HANDLERS.into_iter().zip(1..) {
        let bytes = huge(handler);
        bench.publish(vec![message(&format!("t/{handler}"), vec![b'x'; bytes])]);
        eventually(handler, || bench.count("SELECT processed FROM tally") == number);
    }
    let peak = running.memory_peak();
    let ended = running.terminate();
    assert_eq!((ended.code, ended.stdout.len()), (Some(0), HUGE_BYTES + 1));
    assert_eq!(json_lines(&bench.text("out.jsonl"))[0]["payload"].as_str().map(str::len), Some(HUGE_BYTES));
    assert_eq!(bench.text("exec.out").trim(), HUGEST_BYTES.to_string());
    assert_eq!(hook.requests()[0].body.len(), HUGEST_BYTES);
    let asked = &json_lines(&bench.text("stdio.out"))[0]["message"];
    assert_eq!(asked["payload"].as_str().map(str::len), Some(HUGEST_BYTES));
    assert_eq!(bench.count("SELECT length(payload) FROM effect"), HUGE_BYTES as i64);
    if let Some(peak) = peak {
        // Four to eight copies were seen: the next one is read while the last one is synced and handled.
        assert!(peak < 12 * HUGEST_BYTES as u64, "{} MB", peak >> 20);
    }
}

/// What had been read and was not stored yet grew with the number of messages: as fast as the broker sent them.
#[test]
fn many_huge_messages_are_read_no_faster_than_they_are_stored() {
    let bench = Bench::new();
    bench.leave_session("-t #");
    for number in 0..10 {
        bench.publish(vec![message(&format!("t/{number}"), vec![b'x'; HUGE_BYTES])]);
    }
    let running = bench.start("-t # --dedup-key none", &["--handler", "exec:wc -c"]);
    eventually("all are stored", || bench.count("SELECT received FROM tally") == 10);
    if let Some(peak) = running.memory_peak() {
        // Without a bound it was 24 times a message.
        assert!(peak < 16 * HUGE_BYTES as u64, "{} MB", peak >> 20);
    }
}
