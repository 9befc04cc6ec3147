//! Lawful and surprising: none of these may be flagged. The numbers are those of the catalogue's twenty-six cases; the
//! others of their kind stand with the promises they concern, and in `oddities`.

use crate::support::*;

const BACK: &str = "sub | rst\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";

#[test]
fn case_03_a_qos_0_message_may_get_lost_or_wait_for_a_session() {
    check(&(joined(0) + &published(0, 0) + &sentinel(0, 1) + &received_sentinel(0, 1) + "end"), "");
    let stored = joined(0) + "sub | fin\n" + &published(0, 0) + "sub > CONNECT clean=0\nsub < CONNACK sp=1\n";
    check(&(stored + &received(0, 0) + "end"), "");
}

#[test]
fn case_06_both_answers_are_right_behind_our_pubrec() {
    let cut = joined(2) + &published(2, 0) + "sub < PUBLISH qos=2 id=9 m=0/0/0\nsub > PUBREC 9\n" + BACK;
    let publish = "sub < PUBLISH qos=2 id=9 dup m=0/0/0\nsub > PUBREC 9\n";
    let release = "sub < PUBREL 9\nsub > PUBCOMP 9\n";
    check(&(cut.clone() + release + &drained(2, 1)), "");
    check(&(cut + publish + release + &drained(2, 1)), "");
}

#[test]
fn case_10_shared_subscriptions_have_no_order_and_move_qos_1() {
    let shared = "group g
        sub > CONNECT clean=0
        sub < CONNACK sp=0
        sub > SUBSCRIBE 1 $share/x/a@1
        sub < SUBACK 1 1
        two > CONNECT clean=0
        two < CONNACK sp=0
        two > SUBSCRIBE 1 $share/x/a@1
        two < SUBACK 1 1
        pub > CONNECT clean=0
        pub < CONNACK sp=0
        pub > PUBLISH qos=1 id=1 m=0/0/0
        pub > PUBLISH qos=1 id=2 m=0/0/1
        pub > PUBLISH qos=1 id=3 m=0/0/2
        pub < PUBACK 1
        pub < PUBACK 2
        pub < PUBACK 3
        two < PUBLISH qos=1 id=1 m=0/0/0
        two | rst
        sub < PUBLISH qos=1 id=1 m=0/0/2
        sub < PUBLISH qos=1 id=2 m=0/0/1
        sub < PUBLISH qos=1 id=3 dup m=0/0/0
        sub > PUBACK 1
        sub > PUBACK 2
        sub > PUBACK 3
        end";
    check(shared, "-D1");
}

#[test]
fn case_11_a_killed_volatile_broker_may_forget_everything() {
    let killed = joined(2)
        + &published(2, 0)
        + "sub < PUBLISH qos=2 id=9 m=0/0/0
        broker killed
        sub | closed
        pub | broken
        broker started
        sub > CONNECT clean=0
        sub < CONNACK sp=0
        sub > SUBSCRIBE 2 a@2
        sub < SUBACK 2 2
        pub > CONNECT clean=0
        pub < CONNACK sp=0\n"
        + &drained(2, 1);
    check(&killed, "-S2");
    check_durable(&killed, "S2");
}

#[test]
fn case_12_a_session_may_be_gone_after_another_client_started_clean() {
    // The same client id in the hands of somebody who started clean and went.
    let clean = joined(1)
        + "sub | fin
        sub > CONNECT clean=1
        sub < CONNACK sp=0
        sub > DISCONNECT
        sub | fin
        sub > CONNECT clean=0
        sub < CONNACK sp=0
        sub > SUBSCRIBE 2 a@1
        sub < SUBACK 2 1\n"
        + &drained(1, 0);
    check(&clean, "");
}

#[test]
fn case_13_without_a_final_acknowledgement_anything_may_have_happened() {
    for qos in [1, 2] {
        let pending = joined(qos)
            + &format!("pub > PUBLISH qos={qos} id=1 m=0/0/0\n")
            + "pub | rst\npub > CONNECT clean=1\npub < CONNACK sp=0\n";
        let absent = pending.clone() + &drained(qos, 1);
        check(&absent, "");
        assert_eq!(report(&absent).tally.unresolved, 1);
        let present = pending + &received(qos, 0) + &drained(qos, 1);
        check(&present, "");
        assert_eq!((report(&present).tally.recovered, report(&present).tally.unresolved), (1, 0));
    }
}

