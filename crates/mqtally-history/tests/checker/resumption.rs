//! R1 to R7, R9 and R10.

use crate::support::*;

const BACK: &str = "sub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";

fn open(qos: u8) -> String {
    joined(qos) + &published(qos, 0) + &format!("sub < PUBLISH qos={qos} id=9 m=0/0/0\n")
}

#[test]
fn an_unacknowledged_publish_that_never_comes_again_is_broken() {
    for qos in [1, 2] {
        check(&(open(qos) + BACK + &drained(qos, 1)), "R1");
    }
}

#[test]
fn an_unacknowledged_publish_comes_again_with_dup_and_its_id() {
    let again = "sub < PUBLISH qos=1 id=9 dup m=0/0/0\nsub > PUBACK 9\n";
    check(&(open(1) + BACK + again + &drained(1, 1)), "+R1 +R4 +R5 +R7");
    check(&(open(1) + BACK + &again.replace("dup ", "") + &drained(1, 1)), "R5");
    check(&(open(1) + BACK + &again.replace('9', "10") + &drained(1, 1)), "R4");
}

#[test]
fn a_new_id_at_qos_2_is_also_a_second_copy() {
    let again = "sub < PUBLISH qos=2 id=10 dup m=0/0/0\nsub > PUBREC 10\nsub < PUBREL 10\nsub > PUBCOMP 10\n";
    check(&(open(2) + BACK + again + &drained(2, 1)), "R4 D3");
}

#[test]
fn behind_our_acknowledgement_everything_is_lawful() {
    for cut in ["fin", "rst", "closed", "broken"] {
        let back = BACK.replace("fin", cut);
        let acked = open(1) + "sub > PUBACK 9\n" + &back;
        check(&(acked.clone() + &drained(1, 1)), "-R1");
        check(&(acked + "sub < PUBLISH qos=1 id=9 dup m=0/0/0\nsub > PUBACK 9\n" + &drained(1, 1)), "-R1");
        let acked = open(2) + "sub > PUBREC 9\n" + &back;
        let rest = "sub < PUBREL 9\nsub > PUBCOMP 9\n";
        check(&(acked.clone() + rest + &drained(2, 1)), "-R1");
        let again = "sub < PUBLISH qos=2 id=9 dup m=0/0/0\nsub > PUBREC 9\n";
        check(&(acked + again + rest + &drained(2, 1)), "+D3");
    }
}

#[test]
fn an_unanswered_pubrel_that_never_comes_again_is_broken() {
    let released = open(2) + "sub > PUBREC 9\nsub < PUBREL 9\n" + BACK;
    check(&(released.clone() + &drained(2, 1)), "R2");
    // One more return behind the sentinel settles nothing.
    let ended = sentinel(2, 1) + &received_sentinel(2, 1) + BACK + "end\n";
    check(&(released.clone() + &ended), "R2");
    check(&(released.clone() + "sub < PUBREL 9\nsub > PUBCOMP 9\n" + &drained(2, 1)), "+R2 +R3");
    let publish = "sub < PUBLISH qos=2 id=9 dup m=0/0/0\nsub > PUBREC 9\nsub < PUBREL 9\nsub > PUBCOMP 9\n";
    check(&(released + publish + &drained(2, 1)), "R3 D3");
}

#[test]
fn behind_our_pubcomp_a_pubrel_is_lawful_and_a_publish_is_not() {
    let complete = open(2) + "sub > PUBREC 9\nsub < PUBREL 9\nsub > PUBCOMP 9\n" + BACK;
    check(&(complete.clone() + "sub < PUBREL 9\nsub > PUBCOMP 9\n" + &drained(2, 1)), "");
    check(&(complete + "sub < PUBLISH qos=2 id=9 dup m=0/0/0\n" + &drained(2, 1)), "R3 D3");
}

#[test]
fn a_packet_id_may_serve_another_message_only_when_it_is_free() {
    let free = open(1)
        + "sub > PUBACK 9\n"
        + &published(1, 1)
        + "sub < PUBLISH qos=1 id=9 m=0/0/1\nsub > PUBACK 9\n";
    check(&(free + &drained(1, 2)), "+R7");
    let used = open(1) + &published(1, 1) + "sub < PUBLISH qos=1 id=9 m=0/0/1\nsub > PUBACK 9\n";
    check(&(used + &drained(1, 2)), "R7");
    let zero = joined(1) + &published(1, 0) + "sub < PUBLISH qos=1 id=0 m=0/0/0\nsub > PUBACK 0\n";
    check(&(zero + &drained(1, 1)), "R7");
}

