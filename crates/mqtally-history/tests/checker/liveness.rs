//! L2 to L5 and S14, F3 to F5.

use crate::support::*;
use mqtally_history::checker::check as judge;
use mqtally_history::event::{BrokerKind, Header};
use mqtally_history::packet::Version;
use mqtally_history::profile::Profile;

#[test]
fn a_client_that_is_closed_again_and_again_is_wedged() {
    let turn = "pub > CONNECT clean=0\npub < CONNACK sp=1\npub | closed\n";
    let start = joined(1) + "pub | rst\n";
    check(&(start.clone() + &turn.repeat(5) + "end"), "L2");
    check(&(start.clone() + &turn.repeat(4) + "end"), "-L2");
    check(&(start.clone() + &turn.repeat(4) + "fault cut-publisher pub\n" + turn + "end"), "-L2");
    let answered = turn.replace("pub | closed", "pub > PINGREQ\npub < PINGRESP\npub | closed");
    check(&(start.clone() + &turn.repeat(4) + &answered + &turn.repeat(4) + "end"), "+L2");
    let told = turn.replace("pub | closed", "pub < DISCONNECT rc=0x8e\npub | closed");
    check_5(&(start + &told.repeat(9) + "end"), "-L2");
}

#[test]
fn a_ping_is_answered() {
    check(&(joined(1) + "sub > PINGREQ\nsub < PINGRESP\nend"), "+L3");
    check(&(joined(1) + "sub > PINGREQ\nwait 6\nend"), "L3");
    check(&(joined(1) + "sub > PINGREQ\nwait 6\nsub | fin\nend"), "L3");
    check(&(joined(1) + "sub > PINGREQ\nwait 1\nsub | fin\nend"), "-L3");
    check(&(joined(1) + "sub > PINGREQ\nfault black-hole sub\nwait 6\nsub | fin\nend"), "-L3");
    check(&(joined(1) + "broker paused\nsub > PINGREQ\nwait 6\nbroker resumed\nsub | fin\nend"), "-L3");
    check(&(joined(1) + "sub > PINGREQ\nwait 6\nsub | vanished\nend"), "-L3");
}

#[test]
fn a_silent_client_is_disconnected() {
    let silent = |seconds: u8, end: &str| {
        format!("group g\nc > CONNECT clean=0 ka=4\nc < CONNACK sp=0\nwait {seconds}\n{end}\nend")
    };
    check(&silent(6, "c | closed"), "+S14");
    check(&silent(7, "c | closed"), "+S14");
    check(&silent(9, "c | closed"), "~S14");
    check(&silent(9, "c | fin"), "~S14");
    check(&silent(9, ""), "~S14");
    check(&silent(3, "c | closed"), "-S14");
    check(&silent(9, "").replace("ka=4", "ka=0"), "-S14");
    check_5(&silent(9, "").replace("sp=0", "sp=0 ka=60"), "-S14");
    check(&silent(9, "c | vanished"), "-S14");
}

#[test]
fn a_broker_that_ends_by_itself_is_dead() {
    check(&(joined(1) + "broker exited\nend"), "L5");
    check(&(joined(1) + "broker terminated\nbroker exited\nend"), "-L5");
    let header = Header { broker_kind: BrokerKind::Command, ..header(Profile::Volatile) };
    let report = judge(&header, events(Version::V5_0, &(joined(1) + "end")));
    assert_eq!(obligations(&report, "L5"), 1);
}

#[test]
fn what_is_owed_comes_while_there_is_room() {
    let owed = joined(1) + &published(1, 0);
    check(&(owed.clone() + "wait 11\nend stuck"), "?D1 ?L1 L4");
    check(&(owed.clone() + "wait 2\nend stuck"), "?D1 ?L1");
    check(&(owed.clone() + "fault slow sub\nwait 11\nend stuck"), "?D1 ?L1");
    check(&(owed + &received(1, 0) + &drained(1, 1)), "+L4");
}

/// A subscriber with receive maximum 1 that has received message 0 of three.
fn full() -> String {
    let three: String = (0..3).map(|sequence| published(1, sequence)).collect();
    joined(1).replacen("clean=0", "clean=0 rm=1", 1) + &three + "sub < PUBLISH qos=1 id=100 m=0/0/0\n"
}

fn rest() -> String {
    received(1, 1) + &received(1, 2) + &drained(1, 3)
}

#[test]
fn only_publish_waits_for_quota() {
    let ping = "sub > PINGREQ\n";
    let answer = "sub < PINGRESP\n";
    check_5(&(full() + ping + answer + "sub > PUBACK 100\n" + &rest()), "+F3 +F5");
    check_5(&(full() + ping + "sub > PUBACK 100\n" + answer + &rest()), "-F3");
    check_5(&(full() + ping + "wait 6\nsub > PUBACK 100\n" + answer + &rest()), "F3");
    // A link that was cut in between gives no answer either.
    let cut = "fault cut-link sub\nsub > PINGREQ\nwait 6\nsub | fin\nsub > CONNECT clean=0 rm=1\nsub < CONNACK sp=1\n";
    check_5(&(full() + cut + &receiving(1, 0, "dup") + &rest()), "-F3");
    let subscribe = "sub > SUBSCRIBE 2 b@1\nwait 6\nsub > PUBACK 100\nsub < SUBACK 2 1\n";
    check_5(&(full() + subscribe + &rest()), "F3");
}

#[test]
fn an_acknowledgement_makes_room() {
    check_5(&(full() + "sub > PUBACK 100\n" + &rest()), "+F5");
    check_5(&(full() + "sub > PUBACK 100\nwait 11\nend stuck"), "?D1 ?L1 F5");
    check_5(&(full() + "wait 11\nend stuck"), "?D1 ?L1");
}

#[test]
fn each_connection_has_its_whole_quota() {
    let back = "sub | rst\nsub > CONNECT clean=0 rm=1\nsub < CONNACK sp=1\n";
    let again = "sub < PUBLISH qos=1 id=100 dup m=0/0/0\nsub > PUBACK 100\n";
    check_5(&(full() + back + again + &rest()), "+F4");
    check_5(&(full() + back + "wait 11\nend stuck"), "?D1 ?L1 F4");
}

/// A broker may have a window of its own, as small as one: what it owes waits for the acknowledgement.
#[test]
fn a_broker_may_send_less_at_a_time_than_a_client_takes() {
    let owed = joined(1) + &published(1, 0) + &published(1, 1) + "sub < PUBLISH qos=1 id=100 m=0/0/0\n";
    check(&(owed.clone() + "wait 11\nend stuck"), "?D1 ?L1");
    check(&(owed.clone() + "sub > PUBACK 100\nwait 11\nend stuck"), "?D1 ?L1 L4");
    // It has two places at least, and uses one.
    let again = "sub < PUBLISH qos=1 id=100 dup m=0/0/0\n";
    let back = "sub | rst\nsub > CONNECT clean=0 rm=3\nsub < CONNACK sp=1\n".to_owned() + again;
    let limited = owed.replacen("clean=0", "clean=0 rm=3", 1) + &published(1, 2);
    let both = limited.clone() + "sub < PUBLISH qos=1 id=101 m=0/0/1\n";
    check_5(&(both + &back + "wait 11\nend stuck"), "?D1 ?L1 F4 ~O3");
    check_5(&(limited + &back + "wait 11\nend stuck"), "?D1 ?L1");
}