#[test]
fn case_15_qos_2_may_be_delivered_before_pubrel() {
    let early = joined(2)
        + "pub > PUBLISH qos=2 id=1 m=0/0/0
        pub < PUBREC 1\n"
        + &received(2, 0)
        + "pub > PUBREL 1\npub < PUBCOMP 1\n"
        + &drained(2, 1);
    check(&early, "+D2");
}

#[test]
fn case_18_a_retained_message_comes_again_with_each_subscribe() {
    let retained = joined(1)
        + "pub > PUBLISH qos=1 id=1 m=0/0/0 retain
        pub < PUBACK 1\n"
        + &received(1, 0)
        + "sub > SUBSCRIBE 2 a@1
        sub < PUBLISH qos=1 id=9 m=0/0/0 retain
        sub > PUBACK 9
        sub < SUBACK 2 1\n"
        + &drained(1, 1);
    check(&retained, "");
}

#[test]
fn a_retained_qos_2_message_of_before_may_come_out_of_order() {
    let retained = "group g
        pub > CONNECT clean=0
        pub < CONNACK sp=0
        sub > CONNECT clean=0
        sub < CONNACK sp=0
        pub > PUBLISH qos=2 id=1 m=0/0/0 retain
        pub < PUBREC 1
        pub > PUBREL 1
        pub < PUBCOMP 1
        sub > SUBSCRIBE 1 a@2\n"
        .to_owned()
        + &published(2, 1)
        + &received(2, 1)
        + "sub < SUBACK 1 2\n"
        + &receiving(2, 0, "retain")
        + &drained(2, 2);
    check(&retained, "");
}

#[test]
fn case_20_messages_come_until_unsuback_and_buffered_ones_later() {
    let buffered = joined(1)
        + &published(1, 0)
        + "sub > UNSUBSCRIBE 2 a\n"
        + &published(1, 1)
        + &received(1, 0)
        + "sub < UNSUBACK 2 0\n"
        + &received(1, 1)
        + "end";
    check(&buffered, "");
}

#[test]
fn case_22_23_no_matching_subscribers_is_a_success_and_an_unknown_id_is_answered() {
    let alone = "group g
        pub > CONNECT clean=0
        pub < CONNACK sp=0
        pub > PUBLISH qos=1 id=1 m=0/0/0
        pub < PUBACK 1 rc=0x10
        pub > PUBLISH qos=2 id=2 m=0/1/0
        pub < PUBREC 2 rc=0x10
        pub > PUBREL 2
        pub | rst
        pub > CONNECT clean=0
        pub < CONNACK sp=1
        pub > PUBREL 2
        pub < PUBCOMP 2 rc=0x92
        end";
    check_5(alone, "+R9");
    assert_eq!(report(alone).tally.acknowledged, 2);
}

#[test]
fn case_25_an_expired_message_in_flight_may_come_again_or_not() {
    let sent = joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0 expiry=1\npub < PUBACK 1\n";
    let cut = sent + "sub < PUBLISH qos=1 id=9 m=0/0/0 expiry=1\nwait 3\n" + BACK;
    check_5(&(cut.clone() + &drained(1, 1)), "-R1");
    check_5(&(cut + "sub < PUBLISH qos=1 id=9 dup m=0/0/0\nsub > PUBACK 9\n" + &drained(1, 1)), "+R1");
    // At QoS 2 an exchange that has begun goes on to its end.
    let begun = joined(2)
        + &published(2, 0).replace("m=", "expiry=1 m=")
        + "sub < PUBLISH qos=2 id=9 m=0/0/0 expiry=1\nsub > PUBREC 9\nwait 3\n";
    check_5(&(begun.clone() + BACK + "sub < PUBREL 9\nsub > PUBCOMP 9\n" + &drained(2, 1)), "-E1");
    let again = "sub < PUBLISH qos=2 id=9 dup m=0/0/0\nsub > PUBREC 9\nsub < PUBREL 9\nsub > PUBCOMP 9\n";
    check_5(&(begun + BACK + again + &drained(2, 1)), "-E1");
}

