//! Bodies to types. Whatever is not exactly a body that the encoder builds is `None`.

use super::tags::{self, Plain, identity, packet};
use super::{INTERNED_LEN_MAX, INTERNED_MAX};
use crate::event::{ConnectionId, Counters, Event, EventKind, Header, Requirement};
use crate::marker::{Identity, Marker, MessageId};
use crate::need::{Advice, Declaration, Receiver};
use crate::packet::{
    Connack, Connect, Filter, Packet, Publish, PublishProperties, Subscribe, Unavailable, Will,
};
use crate::profile::{Measured, Survival};
use std::sync::Arc;

/// Reads one body after the other, in the order in which they were built.
#[derive(Debug, Default)]
pub(in super::super) struct Decoder {
    texts: Vec<Arc<str>>,
    last_ns: u64,
}

/// What a record holds.
#[derive(Debug)]
pub(in super::super) enum Record {
    Header(Box<Header>),
    Event(Box<Event>),
    End,
}

impl Decoder {
    /// The record with this body.
    pub(in super::super) fn record(&mut self, body: &[u8]) -> Option<Record> {
        let (tag, rest) = body.split_first()?;
        let mut fields = Fields { rest, texts: &mut self.texts };
        let record = match *tag {
            tags::END => Record::End,
            tags::HEADER => Record::Header(Box::new(fields.header()?)),
            tag => {
                let at_ns = self.last_ns.wrapping_add(unzigzag(fields.number()?));
                self.last_ns = at_ns;
                Record::Event(Box::new(Event { at_ns, kind: fields.kind(tag)? }))
            }
        };
        fields.rest.is_empty().then_some(record)
    }
}

/// What is left of a body.
struct Fields<'a> {
    rest: &'a [u8],
    texts: &'a mut Vec<Arc<str>>,
}

