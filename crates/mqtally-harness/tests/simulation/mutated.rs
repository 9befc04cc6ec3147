//! One event of a lawful history is changed in a way that no broker may behave: the checker has to say so.

#![expect(clippy::ptr_arg, reason = "all mutations have one type, and some insert or remove events")]

use crate::seeds;
use fastrand::Rng;
use mqtally_harness::sim::Simulation;
use mqtally_history::checker;
use mqtally_history::event::{ConnectionId, Event, EventKind};
use mqtally_history::marker::{Identity, Marker, MessageId, Purpose};
use mqtally_history::packet::{Packet, Publish};
use mqtally_history::report::Verdict;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Changes one thing; false where the history has no place for it.
type Mutation = fn(&mut Vec<Event>, &Survey, &mut Rng) -> bool;

const MUTATIONS: [(&str, Mutation); 11] = [
    ("a delivery that is owed is taken out", lose),
    ("a QoS 2 message comes again under another packet id", deliver_twice),
    ("two messages of one stream change places", swap),
    ("a message of QoS 0 is marked as a duplicate", mark_qos_0),
    ("a payload is changed", corrupt),
    ("a message comes on a topic that nobody asked for", misroute),
    ("a message comes that nobody sent", invent),
    ("a message of QoS 0 comes at QoS 1", upgrade),
    ("a clean start finds a session", find_session),
    ("a PUBACK has the id of nothing", acknowledge_nothing),
    ("CONNACK comes twice", accept_twice),
];

#[test]
fn every_unlawful_change_of_a_lawful_history_is_flagged() {
    let mut made = BTreeSet::new();
    for seed in seeds("MQTALLY_SIM_MUTATED", 120) {
        let simulated = Simulation::new(seed).run();
        let survey = Survey::of(&simulated.events);
        let mut random = Rng::with_seed(seed);
        let mut events = simulated.events.clone();
        // The first one that this history has a place for, from a random one on.
        let first = random.usize(..MUTATIONS.len());
        let mut candidates = (0..MUTATIONS.len()).map(|place| MUTATIONS[(first + place) % MUTATIONS.len()]);
        let Some((what, _)) = candidates.find(|(_, mutate)| mutate(&mut events, &survey, &mut random)) else {
            continue;
        };
        let report = checker::check(&simulated.header, events);
        let found = &report.findings;
        assert_eq!(report.verdict, Verdict::Broken, "seed {seed}: {what}; {:?} {found:#?}", report.excuses);
        made.insert(what);
    }
    assert_eq!(made.len(), MUTATIONS.len(), "only {made:?}");
}

/// What the mutations have to know to be unlawful for certain.
#[derive(Default)]
struct Survey {
    client_of: BTreeMap<ConnectionId, Arc<str>>,
    /// Subscribers whose session lived from its SUBACK (at this event) to the end, with filters that never changed.
    steady: BTreeMap<Arc<str>, Steady>,
    messages: BTreeMap<MessageId, Sent>,
    deliveries: Vec<Delivery>,
}

struct Steady {
    since: usize,
    filters: Vec<Arc<str>>,
}

#[derive(Default)]
struct Sent {
    first: usize,
    connection: u32,
    times: u32,
    expires: bool,
    acknowledged: bool,
}

#[derive(Clone)]
struct Delivery {
    at: usize,
    connection: ConnectionId,
    client: Arc<str>,
    marker: Marker,
    publish: Publish,
}

