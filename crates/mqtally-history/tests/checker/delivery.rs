//! D1, D2, S5, S6, D7, Q2 and L1.

use crate::support::*;

#[test]
fn what_is_acknowledged_and_arrives_is_kept() {
    for (qos, exercised) in [(1, "+D1 -D2 +D4 +L1 +R10 +Q1 +D6 +D8 +D9"), (2, "+D2 -D1 +D3 +L1 +R9")] {
        let history = joined(qos) + &published(qos, 0) + &received(qos, 0) + &drained(qos, 1);
        check(&history, exercised);
    }
}

#[test]
fn an_acknowledged_message_that_a_sentinel_overtakes_is_lost() {
    for (qos, promise) in [(1, "D1"), (2, "D2")] {
        let history =
            joined(qos) + &published(qos, 0) + &published(qos, 1) + &received(qos, 1) + &drained(qos, 2);
        check(&history, promise);
        assert_eq!(report(&history).tally.lost, 1);
    }
}

#[test]
fn without_a_sentinel_nothing_is_lost_but_unknown() {
    check(&(joined(1) + &published(1, 0) + "end"), "?D1 ?L1");
    check(&(joined(1) + &published(1, 0) + &sentinel(1, 1) + "end stuck"), "?D1 ?L1");
    check(&(joined(2) + &published(2, 0) + &sentinel(2, 1) + "end stuck"), "?D2 ?L1");
    let report = report(&(joined(1) + &published(1, 0) + "end stuck"));
    assert_eq!((report.tally.lost, report.unknown_because.is_empty()), (0, false));
}

#[test]
fn a_later_message_of_the_stream_proves_a_loss_as_a_sentinel_does() {
    // Its publisher died and left no sentinel.
    let lost = joined(1) + &published(1, 0) + &published(1, 1) + &received(1, 1);
    check(&(lost.clone() + "pub | rst\npub | wiped\nend"), "D1");
    check(&(lost.clone() + "end stuck"), "D1 ?L1");
    check(&(lost + &received(1, 0) + "end"), "O1");
    // Through two filters the copies may come in any order.
    let two = joined(1) + "sub > SUBSCRIBE 2 +@1\nsub < SUBACK 2 1\n" + &published(1, 0) + &published(1, 1);
    check(&(two + &received(1, 1) + "end stuck"), "?D1 ?L1");
}

#[test]
fn a_message_sent_before_suback_is_not_owed() {
    let early = "group g
        sub > CONNECT clean=0
        sub < CONNACK sp=0
        sub > SUBSCRIBE 1 a@1
        pub > CONNECT clean=0
        pub < CONNACK sp=0
        pub > PUBLISH qos=1 id=1 m=0/0/0
        sub < SUBACK 1 1
        pub < PUBACK 1\n";
    check(&(early.to_owned() + &drained(1, 1)), "+D1");
    assert_eq!(report(&(early.to_owned() + &drained(1, 1))).tally.lost, 0);
}

#[test]
fn a_refused_message_is_not_owed_and_odd_when_it_arrives() {
    let refused = joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0\npub < PUBACK 1 rc=0x97\n";
    check_5(&(refused.clone() + &drained(1, 1)), "+D7");
    check_5(&(refused + &received(1, 0) + &drained(1, 1)), "~D7");
}

#[test]
fn a_pubrec_is_no_final_acknowledgement() {
    let owned = joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0\npub < PUBREC 1\n";
    check(&(owned.clone() + &drained(2, 1)), "+D2");
    check(&(owned + &received(2, 0) + &drained(2, 1)), "+D2");
}

#[test]
fn an_owned_message_that_reached_another_session_is_owed_to_all() {
    let two = joined(2)
        + "two > CONNECT clean=0
        two < CONNACK sp=0
        two > SUBSCRIBE 1 a@2
        two < SUBACK 1 2
        pub > PUBLISH qos=2 id=1 m=0/0/0
        pub < PUBREC 1
        two < PUBLISH qos=2 id=9 m=0/0/0\n"
        + &sentinel(2, 1)
        + "two < PUBLISH qos=2 id=10 m=0/0/1 sentinel\n"
        + &received_sentinel(2, 1)
        + "end";
    check(&two, "D2");
}

#[test]
fn messages_wait_for_a_session_that_is_away() {
    let away = joined(1) + "sub > DISCONNECT\nsub | fin\n" + &published(1, 0);
    let back = "sub > CONNECT clean=0\nsub < CONNACK sp=1\n";
    check(&(away.clone() + back + &received(1, 0) + &drained(1, 1)), "+S6 +S2 +D1 +S5");
    check(&(away + back + &drained(1, 1)), "D1 S6");
}

