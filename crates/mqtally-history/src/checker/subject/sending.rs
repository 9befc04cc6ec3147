//! What a client under test sends, at first and again: R12, S12 and F6.

use super::wrong::Wrong;
use super::{Answer, Body, Link, Scene, Sending, Session, Written};
use crate::checker::ledger::Ledger;
use crate::marker::Identity;
use crate::packet::{Publish, Version};
use crate::promise::PromiseId;

impl Scene<'_> {
    pub(super) fn published(
        &self,
        session: &mut Session,
        link: &mut Link,
        it: &Publish,
        ledger: &mut Ledger,
    ) {
        self.judge_quota(link, it.packet_id, ledger);
        let body = body(it);
        let same = session.outbound.get(&it.packet_id).copied().filter(|entry| entry.body == body);
        match same {
            Some(entry) => self.judge_again(link, it, &entry, ledger),
            None => self.judge_fresh(session, link, it, body, ledger),
        }
        let fresh = Sending {
            body,
            qos: it.qos,
            first: self.world.now,
            connection: self.at,
            released: false,
            acked: None,
            done: None,
        };
        let entry = same.map_or(fresh, |entry| Sending { connection: self.at, ..entry });
        session.outbound.insert(it.packet_id, entry);
    }

    /// F6.
    fn judge_quota(&self, link: &mut Link, id: u16, ledger: &mut Ledger) {
        if self.version != Version::V5_0 || link.maximum == 0 {
            return;
        }
        link.unfinished.insert(id);
        let unfinished = link.unfinished.len();
        ledger.oblige_many(PromiseId::F6, self.version, u64::from(unfinished >= link.maximum));
        if unfinished > link.maximum {
            let packet =
                format!("PUBLISH id {id}; {unfinished} unfinished, receive maximum {}", link.maximum);
            self.broken_at(PromiseId::F6, Wrong::AboveReceiveMaximum, (&packet, "PUBLISH", id), None, ledger);
        }
    }

    /// The same message with the same id once more.
    fn judge_again(&self, link: &mut Link, it: &Publish, entry: &Sending, ledger: &mut Ledger) {
        let id = it.packet_id;
        let read = |written: Option<Written>| {
            written.is_some_and(|it| it.read || (it.connection == self.at && it.at <= link.read_up_to))
        };
        ledger.oblige(PromiseId::R12, self.version);
        if entry.released {
            return self.broken12(Wrong::AgainAfterPubrel, id, entry.first, ledger);
        }
        if read(entry.acked) || read(entry.done) {
            return self.broken12(Wrong::AgainAfterAcknowledgement, id, entry.first, ledger);
        }
        if entry.connection == self.at {
            let wrong = Wrong::TwiceOnOneConnection;
            return match self.version {
                Version::V5_0 => self.broken12(wrong, id, entry.first, ledger),
                Version::V3_1_1 => self.warn12(wrong, id, entry.first, ledger),
            };
        }
        if !it.dup {
            self.broken12(Wrong::AgainWithoutDup, id, entry.first, ledger);
        }
        if entry.first.place < link.again {
            ledger.oblige(PromiseId::R12, self.version);
            self.broken12(Wrong::AgainOutOfOrder, id, entry.first, ledger);
        }
        link.again = link.again.max(entry.first.place);
    }

    fn judge_fresh(
        &self,
        session: &mut Session,
        link: &mut Link,
        it: &Publish,
        body: Body,
        ledger: &mut Ledger,
    ) {
        let id = it.packet_id;
        if it.dup && link.stale.get(&id).is_some_and(|entry| entry.body == body) {
            return self.judge_stale("PUBLISH", id, ledger);
        }
        let in_use = session.outbound.get(&id).filter(|entry| entry.done.is_none());
        if let Some(entry) = in_use {
            ledger.oblige(PromiseId::R12, self.version);
            self.broken12(Wrong::IdInUse, id, entry.first, ledger);
        }
        // The broker has answered with PUBREC and waits for PUBREL: until then the id means the old message to it.
        let forgotten = session.forgotten.remove(&id);
        let taken = forgotten.filter(|old| {
            let held = old.qos == 2 && it.qos == 2 && old.acked.is_some() && old.done.is_none();
            held && !old.released && old.body != body && link.resumed
        });
        if let Some(old) = taken {
            ledger.oblige(PromiseId::R12, self.version);
            self.warn12(Wrong::IdOfAnotherLife, id, old.first, ledger);
        }
        let in_use = in_use.is_some();
        let old = session.outbound.iter().find(|(other, entry)| {
            let unacknowledged = entry.done.is_none() && entry.acked.is_none() && entry.connection != self.at;
            **other != id && matches!(body, Body::Marked(_)) && entry.body == body && unacknowledged
        });
        if let Some((_, entry)) = old.filter(|_| link.resumed) {
            ledger.oblige(PromiseId::R12, self.version);
            return self.broken12(Wrong::AgainWithAnotherId, id, entry.first, ledger);
        }
        let finished = session.finished.remove(&id).filter(|entry| it.dup && entry.body == body);
        if let Some(entry) = finished {
            ledger.oblige(PromiseId::R12, self.version);
            return self.broken12(Wrong::AgainAfterAcknowledgement, id, entry.first, ledger);
        }
        // What it wrote into a dead connection nobody has seen; but that is sent again before anything new.
        if it.dup && link.fresh && !in_use && forgotten.is_none() {
            self.warn12(Wrong::FirstTimeWithDup, id, self.world.now, ledger);
        }
        link.fresh |= !it.dup;
    }

    /// S12: 3.1.1 does not say it.
    fn judge_stale(&self, what: &str, id: u16, ledger: &mut Ledger) {
        if self.version == Version::V5_0 {
            ledger.oblige(PromiseId::S12, self.version);
            self.broken(PromiseId::S12, Wrong::OldSession, what, id, None, ledger);
        }
    }

    pub(super) fn released(&self, session: &mut Session, link: &mut Link, id: u16, ledger: &mut Ledger) {
        self.judge_in_order(link, (Answer::Pubrel, id), ledger);
        let Some(entry) = session.outbound.get_mut(&id) else {
            if link.stale.get(&id).is_some_and(|entry| entry.qos == 2) {
                self.judge_stale("PUBREL", id, ledger);
            }
            return;
        };
        let unasked = entry.qos == 2 && entry.acked.is_none();
        ledger.oblige_many(PromiseId::R12, self.version, u64::from(unasked || entry.connection != self.at));
        if unasked {
            self.broken(PromiseId::R12, Wrong::PubrelWithoutPubrec, "PUBREL", id, Some(entry.first), ledger);
        }
        if let Some(acked) = &mut entry.acked {
            acked.read = true;
        }
        entry.released = true;
        entry.connection = self.at;
    }

    /// R12: what a resumed session owes and did not send again.
    pub(super) fn judge_debts(&self, session: &Session, ledger: &mut Ledger) {
        for (id, entry) in session.outbound.iter().filter(|(_, entry)| entry.done.is_none()) {
            if entry.connection != self.at {
                ledger.oblige(PromiseId::R12, self.version);
                let (wrong, packet) = match entry.released {
                    true => (Wrong::NeverPubrelAgain, "PUBREL"),
                    false => (Wrong::NeverPublishAgain, "PUBLISH"),
                };
                self.broken(PromiseId::R12, wrong, packet, *id, Some(entry.first), ledger);
            }
        }
    }
}

fn body(it: &Publish) -> Body {
    match it.identity {
        Identity::Ours(marker) => Body::Marked(marker.message),
        _ => Body::Unmarked(it.payload_crc, it.payload_len),
    }
}
