//! Histories as text, one event a line, a millisecond apart.
//!
//! ```text
//! group g                                  end [stuck]         wait 2.5
//! sub > CONNECT clean=0 expiry=60          sub < CONNACK sp=0 [rc=0x87] [expiry=5]
//! sub > SUBSCRIBE 1 a/+@1 b@2,nl,rap,rh1 [sid=7]           sub < SUBACK 1 1 2
//! pub > PUBLISH qos=1 id=1 topic=a m=0/0/1 [dup] [retain] [sentinel] [canary] [attempt=1] [crc=1] [props=x]
//! pub < PUBACK 1 [rc=0x80]                 sub | fin / rst / closed / broken / wiped / ends
//! sub | settled 0/0/1 processed            sub | statistics 5 1 0 0 4
//! broker killed                            fault cut-subscriber [sub]
//! declare must-arrive [qos=1] [late] …     advise must-arrive  take 0/0/1 [late ms]       sub | stands 31
//! ```
//!
//! CONNECT opens a connection; other lines are of the client's newest, or of its first with `sub#1`. A marker's QoS
//! is that of the first PUBLISH of its stream. Lines that begin with `5:` or `3:` stand for that version alone.

use mqtally_history::checker::check as judge;
use mqtally_history::event::{
    BrokerEvent, Closing, ConnectionId, Counters, Event, EventKind, Header, Outcome, Role,
};
use mqtally_history::marker::{Identity, Marker, MessageId, Purpose};
use mqtally_history::need::{Advice, Declaration, Need, Receiver, ReceiverKind, Weight};
use mqtally_history::packet::{
    Connack, Connect, Filter, Packet, Publish, PublishProperties, Subscribe, Version, Will,
};
use mqtally_history::profile::Profile;
use mqtally_history::report::{Report, Verdict};
use std::collections::BTreeMap;

/// Judges the history on both versions and compares, see [`check_on`].
#[track_caller]
pub(crate) fn check(history: &str, expect: &str) {
    check_on(Version::V3_1_1, Profile::Volatile, history, expect);
    check_on(Version::V5_0, Profile::Volatile, history, expect);
}

/// The same on 5.0 alone.
#[track_caller]
pub(crate) fn check_5(history: &str, expect: &str) {
    check_on(Version::V5_0, Profile::Volatile, history, expect);
}

/// The same on 3.1.1 alone.
#[track_caller]
pub(crate) fn check_3(history: &str, expect: &str) {
    check_on(Version::V3_1_1, Profile::Volatile, history, expect);
}

/// The same with a broker that declares that it survives SIGKILL.
#[track_caller]
pub(crate) fn check_durable(history: &str, expect: &str) {
    check_on(Version::V3_1_1, Profile::Durable, history, expect);
    check_on(Version::V5_0, Profile::Durable, history, expect);
}

/// Judges a history. `expect` names every promise that is not kept — `D3` broken, `~D4` warned of, `?L1` unknown —
/// and, of the others, `+D1` was exercised and `-D1` was not.
#[track_caller]
pub(crate) fn check_on(version: Version, profile: Profile, history: &str, expect: &str) {
    let report = report_on(version, profile, history);
    let (wanted, found) =
        (sorted(expect.split_whitespace().filter(|it| !it.starts_with(['+', '-']))), off(&report));
    assert_eq!(found, wanted, "{version:?} {profile:?}\n{history}\n{:#?}", report.findings);
    for promise in expect.split_whitespace().filter(|it| it.starts_with(['+', '-'])) {
        let obligations = obligations(&report, &promise[1..]);
        assert_eq!(
            obligations > 0,
            promise.starts_with('+'),
            "{version:?} {promise}: {obligations}\n{history}"
        );
    }
    let verdict = match () {
        () if wanted.iter().any(|it| !it.starts_with(['~', '?'])) => Verdict::Broken,
        () if wanted.iter().any(|it| it.starts_with('?')) => Verdict::Unknown,
        () => Verdict::Kept,
    };
    assert_eq!(report.verdict, verdict, "{:?}", report.unknown_because);
}

/// How often a promise was exercised.
#[track_caller]
pub(crate) fn obligations(report: &Report, id: &str) -> u64 {
    report.promises.iter().find(|it| it.id == id).expect("a promise of the catalogue").obligations
}

