//! The report as a whole.

use crate::support::*;
use mqtally_history::checker::check;
use mqtally_history::event::Requirement;
use mqtally_history::packet::Version;
use mqtally_history::profile::Profile;
use mqtally_history::report::Verdict;

fn good() -> String {
    joined(1) + &published(1, 0) + &received(1, 0) + &drained(1, 1)
}

#[test]
fn what_had_to_be_exercised_and_was_not_is_unknown() {
    let required = |id: &str| Requirement { promise: id.into(), version: Version::V5_0 };
    let verdict = |ids: &[&str]| {
        let mut header = header(Profile::Volatile);
        header.required = ids.iter().map(|id| required(id)).collect();
        let report = check(&header, events(Version::V5_0, &good()));
        (report.verdict, report.unknown_because.len())
    };
    assert_eq!(verdict(&["D1", "S4"]), (Verdict::Kept, 0));
    assert_eq!(verdict(&["D1", "D3", "R2"]), (Verdict::Unknown, 2));
    assert_eq!(verdict(&["X9"]), (Verdict::Unknown, 1));
}

#[test]
fn an_empty_history_is_unknown() {
    assert_eq!(report("").verdict, Verdict::Unknown);
}

#[test]
fn a_history_that_breaks_off_is_unknown() {
    assert_eq!(report(&good().replace("end\n", "")).verdict, Verdict::Unknown);
    assert_eq!(report(&(good() + "aborted interrupted")).verdict, Verdict::Unknown);
}

#[test]
fn behind_a_gap_nothing_is_broken_for_certain() {
    let lossy = joined(1) + "gap 3\n" + &published(1, 0) + &drained(1, 1);
    let report = report(&lossy);
    assert_eq!(report.verdict, Verdict::Unknown);
    assert_eq!(off(&report), ["?D1"]);
}

#[test]
fn events_of_a_connection_that_was_never_opened_are_unknown() {
    let mut events = events(Version::V5_0, &good());
    events.retain(|event| !format!("{event:?}").contains("Opened { connection: ConnectionId(2)"));
    assert_eq!(check(&header(Profile::Volatile), events).verdict, Verdict::Unknown);
}

#[test]
fn the_figures_are_those_of_the_history() {
    let report = report(
        &(joined(1)
            + "label 0/0/0 alert 1\n"
            + &published(1, 0)
            + "fault cut-subscriber sub\nfault cut-subscriber sub\n"
            + &received(1, 0)
            + "sub | statistics 1 0 0 0 1\nsub | settled 0/0/0 processed\n"
            + &published(1, 1)
            + &received(1, 1)
            + &drained(1, 2)),
    );
    let stream = &report.streams[0];
    assert_eq!((stream.topic.as_str(), stream.qos, stream.published), ("a", 1, 2));
    assert_eq!((stream.acknowledged, stream.delivered, stream.duplicates), (2, 2, 0));
    assert_eq!((stream.ack_latency_us.p50, stream.ack_latency_us.max), (1000, 1000));
    assert_eq!((report.tally.published, report.tally.acknowledged, report.tally.delivered), (2, 2, 2));
    let message = &report.messages[0];
    assert_eq!(
        (message.message_id, message.message_type.as_str(), message.status),
        (1, "alert", "confirmed")
    );
    assert_eq!(
        (message.received_by, message.ack_latency_us, message.end_to_end_us),
        (1, Some(1000), Some(4000))
    );
    assert_eq!((report.faults[0].kind.as_str(), report.faults[0].count), ("cut-subscriber", 2));
    assert_eq!((report.sessions[0].client_id.as_str(), report.sessions[0].resumed), ("sub", 0));
    assert_eq!(
        (report.groups[0].name.as_str(), report.groups[0].published, report.groups[0].drained),
        ("g", 2, true)
    );
    assert_eq!(report.applications[0].processed, 1);
    assert_eq!(report.broker.protocols, ["5"]);
}

