//! A session's subscriptions over time.

use super::topic;
use super::{Moment, NEVER, Place};
use crate::packet::Filter;
use std::sync::Arc;

/// One filter of one session from SUBSCRIBE to its end.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) filter: Arc<str>,
    pub(crate) shared: bool,
    /// SUBACK received: from here on it is certain.
    pub(crate) active: Place,
    /// Not certain any more: UNSUBSCRIBE sent, or its session in doubt.
    pub(crate) until: Place,
    /// Certainly over.
    pub(crate) gone: Place,
    pub(crate) end: End,
    /// The broker ended last in a way that its profile does not cover: what was answered before may be undone.
    pub(crate) fell_back: Place,
    /// What was asked for and granted, one entry a SUBSCRIBE.
    pub(crate) grants: Vec<Grant>,
}

/// Why a subscription is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It is not.
    Open,
    /// UNSUBSCRIBE.
    Unsubscribed,
    /// SUBACK refused it.
    Refused,
    /// A clean start discarded it, or its clean session ended.
    Discarded,
    /// Nobody knows: the session was lost, or its client forgot it.
    Doubtful,
}

/// The options of one SUBSCRIBE.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grant {
    pub(crate) asked: Place,
    pub(crate) asked_ns: u64,
    pub(crate) answered: Place,
    pub(crate) asked_qos: u8,
    /// None until SUBACK.
    pub(crate) granted: Option<u8>,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retain_handling: u8,
    /// Subscription identifier.
    pub(crate) identifier: Option<u32>,
}

impl Subscription {
    /// A filter that a SUBSCRIBE asks for.
    pub(crate) fn asked(filter: &Filter, identifier: Option<u32>, now: Moment) -> Self {
        let mut it = Self {
            filter: Arc::clone(&filter.filter),
            shared: topic::unshared(&filter.filter).1,
            active: NEVER,
            until: NEVER,
            gone: NEVER,
            end: End::Open,
            fell_back: 0,
            grants: Vec::new(),
        };
        it.ask_again(filter, identifier, now);
        it
    }

    /// The same filter is asked for again; old and new options are both right until SUBACK.
    pub(crate) fn ask_again(&mut self, filter: &Filter, identifier: Option<u32>, now: Moment) {
        self.grants.push(Grant {
            asked: now.place,
            asked_ns: now.at_ns,
            answered: NEVER,
            asked_qos: filter.qos,
            granted: None,
            no_local: filter.no_local,
            retain_as_published: filter.retain_as_published,
            retain_handling: filter.retain_handling,
            identifier,
        });
    }

    /// SUBACK's code for what was asked at `asked`.
    pub(crate) fn answered(&mut self, asked: Place, code: u8, now: Place) {
        if code >= 0x80 {
            return self.refused(asked, now);
        }
        // A SUBSCRIBE may name a filter twice.
        let open = |grant: &&mut Grant| grant.asked == asked && grant.granted.is_none();
        let Some(grant) = self.grants.iter_mut().find(open) else { return };
        grant.answered = now;
        grant.granted = Some(code);
        self.active = self.active.min(now);
    }

    fn refused(&mut self, asked: Place, now: Place) {
        let open = self.grants.iter().position(|grant| grant.asked == asked && grant.granted.is_none());
        open.map(|at| self.grants.remove(at));
        if self.grants.is_empty() {
            self.close(End::Refused, now);
        }
    }

    /// It stops being certain.
    pub(crate) fn doubt(&mut self, now: Place) {
        self.until = self.until.min(now);
    }

    /// It is over.
    pub(crate) fn close(&mut self, end: End, now: Place) {
        self.doubt(now);
        if self.end == End::Open {
            self.gone = now;
            self.end = end;
        }
    }

    /// Whether it was over at `now`, and nothing may have brought it back.
    pub(crate) fn is_over(&self, now: Place) -> bool {
        self.gone <= now && self.gone > self.fell_back
    }

    /// Whether its filter matches.
    pub(crate) fn matches(&self, topic: &str) -> bool {
        topic::matches(topic::unshared(&self.filter).0, topic)
    }

    /// Its grants that can have been in force at some time between `from` and `now`: those asked for by then, and not
    /// replaced by one that was answered before.
    pub(crate) fn grants_between(&self, from: Place, now: Place) -> impl Iterator<Item = &Grant> {
        self.grants
            .iter()
            .enumerate()
            .filter(move |(at, grant)| {
                let mut later = self.grants[at + 1..].iter();
                let replaced = later.any(|next| next.answered <= from && next.answered > self.fell_back);
                grant.asked <= now && !replaced
            })
            .map(|(_, grant)| grant)
    }

    /// Whether it was certain during the whole time.
    pub(crate) fn covers(&self, from: Place, to: Place) -> bool {
        self.active < from && to < self.until
    }
}
