//! The proxy's core in virtual time: what each rule makes of a conversation, and that no rule makes nothing of it.

use bytes::BytesMut;
use mqtally_harness::proxy::fault::{
    BlackHole, Coalesce, Delay, Fault, Jitter, Refusal, Refuse, Split, Stall, Storm, Throttle, Way,
};
use mqtally_harness::proxy::{
    Admission, Direction, Ending, Exit, Moment, PacketKind, Place, Relay, Rule, Rules, Scope, Times,
};
use mqtally_proto::Time;
use mqtally_proto::packet::{
    Ack, Connack, Connect, Packet, Properties, Publish, Qos, ReasonCode, Version, encode, observe,
};
use proptest::prelude::*;

/// Time from one packet of the conversation to the next.
const PACE_MS: u64 = 10;

/// A link in virtual time, and what came out of it.
struct Bench {
    rules: Rules,
    relay: Relay,
    now: Time,
    arrived: [BytesMut; 2],
    heard: Vec<String>,
}

impl Bench {
    fn new(rules: &[&str]) -> Self {
        let mut all = Rules::new(None);
        for rule in rules {
            all.add(rule.parse().expect("a rule"), Time::default()).expect("taken");
        }
        Self::with_rules(all)
    }

    fn with_rules(mut rules: Rules) -> Self {
        let Admission::Serve(peer) = rules.admit(Time::default()) else { panic!("refused") };
        let relay = Relay::new(peer, None);
        Self { rules, relay, now: Time::default(), arrived: Default::default(), heard: Vec::new() }
    }

    fn say(&mut self, direction: Direction, bytes: &[u8]) {
        self.relay.refresh(self.now, &mut self.rules);
        if self.relay.wants(direction) {
            self.relay.input(direction).extend_from_slice(bytes);
            self.relay.receive(direction, self.now, &mut self.rules);
        } else if !self.relay.is_over() {
            self.heard.push(format!("{direction} waits"));
        }
        self.drain();
    }

    /// Lets time pass, from one deadline to the next.
    fn pass(&mut self, ms: u64) {
        let until = self.now.plus_ms(ms);
        while let Some(at) = self.relay.deadline(|_| true).filter(|at| *at <= until && !self.relay.is_over())
        {
            self.now = self.now.max(at);
            self.relay.refresh(self.now, &mut self.rules);
            self.drain();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        while let Some(connect) = self.relay.poll_replay(self.now) {
            self.heard.push(format!("extra {} @{}", connect.len(), self.now.as_ms()));
        }
        for direction in Direction::ALL {
            while self.poll(direction) {}
        }
    }

    fn poll(&mut self, direction: Direction) -> bool {
        let mut out = BytesMut::new();
        let exit = self.relay.poll(direction, self.now, &mut out);
        let arrived = &mut self.arrived[direction as usize];
        arrived.extend_from_slice(&out);
        while let Ok(Some(observed)) = observe(arrived, Version::V5_0) {
            let packet = observed.packet.expect("nothing was corrupted");
            let id = packet.packet_id().map(|id| format!(" {id}")).unwrap_or_default();
            self.heard.push(format!("{direction} {}{id} @{}", packet.name(), self.now.as_ms()));
        }
        match exit {
            Some(Exit::Cut(_)) if self.heard.last().is_some_and(|last| last.starts_with("cut")) => {}
            Some(Exit::Cut(ending)) => {
                let part =
                    if arrived.is_empty() { String::new() } else { format!(" {} bytes", arrived.len()) };
                self.heard.push(format!("cut {ending}{part} @{}", self.now.as_ms()));
            }
            Some(Exit::HalfClose) => self.heard.push(format!("{direction} end @{}", self.now.as_ms())),
            None => {}
        }
        !out.is_empty()
    }
}

fn publish(packet_id: u16, qos: Qos, topic: &'static str) -> Packet {
    let payload = b"0123456789"[..].into();
    Packet::Publish(Publish {
        qos,
        topic: topic.into(),
        packet_id: Some(packet_id),
        payload,
        ..Publish::default()
    })
}

fn connect() -> Packet {
    Packet::Connect(Box::new(Connect {
        version: Version::V5_0,
        clean_start: true,
        keep_alive: 0,
        client_id: "line-7".into(),
        will: None,
        username: None,
        password: None,
        properties: Properties::default(),
    }))
}

fn connack() -> Packet {
    Packet::Connack(Connack {
        session_present: false,
        reason: ReasonCode::SUCCESS,
        properties: Properties::default(),
    })
}

/// Two messages from a publisher and what the broker says, one packet every ten milliseconds.
fn conversation() -> Vec<(Direction, Packet)> {
    use Direction::{ToClient, ToServer};
    vec![
        (ToServer, connect()),
        (ToClient, connack()),
        (ToServer, publish(1, Qos::ExactlyOnce, "a/b")),
        (ToClient, Packet::Pubrec(Ack::success(1))),
        (ToServer, Packet::Pubrel(Ack::success(1))),
        (ToClient, Packet::Pubcomp(Ack::success(1))),
        (ToServer, publish(2, Qos::AtLeastOnce, "c")),
        (ToClient, Packet::Puback(Ack::success(2))),
    ]
}

fn bytes_of(packet: &Packet) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode(packet, Version::V5_0, &mut bytes).expect("lawful");
    bytes
}

