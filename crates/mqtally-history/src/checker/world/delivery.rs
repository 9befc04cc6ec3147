//! The facts about one PUBLISH from the broker, worked out once and read by every family.

use super::client::{Copies, Inbound, Phase, Subject};
use super::message::Message;
use super::subscription::{End, Subscription};
use super::{ClientIx, ConnIx, Moment, NEVER, Place, StreamIx, World};
use crate::marker::{Identity, Marker};
use crate::packet::{Publish, Version};
use std::sync::Arc;

/// One PUBLISH that a client received, and the world just before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivery<'a> {
    pub(crate) now: Moment,
    pub(crate) connection: ConnIx,
    pub(crate) client: ClientIx,
    pub(crate) version: Version,
    pub(crate) publish: &'a Publish,
    pub(crate) subject: Subject,
    /// The message of this run that it carries.
    pub(crate) known: Option<Known<'a>>,
    /// What its packet id stood for.
    pub(crate) held: Option<Inbound>,
    pub(crate) routes: Routes,
    /// A retained message for a new subscription, whatever its RETAIN flag says; others are live copies.
    pub(crate) retained: bool,
}

/// A delivered message of this run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) marker: &'a Marker,
    pub(crate) stream: StreamIx,
    pub(crate) message: Message,
    /// Its copies at this session before this one.
    pub(crate) copies: Copies,
}

/// The session's filters that match a topic, by what they are to a message first sent at some place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Routes {
    /// Through which it may come.
    pub(crate) lawful: u8,
    /// Of these, ones that were certain before the message was sent.
    pub(crate) certain: u8,
    /// Of these, shared ones.
    pub(crate) shared: u8,
    /// Of these, ones that were No Local all the time.
    pub(crate) no_local: u8,
    /// Of these, ones that retained as published at some time.
    pub(crate) as_published: u8,
    /// Of these, ones that retained as published all the time.
    pub(crate) all_as_published: u8,
    /// The first SUBSCRIBE among them, and the last.
    pub(crate) asked_first: Place,
    pub(crate) asked_last: Place,
    pub(crate) asked_first_ns: u64,
    /// Of these, ones that were asked for before the message was complete, so that it may have gone through them live.
    pub(crate) older: u8,
    /// Given up by an UNSUBACK received before the message was sent.
    pub(crate) given_up: u8,
    /// Discarded with an older session of the client.
    pub(crate) discarded: u8,
    /// QoS values that may have been granted, as a set of bits; unknown ones are all that were asked for.
    pub(crate) granted: u8,
}

impl Delivery<'_> {
    /// A live copy; others are retained messages for a new subscription.
    pub(crate) fn is_live(&self) -> bool {
        !self.retained
    }

    /// Its packet id is in the receiver's set: the receiver answers, and does not deliver again.
    pub(crate) fn is_repetition(&self) -> bool {
        self.publish.qos == 2
            && self.held.is_some_and(|held| {
                held.qos == 2
                    && held.subject == self.subject
                    && matches!(held.phase, Phase::Publish | Phase::Acked)
            })
    }

    /// More than one filter or a shared one matches, so that more than one copy can be right.
    pub(crate) fn is_overlapped(&self) -> bool {
        self.routes.lawful > 1 || self.routes.shared > 0
    }
}