#[test]
fn a_session_that_was_lost_takes_its_messages_along_as_one_violation() {
    let lost = joined(1)
        + "sub | fin\n"
        + &published(1, 0)
        + &published(1, 1)
        + "sub > CONNECT clean=0
        sub < CONNACK sp=0
        sub > SUBSCRIBE 2 a@1
        sub < SUBACK 2 1\n"
        + &drained(1, 2);
    check(&lost, "S2");
    let report = report(&lost);
    assert_eq!((report.tally.lost, report.findings[0].count), (0, 1));
    assert!(report.findings[0].message.contains("2 acknowledged messages"), "{}", report.findings[0].message);
}

#[test]
fn a_resumed_session_without_its_subscriptions_is_its_own_violation() {
    let silent = joined(1)
        + "sub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n"
        + "pub > PUBLISH qos=1 id=1 m=0/0/0 canary\npub < PUBACK 1\n"
        + &published(1, 1)
        + "sub > PINGREQ\nsub < PINGRESP\nsub > PINGREQ\nsub < PINGRESP\n"
        + "sub > SUBSCRIBE 2 a@1\nsub < SUBACK 2 1\n"
        + &drained(1, 2);
    check(&silent, "S5");
    let report = report(&silent);
    assert!(report.findings[0].message.contains("1 acknowledged message"), "{}", report.findings[0].message);
    // Even where the broker declares nothing: it said that it has the session.
    let killed = silent.replace("sub | fin", "broker killed\nsub | closed\nbroker started");
    check(&killed, "S5");
}

#[test]
fn a_filter_is_not_dead_where_its_places_may_be_taken() {
    let (asked, left) = ("sub > SUBSCRIBE 2 b@0\nsub < SUBACK 2 0\n", "end stuck");
    let missing = published(2, 1) + &published(2, 2) + &published(2, 3) + asked + left;
    let open = joined(2) + &published(2, 0) + "sub < PUBLISH qos=2 id=9 m=0/0/0\nsub > PUBREC 9\n";
    check(&(open.clone() + "sub < PUBREL 9\nsub > PUBCOMP 9\n" + BACK + &missing), "?L1 S5");
    check(&(open + BACK + &missing), "?D2 ?L1");
}

const BACK: &str = "sub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";

#[test]
fn a_canary_that_an_unready_filter_misses_is_not_lost() {
    let canary = joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0 canary\npub < PUBACK 1\n" + &drained(1, 1);
    check(&canary, "+D1");
}

#[test]
fn what_an_uncovered_end_of_the_broker_lost_is_excused_and_under_its_profile_is_lost() {
    let killed = joined(1)
        + &published(1, 0)
        + "broker killed
        sub | closed
        pub | closed
        broker started
        sub > CONNECT clean=0
        sub < CONNACK sp=1
        pub > CONNECT clean=0
        pub < CONNACK sp=1\n"
        + &drained(1, 1);
    check(&killed, "+D1");
    assert_eq!(report(&killed).tally.excused, 1);
    check_durable(&killed, "D1");
}

#[test]
fn what_expires_or_is_too_large_is_excused() {
    let expiring = joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0 expiry=1\npub < PUBACK 1\n" + &drained(1, 1);
    check_5(&expiring, "+D1");
    let large = joined(1).replacen("CONNECT clean=0", "CONNECT clean=0 max=1000", 1)
        + "pub > PUBLISH qos=1 id=1 m=0/0/0 len=1000\npub < PUBACK 1\n"
        + &drained(1, 1);
    check_5(&large, "+D1");
    assert_eq!(report(&large).tally.excused, 1);
}

#[test]
fn overlapping_filters_deliver_at_the_best_qos() {
    let overlapping = joined(0) + "sub > SUBSCRIBE 2 +@1\nsub < SUBACK 2 1\n" + &published(1, 0);
    let end = sentinel(1, 1) + &received_sentinel(1, 1) + "end";
    check(&(overlapping.clone() + &received(1, 0) + &end), "+Q2 +Q1");
    check(&(overlapping.clone() + &received(0, 0) + &received(1, 0) + &end), "+Q2");
    check(&(overlapping + &received(0, 0) + &end), "Q2");
}

#[test]
fn a_sentinel_at_another_qos_proves_nothing() {
    let lowered = joined(2) + &published(2, 0) + "sub > SUBSCRIBE 2 a@1\nsub < SUBACK 2 1\n";
    check(&(lowered + &sentinel(2, 1) + &received_sentinel(1, 1) + "end"), "?D2 ?L1");
}

#[test]
fn a_loss_stands_though_the_session_is_cleaned_up_afterwards() {
    let cleaned = joined(1)
        + &published(1, 0)
        + &sentinel(1, 1)
        + &received_sentinel(1, 1)
        + "sub | fin\nsub > CONNECT clean=1\nsub < CONNACK sp=0\nsub | fin\nend";
    check(&cleaned, "D1");
}
