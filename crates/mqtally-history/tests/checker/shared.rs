//! V4 and D12.

use crate::support::*;

fn group(qos: u8) -> String {
    let join = |name: &str| {
        format!(
            "{name} > CONNECT clean=0\n{name} < CONNACK sp=0\n\
             {name} > SUBSCRIBE 1 $share/x/a@{qos}\n{name} < SUBACK 1 {qos}\n"
        )
    };
    "group g\n".to_owned() + &join("one") + &join("two") + "pub > CONNECT clean=0\npub < CONNACK sp=0\n"
}

fn to(member: &str, qos: u8, sequence: u64) -> String {
    receiving(qos, sequence, "").replace("sub ", &format!("{member} "))
}

fn all_published(qos: u8) -> String {
    (0..4).map(|sequence| published(qos, sequence)).collect()
}

#[test]
fn each_message_reaches_one_member() {
    for qos in 0..3 {
        let sent = group(qos) + &all_published(qos);
        let split = to("one", qos, 0) + &to("two", qos, 2) + &to("two", qos, 1) + &to("one", qos, 3);
        check_5(&(sent.clone() + &split + "end"), "+V4 -D12");
        let twice = split + &to("two", qos, 0) + "wait 2\nend";
        check_5(&(sent + &twice), if qos == 2 { "D12" } else { "V4" });
    }
}

#[test]
fn a_message_that_reaches_nobody_while_everybody_gets_later_ones_is_missing() {
    let sent = group(1) + &all_published(1);
    check_5(&(sent.clone() + &to("one", 1, 2) + &to("two", 1, 3) + &to("one", 1, 1) + "end"), "V4");
    let leave = "one > DISCONNECT\none | fin\ntwo > DISCONNECT\ntwo | fin\nend";
    let all_but_one = sent.clone() + &to("one", 1, 2) + &to("two", 1, 3) + &to("one", 1, 1);
    check_5(&(all_but_one.clone() + "wait 6\n" + leave), "V4");
    check_5(&(all_but_one + "wait 1\n" + leave), "");
    // One member may have it waiting.
    check_5(&(sent + &to("one", 1, 2) + &to("one", 1, 3) + &to("one", 1, 1) + "end"), "");
}

#[test]
fn a_qos_1_message_moves_when_its_member_is_gone_and_a_qos_2_message_does_not() {
    let cut = |qos: u8| {
        group(qos)
            + &published(qos, 0)
            + &format!("one < PUBLISH qos={qos} id=9 m=0/0/0\none | rst\n")
            + &to("two", qos, 0)
            + "end"
    };
    check_5(&cut(1), "-D12");
    check_5(&cut(2), "D12");
    let kept = group(2)
        + &published(2, 0)
        + "one < PUBLISH qos=2 id=9 m=0/0/0\none | rst\none > CONNECT clean=0\none < CONNACK sp=1\n"
        + "one < PUBLISH qos=2 id=9 dup m=0/0/0\none > PUBREC 9\none < PUBREL 9\none > PUBCOMP 9\nend";
    check_5(&kept, "+D12 +V4");
}

#[test]
fn other_groups_and_other_filters_get_their_own_copies() {
    let two_groups = (group(1) + &published(1, 0)).replacen(
        "two > SUBSCRIBE 1 $share/x/",
        "two > SUBSCRIBE 1 $share/y/",
        1,
    );
    check_5(&(two_groups + &to("one", 1, 0) + &to("two", 1, 0) + "wait 2\nend"), "-V4");
    let plain = group(1) + "two > SUBSCRIBE 2 a@1\ntwo < SUBACK 2 1\n" + &published(1, 0);
    check_5(&(plain + &to("one", 1, 0) + &to("two", 1, 0) + "wait 2\nend"), "");
}