/// What arrives of the conversation under these rules, without what arrives at its time anyway.
fn changed_by(rules: &[&str]) -> String {
    let heard = |rules| {
        let mut bench = Bench::new(rules);
        for (direction, packet) in conversation() {
            bench.say(direction, &bytes_of(&packet));
            bench.pass(PACE_MS);
        }
        bench.pass(10_000);
        bench.heard
    };
    let (undisturbed, disturbed) = (heard(&[]), heard(rules));
    assert_eq!(undisturbed.len(), 8);
    let missing = undisturbed.iter().filter(|line| !disturbed.contains(line));
    let names: Vec<&str> = missing.map(|line| line.split(" @").next().unwrap_or_default()).collect();
    let new: Vec<&str> =
        disturbed.iter().filter(|line| !undisturbed.contains(line)).map(String::as_str).collect();
    format!("-[{}] +[{}]", names.join(", "), new.join(", "))
}

#[test]
fn each_rule_does_to_the_conversation_what_it_says() {
    let check = |rules: &[&str], expect: &str| assert_eq!(changed_by(rules), expect, "{rules:?}");
    let nothing = "-[] +[]";
    check(&[], nothing);
    let after_puback = "-[] +[cut fin @70]";
    check(&["cut after s2c PUBACK"], after_puback);
    check(&["cut after s2c puback id=2 client=line-7"], after_puback);
    check(&["cut after s2c PUBACK client=l*-* connection=1"], after_puback);
    check(&["cut after s2c PUBACK id=1"], nothing);
    check(&["cut after s2c PUBACK client=line"], nothing);
    check(&["cut after s2c PUBACK connection=2"], nothing);
    check(&["cut after c2s PUBACK"], nothing);
    check(&["cut before s2c PUBACK rst"], "-[s2c PUBACK 2] +[cut rst @70]");
    check(&["cut before c2s PUBLISH 2"], "-[c2s PUBLISH 2, s2c PUBACK 2] +[cut fin @60]");
    check(&["cut after c2s PUBLISH topic=c"], "-[s2c PUBACK 2] +[cut fin @60]");
    check(&["cut after c2s PUBLISH qos=1"], "-[s2c PUBACK 2] +[cut fin @60]");
    check(&["cut after c2s any 4"], "-[s2c PUBACK 2] +[cut fin @60]");
    check(&["cut inside s2c PUBACK bytes=3"], "-[s2c PUBACK 2] +[cut fin 3 bytes @70]");
    check(&["cut inside s2c PUBACK bytes=99"], "-[s2c PUBACK 2] +[cut fin 3 bytes @70]");
    check(&["drop s2c PUBREC"], "-[s2c PUBREC 1] +[]");
    check(&["drop s2c any 2 always"], "-[s2c PUBREC 1, s2c PUBACK 2] +[]");
    check(&["swap s2c PUBREC"], "-[s2c PUBREC 1] +[s2c PUBREC 1 @50]");
    check(&["delay s2c 5ms client=other"], nothing);
    check(&["delay s2c 5ms after s2c PUBCOMP"], "-[s2c PUBACK 2] +[s2c PUBACK 2 @75]");
    check(
        &["delay s2c 5ms for 25ms before s2c PUBREC"],
        "-[s2c PUBREC 1, s2c PUBCOMP 1] +[s2c PUBREC 1 @35, s2c PUBCOMP 1 @55]",
    );
    check(
        &["throttle s2c 100B/s after s2c PUBREC"],
        "-[s2c PUBREC 1, s2c PUBCOMP 1, s2c PUBACK 2] +[s2c PUBREC 1 @50, s2c PUBCOMP 1 @90, s2c PUBACK 2 @130]",
    );
    check(&["split c2s 1"], nothing);
    check(
        &["coalesce s2c 25ms after s2c CONNACK"],
        "-[s2c PUBREC 1, s2c PUBCOMP 1, s2c PUBACK 2] +[s2c PUBREC 1 @55, s2c PUBCOMP 1 @55, s2c PUBACK 2 @95]",
    );
    check(&["stall s2c for 15ms after c2s PUBLISH"], "-[s2c PUBREC 1] +[s2c waits]");
    check(&["black-hole s2c after c2s PUBLISH"], "-[s2c PUBREC 1, s2c PUBCOMP 1, s2c PUBACK 2] +[]");
    check(
        &["black-hole both for 15ms before c2s PUBLISH"],
        "-[c2s PUBLISH 1, s2c PUBREC 1, c2s PUBREL 1, s2c PUBCOMP 1, c2s PUBLISH 2, s2c PUBACK 2] +[cut rst @35]",
    );
    check(&["black-hole s2c for 5ms after c2s PUBLISH"], nothing);
    check(
        &["abort-connect"],
        "-[s2c CONNACK, c2s PUBLISH 1, s2c PUBREC 1, c2s PUBREL 1, s2c PUBCOMP 1, c2s PUBLISH 2, s2c PUBACK 2] +[cut fin @0]",
    );
    check(&["storm 2 within 8ms"], "-[c2s CONNECT] +[extra 21 @0, extra 21 @4, c2s CONNECT @8]");
    check(&["storm 2 client=other"], nothing);
}

