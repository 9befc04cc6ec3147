//! The rest of the report: streams, labelled messages, applications, faults, sessions, parts.

use super::ledger::Ledger;
use super::world::message::{Message, State};
use super::world::{ClientIx, GroupIx, StreamIx, World};
use crate::event::{BrokerEvent, Counters, Event, EventKind, Header, Side};
use crate::marker::MessageId;
use crate::packet::{Packet, Version};
use crate::report::{self, Application, Broker, Fault, Percentiles, Report, Session};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows of the table of labelled messages.
const MESSAGES_MAX: usize = 10_000;
/// Client ids of a program under test that are listed.
const CLIENT_IDS_MAX: usize = 100;

/// What is gathered for the report as the history goes by.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    began_ns: Option<u64>,
    ended_ns: u64,
    streams: Vec<report::Stream>,
    labels: BTreeMap<MessageId, (Arc<str>, u64)>,
    messages: Vec<report::Message>,
    applications: BTreeMap<Arc<str>, Counters>,
    faults: Vec<(Arc<str>, u64, u64)>,
    groups: Vec<report::Group>,
    subjects: Vec<report::Subject>,
    versions: [bool; 2],
    /// Some client has a user name.
    logged_in: bool,
    /// The figures of what was forgotten of streams that go on.
    totals: BTreeMap<StreamIx, Totals>,
}

/// The figures of a stream.
#[derive(Debug, Default)]
struct Totals {
    published: u64,
    acknowledged: u64,
    delivered: u64,
    duplicates: u64,
    acks: Latencies,
    arrivals: Latencies,
}

impl Summary {
    pub(crate) fn observe(&mut self, _world: &World, event: &Event) {
        let began_ns = *self.began_ns.get_or_insert(event.at_ns);
        self.ended_ns = self.ended_ns.max(event.at_ns);
        let since_ns = event.at_ns.saturating_sub(began_ns);
        match &event.kind {
            EventKind::Opened { version, client, .. } => {
                self.versions[*version as usize] = true;
                self.of_subject(client, |it| {
                    if !it.protocols.contains(&version.as_str()) {
                        it.protocols.push(version.as_str());
                    }
                });
            }
            EventKind::Sent(_, Packet::Connect(connect)) => self.logged_in |= connect.authenticated,
            EventKind::Labelled { message, label, shown_id } if self.labels.len() < MESSAGES_MAX => {
                self.labels.insert(*message, (Arc::clone(label), *shown_id));
            }
            EventKind::Statistics { client, counters } => {
                self.applications.insert(Arc::clone(client), *counters);
            }
            EventKind::Subject { side, command, client } => self.subject(*side, command, client),
            EventKind::StateWiped { client } | EventKind::ProcessEnded { client } => {
                self.of_subject(client, |it| it.ends += 1);
            }
            EventKind::Settled { client, .. } | EventKind::Claimed { client, .. } => {
                self.of_subject(client, |it| it.reports += 1);
            }
            EventKind::Fault { kind, .. } => self.fault(kind, since_ns),
            EventKind::Broker(BrokerEvent::Killed) => self.fault(&"kill-broker".into(), since_ns),
            EventKind::Broker(BrokerEvent::PowerLost) => self.fault(&"power-loss".into(), since_ns),
            EventKind::Broker(BrokerEvent::Terminated) => self.fault(&"terminate-broker".into(), since_ns),
            EventKind::Broker(BrokerEvent::Paused) => self.fault(&"pause-broker".into(), since_ns),
            _ => {}
        }
    }

    fn subject(&mut self, side: Side, command: &Arc<str>, client: &Arc<str>) {
        let known = self.subjects.iter().position(|it| it.side == side && it.command == **command);
        let at = known.unwrap_or_else(|| {
            self.subjects.push(report::Subject {
                side,
                command: command.to_string(),
                protocols: Vec::new(),
                client_ids: Vec::new(),
                ends: 0,
                reports: 0,
            });
            self.subjects.len() - 1
        });
        let ids = &mut self.subjects[at].client_ids;
        if ids.len() < CLIENT_IDS_MAX && ids.iter().all(|id| *id != **client) {
            ids.push(client.to_string());
        }
    }