/// The promises that are not kept, in the form of [`check_on`].
pub(crate) fn off(report: &Report) -> Vec<String> {
    let mark = |verdict| match verdict {
        Verdict::Broken => Some(""),
        Verdict::Warn => Some("~"),
        Verdict::Unknown => Some("?"),
        Verdict::Kept | Verdict::NotExercised => None,
    };
    let off = report.promises.iter().filter_map(|it| Some(format!("{}{}", mark(it.verdict)?, it.id)));
    sorted(off)
}

fn sorted<T: Into<String>>(items: impl Iterator<Item = T>) -> Vec<String> {
    let mut items: Vec<String> = items.map(Into::into).collect();
    items.sort();
    items
}

/// The report on 5.0.
#[track_caller]
pub(crate) fn report(history: &str) -> Report {
    report_on(Version::V5_0, Profile::Volatile, history)
}

#[track_caller]
pub(crate) fn report_on(version: Version, profile: Profile, history: &str) -> Report {
    judged(&header(profile), events(version, history))
}

/// The report on these events. Whatever they are, no promise was broken more often than it was put to the test.
#[track_caller]
pub(crate) fn judged(header: &Header, events: Vec<Event>) -> Report {
    let report = judge(header, events);
    for it in &report.promises {
        let (violations, obligations) = (it.violations, it.obligations);
        assert!(violations <= obligations, "{}: broken {violations} of {obligations} times", it.id);
    }
    report
}

pub(crate) fn header(profile: Profile) -> Header {
    Header { run: 1, seed: 42, profile, ..Header::default() }
}

/// The events of a history.
pub(crate) fn events(version: Version, history: &str) -> Vec<Event> {
    let mut parser =
        Parser { version, at_ns: 0, opened: 0, of_client: BTreeMap::new(), qos: BTreeMap::new() };
    history.lines().map(str::trim).flat_map(|line| parser.line(line)).collect()
}

