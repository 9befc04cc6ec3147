//! Strategies that generate lawful packets and topics, for every property test of the crate.
#![allow(dead_code, reason = "each test binary uses its part, so that an expectation would fail in some")]

use bytes::Bytes;
use bytestring::ByteString;
use mqtally_proto::packet::{
    Ack, Auth, Connack, Connect, Disconnect, Packet, Properties, Property, Publish, Qos, ReasonCode,
    RetainHandling, Suback, Subscribe, Subscription, Unsuback, Unsubscribe, Version, Will,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// A version and a packet that is lawful in it, of any type and direction.
pub(crate) fn versioned_packet() -> impl Strategy<Value = (Version, Packet)> {
    version().prop_flat_map(|version| (Just(version), packet(version)))
}

/// Either version.
pub(crate) fn version() -> impl Strategy<Value = Version> {
    select(vec![Version::V3_1_1, Version::V5_0])
}

/// A packet that is lawful in `version`, of any type and direction.
pub(crate) fn packet(version: Version) -> BoxedStrategy<Packet> {
    prop_oneof![from_client(version), from_server(version)].boxed()
}

/// A packet that a client may send after CONNECT.
pub(crate) fn from_client(version: Version) -> BoxedStrategy<Packet> {
    let common = prop_oneof![
        3 => publish(version, false).prop_map(Packet::Publish),
        2 => ack(version),
        1 => subscribe(version).prop_map(Packet::Subscribe),
        1 => unsubscribe(version).prop_map(Packet::Unsubscribe),
        1 => Just(Packet::Pingreq),
    ];
    let disconnect = disconnect(version, true).prop_map(Packet::Disconnect);
    match version {
        Version::V3_1_1 => prop_oneof![9 => common, 1 => disconnect].boxed(),
        Version::V5_0 => {
            prop_oneof![8 => common, 1 => disconnect, 1 => auth().prop_map(Packet::Auth)].boxed()
        }
    }
}

/// A packet that a server may send.
pub(crate) fn from_server(version: Version) -> BoxedStrategy<Packet> {
    let common = prop_oneof![
        1 => connack(version).prop_map(Packet::Connack),
        3 => publish(version, true).prop_map(Packet::Publish),
        2 => ack(version),
        1 => suback(version).prop_map(Packet::Suback),
        1 => unsuback(version).prop_map(Packet::Unsuback),
        1 => Just(Packet::Pingresp),
    ];
    match version {
        Version::V3_1_1 => common.boxed(),
        Version::V5_0 => prop_oneof![
            8 => common,
            1 => disconnect(version, false).prop_map(Packet::Disconnect),
            1 => auth().prop_map(Packet::Auth),
        ]
        .boxed(),
    }
}

/// A CONNECT.
pub(crate) fn connect(version: Version) -> impl Strategy<Value = Connect> {
    let session = (any::<bool>(), any::<u16>(), text(), option::of(will(version)));
    let credentials = (option::of(text()), option::of(binary()));
    let properties = with_properties(version, connect_properties());
    (session, credentials, properties).prop_map(move |(session, (username, password), properties)| {
        let (clean_start, keep_alive, client_id, will) = session;
        // 3.1.1 allows no password without a user name.
        let password = password.filter(|_| version == Version::V5_0 || username.is_some());
        Connect { version, clean_start, keep_alive, client_id, will, username, password, properties }
    })
}

/// A PUBLISH; only one from a server carries subscription identifiers.
pub(crate) fn publish(version: Version, from_server: bool) -> impl Strategy<Value = Publish> {
    let flags = (qos(), any::<bool>(), any::<bool>(), packet_id());
    let properties = with_properties(version, publish_properties(from_server));
    let content = (topic_name(), any::<bool>(), binary());
    (flags, content, properties).prop_map(move |(flags, (topic, drop_topic, payload), properties)| {
        let (qos, dup, retain, packet_id) = flags;
        let acknowledged = qos != Qos::AtMostOnce;
        let drop_topic = drop_topic && properties.topic_alias().is_some();
        Publish {
            dup: dup && acknowledged,
            qos,
            retain,
            topic: if drop_topic { ByteString::new() } else { topic },
            packet_id: acknowledged.then_some(packet_id),
            properties,
            payload,
        }
    })
}

/// A topic name: lawful, a few levels, some of them empty, sometimes under `$`.
pub(crate) fn topic_name() -> impl Strategy<Value = ByteString> {
    "(\\$SYS/)?[a-cé日 ]{0,3}(/[a-c]{0,2}){0,3}".prop_filter_map("a name has a character", not_empty)
}

/// A topic filter that is not shared: lawful, a few levels, wildcards among them.
pub(crate) fn topic_filter() -> impl Strategy<Value = ByteString> {
    let level = "\\+|[a-cé]{0,2}";
    let levels = vec(level, 1..4).prop_map(|levels| levels.join("/"));
    (levels, any::<bool>()).prop_filter_map("a filter has a character", |(levels, all_below)| {
        not_empty(if all_below { levels + "/#" } else { levels })
    })
}

fn not_empty(text: String) -> Option<ByteString> {
    (!text.is_empty()).then(|| text.into())
}

fn will(version: Version) -> impl Strategy<Value = Will> {
    let properties = with_properties(version, will_properties());
    (topic_name(), binary(), qos(), any::<bool>(), properties).prop_map(
        |(topic, payload, qos, retain, properties)| Will { topic, payload, qos, retain, properties },
    )
}

fn connack(version: Version) -> impl Strategy<Value = Connack> {
    let refusals = match version {
        Version::V3_1_1 => vec![0x84, 0x85, 0x86, 0x87, 0x88],
        Version::V5_0 => vec![0x80, 0x84, 0x86, 0x87, 0x8C, 0x95, 0x9D, 0x9F],
    };
    let answer = prop_oneof![
        any::<bool>().prop_map(|session_present| (session_present, ReasonCode::SUCCESS)),
        select(refusals).prop_map(|code| (false, ReasonCode(code))),
    ];
    let properties = with_properties(version, connack_properties());
    (answer, properties).prop_map(|((session_present, reason), properties)| Connack {
        session_present,
        reason,
        properties,
    })
}

fn ack(version: Version) -> impl Strategy<Value = Packet> {
    let received = prop_oneof![
        body(version, &[0x00, 0x10, 0x80, 0x87, 0x90, 0x91, 0x97, 0x99]).prop_map(Packet::Puback),
        body(version, &[0x00, 0x10, 0x83, 0x97]).prop_map(Packet::Pubrec),
    ];
    let released = prop_oneof![
        body(version, &[0x00, 0x92]).prop_map(Packet::Pubrel),
        body(version, &[0x00, 0x92]).prop_map(Packet::Pubcomp),
    ];
    return prop_oneof![received, released];

    fn body(version: Version, codes: &[u8]) -> impl Strategy<Value = Ack> + use<> {
        let properties = with_properties(version, answer_properties());
        (packet_id(), reason(version, codes), properties).prop_map(|(packet_id, reason, properties)| Ack {
            packet_id,
            reason,
            properties,
        })
    }
}

fn subscribe(version: Version) -> impl Strategy<Value = Subscribe> {
    let properties = with_properties(version, subscribe_properties());
    (packet_id(), properties, vec(subscription(version), 1..4))
        .prop_map(|(packet_id, properties, filters)| Subscribe { packet_id, properties, filters })
}

fn subscription(version: Version) -> BoxedStrategy<Subscription> {
    if version == Version::V3_1_1 {
        return (topic_filter(), qos()).prop_map(|(filter, qos)| Subscription::new(filter, qos)).boxed();
    }
    let handling = [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend];
    let options = (qos(), any::<bool>(), any::<bool>(), select(handling.to_vec()));
    (topic_filter(), option::weighted(0.2, "[a-z]{1,4}"), options)
        .prop_map(|(filter, share, (qos, no_local, retain_as_published, retain_handling))| Subscription {
            filter: share.as_ref().map_or(filter.clone(), |name| format!("$share/{name}/{filter}").into()),
            qos,
            no_local: no_local && share.is_none(),
            retain_as_published,
            retain_handling,
        })
        .boxed()
}

fn suback(version: Version) -> impl Strategy<Value = Suback> {
    let codes = match version {
        Version::V3_1_1 => vec![0x00, 0x01, 0x02, 0x80],
        Version::V5_0 => vec![0x00, 0x01, 0x02, 0x80, 0x87, 0x8F, 0x97, 0x9E, 0xA1, 0xA2],
    };
    let properties = with_properties(version, answer_properties());
    (packet_id(), properties, vec(select(codes).prop_map(ReasonCode), 1..4))
        .prop_map(|(packet_id, properties, reasons)| Suback { packet_id, properties, reasons })
}

fn unsubscribe(version: Version) -> impl Strategy<Value = Unsubscribe> {
    let properties = with_properties(version, vec![]);
    (packet_id(), properties, vec(topic_filter(), 1..4))
        .prop_map(|(packet_id, properties, filters)| Unsubscribe { packet_id, properties, filters })
}

fn unsuback(version: Version) -> impl Strategy<Value = Unsuback> {
    let properties = with_properties(version, answer_properties());
    let reasons = vec(select(vec![0x00, 0x11, 0x80, 0x87, 0x8F, 0x91]).prop_map(ReasonCode), 1..4);
    (packet_id(), properties, reasons).prop_map(move |(packet_id, properties, reasons)| Unsuback {
        packet_id,
        properties,
        reasons: if version == Version::V5_0 { reasons } else { vec![] },
    })
}

fn disconnect(version: Version, from_client: bool) -> impl Strategy<Value = Disconnect> {
    let mut properties = answer_properties();
    properties.push(if from_client {
        any::<u32>().prop_map(Property::SessionExpiryInterval).boxed()
    } else {
        text().prop_map(Property::ServerReference).boxed()
    });
    let codes: &[u8] =
        if from_client { &[0x00, 0x04, 0x81, 0x93] } else { &[0x00, 0x8B, 0x8D, 0x8E, 0x98, 0x9C] };
    (reason(version, codes), with_properties(version, properties))
        .prop_map(|(reason, properties)| Disconnect { reason, properties })
}

fn auth() -> impl Strategy<Value = Auth> {
    let method = text().prop_map(Property::AuthenticationMethod);
    let code = select(vec![0x00, 0x18, 0x19]).prop_map(ReasonCode);
    (code, method, option::of(binary())).prop_map(|(reason, method, data)| {
        let mut properties = Properties::default().with(method);
        properties.0.extend(data.map(Property::AuthenticationData));
        Auth { reason, properties }
    })
}

/// Any of `single` at most once and up to three user properties, in any order; in 3.1.1 none.
fn with_properties(version: Version, single: Vec<BoxedStrategy<Property>>) -> BoxedStrategy<Properties> {
    if version == Version::V3_1_1 {
        return Just(Properties::default()).boxed();
    }
    let count = single.len();
    let single = subsequence(single, 0..=count).prop_flat_map(|chosen| chosen);
    let user = vec((text(), text()).prop_map(|(name, value)| Property::UserProperty(name, value)), 0..3);
    let all = (single, user).prop_map(|(single, user)| [single, user].concat()).prop_shuffle();
    prop_oneof![Just(Properties::default()), all.prop_map(Properties)].boxed()
}

fn connect_properties() -> Vec<BoxedStrategy<Property>> {
    vec![
        any::<u32>().prop_map(Property::SessionExpiryInterval).boxed(),
        (1..=u16::MAX).prop_map(Property::ReceiveMaximum).boxed(),
        (1..=u32::MAX).prop_map(Property::MaximumPacketSize).boxed(),
        any::<u16>().prop_map(Property::TopicAliasMaximum).boxed(),
        (0..=1_u8).prop_map(Property::RequestResponseInformation).boxed(),
        (0..=1_u8).prop_map(Property::RequestProblemInformation).boxed(),
        text().prop_map(Property::AuthenticationMethod).boxed(),
    ]
}

fn connack_properties() -> Vec<BoxedStrategy<Property>> {
    vec![
        any::<u32>().prop_map(Property::SessionExpiryInterval).boxed(),
        (1..=u16::MAX).prop_map(Property::ReceiveMaximum).boxed(),
        (0..=1_u8).prop_map(Property::MaximumQos).boxed(),
        (0..=1_u8).prop_map(Property::RetainAvailable).boxed(),
        (1..=u32::MAX).prop_map(Property::MaximumPacketSize).boxed(),
        text().prop_map(Property::AssignedClientIdentifier).boxed(),
        any::<u16>().prop_map(Property::TopicAliasMaximum).boxed(),
        text().prop_map(Property::ReasonString).boxed(),
        (0..=1_u8).prop_map(Property::WildcardSubscriptionAvailable).boxed(),
        (0..=1_u8).prop_map(Property::SubscriptionIdentifierAvailable).boxed(),
        (0..=1_u8).prop_map(Property::SharedSubscriptionAvailable).boxed(),
        any::<u16>().prop_map(Property::ServerKeepAlive).boxed(),
        text().prop_map(Property::ResponseInformation).boxed(),
        text().prop_map(Property::ServerReference).boxed(),
        text().prop_map(Property::AuthenticationMethod).boxed(),
    ]
}

fn message_properties() -> Vec<BoxedStrategy<Property>> {
    vec![
        any::<u32>().prop_map(Property::MessageExpiryInterval).boxed(),
        text().prop_map(Property::ContentType).boxed(),
        topic_name().prop_map(Property::ResponseTopic).boxed(),
        binary().prop_map(Property::CorrelationData).boxed(),
        Just(Property::PayloadFormatIndicator(0)).boxed(),
    ]
}

fn will_properties() -> Vec<BoxedStrategy<Property>> {
    let delay = any::<u32>().prop_map(Property::WillDelayInterval).boxed();
    [message_properties(), vec![delay]].concat()
}

fn publish_properties(from_server: bool) -> Vec<BoxedStrategy<Property>> {
    let mut properties = message_properties();
    properties.push((1..=u16::MAX).prop_map(Property::TopicAlias).boxed());
    if from_server {
        // Two, for they may repeat here.
        properties.push(subscription_identifier());
        properties.push(subscription_identifier());
    }
    properties
}

fn subscribe_properties() -> Vec<BoxedStrategy<Property>> {
    vec![subscription_identifier()]
}

fn subscription_identifier() -> BoxedStrategy<Property> {
    // Both sides of each step in the number of bytes.
    let identifier = prop_oneof![
        select(vec![1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455]),
        1..=268_435_455_u32,
    ];
    identifier.prop_map(Property::SubscriptionIdentifier).boxed()
}

fn answer_properties() -> Vec<BoxedStrategy<Property>> {
    vec![text().prop_map(Property::ReasonString).boxed()]
}

fn reason(version: Version, codes: &[u8]) -> BoxedStrategy<ReasonCode> {
    match version {
        Version::V3_1_1 => Just(ReasonCode::SUCCESS).boxed(),
        Version::V5_0 => select(codes.to_vec()).prop_map(ReasonCode).boxed(),
    }
}

fn qos() -> impl Strategy<Value = Qos> {
    select(vec![Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce])
}

fn packet_id() -> impl Strategy<Value = u16> {
    1..=u16::MAX
}

fn text() -> impl Strategy<Value = ByteString> {
    "[a-z0-9 é日😀]{0,6}".prop_map(ByteString::from)
}

/// Up to 200 bytes, so that the remaining length needs one or two.
fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}
