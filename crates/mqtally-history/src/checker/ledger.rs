//! Obligations, findings and verdicts.

use super::excerpt::{Line, seconds};
use super::world::{ClientIx, GroupIx, Place, World};
use crate::event::Requirement;
use crate::packet::Version;
use crate::promise::{CATALOGUE, PromiseId};
use crate::report::{Excuse, Finding, Promise, Tally, Verdict};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Findings of one promise; what is beyond is counted in the last.
const FINDINGS_MAX: usize = 50;
/// Lines of an excerpt.
const EXCERPT_LINES_MAX: usize = 16;

/// Where something counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) group: GroupIx,
    pub(crate) version: Version,
    /// What tells one cause from another within a promise: a client, a stream, or both.
    pub(crate) cause: u64,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Evidence {
    pub(crate) message: String,
    pub(crate) lines: Vec<Line>,
}

/// Everything that the families came to.
#[derive(Debug)]
pub(crate) struct Ledger {
    obligations: Vec<[u64; 2]>,
    violations: Vec<u64>,
    verdicts: Vec<Verdict>,
    findings: Vec<Vec<Found>>,
    of_key: FxHashMap<(PromiseId, Verdict, Scope), usize>,
    pub(crate) tally: Tally,
    excuses: BTreeMap<&'static str, u64>,
    unknown_because: Vec<String>,
    /// Deliveries that came damaged beyond recognition, by client and topic.
    unrecognised: FxHashMap<(ClientIx, Arc<str>), u64>,
    /// Events are missing from here on: what looks broken may be the gap.
    gap: bool,
}

