//! What the report says of needs, rates and advice.

use super::Stream;
use super::judge::{Count, promise};
use crate::checker::world::message::State;
use crate::checker::world::{Group, World};
use crate::marker::MessageId;
use crate::need::{Advice, Need, ReceiverKind, Weight};
use crate::report::{self, Verdict};
use std::collections::BTreeMap;

/// A rate below this share of what was planned was not met.
const MET_FROM: f64 = 0.95;

/// A row for each need of a stream.
pub(super) fn needs(world: &World, stream: &Stream, counts: &BTreeMap<Need, Count>) -> Vec<report::NeedMet> {
    let group = world.group(stream.group);
    let row = |(need, count): (&Need, &Count)| report::NeedMet {
        scenario: group.name.to_string(),
        protocol: group.version.as_str(),
        stream: stream.it.stream.to_string(),
        need: *need,
        promise: promise(*need).as_str(),
        qos: stream.it.qos,
        messages: taken(stream),
        obligations: count.obligations,
        violations: count.violations,
        verdict: count.verdict,
        why: why(stream, *need, count),
    };
    counts.iter().map(row).collect()
}

fn taken(stream: &Stream) -> u64 {
    stream.devices.values().map(|device| device.count).sum()
}

/// What happened, in a sentence without a full stop.
fn why(stream: &Stream, need: Need, count: &Count) -> String {
    let met = count.obligations - count.violations;
    match (count.verdict, need) {
        (Verdict::NotExercised, Need::MayLose) => "too few were sent to say".to_owned(),
        (Verdict::NotExercised, _) => "nobody received it".to_owned(),
        (Verdict::Unknown, _) => "it could not be decided".to_owned(),
        (_, Need::MayLose) => format!("{} of {} arrived", arrived(stream), owed(stream)),
        (_, Need::MustArrive) => format!("{met} of {} arrived", count.obligations),
        (_, Need::MustNotHappenTwice) => happened_twice(stream),
        (_, Need::NewestOnly) => format!("the newest was seen {met} of {} times", count.obligations),
    }
}

fn happened_twice(stream: &Stream) -> String {
    let times = format!("{} ran twice", twice(stream));
    let seen = || stream.devices.values().flat_map(|device| device.seen.values());
    let positions: Vec<i64> = seen().filter_map(|seen| Some(seen.position?.0)).collect();
    match stream.it.step.filter(|_| !positions.is_empty()) {
        Some(step) => {
            let right: i64 = seen().filter(|seen| seen.position.is_some()).map(distinct).sum();
            let moved: i64 = positions.iter().sum();
            format!("{times}, position {moved} of {}", right.saturating_mul(step))
        }
        None => times,
    }
}

/// Messages that somebody acted on more than once.
fn twice(stream: &Stream) -> u64 {
    let seen = stream.devices.values().flat_map(|device| device.seen.values());
    seen.map(|seen| seen.acted.iter().filter(|(_, acted)| acted.count > 1).count() as u64).sum()
}

fn distinct(seen: &super::Seen) -> i64 {
    let acted = seen.acted.iter().filter(|(_, acted)| acted.count > 0).count();
    i64::try_from(acted).unwrap_or(i64::MAX)
}

/// Messages × steady receivers.
fn owed(stream: &Stream) -> u64 {
    let steady = stream.it.receivers.iter().filter(|it| it.kind == ReceiverKind::Steady).count();
    taken(stream).saturating_mul(steady as u64)
}

fn arrived(stream: &Stream) -> u64 {
    let seen = stream.devices.values().flat_map(|device| device.seen.values());
    seen.map(|seen| u64::try_from(distinct(seen)).unwrap_or(0)).sum()
}