    fn of_subject(&mut self, client: &str, act: impl FnOnce(&mut report::Subject)) {
        let known = self.subjects.iter_mut().find(|it| it.client_ids.iter().any(|id| id == client));
        if let Some(it) = known {
            act(it);
        }
    }

    fn fault(&mut self, kind: &Arc<str>, since_ns: u64) {
        match self.faults.iter_mut().find(|(known, ..)| known == kind) {
            Some((_, _, count)) => *count += 1,
            None => self.faults.push((Arc::clone(kind), since_ns / 1_000_000, 1)),
        }
    }

    /// Takes the figures of a stream's messages below `end` before they are forgotten.
    pub(crate) fn retire(&mut self, world: &World, ix: StreamIx, end: u64) {
        self.totals.entry(ix).or_default().add(world, ix, end);
        self.label_rows(world, ix, end);
    }

    /// Takes the figures of a part before its messages are forgotten.
    pub(crate) fn group_over(&mut self, world: &World, group: GroupIx) {
        let before = self.streams.len();
        for ix in 0..world.streams.len() as StreamIx {
            if world.stream(ix).group == group {
                let mut totals = self.totals.remove(&ix).unwrap_or_default();
                totals.add(world, ix, u64::MAX);
                self.streams.push(totals.stream(world, ix));
                self.label_rows(world, ix, u64::MAX);
            }
        }
        let it = world.group(group);
        let ended = it.ended.unwrap_or(world.now);
        self.groups.push(report::Group {
            name: it.name.to_string(),
            protocol: it.version.as_str(),
            published: self.streams[before..].iter().map(|stream| stream.published).sum(),
            drained: it.drained,
            elapsed_ms: ended.at_ns.saturating_sub(it.began.at_ns) / 1_000_000,
        });
    }

    fn label_rows(&mut self, world: &World, ix: StreamIx, end: u64) {
        let stream = world.stream(ix);
        for (sequence, message) in stream.messages.below(end).filter(|(_, it)| it.state != State::NeverSent) {
            if let Some((label, shown_id)) = self.labels.get(&stream.id(sequence)) {
                self.messages.push(label_row(world, ix, sequence, message, label, *shown_id));
            }
        }
    }

    pub(crate) fn report(
        self,
        header: &Header,
        world: &World,
        mut ledger: Ledger,
        needs: report::Needs,
    ) -> Report {
        let (verdict, unknown_because) = ledger.verdict();
        Report {
            schema: "mqtally.report/1",
            verdict,
            unknown_because,
            seed: header.seed,
            broker: Broker {
                kind: header.broker_kind,
                name: header.broker_name.clone(),
                protocols: self.protocols(),
                profile: header.profile,
                anonymous: !self.logged_in,
            },
            profile_measured: header.measured.clone(),
            subjects: self.subjects.clone(),
            tally: ledger.tally,
            excuses: ledger.excuses(),
            promises: ledger.promises(),
            findings: ledger.findings(),
            applications: self.applications(world),
            needs,
            streams: self.streams,
            messages: self.messages,
            faults: self
                .faults
                .into_iter()
                .map(|(kind, at_ms, count)| Fault { kind: kind.to_string(), at_ms, count })
                .collect(),
            sessions: world.clients.iter().map(session).collect(),
            groups: self.groups,
            elapsed_ms: self.ended_ns.saturating_sub(self.began_ns.unwrap_or(0)) / 1_000_000,
        }
    }

