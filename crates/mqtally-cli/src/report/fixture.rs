//! Reports made by hand, for the tests of every format.

use mqtally_history::event::{BrokerEvent, BrokerKind, Closing, ConnectionId, Event, EventKind, Role, Side};
use mqtally_history::marker::{Identity, Marker, MessageId, Purpose};
use mqtally_history::need::{Need, Weight};
use mqtally_history::packet::{Connack, Packet, Publish, Version};
use mqtally_history::profile::{Measured, Profile, Survival};
use mqtally_history::report::{
    Advised, Application, Broker, Excuse, Fault, Finding, Group, Message, NeedMet, Needs, Percentiles,
    Promise, Rate, Report, Session, Severity, Stream, Subject, Tally, Verdict,
};
use mqtally_history::timeline::Timeline;

/// A run in which everything held.
pub(super) fn kept() -> Report {
    Report {
        schema: "mqtally.report/1",
        verdict: Verdict::Kept,
        unknown_because: Vec::new(),
        seed: 42,
        broker: Broker {
            kind: BrokerKind::Embedded,
            name: "mqtally 0.1.0".into(),
            protocols: vec!["3.1.1", "5"],
            profile: Profile::Durable,
            anonymous: true,
        },
        subjects: Vec::new(),
        profile_measured: None,
        excuses: Vec::new(),
        tally: Tally {
            published: 31_204,
            acknowledged: 27_804,
            delivered: 88_112,
            recovered: 3,
            ..Tally::default()
        },
        promises: promises(),
        findings: Vec::new(),
        needs: Needs::default(),
        streams: streams(),
        messages: messages(),
        applications: applications(),
        faults: vec![
            Fault { kind: "cut-subscriber".into(), at_ms: 812, count: 14 },
            Fault { kind: "kill-broker".into(), at_ms: 12_400, count: 2 },
        ],
        sessions: sessions(),
        groups: ["qos", "session"].map(group).into(),
        elapsed_ms: 24_120,
    }
}

/// The same run on a broker that duplicates at QoS 2, forgets DUP, and has an odd way to redeliver.
pub(super) fn broken() -> Report {
    let mut report = kept();
    report.verdict = Verdict::Broken;
    report.broker = Broker {
        kind: BrokerKind::Url,
        name: "mqtt://ann:***@broker.example:1883".into(),
        protocols: vec!["5"],
        profile: Profile::Volatile,
        anonymous: false,
    };
    report.subjects = vec![Subject {
        side: Side::Subscriber,
        command: "./alarm.py {host} {port}".into(),
        protocols: vec!["5"],
        client_ids: vec!["alarm-7".into()],
        ends: 4,
        reports: 131,
    }];
    let survival =
        |lost| Survival { acknowledged: 61, lost, lost_ms: 240, retained_lost: false, session_present: true };
    report.profile_measured = Some(Measured::of(survival(61), survival(9)));
    report.tally.duplicated = 2;
    report.tally.unresolved = 12;
    report.tally.excused = 7;
    report.excuses =
        vec![Excuse { reason: "the broker ended, and its profile does not cover that", count: 7 }];
    for (id, verdict, violations) in
        [("D3", Verdict::Broken, 2), ("R5", Verdict::Broken, 1), ("D4", Verdict::Warn, 1)]
    {
        let promise = report.promises.iter_mut().find(|promise| promise.id == id).expect("in the catalogue");
        (promise.verdict, promise.violations) = (verdict, violations);
    }
    report.findings = findings();
    report
}

/// A run that ended before its drain.
pub(super) fn unknown() -> Report {
    let mut report = kept();
    report.verdict = Verdict::Unknown;
    report.unknown_because = vec![
        "the broker went away: connection refused".into(),
        "group session on MQTT 5 was not drained: the sentinel of session/offline/q2 did not arrive within 10 s".into(),
    ];
    report.promises[0].verdict = Verdict::Unknown;
    report
}

/// A run in which nothing was cut, so that resumption was never put to the test.
pub(super) fn not_exercised() -> Report {
    let mut report = kept();
    report.verdict = Verdict::Unknown;
    report.unknown_because = vec!["R5 had to be exercised on MQTT 3.1.1 and was not".into()];
    report.faults.clear();
    report.sessions.clear();
    report.applications.clear();
    report.messages.clear();
    for promise in report.promises.iter_mut().filter(|promise| promise.id.starts_with('R')) {
        promise.verdict = Verdict::NotExercised;
        (promise.obligations, promise.obligations_by_protocol) = (0, [0, 0]);
    }
    report
}

/// A run of one group, which leaves most of the catalogue alone.
pub(super) fn one_group() -> Report {
    let mut report = kept();
    let catalogue = mqtally_history::promise::CATALOGUE.iter().map(|entry| (entry.id.as_str(), entry));
    let others = catalogue.filter(|(id, _)| id.starts_with(['S', 'T', 'W'])).map(|(id, entry)| Promise {
        id,
        title: entry.title,
        verdict: Verdict::NotExercised,
        obligations: 0,
        obligations_by_protocol: [0, 0],
        ..promises().remove(0)
    });
    report.promises.extend(others);
    report
}

