//! The client's side of a session: a pure state machine that outlives its connections.
//!
//! The caller owns the socket and the clock, and keeps one order: feed one input ([`Session::handle_opened`],
//! [`Session::handle_packet`], [`Session::handle_closed`], [`Session::handle_timeout`], or a request such as
//! [`Session::publish`]), then drain [`Session::poll_transmit`] and [`Session::poll_event`] to the end, then wait
//! for the next input or for [`Session::poll_timeout`].
//!
//! What it holds to, whatever the connection does:
//!
//! - an accepted publish is never dropped: it is resumed with its packet id, or sent again as new where the server
//!   has lost the session;
//! - what is resumed goes out in its original order and before anything new, never above the server's receive
//!   maximum;
//! - a QoS 2 message is handed over at its first PUBLISH and never again while its packet id is remembered.
//!
//! Deliberately absent: enhanced authentication (AUTH is answered as a protocol error), topic aliases on what we
//! send (they would have to be undone for every resend), and closing on a server that exceeds *our* receive
//! maximum: that is for a judge to name, and closing on it only makes the two sides reconnect for ever.
//!
//! ```
//! use mqtally_proto::packet::{Ack, Connack, Packet, Properties, Publish, Qos, ReasonCode, Version};
//! use mqtally_proto::session::{Event, Options, Session};
//! use mqtally_proto::Time;
//!
//! let now = Time::from_ms(0);
//! let mut session = Session::new(Options::new(Version::V5_0, "pump-7"));
//! session.handle_opened(now);
//! assert!(matches!(session.poll_transmit(), Some(Packet::Connect(_))));
//! let accepted =
//!     Connack { session_present: false, reason: ReasonCode::SUCCESS, properties: Properties::default() };
//! session.handle_packet(now, Packet::Connack(accepted))?;
//! assert!(matches!(session.poll_event(), Some(Event::Connected { session_present: false, .. })));
//!
//! session.publish(1, Publish { qos: Qos::AtLeastOnce, topic: "alerts/door".into(), ..Publish::default() })?;
//! let Some(Packet::Publish(sent)) = session.poll_transmit() else { panic!("nothing to send") };
//! session.handle_packet(now, Packet::Puback(Ack::success(sent.packet_id.unwrap())))?;
//! assert_eq!(session.poll_event(), Some(Event::Completed { token: 1, reason: ReasonCode::SUCCESS }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod inbound;
mod keep_alive;
mod limits;
mod options;
mod receive;
mod send;

pub use error::{ProtocolError, PublishError, RequestError};
pub use options::{Acknowledge, Options};

use crate::Time;
use crate::inflight::Outbound;
use crate::packet::{
    Ack, Connack, Disconnect, Packet, Properties, Property, Publish, ReasonCode, Suback, Subscribe,
    Subscription, Unsuback, Unsubscribe, Version,
};
use bytestring::ByteString;
use inbound::Inbound;
use keep_alive::KeepAlive;
use limits::ServerLimits;
use send::{InFlight, Outgoing, Waiting};
use std::collections::VecDeque;

/// What the session has to tell its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server accepted the connection.
    Connected {
        /// Whether the server resumed the session.
        session_present: bool,
        /// The whole answer.
        connack: Connack,
    },
    /// The server refused the connection and will close it.
    Refused(Connack),
    /// A new application message. Its topic is never empty: an alias has been resolved.
    Message(Publish),
    /// A repeated PUBLISH of a remembered QoS 2 packet id: not for the application; shown for statistics.
    Duplicate(Publish),
    /// The server released this QoS 2 packet id; [`Session::complete`] is owed. Only with [`Acknowledge::EveryStep`].
    Released {
        /// Packet id of the PUBREL.
        packet_id: u16,
    },
    /// The server owns this QoS 2 message: PUBREC came.
    Received {
        /// As given to [`Session::publish`].
        token: u64,
    },
    /// The handshake of a publish has ended: PUBACK, PUBCOMP, or a PUBREC that refuses. At QoS 0 it only means
    /// that the packet has left this state machine.
    Completed {
        /// As given to [`Session::publish`].
        token: u64,
        /// The server's answer, success where it gives none. A failure made here says that the limits of a *new*
        /// connection forbid to send the message again.
        reason: ReasonCode,
    },
    /// Answer to a SUBSCRIBE.
    Subscribed(Suback),
    /// Answer to an UNSUBSCRIBE.
    Unsubscribed(Unsuback),
    /// The server said goodbye (5.0).
    Disconnected(Disconnect),
    /// The server had no session where publishes were in flight. They are sent again as new: their tokens stay, and
    /// each may arrive once more.
    SessionLost {
        /// How many publishes that had been sent before are sent again.
        resent: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Closed,
    /// CONNECT is queued or sent; CONNACK is awaited.
    Opening,
    Open,
    /// DISCONNECT is queued, or the connection was refused: nothing more is sent or taken.
    Closing,
}