impl Survey {
    fn of(events: &[Event]) -> Self {
        let mut survey = Self::default();
        let mut filters: BTreeMap<Arc<str>, Vec<Arc<str>>> = BTreeMap::new();
        let mut unsteady: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut in_flight: BTreeMap<(Arc<str>, u16), MessageId> = BTreeMap::new();
        // A SUBACK that nobody saw may have granted less.
        let mut unanswered: BTreeSet<(ConnectionId, u16)> = BTreeSet::new();
        for (at, event) in events.iter().enumerate() {
            match &event.kind {
                EventKind::Opened { connection, client, .. } => {
                    survey.client_of.insert(*connection, client.clone());
                }
                EventKind::StateWiped { client } => drop(unsteady.insert(client.clone())),
                EventKind::Sent(connection, packet) => {
                    let client = survey.client_of[connection].clone();
                    match packet {
                        Packet::Publish(publish) => {
                            let Identity::Ours(marker) = publish.identity else { continue };
                            let sent = survey.messages.entry(marker.message).or_insert(Sent {
                                first: at,
                                connection: connection.0,
                                ..Sent::default()
                            });
                            sent.times += 1;
                            sent.expires |= publish.message_expiry.is_some();
                            in_flight.insert((client, publish.packet_id), marker.message);
                        }
                        Packet::Subscribe(subscribe) => {
                            unanswered.insert((*connection, subscribe.packet_id));
                            let asked = subscribe.filters.iter().map(|it| it.filter.clone()).collect();
                            filters.insert(client, asked);
                        }
                        Packet::Unsubscribe(..) => drop(unsteady.insert(client)),
                        _ => {}
                    }
                }
                EventKind::Received(connection, packet) => {
                    let client = survey.client_of[connection].clone();
                    match packet {
                        Packet::Publish(publish) => {
                            let Identity::Ours(marker) = publish.identity else { continue };
                            let publish = publish.clone();
                            survey.deliveries.push(Delivery {
                                at,
                                connection: *connection,
                                client,
                                marker,
                                publish,
                            });
                        }
                        Packet::Puback(id, _) | Packet::Pubcomp(id, _) => {
                            let sent =
                                in_flight.get(&(client, *id)).and_then(|it| survey.messages.get_mut(it));
                            sent.into_iter().for_each(|sent| sent.acknowledged = true);
                        }
                        Packet::Suback(id, _) => {
                            unanswered.remove(&(*connection, *id));
                            if survey.steady.contains_key(&client) {
                                continue;
                            }
                            let filters = filters.get(&client).cloned().unwrap_or_default();
                            survey.steady.insert(client, Steady { since: at, filters });
                        }
                        // Once it is subscribed, a session that is begun anew is another one.
                        Packet::Connack(it) if !it.session_present && survey.steady.contains_key(&client) => {
                            unsteady.insert(client);
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        unsteady.extend(unanswered.iter().map(|(connection, _)| survey.client_of[connection].clone()));
        survey.steady.retain(|client, _| !unsteady.contains(client));
        survey
    }

    /// Live deliveries of messages that were sent once, to sessions that lived, and where this holds.
    fn candidates(&self, holds: impl Fn(&Delivery, &Steady) -> bool) -> Vec<&Delivery> {
        let holds = |it: &&Delivery| {
            let (Some(steady), Some(sent)) =
                (self.steady.get(&it.client), self.messages.get(&it.marker.message))
            else {
                return false;
            };
            let plain = !it.publish.retain && sent.times == 1 && sent.first > steady.since;
            plain && holds(it, steady)
        };
        self.deliveries.iter().filter(holds).collect()
    }

    /// Whether the end of its stream came to the same client: without it, what is missing may be late.
    fn is_closed(&self, of: &Delivery) -> bool {
        let stream = |it: &Delivery| (it.marker.message.publisher, it.marker.message.stream);
        self.deliveries.iter().any(|it| {
            it.marker.purpose == Purpose::Sentinel && it.client == of.client && stream(it) == stream(of)
        })
    }

    fn copies(&self, of: &Delivery) -> usize {
        let same = |it: &&Delivery| it.client == of.client && it.marker.message == of.marker.message;
        self.deliveries.iter().filter(same).count()
    }
}

fn pick<T: Clone>(random: &mut Rng, among: &[T]) -> Option<T> {
    (!among.is_empty()).then(|| among[random.usize(..among.len())].clone())
}

fn publish_at(events: &mut [Event], at: usize) -> &mut Publish {
    match &mut events[at].kind {
        EventKind::Received(_, Packet::Publish(publish)) => publish,
        other => panic!("{other:?} is no delivery"),
    }
}

fn lose(events: &mut Vec<Event>, survey: &Survey, random: &mut Rng) -> bool {
    let owed = survey.candidates(|it, _| {
        let sent = &survey.messages[&it.marker.message];
        it.publish.qos > 0
            && it.marker.purpose == Purpose::Load
            && sent.acknowledged
            && !sent.expires
            && survey.is_closed(it)
    });
    let Some(victim) = pick(random, &owed) else { return false };
    let mut at = 0;
    events.retain(|_| {
        at += 1;
        let copy = survey.deliveries.iter().find(|it| it.at == at - 1);
        copy.is_none_or(|it| it.client != victim.client || it.marker.message != victim.marker.message)
    });
    true
}

fn deliver_twice(events: &mut Vec<Event>, survey: &Survey, random: &mut Rng) -> bool {
    let once = survey
        .candidates(|it, steady| it.publish.qos == 2 && steady.filters.len() == 1 && survey.copies(it) == 1);
    let Some(victim) = pick(random, &once) else { return false };
    let again = Publish { packet_id: 65_000, dup: false, ..victim.publish.clone() };
    let at_ns = events[victim.at].at_ns;
    let kind = EventKind::Received(victim.connection, Packet::Publish(again));
    events.insert(victim.at + 1, Event { at_ns, kind });
    true
}

fn swap(events: &mut Vec<Event>, survey: &Survey, random: &mut Rng) -> bool {
    let plain = survey.candidates(|it, steady| steady.filters.len() == 1 && survey.copies(it) == 1);
    let pairs: Vec<(usize, usize)> = plain
        .iter()
        .enumerate()
        .flat_map(|(place, one)| plain[place + 1..].iter().map(move |other| (one, other)))
        .filter(|(one, other)| {
            let (a, b) = (one.marker.message, other.marker.message);
            let stream = |it: MessageId| (it.publisher, it.stream);
            let sent = |it: MessageId| survey.messages[&it].connection;
            one.connection == other.connection
                && stream(a) == stream(b)
                && sent(a) == sent(b)
                && one.publish.qos == other.publish.qos
        })
        .map(|(one, other)| (one.at, other.at))
        .collect();
    let Some((one, other)) = pick(random, &pairs) else { return false };
    let (first, second) = (publish_at(events, one).clone(), publish_at(events, other).clone());
    *publish_at(events, one) = Publish { packet_id: first.packet_id, ..second.clone() };
    *publish_at(events, other) = Publish { packet_id: second.packet_id, ..first };
    true
}

fn mark_qos_0(events: &mut Vec<Event>, survey: &Survey, random: &mut Rng) -> bool {
    let Some(victim) = pick(random, &survey.candidates(|it, _| it.publish.qos == 0)) else { return false };
    publish_at(events, victim.at).dup = true;
    true
}

fn corrupt(events: &mut Vec<Event>, survey: &Survey, random: &mut Rng) -> bool {
    let Some(victim) = pick(random, &survey.deliveries) else { return false };
    publish_at(events, victim.at).payload_crc ^= 1;
    true
}

fn misroute(events: &mut Vec<Event>, survey: &Survey, random: &mut Rng) -> bool {
    let asked = |steady: &Steady| steady.filters.iter().any(|filter| &**filter == "#");
    let Some(victim) = pick(random, &survey.candidates(|_, steady| !asked(steady))) else { return false };
    publish_at(events, victim.at).topic = "elsewhere/nobody/asked".into();
    true
}

fn invent(events: &mut Vec<Event>, survey: &Survey, random: &mut Rng) -> bool {
    let Some(victim) = pick(random, &survey.candidates(|_, _| true)) else { return false };
    let message = MessageId { sequence: victim.marker.message.sequence + 1_000_000, ..victim.marker.message };
    publish_at(events, victim.at).identity = Identity::Ours(Marker { message, ..victim.marker });
    true
}

fn upgrade(events: &mut Vec<Event>, survey: &Survey, random: &mut Rng) -> bool {
    let Some(victim) = pick(random, &survey.candidates(|it, _| it.marker.qos == 0)) else { return false };
    let publish = publish_at(events, victim.at);
    (publish.qos, publish.packet_id) = (1, 65_001);
    true
}

fn find_session(events: &mut Vec<Event>, _: &Survey, random: &mut Rng) -> bool {
    let mut clean: BTreeSet<ConnectionId> = BTreeSet::new();
    let mut places = Vec::new();
    for (at, event) in events.iter().enumerate() {
        match &event.kind {
            EventKind::Sent(id, Packet::Connect(connect)) if connect.clean_start => drop(clean.insert(*id)),
            EventKind::Received(id, Packet::Connack(_)) if clean.contains(id) => places.push(at),
            _ => {}
        }
    }
    let Some(at) = pick(random, &places) else { return false };
    let EventKind::Received(_, Packet::Connack(connack)) = &mut events[at].kind else { return false };
    connack.session_present = true;
    true
}

fn acknowledge_nothing(events: &mut Vec<Event>, _: &Survey, random: &mut Rng) -> bool {
    let is_puback = |event: &Event| matches!(event.kind, EventKind::Received(_, Packet::Puback(..)));
    let places: Vec<usize> = (0..events.len()).filter(|at| is_puback(&events[*at])).collect();
    let Some(at) = pick(random, &places) else { return false };
    let EventKind::Received(_, Packet::Puback(id, _)) = &mut events[at].kind else { return false };
    *id = 64_999;
    true
}

fn accept_twice(events: &mut Vec<Event>, _: &Survey, random: &mut Rng) -> bool {
    let is_connack = |event: &Event| matches!(event.kind, EventKind::Received(_, Packet::Connack(_)));
    let places: Vec<usize> = (0..events.len()).filter(|at| is_connack(&events[*at])).collect();
    let Some(at) = pick(random, &places) else { return false };
    events.insert(at + 1, events[at].clone());
    true
}
