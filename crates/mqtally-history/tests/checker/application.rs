//! A1 and A2.

use crate::support::*;

fn twice() -> String {
    joined(1)
        + &published(1, 0)
        + &received(1, 0)
        + "sub | fin
        sub > CONNECT clean=0
        sub < CONNACK sp=1
        sub < PUBLISH qos=1 id=100 dup m=0/0/0
        sub > PUBACK 100\n"
}

#[test]
fn statistics_that_match_what_was_settled_are_kept() {
    let settled = twice() + "sub | settled 0/0/0 processed\nsub | settled 0/0/0 duplicate\n";
    check(&(settled.clone() + "sub | statistics 2 1 0 0 1\n" + &drained(1, 1)), "+A1 +A2");
    check(&(settled.clone() + "sub | statistics 2 0 0 0 2\n" + &drained(1, 1)), "A1");
    check(&(settled.clone() + "sub | statistics 1 1 0 0 1\n" + &drained(1, 1)), "A1");
    let later = settled + "sub | statistics 9 1 0 0 1\nsub | settled 0/0/0 duplicate\n";
    check(&(later.replace("processed", "failed") + &drained(1, 1)), "?A1");
    check(&(twice() + &drained(1, 1)), "-A1 -A2");
}

#[test]
fn a_conflict_is_processed_too() {
    let conflict = twice() + "sub | settled 0/0/0 processed\nsub | settled 0/0/0 conflict\n";
    check(&(conflict.clone() + "sub | statistics 2 0 1 0 2\n" + &drained(1, 1)), "+A1");
    check(&(conflict + "sub | statistics 2 0 1 0 1\n" + &drained(1, 1)), "+A1");
}

#[test]
fn a_retry_that_succeeds_may_be_counted_as_a_failure_or_not() {
    let retried = twice()
        + "sub | settled 0/0/0 failed\nsub | settled 0/0/0 processed\nsub | settled 0/0/0 duplicate\n";
    check(&(retried.clone() + "sub | statistics 3 1 0 1 1\n" + &drained(1, 1)), "+A1");
    check(&(retried + "sub | statistics 2 1 0 0 1\n" + &drained(1, 1)), "+A1");
}

#[test]
fn more_cannot_be_settled_than_came() {
    let settled = twice() + "sub | settled 0/0/0 processed\n" + &"sub | settled 0/0/0 duplicate\n".repeat(2);
    check(&(settled + &drained(1, 1)), "A1");
    check(&(twice() + "sub | settled 0/0/5 processed\n" + &drained(1, 1)), "A1");
}

#[test]
fn a_new_message_taken_for_a_duplicate_is_broken() {
    // The publisher started again with its counter at 1, and the subscriber went by that.
    let restarted = joined(1)
        + &published(1, 0)
        + &received(1, 0)
        + "two > CONNECT clean=1
        two < CONNACK sp=0
        two > PUBLISH qos=1 id=1 m=1/0/0
        two < PUBACK 1
        sub < PUBLISH qos=1 id=9 m=1/0/0
        sub > PUBACK 9
        sub | settled 0/0/0 processed\n";
    let end = drained(1, 1).replace("end\n", "")
        + "two > PUBLISH qos=1 id=2 m=1/0/1 sentinel
        two < PUBACK 2
        sub < PUBLISH qos=1 id=10 m=1/0/1 sentinel
        sub > PUBACK 10
        end";
    check(&(restarted.clone() + "sub | settled 1/0/0 processed\n" + &end), "+A2");
    check(&(restarted + "sub | settled 1/0/0 duplicate\n" + &end), "A2");
}

#[test]
fn a_second_copy_processed_again_is_broken() {
    check(&(twice() + &"sub | settled 0/0/0 processed\n".repeat(2) + &drained(1, 1)), "A2");
}

#[test]
fn a_copy_may_be_recognised_while_the_first_waits() {
    let early = twice() + "sub | settled 0/0/0 duplicate\nsub | settled 0/0/0 processed\n";
    check(&(early + &drained(1, 1)), "+A2");
}
