//! Lawful and surprising: none of these may be flagged. The others of their kind stand with the promises they
//! concern.

use crate::support::*;

const BACK: &str = "sub | rst\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";

#[test]
fn a_qos_0_message_may_get_lost_or_wait_for_a_session() {
    check(&(joined(0) + &published(0, 0) + &sentinel(0, 1) + &received_sentinel(0, 1) + "end"), "");
    let stored = joined(0) + "sub | fin\n" + &published(0, 0) + "sub > CONNECT clean=0\nsub < CONNACK sp=1\n";
    check(&(stored + &received(0, 0) + "end"), "");
}

#[test]
fn both_answers_are_right_behind_our_pubrec() {
    let cut = joined(2) + &published(2, 0) + "sub < PUBLISH qos=2 id=9 m=0/0/0\nsub > PUBREC 9\n" + BACK;
    let publish = "sub < PUBLISH qos=2 id=9 dup m=0/0/0\nsub > PUBREC 9\n";
    let release = "sub < PUBREL 9\nsub > PUBCOMP 9\n";
    check(&(cut.clone() + release + &drained(2, 1)), "");
    check(&(cut + publish + release + &drained(2, 1)), "");
}

#[test]
fn shared_subscriptions_have_no_order_and_move_qos_1() {
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
fn a_killed_volatile_broker_may_forget_everything() {
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
fn a_session_may_be_gone_after_another_client_started_clean() {
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
fn without_a_final_acknowledgement_anything_may_have_happened() {
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
fn qos_2_may_be_delivered_before_pubrel() {
    let early = joined(2)
        + "pub > PUBLISH qos=2 id=1 m=0/0/0
        pub < PUBREC 1\n"
        + &received(2, 0)
        + "pub > PUBREL 1\npub < PUBCOMP 1\n"
        + &drained(2, 1);
    check(&early, "+D2");
}

#[test]
fn a_retained_message_comes_again_with_each_subscribe() {
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
fn messages_come_until_unsuback_and_buffered_ones_later() {
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
fn no_matching_subscribers_is_a_success_and_an_unknown_id_is_answered() {
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
fn an_expired_message_in_flight_may_come_again_or_not() {
    let sent = joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0 expiry=1\npub < PUBACK 1\n";
    let cut = sent + "sub < PUBLISH qos=1 id=9 m=0/0/0 expiry=1\nwait 3\n" + BACK;
    check_5(&(cut.clone() + &drained(1, 1)), "-R1");
    check_5(&(cut + "sub < PUBLISH qos=1 id=9 dup m=0/0/0\nsub > PUBACK 9\n" + &drained(1, 1)), "+R1");
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
