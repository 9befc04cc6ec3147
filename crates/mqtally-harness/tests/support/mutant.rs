//! A proxy in front of a good broker that breaks one promise.
//!
//! It parses both directions and passes everything on as it is, except where its [`Mutant`] strikes. What it has to
//! answer in the other side's stead it answers, so that nothing but the one promise suffers.

use bytes::BytesMut;
use mqtally_history::marker::{Identity, Marker, Purpose};
use mqtally_proto::packet::{
    Ack, Connack, Packet, Property, Publish, Qos, RetainHandling, Version, encode, observe,
};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Packet ids that no broker reaches in a test; they are the proxy's own.
const OWN_PACKET_ID: u16 = 60_000;
/// The message of a stream that is struck.
const VICTIM: u64 = 5;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Nothing: the control.
    None,
    /// Acknowledges a QoS 1 delivery in the subscriber's stead and drops it.
    DropQos1,
    /// The same at QoS 2, with the whole handshake.
    DropQos2,
    /// Delivers a QoS 2 message again as a new one.
    DeliverQos2Twice,
    /// Lets a returning client begin a new session.
    ForgetSession,
    /// Says that there was no session where one was resumed.
    DenySession,
    /// Says that a session was resumed where there was none.
    InventSession,
    /// Takes DUP off a redelivery.
    ClearDup,
    /// Redelivers under another packet id.
    NewPacketId,
    /// Answers a PUBREL that is sent again in the subscriber's stead.
    ForgetPubrel,
    /// Swaps two neighbours of one stream.
    Swap,
    /// Delivers at a higher QoS than granted.
    UpgradeQos,
    /// Changes the last byte of a payload.
    CorruptPayload,
    /// Swaps two user properties.
    SwapUserProperties,
    /// Delivers a message that nobody sent.
    Phantom,
    /// Delivers a message on a topic that was not asked for.
    WrongTopic,
    /// Acknowledges a retained message in a new subscriber's stead and drops it.
    DropRetained,
    /// Takes RETAIN off what is sent to a new subscriber.
    ClearRetain,
    /// Puts RETAIN on what is sent to an established subscriber.
    SetRetain,
    /// Acknowledges the empty message that clears a topic and drops it.
    KeepRetained,
    /// Sends retained messages whatever Retain Handling says.
    IgnoreRetainHandling,
    /// Acknowledges a will in the witness's stead and drops it.
    DropWill,
    /// Takes DISCONNECT for a lost connection.
    WillOnDisconnect,
    /// Publishes a will at once.
    IgnoreWillDelay,
    /// Keeps to the session expiry of CONNECT.
    IgnoreOverride,
    /// Keeps a message longer than its interval.
    IgnoreExpiry,
    /// Sends an expiry interval as it was published.
    RestoreExpiry,
    /// Sends packets of any size.
    IgnorePacketSize,
    /// Sends no subscription identifiers.
    StripIdentifiers,
}

/// The proxy. It ends with its handle.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: AbortHandle,
}

impl Proxy {
    pub(crate) async fn start(broker: SocketAddr, mutant: Mutant, run: u32) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("no port");
        let address = listener.local_addr().expect("no address");
        let state = Arc::new(Mutex::new(State { mutant, run, strikes: 0, connects: HashMap::new() }));
        let accepting = tokio::spawn(accept(listener, broker, state.clone())).abort_handle();
        Self { address, state, accepting }
    }

    /// How often the mutant struck.
    pub(crate) fn strikes(&self) -> u32 {
        self.state.lock().expect("the proxy panicked").strikes
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct State {
    mutant: Mutant,
    run: u32,
    strikes: u32,
    /// Connections of each client so far.
    connects: HashMap<String, u32>,
}

/// One client's connection through the proxy.
#[derive(Default)]
struct Link {
    client: String,
    version: Option<Version>,
    /// Which connection of its client it is, from 1.
    number: u32,
    to_client: BytesMut,
    to_broker: BytesMut,
    /// A delivery that waits for its successor.
    held_back: Option<Publish>,
    /// What the client knows by a packet id of the proxy's, and the broker by its own.
    renamed: Option<u16>,
}

/// What became of a packet from a client.
enum Bent {
    Not,
    Changed,
    Dropped,
}

async fn accept(listener: TcpListener, broker: SocketAddr, state: Arc<Mutex<State>>) {
    let mut links = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let state = state.clone();
        links.spawn(async move {
            if let Ok(upstream) = TcpStream::connect(broker).await {
                let _ = relay(client, upstream, &state).await;
            }
        });
    }
}

