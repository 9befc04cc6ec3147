//! A1 and A2: what the subscribing application says of itself, against the wire.
//!
//! Its counters have to be those of the deliveries that it settled, it can settle no more deliveries than came, and a
//! message that it took for a duplicate must have been settled otherwise at some time: a copy may be recognised while
//! the first still waits for its handler, so this is judged at the end. Counters are compared with what was settled
//! before the last report; where more was settled afterwards and they differ, nothing is certain.
//!
//! A program under test whose process ends may process again what it was at: each life adds one to what is lawful.

use super::excerpt::{Direction, line};
use super::ledger::{Evidence, Ledger};
use super::world::{ClientIx, GroupIx, Moment, StreamIx, World};
use crate::event::{Counters, Outcome, Role};
use crate::marker::MessageId;
use crate::need::Declaration;
use crate::promise::PromiseId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What applications settled and reported.
#[derive(Debug, Default)]
pub(crate) struct Applications {
    of_client: BTreeMap<ClientIx, Application>,
    /// Applications that do not recognise what they have seen, and say so.
    undiscerning: BTreeSet<Arc<str>>,
}

#[derive(Debug, Default)]
struct Application {
    settled: Counters,
    /// Failures of deliveries that were settled in another way later: a retry, and not a delivery of its own.
    retried: u64,
    messages: BTreeMap<MessageId, Settled>,
    reported: Option<Reported>,
    /// Ends of its process.
    ends: u32,
}

#[derive(Debug, Clone, Copy)]
struct Reported {
    at: Moment,
    counters: Counters,
    settled: Counters,
    retried: u64,
}

/// How often one message was settled in each way.
#[derive(Debug, Clone, Copy, Default)]
struct Settled {
    processed: u32,
    conflict: u32,
    duplicate: u32,
    failed: u32,
    last: Moment,
    /// Ends of the process before it was processed last.
    ends: u32,
    /// Processed again by another life of the process.
    again: u32,
}

impl Applications {
    pub(crate) fn declared(&mut self, stream: &Declaration) {
        let plain = stream.receivers.iter().filter(|receiver| !receiver.dedup);
        self.undiscerning.extend(plain.map(|receiver| Arc::clone(&receiver.client)));
    }

    pub(crate) fn settled(
        &mut self,
        world: &World,
        client: &Arc<str>,
        message: MessageId,
        outcome: Outcome,
        ledger: &mut Ledger,
    ) {
        let Some(ix) = world.client_named(client) else {
            return ledger.unknown(format!("deliveries were settled by {client}, which never connected"));
        };
        for id in [PromiseId::A1, PromiseId::A2] {
            ledger.oblige(id, world.client(ix).version);
        }
        self.of_client.entry(ix).or_default().settle(world.now, message, outcome);
    }

    /// The process of a program under test ended.
    pub(crate) fn ended(&mut self, world: &World, client: &str) {
        let client = world.client_named(client).filter(|ix| world.client(*ix).role == Role::Subject);
        if let Some(ix) = client {
            self.of_client.entry(ix).or_default().ends += 1;
        }
    }

    pub(crate) fn reported(&mut self, world: &World, client: &Arc<str>, counters: Counters) {
        if let Some(ix) = world.client_named(client) {
            let it = self.of_client.entry(ix).or_default();
            let (settled, retried) = (it.settled, it.retried);
            it.reported = Some(Reported { at: world.now, counters, settled, retried });
        }
    }

    /// Drops what it settled of a stream below `end`, but for what waits to be processed.
    pub(crate) fn retire(&mut self, world: &World, stream: StreamIx, end: u64, ledger: &mut Ledger) {
        let it = world.stream(stream);
        let (from, to) = (it.id(0), it.id(end));
        let Self { of_client, undiscerning } = self;
        for (ix, application) in of_client {
            let up_to = processes_copies_up_to(world, *ix, undiscerning);
            let later = application.messages.split_off(&to);
            let here = application.messages.split_off(&from);
            let (waiting, done): (BTreeMap<_, _>, BTreeMap<_, _>) =
                here.into_iter().partition(|(_, it)| it.processed + it.conflict + it.failed == 0);
            done.iter().for_each(|(id, it)| judge_message(world, *ix, *id, it, up_to, ledger));
            application.messages.extend(waiting);
            application.messages.extend(later);
        }
    }

    pub(crate) fn judge_group(&mut self, world: &World, group: GroupIx, ledger: &mut Ledger) {
        let of_client = std::mem::take(&mut self.of_client);
        let (here, rest) = of_client.into_iter().partition(|(ix, _)| world.client(*ix).group == group);
        self.of_client = rest;
        for (ix, it) in here {
            it.judge_counters(world, ix, ledger);
            let up_to = processes_copies_up_to(world, ix, &self.undiscerning);
            it.judge_messages(world, ix, up_to, ledger);
        }
    }
}

/// Up to which QoS an application may process every copy that it receives: one that declares that it recognises
/// nothing always, a program under test where copies are lawful.
fn processes_copies_up_to(world: &World, ix: ClientIx, undiscerning: &BTreeSet<Arc<str>>) -> Option<u8> {
    let client = world.client(ix);
    match client.role {
        _ if undiscerning.contains(&client.name) => Some(2),
        Role::Subject => Some(1),
        Role::Own => None,
    }
}