/// The client's side of one session.
#[derive(Debug)]
pub struct Session {
    options: Options,
    /// As given, or as assigned by the server.
    client_id: ByteString,
    link: Link,
    /// Whether our side has a session that a server may say is present.
    has_state: bool,
    /// Seconds that the session outlives its connection, as last agreed.
    session_expiry: u32,
    server: ServerLimits,
    keep_alive: KeepAlive,
    outbound: Outbound<InFlight>,
    /// PUBRECs taken so far.
    pubrecs: u64,
    /// CONNACKs so far that said that the server has no session.
    begun: u64,
    inbound: Inbound,
    transmit: VecDeque<Outgoing>,
    events: VecDeque<Event>,
    /// Accepted and never sent, in order.
    waiting: VecDeque<Waiting>,
    /// QoS 1 and 2 publishes accepted and not complete.
    in_flight: usize,
    /// QoS 0 publishes accepted and not taken for writing.
    at_most_once: usize,
}

impl Session {
    /// A session that has never been connected.
    pub fn new(options: Options) -> Self {
        Self {
            client_id: options.client_id.clone(),
            link: Link::Closed,
            has_state: options.resume,
            session_expiry: options.session_expiry_interval,
            server: ServerLimits::default(),
            keep_alive: KeepAlive::default(),
            outbound: Outbound::default(),
            pubrecs: 0,
            begun: 0,
            inbound: Inbound::remembering(&options.remembered),
            transmit: VecDeque::new(),
            events: VecDeque::new(),
            waiting: VecDeque::new(),
            in_flight: 0,
            at_most_once: 0,
            options,
        }
    }

    /// The client id in use: ours, or the one that the server assigned.
    pub fn client_id(&self) -> &ByteString {
        &self.client_id
    }

    /// Whether the connection has to be closed once everything is written: DISCONNECT was queued or received, or the
    /// server refused.
    pub fn is_closing(&self) -> bool {
        self.link == Link::Closing
    }

    /// Whether the next CONNECT asks for a clean start.
    pub fn set_clean_start(&mut self, clean_start: bool) {
        self.options.clean_start = clean_start;
    }

    /// How many sessions the server has begun for this one: a packet id means something to it within one of them.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// The transport is up: CONNECT is queued. A clean start ends our side of the session here, because the server
    /// may carry it out and its answer never arrive.
    pub fn handle_opened(&mut self, _now: Time) {
        self.link = Link::Opening;
        self.session_expiry = self.options.session_expiry_interval;
        self.keep_alive.stop();
        self.inbound.start_connection();
        if self.options.asks_for_clean_session() {
            self.start_anew();
            self.has_state = true;
        }
        let connect = self.options.connect(self.client_id.clone());
        self.send(Packet::Connect(Box::new(connect)));
    }

    /// A packet came. On error the connection cannot go on: [`Session::disconnect`] with the error's reason, close.
    pub fn handle_packet(&mut self, now: Time, packet: Packet) -> Result<(), ProtocolError> {
        self.keep_alive.received();
        match (self.link, packet) {
            (Link::Opening, Packet::Connack(connack)) => self.handle_connack(now, connack),
            (Link::Opening, packet) => Err(ProtocolError::before_connack(&packet)),
            (Link::Open, packet) => self.receive(packet),
            (Link::Closed | Link::Closing, _) => Ok(()),
        }
    }

    /// The transport is gone. What was in flight waits for the next connection.
    pub fn handle_closed(&mut self, _now: Time) {
        if self.link == Link::Closed {
            return;
        }
        self.has_state &= self.session_expiry > 0;
        self.link = Link::Closed;
        self.keep_alive.stop();
        self.outbound.unreserve_all();
        self.keep_untaken();
    }

