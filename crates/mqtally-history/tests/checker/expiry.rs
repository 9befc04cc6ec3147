//! E1, E2 and E3.

use crate::support::*;

/// The subscriber is away for three seconds, and a message is sent meanwhile.
fn away(expiry: u32) -> String {
    joined(1)
        + "sub | fin\nwait 0.2\n"
        + &format!("pub > PUBLISH qos=1 id=1 m=0/0/0 expiry={expiry}\npub < PUBACK 1\n")
        + "wait 3\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n"
}

#[test]
fn what_expired_while_its_session_was_away_is_not_delivered() {
    check_5(&(away(1) + &drained(1, 1)), "+E1 -E2");
    check_5(&(away(1) + &receiving(1, 0, "expiry=0") + &drained(1, 1)), "E1");
    check_5(&(away(3) + &receiving(1, 0, "expiry=0") + &drained(1, 1)), "-E1");
    // It is the first return that counts, and not the last.
    let twice = away(1) + &drained(1, 1) + "sub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";
    check_5(&twice, "+E1");
    let in_time =
        away(1).replace("wait 3\n", "sub > CONNECT clean=0\nsub < CONNACK sp=1\nsub | fin\nwait 3\n");
    check_5(&(in_time + &drained(1, 1)), "-E1");
}

#[test]
fn a_delivery_that_may_have_begun_goes_on() {
    // The connection was there when the message was sent, or nobody knows when the broker noticed that it was not.
    let cut = away(1).replace("sub | fin\nwait 0.2\n", "").replace("wait 3\n", "wait 3\nsub | rst\n");
    check_5(&(cut + &receiving(1, 0, "dup expiry=1") + &drained(1, 1)), "-E1");
    let broken = away(1).replace("sub | fin", "sub | broken");
    check_5(&(broken + &receiving(1, 0, "expiry=1") + &drained(1, 1)), "-E1");
    // DUP says so: a copy died with the connection that the client had just left.
    check_5(&(away(1) + &receiving(1, 0, "dup expiry=0") + &drained(1, 1)), "-E1");
    let aborted = away(1).replace("wait 3\n", "sub > CONNECT clean=0\nsub | rst\nwait 3\n");
    check_5(&(aborted + &receiving(1, 0, "dup expiry=1") + &drained(1, 1)), "-E1");
}

#[test]
fn the_interval_is_counted_down() {
    let came = |expiry: &str| away(60) + &receiving(1, 0, expiry) + &drained(1, 1);
    check_5(&came("expiry=57"), "+E2 -E1");
    check_5(&came("expiry=58"), "+E2");
    check_5(&came("expiry=56"), "+E2");
    check_5(&came("expiry=60"), "E2");
    check_5(&came("expiry=40"), "E2");
    check_5(&came(""), "E2");
    let live = joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0 expiry=60\npub < PUBACK 1\n";
    check_5(&(live.clone() + &receiving(1, 0, "expiry=60") + &drained(1, 1)), "-E2");
    check_5(&(live + &receiving(1, 0, "expiry=61") + &drained(1, 1)), "E2");
}

#[test]
fn no_packet_is_larger_than_its_client_takes() {
    let small = joined(1).replacen("CONNECT clean=0", "CONNECT clean=0 max=100", 1);
    let large = small + "pub > PUBLISH qos=1 id=1 m=0/0/0 len=100\npub < PUBACK 1\n";
    check_5(&(large.clone() + &drained(1, 1)), "+E3");
    check_5(&(large + &receiving(1, 0, "len=100 size=110") + &drained(1, 1)), "E3");
}
