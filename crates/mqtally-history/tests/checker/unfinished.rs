//! R8, R11, Q5 and V5.

use crate::support::*;

const PING: &str = "sub > PINGREQ\nsub < PINGRESP\n";
const BACK: &str = "sub | rst\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";

#[test]
fn a_repeated_publish_is_answered_with_pubrec() {
    let again = joined(2)
        + "pub > PUBLISH qos=2 id=1 m=0/0/0
        pub | rst
        pub > CONNECT clean=0
        pub < CONNACK sp=1
        pub > PUBLISH qos=2 id=1 dup m=0/0/0\n";
    let rest = "pub > PUBREL 1\npub < PUBCOMP 1\n".to_owned() + &received(2, 0) + &drained(2, 1);
    check(&(again.clone() + "pub < PUBREC 1\n" + &rest), "+R8");
    let pinged = "pub > PINGREQ\npub < PINGRESP\nwait 5\n";
    check(&(again.clone() + pinged + &drained(2, 1)), "R8");
    check(&(again.clone() + pinged + "pub < PUBREC 1\n" + &rest), "+R8");
    check(&(again + "pub | rst\npub > CONNECT clean=1\npub < CONNACK sp=0\n" + &drained(2, 1)), "-R8");
}

#[test]
fn closing_over_a_repeated_publish_again_and_again_is_no_answer() {
    let mut history = joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0\npub | rst\n";
    for _ in 0..3 {
        history +=
            "pub > CONNECT clean=0\npub < CONNACK sp=1\npub > PUBLISH qos=2 id=1 dup m=0/0/0\npub | closed\n";
    }
    check(&(history.clone() + "end"), "R8");
    check(&(history.replace("pub | closed", "fault cut-publisher pub\npub | closed") + "end"), "-R8");
}

#[test]
fn nothing_is_sent_again_within_a_connection() {
    let slow = |qos: u8| {
        joined(qos)
            + &published(qos, 0)
            + &received(qos, 0).replacen("sub > ", "wait 2\nsub > ", 1)
            + &drained(qos, 1)
    };
    check(&slow(1), "+R11");
    check(&slow(2), "+R11");
    let cut = joined(1) + &published(1, 0) + "sub < PUBLISH qos=1 id=100 m=0/0/0\nwait 2\nsub | fin\nend";
    check(&cut, "+R11");
    let twice = |qos: u8| {
        let publish = format!("sub < PUBLISH qos={qos} id=100 m=0/0/0\n");
        joined(qos)
            + &published(qos, 0)
            + &publish
            + &received(qos, 0).replace("m=", "dup m=")
            + &drained(qos, 1)
    };
    check_5(&twice(1), "D4 R11");
    check_5(&twice(2), "R11");
    check_3(&twice(2), "~R11");
    let release = received(2, 0).replace("sub < PUBREL 100", "sub < PUBREL 100\nsub < PUBREL 100");
    check_5(&(joined(2) + &published(2, 0) + &release + &drained(2, 1)), "R11");
    // Our own second PUBREC asks for it.
    let asked =
        received(2, 0).replace("sub < PUBREL 100", "sub < PUBREL 100\nsub > PUBREC 100\nsub < PUBREL 100");
    check_5(&(joined(2) + &published(2, 0) + &asked + &drained(2, 1)), "-R11");
}

#[test]
fn an_unsubscribe_lets_exchanges_finish() {
    let begun = joined(2) + &published(2, 0) + "sub < PUBLISH qos=2 id=9 m=0/0/0\nsub > UNSUBSCRIBE 2 a\n";
    let on = begun + "sub < UNSUBACK 2 0\nsub > PUBREC 9\n";
    check(&(on.clone() + PING + "sub < PUBREL 9\nsub > PUBCOMP 9\nend"), "+Q5");
    check(&(on.clone() + PING + "wait 5\nend"), "Q5");
    check(&(on.clone() + "wait 5\nend"), "-Q5");
    check(&(on + "sub | rst\nend"), "-Q5");
}

/// A broker that stores an answer before it sends it may answer a PINGREQ first, and what stops it or swallows the
/// answer proves nothing of it.
#[test]
fn an_answer_that_waits_for_its_store_or_was_swallowed_is_no_breach() {
    let begun = joined(2) + &published(2, 0) + "sub < PUBLISH qos=2 id=9 m=0/0/0\n";
    let given_up = begun.clone() + "sub > UNSUBSCRIBE 2 a\nsub < UNSUBACK 2 0\nsub > PUBREC 9\n" + PING;
    check(&(given_up.clone() + "wait 3\nsub | fin\nend"), "-Q5");
    check(&(given_up.clone() + "wait 3\nsub < PUBREL 9\nsub > PUBCOMP 9\nend"), "+Q5");
    // PUBREC went before UNSUBSCRIBE, which was not read for certain.
    let before = begun + "sub > PUBREC 9\n" + PING + "sub > UNSUBSCRIBE 2 a\n";
    check(&(before.clone() + "wait 5\nsub | fin\nend"), "-Q5");
    check(&(before + "sub < UNSUBACK 2 0\n" + PING + "wait 5\nsub | fin\nend"), "Q5");
    let released = joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0\npub < PUBREC 1\npub > PUBREL 1\n";
    let released = released + "pub > PINGREQ\npub < PINGRESP\n";
    for struck in ["fault black-hole-publisher pub", "broker paused"] {
        check(&(released.clone() + struck + "\nwait 5\npub | broken\nend"), "-R9");
    }
    for struck in ["fault black-hole-subscriber sub", "broker paused"] {
        check(&(given_up.clone() + struck + "\nwait 5\nsub | broken\nend"), "-Q5");
    }
}

#[test]
fn a_refused_delivery_is_not_sent_again() {
    let refused = |ping: &str| {
        joined(1)
            + &published(1, 0)
            + "sub < PUBLISH qos=1 id=9 m=0/0/0\nsub > PUBACK 9 rc=0x83\n"
            + ping
            + BACK
    };
    let again = "sub < PUBLISH qos=1 id=9 dup m=0/0/0\nsub > PUBACK 9\n";
    check_5(&(refused(PING) + &drained(1, 1)), "+V5");
    check_5(&(refused(PING) + again + &drained(1, 1)), "V5");
    check_5(&(refused("") + again + &drained(1, 1)), "-V5");
}