    /// The time of [`Session::poll_timeout`] has come. Fails when the server has been silent for a whole keep-alive
    /// after a PINGREQ; called again it keeps trying.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), ProtocolError> {
        if self.link == Link::Open && self.keep_alive.handle_timeout(now)? {
            self.send(Packet::Pingreq);
        }
        Ok(())
    }

    /// When [`Session::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.keep_alive.deadline()
    }

    /// Answers a received PUBLISH: PUBACK or PUBREC, as soon as all received before it at its QoS are answered too
    /// [MQTT-4.6.0-2], [MQTT-4.6.0-3]. Nothing happens for a packet id that is not owed an answer.
    pub fn acknowledge(&mut self, packet_id: u16) {
        self.inbound.acknowledge(packet_id);
        self.send_ready_acknowledgements();
    }

    /// Answers a received PUBREL with PUBCOMP, where [`Acknowledge::EveryStep`] left that to the caller. Nothing happens
    /// without a connection: the server will send its PUBREL again.
    pub fn complete(&mut self, packet_id: u16) {
        if self.link == Link::Open && self.inbound.complete(packet_id) {
            self.send(Packet::Pubcomp(Ack::success(packet_id)));
        }
    }

    /// Asks for subscriptions; the answer is [`Event::Subscribed`] with the returned packet id. A request whose
    /// connection ends before the answer is forgotten.
    pub fn subscribe(
        &mut self,
        filters: Vec<Subscription>,
        properties: Properties,
    ) -> Result<u16, RequestError> {
        let packet_id = self.request()?;
        self.send(Packet::Subscribe(Subscribe { packet_id, properties, filters }));
        Ok(packet_id)
    }

    /// Ends subscriptions; the answer is [`Event::Unsubscribed`] with the returned packet id.
    pub fn unsubscribe(
        &mut self,
        filters: Vec<ByteString>,
        properties: Properties,
    ) -> Result<u16, RequestError> {
        let packet_id = self.request()?;
        self.send(Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }));
        Ok(packet_id)
    }

    /// Queues DISCONNECT as the last packet of this connection. `session_expiry` (5.0, seconds) replaces the
    /// interval of the CONNECT; a server takes it as an error where that was 0.
    ///
    /// 3.1.1 has no DISCONNECT with a failure: then nothing is queued, and closing says it (and lets the will out).
    pub fn disconnect(&mut self, reason: ReasonCode, session_expiry: Option<u32>) {
        let v5 = self.options.version == Version::V5_0;
        if v5 || !reason.is_error() {
            self.send(Packet::Disconnect(self.goodbye(reason, session_expiry)));
            self.session_expiry = session_expiry.filter(|_| v5).unwrap_or(self.session_expiry);
        }
        self.stop();
    }

    /// The next thing to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn goodbye(&self, reason: ReasonCode, session_expiry: Option<u32>) -> Disconnect {
        match self.options.version {
            Version::V3_1_1 => Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() },
            Version::V5_0 => {
                let expiry = session_expiry.map(Property::SessionExpiryInterval);
                Disconnect { reason, properties: Properties(expiry.into_iter().collect()) }
            }
        }
    }

    /// Nothing more is sent or taken on this connection.
    fn stop(&mut self) {
        if self.link != Link::Closed {
            self.link = Link::Closing;
            self.keep_alive.stop();
        }
    }

    fn request(&mut self) -> Result<u16, RequestError> {
        if self.link != Link::Open {
            return Err(RequestError::NotConnected);
        }
        self.outbound.reserve().ok_or(RequestError::TooMany)
    }

    fn send_ready_acknowledgements(&mut self) {
        while let Some(packet_id) = self.inbound.next_puback() {
            self.send(Packet::Puback(Ack::success(packet_id)));
        }
        while let Some(packet_id) = self.inbound.next_pubrec() {
            self.send(Packet::Pubrec(Ack::success(packet_id)));
        }
    }

    fn handle_connack(&mut self, now: Time, connack: Connack) -> Result<(), ProtocolError> {
        if connack.reason != ReasonCode::SUCCESS {
            self.stop();
            self.events.push_back(Event::Refused(connack));
            return Ok(());
        }
        let session_present = self.check_session_present(connack.session_present)?;
        self.take_limits(now, &connack);
        self.link = Link::Open;
        self.has_state = true;
        self.events.push_back(Event::Connected { session_present: connack.session_present, connack });
        if session_present {
            self.resume();
        } else {
            self.begun += 1;
            self.start_anew();
        }
        self.pump();
        Ok(())
    }

    /// What the server's answer means for our state [5.0:MQTT-3.2.2-2], [5.0:MQTT-3.2.2-4]. 3.1.1 has no rule for a
    /// client that is told of a session it did not ask for; then our clean start stands.
    fn check_session_present(&self, session_present: bool) -> Result<bool, ProtocolError> {
        let clean = self.options.asks_for_clean_session();
        if self.options.version == Version::V5_0 && session_present && (clean || !self.has_state) {
            return Err(ProtocolError::unexpected_session(clean));
        }
        Ok(session_present && !clean)
    }

    fn take_limits(&mut self, now: Time, connack: &Connack) {
        self.server = ServerLimits::announced(connack);
        if let Some(assigned) = &self.server.assigned_client_id {
            self.client_id = assigned.clone();
        }
        if let Some(seconds) = self.server.session_expiry {
            self.session_expiry = seconds;
        }
        self.keep_alive.start(now, self.server.keep_alive.unwrap_or(self.options.keep_alive));
    }
}
