//! Two runs beside each other: what got better, what got worse.

use super::needs::outcome;
use super::style::{BAD, GOOD, PLAIN};
use super::topics;
use super::words::{self, count, milliseconds};
use anstyle::Style;
use mqtally_history::report::{NeedMet, Percentiles, Report, Stream, Tally, Verdict};
use std::collections::BTreeMap;

/// A latency is worth a line when it changed by this factor, and by this many microseconds.
const FACTOR: f64 = 1.5;
const DIFFERENCE_US: u64 = 500;

/// How a run differs from an earlier one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// What the earlier one is called.
    pub(super) name: String,
    /// Verdicts first, then needs, then counts, then latencies.
    pub(super) changes: Vec<Change>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) what: String,
    pub(super) before: String,
    pub(super) now: String,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Better,
    Worse,
    Other,
}

impl Comparison {
    /// How `now` differs from `before`, which people know as `name`.
    pub(crate) fn new(name: String, before: &Report, now: &Report) -> Comparison {
        let mut changes = verdicts(before, now);
        changes.extend(needs(before, now));
        changes.extend(counts(&before.tally, &now.tally));
        changes.extend(latencies(before, now));
        Comparison { name, changes }
    }
}

impl Change {
    /// `▲` for better, `▼` for worse: the direction of quality, not of the number.
    pub(super) fn sign(&self) -> &'static str {
        match self.kind {
            Kind::Better => "▲",
            Kind::Worse => "▼",
            Kind::Other => "·",
        }
    }

    pub(super) fn style(&self) -> Style {
        match self.kind {
            Kind::Better => GOOD,
            Kind::Worse => BAD,
            Kind::Other => PLAIN,
        }
    }
}

fn verdicts(before: &Report, now: &Report) -> Vec<Change> {
    let change = |what: String, old: Verdict, new: Verdict| {
        (old != new).then(|| Change {
            what,
            before: words::verdict(old).to_owned(),
            now: words::verdict(new).to_owned(),
            kind: kind(rank(new), rank(old)),
        })
    };
    let of_promises = now.promises.iter().filter_map(|promise| {
        let old = before.promises.iter().find(|old| old.id == promise.id)?;
        change(format!("{} {}", promise.id, promise.title), old.verdict, promise.verdict)
    });
    change("verdict".to_owned(), before.verdict, now.verdict).into_iter().chain(of_promises).collect()
}

/// Needs of the same stream that another run of the scenario met, or did not.
fn needs<'a>(before: &'a Report, now: &'a Report) -> impl Iterator<Item = Change> + use<'a> {
    now.needs.needs.iter().filter_map(|need| {
        let same = |old: &&NeedMet| {
            (&old.scenario, old.protocol, &old.stream, old.need)
                == (&need.scenario, need.protocol, &need.stream, need.need)
        };
        let old = before.needs.needs.iter().find(same)?;
        (old.verdict != need.verdict).then(|| Change {
            what: format!(
                "{} on MQTT {}: {} {}",
                need.scenario,
                need.protocol,
                need.stream,
                need.need.word()
            ),
            before: outcome(old.verdict, &old.why),
            now: outcome(need.verdict, &need.why),
            kind: kind(rank(need.verdict), rank(old.verdict)),
        })
    })
}

/// How bad a verdict is. What was not exercised is worse news than what was kept.
fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Kept => 0,
        Verdict::Warn => 1,
        Verdict::NotExercised => 2,
        Verdict::Unknown => 3,
        Verdict::Broken => 4,
    }
}

fn counts(before: &Tally, now: &Tally) -> impl Iterator<Item = Change> {
    let anomalies = [
        ("lost", before.lost, now.lost),
        ("duplicated", before.duplicated, now.duplicated),
        ("reordered", before.reordered, now.reordered),
        ("unexpected", before.unexpected, now.unexpected),
        ("corrupt", before.corrupt, now.corrupt),
        ("unresolved", before.unresolved, now.unresolved),
        ("excused", before.excused, now.excused),
    ];
    anomalies.into_iter().filter(|(_, old, new)| old != new).map(|(word, old, new)| Change {
        what: word.to_owned(),
        before: count(old),
        now: count(new),
        kind: kind(new, old),
    })
}

/// What makes a stream the same in both runs: topics below what a run's topics share.
type Key<'a> = (&'a str, &'a str, &'a str, u8);

fn latencies(before: &Report, now: &Report) -> Vec<Change> {
    let old: BTreeMap<Key<'_>, &Stream> = keyed(before).collect();
    let pairs = keyed(now).filter_map(|(key, stream)| Some((key, *old.get(&key)?, stream)));
    pairs.filter_map(|(key, old, new)| latency(key, latency_of(old), latency_of(new))).collect()
}

fn keyed(report: &Report) -> impl Iterator<Item = (Key<'_>, &Stream)> {
    let shared = topics::shared(report);
    report.streams.iter().map(move |stream| {
        let topic = topics::below(&stream.topic, shared);
        ((stream.group.as_str(), stream.protocol, topic, stream.qos), stream)
    })
}

fn latency_of(stream: &Stream) -> Percentiles {
    if stream.qos == 0 { stream.end_to_end_us } else { stream.ack_latency_us }
}

/// The median alone: it is what a change of code moves, while the tail of a single run is mostly chance.
fn latency((group, protocol, topic, qos): Key<'_>, old: Percentiles, new: Percentiles) -> Option<Change> {
    let (low, high) = (old.p50.min(new.p50), old.p50.max(new.p50));
    #[expect(clippy::cast_precision_loss, reason = "a ratio of latencies")]
    let worth_a_line = low > 0 && high as f64 >= low as f64 * FACTOR && high - low >= DIFFERENCE_US;
    worth_a_line.then(|| Change {
        what: format!("{group} on MQTT {protocol}: p50 of {topic} at QoS {qos}, ms"),
        before: milliseconds(old.p50),
        now: milliseconds(new.p50),
        kind: kind(new.p50, old.p50),
    })
}

/// Less is better.
fn kind<T: Ord + Copy>(now: T, before: T) -> Kind {
    match now.cmp(&before) {
        std::cmp::Ordering::Less => Kind::Better,
        std::cmp::Ordering::Greater => Kind::Worse,
        std::cmp::Ordering::Equal => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn two_equal_runs_do_not_differ() {
        let report = fixture::kept();
        assert!(Comparison::new("a".into(), &report, &report).changes.is_empty());
    }

    #[test]
    fn a_broken_promise_and_its_count_come_before_latencies() {
        let (before, mut now) = (fixture::kept(), fixture::broken());
        now.streams[1].ack_latency_us.p50 *= 100;
        let changes = Comparison::new("a".into(), &before, &now).changes;
        let shown: Vec<String> =
            changes.iter().map(|it| format!("{} {} {}→{}", it.sign(), it.what, it.before, it.now)).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn a_need_that_is_no_longer_met_is_told_with_what_happened() {
        let (mut before, now) = (fixture::needy(), fixture::needy());
        for need in &mut before.needs.needs {
            (need.verdict, need.why) = (Verdict::Kept, "100 of 100 arrived".to_owned());
        }
        let told: Vec<String> = Comparison::new("a".into(), &before, &now)
            .changes
            .iter()
            .map(|it| format!("{} {}: {} → {}", it.sign(), it.what, it.before, it.now))
            .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn a_small_difference_of_latency_is_chance() {
        let (before, mut now) = (fixture::kept(), fixture::kept());
        now.streams[1].ack_latency_us.p50 += DIFFERENCE_US - 1;
        assert!(Comparison::new("a".into(), &before, &now).changes.is_empty());
    }
}
