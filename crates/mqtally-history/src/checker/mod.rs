//! The judge: [`check`] is a pure function of a history, and [`Checker`] the same, an event at a time.
//!
//! `world` follows what happened; each family of promises has a file that reads it; `ledger` counts obligations and
//! gathers findings; `summary` makes the report. What cannot be decided is unknown, never broken.

mod application;
mod delivery;
mod duplicate;
mod excerpt;
mod expiry;
mod flow;
mod handshake;
mod identifier;
mod integrity;
mod ledger;
mod liveness;
mod need;
mod order;
mod qos;
mod release;
mod resumption;
mod retained;
mod routing;
mod session;
mod shared;
mod subject;
mod summary;
mod unfinished;
mod will;
mod world;

use crate::event::{ConnectionId, Event, EventKind, Header, Role};
use crate::marker::Purpose;
use crate::packet::{Connect, Packet};
use crate::promise::PromiseId;
use crate::report::Report;
use ledger::{Evidence, Ledger, Scope};
use world::{GroupIx, NEVER, StreamIx, World};

/// Judges a history. The same history gives the same report, to the byte.
pub fn check(header: &Header, events: impl IntoIterator<Item = Event>) -> Report {
    let mut checker = Checker::new(header);
    for event in events {
        checker.observe(&event);
    }
    checker.finish()
}

/// Judges a history as it happens: one pass and constant time an event.
///
/// Memory grows with the messages of a stream between sentinels: once each session that the stream concerns has received
/// the sentinel behind the next, what lies before is judged and forgotten.
#[derive(Debug)]
pub struct Checker {
    header: Header,
    world: World,
    ledger: Ledger,
    order: order::Order,
    resumption: resumption::Resumption,
    retained: retained::Retained,
    wills: will::Wills,
    identifiers: identifier::Identifiers,
    shared: shared::Shared,
    deliveries: delivery::Deliveries,
    unfinished: unfinished::Unfinished,
    liveness: liveness::Liveness,
    subjects: subject::Subjects,
    handshake: handshake::Handshake,
    session: session::Sessions,
    flow: flow::Flow,
    application: application::Applications,
    needs: need::Needs,
    summary: summary::Summary,
}

impl Checker {
    /// A checker that has seen nothing.
    pub fn new(header: &Header) -> Self {
        Self {
            header: header.clone(),
            world: World::new(header.profile),
            ledger: Ledger::new(),
            order: order::Order::default(),
            resumption: resumption::Resumption::default(),
            retained: retained::Retained::default(),
            wills: will::Wills::default(),
            identifiers: identifier::Identifiers::default(),
            shared: shared::Shared::default(),
            deliveries: delivery::Deliveries::default(),
            unfinished: unfinished::Unfinished::default(),
            liveness: liveness::Liveness::default(),
            subjects: subject::Subjects::default(),
            handshake: handshake::Handshake::default(),
            session: session::Sessions::default(),
            flow: flow::Flow::default(),
            application: application::Applications::default(),
            needs: need::Needs::default(),
            summary: summary::Summary::default(),
        }
    }

    /// Takes in the next event.
    pub fn observe(&mut self, event: &Event) {
        if self.world.now.place == NEVER - 1 {
            return self.ledger.unknown("the history has more events than this version can number");
        }
        self.world.tick(event.at_ns);
        self.summary.observe(&self.world, event);
        self.judge(event);
        if !self.world.tell(event) {
            let place = self.world.now.place;
            self.ledger.incomplete(format!("event {place} is of a connection that was never opened"));
        }
        if let EventKind::GroupEnded { .. } = event.kind {
            self.judge_ended_groups();
        }
    }

    /// Every promise as far as it was judged: what an unfinished stream or group owes is not in it yet, and nothing is
    /// kept for certain before the end. Broken is broken.
    pub fn so_far(&self) -> Vec<crate::report::Promise> {
        self.ledger.promises()
    }

    /// The report over everything seen.
    pub fn finish(mut self) -> Report {
        for group in 0..self.world.groups.len() as GroupIx {
            if self.world.group(group).ended.is_none() {
                let name = &self.world.group(group).name;
                self.ledger.unknown(format!("the history ends within {}", part(name)));
                self.judge_group(group);
            }
        }
        if self.world.now.place == 0 {
            self.ledger.unknown("the history has no events");
        }
        self.ledger.require(&self.header.required);
        self.summary.report(&self.header, &self.world, self.ledger, self.needs.told())
    }

