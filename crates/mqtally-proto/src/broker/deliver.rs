//! The way from the broker to a client: a session's queue, its window, and the client's acknowledgements.
//!
//! A message for a connected session with room in its window is sent at once; others wait in the session's queue, in
//! order. A message has a packet id from the moment it is sent until its handshake is finished, whatever
//! becomes of the connection in between.

use super::Broker;
use super::config::{ConnectionId, Limits};
use super::ledger::Ledger;
use super::sessions::{Link, Session, SessionKey};
use super::shared::READY;
use super::stored::{Change, Message, MessageId, Phase, StoredDelivery};
use crate::Time;
use crate::inflight::{Pubrec, Stage};
use crate::packet::{Ack, Packet, Properties, Property, Publish, Qos, ReasonCode, Version, encode};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::sync::Arc;

/// One message on its way to one session.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) sequence: u64,
    pub(super) message: Arc<Message>,
    /// The message's number in the store, if the session is durable.
    pub(super) message_id: Option<MessageId>,
    pub(super) hop: Hop,
}

/// How a message travels to one session.
#[derive(Debug, Clone)]
pub(super) struct Hop {
    pub(super) qos: Qos,
    pub(super) retain: bool,
    pub(super) identifiers: Vec<u32>,
}

/// A message to be given to one session after the other.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) message: Arc<Message>,
    /// Its number in the store, once a durable session has it.
    id: Option<MessageId>,
}

impl Parcel {
    pub(super) fn new(message: Arc<Message>) -> Self {
        Self { message, id: None }
    }

    /// The message of a delivery that goes to somebody else.
    pub(super) fn again(delivery: &Delivery) -> Self {
        Self { message: delivery.message.clone(), id: delivery.message_id }
    }
}

/// Deliveries that wait for room in the window, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    deliveries: VecDeque<Delivery>,
    bytes: usize,
    /// When the expired ones were last swept out for want of room.
    swept_at: Time,
}

impl Queue {
    pub(super) fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.message.size();
        self.deliveries.push_back(delivery);
    }

    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.deliveries.pop_front()?;
        self.bytes -= delivery.message.size();
        Some(delivery)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Delivery> {
        self.deliveries.iter()
    }

    fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    fn fits(&self, messages: usize, bytes: usize, limits: &Limits) -> bool {
        self.deliveries.len() + messages <= limits.queued_messages_max
            && self.bytes + bytes <= limits.queued_bytes_max
    }

    /// Takes the expired deliveries out, at most once a second: an expiry interval is no finer.
    fn sweep(&mut self, now: Time) -> VecDeque<Delivery> {
        if now.ms_since(self.swept_at) < 1_000 {
            return VecDeque::new();
        }
        self.swept_at = now;
        let deliveries = std::mem::take(&mut self.deliveries);
        let (expired, kept) = deliveries.into_iter().partition(|delivery| delivery.message.is_expired(now));
        self.deliveries = kept;
        self.bytes = self.deliveries.iter().map(|delivery| delivery.message.size()).sum();
        expired
    }
}

impl Link {
    /// Whether the client takes a packet of this size; one that it does not take counts as sent `[MQTT-3.1.2-25]`.
    fn takes(&self, publish: &Publish, version: Version) -> bool {
        if self.packet_size_max == u32::MAX {
            return true;
        }
        let mut bytes = BytesMut::new();
        let encoded = encode(&Packet::Publish(publish.clone()), version, &mut bytes);
        encoded.is_ok() && bytes.len() <= self.packet_size_max as usize
    }
}

impl Session {
    /// Gives a message to the session: sends it, or lets it wait. QoS 0 does not wait.
    pub(super) fn deliver(&mut self, now: Time, parcel: &mut Parcel, hop: Hop, ledger: &mut Ledger) {
        match self.link {
            _ if hop.qos == Qos::AtMostOnce => self.send_unacknowledged(now, &parcel.message, &hop, ledger),
            Some(link) if self.is_open(link) => self.send_new(now, link, parcel, hop, ledger),
            _ => self.queue_up(parcel, hop, ledger),
        }
    }

