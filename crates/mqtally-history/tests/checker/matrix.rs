//! The kill matrix: each way to break a promise as the wire shows it, and what has to be said of it. `just kill-matrix`
//! prints it.
//!
//! The numbers are those of the catalogue of mutants; a letter behind one is a variant of it.

#![expect(clippy::print_stdout, reason = "the kill matrix is for people")]

use crate::support::*;
use mqtally_history::packet::Version;
use mqtally_history::profile::Profile;

/// One mutant: its number, the broker's profile and version, what it does, what is found, and how it shows.
struct Row {
    id: &'static str,
    what: &'static str,
    on: On,
    expect: &'static str,
    history: String,
}

#[derive(Clone, Copy)]
enum On {
    Both,
    V3,
    V5,
    Durable,
    PowerSafe,
}

fn row(id: &'static str, on: On, what: &'static str, expect: &'static str, history: &str) -> Row {
    Row { id, what, on, expect, history: history.replace(';', "\n") }
}

impl Row {
    fn found(&self) -> Vec<(Version, Vec<String>)> {
        let (versions, profile): (&[Version], Profile) = match self.on {
            On::Both => (&[Version::V3_1_1, Version::V5_0], Profile::Volatile),
            On::V3 => (&[Version::V3_1_1], Profile::Volatile),
            On::V5 => (&[Version::V5_0], Profile::Volatile),
            On::Durable => (&[Version::V3_1_1, Version::V5_0], Profile::Durable),
            On::PowerSafe => (&[Version::V3_1_1, Version::V5_0], Profile::PowerSafe),
        };
        versions.iter().map(|it| (*it, off(&report_on(*it, profile, &self.history)))).collect()
    }
}

const BACK: &str = "sub | rst; sub > CONNECT clean=0; sub < CONNACK sp=1;";
const REST: &str = "sub > PINGREQ; sub < PINGRESP; wait 2;";

/// `two` subscribes to `a` as `sub` does.
fn both(qos: u8) -> String {
    joined(qos)
        + &format!(
            "two > CONNECT clean=0; two < CONNACK sp=0; two > SUBSCRIBE 1 a@{qos}; two < SUBACK 1 {qos};"
        )
}

fn to_two(history: &str) -> String {
    history.replace("sub ", "two ")
}