#[test]
fn dup_is_not_handed_on() {
    let resent = joined(1)
        + "pub > PUBLISH qos=1 id=1 m=0/0/0
        pub | fin
        pub > CONNECT clean=0
        pub < CONNACK sp=1
        pub > PUBLISH qos=1 id=1 dup m=0/0/0
        pub < PUBACK 1\n";
    check(&(resent.clone() + &received(1, 0) + &drained(1, 1)), "+R6");
    check(&(resent + &receiving(1, 0, "dup") + &drained(1, 1)), "R6");
    check(&(joined(0) + &published(0, 0) + "sub < PUBLISH qos=0 dup m=0/0/0\nend"), "R6");
}

#[test]
fn the_first_copy_we_see_may_have_dup_after_a_reconnect() {
    let died = joined(1) + &published(1, 0) + BACK + &receiving(1, 0, "dup") + &drained(1, 1);
    check(&died, "-R5");
}

#[test]
fn an_end_of_the_broker_that_the_profile_does_not_cover_settles_all_debts() {
    let killed = open(1)
        + "broker killed
        sub | closed
        pub | closed
        broker started
        sub > CONNECT clean=0
        sub < CONNACK sp=1
        pub > CONNECT clean=0
        pub < CONNACK sp=1\n"
        + &drained(1, 1);
    check(&killed, "-R1");
    check_durable(&killed, "R1");
    // A broker that wrote its session down before the PUBREL goes on from there.
    let released = open(2)
        + "sub > PUBREC 9
        sub < PUBREL 9
        broker killed
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
    check(&released, "-R3");
    check_durable(&released, "R3 D3");
}

#[test]
fn a_pubrel_without_pubcomp_is_broken_when_a_later_ping_is_answered() {
    let released = joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0\npub < PUBREC 1\npub > PUBREL 1\n";
    let ping = "pub > PINGREQ\npub < PINGRESP\n";
    check(&(released.clone() + ping + "wait 5\npub | fin\nend"), "R9");
    check(&(released.clone() + "pub | fin\nend"), "-R9");
    check(&(released + "pub < PUBCOMP 1\n" + ping + &received(2, 0) + &drained(2, 1)), "+R9");
}

/// What is stored before it is answered may be answered behind a PINGREQ that came later.
#[test]
fn an_answer_that_is_still_on_its_way_when_the_connection_ends_is_no_breach() {
    let released = joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0\npub < PUBREC 1\npub > PUBREL 1\n";
    let ping = "pub > PINGREQ\npub < PINGRESP\n";
    check(&(released.clone() + ping + "wait 3\npub | fin\nend"), "-R9");
    check(&(released + ping + "wait 3\npub < PUBCOMP 1\n" + &received(2, 0) + &drained(2, 1)), "+R9");
}

#[test]
fn a_broker_that_closes_over_each_pubrel_does_not_answer_it() {
    let released =
        joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0\npub < PUBREC 1\npub > PUBREL 1\npub | closed\n";
    let again = "pub > CONNECT clean=0\npub < CONNACK sp=1\npub > PUBREL 1\npub | closed\n";
    check(&(released.clone() + again + "end"), "");
    check(&(released.clone() + again + again + "end"), "R9");
    check(&(released + again + "fault cut-publisher pub\n" + again + "end"), "");
}

#[test]
fn an_acknowledgement_answers_what_was_sent() {
    let sent = joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0\n";
    check(&(sent.clone() + "pub < PUBACK 1\n" + &received(1, 0) + &drained(1, 1)), "+R10");
    check(&(sent.clone() + "pub < PUBACK 7\npub < PUBACK 1\n" + &received(1, 0) + &drained(1, 1)), "R10");
    check(&(sent.clone() + "pub < PUBACK 1\npub < PUBACK 1\n" + &received(1, 0) + &drained(1, 1)), "R10");
    check(&(sent + "pub < PUBREC 1\npub < PUBACK 1\n" + &received(1, 0) + &drained(1, 1)), "R10");
}

