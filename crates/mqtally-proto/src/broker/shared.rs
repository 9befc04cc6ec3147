//! Shared subscriptions (5.0 section 4.8.2): each message goes to one member of a group.
//!
//! Members take turns. One that can take the message at once goes before one that is away or full. A message stays with
//! its member; when the member's session ends, what it had not received goes to another member, except QoS 2
//! messages whose delivery had begun `[MQTT-4.8.2-5]`.

use super::Broker;
use super::deliver::{Delivery, Hop, Parcel};
use super::router::Grant;
use super::sessions::{Session, SessionKey};
use crate::Time;
use crate::packet::Qos;
use crate::topic::{self, Shared};
use bytestring::ByteString;
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

/// The parts of a shared filter; `None` for an ordinary one. 3.1.1 does not know them, but has no other use for such a
/// filter either: it may share, too.
pub(super) fn shared(filter: &str) -> Option<Shared<'_>> {
    Shared::parse(filter).ok().flatten()
}

/// The members of one shared subscription.
#[derive(Debug)]
pub(super) struct Group {
    name: Box<str>,
    members: BTreeMap<SessionKey, Grant>,
    /// Who had the last turn.
    last: Option<SessionKey>,
}

impl Group {
    /// The group with this name, new when there is none.
    pub(super) fn named<'a>(groups: &'a mut Vec<Self>, name: &str) -> &'a mut Self {
        let at = groups.iter().position(|group| group.is_named(name)).unwrap_or_else(|| {
            groups.push(Self { name: name.into(), members: BTreeMap::new(), last: None });
            groups.len() - 1
        });
        &mut groups[at]
    }

    /// Removes a member, and the group when it was the last one.
    pub(super) fn leave(groups: &mut Vec<Self>, name: &str, session: SessionKey) {
        groups.retain_mut(|group| {
            if group.is_named(name) {
                group.members.remove(&session);
            }
            !group.members.is_empty()
        });
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        *self.name == *name
    }

    pub(super) fn insert(&mut self, session: SessionKey, grant: Grant) {
        self.members.insert(session, grant);
    }

    /// The member whose turn it is among those of the highest rank.
    pub(super) fn choose(&mut self, rank: &impl Fn(SessionKey, Qos) -> u8) -> Option<(SessionKey, Grant)> {
        let after = self.members.range((self.last.map_or(Unbounded, Excluded), Unbounded));
        let in_turn = after.chain(&self.members).take(self.members.len());
        let mut best: Option<(u8, SessionKey, Grant)> = None;
        for (&session, &grant) in in_turn {
            let rank = rank(session, grant.qos);
            if best.is_none_or(|(highest, ..)| rank > highest) {
                best = Some((rank, session, grant));
            }
            if rank == READY {
                break;
            }
        }
        let (_, session, grant) = best?;
        self.last = Some(session);
        Some((session, grant))
    }
}

/// The rank of a member that can be sent the message at once; no rank is higher.
pub(super) const READY: u8 = 3;

impl Broker {
    /// Gives the unfinished shared messages of a session that has ended to other members.
    pub(super) fn move_shared(&mut self, now: Time, ended: &mut Session) {
        let (groups, ordinary): (Vec<ByteString>, Vec<ByteString>) =
            ended.subscriptions.keys().cloned().partition(|filter| shared(filter).is_some());
        if groups.is_empty() {
            return;
        }
        for delivery in ended.take_movable() {
            let topic = &*delivery.message.topic;
            let selects = |filter: &&ByteString| match shared(filter) {
                Some(shared) => topic::matches(shared.filter, topic),
                None => topic::matches(filter, topic),
            };
            // A copy that an ordinary subscription accounts for was this session's alone.
            let is_own = ordinary.iter().any(|filter| selects(&filter));
            if let Some(group) = groups.iter().find(selects)
                && !is_own
                && !delivery.message.is_expired(now)
            {
                self.move_to_member(now, group, &delivery);
            }
            self.ledger.release(&delivery, ended.is_durable());
        }
    }

    fn move_to_member(&mut self, now: Time, filter: &str, delivery: &Delivery) {
        let message = &delivery.message;
        let limits = &self.config.limits;
        let sessions = &self.sessions;
        let rank = |key, qos| sessions[key].rank(message, message.qos.min(qos), limits);
        let Some(target) = self.router.choose_member(filter, rank) else { return };
        let hop = Hop {
            qos: message.qos.min(target.qos),
            retain: message.retain && target.retain_as_published,
            identifiers: target.identifiers,
        };
        let session = &mut self.sessions[target.session];
        if session.has_room(message, hop.qos, limits) {
            let mut parcel = Parcel::again(delivery);
            session.deliver(now, &mut parcel, hop, &mut self.ledger);
        }
    }
}
