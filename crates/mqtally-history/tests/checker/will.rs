//! W1 to W6.

use crate::support::*;

/// A witness of topic `will` at QoS 1, and a client `c` with a will.
fn declared(options: &str) -> String {
    format!(
        "group g
        sub > CONNECT clean=0 ka=0
        sub < CONNACK sp=0
        sub > SUBSCRIBE 1 will@1
        sub < SUBACK 1 1
        c > CONNECT clean=0 will m=9/0/0 {options}
        c < CONNACK sp=0\n"
    )
}

const WILL: &str = "sub < PUBLISH qos=1 id=9 topic=will m=9/0/0\nsub > PUBACK 9\n";
const BACK: &str = "c > CONNECT clean=0 will m=9/0/0 delay=5\nc < CONNACK sp=1\n";

#[test]
fn a_will_is_due_when_its_connection_ends_without_a_goodbye() {
    for end in ["c | fin\n", "c | rst\n", "c | closed\n", "5: c > DISCONNECT rc=4\nc | fin\n"] {
        check(&(declared("") + end + WILL + "wait 6\nend"), "+W1 +W3 +W5 -W2");
        check(&(declared("") + end + "wait 6\nend"), "W1");
        check(&(declared("") + end + "wait 6\nsub | fin\nend"), "W1");
        // Who goes at once cannot tell.
        check(&(declared("") + end + "sub | fin\nend"), "-W1");
    }
}

#[test]
fn a_client_that_fell_silent_is_noticed_by_its_keep_alive() {
    let silent = declared("ka=2") + "wait 1\nc | vanished\n";
    check(&(silent.clone() + "wait 6\nend"), "-W1");
    check(&(silent.clone() + "wait 12\nend"), "W1");
    check(&(silent + "wait 3\n" + WILL + "end"), "+W1");
    check(&(declared("ka=0") + "c | vanished\nwait 60\nend"), "-W1");
}

#[test]
fn a_takeover_publishes_the_will() {
    let taken = declared("") + "c > CONNECT clean=0\nc < CONNACK sp=1\nc#1 | closed\n";
    check(&(taken.clone() + WILL + "wait 6\nend"), "+W1 +S9");
    check(&(taken + "wait 6\nend"), "W1");
}

#[test]
fn there_is_no_will_behind_a_goodbye() {
    let goodbye = declared("") + "c > DISCONNECT\n";
    check(&(goodbye.clone() + "c | fin\nwait 2\nend"), "+W2 -W1");
    check(&(goodbye.clone() + "c | fin\n" + WILL + "end"), "W2");
    check(&(goodbye.clone() + "c | closed\n" + WILL + "end"), "W2");
    check(&(goodbye.clone() + WILL + "c | fin\nend"), "W2");
    // It may not have been read.
    check(&(goodbye.clone() + "c | rst\n" + WILL + "end"), "-W2");
    check(&(goodbye + "c | rst\nwait 9\nend"), "-W1 -W2");
}

#[test]
fn a_will_comes_once() {
    let again = WILL.replace('9', "10").replace("10/0/0", "9/0/0");
    check(&(declared("") + "c | rst\n" + WILL + &again + "end"), "W3");
    // Each connection has its own.
    let second = declared("") + "c | rst\n" + WILL + &BACK.replace("delay=5", "") + "c | rst\n" + &again;
    check(&(second + "end"), "+W3");
    // A repetition of the same exchange is none.
    let cut = declared("") + "c | rst\nsub < PUBLISH qos=1 id=9 topic=will m=9/0/0\nsub | rst\n";
    let resumed = cut + "sub > CONNECT clean=0\nsub < CONNACK sp=1\n" + &WILL.replace("m=", "dup m=");
    check(&(resumed + "end"), "+W3");
}

#[test]
fn the_will_delay_is_kept() {
    let cut = declared("delay=5") + "c | fin\n";
    check_5(&(cut.clone() + WILL + "end"), "W4");
    check_5(&(cut.clone() + "wait 5\n" + WILL + "wait 6\nend"), "+W4 +W1");
    check_5(&(cut.clone() + "wait 20\nend"), "W1");
    check_5(&(cut.clone() + "wait 7\nend"), "-W1");
    check_5(&(cut.clone() + "wait 1\n" + BACK + "wait 9\nend"), "+W4 -W1");
    check_5(&(cut.clone() + "wait 1\n" + BACK + "wait 5\n" + WILL + "end"), "W4");
    // The end of the session cuts it short.
    check_5(&(declared("delay=5 expiry=0") + "c | fin\n" + WILL + "wait 6\nend"), "+W1");
    let clean = cut + "wait 1\nc > CONNECT clean=1\nc < CONNACK sp=0\n";
    check_5(&(clean + WILL + "end"), "+W1");
}

#[test]
fn a_will_is_published_as_declared() {
    check(&(declared("") + "c | fin\n" + &WILL.replace("qos=1", "qos=0") + "end"), "W5");
    check(&(declared("qos=0") + "c | fin\n" + WILL + "end"), "W5");
    check(&(declared("") + "c | fin\n" + &WILL.replace("m=", "retain m=") + "end"), "W5");
    check(&(declared("") + "c | fin\n" + &WILL.replace("m=", "crc=8 m=") + "end"), "D8");
    let late = "sub > SUBSCRIBE 2 will@1\nsub < SUBACK 2 1\n";
    let kept = WILL.replace('9', "10").replace("10/0/0", "9/0/0 retain");
    check(&(declared("") + "c | fin\n" + WILL + late + &kept + "end"), "W5");
    check(&(declared("retain") + "c | fin\n" + WILL + late + &kept + "end"), "+W5");
    let absent =
        declared("retain") + "c | fin\n" + WILL + late + "sub > PINGREQ\nsub < PINGRESP\nwait 2\nend";
    check(&absent, "T1");
}

#[test]
fn a_connection_without_a_will_has_none() {
    let without = declared("")
        + "c > DISCONNECT
        c | fin
        c > CONNECT clean=0
        c < CONNACK sp=1
        c | rst\n";
    check(&(without.clone() + "wait 2\nend"), "+W6 +W2");
    check(&(without + WILL + "end"), "W6");
}

#[test]
fn an_end_of_the_broker_leaves_the_will_open() {
    let killed = declared("") + "broker killed\nc | closed\nsub | closed\nbroker started\n";
    let back = "sub > CONNECT clean=0\nsub < CONNACK sp=1\n";
    check(&(killed.clone() + back + "wait 9\nend"), "-W1");
    check(&(killed + back + WILL + "end"), "");
}

#[test]
fn a_refused_connection_has_no_will() {
    let refused = declared("").replace("c < CONNACK sp=0", "c < CONNACK sp=0 rc=0x87\nc | closed");
    check(&(refused.clone() + "wait 2\nend"), "+W2");
    check(&(refused + WILL + "end"), "W2");
    let aborted = declared("").replace("c < CONNACK sp=0", "c | rst");
    check(&(aborted.clone() + "wait 9\nend"), "-W1");
    check(&(aborted + WILL + "end"), "");
}

#[test]
fn a_will_while_its_client_is_there_is_broken() {
    check(&(declared("") + WILL + "wait 3\nc > DISCONNECT\nc | fin\nend"), "W2");
    check(&(declared("") + WILL + "wait 3\nend"), "W1");
    // Its end may be recorded a little later.
    check(&(declared("") + WILL + "c | rst\nwait 6\nend"), "+W1");
}
