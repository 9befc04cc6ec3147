//! O1 and O2.

use crate::support::*;

/// Messages 0 to `count - 1` published one behind the other, and acknowledged afterwards.
fn in_flight(qos: u8, count: u64) -> String {
    let sent = (0..count).map(|n| format!("pub > PUBLISH qos={qos} id={} m=0/0/{n}\n", n + 1));
    let acked = (1..=count).map(|id| match qos {
        1 => format!("pub < PUBACK {id}\n"),
        _ => format!("pub < PUBREC {id}\npub > PUBREL {id}\npub < PUBCOMP {id}\n"),
    });
    sent.chain(acked).collect()
}

#[test]
fn first_copies_out_of_order_are_broken() {
    for qos in [1, 2] {
        let sent = joined(qos) + &in_flight(qos, 3);
        let arrive = |order: [u64; 3]| order.map(|n| received(qos, n)).concat();
        check(&(sent.clone() + &arrive([0, 1, 2]) + &drained(qos, 3)), "+O1");
        check(&(sent + &arrive([1, 0, 2]) + &drained(qos, 3)), "O1");
    }
}

#[test]
fn one_message_that_jumps_ahead_is_one_that_was_moved() {
    let jumped =
        joined(1) + &in_flight(1, 5) + &[4, 0, 1, 2, 3].map(|n| received(1, n)).concat() + &drained(1, 5);
    check(&jumped, "O1");
    assert_eq!(report(&jumped).tally.reordered, 1);
}

#[test]
fn later_copies_may_come_in_any_place() {
    let again = joined(1)
        + &in_flight(1, 4)
        + "sub < PUBLISH qos=1 id=1 m=0/0/0
        sub < PUBLISH qos=1 id=2 m=0/0/1
        sub < PUBLISH qos=1 id=3 m=0/0/2
        sub | fin
        sub > CONNECT clean=0
        sub < CONNACK sp=1
        sub < PUBLISH qos=1 id=1 dup m=0/0/0
        sub < PUBLISH qos=1 id=2 dup m=0/0/1
        sub < PUBLISH qos=1 id=3 dup m=0/0/2
        sub < PUBLISH qos=1 id=4 m=0/0/3
        sub > PUBACK 1
        sub > PUBACK 2
        sub > PUBACK 3
        sub > PUBACK 4\n"
        + &drained(1, 4);
    check(&again, "+O1 +O2 +R1 +R5");
}

#[test]
fn other_streams_have_no_order() {
    let two = joined(1).replace("a@1", "#@1")
        + "pub > PUBLISH qos=1 id=1 topic=a m=0/0/0
        pub > PUBLISH qos=1 id=2 topic=b m=0/1/0
        pub > PUBLISH qos=0 topic=a m=0/2/0
        pub < PUBACK 1
        pub < PUBACK 2
        sub < PUBLISH qos=0 topic=a m=0/2/0
        sub < PUBLISH qos=1 id=1 topic=b m=0/1/0
        sub < PUBLISH qos=1 id=2 topic=a m=0/0/0
        sub > PUBACK 1
        sub > PUBACK 2
        end";
    check(two.as_str(), "-O1");
}

#[test]
fn a_message_submitted_anew_has_no_place() {
    let anew = joined(1)
        + "pub > PUBLISH qos=1 id=1 m=0/0/0
        pub > PUBLISH qos=1 id=2 m=0/0/1
        pub < PUBACK 2
        pub | fin
        pub > CONNECT clean=1
        pub < CONNACK sp=0
        pub > PUBLISH qos=1 id=1 m=0/0/0 attempt=1
        pub < PUBACK 1\n"
        + &received(1, 1)
        + &receiving(1, 0, "attempt=1")
        + &drained(1, 2);
    check(&anew, "");
}