#[test]
fn a_session_that_was_resumed_though_it_was_denied_is_one_violation() {
    let denied = joined(1)
        + &published(1, 0)
        + "sub < PUBLISH qos=1 id=100 m=0/0/0
        sub | fin
        sub > CONNECT clean=0
        sub < CONNACK sp=0
        sub < PUBLISH qos=1 id=100 dup m=0/0/0
        sub > PUBACK 100\n"
        + &published(1, 1)
        + &received(1, 1)
        + &sentinel(1, 2)
        + &received_sentinel(1, 2)
        + "end";
    check(&denied, "S2");
}

#[test]
fn a_storm_of_connects_leaves_the_session_in_doubt() {
    let storm = joined(1)
        + "sub > CONNECT clean=0
        sub > CONNECT clean=0
        sub#2 < CONNACK sp=1
        sub#1 | closed
        sub#3 < CONNACK sp=1
        sub#2 | closed\n"
        + &published(1, 0)
        + &received(1, 0)
        + &drained(1, 1);
    check(&storm, "+S9");
}

#[test]
fn case_01_a_qos_1_message_may_come_twice_after_a_reconnect() {
    let again = joined(1) + &published(1, 0) + "sub < PUBLISH qos=1 id=9 m=0/0/0\n" + BACK;
    check(&(again + "sub < PUBLISH qos=1 id=9 dup m=0/0/0\nsub > PUBACK 9\n" + &drained(1, 1)), "+R5 +D4");
}

#[test]
fn case_02_one_two_three_two_three_four_is_in_order() {
    let sent: String = (0..4).map(|sequence| published(1, sequence)).collect();
    let publish =
        |sequence: u64, rest: &str| format!("sub < PUBLISH qos=1 id=10{sequence} m=0/0/{sequence} {rest}\n");
    let first = publish(0, "") + "sub > PUBACK 100\n" + &publish(1, "") + &publish(2, "");
    let second = receiving(1, 1, "dup") + &receiving(1, 2, "dup") + &received(1, 3);
    check(&(joined(1) + &sent + &first + BACK + &second + &drained(1, 4)), "+O1 +O3");
}

#[test]
fn case_04_qos_0_copies_of_a_qos_1_message_may_be_duplicated() {
    let twice = joined(0) + &published(1, 0) + &received(0, 0) + &received(0, 0);
    check(&(twice + &sentinel(1, 1) + &received_sentinel(0, 1) + "end"), "-D5");
}

#[test]
fn case_05_the_first_copy_that_is_seen_may_have_dup() {
    let died = joined(1) + "sub | rst\n" + &published(1, 0) + "sub > CONNECT clean=0\nsub < CONNACK sp=1\n";
    check(&(died + &receiving(1, 0, "dup") + &drained(1, 1)), "");
}

#[test]
fn case_07_overlapping_filters_give_one_copy_or_one_each() {
    let overlap = joined(1) + "sub > SUBSCRIBE 2 +@1\nsub < SUBACK 2 1\n" + &published(1, 0);
    let second = received(1, 0).replace("100", "200");
    let end = sentinel(1, 1) + &received_sentinel(1, 1) + "end";
    check(&(overlap.clone() + &received(1, 0) + &end), "+Q2");
    check(&(overlap + &received(1, 0) + &second + &end), "+Q2");
}

#[test]
fn case_08_topics_publishers_and_qos_have_no_order_among_them() {
    let other = |topic: &str, qos: u8, stream: u8| {
        let publish = format!("PUBLISH qos={qos} id=2{stream} topic={topic} m=0/{stream}/0");
        (
            format!("pub > {publish}\npub < PUBACK 2{stream}\n"),
            format!("sub < {publish}\nsub > PUBACK 2{stream}\n"),
        )
    };
    let (sent, came) = other("b", 1, 1);
    let start = joined(1).replace("a@1", "#@1") + &published(1, 0) + &sent;
    check(
        &(start
            + &came
            + &received(1, 0)
            + &drained(1, 1).replace("end\n", "")
            + "pub > PUBLISH qos=1 id=9 topic=b m=0/1/1 sentinel\npub < PUBACK 9\nsub < PUBLISH qos=1 id=9 topic=b m=0/1/1 sentinel\nsub > PUBACK 9\nend"),
        "+D1",
    );
}