impl Application {
    fn settle(&mut self, now: Moment, message: MessageId, outcome: Outcome) {
        let it = self.messages.entry(message).or_default();
        it.last = now;
        self.settled.received += 1;
        match outcome {
            Outcome::Failed => {
                it.failed += 1;
                self.settled.errors += 1;
            }
            Outcome::Duplicate => {
                it.duplicate += 1;
                self.settled.duplicates += 1;
            }
            Outcome::Processed | Outcome::Conflict => {
                it.again += u32::from(it.processed + it.conflict > 0 && it.ends < self.ends);
                it.ends = self.ends;
                self.retried += u64::from(it.failed);
                it.failed = 0;
                it.processed += u32::from(outcome == Outcome::Processed);
                it.conflict += u32::from(outcome == Outcome::Conflict);
                self.settled.processed += u64::from(outcome == Outcome::Processed);
                self.settled.conflicts += u64::from(outcome == Outcome::Conflict);
            }
        }
    }

    fn judge_counters(&self, world: &World, ix: ClientIx, ledger: &mut Ledger) {
        let Some(it) = self.reported.filter(|it| !it.agrees()) else { return };
        let evidence = || Evidence {
            message: format!(
                "{} reported {}, and what it settled makes {}",
                world.client(ix).name,
                in_words(it.counters),
                in_words(it.settled)
            ),
            lines: vec![line(it.at, &world.client(ix).name, Direction::None, in_words(it.counters))],
        };
        let scope = world.client_scope(ix);
        if self.settled == it.settled {
            ledger.oblige(PromiseId::A1, world.client(ix).version);
            ledger.broken(world, PromiseId::A1, scope, evidence);
        } else {
            ledger.undecided(world, PromiseId::A1, scope, evidence);
        }
    }

    fn judge_messages(&self, world: &World, ix: ClientIx, up_to: Option<u8>, ledger: &mut Ledger) {
        for (id, it) in &self.messages {
            judge_message(world, ix, *id, it, up_to, ledger);
        }
    }
}

fn judge_message(
    world: &World,
    ix: ClientIx,
    id: MessageId,
    it: &Settled,
    up_to: Option<u8>,
    ledger: &mut Ledger,
) {
    // The messages of a part that is over are forgotten.
    let Some(stream) = world.stream_of(id).filter(|stream| !world.stream(*stream).over) else { return };
    let name = (stream, id.sequence, ix);
    if it.duplicate > 0 && it.processed + it.conflict + it.failed == 0 {
        let mend = "note a message as known when its effect is safe, and not before";
        wrong(world, PromiseId::A2, name, it, ("taken for a duplicate, and never processed", mend), ledger);
    }
    if world.stream(stream).is_forgotten(id.sequence) {
        return;
    }
    let copies = world.client(ix).copies_of(stream, id.sequence);
    let (packets, settled) = (u32::from(copies.packets) + it.again, it.processed + it.duplicate);
    // What a broker hands over as a new message a program cannot know for an old one.
    let handed_over = if up_to.is_some() { u32::from(copies.handed_over.max(1)) } else { 1 };
    let twice = match up_to {
        Some(qos) if copies.max_qos <= qos => it.processed > packets,
        _ => it.processed > handed_over + it.again,
    };
    if twice {
        let what = format!("processed {} times", it.processed);
        let mend = match copies.max_qos {
            2 => {
                "at QoS 2, hand a message over once, when its packet id is new; remember the id across reconnects until \
                 PUBREL, and answer a repeated PUBLISH or PUBREL without handing anything over"
            }
            _ => "process each delivery once",
        };
        wrong(world, PromiseId::A2, name, it, (&what, mend), ledger);
    }
    // What a program under test does twice is one fault of it.
    let known = twice && world.client(ix).role == Role::Subject;
    if settled > packets && packets < u32::from(u8::MAX) && !known {
        let what = format!("settled {settled} times and delivered {packets} times");
        wrong(world, PromiseId::A1, name, it, (&what, "report each delivery once"), ledger);
    }
}

impl Reported {
    /// Conflicts are processed too and may be counted as such; a failure that was tried again may be counted or not.
    fn agrees(&self) -> bool {
        let (said, settled) = (self.counters, self.settled);
        let either = |said: u64, settled: u64, more: u64| said == settled || said == settled + more;
        let retried = self.retried;
        said.duplicates == settled.duplicates
            && said.conflicts == settled.conflicts
            && either(said.processed, settled.processed, settled.conflicts)
            && either(said.errors, settled.errors.saturating_sub(retried), retried)
            && either(said.received, settled.received.saturating_sub(retried), retried)
    }
}

fn wrong(
    world: &World,
    id: PromiseId,
    (stream, sequence, ix): (StreamIx, u64, ClientIx),
    it: &Settled,
    (what, mend): (&str, &str),
    ledger: &mut Ledger,
) {
    let name = &world.client(ix).name;
    let mend = match world.client(ix).role {
        Role::Subject => format!(". To mend it: {mend}"),
        Role::Own => String::new(),
    };
    let topic = &world.stream(stream).topic;
    ledger.broken(world, id, world.client_scope(ix), || Evidence {
        message: format!("message {sequence} of {topic} was {what} by {name}{mend}"),
        lines: vec![line(it.last, name, Direction::None, format!("settles message {sequence} of {topic}"))],
    });
}

fn in_words(it: Counters) -> String {
    let Counters { received, duplicates, conflicts, errors, processed } = it;
    format!(
        "{received} received, {duplicates} duplicates, {conflicts} conflicts, {errors} errors, {processed} processed"
    )
}
