//! N1 to N4, and what the report says of them.

use crate::support::{self, *};
use mqtally_history::packet::Version;
use mqtally_history::profile::Profile;
use mqtally_history::report::{NeedMet, Report, Verdict};

/// A stream at this QoS with these needs.
fn declared(qos: u8, declaration: &str) -> String {
    joined(qos) + &format!("declare {declaration} qos={qos}\n")
}

/// Message `sequence` is taken on and published.
fn taken(qos: u8, sequence: u64) -> String {
    format!("take 0/0/{sequence}\n") + &published(qos, sequence)
}

/// It arrives, and the application acts on it.
fn acted_on(qos: u8, sequence: u64) -> String {
    received(qos, sequence) + &settled(sequence)
}

fn settled(sequence: u64) -> String {
    format!("sub | settled 0/0/{sequence} processed\n")
}

/// The end of the stream reaches the application, and the part is over.
fn ended(qos: u8, sequence: u64) -> String {
    sentinel(qos, sequence) + &received_sentinel(qos, sequence) + &settled(sequence) + "end\n"
}

/// The subscriber is away while message `sequence` is sent.
fn away(qos: u8, sequence: u64) -> String {
    "sub | fin\n".to_owned() + &taken(qos, sequence) + "sub > CONNECT clean=0\nsub < CONNACK sp=1\n"
}

fn needs(history: &str) -> Vec<NeedMet> {
    report(history).needs.needs
}

#[test]
fn what_must_arrive_and_does_is_kept() {
    let history = declared(1, "must-arrive") + &taken(1, 0) + &acted_on(1, 0) + &ended(1, 1);
    check(&history, "+N2 -N1 -N3 -N4");
    let met = &needs(&history)[0];
    assert_eq!((met.verdict, met.messages, met.obligations), (Verdict::Kept, 1, 1));
    assert_eq!((met.stream.as_str(), met.promise, met.why.as_str()), ("stream", "N2", "1 of 1 arrived"));
}

#[test]
fn what_must_arrive_and_does_not_is_broken_where_mqtt_owes_nothing() {
    let lost = declared(0, "must-arrive") + &away(0, 0) + &ended(0, 1);
    check(&lost, "N2");
    let finding = &report(&lost).findings[0];
    assert!(
        finding.message.contains("never reached sub: sent at QoS 0 while sub was away; it must arrive"),
        "{}",
        finding.message
    );
    assert!(finding.excerpt.iter().any(|line| line.contains("takes on message 0")), "{finding:#?}");
    assert!(finding.excerpt.iter().any(|line| line.contains("given the end")), "{finding:#?}");
    let unsent = declared(0, "must-arrive") + "take 0/0/0\n" + &ended(0, 1);
    check(&unsent, "N2");
    assert!(report(&unsent).findings[0].message.contains("was not connected when it was due"));
}

#[test]
fn a_gap_between_messages_that_arrived_is_a_loss() {
    let gap = declared(0, "must-arrive") + &away(0, 0) + &taken(0, 1) + &acted_on(0, 1) + &ended(0, 2);
    check(&gap, "N2");
    assert_eq!(needs(&gap)[0].why, "1 of 2 arrived");
}

#[test]
fn who_comes_late_is_owed_the_newest_alone() {
    let history = declared(1, "must-arrive,must-not-happen-twice,newest-only late")
        + &taken(1, 0).replace("m=0/0/0", "m=0/0/0 retain")
        + &acted_on(1, 0)
        + &ended(1, 1);
    check(&history, "+N2 +N3 ?N4");
    assert_eq!(needs(&history)[0].obligations, 1);
}

/// Streams are judged at the end of their part, and every finding was put down to the part's last fault.
#[test]
fn a_fault_behind_what_befell_a_message_has_no_part_in_it() {
    let cut = "fault cut sub\n".to_owned();
    let behind = "fault stall sub\n".to_owned();
    let lost = declared(0, "must-arrive") + &cut + &away(0, 0) + &behind + &ended(0, 1);
    let unsent = declared(0, "must-arrive") + "fault cut pub\ntake 0/0/0\n" + &behind + &ended(0, 1);
    // It was there when the message was sent, and was cut before the next came.
    let under_way = declared(0, "must-arrive") + &taken(0, 0) + &cut + &taken(0, 1) + &acted_on(0, 1);
    let under_way = under_way + &behind + &ended(0, 2);
    let again = "sub < PUBLISH qos=1 id=100 dup m=0/0/0\nsub > PUBACK 100\n";
    let twice = declared(1, "must-not-happen-twice") + &taken(1, 0) + &acted_on(1, 0) + &cut;
    let twice = twice + "sub | fin\nsub > CONNECT clean=0\nsub < CONNACK sp=1\n" + again + &settled(0);
    let twice = twice + &behind + &ended(1, 1);
    for (history, promise) in [(lost, "N2"), (unsent, "N2"), (under_way, "N2"), (twice, "N3")] {
        let report = report(&history);
        let finding = report.findings.iter().find(|it| it.promise == promise).expect("found");
        assert!(finding.fault.starts_with("cut of "), "{finding:?}");
    }
}