impl World {
    /// The facts about a PUBLISH that is being received.
    pub(crate) fn delivery<'a>(&mut self, connection: ConnIx, publish: &'a Publish) -> Delivery<'a> {
        let client = self.connection(connection).client;
        let known = match &publish.identity {
            Identity::Ours(marker) => self.known(client, marker),
            Identity::Foreign | Identity::Corrupt | Identity::Unmarked => None,
        };
        let subject = match known {
            Some(known) => Subject::Ours(known.stream, known.marker.message.sequence),
            None => self.subject_of_forgotten(publish),
        };
        let (sent, complete) = known.map_or((0, NEVER), |known| (known.message.first_sent, complete(&known)));
        // What comes with an alias that nobody set up has no topic; it is routed by the one it was sent to.
        let topic = known.filter(|_| publish.topic.is_empty()).map(|known| &self.stream(known.stream).topic);
        let topic = Arc::clone(topic.unwrap_or(&publish.topic));
        let routes = self.routes(client, &topic, sent, complete);
        let lineage = self.client(client).lineage;
        Delivery {
            now: self.now,
            connection,
            client,
            version: self.connection(connection).version,
            publish,
            subject,
            known,
            held: self.client(client).inbound.get(&publish.packet_id).copied().filter(|_| publish.qos > 0),
            retained: routes.make_retained(publish, known.as_ref(), lineage),
            routes,
        }
    }

    fn known<'a>(&self, client: ClientIx, marker: &'a Marker) -> Option<Known<'a>> {
        let (stream, message) = self.message(marker.message)?;
        let copies = self.client(client).copies_of(stream, marker.message.sequence);
        Some(Known { marker, stream, message: *message, copies })
    }

    /// What carries a message that was judged and forgotten is told by its marker still.
    fn subject_of_forgotten(&self, publish: &Publish) -> Subject {
        let Identity::Ours(marker) = publish.identity else { return Subject::Other(publish.payload_crc) };
        let id = marker.message;
        match self.stream_of(id).filter(|stream| id.sequence < self.stream(*stream).retired) {
            Some(stream) => Subject::Ours(stream, id.sequence),
            None => Subject::Other(publish.payload_crc),
        }
    }

    fn routes(&mut self, client: ClientIx, topic: &Arc<str>, sent: Place, complete: Place) -> Routes {
        let now = self.now.place;
        let client = &mut self.clients[client as usize];
        let matching = client.routes(topic);
        let mut routes = Routes { asked_first: NEVER, ..Routes::default() };
        for at in matching.iter() {
            routes.add(&client.subscriptions[*at], (sent, complete), now);
        }
        routes
    }

    /// Takes a delivery in.
    pub(crate) fn delivered(&mut self, delivery: &Delivery<'_>) {
        let publish = delivery.publish;
        let connection = &mut self.connections[delivery.connection as usize];
        connection.last_publish_ns = delivery.now.at_ns;
        if let Some(known) = &delivery.known {
            self.settle_moved(delivery, known);
            self.count_copy(delivery, known);
        }
        if publish.qos > 0 {
            self.hold_inbound(delivery.connection, publish, delivery.subject, delivery.is_overlapped());
        }
    }

    /// A message that comes back with another packet id is not owed under the old one too.
    fn settle_moved(&mut self, delivery: &Delivery<'_>, known: &Known<'_>) {
        let inbound = &mut self.clients[delivery.client as usize].inbound;
        let Some(held) = inbound.get_mut(&known.copies.packet_id) else { return };
        let moved = known.copies.packet_id != delivery.publish.packet_id && held.subject == delivery.subject;
        if moved && held.phase == Phase::Publish && held.connection != delivery.connection {
            held.phase = Phase::Acked;
        }
    }

    fn count_copy(&mut self, delivery: &Delivery<'_>, known: &Known<'_>) {
        let sequence = known.marker.message.sequence;
        self.streams[known.stream as usize].messages.entry(sequence).arrived(delivery.now);
        let superseded = self.is_superseded(delivery.connection);
        let client = &mut self.clients[delivery.client as usize];
        let lineage = client.lineage;
        let copies = client.copies.entry(known.stream).or_default().entry(sequence);
        copies.add(delivery, lineage, superseded);
        if known.marker.purpose == crate::marker::Purpose::Sentinel && delivery.is_live() {
            let sentinel = super::client::Sentinel { sequence, at: delivery.now.place, lineage };
            let last = client.sentinels.entry((known.stream, delivery.publish.qos)).or_insert(sentinel);
            if last.lineage != lineage || sequence > last.sequence {
                *last = sentinel;
            }
        }
    }
}

impl Copies {
    fn add(&mut self, delivery: &Delivery<'_>, lineage: u32, superseded: bool) {
        if self.first == 0 {
            self.first = delivery.now.place;
            self.first_tick = u32::try_from(delivery.now.at_ns / 100_000).unwrap_or(u32::MAX);
            self.first_packet_id = delivery.publish.packet_id;
        }
        if self.lineage != lineage {
            self.lineage = lineage;
            (self.accepted, self.exchanges) = (0, 0);
        }
        self.packets = self.packets.saturating_add(1);
        self.packet_id = delivery.publish.packet_id;
        if !superseded || self.last == 0 {
            self.last = delivery.now.place;
        }
        self.max_qos = self.max_qos.max(delivery.publish.qos);
        if delivery.is_live() {
            self.live = true;
            let accepted = !delivery.is_repetition();
            self.accepted = self.accepted.saturating_add(u8::from(accepted));
            let again = delivery.held.is_some_and(|held| held.subject == delivery.subject);
            let again = again && delivery.publish.dup;
            self.exchanges = self.exchanges.saturating_add(u8::from(!again));
            self.handed_over = self.handed_over.saturating_add(u8::from(accepted || !again));
        } else {
            self.retained = true;
        }
    }

    /// When its first copy came.
    pub(crate) fn first_moment(&self) -> Moment {
        Moment { place: self.first, at_ns: u64::from(self.first_tick) * 100_000 }
    }

