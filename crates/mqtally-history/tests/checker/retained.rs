//! T1 to T9.

use crate::support::*;

/// A publisher with one complete retained message, and a client that will subscribe.
fn retained(first: &str) -> String {
    format!(
        "group g
        pub > CONNECT clean=0
        pub < CONNACK sp=0
        sub > CONNECT clean=0
        sub < CONNACK sp=0
        pub > PUBLISH qos=1 id=1 m=0/0/0 retain {first}
        pub < PUBACK 1\n"
    )
}

const ASK: &str = "sub > SUBSCRIBE 1 a@1\nsub < SUBACK 1 1\n";
const GOT: &str = "sub < PUBLISH qos=1 id=9 m=0/0/0 retain\nsub > PUBACK 9\n";
const END: &str = "sub > PINGREQ\nsub < PINGRESP\nwait 1.5\nend";
const CLEAR: &str = "pub > PUBLISH qos=1 id=3 retain len=0 crc=0\npub < PUBACK 3\n";

#[test]
fn a_new_subscription_gets_the_retained_message() {
    check(&(retained("") + ASK + GOT + END), "+T1 +T2 +T7 -T3 -Q1");
    check(&(retained("") + ASK + END), "T1");
    // Behind SUBACK it may take its time, and who went at once cannot tell.
    check(&(retained("") + ASK + "sub > PINGREQ\nsub < PINGRESP\nsub | fin\nend"), "-T1");
    check(&(retained("") + ASK + "wait 6\nsub | fin\nend"), "T1");
    check(&(retained("") + ASK + "wait 6\nsub | broken\nend"), "-T1");
}

#[test]
fn it_is_the_last_one_and_comes_once() {
    let two = retained("") + "pub > PUBLISH qos=1 id=2 m=0/0/1 retain\npub < PUBACK 2\n" + ASK;
    let last = "sub < PUBLISH qos=1 id=9 m=0/0/1 retain\nsub > PUBACK 9\n";
    check(&(two.clone() + last + END), "+T1");
    check(&(two.clone() + GOT + END), "T1");
    check(&(two + last + &last.replace('9', "10") + END), "~T1");
}

#[test]
fn a_write_that_races_the_subscription_may_be_seen_or_not() {
    let race = retained("") + "pub > PUBLISH qos=1 id=2 m=0/0/1 retain\n" + ASK + "pub < PUBACK 2\n";
    let new = "sub < PUBLISH qos=1 id=10 m=0/0/1 retain\nsub > PUBACK 10\n";
    check(&(race.clone() + GOT + END), "+T1");
    check(&(race.clone() + new + END), "+T1");
    check(&(race.clone() + GOT + new + END), "+T1");
    check(&(race + END), "T1");
}

#[test]
fn qos_0_may_be_discarded() {
    let gone = retained("") + "pub > PUBLISH qos=0 m=0/1/0 retain\n" + ASK;
    check(&(gone.clone() + END), "-T1");
    check(&(gone.clone() + GOT + END), "-T1");
    check(&(gone + "sub < PUBLISH qos=0 m=0/1/0 retain\n" + END), "-T1");
}

#[test]
fn a_retained_message_is_sent_again_on_each_subscribe() {
    let again = retained("") + ASK + GOT + "sub > SUBSCRIBE 2 a@1\nsub < SUBACK 2 1\n";
    check(&(again.clone() + &GOT.replace('9', "10") + END), "+T1");
    check(&(again + END), "T1");
}

#[test]
fn a_retained_message_has_the_flag() {
    let bare = GOT.replace(" retain", "");
    check(&(retained("") + ASK + &bare + END), "T2");
    // It is no live copy either, which would be out of order.
    let behind = published(1, 1) + &received(1, 1) + &bare;
    check(&(retained("") + ASK + &behind + &drained(1, 2)), "T2");
}

#[test]
fn a_live_message_has_no_flag() {
    let live = |flag: &str, options: &str| {
        retained("").replace("pub > PUBLISH qos=1 id=1 m=0/0/0 retain \n        pub < PUBACK 1\n", "")
            + &ASK.replace("a@1", &format!("a@1{options}"))
            + "wait 6\npub > PUBLISH qos=1 id=1 m=0/0/0 retain\npub < PUBACK 1\n"
            + &receiving(1, 0, flag)
            + &drained(1, 1)
    };
    check(&live("", ""), "+T3 +D1");
    check(&live("retain", ""), "T3");
    check_5(&live("retain", ",rap"), "+T3 +D1");
    check_5(&live("", ",rap"), "T3");
    // One that was published without it never has it.
    let plain = joined(1) + &published(1, 0) + &receiving(1, 0, "retain") + &drained(1, 1);
    check(&plain, "T3");
}

