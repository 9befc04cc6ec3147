//! `mqtally pub` and `mqtally outbox` where the broker, the input, the disk or the user is not what it should be.

use crate::program::{Ended, Program};
use crate::publishing::{NOBODY, with_input};
use bytes::BytesMut;
use mqtally_proto::packet::{
    Ack, Connack, Connect, Decoder, Packet, Properties, Property, Publish, Qos, ReasonCode, Version, encode,
};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

/// A broker that does as it is told: a payload `0x97` is refused with that reason.
struct Broker {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    connects: Vec<Connect>,
    taken: Vec<Publish>,
}

impl Broker {
    /// With these limits in its CONNACKs, refusing or not.
    fn start(limits: &[Property], refuses: bool) -> Broker {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (seen, limits) = (Arc::<Mutex<Seen>>::default(), Properties(limits.to_vec()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, &shared, &limits, refuses); // a client that goes away is no failure
            }
        });
        Broker { port, seen }
    }

    fn publish(&self, program: &Program, arguments: &str, input: &str) -> Ended {
        with_input(program, &format!("pub --broker mqtt://127.0.0.1:{} {arguments}", self.port), input)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic")
    }

    fn payloads(&self) -> Vec<String> {
        let text = |publish: &Publish| String::from_utf8_lossy(&publish.payload).into_owned();
        self.seen().taken.iter().map(text).collect()
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Seen>, limits: &Properties, refuses: bool) -> io::Result<()> {
    let (mut decoder, mut input, mut chunk) = (Decoder::server(1 << 24), BytesMut::new(), vec![0; 1 << 16]);
    loop {
        let bytes = stream.read(&mut chunk)?;
        if bytes == 0 {
            return Ok(());
        }
        input.extend_from_slice(&chunk[..bytes]);
        while let Some(packet) = decoder.decode(&mut input).map_err(io::Error::other)? {
            if let Some(answer) = answer_to(packet, &mut seen.lock().expect("no panic"), limits, refuses) {
                let mut output = BytesMut::new();
                encode(&answer, Version::V5_0, &mut output).map_err(io::Error::other)?;
                stream.write_all(&output)?;
            }
        }
    }
}

fn answer_to(packet: Packet, seen: &mut Seen, limits: &Properties, refuses: bool) -> Option<Packet> {
    match packet {
        Packet::Connect(connect) => {
            let session_present = !connect.clean_start && !seen.connects.is_empty();
            seen.connects.push(*connect);
            let properties = limits.clone();
            Some(Packet::Connack(Connack { session_present, reason: ReasonCode::SUCCESS, properties }))
        }
        Packet::Publish(publish) => {
            let ack = Ack::with_reason(
                publish.packet_id?,
                refusal(&publish).filter(|_| refuses).unwrap_or(ReasonCode::SUCCESS),
            );
            let (qos, refused) = (publish.qos, ack.reason.is_error());
            if !refused {
                seen.taken.push(publish);
            }
            Some(if qos == Qos::AtLeastOnce { Packet::Puback(ack) } else { Packet::Pubrec(ack) })
        }
        Packet::Pubrel(Ack { packet_id, .. }) => Some(Packet::Pubcomp(Ack::success(packet_id))),
        Packet::Pingreq => Some(Packet::Pingresp),
        _ => None,
    }
}

fn refusal(publish: &Publish) -> Option<ReasonCode> {
    let text = std::str::from_utf8(&publish.payload).ok()?.strip_prefix("0x")?;
    u8::from_str_radix(text, 16).ok().map(ReasonCode)
}