#[test]
fn an_excuse_of_mqtt_is_none_for_a_need() {
    let killed = declared(1, "must-arrive")
        + &taken(1, 0)
        + "broker killed
        sub | broken
        pub | broken
        broker started
        sub > CONNECT clean=0
        sub < CONNACK sp=0
        sub > SUBSCRIBE 1 a@1
        sub < SUBACK 1 1
        pub > CONNECT clean=0
        pub < CONNACK sp=0\n"
        + &ended(1, 1);
    check_on(Version::V5_0, Profile::Volatile, &killed, "N2");
}

#[test]
fn what_must_arrive_without_the_end_of_its_stream_is_unknown() {
    let late = declared(0, "must-arrive") + &away(0, 0) + "end\n";
    check(&late, "?N2");
    // It arrived at its client, and its application has not got to it.
    let queued = declared(1, "must-arrive") + &taken(1, 0) + &received(1, 0) + &drained(1, 1);
    check(&queued, "?N2");
    check(&(declared(1, "must-arrive") + &drained(1, 0)), "-N2");
}

#[test]
fn what_must_not_happen_twice_is_acted_on_once() {
    let once = declared(1, "must-not-happen-twice dedup") + &taken(1, 0) + &acted_on(1, 0);
    check(&(once.clone() + &ended(1, 1)), "+N3 -N2");
    let again = "sub | fin
        sub > CONNECT clean=0
        sub < CONNACK sp=1
        sub < PUBLISH qos=1 id=100 dup m=0/0/0
        sub > PUBACK 100\n";
    let recognised = once.clone() + again + "sub | settled 0/0/0 duplicate\n" + &ended(1, 1);
    check(&recognised, "+N3");
    let twice = once.replace("dedup", "") + again + &settled(0) + &ended(1, 1);
    // No promise of the broker is broken by that, and none of an application that recognises nothing.
    check(&twice, "N3 +A2");
    assert!(report(&twice).findings[0].message.contains("sub acted 2 times on message 0"));
    check(&(declared(1, "must-not-happen-twice") + &taken(1, 0) + &received(1, 0) + &drained(1, 1)), "-N3");
}

#[test]
fn what_messages_move_stands_where_they_lead() {
    let history = |stands: &str| {
        declared(2, "must-not-happen-twice step=2")
            + &taken(2, 0)
            + &acted_on(2, 0)
            + &taken(2, 1)
            + &acted_on(2, 1)
            + &ended(2, 2).replace("end\n", "")
            + stands
            + "end\n"
    };
    check(&history("sub | stands 4\n"), "+N3");
    check(&history("sub | stands 6\n"), "N3");
    check(&history(""), "?N3");
    assert_eq!(needs(&history("sub | stands 4\n"))[0].why, "0 ran twice, position 4 of 4");
    let finding = report(&history("sub | stands 6\n")).findings.remove(0);
    assert!(finding.message.contains("sub has moved to 6 by 2 messages"), "{}", finding.message);
}

