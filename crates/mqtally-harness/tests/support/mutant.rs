//! A proxy in front of a good broker that breaks one promise.
//!
//! It parses both directions and passes everything on as it is, except where its [`Mutant`] strikes. What it has to
//! answer in the other side's stead it answers, so that nothing but the one promise suffers.

mod delivery;
mod filters;
mod kinds;
mod queue;

pub(crate) use kinds::Mutant;

use bytes::BytesMut;
use bytestring::ByteString;
use mqtally_history::marker::{Identity, MessageId};
use mqtally_proto::packet::{
    Ack, Connack, Packet, Properties, Property, Publish, Qos, ReasonCode, RetainHandling, Unsuback, Version,
    encode, observe,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Packet ids that no broker reaches in a test; they are the proxy's own.
const OWN_PACKET_ID: u16 = 60_000;
/// The packet id of the PUBREL that belongs to nothing.
const UNKNOWN_PACKET_ID: u16 = 4_711;

/// The proxy. It ends with its handle.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: AbortHandle,
}

impl Proxy {
    pub(crate) async fn start(broker: SocketAddr, mutant: Mutant, run: u32) -> Self {
        Self::listen(0, broker, mutant, run).await
    }

    /// The same at this port.
    pub(crate) async fn listen(port: u16, broker: SocketAddr, mutant: Mutant, run: u32) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("no port");
        let address = listener.local_addr().expect("no address");
        let state = Arc::new(Mutex::new(State {
            mutant,
            run,
            strikes: 0,
            connects: HashMap::new(),
            kept: None,
            filters: Vec::new(),
            torn: HashSet::new(),
            seen: HashSet::new(),
            seen_again: HashSet::new(),
            retained: HashSet::new(),
            noted: filters::noted(),
        }));
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
    /// A delivery that goes to somebody else, or again, later.
    kept: Option<Publish>,
    /// What a client subscribed to.
    filters: Vec<ByteString>,
    /// Clients whose link ended inside a PUBREC.
    torn: HashSet<String>,
    /// Messages that were sent to the broker, and those whose first copy there had DUP.
    seen: HashSet<MessageId>,
    seen_again: HashSet<MessageId>,
    /// Topics that have a retained message.
    retained: HashSet<ByteString>,
    /// What clients asked for before the process was started again.
    noted: HashMap<String, Vec<ByteString>>,
}

impl State {
    fn see(&mut self, publish: &Publish) {
        let Identity::Ours(marker) = Identity::of(self.run, &publish.payload) else { return };
        if self.seen.insert(marker.message) && publish.dup {
            self.seen_again.insert(marker.message);
        }
    }
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
    /// Deliveries on this connection, and those of them that were answered.
    delivered: u32,
    answered: u32,
    /// What the client asked for.
    asked: Vec<ByteString>,
    /// Publishes that wait, and the places of the client that are taken.
    waiting: VecDeque<Publish>,
    taken: usize,
    /// A SUBACK that waits.
    suback: Option<Packet>,
    /// The filters are being given up in the client's stead.
    forgetting: bool,
    /// The client has given a filter up.
    unsubscribed: bool,
    /// It is to end now; the broker's end of it is not to end it.
    closing: bool,
    stays: bool,
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
                    link.client_ended(&from_client, state);
                    broker.shutdown().await?;
                }
                Ok(_) => link.take(&mut from_client, state, Link::client_says),
                Err(_) => {
                    link.client_ended(&from_client, state);
                    return broker.set_zero_linger();
                }
            },
            read = broker.read_buf(&mut from_broker), if broker_open => match read {
                Ok(0) => {
                    broker_open = false;
                    if !link.stays {
                        client.shutdown().await?;
                    }
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
        if link.closing {
            return client.shutdown().await;
        }
    }
    Ok(())
}

