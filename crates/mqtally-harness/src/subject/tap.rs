//! The links of a program under test: each packet goes into the history, and what a stage has to know is kept.
//!
//! What the program sends it has certainly decided to send, so all of it is recorded, also what a cut then holds back.
//! Of what is sent to it only what the proxy passes on is recorded: the rest it has certainly not received.

use crate::proxy::{Did, Direction, Ending, Note, Peer, RuleId, Seen, Watch};
use crate::recorder::{Recorder, Wire};
use mqtally_history::event::{Closing, EventKind, Role, Side};
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::{Packet, Publish, Qos, ReasonCode};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// Filters of a program that are looked at.
const FILTERS_MAX: usize = 64;

/// Acknowledged messages that are looked for where they have to arrive.
const ACKNOWLEDGED_MAX: usize = 100_000;

/// What is known of a program from its packets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Client id of its CONNECT last seen.
    pub(crate) client: Option<Arc<str>>,
    /// CONNECTs.
    pub(crate) connects: u64,
    /// Connections that were accepted.
    pub(crate) accepted: u64,
    /// The last of them is open.
    pub(crate) connected: bool,
    /// Whether the broker had the session.
    pub(crate) session_present: bool,
    /// Why the broker refused the last CONNECT, if it did.
    pub(crate) refused: Option<ReasonCode>,
    /// Its filters in its present session, with the QoS granted; no QoS before SUBACK, or where it was refused.
    pub(crate) filters: BTreeMap<String, Option<Qos>>,
    /// Rules that struck, and how often.
    pub(crate) struck: BTreeMap<RuleId, u32>,
    /// Messages that it sent, by QoS.
    pub(crate) published: [u64; 3],
    /// Packet ids of its messages that are not finished.
    pub(crate) unfinished: BTreeSet<u16>,
    /// Packet ids of messages to it that it has not finished.
    pub(crate) unanswered: BTreeSet<u16>,
    /// Bytes came from it that are no MQTT.
    pub(crate) garbage: bool,
    /// Its messages that the broker has acknowledged to the end, with their topics.
    pub(crate) acknowledged: Vec<(Arc<str>, MessageId)>,
}

/// Listens at a proxy.
#[derive(Clone)]
pub(crate) struct LinkTap(Arc<Shared>);

struct Shared {
    recorder: Recorder,
    side: Side,
    /// What the program under test is called; `None` for one of our own, whose strikes somebody else tells of.
    command: Option<Arc<str>>,
    links: Mutex<Links>,
    standing: watch::Sender<Standing>,
}

#[derive(Default)]
struct Links {
    open: FxHashMap<u64, Link>,
    /// Client ids that were made known.
    known: BTreeSet<Arc<str>>,
}

struct Link {
    wire: Wire,
    said_goodbye: bool,
    /// Something that it sent was held back.
    held_back: bool,
    /// Filters of SUBSCRIBEs without an answer.
    asked: BTreeMap<u16, Vec<String>>,
    /// What its packet ids stand for.
    named: BTreeMap<u16, Option<(Arc<str>, MessageId)>>,
    clean: bool,
    /// It is the connection that was accepted last.
    accepted: Option<u64>,
}

impl LinkTap {
    pub(crate) fn new(recorder: &Recorder, side: Side, command: Option<&str>) -> Self {
        Self(Arc::new(Shared {
            recorder: recorder.clone(),
            side,
            command: command.map(Into::into),
            links: Mutex::default(),
            standing: watch::Sender::default(),
        }))
    }

    /// What to give to the proxy.
    pub(crate) fn watch(&self) -> Watch {
        let tap = self.clone();
        Arc::new(move |_, note| tap.0.note(note))
    }

    /// What is known of the program now.
    pub(crate) fn standing(&self) -> Standing {
        self.0.standing.borrow().clone()
    }

    /// Waits until the program's standing is as `wanted`, without a bound.
    pub(crate) async fn until(&self, wanted: impl Fn(&Standing) -> bool) -> Standing {
        let mut standing = self.0.standing.subscribe();
        let met = standing.wait_for(|now| wanted(now)).await.map(|now| now.clone());
        match met {
            Ok(now) => now,
            // The sender is ours, and lives.
            Err(_) => std::future::pending().await,
        }
    }