    fn protocols(&self) -> Vec<&'static str> {
        let spoken = [Version::V3_1_1, Version::V5_0].into_iter().filter(|it| self.versions[*it as usize]);
        spoken.map(Version::as_str).collect()
    }

    fn applications(&self, world: &World) -> Vec<Application> {
        let application = |(client, counters): (&Arc<str>, &Counters)| Application {
            client_id: client.to_string(),
            protocol: world.client_named(client).map_or("", |ix| world.client(ix).version.as_str()),
            received: counters.received,
            duplicates: counters.duplicates,
            conflicts: counters.conflicts,
            errors: counters.errors,
            processed: counters.processed,
        };
        self.applications.iter().map(application).collect()
    }
}

fn session(client: &super::world::client::Client) -> Session {
    Session {
        client_id: client.name.to_string(),
        resumed: client.resumed,
        session_present: client.session_present.clone(),
    }
}

impl Totals {
    /// Adds the load of a stream below `end`.
    fn add(&mut self, world: &World, ix: StreamIx, end: u64) {
        let messages = &world.stream(ix).messages;
        for (_, message) in messages.below(end).filter(|(_, it)| it.is_load()) {
            self.published += 1;
            if message.state == State::Complete {
                self.acknowledged += 1;
                self.acks.add(message.waited_us.saturating_add(message.ack_us));
            }
            if message.first_copy_us > 0 {
                self.arrivals.add(message.waited_us.saturating_add(message.first_copy_us));
            }
        }
        for copies in world.clients.iter().filter_map(|client| client.copies.get(&ix)) {
            for (sequence, it) in copies.below(end).filter(|(_, it)| it.first > 0) {
                if messages.at(sequence).is_some_and(Message::is_load) {
                    self.delivered += 1;
                    self.duplicates += u64::from(it.packets) - 1;
                }
            }
        }
    }

    fn stream(&self, world: &World, ix: StreamIx) -> report::Stream {
        let it = world.stream(ix);
        report::Stream {
            group: world.group(it.group).name.to_string(),
            protocol: it.version.as_str(),
            topic: it.topic.to_string(),
            qos: it.qos,
            published: self.published,
            acknowledged: self.acknowledged,
            delivered: self.delivered,
            duplicates: self.duplicates,
            ack_latency_us: self.acks.percentiles(),
            end_to_end_us: self.arrivals.percentiles(),
        }
    }
}

fn label_row(
    world: &World,
    ix: StreamIx,
    sequence: u64,
    message: &Message,
    label: &Arc<str>,
    shown_id: u64,
) -> report::Message {
    let stream = world.stream(ix);
    let receivers = (0..world.clients.len() as ClientIx)
        .filter(|client| world.client(*client).copies_of(ix, sequence).first > 0)
        .count();
    let status = match message.state {
        State::Complete => "confirmed",
        State::Refused => "refused",
        _ if stream.qos == 0 => "sent",
        _ => "pending",
    };
    report::Message {
        message_id: shown_id,
        protocol: stream.version.as_str(),
        topic: stream.topic.to_string(),
        qos: stream.qos,
        message_type: label.to_string(),
        status,
        received_by: receivers as u64,
        ack_latency_us: (message.acked > 0).then_some(u64::from(message.ack_us)),
        end_to_end_us: (message.first_copy_us > 0).then_some(u64::from(message.first_copy_us)),
    }
}

/// Latencies in microseconds, to three digits; made with the first.
#[derive(Debug, Default)]
struct Latencies(Option<Histogram<u32>>);

impl Latencies {
    fn add(&mut self, us: u32) {
        if self.0.is_none() {
            self.0 = Histogram::new(3).ok();
        }
        if let Some(histogram) = &mut self.0 {
            // The histogram grows by itself; there is no value of 32 bits that it cannot take.
            let _ = histogram.record(u64::from(us));
        }
    }

    fn percentiles(&self) -> Percentiles {
        let Some(it) = &self.0 else { return Percentiles::default() };
        Percentiles {
            p50: it.value_at_quantile(0.5),
            p90: it.value_at_quantile(0.9),
            p99: it.value_at_quantile(0.99),
            max: it.max(),
        }
    }
}
