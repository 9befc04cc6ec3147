//! A broker that keeps one session, records what it takes as a message, and misbehaves as it is told to.

#![allow(dead_code, reason = "each test file uses a part of it")]

use bytes::BytesMut;
use mqtally::endpoint::Endpoint;
use mqtally_proto::packet::{
    Ack, Connack, Connect, Decoder, Packet, Properties, Publish, Qos, ReasonCode, Version, encode,
};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How the broker behaves; to be changed at any time.
#[derive(Default)]
pub(crate) struct Plan {
    /// Properties of the next CONNACKs.
    pub(crate) connack: Properties,
    /// Reason of the next CONNACKs, success when absent.
    pub(crate) refuse: Option<ReasonCode>,
    /// The session is lost before the next CONNECT is answered.
    pub(crate) lose_session: bool,
    /// Packets after CONNECT that each connection takes before it is cut without an answer to the last.
    pub(crate) cut_after: Option<fn(u64) -> usize>,
    /// What changes at each CONNECT, given its number.
    pub(crate) at_connect: Option<fn(u64, &mut Plan)>,
    /// A PUBLISH with this payload ends the connection.
    pub(crate) poison: Option<&'static str>,
    /// A PUBLISH with this payload is taken and not answered.
    pub(crate) unanswered: Option<&'static str>,
    /// A QoS 2 message is passed on with its PUBREL, as mosquitto does; otherwise with its PUBLISH.
    pub(crate) passes_on_released: bool,
    /// Nothing but CONNECT is answered.
    pub(crate) mute: bool,
    /// The answer to a PUBLISH: PUBACK's or PUBREC's reason.
    pub(crate) answer: Option<fn(&Publish) -> ReasonCode>,
}

/// A message that the broker took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: Qos,
    pub(crate) id: Option<String>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) plan: Plan,
    /// QoS 2 messages by the packet ids that are remembered; none without a session.
    session: Option<HashMap<u16, Publish>>,
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) frames: Vec<Packet>,
    pub(crate) connections: u64,
}

pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state, accepting }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::new("127.0.0.1", self.address.port())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn plan(&self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.state().plan);
    }

    /// Payloads in the order of their arrival.
    pub(crate) fn payloads(&self) -> Vec<String> {
        self.state().arrivals.iter().map(|arrival| arrival.payload.clone()).collect()
    }

    /// How often each payload arrived, and under which ids.
    pub(crate) fn copies(&self) -> BTreeMap<String, Vec<Option<String>>> {
        let mut copies = BTreeMap::<_, Vec<_>>::new();
        for arrival in &self.state().arrivals {
            copies.entry(arrival.payload.clone()).or_default().push(arrival.id.clone());
        }
        copies
    }

    /// Waits until the condition holds.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        for _ in 0..10_000 {
            if condition(&self.state()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("not within ten seconds: {what}");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let (mut decoder, mut input, mut output) = (Decoder::server(1 << 20), BytesMut::new(), BytesMut::new());
    let (mut version, mut left) = (Version::V5_0, usize::MAX);
    loop {
        while let Some(packet) = decoder.decode(&mut input).unwrap() {
            if left == 0 {
                return;
            }
            left -= 1;
            let poison = state.lock().unwrap().plan.poison;
            if matches!(&packet, Packet::Publish(publish) if poison.is_some_and(|it| it == publish.payload)) {
                let _ = stream.write_all(&output).await; // what was before it is answered
                return;
            }
            let mut state = state.lock().unwrap();
            state.frames.push(packet.clone());
            let answer = match packet {
                Packet::Connect(connect) => {
                    version = connect.version;
                    state.connections += 1;
                    let connection = state.connections;
                    if let Some(change) = state.plan.at_connect {
                        change(connection, &mut state.plan);
                    }
                    left = state.plan.cut_after.map_or(usize::MAX, |cut| cut(connection));
                    Some(state.connect(&connect))
                }
                Packet::Disconnect(_) => return,
                Packet::Publish(publish) => state.publish(&publish),
                Packet::Pubrel(Ack { packet_id, .. }) => state.release(packet_id, version),
                Packet::Pingreq => Some(Packet::Pingresp),
                _ => None,
            };
            if left == 0 {
                return;
            }
            if let Some(answer) =
                answer.filter(|answer| !state.plan.mute || matches!(answer, Packet::Connack(_)))
            {
                write(&answer, version, &mut output);
            }
        }
        if stream.write_all(&output.split()).await.is_err() {
            return;
        }
        if stream.read_buf(&mut input).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// Also an answer that MQTT does not know.
fn write(answer: &Packet, version: Version, output: &mut BytesMut) {
    match (encode(answer, version, output), answer) {
        (Ok(()), _) => {}
        (Err(_), Packet::Puback(ack)) => output.extend([0x40, 3, 0, ack.packet_id as u8, ack.reason.0]),
        (Err(_), Packet::Pubrec(ack)) => output.extend([0x50, 3, 0, ack.packet_id as u8, ack.reason.0]),
        (Err(error), _) => panic!("{error}"),
    }
}

impl State {
    fn connect(&mut self, connect: &Connect) -> Packet {
        if connect.clean_start || std::mem::take(&mut self.plan.lose_session) {
            self.session = None;
        }
        let reason = self.plan.refuse.unwrap_or(ReasonCode::SUCCESS);
        let session_present = self.session.is_some() && reason == ReasonCode::SUCCESS;
        self.session.get_or_insert_default();
        Packet::Connack(Connack { session_present, reason, properties: self.plan.connack.clone() })
    }

    fn publish(&mut self, publish: &Publish) -> Option<Packet> {
        let reason = self.plan.answer.map_or(ReasonCode::SUCCESS, |answer| answer(publish));
        let packet_id = publish.packet_id.unwrap_or_default();
        if !reason.is_error() {
            match publish.qos {
                Qos::ExactlyOnce => self.remember(packet_id, publish),
                Qos::AtMostOnce | Qos::AtLeastOnce => self.arrive(publish),
            }
        }
        let ack = Ack::with_reason(packet_id, reason);
        let answer = match publish.qos {
            Qos::AtMostOnce => None,
            Qos::AtLeastOnce => Some(Packet::Puback(ack)),
            Qos::ExactlyOnce => Some(Packet::Pubrec(ack)),
        };
        answer.filter(|_| self.plan.unanswered.is_none_or(|payload| payload != publish.payload))
    }

    fn remember(&mut self, packet_id: u16, publish: &Publish) {
        let known = self.session.get_or_insert_default().insert(packet_id, publish.clone());
        if known.is_none() && !self.plan.passes_on_released {
            self.arrive(publish);
        }
    }

    fn arrive(&mut self, publish: &Publish) {
        let id = publish.properties.user_properties().find(|(name, _)| &***name == "mqtally-id");
        self.arrivals.push(Arrival {
            topic: publish.topic.to_string(),
            payload: String::from_utf8(publish.payload.to_vec()).unwrap(),
            qos: publish.qos,
            id: id.map(|(_, value)| value.to_string()),
        });
    }

    fn release(&mut self, packet_id: u16, version: Version) -> Option<Packet> {
        let known = self.session.get_or_insert_default().remove(&packet_id);
        if let Some(publish) = known.as_ref().filter(|_| self.plan.passes_on_released) {
            self.arrive(publish);
        }
        let reason = match known.is_some() || version == Version::V3_1_1 {
            true => ReasonCode::SUCCESS,
            false => ReasonCode::PACKET_IDENTIFIER_NOT_FOUND,
        };
        Some(Packet::Pubcomp(Ack::with_reason(packet_id, reason)))
    }
}