    /// Whether a message would be sent at once or can wait; QoS 0 needs no room.
    pub(super) fn has_room(&self, message: &Message, qos: Qos, limits: &Limits) -> bool {
        qos == Qos::AtMostOnce
            || self.link.is_some_and(|link| self.is_open(link))
            || self.queue.fits(1, message.size(), limits)
    }

    /// How well this session suits as the receiver of a shared message.
    pub(super) fn rank(&self, message: &Message, qos: Qos, limits: &Limits) -> u8 {
        match self.link {
            Some(_) if qos == Qos::AtMostOnce => READY,
            Some(link) if self.is_open(link) => READY,
            _ if qos == Qos::AtMostOnce || !self.queue.fits(1, message.size(), limits) => 0,
            Some(_) => 2,
            None => 1,
        }
    }

    /// Whether `messages` of `bytes` in all would find room, were they all to wait.
    pub(super) fn can_queue(&self, messages: usize, bytes: usize, limits: &Limits) -> bool {
        self.queue.fits(messages, bytes, limits)
    }

    /// Sends what the window has room for: first what an earlier connection left unfinished, then what waits.
    pub(super) fn pump(&mut self, now: Time, ledger: &mut Ledger) {
        let Some(link) = self.link else { return };
        while self.outbound.window_used() < link.window && self.outbound.unsent() > 0 {
            self.send_again(now, link, ledger);
        }
        while self.outbound.window_used() < link.window {
            let Some(delivery) = self.queue.pop() else { break };
            self.send_queued(now, link, delivery, ledger);
        }
    }

    /// A new connection takes over the unfinished handshakes `[MQTT-4.4.0-1]`.
    pub(super) fn resume(&mut self, now: Time, ledger: &mut Ledger) {
        let Some(link) = self.link else { return };
        self.outbound.resume();
        for id in self.outbound.released() {
            ledger.send(link.connection, Packet::Pubrel(Ack::success(id)));
        }
        self.pump(now, ledger);
    }

    /// Gives up what has expired in the queue.
    pub(super) fn sweep(&mut self, now: Time, ledger: &mut Ledger) {
        for delivery in self.queue.sweep(now) {
            self.finish(&delivery, ledger);
        }
    }

    /// Takes out what another session may receive instead: all that waits, and QoS 1 whatever its state.
    pub(super) fn take_movable(&mut self) -> Vec<Delivery> {
        let in_flight = self.outbound.iter();
        let ids: Vec<u16> =
            in_flight.filter(|(.., it)| it.hop.qos == Qos::AtLeastOnce).map(|(id, ..)| id).collect();
        let mut movable: Vec<Delivery> = ids.into_iter().filter_map(|id| self.outbound.remove(id)).collect();
        movable.extend(std::iter::from_fn(|| self.queue.pop()));
        movable
    }

    /// The store needs the session's deliveries no longer.
    pub(super) fn release_all(&self, ledger: &mut Ledger) {
        let in_flight = self.outbound.iter().map(|(.., delivery)| delivery);
        for delivery in in_flight.chain(self.queue.iter()) {
            ledger.release(delivery, self.is_durable());
        }
    }

    /// The session's deliveries as a store keeps them, in order of sequence.
    pub(super) fn delivery_rows(&self) -> Vec<StoredDelivery> {
        let in_flight = self.outbound.iter().filter_map(|(id, stage, delivery)| {
            let phase = match stage {
                Stage::Published => Phase::Published(id),
                Stage::Released => Phase::Released(id),
            };
            delivery.row(phase)
        });
        in_flight.chain(self.queue.iter().filter_map(|delivery| delivery.row(Phase::Queued))).collect()
    }

