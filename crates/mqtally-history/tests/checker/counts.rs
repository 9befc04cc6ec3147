//! *n of m*: a promise is broken at most as often as it is put to the test. `support` holds every report to that; here
//! are the ways to break one again and again, or twice at once.

use crate::support::*;

const ASK: &str = "sub > SUBSCRIBE 1 a@1\nsub < SUBACK 1 1\n";
const TIMES: u64 = 6;

/// The same again and again, each with a packet id of its own in place of `ID`.
fn again_and_again(lines: &str) -> String {
    (1..=TIMES).map(|time| lines.replace("ID", &(500 + time).to_string())).collect()
}

#[test]
fn copies_that_come_again_and_again_count_each() {
    let whole = "sub < PUBLISH qos=2 id=ID m=0/0/0\nsub > PUBREC ID\nsub < PUBREL ID\nsub > PUBCOMP ID\n";
    let once = joined(2) + &published(2, 0) + &received(2, 0);
    check(&(once + &again_and_again(whole) + "end"), "D3");

    let once = joined(0) + &published(0, 0);
    check(&(once + &again_and_again(&received(0, 0)) + "end"), "D5");

    let unanswered = joined(1) + &published(1, 0) + "sub < PUBLISH qos=1 id=9 m=0/0/0\n";
    check_5(&(unanswered + &again_and_again("sub < PUBLISH qos=1 id=9 dup m=0/0/0\n") + "end"), "D4 R11");
}

#[test]
fn retained_messages_that_come_again_and_again_count_each() {
    let asked =
        "group g\npub > CONNECT clean=0\npub < CONNACK sp=0\nsub > CONNECT clean=0\nsub < CONNACK sp=0\n\
                 pub > PUBLISH qos=1 id=1 m=0/0/0 retain\npub < PUBACK 1\n"
            .to_owned()
            + ASK;
    let copies = again_and_again("sub < PUBLISH qos=1 id=ID m=0/0/0 retain\nsub > PUBACK ID\n");
    let rest = "sub > PINGREQ\nsub < PINGRESP\nwait 1.5\nend";
    check(&(asked.clone() + &copies + rest), "~T1");
    let granted_0 = asked.replace("a@1", "a@0").replace("SUBACK 1 1", "SUBACK 1 0");
    let copies = again_and_again("sub < PUBLISH qos=0 m=0/0/0 retain\n");
    check(&(granted_0 + &copies + rest), "T1");
}

#[test]
fn packets_that_have_no_business_on_a_connection_count_each() {
    let first = "group g\nc > CONNECT clean=1\nc < CONNACK sp=0\n".to_owned();
    check(&(first + &again_and_again("c < CONNACK sp=0\n") + "end"), "S4");
    let refused = "group g\nc > CONNECT clean=0\nc < CONNACK sp=0 rc=0x87\n".to_owned();
    check(&(refused + &again_and_again("c < PINGRESP\n") + "c | closed\nend"), "S3");
}

#[test]
fn debts_of_a_takeover_count_each() {
    let sent: String = (0..TIMES).map(|sequence| published(1, sequence)).collect();
    let came: String = (0..TIMES)
        .map(|sequence| format!("sub < PUBLISH qos=1 id={} m=0/0/{sequence}\n", 100 + sequence))
        .collect();
    let taken = joined(1) + &sent + &came + "sub > CONNECT clean=0\nsub < CONNACK sp=1\nsub#1 | closed\n";
    check(&(taken + &drained(1, TIMES)), "R1 S10");
}

#[test]
fn messages_that_reached_another_session_only_count_each() {
    let two =
        joined(2) + "two > CONNECT clean=0\ntwo < CONNACK sp=0\ntwo > SUBSCRIBE 1 a@2\ntwo < SUBACK 1 2\n";
    let owned: String = (0..TIMES)
        .map(|sequence| {
            let sent = format!(
                "pub > PUBLISH qos=2 id={id} m=0/0/{sequence}\npub < PUBREC {id}\n",
                id = sequence + 1
            );
            sent + &received(2, sequence)
        })
        .collect();
    let end = sentinel(2, TIMES)
        + &received_sentinel(2, TIMES)
        + &received_sentinel(2, TIMES).replace("sub ", "two ")
        + "end";
    check(&(two + &owned + &end), "D2");
}

#[test]
fn damaged_messages_count_each() {
    let marker = again_and_again("sub < PUBLISH qos=1 id=ID m=corrupt\nsub > PUBACK ID\n");
    check(&(joined(1) + &marker + "end"), "D8");
}

#[test]
fn a_will_that_is_wrong_in_two_ways_counts_twice() {
    let declared = "group g\nsub > CONNECT clean=0 ka=0\nsub < CONNACK sp=0\nsub > SUBSCRIBE 1 will@1\nsub < SUBACK 1 1\n\
                    c > CONNECT clean=0 will m=9/0/0\nc < CONNACK sp=0\nc | fin\n"
        .to_owned();
    check(&(declared + "sub < PUBLISH qos=0 topic=will m=9/0/0 retain\nwait 6\nend"), "W5");
}

#[test]
fn a_message_above_every_qos_that_was_asked_for_counts_before_suback_too() {
    let early =
        "group g\npub > CONNECT clean=0\npub < CONNACK sp=0\nsub > CONNECT clean=0\nsub < CONNACK sp=0\n\
                 sub > SUBSCRIBE 1 a@0\n"
            .to_owned();
    check(&(early + &published(1, 0) + &received(1, 0) + "sub < SUBACK 1 0\nend"), "Q1");
}

#[test]
fn a_shared_message_counts_at_each_member_too_many() {
    let join = |name: &str| {
        format!(
            "{name} > CONNECT clean=0\n{name} < CONNACK sp=0\n{name} > SUBSCRIBE 1 $share/x/a@0\n\
             {name} < SUBACK 1 0\n"
        )
    };
    let members = ["one", "two", "three", "four"];
    let joined: String = members.map(join).concat();
    let came = members.map(|name| format!("{name} < PUBLISH qos=0 m=0/0/0\n")).concat();
    let group = "group g\npub > CONNECT clean=0\npub < CONNACK sp=0\n".to_owned() + &joined;
    check_5(&(group + &published(0, 0) + &came + "wait 2\nend"), "V4");
}

#[test]
fn a_client_that_is_wrong_in_two_ways_counts_twice() {
    let publisher = joined(1).replace("pub > CONNECT clean=0", "pub > CONNECT clean=0 subject");
    let back = "pub | rst\npub > CONNECT clean=0 subject\npub < CONNACK sp=1\n";
    let again = |id: u8| format!("pub > PUBLISH qos=1 id={id} m=0/0/{}\npub < PUBACK {id}\n", id - 1);
    let two =
        publisher.clone() + "pub > PUBLISH qos=1 id=1 m=0/0/0\npub > PUBLISH qos=1 id=2 m=0/0/1\n" + back;
    let come = received(1, 0) + &received(1, 1) + &drained(1, 2);
    check(&(two + &again(2) + &again(1) + &come), "R12");
    check(
        &(publisher.replace("a@1", "a@2") + "pub > PUBLISH qos=2 id=1 m=0/0/0\npub > PUBREL 1\nend"),
        "R12",
    );
}

#[test]
fn statistics_that_are_wrong_beside_a_message_that_is_count_beside_it() {
    let settled = joined(1) + "sub | settled 0/0/5 processed\nsub | statistics 9 0 0 0 9\n";
    check(&(settled + &drained(1, 0)), "A1");
    let nothing = joined(1) + "sub | statistics 9 0 0 0 9\n";
    check(&(nothing + &drained(1, 0)), "A1");
}
