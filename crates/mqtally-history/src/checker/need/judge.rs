//! Whether each need was met: device by device, receiver by receiver, message by message.

use super::{Device, Seen, Stream, Taken};
use crate::checker::excerpt::{Direction, Line, line};
use crate::checker::ledger::{Evidence, Ledger, Scope};
use crate::checker::world::message::{Message, State};
use crate::checker::world::{ClientIx, Moment, Place, StreamIx, World};
use crate::marker::MessageId;
use crate::need::{Need, ReceiverKind};
use crate::promise::PromiseId;
use crate::report::Verdict;
use std::collections::BTreeMap;

/// Messages that have to be sent to an application that is there before it certainly has to hear some.
const HEARD_FROM: u64 = 5;
/// Messages behind one that is missing among which the next that arrived is looked for.
const LATER_MAX: u64 = 1_000;

/// What a need of a stream came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    pub(super) obligations: u64,
    pub(super) violations: u64,
    pub(super) verdict: Verdict,
}

impl Default for Count {
    fn default() -> Self {
        Self { obligations: 0, violations: 0, verdict: Verdict::NotExercised }
    }
}

/// The promise that stands for a need.
pub(super) fn promise(need: Need) -> PromiseId {
    match need {
        Need::MayLose => PromiseId::N1,
        Need::MustArrive => PromiseId::N2,
        Need::MustNotHappenTwice => PromiseId::N3,
        Need::NewestOnly => PromiseId::N4,
    }
}

/// Judges a stream, the one at `place` of its part.
pub(super) fn judge(
    world: &World,
    stream: &Stream,
    place: usize,
    ledger: &mut Ledger,
) -> BTreeMap<Need, Count> {
    let mut counts = BTreeMap::new();
    for need in &stream.it.needs {
        let mut bench = Bench { world, stream, need: *need, place, ledger, count: Count::default() };
        bench.judge();
        counts.insert(*need, bench.count);
    }
    counts
}

struct Bench<'a> {
    world: &'a World,
    stream: &'a Stream,
    need: Need,
    place: usize,
    ledger: &'a mut Ledger,
    count: Count,
}

/// A device and one of its receivers.
#[derive(Clone, Copy)]
struct Pair<'a> {
    publisher: u32,
    device: &'a Device,
    at: usize,
    seen: &'a Seen,
    /// What the wire knows of both.
    sent: Option<StreamIx>,
    client: Option<ClientIx>,
}

impl<'a> Bench<'a> {
    fn judge(&mut self) {
        let stream = self.stream;
        let nothing = Seen::default();
        for (at, receiver) in stream.it.receivers.iter().enumerate() {
            if receiver.kind == ReceiverKind::Late && self.need != Need::NewestOnly {
                continue;
            }
            for (publisher, device) in &stream.devices {
                let id = MessageId { publisher: *publisher, stream: 0, sequence: 0 };
                let pair = Pair {
                    publisher: *publisher,
                    device,
                    at,
                    seen: device.seen.get(&at).unwrap_or(&nothing),
                    sent: self.world.stream_of(id),
                    client: self.world.client_named(&receiver.client),
                };
                match self.need {
                    Need::MayLose => self.is_heard(pair),
                    Need::MustArrive => self.arrives(pair),
                    Need::MustNotHappenTwice => self.happens_once(pair),
                    Need::NewestOnly => self.sees_the_newest(pair),
                }
            }
        }
    }

    /// N1: any message may be lost, not all of them.
    fn is_heard(&mut self, pair: Pair<'_>) {
        let sent = |sequence| self.message(pair, sequence).map(|message| message.first_sent);
        let there = |place| pair.client.is_some_and(|ix| self.world.client(ix).was_online(place));
        let messages = || pair.device.messages().map(|(sequence, _)| sequence);
        let sent_to = messages().filter(|sequence| sent(*sequence).is_some_and(there)).count() as u64;
        if sent_to < HEARD_FROM {
            return;
        }
        self.oblige(1);
        if pair.seen.last.is_some() {
            return;
        }
        let message = format!(
            "none of {sent_to} messages of {} that were sent while {} was connected reached it; any may be lost, \
             not all of them",
            self.name(pair),
            self.receiver(pair),
        );
        let (first, taken) = pair.device.messages().next().unwrap_or_default();
        let lines = self.lines(pair, first, taken);
        match pair.seen.end.is_some() || self.world.group(self.stream.group).drained {
            true => self.broken(pair, self.world.now.place, Evidence { message, lines }),
            false => self.undecided(pair, Evidence { message, lines }),
        }
    }

