//! What the proxy has been told to do, and whom it is doing it to. It decides; others carry it out.

use super::Ending;
use super::fault::{Fault, Refusal};
use super::moment::{Moment, Place};
use super::note::{Note, Strike, Watch};
use super::rule::{Rule, Scope};
use super::seen::{Peer, Seen};
use bytestring::ByteString;
use mqtally_proto::Time;
use std::collections::BTreeMap;
use std::fmt;

/// Rules at once; each packet is held against each of them.
const RULES_MAX: usize = 1_024;
/// Bytes of client ids whose connections are counted.
const CLIENT_BYTES_MAX: usize = 16 << 20;
/// What an entry of that count takes beside the id itself, about.
const CLIENT_OVERHEAD: usize = 64;

/// The number of a rule of one proxy, from 1; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a rule was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// It makes no sense; the text says why.
    #[error("{0}")]
    Senseless(&'static str),
    /// There are too many already; those that have struck stay until they are removed.
    #[error("there are {RULES_MAX} rules already; remove those that have struck")]
    Full,
}

/// One rule and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its number.
    pub id: RuleId,
    /// The rule.
    pub rule: Rule,
    /// How often it struck.
    pub strikes: u32,
    /// It will not strike again; a fault that lasts may still be in force.
    pub is_spent: bool,
}

/// What becomes of a connection that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It is served; the peer is what the link begins with.
    Serve(Peer),
    /// It is closed at once.
    Refuse(Ending),
}

/// All rules of a proxy, and its open links.
#[derive(Default)]
pub struct Rules {
    entries: Vec<Entry>,
    links: BTreeMap<u64, Open>,
    clients: BTreeMap<ByteString, u32>,
    client_bytes: usize,
    rules_added: u32,
    links_opened: u64,
    generation: u64,
    watch: Option<Watch>,
}

struct Entry {
    id: RuleId,
    rule: Rule,
    awaited: Option<Moment>,
    added_at: Time,
    /// Packets that matched since it struck last.
    seen: u32,
    strikes: u32,
    /// A refusal that a packet set off: until when.
    refuses_until: Option<Until>,
}

/// A link as far as others than itself need to know it.
struct Open {
    peer: Peer,
    /// It is to end: by hand.
    cut: Option<Ending>,
}

/// The end of something that lasts; `None` is never.
pub(super) type Until = Option<Time>;

/// A rule that strikes at the packet in question.
#[derive(Debug, Clone)]
pub(super) struct Struck {
    pub(super) rule: RuleId,
    pub(super) fault: Fault,
    pub(super) place: Place,
    pub(super) until: Until,
}

/// A fault that is in force on a link.
#[derive(Debug, Clone)]
pub(super) struct InForce {
    pub(super) rule: RuleId,
    pub(super) fault: Fault,
    pub(super) until: Until,
}

impl Rules {
    /// No rules. `watch` is told of everything that happens.
    pub fn new(watch: Option<Watch>) -> Self {
        Self { watch, ..Self::default() }
    }

    /// Adds a rule; it applies from now on, also to open links.
    ///
    /// # Errors
    /// It makes no sense, or there are too many.
    pub fn add(&mut self, rule: Rule, now: Time) -> Result<RuleId, RulesError> {
        rule.check().map_err(RulesError::Senseless)?;
        if self.entries.len() >= RULES_MAX {
            return Err(RulesError::Full);
        }
        self.rules_added += 1;
        let id = RuleId(self.rules_added);
        let awaited = rule.awaited();
        self.entries.push(Entry {
            id,
            rule,
            awaited,
            added_at: now,
            seen: 0,
            strikes: 0,
            refuses_until: None,
        });
        self.generation += 1;
        Ok(id)
    }

    /// Removes a rule and lifts what it put in force.
    pub fn remove(&mut self, id: RuleId) -> Option<Rule> {
        let index = self.entries.iter().position(|entry| entry.id == id)?;
        self.generation += 1;
        Some(self.entries.remove(index).rule)
    }

