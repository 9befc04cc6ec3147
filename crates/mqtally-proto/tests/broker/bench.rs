//! A broker with clients in virtual time.
//!
//! After every input the changes are applied to a [`Stored`] that has to equal what the broker says it is, and every
//! packet to a client is encoded and strictly decoded as that client would: a law about storage or about bytes that is
//! broken anywhere breaks the test that happens to pass there.

use bytes::{Bytes, BytesMut};
use mqtally_proto::Time;
use mqtally_proto::broker::{Broker, Config, ConnectionId, Limits, Output, Stored};
use mqtally_proto::packet::{
    Ack, Connack, Connect, Decoder, Disconnect, Packet, Properties, Property, Publish, Qos, ReasonCode,
    Suback, Subscribe, Subscription, Unsubscribe, Version, Will, encode,
};
use std::collections::BTreeMap;

pub(crate) const VERSIONS: [Version; 2] = [Version::V3_1_1, Version::V5_0];

/// A client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client(pub(crate) ConnectionId);

#[derive(Debug)]
struct Line {
    version: Version,
    decoder: Decoder,
    received: Vec<Packet>,
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) broker: Broker,
    pub(crate) now: Time,
    pub(crate) stored: Stored,
    pub(crate) changes: usize,
    config: Config,
    lines: BTreeMap<ConnectionId, Line>,
    pub(crate) asked: Vec<ConnectionId>,
    opened: u64,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::with_config(Config { limits, authenticate: false })
    }

    pub(crate) fn with_config(config: Config) -> Self {
        Self {
            broker: Broker::new(config.clone()),
            now: Time::from_ms(1_000_000),
            stored: Stored::default(),
            changes: 0,
            config,
            lines: BTreeMap::new(),
            asked: Vec::new(),
            opened: 0,
        }
    }

    /// Opens a connection that will speak `version`.
    pub(crate) fn open(&mut self, version: Version) -> Client {
        self.opened += 1;
        let id = ConnectionId(self.opened);
        let decoder = Decoder::client(version, u32::MAX);
        self.lines.insert(id, Line { version, decoder, received: Vec::new(), closed: false });
        self.broker.handle_opened(self.now, id);
        self.settle();
        Client(id)
    }

    /// Opens a connection and sends CONNECT; the answer is left to be taken.
    pub(crate) fn apply(&mut self, connect: Connect) -> Client {
        let client = self.open(connect.version);
        self.send(client, Packet::Connect(Box::new(connect)));
        client
    }

    /// Connects, and gives the CONNACK and what followed it.
    pub(crate) fn enter(&mut self, connect: Connect) -> (Client, Connack, Vec<Packet>) {
        let client = self.apply(connect);
        let mut received = self.take(client);
        assert!(!received.is_empty(), "no CONNACK");
        match received.remove(0) {
            Packet::Connack(connack) => (client, connack, received),
            other => panic!("{other:?} before CONNACK"),
        }
    }

    /// Connects and is let in.
    pub(crate) fn connect(&mut self, connect: Connect) -> Client {
        let (client, connack, _) = self.enter(connect);
        assert_eq!(connack.reason, ReasonCode::SUCCESS);
        client
    }

    pub(crate) fn send(&mut self, client: Client, packet: Packet) {
        self.broker.handle_packet(self.now, client.0, packet);
        self.settle();
    }

    /// Sends, and gives what came back to the same client; what it had not taken before stays.
    pub(crate) fn ask(&mut self, client: Client, packet: Packet) -> Vec<Packet> {
        let unread = self.lines[&client.0].received.len();
        self.send(client, packet);
        self.lines.get_mut(&client.0).expect("a client of this bench").received.split_off(unread)
    }

    /// Subscribes and is granted what was asked.
    pub(crate) fn subscribe(&mut self, client: Client, filter: &str, qos: Qos) {
        let answer = self.subscribe_with(client, vec![Subscription::new(filter, qos)], Properties::default());
        let [Packet::Suback(suback), ..] = &answer[..] else { panic!("{answer:?}") };
        assert_eq!(suback.reasons, [ReasonCode(qos as u8)]);
    }

    /// Subscribes, and gives everything that came back.
    pub(crate) fn subscribe_with(
        &mut self,
        client: Client,
        filters: Vec<Subscription>,
        properties: Properties,
    ) -> Vec<Packet> {
        self.ask(client, Packet::Subscribe(Subscribe { packet_id: 1, properties, filters }))
    }

    /// The reason codes that a SUBSCRIBE is answered with.
    pub(crate) fn suback(&mut self, client: Client, filters: Vec<Subscription>) -> Vec<ReasonCode> {
        match self.subscribe_with(client, filters, Properties::default()).first() {
            Some(Packet::Suback(Suback { reasons, .. })) => reasons.clone(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn unsubscribe(&mut self, client: Client, filters: &[&str]) -> Vec<Packet> {
        let filters = filters.iter().map(|&filter| filter.into()).collect();
        let properties = Properties::default();
        self.ask(client, Packet::Unsubscribe(Unsubscribe { packet_id: 2, properties, filters }))
    }

    /// What the client has received since it was last asked.
    pub(crate) fn take(&mut self, client: Client) -> Vec<Packet> {
        std::mem::take(&mut self.lines.get_mut(&client.0).expect("a client of this bench").received)
    }

    /// The PUBLISH packets among what the client has received.
    pub(crate) fn publishes(&mut self, client: Client) -> Vec<Publish> {
        publishes_of(self.take(client))
    }

    /// Whether the broker has closed the connection.
    pub(crate) fn is_closed(&self, client: Client) -> bool {
        self.lines[&client.0].closed
    }

    /// The reason of the DISCONNECT that a 5.0 client was closed with.
    pub(crate) fn closed_with(&mut self, client: Client) -> ReasonCode {
        assert!(self.is_closed(client), "not closed; received {:?}", self.take(client));
        match self.take(client).last() {
            Some(Packet::Disconnect(disconnect)) => disconnect.reason,
            other => panic!("closed after {other:?}"),
        }
    }

    /// The transport is gone.
    pub(crate) fn cut(&mut self, client: Client) {
        self.broker.handle_closed(self.now, client.0);
        self.settle();
    }

    pub(crate) fn leave(&mut self, client: Client) {
        self.disconnect(client, ReasonCode::SUCCESS, Properties::default());
    }

    pub(crate) fn disconnect(&mut self, client: Client, reason: ReasonCode, properties: Properties) {
        self.send(client, Packet::Disconnect(Disconnect { reason, properties }));
    }

    /// Lets time pass, stopping wherever something is due.
    pub(crate) fn pass_secs(&mut self, seconds: u64) {
        let end = self.now.plus_secs(seconds);
        while let Some(due) = self.broker.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.broker.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    /// The process dies; a new one begins with what was stored.
    pub(crate) fn restart(&mut self) {
        self.broker = Broker::restore(self.config.clone(), self.stored.clone(), self.now);
        self.lines.values_mut().for_each(|line| line.closed = true);
        self.settle();
    }

    /// Applies the changes, checks them, and hands out the outputs.
    pub(crate) fn settle(&mut self) {
        for change in self.broker.changes() {
            self.changes += 1;
            self.stored.apply(change);
        }
        assert_eq!(in_order(self.stored.clone()), self.broker.stored());
        for output in self.broker.outputs() {
            match output {
                Output::Send(id, packet) => {
                    self.lines.get_mut(&id).expect("a known connection").receive(packet);
                }
                Output::Close(id) => self.lines.get_mut(&id).expect("a known connection").closed = true,
                Output::Authenticate(id, ..) => self.asked.push(id),
            }
        }
    }
}

impl Line {
    fn receive(&mut self, packet: Packet) {
        assert!(!self.closed, "{packet:?} after close");
        let mut bytes = BytesMut::new();
        encode(&packet, self.version, &mut bytes).expect("a packet that can be written");
        assert_eq!(self.decoder.decode(&mut bytes).as_ref(), Ok(&Some(packet.clone())));
        self.received.push(packet);
    }
}

/// The same in the order in which [`Broker::stored`] gives it.
fn in_order(mut stored: Stored) -> Stored {
    stored.sessions.sort_by_key(|(session, ..)| session.id);
    for (_, subscriptions, deliveries, received) in &mut stored.sessions {
        subscriptions.sort_by(|one, other| one.subscription.filter.cmp(&other.subscription.filter));
        deliveries.sort_by_key(|delivery| delivery.sequence);
        received.sort_unstable();
    }
    stored.messages.sort_by_key(|(id, _)| *id);
    stored.retained.sort_by(|one, other| one.topic.cmp(&other.topic));
    stored
}

/// A CONNECT whose session ends with its connection.
pub(crate) fn clean(version: Version, client_id: &str) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive: 0,
        client_id: client_id.into(),
        will: None,
        username: None,
        password: None,
        properties: Properties::default(),
    }
}

/// A CONNECT whose session lasts, and is taken up again.
pub(crate) fn durable(version: Version, client_id: &str) -> Connect {
    let properties = match version {
        Version::V3_1_1 => Properties::default(),
        Version::V5_0 => properties([Property::SessionExpiryInterval(3_600)]),
    };
    Connect { clean_start: false, properties, ..clean(version, client_id) }
}

pub(crate) fn properties<const N: usize>(properties: [Property; N]) -> Properties {
    Properties(properties.into())
}

pub(crate) fn publish(topic: &str, qos: Qos, packet_id: u16, payload: &str) -> Packet {
    Packet::Publish(message(topic, qos, packet_id, payload))
}

pub(crate) fn message(topic: &str, qos: Qos, packet_id: u16, payload: &str) -> Publish {
    Publish {
        qos,
        topic: topic.into(),
        packet_id: (qos > Qos::AtMostOnce).then_some(packet_id),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        ..Publish::default()
    }
}

pub(crate) fn retained(topic: &str, qos: Qos, packet_id: u16, payload: &str) -> Packet {
    Packet::Publish(Publish { retain: true, ..message(topic, qos, packet_id, payload) })
}

pub(crate) fn will(topic: &str, payload: &str, properties: Properties) -> Option<Will> {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Some(Will { topic: topic.into(), payload, qos: Qos::AtLeastOnce, retain: false, properties })
}

pub(crate) fn puback(id: u16) -> Packet {
    Packet::Puback(Ack::success(id))
}

pub(crate) fn pubrec(id: u16) -> Packet {
    Packet::Pubrec(Ack::success(id))
}

pub(crate) fn pubrel(id: u16) -> Packet {
    Packet::Pubrel(Ack::success(id))
}

pub(crate) fn pubcomp(id: u16) -> Packet {
    Packet::Pubcomp(Ack::success(id))
}

pub(crate) fn publishes_of(packets: Vec<Packet>) -> Vec<Publish> {
    let publishes = packets.into_iter().filter_map(|packet| match packet {
        Packet::Publish(publish) => Some(publish),
        _ => None,
    });
    publishes.collect()
}

/// The payloads of PUBLISH packets as text.
pub(crate) fn payloads(publishes: &[Publish]) -> Vec<&str> {
    publishes.iter().map(|publish| std::str::from_utf8(&publish.payload).expect("text")).collect()
}

/// `(packet id, DUP, payload)` of each PUBLISH.
pub(crate) fn attempts(publishes: &[Publish]) -> Vec<(u16, bool, &str)> {
    let ids = publishes.iter().map(|publish| (publish.packet_id.unwrap_or(0), publish.dup));
    ids.zip(payloads(publishes)).map(|((id, dup), payload)| (id, dup, payload)).collect()
}