impl Link {
    /// The client is gone and leaves the beginning of a packet.
    fn client_ended(&self, rest: &[u8], state: &Mutex<State>) {
        let is_pubrec = rest.first().is_some_and(|first| first >> 4 == 5);
        let state = &mut *state.lock().expect("the proxy panicked");
        if is_pubrec && state.mutant == Mutant::LoseBehindTornPubrec {
            state.torn.insert(self.client.clone());
        }
    }

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
                let victim = match state.mutant {
                    Mutant::ForgetSession => "persistent-test-client",
                    Mutant::ForgetTakeover => "takeover-qos1",
                    Mutant::ForgetKilled => "subscribing",
                    _ => "nobody",
                };
                if self.is(victim) && self.number == 2 {
                    state.strikes += 1;
                    connect.clean_start = true;
                }
            }
            Packet::Puback(_) => {
                self.answered += 1;
                self.finish_one(state.mutant);
            }
            Packet::Pubcomp(_) => self.finish_one(state.mutant),
            Packet::Publish(publish) => {
                state.see(publish);
                if state.mutant == Mutant::MatchDollar && publish.topic.starts_with('$') {
                    state.kept = Some(publish.clone());
                }
            }
            Packet::Subscribe(subscribe) => self.asks(subscribe, state),
            Packet::Unsubscribe(_) => self.unsubscribed = true,
            Packet::Pubrec(_) => self.free_place(state),
            _ => {}
        }
        if self.acknowledges_early(&packet, state) {
            return;
        }
        match &packet {
            Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubcomp(ack)
                if ack.packet_id >= OWN_PACKET_ID =>
            {
                return self.answer_own(&packet);
            }
            _ => {}
        }
        match self.bend(&mut packet, state) {
            Bent::Not => state.filters.append(&mut self.asked),
            Bent::Changed => state.strikes += 1,
            Bent::Dropped => {
                state.strikes += 1;
                return;
            }
        }
        self.broker(&packet);
    }

    /// What a client asks for, and a broker that does not listen.
    fn bend(&mut self, packet: &mut Packet, state: &mut State) -> Bent {
        let mutant = state.mutant;
        match packet {
            Packet::Publish(publish)
                if mutant == Mutant::KeepFirstRetained && publish.retain && self.is("retained-publisher") =>
            {
                if state.retained.insert(publish.topic.clone()) {
                    return Bent::Not;
                }
                publish.retain = false;
            }
            Packet::Connect(connect) if mutant == Mutant::ExpireEarly && self.is("expiry-long") => {
                connect.properties.0.iter_mut().for_each(|it| expire_after(it, |seconds| seconds / 2));
            }
            Packet::Connect(connect) if mutant == Mutant::NeverExpire && self.is("expiry-short") => {
                connect.properties.0.iter_mut().for_each(|it| expire_after(it, |_| 600));
            }
            Packet::Connect(connect) if mutant == Mutant::IgnoreWillDelay && self.is("delay-resumed") => {
                let Some(will) = &mut connect.will else { return Bent::Not };
                will.properties.0.clear();
            }
            Packet::Connect(connect) if mutant == Mutant::IgnorePacketSize && self.is("small-packets") => {
                connect.properties.0.retain(|it| !matches!(it, Property::MaximumPacketSize(_)));
            }
            Packet::Subscribe(subscribe) if mutant == Mutant::ForgetFilters && self.is("away-disconnect") => {
                self.asked = subscribe.filters.iter().map(|it| it.filter.clone()).collect();
                return Bent::Not;
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
            _ => return self.bend_more(packet, mutant),
        }
        Bent::Changed
    }

    fn bend_more(&mut self, packet: &mut Packet, mutant: Mutant) -> Bent {
        match packet {
            Packet::Connect(connect)
                if matches!(mutant, Mutant::IgnoreReceiveMaximum | Mutant::FreeAtPubrec)
                    && self.is("slow") =>
            {
                connect.properties.0.retain(|it| !matches!(it, Property::ReceiveMaximum(_)));
            }
            Packet::Subscribe(subscribe) if mutant == Mutant::IgnoreSendIfNew && self.is("handling-new") => {
                subscribe.filters.iter_mut().for_each(|it| it.retain_handling = RetainHandling::DoNotSend);
            }
            Packet::Unsubscribe(unsubscribe)
                if mutant == Mutant::GiveUpMatching && self.is("asking-again") =>
            {
                let all = unsubscribe.filters[0].replace("/again", "/+");
                if unsubscribe.filters[0] == all {
                    return Bent::Not;
                }
                unsubscribe.filters.push(all.into());
                self.forgetting = true;
            }
            Packet::Subscribe(subscribe) if mutant == Mutant::Echo && self.is("no-local") => {
                subscribe.filters.iter_mut().for_each(|it| it.no_local = false);
            }
            Packet::Connect(_) if mutant == Mutant::KeepSilent && self.is("silent") => self.stays = true,
            Packet::Connect(_)
                if mutant == Mutant::KeepTakenOver && self.is("takeover-qos1") && self.number == 1 =>
            {
                self.stays = true;
            }
            Packet::Unsubscribe(unsubscribe) if mutant == Mutant::KeepFilter && self.is("overlapping") => {
                let (packet_id, filters) = (unsubscribe.packet_id, unsubscribe.filters.len());
                let reasons = if self.version == Some(Version::V5_0) {
                    vec![ReasonCode::SUCCESS; filters]
                } else {
                    Vec::new()
                };
                self.client(&Packet::Unsuback(Unsuback {
                    packet_id,
                    properties: Properties::default(),
                    reasons,
                }));
                return Bent::Dropped;
            }
            Packet::Pubrec(_)
                if mutant == Mutant::EndExchange && self.is("unfinished") && self.forgetting =>
            {
                return Bent::Dropped;
            }
            Packet::Unsubscribe(_) if mutant == Mutant::EndExchange && self.is("unfinished") => {
                self.forgetting = true;
                return Bent::Not;
            }
            Packet::Publish(publish)
                if mutant == Mutant::IgnoreRepeated && publish.dup && self.is("resuming-publisher") =>
            {
                return Bent::Dropped;
            }
            Packet::Pubrel(ack) if mutant == Mutant::IgnoreRelease && ack.packet_id == UNKNOWN_PACKET_ID => {
                return Bent::Dropped;
            }
            Packet::Pubrel(ack) if mutant == Mutant::CloseOnRelease && ack.packet_id == UNKNOWN_PACKET_ID => {
                self.closing = true;
                return Bent::Dropped;
            }
            Packet::Puback(_)
                if mutant == Mutant::RepeatRefused && self.is("declining") && self.number == 2 =>
            {
                self.closing = false;
                return Bent::Dropped;
            }
            _ => return Bent::Not,
        }
        Bent::Changed
    }

    /// The client answers a delivery that the broker knows nothing of, or knows under another packet id.
    fn answer_own(&mut self, packet: &Packet) {
        match (packet, self.renamed.take()) {
            (Packet::Puback(_), Some(renamed)) => self.broker(&Packet::Puback(Ack::success(renamed))),
            (Packet::Pubcomp(_), Some(renamed)) => self.broker(&Packet::Pubcomp(Ack::success(renamed))),
            (Packet::Pubrec(ack), _) => self.client(&Packet::Pubrel(Ack::success(ack.packet_id))),
            _ => {}
        }
    }

    fn broker_says(&mut self, packet: Packet, state: &mut State) {
        match packet {
            Packet::Connack(connack) => self.connack(connack, state),
            Packet::Publish(publish) => self.count_and_publish(publish, state),
            Packet::Pingresp if self.is_full(state.mutant) => state.strikes += 1,
            Packet::Pingresp if state.mutant == Mutant::MoveQos2 && self.is("other-member") => {
                if let Some(kept) = state.kept.take() {
                    state.strikes += 1;
                    self.client(&Packet::Publish(Publish {
                        packet_id: Some(OWN_PACKET_ID),
                        dup: false,
                        ..kept
                    }));
                }
                self.client(&Packet::Pingresp);
            }
            Packet::Puback(ack) if state.mutant == Mutant::WrongPuback && self.is("used-up") => {
                state.strikes += 1;
                self.client(&Packet::Puback(Ack::success(OWN_PACKET_ID)));
                self.client(&Packet::Puback(ack));
            }
            Packet::Puback(_) if self.is_early(state.mutant) => {}
            Packet::Suback(mut suback) if state.mutant == Mutant::SwapCodes && self.is("overlapping") => {
                state.strikes += u32::from(suback.reasons.len() > 1);
                suback.reasons.reverse();
                self.client(&Packet::Suback(suback));
            }
            suback @ Packet::Suback(_)
                if state.mutant == Mutant::LoseReplaced
                    && self.is("replacing")
                    && state.strikes == 0
                    && self.delivered > 0 =>
            {
                self.suback = Some(suback);
            }
            Packet::Suback(suback) => self.grants(suback, state),
            Packet::Unsuback(mut unsuback) if state.mutant == Mutant::GiveUpMatching && self.forgetting => {
                self.forgetting = false;
                unsuback.reasons.truncate(1);
                self.client(&Packet::Unsuback(unsuback));
            }
            Packet::Unsuback(unsuback)
                if unsuback.packet_id == OWN_PACKET_ID && std::mem::take(&mut self.forgetting) => {}
            Packet::Pubrel(ack)
                if state.mutant == Mutant::ForgetPubrel && self.is("release-fin") && self.number == 2 =>
            {
                state.strikes += 1;
                self.broker(&Packet::Pubcomp(Ack::success(ack.packet_id)));
            }
            Packet::Pubrel(ack)
                if matches!(state.mutant, Mutant::DropQos2 | Mutant::LoseReplaced)
                    && self.renamed == Some(ack.packet_id) =>
            {
                self.renamed = None;
                self.broker(&Packet::Pubcomp(Ack::success(ack.packet_id)));
            }
            Packet::Pubrel(ack)
                if state.mutant == Mutant::WrongPubrel && self.renamed == Some(ack.packet_id) =>
            {
                self.client(&Packet::Pubrel(Ack::success(OWN_PACKET_ID)));
            }
            Packet::Pubrel(ack) if state.mutant == Mutant::PubrelTwice && self.is("bulk-granted-2") => {
                state.strikes += 1;
                self.client(&Packet::Pubrel(ack.clone()));
                self.client(&Packet::Pubrel(ack));
            }
            other => self.client(&other),
        }
    }

    /// Every place of a client with three of them is taken, and its PINGRESP is held back.
    fn is_full(&self, mutant: Mutant) -> bool {
        mutant == Mutant::HoldPong && self.is("used-up") && self.number == 1 && self.delivered >= 3
    }

    fn count_and_publish(&mut self, publish: Publish, state: &mut State) {
        self.delivered += 1;
        let used_up = self.is("used-up") && self.number == 2;
        let swallowed = match state.mutant {
            Mutant::KeepQuota => used_up && self.delivered > 1,
            Mutant::LoseQuota => used_up && self.delivered > 3,
            _ => false,
        };
        if swallowed {
            state.strikes += 1;
            return;
        }
        match (state.mutant, self.suback.take()) {
            (Mutant::LoseReplaced, Some(suback)) if publish.qos > Qos::AtMostOnce => {
                state.strikes += 1;
                let packet_id = publish.packet_id.unwrap_or_default();
                if publish.qos == Qos::AtLeastOnce {
                    self.broker(&Packet::Puback(Ack::success(packet_id)));
                } else {
                    self.renamed = Some(packet_id);
                    self.broker(&Packet::Pubrec(Ack::success(packet_id)));
                }
                self.client(&suback);
            }
            (_, suback) => {
                self.suback = suback;
                self.publish(publish, state);
            }
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
        if state.mutant == Mutant::Announce && self.version == Some(Version::V5_0) {
            state.strikes += 1;
            connack.properties.0.retain(|it| !matches!(it, Property::ReceiveMaximum(_)));
            connack.properties.0.extend([
                Property::ServerKeepAlive(19),
                Property::ReceiveMaximum(5),
                Property::ReasonString("as you like it".into()),
                Property::UserProperty("served-by".into(), "somebody".into()),
            ]);
        }
        let session_present = connack.session_present;
        self.client(&Packet::Connack(connack));
        self.keep_filters(state);
        self.forget_options(state);
        self.forget_before_restart(session_present, state);
        if state.mutant == Mutant::ForgetFilters && self.is("away-disconnect") && self.number == 2 {
            state.strikes += 1;
            self.give_up(std::mem::take(&mut state.filters));
        }
        if state.mutant == Mutant::RepeatRefused
            && self.is("declining")
            && self.number == 2
            && let Some(kept) = state.kept.take()
        {
            state.strikes += 1;
            self.client(&Packet::Publish(Publish { dup: true, ..kept }));
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

fn expire_after(property: &mut Property, seconds: fn(u32) -> u32) {
    if let Property::SessionExpiryInterval(interval) = property {
        *interval = seconds(*interval);
    }
}
