//! What a broker offers, as far as it says so: some parts of MQTT a broker may lawfully be without.
//!
//! It is asked once, before the run, by a CONNECT on 5.0: there a broker announces what it lacks [5.0:MQTT-3.2.2-9] ff.
//! 3.1.1 has no words for it, so that what is announced on 5.0 counts for both, and whoever knows more says so
//! ([`Offer::without`]). Whether it speaks 3.1.1, and which QoS it grants, is tried out.

use crate::process::BrokerUnderTest;
use mqtally::client::{Client, Event, Settings};
use mqtally::connection::{Closing, Connection, Read};
use mqtally::endpoint::{Endpoint, Transport};
use mqtally_proto::packet::{
    Connack, Connect, Disconnect, Packet, Properties, Property, Qos, ReasonCode, Subscription, Version,
};
use mqtally_proto::session::{Event as SessionEvent, Options};
use std::time::Duration;
use tokio::io::Interest;
use tokio::time::timeout;

/// How long the broker may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// A session expiry that the stages ask for, seconds.
const SESSION_EXPIRY_S: u32 = 3_600;
/// How often a broker that answers 3.1.1 is asked before its silence counts as an answer.
const ATTEMPTS: usize = 2;
/// Largest packet that is taken, bytes.
const PACKET_SIZE_MAX: u32 = 1 << 20;
/// CONNACK of a 3.1.1 broker that knows no other version.
const UNACCEPTABLE_PROTOCOL_VERSION: ReasonCode = ReasonCode(1);

/// A part of MQTT that a broker may be without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// MQTT 3.1.1.
    Version3,
    /// MQTT 5.0.
    Version5,
    /// QoS 2.
    ExactlyOnce,
    /// Retained messages.
    Retain,
    /// Shared subscriptions.
    SharedSubscriptions,
    /// Subscription identifiers.
    SubscriptionIdentifiers,
    /// Topic aliases from clients.
    TopicAliases,
    /// Keep-alives of the client's own choice.
    KeepAlive,
    /// Sessions that live as long as the client wants.
    SessionExpiry,
    /// A way to it that the fault proxy can read.
    PlainTcp,
    /// A process of ours, which can be stopped, killed and started again.
    Control,
    /// Client programs, whose processes can be killed ([`Programs`](super::Programs)); the plan names them, not the broker.
    Processes,
}

impl Feature {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Version3 => "MQTT 3.1.1",
            Self::Version5 => "MQTT 5.0",
            Self::ExactlyOnce => "QoS 2",
            Self::Retain => "retained messages",
            Self::SharedSubscriptions => "shared subscriptions",
            Self::SubscriptionIdentifiers => "subscription identifiers",
            Self::TopicAliases => "topic aliases",
            Self::KeepAlive => "keep-alive of the client's choice",
            Self::SessionExpiry => "session expiry of the client's choice",
            Self::PlainTcp => "plain TCP to the broker",
            Self::Control => "broker of ours",
            Self::Processes => "client programs",
        }
    }

    /// Why what needs it is left out.
    pub fn missing(self) -> String {
        match self {
            Self::PlainTcp => "the fault proxy reaches a broker over plain TCP only".to_owned(),
            Self::Control => {
                "a broker given by URL cannot be stopped and killed; use --broker-cmd".to_owned()
            }
            Self::Processes => "no client programs were named whose processes could be killed".to_owned(),
            _ => format!("the broker is said to have no {}", self.name()),
        }
    }
}

/// What a broker said that it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Offer {
    lacking: Vec<Feature>,
    receive_maximum: Option<u16>,
}

impl Offer {
    /// Asks the broker. One that cannot be asked is taken to lack nothing: the run will show why.
    pub async fn of(broker: &BrokerUnderTest) -> Self {
        let mut offer = Self::asked_of(broker).await;
        offer.try_out(broker.endpoint()).await;
        if broker.endpoint().transport() != Transport::Tcp {
            offer.lacking.push(Feature::PlainTcp);
        }
        if !broker.can_restart() {
            offer.lacking.push(Feature::Control);
        }
        offer
    }