struct Parser {
    version: Version,
    at_ns: u64,
    opened: u32,
    of_client: BTreeMap<String, Vec<ConnectionId>>,
    qos: BTreeMap<(u32, u16), u8>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Vec<Event> {
        let (line, only) = match line.split_once(": ") {
            Some(("5", line)) => (line, Some(Version::V5_0)),
            Some(("3", line)) => (line, Some(Version::V3_1_1)),
            _ => (line, None),
        };
        if line.is_empty() || line.starts_with("--") || only.is_some_and(|only| only != self.version) {
            return Vec::new();
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "wait" {
            self.at_ns += (words[1].parse::<f64>().expect("seconds") * 1e9) as u64;
            return Vec::new();
        }
        let kinds = self.kinds(&words);
        kinds
            .into_iter()
            .map(|kind| {
                self.at_ns += 1_000_000;
                Event { at_ns: self.at_ns, kind }
            })
            .collect()
    }

    fn kinds(&mut self, words: &[&str]) -> Vec<EventKind> {
        match words {
            ["group", name] => vec![EventKind::GroupStarted { group: (*name).into(), version: self.version }],
            ["end", rest @ ..] => vec![EventKind::GroupEnded { group: "g".into(), drained: rest.is_empty() }],
            ["broker", "killed"] => vec![EventKind::Broker(BrokerEvent::Killed)],
            ["broker", "dark"] => vec![EventKind::Broker(BrokerEvent::PowerLost)],
            ["broker", "terminated"] => vec![EventKind::Broker(BrokerEvent::Terminated)],
            ["broker", "exited"] => vec![EventKind::Broker(BrokerEvent::Exited)],
            ["broker", "paused"] => vec![EventKind::Broker(BrokerEvent::Paused)],
            ["broker", "resumed"] => vec![EventKind::Broker(BrokerEvent::Resumed)],
            ["broker", "started"] => vec![EventKind::Broker(BrokerEvent::Started)],
            ["fault", kind, client @ ..] => {
                vec![EventKind::Fault { kind: (*kind).into(), client: client.first().map(|it| (*it).into()) }]
            }
            ["declare", rest @ ..] => vec![EventKind::Declared(Box::new(declaration(rest)))],
            ["advise", need] => vec![EventKind::Advised(Box::new(Advice {
                weight: Weight::Unmet,
                stream: "stream".into(),
                subscriber: None,
                need: needs(need)[0],
                why: "it may be lost".into(),
                change: "qos = 1".into(),
            }))],
            ["take", id, late_ms @ ..] => {
                let late_ms: u64 = late_ms.first().map_or(0, |late| late.parse().expect("milliseconds"));
                vec![EventKind::Accepted { message: message(id), late_ns: late_ms * 1_000_000 }]
            }
            ["gap", lost] => vec![EventKind::Gap { lost: lost.parse().expect("a number") }],
            ["aborted", reason @ ..] => vec![EventKind::Aborted { reason: reason.join(" ") }],
            ["label", id, label, shown] => vec![EventKind::Labelled {
                message: message(id),
                label: (*label).into(),
                shown_id: shown.parse().expect("a number"),
            }],
            [client, ">", "CONNECT", ..] => self.connect(client, &words[3..]),
            [client, ">", packet, rest @ ..] => {
                vec![EventKind::Sent(self.connection(client), self.packet(packet, rest))]
            }
            [client, "<", packet, rest @ ..] => {
                vec![EventKind::Received(self.connection(client), self.packet(packet, rest))]
            }
            [client, "|", what, rest @ ..] => vec![self.control(client, what, rest)],
            _ => panic!("not a line of a history: {words:?}"),
        }
    }

    fn connection(&self, client: &str) -> ConnectionId {
        let (name, number) = client.split_once('#').unwrap_or((client, ""));
        let all = self.of_client.get(name).unwrap_or_else(|| panic!("{name} has not connected"));
        number.parse::<usize>().map_or_else(|_| all[all.len() - 1], |number| all[number - 1])
    }

    fn connect(&mut self, client: &str, rest: &[&str]) -> Vec<EventKind> {
        self.opened += 1;
        let connection = ConnectionId(self.opened);
        self.of_client.entry(client.to_owned()).or_default().push(connection);
        let clean_start = flag(rest, "clean");
        let session_expiry = match (self.version, clean_start) {
            (Version::V3_1_1, true) => 0,
            (Version::V3_1_1, false) => u32::MAX,
            (Version::V5_0, _) => number(rest, "expiry").unwrap_or(if clean_start { 0 } else { 3600 }) as u32,
        };
        let connect = Packet::Connect(Connect {
            clean_start,
            session_expiry,
            keep_alive: number(rest, "ka").unwrap_or(60) as u16,
            receive_maximum: number(rest, "rm").unwrap_or(65_535) as u16,
            maximum_packet_size: number(rest, "max").map(|max| max as u32),
            topic_alias_maximum: number(rest, "aliases").unwrap_or(0) as u16,
            will: rest.contains(&"will").then(|| Box::new(self.will(rest))),
            ..Connect::default()
        });
        let role = if rest.contains(&"subject") { Role::Subject } else { Role::Own };
        let opened = EventKind::Opened { connection, client: client.into(), version: self.version, role };
        vec![opened, EventKind::Sent(connection, connect)]
    }

    /// `will [qos=1] [topic=will] [m=9/0/0] [delay=5] [retain]`.
    fn will(&mut self, rest: &[&str]) -> Will {
        let mut message = self.publish(rest);
        message.qos = number(rest, "qos").unwrap_or(1) as u8;
        message.topic = value(rest, "topic").unwrap_or("will").into();
        message.message_expiry = None;
        Will { delay_s: number(rest, "delay").unwrap_or(0) as u32, message }
    }

    fn control(&self, client: &str, what: &str, rest: &[&str]) -> EventKind {
        let closing = match what {
            "fin" => Closing::Fin,
            "rst" => Closing::Rst,
            "closed" => Closing::ByBroker,
            "broken" => Closing::Broken,
            "vanished" => Closing::Vanished,
            "ends" => return EventKind::ProcessEnded { client: client.into() },
            "wiped" => return EventKind::StateWiped { client: client.into() },
            "unlawful" => {
                let connection = self.connection(client);
                return EventKind::Unlawful { connection, problem: rest.join(" "), bytes: vec![0] };
            }
            "claims" => {
                return EventKind::Claimed { client: client.into(), message: message(rest[0]) };
            }
            "settled" => {
                let outcome = match rest[1] {
                    "processed" => Outcome::Processed,
                    "duplicate" => Outcome::Duplicate,
                    "conflict" => Outcome::Conflict,
                    _ => Outcome::Failed,
                };
                return EventKind::Settled { client: client.into(), message: message(rest[0]), outcome };
            }
            "stands" => {
                let value = rest[0].parse().expect("a number");
                return EventKind::Position { client: client.into(), publisher: 0, stream: 0, value };
            }
            "statistics" => {
                let count = |at: usize| rest[at].parse().expect("a count");
                let counters = Counters {
                    received: count(0),
                    duplicates: count(1),
                    conflicts: count(2),
                    errors: count(3),
                    processed: count(4),
                };
                return EventKind::Statistics { client: client.into(), counters };
            }
            _ => panic!("not an event: {what}"),
        };
        EventKind::Closed(self.connection(client), closing)
    }

    fn packet(&mut self, packet: &str, rest: &[&str]) -> Packet {
        let id = || rest[0].parse::<u16>().expect("a packet id");
        let reason = number(rest, "rc").unwrap_or(0) as u8;
        let codes = || rest[1..].iter().map(|code| integer(code) as u8).collect::<Vec<u8>>();
        match packet {
            "CONNACK" => Packet::Connack(Connack {
                session_present: flag(rest, "sp"),
                reason,
                session_expiry: number(rest, "expiry").map(|expiry| expiry as u32),
                receive_maximum: number(rest, "rm").unwrap_or(65_535) as u16,
                maximum_qos: number(rest, "max_qos").unwrap_or(2) as u8,
                server_keep_alive: number(rest, "ka").map(|seconds| seconds as u16),
                ..Connack::default()
            }),
            "PUBLISH" => Packet::Publish(self.publish(rest)),
            "PUBACK" => Packet::Puback(id(), reason),
            "PUBREC" => Packet::Pubrec(id(), reason),
            "PUBREL" => Packet::Pubrel(id(), reason),
            "PUBCOMP" => Packet::Pubcomp(id(), reason),
            "SUBSCRIBE" => Packet::Subscribe(Subscribe {
                packet_id: id(),
                identifier: number(rest, "sid").map(|id| id as u32),
                filters: rest[1..].iter().filter(|it| it.contains('@')).map(|it| filter(it)).collect(),
            }),
            "SUBACK" => Packet::Suback(id(), codes()),
            "UNSUBSCRIBE" => Packet::Unsubscribe(id(), rest[1..].iter().map(|it| (*it).into()).collect()),
            "UNSUBACK" => Packet::Unsuback(id(), codes()),
            "PINGREQ" => Packet::Pingreq,
            "PINGRESP" => Packet::Pingresp,
            "DISCONNECT" => Packet::Disconnect(reason, number(rest, "expiry").map(|expiry| expiry as u32)),
            _ => panic!("not a packet: {packet}"),
        }
    }

    fn publish(&mut self, rest: &[&str]) -> Publish {
        let qos = number(rest, "qos").unwrap_or(0) as u8;
        Publish {
            dup: rest.contains(&"dup"),
            qos,
            retain: rest.contains(&"retain"),
            packet_id: number(rest, "id").unwrap_or(0) as u16,
            topic: match value(rest, "topic") {
                Some("none") => "".into(),
                topic => topic.unwrap_or("a").into(),
            },
            identity: self.identity(rest, qos),
            packet_len: number(rest, "size").unwrap_or(80) as u32,
            payload_len: number(rest, "len").unwrap_or(50) as u32,
            payload_crc: number(rest, "crc").unwrap_or(7) as u32,
            properties: value(rest, "props").map(|names| {
                let user = names.split(',').map(|name| (name.to_owned(), "v".to_owned())).collect();
                Box::new(PublishProperties { user_properties: user, ..PublishProperties::default() })
            }),
            message_expiry: number(rest, "expiry").map(|expiry| expiry as u32),
            subscription_ids: value(rest, "sids")
                .map_or(Vec::new(), |ids| ids.split(',').map(|id| integer(id) as u32).collect()),
            topic_alias: number(rest, "alias").map(|alias| alias as u16),
        }
    }

    fn identity(&mut self, rest: &[&str], qos: u8) -> Identity {
        let id = match value(rest, "m") {
            Some("foreign") => return Identity::Foreign,
            Some("corrupt") => return Identity::Corrupt,
            Some("none") | None => return Identity::Unmarked,
            Some(id) => message(id),
        };
        let qos = *self.qos.entry((id.publisher, id.stream)).or_insert(qos);
        let purpose = match () {
            () if rest.contains(&"sentinel") => Purpose::Sentinel,
            () if rest.contains(&"canary") => Purpose::Canary,
            () => Purpose::Load,
        };
        let attempt = number(rest, "attempt").unwrap_or(0) as u16;
        Identity::Ours(Marker { run: 1, message: id, attempt, qos, purpose })
    }
}

fn message(id: &str) -> MessageId {
    let parts: Vec<u64> =
        id.split('/').map(|part| part.parse().expect("publisher/stream/sequence")).collect();
    MessageId { publisher: parts[0] as u32, stream: parts[1] as u16, sequence: parts[2] }
}

fn filter(text: &str) -> Filter {
    let (filter, options) = text.rsplit_once('@').expect("filter@qos");
    let mut options = options.split(',');
    let qos = options.next().and_then(|qos| qos.parse().ok()).expect("a QoS");
    let mut it = Filter {
        filter: filter.into(),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    };
    for option in options {
        match option {
            "nl" => it.no_local = true,
            "rap" => it.retain_as_published = true,
            "rh1" => it.retain_handling = 1,
            "rh2" => it.retain_handling = 2,
            _ => panic!("not an option: {option}"),
        }
    }
    it
}

fn value<'a>(rest: &[&'a str], name: &str) -> Option<&'a str> {
    rest.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number(rest: &[&str], name: &str) -> Option<u64> {
    value(rest, name).map(integer)
}