#[test]
fn just_behind_suback_a_message_may_be_read_as_retained_and_come_live_as_well() {
    let both = "sub < PUBLISH qos=1 id=9 m=0/0/0 retain\nsub > PUBACK 9\n";
    let history = joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0 retain\npub < PUBACK 1\n" + both;
    check(&(history.clone() + &received(1, 0) + &drained(1, 1)), "");
    check(&(history + &drained(1, 1)), "T3");
}

#[test]
fn an_empty_message_clears_the_topic() {
    check(&(retained("") + CLEAR + ASK + END), "+T4 -T1");
    check(&(retained("") + CLEAR + ASK + GOT + END), "T4");
    let empty = "sub < PUBLISH qos=1 id=9 retain len=0 crc=0\nsub > PUBACK 9\n";
    check(&(retained("") + CLEAR + ASK + empty + END), "T4");
    // It is itself sent to those who are there.
    let live = joined(1) + CLEAR + "sub < PUBLISH qos=1 id=9 len=0 crc=0\nsub > PUBACK 9\n" + &drained(1, 0);
    check(&live, "-T4");
}

#[test]
fn a_message_without_retain_changes_nothing() {
    let passed = retained("") + "pub > PUBLISH qos=1 id=2 m=0/0/1\npub < PUBACK 2\n" + ASK;
    check(&(passed.clone() + GOT + END), "+T5 +T1");
    check(&(passed.clone() + END), "T1 T5");
    check(&(passed + &GOT.replace("0/0/0", "0/0/1") + END), "T1 T5");
}

#[test]
fn retained_messages_outlive_the_session() {
    let ended = retained("").replacen("pub > CONNECT clean=0", "pub > CONNECT clean=1", 1)
        + "pub > DISCONNECT\npub | fin\n"
        + ASK;
    check(&(ended.clone() + GOT + END), "+T6 +T1");
    check(&(ended + END), "T1 T6");
}

#[test]
fn a_retained_message_comes_at_the_lower_qos() {
    let low = ASK.replace("a@1", "a@0").replace("SUBACK 1 1", "SUBACK 1 0");
    check(&(retained("") + &low + "sub < PUBLISH qos=0 m=0/0/0 retain\n" + END), "+T7");
    check(&(retained("") + &low + GOT + END), "T7");
}

#[test]
fn retain_handling_is_obeyed() {
    let ask = |options: &str| ASK.replace("a@1", &format!("a@1{options}"));
    check_5(&(retained("") + &ask(",rh2") + END), "+T8 -T1");
    check_5(&(retained("") + &ask(",rh2") + GOT + END), "T8");
    check_5(&(retained("") + &ask(",rh1") + GOT + END), "+T8 +T1");
    check_5(&(retained("") + &ask(",rh1") + END), "T1 T8");
    let again = retained("") + &ask("") + GOT + &ask(",rh1").replace(" 1 ", " 2 ");
    check_5(&(again.clone() + END), "+T8");
    check_5(&(again + &GOT.replace('9', "10") + END), "T8");
}

#[test]
fn a_resumed_session_is_no_new_subscription() {
    let back = "sub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";
    let history = retained("") + ASK + GOT + back;
    check(&(history.clone() + &GOT.replace('9', "10") + END), "~T8");
    // One that waited, or was on its way, is welcome.
    let waiting = retained("") + ASK + back + GOT + END;
    check(&waiting, "+T2");
    let unanswered = retained("") + ASK + "sub < PUBLISH qos=1 id=9 m=0/0/0 retain\n" + back;
    check(&(unanswered + &GOT.replace("m=", "dup m=") + END), "+R5");
}

#[test]
fn an_expired_retained_message_is_not_sent() {
    let expired = retained("expiry=1") + "wait 3\n" + ASK;
    check_5(&(expired.clone() + END), "+T9 -T1");
    check_5(&(expired + &GOT.replace("m=", "expiry=0 m=") + END), "T9");
    let fresh = retained("expiry=60") + ASK;
    check_5(&(fresh.clone() + &GOT.replace("m=", "expiry=60 m=") + END), "-T9");
    check_5(&(fresh + END), "-T9 -T1");
}

#[test]
fn a_shared_subscription_reads_nothing() {
    let shared = ASK.replace("a@1", "$share/x/a@1");
    check_5(&(retained("") + &shared + END), "-T1");
    check_5(&(retained("") + &shared + GOT + END), "~T8");
}