#[derive(Debug)]
struct Found {
    finding: Finding,
    consequences: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let promises = CATALOGUE.len();
        Self {
            obligations: vec![[0; 2]; promises],
            violations: vec![0; promises],
            verdicts: vec![Verdict::NotExercised; promises],
            findings: (0..promises).map(|_| Vec::new()).collect(),
            of_key: FxHashMap::default(),
            tally: Tally::default(),
            excuses: BTreeMap::new(),
            unknown_because: Vec::new(),
            unrecognised: FxHashMap::default(),
            gap: false,
        }
    }

    /// A message is not judged at a session, for this reason.
    pub(crate) fn excuse(&mut self, reason: &'static str) {
        self.tally.excused += 1;
        *self.excuses.entry(reason).or_default() += 1;
    }

    /// The reasons, in the order of their words.
    pub(crate) fn excuses(&self) -> Vec<Excuse> {
        self.excuses.iter().map(|(reason, count)| Excuse { reason, count: *count }).collect()
    }

    /// A promise was put to the test.
    pub(crate) fn oblige(&mut self, id: PromiseId, version: Version) {
        self.oblige_many(id, version, 1);
    }

    /// A promise was put to the test `count` times.
    pub(crate) fn oblige_many(&mut self, id: PromiseId, version: Version, count: u64) {
        self.obligations[id as usize][version as usize] += count;
    }

    /// A promise was broken, which is one of the times that it was put to the test: those are counted first. `evidence`
    /// is asked for where it is the first of its cause.
    pub(crate) fn broken(
        &mut self,
        world: &World,
        id: PromiseId,
        scope: Scope,
        evidence: impl FnOnce() -> Evidence,
    ) {
        self.broken_by(world, id, scope, world.now.place, evidence);
    }

    /// The same, where it shows now and was so at `place` already: a fault behind that has no part in it.
    pub(crate) fn broken_by(
        &mut self,
        world: &World,
        id: PromiseId,
        scope: Scope,
        place: Place,
        evidence: impl FnOnce() -> Evidence,
    ) {
        let verdict = if self.gap { Verdict::Unknown } else { Verdict::Broken };
        self.find(world, id, verdict, scope, place, evidence);
    }

    /// Something odd that no normative statement forbids.
    pub(crate) fn warn(
        &mut self,
        world: &World,
        id: PromiseId,
        scope: Scope,
        evidence: impl FnOnce() -> Evidence,
    ) {
        self.find(world, id, Verdict::Warn, scope, world.now.place, evidence);
    }

    /// It could not be decided.
    pub(crate) fn undecided(
        &mut self,
        world: &World,
        id: PromiseId,
        scope: Scope,
        evidence: impl FnOnce() -> Evidence,
    ) {
        self.find(world, id, Verdict::Unknown, scope, world.now.place, evidence);
    }

    /// `count` more losses that follow from what was found broken in this scope.
    pub(crate) fn consequence(&mut self, id: PromiseId, scope: Scope, count: u64) {
        for verdict in [Verdict::Broken, Verdict::Unknown] {
            if let Some(at) = self.of_key.get(&(id, verdict, scope)) {
                self.findings[id as usize][*at].consequences += count;
                return;
            }
        }
    }

    /// A message came to `client` on `topic`, and nobody can say which.
    pub(crate) fn unrecognised(&mut self, client: ClientIx, topic: &Arc<str>) {
        *self.unrecognised.entry((client, topic.clone())).or_default() += 1;
    }

    /// Whether a message that is missing may be one that was [damaged](Self::unrecognised); each is one message.
    pub(crate) fn take_unrecognised(&mut self, client: ClientIx, topic: &Arc<str>) -> bool {
        let left = self.unrecognised.get_mut(&(client, topic.clone()));
        left.filter(|left| **left > 0).map(|left| *left -= 1).is_some()
    }

    /// Why the run cannot be judged as a whole.
    pub(crate) fn unknown(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.unknown_because.len() < FINDINGS_MAX && !self.unknown_because.contains(&reason) {
            self.unknown_because.push(reason);
        }
    }

    /// Events are missing: from here on nothing is broken for certain.
    pub(crate) fn incomplete(&mut self, reason: impl Into<String>) {
        self.gap = true;
        self.unknown(reason);
    }

    fn find(
        &mut self,
        world: &World,
        id: PromiseId,
        verdict: Verdict,
        scope: Scope,
        by: Place,
        evidence: impl FnOnce() -> Evidence,
    ) {
        let at = &mut self.verdicts[id as usize];
        *at = (*at).max(verdict);
        if verdict == Verdict::Broken {
            self.violations[id as usize] += 1;
            let (violations, tested) = (self.violations[id as usize], self.obligations[id as usize]);
            debug_assert!(violations <= tested.iter().sum(), "{id:?} was broken and not put to the test");
        }
        let place = u64::from(world.now.place);
        let known = self.of_key.get(&(id, verdict, scope)).copied();
        let findings = &mut self.findings[id as usize];
        let full = (findings.len() >= FINDINGS_MAX).then(|| findings.len() - 1);
        if let Some(at) = known.or(full) {
            findings[at].finding.count += 1;
            findings[at].finding.events[1] = place;
            return;
        }
        self.of_key.insert((id, verdict, scope), findings.len());
        findings.push(Found { finding: finding(world, id, verdict, scope, by, evidence()), consequences: 0 });
    }

    /// Requires that what a run set out to exercise was exercised.
    pub(crate) fn require(&mut self, required: &[Requirement]) {
        for requirement in required {
            let promise = crate::promise::find(&requirement.promise);
            let count = promise.map(|it| self.obligations[it.id as usize][requirement.version as usize]);
            let (id, version) = (&requirement.promise, requirement.version.as_str());
            match count {
                Some(0) => self.unknown(format!("{id} had to be exercised on MQTT {version} and was not")),
                None => self.unknown(format!(
                    "{id} had to be exercised and is no promise of this version's catalogue"
                )),
                Some(_) => {}
            }
        }
    }

    /// The verdict over everything, with the reasons where it is unknown.
    pub(crate) fn verdict(&mut self) -> (Verdict, Vec<String>) {
        for (promise, verdict) in CATALOGUE.iter().zip(self.verdicts.clone()) {
            if verdict == Verdict::Unknown {
                self.unknown(format!("{} could not be decided: {}", promise.id.as_str(), promise.title));
            }
        }
        let reasons = std::mem::take(&mut self.unknown_because);
        let verdict = match self.verdicts.contains(&Verdict::Broken) {
            true => Verdict::Broken,
            false if !reasons.is_empty() => Verdict::Unknown,
            false => Verdict::Kept,
        };
        (verdict, reasons)
    }

    pub(crate) fn promises(&self) -> Vec<Promise> {
        CATALOGUE.iter().map(|it| self.promise(it)).collect()
    }

    fn promise(&self, it: &crate::promise::Promise) -> Promise {
        let by_protocol = self.obligations[it.id as usize];
        let found = self.verdicts[it.id as usize];
        let exercised = by_protocol != [0; 2];
        Promise {
            id: it.id.as_str(),
            title: it.title,
            severity: it.severity,
            verdict: if found == Verdict::NotExercised && exercised { Verdict::Kept } else { found },
            obligations: by_protocol.iter().sum(),
            violations: self.violations[it.id as usize],
            obligations_by_protocol: by_protocol,
            spec: it.spec.to_vec(),
        }
    }

    /// Broken before unknown before warnings, the most severe first, each promise's in the order of the history.
    pub(crate) fn findings(&mut self) -> Vec<Finding> {
        let mut findings: Vec<Finding> =
            std::mem::take(&mut self.findings).into_iter().flatten().map(Found::into_finding).collect();
        findings.sort_by_key(|it| (std::cmp::Reverse(it.verdict), it.severity));
        findings
    }
}