    fn judge(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Sent(id, packet) => self.judge_sent(*id, packet),
            EventKind::Received(id, packet) => self.judge_received(*id, packet),
            EventKind::Unlawful { connection, problem, .. } => self.judge_unlawful(*connection, problem),
            EventKind::Closed(id, closing) => {
                if let Some(at) = self.world.connection_of(*id) {
                    self.resumption.closed(&self.world, at, &mut self.ledger);
                    self.handshake.closed(&self.world, at, *closing, &mut self.ledger);
                    self.session.closed(&self.world, at, *closing, &mut self.ledger);
                    self.flow.closed(&self.world, at, *closing, &mut self.ledger);
                    self.subjects.closed(&self.world, at, &mut self.ledger);
                    self.unfinished.closed(&self.world, at, &mut self.ledger);
                    release::closed(&self.world, at, &mut self.ledger);
                    self.liveness.closed(&self.world, at, *closing, &mut self.ledger);
                    self.wills.closed(&self.world, at, *closing, &mut self.ledger);
                    self.retained.closed(&self.world, at, *closing, &mut self.ledger);
                }
            }
            EventKind::Claimed { client, message } => {
                subject::judge_claim(&self.world, client, *message, &mut self.ledger);
            }
            EventKind::Settled { client, message, outcome } => {
                self.subjects.settled(&self.world, client, *message, *outcome);
                self.application.settled(&self.world, client, *message, *outcome, &mut self.ledger);
                self.needs.settled(self.world.now, client, *message, *outcome);
            }
            EventKind::Statistics { client, counters } => {
                self.application.reported(&self.world, client, *counters);
            }
            EventKind::Broker(event) => {
                liveness::judge_broker(&self.world, *event, &mut self.ledger);
                self.fault(None);
            }
            EventKind::Fault { client, .. } => self.fault(client.as_deref()),
            EventKind::Declared(stream) => {
                self.application.declared(stream);
                self.needs.declared(&self.world, stream);
            }
            EventKind::Advised(advice) => self.needs.advised(&self.world, advice),
            EventKind::Accepted { message, late_ns } => {
                self.needs.taken(self.world.now, *message, *late_ns);
            }
            EventKind::Position { client, publisher, stream, value } => {
                self.needs.position(self.world.now, client, (*publisher, *stream), *value);
            }
            EventKind::Gap { lost } => {
                self.ledger.incomplete(format!("{lost} events were lost before they could be recorded"));
            }
            EventKind::Aborted { reason } => self.ledger.unknown(format!("the run was cut short: {reason}")),
            EventKind::StateWiped { client } => {
                self.subjects.wiped(&self.world, client);
                self.application.ended(&self.world, client);
            }
            EventKind::ProcessEnded { client } => {
                self.subjects.ended(&self.world, client);
                self.application.ended(&self.world, client);
            }
            EventKind::GroupStarted { .. }
            | EventKind::GroupEnded { .. }
            | EventKind::Opened { .. }
            | EventKind::Subject { .. }
            | EventKind::Labelled { .. } => {}
        }
    }

    fn fault(&mut self, client: Option<&str>) {
        self.handshake.fault(&self.world, client);
        self.liveness.fault(&self.world, client);
    }

    fn judge_sent(&mut self, id: ConnectionId, packet: &Packet) {
        let Some(at) = self.world.connection_of(id) else { return };
        let Self { world, ledger, .. } = self;
        self.handshake.sent(world, at, packet);
        self.flow.sent(world, at, packet);
        self.retained.sent(world, at, packet, ledger);
        if let Packet::Connect(Connect { will: Some(will), .. }) = packet {
            self.retained.will_declared(world, at, &will.message);
        }
        self.wills.sent(world, at, packet);
        self.shared.sent(world, at, packet);
        self.unfinished.sent(world, at, packet);
        self.subjects.sent(world, at, packet, ledger);
    }

    fn judge_received(&mut self, id: ConnectionId, packet: &Packet) {
        let Some(at) = self.world.connection_of(id) else { return };
        let Self { world, ledger, .. } = self;
        ledger.oblige(PromiseId::P1, world.connection(at).version);
        self.session.received(world, at, packet, ledger);
        self.handshake.received(world, at, packet, ledger);
        self.retained.received(world, at, packet, ledger);
        self.wills.received(world, at, packet);
        self.unfinished.received(world, at, packet, ledger);
        self.liveness.received(world, at, packet, ledger);
        self.flow.received(world, at, packet, ledger);
        self.subjects.received(world, at, packet);
        match packet {
            Packet::Publish(publish) => {
                let delivery = world.delivery(at, publish);
                integrity::judge(world, &delivery, ledger);
                routing::judge(world, &delivery, ledger);
                qos::judge(world, &delivery, ledger);
                duplicate::judge(world, &delivery, ledger);
                self.order.judge(world, &delivery, ledger);
                self.resumption.judge(world, &delivery, ledger);
                self.flow.judge(world, &delivery, ledger);
                self.unfinished.judge(world, &delivery, ledger);
                expiry::judge(world, &delivery, ledger);
                self.identifiers.judge(world, &delivery, ledger);
                self.shared.judge(world, &delivery, ledger);
                // A retained will is for who subscribes later what any other retained message is.
                if self.wills.judge(world, &delivery, ledger) && delivery.is_live() {
                    self.retained.will_published(world, publish);
                } else {
                    self.retained.judge(world, &delivery, ledger);
                }
                world.delivered(&delivery);
                let sentinel = delivery.known.filter(|known| known.marker.purpose == Purpose::Sentinel);
                if let Some(stream) = sentinel.map(|known| known.stream) {
                    self.retire(stream);
                }
            }
            Packet::Suback(id, codes) => qos::judge_suback(world, at, *id, codes, ledger),
            Packet::Connack(connack) => self.resumption.accepted(world, at, connack),
            Packet::Pubrel(id, _) => {
                resumption::judge_release(world, at, *id, ledger);
                release::received(world, at, *id, ledger);
            }
            Packet::Puback(..) | Packet::Pubrec(..) | Packet::Disconnect(..) => {
                qos::judge_unsupported(world, at, packet, ledger);
            }
            _ => {}
        }
    }

    /// An epoch of a stream may be over: what has had its time is judged and forgotten.
    fn retire(&mut self, stream: StreamIx) {
        let Self { world, ledger, .. } = self;
        let end = delivery::retirable(world, stream);
        if end <= world.stream(stream).retired {
            return;
        }
        self.deliveries.retire(world, stream, end, &self.flow, ledger);
        self.order.retire(world, stream, end, ledger);
        self.application.retire(world, stream, end, ledger);
        self.summary.retire(world, stream, end);
        world.retire(stream, end);
    }

    fn judge_unlawful(&mut self, id: ConnectionId, problem: &str) {
        let Some(at) = self.world.connection_of(id) else { return };
        let connection = self.world.connection(at);
        let client = self.world.client(connection.client);
        let scope =
            Scope { group: client.group, version: connection.version, cause: u64::from(connection.client) };
        // Of a program under test its own packets are read, of everybody else what came to him.
        let (who, did, direction) = match connection.role {
            Role::Subject => ("the client under test, ", ", sent", excerpt::Direction::Out),
            Role::Own => ("", " received", excerpt::Direction::In),
        };
        self.ledger.warn(&self.world, PromiseId::P1, scope, || Evidence {
            message: format!("{who}{}{did} a packet that is not well-formed: {problem}", client.name),
            lines: vec![excerpt::line(self.world.now, &client.name, direction, problem)],
        });
    }

    fn judge_ended_groups(&mut self) {
        let ended = (0..self.world.groups.len() as GroupIx)
            .rev()
            .find(|group| self.world.group(*group).ended.is_some_and(|at| at == self.world.now));
        if let Some(group) = ended {
            self.judge_group(group);
        }
    }

    fn judge_group(&mut self, group: GroupIx) {
        let Self { world, ledger, .. } = self;
        self.deliveries.judge_group(world, group, (&self.flow, &self.order), ledger);
        self.order.judge_group(world, group, ledger);
        self.resumption.judge_group(world, group, ledger);
        self.handshake.judge_group(world, group, ledger);
        self.retained.judge_group(world, group, ledger);
        self.wills.judge_group(world, group, ledger);
        self.identifiers.judge_group(world, group, ledger);
        self.shared.judge_group(world, group, ledger);
        self.subjects.judge_group(world, group, ledger);
        self.unfinished.judge_group(world, group, ledger);
        release::judge_group(world, group, ledger);
        self.liveness.judge_group(world, group, self.header.broker_kind, ledger);
        self.session.judge_group(world, group, ledger);
        self.application.judge_group(world, group, ledger);
        self.needs.judge_group(world, group, ledger);
        self.summary.group_over(world, group);
        world.forget(group);
    }
}

/// How a part of the run is called in a sentence.
fn part(name: &str) -> String {
    if name.is_empty() { "its only part".to_owned() } else { format!("part `{name}`") }
}