#[test]
fn a_retained_message_of_a_killed_volatile_broker_may_be_gone() {
    let killed = retained("")
        + "broker killed\npub | closed\nsub | closed\nbroker started\nsub > CONNECT clean=0\nsub < CONNACK sp=0\n"
        + ASK
        + END;
    check(&killed, "-T1");
    check_durable(&killed, "S2 T1");
}

#[test]
fn what_another_run_retained_comes_first() {
    let left = "sub < PUBLISH qos=1 id=9 m=foreign retain\nsub > PUBACK 9\n";
    let none = retained("").split("pub > PUBLISH").next().unwrap_or_default().to_owned();
    check(&(none + ASK + left + END), "-T1");
    check(&(retained("") + ASK + left + GOT.replace('9', "10").as_str() + END), "T1");
}

#[test]
fn a_qos_0_message_may_be_live_or_retained_when_its_subscription_races_it() {
    let sent = joined(0) + "pub > PUBLISH qos=0 m=0/0/0 retain\n" + "sub < PUBLISH qos=0 m=0/0/0\n";
    let again = "sub > SUBSCRIBE 2 a@0\nsub < SUBACK 2 0\n";
    // A retained copy without its flag is no second live copy.
    check(&(sent.clone() + again + "sub < PUBLISH qos=0 m=0/0/0\nend"), "-T2");
    check(&(sent + again + "sub < PUBLISH qos=0 m=0/0/0 retain\nend"), "+T2");
}

/// A publisher that dies before it has stored the acknowledgement submits the message once more. What comes of that was
/// taken for the retained message without its flag, where the filter was new since the first time.
#[test]
fn a_message_that_is_submitted_again_comes_live_to_a_filter_that_is_new_since() {
    let again = "pub > PUBLISH qos=1 id=2 m=0/0/0 retain\npub < PUBACK 2\n";
    let live = "sub < PUBLISH qos=1 id=10 m=0/0/0\nsub > PUBACK 10\n";
    check(&(retained("") + ASK + GOT + again + live + END), "+T1 +T2 +T3");
    check(&(retained("") + ASK + GOT + live + END), "~T1 T2");
}

/// The second submission was taken for a later message, in whose place the first one came.
#[test]
fn a_message_that_is_submitted_again_is_the_last_one_as_well() {
    let again = "pub > PUBLISH qos=1 id=2 m=0/0/0 retain\npub < PUBACK 2\n";
    check(&(retained("") + again + ASK + GOT + END), "+T1");
    let other = "pub > PUBLISH qos=1 id=2 m=0/0/1 retain\npub < PUBACK 2\n";
    let back = again.replace("2", "3");
    check(&(retained("") + other + &back + ASK + GOT + END), "+T1");
    check(&(retained("") + &back + other + ASK + GOT + END), "T1");
}

/// The subscriber's connection is cut and it comes back to its session.
const CUT: &str = "sub | rst\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";

fn written(sequence: u64) -> String {
    let id = sequence + 1;
    format!("pub > PUBLISH qos=1 id={id} m=0/0/{sequence} retain\npub < PUBACK {id}\n")
}

#[test]
fn a_copy_may_have_waited_since_an_earlier_subscribe() {
    // The first SUBSCRIBE was read, and what it read waits in the session; the second reads it once more.
    let again = ASK.replace(" 1 a", " 2 a").replace("SUBACK 1", "SUBACK 2");
    let two = retained("")
        + "sub > SUBSCRIBE 1 a@1\n"
        + CUT
        + &again
        + &GOT.replace('9', "1")
        + &GOT.replace('9', "2");
    check(&(two.clone() + END), "+T1");
    check(&(two + &GOT.replace('9', "3") + END), "~T1");
    // What the first read has been replaced when the second is sent.
    let old = retained("") + "sub > SUBSCRIBE 1 a@1\n" + CUT + &written(1) + &again;
    let new = "sub < PUBLISH qos=1 id=2 m=0/0/1 retain\nsub > PUBACK 2\n";
    check(&(old.clone() + &GOT.replace("retain", "dup retain") + new + END), "+T1");
    check(&(retained("") + &written(1) + "sub > SUBSCRIBE 1 a@1\n" + CUT + &again + GOT + new + END), "T1");
    // It comes again with its exchange.
    let acked = retained("") + ASK + GOT + CUT + &again + &GOT.replace("retain", "dup retain");
    check(&(acked + &GOT.replace('9', "10") + END), "+T1");
}