    async fn asked_of(broker: &BrokerUnderTest) -> Self {
        for _ in 0..ATTEMPTS {
            match timeout(ANSWER_LIMIT, ask(broker.endpoint(), Version::V5_0)).await {
                Ok(Ok(Some(connack))) => return Self::announced(&connack),
                // Older brokers close a CONNECT of a version that they do not know, or leave it unanswered.
                Ok(Ok(None)) => return Self::lacking_only(&[Feature::Version5]),
                Ok(Err(_)) => return Self::default(),
                Err(_) if broker.check().await.is_err() => return Self::default(),
                Err(_) => {}
            }
        }
        Self::lacking_only(&[Feature::Version5])
    }

    /// What the broker does not say of itself. What cannot be tried is taken to be there.
    async fn try_out(&mut self, endpoint: &Endpoint) {
        if self.has(Feature::Version5) {
            let on_3 = timeout(ANSWER_LIMIT, ask(endpoint, Version::V3_1_1)).await;
            if let Ok(Ok(answer)) = on_3
                && answer.as_ref().is_none_or(is_another_version)
            {
                self.lacking.push(Feature::Version3);
            }
        }
        let version = if self.has(Feature::Version3) { Version::V3_1_1 } else { Version::V5_0 };
        let granted = timeout(ANSWER_LIMIT, granted(endpoint, version)).await;
        if self.has(Feature::ExactlyOnce) && matches!(granted, Ok(Some(qos)) if qos < Qos::ExactlyOnce) {
            self.lacking.push(Feature::ExactlyOnce);
        }
    }

    /// Whether the broker speaks `version`, as far as is known.
    pub fn speaks(&self, version: Version) -> bool {
        self.has(if version == Version::V5_0 { Feature::Version5 } else { Feature::Version3 })
    }

    /// Messages that the broker takes at a time (5.0), where it says so.
    pub fn receive_maximum(&self) -> Option<u16> {
        self.receive_maximum
    }

    /// The same without `feature`, which the broker does not announce.
    #[must_use]
    pub fn without(mut self, feature: Feature) -> Self {
        if self.has(feature) {
            self.lacking.push(feature);
        }
        self
    }

    fn lacking_only(features: &[Feature]) -> Self {
        Self { lacking: features.to_vec(), receive_maximum: None }
    }

    /// Whether the broker has `feature`, as far as is known.
    pub fn has(&self, feature: Feature) -> bool {
        !self.lacking.contains(&feature)
    }

    #[cfg(test)]
    pub(crate) fn lacking(features: &[Feature]) -> Self {
        Self::lacking_only(features)
    }

    fn announced(connack: &Connack) -> Self {
        if is_another_version(connack) {
            return Self::lacking_only(&[Feature::Version5]);
        }
        if connack.reason.is_error() {
            return Self::default();
        }
        let properties = &connack.properties;
        let lacks = [
            (Feature::ExactlyOnce, properties.maximum_qos().is_some_and(|qos| qos < Qos::ExactlyOnce as u8)),
            (Feature::Retain, properties.retain_available() == Some(0)),
            (Feature::SharedSubscriptions, properties.shared_subscription_available() == Some(0)),
            (Feature::SubscriptionIdentifiers, properties.subscription_identifier_available() == Some(0)),
            (Feature::TopicAliases, properties.topic_alias_maximum().unwrap_or(0) == 0),
            (Feature::KeepAlive, properties.server_keep_alive().is_some()),
            (Feature::SessionExpiry, properties.session_expiry_interval().is_some()),
        ];
        let lacking = lacks.into_iter().filter(|(_, lacks)| *lacks).map(|(feature, _)| feature).collect();
        Self { lacking, receive_maximum: properties.receive_maximum() }
    }
}

/// Whether it refuses the version.
fn is_another_version(connack: &Connack) -> bool {
    [ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, UNACCEPTABLE_PROTOCOL_VERSION].contains(&connack.reason)
}

