//! N1 to N4: what the application needs, through the whole chain from the device that took a message on to the
//! application that acted on it.
//!
//! MQTT's promises have excuses; a need has none. A message that a session lost when it expired is excused there and
//! missing here. As everywhere, nothing is missing because time passed: the application has to have acted on the end
//! of the stream behind it.

mod account;
mod judge;

use super::ledger::Ledger;
use super::world::paged::Paged;
use super::world::{GroupIx, Moment, World};
use crate::event::Outcome;
use crate::marker::MessageId;
use crate::need::{Advice, Declaration};
use crate::report;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Devices of a stream that are followed.
const DEVICES_MAX: usize = 100_000;

/// What was declared, taken on and acted on.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    streams: Vec<Stream>,
    advice: Vec<(GroupIx, Advice)>,
    told: report::Needs,
}

/// A declared stream.
#[derive(Debug)]
struct Stream {
    it: Declaration,
    group: GroupIx,
    /// By publisher number.
    devices: BTreeMap<u32, Device>,
}

/// A device, and what its messages came to.
#[derive(Debug, Default)]
struct Device {
    /// When it took each message on, by sequence.
    taken: Paged<Taken>,
    count: u64,
    /// The message taken on last.
    newest: Option<u64>,
    first_due_ns: u64,
    last_due_ns: u64,
    /// By receiver, as declared.
    seen: BTreeMap<usize, Seen>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    at: Moment,
    late_ns: u64,
}

/// What an application made of a device's messages.
#[derive(Debug, Default)]
struct Seen {
    acted: Paged<Acted>,
    /// The message acted on last.
    last: Option<(u64, Moment)>,
    /// When it was given the end of the stream, behind every message.
    end: Option<Moment>,
    /// Where what the messages move stands.
    position: Option<(i64, Moment)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Acted {
    count: u16,
    first: Moment,
    again: Moment,
}

impl Needs {
    pub(crate) fn declared(&mut self, world: &World, it: &Declaration) {
        if let Some(group) = world.current_group {
            self.streams.push(Stream { it: it.clone(), group, devices: BTreeMap::new() });
        }
    }

    pub(crate) fn advised(&mut self, world: &World, advice: &Advice) {
        if let Some(group) = world.current_group {
            self.advice.push((group, advice.clone()));
        }
    }

    pub(crate) fn taken(&mut self, now: Moment, message: MessageId, late_ns: u64) {
        let Some(device) = self.device(message.publisher, message.stream) else { return };
        let due_ns = now.at_ns.saturating_sub(late_ns);
        if device.count == 0 {
            device.first_due_ns = due_ns;
        }
        device.last_due_ns = due_ns;
        device.count += 1;
        device.newest = Some(message.sequence);
        *device.taken.entry(message.sequence) = Taken { at: now, late_ns };
    }

    pub(crate) fn settled(&mut self, now: Moment, client: &Arc<str>, message: MessageId, outcome: Outcome) {
        let Some((device, at)) = self.receiver(client, message.publisher, message.stream) else { return };
        let taken = device.taken.at(message.sequence).is_some_and(|taken| taken.at.place > 0);
        let is_end = !taken && device.newest.is_none_or(|newest| message.sequence > newest);
        let seen = device.seen.entry(at).or_default();
        match outcome {
            _ if is_end => seen.end = Some(now),
            Outcome::Processed | Outcome::Conflict if taken => seen.acts_on(message.sequence, now),
            _ => {}
        }
    }

    pub(crate) fn position(
        &mut self,
        now: Moment,
        client: &Arc<str>,
        (publisher, stream): (u32, u16),
        value: i64,
    ) {
        if let Some((device, at)) = self.receiver(client, publisher, stream) {
            device.seen.entry(at).or_default().position = Some((value, now));
        }
    }

    /// Judges the streams of a part that is over.
    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        let (here, rest) = std::mem::take(&mut self.streams).into_iter().partition(|it| it.group == group);
        self.streams = rest;
        let advice: Vec<Advice> =
            self.advice.extract_if(.., |(of, _)| *of == group).map(|(_, advice)| advice).collect();
        for (place, stream) in here.iter().enumerate() {
            let counts = judge::judge(world, stream, place, ledger);
            self.told.needs.extend(account::needs(world, stream, &counts));
            self.told.rates.push(account::rate(world, stream));
        }
        account::note_advice(&mut self.told.advice, world.group(group), &advice);
    }

    /// What the report says of needs.
    pub(crate) fn told(mut self) -> report::Needs {
        account::tell_what_happened(&mut self.told);
        self.told
    }

    fn stream(&mut self, publisher: u32, number: u16) -> Option<&mut Stream> {
        let of = |it: &&mut Stream| {
            number == 0
                && (it.it.publisher..it.it.publisher.saturating_add(it.it.devices)).contains(&publisher)
        };
        self.streams.iter_mut().rev().find(of)
    }

    fn device(&mut self, publisher: u32, number: u16) -> Option<&mut Device> {
        let devices = &mut self.stream(publisher, number)?.devices;
        let known = devices.len() < DEVICES_MAX || devices.contains_key(&publisher);
        known.then(|| devices.entry(publisher).or_default())
    }

    fn receiver(&mut self, client: &Arc<str>, publisher: u32, number: u16) -> Option<(&mut Device, usize)> {
        let stream = self.stream(publisher, number)?;
        let at = stream.it.receivers.iter().position(|receiver| receiver.client == *client)?;
        Some((stream.devices.get_mut(&publisher)?, at))
    }
}

impl Device {
    /// Every message that it took on, by ascending sequence.
    fn messages(&self) -> impl Iterator<Item = (u64, Taken)> {
        let taken = self.taken.iter().filter(|(_, taken)| taken.at.place > 0);
        taken.map(|(sequence, taken)| (sequence, *taken))
    }
}

impl Seen {
    fn acts_on(&mut self, sequence: u64, now: Moment) {
        let acted = self.acted.entry(sequence);
        match acted.count {
            0 => acted.first = now,
            1 => acted.again = now,
            _ => {}
        }
        acted.count = acted.count.saturating_add(1);
        self.last = Some((sequence, now));
    }

    /// How the message was acted on, when it was.
    fn of(&self, sequence: u64) -> Option<&Acted> {
        self.acted.at(sequence).filter(|acted| acted.count > 0)
    }
}