#[test]
fn an_earlier_subscribe_may_have_read_what_a_later_one_declines() {
    let declined = "sub > SUBSCRIBE 2 +@1,rh2\nsub < SUBACK 2 1\n";
    check_5(&(retained("") + "sub > SUBSCRIBE 1 a@1\n" + CUT + declined + GOT + END), "+T2");
    check_5(&(retained("") + declined + CUT + &ASK.replace("a@1", "b@1") + GOT + END), "T8");
    check_5(&(retained("") + ASK + GOT + declined + &GOT.replace('9', "10") + END), "T8");
}

#[test]
fn a_copy_may_wait_behind_others_for_as_long_as_they_take() {
    // One delivery is open all the time, and the broker may have room for one only.
    let busy = retained("") + ASK + &published(1, 1) + "sub < PUBLISH qos=1 id=101 m=0/0/1\nwait 9\n";
    check(&(busy.clone() + "sub | fin\nend"), "-T1");
    check(&(busy.clone() + "sub > PUBACK 101\n" + GOT + END), "+T1");
    check(&(busy + "sub > PUBACK 101\n" + END), "T1");
    // The link was stalled on purpose.
    check(&(retained("") + ASK + "fault stall sub\nwait 9\n" + GOT + END), "+T1");
    check(&(retained("") + ASK + "fault stall sub\nwait 9\nsub | fin\nend"), "-T1");
}

#[test]
fn a_copy_may_come_behind_unsuback() {
    let given_up = joined(1)
        + "sub > SUBSCRIBE 2 a@1\nsub < SUBACK 2 1\n"
        + &written(0)
        + "sub > SUBSCRIBE 3 a@1\nsub < SUBACK 3 1\nsub > UNSUBSCRIBE 4 a\nsub < UNSUBACK 4 0\n";
    check(&(given_up + &received(1, 0) + &GOT.replace('9', "10") + "wait 6\nend"), "-D10");
}

#[test]
fn a_live_copy_a_filter_may_come_behind_a_new_subscribe() {
    let two = joined(1) + "sub > SUBSCRIBE 2 +@1\nsub < SUBACK 2 1\n" + &written(0);
    let asked = "sub > SUBSCRIBE 3 a@1,rh2 +@1,rh2\nsub < SUBACK 3 1 1\n";
    let live = |id: u8| format!("sub < PUBLISH qos=1 id={id} m=0/0/0\nsub > PUBACK {id}\n");
    check_5(&(two.clone() + asked + &live(5) + &live(6) + &drained(1, 1)), "-T2");
    check_5(&(two + &asked.replace(",rh2", "") + &live(5) + &live(6) + &live(7) + &drained(1, 1)), "T2");
}

#[test]
fn one_of_several_writes_may_be_the_one_that_expires() {
    let two = retained("").replace("qos=1 id=1", "qos=2 id=1").replace("        pub < PUBACK 1\n", "")
        + "pub > PUBLISH qos=2 id=2 m=0/0/1 retain expiry=1
        pub < PUBREC 1\npub < PUBREC 2\npub > PUBREL 1\npub > PUBREL 2\npub < PUBCOMP 1\npub < PUBCOMP 2\nwait 4\n";
    check_5(&(two + ASK + END), "-T1");
}

#[test]
fn a_session_that_was_resumed_in_doubt_may_be_the_one_that_asked() {
    let doubt = retained("").replace("sub > CONNECT clean=0", "sub > CONNECT clean=0 expiry=2")
        + "sub > SUBSCRIBE 1 a@1\nsub | rst\nwait 2\n"
        + &written(1)
        + "sub > CONNECT clean=0 expiry=2\nsub < CONNACK sp=1\nsub > SUBSCRIBE 2 a@1\nsub < SUBACK 2 1\n";
    let new = "sub < PUBLISH qos=1 id=10 m=0/0/1 retain\nsub > PUBACK 10\n";
    check_5(&(doubt + &GOT.replace("retain", "dup retain") + new + END), "+T2");
}

#[test]
fn a_message_submitted_anew_comes_as_often_live() {
    let anew = joined(1)
        + "pub > PUBLISH qos=1 id=1 m=0/0/0 retain\npub | rst\npub > CONNECT clean=1 expiry=0\npub < CONNACK sp=0
        pub > PUBLISH qos=1 id=5 m=0/0/0 retain attempt=1\npub < PUBACK 5\nsub < PUBLISH qos=1 id=9 m=0/0/0\n"
        + CUT
        + "sub > SUBSCRIBE 3 a@1,rh2\nsub < SUBACK 3 1\nsub < PUBLISH qos=1 id=9 m=0/0/0 dup\nsub > PUBACK 9\n";
    check_5(&(anew + "sub < PUBLISH qos=1 id=10 m=0/0/0\nsub > PUBACK 10\n" + &drained(1, 1)), "-T2");
}
