//! Brokers that do not want us, and others that want to be us.

use crate::bench::{Bench, Broker, Running, eventually, message};
use std::io::{Read, Write};
use std::net::TcpListener;

/// A broker that answers each CONNECT with these bytes and ends the connection; nothing at all for none.
fn rude(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("mqtt://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut connect = [0; 1_024];
            let _ = stream.read(&mut connect);
            let _ = stream.write_all(answer);
        }
    });
    url
}

#[test]
fn a_broker_that_ends_every_connection_is_given_up() {
    let bench = Bench::new();
    let start = |answer, args: &str| {
        let url = rude(answer);
        bench.start(&format!("-t # --broker {url} {args}"), &[])
    };
    let check = |running: Running, times: usize, expect: &str| {
        let ended = running.ended();
        assert_eq!(ended.code, Some(69), "{}", ended.stderr);
        assert_eq!(ended.stderr.matches("connecting again in").count(), times, "{}", ended.stderr);
        assert!(ended.stderr.contains(expect), "{}", ended.stderr);
    };
    // Together, because the pauses between the attempts are what takes time.
    let accepting = [
        start(&[0x20, 3, 0, 0, 0], "--store 5.sub"),
        start(&[0x20, 2, 0, 0], "--protocol 3.1.1 --store 3.sub"),
    ];
    check(start(b"", ""), 0, "the connection ended before the broker answered");
    check(start(b"GET / HTTP", ""), 0, "the connection ended before the broker answered");
    for running in accepting {
        check(running, 3, "the broker ended 4 connections in a row soon after it had accepted them");
    }
}

/// The user `ann` with the password `secret`, hashed only a few times.
const ANN: &str = "ann:$7$101$AAECAwQFBgcICQoL$\
     Xr99N9ym9ys8TWxis5ajETJq6EVYzmc6nb8t3pUYnPBbCAbICS4xejTltonXWCtJNBvA+By+TXUqU6qCblO00w==\n";

#[test]
fn wrong_credentials_end_it_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let users = directory.path().join("users");
    std::fs::write(&users, ANN).expect("written");
    let bench = Bench::with(&["--volatile", "--users", users.to_str().expect("UTF-8")]);
    let at = |user: &str| format!("mqtt://{user}{}", bench.broker.address);
    for (version, user) in [("3.1.1", "ann:wrong@"), ("5", "ann:wrong@"), ("5", "")] {
        let args = format!("-t # --broker {} --protocol {version}", at(user));
        let ended = bench.start(&args, &[]).ended();
        assert_eq!(ended.code, Some(69), "{}", ended.stderr);
        assert!(ended.stderr.contains("check the user name and the password"), "{}", ended.stderr);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(!ended.stderr.contains("wrong"), "{}", ended.stderr);
    }
    let args = format!("-t # --broker {}", at("ann:secret@"));
    assert_eq!(bench.sub(&args, &[]).terminate().code, Some(0));
}

#[test]
fn of_two_on_one_client_id_the_first_ends_and_says_why() {
    let bench = Bench::new();
    let first = bench.sub("-t #", &[]);
    let second = bench.sub("-t # --store other.sub", &[]);
    let ended = first.ended();
    assert_eq!(ended.code, Some(69));
    let expect = "another client with the id \"c\" took the session over: --broker; stop that one, or give each an id and a store of its own";
    assert!(ended.stderr.contains(expect), "{}", ended.stderr);
    bench.publish(vec![message("a", "x")]);
    second.prints("a x");
}

/// 3.1.1 has no word for a takeover: each sees its connections end, again and again.
#[test]
fn of_two_on_one_client_id_in_3_1_1_one_gives_up_and_the_other_goes_on() {
    let bench = Bench::new();
    let first = bench.sub("-t # --protocol 3.1.1", &[]);
    let second = bench.start("-t # --protocol 3.1.1 --store other.sub", &[]);
    let (mut running, mut ended) = (vec![first, second], None);
    eventually("one gives up", || {
        ended = (0..running.len()).find(|at| !running[*at].is_running());
        ended.is_some()
    });
    let loser = running.remove(ended.expect("one ended")).ended();
    assert_eq!(loser.code, Some(69), "{}", loser.stderr);
    assert!(loser.stderr.contains("connecting again in"), "it backed off: {}", loser.stderr);
    let expect = "is another client using the id \"c\"? stop that one, or look into the broker's log";
    assert!(loser.stderr.contains(expect), "{}", loser.stderr);
    bench.publish(vec![message("a", "x")]);
    running[0].prints("a x");
}

#[test]
fn a_broker_that_comes_back_is_found_again() {
    let mut bench = Bench::new();
    let running = bench.sub("-t #", &[]);
    let address = bench.broker.address.to_string();
    bench.broker = Broker::start(bench.directory.path(), &["--volatile"]);
    running.says("connecting again in");
    bench.broker = Broker::at(&address, bench.directory.path(), &["--volatile"]);
    running.says_times("mqtally: subscribed to", 2);
    // It came back without its memory.
    running.says("the broker had lost the session");
    bench.publish(vec![message("a", "x")]);
    running.prints("a x");
    assert_eq!(bench.count("SELECT session_losses FROM tally"), 1);
}