#[test]
fn a_publish_sent_twice_has_two_acknowledgements() {
    let twice = joined(1)
        + "pub > PUBLISH qos=1 id=1 m=0/0/0
        pub > PUBLISH qos=1 id=1 dup m=0/0/0
        pub < PUBACK 1
        pub < PUBACK 1\n";
    check(&(twice + &received(1, 0) + &received(1, 0) + &drained(1, 1)), "+R10");
}

/// A broker that answers what it holds of a resumed session, and then the repetition as well, answers nothing else: no
/// statement forbids that, though it is odd.
#[test]
fn a_second_pubrec_of_an_exchange_that_was_resumed_is_odd() {
    let cut = "pub | rst\npub > CONNECT clean=0\npub < CONNACK sp=1\n";
    let first = "pub > PUBLISH qos=2 id=1 m=0/0/0\n";
    let done = "pub < PUBREC 1\npub > PUBREL 1\npub < PUBCOMP 1\n";
    let end = received(2, 0) + &drained(2, 1);
    let resumed = joined(2) + first + cut + &first.replace("m=", "dup m=") + done;
    check(&(resumed.clone() + "pub < PUBREC 1\n" + &end), "~R10");
    let released = joined(2) + first + "pub < PUBREC 1\n" + cut + "pub > PUBREL 1\npub < PUBCOMP 1\n";
    check(&(released + "pub < PUBREC 1\n" + &end), "~R10");
    // One that was begun and finished here; one of another id; and one that a third connection knows nothing of.
    check(&(joined(2) + first + done + "pub < PUBREC 1\n" + &end), "R10");
    check(&(resumed.clone() + "pub < PUBREC 7\n" + &end), "R10");
    check(&(resumed + cut + "pub < PUBREC 1\n" + &end), "R10");
}

#[test]
fn a_debt_stands_though_the_session_is_cleaned_up_afterwards() {
    let forgotten = joined(1)
        + &published(1, 0)
        + "sub < PUBLISH qos=1 id=9 m=0/0/0\nsub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n"
        + &sentinel(1, 1)
        + &received_sentinel(1, 1)
        + "sub > DISCONNECT\nsub | fin\nsub > CONNECT clean=1\nsub < CONNACK sp=0\nsub | fin\nend";
    check(&forgotten, "R1");
}

/// Two connections under one client id: what was on its way on the first when the second was accepted is read late, and
/// is the first copy, not one that is sent again.
#[test]
fn what_comes_late_on_a_connection_that_was_taken_over_is_not_sent_again() {
    for qos in [1, 2] {
        let first = joined(qos) + &published(qos, 0);
        let taken_over = "fault takeover sub\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";
        let copy = format!("PUBLISH qos={qos} id=9 {{dup}} m=0/0/0\n");
        let redelivered = "sub < ".to_owned() + &copy.replace("{dup}", "dup");
        let late = "sub#1 < ".to_owned() + &copy.replace("{dup} ", "") + "sub#1 | closed\n";
        let answers = match qos {
            1 => "sub > PUBACK 9\n",
            _ => "sub > PUBREC 9\nsub < PUBREL 9\nsub > PUBCOMP 9\n",
        };
        let back = "sub | closed\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";
        let again = redelivered.clone() + answers;
        let history = first.clone() + taken_over + &redelivered + &late + back + &again;
        check(&(history + &drained(qos, 1)), "+R5");
        // What was answered on the newer connection stays answered.
        let third = "sub | closed\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";
        let answered = first.clone() + taken_over + &again + &late + third;
        check(&(answered + &drained(qos, 1)), "-R1");
        // On the new connection it is another matter.
        let unmarked = first + taken_over + &redelivered + back + &again.replace("dup ", "");
        check(&(unmarked + &drained(qos, 1)), "R5");
    }
}

fn released(id: u16) -> String {
    format!("sub < PUBREL {id}\nsub > PUBCOMP {id}\n")
}