    /// All rules, in the order in which they were added.
    pub fn list(&self) -> Vec<Listed> {
        let listed = |entry: &Entry| Listed {
            id: entry.id,
            rule: entry.rule.clone(),
            strikes: entry.strikes,
            is_spent: entry.is_used_up(),
        };
        self.entries.iter().map(listed).collect()
    }

    /// The links that are open.
    pub fn links(&self) -> Vec<Peer> {
        self.links.values().map(|open| open.peer.clone()).collect()
    }

    /// Cuts the open links in this scope, now; returns how many. Conditions on packets are not looked at.
    pub fn cut(&mut self, scope: &Scope, ending: Ending, now: Time) -> usize {
        let struck: Vec<&mut Open> =
            self.links.values_mut().filter(|open| scope.has_peer(&open.peer)).collect();
        let count = struck.len();
        for open in struck {
            open.cut = Some(ending);
            if let Some(watch) = &self.watch {
                let strike = by_hand(now, scope, ending, &open.peer);
                watch(now, &Note::Strike(&strike));
            }
        }
        self.generation += 1;
        count
    }

    /// Changes whenever links have to look again at what is in force.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Decides about a connection that was accepted. Whoever serves it says [`closed`](Self::closed) at its end.
    pub fn admit(&mut self, now: Time) -> Admission {
        let refusal = self.entries.iter_mut().find_map(|entry| {
            let Fault::Refuse(refuse) = &entry.rule.fault else { return None };
            let Refusal::Close(ending) = refuse.how else { return None };
            entry.refuses(now).then_some((entry, ending))
        });
        if let Some((entry, ending)) = refusal {
            entry.strikes += u32::from(entry.awaited.is_none());
            let strike = Strike::new(now, entry.id, &entry.rule, None);
            self.note(now, &Note::Strike(&strike));
            self.note(now, &Note::Refused);
            return Admission::Refuse(ending);
        }
        self.links_opened += 1;
        let peer = Peer::new(self.links_opened);
        self.links.insert(peer.link, Open { peer: peer.clone(), cut: None });
        Admission::Serve(peer)
    }

    /// A link is over; `by` tells how, where it was the proxy that ended it.
    pub fn closed(&mut self, peer: &Peer, by: Option<Ending>, now: Time) {
        self.links.remove(&peer.link);
        self.note(now, &Note::Closed { peer, by });
    }

    /// The rule that keeps the proxy from listening, if one does.
    pub(super) fn unlistened_by(&self, now: Time) -> Option<RuleId> {
        let unlistens = |entry: &&Entry| {
            matches!(&entry.rule.fault, Fault::Refuse(refuse) if refuse.how == Refusal::Unlisten)
                && entry.refuses(now)
        };
        self.entries.iter().find(unlistens).map(|entry| entry.id)
    }

    /// When the next refusal ends by itself.
    pub(super) fn refusals_change_at(&self, now: Time) -> Option<Time> {
        let refusals = self.entries.iter().filter(|entry| entry.refuses(now));
        refusals.filter_map(|entry| entry.refusal_end().flatten()).min()
    }

