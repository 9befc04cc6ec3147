//! Retained messages: the last one of each topic, for subscriptions to come.

use super::stored::{Change, Message};
use crate::Time;
use crate::topic;
use bytestring::ByteString;
use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Retained {
    by_topic: BTreeMap<ByteString, Arc<Message>>,
    /// When the expired ones were last swept out for want of room.
    swept_at: Time,
}

impl Retained {
    /// Whether `message` can be retained: it replaces or clears one, or there is room.
    pub(super) fn has_room(
        &mut self,
        message: &Message,
        max: usize,
        now: Time,
        changes: &mut Vec<Change>,
    ) -> bool {
        if message.payload.is_empty()
            || self.by_topic.contains_key(&message.topic)
            || self.by_topic.len() < max
        {
            return true;
        }
        if now.ms_since(self.swept_at) >= 1_000 {
            self.swept_at = now;
            self.by_topic.retain(|topic, kept| {
                let expired = kept.is_expired(now);
                if expired {
                    changes.push(Change::RemoveRetained(topic.clone()));
                }
                !expired
            });
        }
        self.by_topic.len() < max
    }

    /// Takes in a message that was published with RETAIN: it replaces the topic's, or clears it when it has no payload
    /// `[MQTT-3.3.1-5]`, `[MQTT-3.3.1-6]`, `[MQTT-3.3.1-7]`.
    pub(super) fn put(&mut self, message: &Arc<Message>, changes: &mut Vec<Change>) {
        if message.payload.is_empty() {
            if self.by_topic.remove(&message.topic).is_some() {
                changes.push(Change::RemoveRetained(message.topic.clone()));
            }
            return;
        }
        self.by_topic.insert(message.topic.clone(), message.clone());
        changes.push(Change::PutRetained(message.clone()));
    }

    /// Takes in what a store kept.
    pub(super) fn restore(&mut self, message: Arc<Message>) {
        self.by_topic.insert(message.topic.clone(), message);
    }

    /// The unexpired messages whose topics match `filter`, by topic.
    pub(super) fn matching<'a>(
        &'a self,
        filter: &'a str,
        now: Time,
    ) -> impl Iterator<Item = &'a Arc<Message>> {
        // Every match begins with what stands before the first wildcard; "a/#" matches "a" too.
        let wildcard = filter.find(['+', '#']);
        let literal = wildcard.map_or(filter, |at| filter[..at].trim_end_matches('/'));
        let end = if wildcard.is_some() { Unbounded } else { Included(literal) };
        self.by_topic
            .range::<str, _>((Included(literal), end))
            .take_while(move |(topic, _)| topic.starts_with(literal))
            .map(|(_, message)| message)
            .filter(move |message| topic::matches(filter, &message.topic) && !message.is_expired(now))
    }

    /// All of them, by topic.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.by_topic.values()
    }
}