/// One real broker answers two PUBRECs that come together with the PUBREL of the second, twice. The first exchange is
/// never finished, and a receiver that hands a message on at PUBREL has lost it.
#[test]
fn a_pubrec_is_answered_with_the_pubrel_of_its_id() {
    let two =
        open(2) + &published(2, 1) + "sub > PUBREC 9\nsub < PUBLISH qos=2 id=10 m=0/0/1\nsub > PUBREC 10\n";
    check(&(two.clone() + &released(10) + &released(10) + &drained(2, 2)), "R10");
    check(&(two.clone() + &released(10) + &drained(2, 2)), "R10");
    check(&(two.clone() + &released(9) + &released(10) + &drained(2, 2)), "+R10");
    // When it answers is its own affair, as long as it does.
    let end = sentinel(2, 2) + &received_sentinel(2, 2);
    check(&(two.clone() + &released(10) + &end + &released(9) + "end\n"), "+R10");
    check(&(two + &released(10) + BACK + &released(9) + &end + "end\n"), "+R10");
}

/// A broker that stores before it sends PUBREL may answer PINGREQ in the meantime.
#[test]
fn a_pubrel_may_be_on_its_way_until_a_later_exchange_is_released() {
    let sentinel_came = sentinel(2, 1) + "sub < PUBLISH qos=2 id=11 m=0/0/1 sentinel\n";
    let acked = open(2) + "sub > PUBREC 9\n" + &sentinel_came + "sub > PUBREC 11\n";
    let pinged = acked.clone() + "sub > PINGREQ\nsub < PINGRESP\n";
    for cut in [acked.clone(), pinged] {
        check(&(cut.clone() + BACK + &released(9) + &released(11) + "end\n"), "+R10");
        check(&(cut + BACK + &released(11) + "end\n"), "+R10");
    }
    check(&(acked + &released(11) + BACK + &released(9) + "end\n"), "R10");
}

/// Exchanges are in order within a topic. A broker that serves its topics one by one owes another one nothing yet.
#[test]
fn a_pubrel_of_another_topic_proves_nothing() {
    let both = joined(2) + "sub > SUBSCRIBE 2 b@2\nsub < SUBACK 2 2\n" + &published(2, 0);
    let sentinel_came = sentinel(2, 1)
        + "sub < PUBLISH qos=2 id=9 m=0/0/0\nsub > PUBREC 9\n\
           sub < PUBLISH qos=2 id=11 m=0/0/1 sentinel\nsub > PUBREC 11\n";
    let of_b = "pub > PUBLISH qos=2 id=7 topic=b m=0/1/0\npub < PUBREC 7\npub > PUBREL 7\npub < PUBCOMP 7\n\
                sub < PUBLISH qos=2 id=12 topic=b m=0/1/0\nsub > PUBREC 12\n";
    check(&(both.clone() + &sentinel_came + of_b + &released(12) + "sub | fin\nend\n"), "+R10");
    check(&(both + &sentinel_came + of_b + &released(11) + "sub | fin\nend\n"), "R10");
}

#[test]
fn a_message_that_was_refused_is_owed_no_pubrel() {
    check_5(&(open(2) + "sub > PUBREC 9 rc=0x87\n" + &drained(2, 1)), "+R10");
}

/// It may have an older state again, from before its last steps.
#[test]
fn a_broker_that_fell_back_does_not_know_what_it_did_since() {
    let killed = "broker killed\nsub | closed\npub | closed\nbroker started\npub > CONNECT clean=0\npub < CONNACK sp=1\n\
                  sub > CONNECT clean=0\nsub < CONNACK sp=1\n";
    for qos in [1, 2] {
        let ack = if qos == 1 { "sub > PUBACK 9\n" } else { "sub > PUBREC 9\n" };
        let rest = if qos == 1 { String::new() } else { released(9) };
        let again = format!("sub < PUBLISH qos={qos} id=9 m=0/0/0\n{ack}{rest}");
        check(&(open(qos) + killed + &again + &drained(qos, 1)), "-R5");
        check(&(open(qos) + ack + killed + &again + &drained(qos, 1)), "-R5");
        check_durable(&(open(qos) + killed + &again + &drained(qos, 1)), "R5");
    }
    let given_up = joined(1) + "sub > UNSUBSCRIBE 2 a\nsub < UNSUBACK 2 0\n" + killed;
    check(&(given_up.clone() + &published(1, 0) + &received(1, 0) + "end\n"), "");
    check(
        &(joined(2)
            + "sub > SUBSCRIBE 2 a@1\nsub < SUBACK 2 1\n"
            + killed
            + &published(2, 0)
            + &received(2, 0)
            + "end\n"),
        "",
    );
    check_durable(&(given_up + &published(1, 0) + &received(1, 0) + "end\n"), "D10");
}
