//! A client that is driven packet by packet, for what holds or breaks a handshake on purpose.
//!
//! It has no state machine: it sends what the stage says and waits, always with a bound, for what the stage expects.
//! What comes in between is answered as a client must, unless the probe was told to [`Probe::hold`].

use super::Trouble;
use super::scene::{Lifetime, Scene};
use bytestring::ByteString;
use mqtally::connection::{Closed, Closing, Connection, ConnectionError, DialError, Read};
use mqtally_history::marker::MessageId;
use mqtally_proto::packet::{
    Ack, Connack, Connect, Disconnect, Packet, Properties, Property, Publish, Qos, ReasonCode, Subscribe,
    Subscription, Unsubscribe,
};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::time::{Instant, timeout_at};

/// Largest packet that a probe takes, bytes.
const PACKET_SIZE_MAX: u32 = 16 << 20;

/// How often a broker that hangs up is asked.
const ATTEMPTS: usize = 3;
/// How long nothing may come before it is given up that something unfinished comes again.
const AGAIN_LIMIT: Duration = Duration::from_secs(1);

/// A client without a will of its own.
pub(crate) struct Probe {
    name: Arc<str>,
    scene: Scene,
    connection: Connection,
    inbox: VecDeque<Packet>,
    at_end: bool,
    answers: bool,
    /// What waits for an answer; a session has no more packet ids than fit into 16 bits.
    held: Vec<Packet>,
    session_present: bool,
    last_packet_id: u16,
}

impl Probe {
    /// Connects as `name`; the broker has to accept.
    pub(crate) async fn open(scene: &Scene, name: &Arc<str>, lifetime: Lifetime) -> Result<Self, Trouble> {
        Self::admitted(scene, name, connect(scene, name, lifetime)).await
    }

    /// Sends this CONNECT; the broker has to accept. One that hangs up before CONNACK is asked again, as any client
    /// does: a session that has just ended is in the way of the next one for a moment, in some.
    pub(crate) async fn admitted(scene: &Scene, name: &Arc<str>, connect: Connect) -> Result<Self, Trouble> {
        let mut attempt = Self::request(scene, name, connect.clone()).await;
        for _ in 1..ATTEMPTS {
            if !matches!(attempt, Err(Trouble::Closed { .. })) {
                break;
            }
            attempt = Self::request(scene, name, connect.clone()).await;
        }
        let (probe, connack) = attempt?;
        if connack.reason != ReasonCode::SUCCESS {
            return Err(Trouble::Refused { client: name.to_string(), reason: connack.reason });
        }
        Ok(probe)
    }

