//! What one filter should have found in one register, once its session rests.

use super::ask::{Ask, Due};
use super::expired_for_certain;
use super::register::{Found, Register, Write};
use crate::checker::excerpt::{Direction, Line, ack, line};
use crate::checker::ledger::{Evidence, Ledger};
use crate::checker::world::client::Why;
use crate::checker::world::{ClientIx, ConnIx, NEVER, World};
use crate::packet::Version;
use crate::promise::PromiseId;

/// One filter and one topic, when the filter's reading is over.
pub(super) struct Read<'a> {
    pub(super) world: &'a World,
    pub(super) client: ClientIx,
    pub(super) at: ConnIx,
    pub(super) ask: &'a Ask,
    pub(super) register: &'a Register,
    pub(super) got: bool,
}

impl Read<'_> {
    pub(super) fn judge(&self, ledger: &mut Ledger) {
        let version = self.world.connection(self.at).version;
        let found = self.register.found(self.ask.asked.place);
        match (self.ask.due, found) {
            (Due::Unsure | Due::Shared, _) | (_, Found::Unsure) => {}
            (Due::Yes, Found::Nothing) => {
                ledger.oblige_many(PromiseId::T4, version, u64::from(!self.got));
            }
            (Due::Yes, Found::Value(write) | Found::OneOf(write)) => self.judge_due(&write, ledger),
            (Due::NotAgain | Due::Never, Found::Value(_) | Found::OneOf(_)) => {
                ledger.oblige_many(PromiseId::T8, version, u64::from(!self.got));
            }
            (Due::NotAgain | Due::Never, Found::Nothing) => {}
        }
    }

    fn judge_due(&self, write: &Write, ledger: &mut Ledger) {
        let (world, ask) = (self.world, self.ask);
        let connection = world.connection(self.at);
        if expired_for_certain(write, ask.asked) {
            return ledger.oblige_many(PromiseId::T9, connection.version, u64::from(!self.got));
        }
        let limit = connection.connect.as_ref().and_then(|connect| connect.maximum_packet_size);
        let large = limit.is_some_and(|limit| {
            u64::from(write.len) + self.register.topic.len() as u64 + 64 > u64::from(limit)
        });
        if write.expiry.is_some() || world.excused_since(write.sent.place) || large {
            return;
        }
        if connection.connack.as_ref().is_some_and(|connack| connack.unavailable.retain) || write.qos == 0 {
            return;
        }
        // What comes at QoS 0 gets lost with its connection.
        if ask.granted == 0 && world.client(self.client).current != Some(self.at) {
            return;
        }
        for id in self.promises(write).into_iter().flatten() {
            ledger.oblige(id, connection.version);
            if !self.got {
                ledger.broken(world, id, world.client_scope(self.client), || self.missing(write));
            }
        }
    }

    /// What a value that is due puts to the test.
    fn promises(&self, write: &Write) -> [Option<PromiseId>; 4] {
        let world = self.world;
        let complete = write.acked.place;
        let passed_by = self.register.plain.and_then(|id| world.message(id)).is_some_and(|(_, message)| {
            message.acked > 0 && message.first_sent > complete && message.acked < self.ask.asked.place
        });
        let ended = world.client(write.client).breaks.iter().any(|it| {
            matches!(it.why, Why::Ended | Why::CleanStart)
                && it.place > complete
                && it.place < self.ask.asked.place
        });
        let new_only = world.connection(self.at).version == Version::V5_0
            && world.client(self.client).subscriptions.iter().any(|it| {
                it.grants
                    .iter()
                    .any(|grant| grant.asked == self.ask.asked.place && grant.retain_handling == 1)
            });
        [
            Some(PromiseId::T1),
            passed_by.then_some(PromiseId::T5),
            ended.then_some(PromiseId::T6),
            new_only.then_some(PromiseId::T8),
        ]
    }

    fn missing(&self, write: &Write) -> Evidence {
        let (world, ask, topic) = (self.world, self.ask, &self.register.topic);
        let name = &world.client(self.client).name;
        let publisher = &world.client(write.client).name;
        let body = if write.will { "a will with RETAIN" } else { "PUBLISH retain=1" };
        let mut lines: Vec<Line> = world.control_lines(self.client, ask.asked.place.saturating_sub(1));
        lines.push(line(
            write.sent,
            publisher,
            Direction::Out,
            format!("{body} qos={} topic={topic}", write.qos),
        ));
        if write.acked.place < NEVER {
            lines.push(line(write.acked, publisher, Direction::In, "final acknowledgement"));
        }
        lines.push(line(ask.answered, name, Direction::In, ack("SUBACK", ask.packet_id, 0)));
        Evidence {
            message: format!(
                "session {name} subscribed to {}, and the retained message of {topic}, acknowledged before, did not \
                 come{}",
                ask.filter,
                world.after_restart(write.sent.place)
            ),
            lines,
        }
    }
}