    /// The client that it is, where it has ever connected.
    pub(crate) fn client(&self) -> Option<Arc<str>> {
        self.0.standing.borrow().client.clone()
    }

    /// Its client ids.
    pub(crate) fn clients(&self) -> Vec<Arc<str>> {
        self.0.links().known.iter().cloned().collect()
    }
}

impl Shared {
    fn links(&self) -> std::sync::MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, note: &Note<'_>) {
        match note {
            Note::Packet { peer, seen, packet: Some(packet), did } => self.packet(peer, seen, packet, *did),
            Note::Packet { peer, seen, packet: None, .. } if seen.direction == Direction::ToServer => {
                self.unreadable(peer, seen);
            }
            Note::Opaque { direction: Direction::ToServer, .. } => {
                self.standing.send_modify(|standing| standing.garbage = true);
            }
            Note::Strike(strike) => {
                let client = strike.peer.as_ref().and_then(|peer| peer.client.as_ref());
                let is_new = strike.rule.is_some_and(|id| self.count(id) == 1);
                // A refusal strikes with each attempt, and is one fault.
                if self.command.is_some() && (is_new || strike.rule.is_none()) {
                    self.recorder.fault(strike.kind, client.map(|client| &**client));
                }
            }
            Note::Closed { peer, by } => self.closed(peer, *by),
            _ => {}
        }
    }

    fn packet(&self, peer: &Peer, seen: &Seen, packet: &Packet, did: Did) {
        let mut links = self.links();
        if let Packet::Connect(connect) = packet
            && !links.open.contains_key(&peer.link)
        {
            let client = self.introduce(&mut links, &connect.client_id, peer.link);
            let wire = self.recorder.wire(client, connect.version, Role::Subject);
            let link = Link {
                wire,
                said_goodbye: false,
                held_back: false,
                asked: BTreeMap::new(),
                named: BTreeMap::new(),
                clean: connect.clean_start,
                accepted: None,
            };
            links.open.insert(peer.link, link);
        }
        let Some(link) = links.open.get_mut(&peer.link) else { return };
        let passes = matches!(did, Did::Pass | Did::CutAfter);
        match seen.direction {
            Direction::ToServer => {
                link.held_back |= !passes;
                if !seen.irregularities.is_empty() {
                    link.wire.sent_unlawful(&seen.irregularities);
                }
                let name = link.wire.sent_by_subject(packet, seen.len);
                self.standing.send_modify(|standing| standing.sent(link, packet, name));
            }
            Direction::ToClient if passes => {
                link.wire.received_packet(packet, seen.len);
                self.standing.send_modify(|standing| standing.received(link, packet));
            }
            Direction::ToClient => {}
        }
    }

    /// How often a rule has struck with this one.
    fn count(&self, rule: RuleId) -> u32 {
        let mut strikes = 0;
        self.standing.send_modify(|now| {
            let count = now.struck.entry(rule).or_default();
            *count = count.saturating_add(1);
            strikes = *count;
        });
        strikes
    }

    /// The name of a client, which the history is told with its first CONNECT.
    fn introduce(&self, links: &mut Links, id: &str, link: u64) -> Arc<str> {
        let client: Arc<str> = if id.is_empty() { format!("no-client-id-{link}").into() } else { id.into() };
        if links.known.insert(client.clone())
            && let Some(command) = self.command.clone()
        {
            let side = self.side;
            self.recorder.record(EventKind::Subject { side, command, client: client.clone() });
        }
        let name = client.clone();
        self.standing.send_modify(|standing| {
            standing.client = Some(name);
            standing.connects += 1;
        });
        client
    }

    fn unreadable(&self, peer: &Peer, seen: &Seen) {
        if !seen.irregularities.is_empty() {
            self.standing.send_modify(|standing| standing.garbage = true);
        }
        if let Some(link) = self.links().open.get_mut(&peer.link) {
            link.held_back = true;
        }
    }

    fn closed(&self, peer: &Peer, by: Option<Ending>) {
        let Some(link) = self.links().open.remove(&peer.link) else { return };
        let how = match by {
            Some(Ending::Rst) => Closing::Rst,
            Some(Ending::Fin) if link.held_back => Closing::Rst,
            Some(Ending::Fin) => Closing::Fin,
            None if link.said_goodbye => Closing::Fin,
            // Which side went first is not known.
            None => Closing::Broken,
        };
        let accepted = link.accepted;
        link.wire.ended(how);
        self.standing.send_modify(|standing| {
            standing.connected &= accepted != Some(standing.accepted);
        });
    }
}