fn lines(json: &str) -> Vec<Value> {
    json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn what_the_broker_refuses_is_kept_listed_and_sent_again_when_it_is_told() {
    for qos in ["1", "2"] {
        let program = Program::new();
        let broker = Broker::start(&[], true);
        let arguments = format!("-t alerts/door -q {qos} --lines --store o.db");
        let ended = broker.publish(&program, &arguments, "one\n0x87\n0x97\n0x99\nfive\n");
        assert_eq!(ended.status, 1);
        assert!(ended.stdout.contains("2 acknowledged, 3 failed of 5 messages"), "{}", ended.stdout);
        assert!(ended.stdout.contains("mqtally outbox ls --store o.db"), "{}", ended.stdout);
        assert_eq!(broker.payloads(), ["one", "five"]);

        let listed = lines(&program.run("outbox ls --store o.db --json").stdout);
        let reasons: Vec<_> = listed.iter().map(|line| line["reason"].as_u64()).collect();
        assert_eq!(reasons, [Some(0x87), Some(0x97), Some(0x99)]);
        // A start in between does not try them again.
        assert_eq!(broker.publish(&program, "--drain --store o.db", "").status, 0);

        let kind = Broker::start(&[], false);
        let ended = program.run("outbox retry 2 4 --store o.db");
        assert_eq!((ended.status, ended.stdout.as_str()), (0, "2\n4\n"));
        assert_eq!(kind.publish(&program, "--drain --store o.db", "").status, 0);
        assert_eq!(kind.payloads(), ["0x87", "0x99"]);
        let ids: Vec<_> = listed.iter().map(|line| line["id"].as_str().expect("an id").to_owned()).collect();
        let sent: Vec<_> = kind
            .seen()
            .taken
            .iter()
            .map(|publish| publish.properties.user_properties().next().expect("its id").1.to_string())
            .collect();
        assert_eq!(sent, [ids[0].clone(), ids[2].clone()], "under their ids");

        let ended = program.run("outbox purge --filter alerts/# --store o.db");
        assert_eq!((ended.status, ended.stdout.as_str()), (0, "3\n"));
        assert_eq!(program.run("outbox ls --store o.db --json").stdout, "");
    }
}

#[test]
fn failed_messages_are_a_table_for_people() {
    let program = Program::new();
    Broker::start(&[], true).publish(&program, "-t alerts/door --lines --store o.db", "0x87\n");
    let ended = program.run("outbox ls --store o.db");
    let row: Vec<_> = ended.stdout.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!((row[0], &row[2..5]), ("1", &["alerts/door", "1", "0x87"][..]), "{}", ended.stdout);
    assert!(ended.stdout.contains("not authorized") || ended.stdout.contains("0x87"), "{}", ended.stdout);
    assert_eq!(ended.stderr, "mqtally: 1 failed, 0 waiting to be sent\n");
    let shown = program.run("outbox show 1 --store o.db").stdout;
    assert!(shown.contains("message id:") && shown.ends_with("\n\n0x87\n"), "{shown}");
}

#[test]
fn a_limit_of_the_broker_fails_the_message_and_no_other() {
    let check = |limit: Property, arguments: &str, input: &str, expect: &str| {
        let program = Program::new();
        let broker = Broker::start(&[limit], true);
        let ended = broker.publish(&program, &format!("-t t --lines --store o.db {arguments}"), input);
        assert_eq!(ended.status, 1, "{}", ended.stdout);
        let listed = program.run("outbox ls --store o.db --json");
        let details: Vec<_> = lines(&listed.stdout).iter().map(|line| line["detail"].to_string()).collect();
        assert!(details.len() == 1 && details[0].contains(expect), "{details:?}");
        broker.payloads()
    };
    let long = format!("{}\nshort\n", "x".repeat(500));
    assert_eq!(check(Property::MaximumPacketSize(200), "", &long, "200"), ["short"]);
    check(Property::MaximumQos(1), "-q 2", "x\n", "QoS");
    check(Property::RetainAvailable(0), "--retain", "x\n", "retain");
}

#[test]
fn the_last_will_and_the_expiry_are_what_was_asked_for() {
    let program = Program::new();
    let will = "--will-topic line/state --will-payload gone --will-qos 1 --will-retain";
    let offline = format!("pub -t t -m x --expiry 1h --store o.db --timeout 1 --broker {NOBODY}");
    assert_eq!(program.run(&offline).status, 1);
    let broker = Broker::start(&[], true);
    assert_eq!(broker.publish(&program, &format!("--drain --store o.db {will}"), "").status, 0);
    let seen = broker.seen();
    let will = seen.connects[0].will.clone().expect("a will");
    assert_eq!(
        (&*will.topic, &will.payload[..], will.qos, will.retain),
        ("line/state", &b"gone"[..], Qos::AtLeastOnce, true)
    );
    let left = seen.taken[0].properties.message_expiry_interval().expect("an expiry");
    assert!((3_500..3_600).contains(&left), "{left}: shortened by the wait");
}

#[test]
fn malformed_lines_are_named_whatever_they_are() {
    let program = Program::new();
    let broker = Broker::start(&[], true);
    let input = "{\"a\":1}\n\n[1,2\nnull\n\u{1}\n\"end\"";
    let ended = broker.publish(&program, "-t t --jsonl", input);
    assert_eq!(ended.status, 1);
    let named: Vec<_> = ended.stderr.lines().map(|line| &line[..17]).collect();
    assert_eq!(named, ["mqtally: line 3: ", "mqtally: line 5: "], "{}", ended.stderr);
    assert_eq!(broker.payloads(), ["{\"a\":1}", "null", "\"end\""]);
}

#[test]
fn an_input_that_cannot_be_read_is_told_and_ends_it() {
    let program = Program::new();
    let broker = Broker::start(&[], true);
    let directory = std::fs::File::open(program.directory()).expect("opens");
    let mut command = program.command(&format!("pub -t t --lines --broker mqtt://127.0.0.1:{}", broker.port));
    let ended = Ended::from(command.stdin(directory).output().expect("it runs"));
    assert_eq!(ended.status, 1);
    assert!(ended.stderr.contains("line 1: the input cannot be read (Is a directory"), "{}", ended.stderr);
}

#[test]
fn a_writer_of_the_input_that_goes_away_in_a_line_is_its_end() {
    let program = Program::new();
    let broker = Broker::start(&[], true);
    let ended = broker.publish(&program, "-t t --lines", "one\ntwo without an end");
    assert_eq!(
        (ended.status, broker.payloads()),
        (0, vec!["one".to_owned(), "two without an end".to_owned()])
    );
}

#[test]
fn a_full_disk_stops_the_input_and_loses_nothing_of_what_was_accepted() {
    let program = Program::new();
    let line = "x".repeat(1_000);
    // Files may grow to 2 MiB; SIGXFSZ is ignored, so that writing fails instead.
    let script = format!(
        "trap '' XFSZ; ulimit -f 4096; exec {} pub -t t --lines --store o.db --timeout 3 --broker {NOBODY}",
        env!("CARGO_BIN_EXE_mqtally")
    );
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).current_dir(program.directory());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut input = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || (0..8_000).try_for_each(|n| writeln!(input, "{n} {line}")));
    let ended = Ended::from(child.wait_with_output().expect("it ends"));
    let _ = writer.join().expect("no panic"); // the reader has ended before the input did
    assert_eq!(ended.status, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("the store cannot be written"), "{}", ended.stderr);

    let broker = Broker::start(&[], true);
    let ended = broker.publish(&program, "--drain --store o.db --json", "");
    let summary: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let numbers: Vec<u64> = broker
        .payloads()
        .iter()
        .map(|payload| payload.split(' ').next().and_then(|n| n.parse().ok()).expect("a number"))
        .collect();
    assert_eq!(ended.status, 0, "{}", ended.stderr);
    assert_eq!(summary["acknowledged"], numbers.len());
    assert!(numbers.len() > 500 && numbers.iter().copied().eq(0..numbers.len() as u64), "{}", numbers.len());
}