impl Fields<'_> {
    fn header(&mut self) -> Option<Header> {
        Some(Header {
            program: self.text()?,
            run: self.small()?,
            seed: self.number()?,
            broker_kind: self.plain()?,
            broker_name: self.text()?,
            profile: self.plain()?,
            required: self.list(|it| Some(Requirement { promise: it.text()?, version: it.plain()? }))?,
            measured: self.present(Self::measured)?,
        })
    }

    fn measured(&mut self) -> Option<Measured> {
        Some(Measured {
            profile: self.present(Self::plain)?,
            because: self.text()?,
            stopped: self.present(Self::survival)?,
            killed: self.present(Self::survival)?,
        })
    }

    fn survival(&mut self) -> Option<Survival> {
        Some(Survival {
            acknowledged: self.number()?,
            lost: self.number()?,
            lost_ms: self.number()?,
            retained_lost: self.flag()?,
            session_present: self.flag()?,
        })
    }

    fn kind(&mut self, tag: u8) -> Option<EventKind> {
        Some(match tag {
            tags::GROUP_STARTED => {
                EventKind::GroupStarted { group: self.interned()?, version: self.plain()? }
            }
            tags::GROUP_ENDED => EventKind::GroupEnded { group: self.interned()?, drained: self.flag()? },
            tags::OPENED => EventKind::Opened {
                connection: self.connection()?,
                client: self.interned()?,
                version: self.plain()?,
                role: self.plain()?,
            },
            tags::SENT => EventKind::Sent(self.connection()?, self.packet()?),
            tags::RECEIVED => EventKind::Received(self.connection()?, self.packet()?),
            tags::UNLAWFUL => EventKind::Unlawful {
                connection: self.connection()?,
                problem: self.text()?,
                bytes: self.bytes()?.to_vec(),
            },
            tags::CLOSED => EventKind::Closed(self.connection()?, self.plain()?),
            tags::STATE_WIPED => EventKind::StateWiped { client: self.interned()? },
            tags::PROCESS_ENDED => EventKind::ProcessEnded { client: self.interned()? },
            tags::BROKER => EventKind::Broker(self.plain()?),
            tags::FAULT => EventKind::Fault { kind: self.interned()?, client: self.present(Self::interned)? },
            tags::LABELLED => EventKind::Labelled {
                message: self.message()?,
                label: self.interned()?,
                shown_id: self.number()?,
            },
            tags::SETTLED => EventKind::Settled {
                client: self.interned()?,
                message: self.message()?,
                outcome: self.plain()?,
            },
            tags::CLAIMED => EventKind::Claimed { client: self.interned()?, message: self.message()? },
            tags::SUBJECT => EventKind::Subject {
                side: self.plain()?,
                command: self.interned()?,
                client: self.interned()?,
            },
            tags::STATISTICS => {
                EventKind::Statistics { client: self.interned()?, counters: self.counters()? }
            }
            tags::DECLARED => EventKind::Declared(Box::new(self.declaration()?)),
            tags::ADVISED => EventKind::Advised(Box::new(self.advice()?)),
            tags::ACCEPTED => EventKind::Accepted { message: self.message()?, late_ns: self.number()? },
            tags::POSITION => EventKind::Position {
                client: self.interned()?,
                publisher: self.small()?,
                stream: self.small()?,
                value: self.signed()?,
            },
            tags::GAP => EventKind::Gap { lost: self.number()? },
            tags::ABORTED => EventKind::Aborted { reason: self.text()? },
            _ => return None,
        })
    }

    fn declaration(&mut self) -> Option<Declaration> {
        Some(Declaration {
            stream: self.interned()?,
            qos: self.small()?,
            needs: self.list(Self::plain)?,
            publisher: self.small()?,
            devices: self.small()?,
            messages: self.small()?,
            every_ns: self.number()?,
            step: self.present(Self::signed)?,
            receivers: self
                .list(|it| Some(Receiver { client: it.interned()?, kind: it.plain()?, dedup: it.flag()? }))?,
        })
    }

    fn advice(&mut self) -> Option<Advice> {
        Some(Advice {
            weight: self.plain()?,
            stream: self.interned()?,
            subscriber: self.present(Self::interned)?,
            need: self.plain()?,
            why: self.text()?.into(),
            change: self.text()?.into(),
        })
    }

    fn signed(&mut self) -> Option<i64> {
        Some(unzigzag(self.number()?) as i64)
    }

    fn packet(&mut self) -> Option<Packet> {
        Some(match self.byte()? {
            packet::CONNECT => Packet::Connect(self.connect()?),
            packet::CONNACK => Packet::Connack(self.connack()?),
            packet::PUBLISH => Packet::Publish(self.publish()?),
            packet::PUBACK => self.ack(Packet::Puback)?,
            packet::PUBREC => self.ack(Packet::Pubrec)?,
            packet::PUBREL => self.ack(Packet::Pubrel)?,
            packet::PUBCOMP => self.ack(Packet::Pubcomp)?,
            packet::SUBSCRIBE => Packet::Subscribe(self.subscribe()?),
            packet::SUBACK => Packet::Suback(self.small()?, self.bytes()?.to_vec()),
            packet::UNSUBSCRIBE => Packet::Unsubscribe(self.small()?, self.list(Self::interned)?),
            packet::UNSUBACK => Packet::Unsuback(self.small()?, self.bytes()?.to_vec()),
            packet::PINGREQ => Packet::Pingreq,
            packet::PINGRESP => Packet::Pingresp,
            packet::DISCONNECT => Packet::Disconnect(self.byte()?, self.option()?),
            packet::AUTH => Packet::Auth(self.byte()?),
            _ => return None,
        })
    }

    fn connect(&mut self) -> Option<Connect> {
        Some(Connect {
            clean_start: self.flag()?,
            session_expiry: self.small()?,
            keep_alive: self.small()?,
            receive_maximum: self.small()?,
            maximum_packet_size: self.option()?,
            topic_alias_maximum: self.small()?,
            authenticated: self.flag()?,
            will: self.present(Self::will)?.map(Box::new),
        })
    }

    fn will(&mut self) -> Option<Will> {
        Some(Will { delay_s: self.small()?, message: self.publish()? })
    }

    fn connack(&mut self) -> Option<Connack> {
        Some(Connack {
            session_present: self.flag()?,
            reason: self.byte()?,
            session_expiry: self.option()?,
            receive_maximum: self.small()?,
            maximum_qos: self.byte()?,
            maximum_packet_size: self.option()?,
            topic_alias_maximum: self.small()?,
            server_keep_alive: self.option()?,
            unavailable: Unavailable {
                retain: self.flag()?,
                wildcards: self.flag()?,
                subscription_ids: self.flag()?,
                shared: self.flag()?,
            },
        })
    }

    fn publish(&mut self) -> Option<Publish> {
        let flags = self.byte()?;
        let mut publish = Publish {
            dup: flags & 1 != 0,
            retain: flags & 2 != 0,
            qos: flags >> 4,
            packet_id: self.small()?,
            packet_len: self.small()?,
            topic: self.interned()?,
            identity: self.identity()?,
            payload_len: self.small()?,
            payload_crc: u32::from_be_bytes(self.array()?),
            properties: None,
            message_expiry: None,
            subscription_ids: Vec::new(),
            topic_alias: None,
        };
        if flags & 4 != 0 {
            publish.message_expiry = self.option()?;
            publish.topic_alias = self.option()?;
            publish.subscription_ids = self.list(Self::small)?;
            publish.properties = self.present(Self::properties)?.map(Box::new);
        }
        Some(publish)
    }

    fn properties(&mut self) -> Option<PublishProperties> {
        Some(PublishProperties {
            payload_format_indicator: self.option()?,
            content_type: self.present(Self::text)?,
            response_topic: self.present(Self::text)?,
            correlation_data: self.present(|it| Some(it.bytes()?.to_vec()))?,
            user_properties: self.list(|it| Some((it.text()?, it.text()?)))?,
        })
    }

    fn identity(&mut self) -> Option<Identity> {
        Some(match self.byte()? {
            identity::OURS => Identity::Ours(Marker {
                run: self.small()?,
                message: self.message()?,
                attempt: self.small()?,
                qos: self.byte()?,
                purpose: self.plain()?,
            }),
            identity::FOREIGN => Identity::Foreign,
            identity::CORRUPT => Identity::Corrupt,
            identity::UNMARKED => Identity::Unmarked,
            _ => return None,
        })
    }

    fn subscribe(&mut self) -> Option<Subscribe> {
        Some(Subscribe {
            packet_id: self.small()?,
            identifier: self.option()?,
            filters: self.list(|it| {
                let filter = it.interned()?;
                let [qos, retain_handling] = it.array()?;
                let (no_local, retain_as_published) = (it.flag()?, it.flag()?);
                Some(Filter { filter, qos, no_local, retain_as_published, retain_handling })
            })?,
        })
    }

    fn ack(&mut self, packet: fn(u16, u8) -> Packet) -> Option<Packet> {
        let reason = self.byte()?;
        Some(packet(self.small()?, reason))
    }

    fn message(&mut self) -> Option<MessageId> {
        Some(MessageId { publisher: self.small()?, stream: self.small()?, sequence: self.number()? })
    }

    fn counters(&mut self) -> Option<Counters> {
        Some(Counters {
            received: self.number()?,
            duplicates: self.number()?,
            conflicts: self.number()?,
            errors: self.number()?,
            processed: self.number()?,
        })
    }

    fn connection(&mut self) -> Option<ConnectionId> {
        self.small().map(ConnectionId)
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn plain<T: Plain>(&mut self) -> Option<T> {
        T::ALL.get(usize::from(self.byte()?)).copied()
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let group = u64::from(byte & 0x7f);
            if group << shift >> shift != group {
                return None;
            }
            value |= group << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    fn option<T: TryFrom<u64>>(&mut self) -> Option<Option<T>> {
        match self.number()?.checked_sub(1) {
            Some(value) => T::try_from(value).ok().map(Some),
            None => Some(None),
        }
    }

    fn present<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    /// Every element takes a byte or more, so a count beyond what is left is damage, and the list has that bound.
    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count: usize = self.small()?;
        if count > self.rest.len() {
            return None;
        }
        (0..count).map(|_| read(self)).collect()
    }

    fn bytes(&mut self) -> Option<&[u8]> {
        let len: usize = self.small()?;
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn interned(&mut self) -> Option<Arc<str>> {
        match self.small::<usize>()?.checked_sub(1) {
            Some(place) => self.texts.get(place).map(Arc::clone),
            None => self.new_text(),
        }
    }

    fn new_text(&mut self) -> Option<Arc<str>> {
        let text: Arc<str> = self.text()?.into();
        if text.len() <= INTERNED_LEN_MAX && self.texts.len() < INTERNED_MAX {
            self.texts.push(Arc::clone(&text));
        }
        Some(text)
    }
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}