/// A scenario with an alert that was lost, as the advisor had said, and a stream that could not be sent so fast.
pub(super) fn needy() -> Report {
    let need = |stream: &str, need, qos, verdict, why: &str| NeedMet {
        scenario: "factory".into(),
        protocol: "5",
        stream: stream.into(),
        need,
        promise: "N2",
        qos,
        messages: 1_200,
        obligations: 1_200,
        violations: u64::from(verdict == Verdict::Broken) * 26,
        verdict,
        why: why.into(),
    };
    let moved = "0 ran twice, position 60 of 60";
    let rate = |stream: &str, achieved_per_s, taken, met| Rate {
        scenario: "factory".into(),
        protocol: "5",
        stream: stream.into(),
        planned: 1_200,
        taken,
        sent: taken,
        planned_per_s: 400.0,
        achieved_per_s,
        behind_ms_max: 1_204,
        met,
    };
    let mut report = kept();
    report.verdict = Verdict::Broken;
    report.needs = Needs {
        needs: vec![
            need("temperature", Need::MayLose, 0, Verdict::Kept, "1,198 of 1,200 arrived"),
            need("anomaly", Need::MustArrive, 0, Verdict::Broken, "1174 of 1200 arrived"),
            need("cooling", Need::MustNotHappenTwice, 2, Verdict::Kept, moved),
            need("door <open>", Need::NewestOnly, 1, Verdict::Unknown, "it could not be decided"),
        ],
        advice: vec![Advised {
            scenario: "factory".into(),
            stream: "anomaly".into(),
            subscriber: Some("control-room".into()),
            need: Need::MustArrive,
            weight: Weight::Unmet,
            why: "it must arrive and is published at QoS 0, which may be lost".into(),
            change: "qos = 1".into(),
            happened: "not met in this run; 1174 of 1200 arrived on MQTT 5".into(),
        }],
        rates: vec![rate("temperature", 310.24, 1_100, false), rate("anomaly", 400.0, 1_200, true)],
    };
    report
}

fn promises() -> Vec<Promise> {
    let promise = |id, title, severity, [old, new]: [u64; 2], spec: &[&'static str]| Promise {
        id,
        title,
        severity,
        verdict: Verdict::Kept,
        obligations: old + new,
        violations: 0,
        obligations_by_protocol: [old, new],
        spec: spec.to_vec(),
    };
    vec![
        promise(
            "D1",
            "no loss at QoS 1",
            Severity::S1,
            [18_204, 18_306],
            &["3.1.1:MQTT-4.3.2-2", "5.0:MQTT-4.3.2-4"],
        ),
        promise(
            "D2",
            "no loss at QoS 2",
            Severity::S1,
            [9_102, 9_140],
            &["3.1.1:MQTT-4.3.3-2", "5.0:MQTT-4.3.3-8"],
        ),
        promise("D3", "exactly once at QoS 2", Severity::S1, [9_102, 9_140], &["3.1.1:MQTT-4.3.3-1"]),
        promise(
            "D4",
            "no duplicate without cause at QoS 1",
            Severity::S1,
            [18_204, 18_306],
            &["5.0:MQTT-4.4.0-1"],
        ),
        promise(
            "O1",
            "first copies arrive in the order in which they were sent",
            Severity::S1,
            [30_004, 31_112],
            &["3.1.1:MQTT-4.6.0-5"],
        ),
        promise("R5", "a redelivery carries DUP=1", Severity::S3, [41, 38], &["3.1.1:MQTT-3.3.1-1"]),
    ]
}

fn findings() -> Vec<Finding> {
    let finding = |promise, severity, verdict, count, message: &str, fault: &str, excerpt: &[&str]| Finding {
        promise,
        severity,
        verdict,
        protocol: "5",
        group: "session".into(),
        message: message.into(),
        fault: fault.into(),
        count,
        events: [101, 145],
        excerpt: excerpt.iter().map(|&line| line.into()).collect(),
    };
    vec![
        finding(
            "D3",
            Severity::S1,
            Verdict::Broken,
            2,
            "message 17 of session/resume/q2 from publisher 3 was delivered twice to durable-5: \
             first as packet 9, again as packet 12 with DUP=0",
            "cut-subscriber",
            &[
                "     12.4 ms  durable-5  <  PUBLISH id=9 qos=2 dup=0 topic=session/resume/q2 message=3/1/17",
                "     12.5 ms  durable-5  >  PUBREC id=9",
                "     20.0 ms  durable-5  |  the connection broke",
                "     31.9 ms  durable-5  <  PUBLISH id=12 qos=2 dup=0 topic=session/resume/q2 message=3/1/17",
            ],
        ),
        finding(
            "R5",
            Severity::S3,
            Verdict::Broken,
            1,
            "packet 11 was redelivered with DUP=0",
            "cut-subscriber",
            &[],
        ),
        finding(
            "D4",
            Severity::S3,
            Verdict::Warn,
            1,
            "a topic with \u{1b}[31mcolour was sent twice",
            "",
            &[],
        ),
    ]
}