#[test]
fn of_two_cuts_at_one_packet_the_first_strikes_and_the_other_waits_for_the_next() {
    let mut bench = Bench::new(&["drop s2c PUBACK", "cut after s2c PUBACK"]);
    bench.say(Direction::ToClient, &bytes_of(&Packet::Puback(Ack::success(1))));
    assert!(bench.heard.is_empty());
    bench.say(Direction::ToClient, &bytes_of(&Packet::Puback(Ack::success(2))));
    assert_eq!(bench.heard, ["s2c PUBACK 2 @0", "cut fin @0"]);
    let strikes: Vec<u32> = bench.rules.list().iter().map(|listed| listed.strikes).collect();
    assert_eq!(strikes, [1, 1]);
}

/// It would be reached at once, again and again, while the receiver still takes nothing.
#[test]
fn what_a_receiver_does_not_take_sets_no_deadline() {
    let mut bench = Bench::new(&["delay s2c 5ms"]);
    bench.say(Direction::ToClient, &bytes_of(&Packet::Puback(Ack::success(1))));
    assert_eq!(bench.relay.deadline(|_| true), Some(Time::from_ms(5)));
    assert_eq!(bench.relay.deadline(|direction| direction == Direction::ToServer), None);
}

#[test]
fn a_rule_that_is_removed_lets_go() {
    let mut bench = Bench::new(&["stall s2c", "black-hole c2s"]);
    let puback = bytes_of(&Packet::Puback(Ack::success(1)));
    bench.say(Direction::ToClient, &puback);
    assert_eq!(bench.heard, ["s2c waits"]);
    let [stall, hole] = [0, 1].map(|index| bench.rules.list()[index].id);
    bench.rules.remove(stall).expect("it was there");
    bench.say(Direction::ToClient, &puback);
    assert_eq!(bench.heard, ["s2c waits", "s2c PUBACK 1 @0"]);
    bench.say(Direction::ToServer, &puback);
    bench.rules.remove(hole).expect("it was there");
    bench.say(Direction::ToServer, &puback);
    assert_eq!(bench.heard.last().map(String::as_str), Some("cut rst @0"), "a part of the stream is missing");
}

#[test]
fn a_cut_by_hand_strikes_whom_it_names() {
    let mut bench = Bench::new(&[]);
    bench.say(Direction::ToServer, &bytes_of(&connect()));
    let scope = |client: &str| Scope { client: Some(client.into()), ..Scope::default() };
    assert_eq!(bench.rules.cut(&scope("other"), Ending::Rst, bench.now), 0);
    assert_eq!(bench.rules.cut(&scope("line-*"), Ending::Rst, bench.now), 1);
    bench.say(Direction::ToServer, &[]);
    assert_eq!(bench.heard, ["c2s CONNECT @0", "cut rst @0"]);
}

#[test]
fn refusals_count_and_end() {
    let check = |rule: &str, expect: [bool; 4]| {
        let mut rules = Rules::new(None);
        rules.add(rule.parse().expect("a rule"), Time::default()).expect("taken");
        let served = [0, 10, 20, 30].map(|ms| matches!(rules.admit(Time::from_ms(ms)), Admission::Serve(_)));
        assert_eq!(served, expect, "{rule}");
    };
    check("refuse", [false; 4]);
    check("refuse rst times 2", [false, false, true, true]);
    check("refuse for 15ms", [false, false, true, true]);
    check("refuse after c2s CONNECT", [true; 4]);
}