    /// N2: every message that a device took on is acted on.
    fn arrives(&mut self, pair: Pair<'_>) {
        for (sequence, taken) in pair.device.messages() {
            self.oblige(1);
            if pair.seen.of(sequence).is_some() {
                continue;
            }
            let fate = self.fate(pair, sequence);
            let message = format!(
                "message {sequence} of {} was taken on by its device and never reached {}: {fate}; it must arrive",
                self.name(pair),
                self.receiver(pair),
            );
            let lines = self.lines(pair, sequence, taken);
            match pair.seen.end {
                Some(end) => {
                    let end_line =
                        line(end, self.client(pair), Direction::None, "is given the end of the stream");
                    let by = self.lost_by(pair, sequence, taken, end);
                    self.broken(pair, by, Evidence { message, lines: [lines, vec![end_line]].concat() });
                }
                None => {
                    let message =
                        format!("{message}, and the end of its stream did not come either: late, or lost");
                    self.undecided(pair, Evidence { message, lines });
                }
            }
        }
    }

    /// N3: no message is acted on twice, and what they move shows it.
    fn happens_once(&mut self, pair: Pair<'_>) {
        let mut distinct: i64 = 0;
        for (sequence, taken) in pair.device.messages() {
            let Some(acted) = pair.seen.of(sequence).copied() else { continue };
            distinct += 1;
            self.oblige(1);
            if acted.count > 1 {
                let message = format!(
                    "{} acted {} times on message {sequence} of {}; it must not happen twice",
                    self.receiver(pair),
                    acted.count,
                    self.name(pair),
                );
                let acts = [acted.first, acted.again].map(|at| {
                    line(at, self.client(pair), Direction::None, format!("acts on message {sequence}"))
                });
                let lines = [self.lines(pair, sequence, taken), acts.to_vec()].concat();
                self.broken(pair, acted.again.place, Evidence { message, lines });
            }
        }
        self.stands_right(pair, distinct);
    }

    /// What the messages move stands where as many steps as there were distinct messages lead.
    fn stands_right(&mut self, pair: Pair<'_>, distinct: i64) {
        let Some(step) = self.stream.it.step.filter(|_| distinct > 0) else { return };
        let right = distinct.saturating_mul(step);
        let Some((position, at)) = pair.seen.position else {
            if self.world.group(self.stream.group).drained {
                let message = format!("where {} has moved to was not read", self.name(pair));
                self.undecided(pair, Evidence { message, lines: Vec::new() });
            }
            return;
        };
        self.oblige(1);
        if position != right {
            let message = format!(
                "{} has moved to {position} by {distinct} messages of {} that move it by {step} each: {right} would \
                 be right",
                self.receiver(pair),
                self.name(pair),
            );
            let read = line(at, self.client(pair), Direction::None, format!("stands at {position}"));
            self.broken(pair, at.place, Evidence { message, lines: vec![read] });
        }
    }

    /// N4: what was seen last is the newest.
    fn sees_the_newest(&mut self, pair: Pair<'_>) {
        let Some(newest) = pair.device.newest else { return };
        let last = pair.seen.last.map(|(sequence, _)| sequence);
        if pair.seen.end.is_none() && last != Some(newest) {
            if self.world.group(self.stream.group).ended.is_some() {
                self.oblige(1);
                let message = format!(
                    "{} has not seen the newest message of {}, nor the end of its stream: late, or lost",
                    self.receiver(pair),
                    self.name(pair),
                );
                self.undecided(pair, Evidence { message, lines: Vec::new() });
            }
            return;
        }
        self.oblige(1);
        if last == Some(newest) {
            return;
        }
        let saw = last.map_or("nothing".to_owned(), |last| format!("message {last}"));
        let message = format!(
            "what {} saw last of {} is {saw}, and message {newest} is the newest; only the newest counts",
            self.receiver(pair),
            self.name(pair),
        );
        let taken = pair.device.taken.at(newest).copied().unwrap_or_default();
        let mut lines = self.lines(pair, newest, taken);
        let seen = pair.seen.last.map(|(last, at)| (at, format!("acts on message {last}")));
        let end = pair.seen.end.map(|at| (at, "is given the end of the stream".to_owned()));
        let told = seen.into_iter().chain(end);
        lines.extend(told.map(|(at, text)| line(at, self.client(pair), Direction::None, text)));
        self.broken(pair, self.world.now.place, Evidence { message, lines });
    }

    fn oblige(&mut self, count: u64) {
        let version = self.world.group(self.stream.group).version;
        self.ledger.oblige_many(promise(self.need), version, count);
        self.count.obligations += count;
        self.count.verdict = match self.count.verdict {
            Verdict::NotExercised => Verdict::Kept,
            other => other,
        };
    }

    /// It was so at `by`: no fault behind that has a part in it.
    fn broken(&mut self, pair: Pair<'_>, by: Place, evidence: Evidence) {
        self.count.violations += 1;
        self.count.verdict = Verdict::Broken;
        let scope = self.scope(pair);
        self.ledger.broken_by(self.world, promise(self.need), scope, by, || evidence);
    }