/// The QoS that is granted to whoever asks for 2; `None` where nothing is.
async fn granted(endpoint: &Endpoint, version: Version) -> Option<Qos> {
    let options = Options { clean_start: true, ..Options::new(version, client_id()) };
    let (client, mut events) = Client::start(Settings::new(endpoint.clone(), options));
    client.connect().await.ok()?;
    let filter = Subscription::new(format!("mqtally/{}", client_id()), Qos::ExactlyOnce);
    client.subscribe(vec![filter], Properties::default()).ok()?;
    let granted = loop {
        match events.recv().await? {
            Event::Session(SessionEvent::Subscribed(suback)) => {
                break Qos::from_u8(suback.reasons.first()?.0);
            }
            Event::Closed { .. } => return None,
            Event::Session(_) => {}
        }
    };
    client.disconnect(ReasonCode::SUCCESS, None).await;
    granted
}

/// The answer to a CONNECT; `None` when there is none that `version` knows.
async fn ask(endpoint: &Endpoint, version: Version) -> Result<Option<Connack>, Box<dyn std::error::Error>> {
    let dialled = Connection::dial(endpoint, ANSWER_LIMIT, version, PACKET_SIZE_MAX, 0, None);
    let mut connection = dialled.await?;
    connection.queue(&Packet::Connect(Box::new(connect(endpoint, version))))?;
    connection.flush()?;
    let mut packets = Vec::new();
    while packets.is_empty() {
        connection.ready(Interest::READABLE).await?;
        match connection.read(&mut packets) {
            Ok(Read::Open) => {}
            Ok(Read::End) | Err(_) => break,
        }
    }
    let goodbye = Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::default() };
    // The broker may be gone, and what it has said stands.
    let _ = connection.queue(&Packet::Disconnect(goodbye)).map(|()| connection.flush());
    connection.close(Closing::Fin).await;
    Ok(packets.into_iter().find_map(|packet| match packet {
        Packet::Connack(connack) => Some(connack),
        _ => None,
    }))
}

fn connect(endpoint: &Endpoint, version: Version) -> Connect {
    let properties = match version {
        Version::V5_0 => Properties(vec![Property::SessionExpiryInterval(SESSION_EXPIRY_S)]),
        Version::V3_1_1 => Properties::default(),
    };
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: client_id().into(),
        will: None,
        username: endpoint.username().map(Into::into),
        password: endpoint.password().map(|password| password.as_bytes().to_vec().into()),
        properties,
    }
}

fn client_id() -> String {
    format!("mqtally-offer-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reason: ReasonCode, properties: Vec<Property>, lacking: &[Feature]) {
        let connack = Connack { session_present: false, reason, properties: Properties(properties) };
        assert_eq!(Offer::announced(&connack).lacking, lacking);
    }

    #[test]
    fn what_a_broker_lacks_is_what_it_announces() {
        let aliases = Property::TopicAliasMaximum(10);
        check(ReasonCode::SUCCESS, vec![aliases.clone()], &[]);
        check(ReasonCode::SUCCESS, vec![], &[Feature::TopicAliases]);
        check(ReasonCode::SUCCESS, vec![aliases.clone(), Property::MaximumQos(1)], &[Feature::ExactlyOnce]);
        check(ReasonCode::SUCCESS, vec![aliases.clone(), Property::RetainAvailable(0)], &[Feature::Retain]);
        let shared = Property::SharedSubscriptionAvailable(0);
        check(ReasonCode::SUCCESS, vec![aliases, shared], &[Feature::SharedSubscriptions]);
        check(ReasonCode::UNSUPPORTED_PROTOCOL_VERSION, vec![], &[Feature::Version5]);
        let aliases = Property::TopicAliasMaximum(10);
        check(ReasonCode::SUCCESS, vec![aliases, Property::ServerKeepAlive(60)], &[Feature::KeepAlive]);
        check(UNACCEPTABLE_PROTOCOL_VERSION, vec![], &[Feature::Version5]);
        check(ReasonCode::NOT_AUTHORIZED, vec![], &[]);
    }
}