#[test]
fn findings_of_one_cause_are_one_finding_that_shows_its_packets() {
    let mut history = joined(1);
    for n in 0..10 {
        history += &published(1, n);
        history += &receiving(1, n, "crc=8");
    }
    let report = report(&(history + "fault cut-subscriber sub\n" + &drained(1, 10)));
    assert_eq!(report.findings.len(), 1);
    assert_eq!(
        (report.findings[0].count, report.promises.iter().map(|it| it.violations).sum::<u64>()),
        (10, 10)
    );
    assert!(report.findings[0].excerpt[0].contains("sub  <  PUBLISH id=100"), "{:?}", report.findings[0]);
}

/// Streams are judged at the end of their part, and every finding was put down to the part's last fault.
#[test]
fn a_fault_behind_what_was_found_has_no_part_in_it() {
    let behind = "fault takeover sub\n";
    let cut = joined(1) + "fault cut-subscriber sub\n" + &published(1, 0) + &published(1, 1);
    let swapped = cut.clone() + &received(1, 1) + &received(1, 0) + behind + &drained(1, 2);
    let end = sentinel(1, 2) + &received_sentinel(1, 2);
    let killed = "broker killed\nsub | closed\npub | closed\nbroker started\n";
    let lost = cut + &received(1, 0) + &end + behind + killed + "end\n";
    for (history, promise) in [(swapped, "O1"), (lost, "D1")] {
        let report = report_on(Version::V5_0, Profile::Durable, &history);
        let finding = report.findings.iter().find(|it| it.promise == promise).expect("found");
        assert!(finding.fault.starts_with("cut-subscriber of sub"), "{finding:?}");
        assert!(!finding.message.contains("after an end of the broker"), "{finding:?}");
    }
}

#[test]
fn a_finding_reads_as_a_sentence() {
    let again = "sub < PUBLISH qos=2 id=9 m=0/0/0\nsub > PUBREC 9\nsub < PUBREL 9\nsub > PUBCOMP 9\n";
    let report = report(&(joined(2) + &published(2, 0) + &received(2, 0) + again + &drained(2, 1)));
    let finding = &report.findings[0];
    insta::assert_snapshot!(
        finding.message,
        @"QoS 2 message 0 of a reached session sub twice: PUBLISH id 100 at 0.014 s and PUBLISH id 9 at 0.018 s (taken twice from the publisher, or stored twice)"
    );
    assert_eq!(
        finding.excerpt,
        [
            "     14.0 ms  sub  <  PUBLISH id=100 topic=a message=0/0/0",
            "     18.0 ms  sub  <  PUBLISH id=9 qos=2 dup=0 topic=a message=0/0/0",
        ]
    );
}

/// With the same packet id and without the PUBREL in between it would be no second copy.
#[test]
fn a_second_copy_under_the_same_packet_id_is_shown_with_the_pubrel_before_it() {
    let back = "sub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n";
    let again =
        "sub < PUBLISH qos=2 id=100 dup m=0/0/0\nsub > PUBREC 100\nsub < PUBREL 100\nsub > PUBCOMP 100\n";
    let report = report(&(joined(2) + &published(2, 0) + &received(2, 0) + back + again + &drained(2, 1)));
    let finding = report.findings.iter().find(|it| it.promise == "D3").expect("found");
    let shown: Vec<&str> = finding.excerpt.iter().filter_map(|line| line.split("  ").last()).collect();
    assert_eq!(shown[1], "PUBREL id=100", "{finding:#?}");
}

#[test]
fn two_parts_of_a_run_do_not_mix() {
    let second = good()
        .replace("sub", "sub2")
        .replace("pub", "pub2")
        .replace("m=0/", "m=1/")
        .replace("group g", "group h");
    let report = report(&(good() + &second));
    assert_eq!(report.verdict, Verdict::Kept, "{:#?}", report.findings);
    assert_eq!((report.groups.len(), report.streams.len()), (2, 2));
    assert_eq!(report.groups[1].name, "h");
}