    fn undecided(&mut self, pair: Pair<'_>, evidence: Evidence) {
        self.count.verdict = self.count.verdict.max(Verdict::Unknown);
        let scope = self.scope(pair);
        self.ledger.undecided(self.world, promise(self.need), scope, || evidence);
    }

    /// One finding for each stream and receiver.
    fn scope(&self, pair: Pair<'_>) -> Scope {
        let group = self.stream.group;
        let cause = (self.place as u64) << 32 | pair.at as u64;
        Scope { group, version: self.world.group(group).version, cause }
    }

    fn message(&self, pair: Pair<'a>, sequence: u64) -> Option<&'a Message> {
        let message = self.world.stream(pair.sent?).messages.at(sequence)?;
        (message.state != State::NeverSent).then_some(message)
    }

    /// Where a message that did not arrive was lost at the latest.
    fn lost_by(&self, pair: Pair<'a>, sequence: u64, taken: Taken, end: Moment) -> Place {
        let Some(message) = self.message(pair, sequence) else { return taken.at.place };
        if !self.is_there(pair, message) {
            return message.first_sent;
        }
        // A later one has overtaken it.
        let range = sequence.saturating_add(1)..=sequence.saturating_add(LATER_MAX);
        let mut later = range.filter_map(|later| pair.seen.of(later));
        later.next().map_or(end.place, |later| later.first.place)
    }

    /// Whether the receiver was connected when the message was sent.
    fn is_there(&self, pair: Pair<'a>, message: &Message) -> bool {
        pair.client.is_some_and(|ix| self.world.client(ix).was_online(message.first_sent))
    }

    /// What became of a message that did not arrive.
    fn fate(&self, pair: Pair<'a>, sequence: u64) -> String {
        let Some(message) = self.message(pair, sequence) else {
            return match self.stream.it.qos {
                0 => "its device was not connected when it was due, and at QoS 0 nothing is kept".to_owned(),
                _ => "its device never sent it".to_owned(),
            };
        };
        let mut fate = format!(
            "sent at QoS {} while {} was {}",
            self.stream.it.qos,
            self.receiver(pair),
            if self.is_there(pair, message) { "connected" } else { "away" }
        );
        if self.stream.it.qos > 0 && message.acked == 0 {
            fate += ", never acknowledged";
        }
        if self.world.excused_since(message.first_sent) || self.world.restarted_since(message.first_sent) {
            fate += ", before an end of the broker";
        }
        fate
    }

    /// The message at its device, and what the receiver's connections went through around it.
    fn lines(&self, pair: Pair<'a>, sequence: u64, taken: Taken) -> Vec<Line> {
        let message = self.message(pair, sequence);
        let device = pair.sent.map_or("device", |ix| &self.world.client(self.world.stream(ix).client).name);
        let mut lines = vec![line(taken.at, device, Direction::None, format!("takes on message {sequence}"))];
        if let (Some(message), Some(ix)) = (message, pair.sent) {
            let stream = self.world.stream(ix);
            let sent = Moment { place: message.first_sent, at_ns: message.first_sent_ns };
            let text = format!(
                "PUBLISH qos={} topic={} message={}/0/{sequence}",
                stream.qos, stream.topic, pair.publisher
            );
            lines.push(line(sent, device, Direction::Out, text));
            let acked = message.acked_ns().map(|at_ns| Moment { place: message.acked, at_ns });
            lines.extend(acked.map(|acked| line(acked, device, Direction::In, "final acknowledgement")));
        }
        if let Some(ix) = pair.client {
            lines.extend(around(&self.world.client(ix).control, taken.at.place));
        }
        lines
    }

    /// `cooling (…/cooling-2/command, QoS 2)`.
    fn name(&self, pair: Pair<'_>) -> String {
        let it = &self.stream.it;
        match pair.sent {
            Some(ix) => format!("{} ({}, QoS {})", it.stream, self.world.stream(ix).topic, it.qos),
            None => format!("{} (QoS {})", it.stream, it.qos),
        }
    }

    fn client(&self, pair: Pair<'_>) -> &'a str {
        &self.stream.it.receivers[pair.at].client
    }

    /// The receiver's name in its scenario.
    fn receiver(&self, pair: Pair<'_>) -> &'a str {
        short(self.client(pair), &self.world.group(self.stream.group).name)
    }
}

/// What stands behind the scenario's name in a client id.
pub(super) fn short<'a>(client: &'a str, scenario: &str) -> &'a str {
    let name = client.split_once(&format!("-{scenario}-")).map(|(_, name)| name);
    name.unwrap_or(client)
}

/// What happened to a connection last before `place`, and next.
fn around(control: &std::collections::VecDeque<Line>, place: u32) -> impl Iterator<Item = Line> {
    let behind = control.partition_point(|line| line.place <= place);
    control.range(behind.saturating_sub(2)..control.len().min(behind + 3)).cloned()
}