#[test]
fn an_acknowledged_message_is_before_all_that_is_sent_later() {
    // The second publisher lineage proves nothing by itself; the acknowledgement does.
    let two = joined(1)
        + &published(1, 0)
        + "pub | fin
        pub > CONNECT clean=1
        pub < CONNACK sp=0\n"
        + &published(1, 1);
    check(&(two.clone() + &received(1, 1) + &received(1, 0) + &drained(1, 2)), "O1");
    check(&(two + &received(1, 0) + &received(1, 1) + &drained(1, 2)), "+O1");
}

#[test]
fn pubrecs_out_of_order_leave_their_messages_unordered() {
    let crossed = joined(2)
        + "pub > PUBLISH qos=2 id=1 m=0/0/0
        pub > PUBLISH qos=2 id=2 m=0/0/1
        pub < PUBREC 2
        pub > PUBREL 2
        pub < PUBREC 1
        pub > PUBREL 1
        pub < PUBCOMP 2
        pub < PUBCOMP 1\n";
    check(&(crossed + &received(2, 1) + &received(2, 0) + &drained(2, 2)), "+D2");
}

#[test]
fn what_is_sent_again_in_reverse_is_broken() {
    let reverse = joined(1)
        + &in_flight(1, 2)
        + "sub < PUBLISH qos=1 id=1 m=0/0/0
        sub < PUBLISH qos=1 id=2 m=0/0/1
        sub | fin
        sub > CONNECT clean=0
        sub < CONNACK sp=1
        sub < PUBLISH qos=1 id=2 dup m=0/0/1
        sub < PUBLISH qos=1 id=1 dup m=0/0/0
        sub > PUBACK 1
        sub > PUBACK 2\n"
        + &drained(1, 2);
    check(&reverse, "O2");
}

#[test]
fn what_is_sent_again_across_topics_may_change_places_in_5() {
    let reverse = joined(1).replace("a@1", "#@1")
        + "pub > PUBLISH qos=1 id=1 topic=a m=0/0/0
        pub > PUBLISH qos=1 id=2 topic=b m=0/1/0
        sub < PUBLISH qos=1 id=1 topic=a m=0/0/0
        sub < PUBLISH qos=1 id=2 topic=b m=0/1/0
        sub | fin
        sub > CONNECT clean=0
        sub < CONNACK sp=1
        sub < PUBLISH qos=1 id=2 topic=b dup m=0/1/0
        sub < PUBLISH qos=1 id=1 topic=a dup m=0/0/0
        sub > PUBACK 2
        sub > PUBACK 1
        end";
    check_5(&reverse, "+O2");
    check_3(&reverse, "~O2");
}

#[test]
fn last_copies_are_in_order() {
    let three: String = (0..3).map(|sequence| published(1, sequence)).collect();
    let come: String =
        (0..3).map(|sequence| format!("sub < PUBLISH qos=1 id=10{sequence} m=0/0/{sequence}\n")).collect();
    let cut = joined(1) + &three + &come + "sub | rst\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";
    let again = |sequence: u64| receiving(1, sequence, "dup");
    check(&(cut.clone() + &again(0) + &again(1) + &again(2) + &drained(1, 3)), "+O3");
    check(&(cut + &again(1) + &again(2) + &again(0) + &drained(1, 3)), "O2 ~O3");
    // Acknowledged out of order, the first alone is sent again.
    let acked = joined(1)
        + &three
        + &come
        + "sub > PUBACK 102\nsub > PUBACK 101\nsub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";
    check(&(acked + &again(0) + &drained(1, 3)), "-O3");
}

#[test]
fn with_a_window_of_one_nothing_steps_back() {
    let start = joined(1).replacen("clean=0", "clean=0 rm=1", 1) + &published(1, 0) + &published(1, 1);
    let back = "sub | rst\nsub > CONNECT clean=0 rm=1\nsub < CONNACK sp=1\n";
    let first = received(1, 0) + &received(1, 1);
    check_5(&(start.clone() + &first + back + &receiving(1, 1, "dup") + &drained(1, 2)), "+O4");
    check_5(&(start + &first + back + &receiving(1, 0, "dup") + &drained(1, 2)), "~O3 ~O4");
}
