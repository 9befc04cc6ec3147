//! `mqtally broker` as a process: what it prints, how it ends, and what kill -9 leaves.

#[path = "../../mqtally-harness/tests/wire/mod.rs"]
mod wire;

mod broker {
    pub(crate) mod process;
    pub(crate) mod survivors;
}

use broker::process::{Broker, mqtally};
use broker::survivors::{Publisher, Subscriber};
use mqtally_proto::packet::{Packet, Qos, ReasonCode, Version};
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use wire::{Wire, fleeting, persistent, publish, subscribe};

/// How often the broker is killed; `MQTALLY_KILL_ROUNDS` sets another number.
const KILL_ROUNDS: u64 = 6;
/// Packets that the clients receive in a round before the kill, at most.
const KILL_AFTER_MAX: u64 = 3_000;

/// `MQTALLY_KILL_SEED` repeats the choice of moments; what the clients have reached at each is up to the scheduler.
#[test]
#[expect(clippy::print_stdout, reason = "a run that fails has to be repeated")]
fn kill_9_loses_nothing_acknowledged_and_duplicates_nothing_at_qos_2() {
    let seed = variable("MQTALLY_KILL_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("MQTALLY_KILL_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let directory = tempfile::tempdir().expect("a directory");
    let mut publishers = [Qos::AtLeastOnce, Qos::ExactlyOnce].map(Publisher::new);
    let mut subscribers = [Version::V3_1_1, Version::V5_0].map(Subscriber::new);

    let broker = Broker::start_on(directory.path());
    subscribers.iter_mut().for_each(|subscriber| subscriber.subscribe(broker.address));
    broker.kill();
    for _ in 0..variable("MQTALLY_KILL_ROUNDS").unwrap_or(KILL_ROUNDS) {
        let broker = Broker::start_on(directory.path());
        run_until_killed(broker, random.u64(1..KILL_AFTER_MAX), &mut publishers, &mut subscribers);
    }

    let broker = Broker::start_on(directory.path());
    publishers.iter_mut().for_each(|publisher| publisher.finish(broker.address));
    for subscriber in &mut subscribers {
        subscriber.finish(broker.address, &publishers);
    }
    let published: u64 = publishers.iter().map(Publisher::published).sum();
    assert!(published > 100, "only {published} messages: nothing was put to the test");
    publishers.iter().for_each(|publisher| publisher.check_retained(broker.address));
    assert!(broker.terminate().success());
}

/// Everybody runs until the broker is gone; it goes when they have received `packets` together.
fn run_until_killed(
    broker: Broker,
    packets: u64,
    publishers: &mut [Publisher],
    subscribers: &mut [Subscriber],
) {
    let (tick, ticks) = mpsc::channel();
    let address = broker.address;
    thread::scope(|scope| {
        for publisher in publishers {
            let tick = tick.clone();
            scope.spawn(move || publisher.run(address, &tick));
        }
        for subscriber in subscribers {
            let tick = tick.clone();
            scope.spawn(move || subscriber.run(address, &tick));
        }
        drop(tick);
        for _ in 0..packets {
            ticks.recv().expect("clients run until the broker is killed");
        }
        broker.kill();
    });
}

#[test]
fn sigterm_ends_it_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Broker::start_on(directory.path());
    let (mut client, _) =
        Wire::connect(broker.address, persistent("client", Version::V5_0)).expect("connected");
    client.send(subscribe(1, "#", Qos::AtLeastOnce)).expect("sent");
    client.receive().expect("SUBACK");
    let ended = broker.terminate();
    assert!(ended.success(), "{ended}");
    let goodbye = client.receive().expect("DISCONNECT");
    assert!(
        matches!(&goodbye, Packet::Disconnect(packet) if packet.reason == ReasonCode::SERVER_SHUTTING_DOWN),
        "{goodbye:?}"
    );
    let broker = Broker::start_on(directory.path());
    let (_, connack) = Wire::connect(broker.address, persistent("client", Version::V5_0)).expect("connected");
    assert!(connack.session_present);
}

#[test]
fn a_port_in_use_is_one_line_and_69() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let ended = mqtally(&["broker", "--volatile", "--listen", &address]).output().expect("it ran");
    assert_eq!(ended.status.code(), Some(69));
    complains(&ended.stderr, &["cannot listen", &address, "--listen"]);
}