/// How fast a stream was to be sent, and was.
pub(super) fn rate(world: &World, stream: &Stream) -> report::Rate {
    let it = &stream.it;
    let group = world.group(stream.group);
    let timing = Timing::of(world, stream);
    let planned = u64::from(it.devices) * u64::from(it.messages);
    let planned_per_s = f64::from(it.devices) * 1e9 / (it.every_ns.max(1) as f64);
    let share = taken(stream) as f64 / planned.max(1) as f64;
    let achieved_per_s = planned_per_s * share * timing.pace(it.every_ns);
    report::Rate {
        scenario: group.name.to_string(),
        protocol: group.version.as_str(),
        stream: it.stream.to_string(),
        planned,
        taken: taken(stream),
        sent: timing.sent,
        planned_per_s: round(planned_per_s),
        achieved_per_s: round(achieved_per_s),
        behind_ms_max: timing.behind_ns_max / 1_000_000,
        met: achieved_per_s >= planned_per_s * MET_FROM,
    }
}

/// To a thousandth, as a person reads it.
fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// When the messages of a stream were due, and when they went out.
#[derive(Default)]
struct Timing {
    sent: u64,
    first_due_ns: Option<u64>,
    last_due_ns: u64,
    last_out_ns: u64,
    behind_ns_max: u64,
}

impl Timing {
    fn of(world: &World, stream: &Stream) -> Self {
        let mut timing = Self::default();
        for (publisher, device) in &stream.devices {
            let first = timing.first_due_ns.unwrap_or(u64::MAX).min(device.first_due_ns);
            timing.first_due_ns = Some(first);
            timing.last_due_ns = timing.last_due_ns.max(device.last_due_ns);
            let id = MessageId { publisher: *publisher, stream: 0, sequence: 0 };
            let messages = world.stream_of(id).map(|ix| &world.stream(ix).messages);
            for (sequence, taken) in device.messages() {
                let sent = messages.and_then(|messages| messages.at(sequence));
                let sent_ns = sent.filter(|it| it.state != State::NeverSent).map(|it| it.first_sent_ns);
                // What was due when its device was not connected has had its time when the device saw that.
                let out_ns = sent_ns.unwrap_or(taken.at.at_ns);
                let due_ns = taken.at.at_ns.saturating_sub(taken.late_ns);
                timing.sent += u64::from(sent_ns.is_some());
                timing.last_out_ns = timing.last_out_ns.max(out_ns);
                timing.behind_ns_max = timing.behind_ns_max.max(out_ns.saturating_sub(due_ns));
            }
        }
        timing
    }

    /// 1 where the last message went out when it was due, less where it was late.
    fn pace(&self, every_ns: u64) -> f64 {
        let first_ns = self.first_due_ns.unwrap_or(0);
        let planned_ns = self.last_due_ns.saturating_sub(first_ns).saturating_add(every_ns);
        let actual_ns = self.last_out_ns.saturating_sub(first_ns).saturating_add(every_ns).max(planned_ns);
        planned_ns as f64 / actual_ns.max(1) as f64
    }
}

/// Adds what is not told yet: a scenario is advised on once for each version.
pub(super) fn note_advice(told: &mut Vec<report::Advised>, group: &Group, advice: &[Advice]) {
    for it in advice {
        let advised = report::Advised {
            scenario: group.name.to_string(),
            stream: it.stream.to_string(),
            subscriber: it.subscriber.as_ref().map(ToString::to_string),
            need: it.need,
            weight: it.weight,
            why: it.why.to_string(),
            change: it.change.to_string(),
            happened: String::new(),
        };
        if !told.contains(&advised) {
            told.push(advised);
        }
    }
}

/// Says of each advice what really happened.
pub(super) fn tell_what_happened(told: &mut report::Needs) {
    let report::Needs { needs, advice, .. } = told;
    for it in advice {
        let of = |row: &&report::NeedMet| {
            row.scenario == it.scenario && row.stream == it.stream && row.need == it.need
        };
        let rows = || needs.iter().filter(of);
        let worst = rows().map(|row| row.verdict).max();
        let head = match (worst, it.weight) {
            (Some(Verdict::Broken), _) => "not met in this run",
            (Some(Verdict::Kept), Weight::Unmet) => "met in this run, by luck",
            (Some(Verdict::Kept), Weight::Hint) => "met in this run",
            _ => "not decided in this run",
        };
        let each: Vec<String> = rows().map(|row| format!("{} on MQTT {}", row.why, row.protocol)).collect();
        it.happened = [vec![head.to_owned()], each].concat().join("; ");
    }
}