#[test]
fn a_packet_sets_off_a_refusal_for_everybody() {
    let mut bench = Bench::new(&["refuse for 15ms after c2s CONNECT"]);
    bench.say(Direction::ToServer, &bytes_of(&connect()));
    assert_eq!(bench.rules.admit(Time::from_ms(10)), Admission::Refuse(Ending::Fin));
    assert!(matches!(bench.rules.admit(Time::from_ms(15)), Admission::Serve(_)));
}

#[test]
fn a_jitter_is_the_same_again_and_keeps_the_order() {
    let arrivals = || {
        let mut bench = Bench::new(&["delay s2c 5ms jitter 50ms seed 7"]);
        for id in 1..=20 {
            bench.say(Direction::ToClient, &bytes_of(&Packet::Puback(Ack::success(id))));
        }
        bench.pass(1_000);
        bench.heard
    };
    let first = arrivals();
    assert_eq!(first, arrivals());
    let ids: Vec<&str> = first.iter().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(ids, (1..=20).map(|id| id.to_string()).collect::<Vec<_>>());
    assert!(first.iter().any(|line| !line.ends_with("@5")), "{first:?}");
}

#[test]
fn senseless_rules_are_refused_at_the_word() {
    let check = |text: &str, expect: &str| {
        assert_eq!(text.parse::<Rule>().expect_err(text).to_string(), expect);
    };
    check("", "the rule ends before its fault at column 1");
    check("cut", "a cut needs its packet: before, after or inside at column 1");
    check("cut after c2s", "the rule ends before the packet at column 14");
    check("cut after c2s PUBREL 0", "which packet is not a number from 1 to 4294967295: '0' at column 22");
    check("cut after c2s PUBREL after c2s PUBREL", "said twice: 'after' at column 22");
    check("cut after c2s PUBREL for 5s", "this fault is over at once: 'for' says nothing at column 1");
    check("cut after c2s PUBREL qos=1", "only PUBLISH has topic= and qos= at column 1");
    check("cut after c2s PUBREL color=red", "unknown condition 'color=red' at column 22");
    check("delay s2c 5ms times 3", "without a packet there is nothing to count at column 1");
    check(
        "refuse client=a",
        "who connects is not known yet; write 'cut before c2s CONNECT client=…' at column 1",
    );
    check("split s2c 1 rst", "only cut and refuse know 'rst' at column 13");
    check("cut after c2s PUBREL client=\"a", "the quotation mark is not closed '\"' at column 29");
    check("throttle s2c fast", "no rate such as 500B/s, 64kB/s or 1MB/s: 'fast' at column 14");
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::ToServer), Just(Direction::ToClient)]
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![direction().prop_map(Way::One), Just(Way::Both)]
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![Just(Ending::Fin), Just(Ending::Rst)]
}

fn fault() -> impl Strategy<Value = Fault> {
    let ms = || 1..90_000_u64;
    let jitter = proptest::option::of((ms(), 1..u32::MAX).prop_map(|(ms_max, seed)| Jitter { ms_max, seed }));
    prop_oneof![
        ending().prop_map(|ending| if ending == Ending::Fin { Fault::cut() } else { Fault::reset() }),
        Just(Fault::Drop(mqtally_harness::proxy::fault::Drop)),
        Just(Fault::Swap(mqtally_harness::proxy::fault::Swap)),
        (1..=100_u32, ms()).prop_map(|(extra, within_ms)| Fault::Storm(Storm { extra, within_ms })),
        (direction(), ms(), jitter).prop_map(|(direction, ms, jitter)| Fault::Delay(Delay {
            direction,
            ms,
            jitter
        })),
        (direction(), 1..u64::MAX)
            .prop_map(|(direction, bytes_per_s)| Fault::Throttle(Throttle { direction, bytes_per_s })),
        (direction(), 1..u32::MAX).prop_map(|(direction, bytes)| Fault::Split(Split { direction, bytes })),
        (direction(), ms()).prop_map(|(direction, ms)| Fault::Coalesce(Coalesce { direction, ms })),
        way().prop_map(|way| Fault::Stall(Stall { way })),
        way().prop_map(|way| Fault::BlackHole(BlackHole { way })),
        ending().prop_map(|ending| Fault::Refuse(Refuse { how: Refusal::Close(ending) })),
        Just(Fault::Refuse(Refuse { how: Refusal::Unlisten })),
    ]
}

