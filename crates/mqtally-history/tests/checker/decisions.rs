//! The decision table: what is a violation, what is excused, and what stays unknown.

use crate::support::*;
use mqtally_history::packet::Version;
use mqtally_history::profile::Profile;

const BACK: &str = "sub > CONNECT clean=0\nsub < CONNACK sp=1\n";
const GONE: &str = "sub > CONNECT clean=0\nsub < CONNACK sp=0\nsub > SUBSCRIBE 9 a@2\nsub < SUBACK 9 2\n";
const KILLED: &str = "broker killed\nsub | closed\npub | closed\nbroker started\n";
const PUB_BACK: &str = "pub > CONNECT clean=0\npub < CONNACK sp=1\n";

struct Row {
    observation: &'static str,
    history: String,
    volatile: &'static str,
    durable: &'static str,
}

fn row(observation: &'static str, mut history: String, volatile: &'static str, durable: &'static str) -> Row {
    history.insert_str(0, &joined(2));
    Row { observation, history, volatile, durable }
}

fn unanswered() -> String {
    "pub > PUBLISH qos=2 id=1 m=0/0/0\n".to_owned()
}

fn resumed() -> String {
    unanswered() + "pub | rst\n" + PUB_BACK + "pub > PUBLISH qos=2 id=1 dup m=0/0/0\n"
}

const FINISH: &str = "pub < PUBREC 1\npub > PUBREL 1\npub < PUBCOMP 1\n";
const ANEW: &str =
    "pub | rst\npub > CONNECT clean=0\npub < CONNACK sp=0\npub > PUBLISH qos=2 id=1 m=0/0/0 attempt=1\n";

fn again() -> String {
    received(2, 0).replace("100", "50")
}

fn table() -> Vec<Row> {
    let lost = || "sub | fin\n".to_owned() + &published(2, 0) + &published(2, 1) + GONE + &drained(2, 2);
    let came = || published(2, 0) + &received(2, 0);
    vec![
        row(
            "no final acknowledgement, absent",
            unanswered() + ANEW.split("pub > PUBLISH").next().unwrap_or_default() + &drained(2, 1),
            "S2",
            "S2",
        ),
        row(
            "no final acknowledgement, present once",
            unanswered() + &received(2, 0) + &drained(2, 1),
            "",
            "",
        ),
        row("resumed to PUBCOMP, absent", resumed() + FINISH + &drained(2, 1), "D2", "D2"),
        row(
            "resumed to PUBCOMP, twice",
            resumed() + FINISH + &received(2, 0) + &again() + &drained(2, 1),
            "D3",
            "D3",
        ),
        row(
            "the lineage broke and it was submitted anew, twice",
            "pub | fin\npub > CONNECT clean=1 expiry=0\npub < CONNACK sp=0\n".to_owned()
                + &unanswered()
                + ANEW
                + FINISH
                + &received(2, 0)
                + &again()
                + &drained(2, 1),
            "",
            "",
        ),
        row("session present 0 without an excuse", lost(), "S2", "S2"),
        row(
            "session present 0 after a kill",
            KILLED.to_owned() + GONE + "pub > CONNECT clean=0\npub < CONNACK sp=0\n" + &drained(2, 0),
            "",
            "S2",
        ),
        row(
            "session present 1 after a kill, and the subscription is dead",
            KILLED.to_owned()
                + BACK
                + PUB_BACK
                + "pub > PUBLISH qos=2 id=1 m=0/0/0 canary\n"
                + FINISH
                + "sub > PINGREQ\nsub < PINGRESP\nsub > SUBSCRIBE 9 a@2\nsub < SUBACK 9 2\n"
                + &drained(2, 1),
            "S5",
            "S5",
        ),
        row(
            "session present 1 after a kill, and what was acknowledged is missing",
            "sub | fin\n".to_owned()
                + &published(2, 0)
                + "broker killed\npub | closed\nbroker started\n"
                + BACK
                + PUB_BACK
                + &drained(2, 1),
            "",
            "D2 S6",
        ),
        row(
            "QoS 2 twice after a kill",
            came() + KILLED + BACK + PUB_BACK + &again() + &drained(2, 1),
            "",
            "D3",
        ),
        row("the sentinel is missing", published(2, 0) + "end stuck", "?D2 ?L1", "?D2 ?L1"),
        row("events are missing", "gap 3\n".to_owned() + &published(2, 0) + &drained(2, 1), "?D2", "?D2"),
    ]
}

#[test]
fn each_observation_has_its_verdict() {
    for Row { observation, history, volatile, durable } in table() {
        for (profile, expect) in [(Profile::Volatile, volatile), (Profile::Durable, durable)] {
            let report = report_on(Version::V5_0, profile, &history);
            let wanted: Vec<&str> = expect.split_whitespace().collect();
            assert_eq!(
                off(&report),
                wanted,
                "{observation} ({profile:?})\n{history}\n{:#?}",
                report.findings
            );
        }
    }
}

#[test]
fn an_unresolved_message_is_counted_as_such() {
    let clean = joined(2).replace("pub > CONNECT clean=0", "pub > CONNECT clean=1 expiry=0")
        + &unanswered()
        + "pub | rst\npub > CONNECT clean=1\npub < CONNACK sp=0\n";
    let report = report(&(clean + &drained(2, 1)));
    assert_eq!((report.tally.unresolved, report.tally.lost), (1, 0));
    assert_eq!(off(&report), Vec::<String>::new());
}

/// Two times away with fifteen messages each, of which those come that are named.
fn queues(kept: [std::ops::Range<u64>; 2]) -> String {
    let mut history = joined(1);
    for (time, kept) in kept.into_iter().enumerate() {
        history += "sub | fin\n";
        let first = time as u64 * 16;
        history += &(0..15).map(|sequence| published(1, first + sequence)).collect::<String>();
        history += BACK;
        history += &kept.map(|sequence| received(1, first + sequence)).collect::<String>();
        history += &(sentinel(1, first + 15) + &received_sentinel(1, first + 15));
    }
    history + "end"
}

#[test]
fn a_full_queue_is_told_by_its_constant() {
    check(&queues([0..12, 0..12]), "+S6");
    check(&queues([3..15, 3..15]), "+S6");
    assert_eq!(report(&queues([0..12, 0..12])).tally.excused, 6);
    // Different numbers, a gap within, and next to nothing are losses.
    check(&queues([0..12, 0..11]), "D1 S6");
    check(&queues([2..14, 2..14]), "D1 S6");
    check(&queues([0..5, 0..5]), "D1 S6");
}
