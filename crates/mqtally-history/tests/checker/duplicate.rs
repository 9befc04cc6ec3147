//! D3, D4 and D5.

use crate::support::*;

const CUT: &str = "sub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";

#[test]
fn a_qos_2_message_accepted_twice_is_broken() {
    let twice = joined(2) + &published(2, 0) + &received(2, 0);
    let again = "sub < PUBLISH qos=2 id=9 m=0/0/0\nsub > PUBREC 9\nsub < PUBREL 9\nsub > PUBCOMP 9\n";
    check(&(twice.clone() + again + &drained(2, 1)), "D3");
    // Also after a reconnect, with DUP.
    let dup = again.replace("m=0", "dup m=0");
    check(&(twice + CUT + &dup + &drained(2, 1)), "D3");
}

#[test]
fn a_qos_2_message_repeated_within_its_exchange_is_accepted_once() {
    let open = joined(2) + &published(2, 0) + "sub < PUBLISH qos=2 id=9 m=0/0/0\n";
    let again = "sub < PUBLISH qos=2 id=9 dup m=0/0/0\nsub > PUBREC 9\nsub < PUBREL 9\nsub > PUBCOMP 9\n";
    check(&(open.clone() + CUT + again + &drained(2, 1)), "+D3 +R1 +R4 +R5");
    check(&(open + "sub > PUBREC 9\n" + CUT + again + &drained(2, 1)), "+D3");
}

#[test]
fn a_message_submitted_anew_may_come_as_often() {
    let anew = joined(2)
        + "pub > PUBLISH qos=2 id=1 m=0/0/0
        pub | fin
        pub > CONNECT clean=1
        pub < CONNACK sp=0
        pub > PUBLISH qos=2 id=1 m=0/0/0 attempt=1
        pub < PUBREC 1
        pub > PUBREL 1
        pub < PUBCOMP 1\n";
    let second =
        "sub < PUBLISH qos=2 id=9 m=0/0/0 attempt=1\nsub > PUBREC 9\nsub < PUBREL 9\nsub > PUBCOMP 9\n";
    check(&(anew.clone() + &received(2, 0) + second + &drained(2, 1)), "+D3");
    let third = second.replace(" 9", " 10").replace("=9", "=10");
    check(&(anew + &received(2, 0) + second + &third + &drained(2, 1)), "D3");
}

#[test]
fn a_publisher_that_resumes_its_exchange_causes_no_second_copy() {
    let resumed = joined(2)
        + "pub > PUBLISH qos=2 id=1 m=0/0/0
        pub | fin
        pub > CONNECT clean=0
        pub < CONNACK sp=1
        pub > PUBLISH qos=2 id=1 dup m=0/0/0
        pub < PUBREC 1
        pub > PUBREL 1
        pub < PUBCOMP 1\n";
    check(&(resumed.clone() + &received(2, 0) + &drained(2, 1)), "+D3");
    let second = "sub < PUBLISH qos=2 id=9 m=0/0/0\nsub > PUBREC 9\nsub < PUBREL 9\nsub > PUBCOMP 9\n";
    check(&(resumed + &received(2, 0) + second + &drained(2, 1)), "D3");
}

#[test]
fn a_lost_session_ends_the_count() {
    let lost = joined(2) + &published(2, 0) + &received(2, 0);
    let anew =
        "sub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=0\nsub > SUBSCRIBE 2 a@2\nsub < SUBACK 2 2\n";
    check(&(lost + anew + &received(2, 0) + &drained(2, 1)), "S2");
}

#[test]
fn a_second_qos_2_copy_after_a_kill_depends_on_the_profile() {
    let killed = joined(2)
        + &published(2, 0)
        + &received(2, 0)
        + "broker killed
        sub | closed
        pub | closed
        broker started
        sub > CONNECT clean=0
        sub < CONNACK sp=1
        sub < PUBLISH qos=2 id=9 dup m=0/0/0
        sub > PUBREC 9
        sub < PUBREL 9
        sub > PUBCOMP 9
        pub > CONNECT clean=0
        pub < CONNACK sp=1\n"
        + &drained(2, 1);
    check(&killed, "+D3");
    check_durable(&killed, "D3");
}

#[test]
fn a_qos_1_message_twice_without_a_cause_is_odd() {
    let twice =
        joined(1) + &published(1, 0) + &received(1, 0) + "sub < PUBLISH qos=1 id=9 m=0/0/0\nsub > PUBACK 9\n";
    check(&(twice + &drained(1, 1)), "~D4");
}

#[test]
fn the_same_qos_1_publish_twice_on_a_connection_is_broken_in_5() {
    let unanswered = joined(1)
        + &published(1, 0)
        + "sub < PUBLISH qos=1 id=9 m=0/0/0\nsub < PUBLISH qos=1 id=9 dup m=0/0/0\nsub > PUBACK 9\n"
        + &drained(1, 1);
    check_5(&unanswered, "D4 R11");
    check_3(&unanswered, "~D4 ~R11");
}

#[test]
fn a_qos_1_message_twice_with_a_cause_is_lawful() {
    let again = "sub < PUBLISH qos=1 id=100 dup m=0/0/0\nsub > PUBACK 100\n";
    check(&(joined(1) + &published(1, 0) + &received(1, 0) + CUT + again + &drained(1, 1)), "+D4");
    let resent = "pub > PUBLISH qos=1 id=1 m=0/0/0
        pub | fin
        pub > CONNECT clean=0
        pub < CONNACK sp=1
        pub > PUBLISH qos=1 id=1 dup m=0/0/0
        pub < PUBACK 1\n";
    let second = "sub < PUBLISH qos=1 id=9 m=0/0/0\nsub > PUBACK 9\n";
    check(&(joined(1) + resent + &received(1, 0) + second + &drained(1, 1)), "+D4");
}

#[test]
fn a_qos_0_message_twice_is_broken_unless_it_was_published_at_qos_1() {
    for qos in [0, 2] {
        let once = joined(0) + &published(qos, 0) + &received(0, 0);
        check(&(once.clone() + &drained_at(qos)), "+D5");
        check(&(once + &received(0, 0) + &drained_at(qos)), "D5");
    }
    check(&(joined(0) + &published(1, 0) + &received(0, 0) + &received(0, 0) + &drained_at(1)), "-D5");
}

fn drained_at(qos: u8) -> String {
    sentinel(qos, 1) + &received_sentinel(0, 1) + "end"
}

#[test]
fn each_matching_filter_may_bring_a_copy() {
    let overlapping =
        joined(2) + "sub > SUBSCRIBE 2 +@2\nsub < SUBACK 2 2\n" + &published(2, 0) + &received(2, 0);
    let second = "sub < PUBLISH qos=2 id=9 m=0/0/0\nsub > PUBREC 9\nsub < PUBREL 9\nsub > PUBCOMP 9\n";
    let third = second.replace(" 9", " 10").replace("=9", "=10");
    check(&(overlapping.clone() + second + &drained(2, 1)), "+D3");
    check(&(overlapping + second + &third + &drained(2, 1)), "D3");
}