fn moment() -> impl Strategy<Value = Moment> {
    let place = prop_oneof![Just(Place::Before), Just(Place::After), (1..u32::MAX).prop_map(Place::Inside)];
    let kind = proptest::option::of((1..16_u8).prop_map(|number| PacketKind::of_first_byte(number << 4)));
    (place, direction(), kind, 1..u32::MAX).prop_map(|(place, direction, kind, nth)| Moment {
        place,
        direction,
        kind,
        nth,
    })
}

fn scope() -> impl Strategy<Value = Scope> {
    use proptest::option::of;
    let qos = (0..3_u8).prop_filter_map("a QoS", Qos::from_u8);
    (of("\\PC{0,12}|[a-z \"\\\\\t=]{0,8}"), of(1..u32::MAX), of("[a-z +/]{1,8}"), of(qos), of(1..u16::MAX))
        .prop_map(|(client, connection, topic, qos, packet_id)| Scope {
            client,
            connection,
            topic,
            qos,
            packet_id,
        })
}

fn rule() -> impl Strategy<Value = Rule> {
    use proptest::option::of;
    let times = prop_oneof![(1..u32::MAX).prop_map(Times::Limited), Just(Times::Always)];
    (fault(), of(moment()), of(1..90_000_u64), of(times), scope()).prop_map(
        |(fault, moment, lasting, times, scope)| {
            let rule = Rule::new(fault).within(scope);
            let rule = moment.into_iter().fold(rule, Rule::at);
            let rule = lasting.into_iter().fold(rule, Rule::lasting_ms);
            times.into_iter().fold(rule, Rule::times)
        },
    )
}

fn cases(cases: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases, max_global_rejects: 100_000, failure_persistence: None, ..config }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_rule_reads_as_it_prints(rule in rule()) {
        prop_assume!(Rules::new(None).add(rule.clone(), Time::default()).is_ok());
        let text = rule.to_string();
        prop_assert_eq!(text.parse::<Rule>().map_err(|error| format!("{text}: {error}")), Ok(rule));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(cut|delay|drop|after|c2s|PUBREL|client=|times|[0-9]{1,3}|\"|\\\\| ){0,12}") {
        let _ = text.parse::<Rule>();
    }

}

proptest! {
    #![proptest_config(cases(32))]

    /// Packets, noise, large packets; in whatever pieces; with an end in the middle of one.
    #[test]
    fn without_rules_every_byte_passes_in_order(
        parts in proptest::collection::vec(part(), 0..12),
        cuts in proptest::collection::vec(1..2_000_usize, 1..8),
        lost in 0..20_usize,
    ) {
        let mut stream: Vec<u8> = parts.concat();
        stream.truncate(stream.len().saturating_sub(lost));
        for direction in Direction::ALL {
            prop_assert_eq!(forwarded(&stream, &cuts, direction), stream.clone());
        }
    }
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    let packet = (0..conversation().len()).prop_map(|index| bytes_of(&conversation()[index].1).to_vec());
    let large = (1_100_000..1_300_000_usize).prop_map(|len| {
        let payload = vec![7; len].into();
        bytes_of(&Packet::Publish(Publish { topic: "t".into(), payload, ..Publish::default() })).to_vec()
    });
    let noise = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![30 => packet, 1 => large, 2 => noise]
}

fn forwarded(stream: &[u8], cuts: &[usize], direction: Direction) -> Vec<u8> {
    let mut rules = Rules::new(None);
    let Admission::Serve(peer) = rules.admit(Time::default()) else { panic!("refused") };
    let mut relay = Relay::new(peer, None);
    let mut arrived = Vec::new();
    let mut rest = stream;
    // Large steps for large streams: small ones everywhere would take quadratic time.
    let scale = 1 + stream.len() / 20_000;
    for cut in cuts.iter().cycle() {
        let (piece, later) = rest.split_at((cut * scale).min(rest.len()));
        relay.input(direction).extend_from_slice(piece);
        relay.receive(direction, Time::default(), &mut rules);
        rest = later;
        if rest.is_empty() {
            relay.end(direction, Ending::Fin, Time::default());
        }
        loop {
            let mut out = BytesMut::new();
            let exit = relay.poll(direction, Time::default(), &mut out);
            arrived.extend_from_slice(&out);
            match exit {
                Some(exit) => {
                    assert_eq!(exit, Exit::HalfClose);
                    return arrived;
                }
                None if out.is_empty() => break,
                None => {}
            }
        }
    }
    arrived
}
