//! V1 and V3.

use crate::support::*;

fn with_identifier() -> String {
    joined(1).replace("a@1\n", "a@1 sid=7\n")
}

#[test]
fn a_copy_carries_its_filters_identifier() {
    let sent = with_identifier() + &published(1, 0);
    let end = sentinel(1, 1) + &receiving(1, 1, "sentinel sids=7") + "end";
    check_5(&(sent.clone() + &receiving(1, 0, "sids=7") + &end), "+V1");
    check_5(&(sent.clone() + &receiving(1, 0, "") + &end), "V1");
    check_5(&(sent + &receiving(1, 0, "sids=8") + &end), "V1");
    check_5(&(joined(1) + &published(1, 0) + &receiving(1, 0, "sids=7") + &drained(1, 1)), "V1");
}

#[test]
fn overlapping_filters_identifiers_come_in_one_copy_or_in_several() {
    let sent = with_identifier() + "sub > SUBSCRIBE 2 +@1 sid=8\nsub < SUBACK 2 1\n" + &published(1, 0);
    let end = sentinel(1, 1) + &receiving(1, 1, "sentinel sids=7,8") + "end";
    check_5(&(sent.clone() + &receiving(1, 0, "sids=8,7") + &end), "+V1");
    let second = receiving(1, 0, "sids=8").replace("100", "200");
    check_5(&(sent.clone() + &receiving(1, 0, "sids=7") + &second + &end), "+V1");
    check_5(&(sent + &receiving(1, 0, "sids=7") + &end), "V1");
}

#[test]
fn a_filter_that_is_asked_for_again_may_have_either_identifier() {
    let sent = with_identifier() + "sub > SUBSCRIBE 2 a@1 sid=8\n" + &published(1, 0) + "sub < SUBACK 2 1\n";
    let end = sentinel(1, 1) + &receiving(1, 1, "sentinel sids=8") + "end";
    check_5(&(sent.clone() + &receiving(1, 0, "sids=7") + &end), "+V1");
    check_5(&(sent + &receiving(1, 0, "sids=8") + &end), "+V1");
}

#[test]
fn a_topic_alias_is_within_its_limit_and_defined_on_its_connection() {
    let sent = |limit: &str| joined(1).replacen("clean=0", &format!("clean=0 {limit}"), 1) + &published(1, 0);
    check_5(&(sent("aliases=5") + &receiving(1, 0, "alias=5") + &drained(1, 1)), "+V3");
    check_5(&(sent("aliases=5") + &receiving(1, 0, "alias=6") + &drained(1, 1)), "V3");
    check_5(&(sent("aliases=5") + &receiving(1, 0, "alias=0") + &drained(1, 1)), "V3");
    check_5(&(sent("") + &receiving(1, 0, "alias=1") + &drained(1, 1)), "V3");
    check_5(&(sent("aliases=5") + &receiving(1, 0, "alias=1 topic=none") + &drained(1, 1)), "V3");
    check_5(&(sent("") + &received(1, 0) + &drained(1, 1)), "-V3");
}
