//! Lawful and odd, of the checker's own finding: none of it may be flagged.

use crate::support::*;
use mqtally_history::packet::Version;
use mqtally_history::profile::Profile;

const BACK: &str = "sub | rst; sub > CONNECT clean=0; sub < CONNACK sp=1;";
const PUB_BACK: &str = "pub | rst; pub > CONNECT clean=0; pub < CONNACK sp=1;";

/// What is odd, what it exercises or must not (as [`check_on`] reads it), and how it shows.
type Row = (&'static str, &'static str, String);

fn both() -> Vec<Row> {
    let open1 = joined(1) + &published(1, 0) + "sub < PUBLISH qos=1 id=100 m=0/0/0;";
    let open2 = joined(2) + &published(2, 0) + "sub < PUBLISH qos=2 id=100 m=0/0/0;";
    let three = |qos| published(qos, 0) + &published(qos, 1) + &published(qos, 2);
    let overlap = joined(2) + "sub > SUBSCRIBE 2 +@2; sub < SUBACK 2 2;";
    let copy = |id: u32, rest: &str| receiving(2, 0, rest).replace("100", &id.to_string());
    let will = |rest: &str| format!("c > CONNECT clean=0 will m=9/0/0 topic=a {rest}; c < CONNACK sp=0;");
    vec![
        ("a message comes before its publisher is told", "+D1",
         joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0;" + &received(1, 0) + "pub < PUBACK 1;" + &drained(1, 1)),
        ("a message arrives before its SUBACK", "+D9",
         joined(1).replace("sub < SUBACK 1 1\n", "") + &published(1, 0) + &received(1, 0) + "sub < SUBACK 1 1;" + &drained(1, 1)),
        ("a message sent before SUBACK is missing", "-D2",
         joined(1).replace("sub < SUBACK 1 1\n", "") + &published(1, 0) + "sub < SUBACK 1 1;" + &drained(1, 1)),
        ("what waited comes behind newer messages of another topic", "+S6",
         joined(1).replace("a@1", "+@1") + "sub | fin;" + &published(1, 0) + "pub > PUBLISH qos=1 id=9 topic=b m=0/1/0; pub < PUBACK 9;
            sub > CONNECT clean=0; sub < CONNACK sp=1; sub < PUBLISH qos=1 id=9 topic=b m=0/1/0; sub > PUBACK 9;" + &received(1, 0) + &drained(1, 1)),
        ("PUBACK was not read: the message comes again with DUP", "+R5",
         open1.clone() + "sub > PUBACK 100;" + BACK + &receiving(1, 0, "dup") + &drained(1, 1)),
        ("PUBACK was read: the id serves the next message", "+R7",
         open1.clone() + "sub > PUBACK 100;" + BACK + &published(1, 1) + "sub < PUBLISH qos=1 id=100 m=0/0/1; sub > PUBACK 100;" + &drained(1, 2)),
        ("PUBCOMP was not read: PUBREL comes again", "+D2",
         open2.clone() + "sub > PUBREC 100; sub < PUBREL 100; sub > PUBCOMP 100;" + BACK + "sub < PUBREL 100; sub > PUBCOMP 100;" + &drained(2, 1)),
        ("PUBREC was not read: PUBLISH comes again, twice over", "+D3",
         open2.clone() + "sub > PUBREC 100;" + BACK + "sub < PUBLISH qos=2 id=100 m=0/0/0 dup; sub > PUBREC 100;" + BACK + &copy(100, "dup") + &drained(2, 1)),
        ("an id is used again on one connection", "+R7",
         joined(2) + &three(2) + &(0..3).map(|it| received(2, it).replace(&format!("id=10{it}"), "id=1").replace(&format!(" 10{it}"), " 1")).collect::<String>() + &drained(2, 3)),
        ("a publisher's id is used again", "+D2",
         joined(2) + &published(2, 0) + &received(2, 0) + &published(2, 1).replace("id=2", "id=1").replace(" 2\n", " 1\n") + &received(2, 1) + &drained(2, 2)),
        ("a copy a filter, at each filter's QoS", "+Q2 +Q1",
         joined(1) + "sub > SUBSCRIBE 2 +@2; sub < SUBACK 2 2;" + &published(2, 0) + &received(1, 0) + &copy(200, "")
            + &sentinel(2, 1) + &received_sentinel(1, 1) + &received_sentinel(2, 1).replace("101", "201") + "end"),
        ("two copies, the second behind a reconnect", "+D3",
         overlap.clone() + &published(2, 0) + &received(2, 0) + BACK + &copy(200, "") + &sentinel(2, 1) + &received_sentinel(2, 1) + "end"),
        ("two copies in flight come again together", "+R5",
         overlap.clone() + &published(2, 0) + "sub < PUBLISH qos=2 id=100 m=0/0/0; sub < PUBLISH qos=2 id=200 m=0/0/0;" + BACK + &copy(100, "dup") + &copy(200, "dup")
            + &sentinel(2, 1) + &received_sentinel(2, 1) + "end"),
        ("one filter of two is given up, and the other goes on", "+D1",
         joined(1) + "sub > SUBSCRIBE 2 +@1; sub < SUBACK 2 1; sub > UNSUBSCRIBE 3 +; sub < UNSUBACK 3 0;" + &published(1, 0) + &received(1, 0) + &drained(1, 1)),
        ("UNSUBSCRIBE and SUBSCRIBE cross", "-Q2",
         joined(1) + "sub > UNSUBSCRIBE 2 a; sub > SUBSCRIBE 3 a@1;" + &published(1, 0) + "sub < UNSUBACK 2 0; sub < SUBACK 3 1;" + &drained(1, 1)),
        ("QoS 0: the broker drops some in the middle", "+D5",
         joined(0) + &three(0) + &received(0, 0) + &received(0, 2) + &drained(0, 3)),
        ("QoS 0 comes behind a reconnect, in order", "+D5",
         joined(0) + &three(0) + "sub | rst; sub > CONNECT clean=0; sub < CONNACK sp=1;" + &received(0, 0) + &received(0, 2) + &drained(0, 3)),
        ("its publisher goes without a goodbye, and the message comes late", "+D1",
         joined(1) + &published(1, 0) + "pub | rst; wait 20;" + &received(1, 0) + "pub > CONNECT clean=0; pub < CONNACK sp=1;" + &drained(1, 1)),
        ("the publisher sends again on a live connection what PUBACK is late for", "+D1",
         joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0; pub > PUBLISH qos=1 id=1 m=0/0/0 dup; pub < PUBACK 1; pub < PUBACK 1;" + &received(1, 0)
            + &received(1, 0).replace("100", "200") + &drained(1, 1)),
        ("a resumed publisher's QoS 1 message is taken twice", "+D1",
         joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0;" + PUB_BACK + "pub > PUBLISH qos=1 id=1 m=0/0/0 dup; pub < PUBACK 1;" + &received(1, 0)
            + &received(1, 0).replace("100", "200") + &drained(1, 1)),
        ("the second of two takings comes behind a newer message", "+O1",
         joined(1) + "pub > PUBLISH qos=1 id=1 m=0/0/0; pub > PUBLISH qos=1 id=2 m=0/0/1;" + PUB_BACK
            + "pub > PUBLISH qos=1 id=1 m=0/0/0 dup; pub > PUBLISH qos=1 id=2 m=0/0/1 dup; pub < PUBACK 1; pub < PUBACK 2;"
            + &received(1, 0) + &received(1, 1) + &received(1, 0).replace("100", "200") + &received(1, 1).replace("101", "201") + &drained(1, 2)),
        ("PUBREC was lost, and PUBREC comes for the repetition", "+R8",
         joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0;" + &received(2, 0) + PUB_BACK + "pub > PUBLISH qos=2 id=1 m=0/0/0 dup; pub < PUBREC 1; pub > PUBREL 1; pub < PUBCOMP 1;" + &drained(2, 1)),
        ("PUBREL twice, PUBCOMP twice", "+R9",
         joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0; pub < PUBREC 1; pub > PUBREL 1;" + PUB_BACK + "pub > PUBREL 1; pub < PUBCOMP 1;" + &received(2, 0) + &drained(2, 1)),
        ("a takeover, and the old connection ends first", "+S9 +S10",
         joined(1) + "sub > CONNECT clean=0; sub#1 | closed; sub < CONNACK sp=1;" + &published(1, 0) + &drained(1, 1).replace("sub < PUBLISH qos=1 id=101", "sub < PUBLISH qos=1 id=100 m=0/0/0; sub > PUBACK 100; sub < PUBLISH qos=1 id=101")),
        ("a takeover, and the old connection ends last", "+S9 +S10",
         joined(1) + "sub > CONNECT clean=0; sub < CONNACK sp=1;" + &published(1, 0) + "wait 1; sub#1 | closed;" + &received(1, 0) + &drained(1, 1)),
        ("what was on its way on the connection that was taken over", "+S9",
         joined(1) + &published(1, 0) + "sub > CONNECT clean=0; sub < CONNACK sp=1; sub#1 < PUBLISH qos=1 id=100 m=0/0/0; sub#1 | closed; sub < PUBLISH qos=1 id=100 m=0/0/0 dup; sub > PUBACK 100;" + &drained(1, 1)),
        ("what was on its way on the old connection is read last", "+O1 +O3",
         joined(1) + &published(1, 0) + &published(1, 1) + "sub > CONNECT clean=0; sub < CONNACK sp=1; sub < PUBLISH qos=1 id=100 m=0/0/0 dup; sub < PUBLISH qos=1 id=101 m=0/0/1;
          sub > PUBACK 100; sub > PUBACK 101; sub#1 < PUBLISH qos=1 id=100 m=0/0/0; sub#1 | closed;" + &drained(1, 2)),
        ("a takeover within a QoS 2 exchange", "+S10 +R2",
         open2.clone() + "sub > PUBREC 100; sub < PUBREL 100; sub > CONNECT clean=0; sub#1 | closed; sub < CONNACK sp=1; sub < PUBREL 100; sub > PUBCOMP 100;" + &drained(2, 1)),
        ("the client's own will to its own filter", "",
         "group g; c > CONNECT clean=0 will topic=a m=9/0/0; c < CONNACK sp=0; c > SUBSCRIBE 1 a@1; c < SUBACK 1 1; c | rst; wait 3; c > CONNECT clean=0; c < CONNACK sp=1;
          c < PUBLISH qos=1 id=1 topic=a m=9/0/0; c > PUBACK 1; end".to_owned()),
        ("a will overtakes and is overtaken", "+O1",
         joined(1) + &will("") + &published(1, 0) + "c | rst; sub < PUBLISH qos=1 id=7 topic=a m=9/0/0; sub > PUBACK 7;" + &received(1, 0) + &drained(1, 1)),
        ("a will that is a plain payload", "",
         joined(1) + &will("").replace("m=9/0/0", "m=none") + "c | rst; sub < PUBLISH qos=1 id=7 topic=a m=none; sub > PUBACK 7;" + &drained(1, 0)),
        ("a will is retained, and a later subscriber reads it", "",
         "group g; c > CONNECT clean=0 will topic=a m=9/0/0 retain; c < CONNACK sp=0; c | rst; wait 3; sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@1; sub < SUBACK 1 1;
          sub < PUBLISH qos=1 id=1 topic=a m=9/0/0 retain; sub > PUBACK 1; sub > PINGREQ; sub < PINGRESP; wait 2; end".to_owned()),
        ("a payload of other programs, retained from before", "",
         joined(1).replace("a@1", "#@1") + "sub < PUBLISH qos=1 id=7 topic=x m=none retain; sub > PUBACK 7;" + &drained(1, 0)),
        ("$SYS to who asks for it", "",
         joined(1).replace("a@1", "a@1 $SYS/#@0") .replace("SUBACK 1 1", "SUBACK 1 1 0") + "sub < PUBLISH qos=0 topic=$SYS/broker/load m=none retain; sub < PUBLISH qos=0 topic=$SYS/broker/load m=none;" + &drained(1, 0)),
        ("a filter is refused", "-D1",
         joined(1).replace("SUBACK 1 1", "SUBACK 1 0x80") + &published(1, 0) + &sentinel(1, 1) + "end"),
        ("a second SUBSCRIBE to the filter is refused, and the first stays", "+D1",
         joined(1) + "sub > SUBSCRIBE 2 a@2; sub < SUBACK 2 0x80;" + &published(1, 0) + &received(1, 0) + &drained(1, 1)),
        ("one SUBSCRIBE names a filter twice", "+D1",
         joined(1).replace("a@1", "a@0 a@1").replace("SUBACK 1 1", "SUBACK 1 0 1") + &published(1, 0) + &received(1, 0) + &drained(1, 1)),
        ("the QoS of a filter is lowered", "+Q1",
         joined(2) + "sub > SUBSCRIBE 2 a@0; sub < SUBACK 2 0;" + &published(2, 0) + &received(0, 0) + &sentinel(2, 1) + &received_sentinel(0, 1) + "end"),
        ("what waited for a filter of QoS 2 comes though it was lowered", "+Q1",
         joined(2) + &published(2, 0) + "sub > SUBSCRIBE 2 a@0; sub < SUBACK 2 0;" + &received(2, 0) + &sentinel(2, 1) + &received_sentinel(0, 1) + "end"),
        ("the broker is paused", "+D1",
         joined(1) + &published(1, 0) + "broker paused; wait 20; broker resumed;" + &received(1, 0) + &drained(1, 1)),
        ("a paused broker answers no PINGREQ", "",
         joined(1) + "broker paused; sub > PINGREQ; wait 20; broker resumed; sub < PINGRESP;" + &drained(1, 0)),
        ("a graceful restart of a volatile broker", "-S2",
         joined(1) + &published(1, 0) + "broker terminated; sub | closed; pub | closed; broker started; sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@1; sub < SUBACK 1 1;
          pub > CONNECT clean=0; pub < CONNACK sp=0;" + &drained(1, 1)),
        ("a volatile broker is killed, has an old session without its filter, and is sent something before the client is back", "",
         joined(1) + "broker killed; sub | closed; pub | closed; broker started; pub > CONNECT clean=0; pub < CONNACK sp=1;" + &published(1, 0)
            + "sub > CONNECT clean=0; sub < CONNACK sp=1; sub > SUBSCRIBE 9 a@1; sub < SUBACK 9 1;" + &drained(1, 1)),
        ("a volatile broker forgets the publisher's half of QoS 2", "",
         joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0; pub < PUBREC 1;" + &received(2, 0) + "broker killed; sub | closed; pub | closed; broker started;
          sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@2; sub < SUBACK 1 2; pub > CONNECT clean=0; pub < CONNACK sp=0;
          pub > PUBLISH qos=2 id=1 m=0/0/0 attempt=1; pub < PUBREC 1; pub > PUBREL 1; pub < PUBCOMP 1;" + &copy(300, "") + &drained(2, 1)),
        ("an aborted connect", "+D1",
         joined(1) + "sub | rst; sub > CONNECT clean=0; sub | rst; sub > CONNECT clean=0; sub < CONNACK sp=1;" + &published(1, 0) + &received(1, 0) + &drained(1, 1)),
        ("an aborted clean start may have been read", "",
         joined(1) + "sub | fin; sub > CONNECT clean=1; sub | rst; sub > CONNECT clean=0; sub < CONNACK sp=1;" + &published(1, 0) + &drained(1, 1).replace("sub < PUBLISH", "sub < PUBLISH qos=1 id=100 m=0/0/0; sub > PUBACK 100; sub < PUBLISH")),
        ("a clean session's subscriber misses what is sent while it is away", "",
         joined(1).replacen("clean=0", "clean=1 expiry=0", 1) + "sub > DISCONNECT; sub | fin;" + &published(1, 0) + "sub > CONNECT clean=1 expiry=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@1; sub < SUBACK 1 1;" + &drained(1, 1)),
        ("a client that forgot its state gets a QoS 2 message again", "",
         open2 + "sub > PUBREC 100; sub < PUBREL 100; sub | rst; sub | wiped; sub > CONNECT clean=0; sub < CONNACK sp=1;" + "sub < PUBREL 100; sub > PUBCOMP 100;" + &drained(2, 1)),
        ("a program of somebody's publishes without a marker", "",
         joined(1) + "x > CONNECT clean=1; x < CONNACK sp=0; x > PUBLISH qos=1 id=1 m=none len=3 crc=5; x < PUBACK 1; sub < PUBLISH qos=1 id=7 m=none len=3 crc=5; sub > PUBACK 7;" + &drained(1, 0)),
        ("an empty message is published and comes", "",
         joined(1) + "pub > PUBLISH qos=1 id=9 m=none len=0 crc=0; pub < PUBACK 9; sub < PUBLISH qos=1 id=7 m=none len=0 crc=0; sub > PUBACK 7;" + &drained(1, 0)),
        ("two publishers share a topic", "+O1",
         joined(1) + "two > CONNECT clean=0; two < CONNACK sp=0; two > PUBLISH qos=1 id=1 m=1/0/0; two < PUBACK 1; two > PUBLISH qos=1 id=2 m=1/0/1; two < PUBACK 2;" + &published(1, 0)
            + "sub < PUBLISH qos=1 id=1 m=1/0/0; sub > PUBACK 1;" + &received(1, 0) + "sub < PUBLISH qos=1 id=2 m=1/0/1; sub > PUBACK 2;" + &drained(1, 1)),
        ("a delivery crosses a takeover, under an id that has served another message", "+D3",
         joined(2) + &published(2, 0) + &received(2, 0) + "sub > CONNECT clean=0;" + &published(2, 1) + "sub < CONNACK sp=1; sub#1 < PUBLISH qos=2 id=100 m=0/0/1; sub#1 > PUBREC 100;
          sub < PUBLISH qos=2 id=100 m=0/0/1 dup; sub > PUBREC 100; sub < PUBREL 100; sub > PUBCOMP 100; sub#1 | closed;" + &drained(2, 2)),
        ("a delivery is read late, on the connection that was taken over", "",
         joined(0) + &published(0, 0) + &published(0, 1) + "sub > CONNECT clean=0; sub < CONNACK sp=1;" + &received(0, 1) + "sub#1 < PUBLISH qos=0 m=0/0/0; sub#1 | closed;" + &drained(0, 2)),
        ("a delivery is read late, on the connection that a clean start took over", "",
         joined(1) + &published(1, 0) + "sub > CONNECT clean=1; sub < CONNACK sp=0; sub#1 < PUBLISH qos=1 id=100 m=0/0/0; sub#1 > PUBACK 100; sub#1 | closed; sub > SUBSCRIBE 1 a@1; sub < SUBACK 1 1;" + &drained(1, 1)),
        ("a QoS 2 delivery is read late, on the connection that a clean start took over", "",
         joined(2) + &published(2, 0) + "sub > CONNECT clean=1; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@2; sub < SUBACK 1 2; sub#1 < PUBLISH qos=2 id=100 m=0/0/0; sub#1 > PUBREC 100; sub#1 | closed;" + &published(2, 1) + "sub < PUBLISH qos=2 id=100 m=0/0/1; sub > PUBREC 100; sub < PUBREL 100; sub > PUBCOMP 100;" + &drained(2, 2)),
        ("a retained message is read late, on the connection that was taken over", "",
         "group g; pub > CONNECT clean=0; pub < CONNACK sp=0; pub > PUBLISH qos=1 id=1 m=0/0/0 retain; pub < PUBACK 1; sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@1; sub < SUBACK 1 1;
          sub > CONNECT clean=0; sub < CONNACK sp=1; sub < PUBLISH qos=1 id=9 m=0/0/0 retain dup; sub > PUBACK 9; sub#1 < PUBLISH qos=1 id=9 m=0/0/0 retain; sub#1 > PUBACK 9; sub#1 | closed;".to_owned() + &drained(1, 1)),
        ("PUBREL is read late, on the connection that was taken over", "+D3",
         joined(2) + &published(2, 0) + "sub < PUBLISH qos=2 id=100 m=0/0/0; sub > PUBREC 100; sub > CONNECT clean=0; sub < CONNACK sp=1; sub < PUBREL 100; sub > PUBCOMP 100; sub#1 < PUBREL 100; sub#1 > PUBCOMP 100; sub#1 | closed;" + &drained(2, 1)),
        ("the broker ends one connection after the other, and each has brought something new", "+L2",
         joined(1) + &(0..6).map(|it| published(1, it) + &received(1, it) + "sub | closed; sub > CONNECT clean=0; sub < CONNACK sp=1;").collect::<String>()
            + "sub > PINGREQ; sub < PINGRESP;" + &drained(1, 6)),
        ("a retained message comes before SUBACK", "+T7",
         "group g; pub > CONNECT clean=0; pub < CONNACK sp=0; pub > PUBLISH qos=1 id=1 m=0/0/0 retain; pub < PUBACK 1; sub > CONNECT clean=0; sub < CONNACK sp=0;
          sub > SUBSCRIBE 1 a@2; sub < PUBLISH qos=1 id=9 m=0/0/0 retain; sub > PUBACK 9; sub < SUBACK 1 2;".to_owned() + &drained(1, 1)),
        ("QoS 1 and 2 of one topic overtake each other", "+O1",
         joined(2) + &published(1, 0) + "pub > PUBLISH qos=2 id=9 m=0/1/0; pub < PUBREC 9; pub > PUBREL 9; pub < PUBCOMP 9; sub < PUBLISH qos=2 id=9 m=0/1/0; sub > PUBREC 9; sub < PUBREL 9; sub > PUBCOMP 9;"
            + &received(1, 0) + &drained(1, 1)),
    ]
}

fn in_5() -> Vec<Row> {
    let sid = joined(1).replace("a@1", "a@1 sid=7");
    let limited = joined(1).replacen("clean=0", "clean=0 rm=2", 1);
    let open = |sequence: u64, rest: &str| {
        format!("sub < PUBLISH qos=1 id={} m=0/0/{sequence} {rest};", 100 + sequence)
    };
    let group = |qos: u8| {
        joined(qos).replace("a@", "$share/g/a@")
            + &format!(
                "two > CONNECT clean=0; two < CONNACK sp=0; two > SUBSCRIBE 1 $share/g/a@{qos}; two < SUBACK 1 {qos};"
            )
    };
    let two = |history: String| history.replace("sub ", "two ");
    vec![
        ("a refusal ends the message", "+V5",
         joined(1) + &published(1, 0) + &open(0, "") + "sub > PUBACK 100 rc=0x83; sub > PINGREQ; sub < PINGRESP;" + BACK + &drained(1, 1)),
        ("the refused message's id serves another", "",
         joined(1) + &published(1, 0) + &open(0, "") + "sub > PUBACK 100 rc=0x83;" + &published(1, 1) + "sub < PUBLISH qos=1 id=100 m=0/0/1; sub > PUBACK 100;" + &drained(1, 2)),
        ("the publisher is refused", "+D7",
         joined(1) + &published(1, 0).replace("PUBACK 1", "PUBACK 1 rc=0x97") + &drained(1, 1)),
        ("PUBREC refuses, and the id is free", "",
         joined(2) + "pub > PUBLISH qos=2 id=1 m=0/0/0; pub < PUBREC 1 rc=0x97;" + &drained(2, 1)),
        ("an identifier is replaced", "",
         sid.clone() + "sub > SUBSCRIBE 2 a@1 sid=8; sub < SUBACK 2 1;" + &published(1, 0) + &receiving(1, 0, "sids=8") + &sentinel(1, 1) + &receiving(1, 1, "sentinel sids=8") + "end"),
        ("an identifier is taken away", "",
         sid + "sub > SUBSCRIBE 2 a@1; sub < SUBACK 2 1;" + &published(1, 0) + &received(1, 0) + &drained(1, 1)),
        ("all places, again behind a reconnect", "+F1 +F4",
         limited.clone() + &published(1, 0) + &published(1, 1) + &open(0, "") + &open(1, "") + "sub | rst; sub > CONNECT clean=0 rm=2; sub < CONNACK sp=1;" + &open(0, "dup") + &open(1, "dup")
            + "sub > PUBACK 100; sub > PUBACK 101;" + &drained(1, 2)),
        ("more places than before", "",
         limited + &published(1, 0) + &published(1, 1) + &published(1, 2) + &open(0, "") + &open(1, "") + "sub | rst; sub > CONNECT clean=0; sub < CONNACK sp=1;" + &open(0, "dup") + &open(1, "dup") + &open(2, "")
            + "sub > PUBACK 100; sub > PUBACK 101; sub > PUBACK 102;" + &drained(1, 3)),
        ("an alias is set up anew on each connection", "+V3",
         joined(1).replacen("clean=0", "clean=0 aliases=2", 1) + &published(1, 0) + &receiving(1, 0, "alias=1") + "sub | rst; sub > CONNECT clean=0 aliases=2; sub < CONNACK sp=1;"
            + &published(1, 1) + &receiving(1, 1, "alias=1") + &drained(1, 2)),
        ("the server lowers the session's expiry", "",
         joined(1).replacen("CONNACK sp=0", "CONNACK sp=0 expiry=1", 1) + "sub | fin; wait 4; sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@1; sub < SUBACK 1 1;" + &drained(1, 0)),
        ("DISCONNECT ends the session", "+S11",
         joined(1) + "sub > DISCONNECT expiry=0; sub | fin;" + &published(1, 0) + "sub > CONNECT clean=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 a@1; sub < SUBACK 1 1;" + &drained(1, 1)),
        ("an expiry of nothing", "",
         joined(1) + &published(1, 0).replace("m=", "expiry=0 m=") + &drained(1, 1)),
        ("a long connection, and a return within the interval", "+S7",
         joined(1).replacen("clean=0", "clean=0 expiry=10", 1) + "wait 60; sub > PINGREQ; sub < PINGRESP; sub | fin; wait 4; sub > CONNECT clean=0 expiry=10; sub < CONNACK sp=1;" + &drained(1, 0)),
        ("a group splits as it likes", "+V4",
         group(1) + &published(1, 0) + &published(1, 1) + &published(1, 2) + &received(1, 2) + &received(1, 0) + &two(received(1, 1)) + "wait 2; end"),
        ("QoS 1 moves to another member when its link is cut", "+V4",
         group(1) + &published(1, 0) + &open(0, "") + "sub | rst;" + &two(received(1, 0)) + "wait 2; sub > CONNECT clean=0; sub < CONNACK sp=1; end"),
        ("QoS 1 moves, and comes back to the first as well", "+V4",
         group(1) + &published(1, 0) + &open(0, "") + "sub | rst;" + &two(received(1, 0)) + "sub > CONNECT clean=0; sub < CONNACK sp=1;" + &receiving(1, 0, "dup") + "wait 2; end"),
        ("the holder of a QoS 2 message is gone, and with it the message", "",
         group(2) + &published(2, 0) + "sub < PUBLISH qos=2 id=100 m=0/0/0; sub | rst; wait 3; end"),
        ("a member leaves its group", "",
         group(1) + "sub > UNSUBSCRIBE 3 $share/g/a; sub < UNSUBACK 3 0;" + &published(1, 0) + &two(received(1, 0)) + "wait 3; end"),
        ("a member is in two groups and subscribes alone too", "",
         group(1) + "sub > SUBSCRIBE 3 $share/h/a@1 a@1; sub < SUBACK 3 1 1;" + &published(1, 0) + &received(1, 0) + &received(1, 0).replace("100", "200") + &received(1, 0).replace("100", "300") + "wait 3; end"),
        ("a user property that the broker adds", "",
         joined(1) + &published(1, 0) + &receiving(1, 0, "props=x") + &drained(1, 1)),
        ("a will with a delay, and the session ends before", "+W1",
         "group g; sub > CONNECT clean=0 ka=0; sub < CONNACK sp=0; sub > SUBSCRIBE 1 will@1; sub < SUBACK 1 1; c > CONNECT clean=0 expiry=2 will m=9/0/0 delay=60; c < CONNACK sp=0; c | rst; wait 3;
          sub < PUBLISH qos=1 id=9 topic=will m=9/0/0; sub > PUBACK 9; wait 9; end".to_owned()),
        ("the server sets the keep-alive", "",
         "group g; c > CONNECT clean=0 ka=2; c < CONNACK sp=0 ka=60; wait 12; end".to_owned()),
        ("the client's maximum packet size excuses what is larger", "+E3",
         joined(1).replacen("clean=0", "clean=0 max=60", 1) + &published(1, 0).replace("m=", "len=100 size=140 m=") + &sentinel(1, 1).replace("m=", "len=32 m=") + &receiving(1, 1, "sentinel len=32 size=50") + "end"),
    ]
}

#[test]
fn what_is_lawful_and_odd_is_not_flagged() {
    let mut wrong = Vec::new();
    let rows = both().into_iter().map(|row| (&[Version::V3_1_1, Version::V5_0][..], row));
    let rows = rows.chain(in_5().into_iter().map(|row| (&[Version::V5_0][..], row)));
    for (versions, (what, expect, history)) in rows {
        for version in versions {
            let report = report_on(*version, Profile::Volatile, &history.replace(';', "\n"));
            let found = off(&report);
            if !found.is_empty() || !report.unknown_because.is_empty() {
                wrong.push(format!("{what} ({}): {found:?} {:?}", version.as_str(), report.unknown_because));
            }
            for promise in expect.split_whitespace() {
                let exercised = obligations(&report, &promise[1..]) > 0;
                if exercised != promise.starts_with('+') {
                    wrong.push(format!("{what} ({}): {promise} does not hold", version.as_str()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