fn integer(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|_| panic!("not a number: {text}"))
}

fn flag(rest: &[&str], name: &str) -> bool {
    number(rest, name) == Some(1)
}

/// A persistent subscriber `sub` of topic `a` at the given QoS and a publisher `pub`, both connected.
pub(crate) fn joined(qos: u8) -> String {
    format!(
        "group g
        sub > CONNECT clean=0
        sub < CONNACK sp=0
        sub > SUBSCRIBE 1 a@{qos}
        sub < SUBACK 1 {qos}
        pub > CONNECT clean=0
        pub < CONNACK sp=0\n"
    )
}

/// The publisher publishes message `sequence` of `a` at this QoS, to its final acknowledgement.
pub(crate) fn published(qos: u8, sequence: u64) -> String {
    publishing(qos, sequence, "")
}

/// The same for the sentinel.
pub(crate) fn sentinel(qos: u8, sequence: u64) -> String {
    publishing(qos, sequence, "sentinel")
}

fn publishing(qos: u8, sequence: u64, rest: &str) -> String {
    let id = if qos == 0 { 0 } else { sequence + 1 };
    let publish = format!("pub > PUBLISH qos={qos} id={id} m=0/0/{sequence} {rest}\n");
    let answers = match qos {
        0 => String::new(),
        1 => format!("pub < PUBACK {id}\n"),
        _ => format!("pub < PUBREC {id}\npub > PUBREL {id}\npub < PUBCOMP {id}\n"),
    };
    publish + &answers
}