#[test]
fn whoever_looks_sees_the_newest() {
    let history = |sees: &str| {
        declared(1, "newest-only late")
            + &taken(1, 0).replace("m=0/0/0", "m=0/0/0 retain")
            + &acted_on(1, 0)
            + &taken(1, 1).replace("m=0/0/1", "m=0/0/1 retain")
            + &acted_on(1, 1)
            + "late > CONNECT clean=1
            late < CONNACK sp=0
            late > SUBSCRIBE 1 a@1
            late < SUBACK 1 1\n"
            + sees
            + &sentinel(1, 2)
            + &received_sentinel(1, 2)
            + &settled(2)
            + "late < PUBLISH qos=1 id=9 m=0/0/2 sentinel
            late > PUBACK 9
            late | settled 0/0/2 processed
            end\n"
    };
    let look = |sequence: u64| {
        format!(
            "late < PUBLISH qos=1 id=7 m=0/0/{sequence} retain
            late > PUBACK 7
            late | settled 0/0/{sequence} processed\n"
        )
    };
    check(&history(&look(1)), "+N4");
    check(&history(&look(0)), "N4 T1");
    check(&history(""), "N4");
    assert_eq!(needs(&history(&look(1)))[0].obligations, 2);
    // A subscriber that was there, and missed the last one.
    let missed = declared(0, "newest-only") + &taken(0, 0) + &acted_on(0, 0) + &away(0, 1) + &ended(0, 2);
    check(&missed, "N4");
    check(&(declared(0, "newest-only") + &taken(0, 0) + "end\n"), "?N4");
}

#[test]
fn what_may_be_lost_may_not_all_be_lost() {
    let sent: String = (0..5).map(|sequence| taken(0, sequence)).collect();
    check(&(declared(0, "may-lose") + &sent + &acted_on(0, 2) + &ended(0, 5)), "+N1");
    check(&(declared(0, "may-lose") + &sent + "end\n"), "N1");
    check(&(declared(0, "may-lose") + &sent + "end stuck\n"), "?N1 ?L1");
    let few: String = (0..4).map(|sequence| taken(0, sequence)).collect();
    check(&(declared(0, "may-lose") + &few + "end\n"), "-N1");
    let absent = "sub | fin\n".to_owned() + &sent;
    check(&(declared(0, "may-lose") + &absent + "end\n"), "-N1");
}

#[test]
fn advice_stays_and_says_whether_it_was_luck() {
    let kept =
        declared(0, "must-arrive") + "advise must-arrive\n" + &taken(0, 0) + &acted_on(0, 0) + &ended(0, 1);
    let report = support::report(&kept);
    assert_eq!(report.verdict, Verdict::Kept);
    let happened =
        |report: &Report| report.needs.advice.iter().map(|it| it.happened.clone()).collect::<Vec<_>>();
    assert_eq!(happened(&report), ["met in this run, by luck; 1 of 1 arrived on MQTT 5"]);
    let lost = declared(0, "must-arrive") + "advise must-arrive\n" + &away(0, 0) + &ended(0, 1);
    assert_eq!(happened(&support::report(&lost)), ["not met in this run; 0 of 1 arrived on MQTT 5"]);
}

#[test]
fn a_rate_that_was_not_met_is_told() {
    let stream = |late: &str| {
        let messages: String = (0..10)
            .map(|sequence| {
                format!("take 0/0/{sequence} {late}\n") + &published(0, sequence) + "wait 0.008\n"
            })
            .collect();
        declared(0, "may-lose messages=10 every=10") + &messages + "end\n"
    };
    let rate = |report: Report| report.needs.rates[0].clone();
    let met = rate(report(&stream("0")));
    assert_eq!((met.planned, met.taken, met.sent, met.met), (10, 10, 10, true), "{met:?}");
    assert_eq!((met.planned_per_s, met.behind_ms_max), (100.0, 1));
    // Every message is due with the first.
    let mut at_once = 0;
    let on_time = stream("0");
    let late =
        on_time.lines().map(|line| match line.strip_suffix(" 0").filter(|it| it.starts_with("take")) {
            Some(line) => {
                at_once += 10;
                format!("{line} {}\n", at_once - 10)
            }
            None => format!("{line}\n"),
        });
    let late = rate(report(&late.collect::<String>()));
    assert!(!late.met && late.achieved_per_s < 15.0 && late.behind_ms_max >= 90, "{late:?}");
    let fewer = rate(report(&stream("0").replace("messages=10", "messages=20")));
    assert_eq!((fewer.planned, fewer.taken, fewer.met), (20, 10, false));
}

#[test]
fn latencies_count_from_when_a_message_was_due() {
    let history = |late: &str| {
        declared(1, "must-arrive")
            + &format!("wait 1\ntake 0/0/0 {late}\n")
            + &published(1, 0)
            + &acted_on(1, 0)
            + &ended(1, 1)
    };
    let latency = |late: &str| report(&history(late)).streams[0].ack_latency_us.max;
    let (on_time, late) = (latency("0"), latency("500"));
    assert!(late >= on_time + 500_000, "{on_time} {late}");
}