    /// The messages of all deliveries, with their numbers in the store.
    pub(super) fn stored_messages(&self) -> impl Iterator<Item = (MessageId, Arc<Message>)> {
        let in_flight = self.outbound.iter().map(|(.., delivery)| delivery);
        let deliveries = in_flight.chain(self.queue.iter());
        deliveries.filter_map(|delivery| Some((delivery.message_id?, delivery.message.clone())))
    }

    /// Whether a new message can be sent at once. Every input that makes room is followed by [`Self::pump`], so where there
    /// is room nothing waits that would have to go first.
    fn is_open(&self, link: Link) -> bool {
        let open = self.outbound.window_used() < link.window;
        debug_assert!(!open || (self.outbound.unsent() == 0 && self.queue.is_empty()), "not pumped");
        open
    }

    fn send_unacknowledged(&self, now: Time, message: &Message, hop: &Hop, ledger: &mut Ledger) {
        let Some(link) = self.link else { return };
        let publish = publish_packet(now, self.version, message, hop, None);
        if link.takes(&publish, self.version) {
            ledger.send(link.connection, Packet::Publish(publish));
        }
    }

    fn send_new(&mut self, now: Time, link: Link, parcel: &mut Parcel, hop: Hop, ledger: &mut Ledger) {
        // Any id has the same size; the message gets its own when it is known to be taken.
        let mut publish = publish_packet(now, self.version, &parcel.message, &hop, Some(u16::MAX));
        if !link.takes(&publish, self.version) {
            return;
        }
        let delivery = self.new_delivery(parcel, hop, ledger);
        let Some(id) = self.outbound.push(delivery.hop.qos, delivery) else { return };
        self.put(self.outbound.item(id).and_then(|delivery| delivery.row(Phase::Published(id))), ledger);
        publish.packet_id = Some(id);
        ledger.send(link.connection, Packet::Publish(publish));
    }

    fn queue_up(&mut self, parcel: &mut Parcel, hop: Hop, ledger: &mut Ledger) {
        let delivery = self.new_delivery(parcel, hop, ledger);
        self.put(delivery.row(Phase::Queued), ledger);
        self.queue.push(delivery);
    }

    fn send_again(&mut self, now: Time, link: Link, ledger: &mut Ledger) {
        let Some((id, delivery)) = self.outbound.next_unsent() else { return };
        let mut publish = publish_packet(now, self.version, &delivery.message, &delivery.hop, Some(id));
        publish.dup = true;
        if link.takes(&publish, self.version) {
            ledger.send(link.connection, Packet::Publish(publish));
        } else if let Some(delivery) = self.outbound.remove(id) {
            self.finish(&delivery, ledger);
        }
    }

    fn send_queued(&mut self, now: Time, link: Link, delivery: Delivery, ledger: &mut Ledger) {
        let mut publish = publish_packet(now, self.version, &delivery.message, &delivery.hop, Some(u16::MAX));
        if delivery.message.is_expired(now) || !link.takes(&publish, self.version) {
            return self.finish(&delivery, ledger);
        }
        let sequence = delivery.sequence;
        let Some(id) = self.outbound.push(delivery.hop.qos, delivery) else { return };
        if self.is_durable() {
            ledger.changes.push(Change::SetPhase(self.id, sequence, Phase::Published(id)));
        }
        publish.packet_id = Some(id);
        ledger.send(link.connection, Packet::Publish(publish));
    }

    fn new_delivery(&mut self, parcel: &mut Parcel, hop: Hop, ledger: &mut Ledger) -> Delivery {
        let message_id = self.is_durable().then(|| ledger.refer(&mut parcel.id, &parcel.message));
        self.next_sequence += 1;
        Delivery { sequence: self.next_sequence, message: parcel.message.clone(), message_id, hop }
    }

    fn put(&self, row: Option<StoredDelivery>, ledger: &mut Ledger) {
        if self.is_durable() {
            ledger.changes.extend(row.map(|row| Change::PutDelivery(self.id, row)));
        }
    }

    fn finish(&self, delivery: &Delivery, ledger: &mut Ledger) {
        if self.is_durable() {
            ledger.changes.push(Change::RemoveDelivery(self.id, delivery.sequence));
        }
        ledger.release(delivery, self.is_durable());
    }
}