/// Passes packets until both sides have ended. A reset is passed on as a reset.
async fn relay(mut client: TcpStream, mut broker: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let (mut from_client, mut from_broker) = (BytesMut::new(), BytesMut::new());
    let (mut client_open, mut broker_open) = (true, true);
    let mut link = Link::default();
    while client_open || broker_open {
        tokio::select! {
            read = client.read_buf(&mut from_client), if client_open => match read {
                Ok(0) => {
                    client_open = false;
                    broker.shutdown().await?;
                }
                Ok(_) => link.take(&mut from_client, state, Link::client_says),
                Err(_) => return broker.set_zero_linger(),
            },
            read = broker.read_buf(&mut from_broker), if broker_open => match read {
                Ok(0) => {
                    broker_open = false;
                    client.shutdown().await?;
                }
                Ok(_) => link.take(&mut from_broker, state, Link::broker_says),
                Err(_) => return client.set_zero_linger(),
            },
        }
        if broker.write_all_buf(&mut link.to_broker).await.is_err() && !client_open {
            return Ok(());
        }
        if client.write_all_buf(&mut link.to_client).await.is_err() {
            return broker.set_zero_linger();
        }
    }
    Ok(())
}

impl Link {
    fn take(&mut self, bytes: &mut BytesMut, state: &Mutex<State>, pass: fn(&mut Self, Packet, &mut State)) {
        let state = &mut *state.lock().expect("the proxy panicked");
        while let Ok(Some(observed)) = observe(bytes, self.version.unwrap_or(Version::V5_0)) {
            pass(self, observed.packet.expect("both sides speak MQTT"), state);
        }
    }

    fn client_says(&mut self, mut packet: Packet, state: &mut State) {
        match &mut packet {
            Packet::Connect(connect) => {
                self.client = connect.client_id.to_string();
                self.version = Some(connect.version);
                let connects = state.connects.entry(self.client.clone()).or_default();
                *connects += 1;
                self.number = *connects;
                if state.mutant == Mutant::ForgetSession
                    && self.is("persistent-test-client")
                    && self.number == 2
                {
                    state.strikes += 1;
                    connect.clean_start = true;
                }
            }
            Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubcomp(ack)
                if ack.packet_id >= OWN_PACKET_ID =>
            {
                return self.answer_own(&packet);
            }
            _ => {}
        }
        match self.bend(&mut packet, state.mutant) {
            Bent::Not => {}
            Bent::Changed => state.strikes += 1,
            Bent::Dropped => {
                state.strikes += 1;
                return;
            }
        }
        self.broker(&packet);
    }

