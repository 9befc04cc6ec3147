//! A session on a bench: its inputs and outputs in hand, time standing still unless told otherwise.

use mqtally_proto::Time;
use mqtally_proto::packet::{Ack, Connack, Packet, Properties, Property, Publish, Qos, ReasonCode, Version};
use mqtally_proto::session::{Event, Options, ProtocolError, Session};

pub(crate) const VERSIONS: [Version; 2] = [Version::V3_1_1, Version::V5_0];

pub(crate) struct Bench {
    pub(crate) session: Session,
    pub(crate) now: Time,
}

impl Bench {
    pub(crate) fn new(options: Options) -> Self {
        Self { session: Session::new(options), now: Time::from_ms(1_000) }
    }

    /// Connected to a server that had no session; nothing left to send or to tell.
    pub(crate) fn connected(options: Options) -> Self {
        let mut bench = Self::new(options);
        bench.connect(false);
        bench.events();
        bench
    }

    pub(crate) fn connect(&mut self, session_present: bool) {
        self.connect_with(session_present, vec![]);
    }

    pub(crate) fn connect_with(&mut self, session_present: bool, properties: Vec<Property>) {
        self.session.handle_opened(self.now);
        assert!(matches!(self.sent()[..], [Packet::Connect(_)]), "CONNECT is first and alone");
        self.receive(connack(session_present, properties));
    }

    pub(crate) fn cut(&mut self) {
        self.session.handle_closed(self.now);
        assert_eq!(self.sent(), []);
    }

    pub(crate) fn publish(&mut self, token: u64, qos: Qos) {
        self.session.publish(token, message(qos)).unwrap();
    }

    pub(crate) fn receive(&mut self, packet: Packet) {
        self.session.handle_packet(self.now, packet).unwrap();
    }

    /// Until the session's deadline.
    pub(crate) fn sleep(&mut self) -> Result<(), ProtocolError> {
        self.now = self.session.poll_timeout().expect("a deadline");
        self.session.handle_timeout(self.now)
    }

    pub(crate) fn sent(&mut self) -> Vec<Packet> {
        std::iter::from_fn(|| self.session.poll_transmit()).collect()
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    pub(crate) fn messages(&mut self) -> Vec<Publish> {
        let message = |event| if let Event::Message(publish) = event { Some(publish) } else { None };
        self.events().into_iter().filter_map(message).collect()
    }
}

/// A session that outlives its connections and asks for no clean start.
pub(crate) fn lasting(version: Version) -> Options {
    Options { clean_start: false, session_expiry_interval: 60, ..Options::new(version, "c") }
}

pub(crate) fn connack(session_present: bool, properties: Vec<Property>) -> Packet {
    let properties = Properties(properties);
    Packet::Connack(Connack { session_present, reason: ReasonCode::SUCCESS, properties })
}

pub(crate) fn ack(packet_id: u16) -> Ack {
    Ack::success(packet_id)
}

pub(crate) fn message(qos: Qos) -> Publish {
    Publish { qos, topic: "t".into(), ..Publish::default() }
}

pub(crate) fn inbound(qos: Qos, packet_id: u16) -> Publish {
    Publish { packet_id: Some(packet_id), ..message(qos) }
}

/// The packet ids of the PUBLISHes, `None` for what has none.
pub(crate) fn sent_ids(packets: &[Packet]) -> Vec<Option<u16>> {
    let id = |packet: &Packet| if let Packet::Publish(publish) = packet { publish.packet_id } else { None };
    packets.iter().map(id).collect()
}
