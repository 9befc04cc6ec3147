//! Types to bodies.

use super::tags::{self, Plain, identity, packet};
use super::{INTERNED_LEN_MAX, INTERNED_MAX};
use crate::event::{Counters, Event, EventKind, Header};
use crate::marker::{Identity, MessageId};
use crate::need::{Advice, Declaration};
use crate::packet::{Connack, Connect, Packet, Publish, PublishProperties, Subscribe, Unavailable};
use crate::profile::{Measured, Survival};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Builds one body after the other in the same buffer.
#[derive(Debug, Default)]
pub(in super::super) struct Encoder {
    out: Vec<u8>,
    texts: FxHashMap<Arc<str>, u32>,
    last_ns: u64,
}

/// Appends `value` in groups of seven bits, the lowest first.
pub(in super::super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Encoder {
    /// The body built last.
    pub(in super::super) fn body(&self) -> &[u8] {
        &self.out
    }

    /// Builds the body of the end record.
    pub(in super::super) fn end(&mut self) {
        self.begin(tags::END);
    }

    /// Builds the body of the header record.
    pub(in super::super) fn header(&mut self, header: &Header) {
        self.begin(tags::HEADER);
        self.text(&header.program);
        self.number(header.run);
        self.number(header.seed);
        self.plain(header.broker_kind);
        self.text(&header.broker_name);
        self.plain(header.profile);
        self.number(header.required.len() as u64);
        for requirement in &header.required {
            self.text(&requirement.promise);
            self.plain(requirement.version);
        }
        self.flag(header.measured.is_some());
        header.measured.iter().for_each(|measured| self.measured(measured));
    }

    fn measured(&mut self, Measured { profile, because, stopped, killed }: &Measured) {
        self.flag(profile.is_some());
        profile.iter().for_each(|profile| self.plain(*profile));
        self.text(because);
        for survival in [stopped, killed] {
            self.flag(survival.is_some());
            if let Some(Survival { acknowledged, lost, lost_ms, retained_lost, session_present }) = survival {
                self.number(*acknowledged);
                self.number(*lost);
                self.number(*lost_ms);
                self.flag(*retained_lost);
                self.flag(*session_present);
            }
        }
    }

    /// Builds the body of an event's record.
    pub(in super::super) fn event(&mut self, event: &Event) {
        self.out.clear();
        self.kind(&event.kind, zigzag(event.at_ns.wrapping_sub(self.last_ns)));
        self.last_ns = event.at_ns;
    }

    fn kind(&mut self, kind: &EventKind, delta: u64) {
        match kind {
            EventKind::GroupStarted { group, version } => {
                self.tag(tags::GROUP_STARTED, delta);
                self.interned(group);
                self.plain(*version);
            }
            EventKind::GroupEnded { group, drained } => {
                self.tag(tags::GROUP_ENDED, delta);
                self.interned(group);
                self.flag(*drained);
            }
            EventKind::Opened { connection, client, version, role } => {
                self.tag(tags::OPENED, delta);
                self.number(connection.0);
                self.interned(client);
                self.plain(*version);
                self.plain(*role);
            }
            EventKind::Sent(connection, packet) => {
                self.tag(tags::SENT, delta);
                self.number(connection.0);
                self.packet(packet);
            }
            EventKind::Received(connection, packet) => {
                self.tag(tags::RECEIVED, delta);
                self.number(connection.0);
                self.packet(packet);
            }
            EventKind::Unlawful { connection, problem, bytes } => {
                self.tag(tags::UNLAWFUL, delta);
                self.number(connection.0);
                self.text(problem);
                self.bytes(bytes);
            }
            EventKind::Closed(connection, closing) => {
                self.tag(tags::CLOSED, delta);
                self.number(connection.0);
                self.plain(*closing);
            }
            EventKind::StateWiped { client } => {
                self.tag(tags::STATE_WIPED, delta);
                self.interned(client);
            }
            _ => self.rarer_kind(kind, delta),
        }
    }

    fn rarer_kind(&mut self, kind: &EventKind, delta: u64) {
        match kind {
            EventKind::Broker(event) => {
                self.tag(tags::BROKER, delta);
                self.plain(*event);
            }
            EventKind::Fault { kind, client } => {
                self.tag(tags::FAULT, delta);
                self.interned(kind);
                self.flag(client.is_some());
                client.iter().for_each(|client| self.interned(client));
            }
            EventKind::Labelled { message, label, shown_id } => {
                self.tag(tags::LABELLED, delta);
                self.message(*message);
                self.interned(label);
                self.number(*shown_id);
            }
            EventKind::Settled { client, message, outcome } => {
                self.tag(tags::SETTLED, delta);
                self.interned(client);
                self.message(*message);
                self.plain(*outcome);
            }
            EventKind::Claimed { client, message } => {
                self.tag(tags::CLAIMED, delta);
                self.interned(client);
                self.message(*message);
            }
            EventKind::Subject { side, command, client } => {
                self.tag(tags::SUBJECT, delta);
                self.plain(*side);
                self.interned(command);
                self.interned(client);
            }
            EventKind::Statistics { client, counters } => {
                self.tag(tags::STATISTICS, delta);
                self.interned(client);
                self.counters(*counters);
            }
            EventKind::Declared(it) => {
                self.tag(tags::DECLARED, delta);
                self.declaration(it);
            }
            EventKind::Advised(it) => {
                self.tag(tags::ADVISED, delta);
                self.advice(it);
            }
            EventKind::Accepted { message, late_ns } => {
                self.tag(tags::ACCEPTED, delta);
                self.message(*message);
                self.number(*late_ns);
            }
            EventKind::Position { client, publisher, stream, value } => {
                self.tag(tags::POSITION, delta);
                self.interned(client);
                self.number(*publisher);
                self.number(*stream);
                self.number(zigzag(*value as u64));
            }
            EventKind::Gap { lost } => {
                self.tag(tags::GAP, delta);
                self.number(*lost);
            }
            EventKind::Aborted { reason } => {
                self.tag(tags::ABORTED, delta);
                self.text(reason);
            }
            EventKind::ProcessEnded { client } => {
                self.tag(tags::PROCESS_ENDED, delta);
                self.interned(client);
            }
            EventKind::GroupStarted { .. }
            | EventKind::GroupEnded { .. }
            | EventKind::Opened { .. }
            | EventKind::Sent(..)
            | EventKind::Received(..)
            | EventKind::Unlawful { .. }
            | EventKind::Closed(..)
            | EventKind::StateWiped { .. } => unreachable!("`kind` takes these"),
        }
    }

    fn declaration(&mut self, it: &Declaration) {
        self.interned(&it.stream);
        self.number(it.qos);
        self.number(it.needs.len() as u64);
        it.needs.iter().for_each(|need| self.plain(*need));
        self.number(it.publisher);
        self.number(it.devices);
        self.number(it.messages);
        self.number(it.every_ns);
        self.flag(it.step.is_some());
        it.step.iter().for_each(|step| self.number(zigzag(*step as u64)));
        self.number(it.receivers.len() as u64);
        for receiver in &it.receivers {
            self.interned(&receiver.client);
            self.plain(receiver.kind);
            self.flag(receiver.dedup);
        }
    }

    fn advice(&mut self, it: &Advice) {
        self.plain(it.weight);
        self.interned(&it.stream);
        self.flag(it.subscriber.is_some());
        it.subscriber.iter().for_each(|subscriber| self.interned(subscriber));
        self.plain(it.need);
        self.text(&it.why);
        self.text(&it.change);
    }

    fn packet(&mut self, it: &Packet) {
        match it {
            Packet::Connect(connect) => self.connect(connect),
            Packet::Connack(connack) => self.connack(connack),
            Packet::Publish(publish) => {
                self.out.push(packet::PUBLISH);
                self.publish(publish);
            }
            Packet::Puback(id, reason) => self.ack(packet::PUBACK, *id, *reason),
            Packet::Pubrec(id, reason) => self.ack(packet::PUBREC, *id, *reason),
            Packet::Pubrel(id, reason) => self.ack(packet::PUBREL, *id, *reason),
            Packet::Pubcomp(id, reason) => self.ack(packet::PUBCOMP, *id, *reason),
            Packet::Subscribe(subscribe) => self.subscribe(subscribe),
            Packet::Suback(id, codes) => self.codes(packet::SUBACK, *id, codes),
            Packet::Unsubscribe(id, filters) => {
                self.out.push(packet::UNSUBSCRIBE);
                self.number(*id);
                self.number(filters.len() as u64);
                filters.iter().for_each(|filter| self.interned(filter));
            }
            Packet::Unsuback(id, codes) => self.codes(packet::UNSUBACK, *id, codes),
            Packet::Pingreq => self.out.push(packet::PINGREQ),
            Packet::Pingresp => self.out.push(packet::PINGRESP),
            Packet::Disconnect(reason, expiry) => {
                self.out.extend([packet::DISCONNECT, *reason]);
                self.option(*expiry);
            }
            Packet::Auth(reason) => self.out.extend([packet::AUTH, *reason]),
        }
    }

    fn connect(&mut self, connect: &Connect) {
        self.out.push(packet::CONNECT);
        self.flag(connect.clean_start);
        self.number(connect.session_expiry);
        self.number(connect.keep_alive);
        self.number(connect.receive_maximum);
        self.option(connect.maximum_packet_size);
        self.number(connect.topic_alias_maximum);
        self.flag(connect.authenticated);
        self.flag(connect.will.is_some());
        if let Some(will) = &connect.will {
            self.number(will.delay_s);
            self.publish(&will.message);
        }
    }

    fn connack(&mut self, connack: &Connack) {
        self.out.push(packet::CONNACK);
        self.flag(connack.session_present);
        self.out.push(connack.reason);
        self.option(connack.session_expiry);
        self.number(connack.receive_maximum);
        self.out.push(connack.maximum_qos);
        self.option(connack.maximum_packet_size);
        self.number(connack.topic_alias_maximum);
        self.option(connack.server_keep_alive);
        let Unavailable { retain, wildcards, subscription_ids, shared } = connack.unavailable;
        [retain, wildcards, subscription_ids, shared].into_iter().for_each(|each| self.flag(each));
    }

    /// Flags stand in one byte, together with which of the rare fields follow.
    fn publish(&mut self, publish: &Publish) {
        let rare = publish.message_expiry.is_some()
            || publish.topic_alias.is_some()
            || publish.properties.is_some()
            || !publish.subscription_ids.is_empty();
        let flags = u8::from(publish.dup)
            | u8::from(publish.retain) << 1
            | u8::from(rare) << 2
            | publish.qos.min(15) << 4;
        self.out.push(flags);
        self.number(publish.packet_id);
        self.number(publish.packet_len);
        self.interned(&publish.topic);
        self.identity(&publish.identity);
        self.number(publish.payload_len);
        self.out.extend(publish.payload_crc.to_be_bytes());
        if rare {
            self.rare_fields(publish);
        }
    }

    fn rare_fields(&mut self, publish: &Publish) {
        self.option(publish.message_expiry);
        self.option(publish.topic_alias);
        self.number(publish.subscription_ids.len() as u64);
        publish.subscription_ids.iter().for_each(|id| self.number(*id));
        self.flag(publish.properties.is_some());
        publish.properties.iter().for_each(|properties| self.properties(properties));
    }

    fn properties(&mut self, properties: &PublishProperties) {
        self.option(properties.payload_format_indicator);
        self.optional_bytes(properties.content_type.as_deref().map(str::as_bytes));
        self.optional_bytes(properties.response_topic.as_deref().map(str::as_bytes));
        self.optional_bytes(properties.correlation_data.as_deref());
        self.number(properties.user_properties.len() as u64);
        for (name, value) in &properties.user_properties {
            self.text(name);
            self.text(value);
        }
    }

    fn identity(&mut self, it: &Identity) {
        match it {
            Identity::Ours(marker) => {
                self.out.push(identity::OURS);
                self.number(marker.run);
                self.message(marker.message);
                self.number(marker.attempt);
                self.out.push(marker.qos);
                self.plain(marker.purpose);
            }
            Identity::Foreign => self.out.push(identity::FOREIGN),
            Identity::Corrupt => self.out.push(identity::CORRUPT),
            Identity::Unmarked => self.out.push(identity::UNMARKED),
        }
    }

    fn ack(&mut self, tag: u8, id: u16, reason: u8) {
        self.out.extend([tag, reason]);
        self.number(id);
    }

    fn codes(&mut self, tag: u8, id: u16, codes: &[u8]) {
        self.out.push(tag);
        self.number(id);
        self.bytes(codes);
    }

    fn subscribe(&mut self, subscribe: &Subscribe) {
        self.out.push(packet::SUBSCRIBE);
        self.number(subscribe.packet_id);
        self.option(subscribe.identifier);
        self.number(subscribe.filters.len() as u64);
        for filter in &subscribe.filters {
            self.interned(&filter.filter);
            self.out.extend([filter.qos, filter.retain_handling]);
            self.flag(filter.no_local);
            self.flag(filter.retain_as_published);
        }
    }

    fn message(&mut self, message: MessageId) {
        self.number(message.publisher);
        self.number(message.stream);
        self.number(message.sequence);
    }

    fn counters(&mut self, counters: Counters) {
        let Counters { received, duplicates, conflicts, errors, processed } = counters;
        for count in [received, duplicates, conflicts, errors, processed] {
            self.number(count);
        }
    }

    fn begin(&mut self, tag: u8) {
        self.out.clear();
        self.out.push(tag);
    }

    fn tag(&mut self, tag: u8, delta: u64) {
        self.out.push(tag);
        self.number(delta);
    }

    fn plain<T: Plain>(&mut self, value: T) {
        let place = T::ALL.iter().position(|each| *each == value).expect("`ALL` has every variant");
        self.out.push(place as u8);
    }

    fn flag(&mut self, value: bool) {
        self.out.push(u8::from(value));
    }

    fn number(&mut self, value: impl Into<u64>) {
        put_varint(&mut self.out, value.into());
    }

    fn option(&mut self, value: Option<impl Into<u64>>) {
        self.number(value.map_or(0, |value| value.into() + 1));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    fn optional_bytes(&mut self, bytes: Option<&[u8]>) {
        self.flag(bytes.is_some());
        bytes.iter().for_each(|bytes| self.bytes(bytes));
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn interned(&mut self, text: &Arc<str>) {
        if let Some(number) = self.texts.get(text) {
            let number = *number;
            return self.number(number);
        }
        self.number(0u8);
        self.text(text);
        if text.len() <= INTERNED_LEN_MAX && self.texts.len() < INTERNED_MAX {
            let number = self.texts.len() as u32 + 1;
            self.texts.insert(Arc::clone(text), number);
        }
    }
}

/// A small difference of either sign as a small number.
fn zigzag(difference: u64) -> u64 {
    let signed = difference as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}