#[test]
fn a_store_for_another_purpose_is_left_alone() {
    let program = Program::new();
    let broker = Broker::start(&[], true);
    assert_eq!(broker.publish(&program, "-t t -m x --store o.db", "").status, 0);
    let subscribe = format!("sub -t t --client-id me --broker mqtt://127.0.0.1:{} --store", broker.port);
    let ended = program.run(&format!("{subscribe} o.db"));
    assert_eq!(ended.status, 74);
    assert!(ended.stderr.contains("holds an outbox, not an inbox"), "{}", ended.stderr);
    // The scripted broker cannot subscribe anybody: the store is made, and that is all.
    let mut command = program.command(&format!("{subscribe} i.db"));
    let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !program.directory().join("i.db.mark").exists() {
        assert!(std::time::Instant::now() < deadline, "it makes no store");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    for arguments in ["-t t -m x --store i.db", "--drain --store i.db"] {
        let ended = broker.publish(&program, arguments, "");
        assert_eq!(ended.status, 74, "{}", ended.stderr);
        assert!(ended.stderr.contains("holds an inbox, not an outbox"), "{}", ended.stderr);
    }
}

/// A process that was killed while it made its store had left an empty file, and each start after it failed with "not a
/// store".
#[test]
fn a_store_whose_making_was_cut_short_is_made_anew() {
    let program = Program::new().file("o.db", "");
    let broker = Broker::start(&[], true);
    let ended = broker.publish(&program, "-t t -m x --store o.db", "");
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
}

#[test]
fn the_outbox_of_a_running_publisher_is_listed_and_not_changed() {
    let program = Program::new();
    Broker::start(&[], true).publish(&program, "-t t --lines --store o.db", "0x97\n");
    let holding = format!("pub -t t -m x --store o.db --timeout 20 --broker {NOBODY}");
    let mut child =
        program.command(&holding).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut first = [0];
    child.stderr.take().expect("piped").read_exact(&mut first).expect("it says that it is offline");
    assert_eq!(program.run("outbox ls --store o.db").status, 0);
    for action in ["retry --all", "purge --all", "give-up 1"] {
        let ended = program.run(&format!("outbox {action} --store o.db"));
        assert_eq!(ended.status, 74);
        assert!(ended.stderr.contains("'mqtally pub' is at work on this store"), "{}", ended.stderr);
    }
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn what_an_outbox_command_makes_no_sense_of_is_told_in_a_line() {
    let program = Program::new().file("text", "no store");
    assert_eq!(Broker::start(&[], true).publish(&program, "-t t -m x --store o.db", "").status, 0);
    let check = |arguments: &str, status: i32, expect: &str| {
        let ended = program.run(&format!("outbox {arguments}"));
        assert_eq!((ended.status, ended.stdout.as_str()), (status, ""), "{arguments}: {}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{arguments}: {}", ended.stderr);
    };
    check("ls", 64, "--store");
    check("show --store o.db", 64, "give its number");
    check("retry --store o.db", 64, "nothing selected");
    check("retry 1 --all --store o.db", 64, "cannot be used with");
    check("purge --filter a/#/b --store o.db", 64, "topic filter");
    check("ls --store none.db", 74, "not a store");
    check("ls --store text", 74, "not a store");
    check("show 7 --store o.db", 1, "no such failed message");
    check("retry 7 --store o.db", 1, "no such failed message");
    check("give-up --all --store o.db", 64, "give the number");
    check("give-up 7 --dry-run --store o.db", 64, "no --dry-run");
    check("give-up 7 --store o.db", 1, "no such message waits");
}