#[test]
fn case_09_qos_0_may_overtake_qos_1_of_its_topic() {
    let both = joined(1) + &published(1, 0) + "pub > PUBLISH qos=0 m=0/1/0\nsub < PUBLISH qos=0 m=0/1/0\n";
    check(&(both + &received(1, 0) + &drained(1, 1)), "+D1");
}

#[test]
fn case_12_a_session_may_be_gone_after_its_expiry() {
    let expired = joined(1).replacen("clean=0", "clean=0 expiry=1", 1)
        + "sub | fin\nwait 4\n"
        + &published(1, 0)
        + "sub > CONNECT clean=0\nsub < CONNACK sp=0\nsub > SUBSCRIBE 2 a@1\nsub < SUBACK 2 1\n";
    check_5(&(expired + &drained(1, 1)), "+S8");
}

#[test]
fn case_14_qos_2_without_pubrel_may_be_delivered_or_not() {
    let owned = joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0\npub < PUBREC 1\n";
    check(&(owned.clone() + &received(2, 0) + &drained(2, 1)), "");
    check(&(owned + &drained(2, 1)), "");
}

#[test]
fn case_16_retained_old_new_or_both_when_subscribe_races_it() {
    let start = "group g
        pub > CONNECT clean=0
        pub < CONNACK sp=0
        sub > CONNECT clean=0
        sub < CONNACK sp=0
        pub > PUBLISH qos=1 id=1 m=0/0/0 retain
        pub < PUBACK 1
        sub > SUBSCRIBE 1 a@1
        pub > PUBLISH qos=1 id=2 m=0/0/1 retain
        sub < SUBACK 1 1
        pub < PUBACK 2\n";
    let old = "sub < PUBLISH qos=1 id=9 m=0/0/0 retain\nsub > PUBACK 9\n";
    let new = "sub < PUBLISH qos=1 id=10 m=0/0/1 retain\nsub > PUBACK 10\n";
    let live = "sub < PUBLISH qos=1 id=11 m=0/0/1\nsub > PUBACK 11\n";
    for come in
        [old.to_owned(), new.to_owned(), [old, new].concat(), [old, live].concat(), [new, live].concat()]
    {
        check(&(start.to_owned() + &come + "wait 6\nend"), "");
    }
}

#[test]
fn case_17_a_retained_qos_0_message_may_vanish() {
    let gone = "group g
        pub > CONNECT clean=0
        pub < CONNACK sp=0
        sub > CONNECT clean=0
        sub < CONNACK sp=0
        pub > PUBLISH qos=0 m=0/0/0 retain
        sub > SUBSCRIBE 1 a@1
        sub < SUBACK 1 1
        wait 6
        end";
    check(gone, "-T1");
}

#[test]
fn case_19_a_filter_that_is_not_known_everywhere_yet_may_miss_its_canary() {
    let canary = joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0 canary\npub < PUBACK 1\n";
    check(&(canary + &drained(1, 1)), "");
}

#[test]
fn case_21_a_will_comes_on_a_takeover_and_not_within_its_delay() {
    let taken = |delay: u8| {
        format!(
            "group g\nsub > CONNECT clean=0 ka=0\nsub < CONNACK sp=0\nsub > SUBSCRIBE 1 will@1\nsub < SUBACK 1 1\n\
             c > CONNECT clean=0 will m=9/0/0 delay={delay}\nc < CONNACK sp=0\nc > CONNECT clean=0\nc < CONNACK sp=1\n\
             c#1 | closed\n"
        )
    };
    let will = "sub < PUBLISH qos=1 id=9 topic=will m=9/0/0\nsub > PUBACK 9\n";
    check_5(&(taken(0) + will + "end"), "+W1");
    check_5(&(taken(5) + "wait 12\nend"), "+W4");
}

#[test]
fn case_24_a_silent_client_is_closed_and_that_is_right() {
    check("group g\nc > CONNECT clean=0 ka=2\nc < CONNACK sp=0\nwait 3\nc | closed\nend", "+S14");
}

#[test]
fn case_26_a_granted_qos_below_the_one_asked_for_is_what_counts() {
    let lower = joined(2).replace("SUBACK 1 2", "SUBACK 1 1") + &published(2, 0);
    check(&(lower + &received(1, 0) + &sentinel(2, 1) + &received_sentinel(1, 1) + "end"), "+Q1 +D1 -D2");
}
