//! D6, D8, D9, D10, V2 and P1.

use crate::support::*;

#[test]
fn what_nobody_sent_is_a_phantom() {
    let phantom = joined(1) + &published(1, 0) + &received(1, 0);
    check(&(phantom.clone() + "sub < PUBLISH qos=1 id=9 m=0/0/7\nsub > PUBACK 9\n" + &drained(1, 1)), "D6");
    check(&(phantom.clone() + "sub < PUBLISH qos=1 id=9 m=none\nsub > PUBACK 9\n" + &drained(1, 1)), "D6");
    let never_published =
        phantom.clone() + "sub < PUBLISH qos=1 id=9 m=5/5/5\nsub > PUBACK 9\n" + &drained(1, 1);
    check(&never_published, "D6");
    assert_eq!(report(&never_published).tally.unexpected, 1);
}

#[test]
fn left_overs_wills_and_what_was_retained_are_no_phantoms() {
    let start = joined(1) + &published(1, 0) + &received(1, 0);
    for left_over in ["m=foreign", "m=foreign retain", "m=none retain"] {
        let line = format!("sub < PUBLISH qos=1 id=9 {left_over}\nsub > PUBACK 9\n");
        check(&(start.clone() + &line + &drained(1, 1)), "+D6");
    }
    let will = start + "w > CONNECT clean=0 will topic=a\nw < CONNACK sp=0\nw | rst\n";
    check(&(will + "sub < PUBLISH qos=1 id=9 m=none\nsub > PUBACK 9\n" + &drained(1, 1)), "+D6");
}

#[test]
fn a_changed_payload_is_corrupt() {
    check(&(joined(1) + &published(1, 0) + &receiving(1, 0, "crc=8") + &drained(1, 1)), "D8");
    check(&(joined(1) + &published(1, 0) + &receiving(1, 0, "len=49") + &drained(1, 1)), "D8");
    let damaged = joined(1) + &published(1, 0) + &received(1, 0);
    check(&(damaged + "sub < PUBLISH qos=1 id=9 m=corrupt\nsub > PUBACK 9\n" + &drained(1, 1)), "D8");
    // Which message it was nobody can say: one that is missing has come, and a second is lost.
    let unrecognised = "sub < PUBLISH qos=1 id=9 m=corrupt\nsub > PUBACK 9\n";
    check(&(joined(1) + &published(1, 0) + unrecognised + &drained(1, 1)), "D8");
    check(&(joined(1) + &published(1, 0) + &published(1, 1) + unrecognised + &drained(1, 2)), "D1 D8");
}

#[test]
fn user_properties_keep_their_order() {
    let sent =
        |props: &str| joined(1) + &format!("pub > PUBLISH qos=1 id=1 m=0/0/0 {props}\npub < PUBACK 1\n");
    check_5(&(sent("props=x,y") + &receiving(1, 0, "props=x,y") + &drained(1, 1)), "+D8");
    check_5(&(sent("props=x,y") + &receiving(1, 0, "props=y,x") + &drained(1, 1)), "D8");
    check_5(&(sent("props=x,y") + &received(1, 0) + &drained(1, 1)), "D8");
    check_5(&(sent("") + &receiving(1, 0, "props=added") + &drained(1, 1)), "+D8");
}

#[test]
fn an_expiry_that_counts_down_changes_nothing() {
    let sent = joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0 expiry=60\npub < PUBACK 1\n";
    check_5(&(sent + &receiving(1, 0, "expiry=58") + &drained(1, 1)), "+D8");
}

#[test]
fn only_what_a_filter_matches_comes() {
    let other = joined(1) + "pub > PUBLISH qos=1 id=1 topic=ab m=0/1/0\npub < PUBACK 1\n";
    check(&(other.clone() + &drained(1, 0)), "+D9");
    check(&(other + "sub < PUBLISH qos=1 id=9 topic=ab m=0/1/0\nsub > PUBACK 9\n" + &drained(1, 0)), "D9");
    let hidden = joined(1).replace("a@1", "#@1") + "sub < PUBLISH qos=0 topic=$SYS/uptime m=none\n";
    check(&(hidden + &drained(1, 0)), "D9");
}

#[test]
fn between_subscribe_and_suback_a_filter_may_deliver() {
    let early =
        joined(1) + "sub > SUBSCRIBE 2 b@1\npub > PUBLISH qos=1 id=1 topic=b m=0/1/0\npub < PUBACK 1\n";
    let come = "sub < PUBLISH qos=1 id=9 topic=b m=0/1/0\nsub > PUBACK 9\nsub < SUBACK 2 1\n";
    check(&(early + come + &drained(1, 0)), "+D9");
}

#[test]
fn nothing_new_comes_after_unsuback() {
    let gone = joined(1) + "sub > UNSUBSCRIBE 2 a\n";
    let before = gone.clone() + &published(1, 0) + "sub < UNSUBACK 2 0\n";
    check(&(before + &received(1, 0) + "end"), "-D10");
    let after = gone + "sub < UNSUBACK 2 0\n" + &published(1, 0);
    check(&(after.clone() + "end"), "+D10");
    check(&(after + &received(1, 0) + "end"), "D10");
}

#[test]
fn no_local_sends_nothing_back() {
    let own = "group g
        c > CONNECT clean=0
        c < CONNACK sp=0
        c > SUBSCRIBE 1 a@1,nl
        c < SUBACK 1 1
        c > PUBLISH qos=1 id=1 m=0/0/0
        c < PUBACK 1\n";
    check_5(&(own.to_owned() + "end"), "+V2 -D1");
    check_5(&(own.to_owned() + "c < PUBLISH qos=1 id=9 m=0/0/0\nc > PUBACK 9\nend"), "V2");
    let another = joined(1).replace("a@1", "a@1,nl") + &published(1, 0) + &received(1, 0) + &drained(1, 1);
    check_5(&another, "-V2 +D1");
}

#[test]
fn an_unlawful_packet_is_shown() {
    check(&(joined(1) + "sub | unlawful a reserved bit is set\n" + &drained(1, 0)), "~P1");
}