    /// Sends this CONNECT and returns the answer, whatever it is.
    pub(crate) async fn request(
        scene: &Scene,
        name: &Arc<str>,
        connect: Connect,
    ) -> Result<(Self, Connack), Trouble> {
        let tap = scene.recorder.tap(name, scene.version);
        let limit = scene.plan.answer_limit;
        let dialled =
            Connection::dial(scene.endpoint(), limit, scene.version, PACKET_SIZE_MAX, 1, Some(tap)).await;
        let unreachable =
            |error: DialError| Trouble::Unreachable { client: name.to_string(), error: error.to_string() };
        let mut probe = Self {
            name: name.clone(),
            scene: scene.clone(),
            connection: dialled.map_err(unreachable)?,
            inbox: VecDeque::new(),
            at_end: false,
            answers: true,
            held: Vec::new(),
            session_present: false,
            last_packet_id: 0,
        };
        probe.send(Packet::Connect(Box::new(connect))).await?;
        let connack = probe.expect("CONNACK", |packet| match packet {
            Packet::Connack(connack) => Some(connack.clone()),
            _ => None,
        });
        let connack = match connack.await {
            Ok(connack) => connack,
            Err(trouble) => {
                if probe.at_end {
                    probe.connection.closed(&Closed::ByPeer);
                }
                return Err(trouble);
            }
        };
        probe.session_present = connack.session_present;
        Ok((probe, connack))
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether the broker said that it had the session.
    pub(crate) fn session_present(&self) -> bool {
        self.session_present
    }

    /// From now on nothing is acknowledged.
    pub(crate) fn hold(&mut self) {
        self.answers = false;
    }

    /// What was not acknowledged since the last call. Whoever takes it answers it.
    pub(crate) fn held(&mut self) -> Vec<Packet> {
        std::mem::take(&mut self.held)
    }

    /// Acknowledges again, and what was held back first.
    pub(crate) async fn release(&mut self) -> Result<(), Trouble> {
        self.answers = true;
        for packet in self.held() {
            self.answer(&packet).await?;
        }
        Ok(())
    }

    /// Sends `packet` as it is.
    pub(crate) async fn send(&mut self, packet: Packet) -> Result<(), Trouble> {
        let queued = self.connection.queue(&packet);
        queued.map_err(|error| self.failed(&error))?;
        while self.connection.backlog() > 0 {
            self.connection.flush().map_err(|error| self.failed(&error))?;
            if self.connection.backlog() > 0 {
                self.ready(Interest::WRITABLE, self.deadline(), "room to write").await?;
            }
        }
        Ok(())
    }

    /// Waits for the packet that `wanted` picks; what comes before it is answered.
    pub(crate) async fn expect<T>(
        &mut self,
        awaited: &'static str,
        wanted: impl Fn(&Packet) -> Option<T>,
    ) -> Result<T, Trouble> {
        let deadline = self.deadline();
        loop {
            let packet = self.next(deadline, awaited).await?;
            match wanted(&packet) {
                Some(found) => return Ok(found),
                None => self.answer(&packet).await?,
            }
        }
    }

    /// Sends `packet` and PINGREQ, and waits for the acknowledgement that `kind` picks. Where none comes the history
    /// tells what that means: a broker that answers what came behind has dealt with it.
    pub(crate) async fn ask(
        &mut self,
        packet: Packet,
        awaited: &'static str,
        packet_id: u16,
        kind: impl Fn(&Packet) -> Option<&Ack>,
    ) -> Result<(), Trouble> {
        self.send(packet).await?;
        self.send(Packet::Pingreq).await?;
        match self.expect_ack(awaited, packet_id, kind).await {
            Ok(_) | Err(Trouble::Silent { .. }) => Ok(()),
            Err(trouble) => Err(trouble),
        }
    }

    /// Waits for the acknowledgement of `packet_id` that `kind` picks.
    pub(crate) async fn expect_ack(
        &mut self,
        awaited: &'static str,
        packet_id: u16,
        kind: impl Fn(&Packet) -> Option<&Ack>,
    ) -> Result<ReasonCode, Trouble> {
        let wanted =
            |packet: &Packet| kind(packet).filter(|ack| ack.packet_id == packet_id).map(|ack| ack.reason);
        self.expect(awaited, wanted).await
    }

    /// The same where the answer is itself on trial: if it does not come, an answered PINGREQ shows that the broker has
    /// handled what it should answer.
    pub(crate) async fn expect_ack_or_pong(
        &mut self,
        awaited: &'static str,
        packet_id: u16,
        kind: impl Fn(&Packet) -> Option<&Ack>,
    ) -> Result<ReasonCode, Trouble> {
        match self.expect_ack(awaited, packet_id, kind).await {
            Err(silent @ Trouble::Silent { .. }) => self.ping().await.and(Err(silent)),
            answered => answered,
        }
    }

    /// Takes and answers packets until every message of `owed` has arrived and was taken. Returns the publishes that
    /// came.
    pub(crate) async fn take(&mut self, owed: &[MessageId]) -> Result<Vec<Publish>, Trouble> {
        self.take_again(owed, &[]).await
    }

    /// The same, and waits until each packet of `again` has come once more. Whether it has to, and before what, the
    /// history tells; so when nothing at all comes for a while, the waiting for it is over.
    pub(crate) async fn take_again(
        &mut self,
        owed: &[MessageId],
        again: &[Packet],
    ) -> Result<Vec<Publish>, Trouble> {
        let mut again: Vec<(u8, u16)> = again.iter().filter_map(exchange).collect();
        let mut taken = Vec::new();
        loop {
            let missing = self.missing(owed);
            if missing.is_none() && again.is_empty() && self.inbox.is_empty() {
                return Ok(taken);
            }
            let limit = if missing.is_some() { self.scene.plan.drain_limit } else { AGAIN_LIMIT };
            let packet = match (self.next(Instant::now() + limit, "delivery").await, missing) {
                (Err(Trouble::Silent { .. }), Some(missing)) => return Err(missing),
                (Err(Trouble::Silent { .. }), None) => return Ok(taken),
                (packet, _) => packet?,
            };
            self.answer(&packet).await?;
            again.retain(|it| Some(*it) != exchange(&packet));
            if let Packet::Publish(publish) = packet {
                taken.push(publish);
            }
        }
    }

    /// Takes and answers packets until so many of `sent` have arrived, whichever they are: that the first come first is a
    /// promise of its own.
    pub(crate) async fn take_some(&mut self, sent: &[MessageId], count: usize) -> Result<(), Trouble> {
        let deadline = Instant::now() + self.scene.plan.drain_limit;
        loop {
            let arrived = sent.iter().filter(|it| self.scene.recorder.has_arrived(&self.name, **it)).count();
            if arrived >= count && self.inbox.is_empty() {
                return Ok(());
            }
            let packet = match self.next(deadline, "delivery").await {
                Err(silent @ Trouble::Silent { .. }) => return Err(self.missing(sent).unwrap_or(silent)),
                packet => packet?,
            };
            self.answer(&packet).await?;
        }
    }

    /// From now on nothing is acknowledged; takes so many deliveries. Fewer are as good, but not none: a broker may have a
    /// window of its own, and sends no more before it is answered.
    pub(crate) async fn hold_up_to(&mut self, deliveries: usize) -> Result<Vec<Publish>, Trouble> {
        self.hold();
        let mut taken: Vec<Publish> = Vec::new();
        let mut packet_ids = BTreeSet::new();
        while packet_ids.len() < deliveries || !self.inbox.is_empty() {
            let limit = if taken.is_empty() { self.scene.plan.drain_limit } else { AGAIN_LIMIT };
            let packet = match self.next(Instant::now() + limit, "delivery").await {
                Err(Trouble::Silent { .. }) if !taken.is_empty() => break,
                packet => packet?,
            };
            self.answer(&packet).await?;
            if let Packet::Publish(publish) = packet {
                packet_ids.extend(publish.packet_id);
                taken.push(publish);
            }
        }
        Ok(taken)
    }

    /// Takes and answers what still comes of `sent`, until nothing does for a while: what a broker sends out of order is
    /// late, and not lost.
    pub(crate) async fn catch_up(&mut self, sent: &[MessageId]) -> Result<(), Trouble> {
        while self.missing(sent).is_some() {
            match self.next(Instant::now() + AGAIN_LIMIT, "delivery").await {
                Ok(packet) => self.answer(&packet).await?,
                Err(Trouble::Silent { .. }) => break,
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(())
    }

    /// Takes and answers whatever comes for so long. That the broker closes meanwhile is trouble.
    pub(crate) async fn linger(&mut self, time: Duration) -> Result<(), Trouble> {
        let deadline = Instant::now() + time;
        loop {
            match self.next(deadline, "end of a pause").await {
                Ok(packet) => self.answer(&packet).await?,
                Err(Trouble::Silent { .. }) => return Ok(()),
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Subscribes to each filter at its QoS; every one has to be granted.
    pub(crate) async fn subscribe(&mut self, filters: &[(&str, Qos)]) -> Result<(), Trouble> {
        self.subscribe_to(filters.iter().map(|(filter, qos)| Subscription::new(*filter, *qos)).collect())
            .await
    }

    /// The same with options.
    pub(crate) async fn subscribe_to(&mut self, filters: Vec<Subscription>) -> Result<(), Trouble> {
        self.subscribe_with(Properties::default(), filters).await
    }

    /// The same with properties for all of them.
    pub(crate) async fn subscribe_with(
        &mut self,
        properties: Properties,
        filters: Vec<Subscription>,
    ) -> Result<(), Trouble> {
        let packet_id = self.ask_for(properties, filters).await?;
        self.granted(packet_id).await
    }

    /// Sends SUBSCRIBE, and leaves its answer to [`Self::granted`].
    pub(crate) async fn ask_for(
        &mut self,
        properties: Properties,
        filters: Vec<Subscription>,
    ) -> Result<u16, Trouble> {
        let packet_id = self.fresh_packet_id();
        self.send(Packet::Subscribe(Subscribe { packet_id, properties, filters })).await?;
        Ok(packet_id)
    }

    /// Waits for SUBACK; every filter has to be granted.
    pub(crate) async fn granted(&mut self, packet_id: u16) -> Result<(), Trouble> {
        let suback = self.expect("SUBACK", |packet| match packet {
            Packet::Suback(suback) if suback.packet_id == packet_id => Some(suback.reasons.clone()),
            _ => None,
        });
        match suback.await?.into_iter().find(|reason| reason.is_error()) {
            Some(reason) => Err(self.not_accepted("SUBSCRIBE", reason)),
            None => Ok(()),
        }
    }

    /// Gives filters up.
    pub(crate) async fn unsubscribe(&mut self, filters: &[&str]) -> Result<(), Trouble> {
        let packet_id = self.fresh_packet_id();
        let filters = filters.iter().map(|filter| ByteString::from(*filter)).collect();
        self.send(Packet::Unsubscribe(Unsubscribe { packet_id, properties: Properties::default(), filters }))
            .await?;
        self.expect("UNSUBACK", |packet| match packet {
            Packet::Unsuback(unsuback) if unsuback.packet_id == packet_id => Some(()),
            _ => None,
        })
        .await
    }

    /// Sends PUBLISH with this packet id and stops there.
    pub(crate) async fn publish(
        &mut self,
        publish: &Publish,
        packet_id: u16,
        dup: bool,
    ) -> Result<(), Trouble> {
        self.send(Packet::Publish(Publish { dup, packet_id: Some(packet_id), ..publish.clone() })).await
    }

    /// Publishes and sees the handshake through. Returns the reason that it ended with.
    pub(crate) async fn submit(&mut self, publish: &Publish) -> Result<ReasonCode, Trouble> {
        if publish.qos == Qos::AtMostOnce {
            self.send(Packet::Publish(publish.clone())).await?;
            return Ok(ReasonCode::SUCCESS);
        }
        let packet_id = self.fresh_packet_id();
        self.publish(publish, packet_id, false).await?;
        if publish.qos == Qos::AtLeastOnce {
            return self.expect_ack("PUBACK", packet_id, puback).await;
        }
        let reason = self.expect_ack("PUBREC", packet_id, pubrec).await?;
        if reason.is_error() {
            return Ok(reason);
        }
        self.send(Packet::Pubrel(Ack::success(packet_id))).await?;
        self.expect_ack("PUBCOMP", packet_id, pubcomp).await
    }

    /// Clears the retained message of `topic`.
    pub(crate) async fn clear_retained(&mut self, topic: &str) -> Result<(), Trouble> {
        let empty =
            Publish { qos: Qos::AtLeastOnce, retain: true, topic: topic.into(), ..Publish::default() };
        self.submit(&empty).await.map(drop)
    }

    /// Answers as a client must, unless told to hold.
    pub(crate) async fn answer(&mut self, packet: &Packet) -> Result<(), Trouble> {
        let answer = match packet {
            Packet::Publish(Publish { qos: Qos::AtLeastOnce, packet_id: Some(id), .. }) => {
                Packet::Puback(Ack::success(*id))
            }
            Packet::Publish(Publish { qos: Qos::ExactlyOnce, packet_id: Some(id), .. }) => {
                Packet::Pubrec(Ack::success(*id))
            }
            Packet::Pubrel(ack) => Packet::Pubcomp(Ack::success(ack.packet_id)),
            _ => return Ok(()),
        };
        if self.answers {
            return self.send(answer).await;
        }
        self.held.push(packet.clone());
        Ok(())
    }

    /// Waits until something has come, and leaves it unread: the broker has answered and the client never knows.
    pub(crate) async fn answer_waits(&mut self) -> Result<(), Trouble> {
        match timeout_at(self.deadline(), self.connection.bytes_waiting()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Trouble::Closed { client: self.name.to_string(), awaited: "answer" }),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(self.silent("answer")),
        }
    }

    /// A PINGREQ that is answered: the broker has dealt with everything sent before it.
    pub(crate) async fn ping(&mut self) -> Result<(), Trouble> {
        self.send(Packet::Pingreq).await?;
        self.expect("PINGRESP", |packet| matches!(packet, Packet::Pingresp).then_some(())).await
    }

    /// Waits for the broker to close the connection, and closes it where the broker does not within the limit: whether
    /// it had to, the history tells.
    pub(crate) async fn until_ended(mut self, within: Duration) {
        let deadline = Instant::now() + within;
        loop {
            match self.next(deadline, "end of the connection").await {
                Ok(_) => {}
                Err(Trouble::Closed { .. }) => return self.connection.closed(&Closed::ByPeer),
                Err(Trouble::Failed { .. }) => {
                    return self.connection.closed(&Closed::Broken(std::io::ErrorKind::ConnectionReset));
                }
                Err(_) => return self.connection.close(Closing::Fin).await,
            }
        }
    }

    /// The broker has closed the connection.
    pub(crate) fn ended(self) {
        self.connection.closed(&Closed::ByPeer);
    }

    /// DISCONNECT and an orderly end; when this returns the broker has seen it.
    pub(crate) async fn disconnect(self) -> Result<(), Trouble> {
        self.disconnect_with(ReasonCode::SUCCESS, Properties::default()).await
    }

    /// The same with a reason and properties (5.0).
    pub(crate) async fn disconnect_with(
        mut self,
        reason: ReasonCode,
        properties: Properties,
    ) -> Result<(), Trouble> {
        self.send(Packet::Disconnect(Disconnect { reason, properties })).await?;
        self.connection.close(Closing::Fin).await;
        Ok(())
    }

    /// Ends the connection without a word.
    pub(crate) async fn cut(self, how: Closing) {
        self.scene.recorder.fault(if how == Closing::Fin { "cut-fin" } else { "cut-rst" }, Some(&self.name));
        self.connection.close(how).await;
    }

    /// A packet id that this probe has not used yet.
    pub(crate) fn fresh_packet_id(&mut self) -> u16 {
        self.last_packet_id += 1;
        self.last_packet_id
    }

    fn missing(&self, owed: &[MessageId]) -> Option<Trouble> {
        let missing = |message: &&MessageId| !self.scene.recorder.has_arrived(&self.name, **message);
        let first = owed.iter().find(missing)?;
        Some(Trouble::Undrained {
            missing: owed.iter().filter(missing).count(),
            client: self.name.to_string(),
            sequence: first.sequence,
        })
    }

    async fn next(&mut self, deadline: Instant, awaited: &'static str) -> Result<Packet, Trouble> {
        loop {
            if let Some(packet) = self.inbox.pop_front() {
                return Ok(packet);
            }
            if self.at_end {
                return Err(Trouble::Closed { client: self.name.to_string(), awaited });
            }
            self.ready(Interest::READABLE, deadline, awaited).await?;
            self.read()?;
        }
    }

    fn read(&mut self) -> Result<(), Trouble> {
        let mut packets = Vec::new();
        let read = self.connection.read(&mut packets);
        self.inbox.extend(packets);
        match read {
            Ok(Read::Open) => {}
            Ok(Read::End) => self.at_end = true,
            Err(ConnectionError::Io(error)) => return Err(self.failed(&error)),
            // It is in the history as unlawful; judging it is not the probe's business.
            Err(ConnectionError::Decode(_)) if !self.inbox.is_empty() => {}
            Err(error) => return Err(self.failed(&error)),
        }
        Ok(())
    }

    async fn ready(
        &self,
        interest: Interest,
        deadline: Instant,
        awaited: &'static str,
    ) -> Result<(), Trouble> {
        match timeout_at(deadline, self.connection.ready(interest)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(self.silent(awaited)),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.scene.plan.answer_limit
    }

    fn silent(&self, awaited: &'static str) -> Trouble {
        Trouble::Silent {
            client: self.name.to_string(),
            awaited,
            seconds: self.scene.plan.answer_limit.as_secs(),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Trouble {
        Trouble::Failed { client: self.name.to_string(), error: error.to_string() }
    }

    fn not_accepted(&self, what: &'static str, reason: ReasonCode) -> Trouble {
        Trouble::NotAccepted { client: self.name.to_string(), what, reason }
    }
}

/// What a packet that may be sent again is a part of: which packet, of which packet id.
fn exchange(packet: &Packet) -> Option<(u8, u16)> {
    match packet {
        Packet::Publish(publish) => Some((3, publish.packet_id?)),
        Packet::Pubrel(ack) => Some((6, ack.packet_id)),
        _ => None,
    }
}

/// PUBACK, for [`Probe::expect_ack`].
pub(crate) fn puback(packet: &Packet) -> Option<&Ack> {
    if let Packet::Puback(ack) = packet { Some(ack) } else { None }
}

/// PUBREC, for [`Probe::expect_ack`].
pub(crate) fn pubrec(packet: &Packet) -> Option<&Ack> {
    if let Packet::Pubrec(ack) = packet { Some(ack) } else { None }
}

/// PUBREL, for [`Probe::expect_ack`].
pub(crate) fn pubrel(packet: &Packet) -> Option<&Ack> {
    if let Packet::Pubrel(ack) = packet { Some(ack) } else { None }
}

/// PUBCOMP, for [`Probe::expect_ack`].
pub(crate) fn pubcomp(packet: &Packet) -> Option<&Ack> {
    if let Packet::Pubcomp(ack) = packet { Some(ack) } else { None }
}

/// The CONNECT of a client that lives so long.
pub(crate) fn connect(scene: &Scene, name: &Arc<str>, lifetime: Lifetime) -> Connect {
    let endpoint = scene.endpoint();
    let expiry = scene.is_v5().then_some(lifetime.expiry_s).filter(|seconds| *seconds > 0);
    Connect {
        version: scene.version,
        clean_start: lifetime.clean_start,
        keep_alive: 60,
        client_id: ByteString::from(name.to_string()),
        will: None,
        username: endpoint.username().map(Into::into),
        password: endpoint.password().map(|password| password.as_bytes().to_vec().into()),
        properties: Properties(expiry.map(Property::SessionExpiryInterval).into_iter().collect()),
    }
}