fn streams() -> Vec<Stream> {
    let mut streams = vec![
        stream("qos", "sensors/temperature", 0, 3),
        stream("qos", "alerts/temperature_high", 1, 3),
        stream("qos", "actuators/valve/control", 2, 3),
    ];
    for window in [10, 50] {
        for (publisher, qos) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
            streams.push(stream("qos", &format!("bulk/window-{window}/{publisher}"), qos, 1_200));
        }
    }
    streams.push(stream("session", "session/offline/q1", 1, 400));
    streams
}

fn stream(group: &str, topic: &str, qos: u8, published: u64) -> Stream {
    let latency =
        |factor: u64| Percentiles { p50: 81 * factor, p90: 412 * factor, p99: 2_120 * factor, max: 31_400 };
    Stream {
        group: group.into(),
        protocol: "5",
        topic: format!("mqtally/0badcafe/{topic}"),
        qos,
        published,
        acknowledged: if qos == 0 { 0 } else { published },
        delivered: published * 3,
        duplicates: if qos == 1 { 2 } else { 0 },
        ack_latency_us: if qos == 0 { Percentiles::default() } else { latency(u64::from(qos)) },
        end_to_end_us: latency(3),
    }
}

fn messages() -> Vec<Message> {
    let message = |message_id, topic: &str, qos, message_type: &str, status, ack_latency_us| Message {
        message_id,
        protocol: "5",
        topic: format!("mqtally/0badcafe/{topic}"),
        qos,
        message_type: message_type.into(),
        status,
        received_by: 1,
        ack_latency_us,
        end_to_end_us: Some(1_240),
    };
    vec![
        message(1, "sensors/temperature", 0, "sensor_data", "sent", None),
        message(2, "alerts/temperature_high", 1, "alert", "confirmed", Some(812)),
        message(3, "actuators/valve/control", 2, "control_command", "confirmed", Some(1_630)),
    ]
}

fn applications() -> Vec<Application> {
    vec![Application {
        client_id: "reliable-subscriber-5".into(),
        protocol: "5",
        received: 1_200,
        duplicates: 200,
        conflicts: 0,
        errors: 12,
        processed: 988,
    }]
}

fn sessions() -> Vec<Session> {
    let session = |client_id: &str, session_present: &[bool]| Session {
        client_id: client_id.into(),
        resumed: session_present.iter().filter(|present| **present).count() as u64,
        session_present: session_present.to_vec(),
    };
    vec![
        session("durable-5", &[false, true, true, true]),
        session("clean-5", &[false, false]),
        session("publisher-5", &[false]),
    ]
}

fn group(name: &str) -> Group {
    Group { name: name.into(), protocol: "5", published: 15_602, drained: true, elapsed_ms: 6_000 }
}

/// A run of ten seconds: traffic, a cut, and a broker that is away for a while.
pub(super) fn timeline() -> Timeline {
    let mut timeline = Timeline::default();
    let mut tell = |at_ms: u64, kind| timeline.observe(&Event { at_ns: at_ms * 1_000_000, kind });
    let connection = ConnectionId(1);
    tell(0, EventKind::GroupStarted { group: "qos".into(), version: Version::V5_0 });
    tell(
        0,
        EventKind::Opened { connection, client: "durable-5".into(), version: Version::V5_0, role: Role::Own },
    );
    tell(1, EventKind::Received(connection, Packet::Connack(Connack::default())));
    for (at_ms, packet_id) in (100..4_000).step_by(20).zip(1..) {
        tell(at_ms, EventKind::Sent(connection, publish(packet_id)));
        tell(at_ms + 3, EventKind::Received(connection, publish(packet_id)));
        tell(
            at_ms + u64::from(packet_id) / 10,
            EventKind::Received(connection, Packet::Puback(packet_id, 0)),
        );
    }
    tell(4_000, EventKind::Fault { kind: "cut-subscriber".into(), client: Some("durable-5".into()) });
    tell(4_000, EventKind::Closed(connection, Closing::Rst));
    tell(6_000, EventKind::Broker(BrokerEvent::Killed));
    tell(7_500, EventKind::Broker(BrokerEvent::Started));
    let connection = ConnectionId(2);
    tell(
        8_000,
        EventKind::Opened { connection, client: "durable-5".into(), version: Version::V5_0, role: Role::Own },
    );
    let connack = Connack { session_present: true, ..Connack::default() };
    tell(8_001, EventKind::Received(connection, Packet::Connack(connack)));
    tell(9_900, EventKind::Closed(connection, Closing::Fin));
    tell(10_000, EventKind::GroupEnded { group: "qos".into(), drained: true });
    timeline
}

fn publish(packet_id: u16) -> Packet {
    let message = MessageId { publisher: 1, stream: 1, sequence: packet_id.into() };
    Packet::Publish(Publish {
        dup: false,
        qos: 1,
        retain: false,
        packet_id,
        topic: "alerts/a".into(),
        identity: Identity::Ours(Marker { run: 1, message, attempt: 0, qos: 1, purpose: Purpose::Load }),
        packet_len: 50,
        payload_len: 40,
        payload_crc: 0,
        properties: None,
        message_expiry: None,
        subscription_ids: Vec::new(),
        topic_alias: None,
    })
}