impl Standing {
    fn sent(&mut self, link: &mut Link, packet: &Packet, name: Option<MessageId>) {
        match packet {
            Packet::Publish(publish) => {
                self.published[publish.qos as usize] += 1;
                if let Some(id) = publish.packet_id {
                    self.unfinished.insert(id);
                    link.named.insert(id, name.map(|name| (Arc::from(&*publish.topic), name)));
                }
            }
            Packet::Subscribe(subscribe) => {
                let filters: Vec<String> =
                    subscribe.filters.iter().map(|it| it.filter.to_string()).take(FILTERS_MAX).collect();
                link.asked.insert(subscribe.packet_id, filters);
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.filters.retain(|filter, _| !unsubscribe.filters.iter().any(|gone| **gone == **filter));
            }
            Packet::Puback(ack) | Packet::Pubcomp(ack) => drop(self.unanswered.remove(&ack.packet_id)),
            Packet::Pubrec(ack) if ack.reason.is_error() => drop(self.unanswered.remove(&ack.packet_id)),
            Packet::Disconnect(_) => link.said_goodbye = true,
            _ => {}
        }
    }

    fn received(&mut self, link: &mut Link, packet: &Packet) {
        match packet {
            Packet::Connack(connack) if connack.reason == ReasonCode::SUCCESS => {
                self.accepted += 1;
                link.accepted = Some(self.accepted);
                self.connected = true;
                self.session_present = connack.session_present && !link.clean;
                if !self.session_present {
                    self.filters.clear();
                    self.unfinished.clear();
                    self.unanswered.clear();
                }
            }
            Packet::Connack(connack) => self.refused = Some(connack.reason),
            Packet::Suback(suback) => {
                let asked = link.asked.remove(&suback.packet_id).unwrap_or_default();
                for (filter, reason) in asked.into_iter().zip(&suback.reasons) {
                    if self.filters.len() < FILTERS_MAX {
                        self.filters.insert(filter, Qos::from_u8(reason.0));
                    }
                }
            }
            Packet::Publish(Publish { qos: Qos::AtLeastOnce | Qos::ExactlyOnce, packet_id, .. }) => {
                self.unanswered.extend(*packet_id);
            }
            Packet::Pubrel(ack) => drop(self.unanswered.insert(ack.packet_id)),
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.unfinished.remove(&ack.packet_id);
                let named = link.named.remove(&ack.packet_id).flatten().filter(|_| !ack.reason.is_error());
                self.acknowledged.extend(named.filter(|_| self.acknowledged.len() < ACKNOWLEDGED_MAX));
            }
            Packet::Pubrec(ack) if ack.reason.is_error() => drop(self.unfinished.remove(&ack.packet_id)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{PacketKind, Strike};
    use crate::recorder::HISTORY_FILE;
    use mqtally_history::event::{Event, Header};
    use mqtally_history::journal::Reader;
    use mqtally_history::packet as seen;
    use mqtally_proto::Time;
    use mqtally_proto::packet::{Ack, Connack, Connect, Properties, Version};
    use std::fs::File;

    const PEER: Peer = Peer::new(1);

    struct Bench {
        directory: tempfile::TempDir,
        recorder: Recorder,
        tap: LinkTap,
    }

    impl Bench {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let recorder = Recorder::create(directory.path(), &Header::default()).expect("a history");
            let tap = LinkTap::new(&recorder, Side::Publisher, Some("./client"));
            let bench = Self { directory, recorder, tap };
            bench.packet(Direction::ToServer, &connect(), Did::Pass);
            let connack = Connack {
                session_present: true,
                reason: ReasonCode::SUCCESS,
                properties: Properties::default(),
            };
            bench.packet(Direction::ToClient, &Packet::Connack(connack), Did::Pass);
            bench
        }

        fn note(&self, note: &Note<'_>) {
            self.tap.watch()(Time::from_ms(0), note);
        }

        fn packet(&self, direction: Direction, packet: &Packet, did: Did) {
            let seen = Seen::bare(direction, PacketKind::CONNECT, 2);
            self.note(&Note::Packet { peer: &PEER, seen: &seen, packet: Some(packet), did });
        }

        /// What the history says behind CONNACK.
        fn history(self) -> Vec<EventKind> {
            self.note(&Note::Closed { peer: &PEER, by: Some(Ending::Fin) });
            self.recorder.finish().expect("it is written");
            let file = File::open(self.directory.path().join(HISTORY_FILE)).expect("a history");
            let events = Reader::new(file).expect("a history").map(|event| event.expect("a whole event"));
            let kinds = events.map(|Event { kind, .. }| kind);
            kinds
                .skip_while(|kind| !matches!(kind, EventKind::Received(_, seen::Packet::Connack(_))))
                .skip(1)
                .collect()
        }
    }

    fn connect() -> Packet {
        Packet::Connect(Box::new(Connect {
            version: Version::V5_0,
            clean_start: false,
            keep_alive: 0,
            client_id: "c".into(),
            will: None,
            username: None,
            password: None,
            properties: Properties::default(),
        }))
    }

    fn puback() -> Packet {
        Packet::Puback(Ack::success(7))
    }

    #[test]
    fn what_is_kept_from_the_client_it_has_not_received() {
        let bench = Bench::new();
        bench.packet(Direction::ToClient, &puback(), Did::CutBefore);
        let [EventKind::Closed(_, Closing::Fin)] = bench.history()[..] else { panic!("more than an end") };
        let bench = Bench::new();
        bench.packet(Direction::ToClient, &puback(), Did::CutAfter);
        let history = bench.history();
        assert!(matches!(history[0], EventKind::Received(_, seen::Packet::Puback(7, 0))), "{history:?}");
    }

    #[test]
    fn what_is_kept_from_the_broker_the_client_has_sent_and_the_broker_need_not_have_read() {
        let bench = Bench::new();
        bench.packet(Direction::ToServer, &puback(), Did::CutBefore);
        let history = bench.history();
        let sent = matches!(history[0], EventKind::Sent(_, seen::Packet::Puback(7, 0)));
        assert!(sent && matches!(history[1], EventKind::Closed(_, Closing::Rst)), "{history:?}");
    }

    #[test]
    fn what_is_odd_about_a_packet_of_the_client_is_told_before_the_packet() {
        let bench = Bench::new();
        let mut seen = Seen::bare(Direction::ToServer, PacketKind::PUBACK, 4);
        seen.irregularities = vec!["reserved bits are set".to_owned()];
        let packet = puback();
        bench.note(&Note::Packet { peer: &PEER, seen: &seen, packet: Some(&packet), did: Did::Pass });
        let history = bench.history();
        let EventKind::Unlawful { problem, .. } = &history[0] else { panic!("{history:?}") };
        assert!(
            problem == "reserved bits are set" && matches!(history[1], EventKind::Sent(..)),
            "{history:?}"
        );
    }

    #[test]
    fn a_client_that_falls_silent_may_have_gone_first_and_one_that_says_goodbye_has() {
        let end = |goodbye: bool| {
            let bench = Bench::new();
            if goodbye {
                let packet = Packet::Disconnect(mqtally_proto::packet::Disconnect {
                    reason: ReasonCode::SUCCESS,
                    properties: Properties::default(),
                });
                bench.packet(Direction::ToServer, &packet, Did::Pass);
            }
            bench.note(&Note::Closed { peer: &PEER, by: None });
            match bench.history().last() {
                Some(EventKind::Closed(_, how)) => *how,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((end(true), end(false)), (Closing::Fin, Closing::Broken));
    }

    #[test]
    fn a_rule_that_strikes_again_is_one_fault() {
        let bench = Bench::new();
        let strike = Strike {
            at: Time::from_ms(0),
            rule: Some(RuleId(3)),
            kind: "refuse",
            text: "refuse rst".to_owned(),
            is_lawful: true,
            peer: None,
        };
        bench.note(&Note::Strike(&strike));
        bench.note(&Note::Strike(&strike));
        assert_eq!(bench.tap.standing().struck.len(), 1);
        let faults = bench.history().iter().filter(|kind| matches!(kind, EventKind::Fault { .. })).count();
        assert_eq!(faults, 1);
    }
}
