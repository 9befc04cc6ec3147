//! Q1 and Q3.

use crate::support::*;

#[test]
fn delivered_is_the_lower_of_published_and_granted() {
    for published_at in 0..=2u8 {
        for granted in 0..=2u8 {
            for came in 0..=2u8 {
                let history = joined(granted) + &published(published_at, 0) + &received(came, 0) + "end";
                let report = report(&history);
                let right = came == published_at.min(granted);
                assert_eq!(
                    !off(&report).contains(&"Q1".to_owned()),
                    right,
                    "{published_at} {granted} {came}"
                );
                assert_eq!(obligations(&report, "Q1"), 1);
            }
        }
    }
}

#[test]
fn the_granted_qos_counts_and_not_the_one_asked_for() {
    let lowered = joined(1).replace("a@1", "a@2");
    check(&(lowered.clone() + &published(2, 0) + &received(1, 0) + &drained_lower()), "+Q1 +Q3");
    check(&(lowered + &published(2, 0) + &received(2, 0) + &drained_lower()), "Q1");
}

fn drained_lower() -> String {
    sentinel(2, 1) + &received_sentinel(1, 1) + "end"
}

#[test]
fn while_a_filter_is_subscribed_again_both_qos_are_right() {
    let again = joined(2) + &published(2, 0) + "sub > SUBSCRIBE 2 a@1\n" + &published(2, 1);
    check(
        &(again.clone() + &received(2, 0) + &received(1, 1) + "sub < SUBACK 2 1\n" + &drained_lower2()),
        "+Q1",
    );
    check(
        &(again.clone() + &received(2, 0) + "sub < SUBACK 2 1\n" + &received(2, 1) + &drained_lower2()),
        "+Q1",
    );
    let after =
        again + &received(2, 0) + &received(2, 1) + "sub < SUBACK 2 1\n" + &published(2, 2) + &received(2, 2);
    check(&(after + "end"), "Q1");
}

fn drained_lower2() -> String {
    sentinel(2, 2) + &received_sentinel(1, 2) + "end"
}

#[test]
fn suback_has_one_lawful_code_a_filter() {
    let asked = "group g\nc > CONNECT clean=1\nc < CONNACK sp=0\nc > SUBSCRIBE 1 a@1 b@2\n".to_owned();
    check(&(asked.clone() + "c < SUBACK 1 1 2\nend"), "+Q3");
    check(&(asked.clone() + "c < SUBACK 1 0 0x80\nend"), "+Q3");
    check(&(asked.clone() + "c < SUBACK 1 2 1\nend"), "Q3");
    check(&(asked.clone() + "c < SUBACK 1 1\nend"), "Q3");
    check(&(asked + "c < SUBACK 2 1 2\nend"), "Q3");
}

#[test]
fn subscribing_again_loses_nothing() {
    let again = joined(1) + "sub > SUBSCRIBE 2 a@1\n" + &published(1, 0) + "sub < SUBACK 2 1\n";
    check(&(again.clone() + &received(1, 0) + &drained(1, 1)), "+Q4 +D1");
    check(&(again + &drained(1, 1)), "D1 Q4");
    check(&(joined(1) + &published(1, 0) + &received(1, 0) + &drained(1, 1)), "-Q4");
}

/// Which of the two QoS levels the broker took for it cannot be seen, and order binds messages of one level only.
#[test]
fn a_message_sent_while_its_grant_changes_is_lost_behind_a_sentinel_of_each_qos() {
    let subscribe = |packet_id: u16, qos: u8| {
        format!("sub > SUBSCRIBE {packet_id} a@{qos}\nsub < SUBACK {packet_id} {qos}\n")
    };
    let rising = joined(1) + "sub > SUBSCRIBE 2 a@2\n" + &published(2, 0) + "sub < SUBACK 2 2\n";
    let at_2 = sentinel(2, 1) + &received_sentinel(2, 1);
    let at_1 = subscribe(3, 1) + &sentinel(2, 2) + &received_sentinel(1, 2);
    check(&(rising.clone() + &at_2 + "end"), "?D1 ?L1 -Q4");
    check(&(rising + &at_2 + &at_1 + "end"), "D1 Q4");
    let falling = joined(2) + "sub > SUBSCRIBE 2 a@1\n" + &published(2, 0) + "sub < SUBACK 2 1\n";
    let at_1 = sentinel(2, 1) + &received_sentinel(1, 1);
    let at_2 = subscribe(3, 2) + &sentinel(2, 2) + &received_sentinel(2, 2);
    check(&(falling.clone() + &at_1 + "end"), "?D1 ?L1 -Q4");
    check(&(falling + &at_1 + &at_2 + "end"), "D1 Q4");
}

#[test]
fn a_maximum_qos_is_announced_and_subscriptions_above_it_are_accepted() {
    let lower = joined(2).replacen("CONNACK sp=0", "CONNACK sp=0 max_qos=1", 1);
    check_5(&(lower.replace("SUBACK 1 2", "SUBACK 1 1") + "end"), "+Q6");
    check_5(&(lower.replace("SUBACK 1 2", "SUBACK 1 0x80") + "end"), "Q6");
    check_5(&(lower.replace("SUBACK 1 2", "SUBACK 1 0x87") + "end"), "+Q6");
    check_5(&(joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0\npub < PUBREC 1 rc=0x9b\nend"), "Q6");
    check_5(&(joined(2) + "end"), "-Q6");
}