#[rustfmt::skip]
fn delivery() -> Vec<Row> {
    use On::{Both, Durable, PowerSafe, V5};
    let end = |qos, sequence| drained(qos, sequence);
    let only = |qos: u8| {
        both(qos)
            + &published(qos, 0)
            + &received(qos, 0)
            + &sentinel(qos, 1)
            + &received_sentinel(qos, 1)
            + &to_two(&received_sentinel(qos, 1))
            + "end"
    };
    let some = |qos| published(qos, 0) + &published(qos, 1) + &published(qos, 2);
    vec![
        row("M1", Both, "lost for one of two subscribers", "D1",
            &only(1)),
        row("M2", Both, "lost after PUBCOMP", "D2",
            &only(2)),
        row("M1a", Both, "the last message before a cut is lost", "D1",
            &(joined(1) + &some(1) + &received(1, 0) + &received(1, 1) + BACK + &end(1, 3))),
        row("M1b", Both, "a message without matching subscribers, says PUBACK", "D1",
            &(joined(1) + &published(1, 0).replace("PUBACK 1", "PUBACK 1 rc=0x10") + &end(1, 1))),
        row("M1c", Both, "what was sent while it was away is lost", "D1 S6",
            &(joined(1) + "sub | fin;" + &published(1, 0) + "sub > CONNECT clean=0; sub < CONNACK sp=1;" + &end(1, 1))),
        row("M1d", Both, "a filter with # does not match its parent", "D1",
            &(joined(1).replace("a@1", "a/#@1") + &published(1, 0) + &end(1, 1))),
        row("M1e", Both, "+ does not match an empty level", "D1",
            &(joined(1).replace("a@1", "a/+@1") + &(published(1, 0) + &end(1, 1)).replace("m=", "topic=a/ m="))),
        row("M1f", Both, "known elsewhere: its publisher got PUBREC only", "D2",
            &(both(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0; pub < PUBREC 1;" + &received(2, 0) + "pub | rst; pub > CONNECT clean=0; pub < CONNACK sp=1; pub > PUBREL 1;" + &sentinel(2, 1).replace("id=2", "id=9").replace(" 2\n", " 9\n") + &received_sentinel(2, 1) + &to_two(&received_sentinel(2, 1)) + "end")),
        row("M3", Both, "the in-flight table is forgotten", "R1",
            &(joined(1) + &published(1, 0) + "sub < PUBLISH qos=1 id=100 m=0/0/0;" + BACK + &end(1, 1))),
        row("M28", Durable, "acknowledged before it was stored, then killed", "D1 S6",
            &(joined(1) + "sub | fin;" + &published(1, 0) + "broker killed; pub | closed; broker started; pub > CONNECT clean=0; pub < CONNACK sp=1; sub > CONNECT clean=0; sub < CONNACK sp=1;" + &end(1, 1))),
        row("M28a", Both, "the same: no promise of this profile", "",
            &(joined(1) + "sub | fin;" + &published(1, 0) + "broker killed; pub | closed; broker started; pub > CONNECT clean=0; pub < CONNACK sp=1; sub > CONNECT clean=0; sub < CONNACK sp=1;" + &end(1, 1))),
        row("M29", PowerSafe, "acknowledged without fsync, and the power fails", "D1 S6",
            &(joined(1) + "sub | fin;" + &published(1, 0) + "broker dark; pub | closed; broker started; pub > CONNECT clean=0; pub < CONNACK sp=1; sub > CONNECT clean=0; sub < CONNACK sp=1;" + &end(1, 1))),
        row("M29a", Durable, "the same: no promise of this profile", "",
            &(joined(1) + "sub | fin;" + &published(1, 0) + "broker dark; pub | closed; broker started; pub > CONNECT clean=0; pub < CONNACK sp=1; sub > CONNECT clean=0; sub < CONNACK sp=1;" + &end(1, 1))),
        row("M25", Both, "QoS 2: inbound ids are kept for a connection only", "D3",
            &(joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0;" + &received(2, 0) + "pub | rst; pub > CONNECT clean=0; pub < CONNACK sp=1; pub > PUBLISH qos=2 id=1 m=0/0/0 dup; pub < PUBREC 1; pub > PUBREL 1; pub < PUBCOMP 1;" + &received(2, 0).replace("100", "200") + &end(2, 1))),
        row("M25a", Both, "QoS 2: twice, and only behind the second resumption", "D3",
            &(joined(2) + &published(2, 0) + &received(2, 0) + BACK + BACK + &received(2, 0).replace("100", "200") + &end(2, 1))),
        row("M25b", Both, "QoS 2: again with DUP and another id", "D3",
            &(joined(2) + &published(2, 0) + &received(2, 0) + BACK + &receiving(2, 0, "dup").replace("100", "200") + &end(2, 1))),
        row("M25c", Both, "QoS 0: twice", "D5",
            &(joined(0) + &published(0, 0) + &received(0, 0) + &received(0, 0) + &end(0, 1))),
        row("M25d", Both, "QoS 2 for a filter of QoS 0: twice", "D5",
            &(joined(0) + &published(2, 0) + &received(0, 0) + &received(0, 0) + &sentinel(2, 1) + &received_sentinel(0, 1) + "end")),
        row("M25e", Both, "QoS 2: three copies for two filters", "D3",
            &(joined(2) + "sub > SUBSCRIBE 2 +@2; sub < SUBACK 2 2;" + &published(2, 0) + &received(2, 0) + &received(2, 0).replace("100", "200") + &received(2, 0).replace("100", "300") + &end(2, 1))),
        row("M25f", Both, "QoS 2: again, behind a resumption, with the id of another", "D3",
            &(joined(2) + &published(2, 0) + &received(2, 0) + &published(2, 1) + &received(2, 1) + BACK + &receiving(2, 0, "dup").replace("100", "101") + &end(2, 2))),
        row("M1g", Both, "lost for the one that came back by a takeover", "D1",
            &(joined(1) + "sub > CONNECT clean=0; sub#1 | closed; sub < CONNACK sp=1;" + &some(1) + &received(1, 0) + &received(1, 2) + &end(1, 3))),
        row("M1h", Durable, "what was acknowledged between two kills is lost", "D2 S6",
            &(joined(2) + "broker killed; sub | closed; pub | closed; broker started; pub > CONNECT clean=0; pub < CONNACK sp=1;" + &published(2, 0)
              + "broker killed; pub | closed; broker started; pub > CONNECT clean=0; pub < CONNACK sp=1; sub > CONNECT clean=0; sub < CONNACK sp=1;" + &end(2, 1))),
        row("M50b", Both, "a message comes before it is sent", "D1 D6",
            &(joined(1) + &received(1, 0) + &published(1, 0) + &end(1, 1))),
        row("M56", V5, "QoS 1: twice without a cause", "~D4",
            &(joined(1) + &published(1, 0) + &received(1, 0) + &received(1, 0).replace("100", "200") + &end(1, 1))),
        row("M47", Both, "a flipped bit", "D8",
            &(joined(1) + &published(1, 0) + &receiving(1, 0, "crc=9") + &end(1, 1))),
        row("M47a", V5, "two user properties change places", "D8",
            &(joined(1) + &published(1, 0).replace("m=", "props=x,y m=") + &receiving(1, 0, "props=y,x") + &end(1, 1))),
        row("M47b", V5, "a user property is lost", "D8",
            &(joined(1) + &published(1, 0).replace("m=", "props=x,y m=") + &receiving(1, 0, "props=x") + &end(1, 1))),
        row("M47c", Both, "the payload is cut short", "D8",
            &(joined(1) + &published(1, 0) + &receiving(1, 0, "len=40 crc=9") + &end(1, 1))),
        row("M47d", Both, "another topic than it was sent to", "D8",
            &(joined(1).replace("a@1", "+@1") + &published(1, 0) + &receiving(1, 0, "topic=b") + &end(1, 1))),
        row("M48", Both, "a/b is taken for a prefix of a/bc", "D9",
            &(joined(1) + "pub > PUBLISH qos=1 id=9 topic=ab m=0/1/0; pub < PUBACK 9; sub < PUBLISH qos=1 id=9 topic=ab m=0/1/0; sub > PUBACK 9;" + &end(1, 0))),
        row("M48a", Both, "+ matches two levels", "D9",
            &(joined(1).replace("a@1", "+@1") + "pub > PUBLISH qos=1 id=9 topic=a/b m=0/1/0; pub < PUBACK 9; sub < PUBLISH qos=1 id=9 topic=a/b m=0/1/0; sub > PUBACK 9;" + &end(1, 0))),
        row("M49", Both, "# matches $SYS", "D9",
            &(joined(1).replace("a@1", "#@1") + "sub < PUBLISH qos=0 topic=$SYS/x m=none;" + &end(1, 0))),
        row("M50", Both, "what nobody sent", "D6",
            &(joined(1) + "sub < PUBLISH qos=1 id=9 m=0/0/77; sub > PUBACK 9;" + &end(1, 0))),
        row("M50a", Both, "an empty payload that nobody sent", "D6",
            &(joined(1) + "sub < PUBLISH qos=1 id=9 m=none len=0 crc=0; sub > PUBACK 9;" + &end(1, 0))),
        row("M45", Both, "UNSUBACK, and the filter is kept", "D10",
            &(joined(1) + "sub > UNSUBSCRIBE 2 a; sub < UNSUBACK 2 0;" + &published(1, 0) + &received(1, 0) + "end")),
        row("M46", Both, "a clean start keeps the filter", "D11",
            &(joined(1) + "sub | fin; sub > CONNECT clean=1; sub < CONNACK sp=0;" + &published(1, 0) + &received(1, 0) + "end")),
        row("M46a", Both, "a clean start keeps what waited", "D11",
            &(joined(1) + "sub | fin;" + &published(1, 0) + "sub > CONNECT clean=1; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@1; sub < SUBACK 1 1;" + &received(1, 0) + &end(1, 1))),
    ]
}

#[rustfmt::skip]
fn order() -> Vec<Row> {
    use On::{Both, V3, V5};
    let sent = |qos| published(qos, 0) + &published(qos, 1);
    let held = |sequence: u64| format!("sub < PUBLISH qos=1 id={} m=0/0/{sequence};", 100 + sequence);
    let other = |qos: u8| format!("pub > PUBLISH qos={qos} id=9 topic=b m=0/1/0; pub < PUBACK 9;");
    vec![
        row("M17", Both, "two neighbours change places", "O1",
            &(joined(1) + &sent(1) + &received(1, 1) + &received(1, 0) + &drained(1, 2))),
        row("M17a", Both, "QoS 0: two neighbours change places", "O1",
            &(joined(0) + &sent(0) + &received(0, 1) + &received(0, 0) + &drained(0, 2))),
        row("M17b", Both, "two that waited change places", "O1",
            &(joined(2) + "sub | fin;" + &sent(2) + "sub > CONNECT clean=0; sub < CONNACK sp=1;" + &received(2, 1) + &received(2, 0) + &drained(2, 2))),
        row("M18", Both, "two of different topics change places: lawful", "",
            &(joined(1).replace("a@1", "+@1") + &other(1) + &published(1, 0) + &received(1, 0) + "sub < PUBLISH qos=1 id=9 topic=b m=0/1/0; sub > PUBACK 9;" + &drained(1, 1))),
        row("M20", Both, "what is sent again comes in reverse", "O2 ~O3",
            &(joined(1) + &sent(1) + &held(0) + &held(1) + BACK + &receiving(1, 1, "dup") + &receiving(1, 0, "dup") + &drained(1, 2))),
        row("M20a", V3, "what is sent again of two topics comes in reverse", "~O2",
            &(joined(1).replace("a@1", "+@1") + &published(1, 0) + &other(1) + &held(0) + "sub < PUBLISH qos=1 id=9 topic=b m=0/1/0;" + BACK + "sub < PUBLISH qos=1 id=9 topic=b m=0/1/0 dup; sub > PUBACK 9;" + &receiving(1, 0, "dup") + &drained(1, 1))),
        row("M20b", V5, "window of one, and a step back", "~O3 ~O4",
            &(joined(1).replacen("clean=0", "clean=0 rm=1", 1) + &published(1, 0) + &held(0) + "sub > PUBACK 100;" + &published(1, 1) + &received(1, 1) + "sub | rst; sub > CONNECT clean=0 rm=1; sub < CONNACK sp=1;" + &receiving(1, 0, "dup") + &drained(1, 2))),
    ]
}

#[rustfmt::skip]
fn resumption() -> Vec<Row> {
    use On::{Both, V5};
    let open1 = joined(1) + &published(1, 0) + "sub < PUBLISH qos=1 id=100 m=0/0/0;";
    let open2 = joined(2) + &published(2, 0) + "sub < PUBLISH qos=2 id=100 m=0/0/0;";
    let rel = open2.clone() + "sub > PUBREC 100; sub < PUBREL 100;";
    vec![
        row("M4", Both, "PUBREL is forgotten", "R2",
            &(rel.clone() + BACK + &drained(2, 1))),
        row("M5", Both, "PUBLISH for what had been released", "D3 R3",
            &(rel.clone() + BACK + &receiving(2, 0, "dup") + &drained(2, 1))),
        row("M5a", Both, "PUBLISH for what had been completed", "D3 R3",
            &(rel.clone() + "sub > PUBCOMP 100;" + BACK + &receiving(2, 0, "dup") + &drained(2, 1))),
        row("M7", Both, "QoS 1: another packet id", "R4",
            &(open1.clone() + BACK + &receiving(1, 0, "dup").replace("100", "200") + &drained(1, 1))),
        row("M7a", Both, "QoS 2: another packet id", "D3 R4",
            &(open2.clone() + BACK + &receiving(2, 0, "dup").replace("100", "200") + &drained(2, 1))),
        row("M8", Both, "no DUP", "R5",
            &(open1.clone() + BACK + &received(1, 0) + &drained(1, 1))),
        row("M8a", Both, "no DUP behind the second resumption", "R5",
            &(open1.clone() + BACK + "sub < PUBLISH qos=1 id=100 m=0/0/0 dup;" + BACK + &received(1, 0) + &drained(1, 1))),
        row("M9", Both, "the publisher's DUP is handed on", "R6",
            &(joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0; pub | rst; pub > CONNECT clean=0; pub < CONNACK sp=1; pub > PUBLISH qos=1 id=1 m=0/0/0 dup; pub < PUBACK 1;" + &receiving(1, 0, "dup") + &drained(1, 1))),
        row("M10", Both, "DUP at QoS 0", "R6",
            &(joined(0) + &published(0, 0) + &receiving(0, 0, "dup") + &drained(0, 1))),
        row("R7", Both, "an id that is in use", "R7",
            &(open1.clone() + &published(1, 1) + "sub < PUBLISH qos=1 id=100 m=0/0/1; sub > PUBACK 100;" + &drained(1, 2))),
        row("R7a", Both, "an id whose PUBREL is not answered", "R7",
            &(rel.clone() + &published(2, 1) + "sub < PUBLISH qos=2 id=100 m=0/0/1; sub > PUBREC 100; sub < PUBREL 100; sub > PUBCOMP 100;" + &drained(2, 2))),
        row("R7b", Both, "packet id 0", "R7",
            &(joined(1) + &published(1, 0) + &received(1, 0).replace("100", "0") + &drained(1, 1))),
        row("R8", Both, "a repeated PUBLISH is not answered", "R8",
            &(joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0; pub | rst; pub > CONNECT clean=0; pub < CONNACK sp=1; pub > PUBLISH qos=2 id=1 m=0/0/0 dup; pub > PINGREQ; pub < PINGRESP; wait 5;" + &drained(2, 1))),
        row("M26", Both, "PUBREL of an unknown id is not answered", "R9",
            &(joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0; pub < PUBREC 1; pub > PUBREL 1; pub | rst; pub > CONNECT clean=0; pub < CONNACK sp=1; pub > PUBREL 1; pub > PINGREQ; pub < PINGRESP; wait 5;" + &received(2, 0) + &drained(2, 1))),
        row("M26a", Both, "PUBREL of an unknown id closes the connection", "L2 R9",
            &(joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0; pub < PUBREC 1; pub > PUBREL 1; pub | rst;" + &"pub > CONNECT clean=0; pub < CONNACK sp=1; pub > PUBREL 1; pub | closed;".repeat(6) + &received(2, 0) + "pub > CONNECT clean=0; pub < CONNACK sp=1;" + &drained(2, 1))),
        row("M52", Both, "PUBACK of another id", "R10",
            &(joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0; pub < PUBACK 7; pub < PUBACK 1;" + &received(1, 0) + &drained(1, 1))),
        row("M52a", Both, "PUBACK for QoS 2", "R10",
            &(joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0; pub < PUBACK 1;" + &received(2, 0) + &drained(2, 1))),
        row("M52b", Both, "PUBREC for QoS 1", "R10",
            &(joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0; pub < PUBREC 1; pub < PUBACK 1;" + &received(1, 0) + &drained(1, 1))),
        row("M52c", Both, "PUBREL of another id", "R10",
            &(joined(2) + &published(2, 0) + &published(2, 1) + "sub < PUBLISH qos=2 id=100 m=0/0/0; sub > PUBREC 100; sub < PUBLISH qos=2 id=101 m=0/0/1; sub > PUBREC 101; sub < PUBREL 101; sub > PUBCOMP 101; sub < PUBREL 101; sub > PUBCOMP 101;" + &drained(2, 2))),
        row("M52e", Both, "PUBREL of an exchange that waits for PUBREC, and that comes again", "R10",
            &(joined(2) + &published(2, 0) + &published(2, 1) + "sub < PUBLISH qos=2 id=100 m=0/0/0; sub < PUBLISH qos=2 id=101 m=0/0/1; sub > PUBREC 100; sub < PUBREL 101; sub > PUBCOMP 101;"
              + BACK + "sub < PUBREL 100; sub > PUBCOMP 100;" + &receiving(2, 1, "dup") + &drained(2, 2))),
        row("M52f", Both, "PUBREL of a QoS 1 message", "R10",
            &(joined(1) + &published(1, 0) + "sub < PUBLISH qos=1 id=100 m=0/0/0; sub < PUBREL 100; sub > PUBACK 100;" + &drained(1, 1))),
        row("M52d", Both, "PUBREC is not answered", "R10",
            &(open2.clone() + "sub > PUBREC 100;" + &drained(2, 1))),
        row("R11", V5, "PUBLISH again on its connection", "D4 R11",
            &(open1.clone() + "wait 3; sub < PUBLISH qos=1 id=100 m=0/0/0 dup; sub > PUBACK 100;" + &drained(1, 1))),
        row("R11a", V5, "PUBREL again on its connection", "R11",
            &(rel.clone() + "wait 3; sub < PUBREL 100; sub > PUBCOMP 100;" + &drained(2, 1))),
        row("R11b", V5, "QoS 2: PUBLISH again on its connection", "R11",
            &(open2.clone() + "wait 3; sub < PUBLISH qos=2 id=100 m=0/0/0 dup; sub > PUBREC 100; sub < PUBREL 100; sub > PUBCOMP 100;" + &drained(2, 1))),
        row("V5", V5, "what was refused is sent again", "V5",
            &(open1 + "sub > PUBACK 100 rc=0x83; sub > PINGREQ; sub < PINGRESP;" + BACK + &receiving(1, 0, "dup") + &drained(1, 1))),
        row("V5a", V5, "QoS 2: what was refused is sent again", "V5",
            &(open2 + "sub > PUBREC 100 rc=0x83; sub > PINGREQ; sub < PINGRESP;" + BACK + &receiving(2, 0, "dup") + &drained(2, 1))),
    ]
}

#[rustfmt::skip]
fn sessions() -> Vec<Row> {
    use On::{Both, Durable, V3, V5};
    let back = "sub > CONNECT clean=0; sub < CONNACK sp=1;";
    let lost = "sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 9 a@1; sub < SUBACK 9 1;";
    let killed = "broker killed; sub | closed; pub | closed; broker started; pub > CONNECT clean=0; pub < CONNACK sp=1;";
    let canary = |sequence: u64| published(1, sequence).replace("m=", "canary m=");
    let dead = canary(0)
        + "sub > PINGREQ; sub < PINGRESP; sub > SUBSCRIBE 9 a@1; sub < SUBACK 9 1;"
        + &drained(1, 1);
    vec![
        row("M12", Both, "session present for a client that never was", "S2",
            "group g; sub > CONNECT clean=0; sub < CONNACK sp=1; end"),
        row("M13", Both, "session present 0, and it is resumed", "S2",
            &(joined(1) + "sub | fin;" + lost + &drained(1, 0))),
        row("M13a", Both, "the session is lost, with three messages", "S2",
            &(joined(1) + "sub | fin;" + &published(1, 0) + &published(1, 1) + &published(1, 2) + lost + &drained(1, 3))),
        row("M14", Both, "session present after a clean start", "S1",
            &(joined(1) + "sub | fin; sub > CONNECT clean=1; sub < CONNACK sp=1; end")),
        row("M15", Both, "the filters are lost", "S5",
            &(joined(1) + "sub | fin;" + back + &dead)),
        row("M15a", Both, "the filters are lost, and a message is under way while they are asked for again", "S5",
            &(joined(1) + "sub | fin;" + back + &canary(0) + "pub > PUBLISH qos=1 id=2 m=0/0/1; sub > PINGREQ; sub < PINGRESP; sub > SUBSCRIBE 9 a@1; sub < SUBACK 9 1; pub < PUBACK 2;" + &drained(1, 2))),
        row("M16", Both, "the filters are lost by a kill, and session present is 1", "S5",
            &(joined(1) + killed + back + &dead)),
        row("M16a", Durable, "the filters are lost by a kill, under a profile", "S5",
            &(joined(1) + killed + back + &dead)),
        row("M35", V5, "the session expires too early", "S2 S7",
            &(joined(1).replacen("clean=0", "clean=0 expiry=10", 1) + "sub | fin; wait 6;" + lost + &drained(1, 0))),
        row("M35a", V5, "the interval counts from CONNECT", "S2",
            &(joined(1).replacen("clean=0", "clean=0 expiry=10", 1) + "wait 20; sub > PINGREQ; sub < PINGRESP; sub | fin;" + lost + &drained(1, 0))),
        row("M36", V5, "the session does not expire", "~S8",
            &(joined(1).replacen("clean=0", "clean=0 expiry=2", 1) + "sub | fin; wait 9;" + back + &drained(1, 0))),
        row("M43", Both, "a takeover leaves the old connection open", "S9",
            &(joined(1) + back + &published(1, 0) + &received(1, 0) + "wait 7;" + &drained(1, 1))),
        row("S10", Both, "a takeover ends the session", "S10 S2",
            &(joined(1) + "sub > CONNECT clean=0; sub#1 | closed; sub < CONNACK sp=0; sub > SUBSCRIBE 9 a@1; sub < SUBACK 9 1;" + &drained(1, 0))),
        row("S10a", Both, "a takeover forgets what was unfinished", "R1 S10",
            &(joined(1) + &published(1, 0) + "sub < PUBLISH qos=1 id=100 m=0/0/0;" + back + "sub#1 | closed;" + &drained(1, 1))),
        row("S11", V5, "DISCONNECT cannot end the session", "D11 S11",
            &(joined(1) + "sub > DISCONNECT expiry=0; sub | fin;" + back + &drained(1, 0))),
        row("S13", V3, "a clean session lives on", "S13",
            "group g; sub > CONNECT clean=1; sub < CONNACK sp=0; sub > DISCONNECT; sub | fin; sub > CONNECT clean=0; sub < CONNACK sp=1; end"),
        row("S14", Both, "a silent client stays connected", "~S14",
            "group g; sub > CONNECT clean=0 ka=2; sub < CONNACK sp=0; wait 12; end"),
        row("S3", Both, "session present in a refusal", "S3",
            "group g; sub > CONNECT clean=0; sub < CONNACK sp=1 rc=0x87; sub | closed; end"),
        row("S4", Both, "a PUBLISH before CONNACK", "S4",
            &(joined(0) + "sub | fin; sub > CONNECT clean=0; sub < PUBLISH qos=0 m=foreign; sub < CONNACK sp=1; end")),
        row("S4a", Both, "CONNACK twice", "S4",
            &(joined(0) + "sub < CONNACK sp=0; end")),
    ]
}

#[rustfmt::skip]
fn subscriptions() -> Vec<Row> {
    use On::{Both, V5};
    let overlap = joined(1) + "sub > SUBSCRIBE 2 +@2; sub < SUBACK 2 2;";
    vec![
        row("M21", Both, "delivered at the granted QoS", "Q1",
            &(joined(2) + &published(1, 0) + &received(2, 0) + &drained(1, 1))),
        row("M22", Both, "delivered at QoS 0", "Q1",
            &(joined(1) + &published(1, 0) + &received(0, 0) + &drained(1, 1))),
        row("M22a", Both, "delivered at the QoS that was asked for", "Q1",
            &(joined(2).replace("SUBACK 1 2", "SUBACK 1 1") + &published(2, 0) + &received(2, 0) + &sentinel(2, 1) + &received_sentinel(1, 1) + "end")),
        row("M22b", Both, "a filter that was given up still counts", "Q1",
            &(overlap.clone() + "sub > UNSUBSCRIBE 3 +; sub < UNSUBACK 3 0;" + &published(2, 0) + &received(2, 0) + &sentinel(2, 1) + &received_sentinel(1, 1) + "end")),
        row("M23", Both, "overlapping filters: the lowest counts", "Q2",
            &(overlap.clone() + &published(2, 0) + &received(1, 0) + &sentinel(2, 1) + &received_sentinel(2, 1) + "end")),
        row("M58", Both, "SUBACK's codes change places", "Q3",
            "group g; sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@0 b@2; sub < SUBACK 1 2 0; end"),
        row("M58a", Both, "SUBACK with a code too few", "Q3",
            "group g; sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@0 b@2; sub < SUBACK 1 0; end"),
        row("M58b", Both, "SUBACK of another id", "Q3",
            "group g; sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@0; sub < SUBACK 2 0; sub < SUBACK 1 0; end"),
        row("Q4", Both, "subscribing again interrupts the flow", "D1 Q4",
            &(joined(1) + "sub > SUBSCRIBE 2 a@1;" + &published(1, 0) + "sub < SUBACK 2 1;" + &drained(1, 1))),
        row("Q5", Both, "UNSUBSCRIBE ends an exchange", "Q5",
            &(joined(2) + &published(2, 0) + "sub < PUBLISH qos=2 id=100 m=0/0/0; sub > UNSUBSCRIBE 2 a; sub < UNSUBACK 2 0; sub > PUBREC 100; sub > PINGREQ; sub < PINGRESP; wait 5; end")),
        row("Q6", V5, "a subscription above the maximum QoS is refused", "Q6",
            "group g; sub > CONNECT clean=0; sub < CONNACK sp=0 max_qos=1; sub > SUBSCRIBE 1 a@2; sub < SUBACK 1 0x80; end"),
        row("M53", V5, "No Local is ignored", "V2",
            "group g; pub > CONNECT clean=0; pub < CONNACK sp=0; pub > SUBSCRIBE 1 a@1,nl; pub < SUBACK 1 1; pub > PUBLISH qos=1 id=1 m=0/0/0; pub < PUBACK 1; pub < PUBLISH qos=1 id=1 m=0/0/0; pub > PUBACK 1; end"),
        row("M53a", V5, "no subscription identifier", "V1",
            &(joined(1).replace("a@1", "a@1 sid=7") + &published(1, 0) + &received(1, 0) + &(sentinel(1, 1) + &receiving(1, 1, "sentinel sids=7")) + "end")),
        row("M53b", V5, "another subscription identifier", "V1",
            &(joined(1).replace("a@1", "a@1 sid=7") + &published(1, 0) + &receiving(1, 0, "sids=8") + &(sentinel(1, 1) + &receiving(1, 1, "sentinel sids=7")) + "end")),
        row("M53c", V5, "a topic alias above the maximum", "V3",
            &(joined(1).replacen("clean=0", "clean=0 aliases=2", 1) + &published(1, 0) + &receiving(1, 0, "alias=3") + &drained(1, 1))),
        row("M53d", V5, "a topic alias of the connection before", "V3",
            &(joined(1).replacen("clean=0", "clean=0 aliases=2", 1) + &published(1, 0) + &receiving(1, 0, "alias=1") + "sub | rst; sub > CONNECT clean=0 aliases=2; sub < CONNACK sp=1;" + &published(1, 1) + &receiving(1, 1, "topic=none alias=1") + &drained(1, 2))),
        row("M22c", Both, "what waited is delivered at QoS 0", "Q1",
            &(joined(1) + "sub | fin;" + &published(1, 0) + "sub > CONNECT clean=0; sub < CONNACK sp=1;" + &received(0, 0) + &drained(1, 1))),
        row("M58c", Both, "SUBACK twice", "Q3",
            "group g; sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@0; sub < SUBACK 1 0; sub < SUBACK 1 0; end"),
        row("M58d", Both, "SUBACK grants more than was asked for", "Q3",
            "group g; sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@1; sub < SUBACK 1 2; end"),
        row("M53e", V5, "topic alias 0", "V3",
            &(joined(1).replacen("clean=0", "clean=0 aliases=2", 1) + &published(1, 0) + &receiving(1, 0, "alias=0") + &drained(1, 1))),
        row("M54c", V5, "a shared filter: above the granted QoS", "Q1",
            &(joined(1).replace("a@", "$share/g/a@") + &published(2, 0) + &received(2, 0) + "wait 3; end")),
        row("M54d", V5, "a shared filter: one member gets a message twice", "~D4",
            &(joined(1) + &published(1, 0) + &received(1, 0) + &received(1, 0).replace("100", "200") + &drained(1, 1))),
        row("M23a", Both, "overlapping filters: one copy too many at QoS 0", "D5",
            &(joined(0) + "sub > SUBSCRIBE 2 +@0; sub < SUBACK 2 0;" + &published(0, 0) + &received(0, 0) + &received(0, 0) + &received(0, 0) + &drained(0, 1))),
        row("M23b", Both, "a second copy though one of two filters was given up", "D3",
            &(joined(2) + "sub > SUBSCRIBE 2 +@2; sub < SUBACK 2 2; sub > UNSUBSCRIBE 3 +; sub < UNSUBACK 3 0;" + &published(2, 0) + &received(2, 0) + &received(2, 0).replace("100", "200") + &drained(2, 1))),
        row("M54", V5, "a shared filter: two members", "V4",
            &shared(1)),
        row("M54a", V5, "a shared filter at QoS 0: two members", "V4",
            &shared(0)),
        row("M54b", V5, "a shared filter at QoS 2: two members", "D12",
            &shared(2)),
    ]
}

fn shared(qos: u8) -> String {
    let start = both(qos).replace("a@", "$share/g/a@");
    start + &published(qos, 0) + &received(qos, 0) + &to_two(&received(qos, 0)) + "wait 3; end"
}

#[rustfmt::skip]
fn flow() -> Vec<Row> {
    use On::V5;
    let limited = |qos: u8| {
        let sent: String = (0..5).map(|sequence| published(qos, sequence)).collect();
        joined(qos).replacen("clean=0", "clean=0 rm=2", 1) + &sent
    };
    let open =
        |qos: u8, sequence: u64| format!("sub < PUBLISH qos={qos} id={} m=0/0/{sequence};", 100 + sequence);
    let rest =
        |qos: u8, from: u64| (from..5).map(|it| received(qos, it)).collect::<String>() + &drained(qos, 5);
    vec![
        row("M31", V5, "the receive maximum is ignored", "F1",
            &(limited(1) + &open(1, 0) + &open(1, 1) + &open(1, 2) + "sub > PUBACK 100; sub > PUBACK 101; sub > PUBACK 102;" + &rest(1, 3))),
        row("M31a", V5, "the receive maximum is ignored behind a resumption", "F1",
            &(limited(1) + &open(1, 0) + &open(1, 1) + "sub | rst; sub > CONNECT clean=0 rm=2; sub < CONNACK sp=1;" + &open(1, 0).replace("m=", "dup m=") + &open(1, 1).replace("m=", "dup m=") + &open(1, 2) + "sub > PUBACK 100; sub > PUBACK 101; sub > PUBACK 102;" + &rest(1, 3))),
        row("M32", V5, "PUBREC frees a place", "F2",
            &(limited(2) + &open(2, 0) + &open(2, 1) + "sub > PUBREC 100; sub > PUBREC 101;" + &open(2, 2) + "sub < PUBREL 100; sub > PUBCOMP 100; sub < PUBREL 101; sub > PUBCOMP 101; sub > PUBREC 102; sub < PUBREL 102; sub > PUBCOMP 102;" + &rest(2, 3))),
        row("F3", V5, "PINGRESP waits for a place", "F3",
            &(limited(1) + &open(1, 0) + &open(1, 1) + "sub > PINGREQ; wait 7; sub > PUBACK 100; sub < PINGRESP; sub > PUBACK 101;" + &rest(1, 2))),
        row("F4", V5, "the places of the connection before are not given back", "?D1 ?L1 F4 ~O3",
            &(limited(1) + &open(1, 0) + &open(1, 1) + "sub | rst; sub > CONNECT clean=0 rm=2; sub < CONNACK sp=1;" + &open(1, 0).replace("m=", "dup m=") + "sub > PUBACK 100; wait 12; end stuck")),
        row("F5", V5, "a place that is given back is not used", "?D1 ?L1 F5",
            &(limited(1) + &open(1, 0) + &open(1, 1) + "sub > PUBACK 100; wait 12; end stuck")),
        row("E3", V5, "a packet that is too large", "E3",
            &(joined(1).replacen("clean=0", "clean=0 max=100", 1) + &published(1, 0) + &receiving(1, 0, "size=150") + &drained(1, 1))),
        row("M37", V5, "what had expired is delivered", "E1",
            &(expiring(1) + &receiving(1, 0, "expiry=0") + &drained(1, 1))),
        row("M37a", V5, "what has not expired is dropped", "D1 S6",
            &(expiring(60) + &drained(1, 1))),
        row("M38", V5, "the interval is not counted down", "E2",
            &(expiring(60) + &receiving(1, 0, "expiry=60") + &drained(1, 1))),
        row("M38a", V5, "the interval is taken off", "E2",
            &(expiring(60) + &received(1, 0) + &drained(1, 1))),
    ]
}

fn expiring(seconds: u32) -> String {
    joined(1)
        + "sub | fin; wait 0.2;"
        + &published(1, 0).replace("m=", &format!("expiry={seconds} m="))
        + "wait 4; sub > CONNECT clean=0; sub < CONNACK sp=1;"
}

#[rustfmt::skip]
fn retained() -> Vec<Row> {
    use On::{Both, Durable, V5};
    let kept = |rest: &str| {
        format!(
            "group g; pub > CONNECT clean=0; pub < CONNACK sp=0; sub > CONNECT clean=0; sub < CONNACK sp=0; pub > PUBLISH qos=1 id=1 m=0/0/0 retain {rest}; pub < PUBACK 1;"
        )
    };
    let ask = "sub > SUBSCRIBE 1 a@1; sub < SUBACK 1 1;";
    let copy = |sequence: u64, rest: &str| {
        format!("sub < PUBLISH qos=1 id=5{sequence} m=0/0/{sequence} {rest}; sub > PUBACK 5{sequence};")
    };
    let second = "pub > PUBLISH qos=1 id=2 m=0/0/1 retain; pub < PUBACK 2;";
    let clear = "pub > PUBLISH qos=1 id=3 retain len=0 crc=0; pub < PUBACK 3;";
    let end = REST.to_owned() + "end";
    vec![
        row("M39", Both, "the first is kept, not the last", "T1",
            &(kept("") + second + ask + &copy(0, "retain") + &end)),
        row("M39a", Both, "the retained message does not come", "T1",
            &(kept("") + ask + &end)),
        row("M39b", Both, "it does not come for a filter with #", "T1",
            &(kept("") + &ask.replace("a@1", "a/#@1") + &end)),
        row("M39c", Both, "it comes twice at QoS 2", "T1",
            &((kept("") + ask).replace("PUBLISH qos=1", "PUBLISH qos=2").replace("pub < PUBACK 1;", "pub < PUBREC 1; pub > PUBREL 1; pub < PUBCOMP 1;").replace("@1", "@2").replace("SUBACK 1 1", "SUBACK 1 2")
              + &["50", "60"].map(|id| format!("sub < PUBLISH qos=2 id={id} m=0/0/0 retain; sub > PUBREC {id}; sub < PUBREL {id}; sub > PUBCOMP {id};")).concat() + &end)),
        row("M39d", Both, "it comes twice at QoS 1", "~T1",
            &(kept("") + ask + &copy(0, "retain") + &copy(0, "retain").replace("50", "60") + &end)),
        row("M40", Both, "no RETAIN for a new subscription", "T2",
            &(kept("") + ask + &copy(0, "") + &end)),
        row("M40a", Both, "RETAIN for an established one", "T3",
            &(joined(1) + "wait 6;" + &published(1, 0).replace("m=", "retain m=") + &receiving(1, 0, "retain") + &drained(1, 1))),
        row("M41", Both, "an empty message is kept", "T4",
            &(kept("") + clear + ask + "sub < PUBLISH qos=1 id=9 retain len=0 crc=0; sub > PUBACK 9;" + &end)),
        row("M41a", Both, "an empty message does not clear", "T4",
            &(kept("") + clear + ask + &copy(0, "retain") + &end)),
        row("T5", Both, "a message without RETAIN takes the place", "T1 T5",
            &(kept("") + &second.replace(" retain", "") + ask + &copy(1, "retain") + &end)),
        row("T6", Both, "it goes with its publisher's session", "T1 T6",
            &(kept("").replacen("clean=0", "clean=1", 1).replacen("pub > CONNECT clean=1", "pub > CONNECT clean=1 expiry=0", 1) + "pub > DISCONNECT; pub | fin;" + ask + &end)),
        row("T7", Both, "it comes at the granted QoS", "T7",
            &(kept("") + &ask.replace("@1", "@2").replace("SUBACK 1 1", "SUBACK 1 2") + "sub < PUBLISH qos=2 id=50 m=0/0/0 retain; sub > PUBREC 50; sub < PUBREL 50; sub > PUBCOMP 50;" + &end)),
        row("T8", V5, "Retain Handling 2 is ignored", "T8",
            &(kept("") + &ask.replace("@1", "@1,rh2") + &copy(0, "retain") + &end)),
        row("T8a", V5, "Retain Handling 1 is ignored", "T8",
            &(kept("") + &ask.replace("@1", "@1,rh1") + &copy(0, "retain") + &ask.replace(" 1 a@1", " 2 a@1,rh1").replace("SUBACK 1", "SUBACK 2") + &copy(0, "retain").replace("50", "60") + &end)),
        row("T1d", Durable, "it is lost by a kill, under a profile", "T1",
            &(kept("") + "broker killed; sub | closed; pub | closed; broker started; sub > CONNECT clean=0; sub < CONNACK sp=1;" + ask + &end)),
        row("T1e", Both, "a volatile broker may lose it", "",
            &(kept("") + "broker killed; sub | closed; pub | closed; broker started; sub > CONNECT clean=0; sub < CONNACK sp=1;" + ask + &end)),
        row("T9", V5, "it had expired", "T9",
            &(kept("expiry=1") + "wait 4;" + ask + &copy(0, "retain expiry=0") + &end)),
    ]
}

#[rustfmt::skip]
fn wills() -> Vec<Row> {
    use On::{Both, V5};
    let start = |options: &str| {
        format!(
            "group g; sub > CONNECT clean=0 ka=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 will@1; sub < SUBACK 1 1; c > CONNECT clean=0 will m=9/0/0 {options}; c < CONNACK sp=0;"
        )
    };
    let will = "sub < PUBLISH qos=1 id=9 topic=will m=9/0/0; sub > PUBACK 9;";
    let again = will.replace('9', "8").replace("8/0/0", "9/0/0");
    vec![
        row("M42", Both, "a will behind DISCONNECT", "W2",
            &(start("") + "c > DISCONNECT; c | fin;" + will + "wait 9; end")),
        row("M42a", Both, "no will behind a reset", "W1",
            &(start("") + "c | rst; wait 9; end")),
        row("M42b", Both, "the will twice", "W3",
            &(start("") + "c | rst;" + will + &again + "wait 9; end")),
        row("M42c", Both, "no will behind a takeover", "W1",
            &(start("") + "c > CONNECT clean=0; c < CONNACK sp=1; c#1 | closed; wait 9; end")),
        row("M42d", V5, "DISCONNECT with will, and no will", "W1",
            &(start("") + "c > DISCONNECT rc=0x04; c | fin; wait 9; end")),
        row("M42e", Both, "a will of a connection that had none", "W6",
            &(start("") + "c > DISCONNECT; c | fin; c > CONNECT clean=0; c < CONNACK sp=1; c | rst;" + will + "wait 9; end")),
        row("W4", V5, "the will delay is not kept", "W4",
            &(start("delay=20") + "c | rst; wait 2;" + will + "wait 9; end")),
        row("W4a", V5, "the session was resumed in time, and the will comes", "W4",
            &(start("delay=5") + "c | rst; wait 2; c > CONNECT clean=0; c < CONNACK sp=1; wait 6;" + will + "wait 9; end")),
        row("W5", Both, "the will at QoS 0", "W5",
            &(start("") + "c | rst; sub < PUBLISH qos=0 topic=will m=9/0/0; wait 9; end")),
        row("W5a", Both, "the will with RETAIN", "W5",
            &(start("") + "c | rst;" + &will.replace("m=", "retain m=") + "wait 9; end")),
        row("W8", Both, "another will than was declared", "D8",
            &(start("") + "c | rst;" + &will.replace("m=", "crc=8 m=") + "wait 9; end")),
    ]
}

#[rustfmt::skip]
fn liveness() -> Vec<Row> {
    use On::Both;
    vec![
        row("L1", Both, "a stream does not drain", "?D1 ?L1",
            &(joined(1) + &published(1, 0) + "end stuck")),
        row("L3", Both, "PINGREQ is not answered", "L3",
            &(joined(0) + "sub > PINGREQ; wait 9; sub | fin;" + &sentinel(0, 0) + "end")),
        row("L5", Both, "the broker ends by itself", "L5",
            &(joined(0) + "broker exited; sub | broken; pub | broken; end")),
        row("P1", Both, "a packet that is not well-formed", "~P1",
            &(joined(0) + "sub | unlawful flags; end")),
    ]
}

#[rustfmt::skip]
fn clients() -> Vec<Row> {
    use On::{Both, V5};
    let start = |rest: &str| format!("group g; c > CONNECT clean=0 subject; c < CONNACK sp=0 {rest};");
    let back = "c | rst; c > CONNECT clean=0 subject; c < CONNACK sp=1;";
    let send = |qos: u8, id: u8, rest: &str| format!("c > PUBLISH qos={qos} id={id} m=0/0/{id} {rest};");
    let take = |qos: u8, id: u8, rest: &str| {
        format!(
            "pub > PUBLISH qos={qos} id={id} topic=b m=1/0/{id}; c < PUBLISH qos={qos} id={id} topic=b m=1/0/{id} {rest};"
        )
    };
    let reads = start("") + "c > SUBSCRIBE 1 b@2; c < SUBACK 1 2; pub > CONNECT clean=0; pub < CONNACK sp=0;";
    vec![
        row("C1", Both, "PUBLISH again after PUBREC", "R12",
            &(start("") + &send(2, 1, "") + "c < PUBREC 1; c > PUBREL 1;" + back + &send(2, 1, "dup") + "c < PUBREC 1; c > PUBREL 1; c < PUBCOMP 1; end")),
        row("C2", Both, "another packet id", "R12",
            &(start("") + &send(1, 1, "") + back + "c > PUBLISH qos=1 id=2 m=0/0/1 dup; c < PUBACK 2; end")),
        row("C3", V5, "it goes on though there is no session", "S12",
            &(start("") + &send(1, 1, "") + "c | rst; broker killed; broker started; c > CONNECT clean=0 subject; c < CONNACK sp=0;" + &send(1, 1, "dup") + "c < PUBACK 1; end")),
        row("C4", Both, "acknowledged before it was handed over", "A3",
            &(reads.clone() + &take(1, 1, "") + "pub < PUBACK 1; c > PUBACK 1; c | rst; c > CONNECT clean=0 subject; c < CONNACK sp=1;" + &take(1, 2, "") + "pub < PUBACK 2; c > PUBACK 2; c | settled 1/0/2 processed; end")),
        row("C5", Both, "PUBACK out of order", "O5",
            &(reads.clone() + &take(1, 1, "") + &take(1, 2, "") + "pub < PUBACK 1; pub < PUBACK 2; c > PUBACK 2; c > PUBACK 1; end")),
        row("C6", V5, "the server's receive maximum is exceeded", "F6",
            &(start("rm=1") + &send(1, 1, "") + &send(1, 2, "") + "c < PUBACK 1; c < PUBACK 2; end")),
        row("C7", Both, "QoS 2 processed twice", "A2",
            &(reads + &take(2, 1, "") + "pub < PUBREC 1; pub > PUBREL 1; pub < PUBCOMP 1; c > PUBREC 1; c < PUBREL 1; c | settled 1/0/1 processed; c | rst; c > CONNECT clean=0 subject; c < CONNACK sp=1; c < PUBREL 1; c | settled 1/0/1 processed; c > PUBCOMP 1; end")),
        row("C8", Both, "published, it says, and it was not acknowledged", "A4",
            &(start("") + &send(1, 1, "") + "c | claims 0/0/1; end")),
    ]
}

#[test]
fn kill_matrix_each_mutant_is_found_as_what_it_breaks() {
    let tables = [
        delivery(),
        order(),
        resumption(),
        sessions(),
        subscriptions(),
        flow(),
        retained(),
        wills(),
        liveness(),
        clients(),
    ];
    let mut wrong = Vec::new();
    for row in tables.iter().flatten() {
        for (version, found) in row.found() {
            let found = found.join(" ");
            let mark = if found == row.expect { "" } else { "  <-- " };
            println!(
                "{:5} {:5} {:62} {found}{mark}{}",
                row.id,
                version.as_str(),
                row.what,
                if mark.is_empty() { "" } else { row.expect }
            );
            if found != row.expect {
                wrong.push(format!("{} ({}): {found} and not {}", row.id, row.what, row.expect));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