/// The subscriber receives message `sequence` of `a` at this QoS and answers to the end.
pub(crate) fn received(qos: u8, sequence: u64) -> String {
    receiving(qos, sequence, "")
}

/// The same for the sentinel.
pub(crate) fn received_sentinel(qos: u8, sequence: u64) -> String {
    receiving(qos, sequence, "sentinel")
}

pub(crate) fn receiving(qos: u8, sequence: u64, rest: &str) -> String {
    let id = if qos == 0 { 0 } else { 100 + sequence };
    let publish = format!("sub < PUBLISH qos={qos} id={id} m=0/0/{sequence} {rest}\n");
    let answers = match qos {
        0 => String::new(),
        1 => format!("sub > PUBACK {id}\n"),
        _ => format!("sub > PUBREC {id}\nsub < PUBREL {id}\nsub > PUBCOMP {id}\n"),
    };
    publish + &answers
}

/// Sentinel number `sequence` is published and received, and the part ends.
pub(crate) fn drained(qos: u8, sequence: u64) -> String {
    sentinel(qos, sequence) + &received_sentinel(qos, sequence) + "end\n"
}

/// `must-arrive,newest-only [qos=1] [messages=3] [every=10] [step=1] [dedup] [late]`: a stream of publisher 0, to `sub`;
/// with `late` also to `late`, which comes when all is sent. Milliseconds.
fn declaration(rest: &[&str]) -> Declaration {
    let receiver =
        |client: &str, kind| Receiver { client: client.into(), kind, dedup: rest.contains(&"dedup") };
    let late = rest.contains(&"late").then(|| receiver("late", ReceiverKind::Late));
    Declaration {
        stream: "stream".into(),
        qos: number(rest, "qos").unwrap_or(1) as u8,
        needs: needs(rest[0]),
        publisher: 0,
        devices: 1,
        messages: number(rest, "messages").unwrap_or(1) as u32,
        every_ns: number(rest, "every").unwrap_or(10) * 1_000_000,
        step: number(rest, "step").map(|step| step as i64),
        receivers: std::iter::once(receiver("sub", ReceiverKind::Steady)).chain(late).collect(),
    }
}

fn needs(words: &str) -> Vec<Need> {
    let need = |word| Need::ALL.into_iter().find(|need| need.word() == word).expect("a need");
    words.split(',').map(need).collect()
}