    /// A rule took effect that no packet set off; `peer` is whom it struck.
    pub(super) fn strike(&mut self, id: RuleId, peer: Option<&Peer>, now: Time) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { return };
        entry.strikes += 1;
        let strike = Strike::new(now, id, &entry.rule, peer);
        self.note(now, &Note::Strike(&strike));
    }

    /// Counts the connection of the client that the link turned out to have.
    pub(super) fn identify(&mut self, peer: &mut Peer, client: &ByteString) {
        // A copy of its own: the packet's memory must not stay for it.
        let client = ByteString::from(&**client);
        peer.connection = self.count_connection(&client);
        peer.client = Some(client);
        if let Some(open) = self.links.get_mut(&peer.link) {
            open.peer = peer.clone();
        }
    }

    fn count_connection(&mut self, client: &ByteString) -> Option<u32> {
        if let Some(count) = self.clients.get_mut(client) {
            *count = count.saturating_add(1);
            return Some(*count);
        }
        let bytes = client.len() + CLIENT_OVERHEAD;
        if self.client_bytes + bytes > CLIENT_BYTES_MAX {
            return None;
        }
        self.client_bytes += bytes;
        self.clients.insert(client.clone(), 1);
        Some(1)
    }

    /// Counts a packet and tells which rules strike at it: any number of faults that last, and at most one that does
    /// not. Another one of these has its turn at the next packet that matches.
    pub(super) fn packet(&mut self, peer: &Peer, seen: &Seen, now: Time) -> Vec<Struck> {
        let mut struck = Vec::new();
        let mut has_final = false;
        let mut refuses = false;
        for entry in &mut self.entries {
            let Some(moment) = entry.awaited_by(peer, seen) else { continue };
            entry.seen = entry.seen.saturating_add(1);
            let lasts = entry.rule.fault.lasts();
            if entry.seen < moment.nth || (has_final && !lasts) {
                continue;
            }
            has_final |= !lasts;
            entry.seen = 0;
            entry.strikes += 1;
            let until = entry.rule.lasting_ms.map(|ms| now.plus_ms(ms));
            if matches!(entry.rule.fault, Fault::Refuse(_)) {
                entry.refuses_until = Some(until);
                refuses = true;
            }
            struck.push(Struck {
                rule: entry.id,
                fault: entry.rule.fault.clone(),
                place: moment.place,
                until,
            });
            if let Some(watch) = &self.watch {
                watch(now, &Note::Strike(&Strike::new(now, entry.id, &entry.rule, Some(peer))));
            }
        }
        // The listener has to look.
        self.generation += u64::from(refuses);
        struck
    }

    /// The faults that no packet has to set off and that are in force on this link.
    pub(super) fn standing(&self, peer: &Peer, now: Time) -> Vec<InForce> {
        let in_force = |entry: &Entry| {
            let until = entry.standing_until()?;
            let is_over = until.is_some_and(|until| until <= now);
            (!is_over && entry.rule.scope.has_peer(peer)).then(|| InForce {
                rule: entry.id,
                fault: entry.rule.fault.clone(),
                until,
            })
        };
        self.entries.iter().filter_map(in_force).collect()
    }

    pub(super) fn has(&self, id: RuleId) -> bool {
        self.entries.iter().any(|entry| entry.id == id)
    }

    /// How the link is to be ended, if somebody said so.
    pub(super) fn cut_of(&self, peer: &Peer) -> Option<Ending> {
        self.links.get(&peer.link).and_then(|open| open.cut)
    }

    pub(super) fn note(&self, now: Time, note: &Note<'_>) {
        if let Some(watch) = &self.watch {
            watch(now, note);
        }
    }
}

impl Entry {
    /// The moment that this packet is one of the candidates for.
    fn awaited_by(&self, peer: &Peer, seen: &Seen) -> Option<Moment> {
        let moment = self.awaited?;
        let scope = &self.rule.scope;
        let is_candidate =
            !self.is_used_up() && moment.matches(seen) && scope.has_peer(peer) && scope.has_packet(seen);
        is_candidate.then_some(moment)
    }

    fn is_used_up(&self) -> bool {
        self.rule.times_max().is_some_and(|max| self.strikes >= max)
    }

    /// Until when it is in force of itself; the outer `None`: it is not.
    fn standing_until(&self) -> Option<Until> {
        let is_standing = self.rule.fault.lasts() && self.awaited.is_none() && !self.is_used_up();
        is_standing.then(|| self.rule.lasting_ms.map(|ms| self.added_at.plus_ms(ms)))
    }

    fn refusal_end(&self) -> Option<Until> {
        let is_refusal = matches!(self.rule.fault, Fault::Refuse(_));
        is_refusal.then(|| self.refuses_until.or_else(|| self.standing_until())).flatten()
    }

    fn refuses(&self, now: Time) -> bool {
        self.refusal_end().is_some_and(|until| until.is_none_or(|until| until > now))
    }
}

fn by_hand(now: Time, scope: &Scope, ending: Ending, peer: &Peer) -> Strike {
    Strike {
        at: now,
        rule: None,
        kind: "cut-now",
        text: format!("cut {ending}{scope}"),
        is_lawful: true,
        peer: Some(peer.clone()),
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("rules", &self.list())
            .field("links", &self.links())
            .finish_non_exhaustive()
    }
}