#[test]
fn a_data_directory_in_use_is_one_line_and_74() {
    let directory = tempfile::tempdir().expect("a directory");
    let _first = Broker::start_on(directory.path());
    let data = directory.path().to_str().expect("UTF-8");
    let ended = mqtally(&["broker", "--listen", "127.0.0.1:0", "--data", data]).output().expect("it ran");
    assert_eq!(ended.status.code(), Some(74));
    complains(&ended.stderr, &["in use by another broker", data]);
}

/// The file size limit stands for a full disk: writes fail, and the process is not killed for them.
#[test]
fn a_full_disk_stops_acknowledging_and_ends_with_74() {
    let directory = tempfile::tempdir().expect("a directory");
    let broker = Broker::start_limited(directory.path(), 512);
    let (mut client, _) =
        Wire::connect(broker.address, persistent("client", Version::V3_1_1)).expect("connected");
    client.send(subscribe(1, "#", Qos::AtLeastOnce)).expect("sent");
    client.receive().expect("SUBACK");
    let mut acknowledged = 0;
    for packet_id in 1..=u16::MAX {
        let sent = client.send(publish(packet_id, "topic", Qos::AtLeastOnce, &[7; 10_000]));
        match sent.and_then(|()| puback(&mut client)) {
            Ok(()) => acknowledged += 1,
            Err(_) => break,
        }
    }
    let (status, stderr) = broker.wait();
    assert_eq!(status.code(), Some(74), "{stderr}");
    complains(stderr.as_bytes(), &["cannot write to the store", "disk"]);

    let broker = Broker::start_on(directory.path());
    let (mut client, connack) =
        Wire::connect(broker.address, persistent("client", Version::V3_1_1)).expect("connected");
    assert!(connack.session_present);
    for expected in 0..acknowledged {
        let packet = client.receive().expect("every acknowledged message is there");
        assert!(matches!(packet, Packet::Publish(_)), "{packet:?} instead of message {expected}");
    }
    assert!(acknowledged > 0);
}

/// Skips what is delivered to the same client.
fn puback(client: &mut Wire) -> std::io::Result<()> {
    loop {
        match client.receive()? {
            Packet::Puback(_) => return Ok(()),
            _ => continue,
        }
    }
}

#[test]
fn only_known_users_get_in() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users");
    let file = file.to_str().expect("UTF-8");
    let mut adding = mqtally(&["broker", "--users", file, "--add-user", "ann"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it runs");
    adding.stdin.take().expect("piped").write_all(b"secret\nignored\n").expect("written");
    assert!(adding.wait().expect("it ended").success());
    assert!(fs::read_to_string(file).expect("written").starts_with("ann:$7$210000$"));

    let broker = Broker::start(&["--volatile", "--users", file]);
    for (name, password, expected) in [
        (Some("ann"), Some("secret"), ReasonCode::SUCCESS),
        (Some("ann"), Some("wrong"), ReasonCode::BAD_USER_NAME_OR_PASSWORD),
        (Some("bob"), Some("secret"), ReasonCode::BAD_USER_NAME_OR_PASSWORD),
        (None, None, ReasonCode::BAD_USER_NAME_OR_PASSWORD),
    ] {
        let mut connect = fleeting("client", Version::V5_0);
        connect.username = name.map(Into::into);
        connect.password = password.map(|password| password.as_bytes().to_vec().into());
        let (_, connack) = Wire::connect(broker.address, connect).expect("an answer");
        assert_eq!(connack.reason, expected, "{name:?} {password:?}");
    }
}

#[test]
fn a_malformed_users_file_is_one_line_with_its_number_and_64() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("users");
    fs::write(&file, "# people\n\nann:plain text\n").expect("written");
    let file = file.to_str().expect("UTF-8");
    let ended = mqtally(&["broker", "--volatile", "--users", file]).output().expect("it ran");
    assert_eq!(ended.status.code(), Some(64));
    complains(&ended.stderr, &[&format!("{file}:3"), "not hashed"]);
}

fn complains(stderr: &[u8], parts: &[&str]) {
    let text = String::from_utf8_lossy(stderr);
    assert_eq!(text.lines().count(), 1, "{text}");
    for part in parts {
        assert!(text.contains(part), "no '{part}' in: {text}");
    }
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}