    /// How many exchanges brought it in this lineage.
    fn exchanges_in(&self, lineage: u32) -> u32 {
        if self.lineage == lineage { u32::from(self.exchanges) } else { 0 }
    }

    /// How many copies were accepted in this lineage.
    pub(crate) fn accepted_in(&self, lineage: u32) -> u8 {
        if self.lineage == lineage { self.accepted } else { 0 }
    }
}

impl Routes {
    /// Whether what comes this way is a retained message. RETAIN says so, but not where a filter retains as published
    /// or the flag is wrong: then it is one when a filter was asked for after the message was complete, and it came
    /// already as often as the older filters can have brought it.
    fn make_retained(&self, publish: &Publish, known: Option<&Known<'_>>, lineage: u32) -> bool {
        let Some(known) = known else { return publish.retain };
        let (message, since) = (known.message, complete(known));
        let alone = self.shared == 0 && self.lawful > 0;
        let anew = alone && self.asked_first > since;
        let again = alone && self.asked_last > since;
        match (publish.retain, message.retain) {
            (false, false) => false,
            (false, true) => {
                // What was submitted again may have come live through a filter that is newer than the first time.
                let is_once = message.submissions <= 1;
                let filters = if is_once { self.older } else { self.lawful };
                let live = u32::from(filters) * u32::from(message.sends.max(1));
                (anew && is_once) || (again && !publish.dup && known.copies.exchanges_in(lineage) >= live)
            }
            (true, false) => again,
            (true, true) => self.as_published == 0 || anew || known.copies.live,
        }
    }

    fn add(&mut self, subscription: &Subscription, (sent, complete): (Place, Place), now: Place) {
        let over = subscription.is_over(now);
        match subscription.end {
            End::Unsubscribed if over && sent > subscription.gone => {
                self.given_up = self.given_up.saturating_add(1);
            }
            End::Discarded if over => self.discarded = self.discarded.saturating_add(1),
            End::Refused => {}
            End::Open | End::Unsubscribed | End::Doubtful | End::Discarded => {
                self.add_lawful(subscription, sent, now);
                let first = subscription.grants.first();
                self.older =
                    self.older.saturating_add(u8::from(first.is_some_and(|it| it.asked <= complete)));
            }
        }
    }

    fn add_lawful(&mut self, subscription: &Subscription, sent: Place, now: Place) {
        let count = |counter: &mut u8, holds: bool| *counter = counter.saturating_add(u8::from(holds));
        let mut grants = subscription.grants_between(sent, now).peekable();
        count(&mut self.lawful, true);
        count(&mut self.certain, subscription.active < sent);
        count(&mut self.shared, subscription.shared);
        let some = grants.peek().is_some();
        let (mut no_local, mut as_published, mut all_as_published) = (some, false, some);
        for grant in grants {
            no_local &= grant.no_local;
            as_published |= grant.retain_as_published;
            all_as_published &= grant.retain_as_published;
            self.asked_last = self.asked_last.max(grant.asked);
            match grant.granted {
                Some(qos) => self.granted |= 1 << qos.min(2),
                None => self.granted |= (2 << grant.asked_qos.min(2)) - 1,
            }
        }
        count(&mut self.no_local, no_local);
        count(&mut self.as_published, as_published);
        count(&mut self.all_as_published, all_as_published);
        if let Some(first) = subscription.grants.first().filter(|first| first.asked < self.asked_first) {
            (self.asked_first, self.asked_first_ns) = (first.asked, first.asked_ns);
        }
    }
}

/// From when on the broker certainly has a message. QoS 0 is never complete; of the rest what is not may race its
/// subscription.
fn complete(known: &Known<'_>) -> Place {
    match (known.message.acked, known.marker.qos) {
        (0, 0) => known.message.first_sent,
        (0, _) => NEVER,
        (acked, _) => acked,
    }
}

impl Delivery<'_> {
    /// The packet id of the copy before this one, or its own.
    pub(crate) fn packet_id_before(&self) -> u16 {
        match self.known {
            Some(known) if known.copies.first > 0 => known.copies.packet_id,
            _ => self.publish.packet_id,
        }
    }
}

impl Inbound {
    /// An exchange that this delivery begins.
    pub(crate) fn none(delivery: &Delivery<'_>) -> Self {
        Self {
            subject: delivery.subject,
            qos: delivery.publish.qos,
            phase: Phase::Publish,
            began: delivery.now,
            last: delivery.now,
            connection: delivery.connection,
            expires: false,
            overlapped: false,
            acked: 0,
            answered_again: false,
        }
    }
}