impl Delivery {
    fn row(&self, phase: Phase) -> Option<StoredDelivery> {
        Some(StoredDelivery {
            sequence: self.sequence,
            message: self.message_id?,
            qos: self.hop.qos,
            retain: self.hop.retain,
            subscription_ids: self.hop.identifiers.clone(),
            phase,
        })
    }
}

impl Broker {
    pub(super) fn puback(&mut self, now: Time, key: SessionKey, ack: &Ack) {
        let session = &mut self.sessions[key];
        if let Some(delivery) = session.outbound.puback(ack.packet_id) {
            session.finish(&delivery, &mut self.ledger);
            session.pump(now, &mut self.ledger);
        }
    }

    /// PUBREC is answered with PUBREL, unless it ends the delivery with a reason of 0x80 or more `[MQTT-4.3.3-4]`.
    pub(super) fn pubrec(&mut self, now: Time, connection: ConnectionId, key: SessionKey, ack: &Ack) {
        let session = &mut self.sessions[key];
        if ack.reason.is_error() {
            if let Some(delivery) = session.outbound.pubrec_error(ack.packet_id) {
                session.finish(&delivery, &mut self.ledger);
                session.pump(now, &mut self.ledger);
            }
            return;
        }
        let reason = match session.outbound.pubrec(ack.packet_id) {
            Pubrec::Released => {
                session.put_released(ack.packet_id, &mut self.ledger);
                ReasonCode::SUCCESS
            }
            Pubrec::Repeated => ReasonCode::SUCCESS,
            Pubrec::Unknown => unknown_id(session.version),
        };
        self.ledger.send(connection, Packet::Pubrel(Ack::with_reason(ack.packet_id, reason)));
    }

    pub(super) fn pubcomp(&mut self, now: Time, key: SessionKey, ack: &Ack) {
        let session = &mut self.sessions[key];
        if let Some(delivery) = session.outbound.pubcomp(ack.packet_id) {
            session.finish(&delivery, &mut self.ledger);
            session.pump(now, &mut self.ledger);
        }
    }
}

impl Session {
    fn put_released(&self, id: u16, ledger: &mut Ledger) {
        if let Some(delivery) = self.outbound.item(id).filter(|_| self.is_durable()) {
            ledger.changes.push(Change::SetPhase(self.id, delivery.sequence, Phase::Released(id)));
        }
    }
}

/// The reason of a PUBREL or PUBCOMP for a packet id that nothing is known of; 3.1.1 has none.
pub(super) fn unknown_id(version: Version) -> ReasonCode {
    match version {
        Version::V3_1_1 => ReasonCode::SUCCESS,
        Version::V5_0 => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
    }
}

fn publish_packet(
    now: Time,
    version: Version,
    message: &Message,
    hop: &Hop,
    packet_id: Option<u16>,
) -> Publish {
    Publish {
        dup: false,
        qos: hop.qos,
        retain: hop.retain,
        topic: message.topic.clone(),
        packet_id,
        properties: match version {
            Version::V3_1_1 => Properties::default(),
            Version::V5_0 => hop_properties(now, message, hop),
        },
        payload: message.payload.clone(),
    }
}

/// The message's own properties unaltered, the rest of its expiry interval `[MQTT-3.3.2-6]`, and the identifiers of the
/// subscriptions that it matched `[MQTT-3.3.4-3]`.
fn hop_properties(now: Time, message: &Message, hop: &Hop) -> Properties {
    let mut properties = message.properties.0.clone();
    properties.extend(message.expires_at.map(|at| {
        let seconds = at.ms_since(now).div_ceil(1_000);
        Property::MessageExpiryInterval(u32::try_from(seconds).unwrap_or(u32::MAX))
    }));
    properties.extend(hop.identifiers.iter().map(|&id| Property::SubscriptionIdentifier(id)));
    Properties(properties)
}