impl Found {
    fn into_finding(self) -> Finding {
        let mut finding = self.finding;
        if self.consequences > 0 {
            let text = format!("; {} acknowledged messages that were owed never arrived", self.consequences);
            finding.message.push_str(&text);
        }
        finding
    }
}

fn finding(
    world: &World,
    id: PromiseId,
    verdict: Verdict,
    scope: Scope,
    by: Place,
    evidence: Evidence,
) -> Finding {
    let group = world.group(scope.group);
    let here = world.now.place;
    let places = || evidence.lines.iter().map(|line| line.place);
    Finding {
        promise: id.as_str(),
        severity: id.promise().severity,
        verdict,
        protocol: scope.version.as_str(),
        group: group.name.to_string(),
        fault: fault_in_force(world, scope.group, by),
        count: 1,
        events: [places().min().unwrap_or(here), places().max().unwrap_or(here)].map(u64::from),
        excerpt: excerpt(&evidence.lines),
        message: evidence.message,
    }
}

/// The lines in the order of their events; where there are too many, the first and the last.
fn excerpt(lines: &[Line]) -> Vec<String> {
    let mut lines: Vec<(Place, &str)> = lines.iter().map(|line| (line.place, line.text.as_str())).collect();
    lines.sort_by_key(|(place, _)| *place);
    lines.dedup();
    if lines.len() > EXCERPT_LINES_MAX {
        let half = EXCERPT_LINES_MAX / 2;
        let left_out = lines.len() - EXCERPT_LINES_MAX;
        let mut texts: Vec<String> = lines[..half].iter().map(|(_, text)| (*text).to_owned()).collect();
        texts.push(format!("          … {left_out} more"));
        texts.extend(lines[lines.len() - half..].iter().map(|(_, text)| (*text).to_owned()));
        return texts;
    }
    lines.into_iter().map(|(_, text)| text.to_owned()).collect()
}

/// The last fault up to `place`.
fn fault_in_force(world: &World, group: GroupIx, place: Place) -> String {
    let mut faults = world.group(group).faults.iter().rev();
    let Some(fault) = faults.find(|fault| fault.at.place <= place) else { return String::new() };
    let at = seconds(fault.at.at_ns);
    match &fault.client {
        Some(client) => format!("{} of {client} at {at}", fault.kind),
        None => format!("{} at {at}", fault.kind),
    }
}