    /// What a client asks for, and a broker that does not listen.
    fn bend(&mut self, packet: &mut Packet, mutant: Mutant) -> Bent {
        match packet {
            Packet::Connect(connect) if mutant == Mutant::IgnoreWillDelay && self.is("delay-resumed") => {
                let Some(will) = &mut connect.will else { return Bent::Not };
                will.properties.0.clear();
            }
            Packet::Connect(connect) if mutant == Mutant::IgnorePacketSize && self.is("small-packets") => {
                connect.properties.0.retain(|it| !matches!(it, Property::MaximumPacketSize(_)));
            }
            Packet::Subscribe(subscribe)
                if mutant == Mutant::IgnoreRetainHandling && self.is("handling-declining") =>
            {
                subscribe.filters.iter_mut().for_each(|it| it.retain_handling = RetainHandling::Send);
            }
            Packet::Publish(publish) if mutant == Mutant::IgnoreExpiry && self.is("-expiry-publisher") => {
                publish.properties.0 = vec![Property::MessageExpiryInterval(60)];
            }
            Packet::Publish(publish) if mutant == Mutant::KeepRetained && publish.payload.is_empty() => {
                self.client(&Packet::Puback(Ack::success(publish.packet_id.unwrap_or_default())));
                return Bent::Dropped;
            }
            Packet::Disconnect(_) if mutant == Mutant::WillOnDisconnect && self.is("will-disconnect") => {
                return Bent::Dropped;
            }
            Packet::Disconnect(disconnect)
                if mutant == Mutant::IgnoreOverride && self.is("override-longer") && self.number == 1 =>
            {
                disconnect.properties.0.clear();
            }
            _ => return Bent::Not,
        }
        Bent::Changed
    }

    /// The client answers a delivery that the broker knows nothing of, or knows under another packet id.
    fn answer_own(&mut self, packet: &Packet) {
        match (packet, self.renamed.take()) {
            (Packet::Puback(_), Some(renamed)) => self.broker(&Packet::Puback(Ack::success(renamed))),
            (Packet::Pubrec(ack), _) => self.client(&Packet::Pubrel(Ack::success(ack.packet_id))),
            _ => {}
        }
    }

    fn broker_says(&mut self, packet: Packet, state: &mut State) {
        match packet {
            Packet::Connack(connack) => self.connack(connack, state),
            Packet::Publish(publish) => self.publish(publish, state),
            Packet::Pubrel(ack)
                if state.mutant == Mutant::ForgetPubrel && self.is("release-fin") && self.number == 2 =>
            {
                state.strikes += 1;
                self.broker(&Packet::Pubcomp(Ack::success(ack.packet_id)));
            }
            Packet::Pubrel(ack)
                if state.mutant == Mutant::DropQos2 && self.renamed == Some(ack.packet_id) =>
            {
                self.renamed = None;
                self.broker(&Packet::Pubcomp(Ack::success(ack.packet_id)));
            }
            other => self.client(&other),
        }
    }

    fn connack(&mut self, mut connack: Connack, state: &mut State) {
        let strikes = match state.mutant {
            Mutant::DenySession => self.is("away-disconnect") && self.number == 2,
            Mutant::InventSession => self.is("held-qos1-fin") && self.number == 1,
            _ => false,
        };
        if strikes {
            state.strikes += 1;
            connack.session_present = !connack.session_present;
        }
        self.client(&Packet::Connack(connack));
    }

    fn publish(&mut self, mut publish: Publish, state: &mut State) {
        if let Some(before) = self.held_back.take() {
            if before.topic == publish.topic {
                self.client(&Packet::Publish(publish));
                return self.client(&Packet::Publish(before));
            }
            self.held_back = Some(before);
        }
        let Identity::Ours(marker) = Identity::of(state.run, &publish.payload) else {
            return self.client(&Packet::Publish(publish));
        };
        if !self.is_victim(&publish, &marker, state.mutant) {
            return self.client(&Packet::Publish(publish));
        }
        state.strikes += 1;
        let packet_id = publish.packet_id.unwrap_or_default();
        match state.mutant {
            Mutant::DropQos1 | Mutant::DropRetained | Mutant::DropWill => {
                return self.broker(&Packet::Puback(Ack::success(packet_id)));
            }
            Mutant::DropQos2 => {
                self.renamed = Some(packet_id);
                return self.broker(&Packet::Pubrec(Ack::success(packet_id)));
            }
            Mutant::DeliverQos2Twice => {
                self.client(&Packet::Publish(publish.clone()));
                publish.packet_id = Some(OWN_PACKET_ID);
            }
            Mutant::ClearDup => publish.dup = false,
            Mutant::NewPacketId => {
                self.renamed = Some(packet_id);
                publish.packet_id = Some(OWN_PACKET_ID + 1);
            }
            Mutant::Swap => {
                self.held_back = Some(publish);
                return;
            }
            Mutant::UpgradeQos => {
                publish.qos = Qos::AtLeastOnce;
                publish.packet_id = Some(OWN_PACKET_ID + 2);
            }
            Mutant::CorruptPayload => publish.payload = corrupted(&publish),
            Mutant::SwapUserProperties => publish.properties.0.reverse(),
            Mutant::Phantom => {
                self.client(&Packet::Publish(publish.clone()));
                publish = phantom(publish, marker);
            }
            Mutant::ClearRetain => publish.retain = false,
            Mutant::SetRetain => publish.retain = true,
            Mutant::RestoreExpiry => publish.properties.0 = vec![Property::MessageExpiryInterval(60)],
            Mutant::StripIdentifiers => publish.properties.0.clear(),
            Mutant::WrongTopic => publish.topic = format!("{}x", publish.topic).into(),
            other => unreachable!("{other:?} strikes no delivery"),
        }
        self.client(&Packet::Publish(publish));
    }

    /// One delivery of one stream to one client.
    fn is_victim(&self, publish: &Publish, marker: &Marker, mutant: Mutant) -> bool {
        let window_10 = |qos: u8| publish.topic.ends_with(&format!("window-10/{qos}"));
        let bulk = |to: &str, qos: u8| self.is(to) && window_10(qos) && marker.message.sequence == VICTIM;
        let redelivered = self.is("held-qos1-fin") && self.number == 2 && publish.dup;
        match mutant {
            Mutant::DropQos1 | Mutant::Swap | Mutant::Phantom => bulk("bulk-granted-1", 1),
            Mutant::DropQos2 | Mutant::DeliverQos2Twice => bulk("bulk-granted-2", 2),
            Mutant::UpgradeQos => bulk("bulk-granted-0", 1),
            Mutant::CorruptPayload => self.is("bulk-granted-2") && window_10(2) && publish.payload.len() > 40,
            Mutant::SwapUserProperties => self.is("bulk-granted-1") && publish.properties.0.len() > 4,
            Mutant::WrongTopic => self.is("bulk-exact") && marker.message.sequence == VICTIM,
            Mutant::ClearDup => redelivered,
            Mutant::DropRetained => self.is("retained-late-1") && publish.topic.ends_with("state/1"),
            Mutant::ClearRetain => self.is("retained-late-1") && publish.retain,
            Mutant::SetRetain => self.is("retained-live"),
            Mutant::DropWill => self.is("will-witness") && publish.topic.ends_with("will-fin"),
            Mutant::RestoreExpiry => self.is("expiry-away") && !publish.properties.is_empty(),
            Mutant::StripIdentifiers => self.is("numbering") && !publish.properties.is_empty(),
            Mutant::NewPacketId => redelivered && marker.message.sequence == 0,
            _ => false,
        }
    }

    fn is(&self, role: &str) -> bool {
        self.client.ends_with(role)
    }

    fn client(&mut self, packet: &Packet) {
        write(packet, self.version, &mut self.to_client);
    }

    fn broker(&mut self, packet: &Packet) {
        write(packet, self.version, &mut self.to_broker);
    }
}

fn write(packet: &Packet, version: Option<Version>, out: &mut BytesMut) {
    encode(packet, version.expect("CONNECT comes first"), out).expect("what was read can be written");
}

fn corrupted(publish: &Publish) -> bytes::Bytes {
    let mut payload = publish.payload.to_vec();
    *payload.last_mut().expect("it has a body") ^= 0x40;
    payload.into()
}

/// The next message but a thousand of the same stream: no publisher gets that far.
fn phantom(mut publish: Publish, mut marker: Marker) -> Publish {
    marker.message.sequence += 1_000_000;
    marker.purpose = Purpose::Load;
    publish.payload = marker.encode().to_vec().into();
    publish.packet_id = Some(OWN_PACKET_ID + 3);
    publish
}
